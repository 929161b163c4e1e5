//! What there is, and what snapshots need of it, at one moment.
//!
//! The order matters. Sessions were looked at before: whoever was not there any more has its snapshot among those
//! listed here, and whoever came since has seen every tombstone. Snapshots come before the index and the index before
//! the packs, as what one names was durable before it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::history::{Event, History};
use super::super::ids::{PackId, SnapshotId};
use super::super::index::{self, IndexSet};
use super::super::model::Snapshot;
use super::super::pack::{self, FinishedPack};
use super::super::session::{self, Tombstones};
use super::super::used::UsedBlocks;
use super::super::{Reader, RepoError, Repository, outline, snapshots};
use super::{PrunePhase, PruneProgress, Run};
use crate::rows::BlockId;
use crate::store::Listed;

/// A pack's object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    /// Bytes.
    pub len: u64,
    /// When it was put, by the storage's clock.
    pub modified: jiff::Timestamp,
}

pub(super) struct View {
    /// Number of snapshots.
    pub snapshots: u64,
    /// The index objects as they are stored.
    pub index: IndexSet,
    /// All packs.
    pub packs: HashMap<PackId, Listing>,
    /// Packs that are indexed and gone: deleted by a prune that was interrupted before it could write the index, or by
    /// hand. Nobody needs them.
    pub stale: HashSet<PackId>,
    /// What is needed of those that are indexed.
    pub used: UsedBlocks,
}

/// A snapshot as it was read.
struct Known {
    id: SnapshotId,
    snapshot: Snapshot,
    /// The block with the copy of its record.
    copy: BlockId,
    /// Whether the history has it.
    recorded: bool,
    /// Whether a repair recorded that it lacks blocks.
    hurt: bool,
    /// Whether its writer may still be at work on it.
    open: bool,
}

impl View {
    /// Looks at everything; refuses where the repository is not what its history says, for what cannot be seen would
    /// be deleted.
    pub fn load(run: &mut Run<'_>, tombstones: &Tombstones) -> Result<Self, RepoError> {
        let repository = run.repository;
        let store = &*repository.store;
        let known = read_snapshots(repository)?;
        // Others may have put some since.
        let mut tombstones = tombstones.clone();
        tombstones.extend(session::tombstones(repository)?);
        let mut index = IndexSet::load(repository, None)?;
        if let Some(object) = index.unusable.first() {
            return Err(refused(format!(
                "{object} cannot be read, and what it lists would look unused"
            )));
        }
        let packs: HashMap<PackId, Listing> = store
            .list(pack::PREFIX)?
            .into_iter()
            .filter_map(
                |Listed {
                     name,
                     len,
                     modified,
                 }| { Some((pack::parse_name(&name)?, Listing { len, modified })) },
            )
            .collect();
        if packs.is_empty() && !known.is_empty() {
            return Err(refused(
                "the storage lists no packs, though there are snapshots".into(),
            ));
        }
        let indexed = index.packs().into_keys();
        let stale = indexed.filter(|id| !packs.contains_key(id)).collect();
        adopt(run, &mut index, &packs)?;

        let reader = repository.reader_with(index.clone())?;
        let lookup = reader.lookup();
        let marked = session::marked(&tombstones);
        let mut used = UsedBlocks::new(
            &lookup,
            |pack, size| packs.get(pack).is_some_and(|listing| listing.len == size),
            // The newest copy first: it is what an older pack was written anew for. Of marked packs, which others may
            // be about to delete, everybody has to keep the same: their order is that of their ids.
            |pack| match marked.contains(pack) {
                false => (
                    false,
                    packs.get(pack).map(|listing| Reverse(listing.modified)),
                ),
                true => (true, None),
            },
        );
        let mut seen = HashSet::new();
        let total = known.len() as u64;
        for (done, known) in (0..).zip(&known) {
            let phase = PrunePhase::Snapshots;
            (run.progress)(PruneProgress { phase, done, total });
            used.mark(&known.copy);
            let missing = mark(&reader, &known.snapshot, &mut seen, &mut used, &marked)?;
            if known.recorded {
                if missing.nowhere > 0 && !known.hurt {
                    return Err(refused(format!(
                        "{} lacks {} of its blocks",
                        snapshots::object_name(&known.id),
                        missing.nowhere
                    )));
                }
            } else if !known.open && !run.options.dry_run {
                settle(run, known, missing)?;
            }
        }
        Ok(Self {
            snapshots: total,
            index,
            packs,
            stale,
            used,
        })
    }
}

fn refused(what: String) -> RepoError {
    RepoError::Refused { what }
}

