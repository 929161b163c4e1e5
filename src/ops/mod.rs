//! The operator's day: what is run, what stays and what goes, who is told, and what changed.

pub mod config;
pub mod diff;
pub mod doctor;
pub mod duration;
pub mod exit;
pub mod metrics;
pub mod notify;
pub mod report;
pub mod retention;
pub mod run;
pub mod secret;
pub mod state;
pub mod text;
pub mod units;
pub mod verified;
