//! Whether a snapshot that nobody protected while it was put has all it needs.

use std::collections::HashSet;

use super::index::IndexSet;
use super::model::Snapshot;
use super::writer::known::Known;
use super::{RepoError, Repository, outline, pack, session};

/// Number of blocks that a snapshot lacks, or may soon lack. What is marked now may be deleted by somebody who has not
/// seen the snapshot, so it counts as gone; what was marked and is not any more has been deleted, or stays: so the
/// tombstones are listed first.
pub(super) fn missing(repository: &Repository, snapshot: &Snapshot) -> Result<usize, RepoError> {
    let store = &*repository.store;
    let marked = session::marked(&session::tombstones(repository)?);
    let index = IndexSet::load(repository, None)?;
    let packs = pack::list(store)?;
    let reader = repository.reader_with(index)?;
    let known = Known::new(&reader.lookup(), |pack, size| {
        !marked.contains(pack) && packs.get(pack) == Some(&size)
    })?;
    let mut missing = 0;
    outline::visit(&reader, snapshot, &mut HashSet::new(), &mut |block| {
        missing += usize::from(!known.contains(block));
        Ok(())
    })?;
    Ok(missing)
}
