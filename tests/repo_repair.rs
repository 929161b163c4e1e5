//! Whatever is damaged: a repair saves what is sound, the check after it is clean and names what is lost, and the next
//! dump heals what the database still has.

mod repo_support;

use std::sync::Arc;
use std::time::Duration;

use pgtide::repo::{RepairOptions, RepairReport, RepoError, Repository, SnapshotId};
use pgtide::rows::Effort;
use pgtide::store::fault::{Fault, FaultStore};
use repo_support::*;

fn quick() -> RepairOptions {
    RepairOptions {
        read_data: true,
        patience: patience(),
    }
}

/// A repository with two snapshots of partly the same data.
struct Patient {
    place: Place,
    databases: [Database; 2],
    snapshots: [SnapshotId; 2],
}

impl Patient {
    fn new() -> Self {
        let place = Place::new();
        let repo = place.open();
        let first = database(3, 3, 6_000);
        let mut second = first.clone();
        second.truncate(1);
        second.push((
            "table 900".into(),
            vec![payload(900, 6_000), payload(901, 6_000)],
        ));
        let snapshots = [
            dump(&repo, &first, 1).unwrap().0,
            dump(&repo, &second, 2).unwrap().0,
        ];
        Self {
            place,
            databases: [first, second],
            snapshots,
        }
    }

    fn repair(&self) -> Result<RepairReport, RepoError> {
        Repository::restore_config(&self.place.store)?;
        self.place.open().repair(quick(), &|_| ())
    }

    /// Repairs; then everything that can be asked for holds.
    fn expect_mended(&self, what: &str) -> RepairReport {
        let report = self
            .repair()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(report.left.is_empty(), "{what}: {:#?}", report.left);
        let repo = self.place.open();
        let after = check(&repo);
        assert!(
            after.problems.is_empty(),
            "{what}: {:#?} {:#?}",
            after.problems,
            report.done
        );
        assert_eq!(after.hurt, report.hurt, "{what}");
        for (id, database) in self.snapshots.iter().zip(&self.databases) {
            if report.lost.contains(id) {
                assert!(repo.find(&id.to_string()).is_err(), "{what}");
                continue;
            }
            let (_, snapshot) = repo.find(&id.to_string()).unwrap();
            match (report.hurt.get(id), restore(&repo, &snapshot)) {
                (None, restored) => assert_eq!(&restored.unwrap(), database, "{what}"),
                // These restores read neither entries nor sequences.
                (Some(hurt), restored) if hurt.tables.is_empty() => drop(restored),
                (Some(_), restored) => assert!(restored.is_err(), "{what}: it lacks something"),
            }
        }
        report
    }

    /// The next dumps store what is missing, and with it even old snapshots are whole again.
    fn expect_healed(&self, what: &str, report: &RepairReport) {
        let repo = self.place.open();
        for (time, database) in (3..).zip(&self.databases) {
            dump(&repo, database, time).unwrap();
        }
        let after = check(&repo);
        assert!(after.problems.is_empty(), "{what}: {:#?}", after.problems);
        for (id, snapshot) in &repo.snapshots().unwrap().list {
            let of = usize::from(snapshot.time.as_second() % 2 == 0);
            let lists_hurt = report
                .hurt
                .get(id)
                .is_some_and(|hurt| hurt.tables.is_empty());
            match restore(&repo, snapshot) {
                Ok(restored) => assert_eq!(restored, self.databases[of], "{what}"),
                Err(error) => assert!(
                    lists_hurt || report.hurt.contains_key(id),
                    "{what}: {error}"
                ),
            }
        }
        let latest = repo.find("latest").unwrap().1;
        assert_eq!(
            restore(&repo, &latest).unwrap(),
            self.databases[1],
            "{what}"
        );
        repo.prune(
            pgtide::repo::PruneOptions {
                patience: patience(),
                pack_size: 20_000,
                ..Default::default()
            },
            &|_| (),
        )
        .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_clean(&repo, what);
    }
}

