//! Block ids: what the server said, and nothing else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the bytes of a block's payload are. The value is part of the block id and of the
/// encoded block's header, so it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Format {
    /// Rows as `COPY ... (FORMAT binary)` sends them, without its header and trailer.
    Binary = 1,
    /// Rows as `COPY ... (FORMAT text)` sends them, each ending in a newline.
    Text = 2,
    /// A piece of one row that is too large for a block of its own; the payloads of
    /// neighbouring parts, joined, are the row.
    Part = 3,
    /// Anything that is not rows: manifests, schema entries.
    Other = 4,
}

impl Format {
    /// The format of a stored format byte; `None` for a byte this version does not know.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Binary),
            2 => Some(Self::Text),
            3 => Some(Self::Part),
            4 => Some(Self::Other),
            _ => None,
        }
    }
}

/// The identity of a block: keyed BLAKE3 over a tag, the format, the number of columns and the payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockId(pub [u8; 32]);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({self})")
    }
}

impl FromStr for BlockId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// The repository's key for block ids: it separates the ids of two repositories, and in an
/// encrypted one it keeps outsiders from confirming a guess at a block's content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdKey(pub [u8; 32]);

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(..)")
    }
}

impl IdKey {
    /// The id of a payload: keyed BLAKE3 over `pgtide block 1`, the format byte, the number of
    /// columns (two bytes, little-endian) and the payload.
    pub fn block_id(&self, format: Format, columns: u16, payload: &[u8]) -> BlockId {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"pgtide block 1");
        hasher.update(&[format as u8]);
        hasher.update(&columns.to_le_bytes());
        hasher.update(payload);
        BlockId(*hasher.finalize().as_bytes())
    }

    /// A mark of bytes that are to be recognised and not read: the first 16 bytes of keyed BLAKE3 over the purpose and
    /// the bytes. A purpose never begins with another.
    pub fn mark(&self, purpose: &str, bytes: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(purpose.as_bytes());
        hasher.update(bytes);
        let mut mark = [0; 16];
        hasher.finalize_xof().fill(&mut mark);
        mark
    }
}
