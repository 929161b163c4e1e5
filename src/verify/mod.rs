//! Proofs: two databases are equal, a snapshot restores.

pub mod compare;
pub mod snapshot;
