//! Index objects: each is read whole and must be what its name says.

use std::sync::Arc;

use super::problems::{ProblemKind, Problems};
use super::{CheckPhase, CheckProgress, CheckReport, Snapshots};
use crate::repo::ids::ObjectId;
use crate::repo::index::{self, IndexFile, IndexSet};
use crate::repo::{RepoError, Repository};
use crate::store::Listed;

/// Returns the sound ones. What only a damaged one knows counts as not indexed.
pub(super) fn check(
    repository: &Repository,
    problems: &mut Problems,
    report: &mut CheckReport,
    progress: &dyn Fn(CheckProgress),
) -> Result<IndexSet, RepoError> {
    let store = &*repository.store;
    let mut sound = IndexSet::default();
    let objects = store.list(index::PREFIX)?;
    let total = objects.len() as u64;
    for (done, Listed { name, .. }) in (0..).zip(objects) {
        let phase = CheckPhase::Index;
        progress(CheckProgress { phase, done, total });
        let Some(id) = index::parse_name(&name) else {
            continue;
        };
        let bytes = match store.map_stored(&name) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => continue,
            Err(error) => return Err(error.into()),
        };
        report.indexes += 1;
        let file = if ObjectId::of(&bytes) == id {
            IndexFile::open(&repository.keys, &name, bytes)
        } else {
            let detail = "its bytes do not have the hash that is its name";
            Err(RepoError::damaged(&name, detail))
        };
        match file.and_then(|file| verify(&file, &name).map(|()| file)) {
            Ok(file) => drop(sound.files.insert(id, Arc::new(file))),
            Err(RepoError::Damaged { detail, .. }) => {
                problems.add(&name, ProblemKind::Damaged, detail, Snapshots::new());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sound)
}

/// Whether the records are in order and within the packs they name: a faulty writer's index has its hash, too.
fn verify(file: &IndexFile, name: &str) -> Result<(), RepoError> {
    let mut last = None;
    for record in file.records() {
        if last.is_some_and(|last| last > record) {
            return Err(RepoError::damaged(name, "its records are not in order"));
        }
        let end = record.offset.checked_add(record.length.into());
        match (file.pack(record.pack as usize), end) {
            (Some((_, size)), Some(end)) if end <= size => {}
            _ => return Err(RepoError::damaged(name, "a record leads out of its pack")),
        }
        last = Some(record);
    }
    Ok(())
}
