//! The planner's statistics come back on a server that takes them, as PostgreSQL's own programs carry them.

mod common;

use std::collections::BTreeSet;

use common::equal::not_analysed;
use common::program::Repo;
use common::testbed::{Database, Server, conninfo, run};
use pgtide::repo::model::TableRole;

/// Everything that has statistics of some kind, all of it analysed, and by nobody else.
const SOURCE: &str = r#"
    CREATE SCHEMA "odd ""s";
    CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TABLE "odd ""s"."odd 't" (id int PRIMARY KEY, "odd ""c" text, list text[], words tsvector, span int4range, m mood,
        n numeric, p pair, d positive, f float8, at timestamptz, nothing text, raw bytea) WITH (autovacuum_enabled = off);
    INSERT INTO "odd ""s"."odd 't" SELECT g, 'v\' || g % 7 || E'\t"', ARRAY['x' || g % 3, 'y, {' || g % 5], to_tsvector('simple', 'w' || g % 11 || ' z'),
        int4range(g, g + g % 10), (ARRAY['sad', 'happy'])[1 + g % 2]::mood, g / 7.0, ROW(g % 4, 'b'::text)::pair, 1 + g % 9, sqrt(g),
        '2026-01-01'::timestamptz + g % 50 * interval '1 hour', NULL, decode(md5((g % 6)::text), 'hex') FROM generate_series(1, 2000) g;
    ALTER TABLE "odd ""s"."odd 't" ALTER COLUMN f SET STATISTICS 20;
    CREATE INDEX "odd i" ON "odd ""s"."odd 't" (lower("odd ""c"), (id * 2), n, (id % 5)); CREATE INDEX partial ON "odd ""s"."odd 't" ((f * 2)) WHERE id < 500;
    CREATE TABLE part (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (500) WITH (autovacuum_enabled = off); CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (500) TO (5000) WITH (autovacuum_enabled = off);
    CREATE INDEX ON part (upper(v)); INSERT INTO part SELECT g, 'x' || g % 11 FROM generate_series(1, 1000) g;
    CREATE TABLE parent (k int, v text) WITH (autovacuum_enabled = off); CREATE TABLE child (extra int) INHERITS (parent) WITH (autovacuum_enabled = off);
    INSERT INTO parent SELECT g, 'p' || g % 3 FROM generate_series(1, 300) g; INSERT INTO child SELECT g, 'c' || g % 5, g FROM generate_series(1, 700) g;
    CREATE MATERIALIZED VIEW seen WITH (autovacuum_enabled = off) AS SELECT v, count(*) AS n FROM part GROUP BY v; CREATE INDEX ON seen ((n * 2));
    CREATE TABLE empty (a int) WITH (autovacuum_enabled = off); CREATE UNLOGGED TABLE unlogged WITH (autovacuum_enabled = off) AS SELECT g AS a FROM generate_series(1, 100) g;
    VACUUM ANALYZE "odd ""s"."odd 't"; VACUUM ANALYZE part; VACUUM ANALYZE parent; VACUUM ANALYZE child; ANALYZE seen; ANALYZE empty; ANALYZE unlogged;
"#;

fn source<'s>(server: &'s Server, name: &str) -> Database<'s> {
    let database = server.empty(name);
    database.script(SOURCE.as_bytes());
    database
}

/// What `pg_dump` of this server says of a database's statistics, a statement each, but for the version of the server. It
/// loses more in its own round trip than pgtide may: it restores a table's statistics before indexes are built, which
/// count pages anew.
fn statistics(eighteen: &Server, database: &Database) -> BTreeSet<String> {
    let mut command = eighteen.program("DUMP", "pg_dump");
    command.envs(database.server.env.iter().cloned());
    command.args(["--statistics-only", "-d", &conninfo(&database.name)]);
    let text = run(command);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("--") && !line.contains("'version'"));
    let text: Vec<&str> = lines.collect();
    let statements = text.join("\n");
    statements
        .split(");\n")
        .filter_map(|statement| statement.find("SELECT * FROM").map(|at| &statement[at..]))
        // Servers before 18 do not count frozen pages.
        .map(|statement| statement.replace(",\n\t'relallfrozen', '0'::integer", ""))
        .map(|statement| statement.trim().to_owned())
        .collect()
}

