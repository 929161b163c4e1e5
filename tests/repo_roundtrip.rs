//! What is stored is read back, once is enough, and snapshots are found by their names.

mod repo_support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pgtide::repo::{CheckOptions, PackGroup, RepoError, Repository, WriterOptions};
use pgtide::rows::{BlockId, Decoder, Effort};
use repo_support::*;

#[test]
fn a_repository_is_created_once_and_in_an_empty_place() {
    let place = Place::empty();
    let open = || Repository::open(Arc::clone(&place.store));
    let init = || Repository::init(Arc::clone(&place.store));
    assert!(matches!(open(), Err(RepoError::NoRepository { .. })));
    place.store.put("letters/mum.txt", b"Dear mum").unwrap();
    assert!(
        matches!(init(), Err(RepoError::NotEmpty { example, .. }) if example == "letters/mum.txt")
    );
    place.store.delete("letters/mum.txt").unwrap();
    let repo = init().unwrap();
    assert!(matches!(init(), Err(RepoError::AlreadyExists { .. })));
    assert_eq!(open().unwrap().id(), repo.id());
    assert_eq!(open().unwrap().id_key(), repo.id_key());
    assert_clean(&repo, "empty");
}

#[test]
fn a_repository_that_asks_for_more_is_refused_by_operation() {
    let place = Place::new();
    let text = String::from_utf8(place.store.get("config").unwrap()).unwrap();
    let body = text.split_once('\n').unwrap().1;
    let with = |from: &str, to: &str| {
        let body = body.replacen(from, to, 1);
        assert_ne!(body, text);
        let line = format!(
            "pgtide config 1 {}\n",
            blake3::hash(body.as_bytes()).to_hex()
        );
        place
            .store
            .put("config", (line + &body).as_bytes())
            .unwrap();
        Repository::open(Arc::clone(&place.store))
    };
    let repo = with("\"write\": []", "\"write\": [\"shiny\"]").unwrap();
    assert!(matches!(
        repo.writer(Effort::Fast),
        Err(RepoError::Unsupported {
            operation: "write",
            ..
        })
    ));
    let error = with("\"read\": []", "\"read\": [\"shiny\"]").unwrap_err();
    assert!(error.to_string().contains("shiny"), "{error}");
    assert!(matches!(
        with("\"format\": 1", "\"format\": 2"),
        Err(RepoError::Unsupported { .. })
    ));
}

#[test]
fn what_is_stored_reads_back_and_a_second_dump_adds_nearly_nothing() {
    let place = Place::new();
    let repo = place.open();
    let database = database(5, 7, 10_000);
    let (first, stats) = dump(&repo, &database, 1000).unwrap();
    assert_eq!((stats.new_blocks, stats.reused_blocks), (5 * 7 + 5, 0));
    assert!(place.names("sessions/").is_empty());
    assert!(place.names("packs/").len() > 10 && place.names("index/").len() > 2);
    assert_clean(&repo, "first");

    let repo = place.open();
    let (second, stats) = dump(&repo, &database, 2000).unwrap();
    assert_eq!((stats.new_blocks, stats.new_bytes), (0, 0));
    assert_eq!(stats.reused_blocks, 5 * 7 + 5);
    let mut changed = database.clone();
    changed[2].1[3] = payload(77, 9_000);
    let (third, stats) = dump(&repo, &changed, 3000).unwrap();
    assert_eq!(stats.new_blocks, 2);

    for (id, expected) in [(first, &database), (second, &database), (third, &changed)] {
        let (_, snapshot) = repo.find(&id.to_string()).unwrap();
        assert_eq!(&restore(&repo, &snapshot).unwrap(), expected);
    }
    let report = check(&repo);
    assert!(
        report.problems.is_empty() && report.notes.is_empty(),
        "{report:?}"
    );
    assert_eq!(
        (report.snapshots, report.packs),
        (3, place.names("packs/").len() as u64)
    );
    assert!(report.blocks >= 44 && report.bytes > 150_000);
    let structure = repo.check(CheckOptions::default(), &|_| ()).unwrap();
    assert!(structure.problems.is_empty());
}

#[test]
fn a_dump_that_gives_up_leaves_its_blocks_to_the_next() {
    let place = Place::new();
    let repo = place.open();
    let database = database(3, 5, 10_000);
    for (round, drop_it) in [(0, false), (1, true)] {
        let writer = repo.writer_with(Effort::Fast, SMALL).unwrap();
        put_table(&repo, &writer, &database[round].0, &database[round].1).unwrap();
        match drop_it {
            true => drop(writer),
            false => writer.abort().unwrap(),
        }
    }
    assert!(place.names("sessions/").is_empty());
    assert_clean(&repo, "after giving up");
    let (_, stats) = dump(&repo, &database, 1).unwrap();
    assert_eq!((stats.new_blocks, stats.reused_blocks), (6, 12));
}

