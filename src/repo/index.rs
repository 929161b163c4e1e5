//! Index objects: where blocks lie. Sorted records of fixed width, searched where they lie, never loaded whole.
//!
//! An index object that names a pack lists all of that pack's blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::bytes::{array, u32_at, u64_at};
use super::ids::{Hex, ObjectId, PackId};
use super::pack::FinishedPack;
use super::seal::{self, Keyring};
use super::{RepoError, Repository};
use crate::rows::BlockId;
use crate::store::{Buffer, Listed, StoreError};

/// Folder of all index objects.
pub(super) const PREFIX: &str = "index/";

const MAGIC: &[u8; 16] = b"PGTIDEIX\x01\0\0\0\0\0\0\0";
const HEAD_LEN: usize = 32;
const PACK_LEN: usize = 40;
const RECORD_LEN: usize = 48;

/// An index object with fewer records is small ...
const SMALL_INDEX: usize = 200_000;
/// ... and more of them than that are looked up together ...
const SMALL_INDEXES: usize = 16;
/// ... with so many records at a time: the most that a merge holds in memory.
pub(super) const COMPACTED_RECORDS: usize = 1_000_000;
/// How often index objects are listed, where a prune replaces them meanwhile.
const LISTINGS: u32 = 5;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// First byte of the block's header in it.
    pub offset: u64,
    /// Bytes of header and encoded block.
    pub length: u32,
}

/// A record of an index object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The block.
    pub id: BlockId,
    /// Number of its pack in the object's table of packs.
    pub pack: u32,
    /// First byte of its header in the pack.
    pub offset: u64,
    /// Bytes of header and encoded block.
    pub length: u32,
}

/// The bytes of an index object for these packs.
pub(super) fn build(packs: &[FinishedPack]) -> Vec<u8> {
    let mut records = Vec::with_capacity(packs.iter().map(|pack| pack.toc.len()).sum());
    for (number, pack) in (0..).zip(packs) {
        records.extend(pack.toc.iter().map(|entry| Record {
            id: entry.id,
            pack: number,
            offset: entry.offset,
            length: entry.length,
        }));
    }
    let packs: Vec<(PackId, u64)> = packs.iter().map(|pack| (pack.id, pack.size)).collect();
    encode(&packs, records)
}

fn encode(packs: &[(PackId, u64)], mut records: Vec<Record>) -> Vec<u8> {
    records.sort_unstable();
    let mut out =
        Vec::with_capacity(HEAD_LEN + packs.len() * PACK_LEN + records.len() * RECORD_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(packs.len() as u64).to_le_bytes());
    out.extend_from_slice(&(records.len() as u64).to_le_bytes());
    for (id, size) in packs {
        out.extend_from_slice(&id.0);
        out.extend_from_slice(&size.to_le_bytes());
    }
    for record in &records {
        out.extend_from_slice(&record.id.0);
        out.extend_from_slice(&record.pack.to_le_bytes());
        out.extend_from_slice(&record.length.to_le_bytes());
        out.extend_from_slice(&record.offset.to_le_bytes());
    }
    out
}

/// Calls `emit` with the bytes of index objects that hold what these hold of the packs to keep: each pack once, and so
/// many records in an object, or all of one pack's.
fn merge(
    files: &[Arc<IndexFile>],
    keep: &dyn Fn(&PackId) -> bool,
    max_records: usize,
    emit: &mut dyn FnMut(Vec<u8>) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let mut seen = HashSet::new();
    let mut group = Group::default();
    for (at, file) in files.iter().enumerate() {
        let mut counts = vec![0usize; file.pack_count()];
        for record in file.records() {
            if let Some(count) = counts.get_mut(record.pack as usize) {
                *count += 1;
            }
        }
        for ((number, pack), count) in (0..).zip(file.packs()).zip(counts) {
            if !keep(&pack.0) || !seen.insert(pack.0) {
                continue;
            }
            if group.records + count > max_records && !group.packs.is_empty() {
                emit(std::mem::take(&mut group).encode(files))?;
            }
            group.records += count;
            group.numbers.insert((at, number), group.packs.len() as u32);
            group.packs.push(pack);
        }
    }
    if !group.packs.is_empty() {
        emit(group.encode(files))?;
    }
    Ok(())
}

