//! The check: is everything there that the snapshots need, and is it what it was?
//!
//! Objects are read in the reverse of the order in which they are written (snapshots, index, packs), so a check
//! beside a living writer sees nothing unfinished that it could take for damage.

mod index;
mod packs;
mod problems;
mod records;
mod walk;

use super::config::{self, Config, Operation};
use super::ids::SnapshotId;
use super::{RepoError, Repository, pack};

use self::problems::Problems;
pub use self::problems::{Problem, ProblemKind};
use self::walk::Walk;

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Read every byte, decode every block, compute every id anew.
    pub read_data: bool,
}

/// What is being looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckPhase {
    /// Index objects; counted one by one.
    Index,
    /// Packs; counted in bytes where they are read, else one by one.
    Packs,
    /// Snapshots; counted one by one.
    Snapshots,
}

/// How far the check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// What is being looked at.
    pub phase: CheckPhase,
    /// Done so far.
    pub done: u64,
    /// To do altogether.
    pub total: u64,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Snapshots checked.
    pub snapshots: u64,
    /// Index objects checked.
    pub indexes: u64,
    /// Packs checked.
    pub packs: u64,
    /// Blocks in those packs.
    pub blocks: u64,
    /// Bytes of all packs.
    pub bytes: u64,
    /// Whether every byte was read.
    pub read_data: bool,
    /// Differences, by name of the object. None: all is well.
    pub problems: Vec<Problem>,
    /// What is no damage but worth knowing: packs that nobody needs, objects that are not the repository's.
    pub notes: Vec<String>,
}

impl Repository {
    /// Checks the repository. An error means that the check could not be done; damage is in the report.
    pub fn check(
        &self,
        options: CheckOptions,
        progress: &dyn Fn(CheckProgress),
    ) -> Result<CheckReport, RepoError> {
        self.config.require(Operation::Check)?;
        let store = &*self.store;
        let mut problems = Problems::default();
        let mut report = CheckReport {
            read_data: options.read_data,
            ..CheckReport::default()
        };

        let snapshots = records::check(store, &mut problems, &mut report.notes)?;
        if let Err(error) = Config::load(store) {
            // Readable when it was opened, and not now.
            let snapshots = snapshots.iter().map(|(id, _)| *id).collect();
            problems.add(
                config::NAME,
                ProblemKind::Damaged,
                error.to_string(),
                snapshots,
            );
        }
        let index = index::check(store, &mut problems, &mut report, progress)?;
        let packs = packs::check(self, &index, options, &mut problems, &mut report, progress)?;

        let mut walk = Walk::new(self, index, packs, options.read_data)?;
        let total = snapshots.len() as u64;
        for (done, (id, snapshot)) in (0..).zip(&snapshots) {
            let phase = CheckPhase::Snapshots;
            progress(CheckProgress { phase, done, total });
            walk.snapshot(id, snapshot, &mut problems)?;
        }
        report.snapshots = total;
        walk.finish(&mut problems);
        report.problems = problems.into_list();
        Ok(report)
    }
}

/// Blocks and packs that a set of snapshots lacks: ids as they are printed.
pub(super) type Snapshots = std::collections::BTreeSet<SnapshotId>;

/// Name of a pack's object.
fn pack_name(pack: &super::PackId) -> String {
    pack::object_name(pack)
}
