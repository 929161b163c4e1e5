//! Damage to any one object is found, and named.

mod repo_support;

use pgtide::repo::{CheckReport, RepoError, Role, SnapshotId};
use pgtide::rows::Effort;
use repo_support::*;

/// A repository with two snapshots of different data and a session that is still there.
struct Victim {
    place: Place,
    databases: [Database; 2],
    snapshots: [SnapshotId; 2],
}

impl Victim {
    fn of(kind: Kind) -> Self {
        let place = Place::of(kind);
        let repo = place.open();
        let first = database(2, 3, 8_000);
        let mut second = first.clone();
        second.truncate(1);
        second.push((
            "table 900".into(),
            vec![payload(900, 8_000), payload(901, 8_000)],
        ));
        let snapshots = [
            dump(&repo, &first, 1).unwrap().0,
            dump(&repo, &second, 2).unwrap().0,
        ];
        // As a killed writer leaves them.
        let writer = repo.writer(Effort::Fast).unwrap();
        let sessions: Vec<(String, Vec<u8>)> = place
            .names("sessions/")
            .into_iter()
            .map(|name| {
                let bytes = place.store.get(&name).unwrap();
                (name, bytes)
            })
            .collect();
        drop(writer);
        for (name, bytes) in sessions {
            place.store.put(&name, &bytes).unwrap();
        }
        assert_clean(&repo, "before");
        Self {
            place,
            databases: [first, second],
            snapshots,
        }
    }

    /// What the check says, or why it could not begin.
    fn check(&self) -> Result<CheckReport, RepoError> {
        self.place.try_open().map(|repo| check(&repo))
    }

    /// Asserts that the damage is found and its object named; then mends it.
    fn expect(&self, object: &str, what: &str, original: &[u8]) {
        match self.check() {
            Err(error) => assert!(
                error.to_string().starts_with(object),
                "{object}: {what}: {error}"
            ),
            Ok(report) => {
                let named = report
                    .problems
                    .iter()
                    .any(|problem| problem.object == object);
                assert!(named, "{object}: {what}: not among {:#?}", report.problems);
                self.expect_the_rest(&report, &format!("{object}: {what}"));
            }
        }
        self.place.store.put(object, original).unwrap();
    }

    /// A snapshot that no problem is said to hurt restores in full.
    fn expect_the_rest(&self, report: &CheckReport, what: &str) {
        let repo = self.place.open();
        for (id, database) in self.snapshots.iter().zip(&self.databases) {
            if !report
                .problems
                .iter()
                .any(|problem| problem.snapshots.contains(id))
            {
                let (_, snapshot) = repo
                    .find(&id.to_string())
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let restored =
                    restore(&repo, &snapshot).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(&restored, database, "{what}");
            }
        }
    }

    fn flip_everywhere(&self, object: &str, step: usize) {
        let original = self.place.store.get(object).unwrap();
        let header = 0..original.len().min(96);
        let footer = original.len().saturating_sub(96)..original.len();
        let between = (header.end..original.len()).step_by(step);
        let places = cases(header.chain(between).chain(footer));
        // A thousand requests prove no more than a hundred.
        for at in places.take(if is_remote() { 10 } else { usize::MAX }) {
            let mut bytes = original.clone();
            bytes[at] ^= 1 << (at % 8);
            self.place.store.put(object, &bytes).unwrap();
            self.expect(object, &format!("bit {} of byte {at}", at % 8), &original);
        }
    }

    fn cut_and_extend(&self, object: &str) {
        let original = self.place.store.get(object).unwrap();
        for len in [0, 1, original.len() / 2, original.len() - 1] {
            self.place.store.put(object, &original[..len]).unwrap();
            self.expect(object, &format!("cut to {len}"), &original);
        }
        for more in [&b"\0"[..], b"\n", &original] {
            self.place
                .store
                .put(object, &[&original, more].concat())
                .unwrap();
            self.expect(object, "extended", &original);
        }
        self.place
            .store
            .put(object, &vec![0; original.len()])
            .unwrap();
        self.expect(object, "zeroed", &original);
    }

