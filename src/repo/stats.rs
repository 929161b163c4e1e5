//! What a repository holds, and what of it whom it is for. Memory is a bit for each block.

use std::collections::{BTreeMap, HashMap};

use super::ids::{PackId, SnapshotId};
use super::index::IndexSet;
use super::model::{ManifestShard, Root, Snapshot, TableRecord};
use super::outline::{self, Parts};
use super::used::UsedBlocks;
use super::{Reader, RepoError, Repository, index, lists, pack, parallel, snapshots};
use crate::rows::{BlockId, coders};

/// Blocks that are looked at together by several threads.
const BATCH: usize = 4096;

/// Counts and bytes of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Stats {
    /// What each snapshot brought, the oldest first.
    pub snapshots: Vec<Growth>,
    /// Bytes of payload of all snapshots, as if each were stored by itself.
    pub payload_bytes: u64,
    /// Bytes of payload of the blocks that are needed, each once.
    pub distinct_payload_bytes: u64,
    /// Bytes of these blocks and those of lists, encoded, with their headers.
    pub encoded_bytes: u64,
    /// Number of blocks in packs.
    pub blocks: u64,
    /// Blocks in packs that no snapshot needs.
    pub unused_blocks: u64,
    /// Their bytes.
    pub unused_bytes: u64,
    /// References to blocks that are nowhere.
    pub missing_blocks: u64,
    /// Number of packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Packs that no index object names; the next dump takes them over.
    pub unindexed_packs: u64,
    /// Their bytes.
    pub unindexed_bytes: u64,
    /// Number of index objects.
    pub index_objects: u64,
    /// Their bytes.
    pub index_bytes: u64,
}

/// What a snapshot brought.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Growth {
    /// The snapshot.
    pub id: SnapshotId,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// Blocks that no snapshot before it needs.
    pub new_blocks: u64,
    /// Their bytes, encoded, with their headers.
    pub new_bytes: u64,
}

/// What a table of a snapshot takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableStats {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// Its blocks, each once.
    pub blocks: u64,
    /// Their bytes, encoded, with their headers.
    pub stored_bytes: u64,
}

/// What a coder made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct CoderStats {
    /// Columns of blocks, or whole blocks.
    pub parts: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
}

/// Marks blocks and counts what is new.
struct Counter<'r> {
    reader: &'r Reader,
    used: UsedBlocks,
    stats: Stats,
    /// Bytes of payload below shards and lists of tables that were visited.
    payload: HashMap<BlockId, u64>,
}

impl Counter<'_> {
    fn mark(&mut self, id: &BlockId, growth: &mut Growth) -> bool {
        match self.used.mark(id) {
            Some((place, true)) => {
                growth.new_blocks += 1;
                growth.new_bytes += u64::from(place.length);
                true
            }
            Some((_, false)) => false,
            None => {
                self.stats.missing_blocks += 1;
                false
            }
        }
    }

    fn snapshot(&mut self, id: SnapshotId, snapshot: &Snapshot) -> Result<Growth, RepoError> {
        let mut growth = Growth {
            id,
            payload_bytes: 0,
            new_blocks: 0,
            new_bytes: 0,
        };
        let parts = Parts::of(self.reader, snapshot)?;
        for block in &parts.lists {
            self.mark(block, &mut growth);
        }
        for block in &parts.tables {
            let payload = match self.payload.get(block) {
                Some(payload) => *payload,
                None => {
                    let mut payload = 0;
                    for shard in parts.shards(self.reader, block)? {
                        payload += self.shard(&shard, &mut growth)?;
                    }
                    self.payload.insert(*block, payload);
                    payload
                }
            };
            growth.payload_bytes += payload;
        }
        Ok(growth)
    }

    fn shard(&mut self, id: &BlockId, growth: &mut Growth) -> Result<u64, RepoError> {
        if let Some(payload) = self.payload.get(id) {
            return Ok(*payload);
        }
        self.mark(id, growth);
        let shard: ManifestShard = outline::read(self.reader, id)?;
        let mut payload = 0;
        for reference in shard.segments.iter().flat_map(|segment| &segment.blocks) {
            let len = u64::from(reference.payload_len);
            payload += len;
            if self.mark(&reference.id, growth) {
                self.stats.distinct_payload_bytes += len;
            }
        }
        self.payload.insert(*id, payload);
        Ok(payload)
    }
}

