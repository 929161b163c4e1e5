//! From the snapshots down to the blocks: is everything there?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde::de::DeserializeOwned;

use super::packs::PackStates;
use super::problems::{ProblemKind, Problems};
use super::{Snapshots, pack_name};
use crate::repo::block::{BlockHeader, HEADER_LEN};
use crate::repo::history::Losses;
use crate::repo::ids::SnapshotId;
use crate::repo::index::{IndexSet, Location};
use crate::repo::lists;
use crate::repo::model::{BlockRef, ManifestShard, Root, SequenceValue, Snapshot, TableRecord};
use crate::repo::outline::{Outline, OutlineTable};
use crate::repo::{Reader, RepoError, Repository, snapshots};
use crate::rows::{BlockId, Decoder, Format, RowDigest, read_header};

/// Enough of a stored block for its own header and the coder's.
const PEEK_LEN: usize = HEADER_LEN + 64;

/// Missing blocks that are named one by one.
const NAMED: usize = 10;
/// Findings below one place of the tree after which missing blocks are only said to be more.
const REMEMBERED: usize = 10_000;

/// The same for the same manifests, whatever their order.
fn manifest_sum<'a>(manifests: impl IntoIterator<Item = &'a BlockId>) -> RowDigest {
    let mut sum = RowDigest::default();
    for id in manifests {
        let mut half = [0; 16];
        half.copy_from_slice(&id.0[..16]);
        sum += RowDigest {
            rows: 1,
            sum: u128::from_le_bytes(half),
        };
    }
    sum
}

/// What is wrong below some place of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    /// A block is nowhere.
    Missing(BlockId),
    /// More blocks are nowhere than are remembered one by one.
    MoreMissing,
    /// A table lacks rows, or what they are.
    Table(String),
    /// An object is not what it should be.
    Object {
        object: String,
        kind: ProblemKind,
        detail: String,
    },
}

/// What a snapshot lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hurt {
    /// Tables that lack rows, or what they are.
    pub tables: BTreeSet<String>,
    /// Whether all of it was known and recorded by a repair.
    pub known: bool,
    /// Blocks that are nowhere.
    pub(in crate::repo) missing: BTreeSet<BlockId>,
    /// Whether more of them are missing than are listed.
    pub(in crate::repo) more: bool,
}

/// What was found below a list or manifest; the same for every snapshot that shares it.
#[derive(Debug, Clone, Default)]
struct Subtree {
    findings: Option<Rc<BTreeSet<Finding>>>,
    payload: u64,
    digest: RowDigest,
}

impl Subtree {
    /// What was found here was found in all that it belongs to.
    fn add_to(&self, findings: &mut BTreeSet<Finding>) {
        for finding in self.findings.iter().flat_map(|found| found.iter()) {
            add(findings, finding.clone());
        }
    }
}

/// Adds a finding. Of missing blocks there may be millions: only some are remembered one by one.
fn add(findings: &mut BTreeSet<Finding>, finding: Finding) {
    let full = findings.len() >= REMEMBERED && !findings.contains(&finding);
    findings.insert(match finding {
        Finding::Missing(_) if full => Finding::MoreMissing,
        finding => finding,
    });
}

/// Looks at a part of the tree; returns payload bytes and digest of the rows below it.
type Look = fn(&mut Walk, &BlockId, &mut BTreeSet<Finding>) -> Result<(u64, RowDigest), RepoError>;

/// A walk over snapshots that looks at shared parts once.
pub(super) struct Walk {
    reader: Reader,
    index: IndexSet,
    packs: PackStates,
    compare_blocks: bool,
    can_read: bool,
    seen: HashMap<BlockId, Subtree>,
    missing: Missing,
    hurt: BTreeMap<SnapshotId, Hurt>,
    decoder: Decoder,
    scratch: Vec<u8>,
    payload: Vec<u8>,
}

/// Blocks that are nowhere, and that no repair recorded; possibly very many, so only some are named.
#[derive(Debug, Default)]
struct Missing {
    blocks: BTreeSet<BlockId>,
    more: bool,
    snapshots: Snapshots,
}

/// Stands for the missing blocks among the problems.
const MISSING: &str = "blocks";

