//! What a command did, kept in the repository.

use pgtide::repo::{Repository, RunRecord, SnapshotId};
use pgtide::restore::RestoreOptions;

use super::Exit;

/// Stores the record of something that has ended. That it could not be stored is said, and fails nothing: whoever may only
/// read may restore.
pub fn keep(repo: &Repository, mut entry: RunRecord, exit: Exit) {
    entry.finished = pgtide::clock::now();
    entry.exit = exit as u8;
    entry.outcome = exit.outcome();
    if let Err(error) = repo.record_run(&entry) {
        eprintln!("note: the history of the repository does not have this: {error}");
    }
}

/// The record of a restore that begins.
pub fn restore(id: SnapshotId, options: &RestoreOptions) -> RunRecord {
    let settings = &options.settings;
    let mut entry = RunRecord::begin("restore");
    entry.snapshots.push(id);
    entry.target = Some(format!("{}:{}", settings.host_name(), settings.port()));
    entry
}

/// Stores the record of a restore that has ended, into that database.
pub fn restored(
    repo: &Repository,
    mut entry: RunRecord,
    database: Option<&str>,
    exit: Exit,
    error: Option<String>,
) {
    if let (Some(target), Some(database)) = (&mut entry.target, database) {
        target.push('/');
        target.push_str(database);
    }
    entry.error = error;
    keep(repo, entry, exit);
}
