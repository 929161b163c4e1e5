//! The repository: blocks, packs, index, manifests, snapshots, sessions and the check of them all.
//!
//! Every object but `config` and the sessions is immutable and named by the BLAKE3 of its bytes. Packs are durable
//! before an index names them, index objects before a snapshot relies on them; readers go the other way. So a
//! process that dies at any moment leaves objects nobody needs, never a snapshot that lacks something.
//! The bytes are described in `docs/format.md`.

mod block;
mod bytes;
mod check;
mod complete;
mod config;
mod copy;
mod diff;
mod error;
mod forget;
mod history;
mod ids;
mod index;
mod keys;
pub mod lists;
pub mod model;
mod moved;
pub mod outline;
mod pack;
mod parallel;
mod protect;
mod prune;
mod reader;
mod record;
mod repair;
mod runs;
mod seal;
mod session;
mod snapshots;
mod stats;
mod used;
mod writer;

use std::sync::Arc;

use self::keys::Secrets;
use self::seal::Keyring;
use crate::rows::IdKey;
use crate::store::Store;

pub use check::{
    CheckOptions, CheckPhase, CheckProgress, CheckReport, Hurt, Problem, ProblemKind, ReadData,
};
pub use config::{Config, Features, Operation};
pub use copy::{Copied, CopyOptions, CopyReport, default_jobs};
pub use diff::{BlockChanges, compare_blocks};
pub use error::RepoError;
pub use forget::Inventory;
pub use history::{Event, HistoryRecord, Loss};
pub use ids::{Hex, HistoryId, KeyId, ObjectId, PackId, RepoId, SessionId, SnapshotId};
pub use keys::{About, Kdf, KeyError, KeyInfo, NewKey, Password, Role};
pub use protect::{Protected, Protection};
pub use prune::{Amount, PruneOptions, PrunePhase, PruneProgress, PruneReport};
pub use reader::Reader;
pub use repair::{RepairOptions, RepairReport};
pub use runs::{Level, LogLine, Outcome, RunRecord};
pub use session::{Beat, SessionRecord, Tombstone, host_name};
pub use snapshots::Snapshots;
pub use stats::{CoderStats, Growth, Stats, TableStats};
pub use writer::{PackGroup, Stored, Writer, WriterOptions, WriterStats};

/// The parsers of stored bytes, for fuzzing: none may panic or allocate without bound.
pub mod parse {
    pub use super::block::BlockHeader;
    pub use super::check::CheckRecord;
    pub use super::index::{IndexFile, Location, Record};
    pub use super::keys::Slot;
    pub use super::pack::{TocEntry, parse_toc, toc_len};
    pub use super::record::decode as record;
    pub use super::seal::{Class, Closed, Keyring};
}

/// An open repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    config: Arc<Config>,
    id_key: IdKey,
    keys: Keyring,
}

/// How a repository is made.
#[derive(Debug, Default)]
pub struct InitOptions<'a> {
    /// Its first key, which reads; none for a repository that is not encrypted.
    pub key: Option<NewKey<'a>>,
    /// The repository whose keys it shares, so that blocks can be copied between them as they are. One that is
    /// encrypted must have been opened with a key that reads.
    pub keys_from: Option<&'a Repository>,
}

impl Repository {
    /// Creates a repository in an empty place.
    pub fn init(store: Arc<dyn Store>) -> Result<Self, RepoError> {
        Self::init_with(store, &InitOptions::default())
    }

