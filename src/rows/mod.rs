//! COPY rows to columns to encoded block and back, and row digests: pure, no I/O.

mod digest;
mod id;
mod kind;

pub use digest::RowDigest;
pub use id::{BlockId, Format, IdKey};
pub use kind::{ColumnKind, Shape};
