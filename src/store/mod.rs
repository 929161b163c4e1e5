//! Objects in a place: durable put, ranged get, list, delete. The repository above knows names and bytes only.
//!
//! The contract every store keeps, and on which the repository's promises rest:
//! an object is visible whole or not at all; when [`Store::put`] or [`Upload::finish`] returns, it survives a power
//! cut; what was written can be read and is listed at once. Nothing else is assumed: no conditional writes, no clocks.

mod error;
pub mod fault;
mod local;
mod map;
mod memory;
mod remote;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::StoreError;
pub use local::LocalStore;
pub use map::Buffer;
pub use memory::MemoryStore;
pub use remote::{KNOWN_OPTIONS, OpenError, Options};

/// The parsers of what servers answer, for fuzzing: none may panic or allocate without bound.
pub mod parse {
    pub use super::remote::parse::{error_code, is_listing, unfinished_uploads};
}

/// A place that keeps objects by name. Names are relative, `/` between their parts.
pub trait Store: Send + Sync + Debug {
    /// Stores an object. Durable when it returns, visible whole or not at all. An object of that name is replaced:
    /// content-named objects by the same bytes, sessions by newer ones.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Starts an object whose name is known only at its end; invisible until [`Upload::finish`].
    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError>;

    /// The whole object.
    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError>;

    /// `len` bytes from `offset` on. `out` is cleared first. An object that ends before that is an error. Bytes of
    /// objects that others replace may be old ones: this is for objects named by their content.
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

    /// Removes an object. If there is none, that is [`StoreError::Absent`] where the store can tell: S3 cannot. An
    /// object locked against deletion is [`StoreError::Locked`].
    fn delete(&self, name: &str) -> Result<(), StoreError>;

    /// Removes an object, if there is one.
    fn remove(&self, name: &str) -> Result<(), StoreError> {
        match self.delete(name) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// The whole object, if there is one: it may have been removed since it was listed.
    fn get_if_there(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.get(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole object, without holding it in memory where the store can do that.
    fn map(&self, name: &str) -> Result<Buffer, StoreError>;

    /// As [`map`](Self::map), and never a copy that this machine kept of a content-named object.
    fn map_stored(&self, name: &str) -> Result<Buffer, StoreError> {
        self.map(name)
    }

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

    /// Forgets what was read ahead of an object, as its bytes were found damaged: the next read asks the storage.
    fn discard(&self, name: &str) {
        let _ = name;
    }

    /// Locks an object against deletion and replacement until then, at least. `false` where the store has no such
    /// locks, or they are not asked for by its options.
    fn protect(&self, name: &str, until: jiff::Timestamp) -> Result<bool, StoreError> {
        let _ = (name, until);
        Ok(false)
    }

    /// Where this is, for people: without credentials.
    fn location(&self) -> String;
}

/// The store at a place: a directory, as a path or `file:///path`, or `s3://bucket/prefix`, `gs://bucket/prefix`,
/// `az://container/prefix`. Nothing is read or written yet. `env` looks up environment variables.
pub fn open(
    place: &str,
    options: &Options,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Store>, OpenError> {
    match place.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => {
            Ok(Arc::new(LocalStore::new(Path::new(path))))
        }
        Some((scheme, rest)) => remote::open(scheme, rest, options, env),
        None if place.is_empty() => Err(OpenError::new(
            place,
            "is empty",
            "give a directory or a URL",
        )),
        None => Ok(Arc::new(LocalStore::new(Path::new(place)))),
    }
}

/// The directory that a place is, if it is one.
pub fn local_path(place: &str) -> Option<PathBuf> {
    match place.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => Some(PathBuf::from(path)),
        Some(_) => None,
        None => Some(PathBuf::from(place)),
    }
}

/// Whether a name can be that of an object: relative, its parts neither empty nor `.` nor `..`, no control characters.
fn is_valid_name(name: &str) -> bool {
    name.split('/').all(|part| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(|c: char| c.is_ascii_control())
    })
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