impl Walk {
    pub fn new(
        repository: &Repository,
        index: IndexSet,
        packs: PackStates,
        compare_blocks: bool,
    ) -> Result<Self, RepoError> {
        Ok(Self {
            reader: repository.reader_with(IndexSet::default())?,
            index: index.compacted()?,
            packs,
            compare_blocks,
            can_read: repository.can_read(),
            seen: HashMap::new(),
            missing: Missing::default(),
            hurt: BTreeMap::new(),
            decoder: Decoder::new(),
            scratch: Vec::new(),
            payload: Vec::new(),
        })
    }

    /// Follows a snapshot down to its blocks. What a repair recorded as lost is no problem.
    pub fn snapshot(
        &mut self,
        id: &SnapshotId,
        snapshot: &Snapshot,
        losses: Option<&Losses>,
        problems: &mut Problems,
    ) -> Result<(), RepoError> {
        let findings = self.look(id, snapshot)?;
        if findings.is_empty() {
            return Ok(());
        }
        let mut hurt = Hurt {
            known: true,
            ..Hurt::default()
        };
        for finding in findings {
            match finding {
                Finding::Missing(block) => {
                    if !losses.is_some_and(|losses| losses.covers(&block)) {
                        hurt.known = false;
                        self.missing.snapshots.insert(*id);
                        self.missing.blocks.insert(block);
                    }
                    hurt.missing.insert(block);
                }
                Finding::MoreMissing => {
                    if !losses.is_some_and(|losses| losses.more) {
                        hurt.known = false;
                        self.missing.snapshots.insert(*id);
                        self.missing.more = true;
                    }
                    hurt.more = true;
                }
                Finding::Table(name) => drop(hurt.tables.insert(name)),
                Finding::Object {
                    object,
                    kind,
                    detail,
                } => {
                    hurt.known = false;
                    problems.hurts(&object, kind, &detail, *id);
                }
            }
        }
        self.hurt.insert(*id, hurt);
        Ok(())
    }

    fn look(
        &mut self,
        id: &SnapshotId,
        snapshot: &Snapshot,
    ) -> Result<BTreeSet<Finding>, RepoError> {
        let mut findings = BTreeSet::new();
        let mut manifests = RowDigest::default();
        let mut lists = Outline::default();
        if !self.can_read {
            self.outline(snapshot, &mut findings)?;
            return Ok(findings);
        }
        if let Some(root) = self.read::<Root>(&snapshot.root, &mut findings)? {
            for block in root.entries.iter().chain(&root.entry_order) {
                self.find(block, &mut findings);
            }
            for block in &root.sequences {
                self.read::<Vec<SequenceValue>>(block, &mut findings)?;
            }
            for block in &root.tables {
                let tables = self.shared(block, Self::tables)?;
                tables.add_to(&mut findings);
                manifests += tables.digest;
            }
            lists = Outline::of(snapshot.root, &root);
        }
        let Some(id_of_outline) = &snapshot.outline else {
            return Ok(findings);
        };
        let whole = findings.is_empty();
        let Some(outline) = self.read::<Outline>(id_of_outline, &mut findings)? else {
            return Ok(findings);
        };
        let mut outlined = RowDigest::default();
        for block in &outline.tables {
            let tables = self.shared(block, Self::outline_tables)?;
            tables.add_to(&mut findings);
            outlined += tables.digest;
        }
        // A prune goes by the outline alone.
        if whole && (outlined != manifests || outline.lists != lists.lists) {
            findings.insert(Finding::Object {
                object: snapshots::object_name(id),
                kind: ProblemKind::Inconsistent,
                detail: "its outline does not name what its tree does".into(),
            });
        }
        Ok(findings)
    }

    /// A block of an outline's tables: the sum of the manifests it names.
    fn outline_tables(
        &mut self,
        block: &BlockId,
        findings: &mut BTreeSet<Finding>,
    ) -> Result<(u64, RowDigest), RepoError> {
        let tables = self.read::<Vec<OutlineTable>>(block, findings)?;
        let tables = tables.unwrap_or_default();
        Ok((
            0,
            manifest_sum(tables.iter().flat_map(|table| &table.manifest)),
        ))
    }

