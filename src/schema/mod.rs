//! Entries of the schema: their order, their statements, their lists, and how they are stored.

pub mod closure;
pub mod compare;
pub mod drops;
pub mod filter_file;
pub mod foreign_key;
pub mod globals;
pub mod graph;
pub mod ident;
pub mod list;
pub mod pattern;
pub mod selection;
pub mod skip;
pub mod statements;
pub mod store;
pub mod tokens;
pub mod unique;
