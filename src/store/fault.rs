//! A store that fails on purpose, for tests: at the Nth operation that writes, in a way of one's choice.

use std::fmt::Debug;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Buffer, Listed, Store, StoreError, Upload};

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails; later ones succeed.
    Fail,
    /// It does nothing, and so does everything after it: the process died before.
    Crash,
    /// It takes effect, but nobody learns of it; everything after it fails: the process died right after.
    CrashAfter,
    /// It and every later write finds the storage full; reads and deletes go on.
    Full,
    /// A write of bytes stores half of them and the process dies; any other operation is as [`Fault::Crash`].
    Short,
}

/// A store around another that fails at the Nth write-side operation: put, create, write, finish, delete.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    fault: Fault,
    at: u64,
    operations: AtomicU64,
    dead: AtomicBool,
}

/// What the plan says of one operation.
enum Verdict {
    Go,
    Refuse,
    Full,
    DoThenDie,
    HalfThenDie,
}

impl FaultStore {
    /// Fails at operation `at`, counted from 1; never for 0.
    pub fn new(inner: Arc<dyn Store>, fault: Fault, at: u64) -> Self {
        let plan = Plan {
            fault,
            at,
            operations: AtomicU64::new(0),
            dead: AtomicBool::new(false),
        };
        Self {
            inner,
            plan: Arc::new(plan),
        }
    }

    /// Number of write-side operations so far.
    pub fn operations(&self) -> u64 {
        self.plan.operations.load(Ordering::SeqCst)
    }

    fn read<T>(
        &self,
        object: &str,
        go: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.plan.dead.load(Ordering::SeqCst) {
            return Err(injected(object));
        }
        go()
    }
}

impl Plan {
    fn next(&self) -> Verdict {
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        if self.dead.load(Ordering::SeqCst) {
            return Verdict::Refuse;
        }
        if self.at == 0 || number < self.at {
            return Verdict::Go;
        }
        match self.fault {
            Fault::Full => return Verdict::Full,
            _ if number > self.at => return Verdict::Go,
            Fault::Fail => return Verdict::Refuse,
            _ => {}
        }
        self.dead.store(true, Ordering::SeqCst);
        match self.fault {
            Fault::CrashAfter => Verdict::DoThenDie,
            Fault::Short => Verdict::HalfThenDie,
            _ => Verdict::Refuse,
        }
    }

    fn write<T>(
        &self,
        object: &str,
        go: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.next() {
            Verdict::Go => go(),
            Verdict::Refuse | Verdict::HalfThenDie => Err(injected(object)),
            Verdict::Full => Err(full(object)),
            Verdict::DoThenDie => go().and_then(|_| Err(injected(object))),
        }
    }
}

fn injected(object: &str) -> StoreError {
    StoreError::Io {
        object: object.to_owned(),
        source: io::Error::other("injected fault"),
    }
}

fn full(object: &str) -> StoreError {
    StoreError::from_io(object, io::ErrorKind::StorageFull.into())
}

