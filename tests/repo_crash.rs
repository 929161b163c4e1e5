//! Whatever fails at whatever moment: no snapshot is damaged, and the next run uses what was stored.

mod repo_support;

use std::sync::Arc;

use pgtide::repo::{RepoError, Repository};
use pgtide::store::StoreError;
use pgtide::store::fault::{Fault, FaultStore};
use repo_support::*;

/// Write-side operations of a whole second dump.
fn operations(first: &Database, second: &Database) -> u64 {
    let place = Place::new();
    dump(&place.open(), first, 1).unwrap();
    let faulty = FaultStore::new(Arc::clone(&place.store), Fault::Fail, 0);
    dump(
        &Repository::open(Arc::new(faulty.clone())).unwrap(),
        second,
        2,
    )
    .unwrap();
    faulty.operations()
}

/// Runs a second dump that meets the fault at each of its operations in turn.
fn at_every_operation(fault: Fault, expect: impl Fn(u64, &Result<(), RepoError>)) {
    let first = database(2, 3, 8_000);
    let mut second = database(4, 4, 8_000);
    second[0].1[1] = payload(99, 5_000);
    let last = operations(&first, &second);
    assert!(last > 30, "{last}");
    let mut reused = 0;
    // The order of a few operations depends on threads, and so does their number, a little.
    for at in cases(1..=last + 2) {
        let place = Place::new();
        let repo = place.open();
        let (kept, _) = dump(&repo, &first, 1).unwrap();
        let faulty = FaultStore::new(Arc::clone(&place.store), fault, at);
        let result = Repository::open(Arc::new(faulty))
            .and_then(|repo| dump(&repo, &second, 2))
            .map(drop);
        expect(at, &result);

        let when = format!("{fault:?} at {at}");
        let repo = place.open();
        assert_clean(&repo, &when);
        let snapshots = repo.snapshots().unwrap().list;
        assert_eq!(snapshots[0].0, kept, "{when}");
        assert_eq!(restore(&repo, &snapshots[0].1).unwrap(), first, "{when}");
        if let Some((_, snapshot)) = snapshots.get(1) {
            assert_eq!(restore(&repo, snapshot).unwrap(), second, "{when}");
        }
        let packs = place.names("packs/").len();

        let (again, stats) = dump(&repo, &second, 3).unwrap();
        assert_eq!(repo.find("latest").unwrap().0, again, "{when}");
        assert_eq!(
            restore(&repo, &repo.find("latest").unwrap().1).unwrap(),
            second,
            "{when}"
        );
        assert_clean(&repo, &format!("{when}, rerun"));
        // Every pack that was durable is used again, so the same dump once more stores nothing.
        reused = reused.max(stats.reused_blocks);
        assert!(place.names("packs/").len() >= packs);
        let (_, stats) = dump(&repo, &second, 4).unwrap();
        assert_eq!(stats.new_blocks, 0, "{when}");

        // The rerun recorded what the dead writer could not, so that its session is no longer needed to explain it.
        for name in place.names("sessions/") {
            place.store.delete(&name).unwrap();
        }
        assert_clean(&repo, &format!("{when}, dead sessions removed"));
    }
    assert!(reused >= 15 || is_remote(), "{reused}");
}

#[test]
fn a_crash_before_any_operation() {
    at_every_operation(Fault::Crash, |_, _| ());
}

#[test]
fn a_crash_right_after_any_operation() {
    at_every_operation(Fault::CrashAfter, |_, _| ());
}

#[test]
fn a_crash_in_the_middle_of_any_write() {
    at_every_operation(Fault::Short, |_, _| ());
}

#[test]
fn a_failure_of_any_one_operation() {
    at_every_operation(Fault::Fail, |at, result| {
        if let Err(error) = result {
            assert!(
                error.to_string().contains("injected fault"),
                "operation {at}: {error}"
            );
        }
    });
}

#[test]
fn a_full_disk_from_any_operation_on() {
    at_every_operation(Fault::Full, |at, result| {
        if let Err(error) = result {
            let full = matches!(error.store_error(), Some(StoreError::Full { .. }));
            assert!(
                full && error.to_string().contains("free some space"),
                "operation {at}: {error}"
            );
        }
    });
}

#[test]
fn packs_that_a_killed_run_left_without_index_are_used_again() {
    let place = Place::new();
    let database = database(3, 5, 10_000);
    dump(&place.open(), &database, 1).unwrap();
    // As after kill -9 before the first index object.
    for name in ["index/", "snapshots/", "history/"]
        .iter()
        .flat_map(|prefix| place.names(prefix))
    {
        place.store.delete(&name).unwrap();
    }
    let repo = place.open();
    let packs = place.names("packs/").len() as u64;
    let (_, stats) = dump(&repo, &database, 2).unwrap();
    assert_eq!((stats.new_blocks, stats.adopted_packs), (0, packs));
    assert_clean(&repo, "adopted");
}

#[test]
fn init_that_fails_leaves_no_repository() {
    for at in 1..=3 {
        let place = Place::empty();
        let faulty = FaultStore::new(Arc::clone(&place.store), Fault::Crash, at);
        let made = Repository::init(Arc::new(faulty)).is_ok();
        assert_eq!(Repository::open(Arc::clone(&place.store)).is_ok(), made);
        if !made {
            Repository::init(Arc::clone(&place.store)).unwrap();
        }
    }
}
