//! Packs in the making out of blocks that lie in other packs. Blocks are moved as they lie, checked by their checksum:
//! that takes no key.

use super::block::BlockHeader;
use super::ids::PackId;
use super::pack::{self, FinishedPack, OpenPack, TocEntry};
use super::{RepoError, Repository};
use crate::rows::Format;

/// Blocks on their way into new packs: lists and manifests apart from rows, as they are read at other times.
pub(super) struct MovedBlocks<'a> {
    repository: &'a Repository,
    pack_size: u64,
    open: [Option<OpenPack>; 2],
    finished: Vec<FinishedPack>,
}

impl<'a> MovedBlocks<'a> {
    /// Into packs of about that size.
    pub fn new(repository: &'a Repository, pack_size: u64) -> Self {
        Self {
            repository,
            pack_size,
            open: [None, None],
            finished: Vec::new(),
        }
    }

    /// Moves a block of a pack; `block` is its header and what follows it.
    pub fn append(
        &mut self,
        from: PackId,
        entry: &TocEntry,
        block: &[u8],
    ) -> Result<(), RepoError> {
        let damaged = |detail: &str| {
            RepoError::damaged(
                pack::object_name(&from),
                format!("block {} at {}: {detail}", entry.id, entry.offset),
            )
        };
        let (header, _) = BlockHeader::open(block).map_err(damaged)?;
        if header.id != entry.id {
            return Err(damaged("its header is another block's"));
        }
        let open = &mut self.open[usize::from(header.format == Format::Other)];
        let mut pack = match open.take() {
            Some(pack) => pack,
            None => OpenPack::create(&*self.repository.store)?,
        };
        pack.append_stored(entry, block)?;
        if pack.size() >= self.pack_size {
            self.finished.push(pack.finish()?);
        } else {
            *open = Some(pack);
        }
        Ok(())
    }

    /// Makes durable what was moved; returns the packs, which no index names yet.
    pub fn finish(&mut self) -> Result<Vec<FinishedPack>, RepoError> {
        for open in &mut self.open {
            if let Some(pack) = open.take() {
                self.finished.push(pack.finish()?);
            }
        }
        Ok(std::mem::take(&mut self.finished))
    }
}