impl Store for FaultStore {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.plan.write(name, || self.inner.put(name, bytes))
    }

    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        let inner = self.plan.write("upload", || self.inner.create_upload())?;
        Ok(Box::new(FaultUpload {
            inner: Some(inner),
            plan: Arc::clone(&self.plan),
        }))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.read(name, || self.inner.get(name))
    }

    fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.read(name, || self.inner.get_range(name, offset, len, out))
    }

    fn len(&self, name: &str) -> Result<u64, StoreError> {
        self.read(name, || self.inner.len(name))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.read(prefix, || self.inner.list(prefix))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.plan.fault {
            // A full disk lets go of files.
            Fault::Full => self.inner.delete(name),
            _ => self.plan.write(name, || self.inner.delete(name)),
        }
    }

    fn map(&self, name: &str) -> Result<Buffer, StoreError> {
        self.read(name, || self.inner.map(name))
    }

    fn map_stored(&self, name: &str) -> Result<Buffer, StoreError> {
        self.read(name, || self.inner.map_stored(name))
    }

    fn clean(&self) -> Result<u64, StoreError> {
        self.read("tmp", || self.inner.clean())
    }

    fn release_reserve(&self) -> Result<bool, StoreError> {
        self.read("tmp", || self.inner.release_reserve())
    }

    fn fill_reserve(&self) -> Result<(), StoreError> {
        self.read("tmp", || self.inner.fill_reserve())
    }

    fn discard(&self, name: &str) {
        self.inner.discard(name);
    }

    fn protect(&self, name: &str, until: jiff::Timestamp) -> Result<bool, StoreError> {
        self.plan.write(name, || self.inner.protect(name, until))
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

struct FaultUpload {
    inner: Option<Box<dyn Upload>>,
    plan: Arc<Plan>,
}

impl Upload for FaultUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(inner) = self.inner.as_mut() else {
            return Err(injected("upload"));
        };
        match self.plan.next() {
            Verdict::Go => inner.write(bytes),
            Verdict::Refuse => Err(injected("upload")),
            Verdict::Full => Err(full("upload")),
            Verdict::DoThenDie => inner.write(bytes).and_then(|()| Err(injected("upload"))),
            Verdict::HalfThenDie => {
                inner.write(bytes.get(..bytes.len() / 2).unwrap_or_default())?;
                Err(injected("upload"))
            }
        }
    }

    fn finish(mut self: Box<Self>, name: &str) -> Result<(), StoreError> {
        let inner = self.inner.take();
        let plan = Arc::clone(&self.plan);
        let Some(inner) = inner else {
            return Err(injected(name));
        };
        let mut kept = Some(inner);
        let result = plan.write(name, || match kept.take() {
            Some(inner) => inner.finish(name),
            None => Err(injected(name)),
        });
        self.inner = kept;
        result
    }
}

impl Drop for FaultUpload {
    fn drop(&mut self) {
        // A process that died does not tidy up: its temporary file stays.
        if self.plan.dead.load(Ordering::SeqCst) {
            mem::forget(self.inner.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LocalStore;

    fn stores(fault: Fault, at: u64) -> (tempfile::TempDir, LocalStore, FaultStore) {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalStore::new(dir.path());
        let faulty = FaultStore::new(Arc::new(local.clone()), fault, at);
        (dir, local, faulty)
    }

    #[test]
    fn a_failure_happens_once_and_a_crash_for_good() {
        let (_dir, local, faulty) = stores(Fault::Fail, 2);
        faulty.put("a", b"1").unwrap();
        faulty.put("b", b"1").unwrap_err();
        faulty.put("c", b"1").unwrap();
        assert_eq!(local.list("").unwrap().len(), 2);

        let (_dir, local, faulty) = stores(Fault::Crash, 2);
        faulty.put("a", b"1").unwrap();
        faulty.put("b", b"1").unwrap_err();
        faulty.put("c", b"1").unwrap_err();
        faulty.get("a").unwrap_err();
        assert_eq!(local.list("").unwrap().len(), 1);

        let (_dir, local, faulty) = stores(Fault::CrashAfter, 2);
        faulty.put("a", b"1").unwrap();
        faulty.put("b", b"1").unwrap_err();
        faulty.get("a").unwrap_err();
        assert_eq!(local.list("").unwrap().len(), 2);
    }

    #[test]
    fn a_full_disk_still_reads_and_deletes() {
        let (_dir, _local, faulty) = stores(Fault::Full, 2);
        faulty.put("a", b"1").unwrap();
        assert!(matches!(
            faulty.put("b", b"1"),
            Err(StoreError::Full { .. })
        ));
        faulty.get("a").unwrap();
        faulty.delete("a").unwrap();
        assert!(matches!(
            faulty.create_upload().err(),
            Some(StoreError::Full { .. })
        ));
    }

    #[test]
    fn a_short_write_is_never_visible() {
        let (dir, local, faulty) = stores(Fault::Short, 2);
        let mut upload = faulty.create_upload().unwrap();
        upload.write(b"0123456789").unwrap_err();
        upload.finish("a").unwrap_err();
        assert!(local.list("").unwrap().is_empty());
        assert_eq!(
            std::fs::read_dir(dir.path().join("tmp")).unwrap().count(),
            1
        );
    }
}
