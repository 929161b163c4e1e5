//! Real databases, dumped and restored by the program, are equal in every object and every row.
//!
//! Runs on the servers of `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/testbed`.

mod common;

use common::equal::{assert_equal, assert_restored, differences, digests, round_trip};
use common::program::Repo;
use common::testbed::{Database, Server, quoted, run, sql_file};

const VERSIONS: [&str; 3] = ["15", "17", "18"];

/// The server that is there, the newest first.
fn any_server() -> Option<Server> {
    ["17", "18", "15"].into_iter().find_map(Server::find)
}

/// Blocks that the snapshot added to its repository, besides the one that is its root.
fn added(repo: &Repo, id: &str) -> u64 {
    repo.open(id).snapshot.totals.added_blocks
}

// The judge ------------------------------------------------------------------------------------------------------------

#[test]
fn the_judge_sees_the_smallest_difference() {
    let Some(server) = any_server() else { return };
    let build = "
        CREATE TABLE t (id integer PRIMARY KEY, v text, b bytea); COMMENT ON COLUMN t.v IS 'a comment';
        INSERT INTO t SELECT g, 'v' || g, 'b' FROM generate_series(1, 1000) g; INSERT INTO t VALUES (2000, NULL, NULL);
        CREATE SEQUENCE s; SELECT nextval('s');
        CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t;
        CREATE TYPE e AS ENUM ('a', 'b', 'c');
        CREATE TABLE h (k e, v integer) PARTITION BY HASH (k);
        CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO h SELECT (enum_range(NULL::e))[1 + g % 3], g FROM generate_series(1, 9) g;
        SELECT lo_from_bytea(4711, repeat('x', 10000)::bytea); COMMENT ON LARGE OBJECT 4711 IS 'large';";
    let (left, right) = (server.empty("judge_a"), server.empty("judge_b"));
    left.sql(build);
    right.sql(build);
    assert_equal(&left, &right);
    for (change, back, names) in [
        (
            "UPDATE t SET v = 'V7' WHERE id = 7",
            "UPDATE t SET v = 'v7' WHERE id = 7",
            "rows public.t:",
        ),
        (
            "UPDATE t SET v = '' WHERE id = 2000",
            "UPDATE t SET v = NULL WHERE id = 2000",
            "rows public.t:",
        ),
        (
            "DELETE FROM t WHERE id = 7",
            "INSERT INTO t VALUES (7, 'v7', 'b')",
            "rows public.t:",
        ),
        (
            "UPDATE h SET v = 77 WHERE v = 7",
            "UPDATE h SET v = 7 WHERE v = 77",
            "rows public.h:",
        ),
        (
            "SELECT nextval('s')",
            "SELECT setval('s', 1)",
            "sequence public.s:",
        ),
        (
            "SELECT setval('s', 1, false)",
            "SELECT setval('s', 1)",
            "sequence public.s:",
        ),
        (
            "COMMENT ON COLUMN t.v IS NULL",
            "COMMENT ON COLUMN t.v IS 'a comment'",
            "pg_dump -s: line",
        ),
        (
            "GRANT SELECT ON t TO PUBLIC",
            "REVOKE SELECT ON t FROM PUBLIC",
            "pg_dump -s: line",
        ),
        (
            "SELECT lo_put(4711, 9999, 'y')",
            "SELECT lo_put(4711, 9999, 'x')",
            "large object 4711:",
        ),
        (
            "SELECT lo_put(4711, 10000, 'x')",
            "SELECT lo_unlink(4711); SELECT lo_from_bytea(4711, repeat('x', 10000)::bytea); COMMENT ON LARGE OBJECT 4711 IS 'large'",
            "large object 4711:",
        ),
        (
            "GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC",
            "SELECT lo_unlink(4711); SELECT lo_from_bytea(4711, repeat('x', 10000)::bytea); COMMENT ON LARGE OBJECT 4711 IS 'large'",
            "large object 4711:",
        ),
        (
            "COMMENT ON LARGE OBJECT 4711 IS 'Large'",
            "COMMENT ON LARGE OBJECT 4711 IS 'large'",
            "large object 4711:",
        ),
        (
            "SELECT lo_create(4712)",
            "SELECT lo_unlink(4712)",
            "large object 4712:",
        ),
        (
            "INSERT INTO t VALUES (0); REFRESH MATERIALIZED VIEW m; DELETE FROM t WHERE id = 0",
            "REFRESH MATERIALIZED VIEW m",
            "rows public.m:",
        ),
        (
            "REFRESH MATERIALIZED VIEW m WITH NO DATA",
            "REFRESH MATERIALIZED VIEW m",
            "rows public.m:",
        ),
    ] {
        right.sql(change);
        let found = differences(&left, &right);
        assert!(
            found.len() == 1 && found[0].starts_with(names),
            "{change}: {found:?}"
        );
        right.sql(back);
        assert_eq!(differences(&left, &right), Vec::<String>::new(), "{back}");
    }
    // Rows of a hash on an enum may lie in any partition.
    right.sql("CREATE TABLE moved AS SELECT * FROM h0; DELETE FROM h0; ALTER TABLE h DETACH PARTITION h0; ALTER TABLE h DETACH PARTITION h1;
               DROP TABLE h0, h1; CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0);
               CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1); DROP TABLE moved;
               INSERT INTO h SELECT (enum_range(NULL::e))[1 + g % 3], g FROM generate_series(9, 1, -1) g;");
    assert_equal(&left, &right);
}

