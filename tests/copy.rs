//! Copying snapshots into another repository: every row, once, and whatever fails.

mod common;
mod repo_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::equal::digests;
use common::program::{self, golden, run_in};
use common::testbed::Server;
use pgtide::pg::interrupt::Interrupt;
use pgtide::progress::Silent;
use pgtide::repo::model::{Original, Snapshot};
use pgtide::repo::{CopyOptions, CopyReport, RepoError, Repository, SnapshotId};
use pgtide::rows::Effort;
use pgtide::store::fault::{Fault, FaultStore};
use pgtide::store::{Buffer, Listed, Store, StoreError, Upload};
use repo_support::*;

const OPTIONS: CopyOptions = CopyOptions {
    jobs: 3,
    effort: Effort::Fast,
};

fn copy(from: &Repository, to: &Repository, ids: &[SnapshotId]) -> Result<CopyReport, RepoError> {
    from.copy_to(to, ids, &OPTIONS, &Interrupt::default(), &Silent)
}

fn list(repo: &Repository) -> Vec<(SnapshotId, Snapshot)> {
    repo.snapshots().unwrap().list
}

fn ids(repo: &Repository) -> Vec<SnapshotId> {
    list(repo).into_iter().map(|(id, _)| id).collect()
}

/// What every snapshot holds, by what it is a copy of.
fn contents(repo: &Repository) -> BTreeMap<Original, Database> {
    let contents = list(repo).into_iter().map(|(id, snapshot)| {
        let own = Original {
            repository: repo.id(),
            snapshot: id,
        };
        (
            snapshot.original.unwrap_or(own),
            restore(repo, &snapshot).unwrap(),
        )
    });
    contents.collect()
}

/// An empty repository with the key and the id of another, or with its own.
fn target(source: &Place, same_key: bool) -> Place {
    if !same_key {
        return Place::new();
    }
    let place = Place::empty();
    let config = String::from_utf8(source.store.get("config").unwrap()).unwrap();
    place.store.put("config", config.as_bytes()).unwrap();
    place
}

#[test]
fn every_row_arrives_and_what_is_there_is_not_copied_again() {
    for same_key in [false, true] {
        let (from, to) = {
            let from = Place::new();
            let to = target(&from, same_key);
            (from, to)
        };
        let all = nights(&from, 4);
        let (a, b) = (from.open(), to.open());
        // The second only, then the rest.
        copy(&a, &b, &all[1..2]).unwrap();
        let first = place_of(&b, &a, &all[1]);
        let report = copy(&a, &b, &all).unwrap();
        assert!(report.failed.is_empty());
        let there: Vec<bool> = report
            .copied
            .iter()
            .map(|copied| copied.stored.is_none())
            .collect();
        assert_eq!(there, [false, true, false, false]);
        assert_eq!(report.copied[1].to, first);
        assert_eq!(contents(&a).into_values().collect::<Vec<_>>().len(), 4);
        assert_eq!(contents(&a), contents(&b));
        for (one, other) in list(&a).iter().zip(&list(&b)) {
            assert_eq!((one.1.time, &one.1.source), (other.1.time, &other.1.source));
        }
        assert_clean(&b, "copied");
        let before = to.names("");
        let again = copy(&a, &b, &all).unwrap();
        assert!(again.copied.iter().all(|copied| copied.stored.is_none()));
        assert_eq!(to.names(""), before);
        // Each block once: as many as there.
        let blocks = |repo: &Repository| repo.stats().unwrap().blocks;
        assert!(
            blocks(&b) <= blocks(&a) + 2,
            "{} {}",
            blocks(&b),
            blocks(&a)
        );
    }
}

fn place_of(to: &Repository, from: &Repository, id: &SnapshotId) -> SnapshotId {
    let original = Original {
        repository: from.id(),
        snapshot: *id,
    };
    let found = list(to)
        .into_iter()
        .find(|(_, snapshot)| snapshot.original == Some(original));
    found.unwrap().0
}

