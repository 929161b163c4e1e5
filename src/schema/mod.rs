//! schema (to be filled).