/// Packs that will share an index object.
#[derive(Default)]
struct Group {
    packs: Vec<(PackId, u64)>,
    /// By index object and number of the pack in it, its number in this group.
    numbers: BTreeMap<(usize, u32), u32>,
    records: usize,
}

impl Group {
    fn encode(self, files: &[Arc<IndexFile>]) -> Vec<u8> {
        let mut records = Vec::with_capacity(self.records);
        let involved: BTreeSet<usize> = self.numbers.keys().map(|(file, _)| *file).collect();
        for at in involved {
            let mut numbers = vec![None; files[at].pack_count()];
            for ((_, number), new) in self.numbers.range((at, 0)..=(at, u32::MAX)) {
                numbers[*number as usize] = Some(*new);
            }
            records.extend(files[at].records().filter_map(|record| {
                let pack = numbers.get(record.pack as usize).copied().flatten()?;
                Some(Record { pack, ..record })
            }));
        }
        encode(&self.packs, records)
    }
}

/// An index object, opened.
#[derive(Debug)]
pub struct IndexFile {
    bytes: Buffer,
    packs: usize,
    records: usize,
}

impl IndexFile {
    /// Opens an object as it is stored.
    pub fn open(keys: &Keyring, name: &str, stored: Buffer) -> Result<Self, RepoError> {
        let damaged = |detail| RepoError::damaged(name, detail);
        let bytes = match (keys.seals(), seal::is_sealed_stream(&stored)) {
            (false, _) => stored,
            (true, true) => seal::open_stream(keys, name, &stored)?,
            (true, false) => {
                return Err(damaged("is not sealed, and this repository is encrypted"));
            }
        };
        Self::parse(bytes).map_err(damaged)
    }

