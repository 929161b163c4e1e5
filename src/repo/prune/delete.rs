//! Deleting marked packs, and putting index objects together.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::super::ids::{ObjectId, PackId};
use super::super::index::{self, IndexFile, IndexSet};
use super::super::session::{self, Tombstones};
use super::super::{RepoError, pack, parallel};
use super::view::View;
use super::{PrunePhase, PruneProgress, Run};

/// Packs that are deleted between two looks for the own session, each by a thread.
const DELETED_AT_ONCE: usize = 8;
/// More small index objects than that are put together.
const SMALL_INDEXES: usize = 8;
/// An index object with fewer records is small.
const SMALL_INDEX: usize = 100_000;

impl Run<'_> {
    /// Deletes what is marked by these tombstones, but for what snapshots need after all, and then the tombstones.
    /// Packs leave the index before they leave the storage.
    pub(super) fn delete(
        &mut self,
        view: View,
        tombstones: &Tombstones,
        deletable: &BTreeSet<ObjectId>,
    ) -> Result<(), RepoError> {
        let store = &self.repository.store;
        let marked: HashSet<PackId> = tombstones
            .iter()
            .filter(|(id, _)| deletable.contains(id))
            .flat_map(|(_, packs)| packs.iter().copied())
            .collect();
        let needed: HashSet<PackId> = view
            .used
            .packs()
            .filter(|pack| pack.used_blocks > 0)
            .map(|pack| pack.id)
            .collect();
        let mut doomed: Vec<(PackId, u64)> = view
            .packs
            .iter()
            .filter(|(id, _)| marked.contains(id) && !needed.contains(id))
            .map(|(id, listing)| (*id, listing.len))
            .collect();
        doomed.sort_unstable();
        let mut gone: HashSet<PackId> = doomed.iter().map(|(id, _)| *id).collect();
        gone.extend(&view.stale);
        let rewritten = match self.rewrite_index(&view.index, &gone) {
            Err(error) if error.is_full() => false,
            result => result.map(|()| true)?,
        };
        let total = doomed.len() as u64;
        for (done, chunk) in (0..).zip(doomed.chunks(DELETED_AT_ONCE)) {
            let phase = PrunePhase::Delete;
            let done = done * DELETED_AT_ONCE as u64;
            (self.progress)(PruneProgress { phase, done, total });
            self.require_session()?;
            // Each is a request, and the storage may be far.
            parallel::map(DELETED_AT_ONCE, chunk, |_, (id, _)| {
                Ok(store.remove(&pack::object_name(id))?)
            })?;
            chunk
                .iter()
                .for_each(|(_, len)| self.report.deleted.add(*len));
        }
        if !rewritten {
            // On a full disk the other way round: an index that names packs which are gone misleads nobody, as
            // writers look which packs there are.
            self.rewrite_index(&view.index, &gone)?;
        }
        for id in deletable {
            store.remove(&session::tombstone_name(id))?;
        }
        Ok(())
    }

    /// What was looked at counts as long as the session is there. Others who take it for dead, as after a machine was
    /// stopped and went on, may delete what this prune relies on.
    fn require_session(&self) -> Result<(), RepoError> {
        match self.session {
            Some(id) if !session::exists(&*self.repository.store, &id)? => {
                Err(RepoError::PruneLost)
            }
            _ => Ok(()),
        }
    }

    /// Takes these packs out of all index objects.
    fn rewrite_index(&mut self, index: &IndexSet, gone: &HashSet<PackId>) -> Result<(), RepoError> {
        let new = index::without(self.repository, index, gone)?;
        self.report.indexes += new.len() as u64;
        Ok(())
    }

    /// Puts small index objects together where they are many, and takes these packs out of all.
    pub(super) fn merge_indexes(&mut self, gone: &HashSet<PackId>) -> Result<(), RepoError> {
        if !gone.is_empty() {
            let index = IndexSet::load(self.repository, None)?;
            self.rewrite_index(&index, gone)?;
        }
        let index = IndexSet::load(self.repository, None)?;
        let small: Vec<(ObjectId, Arc<IndexFile>)> = (index.files.into_iter())
            .filter(|(_, file)| file.record_count() < SMALL_INDEX)
            .collect();
        if small.len() > SMALL_INDEXES {
            let new = index::replace(self.repository, &small, &|_| true)?;
            self.report.indexes += new.len() as u64;
        }
        Ok(())
    }
}
