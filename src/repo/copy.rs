//! Copying snapshots into another repository, without the database they came from.
//!
//! Block ids are keyed, so the same rows have other ids in a repository with another key: there each block is decoded
//! and verified, gets its new id, and what names it is written anew. Encoded bytes do not depend on ids and stay as they
//! are. Between repositories that share their keys, rows are moved as they are stored, sealed or not. The snapshot of the same database that was copied last says which blocks are there already, so that what did not
//! change since is not read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use xxhash_rust::xxh3::xxh3_64;

use super::ids::SnapshotId;
use super::model::{BlockRef, ManifestShard, Original, Root, Snapshot, TableRecord};
use super::outline::Tree;
use super::{PackGroup, Reader, RepoError, Repository, Writer, WriterStats, lists, parallel};
use crate::pg::interrupt::Interrupt;
use crate::progress::{Progress, Stage};
use crate::rows::{BlockId, Decoder, Effort};

/// Tables with less payload share packs.
const OWN_PACK_BYTES: u64 = 8 << 20;
/// Blocks that are copied together by several threads.
const BATCH: usize = 4096;

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// Threads.
    pub jobs: usize,
    /// How hard lists are compressed that have to be written anew.
    pub effort: Effort,
}

/// Threads, where nobody says how many: as many as there are cores, at most 4.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4)
}

/// A snapshot that is in the other repository now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The snapshot.
    pub from: SnapshotId,
    /// The copy.
    pub to: SnapshotId,
    /// What was stored for it; nothing if it was there already.
    pub stored: Option<WriterStats>,
}

/// What came of copying.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// The snapshots that are in the other repository now, in the order in which they were copied.
    pub copied: Vec<Copied>,
    /// Those that are damaged here, and were left out.
    pub failed: Vec<(SnapshotId, RepoError)>,
}