#[test]
fn a_reader_finds_blocks_stored_after_it_was_opened() {
    let place = Place::new();
    let repo = place.open();
    let reader = repo.reader().unwrap();
    let read = |id: &BlockId| {
        let mut out = Vec::new();
        reader
            .read(id, &mut Decoder::new(), &mut Vec::new(), &mut out)
            .map(|_| out)
    };
    assert!(matches!(
        read(&BlockId([1; 32])),
        Err(RepoError::MissingBlock { .. })
    ));
    let writer = repo.writer(Effort::Default).unwrap();
    let id = writer.put_other(&PackGroup::Small, b"late").unwrap();
    assert!(matches!(read(&id), Err(RepoError::MissingBlock { .. })));
    writer.abort().unwrap();
    assert_eq!(read(&id).unwrap(), b"late");
}

#[test]
fn snapshots_are_found_by_id_prefix_and_latest() {
    let place = Place::new();
    let repo = place.open();
    let put = |source: &str, time: i64| {
        finish(
            repo.writer_with(Effort::Fast, SMALL).unwrap(),
            &[],
            source,
            time,
        )
        .unwrap()
    };
    assert!(matches!(
        repo.find("latest"),
        Err(RepoError::NoSnapshot { .. })
    ));
    let newest = put("a/sales", 300);
    let older = put("a/sales", 100);
    assert_eq!(repo.find("latest").unwrap().0, newest);
    let stock = put("a/stock", 200);
    let error = repo.find("latest").unwrap_err();
    assert!(
        error.to_string().contains("a:5432/sales, a:5432/stock"),
        "{error}"
    );
    assert_eq!(repo.find("latest:sales").unwrap().0, newest);
    assert_eq!(repo.find("latest:stock").unwrap().0, stock);
    assert!(matches!(
        repo.find("latest:none"),
        Err(RepoError::NoSnapshot { .. })
    ));
    put("b/stock", 400);
    assert!(
        matches!(repo.find("latest:stock"), Err(RepoError::SeveralSources { sources, .. }) if sources.len() == 2)
    );

    assert_eq!(repo.find(&format!("{older:.12}")).unwrap().0, older);
    assert_eq!(
        repo.find(&older.to_string().to_uppercase()).unwrap().0,
        older
    );
    for bad in [
        "",
        "abc",
        "../config",
        "zzzz",
        "latest:",
        "../../etc/passwd",
    ] {
        let error = repo.find(bad).unwrap_err();
        assert!(
            matches!(
                error,
                RepoError::NotASnapshot { .. } | RepoError::NoSnapshot { .. }
            ),
            "{bad}: {error}"
        );
    }
    let times: Vec<i64> = repo
        .snapshots()
        .unwrap()
        .list
        .iter()
        .map(|(_, s)| s.time.as_second())
        .collect();
    assert_eq!(times, [100, 200, 300, 400]);

    // Two names with the same beginning, as files: ids cannot be chosen.
    let copy = format!("snapshots/{:.60}{:04x}", older.to_string(), 0xbeef);
    place.store.put(&copy, b"x").unwrap();
    assert!(matches!(
        repo.find(&format!("{older:.8}")),
        Err(RepoError::Ambiguous { .. })
    ));
    // Which is the latest is not known as long as one cannot be read.
    assert!(matches!(
        repo.find("latest:sales"),
        Err(RepoError::Damaged { .. })
    ));
    assert_eq!(repo.snapshots().unwrap().damaged.len(), 1);
}

#[test]
fn packs_marked_for_deletion_count_as_absent() {
    let place = Place::new();
    let repo = place.open();
    let database = database(2, 3, 10_000);
    dump(&repo, &database, 1).unwrap();
    let packs: Vec<String> = place
        .names("packs/")
        .iter()
        .map(|name| name[9..].to_owned())
        .collect();
    let body = format!("{{\"time\": \"2026-01-01T00:00:00Z\", \"packs\": {packs:?}}}\n");
    let bytes = format!(
        "pgtide tombstone 1 {}\n{body}",
        blake3::hash(body.as_bytes()).to_hex()
    );
    let name = format!("tombstones/{}", blake3::hash(bytes.as_bytes()).to_hex());
    place.store.put(&name, bytes.as_bytes()).unwrap();
    let (_, stats) = dump(&repo, &database, 2).unwrap();
    assert_eq!((stats.new_blocks, stats.reused_blocks), (8, 0));
    assert_clean(&repo, "marked");
    // One that cannot be read may mark anything.
    place.store.put(&name, b"?").unwrap();
    assert!(
        matches!(repo.writer(Effort::Fast), Err(RepoError::Damaged { object, .. }) if object == name)
    );
}