#[test]
fn a_copy_of_a_copy_is_known_where_it_came_from() {
    let (a, b, c) = (Place::new(), Place::new(), Place::new());
    let all = nights(&a, 2);
    let (a, b, c) = (a.open(), b.open(), c.open());
    copy(&a, &b, &all).unwrap();
    copy(&b, &c, &ids(&b)).unwrap();
    assert_eq!(contents(&c), contents(&a));
    for (from, to) in [(&c, &a), (&c, &b), (&a, &c), (&b, &a), (&a, &a)] {
        let before = ids(to);
        let report = copy(from, to, &ids(from)).unwrap();
        assert_eq!(report.copied.len(), 2);
        assert!(report.copied.iter().all(|copied| copied.stored.is_none()));
        assert_eq!(ids(to), before);
    }
}

#[test]
fn a_cluster_comes_with_its_databases_and_names_the_copies() {
    let (from, to) = (Place::new(), Place::new());
    let (a, b) = (from.open(), to.open());
    let [one, two, whole] = cluster(&a, 0);
    let report = copy(&a, &b, &[whole]).unwrap();
    let moved: BTreeMap<SnapshotId, SnapshotId> = report
        .copied
        .iter()
        .map(|copied| (copied.from, copied.to))
        .collect();
    assert_eq!(
        moved.keys().copied().collect::<BTreeSet<_>>(),
        [one, two, whole].into()
    );
    let (id, snapshot) = b.find("latest").unwrap();
    assert_eq!(id, moved[&whole]);
    let members: Vec<SnapshotId> = snapshot
        .databases()
        .unwrap()
        .iter()
        .map(|m| m.snapshot)
        .collect();
    assert_eq!(members, [moved[&one], moved[&two]]);
    assert_clean(&b, "a cluster");
    // They stay or go together there, too.
    assert!(matches!(
        b.forget(&members),
        Err(RepoError::ClusterStays { .. })
    ));
    assert_eq!(b.forget(&[id]).unwrap().len(), 3);
}

#[test]
fn a_snapshot_that_is_hurt_is_named_and_the_others_are_copied() {
    let (from, to) = (Place::new(), Place::new());
    let all = nights(&from, 3);
    // A pack that only the second night needs.
    let hurt = from.names("packs/").into_iter().find(|pack| {
        let bytes = from.store.get(pack).unwrap();
        from.store.delete(pack).unwrap();
        let readable: Vec<bool> = list(&from.open())
            .iter()
            .map(|(_, s)| restore(&from.open(), s).is_ok())
            .collect();
        let found = readable == [true, false, true];
        if !found {
            from.store.put(pack, &bytes).unwrap();
        }
        found
    });
    assert!(hurt.is_some());
    let destination = to.url();
    let done = run_in(from.env(), &["copy", "--to", &destination]).expect(3);
    let done = done.says(&[&all[1].to_string()[..12], "was not copied"]);
    assert_eq!(done.stdout.matches("copied ").count(), 2, "{}", done.stdout);
    assert_clean(&to.open(), "without the hurt one");
    assert_eq!(list(&to.open()).len(), 2);
    let json = run_in(from.env(), &["copy", "--to", &destination, "--json"])
        .expect(3)
        .json();
    assert_eq!(json["failed"][0]["snapshot"], all[1].to_string());
    assert_eq!(json["copied"].as_array().unwrap().len(), 2);
    assert_eq!(json["copied"][0]["was_there"], true);
}

