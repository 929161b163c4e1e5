//! Forgetting snapshots: recorded first, then removed. What they needed and nothing else does is for prune.
//!
//! Whoever decides what goes must see all that is there, so nothing is forgotten in a repository that may show less:
//! with a snapshot or an audit record that cannot be read, or one that is gone though nobody forgot it.

use std::collections::{BTreeMap, BTreeSet};

use super::config::Operation;
use super::history::{Event, History};
use super::ids::SnapshotId;
use super::model::Snapshot;
use super::protect::Protection;
use super::{RepoError, Repository, session, snapshots};

/// All snapshots of a repository and what the audit records say of them, which agree with each other.
#[derive(Debug)]
pub struct Inventory {
    /// The snapshots, the oldest first, without those that are on their way out.
    pub list: Vec<(SnapshotId, Snapshot)>,
    /// Those that are protected now.
    pub protections: BTreeMap<SnapshotId, Protection>,
    /// Those that a repair found to lack blocks.
    pub hurt: BTreeSet<SnapshotId>,
    pub(super) history: History,
}

impl Inventory {
    fn get(&self, id: &SnapshotId) -> Result<&Snapshot, RepoError> {
        let found = self.list.iter().find(|(found, _)| found == id);
        let (_, snapshot) = found.ok_or_else(|| RepoError::NoSnapshot {
            wanted: id.to_string(),
        })?;
        Ok(snapshot)
    }

    /// These snapshots, each once, with the databases of clusters among them. Clusters come before their databases.
    pub fn with_members(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>, RepoError> {
        let there: BTreeSet<SnapshotId> = self.list.iter().map(|(id, _)| *id).collect();
        let (mut all, mut rest) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for id in ids {
            match self.get(id)?.databases() {
                None => rest.push(*id),
                Some(members) => {
                    if seen.insert(*id) {
                        all.push(*id);
                    }
                    let members = members.iter().map(|member| member.snapshot);
                    rest.extend(members.filter(|id| there.contains(id)));
                }
            }
        }
        all.extend(rest.into_iter().filter(|id| seen.insert(*id)));
        Ok(all)
    }

    /// The cluster's snapshot that names this one, if there is one.
    fn cluster_of(&self, id: &SnapshotId) -> Option<SnapshotId> {
        let names = |snapshot: &Snapshot| {
            let members = snapshot.databases().unwrap_or_default();
            members.iter().any(|member| member.snapshot == *id)
        };
        let found = self.list.iter().find(|(_, snapshot)| names(snapshot))?;
        Some(found.0)
    }

    /// All that would go with these snapshots: they, and the databases of clusters among them. An error if one of them is
    /// protected, or belongs to a cluster's snapshot that stays.
    pub fn forgettable(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>, RepoError> {
        let ids = self.with_members(ids)?;
        for id in &ids {
            if let Some(protection) = self.protections.get(id) {
                return Err(RepoError::ProtectedSnapshot {
                    snapshot: *id,
                    until: *protection,
                });
            }
            if let Some(cluster) = self.cluster_of(id).filter(|c| !ids.contains(c)) {
                return Err(RepoError::ClusterStays {
                    snapshot: *id,
                    cluster,
                });
            }
        }
        Ok(ids)
    }
}

impl Repository {
    /// All snapshots, with what the audit records say of them. An error if they do not agree.
    pub fn inventory(&self) -> Result<Inventory, RepoError> {
        let store = &*self.store;
        let mut history = History::load(self)?;
        if history.damage().is_some() {
            // A record may have been written while they were listed.
            history = History::load(self)?;
        }
        if let Some(damage) = history.damage() {
            return Err(damage.beyond_sight());
        }
        let forgotten = history.forgotten();
        let mut there = BTreeSet::new();
        let mut list = Vec::new();
        let mut sessions = Vec::new();
        let committed = history.committed();
        for id in snapshots::list(store)? {
            there.insert(id);
            if forgotten.contains(&id) {
                continue;
            }
            match snapshots::load(self, &id) {
                Ok(stored) => {
                    if !committed.contains(&id) {
                        sessions.push((id, stored.session));
                    }
                    list.push((id, stored.snapshot));
                }
                // Forgotten since the listing.
                Err(error) if error.is_absent() => drop(there.remove(&id)),
                Err(error) => return Err(error.beyond_sight()),
            }
        }
        list.sort_by_key(|(id, snapshot)| (snapshot.time, snapshot.finished, *id));
        // A writer records its snapshot, then ends its session: first the session, then the records once more.
        let mut unrecorded = Vec::new();
        for (id, session) in sessions {
            if !session::exists(store, &session)? {
                unrecorded.push(id);
            }
        }
        let gone = |history: &History| -> Option<SnapshotId> {
            history.kept().into_iter().find(|id| !there.contains(id))
        };
        if !unrecorded.is_empty() || gone(&history).is_some() {
            let now = History::load(self)?;
            let committed = now.committed();
            if let Some(id) = unrecorded.iter().find(|id| !committed.contains(id)) {
                let object = snapshots::object_name(id);
                let error = RepoError::damaged(object, "the audit record of its commit is gone");
                return Err(error.beyond_sight());
            }
            // What was committed or forgotten meanwhile.
            let kept = now.kept();
            let gone = history.kept().into_iter().filter(|id| !there.contains(id));
            if let Some(id) = gone.into_iter().find(|id| kept.contains(id)) {
                let object = snapshots::object_name(&id);
                let error = RepoError::damaged(object, "is gone, though it was never forgotten");
                return Err(error.beyond_sight());
            }
        }
        Ok(Inventory {
            list,
            protections: history.protections_at(crate::clock::now()),
            hurt: history.losses().into_keys().collect(),
            history,
        })
    }

    /// Removes snapshots, with the databases of clusters among them, unless one of them is protected or belongs to a
    /// cluster's snapshot that stays. Removes as well what an interrupted run left. Returns all that were removed.
    pub fn forget(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>, RepoError> {
        self.config.require(Operation::Delete)?;
        let inventory = self.inventory()?;
        let ids = inventory.forgettable(ids)?;
        if !ids.is_empty() {
            let event = Event::Forgotten(ids);
            self.with_reserve(|| inventory.history.append(self, event.clone()))?;
        }
        self.finish_forgetting()
    }

    /// Removes the snapshots that are recorded as forgotten and are still there, as a run that was interrupted leaves
    /// them. One that was protected at the same time stays. Returns those that were removed.
    pub fn finish_forgetting(&self) -> Result<Vec<SnapshotId>, RepoError> {
        self.config.require(Operation::Delete)?;
        let store = &*self.store;
        let history = History::load(self)?;
        if let Some(damage) = history.damage() {
            return Err(damage.beyond_sight());
        }
        let protections = history.protections_at(crate::clock::now());
        let forgotten = history.forgotten();
        let mut removed = snapshots::list(store)?;
        removed.retain(|id| forgotten.contains(id) && !protections.contains_key(id));
        // In the order of the record, in which clusters come before their databases.
        let order = history.records.values().filter_map(|r| match &r.event {
            Event::Forgotten(snapshots) => Some(snapshots),
            _ => None,
        });
        let order: BTreeMap<SnapshotId, usize> = order.flatten().copied().zip(0..).collect();
        removed.sort_by_key(|id| order.get(id).copied());
        for id in &removed {
            store.remove(&snapshots::object_name(id))?;
        }
        Ok(removed)
    }
}
