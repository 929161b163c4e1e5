//! Objects as files below a directory.
//!
//! A file is written under a random name in `tmp/`, synced, renamed into place, and its directory synced; nothing is
//! ever changed in place. The writer of a temporary file holds a lock on it, so that [`Store::clean`] can tell a
//! leftover from a file in use.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::{Buffer, Listed, Store, StoreError, Upload, is_valid_name};

/// Temporary files live here: on the same file system as the objects, and away from their listings.
const TMP: &str = "tmp";

/// A file that is deleted when a full disk has no room for the objects that it takes to free some.
const RESERVE: &str = "tmp/reserve";
/// Its size.
const RESERVE_BYTES: usize = 4 << 20;

/// Temporary files younger than this are left alone, locked or not: not every file system has locks.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Small blocks are gathered before they go to the file; large ones pass by.
const WRITE_BUFFER: usize = 64 * 1024;

/// A store in a local directory, which is created by the first object. Files and directories are for their owner
/// only: they hold databases.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<PathBuf>,
    /// Directories whose own entry this process has made durable.
    synced: Arc<Mutex<HashSet<PathBuf>>>,
}

impl LocalStore {
    /// The store in that directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: Arc::new(root.into()),
            synced: Arc::default(),
        }
    }

    /// The file of an object. Names come from listings and command lines too, so they are never trusted.
    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        if !is_valid_name(name) || name.split('/').next() == Some(TMP) {
            return Err(StoreError::Name {
                object: name.to_owned(),
            });
        }
        Ok(self.root.join(name))
    }

    /// Creates a directory with all its parents and makes their entries durable.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if self
            .synced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(dir)
        {
            return Ok(());
        }
        if !dir.is_dir() {
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                self.make_dir(parent)?;
            }
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        // Also for a directory that was there: another process may have made it and not synced it yet. Above the
        // root that is the business of whoever made it, and may be unreadable.
        if dir.starts_with(&*self.root) {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            match sync_dir(parent.unwrap_or(Path::new("."))) {
                Err(error)
                    if error.kind() != io::ErrorKind::PermissionDenied || dir != &**self.root =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        self.synced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(dir.to_owned());
        Ok(())
    }

    fn create_temporary(&self) -> io::Result<LocalUpload> {
        let dir = self.root.join(TMP);
        self.make_dir(&dir)?;
        let path = dir.join(hex::encode(rand::random::<[u8; 16]>()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        // Without locks there is still the age.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(LocalUpload {
            store: self.clone(),
            temporary: Temporary(path),
            file: BufWriter::with_capacity(WRITE_BUFFER, file),
        })
    }

    fn walk(
        &self,
        dir: &Path,
        name: &str,
        prefix: &str,
        out: &mut Vec<Listed>,
    ) -> Result<(), StoreError> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| StoreError::from_io(name, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| StoreError::from_io(name, error))?;
            let part = entry.file_name().to_string_lossy().into_owned();
            let child = if name.is_empty() {
                part
            } else {
                format!("{name}/{part}")
            };
            let kind = entry
                .file_type()
                .map_err(|error| StoreError::from_io(&child, error))?;
            if kind.is_dir() {
                let below = format!("{child}/");
                if child != TMP && (below.starts_with(prefix) || prefix.starts_with(&below)) {
                    self.walk(&entry.path(), &child, prefix, out)?;
                }
            } else if child.starts_with(prefix) {
                match entry.metadata() {
                    Ok(metadata) => out.push(Listed {
                        len: metadata.len(),
                        modified: modified(&metadata)
                            .map_err(|error| StoreError::from_io(&child, error))?,
                        name: child,
                    }),
                    // Removed since the directory was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::from_io(&child, error)),
                }
            }
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut upload = self.create_upload()?;
        upload.write(bytes)?;
        upload.finish(name)
    }

    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        let upload = self
            .create_temporary()
            .map_err(|error| StoreError::from_io("a temporary file", error))?;
        Ok(Box::new(upload))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        fs::read(self.path(name)?).map_err(|error| StoreError::from_io(name, error))
    }

    fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        out.clear();
        let file =
            File::open(self.path(name)?).map_err(|error| StoreError::from_io(name, error))?;
        let read = file.metadata().and_then(|metadata| {
            // Before anything is allocated: the length may come from a damaged object.
            if offset
                .checked_add(len as u64)
                .is_none_or(|end| end > metadata.len())
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.resize(len, 0);
            file.read_exact_at(out, offset)
        });
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::Short {
                object: name.to_owned(),
                offset,
                len,
            },
            _ => StoreError::from_io(name, error),
        })
    }

    fn len(&self, name: &str) -> Result<u64, StoreError> {
        let metadata =
            fs::metadata(self.path(name)?).map_err(|error| StoreError::from_io(name, error))?;
        Ok(metadata.len())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut out = Vec::new();
        self.walk(&self.root, "", prefix, &mut out)?;
        out.sort_unstable();
        Ok(out)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        fs::remove_file(&path)
            .and_then(|()| sync_dir(path.parent().unwrap_or(&self.root)))
            .map_err(|error| StoreError::from_io(name, error))
    }

    fn map(&self, name: &str) -> Result<Buffer, StoreError> {
        File::open(self.path(name)?)
            .and_then(|file| Buffer::map(&file))
            .map_err(|error| StoreError::from_io(name, error))
    }

    fn clean(&self) -> Result<u64, StoreError> {
        clean_directory(&self.root.join(TMP), SystemTime::now())
            .map_err(|error| StoreError::from_io(TMP, error))
    }

    fn release_reserve(&self) -> Result<bool, StoreError> {
        match fs::remove_file(self.root.join(RESERVE)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::from_io(RESERVE, error)),
        }
    }

    fn fill_reserve(&self) -> Result<(), StoreError> {
        let path = self.root.join(RESERVE);
        if path.exists() {
            return Ok(());
        }
        // Noise, so that no file system stores it in less.
        let mut noise = vec![0; RESERVE_BYTES];
        rand::fill(&mut noise[..]);
        let fill = || -> io::Result<()> {
            self.make_dir(&self.root.join(TMP))?;
            let mut file = File::create(&path)?;
            file.write_all(&noise)?;
            file.sync_all()
        };
        match fill() {
            // Then there is none: that is no reason for anything to fail.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let _ = fs::remove_file(&path);
                Ok(())
            }
            result => result.map_err(|error| StoreError::from_io(RESERVE, error)),
        }
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