    fn swap(&self, prefix: &str) {
        let names = self.place.names(prefix);
        let [a, b] = [0, 1].map(|at| self.place.store.get(&names[at]).unwrap());
        self.place.store.put(&names[0], &b).unwrap();
        self.place.store.put(&names[1], &a).unwrap();
        let report = self.check().unwrap();
        for name in &names[..2] {
            assert!(
                report
                    .problems
                    .iter()
                    .any(|problem| problem.object == *name),
                "{name} was swapped"
            );
        }
        self.place.store.put(&names[0], &a).unwrap();
        self.expect(&names[1], "swapped", &b);
    }

    fn damage_each(&self, prefix: &str, step: usize) {
        let names = self.place.names(prefix);
        assert!(!names.is_empty());
        self.flip_everywhere(&names[0], step);
        for name in &names {
            self.cut_and_extend(name);
        }
        if names.len() > 1 && !["sessions/", "config"].contains(&prefix) {
            self.swap(prefix);
        }
        assert_clean(&self.place.open(), "mended");
    }
}

fn config(kind: Kind) {
    let victim = Victim::of(kind);
    victim.damage_each("config", 7);
    let original = victim.place.store.get("config").unwrap();
    victim.place.store.delete("config").unwrap();
    victim.expect("config", "deleted", &original);
}

fn packs(kind: Kind) {
    let victim = Victim::of(kind);
    victim.damage_each("packs/", 701);
    for name in victim.place.names("packs/") {
        let original = victim.place.store.get(&name).unwrap();
        victim.place.store.delete(&name).unwrap();
        let report = victim.check().unwrap();
        let problem = report
            .problems
            .iter()
            .find(|problem| problem.object == name)
            .unwrap();
        assert!(!problem.snapshots.is_empty(), "{problem}");
        victim.expect(&name, "deleted", &original);
    }
}

fn index_objects(kind: Kind) {
    let victim = Victim::of(kind);
    victim.damage_each("index/", 97);
    for name in victim.place.names("index/") {
        let original = victim.place.store.get(&name).unwrap();
        victim.place.store.delete(&name).unwrap();
        // Nothing else names an index object: its packs are named.
        let report = victim.check().unwrap();
        let problem = report
            .problems
            .iter()
            .find(|problem| problem.object.starts_with("packs/"))
            .unwrap();
        assert!(
            problem.to_string().contains("not indexed") && !problem.snapshots.is_empty(),
            "{problem}"
        );
        victim.expect_the_rest(&report, &name);
        victim.place.store.put(&name, &original).unwrap();
    }
}

fn snapshots(kind: Kind) {
    let victim = Victim::of(kind);
    victim.damage_each("snapshots/", 29);
    for id in victim.snapshots {
        let name = format!("snapshots/{id}");
        let original = victim.place.store.get(&name).unwrap();
        victim.place.store.delete(&name).unwrap();
        victim.expect(&name, "deleted", &original);
    }
}

fn history(kind: Kind) {
    let victim = Victim::of(kind);
    victim.damage_each("history/", 29);
    let names = victim.place.names("history/");
    let mut by_name = 0;
    for name in &names {
        let original = victim.place.store.get(name).unwrap();
        victim.place.store.delete(name).unwrap();
        // The next record names it; the last one is missed by its snapshot.
        let report = victim.check().unwrap();
        by_name += report
            .problems
            .iter()
            .filter(|problem| problem.object == *name)
            .count();
        assert!(
            report
                .problems
                .iter()
                .any(|problem| problem.object.starts_with("history/")),
            "{name}"
        );
        victim.place.store.put(name, &original).unwrap();
    }
    assert_eq!(by_name, names.len() - 1);
}

fn sessions(kind: Kind) {
    let victim = Victim::of(kind);
    victim.damage_each("sessions/", 29);
}