impl Repository {
    /// Copies snapshots, the oldest first, with the databases of clusters among them. Those that are in the other
    /// repository already are passed over.
    pub fn copy_to(
        &self,
        target: &Self,
        ids: &[SnapshotId],
        options: &CopyOptions,
        interrupt: &Interrupt,
        progress: &dyn Progress,
    ) -> Result<CopyReport, RepoError> {
        let list = self.snapshots()?.list;
        let all: BTreeMap<SnapshotId, &Snapshot> = list.iter().map(|(id, s)| (*id, s)).collect();
        let mut wanted: BTreeSet<SnapshotId> = ids.iter().copied().collect();
        for id in ids {
            let members = all.get(id).and_then(|snapshot| snapshot.databases());
            wanted.extend(
                members
                    .unwrap_or_default()
                    .iter()
                    .map(|member| member.snapshot),
            );
        }
        // Databases before the clusters that name them.
        let (heads, databases): (Vec<_>, Vec<_>) = list
            .iter()
            .filter(|(id, _)| wanted.remove(id))
            .partition(|(_, snapshot)| snapshot.databases().is_some());
        let mut report = CopyReport::default();
        for id in wanted {
            let wanted = id.to_string();
            report.failed.push((id, RepoError::NoSnapshot { wanted }));
        }
        let mut there: HashMap<Original, (SnapshotId, Snapshot)> = HashMap::new();
        for (id, snapshot) in target.snapshots()?.list {
            there.insert(target.original(&id, &snapshot), (id, snapshot));
        }
        let reader = self.reader()?;
        let of = heads.len() + databases.len();
        for (number, (id, snapshot)) in (1..).zip(databases.into_iter().chain(heads)) {
            let original = self.original(id, snapshot);
            if let Some((to, _)) = there.get(&original) {
                let (from, to) = (*id, *to);
                report.copied.push(Copied {
                    from,
                    to,
                    stored: None,
                });
                continue;
            }
            let name = format!("{} {:.12}", snapshot.label(), id);
            progress.stage(&Stage::Database { name, number, of });
            let known = self.counterpart(snapshot, &list, &there);
            let copy = Copy {
                source: &reader,
                target,
                same_ids: self.id_key == target.id_key,
                same_keys: self.id_key == target.id_key && self.keys.is_like(&target.keys),
                options,
                interrupt,
                progress,
            };
            let members: BTreeMap<SnapshotId, SnapshotId> = report
                .copied
                .iter()
                .map(|copied| (copied.from, copied.to))
                .collect();
            match copy.snapshot(snapshot, original, known, &members) {
                Ok((to, snapshot, stored)) => {
                    there.insert(original, (to, snapshot));
                    let (from, stored) = (*id, Some(stored));
                    report.copied.push(Copied { from, to, stored });
                }
                Err(error) if is_damage(&error) => report.failed.push((*id, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// What a snapshot is a copy of; of one that came from nowhere itself.
    fn original(&self, id: &SnapshotId, snapshot: &Snapshot) -> Original {
        snapshot.original.unwrap_or(Original {
            repository: self.id(),
            snapshot: *id,
        })
    }

    /// The newest snapshot of the same database that is here and there: both of its records.
    fn counterpart<'s>(
        &self,
        snapshot: &Snapshot,
        here: &'s [(SnapshotId, Snapshot)],
        there: &'s HashMap<Original, (SnapshotId, Snapshot)>,
    ) -> Option<(&'s Snapshot, &'s Snapshot)> {
        let of = |other: &Snapshot| {
            other.source.server() == snapshot.source.server() && other.label() == snapshot.label()
        };
        let mut newest = here.iter().rev().filter(|(_, other)| of(other));
        newest.find_map(|(id, other)| {
            let (_, copy) = there.get(&self.original(id, other))?;
            Some((other, copy))
        })
    }
}

/// Whether it is damage of one snapshot, so that others can be copied.
fn is_damage(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::Damaged { .. }
            | RepoError::DamagedBlock { .. }
            | RepoError::MissingBlock { .. }
            | RepoError::Content { .. }
            | RepoError::WithoutMember { .. }
    ) || matches!(error, RepoError::Store(error) if error.is_absent())
}

/// The shards of tables in both repositories: those here, and those there.
type Known = HashMap<(String, String), (Vec<BlockId>, Vec<BlockId>)>;

struct Copy<'c> {
    source: &'c Reader,
    target: &'c Repository,
    /// Whether the same rows have the same ids there.
    same_ids: bool,
    /// Whether both have the same keys, so that blocks are moved as they lie.
    same_keys: bool,
    options: &'c CopyOptions,
    interrupt: &'c Interrupt,
    progress: &'c dyn Progress,
}

/// A shard on its way.
struct Moving {
    table: usize,
    group: PackGroup,
    shard: ManifestShard,
}

/// A block on its way, and the id it may have there.
struct Block {
    reference: BlockRef,
    group: PackGroup,
    known: Option<BlockId>,
}

impl Copy<'_> {
    /// Copies a snapshot; returns the copy and what was stored for it.
    fn snapshot(
        &self,
        snapshot: &Snapshot,
        original: Original,
        known: Option<(&Snapshot, &Snapshot)>,
        members: &BTreeMap<SnapshotId, SnapshotId>,
    ) -> Result<(SnapshotId, Snapshot, WriterStats), RepoError> {
        let mut copy = snapshot.clone();
        copy.original = Some(original);
        let databases = copy
            .cluster
            .as_mut()
            .and_then(|cluster| cluster.databases.as_mut());
        for member in databases.into_iter().flatten() {
            let to = members.get(&member.snapshot);
            member.snapshot = *to.ok_or_else(|| RepoError::WithoutMember {
                database: member.database.clone(),
                snapshot: member.snapshot,
            })?;
        }
        let known = match known {
            Some(pair) if !self.same_ids => self.known(pair)?,
            _ => Known::new(),
        };
        let writer = self.target.writer(self.options.effort)?;
        let tree = match self.tree(snapshot, &known, &writer) {
            Ok(tree) => tree,
            Err(error) => {
                // What went wrong first is what the user must know.
                let _ = writer.abort();
                return Err(error);
            }
        };
        self.progress.stage(&Stage::Committing);
        let stored = writer.stats();
        copy.root = tree.root;
        copy.outline = Some(tree.outline);
        copy.totals.added_blocks = stored.new_blocks;
        copy.totals.added_bytes = stored.new_bytes;
        let id = writer.commit(copy.clone())?;
        Ok((id, copy, stored))
    }

    fn known(&self, (here, there): (&Snapshot, &Snapshot)) -> Result<Known, RepoError> {
        let reader = self.target.reader()?;
        let tables = |reader: &Reader, snapshot: &Snapshot| {
            let root: Root = lists::read_value(reader, &snapshot.root)?;
            lists::read_list::<TableRecord>(reader, &root.tables)
        };
        // Damage in an earlier copy is no reason not to make this one.
        let (Ok(here), Ok(there)) = (tables(self.source, here), tables(&reader, there)) else {
            return Ok(Known::new());
        };
        let mut there: HashMap<_, _> = there
            .into_iter()
            .map(|table| (table.key(), table.manifest))
            .collect();
        let pairs = here.into_iter().filter_map(|table| {
            let manifest = there.remove(&table.key())?;
            Some((table.key(), (table.manifest, manifest)))
        });
        Ok(pairs.collect())
    }

    /// Copies all blocks and lists.
    fn tree(&self, snapshot: &Snapshot, known: &Known, writer: &Writer) -> Result<Tree, RepoError> {
        let root: Root = lists::read_value(self.source, &snapshot.root)?;
        let mut tables: Vec<TableRecord> = lists::read_list(self.source, &root.tables)?;
        self.progress.stage(&Stage::Rows {
            bytes: tables.iter().map(|table| table.payload_bytes).sum(),
            tables: tables.len() as u64,
            hypertables: 0,
            chunks: 0,
        });
        let there = self.target.reader()?;
        let (mut shards, mut blocks) = (Vec::new(), Vec::new());
        for table in 0..tables.len() {
            let record = &mut tables[table];
            let group = match record.payload_bytes {
                ..OWN_PACK_BYTES => PackGroup::Small,
                _ => PackGroup::Table(xxh3_64(
                    format!("{}.{}", record.schema, record.name).as_bytes(),
                )),
            };
            let pair = known.get(&record.key());
            for (number, id) in std::mem::take(&mut record.manifest).iter().enumerate() {
                let shard: ManifestShard = lists::read_value(self.source, id)?;
                let ids = match pair.and_then(|(a, b)| Some((a.get(number)?, b.get(number)?))) {
                    Some(pair) => self.ids(&there, pair),
                    None => HashMap::new(),
                };
                for reference in shard.segments.iter().flat_map(|segment| &segment.blocks) {
                    let known = match self.same_ids {
                        true => Some(reference.id),
                        false => ids.get(&reference.id).copied(),
                    };
                    blocks.push(Block {
                        reference: *reference,
                        group,
                        known,
                    });
                }
                shards.push(Moving {
                    table,
                    group,
                    shard,
                });
                if blocks.len() >= BATCH {
                    self.flush(writer, &mut tables, &mut shards, &mut blocks)?;
                }
            }
        }
        self.flush(writer, &mut tables, &mut shards, &mut blocks)?;
        let key = |schema: &str, name: &str| format!("{schema}.{name}").into_bytes();
        let root = Root {
            entries: self.others(writer, &root.entries)?,
            entry_order: self.others(writer, &root.entry_order)?,
            tables: lists::write_list(writer, &PackGroup::Meta, &tables, |table| {
                key(&table.schema, &table.name)
            })?,
            sequences: self.others(writer, &root.sequences)?,
        };
        Tree::store(writer, &root, &tables)
    }

    /// The ids of a shard's blocks here and there.
    fn ids(&self, there: &Reader, (here, copy): (&BlockId, &BlockId)) -> HashMap<BlockId, BlockId> {
        let (Ok(here), Ok(there)) = (
            lists::read_value::<ManifestShard>(self.source, here),
            lists::read_value::<ManifestShard>(there, copy),
        ) else {
            return HashMap::new();
        };
        let blocks = |shard: ManifestShard| {
            let blocks = shard
                .segments
                .into_iter()
                .map(|segment| (segment.number, segment.blocks));
            blocks.flat_map(|(number, blocks)| blocks.into_iter().map(move |block| (number, block)))
        };
        let pairs = blocks(here).zip(blocks(there));
        // They are copies of each other; what is not the same is not taken for it.
        let same = pairs.filter(|((a_segment, a), (b_segment, b))| {
            let of = |block: &BlockRef| (block.format, block.payload_len, block.digest);
            a_segment == b_segment && of(a) == of(b)
        });
        same.map(|((_, a), (_, b))| (a.id, b.id)).collect()
    }

    /// Copies the blocks at hand, then stores the shards that name them.
    fn flush(
        &self,
        writer: &Writer,
        tables: &mut [TableRecord],
        shards: &mut Vec<Moving>,
        blocks: &mut Vec<Block>,
    ) -> Result<(), RepoError> {
        let ids = parallel::map(self.options.jobs, blocks, |scratch, block| {
            if self.interrupt.raised() {
                return Err(RepoError::Interrupted);
            }
            let id = self.block(writer, block, scratch)?;
            self.progress.bytes(block.reference.payload_len.into());
            Ok(id)
        })?;
        blocks.clear();
        let mut ids = ids.into_iter();
        let mut groups = BTreeMap::new();
        for Moving {
            table,
            group,
            mut shard,
        } in shards.drain(..)
        {
            let references = shard
                .segments
                .iter_mut()
                .flat_map(|segment| &mut segment.blocks);
            for (reference, id) in references.zip(&mut ids) {
                reference.id = id;
            }
            let id = lists::write_value(writer, &PackGroup::Outline, &shard)?;
            tables[table].manifest.push(id);
            groups.insert(table, group);
        }
        // A table that is complete: its packs are made durable while the next is copied.
        groups.pop_last();
        for group in groups
            .into_values()
            .filter(|group| *group != PackGroup::Small)
        {
            writer.close(&group)?;
        }
        Ok(())
    }

    /// Copies a block of rows; returns the id it has there.
    fn block(
        &self,
        writer: &Writer,
        block: &Block,
        scratch: &mut parallel::Scratch,
    ) -> Result<BlockId, RepoError> {
        if let Some(id) = block.known.filter(|id| writer.contains(id)) {
            return Ok(id);
        }
        let parallel::Scratch {
            decoder,
            encoded,
            payload,
        } = scratch;
        let reference = &block.reference.id;
        if self.same_keys {
            if !writer.contains(reference) {
                let (header, stored) = self
                    .source
                    .read_stored(reference, decoder, encoded, payload)?;
                writer.put_stored(&block.group, header, stored)?;
            }
            return Ok(*reference);
        }
        let (info, encoded) = self
            .source
            .read_encoded(reference, decoder, encoded, payload)?;
        let id = writer.id_key().block_id(info.format, info.columns, payload);
        if !writer.contains(&id) {
            writer.put(&block.group, id, encoded)?;
        }
        Ok(id)
    }

    /// Copies blocks of lists that name no others.
    fn others(&self, writer: &Writer, ids: &[BlockId]) -> Result<Vec<BlockId>, RepoError> {
        let (mut decoder, mut scratch, mut payload) = (Decoder::new(), Vec::new(), Vec::new());
        let ids = ids.iter().map(|id| {
            self.source
                .read(id, &mut decoder, &mut scratch, &mut payload)?;
            writer.put_other(&PackGroup::Meta, &payload)
        });
        ids.collect()
    }
}
