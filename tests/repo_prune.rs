//! Prune frees what nobody needs, and nothing else, whatever else goes on.

mod repo_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pgtide::repo::{PruneOptions, PruneReport, RepoError, Repository, SnapshotId, WriterOptions};
use pgtide::rows::Effort;
use pgtide::store::fault::{Fault, FaultStore};
use proptest::prelude::*;
use repo_support::*;

/// Quick to take a session for dead, and with small packs.
fn quick() -> PruneOptions {
    PruneOptions {
        dry_run: false,
        max_waste: 0.05,
        patience: patience(),
        heartbeat: Duration::from_millis(5),
        pack_size: 20_000,
    }
}

/// A writer that gives a sign of life often.
const LIVELY: WriterOptions = WriterOptions {
    heartbeat: Duration::from_millis(5),
    ..SMALL
};

fn prune(repo: &Repository) -> PruneReport {
    repo.prune(quick(), &|_| ()).unwrap()
}

fn bytes(place: &Place) -> u64 {
    let packs = place.store.list("packs/").unwrap();
    packs.iter().map(|pack| pack.len).sum()
}

/// What a repository takes that never held anything but these.
fn fresh(databases: &[&Database]) -> u64 {
    let place = Place::new();
    for (time, database) in (1..).zip(databases) {
        dump(&place.open(), database, time).unwrap();
    }
    bytes(&place)
}

#[test]
fn what_no_snapshot_needs_is_freed_and_the_rest_restores() {
    let place = Place::new();
    let repo = place.open();
    let first = database(6, 5, 8_000);
    let mut second = first.clone();
    second.truncate(3);
    second[1].1[2] = payload(77, 8_000);
    let (one, _) = dump(&repo, &first, 1).unwrap();
    dump(&repo, &second, 2).unwrap();
    let before = bytes(&place);

    assert_eq!(prune(&repo).deleted.packs, 0, "all of it is needed");
    repo.forget(&[one]).unwrap();
    let dry = repo
        .prune(
            PruneOptions {
                dry_run: true,
                ..quick()
            },
            &|_| (),
        )
        .unwrap();
    assert_eq!(bytes(&place), before, "a dry run changes nothing");
    let report = prune(&repo);
    assert_eq!(report.waiting.packs, 0);
    assert!(report.deleted.bytes > 0);
    let freed = before - bytes(&place);
    assert!(
        dry.reclaimable().abs_diff(freed) < freed / 10,
        "{dry:?} {freed}"
    );
    assert!(bytes(&place) as f64 <= fresh(&[&second]) as f64 * 1.1);
    assert_clean(&repo, "pruned");
    assert_eq!(
        restore(&repo, &repo.find("latest").unwrap().1).unwrap(),
        second
    );
    assert!(place.names("tombstones/").is_empty() && place.names("sessions/").is_empty());
    assert_eq!(prune(&repo).deleted.packs, 0, "there is nothing left to do");
}

#[test]
fn a_writer_that_began_before_the_mark_keeps_what_it_may_rely_on() {
    let place = Place::new();
    let repo = place.open();
    let data = database(3, 4, 8_000);
    let (old, _) = dump(&repo, &data, 1).unwrap();
    // It finds the blocks of the first snapshot, so it stores none of them.
    let writer = repo.writer_with(Effort::Fast, LIVELY).unwrap();
    let mut tables = Vec::new();
    for (name, payloads) in &data {
        tables.push(put_table(&repo, &writer, name, payloads).unwrap());
    }
    assert_eq!(writer.stats().new_blocks, 0);
    repo.forget(&[old]).unwrap();
    let report = prune(&place.open());
    assert_eq!(report.deleted.packs, 0, "{report:?}");
    assert!(
        report.waiting.packs > 0 && report.waiting_for.len() == 1,
        "{report:?}"
    );
    // Whoever begins now counts what is marked as absent.
    let late = repo.writer_with(Effort::Fast, LIVELY).unwrap();
    let id = repo
        .id_key()
        .block_id(pgtide::rows::Format::Text, 1, &data[0].1[0]);
    assert!(!late.contains(&id));
    late.abort().unwrap();

    finish(writer, &tables, "host/db", 2).unwrap();
    let report = prune(&place.open());
    assert_eq!(report.waiting.packs, 0);
    assert_clean(&repo, "pruned");
    assert_eq!(
        restore(&repo, &repo.find("latest").unwrap().1).unwrap(),
        data
    );
}