#[test]
fn pg_dump_finds_the_same_statistics_after_a_restore() {
    let Some(eighteen) = Server::find("18") else {
        return;
    };
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = source(&server, &format!("stats_{version}"));
        let repo = Repo::new();
        let id = repo.dump(&source, &["--statistics"]);
        let before = statistics(&eighteen, &source);
        assert!(before.len() > 40, "{before:?}");
        for jobs in ["1", "4"] {
            let target = eighteen.empty(&format!("stats_{version}_{jobs}"));
            let done = repo.restore(&id, &target, &["-j", jobs]);
            assert!(!done.stderr.contains("WARNING"), "{}", done.stderr);
            let after = statistics(&eighteen, &target);
            assert_eq!(not_analysed(&target), "");
            let lost: Vec<_> = before.difference(&after).collect();
            let others: Vec<_> = after.difference(&before).collect();
            assert!(
                lost.is_empty() && others.is_empty(),
                "{version}: {lost:#?}\n{others:#?}"
            );
        }
    }
}

#[test]
fn what_has_no_statistics_is_analysed_and_nothing_else() {
    let Some(server) = Server::find("18") else {
        return;
    };
    let source = server.empty("stats_old");
    source.sql(
        "CREATE TABLE old (a int) WITH (autovacuum_enabled = off); INSERT INTO old SELECT 1 FROM generate_series(1, 100); ANALYZE old;
         UPDATE old SET a = 2;
         CREATE TABLE never (a int) WITH (autovacuum_enabled = off); INSERT INTO never SELECT 3 FROM generate_series(1, 100);
         CREATE TABLE extended (a int, b int) WITH (autovacuum_enabled = off); INSERT INTO extended SELECT g % 10, g % 10 FROM generate_series(1, 1000) g;
         CREATE STATISTICS on_both (dependencies) ON a, b FROM extended; ANALYZE extended;
         CREATE TABLE root (k int) PARTITION BY LIST (k);
         CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1, 2) WITH (autovacuum_enabled = off);
         INSERT INTO root SELECT 1 FROM generate_series(1, 100); ANALYZE leaf; UPDATE root SET k = 2",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &["--statistics"]);
    let known = |target: &Database| {
        target.sql(
            "SELECT string_agg(tablename || '.' || attname || '=' || coalesce(most_common_vals::text, ''), ' ' ORDER BY tablename, attname)
             FROM pg_stats WHERE schemaname = 'public' AND tablename <> 'extended'",
        )
    };
    let target = server.empty("stats_old_r");
    repo.restore(&id, &target, &[]);
    assert_eq!(
        known(&target),
        "leaf.k={1} never.a={3} old.a={1} root.k={2}"
    );
    let dependencies = "SELECT count(*) FROM pg_stats_ext WHERE dependencies IS NOT NULL";
    assert_eq!(target.sql(dependencies), "1");

    let target = server.empty("stats_old_n");
    repo.restore(&id, &target, &["--no-statistics"]);
    assert_eq!(
        known(&target),
        "leaf.k={2} never.a={3} old.a={2} root.k={2}"
    );

    let target = server.empty("stats_old_a");
    repo.restore(&id, &target, &["--no-analyze"]);
    assert_eq!(
        known(&target),
        "extended leaf.k={1} old.a={1}".replace("extended ", "")
    );

    // Without being asked for there are none.
    let id = repo.dump(&source, &[]);
    let target = server.empty("stats_old_w");
    repo.restore(&id, &target, &[]);
    assert_eq!(
        known(&target),
        "leaf.k={2} never.a={3} old.a={2} root.k={2}"
    );
}

