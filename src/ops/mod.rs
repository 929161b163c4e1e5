//! The operator's day: what stays and what goes, and what changed.

pub mod diff;
pub mod duration;
pub mod retention;
