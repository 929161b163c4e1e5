//! Comparing a table of two snapshots by its manifests: what did not change is not read.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{ManifestShard, Segment, TableRecord};
use super::{Reader, RepoError, lists};
use crate::rows::BlockId;

/// How the blocks of a table differ. Rows that moved to another page differ, too: this says nothing of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct BlockChanges {
    /// Blocks in the place of others.
    pub changed: u64,
    /// Blocks where there were none.
    pub added: u64,
    /// Blocks that are gone.
    pub removed: u64,
}

/// Compares the blocks of a table in two snapshots, shard by shard; nothing if its segments are of another size, so that
/// no block is in the place of another.
pub fn compare_blocks(
    reader: &Reader,
    a: &TableRecord,
    b: &TableRecord,
) -> Result<Option<BlockChanges>, RepoError> {
    if a.segment_pages != b.segment_pages {
        return Ok(None);
    }
    let mut changes = BlockChanges::default();
    let read = |id: Option<&BlockId>| match id {
        Some(id) => lists::read_value::<ManifestShard>(reader, id),
        None => Ok(ManifestShard::default()),
    };
    for number in 0..a.manifest.len().max(b.manifest.len()) {
        let (a, b) = (a.manifest.get(number), b.manifest.get(number));
        if a != b {
            compare_shards(&read(a)?, &read(b)?, &mut changes);
        }
    }
    Ok(Some(changes))
}

fn compare_shards(a: &ManifestShard, b: &ManifestShard, changes: &mut BlockChanges) {
    let by_number = |shard: &ManifestShard| -> BTreeMap<u32, BTreeSet<BlockId>> {
        let ids = |segment: &Segment| segment.blocks.iter().map(|block| block.id).collect();
        shard
            .segments
            .iter()
            .map(|segment| (segment.number, ids(segment)))
            .collect()
    };
    let (a, b) = (by_number(a), by_number(b));
    let none = BTreeSet::new();
    let numbers: BTreeSet<&u32> = a.keys().chain(b.keys()).collect();
    for number in numbers {
        let (a, b) = (
            a.get(number).unwrap_or(&none),
            b.get(number).unwrap_or(&none),
        );
        let (gone, new) = (
            a.difference(b).count() as u64,
            b.difference(a).count() as u64,
        );
        let changed = gone.min(new);
        changes.changed += changed;
        changes.added += new - changed;
        changes.removed += gone - changed;
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::BlockRef;
    use super::*;
    use crate::rows::{Format, RowDigest};

    #[test]
    fn blocks_are_compared_in_their_segments() {
        let shard = |segments: &[(u32, &[u8])]| ManifestShard {
            segments: segments
                .iter()
                .map(|(number, blocks)| Segment {
                    number: *number,
                    blocks: blocks
                        .iter()
                        .map(|block| BlockRef {
                            id: BlockId([*block; 32]),
                            format: Format::Binary,
                            payload_len: 0,
                            digest: RowDigest::default(),
                        })
                        .collect(),
                })
                .collect(),
        };
        let compare = |a: &[(u32, &[u8])], b: &[(u32, &[u8])]| {
            let mut changes = BlockChanges::default();
            compare_shards(&shard(a), &shard(b), &mut changes);
            (changes.changed, changes.added, changes.removed)
        };
        assert_eq!(
            compare(&[(0, &[1, 2]), (3, &[4])], &[(0, &[1, 2]), (3, &[4])]),
            (0, 0, 0)
        );
        assert_eq!(compare(&[(0, &[1, 2])], &[(0, &[1, 3])]), (1, 0, 0));
        assert_eq!(compare(&[(0, &[1])], &[(0, &[1, 3]), (2, &[5])]), (0, 2, 0));
        assert_eq!(compare(&[(0, &[1, 2]), (2, &[5])], &[(0, &[7])]), (1, 0, 2));
        // Of other segments: one went, one came.
        assert_eq!(compare(&[(0, &[1])], &[(1, &[1])]), (0, 1, 1));
    }
}
