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

#[derive(Default)]
struct SegmentState {
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

    /// A block of a segment is in the repository. Said twice, where a segment had to be read again, it counts once.
    /// True if that completes the table.
    pub fn block(
        &self,
        writer: &Writer,
        table: usize,
        segment: u32,
        number: u32,
        block: BlockRef,
    ) -> Result<bool, RepoError> {
        self.update(writer, table, segment, |state| {
            state.blocks.insert(number, block);
        })
    }

    /// A segment was read to its end and has this many blocks. True if that completes the table.
    pub fn segment(
        &self,
        writer: &Writer,
        table: usize,
        segment: u32,
        blocks: u32,
    ) -> Result<bool, RepoError> {
        self.update(writer, table, segment, |state| {
            state.expected = Some(blocks);
        })
    }

    fn update(
        &self,
        writer: &Writer,
        table: usize,
        segment: u32,
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
        change(open.entry(segment).or_default());
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
        let id = lists::write_value(writer, &PackGroup::Meta, &manifest)?;
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