    /// Follows a snapshot by its outline alone, for who cannot read its root.
    fn outline(
        &mut self,
        snapshot: &Snapshot,
        findings: &mut BTreeSet<Finding>,
    ) -> Result<(), RepoError> {
        let Some(outline) = &snapshot.outline else {
            self.find(&snapshot.root, findings);
            return Ok(());
        };
        let Some(outline) = self.read::<Outline>(outline, findings)? else {
            return Ok(());
        };
        for block in &outline.lists {
            self.find(block, findings);
        }
        for block in &outline.tables {
            let tables = self.read::<Vec<OutlineTable>>(block, findings)?;
            for shard in tables.iter().flatten().flat_map(|table| &table.manifest) {
                let shard = self.shared(shard, Self::shard)?;
                shard.add_to(findings);
            }
        }
        Ok(())
    }

    /// Reports the blocks that are nowhere; returns what each hurt snapshot lacks.
    pub fn finish(self, problems: &mut Problems) -> BTreeMap<SnapshotId, Hurt> {
        let Missing {
            blocks,
            more,
            snapshots,
        } = self.missing;
        if !snapshots.is_empty() {
            let names: Vec<String> = blocks.iter().take(NAMED).map(ToString::to_string).collect();
            let detail = format!(
                "{}{} blocks are in no index: {}{}",
                if more { "more than " } else { "" },
                blocks.len(),
                names.join(", "),
                if blocks.len() > NAMED { " ..." } else { "" }
            );
            problems.add(MISSING, ProblemKind::Missing, detail, snapshots);
        }
        self.hurt
    }

    /// Looks at a part of the tree, once.
    fn shared(&mut self, block: &BlockId, look: Look) -> Result<Subtree, RepoError> {
        if let Some(subtree) = self.seen.get(block) {
            return Ok(subtree.clone());
        }
        let mut findings = BTreeSet::new();
        let (payload, digest) = look(self, block, &mut findings)?;
        let subtree = Subtree {
            findings: (!findings.is_empty()).then(|| Rc::new(findings)),
            payload,
            digest,
        };
        self.seen.insert(*block, subtree.clone());
        Ok(subtree)
    }

    /// A block of table records.
    fn tables(
        &mut self,
        block: &BlockId,
        findings: &mut BTreeSet<Finding>,
    ) -> Result<(u64, RowDigest), RepoError> {
        let mut manifests = RowDigest::default();
        for table in self
            .read::<Vec<TableRecord>>(block, findings)?
            .unwrap_or_default()
        {
            manifests += manifest_sum(&table.manifest);
            let mut payload = 0;
            let mut digest = RowDigest::default();
            let mut whole = true;
            for shard in &table.manifest {
                let shard = self.shared(shard, Self::shard)?;
                payload += shard.payload;
                digest += shard.digest;
                whole &= shard.findings.is_none();
                shard.add_to(findings);
            }
            if !whole {
                findings.insert(Finding::Table(format!("{}.{}", table.schema, table.name)));
            }
            if whole && (payload, digest) != (table.payload_bytes, table.digest) {
                findings.insert(Finding::Object {
                    object: format!("block {block}"),
                    kind: ProblemKind::Inconsistent,
                    detail: format!(
                        "table {}.{} is recorded with {} bytes and digest {}, its blocks make {payload} and {digest}",
                        table.schema, table.name, table.payload_bytes, table.digest
                    ),
                });
            }
        }
        Ok((0, manifests))
    }

    /// A block of segments.
    fn shard(
        &mut self,
        block: &BlockId,
        findings: &mut BTreeSet<Finding>,
    ) -> Result<(u64, RowDigest), RepoError> {
        let shard = self
            .read::<ManifestShard>(block, findings)?
            .unwrap_or_default();
        let mut payload = 0;
        let mut digest = RowDigest::default();
        for reference in shard.segments.iter().flat_map(|segment| &segment.blocks) {
            payload += u64::from(reference.payload_len);
            digest += reference.digest;
            if let Some(location) = self.find(&reference.id, findings)
                && self.compare_blocks
                && let Some(detail) = self.differs(reference, &location)?
            {
                let object = format!("block {block}");
                let kind = ProblemKind::Inconsistent;
                findings.insert(Finding::Object {
                    object,
                    kind,
                    detail,
                });
            }
        }
        Ok((payload, digest))
    }

