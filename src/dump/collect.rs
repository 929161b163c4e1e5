//! Gathers what readers and encoders find into manifests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::repo::model::{BlockRef, ManifestShard, Segment};
use crate::repo::{PackGroup, RepoError, Writer, lists};
use crate::rows::{BlockId, RowDigest};

/// Segments of one manifest shard: 2 GiB of heap. Shards keep a table's manifest out of memory, and let an unchanged
/// stretch of a huge table refer to the shard of last night.
pub const SHARD_SEGMENTS: u32 = 1024;

/// The manifests of all tables in the making. Shared by all threads.
pub struct Collector {
    tables: Vec<Mutex<TableState>>,
}

/// What became of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableResult {
    /// Blocks that hold its manifest shards, in order.
    pub manifest: Vec<BlockId>,
    /// Count and digest of its rows.
    pub digest: RowDigest,
    /// Bytes of payload.
    pub payload_bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
}

#[derive(Default)]
struct TableState {
    segments: u32,
    /// Shards that are not complete: their segments by number.
    open: BTreeMap<u32, BTreeMap<u32, SegmentState>>,
    /// Shards that are stored.
    stored: BTreeMap<u32, BlockId>,
    result: TableResult,
}

/// What is known of a segment from its latest attempt. Blocks of an earlier one must not be mixed in: a query that is
/// not bound to pages may give its rows in another order each time.
#[derive(Default)]
struct SegmentState {
    attempt: u32,
    /// Number of blocks, once the segment was read to its end.
    expected: Option<u32>,
    blocks: BTreeMap<u32, BlockRef>,
}

impl SegmentState {
    fn complete(&self) -> bool {
        self.expected
            .is_some_and(|expected| self.blocks.len() == expected as usize)
    }
}

impl Collector {
    /// A collector for tables of these numbers of segments.
    pub fn new(segments: impl Iterator<Item = u32>) -> Self {
        Self {
            tables: segments
                .map(|segments| {
                    Mutex::new(TableState {
                        segments,
                        ..TableState::default()
                    })
                })
                .collect(),
        }
    }

    /// A block of a segment, by its place among them, is in the repository. Where a segment had to be read again, only
    /// its latest attempt counts.
    /// True if that completes the table.
    pub fn block(
        &self,
        writer: &Writer,
        table: usize,
        segment: u32,
        attempt: u32,
        (number, block): (u32, BlockRef),
    ) -> Result<bool, RepoError> {
        self.update(writer, table, segment, attempt, |state| {
            state.blocks.insert(number, block);
        })
    }

    /// A segment was read to its end and has this many blocks. True if that completes the table.
    pub fn segment(
        &self,
        writer: &Writer,
        table: usize,
        segment: u32,
        attempt: u32,
        blocks: u32,
    ) -> Result<bool, RepoError> {
        self.update(writer, table, segment, attempt, |state| {
            state.expected = Some(blocks);
        })
    }

    fn update(
        &self,
        writer: &Writer,
        table: usize,
        segment: u32,
        attempt: u32,
        change: impl FnOnce(&mut SegmentState),
    ) -> Result<bool, RepoError> {
        let mut state = self.lock(table);
        let shard = segment / SHARD_SEGMENTS;
        let length = (state.segments - shard * SHARD_SEGMENTS).min(SHARD_SEGMENTS);
        if state.stored.contains_key(&shard) {
            // A late word about a segment that was read twice.
            return Ok(false);
        }
        let open = state.open.entry(shard).or_default();
        let entry = open.entry(segment).or_default();
        if attempt < entry.attempt {
            return Ok(false);
        }
        if attempt > entry.attempt {
            *entry = SegmentState {
                attempt,
                ..SegmentState::default()
            };
        }
        change(entry);
        if open.len() < length as usize || !open.values().all(SegmentState::complete) {
            return Ok(false);
        }
        let segments = state.open.remove(&shard).unwrap_or_default();
        let manifest = ManifestShard {
            segments: segments
                .into_iter()
                .filter(|(_, segment)| !segment.blocks.is_empty())
                .map(|(number, segment)| Segment {
                    number,
                    blocks: segment.blocks.into_values().collect(),
                })
                .collect(),
        };
        for block in manifest.segments.iter().flat_map(|s| &s.blocks) {
            state.result.digest += block.digest;
            state.result.payload_bytes += u64::from(block.payload_len);
            state.result.blocks += 1;
        }
        let id = lists::write_value(writer, &PackGroup::Outline, &manifest)?;
        state.stored.insert(shard, id);
        Ok(state.stored.len() == state.segments.div_ceil(SHARD_SEGMENTS) as usize)
    }

    /// The result of a table, or the number of the first shard that is not complete.
    pub fn finish(&self, table: usize) -> Result<TableResult, u32> {
        let mut state = self.lock(table);
        let shards = state.segments.div_ceil(SHARD_SEGMENTS);
        if let Some(missing) = (0..shards).find(|shard| !state.stored.contains_key(shard)) {
            return Err(missing);
        }
        let mut result = std::mem::take(&mut state.result);
        result.manifest = state.stored.values().copied().collect();
        Ok(result)
    }

    fn lock(&self, table: usize) -> MutexGuard<'_, TableState> {
        self.tables[table]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::repo::Repository;
    use crate::rows::{Effort, Format};
    use crate::store::LocalStore;

    fn block(number: u8) -> BlockRef {
        BlockRef {
            id: BlockId([number; 32]),
            format: Format::Binary,
            payload_len: 1,
            digest: RowDigest {
                rows: 1,
                sum: number.into(),
            },
        }
    }

    #[test]
    fn only_the_latest_attempt_of_a_segment_counts_whatever_the_order_of_arrival() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init(Arc::new(LocalStore::new(dir.path()))).unwrap();
        let writer = repo.writer(Effort::Fast).unwrap();
        let collector = Collector::new([1].into_iter());
        collector.block(&writer, 0, 0, 1, (0, block(1))).unwrap();
        collector.block(&writer, 0, 0, 2, (1, block(22))).unwrap();
        // Late news of the first attempt, which an encoder had kept.
        collector.block(&writer, 0, 0, 1, (1, block(2))).unwrap();
        collector.segment(&writer, 0, 0, 2, 2).unwrap();
        assert_eq!(collector.finish(0), Err(0), "a block is missing");
        collector.block(&writer, 0, 0, 2, (0, block(21))).unwrap();
        let result = collector.finish(0).unwrap();
        assert_eq!(result.digest.sum, 21 + 22);
        assert_eq!(result.blocks, 2);
    }

    #[test]
    fn a_table_without_segments_is_complete_and_has_no_manifest() {
        let collector = Collector::new([0].into_iter());
        assert_eq!(collector.finish(0), Ok(TableResult::default()));
    }
}
