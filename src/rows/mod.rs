//! COPY rows to columns to encoded block and back, and row digests: pure, no I/O.

mod id;

pub use id::{BlockId, Format, IdKey};
