//! The contract of a store, kept by every kind of it: a directory, and every server that is there. tools/stores starts
//! them; a server that is not there is skipped, and says so.

mod repo_support;
mod store_support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use pgtide::repo::Repository;
use pgtide::store::{Store, StoreError};
use repo_support::*;
use store_support::servers::{self, Server};

/// Bytes that repeat nowhere.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut out = vec![0; len];
    hasher.finalize_xof().fill(&mut out);
    out
}

fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    store
        .list(prefix)
        .unwrap()
        .into_iter()
        .map(|object| object.name)
        .collect()
}

fn upload(store: &dyn Store, name: &str, content: &[u8], piece: usize) {
    let mut upload = store.create_upload().unwrap();
    for piece in content.chunks(piece) {
        upload.write(piece).unwrap();
    }
    upload.finish(name).unwrap();
}

fn objects_come_and_go(store: &dyn Store) {
    assert!(store.list("").unwrap().is_empty());
    store.put("a/b", b"0123456789").unwrap();
    store.put("a/c", b"x").unwrap();
    store.put("ab", b"").unwrap();
    assert_eq!(store.get("a/b").unwrap(), b"0123456789");
    assert_eq!(store.get("ab").unwrap(), b"");
    assert_eq!(
        (store.len("a/b").unwrap(), store.len("ab").unwrap()),
        (10, 0)
    );
    assert_eq!(names(store, ""), ["a/b", "a/c", "ab"]);
    assert_eq!(names(store, "a/"), ["a/b", "a/c"]);
    assert_eq!(names(store, "a/c"), ["a/c"]);
    assert!(names(store, "b").is_empty());
    let listed = store.list("a/b").unwrap();
    assert_eq!(listed[0].len, 10);
    let age = jiff::Timestamp::now().duration_since(listed[0].modified);
    assert!(
        age.abs() < jiff::SignedDuration::from_hours(1),
        "put {age:?} ago"
    );
    // Replaced as a whole.
    store.put("a/b", b"new").unwrap();
    assert_eq!(store.get("a/b").unwrap(), b"new");
    assert_eq!(store.len("a/b").unwrap(), 3);
    store.delete("a/b").unwrap();
    assert_eq!(names(store, ""), ["a/c", "ab"]);
    for error in [
        store.get("a/b").unwrap_err(),
        store.len("a/b").unwrap_err(),
        store.map("a/b").unwrap_err(),
        store.get_range("a/b", 0, 1, &mut Vec::new()).unwrap_err(),
        store.get_range("a/b", 0, 0, &mut Vec::new()).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Absent { .. }), "{error}");
    }
    match store.delete("a/b") {
        Ok(()) => {}
        Err(error) => assert!(error.is_absent(), "{error}"),
    }
    store.delete("a/c").unwrap();
    store.delete("ab").unwrap();
    assert_eq!(store.clean().unwrap(), 0);
}

fn ranges_are_exact(store: &dyn Store) {
    let content = bytes(1, 100_000);
    store.put("r", &content).unwrap();
    let mut out = vec![1; 7];
    for (offset, len) in [
        (0, 1),
        (0, 100_000),
        (99_999, 1),
        (5_000, 70_000),
        (100_000, 0),
        (0, 0),
        (40, 2),
        (42, 3),
    ] {
        store.get_range("r", offset, len, &mut out).unwrap();
        assert_eq!(
            out,
            content[offset as usize..offset as usize + len],
            "{offset} {len}"
        );
    }
    for (offset, len) in [
        (0, 100_001),
        (100_000, 1),
        (100_001, 0),
        (99_999, 2),
        (u64::MAX, 2),
        (0, usize::MAX),
        (1 << 40, 1),
    ] {
        let error = store.get_range("r", offset, len, &mut out).unwrap_err();
        assert!(
            matches!(error, StoreError::Short { .. }),
            "{offset} {len}: {error}"
        );
    }
    assert_eq!(&*store.map("r").unwrap(), content);
    // What was replaced or removed is not remembered.
    let other = bytes(3, 1_000);
    store.put("r", &other).unwrap();
    store.get_range("r", 100, 900, &mut out).unwrap();
    assert_eq!(out, other[100..]);
    store.delete("r").unwrap();
    assert!(
        store
            .get_range("r", 100, 900, &mut out)
            .unwrap_err()
            .is_absent()
    );
    store.put("empty", b"").unwrap();
    assert_eq!(&*store.map("empty").unwrap(), b"");
    let error = store.get_range("empty", 0, 1, &mut out).unwrap_err();
    assert!(matches!(error, StoreError::Short { .. }), "{error}");
}

