//! Packs and the index: sound blocks of damaged packs are moved to new ones, and what the index says is made true.

use std::collections::{BTreeSet, HashSet};

use super::super::check::{self, Problem, ProblemKind};
use super::super::ids::PackId;
use super::super::index::{self, IndexSet};
use super::super::moved::MovedBlocks;
use super::super::pack::{self, FinishedPack};
use super::super::prune::PruneOptions;
use super::super::{RepoError, session};
use super::Run;

impl Run<'_> {
    /// Mends packs and index objects.
    pub(super) fn mend_packs(
        &mut self,
        problems: &[Problem],
        suspects: &[PackId],
    ) -> Result<(), RepoError> {
        let repository = self.repository;
        let store = &*repository.store;
        let mut damaged: BTreeSet<PackId> = suspects.iter().copied().collect();
        let mut bad_indexes = BTreeSet::new();
        let mut concerned = !suspects.is_empty();
        for problem in problems {
            if let Some(pack) = pack::parse_name(&problem.object) {
                concerned = true;
                if matches!(
                    problem.kind,
                    ProblemKind::Damaged | ProblemKind::Inconsistent
                ) {
                    damaged.insert(pack);
                }
            } else if let Some(id) = index::parse_name(&problem.object) {
                concerned = true;
                bad_indexes.insert(id);
            }
        }
        if !concerned {
            return Ok(());
        }
        let listed = pack::list(store)?;
        // Whoever begins to write now is not to rely on them.
        let mark = match damaged.is_empty() {
            true => None,
            false => Some(session::mark(
                repository,
                damaged.iter().copied().collect(),
            )?),
        };
        let mut new = MovedBlocks::new(repository, PruneOptions::default().pack_size);
        // Packs that are sound and indexed wrongly, or not at all; and those that go.
        let (mut reindex, mut doomed) = (Vec::new(), Vec::new());
        for pack in damaged {
            let Some(size) = listed.get(&pack).copied() else {
                continue;
            };
            let found = check::salvage(repository, pack, size)?;
            if found.sound {
                reindex.push(pack);
                continue;
            }
            let (mut saved, mut bytes) = (0, Vec::new());
            for entry in &found.blocks {
                store.get_range(
                    &pack::object_name(&pack),
                    entry.offset,
                    entry.length as usize,
                    &mut bytes,
                )?;
                new.append(pack, entry, &bytes)?;
                saved += 1;
            }
            self.say(format!(
                "{}: damaged; {saved} sound blocks of it were saved",
                pack::object_name(&pack)
            ));
            doomed.push(pack);
        }
        let mut finished = new.finish()?;

        let mut index = IndexSet::load(repository, None)?;
        index.files.retain(|id, _| !bad_indexes.contains(id));
        let indexed = index.packs();
        let gone: HashSet<PackId> = indexed
            .keys()
            .filter(|pack| !listed.contains_key(*pack))
            .copied()
            .collect();
        let unindexed = listed
            .keys()
            .filter(|pack| !indexed.contains_key(*pack) && !doomed.contains(*pack));
        reindex.extend(unindexed.copied());
        reindex.sort_unstable();
        reindex.dedup();
        for pack in &reindex {
            match FinishedPack::read(store, *pack, listed[pack]) {
                Ok(pack) => finished.extend(pack),
                // The next check has it among the damaged ones.
                Err(RepoError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let wrong: HashSet<PackId> = gone
            .iter()
            .chain(&doomed)
            .chain(&reindex)
            .copied()
            .collect();
        let mut put = HashSet::new();
        for packs in finished.chunks(PACKS_OF_AN_INDEX) {
            put.insert(index::put(repository, &index::build(packs))?.0);
        }
        index.files.retain(|id, _| !put.contains(id));
        put.extend(index::without(repository, &index, &wrong)?);
        for id in bad_indexes.iter().filter(|id| !put.contains(*id)) {
            store.remove(&index::object_name(id))?;
        }
        for id in &bad_indexes {
            self.say(format!(
                "{}: damaged; its packs are indexed anew",
                index::object_name(id)
            ));
        }
        for pack in &gone {
            self.say(format!(
                "{}: gone; taken out of the index",
                pack::object_name(pack)
            ));
        }
        if !reindex.is_empty() {
            self.say(format!(
                "{} packs were indexed by what they hold",
                reindex.len()
            ));
        }
        for pack in &doomed {
            store.remove(&pack::object_name(pack))?;
        }
        if let Some(mark) = mark {
            store.remove(&session::tombstone_name(&mark))?;
        }
        Ok(())
    }
}

/// Packs that are indexed together: what is in memory at a time.
const PACKS_OF_AN_INDEX: usize = 1000;