    /// Checks the frame; the records are looked at when they are needed.
    pub fn parse(bytes: Buffer) -> Result<Self, &'static str> {
        if array(&bytes, 0).as_ref() != Some(MAGIC) {
            return Err("does not begin as an index of this version does");
        }
        let count = |at| u64_at(&bytes, at).and_then(|count| usize::try_from(count).ok());
        let (packs, records) = count(16).zip(count(24)).ok_or("is cut")?;
        let len = || {
            let packs = packs.checked_mul(PACK_LEN)?;
            packs
                .checked_add(HEAD_LEN)?
                .checked_add(records.checked_mul(RECORD_LEN)?)
        };
        if len() != Some(bytes.len()) {
            return Err("does not have the length its header says");
        }
        Ok(Self {
            bytes,
            packs,
            records,
        })
    }

    /// An index that is no object: its bytes are kept out of memory.
    fn spilled(bytes: &[u8]) -> Result<Self, RepoError> {
        let temporary = "a temporary file";
        let bytes = Buffer::spill(bytes).map_err(|error| StoreError::from_io(temporary, error))?;
        Self::parse(bytes).map_err(|detail| RepoError::damaged(temporary, detail))
    }

    /// Number of packs it names.
    pub fn pack_count(&self) -> usize {
        self.packs
    }

    /// Number of blocks it lists.
    pub fn record_count(&self) -> usize {
        self.records
    }

    /// Name and length of a pack.
    pub fn pack(&self, number: usize) -> Option<(PackId, u64)> {
        if number >= self.packs {
            return None;
        }
        let at = HEAD_LEN + number * PACK_LEN;
        Some((Hex(array(&self.bytes, at)?), u64_at(&self.bytes, at + 32)?))
    }

    /// Names and lengths of its packs.
    pub fn packs(&self) -> impl Iterator<Item = (PackId, u64)> + '_ {
        (0..self.packs).filter_map(|number| self.pack(number))
    }

    /// A record.
    pub fn record(&self, number: usize) -> Option<Record> {
        if number >= self.records {
            return None;
        }
        let at = HEAD_LEN + self.packs * PACK_LEN + number * RECORD_LEN;
        Some(Record {
            id: BlockId(array(&self.bytes, at)?),
            pack: u32_at(&self.bytes, at + 32)?,
            length: u32_at(&self.bytes, at + 36)?,
            offset: u64_at(&self.bytes, at + 40)?,
        })
    }

    /// Its records, in order of id.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        (0..self.records).filter_map(|number| self.record(number))
    }

    /// Whether the record sorts before the id.
    fn is_before(&self, number: usize, id: &BlockId) -> bool {
        self.record(number).is_some_and(|record| record.id < *id)
    }

    /// Number of the first record that is not before the id. Ids are hashes, so the place is guessed from the value
    /// and found a few pages from there; a plain binary search would touch twenty pages of a large index.
    fn lower_bound(&self, id: &BlockId) -> usize {
        let key = array(&id.0, 0).map_or(0, u64::from_be_bytes);
        let guess = ((u128::from(key) * self.records as u128) >> 64) as usize;
        let mut step = 16;
        let (mut low, mut high);
        if self.is_before(guess, id) {
            low = guess + 1;
            while low + step < self.records && self.is_before(low + step, id) {
                low += step + 1;
                step *= 4;
            }
            high = self.records.min(low + step);
        } else {
            high = guess;
            while high >= step && !self.is_before(high - step, id) {
                high -= step;
                step *= 4;
            }
            low = high.saturating_sub(step);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_before(middle, id) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The records of a block.
    pub fn find(&self, id: BlockId) -> impl Iterator<Item = Record> + '_ {
        self.find_numbered(id).map(|(_, record)| record)
    }

    /// The records of a block and their numbers.
    pub(super) fn find_numbered(&self, id: BlockId) -> impl Iterator<Item = (u64, Record)> + '_ {
        (self.lower_bound(&id)..self.records)
            .map_while(|number| Some((number as u64, self.record(number)?)))
            .take_while(move |(_, record)| record.id == id)
    }
}

/// All index objects of the repository at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct IndexSet {
    pub files: BTreeMap<ObjectId, Arc<IndexFile>>,
    /// A damaged index object hides its blocks, which are then stored again, or found missing by name.
    pub unusable: Vec<String>,
}

impl IndexSet {
    /// Lists the index objects and opens those not open yet.
    pub fn load(repository: &Repository, known: Option<&Self>) -> Result<Self, RepoError> {
        let mut set = Self::default();
        for _ in 0..LISTINGS {
            let replaced;
            (set, replaced) = Self::load_listed(repository, known)?;
            if !replaced {
                break;
            }
        }
        Ok(set)
    }