    /// In what a reference differs from the block it leads to.
    fn differs(
        &mut self,
        reference: &BlockRef,
        location: &Location,
    ) -> Result<Option<String>, RepoError> {
        self.reader.peek(location, PEEK_LEN, &mut self.scratch)?;
        let id = reference.id;
        let Ok(header) = BlockHeader::parse(&self.scratch) else {
            return Ok(None);
        };
        // How many rows a sealed block has is not said without opening all of it.
        let stored_rows = match header.sealed {
            Some(_) => reference.digest.rows,
            None => match read_header(&self.scratch[HEADER_LEN..]) {
                Ok(info) => info.rows.into(),
                Err(_) => return Ok(None),
            },
        };
        // The rows of a row in parts count at its last part.
        let rows = reference.format == Format::Part || stored_rows == reference.digest.rows;
        let same =
            header.raw_len == reference.payload_len && header.format == reference.format && rows;
        Ok((!same).then(|| {
            format!(
                "says that block {id} holds {} bytes of {:?} with {} rows; it holds {} bytes of {:?} with {}",
                reference.payload_len,
                reference.format,
                reference.digest.rows,
                header.raw_len,
                header.format,
                stored_rows
            )
        }))
    }

    /// A sound place of a block, indexed or not. What is wrong with the block is among the findings.
    fn find(&mut self, id: &BlockId, findings: &mut BTreeSet<Finding>) -> Option<Location> {
        let mut unsound = Vec::new();
        for location in self.index.find(*id) {
            if self.packs.is_sound(&location.pack, location.offset) {
                return Some(location);
            }
            unsound.push(location);
        }
        for location in &unsound {
            let there = self.packs.exists(&location.pack);
            findings.insert(Finding::Object {
                object: pack_name(&location.pack),
                kind: if there {
                    ProblemKind::Damaged
                } else {
                    ProblemKind::Missing
                },
                detail: "snapshots need blocks of it".into(),
            });
        }
        if !unsound.is_empty() {
            return None;
        }
        if let Some(location) = self.packs.unindexed.find(*id).next() {
            findings.insert(Finding::Object {
                object: pack_name(&location.pack),
                kind: ProblemKind::NotIndexed,
                detail: "holds blocks that snapshots need, but no index names it: \
                         an index object was removed or damaged; the next dump indexes it again"
                    .into(),
            });
            return Some(location);
        }
        add(findings, Finding::Missing(*id));
        None
    }

    /// Reads a block that is part of the tree.
    fn read<T: DeserializeOwned>(
        &mut self,
        id: &BlockId,
        findings: &mut BTreeSet<Finding>,
    ) -> Result<Option<T>, RepoError> {
        let Some(location) = self.find(id, findings) else {
            return Ok(None);
        };
        let (decoder, scratch, payload) = (&mut self.decoder, &mut self.scratch, &mut self.payload);
        let read = if self.index.find(*id).next().is_none() {
            self.reader
                .read_at(id, &location, decoder, scratch, payload)
        } else {
            self.reader
                .read_with(&self.index, id, decoder, scratch, payload)
        };
        let failure = match read.and_then(|info| lists::decode(id, info.format, payload)) {
            Ok(value) => return Ok(Some(value)),
            Err(failure) => failure,
        };
        let (object, kind) = match &failure {
            RepoError::DamagedBlock { pack, .. } => (pack_name(pack), ProblemKind::Damaged),
            RepoError::Content { block, .. } => {
                (format!("block {block}"), ProblemKind::Inconsistent)
            }
            // Whoever may only write needs it, and cannot open it.
            RepoError::Key(_) => (format!("block {id}"), ProblemKind::Inconsistent),
            RepoError::Store(error) => (error.object().to_owned(), ProblemKind::Damaged),
            _ => return Err(failure),
        };
        let detail = failure.to_string();
        findings.insert(Finding::Object {
            object,
            kind,
            detail,
        });
        Ok(None)
    }
}