impl Repository {
    /// Counts what the repository holds. What hangs from a list that is nowhere is not counted.
    pub fn stats(&self) -> Result<Stats, RepoError> {
        let mut found = Vec::new();
        for id in snapshots::list(&*self.store)? {
            match snapshots::load_with_copy(self, &id) {
                Ok((stored, copy)) => found.push((id, stored.snapshot, copy)),
                // Forgotten since the listing.
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|(id, snapshot, _)| (snapshot.time, snapshot.finished, *id));
        let set = IndexSet::load(self, None)?;
        // Index first, packs second: what an index names was durable before it.
        let packs = pack::list(&*self.store)?;
        let there = |pack: &PackId, size| packs.get(pack) == Some(&size);
        let indexed = set.packs();
        let reader = self.reader_with(set)?;
        let used = UsedBlocks::new(&reader.lookup(), there, |_| false);
        let mut counter = Counter {
            reader: &reader,
            used,
            stats: Stats::default(),
            payload: HashMap::new(),
        };
        let mut growths = Vec::with_capacity(found.len());
        for (id, snapshot, copy) in &found {
            let mut growth = counter.snapshot(*id, snapshot)?;
            // Those of the first versions have none.
            if counter.used.find(copy).is_some() {
                counter.mark(copy, &mut growth);
            }
            growths.push(growth);
        }
        let Counter {
            used, mut stats, ..
        } = counter;
        stats.payload_bytes = growths.iter().map(|growth| growth.payload_bytes).sum();
        stats.snapshots = growths;
        stats.encoded_bytes = used.packs().map(|pack| pack.used_bytes).sum();
        used.for_each_stored(|_, record, needed| {
            stats.blocks += 1;
            if !needed {
                stats.unused_blocks += 1;
                stats.unused_bytes += u64::from(record.length);
            }
        });
        for (pack, size) in &packs {
            stats.packs += 1;
            stats.pack_bytes += size;
            if !indexed.contains_key(pack) {
                stats.unindexed_packs += 1;
                stats.unindexed_bytes += size;
            }
        }
        for object in self.store.list(index::PREFIX)? {
            stats.index_objects += 1;
            stats.index_bytes += object.len;
        }
        Ok(stats)
    }

    /// What the tables of a snapshot take, in order of name.
    pub fn table_stats(&self, snapshot: &Snapshot) -> Result<Vec<TableStats>, RepoError> {
        let reader = self.reader()?;
        let places = UsedBlocks::new(&reader.lookup(), |_, _| true, |_| false);
        let root: Root = lists::read_value(&reader, &snapshot.root)?;
        let mut stats = Vec::new();
        for block in &root.tables {
            for table in lists::read_value::<Vec<TableRecord>>(&reader, block)? {
                let mut records = Vec::new();
                for shard in &table.manifest {
                    let shard: ManifestShard = lists::read_value(&reader, shard)?;
                    let blocks = shard.segments.iter().flat_map(|segment| &segment.blocks);
                    let found = blocks.filter_map(|reference| places.find(&reference.id));
                    records.extend(found.map(|place| (place.record, place.length)));
                }
                records.sort_unstable();
                records.dedup();
                stats.push(TableStats {
                    rows: table.digest.rows,
                    payload_bytes: table.payload_bytes,
                    blocks: records.len() as u64,
                    stored_bytes: records.iter().map(|(_, length)| u64::from(*length)).sum(),
                    schema: table.schema,
                    name: table.name,
                });
            }
        }
        Ok(stats)
    }

    /// What the coders made of the rows of a snapshot, by name. Reads all of its blocks, each once.
    pub fn coder_stats(
        &self,
        snapshot: &Snapshot,
        jobs: usize,
    ) -> Result<BTreeMap<&'static str, CoderStats>, RepoError> {
        let reader = self.reader()?;
        let mut used = UsedBlocks::new(&reader.lookup(), |_, _| true, |_| false);
        let mut stats: BTreeMap<&'static str, CoderStats> = BTreeMap::new();
        let mut look = |batch: &mut Vec<BlockId>| -> Result<(), RepoError> {
            let found = parallel::map(jobs, batch, |scratch, id| {
                let parallel::Scratch {
                    decoder,
                    encoded,
                    payload,
                } = scratch;
                let (_, encoded) = reader.read_encoded(id, decoder, encoded, payload)?;
                let mut found: Vec<(&'static str, u64)> = Vec::new();
                coders(encoded, |name, bytes| found.push((name, bytes)))?;
                Ok(found)
            })?;
            for (name, bytes) in found.into_iter().flatten() {
                let coder = stats.entry(name).or_default();
                coder.parts += 1;
                coder.bytes += bytes;
            }
            batch.clear();
            Ok(())
        };
        let parts = Parts::of(&reader, snapshot)?;
        let mut batch = Vec::new();
        for block in &parts.tables {
            for shard in parts.shards(&reader, block)? {
                let shard: ManifestShard = lists::read_value(&reader, &shard)?;
                for reference in shard.segments.iter().flat_map(|segment| &segment.blocks) {
                    // One that is missing is to be told by name.
                    if used.mark(&reference.id).is_none_or(|(_, new)| new) {
                        batch.push(reference.id);
                    }
                }
                if batch.len() >= BATCH {
                    look(&mut batch)?;
                }
            }
        }
        look(&mut batch)?;
        Ok(stats)
    }
}