/// Ways to damage an object.
fn damages(original: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let flipped = |at: usize| {
        let mut bytes = original.to_vec();
        bytes[at] ^= 4;
        Some(bytes)
    };
    let len = original.len();
    vec![
        ("removed", None),
        ("emptied", Some(Vec::new())),
        ("cut by a byte", Some(original[..len - 1].to_vec())),
        ("cut in half", Some(original[..len / 2].to_vec())),
        ("zeroed", Some(vec![0; len])),
        ("flipped at the beginning", flipped(3)),
        ("flipped in the first block", flipped(len.min(120) - 1)),
        ("flipped in the middle", flipped(len / 2)),
        ("flipped at the end", flipped(len - 1)),
        ("extended", Some([original, b"x"].concat())),
    ]
}

fn each_damage_of(prefix: &str, expect: impl Fn(&str, &RepairReport)) {
    let numbers = 0..Patient::new().place.names(prefix).len();
    let ways = 0..damages(b"0123456789").len();
    for (number, way) in
        cases(numbers.flat_map(|number| ways.clone().map(move |way| (number, way))))
    {
        let patient = Patient::new();
        let name = patient.place.names(prefix)[number].clone();
        let original = patient.place.store.get(&name).unwrap();
        let (how, bytes) = damages(&original).swap_remove(way);
        match bytes {
            Some(bytes) => patient.place.store.put(&name, &bytes).unwrap(),
            None => patient.place.store.delete(&name).unwrap(),
        }
        let what = format!("{name} {how}");
        let report = patient.expect_mended(&what);
        expect(&what, &report);
        patient.expect_healed(&what, &report);
    }
}

#[test]
fn packs() {
    each_damage_of("packs/", |what, report| {
        assert!(report.lost.is_empty(), "{what}");
        assert!(!report.done.is_empty(), "{what}");
    });
}

#[test]
fn index_objects_cost_nothing() {
    each_damage_of("index/", |what, report| {
        assert!(
            report.lost.is_empty() && report.hurt.is_empty(),
            "{what}: {report:?}"
        );
    });
}

#[test]
fn snapshots_come_back_from_their_copies() {
    each_damage_of("snapshots/", |what, report| {
        assert!(
            report.lost.is_empty() && report.hurt.is_empty(),
            "{what}: {report:?}"
        );
    });
}

#[test]
fn audit_records_cost_nothing() {
    each_damage_of("history/", |what, report| {
        assert!(
            report.lost.is_empty() && report.hurt.is_empty(),
            "{what}: {report:?}"
        );
    });
}

#[test]
fn config_comes_back_from_its_copy_and_the_copy_from_config() {
    each_damage_of("config", |what, report| {
        assert!(
            report.lost.is_empty() && report.hurt.is_empty(),
            "{what}: {report:?}"
        );
    });
}

#[test]
fn all_index_objects_all_snapshots_and_the_history_at_once() {
    let patient = Patient::new();
    for prefix in ["index/", "snapshots/"] {
        for name in patient.place.names(prefix) {
            patient.place.store.delete(&name).unwrap();
        }
    }
    let report = patient.expect_mended("without index and snapshots");
    assert!(
        report.lost.is_empty() && report.hurt.is_empty(),
        "{report:?}"
    );
    patient.expect_healed("without index and snapshots", &report);
}

#[test]
fn packs_whose_content_was_swapped() {
    let patient = Patient::new();
    let names = patient.place.names("packs/");
    let [a, b] = [0, 1].map(|n| patient.place.store.get(&names[n]).unwrap());
    patient.place.store.put(&names[0], &b).unwrap();
    patient.place.store.put(&names[1], &a).unwrap();
    let report = patient.expect_mended("swapped");
    assert!(report.hurt.is_empty(), "all blocks are there: {report:?}");
}

