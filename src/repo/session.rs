//! Live writers. A writer takes no lock: it registers a session, and whoever deletes packs respects it.
//!
//! `sessions/<id>` is put once and never again, so that it stays gone once it was removed; the heartbeat and the
//! tombstones the writer saw are in `sessions/<id>.beat`, which is replaced.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::ids::{ObjectId, PackId, SessionId};
use super::{RepoError, record};
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
    store: Arc<dyn Store>,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
    /// Whether its objects go when it ends.
    remove: bool,
}

impl Session {
    /// Registers a writer, then notes the tombstones: in this order, which whoever deletes relies on.
    /// Returns the packs that are marked.
    pub fn register(
        store: &Arc<dyn Store>,
        interval: Duration,
    ) -> Result<(Self, HashSet<PackId>), RepoError> {
        let mut session = Self {
            id: SessionId::random(),
            store: Arc::clone(store),
            heart: None,
            remove: true,
        };
        let registered = SessionRecord {
            host: host_name(),
            pid: std::process::id(),
            started: jiff::Timestamp::now(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let object = object_name(&session.id);
        store.put(&object, &record::encode(KIND, &registered)?)?;

        let mut beat = Beat::default();
        let mut marked = HashSet::new();
        for Listed { name, .. } in store.list(TOMBSTONES)? {
            let Some(id) = name.strip_prefix(TOMBSTONES).and_then(|id| id.parse().ok()) else {
                continue;
            };
            let bytes = match store.get(&name) {
                Ok(bytes) => bytes,
                // Its packs are deleted, or needed again: the listing of packs tells which.
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error.into()),
            };
            // One that cannot be read may mark any pack: going on could lose blocks.
            marked.extend(
                decode_tombstone(&id, &bytes)
                    .map_err(|detail| RepoError::damaged(&name, detail))?,
            );
            beat.tombstones.push(id);
        }
        let beat_object = format!("{object}{BEAT_SUFFIX}");
        store.put(&beat_object, &record::encode(BEAT_KIND, &beat)?)?;

        let (stop, stopped) = bounded::<()>(0);
        let store = Arc::clone(store);
        let heart = thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    // Without the session itself a sign of life means nothing; the commit will notice.
                    if store.len(&object).is_err_and(|error| error.is_absent()) {
                        break;
                    }
                    beat.counter += 1;
                    let put = record::encode(BEAT_KIND, &beat)
                        .and_then(|bytes| Ok(store.put(&beat_object, &bytes)?));
                    // A missed beat is no reason to fail a dump: another follows, and the commit looks for the session.
                    if let Err(error) = put {
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
        Ok((session, marked))
    }

    /// Whether the session is still registered.
    pub fn is_registered(&self) -> Result<bool, RepoError> {
        exists(&*self.store, &self.id)
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
            match self.store.delete(&name) {
                Err(error) if !error.is_absent() => {
                    tracing::warn!("{name} stays behind until the next prune: {error}")
                }
                _ => {}
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

/// Whether a session is registered.
pub(super) fn exists(store: &dyn Store, id: &SessionId) -> Result<bool, RepoError> {
    match store.len(&object_name(id)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with an object below `sessions/`, if anything.
pub(super) fn verify(name: &str, bytes: &[u8]) -> Result<(), String> {
    if name.ends_with(BEAT_SUFFIX) {
        record::decode::<Beat>(BEAT_KIND, bytes).map(drop)
    } else {
        record::decode::<SessionRecord>(KIND, bytes).map(drop)
    }
}

/// The packs a tombstone marks.
pub(super) fn decode_tombstone(id: &ObjectId, bytes: &[u8]) -> Result<Vec<PackId>, String> {
    if ObjectId::of(bytes) != *id {
        return Err("its bytes do not have the hash that is its name".into());
    }
    Ok(record::decode::<Tombstone>(TOMBSTONE_KIND, bytes)?.packs)
}

/// This host's name, for people.
pub(super) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
