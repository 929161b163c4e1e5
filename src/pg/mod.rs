//! pg (to be filled).

pub mod archive;
pub mod pg_dump;