#[test]
fn damage_that_a_check_found_is_mended_without_reading_everything() {
    let patient = Patient::new();
    let name = &patient.place.pack_with_rows();
    let mut bytes = patient.place.store.get(name).unwrap();
    bytes[100] ^= 1;
    patient.place.store.put(name, &bytes).unwrap();
    let quick = RepairOptions {
        read_data: false,
        ..quick()
    };
    let repo = patient.place.open();
    let report = repo.repair(quick, &|_| ()).unwrap();
    assert!(
        report.done.iter().all(|line| !line.contains("saved")),
        "it cannot know: {report:?}"
    );
    assert_eq!(check(&repo).problems.len(), 1);
    let report = repo.repair(quick, &|_| ()).unwrap();
    assert!(
        report.left.is_empty() && report.done.iter().any(|line| line.contains("saved")),
        "{report:?}"
    );
    assert_clean(&repo, "repaired");
}

#[test]
fn a_hurt_snapshot_names_its_tables_and_new_damage_to_it_is_found() {
    let patient = Patient::new();
    let repo = patient.place.open();
    let hurt_one = |repo: &Repository| {
        for name in patient.place.names("packs/") {
            let bytes = patient.place.store.get(&name).unwrap();
            patient.place.store.delete(&name).unwrap();
            let hurt = check(repo).hurt;
            if hurt
                .values()
                .any(|hurt| !hurt.known && !hurt.tables.is_empty())
            {
                return;
            }
            patient.place.store.put(&name, &bytes).unwrap();
        }
        panic!("no pack with rows");
    };
    hurt_one(&repo);
    let report = patient.expect_mended("first");
    let hurt = report.hurt.values().next().unwrap();
    assert!(
        hurt.known
            && hurt
                .tables
                .iter()
                .all(|name| name.starts_with("public.table ")),
        "{hurt:?}"
    );
    hurt_one(&repo);
    assert!(
        !check(&repo).problems.is_empty(),
        "more is missing than was recorded"
    );
    patient.expect_mended("second");
}

#[test]
fn repair_waits_for_nobody_and_refuses_beside_a_writer() {
    let patient = Patient::new();
    let repo = patient.place.open();
    let writer = repo
        .writer_with(
            Effort::Fast,
            pgtide::repo::WriterOptions {
                heartbeat: Duration::from_millis(5),
                ..SMALL
            },
        )
        .unwrap();
    let error = patient.repair().unwrap_err();
    assert!(matches!(error, RepoError::Busy { .. }), "{error}");
    writer.abort().unwrap();
    assert!(patient.repair().unwrap().done.is_empty());
}

/// Runs a repair that meets the fault at each of its operations in turn.
fn at_every_operation(fault: Fault) {
    let ready = || {
        let patient = Patient::new();
        let place = &patient.place;
        let flip = |name: &str| {
            let mut bytes = place.store.get(name).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            place.store.put(name, &bytes).unwrap();
        };
        flip(&place.pack_with_rows());
        flip(&place.names("index/")[0]);
        flip(&place.names("snapshots/")[0]);
        flip(&place.names("history/")[0]);
        patient
    };
    let run = |patient: &Patient, at: u64| {
        let faulty = FaultStore::new(Arc::clone(&patient.place.store), fault, at);
        let result = Repository::open(Arc::new(faulty.clone()))
            .and_then(|repo| repo.repair(quick(), &|_| ()));
        (faulty.operations(), result)
    };
    let patient = ready();
    let (last, result) = run(&patient, 0);
    let whole = result.unwrap();
    assert!(last > 10 && whole.left.is_empty(), "{last} {whole:?}");
    for at in cases(1..=last + 1) {
        let what = format!("{fault:?} at {at}");
        let patient = ready();
        let _ = run(&patient, at);
        let report = patient.expect_mended(&what);
        assert!(report.lost.is_empty(), "{what}");
        patient.expect_healed(&what, &report);
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