/// Blocks that a snapshot lacks.
#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    /// In no pack.
    nowhere: u64,
    /// In packs that are marked, and that somebody may be about to delete who has not seen the snapshot.
    doomed: u64,
}

/// Marks what a snapshot needs.
fn mark(
    reader: &Reader,
    snapshot: &Snapshot,
    seen: &mut HashSet<BlockId>,
    used: &mut UsedBlocks,
    marked: &HashSet<PackId>,
) -> Result<Missing, RepoError> {
    let mut missing = Missing::default();
    outline::visit(reader, snapshot, seen, &mut |block| {
        match used.mark(block) {
            None => missing.nowhere += 1,
            Some((place, _)) => missing.doomed += u64::from(marked.contains(&place.pack)),
        }
        Ok(())
    })?;
    Ok(missing)
}

/// A snapshot whose writer is gone without recording it: if it is whole it was committed, else it never was. A writer
/// that is alive after all looks whether it was given up when it has recorded its snapshot.
fn settle(run: &mut Run<'_>, known: &Known, missing: Missing) -> Result<(), RepoError> {
    let store = &*run.repository.store;
    let history = History::load(run.repository)?;
    let name = snapshots::object_name(&known.id);
    if missing.nowhere == 0 && missing.doomed == 0 {
        history.append(run.repository, Event::Committed(vec![known.id]))?;
        return Ok(());
    }
    history.append(run.repository, Event::Abandoned(vec![known.id]))?;
    if History::load(run.repository)?
        .committed()
        .contains(&known.id)
    {
        return Ok(());
    }
    store.remove(&name)?;
    run.report.notes.push(format!(
        "{name} was never committed and lacks blocks: removed"
    ));
    Ok(())
}

fn read_snapshots(repository: &Repository) -> Result<Vec<Known>, RepoError> {
    let store = &*repository.store;
    // Before they are listed: what is committed from here on need not be among them.
    let before = History::load(repository)?.kept();
    let mut known = Vec::new();
    for id in snapshots::list(store)? {
        let (stored, copy) = match snapshots::load_with_copy(repository, &id) {
            Ok(loaded) => loaded,
            Err(error) if error.is_absent() => continue,
            Err(RepoError::Damaged { detail, .. }) => {
                return Err(refused(format!(
                    "{} cannot be read ({detail}), and what it needs is not known",
                    snapshots::object_name(&id)
                )));
            }
            Err(error) => return Err(error),
        };
        // Before the history is read: a writer records its snapshot and then ends its session.
        let open = session::exists(store, &stored.session)?;
        known.push(Known {
            id,
            snapshot: stored.snapshot,
            copy,
            recorded: false,
            hurt: false,
            open,
        });
    }
    let history = History::load(repository)?;
    if let Some((id, detail)) = history.damaged.first_key_value() {
        return Err(refused(format!("history/{id} cannot be read ({detail})")));
    }
    let kept = history.kept();
    let listed: BTreeSet<SnapshotId> = known.iter().map(|known| known.id).collect();
    // What was forgotten before the listing is not kept any more.
    let gone = |id: &&SnapshotId| kept.contains(id) && !listed.contains(id);
    if let Some(gone) = before.iter().find(gone) {
        return Err(refused(format!(
            "{} was committed and not forgotten, and the storage does not list it",
            snapshots::object_name(gone)
        )));
    }
    if history.records.is_empty() && !known.iter().any(|known| known.open) {
        return Err(refused(
            "the storage lists no audit records, though there must be some".into(),
        ));
    }
    let losses = history.losses();
    for known in &mut known {
        known.recorded = kept.contains(&known.id);
        known.hurt = losses.contains_key(&known.id);
    }
    Ok(known)
}

/// Packs that no index object names are an interrupted run's, or will be indexed by a living one: they are indexed, so
/// that they count as what they are.
fn adopt(
    run: &mut Run<'_>,
    index: &mut IndexSet,
    packs: &HashMap<PackId, Listing>,
) -> Result<(), RepoError> {
    let store = &*run.repository.store;
    let indexed = index.packs();
    let mut found = Vec::new();
    for (id, listing) in packs.iter().filter(|(id, _)| !indexed.contains_key(id)) {
        match FinishedPack::read(store, *id, listing.len) {
            Ok(pack) => found.extend(pack),
            Err(RepoError::Damaged { object, detail }) => {
                run.report.notes.push(format!(
                    "{object} was left alone, as it is damaged: {detail}"
                ));
            }
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    found.sort_by_key(|pack| pack.id);
    let bytes = index::build(&found);
    let (id, file) = if run.options.dry_run {
        index::keep_aside(&bytes)?
    } else {
        index::put(run.repository, &bytes)?
    };
    index.files.insert(id, file);
    Ok(())
}
