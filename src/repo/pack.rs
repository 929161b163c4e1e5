//! A pack: many blocks in one immutable object, with a table of contents at its end.
//!
//! It is written as a stream: only the table of contents and the state of the hash are in memory. Its name is the
//! BLAKE3 of its bytes, so it has none until it is finished.

use std::collections::HashMap;
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_128;

use super::RepoError;
use super::block::{BlockHeader, HEADER_LEN};
use super::bytes::{array, u32_at, u64_at};
use super::ids::PackId;
use super::index::Location;
use crate::rows::BlockId;
use crate::store::{Store, Upload};

/// Folder of all packs.
pub(super) const PREFIX: &str = "packs/";

/// Bytes before the first block, in packs of the first versions: no noise.
pub const OLD_START_LEN: usize = 16;
/// Bytes before the first block.
pub const START_LEN: usize = OLD_START_LEN + 16;
/// Bytes of an entry of the table of contents.
pub const ENTRY_LEN: usize = 48;
/// Bytes after the table of contents.
pub const TAIL_LEN: usize = 32;

/// Bytes read at once where there are no blocks to go by.
pub(super) const READ_LEN: u64 = 4 << 20;

const OLD_START: &[u8; OLD_START_LEN] = b"PGTIDEPK\x01\0\0\0\0\0\0\0";
/// Then follows noise: no two packs ever have the same name. A pack that is about to be deleted can so never be taken
/// for one that somebody has just written with the same blocks.
const START: &[u8; OLD_START_LEN] = b"PGTIDEPK\x01\0\0\0\x01\0\0\0";
const END_MAGIC: &[u8; 8] = b"PGTIDEPE";

/// Name of a pack's object.
pub(super) fn object_name(pack: &PackId) -> String {
    let id = pack.to_string();
    format!("{PREFIX}{}/{id}", &id[..2])
}

/// The pack with that name, if it is the name of a pack.
pub(super) fn parse_name(name: &str) -> Option<PackId> {
    let (folder, id) = name.strip_prefix(PREFIX)?.split_once('/')?;
    id.parse()
        .ok()
        .filter(|_| id.starts_with(folder) && folder.len() == 2)
}

/// Where a block lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TocEntry {
    /// The block.
    pub id: BlockId,
    /// First byte of its header.
    pub offset: u64,
    /// Bytes of header and encoded block.
    pub length: u32,
    /// Bytes of its payload.
    pub raw_len: u32,
}

impl TocEntry {
    /// Where it lies in that pack.
    pub(super) fn location(&self, pack: PackId) -> Location {
        Location {
            pack,
            offset: self.offset,
            length: self.length,
        }
    }
}

/// A pack that is durable.
#[derive(Debug, Clone)]
pub(super) struct FinishedPack {
    pub id: PackId,
    pub size: u64,
    pub toc: Vec<TocEntry>,
}

/// A pack being written.
pub(super) struct OpenPack {
    upload: Box<dyn Upload>,
    hasher: blake3::Hasher,
    size: u64,
    toc: Vec<TocEntry>,
    opened: Instant,
}

