//! Live writers. A writer takes no lock: it registers a session, and whoever deletes packs respects it.
//!
//! `sessions/<id>` is put once and never again, so that it stays gone once it was removed; the heartbeat and the
//! tombstones the writer saw are in `sessions/<id>.beat`, which is replaced.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::ids::{ObjectId, PackId, SessionId};
use super::seal::Keyring;
use super::{RepoError, Repository, record};
use crate::store::{Listed, Store};

/// Folder of all sessions.
pub(super) const PREFIX: &str = "sessions/";
/// Folder of all tombstones.
pub(super) const TOMBSTONES: &str = "tombstones/";

const KIND: &str = "session";
const BEAT_KIND: &str = "heartbeat";
const BEAT_SUFFIX: &str = ".beat";
const TOMBSTONE_KIND: &str = "tombstone";

/// Who writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Name of the host.
    pub host: String,
    /// Process on that host.
    pub pid: u32,
    /// When it began, by that host's clock.
    pub started: jiff::Timestamp,
    /// Version of pgtide.
    pub tool: String,
    /// What tells the process from all others that this kernel ever ran, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// A process, as those who run beside it can recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The kernel's boot id.
    pub boot: String,
    /// The namespace that gives the process its number: containers have their own.
    pub namespace: String,
    /// When it began, in the kernel's ticks since boot: numbers of processes come back, this does not.
    pub began: u64,
}

impl Process {
    /// This process.
    fn this() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// The process of that number in our namespace, from `/proc` (proc(5)); none where there is no such process, or
    /// nothing to look it up in.
    fn of(pid: u32) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, the program's name in parentheses, may have anything in it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // One that has ended and that nobody has asked for yet.
        if matches!(fields.first(), Some(&("Z" | "X"))) {
            return None;
        }
        Some(Self {
            boot: boot.trim().to_owned(),
            namespace: namespace.to_string_lossy().into_owned(),
            began: fields.get(19)?.parse().ok()?,
        })
    }
}

impl SessionRecord {
    /// Whether the process is alive, if that can be known here: it ran on this kernel and in this namespace, and is
    /// not this very process.
    pub(super) fn is_alive(&self) -> Option<bool> {
        let (theirs, ours) = (self.process.as_ref()?, Process::this()?);
        if (&theirs.boot, &theirs.namespace) != (&ours.boot, &ours.namespace) {
            return None;
        }
        if self.pid == std::process::id() && *theirs == ours {
            return None;
        }
        Some(Process::of(self.pid).as_ref() == Some(theirs))
    }
}

/// A sign of life.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Beat {
    /// Grows as long as the writer lives.
    pub counter: u64,
    /// Tombstones the writer saw before it loaded the index.
    pub tombstones: Vec<ObjectId>,
}

/// Packs marked for deletion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tombstone {
    /// When they were marked.
    pub time: jiff::Timestamp,
    /// The packs.
    pub packs: Vec<PackId>,
}

/// The registered session of a live writer.
#[derive(Debug)]
pub(super) struct Session {
    pub id: SessionId,
    repository: Repository,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
    /// Whether its objects go when it ends.
    remove: bool,
}

impl Session {
    /// Registers a writer, then notes the tombstones: in this order, which whoever deletes relies on.
    /// Returns the tombstones.
    pub fn register(
        repository: &Repository,
        interval: Duration,
    ) -> Result<(Self, Tombstones), RepoError> {
        let mut session = Self {
            id: SessionId::random(),
            repository: repository.clone(),
            heart: None,
            remove: true,
        };
        let registered = SessionRecord {
            host: host_name(),
            pid: std::process::id(),
            started: crate::clock::now(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            process: Process::this(),
        };
        let object = object_name(&session.id);
        let (store, keys) = (&repository.store, &repository.keys);
        store.put(&object, &record::encode(keys, KIND, &object, &registered)?)?;

        let tombstones = tombstones(repository)?;
        let mut beat = Beat {
            counter: 0,
            tombstones: tombstones.keys().copied().collect(),
        };
        let beat_object = format!("{object}{BEAT_SUFFIX}");
        let put_beat = {
            let (repository, object) = (repository.clone(), beat_object);
            move |beat: &Beat| -> Result<(), RepoError> {
                let bytes = record::encode(&repository.keys, BEAT_KIND, &object, beat)?;
                Ok(repository.store.put(&object, &bytes)?)
            }
        };
        put_beat(&beat)?;

        let (stop, stopped) = bounded::<()>(0);
        let store = std::sync::Arc::clone(store);
        let heart = thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    // Without the session itself a sign of life means nothing; the commit will notice.
                    if store.len(&object).is_err_and(|error| error.is_absent()) {
                        break;
                    }
                    beat.counter += 1;
                    // A missed beat is no reason to fail a dump: another follows, and the commit looks for the session.
                    if let Err(error) = put_beat(&beat) {
                        tracing::warn!(
                            "the heartbeat of this session could not be stored: {error}"
                        );
                    }
                }
            });
        let heart = heart.map_err(|error| RepoError::Thread {
            what: "heartbeat",
            detail: error.to_string(),
        })?;
        session.heart = Some((stop, heart));
        Ok((session, tombstones))
    }

    /// Whether the session is still registered.
    pub fn is_registered(&self) -> Result<bool, RepoError> {
        exists(&*self.repository.store, &self.id)
    }

    /// From here on the session's objects stay behind if the process fails: they say that a snapshot may be there
    /// that the history does not name yet.
    pub fn keep_objects(&mut self) {
        self.remove = false;
    }

    /// Ends the session and removes its objects.
    pub fn end(mut self) {
        self.remove = true;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            // A heart that panicked has stopped, too.
            let _ = heart.join();
        }
        if !self.remove {
            return;
        }
        let object = object_name(&self.id);
        for name in [format!("{object}{BEAT_SUFFIX}"), object] {
            if let Err(error) = self.repository.store.remove(&name) {
                tracing::warn!("{name} stays behind until the next prune: {error}")
            }
        }
    }
}