#[test]
fn a_pack_that_is_gone_is_stored_again() {
    let place = Place::new();
    let repo = place.open();
    let database = database(2, 3, 10_000);
    dump(&repo, &database, 1).unwrap();
    for name in place.names("packs/") {
        place.store.delete(&name).unwrap();
    }
    assert!(!check(&repo).problems.is_empty());
    let (_, stats) = dump(&repo, &database, 2).unwrap();
    assert_eq!((stats.new_blocks, stats.reused_blocks), (8, 0));
    let (_, snapshot) = repo.find("latest").unwrap();
    assert_eq!(restore(&repo, &snapshot).unwrap(), database);
}

#[test]
fn a_writer_whose_session_was_removed_looks_again_before_it_reports_success() {
    let place = Place::new();
    let repo = place.open();
    let database = database(2, 3, 10_000);
    dump(&repo, &database, 1).unwrap();
    let begin = || {
        let writer = repo.writer_with(Effort::Fast, SMALL).unwrap();
        let mut tables = Vec::new();
        for (name, payloads) in &database {
            tables.push(put_table(&repo, &writer, name, payloads).unwrap());
        }
        for name in place.names("sessions/") {
            place.store.delete(&name).unwrap();
        }
        (writer, tables)
    };
    let (writer, tables) = begin();
    finish(writer, &tables, "host/db", 2).unwrap();
    assert_clean(&repo, "nothing was deleted");

    let (writer, tables) = begin();
    place.store.delete(&place.pack_with_rows()).unwrap();
    let error = finish(writer, &tables, "host/db", 3).unwrap_err();
    assert!(matches!(error, RepoError::SessionLost { .. }), "{error}");
    assert_eq!(repo.snapshots().unwrap().list.len(), 2);
}

#[test]
fn a_session_shows_signs_of_life() {
    let place = Place::new();
    let options = WriterOptions {
        heartbeat: Duration::from_millis(5),
        ..SMALL
    };
    let writer = place.open().writer_with(Effort::Fast, options).unwrap();
    let names = place.names("sessions/");
    assert_eq!(names.len(), 2);
    let beat = || String::from_utf8(place.store.get(&names[1]).unwrap()).unwrap();
    let first = beat();
    let changed = (0..400).any(|_| {
        thread::sleep(Duration::from_millis(5));
        beat() != first
    });
    assert!(changed, "{first}");
    // A session that was removed does not come back.
    place.store.delete(&names[0]).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(!place.names("sessions/").contains(&names[0]));
    let last = beat();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(beat(), last, "a sign of life of a session that is gone");
    drop(writer);
    assert!(place.names("sessions/").is_empty());
}

#[test]
fn index_objects_are_written_while_a_dump_runs() {
    let place = Place::new();
    let repo = place.open();
    let short = Duration::from_millis(10);
    let options = WriterOptions {
        pack_age: short,
        index_interval: short,
        ..WriterOptions::default()
    };
    let writer = repo.writer_with(Effort::Fast, options).unwrap();
    let id = writer
        .put_other(&PackGroup::Meta, b"a block in a pack that is never full")
        .unwrap();
    let indexed = (0..400).any(|_| {
        thread::sleep(Duration::from_millis(5));
        !place.names("index/").is_empty()
    });
    assert!(indexed && writer.contains(&id));
    drop(writer);
}

#[test]
fn the_packs_of_a_closed_group_are_finished_while_the_dump_goes_on() {
    let place = Place::new();
    let repo = place.open();
    let writer = repo.writer(Effort::Fast).unwrap();
    let (one, two) = (PackGroup::Table(1), PackGroup::Table(2));
    writer.put_other(&one, b"first").unwrap();
    writer.put_other(&two, b"second").unwrap();
    assert!(place.names("packs/").is_empty());
    writer.close(&one).unwrap();
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while place.names("packs/").is_empty() && std::time::Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(place.names("packs/").len(), 1);
    // Closed too early is no harm, and neither is closing what is not open.
    writer.close(&one).unwrap();
    let late = writer.put_other(&one, b"third").unwrap();
    writer.abort().unwrap();
    assert_eq!(place.names("packs/").len(), 3);
    let (mut scratch, mut payload) = (Vec::new(), Vec::new());
    let reader = repo.reader().unwrap();
    reader
        .read(&late, &mut Decoder::new(), &mut scratch, &mut payload)
        .unwrap();
    assert_eq!(payload, b"third");
}