impl OpenPack {
    pub fn create(store: &dyn Store) -> Result<Self, RepoError> {
        let mut pack = Self {
            upload: store.create_upload()?,
            hasher: blake3::Hasher::new(),
            size: 0,
            toc: Vec::new(),
            opened: Instant::now(),
        };
        pack.write(START)?;
        pack.write(&rand::random::<[u8; START_LEN - OLD_START_LEN]>())?;
        Ok(pack)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RepoError> {
        self.upload.write(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Appends a block; returns the bytes it takes.
    pub fn append(&mut self, header: BlockHeader, stored: &[u8]) -> Result<u64, RepoError> {
        let entry = TocEntry {
            id: header.id,
            offset: self.size,
            length: header.stored_len + HEADER_LEN as u32,
            raw_len: header.raw_len,
        };
        self.write(&header.to_bytes(stored))?;
        self.write(stored)?;
        self.toc.push(entry);
        Ok(entry.length.into())
    }

    /// Appends a block as it lies in another pack.
    pub fn append_stored(&mut self, entry: &TocEntry, block: &[u8]) -> Result<(), RepoError> {
        let offset = self.size;
        self.write(block)?;
        self.toc.push(TocEntry { offset, ..*entry });
        Ok(())
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Writes the table of contents and makes the pack durable.
    pub fn finish(mut self) -> Result<FinishedPack, RepoError> {
        let footer = footer(&self.toc);
        self.write(&footer)?;
        let id = PackId::from(self.hasher.finalize());
        self.upload.finish(&object_name(&id))?;
        Ok(FinishedPack {
            id,
            size: self.size,
            toc: self.toc,
        })
    }
}

/// Table of contents and tail.
fn footer(toc: &[TocEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(toc.len() * ENTRY_LEN + TAIL_LEN);
    for entry in toc {
        out.extend_from_slice(&entry.id.0);
        out.extend_from_slice(&entry.offset.to_le_bytes());
        out.extend_from_slice(&entry.length.to_le_bytes());
        out.extend_from_slice(&entry.raw_len.to_le_bytes());
    }
    out.extend_from_slice(&(out.len() as u64).to_le_bytes());
    out.extend_from_slice(&xxh3_128(&out).to_le_bytes());
    out.extend_from_slice(END_MAGIC);
    out
}

/// Length of the table of contents, by the last bytes of the pack.
pub fn toc_len(pack_len: u64, tail: &[u8]) -> Result<usize, &'static str> {
    let at = tail.len().checked_sub(TAIL_LEN).ok_or("its end is cut")?;
    if array::<8>(tail, at + 24).as_ref() != Some(END_MAGIC) {
        return Err("does not end as a pack does");
    }
    let len = u64_at(tail, at).ok_or("its end is cut")?;
    let room = pack_len.checked_sub((OLD_START_LEN + TAIL_LEN) as u64);
    if len % ENTRY_LEN as u64 != 0 || room.is_none_or(|room| len > room) {
        return Err("its table of contents has an impossible length");
    }
    usize::try_from(len).map_err(|_| "its table of contents is too long for this machine")
}

/// Reads the table of contents and the tail: the last bytes of a pack of that length. Entries lie back to back and
/// leave no gap, so that every byte of the pack is accounted for.
pub fn parse_toc(pack_len: u64, footer: &[u8]) -> Result<Vec<TocEntry>, &'static str> {
    let len = toc_len(pack_len, footer)?;
    let start = footer
        .len()
        .checked_sub(len + TAIL_LEN)
        .ok_or("its end is cut")?;
    let (toc, tail) = footer[start..].split_at(len);
    if array(tail, 8) != Some(xxh3_128(&footer[start..start + len + 8]).to_le_bytes()) {
        return Err("its table of contents does not have its checksum");
    }
    // Where the first one begins follows from the start, which is read with it.
    let first = array::<ENTRY_LEN>(toc, 0).and_then(|entry| parse_entry(&entry));
    let mut next = match first {
        Some(first) if first.offset == OLD_START_LEN as u64 => first.offset,
        None if pack_len == (OLD_START_LEN + TAIL_LEN) as u64 => OLD_START_LEN as u64,
        _ => START_LEN as u64,
    };
    let mut entries = Vec::with_capacity(len / ENTRY_LEN);
    for entry in toc.chunks_exact(ENTRY_LEN) {
        let entry = parse_entry(entry).ok_or("its table of contents is cut")?;
        if entry.offset != next || (entry.length as usize) < HEADER_LEN {
            return Err("its table of contents has gaps");
        }
        next += u64::from(entry.length);
        entries.push(entry);
    }
    if next + (len + TAIL_LEN) as u64 != pack_len {
        return Err("its table of contents does not cover it");
    }
    Ok(entries)
}

fn parse_entry(bytes: &[u8]) -> Option<TocEntry> {
    Some(TocEntry {
        id: BlockId(array(bytes, 0)?),
        offset: u64_at(bytes, 32)?,
        length: u32_at(bytes, 40)?,
        raw_len: u32_at(bytes, 44)?,
    })
}

/// All packs and their lengths.
pub(super) fn list(store: &dyn Store) -> Result<HashMap<PackId, u64>, RepoError> {
    let objects = store.list(PREFIX)?.into_iter();
    Ok(objects
        .filter_map(|object| Some((parse_name(&object.name)?, object.len)))
        .collect())
}

/// Where the first block of a pack begins, by the pack's first bytes.
pub(super) fn start_len(bytes: &[u8]) -> Option<usize> {
    match array::<OLD_START_LEN>(bytes, 0)? {
        start if start == *START => Some(START_LEN),
        start if start == *OLD_START => Some(OLD_START_LEN),
        _ => None,
    }
}

impl FinishedPack {
    /// A pack that somebody else wrote, by its table of contents; nothing if it is not there any more.
    pub fn read(store: &dyn Store, id: PackId, size: u64) -> Result<Option<Self>, RepoError> {
        match read_toc(store, &id, size) {
            Ok(toc) => Ok(Some(Self { id, size, toc })),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads a pack's table of contents out of the store.
pub(super) fn read_toc(
    store: &dyn Store,
    pack: &PackId,
    size: u64,
) -> Result<Vec<TocEntry>, RepoError> {
    let name = object_name(pack);
    let damaged = |detail: &str| RepoError::damaged(&name, detail);
    let mut bytes = Vec::new();
    let tail_at = size
        .checked_sub(TAIL_LEN as u64)
        .ok_or_else(|| damaged("its end is cut"))?;
    store.get_range(&name, tail_at, TAIL_LEN, &mut bytes)?;
    let len = toc_len(size, &bytes).map_err(damaged)?;
    store.get_range(&name, tail_at - len as u64, len + TAIL_LEN, &mut bytes)?;
    parse_toc(size, &bytes).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn toc(lengths: &[u32]) -> (u64, Vec<TocEntry>) {
        let mut offset = START_LEN as u64;
        let entries = lengths.iter().enumerate().map(|(n, &length)| {
            let entry = TocEntry {
                id: BlockId([n as u8; 32]),
                offset,
                length: length + HEADER_LEN as u32,
                raw_len: length * 3,
            };
            offset += u64::from(entry.length);
            entry
        });
        let entries: Vec<TocEntry> = entries.collect();
        (
            offset + (entries.len() * ENTRY_LEN + TAIL_LEN) as u64,
            entries,
        )
    }

    proptest! {
        #[test]
        fn a_footer_reads_back(lengths in prop::collection::vec(0u32..1 << 24, 0..40)) {
            let (len, entries) = toc(&lengths);
            let bytes = footer(&entries);
            prop_assert_eq!(toc_len(len, &bytes), Ok(entries.len() * ENTRY_LEN));
            prop_assert_eq!(parse_toc(len, &bytes).unwrap(), entries.clone());
            // More than the footer is fine, less or another pack length is not.
            let longer = [&[1, 2, 3][..], &bytes].concat();
            prop_assert_eq!(parse_toc(len, &longer).unwrap(), entries);
            prop_assert!(parse_toc(len + 1, &bytes).is_err());
            prop_assert!(parse_toc(len, &bytes[1..]).is_err());
        }

        #[test]
        fn a_flipped_bit_in_a_footer_is_noticed(
            lengths in prop::collection::vec(0u32..1000, 1..10), at in any::<prop::sample::Index>(), bit in 0..8,
        ) {
            let (len, entries) = toc(&lengths);
            let mut bytes = footer(&entries);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(parse_toc(len, &bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), len in any::<u64>()) {
            let _ = parse_toc(len, &bytes);
            let _ = BlockHeader::open(&bytes);
        }
    }

    #[test]
    fn names_are_checked() {
        let id = PackId::of(b"x");
        assert_eq!(parse_name(&object_name(&id)), Some(id));
        assert_eq!(parse_name(&format!("packs/00/{id}")), None);
        assert_eq!(parse_name("packs/x"), None);
        assert_eq!(parse_name("index/x"), None);
    }
}
