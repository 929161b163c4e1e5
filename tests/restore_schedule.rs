//! How a restore orders its work: indexes of keys beside others, and what it says of where its time went.
//!
//! Runs on the servers of `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/testbed`.

mod common;

use common::equal::{assert_equal, assert_restored};
use common::program::Repo;
use common::testbed::{Database, Server};

/// Tables large enough that the index of each key is built by itself, with all that may be said of a key.
fn keys<'a>(server: &'a Server, name: &str) -> Database<'a> {
    let database = server.empty(name);
    database.sql(
        r#"CREATE SCHEMA "Odd s";
         CREATE TABLE "Odd s"."a.""b" (id integer NOT NULL, "Two" integer NOT NULL, three text, four integer);
         INSERT INTO "Odd s"."a.""b" SELECT g, -g, 'v' || g, NULLIF(g, 7) FROM generate_series(1, 80000) g;
         ALTER TABLE "Odd s"."a.""b" ADD CONSTRAINT "the ""key"" (x)" PRIMARY KEY (id, "Two") INCLUDE (three) WITH (fillfactor = 70);
         ALTER TABLE "Odd s"."a.""b" ADD CONSTRAINT same_nulls UNIQUE NULLS NOT DISTINCT (four) WITH (fillfactor = 60, deduplicate_items = off);
         ALTER TABLE "Odd s"."a.""b" ADD CONSTRAINT later UNIQUE ("Two") DEFERRABLE;
         ALTER TABLE "Odd s"."a.""b" ADD CONSTRAINT much_later UNIQUE (three, id) DEFERRABLE INITIALLY DEFERRED;
         ALTER TABLE "Odd s"."a.""b" ADD CONSTRAINT none_meet EXCLUDE USING btree (id WITH =);
         ALTER TABLE "Odd s"."a.""b" CLUSTER ON "the ""key"" (x)";
         ALTER TABLE "Odd s"."a.""b" REPLICA IDENTITY USING INDEX "the ""key"" (x)";
         COMMENT ON CONSTRAINT "the ""key"" (x)" ON "Odd s"."a.""b" IS 'said of it';
         COMMENT ON INDEX "Odd s".same_nulls IS 'said of the index';
         CREATE INDEX ON "Odd s"."a.""b" (three DESC NULLS LAST) WHERE four > 10;
         CREATE TABLE parted (id integer NOT NULL, k text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (100000);
         CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (100000) TO (200000);
         CREATE INDEX ON parted (k);
         INSERT INTO parted SELECT g, 'k' || g % 100 FROM generate_series(1, 190000) g;
         CREATE TABLE base (id integer PRIMARY KEY, v text COLLATE "C" UNIQUE);
         CREATE TABLE heir (extra integer UNIQUE, PRIMARY KEY (id)) INHERITS (base);
         INSERT INTO base SELECT g, g FROM generate_series(1, 80000) g;
         INSERT INTO heir SELECT g, 'h' || g, g FROM generate_series(1, 80000) g;
         CREATE TABLE refers (id integer REFERENCES base, part integer REFERENCES parted, at integer UNIQUE);
         INSERT INTO refers SELECT g, g, g FROM generate_series(1, 80000) g"#,
    );
    database
}

fn tasks(document: &serde_json::Value, kind: &str) -> u64 {
    let kinds = document["timing"]["kinds"].as_array().unwrap();
    let of_kind = kinds.iter().find(|k| k["kind"] == kind);
    of_kind.map_or(0, |k| k["tasks"].as_u64().unwrap())
}

#[test]
fn keys_whose_index_is_built_first_are_the_same_keys() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = keys(&server, "keys");
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let into = server.empty("keys_r");
        let done = repo.try_restore(&id, &into, &["-j2", "--json"]).expect(0);
        assert_restored(&repo, &id, &source, &into);
        // All that are not of the partitioned table: four, two of the partitions, two and two of the inheriting tables;
        // refers has but one index. On 18 the heir's primary key is left as it is.
        let expected = if version == "18" { 9 } else { 10 };
        assert_eq!(tasks(&done.json(), "constraint"), expected, "{version}");
    }
}

#[test]
fn a_key_that_rows_break_is_reported_as_itself() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let source = server.empty("broken_key");
    source.sql(
        "CREATE TABLE t (id integer NOT NULL, v integer);
         INSERT INTO t SELECT g, g FROM generate_series(1, 80000) g;
         ALTER TABLE t ADD CONSTRAINT t_key PRIMARY KEY (id); CREATE INDEX t_v ON t (v)",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let into = server.empty("broken_key_r");
    repo.restore(&id, &into, &["--section=pre-data", "--section=data"]);
    into.sql("INSERT INTO t VALUES (7, 0)");
    repo.try_restore(&id, &into, &["--section=post-data", "--continue-on-error"])
        .expect(3)
        .says(&["CONSTRAINT public.t t_key", "(id)=(7)"]);
    assert_eq!(
        into.sql(
            "SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'p'"
        ),
        "0"
    );
    into.sql("DELETE FROM t WHERE v = 0; DROP INDEX IF EXISTS t_v");
    repo.restore(&id, &into, &["--section=post-data"]);
    assert_equal(&source, &into);
}

#[test]
fn the_last_long_build_gets_the_cores_that_have_nothing_left_to_do() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.empty("cores");
        source.sql(
            "CREATE TABLE t (v integer); INSERT INTO t SELECT g FROM generate_series(1, 500000) g; CREATE INDEX t_v ON t (v)",
        );
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let into = server.empty("cores_r");
        // Tells with what settings the index is built.
        into.sql(
            "CREATE SCHEMA watch; CREATE TABLE watch.seen (workers text, memory text);
             CREATE FUNCTION watch.look() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO watch.seen VALUES (current_setting('max_parallel_maintenance_workers'), current_setting('maintenance_work_mem'));
             END $$;
             CREATE EVENT TRIGGER watch_index ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION watch.look()",
        );
        repo.restore(&id, &into, &["-j6"]);
        let seen =
            into.sql("SELECT workers || ' ' || pg_size_bytes(memory) / 1048576 FROM watch.seen");
        assert_eq!(seen, "5 192", "{version}");
    }
}

#[test]
fn a_restore_tells_where_its_time_went() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let source = keys(&server, "timing");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let into = server.empty("timing_r");
    let done = repo.try_restore(&id, &into, &["-j2", "--json"]).expect(0);
    let document = done.json();
    let timing = &document["timing"];
    assert_eq!(timing["workers"], 2);
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let (busy, parallel) = (
        number(&timing["busy_seconds"]),
        number(&timing["parallel_seconds"]),
    );
    assert!(busy > 0.0 && busy <= parallel * 2.0, "{busy} {parallel}");
    // One after the other, from the beginning to the end, and never two at once.
    let path = timing["critical_path"].as_array().unwrap();
    let mut end = 0.0;
    for link in path {
        assert!(number(&link["start"]) + 1e-6 >= end, "{path:?}");
        end = number(&link["start"]) + number(&link["seconds"]);
    }
    assert!(end <= number(&document["seconds"]) + 1e-6);
    let links: u64 = path.iter().map(|l| l["tasks"].as_u64().unwrap()).sum();
    assert!(links > 3, "{path:?}");
    for (kind, expected) in [("rows", 5), ("foreign_key", 2), ("index_btree", 12)] {
        assert!(tasks(&document, kind) >= expected, "{kind}: {timing}");
    }

    let into = server.empty("timing_text");
    let text = repo.try_restore(&id, &into, &["-v"]).expect(0).stdout;
    for part in [
        "What determined the end",
        "WAITED FOR",
        "index_btree",
        "worked side by side",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}
