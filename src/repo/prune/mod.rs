//! Prune: what no snapshot needs is marked, and deleted once nobody can rely on it any more. Writers go on meanwhile.
//!
//! A tombstone names packs that are to go. A writer that registered before it was put may rely on them, so its session
//! holds the deletion up; one that registered later has seen the tombstone and counts its packs as absent. When every
//! live session has seen it, the snapshots are listed, and what they need of the marked packs stays after all. A pruner
//! is a writer itself: it registers, and nobody deletes what was marked since. See "Pruning" in `docs/format.md`.

mod delete;
mod plan;
mod repack;
mod sessions;
mod view;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub(super) use self::sessions::Watch;
use self::sessions::{AllLive, Live};
use self::view::View;
use super::config::Operation;
use super::ids::{ObjectId, PackId, SessionId};
use super::session::{self, Session};
use super::used::PackUse;
use super::{RepoError, Repository, history, snapshots};

/// How to prune; the default is right but for tests.
#[derive(Debug, Clone, Copy)]
pub struct PruneOptions {
    /// Change nothing, only count.
    pub dry_run: bool,
    /// Bytes that may stay although no snapshot needs them, as a part of those that snapshots need: packs that hold
    /// both are written anew until it is no more.
    pub max_waste: f64,
    /// A session that gives no sign of life for so long, while it is watched, is taken for dead.
    pub patience: Duration,
    /// Time between two signs of life of the prune itself.
    pub heartbeat: Duration,
    /// A pack of this size is finished.
    pub pack_size: u64,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            max_waste: 0.05,
            patience: Duration::from_secs(90),
            heartbeat: Duration::from_secs(20),
            pack_size: 64 << 20,
        }
    }
}

/// Packs, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Number of packs.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// What was done, or what would be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PruneReport {
    /// Snapshots whose blocks were kept.
    pub snapshots: u64,
    /// All packs before.
    pub before: Amount,
    /// Bytes of the blocks that snapshots need, with what their packs add to them.
    pub needed_bytes: u64,
    /// Packs that no snapshot needs.
    pub unused: Amount,
    /// Packs of which something is needed, that were written anew to get rid of the rest.
    pub repacked: Amount,
    /// Bytes written for those.
    pub rewritten_bytes: u64,
    /// Packs that were deleted.
    pub deleted: Amount,
    /// Packs that are marked, and deleted by a later prune.
    pub waiting: Amount,
    /// The sessions that are waited for.
    pub waiting_for: Vec<String>,
    /// Index objects that were put together from smaller ones or written without deleted packs.
    pub indexes: u64,
    /// What else there is to say, a line each.
    pub notes: Vec<String>,
}

impl PruneReport {
    /// Bytes that prune would free, now and with the next run.
    pub fn reclaimable(&self) -> u64 {
        (self.unused.bytes + self.repacked.bytes).saturating_sub(self.rewritten_bytes)
    }
}

/// What prune is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrunePhase {
    /// Following snapshots to their blocks; counted one by one.
    Snapshots,
    /// Writing packs anew; counted in bytes.
    Repack,
    /// Waiting for a sign of life of other sessions; counted in seconds.
    Sessions,
    /// Deleting packs; counted one by one.
    Delete,
}

/// How far a prune is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneProgress {
    /// What it is at.
    pub phase: PrunePhase,
    /// Done so far.
    pub done: u64,
    /// To do altogether.
    pub total: u64,
}

/// What the parts of a run share.
struct Run<'a> {
    repository: &'a Repository,
    options: PruneOptions,
    progress: &'a dyn Fn(PruneProgress),
    /// Its own session.
    session: Option<SessionId>,
    report: PruneReport,
}

impl Repository {
    /// Frees what no snapshot needs. May be interrupted at any moment and run again; may run beside writers, readers,
    /// and other prunes.
    pub fn prune(
        &self,
        options: PruneOptions,
        progress: &dyn Fn(PruneProgress),
    ) -> Result<PruneReport, RepoError> {
        self.config.require(Operation::Delete)?;
        let mut run = Run {
            repository: self,
            options,
            progress,
            session: None,
            report: PruneReport::default(),
        };
        let store = &*self.store;
        if store.list(history::PREFIX)?.is_empty() && store.list(snapshots::PREFIX)?.is_empty() {
            // The first dump is not finished, or the storage does not show what it has.
            let note = "no snapshot was ever committed: nothing is deleted";
            run.report.notes.push(note.into());
        } else if options.dry_run {
            run.count()?;
        } else {
            self.with_reserve(|| {
                run.report = PruneReport::default();
                run.prune()
            })?;
        }
        Ok(run.report)
    }
}

