//! repo (to be filled).