#[test]
fn a_server_that_takes_no_statistics_collects_its_own() {
    let (Some(server), Some(eighteen)) = (Server::find("17"), Server::find("18")) else {
        return;
    };
    let source = source(&server, "stats_17");
    let repo = Repo::new();
    let id = repo.dump(&source, &["--statistics"]);
    let target = server.empty("stats_17_r");
    repo.restore(&id, &target, &[]);
    assert_eq!(not_analysed(&target), "");
    let columns = "SELECT count(*) FROM pg_stats WHERE schemaname !~ '^(pg_|information_schema)'";
    assert_eq!(source.sql(columns), target.sql(columns));
    assert!(!statistics(&eighteen, &target).is_empty());
    let shown = repo.local(&["show", &id]).expect(0);
    assert!(shown.stdout.contains("statistics  yes"), "{}", shown.stdout);
}

#[test]
fn statistics_of_encodings_come_back() {
    let Some(server) = Server::find("18") else {
        return;
    };
    let options = "ENCODING 'LATIN1' LOCALE 'C'";
    let source = server.database("stats_latin1", options);
    source.script(
        "SET client_encoding = 'UTF8'; CREATE TABLE \"Straße\" (\"é\" text); INSERT INTO \"Straße\" SELECT 'ÿ' || g % 3 FROM generate_series(1, 99) g; ANALYZE \"Straße\"; UPDATE \"Straße\" SET \"é\" = 'x'"
            .as_bytes(),
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &["--statistics"]);
    for target in [
        server.database("stats_latin1_r", options),
        server.empty("stats_latin1_u"),
    ] {
        repo.restore(&id, &target, &[]);
        let values = "SET client_encoding = 'UTF8'; SELECT tablename || attname || most_common_vals::text FROM pg_stats WHERE schemaname = 'public'";
        assert_eq!(target.sql(values), "Straßeé{ÿ0,ÿ1,ÿ2}");
    }
}

#[test]
fn parents_of_which_a_child_is_missing_are_analysed() {
    let Some(server) = Server::find("18") else {
        return;
    };
    let source = source(&server, "stats_part");
    let repo = Repo::new();
    let id = repo.dump(&source, &["--statistics"]);
    let target = server.empty("stats_part_r");
    repo.restore(
        &id,
        &target,
        &["--exclude-table", "part_2", "--exclude-table", "child"],
    );
    let rows = "SELECT string_agg(relname || ':' || reltuples, ' ' ORDER BY relname) FROM pg_class WHERE relname IN ('part', 'part_1', 'parent', 'seen')";
    assert_eq!(target.sql(rows), "parent:300 part:499 part_1:499 seen:11");
    let inherited = "SELECT max(v) FROM (SELECT unnest(histogram_bounds::text::int[]) AS v FROM pg_stats WHERE tablename = 'part' AND attname = 'k' AND inherited) b";
    assert_eq!(target.sql(inherited), "499");
    // The statistics of its own rows are those of a parent's ANALYZE, too.
    let kinds =
        "SELECT string_agg(DISTINCT inherited::text, ' ') FROM pg_stats WHERE tablename = 'parent'";
    assert_eq!(target.sql(kinds), "false");
}

#[test]
fn what_is_left_out_leaves_no_statistics_behind() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let repo = Repo::new();
        let mut digests = Vec::new();
        for secret in ["first", "other"] {
            let source = server.empty(&format!("stats_secret_{version}"));
            source.sql(&format!(
                "CREATE TABLE parent (v text); CREATE TABLE public_child () INHERITS (parent); CREATE TABLE secret_child () INHERITS (parent);
                 CREATE TABLE secret (v text); INSERT INTO secret SELECT '{secret}' FROM generate_series(1, 50);
                 INSERT INTO secret_child TABLE secret; INSERT INTO public_child SELECT 'known' FROM generate_series(1, 50);
                 CREATE MATERIALIZED VIEW telling AS TABLE secret"
            ));
            source.sql("ANALYZE");
            let id = repo.dump(&source, &["--statistics", "-T", "secret*"]);
            let opened = repo.open(&id);
            let mut tables = opened.tables.iter();
            let record = tables.find(|t| t.role == TableRole::Statistics).unwrap();
            assert!(record.digest.rows > 1);
            digests.push(record.digest);
            let again = repo.dump(&source, &["--statistics", "-T", "secret*"]);
            assert_eq!(repo.open(&again).snapshot.totals.added_blocks, 0);
        }
        assert_eq!(digests[0], digests[1], "{version}");
    }
}
