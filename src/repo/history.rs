//! Audit records: which snapshots were ever committed, so that one that is gone is missed.
//!
//! A record names the records before it that no other named, so a removed record is missed by the next. The last
//! one is missed by its snapshot: that names its session, and a snapshot without a record whose session has ended
//! has lost its record. A writer that died between snapshot and record leaves its session, and the next writer
//! makes good for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::{Hex, HistoryId, ObjectId, SnapshotId};
use super::seal::Keyring;
use super::{RepoError, Repository, parallel, record, session, snapshots};
use crate::rows::BlockId;
use crate::store::{Buffer, StoreError};

/// Folder of all records.
pub(super) const PREFIX: &str = "history/";
const KIND: &str = "history";

/// Fewer records are read one after the other ...
const FEW: usize = 50;
/// ... and more by so many threads.
const JOBS: usize = 16;

/// An audit record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// When it was written.
    pub time: jiff::Timestamp,
    /// Host it was written on.
    pub host: String,
    /// Version of pgtide.
    pub tool: String,
    /// What happened.
    pub event: Event,
    /// The records before it that no other record names.
    pub previous: Vec<HistoryId>,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Snapshots were committed.
    Committed(Vec<SnapshotId>),
    /// Snapshots are to be removed; written before they are.
    Forgotten(Vec<SnapshotId>),
    /// Snapshots that lack blocks and of which nobody said that they were committed are to be removed; written before
    /// they are.
    Abandoned(Vec<SnapshotId>),
    /// A repair found that a snapshot lacks blocks.
    Hurt(Loss),
    /// Snapshots are lost: a repair found it so, or their writer did, before it said that they were committed.
    Lost(Vec<SnapshotId>),
    /// A repair found that records are lost.
    RecordsLost(Vec<HistoryId>),
    /// Snapshots are not to be removed, whatever was said of them before.
    Protected {
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
        /// Until then; without it until they are released.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<jiff::Timestamp>,
    },
    /// Snapshots are not protected any more.
    Released {
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
    },
}

/// What a snapshot lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Blocks that are lost.
    pub blocks: Vec<Hex<32>>,
    /// Whether more are lost than are listed.
    pub more: bool,
}

/// What all repairs found a snapshot to lack.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    blocks: BTreeSet<Hex<32>>,
    pub more: bool,
}

impl Losses {
    /// Whether all of that is known.
    pub fn cover(&self, loss: &Loss) -> bool {
        self.more || !loss.more && loss.blocks.iter().all(|block| self.blocks.contains(block))
    }

    /// Whether it is known that the block is lost.
    pub fn covers(&self, block: &BlockId) -> bool {
        self.more || self.blocks.contains(&Hex(block.0))
    }
}

/// All records that can be read, and the names of those that cannot.
#[derive(Debug, Default)]
pub(super) struct History {
    pub records: BTreeMap<HistoryId, HistoryRecord>,
    pub damaged: BTreeMap<HistoryId, String>,
}

impl History {
    pub fn load(repository: &Repository) -> Result<Self, RepoError> {
        Self::load_by(repository, |name| repository.store.map(name))
    }

    /// As [`load`](Self::load), and never from copies that this machine kept.
    pub fn load_stored(repository: &Repository) -> Result<Self, RepoError> {
        Self::load_by(repository, |name| repository.store.map_stored(name))
    }

    fn load_by(
        repository: &Repository,
        get: impl Fn(&str) -> Result<Buffer, StoreError> + Sync,
    ) -> Result<Self, RepoError> {
        let listed = repository.store.list(PREFIX)?.into_iter();
        let names: Vec<(HistoryId, String)> = listed
            .filter_map(|object| Some((parse_name(&object.name)?, object.name)))
            .collect();
        // Years of nights are thousands of objects, and the storage may be far.
        let jobs = if names.len() < FEW { 1 } else { JOBS };
        let records = parallel::map(jobs, &names, |_, (id, name)| {
            Ok(decode(&repository.keys, id, &get(name)?))
        })?;
        let mut history = Self::default();
        for ((id, _), record) in names.into_iter().zip(records) {
            match record {
                Ok(record) => drop(history.records.insert(id, record)),
                Err(detail) => drop(history.damaged.insert(id, detail)),
            }
        }
        Ok(history)
    }

    /// All records, in order of time.
    fn in_order(self) -> Vec<(HistoryId, HistoryRecord)> {
        let mut records: Vec<_> = self.records.into_iter().collect();
        records.sort_by_key(|(id, record)| (record.time, *id));
        records
    }

    /// Snapshots that were committed.
    pub fn committed(&self) -> BTreeSet<SnapshotId> {
        self.events(|event| match event {
            Event::Committed(snapshots) => Some(snapshots),
            _ => None,
        })
    }