    /// Opens what one listing shows; also whether something of it was gone by then, and others may stand for it.
    fn load_listed(
        repository: &Repository,
        known: Option<&Self>,
    ) -> Result<(Self, bool), RepoError> {
        let store = &*repository.store;
        let mut set = Self::default();
        let mut replaced = false;
        for Listed { name: object, .. } in store.list(PREFIX)? {
            let Some(id) = parse_name(&object) else {
                continue;
            };
            if let Some(file) = known.and_then(|known| known.files.get(&id)) {
                set.files.insert(id, Arc::clone(file));
                continue;
            }
            let bytes = match store.map(&object) {
                Ok(bytes) => bytes,
                Err(error) if error.is_absent() => {
                    replaced = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match IndexFile::open(&repository.keys, &object, bytes) {
                Ok(file) => {
                    set.files.insert(id, Arc::new(file));
                }
                Err(RepoError::Damaged { detail, .. }) => {
                    tracing::warn!("{object} {detail}: it is left out");
                    set.unusable.push(object);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((set, replaced))
    }

    /// The same for lookups: many small index objects are put together, for every one of them costs every lookup.
    pub fn compacted(&self) -> Result<Self, RepoError> {
        let small = |file: &IndexFile| file.record_count() < SMALL_INDEX;
        if self.files.values().filter(|file| small(file)).count() <= SMALL_INDEXES {
            return Ok(self.clone());
        }
        let (parts, mut files): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .files
            .clone()
            .into_iter()
            .partition(|(_, file)| small(file));
        let parts: Vec<Arc<IndexFile>> = parts.into_values().collect();
        merge(&parts, &|_| true, COMPACTED_RECORDS, &mut |bytes| {
            let (id, file) = keep_aside(&bytes)?;
            files.insert(id, file);
            Ok(())
        })?;
        // All of them were read, and others may keep them.
        parts.iter().for_each(|file| file.bytes.release());
        Ok(Self {
            files,
            unusable: self.unusable.clone(),
        })
    }

    /// All places of a block.
    pub fn find(&self, id: BlockId) -> impl Iterator<Item = Location> + '_ {
        self.files.values().flat_map(move |file| {
            // A record whose pack number is wrong is in a damaged index: as good as none, and found by check.
            file.find(id).filter_map(move |record| {
                let (pack, _) = file.pack(record.pack as usize)?;
                Some(Location {
                    pack,
                    offset: record.offset,
                    length: record.length,
                })
            })
        })
    }

    /// Names and lengths of all packs.
    pub fn packs(&self) -> HashMap<PackId, u64> {
        self.files.values().flat_map(|file| file.packs()).collect()
    }
}

/// Stores an index object and opens it.
pub(super) fn put(
    repository: &Repository,
    bytes: &[u8],
) -> Result<(ObjectId, Arc<IndexFile>), RepoError> {
    let store = &*repository.store;
    let id = if repository.keys.seals() {
        let mut upload = store.create_upload()?;
        let mut hasher = blake3::Hasher::new();
        seal::seal_stream(&repository.keys, bytes, |piece| {
            hasher.update(piece);
            Ok(upload.write(piece)?)
        })?;
        let id = hasher.finalize().into();
        upload.finish(&object_name(&id))?;
        id
    } else {
        let id = ObjectId::of(bytes);
        store.put(&object_name(&id), bytes)?;
        id
    };
    let name = object_name(&id);
    let file = match store.map(&name) {
        Ok(stored) => IndexFile::open(&repository.keys, &name, stored)?,
        // A prune has put it together with others since. What it says was so; whose session a prune has ended asks at its
        // commit whether it still is.
        Err(error) if error.is_absent() => IndexFile::spilled(bytes)?,
        Err(error) => return Err(error.into()),
    };
    Ok((id, Arc::new(file)))
}

/// Puts index objects that hold what these hold of the packs to keep, then removes these. Returns the new ones.
pub(super) fn replace(
    repository: &Repository,
    old: &[(ObjectId, Arc<IndexFile>)],
    keep: &dyn Fn(&PackId) -> bool,
) -> Result<HashSet<ObjectId>, RepoError> {
    let files: Vec<Arc<IndexFile>> = old.iter().map(|(_, file)| Arc::clone(file)).collect();
    let mut new = HashSet::new();
    merge(&files, keep, COMPACTED_RECORDS, &mut |bytes| {
        new.insert(put(repository, &bytes)?.0);
        Ok(())
    })?;
    for (id, _) in old.iter().filter(|(id, _)| !new.contains(id)) {
        repository.store.remove(&object_name(id))?;
    }
    Ok(new)
}

/// Replaces those index objects that name packs which are gone, without them. Returns the new ones.
pub(super) fn without(
    repository: &Repository,
    index: &IndexSet,
    gone: &HashSet<PackId>,
) -> Result<HashSet<ObjectId>, RepoError> {
    let files = index.files.iter();
    let old: Vec<(ObjectId, Arc<IndexFile>)> = files
        .filter(|(_, file)| file.packs().any(|(pack, _)| gone.contains(&pack)))
        .map(|(id, file)| (*id, Arc::clone(file)))
        .collect();
    replace(repository, &old, &|pack| !gone.contains(pack))
}

/// As [`put`], but where nothing is to be changed.
pub(super) fn keep_aside(bytes: &[u8]) -> Result<(ObjectId, Arc<IndexFile>), RepoError> {
    Ok((ObjectId::of(bytes), Arc::new(IndexFile::spilled(bytes)?)))
}

/// Name of an index object.
pub(super) fn object_name(id: &ObjectId) -> String {
    format!("{PREFIX}{id}")
}

/// The index object with that name, if it is the name of one.
pub(super) fn parse_name(name: &str) -> Option<ObjectId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::pack::TocEntry;
    use super::*;

    fn packs() -> impl Strategy<Value = Vec<FinishedPack>> {
        // Few distinct first bytes, so that ids crowd, repeat and defeat the guess.
        let id = prop_oneof![
            prop::array::uniform32(0u8..3),
            prop::array::uniform32(any::<u8>()),
            Just([0; 32]),
            Just([255; 32])
        ];
        let entry = (id, any::<u64>(), any::<u32>()).prop_map(|(id, offset, length)| TocEntry {
            id: BlockId(id),
            offset,
            length,
            raw_len: 0,
        });
        let pack = (
            any::<[u8; 32]>(),
            any::<u64>(),
            prop::collection::vec(entry, 0..300),
        );
        let pack = pack.prop_map(|(id, size, toc)| FinishedPack {
            id: Hex(id),
            size,
            toc,
        });
        prop::collection::vec(pack, 0..4)
    }

    proptest! {
        #[test]
        fn an_index_answers_as_a_map_would(packs in packs(), strangers in prop::collection::vec(any::<[u8; 32]>(), 20)) {
            let mut model: BTreeMap<BlockId, BTreeSet<Location>> = BTreeMap::new();
            for pack in &packs {
                for entry in &pack.toc {
                    let location = Location { pack: pack.id, offset: entry.offset, length: entry.length };
                    model.entry(entry.id).or_default().insert(location);
                }
            }
            let file = IndexFile::parse(build(&packs).into()).unwrap();
            prop_assert_eq!(file.packs().collect::<Vec<_>>(), packs.iter().map(|pack| (pack.id, pack.size)).collect::<Vec<_>>());
            let mut set = IndexSet::default();
            set.files.insert(ObjectId::of(b""), Arc::new(file));
            for (id, locations) in &model {
                prop_assert_eq!(&set.find(*id).collect::<BTreeSet<_>>(), locations);
            }
            for id in strangers.into_iter().map(BlockId).chain([BlockId([0; 32]), BlockId([255; 32]), BlockId([1; 32])]) {
                prop_assert_eq!(set.find(id).next().is_some(), model.contains_key(&id));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), frame in any::<bool>()) {
            if frame && bytes.len() >= HEAD_LEN {
                bytes[..16].copy_from_slice(MAGIC);
                bytes[17..24].fill(0);
                bytes[25..32].fill(0);
            }
            if let Ok(file) = IndexFile::parse(bytes.into()) {
                let _ = file.find(BlockId([9; 32])).count();
                let _ = file.records().count() + file.packs().count();
            }
        }
    }

    #[test]
    fn impossible_counts_are_refused() {
        for (packs, records) in [
            (u64::MAX, 1),
            (1, u64::MAX),
            (u64::MAX / 40, u64::MAX / 48),
            (0, 1),
        ] {
            let bytes = [&MAGIC[..], &packs.to_le_bytes(), &records.to_le_bytes()].concat();
            assert!(IndexFile::parse(bytes.into()).is_err());
        }
        let bytes = [&MAGIC[..], &[0; 16]].concat();
        assert!(IndexFile::parse(bytes.into()).is_ok());
    }
}