    /// Creates a repository in an empty place.
    pub fn init_with(store: Arc<dyn Store>, options: &InitOptions<'_>) -> Result<Self, RepoError> {
        let location = || store.location();
        let shared = match options.keys_from {
            Some(from) => keys::shared(from, options.key.is_some())?,
            None => None,
        };
        let mut objects = store.list("")?;
        // Keys and the copy alone are nothing: an earlier attempt left them.
        let leftover = |name: &str| name == config::COPY || keys::parse_name(name).is_some();
        if objects.iter().all(|object| leftover(&object.name)) {
            for object in objects.drain(..) {
                store.delete(&object.name)?;
            }
        }
        if objects.iter().any(|object| object.name == config::NAME) {
            return Err(RepoError::AlreadyExists {
                location: location(),
            });
        }
        if let Some(object) = objects.into_iter().next() {
            return Err(RepoError::NotEmpty {
                location: location(),
                example: object.name,
            });
        }
        let (config, keys) = match &options.key {
            None => {
                let id_key = options.keys_from.map(|from| Hex(from.id_key.0));
                let config = Config::plain(id_key.unwrap_or_else(Hex::random));
                (config, Keyring::plain())
            }
            Some(key) => {
                let secrets = shared.map_or_else(Secrets::generate, Ok)?;
                let config = Config::encrypted(RepoId::random(), Hex(secrets.public));
                let keys = keys::found(&*store, config.id, secrets, key)?;
                (config, keys)
            }
        };
        config.store(&*store)?;
        store.fill_reserve()?;
        Self::with(store, config, keys)
    }

    /// Opens a repository that is not encrypted.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, RepoError> {
        let location = store.location();
        Self::open_with(store, || Err(KeyError::NoPassword { location }.into()))
    }

    /// Opens a repository; asks for the password if it is encrypted.
    pub fn open_with<E: From<RepoError>>(
        store: Arc<dyn Store>,
        password: impl FnOnce() -> Result<Password, E>,
    ) -> Result<Self, E> {
        let config = match Config::load(&*store) {
            Err(error) if error.is_absent() => return Err(missing_config(&*store)?.into()),
            config => config?,
        };
        config.require(Operation::Read)?;
        let keys = if config.is_encrypted() {
            keys::unlock(&*store, config.id, &password()?)?
        } else {
            Keyring::plain()
        };
        Ok(Self::with(store, config, keys)?)
    }

    fn with(store: Arc<dyn Store>, config: Config, keys: Keyring) -> Result<Self, RepoError> {
        let id_key = match keys.secrets() {
            None => config.id_key()?,
            Some(secrets) if config.agrees_with(&Hex(secrets.public)) => IdKey(*secrets.id_key),
            Some(_) => {
                let detail = "states another public key than the key slot that was opened: somebody changed it; \
                              restore it from a copy";
                return Err(RepoError::damaged(config::NAME, detail));
            }
        };
        Ok(Self {
            id_key,
            config: Arc::new(config),
            store,
            keys,
        })
    }

    /// The repository's id.
    pub fn id(&self) -> RepoId {
        self.config.id
    }

    /// The key of its block ids.
    pub fn id_key(&self) -> &IdKey {
        &self.id_key
    }

    /// Whether these bytes are the record of that snapshot.
    fn is_snapshot(&self, id: &SnapshotId, bytes: &[u8]) -> bool {
        snapshots::decode(&self.keys, id, bytes).is_ok()
    }

    /// Does what leads to more free space. Where that finds the storage full it is done again, from its beginning,
    /// with the space that the storage keeps back for this.
    fn with_reserve<T>(
        &self,
        mut work: impl FnMut() -> Result<T, RepoError>,
    ) -> Result<T, RepoError> {
        match work() {
            Err(error) if error.is_full() && self.store.release_reserve()? => work(),
            done => done,
        }
    }

    /// Bytes of all packs.
    pub fn packs_bytes(&self) -> Result<u64, RepoError> {
        Ok(pack::list(&*self.store)?.values().sum())
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.store.location()
    }
}

/// Why there is no `config`: there never was a repository, or it lost the object.
fn missing_config(store: &dyn Store) -> Result<RepoError, RepoError> {
    for prefix in [snapshots::PREFIX, index::PREFIX] {
        if !store.list(prefix)?.is_empty() {
            return Ok(RepoError::damaged(
                config::NAME,
                "is missing, though the repository's other objects are there; `pgtide repair` puts it back from config.copy",
            ));
        }
    }
    Ok(RepoError::NoRepository {
        location: store.location(),
    })
}