#[test]
fn snapshots_are_picked_by_name_and_by_filter() {
    let (from, to) = (Place::new(), Place::new());
    let all = nights(&from, 3);
    cluster(&from.open(), DAY);
    let destination = to.url();
    let run = |arguments: &[&str]| {
        run_in(
            from.env(),
            &[&["copy", "--to", &destination], arguments].concat(),
        )
    };
    run(&["latest:db"]).expect(0);
    assert_eq!(list(&to.open()).len(), 1);
    run(&["--database", "db"]).expect(0);
    assert_eq!(list(&to.open()).len(), 3);
    run(&["--database", "(cluster)"]).expect(0);
    assert_eq!(list(&to.open()).len(), 6);
    run(&["--tag", "none"]).expect(0);
    run(&[&all[0].to_string(), "--tag", "none"]).expect(2);
    run(&["abcdefabcdef"]).expect(1);
    run_in(from.env(), &["copy", "--to", "/nowhere/at/all"]).expect(10);
    let shown = run_in(to.env(), &["snapshots"]).expect(0);
    assert!(
        shown.stdout.contains(&format!("copy of {:.12}", all[0])),
        "{}",
        shown.stdout
    );
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_was() {
    let (from, to) = (Place::new(), Place::new());
    let all = nights(&from, 2);
    let interrupt = Interrupt::default();
    interrupt.raise();
    let stopped = from
        .open()
        .copy_to(&to.open(), &all, &OPTIONS, &interrupt, &Silent);
    assert!(matches!(stopped, Err(RepoError::Interrupted)));
    assert!(ids(&to.open()).is_empty());
    copy(&from.open(), &to.open(), &all).unwrap();
    assert_eq!(contents(&from.open()), contents(&to.open()));
}

/// Copies into a store that meets the fault at each of its operations in turn.
fn at_every_operation(fault: Fault, same_key: bool) {
    let from = Place::new();
    let all = nights(&from, 3);
    let source = from.open();
    let prepared = || {
        let to = target(&from, same_key);
        copy(&source, &to.open(), &all[..1]).unwrap();
        to
    };
    let to = prepared();
    let faulty = FaultStore::new(Arc::clone(&to.store), fault, 0);
    copy(
        &source,
        &Repository::open(Arc::new(faulty.clone())).unwrap(),
        &all,
    )
    .unwrap();
    let last = faulty.operations();
    assert!(last > 20, "{last}");
    for at in cases(1..=last + 1) {
        let when = format!("{fault:?} at {at}");
        let to = prepared();
        let faulty = FaultStore::new(Arc::clone(&to.store), fault, at);
        let result = Repository::open(Arc::new(faulty)).and_then(|repo| copy(&source, &repo, &all));
        if let Err(error) = &result {
            let text = error.to_string();
            assert!(
                text.contains("injected fault") || text.contains("no space"),
                "{when}: {text}"
            );
        }
        let repo = to.open();
        assert_clean(&repo, &when);
        let expected = contents(&source);
        for (original, found) in contents(&repo) {
            assert_eq!(found, expected[&original], "{when}");
        }
        copy(&source, &repo, &all).unwrap();
        assert_eq!(contents(&repo), expected, "{when}");
        assert_clean(&repo, &format!("{when}, rerun"));
    }
}

#[test]
fn a_crash_at_any_moment_of_a_copy() {
    at_every_operation(Fault::Crash, false);
    at_every_operation(Fault::CrashAfter, true);
}

#[test]
fn a_failure_at_any_moment_of_a_copy() {
    at_every_operation(Fault::Fail, false);
    at_every_operation(Fault::Short, false);
    at_every_operation(Fault::Full, true);
}

/// A store that counts the bytes that are read from packs.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Store>,
    bytes: AtomicU64,
}

impl Store for Counting {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.put(name, bytes)
    }
    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        self.inner.create_upload()
    }
    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.inner.get(name)
    }
    fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.inner.get_range(name, offset, len, out)
    }
    fn len(&self, name: &str) -> Result<u64, StoreError> {
        self.inner.len(name)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.inner.delete(name)
    }
    fn map(&self, name: &str) -> Result<Buffer, StoreError> {
        self.inner.map(name)
    }
    fn location(&self) -> String {
        self.inner.location()
    }
}

