//! Servers that keep objects, for the tests of stores.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod endpoint;
pub mod servers;
mod wire;