// Databases with one of everything -------------------------------------------------------------------------------------

fn everything(version: &'static str) {
    let Some(server) = Server::find(version) else {
        return;
    };
    let source = server.rich(&format!("rich_{version}"));
    let target = server.empty(&format!("rich_{version}_r"));
    let repo = Repo::new();
    let id = repo.dump(&source, &["-j", "4"]);
    repo.restore(&id, &target, &["-j", "4"]);
    assert_restored(&repo, &id, &source, &target);

    // However it is compressed, and however many read, it is the same.
    for options in [["-Z", "fast"], ["-Z", "best"], ["-j", "1"]] {
        let again = repo.dump(&source, &options);
        assert_eq!(added(&repo, &again), 0, "{options:?}");
        assert_eq!(
            repo.open(&again).snapshot.root,
            repo.open(&id).snapshot.root,
            "{options:?}"
        );
    }
    let check = repo.local(&["check", "--read-data"]);
    check.expect(0);

    // One session restores the same.
    let serial = server.empty(&format!("rich_{version}_1"));
    repo.restore(&id, &serial, &["-j", "1"]);
    assert_equal(&source, &serial);
}

#[test]
fn one_of_everything_comes_back_on_15() {
    everything("15");
}

#[test]
fn one_of_everything_comes_back_on_17() {
    everything("17");
}

#[test]
fn one_of_everything_comes_back_on_18() {
    everything("18");
}

#[test]
fn a_repository_compressed_in_other_ways_holds_the_same_rows() {
    let Some(server) = any_server() else { return };
    let source = server.rich("effort");
    let of = |effort: &str| {
        let repo = Repo::new();
        let id = repo.dump(&source, &["-Z", effort]);
        repo.local(&["check", "--read-data", "-q"]).expect(0);
        digests(&repo, &id)
    };
    let default = of("default");
    assert_eq!(of("fast"), default);
    assert_eq!(of("best"), default);
}

// pgbench --------------------------------------------------------------------------------------------------------------

fn pgbench(version: &'static str) {
    let Some(server) = Server::find(version) else {
        return;
    };
    let source = server.empty(&format!("bench_{version}"));
    let mut command = server.program("BENCH", "pgbench");
    command.args(["-i", "-q", "-s", "20", "--foreign-keys", &source.name]);
    run(command);
    source.sql(
        "INSERT INTO pgbench_history SELECT 1, 1, g, g, now(), 'x' FROM generate_series(1, 1000) g",
    );
    round_trip(&source, &server.empty(&format!("bench_{version}_r")));
}

#[test]
fn pgbench_with_foreign_keys_comes_back_on_15() {
    pgbench("15");
}

#[test]
fn pgbench_with_foreign_keys_comes_back_on_17() {
    pgbench("17");
}

#[test]
fn pgbench_with_foreign_keys_comes_back_on_18() {
    pgbench("18");
}

// Sizes ----------------------------------------------------------------------------------------------------------------

#[test]
fn an_empty_database_comes_back() {
    for version in VERSIONS {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.empty(&format!("nothing_{version}"));
        round_trip(&source, &server.empty(&format!("nothing_{version}_r")));
    }
}

