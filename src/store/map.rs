//! Read-only bytes that may be a file mapped into memory.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;

use memmap2::{Mmap, UncheckedAdvice};

/// The bytes of an object: mapped, or owned.
#[derive(Debug)]
pub struct Buffer(Inner);

#[derive(Debug)]
enum Inner {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Buffer {
    /// Bytes that are kept in a temporary file without a name, out of memory.
    pub fn spill(bytes: &[u8]) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        Self::map(&file)
    }

    /// Maps a file of a store, or one without a name that nobody else has open.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self(Inner::Owned(Vec::new())));
        }
        // SAFETY: a mapping is sound as long as nobody changes or cuts the file below it. Objects are written under
        // a temporary name, renamed into place and from then on only ever replaced by rename or unlinked, both of
        // which leave the mapped inode as it is. A file without a name is changed by nobody.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(Inner::Mapped(map)))
    }

    /// Gives back the memory that a mapped file takes, until it is read again.
    pub(crate) fn release(&self) {
        if let Inner::Mapped(map) = &self.0 {
            // SAFETY: the mapping is of a file and never written to, so its pages are read from the file again.
            // That it fails costs memory and nothing else.
            let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Owned(bytes))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Mapped(map) => map,
            Inner::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_outlives_replacement_and_removal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        std::fs::write(&path, b"first").unwrap();
        let mapped = Buffer::map(&File::open(&path).unwrap()).unwrap();
        std::fs::write(dir.path().join("new"), b"second, and longer").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(&*mapped, b"first");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*mapped, b"first");
    }

    #[test]
    fn what_was_released_is_read_again() {
        let bytes: Vec<u8> = (0..100_000).map(|at| (at / 7) as u8).collect();
        let mapped = Buffer::spill(&bytes).unwrap();
        assert_eq!(&*mapped, bytes);
        mapped.release();
        assert_eq!(&*mapped, bytes);
        Buffer::from(bytes).release();
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let file = tempfile::tempfile().unwrap();
        assert!(Buffer::map(&file).unwrap().is_empty());
    }
}
