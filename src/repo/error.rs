//! What can go wrong in a repository.

use std::sync::Arc;

use super::ids::{PackId, SnapshotId};
use super::keys::KeyError;
use super::protect::Protection;
use crate::rows::{BlockId, RowsError};
use crate::store::StoreError;

/// An error of the repository. Every case carries the objects it is about and ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Nothing there.
    #[error("{location}: there is no repository; create one with `pgtide init --repo {location}`")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// `init` where there is one already.
    #[error("{location}: there is a repository already; use it, or choose another place")]
    AlreadyExists {
        /// Where.
        location: String,
    },
    /// `init` in a place that holds other things.
    #[error("{location}: is not empty (it holds {example}); choose an empty or a new directory")]
    NotEmpty {
        /// Where.
        location: String,
        /// One of the things it holds.
        example: String,
    },
    /// The repository asks for something this version does not know.
    #[error("this repository needs {what} to {operation}; use a newer pgtide")]
    Unsupported {
        /// Format version or feature.
        what: String,
        /// `read`, `write`, `check` or `delete`.
        operation: &'static str,
    },
    /// An object is not what it must be.
    #[error(
        "{object}: damaged: {detail}; run `pgtide check --read-data` to learn which snapshots it hurts"
    )]
    Damaged {
        /// Name of the object.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A block in a pack is not what it must be.
    #[error(
        "packs/{pack}, offset {offset}: block {block}: damaged: {detail}; \
         run `pgtide check --read-data` to learn which snapshots it hurts"
    )]
    DamagedBlock {
        /// The pack.
        pack: PackId,
        /// Where in it.
        offset: u64,
        /// The block.
        block: BlockId,
        /// What is wrong with it.
        detail: String,
    },
    /// No index names the block.
    #[error("block {block} is in no index{note}; run `pgtide check` to learn what is missing")]
    MissingBlock {
        /// The block.
        block: BlockId,
        /// Which index objects could not be read, if any.
        note: String,
    },
    /// A block's payload is not what its reader expects.
    #[error("block {block}: {detail}; it was written by a newer pgtide, or by a faulty one")]
    Content {
        /// The block.
        block: BlockId,
        /// What is wrong with it.
        detail: String,
    },
    /// An item too large for a block.
    #[error(
        "{what} has {len} bytes, more than the {max} a block can hold; leave it out of the dump"
    )]
    TooLarge {
        /// What it is.
        what: String,
        /// Its size.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The coder refused.
    #[error("a block could not be encoded")]
    Encode(#[from] RowsError),
    /// A key or a password is not what it takes.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer failed before; this is the same error again.
    #[error(transparent)]
    Failed(Arc<RepoError>),
    /// The writer's session was removed and blocks it relied on were deleted with it.
    #[error(
        "the session of this dump was removed while it ran, as it gave no sign of life, and {missing} of the blocks it \
         relied on were pruned; the snapshot was not kept: run the dump again, what it stored will be reused"
    )]
    SessionLost {
        /// How many.
        missing: usize,
    },
    /// The session of a prune was removed while it was about to delete.
    #[error(
        "the session of this prune was removed while it ran, as it gave no sign of life; it deletes nothing more: \
         run it again"
    )]
    PruneLost,
    /// Others write, and this cannot be done beside them.
    #[error(
        "the repository is in use by {}; wait until they have ended, or end them, and run this again",
        sessions.join("; ")
    )]
    Busy {
        /// Who they are.
        sessions: Vec<String>,
    },
    /// Something that could lose data is not done.
    #[error(
        "{what}: nothing is deleted; run `pgtide check` to see what is wrong, and `pgtide repair` to mend it"
    )]
    Refused {
        /// Why.
        what: String,
    },
    /// No such snapshot.
    #[error("there is no snapshot {wanted:?}; `pgtide snapshots` lists them")]
    NoSnapshot {
        /// As asked for.
        wanted: String,
    },
    /// Not an id, a prefix or `latest`.
    #[error(
        "{wanted:?} is not a snapshot; give an id, at least 4 digits of one, latest or latest:DATABASE"
    )]
    NotASnapshot {
        /// As asked for.
        wanted: String,
    },
    /// Several snapshots begin with the prefix.
    #[error(
        "several snapshots begin with {wanted}: {}; give more digits",
        list(matches)
    )]
    Ambiguous {
        /// As asked for.
        wanted: String,
        /// Those that match.
        matches: Vec<SnapshotId>,
    },
    /// `latest` where several databases are kept.
    #[error(
        "{wanted:?} could be of several sources: {}; give an id{}",
        sources.join(", "),
        if wanted == "latest" { ", or latest:DATABASE" } else { "" }
    )]
    SeveralSources {
        /// As asked for.
        wanted: String,
        /// `host:port/database` each.
        sources: Vec<String>,
    },
    /// What is there cannot be seen whole, so nothing of it is removed or protected.
    #[error(
        "{cause}\nhint: what is there cannot be seen whole, and what is missing may be the newest; run `pgtide repair` first"
    )]
    BeyondSight {
        /// What is wrong.
        cause: Box<RepoError>,
    },
    /// A protected snapshot was to be forgotten.
    #[error(
        "snapshot {snapshot:.12} is protected {until}; `pgtide protect --release` takes that away, nothing was removed"
    )]
    ProtectedSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
        /// How long.
        until: Protection,
    },
    /// A database of a cluster could not be copied, and the cluster's snapshot names it.
    #[error(
        "its database {database}, snapshot {snapshot:.12}, could not be copied; mend that first"
    )]
    WithoutMember {
        /// The database.
        database: String,
        /// Its snapshot.
        snapshot: SnapshotId,
    },
    /// The user stopped it.
    #[error("interrupted; run the same command again: what was done is not done twice")]
    Interrupted,
    /// A database of a cluster was to be forgotten without the cluster.
    #[error(
        "snapshot {snapshot:.12} is a part of the cluster's snapshot {cluster:.12}; forget that one, and its databases go with it"
    )]
    ClusterStays {
        /// The database's snapshot.
        snapshot: SnapshotId,
        /// The cluster's.
        cluster: SnapshotId,
    },
    /// A thread could not be started or ended in a panic.
    #[error("{what}: {detail}; this is a fault of the machine or of pgtide")]
    Thread {
        /// Which thread.
        what: &'static str,
        /// What happened.
        detail: String,
    },
}

fn list(ids: &[SnapshotId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("{id:.12}")).collect();
    ids.join(", ")
}

impl RepoError {
    /// An object that is not what it must be.
    pub(super) fn damaged(object: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged {
            object: object.into(),
            detail: detail.into(),
        }
    }

    /// Why nothing can be forgotten: damage may hide snapshots.
    pub(super) fn beyond_sight(self) -> Self {
        match self {
            Self::Damaged { .. } => Self::BeyondSight {
                cause: Box::new(self),
            },
            other => other,
        }
    }

    /// The store's error below this one, if it is one.
    pub fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Failed(error) => error.store_error(),
            _ => None,
        }
    }

    /// Whether it says that the storage is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.store_error(), Some(StoreError::Full { .. }))
    }

    /// Whether it says that an object is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.store_error().is_some_and(StoreError::is_absent)
    }
}