fn reads_in_any_order_find_the_same_bytes(store: &dyn Store) {
    let content = bytes(2, 21_000_000);
    upload(store, "big", &content, 1 << 20);
    let mut out = Vec::new();
    let mut expect = |offset: usize, len: usize| {
        store
            .get_range("big", offset as u64, len, &mut out)
            .unwrap();
        assert!(out == content[offset..offset + len], "{offset} {len}");
    };
    // In order, with small steps, large ones, and gaps.
    let mut at = 0;
    for step in (0..).map(|step| 1 + step * 7_919 % 900_000) {
        if at + step > content.len() {
            break;
        }
        expect(at, step);
        at += step + step % 3 * 1_000;
    }
    // Back, the same again, all of it, the end.
    for (offset, len) in [
        (10_000_000, 500),
        (10_000_000, 500),
        (3, 1),
        (0, 21_000_000),
        (20_999_999, 1),
        (0, 9_000_000),
        (9_000_000, 9_000_000),
    ] {
        expect(offset, len);
    }
    // Threads that share the object, nearly in step.
    thread::scope(|scope| {
        for thread in 0..4 {
            let content = &content;
            scope.spawn(move || {
                let mut out = Vec::new();
                for block in (thread..210).step_by(4) {
                    let offset = block * 100_000;
                    store
                        .get_range("big", offset as u64, 100_000, &mut out)
                        .unwrap();
                    assert!(out == content[offset..offset + 100_000], "{offset}");
                }
            });
        }
    });
}

fn uploads_of_every_size_arrive_whole(store: &dyn Store) {
    for (number, len) in (0..).zip([0, 1, 100_000, (16 << 20) + 1, 24 << 20, 40_000_001]) {
        let name = format!("packs/{number:02}/x");
        let content = bytes(number, len);
        upload(store, &name, &content, 777_777);
        assert_eq!(store.len(&name).unwrap(), len as u64);
        assert!(*store.map(&name).unwrap() == content, "{len}");
        // The same once more, as a dump that was interrupted does.
        if number == 3 {
            upload(store, &name, &content, 1 << 20);
            assert!(*store.map(&name).unwrap() == content);
        }
    }
    let mut abandoned = store.create_upload().unwrap();
    abandoned.write(&bytes(9, 20 << 20)).unwrap();
    drop(abandoned);
    assert_eq!(names(store, "packs/").len(), 6);
}

fn a_listing_of_many_is_complete_and_in_order(store: &dyn Store) {
    let wanted: BTreeSet<String> = (0..1_250)
        .map(|number| format!("many/{:04}", number * 7 % 1_250))
        .collect();
    let list: Vec<&String> = wanted.iter().collect();
    thread::scope(|scope| {
        for part in list.chunks(200) {
            scope.spawn(move || {
                part.iter()
                    .for_each(|name| store.put(name, name.as_bytes()).unwrap())
            });
        }
    });
    store.put("many", b"not below").unwrap_or_default();
    assert_eq!(
        names(store, "many/"),
        wanted.iter().cloned().collect::<Vec<_>>()
    );
    assert_eq!(names(store, "many/01").len(), 100);
}

fn names_are_kept_as_they_are(store: &dyn Store) {
    let odd = [
        "a b",
        "ü/ñ",
        "a+b",
        "%41",
        "a=b&c",
        "q?x#y",
        "~'()*!",
        "x..y",
        "deep/er/and/deeper",
        "semi;colon,@:",
    ];
    for name in odd {
        store.put(&format!("odd/{name}"), name.as_bytes()).unwrap();
    }
    let mut expected: Vec<String> = odd.iter().map(|name| format!("odd/{name}")).collect();
    expected.sort();
    assert_eq!(names(store, "odd/"), expected);
    for name in odd {
        let object = format!("odd/{name}");
        assert_eq!(store.get(&object).unwrap(), name.as_bytes(), "{name}");
        store.delete(&object).unwrap();
    }
    assert!(names(store, "odd/").is_empty());
    for name in [
        "", "/x", "x/", "../x", "a/../b", "a//b", "./a", "a\nb", "a/\0",
    ] {
        assert!(
            matches!(store.get(name), Err(StoreError::Name { .. })),
            "{name:?}"
        );
        assert!(
            matches!(store.put(name, b""), Err(StoreError::Name { .. })),
            "{name:?}"
        );
    }
}

