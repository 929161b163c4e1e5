//! Which stored blocks are needed: a bit for each record of the index objects, so that ten million blocks take a
//! megabyte or two beside the index, which is mapped.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::PackId;
use super::index::{IndexFile, IndexSet, Record};
use crate::rows::BlockId;

/// Stands for a pack that cannot be used.
const UNUSABLE: u32 = u32::MAX;

/// The blocks of some packs, and which of them are marked as needed. Of a block that is stored several times one place
/// is marked, always the same: in the pack that comes first.
#[derive(Debug)]
pub(super) struct UsedBlocks {
    files: Vec<NumberedFile>,
    /// The place of a pack here is its rank.
    packs: Vec<PackUse>,
    /// Ranks in order of pack id.
    ranks: BTreeMap<PackId, u32>,
    bits: Vec<u64>,
}

#[derive(Debug)]
struct NumberedFile {
    file: Arc<IndexFile>,
    /// For each pack of the object its rank.
    ranks: Vec<u32>,
    /// Number of its first record, where those of all objects are numbered through.
    first: u64,
}

/// What is needed of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackUse {
    /// The pack.
    pub id: PackId,
    /// Bytes of the whole object.
    pub size: u64,
    /// Number of blocks marked in it.
    pub used_blocks: u64,
    /// Bytes of the blocks marked in it, with their headers.
    pub used_bytes: u64,
}

/// The place of a block that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of its record among those of all index objects.
    pub record: u64,
    /// Its pack.
    pub pack: PackId,
    /// First byte of its header there.
    pub offset: u64,
    /// Bytes of header and encoded block.
    pub length: u32,
    rank: u32,
}

impl UsedBlocks {
    /// Nothing marked yet. Only packs for which `usable` holds (it is asked with the length that the index gives) are
    /// looked at; they come in the order of `key`, and those with the same key in order of id.
    pub fn new<K: Ord>(
        index: &IndexSet,
        usable: impl Fn(&PackId, u64) -> bool,
        key: impl Fn(&PackId) -> K,
    ) -> Self {
        let sizes: BTreeMap<PackId, u64> = (index.files.values())
            .flat_map(|file| file.packs())
            .filter(|(pack, size)| usable(pack, *size))
            .collect();
        let mut packs: Vec<PackUse> = (sizes.into_iter())
            .map(|(id, size)| PackUse {
                id,
                size,
                used_blocks: 0,
                used_bytes: 0,
            })
            .collect();
        packs.sort_by_key(|pack| (key(&pack.id), pack.id));
        let ranks: BTreeMap<PackId, u32> = packs.iter().map(|pack| pack.id).zip(0..).collect();
        let mut first = 0;
        let files = index.files.values().map(|file| {
            let of_file = file.packs().map(|(pack, size)| match ranks.get(&pack) {
                Some(rank) if packs[*rank as usize].size == size => *rank,
                _ => UNUSABLE,
            });
            let numbered = NumberedFile {
                ranks: of_file.collect(),
                file: Arc::clone(file),
                first,
            };
            first += file.record_count() as u64;
            numbered
        });
        Self {
            files: files.collect(),
            packs,
            ranks,
            bits: vec![0; first.div_ceil(64) as usize],
        }
    }

    /// The place of a block that counts; none if no usable pack holds it.
    pub fn find(&self, id: &BlockId) -> Option<Place> {
        let places = self.files.iter().flat_map(|known| {
            let records = known.file.find_numbered(*id);
            records.filter_map(|(number, record)| known.place(&self.packs, number, record))
        });
        places.min_by_key(|place| (place.rank, place.offset, place.record))
    }

    /// Marks a block as needed. Returns its place and whether it was not marked before, or nothing if no usable pack
    /// holds it.
    pub fn mark(&mut self, id: &BlockId) -> Option<(Place, bool)> {
        let place = self.find(id)?;
        let new = !self.is_marked(place.record);
        if new {
            self.bits[(place.record / 64) as usize] |= 1 << (place.record % 64);
            let pack = &mut self.packs[place.rank as usize];
            pack.used_blocks += 1;
            pack.used_bytes += u64::from(place.length);
        }
        Some((place, new))
    }

    fn is_marked(&self, record: u64) -> bool {
        self.bits[(record / 64) as usize] & (1 << (record % 64)) != 0
    }

    /// Whether that block is needed in that pack: marked, and not in another.
    pub fn is_needed_in(&self, id: &BlockId, pack: &PackId) -> bool {
        self.find(id)
            .is_some_and(|place| place.pack == *pack && self.is_marked(place.record))
    }

    /// All usable packs and what is needed of them, in order of id.
    pub fn packs(&self) -> impl Iterator<Item = &PackUse> {
        self.ranks.values().map(|rank| &self.packs[*rank as usize])
    }

    /// Calls `each` for every block of every usable pack, once for each place: the pack, the record, and whether the
    /// block is needed there. Reads all of the index.
    pub fn for_each_stored(&self, mut each: impl FnMut(&PackId, &Record, bool)) {
        // A pack may be in several index objects, each of which lists all of it: the first is the one that is marked.
        let mut counted = vec![false; self.packs.len()];
        for known in &self.files {
            let mine: Vec<bool> = (known.ranks.iter())
                .map(|rank| *rank != UNUSABLE && !counted[*rank as usize])
                .collect();
            for (number, record) in (0..).zip(known.file.records()) {
                if mine.get(record.pack as usize) != Some(&true) {
                    continue;
                }
                if let Some(place) = known.place(&self.packs, number, record) {
                    let needed = self.is_marked(place.record);
                    each(&place.pack, &record, needed);
                }
            }
            for rank in known.ranks.iter().filter(|rank| **rank != UNUSABLE) {
                counted[*rank as usize] = true;
            }
        }
    }
}

