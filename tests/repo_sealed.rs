//! Encrypted repositories: who can open what, and what an attacker who can write to the storage is believed.

mod repo_support;

use std::sync::Arc;

use pgtide::repo::lists::read_value;
use pgtide::repo::model::Condition;
use pgtide::repo::outline::{KnownTables, Outline};
use pgtide::repo::parse::{BlockHeader, parse_toc};
use pgtide::repo::{
    CheckOptions, InitOptions, KeyError, ObjectId, PackGroup, PruneOptions, RepoError, Repository,
    Role, SnapshotId,
};
use pgtide::rows::{BlockId, ColumnKind, Decoder, Effort, Encoder, Format};
use pgtide::store::fault::{Fault, FaultStore};
use repo_support::*;
use xxhash_rust::xxh3::Xxh3;

const WRITER: &str = "the writer's";

/// An encrypted repository with one dump, and a key that only writes.
fn with_writer() -> (Place, Database, SnapshotId) {
    let place = Place::encrypted();
    let repo = place.open();
    let password = password(WRITER);
    repo.add_key(&cheap(Role::Write, &password)).unwrap();
    let database = database(2, 3, 8_000);
    let (id, _) = dump(&repo, &database, 1).unwrap();
    (place, database, id)
}

fn read(repo: &Repository, id: &BlockId) -> Result<Vec<u8>, RepoError> {
    let mut out = Vec::new();
    let (mut decoder, mut scratch) = (Decoder::new(), Vec::new());
    repo.reader()?
        .read(id, &mut decoder, &mut scratch, &mut out)
        .map(|_| out)
}

