//! dump (to be filled).
