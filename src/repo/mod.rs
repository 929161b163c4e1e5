//! The repository: blocks, packs, index, manifests, snapshots, sessions and the check of them all.

pub mod model;
