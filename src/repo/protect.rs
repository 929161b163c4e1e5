//! Protection: snapshots that are not to be forgotten, by audit records that only ever grow in number.
//!
//! Of the records that name a snapshot the latest counts. Which is later is never a matter of clocks: a record names
//! those before it. Of records that were written at the same time, so that neither names the other, the one that
//! protects longer counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use jiff::Timestamp;

use super::config::Operation;
use super::history::{Event, History};
use super::ids::{HistoryId, ObjectId, PackId, SnapshotId};
use super::index::{self, IndexSet};
use super::{RepoError, Repository, config, outline, pack, snapshots};
use crate::rows::BlockId;

/// Folder of the keys of an encrypted repository.
const KEYS: &str = "keys/";

/// How long a snapshot is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Until then.
    Until(Timestamp),
    /// Until it is released.
    Forever,
}

impl Protection {
    fn of(until: Option<Timestamp>) -> Self {
        until.map_or(Self::Forever, Self::Until)
    }

    /// Whether it holds at that time.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        match self {
            Self::Until(until) => *until > now,
            Self::Forever => true,
        }
    }

    /// The later end first.
    fn longer(self, other: Self) -> Self {
        match (self, other) {
            (Self::Until(a), Self::Until(b)) => Self::Until(a.max(b)),
            _ => Self::Forever,
        }
    }
}

impl fmt::Display for Protection {
    /// `until 2032-01-01T00:00:00Z`, or `until it is released`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Until(until) => write!(f, "until {until}"),
            Self::Forever => f.write_str("until it is released"),
        }
    }
}

/// What came of protecting snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// The snapshots, with the databases of clusters among them.
    pub snapshots: Vec<SnapshotId>,
    /// Number of objects that the storage itself refuses to remove; none where it cannot do that, or no end was given.
    pub locked: Option<u64>,
}

impl History {
    /// The snapshots that were protected and not released. Those whose time has passed are among them.
    fn protections(&self) -> BTreeMap<SnapshotId, Protection> {
        let mut events: BTreeMap<SnapshotId, Vec<(HistoryId, Option<Protection>)>> =
            BTreeMap::new();
        for (id, record) in &self.records {
            let (snapshots, protection) = match &record.event {
                Event::Protected { snapshots, until } => (snapshots, Some(Protection::of(*until))),
                Event::Released { snapshots } => (snapshots, None),
                _ => continue,
            };
            for snapshot in snapshots {
                events.entry(*snapshot).or_default().push((*id, protection));
            }
        }
        let mut protections = BTreeMap::new();
        for (snapshot, events) in events {
            let before: HashSet<HistoryId> = match &events[..] {
                [_] => HashSet::new(),
                _ => self.before(events.iter().map(|(id, _)| *id)),
            };
            let last = events.into_iter().filter(|(id, _)| !before.contains(id));
            if let Some(protection) = last.filter_map(|(_, p)| p).reduce(Protection::longer) {
                protections.insert(snapshot, protection);
            }
        }
        protections
    }

    /// The snapshots that are protected at that time.
    pub fn protections_at(&self, now: Timestamp) -> BTreeMap<SnapshotId, Protection> {
        let mut protections = self.protections();
        protections.retain(|_, protection| protection.holds_at(now));
        protections
    }

    /// All records that are before any of these.
    fn before(&self, records: impl Iterator<Item = HistoryId>) -> HashSet<HistoryId> {
        let mut before = HashSet::new();
        let mut open: Vec<HistoryId> = records.collect();
        while let Some(id) = open.pop() {
            let previous = self.records.get(&id).map_or(&[][..], |r| &r.previous);
            open.extend(previous.iter().filter(|id| before.insert(**id)));
        }
        before
    }
}

impl Repository {
    /// The snapshots that a repair found to lack something, as far as the audit records can be read. What the next dump
    /// stored again is not lacking any more: a check tells.
    pub fn hurt(&self) -> Result<BTreeSet<SnapshotId>, RepoError> {
        Ok(History::load(self)?.losses().into_keys().collect())
    }

