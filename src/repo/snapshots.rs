//! Snapshots: the commit points, and how people name them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::{Hex, ObjectId, SessionId, SnapshotId};
use super::model::{Condition, Extension, Snapshot};
use super::seal::{Class, Closed, Keyring};
use super::{RepoError, Repository, record};
use crate::rows::{BlockId, Format};
use crate::store::Store;

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
    /// In an encrypted repository without what may name tables or data: whoever writes may read it.
    pub snapshot: Snapshot,
    /// That, as JSON, sealed to the readers.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "hex::serde")]
    pub details: Vec<u8>,
}

/// What a snapshot says that may name tables or data.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Details {
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    sections: Vec<String>,
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    without_rows: Vec<(String, String)>,
    #[serde(default)]
    extensions: Vec<Extension>,
}

impl Details {
    fn swap(&mut self, snapshot: &mut Snapshot) {
        use std::mem::swap;
        swap(&mut self.warnings, &mut snapshot.warnings);
        swap(&mut self.sections, &mut snapshot.sections);
        swap(&mut self.conditions, &mut snapshot.conditions);
        swap(&mut self.without_rows, &mut snapshot.without_rows);
        swap(&mut self.extensions, &mut snapshot.source.extensions);
    }
}

/// What details are sealed for: the snapshot's tree, so that they move with it from one repository to another that
/// shares its keys, and to no other snapshot.
fn details_aad(snapshot: &Snapshot) -> Vec<u8> {
    [b"pgtide snapshot details 1", &snapshot.root.0[..]].concat()
}

impl Stored {
    /// As it is written: details apart. Those that could not be opened stay as they are.
    fn to_sealed(&self, keys: &Keyring) -> Result<Self, RepoError> {
        let mut sealed = Self {
            session: self.session,
            snapshot: self.snapshot.clone(),
            details: self.details.clone(),
        };
        if !sealed.snapshot.sealed {
            let mut details = Details::default();
            details.swap(&mut sealed.snapshot);
            let json = serde_json::to_vec(&details)
                .map_err(|error| RepoError::damaged("a new snapshot", error.to_string()))?;
            sealed.details = keys.seal(Class::Reader, &details_aad(&sealed.snapshot), &json)?;
        }
        sealed.snapshot.sealed = false;
        Ok(sealed)
    }

    /// Puts the details back in their place, if the key opens them.
    fn open(&mut self, keys: &Keyring) -> Result<(), String> {
        let aad = details_aad(&self.snapshot);
        let mut frame = self.details.clone();
        match keys.open(Class::Reader, &aad, &mut frame) {
            Ok(json) => {
                let mut details: Details =
                    serde_json::from_slice(json).map_err(|error| error.to_string())?;
                details.swap(&mut self.snapshot);
                self.details.clear();
                Ok(())
            }
            Err(Closed::NoKey) => {
                self.snapshot.sealed = true;
                Ok(())
            }
            Err(_) => Err("its details were not sealed for it".into()),
        }
    }
}

/// All snapshots of a repository.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Those that can be read, by the time they show.
    pub list: Vec<(SnapshotId, Snapshot)>,
    /// Those that cannot.
    pub damaged: Vec<RepoError>,
}

pub(super) fn encode(keys: &Keyring, stored: &Stored) -> Result<(SnapshotId, Vec<u8>), RepoError> {
    let bytes = if keys.seals() {
        record::encode(keys, KIND, "", &stored.to_sealed(keys)?)?
    } else {
        record::encode(keys, KIND, "", stored)?
    };
    Ok((ObjectId::of(&bytes), bytes))
}

pub(super) fn decode(keys: &Keyring, id: &SnapshotId, bytes: &[u8]) -> Result<Stored, String> {
    if ObjectId::of(bytes) != *id {
        return Err("its bytes do not have the hash that is its name".into());
    }
    let mut stored: Stored = record::decode(keys, KIND, "", bytes)?;
    if keys.seals() {
        stored.open(keys)?;
    }
    Ok(stored)
}

/// Name of a snapshot's object.
pub(super) fn object_name(id: &SnapshotId) -> String {
    format!("{PREFIX}{id}")
}

/// The snapshot with that name, if it is the name of one.
pub(super) fn parse_name(name: &str) -> Option<SnapshotId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// The snapshots that are there.
pub(super) fn list(store: &dyn Store) -> Result<Vec<SnapshotId>, RepoError> {
    let listed = store.list(PREFIX)?.into_iter();
    Ok(listed
        .filter_map(|object| parse_name(&object.name))
        .collect())
}

pub(super) fn load(repository: &Repository, id: &SnapshotId) -> Result<Stored, RepoError> {
    let name = object_name(id);
    let bytes = repository.store.map(&name)?;
    decode(&repository.keys, id, &bytes).map_err(|detail| RepoError::damaged(name, detail))
}

/// As [`load`], and never from a copy that this machine kept.
pub(super) fn load_stored(repository: &Repository, id: &SnapshotId) -> Result<Stored, RepoError> {
    let name = object_name(id);
    let bytes = repository.store.map_stored(&name)?;
    decode(&repository.keys, id, &bytes).map_err(|detail| RepoError::damaged(name, detail))
}

/// A snapshot, and the id of the block with the copy of its record.
pub(super) fn load_with_copy(
    repository: &Repository,
    id: &SnapshotId,
) -> Result<(Stored, BlockId), RepoError> {
    let name = object_name(id);
    let bytes = repository.store.map(&name)?;
    let stored =
        decode(&repository.keys, id, &bytes).map_err(|detail| RepoError::damaged(name, detail))?;
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
        let mut snapshots = Snapshots::default();
        for id in list(&*self.store)? {
            match load(self, &id) {
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
            [id] => Ok((id, load(self, &id)?.snapshot)),
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
