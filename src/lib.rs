//! pgtide: parallel dump and restore for PostgreSQL and TimescaleDB.
//!
//! The rooms of the house, from the top down; a room imports only rooms below it:
//! [`ops`] is the operator's day, [`dump`], [`restore`], [`clone`](mod@clone), [`export`] and [`verify`] are the engines, [`timescale`] is everything special to TimescaleDB,
//! [`schema`] knows entries and their order, [`repo`] stores blocks, [`rows`] turns COPY rows into
//! encoded blocks and back, [`pg`] speaks to PostgreSQL and [`store`] keeps objects.

pub mod clock;
pub mod clone;
pub mod dump;
pub mod export;
pub mod ops;
pub mod pg;
pub mod progress;
pub mod repo;
pub mod restore;
pub mod rows;
pub mod schema;
pub mod store;
pub mod timescale;
pub mod verify;