    /// Snapshots that were to be removed.
    pub fn forgotten(&self) -> BTreeSet<SnapshotId> {
        self.events(|event| match event {
            Event::Forgotten(snapshots) => Some(snapshots),
            _ => None,
        })
    }

    /// Snapshots that were given up, unless they were committed before.
    pub fn abandoned(&self) -> BTreeSet<SnapshotId> {
        self.events(|event| match event {
            Event::Abandoned(snapshots) => Some(snapshots),
            _ => None,
        })
    }

    fn events(&self, of: fn(&Event) -> Option<&Vec<SnapshotId>>) -> BTreeSet<SnapshotId> {
        let snapshots = self.records.values().filter_map(|record| of(&record.event));
        snapshots.flatten().copied().collect()
    }

    /// Snapshots that were committed and not forgotten.
    pub fn kept(&self) -> BTreeSet<SnapshotId> {
        let mut kept = self.committed();
        let mut gone = self.forgotten();
        gone.extend(self.events(|event| match event {
            Event::Lost(snapshots) => Some(snapshots),
            _ => None,
        }));
        kept.retain(|id| !gone.contains(id));
        kept
    }

    /// What repairs found that snapshots lack.
    pub fn losses(&self) -> BTreeMap<SnapshotId, Losses> {
        let mut all: BTreeMap<SnapshotId, Losses> = BTreeMap::new();
        for record in self.records.values() {
            if let Event::Hurt(loss) = &record.event {
                let losses = all.entry(loss.snapshot).or_default();
                losses.blocks.extend(&loss.blocks);
                losses.more |= loss.more;
            }
        }
        all
    }

    /// What is wrong with it, if anything: a record that cannot be read, or one that another names and that is gone.
    pub fn damage(&self) -> Option<RepoError> {
        if let Some((id, detail)) = self.damaged.first_key_value() {
            return Some(RepoError::damaged(object_name(id), detail.as_str()));
        }
        let gone = (self.named().into_iter()).find(|id| !self.records.contains_key(id))?;
        Some(RepoError::damaged(
            object_name(&gone),
            "is missing, though a later audit record names it",
        ))
    }

    /// Records that another names, but for those that are known to be lost.
    pub fn named(&self) -> BTreeSet<HistoryId> {
        let records = self.records.values();
        let mut named: BTreeSet<HistoryId> = records
            .clone()
            .flat_map(|record| record.previous.iter().copied())
            .collect();
        for record in records {
            if let Event::RecordsLost(lost) = &record.event {
                named.retain(|id| !lost.contains(id));
            }
        }
        named
    }

    /// Writes a record behind those that were read. Returns the name of its object.
    pub fn append(&self, repository: &Repository, event: Event) -> Result<String, RepoError> {
        let named = self.named();
        let ids = self.records.keys().chain(self.damaged.keys());
        let record = HistoryRecord {
            time: crate::clock::now(),
            host: session::host_name(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            event,
            previous: ids.filter(|id| !named.contains(id)).copied().collect(),
        };
        let bytes = record::encode(&repository.keys, KIND, "", &record)?;
        let name = object_name(&ObjectId::of(&bytes));
        repository.store.put(&name, &bytes)?;
        Ok(name)
    }
}

impl Repository {
    /// The audit records that can be read, in order of time.
    pub fn history(&self) -> Result<Vec<(HistoryId, HistoryRecord)>, RepoError> {
        Ok(History::load(self)?.in_order())
    }
}

/// Records that a snapshot was committed, with those whose writer died before it could.
pub(super) fn record_commit(
    repository: &Repository,
    snapshot: SnapshotId,
) -> Result<(), RepoError> {
    let store = &*repository.store;
    let history = History::load(repository)?;
    let known = history.committed();
    let mut committed = vec![snapshot];
    for id in snapshots::list(store)? {
        if id == snapshot || known.contains(&id) {
            continue;
        }
        // One that cannot be read is for check to report.
        if let Ok(stored) = snapshots::load(repository, &id)
            && session::exists(store, &stored.session)?
        {
            committed.push(id);
        }
    }
    history
        .append(repository, Event::Committed(committed))
        .map(drop)
}

/// Name of a record's object.
pub(super) fn object_name(id: &HistoryId) -> String {
    format!("{PREFIX}{id}")
}

fn parse_name(name: &str) -> Option<HistoryId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn decode(keys: &Keyring, id: &HistoryId, bytes: &[u8]) -> Result<HistoryRecord, String> {
    if ObjectId::of(bytes) != *id {
        return Err("its bytes do not have the hash that is its name".into());
    }
    record::decode(keys, KIND, "", bytes)
}