#[test]
fn rows_of_hundreds_of_megabytes_come_back_in_bounded_memory() {
    let Some(server) = any_server() else { return };
    let source = server.empty("huge");
    source.sql(
        "CREATE TABLE huge (id integer, a bytea, b bytea, c text);
         ALTER TABLE huge ALTER a SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL, ALTER c SET STORAGE EXTERNAL;
         INSERT INTO huge VALUES (1, 'small', NULL, 'small'), (2, convert_to(repeat('0123456789 abcdef', 17800000), 'UTF8'), NULL, NULL),
           (3, convert_to(repeat('x', 300000000), 'UTF8'), convert_to(repeat('yz', 150000000), 'UTF8'), repeat('text ', 10000000)), (4, '', '', '')",
    );
    assert_eq!(
        source.sql("SELECT octet_length(a) > 300000000 FROM huge WHERE id = 2"),
        "t"
    );
    let target = server.empty("huge_r");
    let repo = Repo::new();
    let dump = repo.try_dump(&source, &["-j", "2"]).expect(0);
    let id = dump.stdout.lines().last().unwrap().to_string();
    let restore = repo.restore(&id, &target, &["-j", "2"]);
    for (what, done) in [("dump", &dump), ("restore", &restore)] {
        eprintln!(
            "rows of 600 MB: the {what} needed {} MB of memory",
            done.peak_bytes / 1_000_000
        );
        assert!(
            done.peak_bytes > 0 && done.peak_bytes < 400_000_000,
            "{what}: {} bytes",
            done.peak_bytes
        );
    }
    assert_restored(&repo, &id, &source, &target);
}

#[test]
fn a_table_loaded_by_many_sessions_keeps_its_order() {
    let Some(server) = any_server() else { return };
    let source = server.empty("order");
    source.sql(
        "CREATE TABLE big AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS t FROM generate_series(1, 4200000) g;
         CREATE INDEX ON big USING brin (id); ALTER TABLE big ADD PRIMARY KEY (id); ANALYZE big",
    );
    let target = server.empty("order_r");
    let repo = Repo::new();
    let id = repo.dump(&source, &["-j", "4"]);
    let payload = repo.open(&id).snapshot.totals.payload_bytes;
    assert!(
        payload > 256 << 20,
        "{payload} bytes are too few for many sessions"
    );
    repo.restore(&id, &target, &["-j", "4"]);
    assert_restored(&repo, &id, &source, &target);
    let correlation = "SELECT correlation FROM pg_stats WHERE tablename = 'big' AND attname = 'id'";
    let correlation: f64 = target.sql(correlation).parse().unwrap();
    assert!(correlation > 0.95, "{correlation}");
}

// Large objects --------------------------------------------------------------------------------------------------------

#[test]
fn large_objects_come_back_with_owners_privileges_and_comments() {
    for version in VERSIONS {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.rich(&format!("blobs_{version}"));
        source.sql(
            r#"SELECT count(lo_from_bytea(100000 + g, convert_to(repeat('object ' || g, g % 50), 'UTF8'))) FROM generate_series(1, 3000) g;
            SELECT lo_from_bytea(80001, (SELECT string_agg(decode(md5(g::text), 'hex'), '') FROM generate_series(1, 400000) g));
            SELECT lo_create(80002); SELECT lo_put(80002, 100000000, 'behind a hole'); SELECT lo_put(80002, 5000, 'in a hole');
            SELECT lo_create(80003); SELECT lo_from_bytea(80004, repeat('x', 2048)::bytea); SELECT lo_from_bytea(80005, repeat('x', 4097)::bytea);
            COMMENT ON LARGE OBJECT 80001 IS E'it''s a "comment"\n\\ on two lines\twith a tab — ünï';
            ALTER LARGE OBJECT 80003 OWNER TO "pgtide Reader";
            GRANT SELECT, UPDATE ON LARGE OBJECT 80003 TO PUBLIC;
            GRANT SELECT ON LARGE OBJECT 80004 TO "pgtide Reader" WITH GRANT OPTION;
            REVOKE ALL ON LARGE OBJECT 80005 FROM postgres"#,
        );
        // Objects that end in a hole: with a page that is cut, and with one that is empty.
        source.sql(
            "SELECT lo_create(80010), lo_create(80011), lo_create(80012), lo_create(80013);
             BEGIN;
             SELECT lo_truncate(lo_open(80010, 393216), 1000001);
             SELECT lo_truncate(lo_open(80011, 393216), 1024000);
             SELECT lo_put(80012, 0, repeat('x', 10000)::bytea); SELECT lo_truncate(lo_open(80012, 393216), 4096);
             SELECT lo_put(80013, 0, repeat('x', 10000)::bytea); SELECT lo_truncate(lo_open(80013, 393216), 4096); SELECT lo_put(80013, 9000, 'y');
             COMMIT;
             BEGIN; SET LOCAL SESSION AUTHORIZATION \"pgtide Reader\"; GRANT SELECT ON LARGE OBJECT 80004 TO pgtide_writer; COMMIT",
        );
        round_trip(&source, &server.empty(&format!("blobs_{version}_r")));
    }
}

// Corners --------------------------------------------------------------------------------------------------------------