impl Run<'_> {
    /// Who is alive; waits for a sign of life of those that hold something up.
    fn settle(
        &mut self,
        watch: &mut Watch<'_>,
        holds_up: &dyn Fn(&Live) -> bool,
    ) -> Result<AllLive, RepoError> {
        let patience = self.options.patience;
        let mut live = watch.settle(patience, holds_up, &|waiting| {
            (self.progress)(PruneProgress {
                phase: PrunePhase::Sessions,
                done: waiting.as_secs(),
                total: patience.as_secs(),
            });
        })?;
        self.report.notes.append(&mut live.notes);
        Ok(live)
    }

    fn count(&mut self) -> Result<(), RepoError> {
        let tombstones = session::tombstones(self.repository)?;
        let view = View::load(self, &tombstones)?;
        self.count_before(&view);
        let marked = session::marked(&tombstones);
        let protected = self.repository.protected_packs()?;
        for pack in view.used.packs().filter(|pack| marked.contains(&pack.id)) {
            if pack.used_blocks == 0 {
                self.report.unused.add(pack.size);
            }
        }
        let choice = plan::choose(
            (view.used.packs())
                .filter(|pack| !marked.contains(&pack.id) && !protected.contains(&pack.id)),
            self.options.max_waste,
        );
        self.count_choice(&choice);
        self.report.rewritten_bytes = choice.repack.iter().map(plan::kept_bytes).sum();
        Ok(())
    }

    fn count_before(&mut self, view: &View) {
        let report = &mut self.report;
        report.snapshots = view.snapshots;
        report.before = Amount::default();
        view.packs
            .values()
            .for_each(|pack| report.before.add(pack.len));
        report.needed_bytes = view.used.packs().map(plan::kept_bytes).sum();
    }

    fn count_choice(&mut self, choice: &plan::Choice) {
        for pack in &choice.unused {
            self.report.unused.add(pack.size);
        }
        for pack in &choice.repack {
            self.report.repacked.add(pack.size);
        }
    }

    fn prune(&mut self) -> Result<(), RepoError> {
        let store = &self.repository.store;
        let (session, mut tombstones) = Session::register(self.repository, self.options.heartbeat)?;
        self.session = Some(session.id);
        store.clean()?;
        self.repository.finish_forgetting()?;
        let mut watch = Watch::new(self.repository, session.id);

        let mut view = None;
        if !tombstones.is_empty() {
            let live = self.settle(&mut watch, &|live| !live.has_seen_all(tombstones.keys()))?;
            let loaded = View::load(self, &tombstones)?;
            self.count_before(&loaded);
            let deletable = live.deletable(tombstones.keys());
            if deletable.is_empty() {
                view = Some(loaded);
            } else {
                self.delete(loaded, &tombstones, &deletable)?;
                tombstones.retain(|id, _| !deletable.contains(id));
            }
        }
        let view = match view {
            Some(view) => view,
            None => View::load(self, &tombstones)?,
        };
        if self.report.before.packs == 0 {
            self.count_before(&view);
        }

        let marked = session::marked(&tombstones);
        // What the storage has locked for protected snapshots stays as it is.
        let protected = self.repository.protected_packs()?;
        let candidates = || {
            let packs = view.used.packs();
            packs.filter(|pack| !marked.contains(&pack.id) && !protected.contains(&pack.id))
        };
        let choice = plan::choose(candidates(), self.options.max_waste);
        // What was put since the oldest live session began may be its own and needed by a snapshot to come; marking it
        // would do no harm but make everybody else store it again.
        let put = |pack: &PackUse| view.packs.get(&pack.id).map(|listing| listing.modified);
        let youngest = choice
            .unused
            .iter()
            .chain(&choice.repack)
            .filter_map(put)
            .max();
        let live = self.settle(&mut watch, &|live| {
            youngest.is_some_and(|youngest| live.began_before(youngest))
        })?;
        let oldest = live.oldest();
        let settled = candidates()
            .filter(|pack| oldest.is_none_or(|oldest| put(pack).is_some_and(|put| put < oldest)));
        let choice = plan::choose(settled, self.options.max_waste);
        self.count_choice(&choice);
        // What is marked and not deleted in this run takes so much.
        let unneeded: HashMap<PackId, u64> = (view.used.packs())
            .filter(|pack| marked.contains(&pack.id) && pack.used_blocks == 0)
            .chain(&choice.unused)
            .chain(&choice.repack)
            .map(|pack| (pack.id, pack.size))
            .collect();
        let mut fresh = BTreeSet::new();
        if !choice.unused.is_empty() {
            let packs: Vec<ObjectId> = choice.unused.iter().map(|pack| pack.id).collect();
            let id = session::mark(self.repository, packs.clone())?;
            tombstones.insert(id, packs);
            fresh.insert(id);
        }
        for (id, packs) in self.repack(&view, &choice.repack)? {
            tombstones.insert(id, packs);
            fresh.insert(id);
        }
        // Before another one is loaded: each maps an index of its own.
        let View { mut stale, .. } = view;

        if !fresh.is_empty() {
            let live = self.settle(&mut watch, &|live| !live.has_seen_all(fresh.iter()))?;
            let deletable = live.deletable(fresh.iter());
            if !deletable.is_empty() {
                let view = View::load(self, &tombstones)?;
                stale.extend(&view.stale);
                self.delete(view, &tombstones, &deletable)?;
                tombstones.retain(|id, _| !deletable.contains(id));
            }
        }
        if !tombstones.is_empty() {
            for pack in session::marked(&tombstones) {
                if let Some(size) = unneeded.get(&pack) {
                    self.report.waiting.add(*size);
                }
            }
            self.report.waiting_for = watch.names(tombstones.keys())?;
        }
        self.merge_indexes(&stale)?;
        store.fill_reserve()?;
        session.end();
        Ok(())
    }
}
