//! Snapshots, audit records, and the small objects that may simply go.

use std::collections::{BTreeMap, BTreeSet};

use super::super::block::{BlockHeader, HEADER_LEN};
use super::super::check::{self, Hurt, Problem};
use super::super::history::{self, Event, History, Loss};
use super::super::ids::{Hex, HistoryId, ObjectId, SnapshotId};
use super::super::index::IndexSet;
use super::super::model::{Root, TableRecord};
use super::super::outline::Tree;
use super::super::{PackGroup, RepoError, Repository, lists, pack, runs, session, snapshots};
use super::Run;
use crate::rows::{Decoder, Effort, Format};
use crate::store::Listed;

/// The record of a snapshot is far smaller.
const LARGEST_COPY: u32 = 16 << 20;

/// Blocks that are recorded one by one.
const RECORDED: usize = 10_000;

impl Run<'_> {
    /// Mends everything that is neither a pack nor an index object.
    pub(super) fn mend_records(&mut self, problems: &[Problem]) -> Result<(), RepoError> {
        let store = &*self.repository.store;
        let mut snapshots = BTreeSet::new();
        let mut records: BTreeSet<HistoryId> = BTreeSet::new();
        let mut history_hurt = false;
        for problem in problems {
            if let Some(id) = snapshots::parse_name(&problem.object) {
                if matches!(
                    problem.kind,
                    check::ProblemKind::Damaged | check::ProblemKind::Missing
                ) {
                    snapshots.insert(id);
                }
            } else if let Some(rest) = problem.object.strip_prefix(history::PREFIX) {
                history_hurt = true;
                records.extend(rest.parse::<HistoryId>().ok());
            }
        }
        if !snapshots.is_empty() {
            self.mend_snapshots(snapshots)?;
        }
        if history_hurt {
            for id in &records {
                store.remove(&history::object_name(id))?;
            }
            // What is there was committed: what was not would have been removed.
            let there = self
                .repository
                .snapshots()?
                .list
                .into_iter()
                .map(|(id, _)| id);
            let lost: Vec<HistoryId> = records.into_iter().collect();
            let number = lost.len();
            let history = History::load(self.repository)?;
            history.append(self.repository, Event::RecordsLost(lost))?;
            let history = History::load(self.repository)?;
            let forgotten = history.forgotten();
            let kept = history.kept();
            let there: Vec<SnapshotId> = there
                .filter(|id| !kept.contains(id) && !forgotten.contains(id))
                .collect();
            if !there.is_empty() {
                history.append(self.repository, Event::Committed(there))?;
            }
            self.say(format!(
                "history: {number} audit records were lost; a new one names the snapshots that are there"
            ));
        }
        for prefix in [
            session::PREFIX,
            session::TOMBSTONES,
            check::PASSES,
            runs::PREFIX,
        ] {
            if problems
                .iter()
                .any(|problem| problem.object.starts_with(prefix))
            {
                self.drop_damaged(prefix)?;
            }
        }
        Ok(())
    }

    /// Removes damaged objects of a kind that may be missing.
    pub(super) fn drop_damaged(&mut self, prefix: &str) -> Result<(), RepoError> {
        let store = &*self.repository.store;
        for Listed { name, .. } in store.list(prefix)? {
            let Some(bytes) = store.get_if_there(&name)? else {
                continue;
            };
            if check::verify_small(self.repository, &name, &bytes).is_err() {
                store.remove(&name)?;
                self.say(format!(
                    "{name}: damaged; removed, as nothing depends on it"
                ));
            }
        }
        Ok(())
    }

    /// Puts snapshots back from the copies of their records in packs; those without are lost.
    fn mend_snapshots(&mut self, wanted: BTreeSet<SnapshotId>) -> Result<(), RepoError> {
        let store = &*self.repository.store;
        let copies = find_copies(self.repository, &wanted)?;
        let mut lost = Vec::new();
        for id in wanted {
            let name = snapshots::object_name(&id);
            match copies.get(&id) {
                Some(bytes) => {
                    store.put(&name, bytes)?;
                    self.say(format!("{name}: put back from its copy in a pack"));
                }
                None => lost.push(id),
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        History::load(self.repository)?.append(self.repository, Event::Lost(lost.clone()))?;
        for id in lost {
            let name = snapshots::object_name(&id);
            store.remove(&name)?;
            self.say(format!("{name}: lost, and no copy of it is left"));
            self.report.lost.push(id);
        }
        Ok(())
    }

    /// Stores outlines again that are lost, and whose trees are not.
    pub(super) fn mend_outlines(
        &mut self,
        hurt: &BTreeMap<SnapshotId, Hurt>,
    ) -> Result<(), RepoError> {
        let repository = self.repository;
        let reader = repository.reader()?;
        for id in hurt.keys() {
            let snapshot = match snapshots::load(repository, id) {
                Ok(stored) => stored.snapshot,
                Err(_) => continue,
            };
            let Ok(root) = lists::read_value::<Root>(&reader, &snapshot.root) else {
                continue;
            };
            let Ok(tables) = lists::read_list::<TableRecord>(&reader, &root.tables) else {
                continue;
            };
            let writer = repository.writer(Effort::Fast)?;
            let tree = Tree::store(&writer, &root, &tables)?;
            let new = writer.stats().new_blocks;
            writer.abort()?;
            if new > 0 && Some(tree.outline) == snapshot.outline {
                self.say(format!(
                    "{}: its outline was stored again",
                    snapshots::object_name(id)
                ));
            }
        }
        Ok(())
    }

    /// Stores copies of snapshots' records that are in no pack.
    pub(super) fn mend_copies(&mut self) -> Result<(), RepoError> {
        let repository = self.repository;
        let store = &*repository.store;
        let mut missing = Vec::new();
        let index = IndexSet::load(repository, None)?;
        for id in snapshots::list(store)? {
            if let Ok((_, copy)) = snapshots::load_with_copy(repository, &id)
                && index.find(copy).next().is_none()
            {
                missing.push(snapshots::object_name(&id));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let writer = repository.writer(Effort::Fast)?;
        for name in &missing {
            writer.put_other(&PackGroup::Outline, &store.get(name)?)?;
        }
        writer.abort()?;
        for name in missing {
            self.say(format!("{name}: a copy of it was stored"));
        }
        Ok(())
    }

    /// Records what snapshots lack, where that is not known yet.
    pub(super) fn record_losses(
        &mut self,
        hurt: &BTreeMap<SnapshotId, Hurt>,
    ) -> Result<(), RepoError> {
        for (id, hurt) in hurt.iter().filter(|(_, hurt)| !hurt.known) {
            // What is wrong in another way has to be mended first.
            if hurt.missing.is_empty() && !hurt.more {
                continue;
            }
            let blocks = hurt
                .missing
                .iter()
                .take(RECORDED)
                .map(|block| Hex(block.0))
                .collect();
            let loss = Loss {
                snapshot: *id,
                blocks,
                more: hurt.more || hurt.missing.len() > RECORDED,
            };
            let history = History::load(self.repository)?;
            if history
                .losses()
                .get(id)
                .is_some_and(|known| known.cover(&loss))
            {
                continue;
            }
            history.append(self.repository, Event::Hurt(loss))?;
            self.say(format!(
                "{}: what it lacks was recorded",
                snapshots::object_name(id)
            ));
        }
        Ok(())
    }
}

/// The copies of these snapshots' records that lie in packs: blocks that are no rows, whose payload has the hash.
fn find_copies(
    repository: &Repository,
    wanted: &BTreeSet<SnapshotId>,
) -> Result<BTreeMap<SnapshotId, Vec<u8>>, RepoError> {
    let store = &*repository.store;
    let reader = repository.reader()?;
    let (mut decoder, mut scratch, mut payload) = (Decoder::new(), Vec::new(), Vec::new());
    let mut found = BTreeMap::new();
    for (id, size) in pack::list(store)? {
        let Ok(toc) = pack::read_toc(store, &id, size) else {
            continue;
        };
        let name = pack::object_name(&id);
        // Rows and other blocks do not share packs.
        let Some(first) = toc.first() else { continue };
        store.get_range(&name, first.offset, HEADER_LEN, &mut scratch)?;
        if !BlockHeader::parse(&scratch).is_ok_and(|header| header.format == Format::Other) {
            continue;
        }
        for entry in toc.iter().filter(|entry| entry.raw_len <= LARGEST_COPY) {
            let location = entry.location(id);
            if reader
                .read_at(
                    &entry.id,
                    &location,
                    &mut decoder,
                    &mut scratch,
                    &mut payload,
                )
                .is_err()
            {
                continue;
            }
            let snapshot = ObjectId::of(&payload);
            if wanted.contains(&snapshot) && repository.is_snapshot(&snapshot, &payload) {
                found.insert(snapshot, payload.clone());
            }
        }
    }
    Ok(found)
}
