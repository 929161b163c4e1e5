//! Blocks the repository holds, by its index objects.

use std::sync::{Arc, PoisonError, RwLock};

use super::super::RepoError;
use super::super::ids::PackId;
use super::super::index::{IndexFile, IndexSet};
use crate::rows::BlockId;

/// The index objects, each with the packs of it that can be relied on.
#[derive(Debug)]
pub(in crate::repo) struct Known(RwLock<Vec<KnownFile>>);

#[derive(Debug)]
struct KnownFile {
    file: Arc<IndexFile>,
    usable: Vec<bool>,
}

impl Known {
    /// Of these index objects, the packs for which `usable` holds.
    pub fn new(index: &IndexSet, usable: impl Fn(&PackId, u64) -> bool) -> Result<Self, RepoError> {
        let files = index
            .compacted()?
            .files
            .into_values()
            .map(|file| KnownFile {
                usable: file
                    .packs()
                    .map(|(pack, size)| usable(&pack, size))
                    .collect(),
                file,
            });
        Ok(Self(RwLock::new(files.collect())))
    }

    /// Adds an index object of this session, whose packs were just made durable.
    pub fn add(&self, file: Arc<IndexFile>) {
        let usable = vec![true; file.pack_count()];
        let mut files = self.0.write().unwrap_or_else(PoisonError::into_inner);
        files.push(KnownFile { file, usable });
    }

    /// Whether the block is in a pack that can be relied on.
    pub fn contains(&self, id: &BlockId) -> bool {
        let files = self.0.read().unwrap_or_else(PoisonError::into_inner);
        files.iter().any(|known| {
            let mut records = known.file.find(*id);
            records.any(|record| known.usable.get(record.pack as usize) == Some(&true))
        })
    }
}
