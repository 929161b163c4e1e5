//! Repair: what a check finds is mended as far as bytes allow, and what is lost is recorded, so that the next check is
//! clean and says what is missing, and the next dump stores again what the database still has.
//!
//! Nothing is removed before what can be saved of it is durable elsewhere. Nobody may write meanwhile.

mod packs;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::check::{CheckOptions, CheckProgress, Hurt, Passes, Problem, ReadData};
use super::config::{self, Config, Operation};
use super::ids::{PackId, SnapshotId};
use super::prune::{PruneOptions, Watch};
use super::session::{self, Session};
use super::{RepoError, Repository};
use crate::store::Store;

/// How to repair; the default is right but for tests.
#[derive(Debug, Clone, Copy)]
pub struct RepairOptions {
    /// Read every byte first, and not only what a check found damaged before or what shows without.
    pub read_data: bool,
    /// A session that gives no sign of life for so long is taken for dead.
    pub patience: Duration,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            read_data: false,
            patience: PruneOptions::default().patience,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct RepairReport {
    /// What was found, before anything was done.
    pub found: Vec<Problem>,
    /// What was done, a line each.
    pub done: Vec<String>,
    /// What each hurt snapshot lacks now.
    pub hurt: BTreeMap<SnapshotId, Hurt>,
    /// Snapshots of which nothing is left.
    pub lost: Vec<SnapshotId>,
    /// What could not be mended.
    pub left: Vec<Problem>,
}

/// A repair shows only what the one before it uncovered, and each uncovers less.
const ROUNDS: u32 = 6;

/// What the parts of a run share.
struct Run<'a> {
    repository: &'a Repository,
    report: RepairReport,
}

impl Repository {
    /// Puts back a lost or damaged `config` from its copy. Whether there was something to put back.
    pub fn restore_config(store: &Arc<dyn Store>) -> Result<bool, RepoError> {
        match Config::load(&**store) {
            Ok(_) => return Ok(false),
            Err(RepoError::Damaged { .. }) => {}
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
        match Config::load_copy(&**store) {
            Ok(bytes) => {
                store.put(config::NAME, &bytes)?;
                Ok(true)
            }
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Mends what a check finds.
    pub fn repair(
        &self,
        options: RepairOptions,
        progress: &dyn Fn(CheckProgress),
    ) -> Result<RepairReport, RepoError> {
        self.config.require(Operation::Delete)?;
        let mut run = Run {
            repository: self,
            report: RepairReport::default(),
        };
        // A tombstone is no more than a mark, and one that cannot be read keeps everybody from registering.
        run.drop_damaged(session::TOMBSTONES)?;
        let (session, _) = Session::register(self, PruneOptions::default().heartbeat)?;
        let mut watch = Watch::new(self, session.id);
        let live = watch.settle(options.patience, &|_| true, &|_| ())?;
        let sessions = live.names();
        if !sessions.is_empty() {
            return Err(RepoError::Busy { sessions });
        }
        run.config_copy()?;
        let mut suspects: Vec<PackId> = Passes::load(self)?.damaged().into_iter().collect();
        run.mend_copies()?;
        for round in 0..ROUNDS {
            let read_data = match round == 0 && options.read_data {
                true => ReadData::All,
                false => ReadData::None,
            };
            let check = self.check(CheckOptions { read_data }, progress)?;
            if round == 0 {
                run.report.found = check.problems.clone();
            }
            let mended = run.mend(&check.problems, &check.hurt, &suspects)?;
            suspects.clear();
            run.report.hurt = check.hurt;
            run.report.left = check.problems;
            if !mended {
                break;
            }
        }
        session.end();
        Ok(run.report)
    }
}

impl Run<'_> {
    /// Does what can be done about these problems; whether that was anything.
    fn mend(
        &mut self,
        problems: &[Problem],
        hurt: &BTreeMap<SnapshotId, Hurt>,
        suspects: &[PackId],
    ) -> Result<bool, RepoError> {
        let before = self.report.done.len();
        self.mend_packs(problems, suspects)?;
        self.mend_records(problems)?;
        self.mend_outlines(hurt)?;
        self.record_losses(hurt)?;
        Ok(self.report.done.len() > before)
    }

    fn say(&mut self, what: impl Into<String>) {
        self.report.done.push(what.into());
    }

    /// The copy of `config`, where there is none or another.
    fn config_copy(&mut self) -> Result<(), RepoError> {
        let store = &*self.repository.store;
        let bytes = store.get(config::NAME)?;
        if !store.get(config::COPY).is_ok_and(|copy| copy == bytes) {
            store.put(config::COPY, &bytes)?;
            self.say(format!("{}: written", config::COPY));
        }
        Ok(())
    }
}
