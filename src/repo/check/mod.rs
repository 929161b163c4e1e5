//! The check: is everything there that the snapshots need, and is it what it was?
//!
//! Objects are read in the reverse of the order in which they are written (snapshots, index, packs), so a check
//! beside a living writer sees nothing unfinished that it could take for damage. What a prune removes or a forget is
//! another matter: where something is wrong and the repository has changed meanwhile, it is looked at again.

mod index;
mod packs;
mod passes;
mod problems;
mod records;
mod walk;

use super::config::{self, Config, Operation};
use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::ids::{PackId, SnapshotId};
use super::{RepoError, Repository, history, pack, snapshots};
use crate::store::Store;

pub(super) use self::packs::salvage;
pub use self::passes::CheckRecord;
pub(super) use self::passes::{PREFIX as PASSES, Passes};
use self::problems::Problems;
pub use self::problems::{Problem, ProblemKind};
pub(super) use self::records::verify_small;
pub use self::walk::Hurt;
use self::walk::Walk;

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CheckOptions {
    /// Which packs to read to the last byte: every block is decoded and its id computed anew.
    pub read_data: ReadData,
}

/// Which packs a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// None: what the index says of them is compared with their tables of contents.
    #[default]
    None,
    /// So many percent of their bytes: those that were not read for longest.
    Percent(f64),
    /// All.
    All,
}

/// What is being looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckPhase {
    /// Index objects; counted one by one.
    Index,
    /// Packs; counted in bytes, a few for one that is not read.
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
    /// Bytes of the packs that were read.
    pub read_bytes: u64,
    /// Bytes of packs that no check has read yet, with this one.
    pub never_read_bytes: u64,
    /// When that of all packs was read which was not read for longest, if all were.
    pub oldest_read: Option<jiff::Timestamp>,
    /// What snapshots lack.
    pub hurt: BTreeMap<SnapshotId, Hurt>,
    /// Differences, by name of the object. None: all is well.
    pub problems: Vec<Problem>,
    /// What is no damage but worth knowing: packs that nobody needs, objects that are not the repository's.
    pub notes: Vec<String>,
}

/// A repository that does not come to rest is not looked at for ever.
const LOOKS: u32 = 5;

impl Repository {
    /// Checks the repository. An error means that the check could not be done; damage is in the report.
    pub fn check(
        &self,
        options: CheckOptions,
        progress: &dyn Fn(CheckProgress),
    ) -> Result<CheckReport, RepoError> {
        self.config.require(Operation::Check)?;
        let passes = Passes::load(self)?;
        let mut sound = HashSet::new();
        let mut looks = 0;
        loop {
            let (report, changed) = self.look(options, &passes, &mut sound, progress)?;
            looks += 1;
            if report.problems.is_empty() || !changed || looks == LOOKS {
                return Ok(report);
            }
        }
    }

    /// Looks at everything once, but reads no packs again that were `sound` when they were read before, to which it
    /// adds. Returns as well whether what it looked at may have been changed by others meanwhile, if it found anything.
    fn look(
        &self,
        options: CheckOptions,
        passes: &Passes,
        sound: &mut HashSet<PackId>,
        progress: &dyn Fn(CheckProgress),
    ) -> Result<(CheckReport, bool), RepoError> {
        let store = &*self.store;
        let before = names(store)?;
        let mut problems = Problems::default();
        let mut report = CheckReport::default();

        let snapshots = records::check(self, &mut problems, &mut report.notes)?;
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
        if let Ok(config) = store.get(config::NAME)
            && let Ok(copy) = store.get(config::COPY)
            && config != copy
        {
            let detail = "is not what config is";
            problems.add(config::COPY, ProblemKind::Damaged, detail, Snapshots::new());
        }
        if !self.can_read() {
            let note = "this key cannot read: rows and lists were compared with their checksums, not opened";
            report.notes.push(note.into());
        }
        let index = index::check(self, &mut problems, &mut report, progress)?;
        let listed = list_packs(store)?;
        let percent = match options.read_data {
            ReadData::None => 0.0,
            ReadData::Percent(percent) => percent,
            ReadData::All => 100.0,
        };
        let mut chosen = passes.choose(&listed, percent);
        chosen.retain(|pack| !sound.contains(pack));
        let reading = packs::Reading { listed, chosen };
        let (packs, mut read) =
            packs::check(self, &index, &reading, &mut problems, &mut report, progress)?;
        let listed = reading.listed.iter().map(|(pack, _)| *pack);
        let read_before: Vec<PackId> = listed.filter(|pack| sound.contains(pack)).collect();
        sound.extend(&read.sound);
        read.sound.extend(read_before);
        remember(self, passes, &reading.listed, read, &mut report);

        let losses = history::History::load(self)?.losses();
        let mut walk = Walk::new(self, index, packs, options.read_data == ReadData::All)?;
        let total = snapshots.len() as u64;
        for (done, (id, snapshot)) in (0..).zip(&snapshots) {
            let phase = CheckPhase::Snapshots;
            progress(CheckProgress { phase, done, total });
            walk.snapshot(id, snapshot, losses.get(id), &mut problems)?;
        }
        report.snapshots = total;
        report.hurt = walk.finish(&mut problems);
        report.problems = problems.into_list();
        let changed = !report.problems.is_empty()
            && (before != names(store)? || reading.listed != list_packs(store)?);
        Ok((report, changed))
    }
}

/// The objects that say what there is.
fn names(store: &dyn Store) -> Result<BTreeSet<String>, RepoError> {
    let mut names = BTreeSet::new();
    for prefix in [history::PREFIX, snapshots::PREFIX, super::index::PREFIX] {
        names.extend(store.list(prefix)?.into_iter().map(|object| object.name));
    }
    Ok(names)
}

/// All packs, in order of id.
fn list_packs(store: &dyn Store) -> Result<Vec<(PackId, u64)>, RepoError> {
    let mut listed: Vec<(PackId, u64)> = pack::list(store)?.into_iter().collect();
    listed.sort_unstable();
    Ok(listed)
}

/// Remembers which packs were read, and says when the others were.
fn remember(
    repository: &Repository,
    passes: &Passes,
    listed: &[(PackId, u64)],
    read: packs::Read,
    report: &mut CheckReport,
) {
    let now: HashSet<PackId> = read.sound.iter().chain(&read.damaged).copied().collect();
    let mut oldest = Some(crate::clock::now());
    for (pack, size) in listed {
        if now.contains(pack) {
            report.read_bytes += size;
            continue;
        }
        match passes.last(pack) {
            Some(time) => oldest = oldest.map(|oldest| oldest.min(time)),
            None => {
                report.never_read_bytes += size;
                oldest = None;
            }
        }
    }
    report.oldest_read = oldest.filter(|_| !listed.is_empty());
    if now.is_empty() {
        return;
    }
    // Whoever may only read may check, too.
    if let Err(error) = passes.record(repository, listed, &read.sound, read.damaged) {
        report
            .notes
            .push(format!("what was read could not be recorded: {error}"));
    }
}

/// Blocks and packs that a set of snapshots lacks: ids as they are printed.
pub(super) type Snapshots = BTreeSet<SnapshotId>;

/// Name of a pack's object.
fn pack_name(pack: &PackId) -> String {
    pack::object_name(pack)
}
