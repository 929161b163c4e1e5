//! A whole repository on an S3 server that fails: it is whole, or the error says why.

mod repo_support;
mod store_support;

use std::sync::Arc;

use pgtide::repo::Repository;
use pgtide::store::StoreError;
use repo_support::*;
use store_support::endpoint::{Endpoint, Fault, error};

const MANY: usize = 1000;

#[test]
fn a_block_that_arrives_damaged_is_read_again() {
    let endpoint = Endpoint::start();
    let repo = Repository::init(endpoint.store()).unwrap();
    let database = database(3, 4, 20_000);
    dump(&repo, &database, 1).unwrap();
    let repo = Repository::open(endpoint.store()).unwrap();
    let snapshot = repo.snapshots().unwrap().list.remove(0).1;
    endpoint.fail(1, Fault::Flip, |request| {
        request.range().is_some() && request.key.contains("packs")
    });
    assert!(restore(&repo, &snapshot).unwrap() == database);
    assert_eq!(endpoint.pending(), 0);
    // On the storage itself it stays damaged, and is told.
    for key in endpoint.keys().iter().filter(|key| key.contains("packs/")) {
        endpoint.change(key, |bytes| bytes[200] ^= 1);
    }
    let error = restore(&Repository::open(endpoint.store()).unwrap(), &snapshot).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn a_listing_that_lags_costs_space_and_nothing_else() {
    let endpoint = Endpoint::start();
    let repo = Repository::init(endpoint.store()).unwrap();
    let first = database(3, 3, 20_000);
    dump(&repo, &first, 1).unwrap();
    // A writer that sees none of the packs, or none of the index, stores again.
    for (time, hidden) in [(2, "repo/packs/"), (3, "repo/index/")] {
        endpoint.fail(2, Fault::Stale(MANY), move |request| {
            request.is_list() && request.query["prefix"].starts_with(hidden)
        });
        dump(&repo, &first, time).unwrap();
    }
    endpoint.heal();
    assert_clean(&repo, "after dumps that saw old listings");
    let snapshots = repo.snapshots().unwrap().list;
    assert_eq!(snapshots.len(), 3);
    for (_, snapshot) in &snapshots {
        assert!(restore(&repo, snapshot).unwrap() == first);
    }
    // A reader that sees none says which block it lacks.
    endpoint.fail(MANY, Fault::Stale(MANY), |request| {
        request.is_list() && request.query["prefix"] == "repo/index/"
    });
    let error = restore(&repo, &snapshots[0].1).unwrap_err();
    assert!(
        matches!(error, pgtide::repo::RepoError::MissingBlock { .. }),
        "{error}"
    );
}

#[test]
fn credentials_that_expire_in_a_dump_end_it_and_the_next_one_goes_on() {
    let endpoint = Endpoint::start();
    let repo = Repository::init(endpoint.store()).unwrap();
    let database = database(4, 6, 30_000);
    for after in [3, 8, 12] {
        endpoint.log();
        let seen = std::sync::atomic::AtomicUsize::new(0);
        endpoint.fail(usize::MAX, error(400, "ExpiredToken"), move |_| {
            seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= after
        });
        let error = dump(&repo, &database, 1).unwrap_err();
        assert!(
            matches!(error.store_error(), Some(StoreError::Forbidden { .. })),
            "{error}"
        );
        endpoint.heal();
        assert!(repo.snapshots().unwrap().list.is_empty());
    }
    dump(&repo, &database, 2).unwrap();
    assert_clean(&repo, "after all");
}

#[test]
fn a_repository_behind_a_server_that_fails_at_random_is_whole_or_says_why() {
    let (mut dumped, mut failed) = (0, 0);
    for seed in 0..12 {
        let endpoint = Endpoint::start();
        let store = endpoint.store();
        let repo = Repository::init(Arc::clone(&store)).unwrap();
        let mut database = database(3, 4, 20_000);
        endpoint.chaos(seed, 0.1 + seed as f64 / 30.0);
        for time in 0..3 {
            database[1].1[2] = payload(seed * 10 + time, 20_000);
            match dump(&repo, &database, time as i64) {
                Ok(_) => dumped += 1,
                Err(error) => {
                    failed += 1;
                    assert!(error.store_error().is_some(), "{error:?}");
                }
            }
        }
        // Reads through the same server give the same bytes, or an error.
        let through = repo.snapshots().and_then(|snapshots| {
            let last = snapshots.list.into_iter().next_back();
            last.map(|(_, snapshot)| restore(&repo, &snapshot))
                .transpose()
        });
        endpoint.heal();
        let snapshots = repo.snapshots().unwrap();
        assert!(snapshots.damaged.is_empty());
        for (_, snapshot) in &snapshots.list {
            restore(&repo, snapshot).unwrap();
        }
        if let Ok(Some(through)) = through {
            assert!(through == restore(&repo, &snapshots.list.last().unwrap().1).unwrap());
        }
        assert_clean(&repo, &format!("seed {seed}"));
        let (_, snapshot) = {
            dump(&repo, &database, 9).unwrap();
            repo.snapshots().unwrap().list.pop().unwrap()
        };
        assert!(restore(&repo, &snapshot).unwrap() == database);
    }
    // Both happen, or the test proves nothing.
    assert!(
        dumped > 5 && failed > 0,
        "{dumped} dumps, {failed} failures"
    );
}
