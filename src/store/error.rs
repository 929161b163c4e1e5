//! What can go wrong in a store.

use std::io;

/// What can go wrong in a store; every case names the object and ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{object}: there is no such object")]
    Absent {
        /// Name of the object.
        object: String,
    },
    /// The place that holds all objects is not there: a bucket or container.
    #[error("{object}: there is no bucket or container at {place}; create it, or correct the name")]
    NoBucket {
        /// Name of the object.
        object: String,
        /// Where it was looked for.
        place: String,
    },
    /// The storage refused access.
    #[error("{object}: access denied ({source}); {hint}")]
    Forbidden {
        /// Name of the object.
        object: String,
        /// What the storage said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The object may not be removed yet.
    #[error(
        "{object}: is locked against deletion ({detail}); wait until its lock ends, or let someone end it who may"
    )]
    Locked {
        /// Name of the object.
        object: String,
        /// What the storage said.
        detail: String,
    },
    /// The object is in an archive tier and cannot be read from there.
    #[error(
        "{object}: is in an archive tier and cannot be read; thaw it and run again when that is done: {command}"
    )]
    Archived {
        /// Name of the object.
        object: String,
        /// The command that thaws it.
        command: String,
    },
    /// The storage wants fewer requests, after all retries still.
    #[error(
        "{object}: the storage asks for fewer requests ({detail}); run again later, with fewer jobs, or with \
         --repo-option limit.upload and limit.download"
    )]
    Throttled {
        /// Name of the object.
        object: String,
        /// What the storage said.
        detail: String,
    },
    /// The storage does not answer.
    #[error(
        "{object}: the storage cannot be reached ({detail}); check network, endpoint and proxy, then run again"
    )]
    Unreachable {
        /// Name of the object.
        object: String,
        /// What happened.
        detail: String,
    },
    /// The storage answered with an error, or with something that is no answer.
    #[error(
        "{object}: the storage failed ({detail}); run again, and if that does not help look at its log"
    )]
    Broken {
        /// Name of the object.
        object: String,
        /// What happened.
        detail: String,
    },
    /// The storage is full.
    #[error(
        "{object}: no space left ({source}); free some space and run again: what is stored will be reused"
    )]
    Full {
        /// Name of the object.
        object: String,
        /// What the storage said.
        source: io::Error,
    },
    /// The object ends before the bytes that were asked for.
    #[error("{object}: is too short: no {len} bytes at offset {offset}; it was cut, run check")]
    Short {
        /// Name of the object.
        object: String,
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        len: usize,
    },
    /// Not a name this store can keep.
    #[error("{object:?}: not a valid object name; rename or remove it")]
    Name {
        /// The name.
        object: String,
    },
    /// Anything else.
    #[error("{object}: {source}")]
    Io {
        /// Name of the object.
        object: String,
        /// What the storage said.
        source: io::Error,
    },
}

impl StoreError {
    /// There is no such object.
    pub(crate) fn absent(object: &str) -> Self {
        Self::Absent {
            object: object.to_owned(),
        }
    }

    /// Sorts an I/O error into its case.
    pub fn from_io(object: &str, source: io::Error) -> Self {
        let object = object.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Absent { object },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Forbidden {
                    object,
                    source,
                    hint: "check owner, permissions and mount options of the storage",
                }
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { object, source },
            _ => Self::Io { object, source },
        }
    }

    /// Whether the object is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Name of the object it is about.
    pub fn object(&self) -> &str {
        match self {
            Self::Absent { object }
            | Self::NoBucket { object, .. }
            | Self::Forbidden { object, .. }
            | Self::Locked { object, .. }
            | Self::Archived { object, .. }
            | Self::Throttled { object, .. }
            | Self::Unreachable { object, .. }
            | Self::Broken { object, .. }
            | Self::Full { object, .. }
            | Self::Short { object, .. }
            | Self::Name { object }
            | Self::Io { object, .. } => object,
        }
    }
}