impl NumberedFile {
    fn place(&self, packs: &[PackUse], number: u64, record: Record) -> Option<Place> {
        let rank = *self.ranks.get(record.pack as usize)?;
        let pack = packs.get(rank as usize)?;
        Some(Place {
            record: self.first + number,
            pack: pack.id,
            offset: record.offset,
            length: record.length,
            rank,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::super::ids::{Hex, ObjectId};
    use super::super::index::build;
    use super::super::pack::{FinishedPack, TocEntry};
    use super::*;

    /// Few packs and blocks, so that blocks are in several packs and packs in several index objects.
    fn objects() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(0u8..6, 0..4), 0..4)
    }

    fn pack(number: u8, blocks: &[u8]) -> FinishedPack {
        let mut offset = 16;
        let toc = blocks.iter().map(|block| {
            let length = 64 + u32::from(*block);
            let entry = TocEntry {
                id: BlockId([*block; 32]),
                offset,
                length,
                raw_len: 0,
            };
            offset += u64::from(length);
            entry
        });
        FinishedPack {
            id: Hex([number; 32]),
            toc: toc.collect(),
            size: 1000 + u64::from(number),
        }
    }

    proptest! {
        #[test]
        fn marks_are_those_of_a_map(
            content in prop::collection::vec(prop::collection::vec(0u8..20, 0..12), 6),
            objects in objects(),
            wanted in prop::collection::vec(0u8..24, 0..40),
            bad in prop::collection::btree_set(0u8..6, 0..3),
            liked in prop::collection::btree_set(0u8..6, 0..3),
        ) {
            let packs: Vec<FinishedPack> = (0..).zip(&content).map(|(number, blocks)| pack(number, blocks)).collect();
            let mut set = IndexSet::default();
            let mut there = BTreeSet::new();
            for numbers in &objects {
                let numbers: BTreeSet<u8> = numbers.iter().copied().collect();
                there.extend(numbers.iter().copied().filter(|number| !bad.contains(number)));
                let chosen: Vec<FinishedPack> = numbers.iter().map(|number| packs[usize::from(*number)].clone()).collect();
                let bytes = build(&chosen);
                set.files.insert(ObjectId::of(&bytes), Arc::new(IndexFile::parse(bytes.into()).unwrap()));
            }
            let mut used = UsedBlocks::new(&set, |pack, _| !bad.contains(&pack.0[0]), |pack| !liked.contains(&pack.0[0]));

            // The model: for each block the pack that counts, for each pack its blocks.
            let mut model: HashMap<u8, BTreeSet<u8>> = HashMap::new();
            let mut missing = BTreeSet::new();
            let place_of = |block: u8| {
                let holders = there.iter().filter(|number| content[usize::from(**number)].contains(&block));
                holders.min_by_key(|number| (!liked.contains(number), **number)).copied()
            };
            for block in &wanted {
                match (place_of(*block), used.mark(&BlockId([*block; 32]))) {
                    (Some(number), Some((place, new))) => {
                        prop_assert_eq!(place.pack, Hex([number; 32]));
                        prop_assert_eq!(place.length, 64 + u32::from(*block));
                        prop_assert_eq!(new, model.entry(number).or_default().insert(*block));
                    }
                    (None, None) => drop(missing.insert(*block)),
                    (model, found) => prop_assert!(false, "{:?} {:?}", model, found),
                }
            }
            let uses: Vec<PackUse> = used.packs().copied().collect();
            prop_assert_eq!(uses.iter().map(|pack| pack.id.0[0]).collect::<Vec<_>>(), there.iter().copied().collect::<Vec<_>>());
            for pack in &uses {
                let blocks = model.get(&pack.id.0[0]).cloned().unwrap_or_default();
                prop_assert_eq!(pack.size, 1000 + u64::from(pack.id.0[0]));
                prop_assert_eq!(pack.used_blocks, blocks.len() as u64);
                prop_assert_eq!(pack.used_bytes, blocks.iter().map(|block| 64 + u64::from(*block)).sum::<u64>());
            }
            for block in 0..24 {
                for number in 0..6 {
                    let needed = wanted.contains(&block) && place_of(block) == Some(number);
                    prop_assert_eq!(used.is_needed_in(&BlockId([block; 32]), &Hex([number; 32])), needed);
                }
            }
            // Every stored block comes up, and those that are needed once.
            let (mut stored, mut needed) = (0, BTreeSet::new());
            used.for_each_stored(|pack, record, is_needed| {
                stored += 1;
                if is_needed {
                    assert!(needed.insert((pack.0[0], record.id.0[0])));
                }
            });
            prop_assert_eq!(stored, there.iter().map(|number| content[usize::from(*number)].len()).sum::<usize>());
            let expected: BTreeSet<(u8, u8)> = model.iter().flat_map(|(pack, blocks)| blocks.iter().map(|block| (*pack, *block))).collect();
            prop_assert_eq!(needed, expected);
        }
    }
}