#[test]
fn a_writer_that_was_taken_for_dead_commits_nothing_that_is_not_there() {
    let place = Place::new();
    let repo = place.open();
    let data = database(3, 4, 8_000);
    let (old, _) = dump(&repo, &data, 1).unwrap();
    dump(&repo, &database(1, 1, 100), 2).unwrap();
    // Its heart beats too seldom for this prune: as good as frozen.
    let writer = repo.writer_with(Effort::Fast, SMALL).unwrap();
    let mut tables = Vec::new();
    for (name, payloads) in &data {
        tables.push(put_table(&repo, &writer, name, payloads).unwrap());
    }
    repo.forget(&[old]).unwrap();
    let report = prune(&place.open());
    assert!(report.deleted.packs > 0, "{report:?}");
    let error = finish(writer, &tables, "host/db", 3).unwrap_err();
    assert!(matches!(error, RepoError::SessionLost { .. }), "{error}");
    assert_eq!(repo.snapshots().unwrap().list.len(), 1);
    assert_clean(&repo, "after the writer failed");
    dump(&repo, &data, 4).unwrap();
    assert_clean(&repo, "after it ran again");
}

#[test]
fn a_writer_that_was_taken_for_dead_and_lost_nothing_commits() {
    let place = Place::new();
    let repo = place.open();
    let data = database(2, 3, 8_000);
    dump(&repo, &data, 1).unwrap();
    let writer = repo.writer_with(Effort::Fast, SMALL).unwrap();
    let mut tables = Vec::new();
    for (name, payloads) in &data {
        tables.push(put_table(&repo, &writer, name, payloads).unwrap());
    }
    // What it needs beside that is put when it commits.
    let stranger = Place::new();
    drop(stranger);
    for name in place.names("sessions/") {
        place.store.delete(&name).unwrap();
    }
    finish(writer, &tables, "host/db", 2).unwrap();
    assert_clean(&repo, "committed");
}

#[test]
fn a_snapshot_that_a_killed_writer_put_is_kept_and_one_that_lacks_blocks_was_never_committed() {
    let place = Place::new();
    let repo = place.open();
    let data = database(2, 3, 8_000);
    dump(&repo, &database(1, 1, 3_000), 1).unwrap();
    // As if it had died before it could record its snapshot, and its session had been removed meanwhile.
    let unrecorded = |data: &Database, time: i64| {
        let records = place.names("history/");
        dump(&repo, data, time).unwrap();
        for name in place.names("history/") {
            if !records.contains(&name) {
                place.store.delete(&name).unwrap();
            }
        }
    };
    unrecorded(&data, 2);
    prune(&repo);
    assert_clean(&repo, "recorded by prune");
    let latest = || restore(&repo, &repo.find("latest").unwrap().1).unwrap();
    assert_eq!(latest(), data);

    let packs = place.names("packs/");
    unrecorded(&database(4, 3, 8_000), 3);
    let new = place
        .names("packs/")
        .into_iter()
        .find(|name| !packs.contains(name));
    place.store.delete(&new.unwrap()).unwrap();
    prune(&repo);
    assert_eq!(repo.snapshots().unwrap().list.len(), 2);
    assert_clean(&repo, "the other is as if it had never been");
    assert_eq!(latest(), data);
}

#[test]
fn prune_refuses_where_it_cannot_see_everything() {
    let data = database(2, 3, 8_000);
    for what in ["snapshots/", "index/", "history/", "packs/"] {
        for damage in ["gone", "empty"] {
            let place = Place::new();
            let repo = place.open();
            let (old, _) = dump(&repo, &data, 1).unwrap();
            dump(&repo, &database(1, 2, 5_000), 2).unwrap();
            repo.forget(&[old]).unwrap();
            let packs = place.names("packs/");
            for name in place.names(what) {
                place.store.delete(&name).unwrap();
                if damage == "empty" {
                    place.store.put(&name, b"").unwrap();
                }
            }
            let result = repo.prune(quick(), &|_| ());
            if what == "index/" && damage == "gone" {
                // The packs tell what was in it.
                result.unwrap();
                assert_clean(&repo, "indexed again");
                continue;
            }
            if what == "index/" && is_remote() {
                // What this machine kept of it is proven by its name.
                result.unwrap();
                repo.find("latest").unwrap();
                continue;
            }
            assert!(result.is_err(), "{what} {damage}: {result:?}");
            if what != "packs/" {
                assert_eq!(place.names("packs/"), packs, "{what} {damage}");
            }
        }
    }
}

