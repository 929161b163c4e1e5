//! Many threads, many writers, the same blocks.

mod repo_support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use pgtide::repo::{PackGroup, WriterOptions};
use pgtide::rows::{ColumnKind, Effort, Encoder, Format};
use repo_support::*;

#[test]
fn a_block_put_by_many_threads_at_once_is_stored_once() {
    let place = Place::new();
    let repo = place.open();
    let options = WriterOptions {
        index_bytes: 20_000,
        ..SMALL
    };
    let writer = repo.writer_with(Effort::Fast, options).unwrap();
    let payloads: Vec<Vec<u8>> = (0..200).map(|n| payload(n, 2_000)).collect();
    let (new, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for number in 0..8 {
            let (writer, repo, payloads, new, bytes, barrier) =
                (&writer, &repo, &payloads, &new, &bytes, &barrier);
            scope.spawn(move || {
                let mut encoder = Encoder::new(Effort::Fast);
                let mut encoded = Vec::new();
                barrier.wait();
                for payload in payloads {
                    let id = repo.id_key().block_id(Format::Text, 1, payload);
                    encoder
                        .encode(Format::Text, &[ColumnKind::Text], 1, payload, &mut encoded)
                        .unwrap();
                    let group = [PackGroup::Small, PackGroup::Table(number % 3)][payload.len() % 2];
                    let stored = writer.put(&group, id, &encoded).unwrap();
                    assert!(writer.contains(&id));
                    new.fetch_add(u64::from(stored.new), Ordering::Relaxed);
                    bytes.fetch_add(stored.bytes, Ordering::Relaxed);
                }
            });
        }
    });
    let stats = writer.stats();
    assert_eq!(new.into_inner(), 200);
    assert_eq!(
        (stats.new_blocks, stats.new_bytes),
        (200, bytes.into_inner())
    );
    writer.abort().unwrap();
    let report = check(&repo);
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    assert_eq!(report.blocks, 200);
}

#[test]
fn writers_side_by_side_all_commit_and_all_snapshots_are_whole() {
    let place = Place::new();
    let databases: Vec<Database> = (0..4).map(|n| database(2 + n, 3, 8_000)).collect();
    thread::scope(|scope| {
        for (time, database) in (0..).zip(&databases) {
            let repo = place.open();
            scope.spawn(move || {
                for round in 0..3 {
                    dump(&repo, database, time * 10 + round).unwrap();
                }
            });
        }
        // A check beside them takes nothing unfinished for damage.
        let repo = place.open();
        scope.spawn(move || (0..5).for_each(|_| assert_clean(&repo, "beside writers")));
    });
    let repo = place.open();
    assert_clean(&repo, "after all");
    let snapshots = repo.snapshots().unwrap().list;
    assert_eq!(snapshots.len(), 12);
    for (_, snapshot) in &snapshots {
        let database = &databases[(snapshot.time.as_second() / 10) as usize];
        assert_eq!(&restore(&repo, snapshot).unwrap(), database);
    }
}