fn the_snapshots_that_are_hurt_are_named_and_no_others(kind: Kind) {
    let victim = Victim::of(kind);
    let [first, second] = victim.snapshots;
    let store = &victim.place.store;
    let (mut only_first, mut only_second, mut both) = (0, 0, 0);
    for name in victim.place.names("packs/") {
        let original = store.get(&name).unwrap();
        let mut bytes = original.clone();
        bytes[100] ^= 1;
        store.put(&name, &bytes).unwrap();
        let report = victim.check().unwrap();
        let problem = report
            .problems
            .iter()
            .find(|problem| problem.object == name)
            .unwrap();
        match (
            problem.snapshots.contains(&first),
            problem.snapshots.contains(&second),
        ) {
            (true, false) => only_first += 1,
            (false, true) => only_second += 1,
            (true, true) => both += 1,
            (false, false) => panic!("{problem}"),
        }
        victim.expect(&name, "first block", &original);
    }
    assert!(
        only_first > 0 && only_second > 0 && both > 0,
        "{only_first} {only_second} {both}"
    );
}

fn a_damaged_pack_and_a_damaged_index_name_object_and_place_when_read(kind: Kind) {
    let victim = Victim::of(kind);
    let repo = victim.place.open();
    let (_, snapshot) = repo.find(&victim.snapshots[0].to_string()).unwrap();
    for name in victim.place.names("packs/") {
        let mut bytes = victim.place.store.get(&name).unwrap();
        bytes[90] ^= 1;
        victim.place.store.put(&name, &bytes).unwrap();
    }
    let error = restore(&repo, &snapshot).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, RepoError::DamagedBlock { offset: 32, .. }),
        "{text}"
    );
    assert!(
        text.starts_with("packs/") && text.contains("offset 32") && text.contains("block "),
        "{text}"
    );

    for name in victim.place.names("index/") {
        victim
            .place
            .store
            .put(&name, b"nothing of an index")
            .unwrap();
    }
    let text = restore(&repo, &snapshot).unwrap_err().to_string();
    // Unless what this machine kept of it stands in.
    assert!(text.contains("index/") || is_remote(), "{text}");
}

fn a_foreign_object_is_a_note_and_no_problem(kind: Kind) {
    let victim = Victim::of(kind);
    victim.place.store.put("packs/notes.txt", b"x").unwrap();
    victim.place.store.put("README", b"x").unwrap();
    let report = victim.check().unwrap();
    assert!(report.problems.is_empty());
    assert!(
        report.notes[0].starts_with("README:") && report.notes[1].starts_with("packs/notes.txt:")
    );
}

fn key_slots(kind: Kind) {
    let victim = Victim::of(kind);
    let Kind::Encrypted = kind else {
        assert!(victim.place.names("keys/").is_empty());
        return;
    };
    // The only one, and then one of two.
    victim.damage_each("keys/", 1);
    let password = password("another");
    let key = cheap(Role::Write, &password);
    let added = victim.place.open().add_key(&key).unwrap();
    let name = format!("keys/{added}");
    victim.flip_everywhere(&name, 1);
    victim.cut_and_extend(&name);
    assert_clean(&victim.place.open(), "mended");
}

/// Every test, on a plain and on an encrypted repository.
macro_rules! on_both {
    ($($name:ident),*) => {
        mod plain {
            $(#[test] fn $name() { super::$name(super::Kind::Plain); })*
        }
        mod encrypted {
            $(#[test] fn $name() { super::$name(super::Kind::Encrypted); })*
        }
    };
}

on_both!(
    config,
    packs,
    index_objects,
    snapshots,
    history,
    sessions,
    the_snapshots_that_are_hurt_are_named_and_no_others,
    a_damaged_pack_and_a_damaged_index_name_object_and_place_when_read,
    a_foreign_object_is_a_note_and_no_problem,
    key_slots
);