    /// The snapshots that are protected now, as far as the audit records can be read.
    pub fn protections(&self) -> Result<BTreeMap<SnapshotId, Protection>, RepoError> {
        Ok(History::load(self)?.protections_at(crate::clock::now()))
    }

    /// Has `forget` refuse these snapshots, and the databases of clusters among them, until that time, or until they are
    /// released. Replaces what was said of them before. A store that can lock objects locks all that they need, until
    /// that time; without one it is left alone, as some locks cannot be taken away.
    pub fn protect(
        &self,
        ids: &[SnapshotId],
        until: Option<Timestamp>,
    ) -> Result<Protected, RepoError> {
        self.config.require(Operation::Write)?;
        let inventory = self.inventory()?;
        let snapshots = inventory.with_members(ids)?;
        let event = Event::Protected {
            snapshots: snapshots.clone(),
            until,
        };
        let record = inventory.history.append(self, event)?;
        // Who forgot them meanwhile looked for protection before that, and again before it removes anything.
        let forgotten = History::load(self)?.forgotten();
        for id in &snapshots {
            let gone = || self.store.len(&snapshots::object_name(id));
            if forgotten.contains(id) && gone().is_err_and(|error| error.is_absent()) {
                return Err(RepoError::NoSnapshot {
                    wanted: id.to_string(),
                });
            }
        }
        let locked = match until {
            Some(until) => self.lock(&snapshots, until, record)?,
            None => None,
        };
        Ok(Protected { snapshots, locked })
    }

    /// Takes the protection of these snapshots, and of the databases of clusters among them, away. What the storage has
    /// locked stays locked. Returns them.
    pub fn release(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>, RepoError> {
        self.config.require(Operation::Write)?;
        let inventory = self.inventory()?;
        let snapshots = inventory.with_members(ids)?;
        let event = Event::Released {
            snapshots: snapshots.clone(),
        };
        inventory.history.append(self, event)?;
        Ok(snapshots)
    }

    /// Locks all objects that the snapshots need, where the store can do that; returns their number.
    fn lock(
        &self,
        ids: &[SnapshotId],
        until: Timestamp,
        record: String,
    ) -> Result<Option<u64>, RepoError> {
        let store = &*self.store;
        // The first object tells whether the store can do it.
        if !store.protect(config::NAME, until)? {
            return Ok(None);
        }
        let needed = self.needed_by(ids)?;
        let mut names: Vec<String> = store.list(KEYS)?.into_iter().map(|key| key.name).collect();
        names.extend(needed.packs.iter().map(pack::object_name));
        names.extend(needed.indexes.iter().map(index::object_name));
        names.extend(ids.iter().map(snapshots::object_name));
        names.push(record);
        for name in &names {
            store.protect(name, until)?;
        }
        Ok(Some(names.len() as u64 + 1))
    }

    /// The packs that hold blocks of protected snapshots, in whatever place. A store that locks objects refuses to
    /// remove them, so prune prefers them to other packs and leaves them whole.
    pub(super) fn protected_packs(&self) -> Result<BTreeSet<PackId>, RepoError> {
        let protected: Vec<SnapshotId> = self.protections()?.into_keys().collect();
        Ok(self.needed_by(&protected)?.packs)
    }

    /// The packs and index objects that hold blocks of these snapshots. Those that are gone need nothing.
    fn needed_by(&self, ids: &[SnapshotId]) -> Result<Needed, RepoError> {
        let mut needed = Needed::default();
        if ids.is_empty() {
            return Ok(needed);
        }
        let set = IndexSet::load(self, None)?;
        let reader = self.reader_with(set.clone())?;
        let mut seen = HashSet::new();
        let mut need = |block: &BlockId| {
            for (index, file) in &set.files {
                for record in file.find(*block) {
                    if let Some((pack, _)) = file.pack(record.pack as usize) {
                        needed.packs.insert(pack);
                        needed.indexes.insert(*index);
                    }
                }
            }
            Ok(())
        };
        for id in ids {
            let (stored, copy) = match snapshots::load_with_copy(self, id) {
                Ok(loaded) => loaded,
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error),
            };
            need(&copy)?;
            outline::visit(&reader, &stored.snapshot, &mut seen, &mut need)?;
        }
        Ok(needed)
    }
}

