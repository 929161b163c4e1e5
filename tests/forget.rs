//! Forgetting and protecting snapshots: what is removed, what is refused, and what a fault at any moment leaves.

mod common;
mod repo_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use common::program::{golden, run_in};
use common::testbed::Server;
use jiff::{SignedDuration, Timestamp};
use pgtide::repo::{ObjectId, Protection, RepoError, Repository, SnapshotId};
use pgtide::store::fault::{Fault, FaultStore};
use pgtide::store::{Buffer, Listed, Store, StoreError, Upload};
use repo_support::*;

fn ids(repo: &Repository) -> Vec<SnapshotId> {
    repo.snapshots()
        .unwrap()
        .list
        .into_iter()
        .map(|(id, _)| id)
        .collect()
}

#[test]
fn rules_say_what_stays_and_a_rehearsal_removes_nothing() {
    let place = Place::new();
    let all = nights(&place, 20);
    let before = place.names("");
    let dry = run_in(
        place.env(),
        &[
            "forget",
            "--keep-daily",
            "3",
            "--keep-weekly",
            "2",
            "--dry-run",
        ],
    )
    .expect(0);
    assert_eq!(place.names(""), before);
    let json = run_in(
        place.env(),
        &[
            "forget",
            "--keep-daily",
            "3",
            "--keep-weekly",
            "2",
            "--dry-run",
            "--json",
        ],
    )
    .expect(0)
    .json();
    assert_eq!(place.names(""), before);
    assert_eq!(json["dry_run"], true);
    let verdicts: BTreeMap<String, bool> = json["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["id"].as_str().unwrap().to_owned(),
                row["keep"].as_bool().unwrap(),
            )
        })
        .collect();
    // 1970-01-01 was a Thursday: day 19 is a Tuesday, and day 17 the Sunday before.
    let expected = [16, 17, 18, 19].map(|day: usize| all[day]);
    let expected: BTreeSet<SnapshotId> = expected.into_iter().filter(|id| *id != all[16]).collect();
    for id in &all {
        assert_eq!(verdicts[&id.to_string()], expected.contains(id));
        assert!(dry.stdout.contains(&id.to_string()[..12]));
    }
    assert!(
        dry.stdout
            .contains("would remove 17 snapshots; 3 would stay"),
        "{}",
        dry.stdout
    );
    assert!(
        dry.stdout.contains("newest, daily, weekly"),
        "{}",
        dry.stdout
    );

    let done = run_in(
        place.env(),
        &["forget", "--keep-daily", "3", "--keep-weekly", "2"],
    )
    .expect(0);
    assert!(
        done.stdout.contains("removed 17 snapshots; 3 stay"),
        "{}",
        done.stdout
    );
    assert_eq!(ids(&place.open()), all[17..]);
    assert_clean(&place.open(), "forgotten");
    let again = run_in(
        place.env(),
        &["forget", "--keep-daily", "3", "--keep-weekly", "2"],
    )
    .expect(0);
    assert!(
        again.stdout.contains("nothing to remove"),
        "{}",
        again.stdout
    );
    for (id, snapshot) in place.open().snapshots().unwrap().list {
        let day = all.iter().position(|other| *other == id).unwrap();
        assert_eq!(
            restore(&place.open(), &snapshot).unwrap(),
            content(day as i64)
        );
    }
}

#[test]
fn wrong_usage_is_refused_before_anything_is_opened() {
    let place = Place::empty();
    run_in(place.env(), &["forget"])
        .expect(2)
        .says(&["nothing says which snapshots are to stay", "hint:"]);
    run_in(place.env(), &["forget", "--keep-daily", "0"]).expect(2);
    run_in(place.env(), &["forget", "--host", "h"]).expect(2);
    run_in(place.env(), &["forget", "abcd", "--keep-last", "1"])
        .expect(2)
        .says(&["forget twice"]);
    run_in(place.env(), &["forget", "abcd", "--tag", "t"]).expect(2);
    run_in(place.env(), &["forget", "--keep-last", "-1"]).expect(2);
    run_in(place.env(), &["forget", "--keep-within", "5min"])
        .expect(2)
        .says(&["7y5m3d12h"]);
    run_in(place.env(), &["forget", "--keep-last", "1"]).expect(10);
    run_in(
        place.env(),
        &["protect", "abcd", "--for", "1y", "--until", "2090-01-01"],
    )
    .expect(2);
}

