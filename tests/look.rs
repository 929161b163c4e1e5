//! Looking at a repository: snapshots, stats and diff.

mod common;
mod repo_support;

use std::collections::BTreeSet;
use std::time::Duration;

use common::program::{Repo, run_in};
use common::testbed::Server;
use jiff::Timestamp;
use pgtide::repo::lists::write_value;
use pgtide::repo::model::{BlockRef, ManifestShard, Segment};
use pgtide::repo::{PackGroup, SnapshotId, WriterOptions};
use pgtide::rows::{Effort, Format, RowDigest};
use repo_support::*;

fn listed(place: &Place, arguments: &[&str]) -> Vec<String> {
    let json = run_in(place.env(), &[&["snapshots", "--json"], arguments].concat())
        .expect(0)
        .json();
    let list = json["snapshots"].as_array().unwrap();
    list.iter()
        .map(|snapshot| snapshot["id"].as_str().unwrap().to_owned())
        .collect()
}

fn text(ids: &[SnapshotId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[test]
fn snapshots_are_picked_and_show_what_holds_them() {
    let place = Place::new();
    let all = nights(&place, 4);
    let [a, b, whole] = cluster(&place.open(), 10 * DAY);
    let other = dump_as(
        &place.open(),
        &content(3),
        "elsewhere/db",
        5 * DAY,
        |snapshot| {
            snapshot.tags = vec!["x".into()];
        },
    )
    .unwrap();
    let of = |arguments: &[&str]| listed(&place, arguments);
    assert_eq!(of(&[]).len(), 8);
    assert_eq!(of(&["--database", "db", "--host", "host"]), text(&all));
    assert_eq!(
        of(&["--database", "db", "--latest", "1"]),
        text(&[all[3], other])
    );
    assert_eq!(
        of(&["--latest", "2", "--host", "host"]),
        text(&[all[2], all[3], a, b, whole])
    );
    assert_eq!(of(&["--at", "1970-01-02T12:00:00Z"]), text(&all[..2]));
    assert_eq!(
        of(&["--at", "1970-01-02T12:00:00Z", "--latest", "1"]),
        text(&all[1..2])
    );
    assert_eq!(of(&["--tag", "x"]), text(&[other]));

    let until: Timestamp = "2090-01-01T00:00:00Z".parse().unwrap();
    place.open().protect(&all[..1], Some(until)).unwrap();
    place.open().protect(&[whole], None).unwrap();
    let done = run_in(place.env(), &["snapshots"]).expect(0);
    let line = |id: &SnapshotId| {
        let short = id.to_string()[..12].to_owned();
        let at = done
            .stdout
            .lines()
            .position(|line| line.starts_with(&short))
            .unwrap();
        (at, done.stdout.lines().nth(at).unwrap())
    };
    assert!(
        line(&all[0])
            .1
            .contains("protected until 2090-01-01 00:00:00")
    );
    assert!(line(&whole).1.contains("(cluster)"));
    // The databases stand below their cluster.
    assert_eq!(
        (line(&a).0, line(&b).0),
        (line(&whole).0 + 1, line(&whole).0 + 2)
    );
    assert!(line(&a).1.contains("    a ") && line(&a).1.contains("protected until it is released"));
    let json = run_in(place.env(), &["snapshots", "--json"])
        .expect(0)
        .json();
    let find = |id: &SnapshotId| {
        let list = json["snapshots"].as_array().unwrap();
        list.iter()
            .find(|s| s["id"] == id.to_string())
            .unwrap()
            .clone()
    };
    assert_eq!(find(&a)["cluster"], whole.to_string());
    assert_eq!(find(&a)["protected_until"], serde_json::Value::Null);
    assert_eq!(find(&a)["protected"], true);
    assert_eq!(find(&all[0])["protected_until"], "2090-01-01T00:00:00Z");
    assert_eq!(find(&other)["protected"], false);
    assert_eq!(find(&other)["snapshot"]["tags"][0], "x");
}

#[test]
fn stats_count_every_byte_once() {
    let place = Place::new();
    let all = nights(&place, 3);
    let repo = place.open();
    let stats = repo.stats().unwrap();
    let list = repo.snapshots().unwrap().list;
    let payloads: Vec<Database> = list
        .iter()
        .map(|(_, s)| restore(&repo, s).unwrap())
        .collect();
    let bytes = |database: &Database| {
        database
            .iter()
            .flat_map(|(_, p)| p)
            .map(|p| p.len() as u64)
            .sum::<u64>()
    };
    assert_eq!(stats.payload_bytes, payloads.iter().map(bytes).sum::<u64>());
    let distinct: BTreeSet<&Vec<u8>> = payloads.iter().flatten().flat_map(|(_, p)| p).collect();
    assert_eq!(
        stats.distinct_payload_bytes,
        distinct.iter().map(|p| p.len() as u64).sum::<u64>()
    );
    assert_eq!(
        (
            stats.unused_blocks,
            stats.missing_blocks,
            stats.unindexed_packs
        ),
        (0, 0, 0)
    );
    let stored = |prefix: &str| {
        let objects = place.store.list(prefix).unwrap();
        (
            objects.len() as u64,
            objects.iter().map(|object| object.len).sum::<u64>(),
        )
    };
    assert_eq!((stats.packs, stats.pack_bytes), stored("packs/"));
    assert_eq!((stats.index_objects, stats.index_bytes), stored("index/"));
    // A pack is 64 bytes, and 48 more for each block.
    assert_eq!(
        stats.encoded_bytes,
        stats.pack_bytes - 64 * stats.packs - 48 * stats.blocks
    );
    assert_eq!(
        stats.snapshots.iter().map(|g| g.new_blocks).sum::<u64>(),
        stats.blocks
    );
    assert_eq!(
        stats.snapshots.iter().map(|g| g.new_bytes).sum::<u64>(),
        stats.encoded_bytes
    );
    assert!(stats.snapshots[0].new_bytes > 2 * stats.snapshots[1].new_bytes);

    // What only the forgotten ones needed is unused.
    repo.forget(&all[..2]).unwrap();
    let less = repo.stats().unwrap();
    assert_eq!(less.encoded_bytes + less.unused_bytes, stats.encoded_bytes);
    assert_eq!(less.distinct_payload_bytes, bytes(&payloads[2]));
    assert!(less.unused_blocks > 0 && less.unused_blocks < stats.blocks);
    let shown = run_in(place.env(), &["stats"]).expect(0).stdout;
    assert!(
        shown.contains("unused ") && shown.contains("deduplicated 1.0x"),
        "{shown}"
    );
    let json = run_in(place.env(), &["stats", "--json"]).expect(0).json();
    assert_eq!(json["unused_bytes"], less.unused_bytes);

    // Packs that no index names, and blocks that are nowhere.
    for name in place.names("index/") {
        place.store.delete(&name).unwrap();
    }
    let lost = repo.stats().unwrap();
    assert_eq!(
        (lost.unindexed_packs, lost.unindexed_bytes),
        (stats.packs, stats.pack_bytes)
    );
    assert!(lost.missing_blocks > 0);
    let run = run_in(place.env(), &["stats"]).expect(1);
    let run = run.says(&["lead to blocks that are nowhere"]);
    assert!(
        run.stdout.contains("that a run left behind"),
        "{}",
        run.stdout
    );
}

#[test]
fn tables_and_codecs_of_a_snapshot_add_up() {
    let place = Place::new();
    let mut database = database(3, 4, 5_000);
    // The same block twice in a table, and in two tables.
    database[0].1[1] = database[0].1[0].clone();
    database[1].1[0] = database[0].1[0].clone();
    let repo = place.open();
    let (_, snapshot) = {
        dump(&repo, &database, 1).unwrap();
        repo.find("latest").unwrap()
    };
    let tables = repo.table_stats(&snapshot).unwrap();
    assert_eq!(
        tables.iter().map(|t| t.blocks).collect::<Vec<_>>(),
        [3, 4, 4]
    );
    for (table, (name, payloads)) in tables.iter().zip(&database) {
        assert_eq!(&table.name, name);
        assert_eq!(
            table.payload_bytes,
            payloads.iter().map(|p| p.len() as u64).sum::<u64>()
        );
        assert!(table.stored_bytes > 0 && table.stored_bytes < table.payload_bytes);
    }
    let coders = repo.coder_stats(&snapshot, 3).unwrap();
    // Ten blocks of one column, each once, with two headers: of 64 and of 16 bytes. The first of the second is shared.
    assert_eq!(coders.values().map(|coder| coder.parts).sum::<u64>(), 10);
    let shared = tables[0].stored_bytes / 3;
    let all: u64 = tables.iter().map(|t| t.stored_bytes).sum();
    let coded: u64 = coders.values().map(|coder| coder.bytes).sum();
    assert!(
        coded + 80 * 10 < all && coded + 80 * 10 > all - 2 * shared,
        "{coded} of {all}"
    );
    let run = |arguments: &[&str]| run_in(place.env(), arguments);
    assert!(
        run(&["stats", "--tables"])
            .expect(0)
            .stdout
            .contains("public.table 000")
    );
    assert_eq!(
        run(&["stats", "--tables", "latest", "--json"])
            .expect(0)
            .json()["tables"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let codecs = run(&["stats", "--codecs"]).expect(0).says(&["reading"]);
    assert!(codecs.stdout.contains("100.0 %"), "{}", codecs.stdout);
    run(&["stats", "latest"]).expect(2);
}

#[test]
fn an_empty_repository_has_nothing_to_show() {
    let place = Place::new();
    let shown = run_in(place.env(), &["stats"]).expect(0).stdout;
    assert!(shown.contains("snapshots   0 with 0 B"), "{shown}");
    assert!(
        run_in(place.env(), &["snapshots"])
            .expect(0)
            .stdout
            .contains("no snapshots")
    );
}

#[test]
fn a_diff_says_what_changed() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = server.empty("retain_diff");
    database.sql(
        "CREATE TABLE same AS SELECT g, repeat('x', 100) AS t FROM generate_series(1, 1000) g;
         CREATE TABLE gone AS SELECT 1 AS a;
         CREATE TABLE grown (id int, t text);
         INSERT INTO grown SELECT g, repeat('y', 200) FROM generate_series(1, 30000) g;
         CREATE TABLE wider (id int, old text, other int);
         INSERT INTO wider VALUES (1, 'a', 2);
         CREATE SEQUENCE s; SELECT nextval('s');
         CREATE VIEW v AS SELECT 1 AS one;",
    );
    let repo = Repo::new();
    let a = repo.dump(&database, &[]);
    let none = repo.local(&["diff", &a, &a, "--exit-code"]).expect(0);
    assert!(none.stdout.contains("no difference"), "{}", none.stdout);
    database.sql(
        "DROP TABLE gone;
         CREATE TABLE born AS SELECT g FROM generate_series(1, 7) g;
         UPDATE grown SET t = 'z' WHERE id = 5;
         INSERT INTO grown SELECT g, repeat('y', 200) FROM generate_series(30001, 60000) g;
         ALTER TABLE wider DROP COLUMN old, ADD COLUMN new date, ALTER COLUMN other TYPE bigint;
         SELECT nextval('s');
         CREATE OR REPLACE VIEW v AS SELECT 1 AS one, 2 AS two;
         CREATE INDEX grown_id ON grown (id);
         -- The same rows elsewhere, and made anew: no difference.
         CREATE TABLE again AS SELECT * FROM same; DROP TABLE same; ALTER TABLE again RENAME TO same;",
    );
    let b = repo.dump(&database, &[]);
    repo.local(&["diff", &a, &b, "--exit-code"]).expect(20);
    let json = repo.local(&["diff", &a, &b, "--json"]).expect(0).json();
    assert_eq!(json["equal"], false);
    let difference = &json["difference"];
    let names = |list: &str, field: &str| -> Vec<String> {
        let list = difference[list].as_array().unwrap().iter();
        list.map(|item| item[field].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("tables_added", "table"), ["public.born"]);
    assert_eq!(names("tables_removed", "table"), ["public.gone"]);
    assert_eq!(
        names("tables_changed", "table"),
        ["public.grown", "public.wider"]
    );
    let grown = &difference["tables_changed"][0];
    assert_eq!(
        (grown["rows_before"].as_u64(), grown["rows_after"].as_u64()),
        (Some(30_000), Some(60_000))
    );
    assert_eq!(grown["rows_equal"], false);
    assert!(grown["blocks"]["changed"].as_u64().unwrap() >= 1);
    assert!(grown["blocks"]["added"].as_u64().unwrap() >= 1);
    let wider = &difference["tables_changed"][1];
    assert_eq!(wider["columns_added"][0], "new");
    assert_eq!(wider["columns_removed"][0], "old");
    assert_eq!(
        wider["columns_changed"][0],
        serde_json::json!(["other", "integer", "bigint"])
    );
    assert_eq!(wider["rows_equal"], serde_json::Value::Null);
    assert_eq!(difference["sequences"][0]["sequence"], "public.s");
    assert_eq!(
        (
            difference["sequences"][0]["before"].as_i64(),
            difference["sequences"][0]["after"].as_i64()
        ),
        (Some(1), Some(2))
    );
    let schema = difference["schema"].as_array().unwrap();
    let change = |kind: &str, name: &str| {
        let found = schema
            .iter()
            .find(|e| e["kind"] == kind && e["name"] == name);
        found.map(|e| {
            (
                e["change"].as_str().unwrap().to_owned(),
                e["diff"].as_str().unwrap().to_owned(),
            )
        })
    };
    assert_eq!(change("TABLE", "gone").unwrap().0, "removed");
    assert_eq!(change("TABLE", "born").unwrap().0, "added");
    assert_eq!(change("INDEX", "grown_id").unwrap().0, "added");
    let (view, diff) = change("VIEW", "v").unwrap();
    assert_eq!(view, "changed");
    assert!(diff.contains("2 AS two") && diff.contains("@@"), "{diff}");
    assert_eq!(change("TABLE", "same"), None);
    let shown = repo.local(&["diff", &a, &b]).expect(0).stdout;
    for line in [
        "+ public.born: 7 rows",
        "M public.grown: 30,000 -> 60,000 rows; blocks:",
        "    + column new",
        "    M column other: integer -> bigint",
        "M public.s: 1 -> 2",
        "+ INDEX public.grown_id",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
}

/// One table of very many tiny blocks.
fn many_blocks(repo: &pgtide::repo::Repository, blocks: u64, first: u64, time: i64) -> SnapshotId {
    // Packs of about 5,000.
    let options = WriterOptions {
        pack_size: 5_000 * 100,
        ..WriterOptions::default()
    };
    let writer = repo.writer_with(Effort::Fast, options).unwrap();
    let mut table = put_table(repo, &writer, "many", &[]).unwrap();
    table.manifest.clear();
    for shard in 0..blocks.div_ceil(1024) {
        let mut segments = Vec::new();
        for number in shard * 1024..blocks.min((shard + 1) * 1024) {
            let payload = (number + first).to_le_bytes();
            let id = repo.id_key().block_id(Format::Part, 0, &payload);
            // As the coder writes it: the payload as it is.
            let mut encoded = vec![
                b'p',
                b'g',
                b'b',
                1,
                Format::Part as u8,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                8,
                0,
                0,
                0,
            ];
            encoded.extend_from_slice(&payload);
            writer.put(&PackGroup::Table(1), id, &encoded).unwrap();
            let digest = RowDigest::default();
            let reference = BlockRef {
                id,
                format: Format::Part,
                payload_len: 8,
                digest,
            };
            segments.push(Segment {
                number: number as u32,
                blocks: vec![reference],
            });
        }
        let shard = ManifestShard { segments };
        table
            .manifest
            .push(write_value(&writer, &PackGroup::Outline, &shard).unwrap());
    }
    table.payload_bytes = blocks * 8;
    finish(writer, &[table], "host/db", time).unwrap()
}

/// Index objects, made anew from the packs: one for so many bytes of them.
fn index_anew(place: &Place, index_bytes: u64) {
    for name in place.names("index/") {
        place.store.delete(&name).unwrap();
    }
    let options = WriterOptions {
        index_bytes,
        index_interval: Duration::from_secs(86_400),
        ..WriterOptions::default()
    };
    let writer = place.open().writer_with(Effort::Fast, options).unwrap();
    writer.abort().unwrap();
}

/// What looks at all blocks takes less than a gigabyte, mapped files and all.
fn ten_million_blocks(kind: Kind) {
    const BLOCKS: u64 = 10_000_000;
    if is_remote() {
        eprintln!("SKIPPED: takes a day of requests");
        return;
    }
    let place = Place::of(kind);
    let repo = place.open();
    let first = many_blocks(&repo, BLOCKS, 0, 0).to_string();
    many_blocks(&repo, BLOCKS / 10, 5, DAY);
    drop(repo);
    let measured = |what: &str, arguments: &[&str]| {
        let began = std::time::Instant::now();
        let done = run_in(place.env(), arguments).expect(0);
        let peak = done.peak_bytes / 1_000_000;
        println!(
            "{kind:?}, {what}: {peak} MB, {} s",
            began.elapsed().as_secs()
        );
        // What ends at once may end before it is looked at.
        assert!(peak < 1000, "{what}: {peak} MB");
        assert!(
            peak > 0 || arguments[0] == "forget",
            "{what} was not measured"
        );
        done.json()
    };
    // In an index object for each pack, then in one for all.
    for (layout, index_bytes, objects) in [("many", 1, 1000..10_000), ("one", u64::MAX, 1..2)] {
        index_anew(&place, index_bytes);
        let there = place.names("index/").len();
        assert!(objects.contains(&there), "{there}");
        let measured = |command: &str, arguments: &[&str]| {
            let what = format!("{there} index objects, {command}");
            measured(&what, &[&[command, "--json"], arguments].concat())
        };
        let checked = measured("check", &[]);
        assert_eq!(checked["snapshots"], 2);
        assert!(checked["blocks"].as_u64().unwrap() > BLOCKS);
        let stats = measured("stats", &[]);
        assert!(stats["blocks"].as_u64().unwrap() > BLOCKS);
        // The manifest of the table without rows that it began as.
        assert_eq!(stats["unused_blocks"], 1);
        let tables = measured("stats", &["--tables", &first]);
        assert_eq!(tables["tables"][0]["blocks"], BLOCKS);
        measured("forget", &["--keep-last", "1", "--dry-run"]);
        let pruned = measured("prune", &["--dry-run"]);
        assert_eq!(pruned["snapshots"], 2, "{layout}: {pruned}");
    }
    measured("forget", &["forget", "--keep-last", "1", "--json"]);
    let after = measured("stats", &["stats", "--json"]);
    assert!(after["unused_blocks"].as_u64().unwrap() > BLOCKS * 8 / 10);
    let pruned = measured("prune", &["prune", "--dry-run", "--json"]);
    assert_eq!(pruned["snapshots"], 1);
}

#[test]
#[ignore = "takes minutes, and gigabytes of disk"]
fn ten_million_blocks_are_looked_at_in_little_memory() {
    ten_million_blocks(Kind::Plain);
}

#[test]
#[ignore = "takes minutes, and gigabytes of disk"]
fn ten_million_sealed_blocks_are_looked_at_in_little_memory() {
    ten_million_blocks(Kind::Encrypted);
}