#[test]
fn what_did_not_change_since_the_last_copy_is_not_read_again() {
    for same_key in [false, true] {
        let from = Place::new();
        let to = target(&from, same_key);
        let repo = from.open();
        let mut big = database(4, 20, 10_000);
        dump(&repo, &big, 0).unwrap();
        let store = Arc::new(Counting {
            inner: Arc::clone(&from.store),
            bytes: AtomicU64::new(0),
        });
        let counted = Repository::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        copy(&counted, &to.open(), &ids(&repo)).unwrap();
        let whole = store.bytes.swap(0, Ordering::Relaxed);
        big[2].1[7] = payload(4711, 10_000);
        dump(&repo, &big, DAY).unwrap();
        copy(&counted, &to.open(), &ids(&repo)).unwrap();
        let next = store.bytes.load(Ordering::Relaxed);
        assert!(next * 6 < whole, "{next} of {whole}");
        assert_eq!(contents(&repo), contents(&to.open()));
    }
}

#[test]
fn a_repository_of_format_1_is_copied() {
    let (old, new) = (golden("format-1"), program::Repo::new());
    let id = old.local(&["snapshots", "--json"]).expect(0).json()["snapshots"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = new.path();
    old.local(&["copy", "--to", path.to_str().unwrap(), &id[..12]])
        .expect(0);
    new.local(&["check", "--read-data"]).expect(0);
    let digests = |repo: &program::Repo, id: &str| {
        let shown = repo.local(&["show", id, "--json"]).expect(0).json();
        shown["tables"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| (t["name"].to_string(), t["digest"].to_string()))
            .collect::<Vec<_>>()
    };
    assert!(digests(&old, &id).len() > 10);
    assert_eq!(digests(&old, &id), digests(&new, "latest"));
    assert_eq!(
        old.local(&["list", &id]).expect(0).stdout.lines().count(),
        new.local(&["list", "latest"])
            .expect(0)
            .stdout
            .lines()
            .count()
    );
}

#[test]
fn a_copy_restores_as_its_original() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let source = server.rich("retain_copy");
    let (from, to) = (program::Repo::new(), program::Repo::new());
    let id = from.dump(&source, &[]);
    let path = to.path();
    from.local(&["copy", "--to", path.to_str().unwrap()])
        .expect(0);
    let copied = to.local(&["snapshots", "--json"]).expect(0).json()["snapshots"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(digests(&from, &id), digests(&to, &copied));
    let target = server.empty("retain_copy_target");
    to.restore(&copied, &target, &[]);
    let again = to.dump(&target, &[]);
    assert_eq!(digests(&to, &copied), digests(&to, &again));
}

#[test]
fn between_encrypted_repositories_of_the_same_keys_rows_are_moved_as_they_are_sealed() {
    let from = Place::encrypted();
    let all = nights(&from, 2);
    let a = from.open();
    let secret = password(PASSWORD);
    let mut shared = Place::empty();
    Repository::init_with(
        Arc::clone(&shared.store),
        &pgtide::repo::InitOptions {
            key: Some(cheap(pgtide::repo::Role::Read, &secret)),
            keys_from: Some(&a),
        },
    )
    .unwrap();
    shared.password = Some(secret);
    let own = Place::encrypted();
    // A block's checksum is over its sealed bytes, so it is the same only where those are.
    let sums = |place: &Place| -> BTreeSet<Vec<u8>> {
        let packs = place.names("packs/").into_iter();
        let packs = packs.map(|name| place.store.get(&name).unwrap());
        let sums = packs.flat_map(|pack| {
            let starts =
                (0..pack.len().saturating_sub(64)).filter(|at| pack[*at..].starts_with(b"PGTB"));
            starts
                .map(|at| pack[at + 48..at + 64].to_vec())
                .collect::<Vec<_>>()
        });
        sums.collect()
    };
    for (place, as_they_are) in [(&shared, true), (&own, false)] {
        let b = place.open();
        copy(&a, &b, &all).unwrap();
        assert_eq!(contents(&a), contents(&b));
        assert_clean(&b, "copied");
        let same = sums(&from).intersection(&sums(place)).count();
        assert_eq!(same > 3, as_they_are, "{same} blocks are the same");
    }
}
