//! Objects in a place: durable put, ranged get, list, delete. The repository above knows names and bytes only.
//!
//! The contract every store keeps, and on which the repository's promises rest:
//! an object is visible whole or not at all; when [`Store::put`] or [`Upload::finish`] returns, it survives a power
//! cut; what was written can be read and is listed at once. Nothing else is assumed: no conditional writes, no clocks.

pub mod fault;
mod local;
mod map;

use std::fmt::Debug;
use std::io;

pub use local::LocalStore;
pub use map::Buffer;

/// A place that keeps objects by name. Names are relative, `/` between their parts.
pub trait Store: Send + Sync + Debug {
    /// Stores an object. Durable when it returns, visible whole or not at all. An object of that name is replaced:
    /// content-named objects by the same bytes, sessions by newer ones.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Starts an object whose name is known only at its end; invisible until [`Upload::finish`].
    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError>;

    /// The whole object.
    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError>;

    /// `len` bytes from `offset` on. `out` is cleared first. An object that ends before that is an error.
    fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError>;

    /// The object's length.
    fn len(&self, name: &str) -> Result<u64, StoreError>;

    /// All objects whose name starts with the prefix, in order of name.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError>;

    /// Removes an object; it is [`StoreError::Absent`] if there is none.
    fn delete(&self, name: &str) -> Result<(), StoreError>;

    /// The whole object, without holding it in memory where the store can do that.
    fn map(&self, name: &str) -> Result<Buffer, StoreError>;

    /// Removes what interrupted uploads left behind, where no one can still be writing it. Returns their number.
    fn clean(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Gives back the space that [`fill_reserve`](Self::fill_reserve) kept; whether there was any.
    fn release_reserve(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Keeps a little space for the objects that it takes to free space, where a full storage would refuse them.
    fn fill_reserve(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Has the storage itself refuse to remove or replace an object until then. Whether it can do that: without object
    /// lock nothing happens.
    fn protect(&self, _name: &str, _until: jiff::Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Where this is, for people.
    fn location(&self) -> String;
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// When it was put, by the storage's own clock: good for comparing objects of one store with each other.
    pub modified: jiff::Timestamp,
}

/// An object on its way in. Dropped without [`finish`](Upload::finish), it never was.
pub trait Upload: Send {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Makes the object durable and visible under its name.
    fn finish(self: Box<Self>, name: &str) -> Result<(), StoreError>;
}

/// What can go wrong in a store; every case names the object.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{object}: there is no such object")]
    Absent {
        /// Name of the object.
        object: String,
    },
    /// The storage refused access.
    #[error(
        "{object}: access denied ({source}); check owner, permissions and mount options of the storage"
    )]
    Forbidden {
        /// Name of the object.
        object: String,
        /// What the storage said.
        source: io::Error,
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
    /// Sorts an I/O error into its case.
    pub fn from_io(object: &str, source: io::Error) -> Self {
        let object = object.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Absent { object },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Forbidden { object, source }
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
            | Self::Forbidden { object, .. }
            | Self::Full { object, .. }
            | Self::Short { object, .. }
            | Self::Name { object }
            | Self::Io { object, .. } => object,
        }
    }
}
