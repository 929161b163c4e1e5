//! restore (to be filled).
