//! Snapshots: the commit points, and how people name them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::{Hex, ObjectId, SessionId, SnapshotId};
use super::model::Snapshot;
use super::{RepoError, Repository, record};
use crate::rows::{BlockId, Format};
use crate::store::{Listed, Store};

/// Folder of all snapshots.
pub(super) const PREFIX: &str = "snapshots/";
const KIND: &str = "snapshot";

/// Fewest digits of an id that name a snapshot.
const SHORTEST_PREFIX: usize = 4;

/// A snapshot as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    /// The session that wrote it: see [`history`](super::history).
    pub session: SessionId,
    pub snapshot: Snapshot,
}

/// All snapshots of a repository.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Those that can be read, by the time they show.
    pub list: Vec<(SnapshotId, Snapshot)>,
    /// Those that cannot.
    pub damaged: Vec<RepoError>,
}

pub(super) fn encode(stored: &Stored) -> Result<(SnapshotId, Vec<u8>), RepoError> {
    let bytes = record::encode(KIND, stored)?;
    Ok((ObjectId::of(&bytes), bytes))
}

pub(super) fn decode(id: &SnapshotId, bytes: &[u8]) -> Result<Stored, String> {
    if ObjectId::of(bytes) != *id {
        return Err("its bytes do not have the hash that is its name".into());
    }
    record::decode(KIND, bytes)
}

/// Name of a snapshot's object.
pub(super) fn object_name(id: &SnapshotId) -> String {
    format!("{PREFIX}{id}")
}

/// The snapshot with that name, if it is the name of one.
pub(super) fn parse_name(name: &str) -> Option<SnapshotId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

pub(super) fn load(store: &dyn Store, id: &SnapshotId) -> Result<Stored, RepoError> {
    let name = object_name(id);
    let bytes = store.get(&name)?;
    decode(id, &bytes).map_err(|detail| RepoError::damaged(name, detail))
}

/// A snapshot, and the id of the block with the copy of its record.
pub(super) fn load_with_copy(
    repository: &Repository,
    id: &SnapshotId,
) -> Result<(Stored, BlockId), RepoError> {
    let name = object_name(id);
    let bytes = repository.store.get(&name)?;
    let stored = decode(id, &bytes).map_err(|detail| RepoError::damaged(name, detail))?;
    let copy = repository.id_key().block_id(Format::Other, 0, &bytes);
    Ok((stored, copy))
}

/// A database or cluster, as people tell sources apart.
fn source_name(snapshot: &Snapshot) -> String {
    let source = &snapshot.source;
    format!("{}:{}/{}", source.host, source.port, snapshot.label())
}

impl Repository {
    /// All snapshots, the oldest first.
    pub fn snapshots(&self) -> Result<Snapshots, RepoError> {
        let store = &*self.store;
        let mut snapshots = Snapshots::default();
        for Listed { name, .. } in store.list(PREFIX)? {
            let Some(id) = parse_name(&name) else {
                continue;
            };
            match load(store, &id) {
                Ok(stored) => snapshots.list.push((id, stored.snapshot)),
                // Forgotten since the listing.
                Err(error) if error.is_absent() => {}
                Err(error @ RepoError::Damaged { .. }) => snapshots.damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        snapshots.list.sort_by(|(a_id, a), (b_id, b)| {
            (a.time, a.finished, a_id).cmp(&(b.time, b.finished, b_id))
        });
        Ok(snapshots)
    }

    /// The snapshot of that name: an id, a unique prefix of one, `latest`, or `latest:DATABASE`, where a cluster is
    /// `(cluster)` and what its databases share, dumped alone, `(globals)`. `latest` alone stands for a whole cluster,
    /// not for the databases that were dumped with it.
    pub fn find(&self, wanted: &str) -> Result<(SnapshotId, Snapshot), RepoError> {
        if is_latest(wanted) {
            return self.find_latest(wanted, None);
        }
        let digits = wanted.to_ascii_lowercase();
        if !(SHORTEST_PREFIX..=64).contains(&digits.len())
            || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(RepoError::NotASnapshot {
                wanted: wanted.into(),
            });
        }
        let names = self.store.list(&format!("{PREFIX}{digits}"))?;
        let matches: Vec<SnapshotId> = names
            .iter()
            .filter_map(|object| parse_name(&object.name))
            .collect();
        match matches[..] {
            [] => Err(RepoError::NoSnapshot {
                wanted: wanted.into(),
            }),
            [id] => Ok((id, load(&*self.store, &id)?.snapshot)),
            _ => Err(RepoError::Ambiguous {
                wanted: wanted.into(),
                matches,
            }),
        }
    }

    /// The newest snapshot, `latest` or `latest:DATABASE`, that was taken at that time or before.
    pub fn find_at(
        &self,
        wanted: &str,
        time: jiff::Timestamp,
    ) -> Result<(SnapshotId, Snapshot), RepoError> {
        if is_latest(wanted) {
            self.find_latest(wanted, Some(time))
        } else {
            Err(RepoError::NotASnapshot {
                wanted: wanted.into(),
            })
        }
    }

    fn find_latest(
        &self,
        wanted: &str,
        until: Option<jiff::Timestamp>,
    ) -> Result<(SnapshotId, Snapshot), RepoError> {
        let database = wanted.strip_prefix("latest:");
        let mut snapshots = self.snapshots()?;
        // The one that cannot be read may be the latest: an older one in its place would be a silent surprise.
        if let Some(error) = snapshots.damaged.pop() {
            return Err(error);
        }
        let mut list = snapshots.list;
        list.retain(|(_, snapshot)| until.is_none_or(|until| snapshot.time <= until));
        let clusters: BTreeSet<Hex<16>> = list
            .iter()
            .filter(|(_, snapshot)| snapshot.databases().is_some())
            .filter_map(|(_, snapshot)| Some(snapshot.cluster.as_ref()?.run))
            .collect();
        list.retain(|(_, snapshot)| match database {
            Some(database) => database == snapshot.label(),
            // A database of a cluster is found in the cluster's snapshot.
            None => {
                snapshot.databases().is_some()
                    || snapshot
                        .cluster
                        .as_ref()
                        .is_none_or(|cluster| !clusters.contains(&cluster.run))
            }
        });
        let sources: BTreeMap<(String, &str), String> = list
            .iter()
            .map(|(_, snapshot)| {
                let server = snapshot.source.server();
                ((server, snapshot.label()), source_name(snapshot))
            })
            .collect();
        if sources.len() > 1 {
            return Err(RepoError::SeveralSources {
                wanted: wanted.into(),
                sources: sources.into_values().collect(),
            });
        }
        list.pop().ok_or_else(|| RepoError::NoSnapshot {
            wanted: wanted.into(),
        })
    }
}

fn is_latest(wanted: &str) -> bool {
    wanted == "latest" || wanted.starts_with("latest:")
}