/// Removes old temporary files that no one holds.
fn clean_directory(dir: &Path, now: SystemTime) -> io::Result<u64> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let path = entry?.path();
        if path.ends_with(RESERVE) {
            continue;
        }
        // Files come and go while this runs; one that cannot be looked at is not ours to remove.
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let age = file
            .metadata()?
            .modified()
            .map(|modified| now.duration_since(modified));
        let old = matches!(age, Ok(Ok(age)) if age > LEFTOVER_AGE);
        if old
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && fs::remove_file(&path).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}

fn modified(metadata: &fs::Metadata) -> io::Result<jiff::Timestamp> {
    jiff::Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The path of a temporary file, removed with it unless it was renamed away.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left of that name; otherwise a leftover costs space until it is cleaned.
        let _ = fs::remove_file(&self.0);
    }
}

struct LocalUpload {
    store: LocalStore,
    temporary: Temporary,
    file: BufWriter<File>,
}

impl Upload for LocalUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(|error| StoreError::from_io("a temporary file", error))
    }

    fn finish(self: Box<Self>, name: &str) -> Result<(), StoreError> {
        let Self {
            store,
            temporary,
            file,
        } = *self;
        let path = store.path(name)?;
        let place = || -> io::Result<()> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let dir = path.parent().unwrap_or(&store.root);
            store.make_dir(dir)?;
            fs::rename(&temporary.0, &path)?;
            sync_dir(dir)
        };
        place().map_err(|error| match error.kind() {
            // The directory was taken away under us: not an absent object.
            io::ErrorKind::NotFound => StoreError::Io {
                object: name.to_owned(),
                source: error,
            },
            _ => StoreError::from_io(name, error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path().join("deep/root"));
        (dir, store)
    }

    #[test]
    fn what_was_put_is_got_listed_and_deleted() {
        let (_dir, store) = store();
        assert!(store.list("").unwrap().is_empty());
        store.put("a/b", b"0123456789").unwrap();
        store.put("a/c", b"x").unwrap();
        store.put("ab", b"").unwrap();
        assert_eq!(store.get("a/b").unwrap(), b"0123456789");
        let mut out = vec![1];
        store.get_range("a/b", 3, 4, &mut out).unwrap();
        assert_eq!(out, b"3456");
        assert_eq!(store.len("a/b").unwrap(), 10);
        let names = |prefix: &str| -> Vec<String> {
            store
                .list(prefix)
                .unwrap()
                .into_iter()
                .map(|object| object.name)
                .collect()
        };
        assert_eq!(names(""), ["a/b", "a/c", "ab"]);
        assert_eq!(names("a/"), ["a/b", "a/c"]);
        assert_eq!(names("a/c"), ["a/c"]);
        assert_eq!(&*store.map("a/b").unwrap(), b"0123456789");
        store.delete("a/b").unwrap();
        assert!(store.get("a/b").unwrap_err().is_absent());
        assert!(store.delete("a/b").unwrap_err().is_absent());
    }

    #[test]
    fn a_range_past_the_end_is_an_error_and_allocates_nothing() {
        let (_dir, store) = store();
        store.put("a", b"abc").unwrap();
        let mut out = Vec::new();
        for (offset, len) in [(0, 4), (4, 0), (3, 1), (u64::MAX, 2), (0, usize::MAX)] {
            let error = store.get_range("a", offset, len, &mut out).unwrap_err();
            assert!(matches!(error, StoreError::Short { .. }), "{error}");
        }
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn an_abandoned_upload_leaves_nothing() {
        let (dir, store) = store();
        let mut upload = store.create_upload().unwrap();
        upload.write(b"half").unwrap();
        assert!(store.list("").unwrap().is_empty());
        drop(upload);
        assert_eq!(
            fs::read_dir(dir.path().join("deep/root/tmp"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let (_dir, store) = store();
        for name in ["", "/etc/passwd", "../x", "a/../b", "a//b", "tmp/x", "a/\0"] {
            assert!(
                matches!(store.get(name), Err(StoreError::Name { .. })),
                "{name}"
            );
            assert!(store.put(name, b"").is_err(), "{name}");
        }
    }

    #[test]
    fn only_old_leftovers_that_no_one_writes_are_cleaned() {
        let (dir, store) = store();
        let in_use = store.create_upload().unwrap();
        fs::write(dir.path().join("deep/root/tmp/leftover"), b"x").unwrap();
        assert_eq!(store.clean().unwrap(), 0);
        let tomorrow = SystemTime::now() + LEFTOVER_AGE + Duration::from_secs(60);
        assert_eq!(
            clean_directory(&dir.path().join("deep/root/tmp"), tomorrow).unwrap(),
            1
        );
        in_use.finish("kept").unwrap();
    }

    #[test]
    fn a_store_that_may_not_be_written_says_so() {
        let (dir, store) = store();
        fs::write(dir.path().join("deep"), b"a file in the way").unwrap();
        let error = store.put("a", b"x").unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }

    #[test]
    fn reads_do_not_follow_into_directories() {
        let (_dir, store) = store();
        store.put("a/b", b"x").unwrap();
        assert!(store.get("a").is_err());
    }
}