/// Fills a database by a script, and brings it back by one session and by many.
fn script_comes_back(file: &str, name: &str) {
    for version in VERSIONS {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.empty(&format!("{name}_{version}"));
        source.psql(&["-f", &sql_file(file)]);
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        for jobs in ["1", "4"] {
            let target = server.empty(&format!("{name}_{version}_r{jobs}"));
            repo.restore(&id, &target, &["-j", jobs]);
            assert_restored(&repo, &id, &source, &target);
        }
    }
}

#[test]
fn objects_that_need_each_other_and_rows_that_fit_nowhere_else_come_back() {
    script_comes_back("corners.sql", "corners");
}

#[test]
fn every_kind_of_object_may_have_any_name() {
    script_comes_back("names.sql", "names");
}

// Databases ------------------------------------------------------------------------------------------------------------

/// Everything that belongs to a database as a whole.
fn properties(database: &Database) -> String {
    database.sql(
        "SELECT pg_get_userbyid(datdba), (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), encoding, datcollate, datctype, datconnlimit, datallowconn, shobj_description(oid, 'pg_database'),
           (SELECT string_agg(coalesce(pg_get_userbyid(nullif(setrole, 0))::text, '') || setconfig::text, ';' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid)
         FROM pg_database d WHERE datname = current_database()",
    )
}

#[test]
fn create_brings_back_the_database_itself() {
    for version in VERSIONS {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let role = format!("pgtide \"odd\" rôle {version} {}", std::process::id());
        server.psql(
            "postgres",
            &["-c", &format!("CREATE ROLE {}", quoted(&role))],
        );
        {
            let source = server.database(
                &format!("Odd \"Dätäbase\" it's\n{version}"),
                "ENCODING 'UTF8' LOCALE 'C.UTF-8' CONNECTION LIMIT 50",
            );
            let (name, role) = (quoted(&source.name), quoted(&role));
            source.sql(&format!(
                "CREATE TABLE t AS SELECT g FROM generate_series(1, 100) g; ALTER TABLE t OWNER TO {role};
                 ALTER DATABASE {name} SET work_mem = '7MB'; ALTER DATABASE {name} SET search_path = 'a b', public;
                 ALTER ROLE {role} IN DATABASE {name} SET statement_timeout = '1h'; COMMENT ON DATABASE {name} IS 'the database''s comment';
                 REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; GRANT TEMPORARY ON DATABASE {name} TO {role} WITH GRANT OPTION; ALTER DATABASE {name} OWNER TO {role}"
            ));
            let repo = Repo::new();
            let id = repo.dump(&source, &[]);
            let before = properties(&source);
            let moved = server.no_database(&format!("moved_{version}"));
            server.psql(
                "postgres",
                &[
                    "-c",
                    &format!("ALTER DATABASE {name} RENAME TO {}", quoted(&moved.name)),
                ],
            );
            let done = repo
                .run(&server, &["restore", &id, "--create", "-d", "postgres"])
                .expect(0);
            assert!(done.stdout.contains("Dätäbase"), "{}", done.stdout);
            assert_equal(&moved, &source);
            assert_eq!(properties(&source), before);

            // There is one of that name now.
            let refused = repo
                .run(&server, &["restore", &id, "--create", "-d", "postgres"])
                .expect(1);
            refused.says(&["exists already", "--clean"]);
            source.sql("DELETE FROM t");
            repo.run(
                &server,
                &[
                    "restore", &id, "--create", "--clean", "--yes", "-d", "postgres",
                ],
            )
            .expect(0);
            assert_equal(&moved, &source);
            assert_eq!(properties(&source), before);
        }
        server.psql("postgres", &["-c", &format!("DROP ROLE {}", quoted(&role))]);
    }
}

#[test]
fn a_role_that_may_only_read_dumps_all_there_is() {
    let Some(server) = any_server() else { return };
    let (source, target) = (server.empty("reader"), server.empty("reader_r"));
    let role = "pgtide_reads_all";
    source.sql(&format!(
        "DO $$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role}; END IF;
         END $$;
         GRANT pg_read_all_data TO {role};
         REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC;
         CREATE TABLE t AS SELECT g AS id, 'v' || g AS v FROM generate_series(1, 1000) g;
         CREATE SEQUENCE s; SELECT nextval('s');"
    ));
    let repo = Repo::new();
    let dbname = format!("dbname='{}' options='-c role={role}'", source.name);
    let done = repo.run(&server, &["dump", "-d", &dbname]).expect(0);
    let id = done.stdout.lines().last().unwrap().to_string();
    assert_eq!(repo.open(&id).snapshot.source.system_identifier, None);
    repo.restore(&id, &target, &[]);
    assert_equal(&source, &target);
    server.drop(&source.name);
    server.drop(&target.name);
    server.psql("postgres", &["-c", &format!("DROP ROLE {role}")]);
}
