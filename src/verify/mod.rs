//! Proofs: that one database holds what another does.

pub mod compare;
