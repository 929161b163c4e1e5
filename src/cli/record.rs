//! What a command did, kept in the repository.

use pgtide::repo::{Repository, RunRecord};

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
