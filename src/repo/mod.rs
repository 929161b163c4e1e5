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
mod session;
mod snapshots;
mod stats;
mod used;
mod writer;

use std::sync::Arc;

use crate::rows::IdKey;
use crate::store::Store;

pub use check::{
    CheckOptions, CheckPhase, CheckProgress, CheckReport, Hurt, Problem, ProblemKind, ReadData,
};
pub use config::{Config, Features, Operation};
pub use copy::{Copied, CopyOptions, CopyReport};
pub use diff::{BlockChanges, compare_blocks};
pub use error::RepoError;
pub use forget::Inventory;
pub use history::{Event, HistoryRecord, Loss};
pub use ids::{Hex, HistoryId, ObjectId, PackId, RepoId, SessionId, SnapshotId};
pub use protect::{Protected, Protection};
pub use prune::{Amount, PruneOptions, PrunePhase, PruneProgress, PruneReport};
pub use reader::Reader;
pub use repair::{RepairOptions, RepairReport};
pub use session::{Beat, SessionRecord, Tombstone};
pub use snapshots::Snapshots;
pub use stats::{CoderStats, Growth, Stats, TableStats};
pub use writer::{PackGroup, Stored, Writer, WriterOptions, WriterStats};

/// The parsers of stored bytes, for fuzzing: none may panic or allocate without bound.
pub mod parse {
    pub use super::block::BlockHeader;
    pub use super::index::{IndexFile, Location, Record};
    pub use super::pack::{TocEntry, parse_toc, toc_len};
    pub use super::record::decode as record;
}

/// An open repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    config: Arc<Config>,
    id_key: IdKey,
}

impl Repository {
    /// Creates a repository in an empty place.
    pub fn init(store: Arc<dyn Store>) -> Result<Self, RepoError> {
        let location = || store.location();
        let objects = store.list("")?;
        if objects.iter().any(|object| object.name == config::NAME) {
            return Err(RepoError::AlreadyExists {
                location: location(),
            });
        }
        // An init that was interrupted left the copy and nothing else.
        let mut others = objects
            .into_iter()
            .filter(|object| object.name != config::COPY);
        if let Some(object) = others.next() {
            return Err(RepoError::NotEmpty {
                location: location(),
                example: object.name,
            });
        }
        Config::new().store(&*store)?;
        store.fill_reserve()?;
        Self::open(store)
    }

    /// Opens a repository.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, RepoError> {
        let config = match Config::load(&*store) {
            Err(error) if error.is_absent() => return Err(missing_config(&*store)?),
            config => config?,
        };
        config.require(Operation::Read)?;
        Ok(Self {
            id_key: config.id_key(),
            config: Arc::new(config),
            store,
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
        snapshots::decode(id, bytes).is_ok()
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