/// Runs a prune that meets the fault at each of its operations in turn.
fn at_every_operation(fault: Fault) {
    let first = database(4, 4, 8_000);
    let mut second = first.clone();
    second.truncate(2);
    second[0].1[1] = payload(99, 5_000);
    let ready = || {
        let place = Place::new();
        let repo = place.open();
        let (one, _) = dump(&repo, &first, 1).unwrap();
        dump(&repo, &second, 2).unwrap();
        repo.forget(&[one]).unwrap();
        place
    };
    let run = |place: &Place, at: u64| {
        let faulty = FaultStore::new(Arc::clone(&place.store), fault, at);
        let result = Repository::open(Arc::new(faulty.clone()))
            .and_then(|repo| repo.prune(quick(), &|_| ()));
        (faulty.operations(), result)
    };
    let (last, result) = run(&ready(), 0);
    result.unwrap();
    assert!(last > 15, "{last}");
    let smallest = fresh(&[&second, &second]) as f64;
    for at in cases(1..=last + 1) {
        let when = format!("{fault:?} at {at}");
        let place = ready();
        let (_, result) = run(&place, at);
        let repo = place.open();
        let stale = check(&repo).problems;
        assert!(
            stale
                .iter()
                .all(|problem| problem.snapshots.is_empty() && fault == Fault::Full),
            "{when}: {result:?}: {stale:#?}"
        );
        assert_eq!(
            restore(&repo, &repo.find("latest").unwrap().1).unwrap(),
            second,
            "{when}"
        );
        // A dump beside what was left behind, then a prune without a fault.
        dump(&repo, &second, 3).unwrap();
        assert_eq!(
            restore(&repo, &repo.find("latest").unwrap().1).unwrap(),
            second,
            "{when}"
        );
        let report = prune(&repo);
        assert_eq!(report.waiting.packs, 0, "{when}: {report:?}");
        assert_clean(&repo, &format!("{when}, pruned"));
        for (_, snapshot) in repo.snapshots().unwrap().list {
            assert_eq!(restore(&repo, &snapshot).unwrap(), second, "{when}");
        }
        assert!(
            bytes(&place) as f64 <= smallest * 1.1,
            "{when}: {} {smallest} {report:?}",
            bytes(&place)
        );
        assert!(place.names("tombstones/").is_empty(), "{when}");
    }
}

#[test]
fn a_crash_before_any_operation() {
    at_every_operation(Fault::Crash);
}

#[test]
fn a_crash_right_after_any_operation() {
    at_every_operation(Fault::CrashAfter);
}

#[test]
fn a_crash_in_the_middle_of_any_write() {
    at_every_operation(Fault::Short);
}

#[test]
fn a_failure_of_any_one_operation() {
    at_every_operation(Fault::Fail);
}

#[test]
fn a_full_disk_from_any_operation_on() {
    at_every_operation(Fault::Full);
}

#[test]
fn many_small_index_objects_become_one() {
    let place = Place::new();
    let repo = place.open();
    let mut last = Vec::new();
    for night in 0..30 {
        last = database(2, 2, 3_000);
        last[0].1[0] = payload(1000 + night, 3_000);
        dump(&repo, &last, night as i64).unwrap();
    }
    assert!(place.names("index/").len() >= 30);
    // Beside a reader that has the old ones.
    let reader = repo.reader().unwrap();
    prune(&repo);
    assert_eq!(place.names("index/").len(), 1);
    assert_clean(&repo, "merged");
    let (_, snapshot) = repo.find("latest").unwrap();
    assert_eq!(restore(&repo, &snapshot).unwrap(), last);
    pgtide::repo::lists::read_value::<pgtide::repo::model::Root>(&reader, &snapshot.root).unwrap();
}

