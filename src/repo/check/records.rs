//! The small objects: snapshots, history, sessions, tombstones, and what does not belong.

use std::collections::BTreeMap;

use super::problems::{ProblemKind, Problems};
use super::{Snapshots, pack, passes};
use crate::repo::ids::{ObjectId, SessionId, SnapshotId};
use crate::repo::model::Snapshot;
use crate::repo::{RepoError, Repository, config, history, index, keys, runs, session, snapshots};
use crate::store::{Listed, Store};

/// Reads all of them; returns the snapshots that can be read, the oldest first.
pub(super) fn check(
    repository: &Repository,
    problems: &mut Problems,
    notes: &mut Vec<String>,
) -> Result<Vec<(SnapshotId, Snapshot)>, RepoError> {
    let store = &*repository.store;
    let mut read = Vec::new();
    let mut sessions: BTreeMap<SnapshotId, SessionId> = BTreeMap::new();
    for id in snapshots::list(store)? {
        match snapshots::load_stored(repository, &id) {
            Ok(stored) => {
                sessions.insert(id, stored.session);
                read.push((id, stored.snapshot));
            }
            Err(error) if error.is_absent() => {}
            Err(RepoError::Damaged { detail, .. }) => {
                let name = snapshots::object_name(&id);
                problems.add(&name, ProblemKind::Damaged, detail, Snapshots::from([id]));
            }
            Err(error) => return Err(error),
        }
    }
    read.sort_by_key(|(id, snapshot)| (snapshot.time, snapshot.finished, *id));

    // Sessions before history: a writer records its snapshot, then ends its session.
    let unrecorded = sessions
        .into_iter()
        .filter_map(|(id, session)| match session::exists(store, &session) {
            Ok(true) => None,
            Ok(false) => Some(Ok(id)),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<Snapshots, RepoError>>()?;
    check_history(repository, unrecorded, problems)?;
    check_small(repository, problems)?;
    check_keys(store, problems)?;
    check_names(store, notes)?;
    Ok(read)
}

/// Compares the snapshots with what the history says of them. `finished` are those whose writer has ended.
fn check_history(
    repository: &Repository,
    finished: Snapshots,
    problems: &mut Problems,
) -> Result<(), RepoError> {
    let store = &*repository.store;
    let history = history::History::load_stored(repository)?;
    for (id, detail) in &history.damaged {
        problems.add(
            &history::object_name(id),
            ProblemKind::Damaged,
            detail,
            Snapshots::new(),
        );
    }
    for id in history.named() {
        if !history.records.contains_key(&id) && !history.damaged.contains_key(&id) {
            let detail = "a later audit record names it";
            problems.add(
                &history::object_name(&id),
                ProblemKind::Missing,
                detail,
                Snapshots::new(),
            );
        }
    }
    let kept = history.kept();
    // A damaged record is named above; what it said is not known.
    if history.damaged.is_empty() {
        // One that is to be removed and still there was committed, too.
        for id in finished.difference(&history.committed()) {
            let detail = format!(
                "the audit record of the commit of {} is gone",
                snapshots::object_name(id)
            );
            problems.add(
                history::PREFIX,
                ProblemKind::Missing,
                detail,
                Snapshots::new(),
            );
        }
    }
    let gone = |id: &&SnapshotId| {
        store
            .len(&snapshots::object_name(id))
            .is_err_and(|error| error.is_absent())
    };
    let gone: Vec<&SnapshotId> = kept.iter().filter(gone).collect();
    if gone.is_empty() {
        return Ok(());
    }
    // It may have been forgotten since the history was read.
    let kept = history::History::load(repository)?.kept();
    for id in gone.into_iter().filter(|id| kept.contains(id)) {
        let detail = "was committed and never forgotten";
        let name = snapshots::object_name(id);
        problems.add(&name, ProblemKind::Missing, detail, Snapshots::from([*id]));
    }
    Ok(())
}

/// Objects that may be missing, but not be damaged.
fn check_small(repository: &Repository, problems: &mut Problems) -> Result<(), RepoError> {
    let store = &*repository.store;
    for prefix in [
        session::PREFIX,
        session::TOMBSTONES,
        passes::PREFIX,
        runs::PREFIX,
    ] {
        for Listed { name, .. } in store.list(prefix)? {
            let Some(bytes) = store.get_if_there(&name)? else {
                continue;
            };
            if let Err(detail) = verify_small(repository, &name, &bytes) {
                problems.add(&name, ProblemKind::Damaged, detail, Snapshots::new());
            }
        }
    }
    Ok(())
}

/// What is wrong with a session, a tombstone, the record of a check or a run, if anything; nothing for names of others.
pub(in crate::repo) fn verify_small(
    repository: &Repository,
    name: &str,
    bytes: &[u8],
) -> Result<(), String> {
    let keys = &repository.keys;
    let id = |prefix: &str| name.strip_prefix(prefix)?.parse::<ObjectId>().ok();
    if name.starts_with(session::PREFIX) {
        session::verify(keys, name, bytes)
    } else if let Some(id) = id(session::TOMBSTONES) {
        session::decode_tombstone(keys, &id, bytes).map(drop)
    } else if let Some(id) = id(passes::PREFIX) {
        passes::decode(keys, &id, bytes).map(drop)
    } else if let Some(id) = id(runs::PREFIX) {
        runs::decode(keys, &id, bytes).map(drop)
    } else {
        Ok(())
    }
}

fn check_keys(store: &dyn Store, problems: &mut Problems) -> Result<(), RepoError> {
    for (id, slot) in keys::slots(store)? {
        if let Err(detail) = slot {
            let name = keys::object_name(&id);
            problems.add(&name, ProblemKind::Damaged, detail, Snapshots::new());
        }
    }
    Ok(())
}

/// Names that are not the repository's: nothing uses them, but a renamed object is among them.
fn check_names(store: &dyn Store, notes: &mut Vec<String>) -> Result<(), RepoError> {
    for Listed { name, .. } in store.list("")? {
        let (folder, rest) = name
            .split_once('/')
            .map_or(("", &*name), |(folder, rest)| (folder, rest));
        let known = match folder {
            "" => rest == config::NAME || rest == config::COPY,
            "packs" => pack::parse_name(&name).is_some(),
            "index" => index::parse_name(&name).is_some(),
            "snapshots" | "history" | "tombstones" | "checks" | "runs" | "keys" => {
                rest.parse::<ObjectId>().is_ok()
            }
            "sessions" => session::is_name(rest),
            _ => false,
        };
        if !known {
            notes.push(format!(
                "{name}: not an object of the repository; it was renamed, or put there by others"
            ));
        }
    }
    Ok(())
}