/// Name of a session's object.
pub(super) fn object_name(id: &SessionId) -> String {
    format!("{PREFIX}{id}")
}

/// Whether that is the name of an object below `sessions/`.
pub(super) fn is_name(name: &str) -> bool {
    name.strip_suffix(BEAT_SUFFIX)
        .unwrap_or(name)
        .parse::<SessionId>()
        .is_ok()
}

/// The session of that name of an object, if it is one's main object.
pub(super) fn parse_name(name: &str) -> Option<SessionId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// What a session's objects say, each as far as it is there and can be read.
pub(super) struct Registered {
    pub record: Option<SessionRecord>,
    pub beat: Option<Beat>,
}

/// A session; nothing if it is not registered.
pub(super) fn read(
    repository: &Repository,
    id: &SessionId,
) -> Result<Option<Registered>, RepoError> {
    let object = object_name(id);
    let beat_object = format!("{object}{BEAT_SUFFIX}");
    let (store, keys) = (&*repository.store, &repository.keys);
    let Some(bytes) = store.get_if_there(&object)? else {
        return Ok(None);
    };
    let beat = store.get_if_there(&beat_object)?;
    Ok(Some(Registered {
        record: record::decode(keys, KIND, &object, &bytes).ok(),
        beat: beat.and_then(|bytes| record::decode(keys, BEAT_KIND, &beat_object, &bytes).ok()),
    }))
}

/// Removes a session's objects: its main one first, as that is the one that its writer looks for.
pub(super) fn remove(store: &dyn Store, id: &SessionId) -> Result<(), RepoError> {
    let object = object_name(id);
    for name in [object.clone(), format!("{object}{BEAT_SUFFIX}")] {
        store.remove(&name)?;
    }
    Ok(())
}

/// Whether a session is registered.
pub(super) fn exists(store: &dyn Store, id: &SessionId) -> Result<bool, RepoError> {
    match store.len(&object_name(id)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with an object below `sessions/`, if anything.
pub(super) fn verify(keys: &Keyring, name: &str, bytes: &[u8]) -> Result<(), String> {
    if name.ends_with(BEAT_SUFFIX) {
        record::decode::<Beat>(keys, BEAT_KIND, name, bytes).map(drop)
    } else {
        record::decode::<SessionRecord>(keys, KIND, name, bytes).map(drop)
    }
}

/// Tombstones, and the packs they mark.
pub(super) type Tombstones = BTreeMap<ObjectId, Vec<PackId>>;

/// All tombstones.
pub(super) fn tombstones(repository: &Repository) -> Result<Tombstones, RepoError> {
    let store = &*repository.store;
    let mut tombstones = Tombstones::new();
    for Listed { name, .. } in store.list(TOMBSTONES)? {
        let Some(id) = name.strip_prefix(TOMBSTONES).and_then(|id| id.parse().ok()) else {
            continue;
        };
        let Some(bytes) = store.get_if_there(&name)? else {
            continue;
        };
        // One that cannot be read may mark any pack: going on could lose blocks.
        let packs = decode_tombstone(&repository.keys, &id, &bytes)
            .map_err(|detail| RepoError::damaged(&name, detail))?;
        tombstones.insert(id, packs);
    }
    Ok(tombstones)
}

/// The packs that tombstones mark.
pub(super) fn marked(tombstones: &Tombstones) -> HashSet<PackId> {
    tombstones.values().flatten().copied().collect()
}

/// Marks packs for deletion; returns the tombstone.
pub(super) fn mark(repository: &Repository, packs: Vec<PackId>) -> Result<ObjectId, RepoError> {
    let time = crate::clock::now();
    let tombstone = Tombstone { time, packs };
    let bytes = record::encode(&repository.keys, TOMBSTONE_KIND, "", &tombstone)?;
    let id = ObjectId::of(&bytes);
    repository.store.put(&tombstone_name(&id), &bytes)?;
    Ok(id)
}

/// Name of a tombstone's object.
pub(super) fn tombstone_name(id: &ObjectId) -> String {
    format!("{TOMBSTONES}{id}")
}

/// The packs a tombstone marks.
pub(super) fn decode_tombstone(
    keys: &Keyring,
    id: &ObjectId,
    bytes: &[u8],
) -> Result<Vec<PackId>, String> {
    if ObjectId::of(bytes) != *id {
        return Err("its bytes do not have the hash that is its name".into());
    }
    Ok(record::decode::<Tombstone>(keys, TOMBSTONE_KIND, "", bytes)?.packs)
}

/// This host's name, for people.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