fn a_repository_is_dumped_to_checked_and_restored(store: Arc<dyn Store>) {
    let repo = Repository::init(Arc::clone(&store)).unwrap();
    let mut database = database(5, 6, 30_000);
    let (first, _) = dump(&repo, &database, 1).unwrap();
    assert_clean(&repo, "after a dump");
    database[2].1[3] = payload(99, 30_000);
    let (second, stats) =
        dump(&Repository::open(Arc::clone(&store)).unwrap(), &database, 2).unwrap();
    assert!(stats.reused_blocks > 20, "{stats:?}");
    let repo = Repository::open(Arc::clone(&store)).unwrap();
    assert_clean(&repo, "after a second dump");
    let snapshots = repo.snapshots().unwrap().list;
    assert_eq!(
        snapshots.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [first, second]
    );
    assert!(restore(&repo, &snapshots[1].1).unwrap() == database);
    assert!(names(&*store, "sessions/").is_empty());
    assert!(matches!(
        Repository::init(store),
        Err(pgtide::repo::RepoError::AlreadyExists { .. })
    ));
}

fn writers_side_by_side_all_commit(store: Arc<dyn Store>) {
    let repo = Repository::init(store).unwrap();
    thread::scope(|scope| {
        for number in 0..3 {
            let repo = &repo;
            scope
                .spawn(move || dump(repo, &database(2 + number, 3, 8_000), number as i64).unwrap());
        }
    });
    assert_clean(&repo, "after three writers");
    for (_, snapshot) in repo.snapshots().unwrap().list {
        restore(&repo, &snapshot).unwrap();
    }
}

/// Runs everything on a server, each part in a place of its own.
fn keeps_the_contract(server: Option<Server>) {
    let Some(server) = server else { return };
    objects_come_and_go(&*server.place());
    ranges_are_exact(&*server.place());
    reads_in_any_order_find_the_same_bytes(&*server.place());
    uploads_of_every_size_arrive_whole(&*server.place());
    a_listing_of_many_is_complete_and_in_order(&*server.place());
    names_are_kept_as_they_are(&*server.place());
    a_repository_is_dumped_to_checked_and_restored(server.place());
    writers_side_by_side_all_commit(server.place());
    server.a_missing_bucket_is_no_absent_object();
}

#[test]
fn a_directory_keeps_the_contract() {
    keeps_the_contract(Some(servers::directory()));
}

#[test]
fn moto_keeps_the_contract() {
    keeps_the_contract(servers::remote("MOTO"));
}

#[test]
fn garage_keeps_the_contract() {
    keeps_the_contract(servers::remote("GARAGE"));
}

#[test]
fn azurite_keeps_the_contract() {
    keeps_the_contract(servers::remote("AZURITE"));
}

#[test]
fn google_cloud_storage_keeps_the_contract_as_far_as_its_xml_interface_is_that_of_s3() {
    keeps_the_contract(servers::remote("GCS"));
}

#[test]
fn a_lock_is_set_where_it_is_asked_for_and_never_made_shorter() {
    let Some(moto) = servers::remote("MOTO") else {
        return;
    };
    let locked = moto.in_bucket("pgtide-locked", &["s3.object-lock=compliance"]);
    locked.put("snapshots/x", b"kept").unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    let until = jiff::Timestamp::now() + hour;
    assert!(locked.protect("snapshots/x", until).unwrap());
    // Longer is possible, shorter is satisfied already.
    assert!(locked.protect("snapshots/x", until + hour).unwrap());
    // Without the option nothing is locked, and so it is said.
    let unlocked = moto.place();
    unlocked.put("snapshots/x", b"").unwrap();
    assert!(!unlocked.protect("snapshots/x", until).unwrap());
    assert!(!servers::directory().place().protect("x", until).unwrap());
}
