//! A block as it lies in a pack: a header that says all about it, then the encoded bytes, in an encrypted repository
//! sealed.

use xxhash_rust::xxh3::Xxh3;

use super::bytes::{array, u32_at};
use super::seal::Class;
use crate::rows::{BlockId, Format};

/// Bytes of the header.
pub const HEADER_LEN: usize = 64;

const MAGIC: &[u8; 4] = b"PGTB";
const VERSION: u8 = 1;
/// The header's fields before its checksum.
pub(super) const CHECKED: usize = 48;
/// Where the flags are.
const FLAGS: usize = 6;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// What the payload is.
    pub format: Format,
    /// Who can open it; nothing if it is not sealed.
    pub sealed: Option<Class>,
    /// The block's id.
    pub id: BlockId,
    /// Bytes after the header.
    pub stored_len: u32,
    /// Bytes of the payload.
    pub raw_len: u32,
}

impl BlockHeader {
    /// The header before its checksum: what a sealed block is sealed for.
    pub(super) fn fields(self) -> [u8; CHECKED] {
        let mut bytes = [0; CHECKED];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.format as u8;
        bytes[FLAGS] = match self.sealed {
            None => 0,
            Some(Class::Reader) => 1,
            Some(Class::Index) => 3,
        };
        bytes[8..40].copy_from_slice(&self.id.0);
        bytes[40..44].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.raw_len.to_le_bytes());
        bytes
    }

    /// The header's bytes, for these bytes behind it.
    pub(super) fn to_bytes(self, stored: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..CHECKED].copy_from_slice(&self.fields());
        let sum = checksum(&bytes[..CHECKED], stored);
        bytes[CHECKED..].copy_from_slice(&sum);
        bytes
    }

    /// Reads a header, without its checksum.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let short = "its header is cut";
        let fixed: [u8; HEADER_LEN] = array(bytes, 0).ok_or(short)?;
        if &fixed[..4] != MAGIC {
            return Err("no block begins here");
        }
        let unknown = "its header has a version or flags this program does not know";
        let sealed = match (fixed[4], fixed[FLAGS], fixed[FLAGS + 1]) {
            (VERSION, 0, 0) => None,
            (VERSION, 1, 0) => Some(Class::Reader),
            (VERSION, 3, 0) => Some(Class::Index),
            _ => return Err(unknown),
        };
        Ok(Self {
            sealed,
            format: Format::from_byte(fixed[5]).ok_or("its header has an unknown format")?,
            id: BlockId(array(&fixed, 8).ok_or(short)?),
            stored_len: u32_at(&fixed, 40).ok_or(short)?,
            raw_len: u32_at(&fixed, 44).ok_or(short)?,
        })
    }

    /// Reads a block, all of these bytes, and compares its checksum. Returns the bytes behind the header.
    pub fn open(block: &[u8]) -> Result<(Self, &[u8]), &'static str> {
        let header = Self::parse(block)?;
        let encoded = &block[HEADER_LEN..];
        if encoded.len() != header.stored_len as usize {
            return Err("its header gives another length than the index");
        }
        if checksum(&block[..CHECKED], encoded) != block[CHECKED..HEADER_LEN] {
            return Err("its bytes do not have the checksum of its header");
        }
        Ok((header, encoded))
    }
}

fn checksum(header: &[u8], encoded: &[u8]) -> [u8; 16] {
    let mut hasher = Xxh3::new();
    hasher.update(header);
    hasher.update(encoded);
    hasher.digest128().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let header = BlockHeader {
            format: Format::Binary,
            sealed: None,
            id: BlockId([7; 32]),
            stored_len: 5,
            raw_len: 9,
        };
        let block = [&header.to_bytes(b"hello")[..], b"hello"].concat();
        assert_eq!(BlockHeader::open(&block), Ok((header, &b"hello"[..])));
        for at in 0..block.len() {
            for bit in 0..8 {
                let mut bad = block.clone();
                bad[at] ^= 1 << bit;
                assert!(BlockHeader::open(&bad).is_err(), "byte {at} bit {bit}");
            }
            assert!(BlockHeader::open(&block[..at]).is_err());
        }
    }
}