fn key_error(error: RepoError) -> KeyError {
    match error {
        RepoError::Key(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn blocks_of_every_format_and_group_come_back() {
    let place = Place::encrypted();
    let repo = place.open();
    let writer = repo.writer(Effort::Fast).unwrap();
    let mut encoder = Encoder::new(Effort::Fast);
    let binary = [
        &[0, 1, 0, 0, 0, 4, 0, 0, 0, 7][..],
        &[0, 1, 255, 255, 255, 255],
    ]
    .concat();
    let blocks = [
        (PackGroup::Table(1), Format::Binary, 1, binary),
        (PackGroup::Small, Format::Text, 1, b"one\ntwo\n".to_vec()),
        (PackGroup::Table(2), Format::Part, 0, payload(7, 100_000)),
        (PackGroup::Meta, Format::Other, 0, b"a list".to_vec()),
        (PackGroup::Outline, Format::Other, 0, b"an outline".to_vec()),
        (PackGroup::Small, Format::Text, 1, Vec::new()),
    ];
    let mut ids = Vec::new();
    for (group, format, columns, payload) in &blocks {
        let kinds = vec![ColumnKind::Text; usize::from(*columns)];
        let mut encoded = Vec::new();
        encoder
            .encode(*format, &kinds, *columns, payload, &mut encoded)
            .unwrap();
        let id = repo.id_key().block_id(*format, *columns, payload);
        assert!(writer.put(group, id, &encoded).unwrap().new);
        ids.push(id);
    }
    writer.abort().unwrap();
    let (password, stranger) = (password(WRITER), Place::encrypted());
    repo.add_key(&cheap(Role::Write, &password)).unwrap();
    let write = place.open_with(WRITER).unwrap();
    for (id, (group, .., payload)) in ids.iter().zip(&blocks) {
        assert_eq!(&read(&place.open(), id).unwrap(), payload, "{group:?}");
        let by_writer = read(&write, id);
        if *group == PackGroup::Outline {
            assert_eq!(&by_writer.unwrap(), payload);
        } else {
            let error = key_error(by_writer.unwrap_err());
            assert!(matches!(error, KeyError::CannotRead), "{group:?}: {error}");
        }
    }
    assert_clean(&repo, "all formats");
    assert_ne!(
        stranger.open().id_key(),
        repo.id_key(),
        "ids are the repository's own"
    );
}

#[test]
fn a_dump_comes_back_and_the_next_one_adds_nothing() {
    let (place, database, id) = with_writer();
    let repo = place.open();
    let (_, snapshot) = repo.find(&id.to_string()).unwrap();
    assert!(!snapshot.sealed);
    assert_eq!(restore(&repo, &snapshot).unwrap(), database);
    let (_, stats) = dump(&repo, &database, 2).unwrap();
    assert_eq!(stats.new_blocks, 0);
    assert_clean(&repo, "two dumps");
}

#[test]
fn without_the_password_nothing_opens_and_nothing_changes() {
    let (place, ..) = with_writer();
    let before = place.objects();
    for wrong in ["correct Horse", "correct horse ", " ", "x"] {
        let error = key_error(place.open_with(wrong).unwrap_err());
        let KeyError::WrongPassword { slots, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(slots, 2);
    }
    let error = key_error(Repository::open(Arc::clone(&place.store)).unwrap_err());
    assert!(matches!(error, KeyError::NoPassword { .. }), "{error}");
    assert_eq!(place.objects(), before);
}

/// Stores rows and commits a snapshot with names in every place that has some.
fn telling(repo: &Repository, row: &[u8]) -> SnapshotId {
    let writer = repo.writer_with(Effort::Fast, SMALL).unwrap();
    let table = put_table(repo, &writer, "TABLENAMEofmine", &[row.to_vec()]).unwrap();
    let honest = finish(writer, &[table], "HOSTNAMEofmine/DATABASEofmine", 1).unwrap();
    let (_, mut snapshot) = repo.find(&honest.to_string()).unwrap();
    snapshot.tags = vec!["TAGofmine".into()];
    snapshot.warnings = vec!["WARNINGofmine".into()];
    snapshot.sections = vec!["SECTIONofmine".into()];
    snapshot.without_rows = vec![("SCHEMAofmine".into(), "OTHERTABLEofmine".into())];
    snapshot.conditions = vec![Condition {
        schema: "SCHEMAofmine".into(),
        table: "TABLENAMEofmine".into(),
        condition: "CONDITIONofmine".into(),
    }];
    snapshot.source.extensions = vec![pgtide::repo::model::Extension {
        name: "EXTENSIONofmine".into(),
        version: "1".into(),
        schema: "SCHEMAofmine".into(),
    }];
    let writer = repo.writer(Effort::Fast).unwrap();
    writer.commit(snapshot).unwrap()
}

/// Which of these are in any object, as they are or in hexadecimal digits.
fn found<'a>(place: &Place, needles: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let objects = place.objects();
    let within = |needle: &[u8]| {
        let holds = |bytes: &Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
        objects.values().any(holds)
    };
    let holds = |needle: &[u8]| within(needle) || within(hex::encode(needle).as_bytes());
    let mut found = needles.to_vec();
    found.retain(|needle| holds(needle));
    found
}

#[test]
fn no_object_has_a_name_or_a_value_in_it() {
    // Random bytes do not compress, so that they would be found.
    let row: Vec<u8> = (0..64u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8 | 0x80)
        .chain(*b"\n")
        .collect();
    // A short host's name by itself could be anywhere.
    let host = rustix::system::uname();
    let host = format!("\"host\": \"{}\"", host.nodename().to_string_lossy());
    let names: [&[u8]; 11] = [
        b"TABLENAMEofmine",
        b"HOSTNAMEofmine",
        b"DATABASEofmine",
        b"TAGofmine",
        b"WARNINGofmine",
        b"SECTIONofmine",
        b"SCHEMAofmine",
        b"CONDITIONofmine",
        b"EXTENSIONofmine",
        &row[..64],
        host.as_bytes(),
    ];
    let (plain, sealed) = (Place::new(), Place::encrypted());
    telling(&plain.open(), &row);
    let id = telling(&sealed.open(), &row);
    // So that a session is among the objects.
    let writer = sealed.open().writer(Effort::Fast).unwrap();
    assert_eq!(found(&plain, &names), names);
    assert_eq!(found(&sealed, &names), [] as [&[u8]; 0]);
    let id_key = sealed.open().id_key().0;
    let others: [&[u8]; 3] = [PASSWORD.as_bytes(), b"test key", &id_key];
    assert_eq!(found(&sealed, &others), [] as [&[u8]; 0]);
    drop(writer);

    // Who reads sees all of it; who writes what it takes to choose.
    let (_, whole) = sealed.open().find(&id.to_string()).unwrap();
    assert_eq!(whole.warnings, ["WARNINGofmine"]);
    assert_eq!(whole.source.extensions[0].name, "EXTENSIONofmine");
    let password = password(WRITER);
    sealed
        .open()
        .add_key(&cheap(Role::Write, &password))
        .unwrap();
    let write = sealed.open_with(WRITER).unwrap();
    let (_, summary) = write.find(&id.to_string()).unwrap();
    assert!(summary.sealed);
    assert_eq!(
        (&summary.tags, &summary.source.database),
        (&whole.tags, &whole.source.database)
    );
    let shown = serde_json::to_string(&summary).unwrap();
    for name in [
        "WARNING",
        "SECTION",
        "SCHEMA",
        "CONDITION",
        "EXTENSION",
        "TABLE",
    ] {
        assert!(!shown.contains(name), "{name}: {shown}");
    }
}

#[test]
fn a_key_that_writes_dumps_with_deduplication_and_cannot_read() {
    let (place, database, first) = with_writer();
    let write = place.open_with(WRITER).unwrap();
    assert!(write.is_encrypted() && !write.can_read() && place.open().can_read());

    // What the next dump looks for in the last one.
    let (_, snapshot) = write.find("latest").unwrap();
    let reader = write.reader().unwrap();
    let known = KnownTables::load(&write, &reader, &snapshot).unwrap();
    let column = pgtide::repo::model::Column {
        name: "n".into(),
        type_name: "text".into(),
        kind: ColumnKind::Text,
        shape: pgtide::rows::Shape::Plain,
    };
    let table = known.find("public", "table 001", Format::Text, &[column]);
    assert!(table.is_some());
    let outline: Outline = read_value(&reader, &snapshot.outline.unwrap()).unwrap();

    let (second, stats) = dump(&write, &database, 2).unwrap();
    assert_eq!(stats.new_blocks, 0);
    let mut more = database.clone();
    more.push(("of the writer".into(), vec![payload(77, 9_000)]));
    let (third, stats) = dump(&write, &more, 3).unwrap();
    assert!(stats.new_blocks > 0);
    let report = check(&write);
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    assert_eq!(report.snapshots, 3);
    assert!(report.notes.iter().any(|note| note.contains("cannot read")));

    let (_, latest) = write.find("latest").unwrap();
    let error = key_error(restore(&write, &latest).unwrap_err());
    assert!(matches!(error, KeyError::CannotRead), "{error}");
    for list in &outline.lists {
        key_error(read(&write, list).unwrap_err());
    }

    let reads = place.open();
    for (id, expected) in [(first, &database), (second, &database), (third, &more)] {
        let (_, snapshot) = reads.find(&id.to_string()).unwrap();
        assert_eq!(&restore(&reads, &snapshot).unwrap(), expected);
    }
    assert_clean(&reads, "after the writer");
}

#[test]
fn a_key_that_writes_forgets_protects_and_prunes_and_what_stays_can_be_read() {
    let (place, kept, first) = with_writer();
    let write = place.open_with(WRITER).unwrap();
    // Its packs are half needed: they are written anew.
    let mut other = kept.clone();
    for (table, (_, payloads)) in (0..).zip(&mut other) {
        payloads[1] = payload(5_000 + table, 8_000);
    }
    let (second, _) = dump(&write, &other, 2).unwrap();
    write.protect(&[first], None).unwrap();
    let error = write.forget(&[first]).unwrap_err();
    assert!(
        matches!(error, RepoError::ProtectedSnapshot { .. }),
        "{error}"
    );
    write.release(&[first]).unwrap();
    assert_eq!(write.forget(&[first]).unwrap(), [first]);

    let packs = place.names("packs/").len();
    let options = PruneOptions {
        max_waste: 0.0,
        patience: std::time::Duration::from_millis(1),
        ..PruneOptions::default()
    };
    let report = write.prune(options, &|_| ()).unwrap();
    assert!(report.repacked.packs > 0, "{report:?}");
    assert!(place.names("packs/").len() < packs, "{report:?}");

    let (reads, writes) = (place.open(), place.open_with(WRITER).unwrap());
    let (_, snapshot) = reads.find(&second.to_string()).unwrap();
    assert_eq!(restore(&reads, &snapshot).unwrap(), other);
    for repo in [&reads, &writes] {
        assert_clean(repo, "pruned");
    }
    let (_, stats) = dump(&writes, &other, 3).unwrap();
    assert_eq!(stats.new_blocks, 0);
}

#[test]
fn what_a_writer_checked_counts_for_writers_and_not_for_readers() {
    let (place, ..) = with_writer();
    let (reads, writes) = (place.open(), place.open_with(WRITER).unwrap());
    let never_read = |repo: &Repository| {
        let report = repo.check(CheckOptions::default(), &|_| ()).unwrap();
        report.never_read_bytes
    };
    let all = never_read(&reads);
    assert!(all > 0);
    check(&writes);
    assert_eq!((never_read(&writes), never_read(&reads)), (0, all));
    check(&reads);
    check(&writes);
    assert_eq!((never_read(&writes), never_read(&reads)), (0, 0));
}

#[test]
fn a_check_by_a_writer_finds_what_is_missing() {
    let (place, ..) = with_writer();
    let write = place.open_with(WRITER).unwrap();
    for name in place.names("packs/") {
        let original = place.store.get(&name).unwrap();
        place.store.delete(&name).unwrap();
        let report = check(&write);
        let problem = report.problems.iter().find(|found| found.object == name);
        assert_eq!(problem.unwrap().snapshots.len(), 1, "{name}");
        let mut bad = original.clone();
        bad[100] ^= 1;
        place.store.put(&name, &bad).unwrap();
        let report = check(&write);
        let problem = report.problems.iter().find(|found| found.object == name);
        assert_eq!(problem.unwrap().snapshots.len(), 1, "{name}");
        place.store.put(&name, &original).unwrap();
    }
}

#[test]
fn keys_are_added_listed_removed_and_changed() {
    let place = Place::encrypted();
    let repo = place.open();
    let [second, writer, changed] = ["second", WRITER, "changed"].map(password);
    let id = repo.add_key(&cheap(Role::Read, &second)).unwrap();
    let write_id = repo.add_key(&cheap(Role::Write, &writer)).unwrap();
    let keys = repo.keys().unwrap();
    let roles: Vec<Role> = keys.iter().map(|key| key.role).collect();
    assert_eq!(roles, [Role::Read, Role::Read, Role::Write]);
    let current: Vec<bool> = keys.iter().map(|key| key.current).collect();
    assert_eq!(current, [true, false, false]);
    assert!(
        keys.iter()
            .all(|key| key.about.as_ref().unwrap().label == "test key")
    );

    // A key that writes can give no more than it has.
    let write = place.open_with(WRITER).unwrap();
    let error = key_error(write.add_key(&cheap(Role::Read, &changed)).unwrap_err());
    assert!(matches!(error, KeyError::CannotGive), "{error}");
    let added = write.add_key(&cheap(Role::Write, &changed)).unwrap();
    assert!(!place.open_with("changed").unwrap().can_read());
    let prefix = added.to_string()[..8].to_uppercase();
    assert_eq!(write.remove_key(&prefix).unwrap(), added);
    key_error(place.open_with("changed").unwrap_err());

    let mut opened = place.open_with("second").unwrap();
    let new_id = opened.change_key(&changed, CHEAP).unwrap();
    assert_ne!(new_id, id);
    key_error(place.open_with("second").unwrap_err());
    let again = place.open_with("changed").unwrap();
    assert!(again.can_read());
    assert_eq!(again.keys().unwrap().len(), 3);
    // Twice with the same.
    opened.change_key(&second, CHEAP).unwrap();
    assert_eq!(opened.keys().unwrap().len(), 3);
    let mut write = place.open_with(WRITER).unwrap();
    write.change_key(&changed, CHEAP).unwrap();
    assert!(!place.open_with("changed").unwrap().can_read());
    assert!(!place.names("keys/").contains(&format!("keys/{write_id}")));

    let readers: Vec<String> = again
        .keys()
        .unwrap()
        .iter()
        .map(|key| key.id.to_string())
        .collect();
    assert_eq!(readers.len(), 3);
    let first = keys[0].id.to_string();
    opened.remove_key(&first).unwrap();
    key_error(place.open_with(PASSWORD).unwrap_err());
    let last = opened.keys().unwrap();
    let last = last.iter().find(|key| key.role == Role::Read).unwrap().id;
    let before = place.objects();
    let error = key_error(opened.remove_key(&last.to_string()).unwrap_err());
    assert!(matches!(error, KeyError::LastReadKey { .. }), "{error}");
    for unknown in ["ffffffffffff", "", "abc", "../config"] {
        let error = key_error(opened.remove_key(unknown).unwrap_err());
        assert!(matches!(error, KeyError::NoSuchKey { .. }), "{error}");
    }
    assert_eq!(place.objects(), before);
}

#[test]
fn a_plain_repository_has_no_keys() {
    let place = Place::new();
    let repo = place.open_with("whatever").unwrap();
    assert!(!repo.is_encrypted() && repo.can_read());
    let password = password("x");
    for error in [
        repo.keys().map(drop),
        repo.add_key(&cheap(Role::Read, &password)).map(drop),
        repo.remove_key("abcd").map(drop),
    ] {
        let error = key_error(error.unwrap_err());
        assert!(matches!(error, KeyError::NotEncrypted { .. }), "{error}");
    }
    assert!(place.names("keys/").is_empty());
}

/// A record with another body, framed as it should be, under its own name.
fn forge(place: &Place, prefix: &str, bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> String {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    let mut body = bytes[end + 1..].to_vec();
    change(&mut body);
    let line = std::str::from_utf8(&bytes[..end]).unwrap();
    let (start, _) = line.rsplit_once(' ').unwrap();
    let forged = [
        format!("{start} {}\n", ObjectId::of(&body)).as_bytes(),
        &body,
    ]
    .concat();
    let name = match prefix {
        "config" => "config".to_owned(),
        _ => format!("{prefix}{}", ObjectId::of(&forged)),
    };
    place.store.put(&name, &forged).unwrap();
    name
}

fn json(body: &mut Vec<u8>, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value: serde_json::Value = serde_json::from_slice(body).unwrap();
    change(&mut value);
    *body = serde_json::to_vec(&value).unwrap();
}

#[test]
fn forged_slots_open_nothing_and_cost_nothing() {
    let place = Place::encrypted();
    let other = Place::encrypted();
    let slot = place.names("keys/").remove(0);
    let bytes = place.store.get(&slot).unwrap();
    let other_slot: serde_json::Value = {
        let bytes = other.store.get(&other.names("keys/")[0]).unwrap();
        let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        serde_json::from_slice(&bytes[end..]).unwrap()
    };
    let huge = serde_json::json!({
        "algorithm": "argon2id", "memory_kib": u32::MAX, "passes": u32::MAX, "lanes": 1
    });
    let forgeries: Vec<(&str, serde_json::Value)> = vec![
        ("role", "write".into()),
        ("kdf", huge),
        (
            "kdf",
            serde_json::json!({"algorithm": "argon2id", "memory_kib": 1 << 20, "passes": u32::MAX, "lanes": 1}),
        ),
        (
            "kdf",
            serde_json::json!({"algorithm": "argon2id", "memory_kib": 16, "passes": 1, "lanes": 1}),
        ),
        ("kdf", serde_json::json!({"algorithm": "none"})),
        ("salt", other_slot["salt"].clone()),
        ("about", other_slot["about"].clone()),
        ("about", "".into()),
        ("secrets", other_slot["secrets"].clone()),
        ("secrets", "".into()),
        ("repository", other_slot["repository"].clone()),
    ];
    for (field, value) in forgeries {
        place.store.delete(&slot).unwrap();
        let forged = forge(&place, "keys/", &bytes, |body| {
            json(body, |slot| slot[field] = value.clone());
        });
        let error = place.try_open().unwrap_err();
        let known = matches!(&error, RepoError::Key(KeyError::WrongPassword { .. }))
            || error.to_string().starts_with(&forged);
        assert!(known, "{field} {value}: {error}");
        // Beside the true one it is no harm.
        place.store.put(&slot, &bytes).unwrap();
        place.open();
        place.store.delete(&forged).unwrap();
    }
    // A slot of any size is not even read.
    let name = format!("keys/{}", ObjectId::of(b"large"));
    place.store.put(&name, &vec![b'x'; 10 << 20]).unwrap();
    place.open();
    let report = check(&place.open());
    assert!(report.problems.iter().any(|problem| problem.object == name));
}

#[test]
fn a_slot_that_somebody_else_put_there_is_no_key_that_reads() {
    let place = Place::encrypted();
    let other = Place::encrypted();
    let strange = other.names("keys/").remove(0);
    let bytes = other.store.get(&strange).unwrap();
    let repository = place.open().id().to_string();
    forge(&place, "keys/", &bytes, |body| {
        json(body, |slot| slot["repository"] = repository.into());
    });
    let repo = place.open();
    let keys = repo.keys().unwrap();
    assert_eq!(keys.iter().filter(|key| key.about.is_some()).count(), 1);
    let mine = keys.iter().find(|key| key.current).unwrap().id.to_string();
    let error = key_error(repo.remove_key(&mine).unwrap_err());
    assert!(matches!(error, KeyError::LastReadKey { .. }), "{error}");
}

#[test]
fn a_config_with_another_public_key_is_refused() {
    let place = Place::encrypted();
    let bytes = place.store.get("config").unwrap();
    for key in [
        serde_json::json!(["77".repeat(32)]),
        serde_json::json!(["not a key"]),
    ] {
        forge(&place, "config", &bytes, |body| {
            json(body, |config| config["public_keys"] = key);
        });
        let error = place.try_open().unwrap_err().to_string();
        assert!(error.starts_with("config: damaged"), "{error}");
    }
    // What it does not state cannot be wrong: the key is in the slot.
    forge(&place, "config", &bytes, |body| {
        json(body, |config| config["public_keys"] = serde_json::json!([]));
    });
    let (id, _) = dump(&place.open(), &database(1, 1, 1_000), 1).unwrap();
    place.store.put("config", &bytes).unwrap();
    let (_, snapshot) = place.open().find(&id.to_string()).unwrap();
    restore(&place.open(), &snapshot).unwrap();
    // Another repository's id leads to no key.
    forge(&place, "config", &bytes, |body| {
        json(body, |config| config["id"] = "00".repeat(16).into());
    });
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("is a key of repository"), "{error}");
}

#[test]
fn an_older_program_would_refuse_and_an_unknown_feature_is_refused() {
    let place = Place::encrypted();
    let bytes = place.store.get("config").unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert_eq!(text.matches("\"encryption\"").count(), 4, "{text}");
    assert!(!text.contains("id_key"));
    forge(&place, "config", &bytes, |body| {
        json(body, |config| {
            config["features"]["read"] = serde_json::json!(["encryption", "later"])
        });
    });
    let error = place.try_open().unwrap_err();
    assert!(matches!(error, RepoError::Unsupported { .. }), "{error}");
}

/// A pack's blocks: where they lie and their headers.
fn blocks(pack: &[u8]) -> Vec<(usize, BlockHeader)> {
    let toc = parse_toc(pack.len() as u64, pack).unwrap();
    toc.iter()
        .map(|entry| {
            let at = entry.offset as usize;
            (at, BlockHeader::parse(&pack[at..]).unwrap())
        })
        .collect()
}

/// What whoever changes a block can compute.
fn fix_checksum(pack: &mut [u8], at: usize, len: u32) {
    let mut hasher = Xxh3::new();
    hasher.update(&pack[at..at + 48]);
    hasher.update(&pack[at + 64..at + 64 + len as usize]);
    pack[at + 48..at + 64].copy_from_slice(&hasher.digest128().to_le_bytes());
}

#[test]
fn a_block_that_was_changed_with_its_checksum_is_refused() {
    let place = Place::encrypted();
    let repo = place.open();
    let writer = repo.writer(Effort::Fast).unwrap();
    // Raw blocks of one length, so that they can be exchanged.
    let ids = [7u64, 8].map(|seed| {
        let payload: Vec<u8> = (0..500)
            .map(|at: u64| ((seed * 1_000 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8)
            .collect();
        writer.put_other(&PackGroup::Meta, &payload).unwrap()
    });
    let outline = writer.put_other(&PackGroup::Outline, b"o").unwrap();
    writer.abort().unwrap();
    let (name, original, found) = place
        .names("packs/")
        .into_iter()
        .map(|name| {
            let bytes = place.store.get(&name).unwrap();
            let blocks = blocks(&bytes);
            (name, bytes, blocks)
        })
        .find(|(.., blocks)| blocks.len() == 2)
        .unwrap();
    let [(a, a_header), (b, b_header)] = found[..] else {
        panic!()
    };
    assert_eq!(a_header.stored_len, b_header.stored_len);
    let len = a_header.stored_len;
    let body = |at: usize| at + 64..at + 64 + len as usize;
    type Change<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
    let changes: Vec<(&str, Change<'_>)> = vec![
        (
            "bodies exchanged",
            Box::new(|pack| {
                let (first, second) = (original[body(a)].to_vec(), original[body(b)].to_vec());
                pack[body(a)].copy_from_slice(&second);
                pack[body(b)].copy_from_slice(&first);
            }),
        ),
        (
            "blocks exchanged",
            Box::new(|pack| {
                pack[a..body(a).end].copy_from_slice(&original[b..body(b).end]);
                pack[b..body(b).end].copy_from_slice(&original[a..body(a).end]);
            }),
        ),
        (
            "headers exchanged",
            Box::new(|pack| {
                pack[a..a + 48].copy_from_slice(&original[b..b + 48]);
                pack[b..b + 48].copy_from_slice(&original[a..a + 48]);
            }),
        ),
        (
            "another id",
            Box::new(|pack| {
                let (first, second) = (a_header.id.0, b_header.id.0);
                pack[a + 8..a + 40].copy_from_slice(&second);
                pack[b + 8..b + 40].copy_from_slice(&first);
            }),
        ),
        (
            "another class",
            Box::new(|pack| [a, b].into_iter().for_each(|at| pack[at + 6] = 3)),
        ),
        (
            "not sealed",
            Box::new(|pack| [a, b].into_iter().for_each(|at| pack[at + 6] = 0)),
        ),
        (
            "another format",
            Box::new(|pack| [a, b].into_iter().for_each(|at| pack[at + 5] = 3)),
        ),
        (
            "another length",
            Box::new(|pack| [a, b].into_iter().for_each(|at| pack[at + 44] ^= 1)),
        ),
        (
            "another counter",
            Box::new(|pack| [a, b].into_iter().for_each(|at| pack[at + 96] ^= 1)),
        ),
        (
            "another seed",
            Box::new(|pack| [a, b].into_iter().for_each(|at| pack[at + 64] ^= 1)),
        ),
        (
            "another byte",
            Box::new(|pack| [a, b].into_iter().for_each(|at| pack[at + 110] ^= 1)),
        ),
        (
            "another tag",
            Box::new(|pack| {
                [a, b]
                    .into_iter()
                    .for_each(|at| pack[body(at).end - 1] ^= 1);
            }),
        ),
    ];
    for (what, change) in changes {
        let mut pack = original.clone();
        change(&mut pack);
        for at in [a, b] {
            fix_checksum(&mut pack, at, len);
        }
        place.store.put(&name, &pack).unwrap();
        for id in ids {
            let error = read(&repo, &id).unwrap_err();
            let refused = matches!(error, RepoError::DamagedBlock { block, .. } if block == id);
            assert!(refused, "{what}: {error}");
        }
        read(&repo, &outline).unwrap();
        place.store.put(&name, &original).unwrap();
        for id in ids {
            read(&repo, &id).unwrap();
        }
    }
}

#[test]
fn objects_that_are_not_sealed_are_not_taken_in_an_encrypted_repository_nor_sealed_ones_in_a_plain()
{
    let (plain, sealed) = (Place::new(), Place::encrypted());
    for place in [&plain, &sealed] {
        dump(&place.open(), &database(1, 2, 3_000), 1).unwrap();
    }
    for (from, to) in [(&plain, &sealed), (&sealed, &plain)] {
        for prefix in ["index/", "snapshots/", "history/", "packs/"] {
            let name = from.names(prefix).remove(0);
            to.store
                .put(&name, &from.store.get(&name).unwrap())
                .unwrap();
            let report = check(&to.open());
            assert!(
                report.problems.iter().any(|problem| problem.object == name),
                "{name}: {:#?}",
                report.problems
            );
            to.store.delete(&name).unwrap();
        }
        assert_clean(&to.open(), "mended");
    }
}

#[test]
fn a_record_is_refused_as_another_kind_under_another_name_or_elsewhere() {
    let place = Place::encrypted();
    let repo = place.open();
    dump(&repo, &database(1, 2, 3_000), 1).unwrap();
    let expect = |name: &str| {
        let report = check(&place.open());
        let problem = report.problems.iter().find(|found| found.object == name);
        let problem = problem.unwrap_or_else(|| panic!("{name}: {:#?}", report.problems));
        assert!(problem.detail.contains("not sealed by a key"), "{problem}");
        place.store.delete(name).unwrap();
        assert_clean(&place.open(), "mended");
    };
    // A history record as a tombstone: the kind in its first line can be changed by anyone.
    let history = place.names("history/").remove(0);
    let text = place.store.get(&history).unwrap();
    let end = text.iter().position(|&byte| byte == b'\n').unwrap();
    let line = String::from_utf8(text[..end].to_vec()).unwrap();
    let moved = [
        line.replace("history", "tombstone").as_bytes(),
        &text[end..],
    ]
    .concat();
    let name = format!("tombstones/{}", ObjectId::of(&moved));
    place.store.put(&name, &moved).unwrap();
    place.open().writer(Effort::Fast).unwrap_err();
    expect(&name);

    // A session under another session's name.
    let writer = repo.writer(Effort::Fast).unwrap();
    for session in place.names("sessions/") {
        let beat = session.ends_with(".beat");
        let name = format!(
            "sessions/{}{}",
            "ab".repeat(16),
            if beat { ".beat" } else { "" }
        );
        let bytes = place.store.get(&session).unwrap();
        place.store.put(&name, &bytes).unwrap();
        expect(&name);
    }
    drop(writer);

    // A snapshot of a repository with the same keys.
    let twin = twin(&place);
    let (id, _) = dump(&twin.open(), &database(1, 2, 3_000), 2).unwrap();
    let name = format!("snapshots/{id}");
    place
        .store
        .put(&name, &twin.store.get(&name).unwrap())
        .unwrap();
    expect(&name);
    let name = twin.names("index/").remove(0);
    place
        .store
        .put(&name, &twin.store.get(&name).unwrap())
        .unwrap();
    expect(&name);
}

/// A repository that shares the keys of this one.
fn twin(of: &Place) -> Place {
    let mut place = Place::empty();
    let (from, password) = (of.open(), of.password.clone());
    let options = InitOptions {
        key: password.as_ref().map(|key| cheap(Role::Read, key)),
        keys_from: Some(&from),
    };
    Repository::init_with(Arc::clone(&place.store), &options).unwrap();
    place.password = password;
    place
}

#[test]
fn blocks_move_as_they_are_between_repositories_that_share_keys() {
    for kind in [Kind::Plain, Kind::Encrypted] {
        let place = Place::of(kind);
        let database = database(2, 3, 8_000);
        dump(&place.open(), &database, 1).unwrap();
        let twin = twin(&place);
        assert_ne!(twin.open().id(), place.open().id());
        assert_eq!(twin.open().id_key(), place.open().id_key());
        for name in place.names("packs/") {
            twin.store
                .put(&name, &place.store.get(&name).unwrap())
                .unwrap();
        }
        // Packs without an index are taken over.
        let (id, stats) = dump(&twin.open(), &database, 2).unwrap();
        assert_eq!(stats.new_blocks, 0, "{kind:?}");
        let (_, snapshot) = twin.open().find(&id.to_string()).unwrap();
        assert_eq!(restore(&twin.open(), &snapshot).unwrap(), database);
        assert_clean(&twin.open(), "twin");
    }
}

#[test]
fn keys_are_shared_only_by_who_reads_and_between_repositories_of_a_kind() {
    let (place, ..) = with_writer();
    let password = password("x");
    let (write, plain) = (place.open_with(WRITER).unwrap(), Place::new());
    let init = |from: &Repository, encrypt: bool| {
        let options = InitOptions {
            key: encrypt.then(|| cheap(Role::Read, &password)),
            keys_from: Some(from),
        };
        let place = Place::empty();
        let error = Repository::init_with(Arc::clone(&place.store), &options).unwrap_err();
        assert!(place.names("").is_empty());
        key_error(error)
    };
    assert!(matches!(init(&write, true), KeyError::CannotRead));
    assert!(matches!(
        init(&place.open(), false),
        KeyError::KeysDoNotFit { .. }
    ));
    assert!(matches!(
        init(&plain.open(), true),
        KeyError::KeysDoNotFit { .. }
    ));
}

#[test]
fn init_that_fails_anywhere_can_be_done_again() {
    let password = password(PASSWORD);
    let options = || InitOptions {
        key: Some(cheap(Role::Read, &password)),
        keys_from: None,
    };
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for at in 1..=3 {
            let mut place = Place::empty();
            let faulty = FaultStore::new(Arc::clone(&place.store), fault, at);
            let made = Repository::init_with(Arc::new(faulty), &options()).is_ok();
            place.password = Some(password.clone());
            if !made && !place.names("").contains(&"config".to_owned()) {
                Repository::init_with(Arc::clone(&place.store), &options()).unwrap();
            }
            assert_eq!(place.names("keys/").len(), 1, "{fault:?} at {at}");
            dump(&place.open(), &database(1, 1, 1_000), 1).unwrap();
        }
    }
}

#[test]
fn a_key_change_that_dies_anywhere_leaves_a_password_that_opens() {
    let new = password("new");
    for fault in [Fault::Crash, Fault::CrashAfter, Fault::Fail, Fault::Full] {
        for at in 1..=2 {
            let place = Place::encrypted();
            let faulty = FaultStore::new(Arc::clone(&place.store), fault, at);
            let mut repo = place.open_through(Arc::new(faulty)).unwrap();
            let done = repo.change_key(&new, CHEAP).is_ok();
            let (old, new) = (place.try_open().is_ok(), place.open_with("new").is_ok());
            assert!(old || new, "{fault:?} at {at}");
            if done {
                assert!(new && !old, "{fault:?} at {at}");
            }
        }
    }
}

#[test]
fn nothing_secret_is_printed() {
    let place = Place::encrypted();
    let repo = place.open();
    let shown = format!(
        "{repo:?} {:?} {:?}",
        place.password,
        repo.writer(Effort::Fast).unwrap()
    );
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert!(!shown.contains(&hex::encode(repo.id_key().0)), "{shown}");
    assert!(pgtide::repo::Password::new(String::new()).is_err());
}