#[test]
fn writers_pruners_and_checks_side_by_side() {
    let place = Place::new();
    let repo = place.open();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|writer| {
                let (place, stop) = (&place, &stop);
                scope.spawn(move || {
                    let mut round = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        let repo = place.open();
                        let mut data = database(3, 3, 4_000);
                        data[1].1[0] = payload(writer * 1_000 + round, 4_000);
                        let w = repo.writer_with(Effort::Fast, LIVELY).unwrap();
                        let mut tables = Vec::new();
                        for (name, payloads) in &data {
                            tables.push(put_table(&repo, &w, name, payloads).unwrap());
                        }
                        let id =
                            finish(w, &tables, &format!("host/db{writer}"), round as i64).unwrap();
                        let (_, snapshot) = repo.find(&id.to_string()).unwrap();
                        assert_eq!(restore(&repo, &snapshot).unwrap(), data);
                        repo.forget(&[id]).unwrap();
                        round += 1;
                    }
                    round
                })
            })
            .collect();
        let pruners: Vec<_> = (0..2)
            .map(|_| {
                let place = &place;
                scope.spawn(move || {
                    // As long as it takes until the space of several rounds has come back.
                    let mut deleted = 0;
                    for _ in 0..500 {
                        deleted += prune(&place.open()).deleted.packs;
                        if deleted >= 20 {
                            break;
                        }
                    }
                    deleted
                })
            })
            .collect();
        let deleted: Vec<_> = pruners
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        stop.store(true, Ordering::Relaxed);
        let rounds: Vec<u64> = writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect();
        let deleted: u64 = deleted.into_iter().map(Result::unwrap).sum();
        assert!(
            deleted >= 20 && rounds.iter().all(|rounds| *rounds > 3),
            "{deleted} {rounds:?}"
        );
    });
    let last = database(2, 2, 4_000);
    dump(&repo, &last, 1_000_000).unwrap();
    prune(&repo);
    assert_clean(&repo, "after all");
    assert!(
        bytes(&place) as f64 <= fresh(&[&last]) as f64 * 1.1,
        "{}",
        bytes(&place)
    );
}

/// What the model does to a repository.
#[derive(Debug, Clone)]
enum Step {
    Dump(u8),
    Forget(u8),
    Prune,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if is_remote() { 4 } else { 40 }))]
    #[test]
    fn whatever_the_order_of_dumps_forgets_and_prunes_what_is_kept_restores(
        steps in prop::collection::vec(prop_oneof![
            any::<u8>().prop_map(Step::Dump),
            any::<u8>().prop_map(Step::Forget),
            Just(Step::Prune),
        ], 1..14)
    ) {
        let place = Place::new();
        let repo = place.open();
        let mut model: Vec<(SnapshotId, Database)> = Vec::new();
        for (time, step) in (1..).zip(&steps) {
            match step {
                Step::Dump(seed) => {
                    let mut data = database(2, 2, 2_000);
                    data[usize::from(seed % 2)].1[usize::from(seed / 2 % 2)] = payload(u64::from(*seed), 2_000);
                    data.truncate(1 + usize::from(seed % 3));
                    model.push((dump(&repo, &data, time).unwrap().0, data));
                }
                Step::Forget(which) if !model.is_empty() => {
                    let (id, _) = model.remove(usize::from(*which) % model.len());
                    repo.forget(&[id]).unwrap();
                }
                Step::Forget(_) => {}
                Step::Prune => drop(prune(&repo)),
            }
        }
        assert_clean(&repo, "after the steps");
        let kept: Vec<SnapshotId> = repo.snapshots().unwrap().list.into_iter().map(|(id, _)| id).collect();
        let expected: Vec<SnapshotId> = model.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(kept, expected);
        for (id, data) in &model {
            prop_assert_eq!(&restore(&repo, &repo.find(&id.to_string()).unwrap().1).unwrap(), data);
        }
        if !place.names("history/").is_empty() {
            prune(&repo);
            prune(&repo);
            let databases: Vec<&Database> = model.iter().map(|(_, data)| data).collect();
            prop_assert!(bytes(&place) as f64 <= fresh(&databases) as f64 * 1.1 + 500.0);
            assert_clean(&repo, "pruned");
        }
    }
}