#[test]
fn sources_do_not_evict_each_other_and_filters_pick() {
    let place = Place::new();
    let repo = place.open();
    let one =
        |source: &str, day: i64, identifier: Option<&str>, tag: Option<&str>, sections: &[&str]| {
            dump_as(&repo, &content(1), source, day * DAY, |snapshot| {
                snapshot.source.system_identifier = identifier.map(str::to_owned);
                snapshot.tags = tag.map(str::to_owned).into_iter().collect();
                snapshot.sections = sections.iter().map(|s| (*s).to_owned()).collect();
            })
            .unwrap()
        };
    let here = [
        one("h1/a", 0, None, None, &[]),
        one("h1/a", 1, None, None, &[]),
    ];
    let there = [
        one("h2/a", 0, None, Some("x"), &[]),
        one("h2/a", 1, None, None, &[]),
    ];
    // One server by two names.
    let twice = [
        one("primary/a", 0, Some("7"), None, &[]),
        one("standby/a", 1, Some("7"), None, &[]),
    ];
    // The schema alone is no successor of a whole dump.
    let schema = one("h1/a", 5, None, None, &["pre-data"]);
    let removed = |arguments: &[&str]| -> BTreeSet<String> {
        let json = run_in(place.env(), arguments).expect(0).json();
        json["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["keep"] == false)
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let set = |ids: &[SnapshotId]| ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let last = ["forget", "--keep-last", "1", "--dry-run", "--json"];
    assert_eq!(removed(&last), set(&[here[0], there[0], twice[0]]));
    let with = |more: &[&str]| removed(&[&last[..], more].concat());
    assert_eq!(with(&["--host", "h1:5432"]), set(&[here[0]]));
    assert_eq!(
        with(&["--host", "h1", "--host", "h2"]),
        set(&[here[0], there[0]])
    );
    assert_eq!(with(&["--database", "b"]), set(&[]));
    // Of those with the tag it is the newest.
    assert_eq!(with(&["--tag", "x"]), set(&[]));
    assert_eq!(with(&["--keep-tag", "x"]), set(&[here[0], twice[0]]));
    run_in(place.env(), &["forget", "--keep-last", "1"]).expect(0);
    assert_eq!(ids(&repo).len(), 4);
    assert!(ids(&repo).contains(&schema));
}

#[test]
fn a_hurt_snapshot_takes_the_place_of_no_whole_one() {
    let place = Place::new();
    let all = nights(&place, 5);
    for hurt in [&all[1], &all[4]] {
        let loss = serde_json::json!({"snapshot": hurt, "blocks": [], "more": true});
        let record = serde_json::json!({
            "time": "2026-01-01T00:00:00Z", "host": "h", "tool": "t", "event": {"hurt": loss}, "previous": [],
        });
        let body = record.to_string();
        let line = format!("pgtide history 1 {}\n", ObjectId::of(body.as_bytes()));
        let bytes = format!("{line}{body}");
        let name = format!("history/{}", ObjectId::of(bytes.as_bytes()));
        place.store.put(&name, bytes.as_bytes()).unwrap();
    }
    let done = run_in(place.env(), &["forget", "--keep-last", "2"]).expect(0);
    assert!(done.stdout.contains("db hurt"), "{}", done.stdout);
    // Of the whole ones the last two, and both that are hurt.
    assert_eq!(ids(&place.open()), [all[1], all[2], all[3], all[4]]);
    run_in(place.env(), &["forget", "--keep-last", "1"]).expect(0);
    assert_eq!(ids(&place.open()), all[3..]);
}

#[test]
fn a_cluster_goes_with_its_databases_and_they_not_without_it() {
    let place = Place::new();
    let repo = place.open();
    let old = cluster(&repo, 0);
    let new = cluster(&repo, DAY);
    let short = old[0].to_string();
    run_in(place.env(), &["forget", &short])
        .expect(1)
        .says(&["is a part of the cluster's snapshot", "forget that one"]);
    assert!(matches!(
        repo.forget(&[old[1]]),
        Err(RepoError::ClusterStays { .. })
    ));
    assert_eq!(ids(&repo).len(), 6);
    run_in(place.env(), &["forget", "--keep-last", "1"]).expect(0);
    assert_eq!(ids(&repo).into_iter().collect::<BTreeSet<_>>(), new.into());
    assert_clean(&repo, "a cluster less");
    // The last, named, goes too.
    run_in(place.env(), &["forget", &new[2].to_string()[..12]]).expect(0);
    assert_eq!(ids(&repo), []);
    assert_clean(&repo, "none left");
    assert!(
        run_in(place.env(), &["forget", "--keep-last", "1"])
            .expect(0)
            .stdout
            .contains("nothing to remove")
    );
}

#[test]
fn a_protected_snapshot_stays_until_it_is_released() {
    let place = Place::new();
    let repo = place.open();
    let all = nights(&place, 4);
    let [first, second, ..] = all[..] else {
        panic!()
    };
    let done = run_in(place.env(), &["protect", &first.to_string(), "--for", "7y"]).expect(0);
    assert!(
        done.stdout.contains("the storage itself has no lock"),
        "{}",
        done.stdout
    );
    run_in(place.env(), &["protect", &second.to_string()]).expect(0);
    run_in(place.env(), &["forget", &first.to_string()])
        .expect(1)
        .says(&["is protected until", "--release"]);
    let done = run_in(place.env(), &["forget", "--keep-last", "1"]).expect(0);
    assert!(
        done.stdout.contains("protected until 20"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("protected until it is released"),
        "{}",
        done.stdout
    );
    assert_eq!(ids(&repo), [first, second, all[3]]);
    assert_eq!(repo.protections().unwrap().len(), 2);
    assert_eq!(repo.protections().unwrap()[&second], Protection::Forever);

    run_in(
        place.env(),
        &[
            "protect",
            "--release",
            &second.to_string(),
            &first.to_string(),
        ],
    )
    .expect(0);
    run_in(place.env(), &["forget", "--keep-last", "1"]).expect(0);
    assert_eq!(ids(&repo), [all[3]]);
    assert_clean(&repo, "released");
    // One whose time has passed is not protected.
    repo.protect(&[all[3]], Some(Timestamp::UNIX_EPOCH))
        .unwrap();
    assert!(repo.protections().unwrap().is_empty());
    run_in(
        place.env(),
        &["protect", &all[3].to_string(), "--until", "2001-01-01"],
    )
    .expect(2)
    .says(&["is in the past"]);
    repo.forget(&[all[3]]).unwrap();
    run_in(place.env(), &["protect", &all[3].to_string()])
        .expect(1)
        .says(&["there is no snapshot"]);
}

#[test]
fn protecting_a_cluster_protects_its_databases() {
    let place = Place::new();
    let repo = place.open();
    let old = cluster(&repo, 0);
    cluster(&repo, DAY);
    let until = Timestamp::now() + SignedDuration::from_hours(1);
    let protected = repo.protect(&[old[2]], Some(until)).unwrap();
    assert_eq!(
        protected.snapshots.iter().copied().collect::<BTreeSet<_>>(),
        old.into()
    );
    run_in(place.env(), &["forget", "--keep-last", "1"]).expect(0);
    assert_eq!(ids(&repo).len(), 6);
    assert!(matches!(
        repo.forget(&[old[2]]),
        Err(RepoError::ProtectedSnapshot { .. })
    ));
}

/// The objects below that prefix, taken away and put back.
fn without(place: &Place, names: &[String], look: impl FnOnce(&Repository)) {
    let kept: Vec<(String, Vec<u8>)> = names
        .iter()
        .map(|name| (name.clone(), place.store.get(name).unwrap()))
        .collect();
    for name in names {
        place.store.delete(name).unwrap();
    }
    look(&place.open());
    for (name, bytes) in kept {
        place.store.put(&name, &bytes).unwrap();
    }
}

#[test]
fn nothing_is_forgotten_where_something_may_be_hidden() {
    let place = Place::new();
    let all = nights(&place, 4);
    let names = |prefix: &str| place.names(prefix);
    let refused = |repo: &Repository| {
        let before = place.names("");
        for result in [repo.forget(&all[..1]).map(drop), repo.forget(&[]).map(drop)] {
            match result {
                Err(error @ RepoError::BeyondSight { .. }) => {
                    assert!(error.to_string().contains("repair"), "{error}")
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(repo.protect(&all[..1], None).is_err());
        run_in(place.env(), &["forget", "--keep-last", "1"])
            .expect(1)
            .says(&["pgtide repair"]);
        assert_eq!(place.names(""), before);
    };
    // A listing that lost one, or all.
    for snapshot in names("snapshots/") {
        without(&place, &[snapshot], refused);
    }
    without(&place, &names("snapshots/"), refused);
    // The audit records, one by one but for the last, or all.
    let records = names("history/");
    let (mut noticed, mut last) = (0, None);
    for record in &records {
        let bytes = place.store.get(record).unwrap();
        let named = records.iter().any(|other| {
            let text = String::from_utf8(place.store.get(other).unwrap()).unwrap();
            text.contains(&record["history/".len()..])
        });
        if named {
            noticed += 1;
        } else {
            last = Some(record.clone());
        }
        without(&place, std::slice::from_ref(record), refused);
        // Damaged.
        place.store.put(record, &bytes[..bytes.len() - 2]).unwrap();
        refused(&place.open());
        place.store.put(record, &bytes).unwrap();
    }
    assert_eq!((noticed, last.is_some()), (3, true));
    without(&place, &records, refused);
    // A snapshot that cannot be read.
    let name = names("snapshots/")[0].clone();
    let bytes = place.store.get(&name).unwrap();
    place.store.put(&name, b"nothing").unwrap();
    refused(&place.open());
    place.store.put(&name, &bytes).unwrap();
    assert_eq!(place.open().forget(&all[..1]).unwrap(), all[..1]);
}

/// Runs something that meets the fault at each of its operations in turn, then again without.
fn at_every_operation(
    fault: Fault,
    prepare: impl Fn(&Place) -> Vec<SnapshotId>,
    go: impl Fn(&Repository, &[SnapshotId]) -> Result<(), RepoError>,
    then: impl Fn(&str, &Repository, &[SnapshotId]),
) {
    let place = Place::new();
    let all = prepare(&place);
    let faulty = FaultStore::new(Arc::clone(&place.store), fault, 0);
    go(&Repository::open(Arc::new(faulty.clone())).unwrap(), &all).unwrap();
    let last = faulty.operations();
    assert!(last > 0);
    for at in cases(1..=last + 1) {
        let when = format!("{fault:?} at {at} of {last}");
        let place = Place::new();
        let all = prepare(&place);
        let faulty = FaultStore::new(Arc::clone(&place.store), fault, at);
        let result = go(&Repository::open(Arc::new(faulty)).unwrap(), &all);
        if at <= last && fault != Fault::Full {
            assert!(result.is_err(), "{when}");
        }
        let repo = place.open();
        assert_clean(&repo, &when);
        for (id, snapshot) in repo.snapshots().unwrap().list {
            let day = all.iter().position(|other| *other == id).unwrap();
            assert_eq!(
                restore(&repo, &snapshot).unwrap(),
                content(day as i64),
                "{when}"
            );
        }
        then(&when, &repo, &all);
        assert_clean(&repo, &format!("{when}, rerun"));
    }
}

const FAULTS: [Fault; 5] = [
    Fault::Fail,
    Fault::Crash,
    Fault::CrashAfter,
    Fault::Full,
    Fault::Short,
];

#[test]
fn a_fault_at_any_moment_of_forgetting_leaves_a_clean_repository_that_a_rerun_finishes() {
    for fault in FAULTS {
        at_every_operation(
            fault,
            |place| nights(place, 5),
            |repo, all| repo.forget(&all[..3]).map(drop),
            |when, repo, all| {
                // What was recorded is not offered any more, and goes with the next run.
                let inventory = repo.inventory().unwrap();
                assert!([2, 5].contains(&inventory.list.len()), "{when}");
                let rest: Vec<SnapshotId> = inventory.list.iter().map(|(id, _)| *id).collect();
                let rest: Vec<SnapshotId> = rest
                    .into_iter()
                    .filter(|id| all[..3].contains(id))
                    .collect();
                repo.forget(&rest).unwrap();
                assert_eq!(ids(repo), all[3..], "{when}");
                assert_eq!(repo.finish_forgetting().unwrap(), [], "{when}");
            },
        );
    }
}

#[test]
fn a_fault_at_any_moment_of_protecting_leaves_all_or_nothing() {
    for fault in FAULTS {
        at_every_operation(
            fault,
            |place| nights(place, 3),
            |repo, all| repo.protect(&all[..2], None).map(drop),
            |when, repo, all| {
                let protected = repo.protections().unwrap().len();
                assert!([0, 2].contains(&protected), "{when}");
                repo.protect(&all[..2], None).unwrap();
                assert!(matches!(
                    repo.forget(&all[1..2]),
                    Err(RepoError::ProtectedSnapshot { .. })
                ));
                repo.release(&all[..2]).unwrap();
                assert_eq!(repo.forget(&all[1..2]).unwrap(), all[1..2], "{when}");
            },
        );
    }
}

#[test]
fn a_snapshot_protected_while_it_is_forgotten_stays() {
    let place = Place::new();
    let all = nights(&place, 3);
    let (one, other) = (place.open(), place.open());
    // Two runs that do not know of each other: the record of the first comes between.
    let faulty = FaultStore::new(Arc::clone(&place.store), Fault::CrashAfter, 1);
    Repository::open(Arc::new(faulty))
        .unwrap()
        .forget(&all[..1])
        .unwrap_err();
    // It is recorded as forgotten, so it cannot be protected any more.
    assert!(matches!(
        one.protect(&all[..1], None),
        Err(RepoError::NoSnapshot { .. })
    ));
    other.protect(&all[1..2], None).unwrap();
    assert_eq!(one.finish_forgetting().unwrap(), all[..1]);
    assert_eq!(ids(&one), all[1..]);
}

/// A store that can lock objects.
#[derive(Debug)]
struct Locking {
    inner: Arc<dyn Store>,
    locked: Mutex<BTreeMap<String, Timestamp>>,
}

impl Store for Locking {
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
        self.inner.get_range(name, offset, len, out)
    }
    fn len(&self, name: &str) -> Result<u64, StoreError> {
        self.inner.len(name)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<(), StoreError> {
        assert!(!self.locked.lock().unwrap().contains_key(name), "{name}");
        self.inner.delete(name)
    }
    fn map(&self, name: &str) -> Result<Buffer, StoreError> {
        self.inner.map(name)
    }
    fn protect(&self, name: &str, until: Timestamp) -> Result<bool, StoreError> {
        self.inner.len(name)?;
        self.locked.lock().unwrap().insert(name.to_owned(), until);
        Ok(true)
    }
    fn location(&self) -> String {
        self.inner.location()
    }
}

#[test]
fn a_store_with_locks_locks_all_that_the_snapshot_needs() {
    let place = Place::new();
    let all = nights(&place, 3);
    let store = Arc::new(Locking {
        inner: Arc::clone(&place.store),
        locked: Mutex::default(),
    });
    let repo = Repository::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    // Without an end the storage is left alone: some locks cannot be taken away.
    assert_eq!(repo.protect(&all[1..2], None).unwrap().locked, None);
    assert!(store.locked.lock().unwrap().is_empty());
    let until = Timestamp::now() + SignedDuration::from_hours(24);
    let done = repo.protect(&all[1..2], Some(until)).unwrap();
    let locked = store.locked.lock().unwrap().clone();
    assert_eq!(done.locked, Some(locked.len() as u64));
    assert!(locked.values().all(|time| *time == until));
    // These objects alone are a repository that has the snapshot: the blocks of the first night are among them.
    let copy = Place::empty();
    for name in locked.keys() {
        copy.store
            .put(name, &place.store.get(name).unwrap())
            .unwrap();
    }
    let list = copy.open().snapshots().unwrap().list;
    assert_eq!(
        list.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        all[1..2]
    );
    assert_eq!(restore(&copy.open(), &list[0].1).unwrap(), content(1));
    // And not everything.
    assert!(
        place
            .names("packs/")
            .iter()
            .any(|name| !locked.contains_key(name))
    );
}

#[test]
fn repositories_of_format_1_forget() {
    let repo = golden("format-1");
    let id = repo.local(&["snapshots", "--json"]).expect(0).json()["snapshots"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    repo.local(&["protect", &id, "--for", "1y"]).expect(0);
    repo.local(&["forget", &id]).expect(1);
    repo.local(&["protect", "--release", &id]).expect(0);
    repo.local(&["forget", "--keep-last", "1"]).expect(0);
    repo.local(&["check", "--read-data"]).expect(0);
    repo.local(&["forget", &id]).expect(0);
    repo.local(&["check"]).expect(0);
    repo.local(&["show", &id]).expect(1);
}

#[test]
fn the_dump_of_a_part_takes_the_place_of_no_other() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = server.empty("retain_part");
    database.sql("CREATE TABLE a (); CREATE TABLE b ()");
    let repo = common::program::Repo::new();
    let mut keep = Vec::new();
    for options in [
        &[][..],
        &["-t", "a"],
        &["-t", "b"],
        &["-T", "a"],
        &["--schema-only"],
        &["--where", "a: true"],
        &["-B"],
    ] {
        repo.dump(&database, options);
        keep.push(repo.dump(&database, options));
    }
    let done = repo.local(&["forget", "--keep-last", "1"]).expect(0);
    assert!(
        done.stdout.contains("removed 7 snapshots; 7 stay"),
        "{}",
        done.stdout
    );
    let left = repo.local(&["snapshots", "--json"]).expect(0).json();
    let left = left["snapshots"].as_array().unwrap().iter();
    let left: Vec<&str> = left.map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(left, keep);
}

#[test]
fn what_is_dumped_protected_stays() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = server.empty("retain");
    database.sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g");
    let repo = common::program::Repo::new();
    let plain = repo.dump(&database, &[]);
    let first = repo.dump(&database, &["--protect=7y"]);
    let done = repo
        .try_dump(&database, &["--protect", "--json"])
        .expect(0)
        .json();
    assert_eq!(done["protected"]["until"], serde_json::Value::Null);
    let second = done["snapshot_id"].as_str().unwrap().to_owned();
    let last = repo.dump(&database, &[]);
    repo.local(&["forget", "--keep-last", "1"]).expect(0);
    let left = repo.local(&["snapshots", "--json"]).expect(0).json();
    let left: Vec<&str> = left["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["id"].as_str().unwrap())
        .collect();
    assert_eq!(left, [&first, &second, &last]);
    assert!(!left.contains(&plain.as_str()));
    let target = server.empty("retain_target");
    repo.restore(&first, &target, &[]);
    assert_eq!(target.sql("SELECT count(*) FROM t").trim(), "1000");
}
