//! timescale (to be filled).