/// Objects that snapshots need.
#[derive(Debug, Default)]
struct Needed {
    packs: BTreeSet<PackId>,
    indexes: BTreeSet<ObjectId>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::history::HistoryRecord;
    use super::super::ids::Hex;
    use super::*;

    const S: SnapshotId = Hex([1; 32]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(event: Event, previous: &[u8], second: i64) -> HistoryRecord {
        HistoryRecord {
            time: at(second),
            host: String::new(),
            tool: String::new(),
            event,
            previous: previous.iter().map(|n| Hex([*n; 32])).collect(),
        }
    }

    fn protect(until: Option<i64>) -> Event {
        Event::Protected {
            snapshots: vec![S],
            until: until.map(at),
        }
    }

    fn release() -> Event {
        Event::Released { snapshots: vec![S] }
    }

    fn found(records: Vec<HistoryRecord>) -> Option<Protection> {
        let history = History {
            records: (1..).map(|n: u8| Hex([n; 32])).zip(records).collect(),
            ..History::default()
        };
        history.protections().get(&S).copied()
    }

    #[test]
    fn the_record_that_names_the_other_is_the_later_one_whatever_the_clocks_say() {
        let protected = || record(protect(Some(900)), &[], 500);
        assert_eq!(found(vec![protected()]), Some(Protection::Until(at(900))));
        assert_eq!(found(vec![protected(), record(release(), &[1], 100)]), None);
        // By way of a record of something else.
        let between = record(Event::Committed(vec![]), &[1], 0);
        assert_eq!(
            found(vec![protected(), between, record(release(), &[2], 100)]),
            None
        );
        // Protected anew, for less.
        let shorter = record(protect(Some(700)), &[1], 100);
        assert_eq!(
            found(vec![protected(), shorter]),
            Some(Protection::Until(at(700)))
        );
        assert_eq!(
            found(vec![
                protected(),
                record(release(), &[1], 600),
                record(protect(None), &[2], 1)
            ]),
            Some(Protection::Forever)
        );
    }

    #[test]
    fn of_records_written_at_the_same_time_the_longest_protection_counts() {
        let (one, two) = (
            record(protect(Some(900)), &[], 5),
            record(release(), &[], 6),
        );
        assert_eq!(
            found(vec![one.clone(), two]),
            Some(Protection::Until(at(900)))
        );
        let longer = record(protect(Some(950)), &[], 1);
        assert_eq!(
            found(vec![one.clone(), longer]),
            Some(Protection::Until(at(950)))
        );
        assert_eq!(
            found(vec![one, record(protect(None), &[], 1)]),
            Some(Protection::Forever)
        );
    }

    proptest! {
        /// As a walk back from every record would have it.
        #[test]
        fn whatever_the_history_the_records_that_no_later_one_names_count(
            events in prop::collection::vec((prop::option::weighted(0.7, 1i64..9), prop::collection::vec(0usize..8, 0..3)), 1..8)
        ) {
            let records: Vec<HistoryRecord> = events.iter().enumerate().map(|(n, (until, previous))| {
                let previous: Vec<u8> = previous.iter().filter(|p| **p < n).map(|p| *p as u8 + 1).collect();
                record(until.map_or_else(release, |until| protect(Some(until))), &previous, 0)
            }).collect();
            let mut superseded = vec![false; records.len()];
            for record in &records {
                let mut open: Vec<usize> = record.previous.iter().map(|id| usize::from(id.0[0]) - 1).collect();
                while let Some(n) = open.pop() {
                    superseded[n] = true;
                    open.extend(records[n].previous.iter().map(|id| usize::from(id.0[0]) - 1));
                }
            }
            let last = events.iter().zip(&superseded).filter(|(_, superseded)| !**superseded);
            let expected = last.filter_map(|((until, _), _)| *until).max();
            prop_assert_eq!(found(records), expected.map(|until| Protection::Until(at(until))));
        }
    }
}
