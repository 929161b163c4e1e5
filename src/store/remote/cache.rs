//! Index objects kept on this machine, so that they need not be fetched for every run.
//!
//! An index object is named by the hash of its bytes, so what is cached proves itself: it is hashed whenever it is
//! opened, and what does not have its name is thrown away. Losing the cache costs a download and nothing else.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::super::{Buffer, Listed};

/// Objects that are cached: those that are mapped, and named by their content.
const PREFIX: &str = "index/";

/// The cache of one repository; without a directory there is none.
#[derive(Debug)]
pub(super) struct Cache {
    dir: Option<PathBuf>,
}

impl Cache {
    /// Below `PGTIDE_CACHE_DIR`, or the user's cache directory, in a directory for that place.
    pub fn new(place: &str, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let base = env("PGTIDE_CACHE_DIR")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env("XDG_CACHE_HOME")?).join("pgtide")))
            .or_else(|| Some(PathBuf::from(env("HOME")?).join(".cache/pgtide")));
        let place = &blake3::hash(place.as_bytes()).to_hex()[..32];
        Self {
            dir: base.map(|base| base.join(place)),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let digits = name.strip_prefix(PREFIX)?;
        let is_hash = digits.len() == 64
            && digits
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then(|| Some(self.dir.as_ref()?.join(digits)))?
    }

    /// An object, if it is there and has its name.
    pub fn get(&self, name: &str) -> Option<Buffer> {
        let path = self.path(name)?;
        let buffer = Buffer::map(&File::open(&path).ok()?).ok()?;
        if blake3::hash(&buffer).to_hex().as_str() == name.strip_prefix(PREFIX)? {
            return Some(buffer);
        }
        // It costs a download; if it cannot be removed it costs that every time.
        let _ = fs::remove_file(&path);
        None
    }

    /// Keeps an object, if it has its name. That it cannot be kept is no failure.
    pub fn add(&self, name: &str, bytes: &[u8]) {
        if let Some(path) = self.path(name)
            && blake3::hash(bytes).to_hex().as_str() == &name[PREFIX.len()..]
            && let Err(error) = write(&path, bytes)
        {
            tracing::debug!("{}: not cached: {error}", path.display());
        }
    }

    /// Forgets what is no longer listed under a prefix.
    pub fn keep(&self, prefix: &str, listed: &[Listed]) {
        let Some(dir) = self.dir.as_ref().filter(|_| prefix == PREFIX) else {
            return;
        };
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        let names: std::collections::HashSet<&str> = listed
            .iter()
            .map(|object| &object.name[PREFIX.len()..])
            .collect();
        for entry in entries.flatten() {
            let name = entry.file_name();
            // Temporary files of others have shorter names, and are left to them.
            if name.len() == 64 && !name.to_str().is_some_and(|name| names.contains(name)) {
                // Gone already, or it stays until the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn write(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::NotFound)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &tempfile::TempDir, place: &str) -> Cache {
        let dir = dir.path().join("deep/cache").display().to_string();
        Cache::new(place, &|name| {
            (name == "PGTIDE_CACHE_DIR").then(|| dir.clone())
        })
    }

    fn named(bytes: &[u8]) -> String {
        format!("index/{}", blake3::hash(bytes).to_hex())
    }

    #[test]
    fn what_was_added_is_there_for_its_place_until_it_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&dir, "s3://a");
        let (one, two) = (named(b"one"), named(b"two"));
        cache.add(&one, b"one");
        cache.add(&two, b"two");
        assert_eq!(cache.get(&one).as_deref(), Some(&b"one"[..]));
        assert!(self::cache(&dir, "s3://b").get(&one).is_none());
        let listed = Listed {
            name: two.clone(),
            len: 3,
            modified: jiff::Timestamp::UNIX_EPOCH,
        };
        cache.keep("packs/", &[]);
        assert!(cache.get(&one).is_some());
        cache.keep("index/", &[listed]);
        assert!(cache.get(&one).is_none());
        assert!(cache.get(&two).is_some());
    }

    #[test]
    fn what_does_not_have_its_name_is_neither_kept_nor_used() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&dir, "s3://a");
        let name = named(b"one");
        cache.add(&name, b"two");
        assert!(cache.get(&name).is_none());
        cache.add(&name, b"one");
        fs::write(cache.path(&name).unwrap(), b"changed").unwrap();
        assert!(cache.get(&name).is_none());
        assert!(!cache.path(&name).unwrap().exists());
        for name in ["config", "index/../../x", "index/abc", "packs/00/00"] {
            assert!(cache.path(name).is_none(), "{name}");
        }
    }

    #[test]
    fn it_is_for_its_owner_only_and_a_place_that_cannot_be_written_is_no_failure() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&dir, "s3://a");
        let name = named(b"one");
        cache.add(&name, b"one");
        for path in [cache.dir.clone().unwrap(), dir.path().join("deep/cache")] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
        fs::write(dir.path().join("file"), b"").unwrap();
        let base = dir.path().join("file").display().to_string();
        let blocked = Cache::new("s3://a", &|_| Some(base.clone()));
        blocked.add(&name, b"one");
        assert!(blocked.get(&name).is_none());
    }
}
