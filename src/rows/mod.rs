//! COPY rows to columns to encoded block and back, and row digests: pure, no I/O.

mod block;
mod bytes;
mod codec;
mod columns;
mod decimal;
mod dictionary;
mod digest;
mod error;
mod id;
mod inspect;
mod join;
mod kind;
mod noise;
mod normalise;
mod numbers;
mod numeric;
mod parts;
pub mod text;
mod value;
mod wire;

pub use block::{BlockInfo, Decoder, Encoder, MAX_PAYLOAD, read_header};
pub use codec::Effort;
pub use digest::{DigestPlan, Digester, RowDigest};
pub use error::RowsError;
pub use id::{BlockId, Format, IdKey};
pub use inspect::coders;
pub use kind::{ColumnKind, Shape};
