//! The operator's day: what stays and what goes.

pub mod duration;
pub mod retention;
