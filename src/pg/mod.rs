//! pg (to be filled).
