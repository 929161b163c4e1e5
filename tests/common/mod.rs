//! Shared by the integration tests.

// Every test program uses a part of it.
#![allow(dead_code)]

pub mod equal;
pub mod program;
pub mod server;
pub mod session;
pub mod stock;
pub mod testbed;
pub mod timescale;
