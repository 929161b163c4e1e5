//! Databases with hypertables come back as hypertables, with every chunk and every row, and go on working.
//!
//! Runs on the servers of `PGTIDE_TEST_PG17_URL` and `..._PG18_URL` where they have TimescaleDB; see `tools/testbed`.

mod common;

use std::time::Instant;

use common::equal::{assert_equal, assert_restored, differences, digests, not_analysed};
use common::program::Repo;
use common::testbed::{Database, Server, conninfo, run};
use common::timescale::{
    assert_alike, assert_awake, assert_same, both, both_refuse, chunks, contents, views,
};

/// A tablespace that is gone when the test is; its databases go first.
struct Tablespace<'a> {
    server: &'a Server,
    name: String,
}

impl Tablespace<'_> {
    /// In the server's own directory, so that none has to be made.
    fn new<'a>(server: &'a Server, name: &str) -> Tablespace<'a> {
        let name = format!("pgtide_{name}_{}", std::process::id());
        let create = format!("CREATE TABLESPACE {name} LOCATION ''");
        let allow = "SET allow_in_place_tablespaces = on";
        server.psql("postgres", &["-c", allow, "-c", &create]);
        Tablespace { server, name }
    }
}

impl Drop for Tablespace<'_> {
    fn drop(&mut self) {
        let drop = format!("DROP TABLESPACE {}", self.name);
        let _ = self
            .server
            .psql_command("postgres", &["-c", &drop])
            .output();
    }
}

fn several(version: &'static str) {
    let Some(server) = Server::with_timescale(version) else {
        return;
    };
    let space = Tablespace::new(&server, &format!("ts_{version}"));
    let source = server.empty(&format!("ts_{version}"));
    source.sql("CREATE EXTENSION timescaledb");
    source.sql(
        r#"CREATE SCHEMA "Odd Schema"; CREATE TABLE device (id integer PRIMARY KEY, name text); INSERT INTO device SELECT g, 'd' || g FROM generate_series(0, 9) g;
        CREATE TABLE metrics (at timestamptz NOT NULL, device integer NOT NULL REFERENCES device, v float8, note text DEFAULT 'n');
        SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
        ALTER TABLE metrics ADD CONSTRAINT metrics_key UNIQUE (device, at); CREATE UNIQUE INDEX metrics_other ON metrics (at, device, note); CREATE INDEX metrics_v ON metrics (v) WHERE v > 0.5;
        ALTER TABLE metrics ADD CONSTRAINT positive CHECK (v >= 0);
        CREATE TABLE seen (n bigint); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.device); RETURN NEW; END $$;
        INSERT INTO metrics SELECT '2025-01-01 00:00:00+00'::timestamptz + g * interval '7 minutes', g % 10, (g % 100) / 100.0 FROM generate_series(0, 6171) g;
        CREATE TRIGGER see BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION see();
        INSERT INTO metrics VALUES ('2025-01-01 00:00:01+00', 3, 1);
        COMMENT ON TABLE metrics IS 'a hypertable'; GRANT SELECT ON metrics TO PUBLIC;
        CREATE TABLE "Odd Schema"."Spa ce" ("T" bigint NOT NULL, "De vice" text NOT NULL, v integer[], PRIMARY KEY ("T", "De vice"));
        SELECT create_hypertable('"Odd Schema"."Spa ce"', 'T', 'De vice', 3, chunk_time_interval => 1000);
        INSERT INTO "Odd Schema"."Spa ce" SELECT g, 'd' || g % 17, ARRAY[g, NULL] FROM generate_series(1, 5000) g;
        CREATE TABLE empty_one (at date NOT NULL, v integer); SELECT create_hypertable('empty_one', 'at');
        CREATE VIEW latest AS SELECT device, max(at) AS at FROM metrics GROUP BY device;
        CREATE MATERIALIZED VIEW daily AS SELECT time_bucket('1 day', at) AS day, count(*) FROM metrics GROUP BY 1;
        CREATE TABLE dropped_later (at timestamptz NOT NULL); SELECT create_hypertable('dropped_later', 'at'); INSERT INTO dropped_later VALUES (now()); DROP TABLE dropped_later;
        CREATE TABLE remark (at timestamptz, device integer, text text, FOREIGN KEY (device, at) REFERENCES metrics (device, at));
        SET plan_cache_mode = force_custom_plan; -- TimescaleDB 2.19 looks for the sixth row in the chunks of the others.
        INSERT INTO remark SELECT at, device, 'r' FROM metrics WHERE v = 0.25"#,
    );
    // Columns that come and go once there are chunks, a tablespace for those to come, and chunks with settings of their
    // own.
    source.sql(
        "ALTER TABLE metrics ADD COLUMN doomed integer DEFAULT 1, ADD COLUMN twice float8 GENERATED ALWAYS AS (v * 2) STORED, ADD COLUMN unit text NOT NULL DEFAULT 'K';
         ALTER TABLE metrics DROP COLUMN doomed; ALTER TABLE metrics ALTER COLUMN unit SET DEFAULT 'C'; ALTER TABLE metrics ALTER COLUMN v SET STATISTICS 200",
    );
    let name = &space.name;
    source.sql(&format!("SELECT attach_tablespace('{name}', 'metrics')"));
    source.sql("INSERT INTO metrics VALUES ('2025-01-30 18:00:00+00', 4, 0.5), ('2025-01-31 18:00:00+00', 5, 0.75), ('2024-12-31 00:00:00+00', 6, 0.125)");
    source.sql(
        "DO $$ DECLARE chunk regclass; BEGIN
           SELECT c INTO chunk FROM show_chunks('metrics') c ORDER BY c LIMIT 1 OFFSET 4;
           EXECUTE format('ALTER TABLE %s SET (fillfactor = 70, autovacuum_enabled = false)', chunk);
           EXECUTE format('ALTER TABLE %s ALTER COLUMN v SET STATISTICS 300', chunk);
           EXECUTE format('CREATE INDEX only_here ON %s (note)', chunk);
         END $$; REFRESH MATERIALIZED VIEW daily",
    );
    for (is, query) in [
        ("32", "SELECT count(*) FROM show_chunks('metrics')"),
        (
            "3",
            "SELECT count(*) FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.relkind = 'r' AND t.spcname LIKE 'pgtide%'",
        ),
        (
            "1",
            "SELECT count(*) FROM pg_class WHERE 'fillfactor=70' = ANY (reloptions)",
        ),
        (
            "1",
            "SELECT count(*) FROM pg_attribute WHERE attstattarget = 300",
        ),
    ] {
        assert_eq!(source.sql(query), is, "{query}");
    }
    let target = server.empty(&format!("ts_{version}_r"));
    let repo = Repo::new();
    let id = repo.dump(&source, &["-j", "2"]);
    repo.restore(&id, &target, &["-j", "4"]);
    assert_restored(&repo, &id, &source, &target);
    assert_eq!(views(&source), views(&target));
    assert_awake(&target);

    // It goes on working as the source does: rows in new and old chunks, constraints, triggers, retention.
    let databases = [&source, &target];
    both(
        databases,
        "INSERT INTO metrics VALUES ('2025-06-01 12:00:00+00', 1, 1), ('2025-01-03 12:00:01+00', 2, 1);
         INSERT INTO \"Odd Schema\".\"Spa ce\" VALUES (2500, 'new', NULL), (99000, 'new', NULL); INSERT INTO empty_one VALUES ('2025-01-01', 1);
         INSERT INTO remark VALUES ('2025-06-01 12:00:00+00', 1, 'of a new row'), ('2025-01-01 00:00:01+00', 3, 'of an old one')",
    );
    for (refused, message) in [
        (
            "INSERT INTO metrics VALUES ('2025-01-01 00:00:00+00', 0, 1)",
            "metrics_key",
        ),
        (
            "INSERT INTO metrics VALUES ('2025-01-02 00:00:00.1+00', 77, 1)",
            "metrics_device_fkey",
        ),
        (
            "INSERT INTO metrics VALUES ('2025-01-02 00:00:00.2+00', 1, -1)",
            "positive",
        ),
        (
            "INSERT INTO remark VALUES ('2025-01-02 00:00:00.3+00', 1, 'nobody')",
            "remark_device_at_fkey",
        ),
        // Rows that are referred to, in each chunk that has any: the first, one in the middle, one made since.
        (
            "DELETE FROM metrics WHERE at = '2025-01-01 00:00:01+00'",
            "remark",
        ),
        (
            "DELETE FROM metrics WHERE v = 0.25 AND at >= '2025-01-15' AND at < '2025-01-16'",
            "remark",
        ),
        ("DELETE FROM metrics WHERE at > '2025-06-01'", "remark"),
    ] {
        both_refuse(databases, refused, message);
    }
    let referred =
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'remark'::regclass";
    assert_eq!(both(databases, referred), "34");
    both(
        databases,
        "WITH gone AS (DELETE FROM remark WHERE at < '2025-01-12' RETURNING 1) SELECT count(*) FROM gone",
    );
    both(
        databases,
        "WITH gone AS (DELETE FROM metrics WHERE at < '2025-01-01 12:00:00+00' RETURNING v, unit) SELECT sum(v), min(unit), max(unit) FROM gone",
    );
    assert_alike(&source, &target);
    let drop = "SELECT count(*) FROM drop_chunks('metrics', '2025-01-11'::timestamptz)";
    both_refuse(databases, drop, "remark_device_at_fkey");
    both(
        databases,
        "ALTER TABLE remark DROP CONSTRAINT remark_device_at_fkey",
    );
    assert_eq!(both(databases, drop), "11");
    both(databases, "VACUUM metrics");
    // New chunks know the moment they were made at.
    let mut found = differences(&source, &target);
    found.retain(|line| !line.starts_with("rows _timescaledb_catalog.chunk:"));
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(chunks(&source, "metrics"), chunks(&target, "metrics"));

    // A restored database is as good a source as any.
    target.sql("REFRESH MATERIALIZED VIEW daily");
    let third = server.empty(&format!("ts_{version}_3"));
    let again = repo.dump(&target, &[]);
    repo.restore(&again, &third, &["-j", "1"]);
    assert_restored(&repo, &again, &target, &third);
}

#[test]
fn hypertables_come_back_and_go_on_working_on_17() {
    several("17");
}

#[test]
fn hypertables_come_back_and_go_on_working_on_18() {
    several("18");
}

fn many(version: &'static str) {
    let Some(server) = Server::with_timescale(version) else {
        return;
    };
    let source = server.empty(&format!("chunks_{version}"));
    source.sql("CREATE EXTENSION timescaledb");
    source.sql(
        "CREATE TABLE many (t bigint NOT NULL, v integer, note text); SELECT create_hypertable('many', 't', chunk_time_interval => 10);
         CREATE INDEX many_v ON many (v)",
    );
    // Each new chunk takes locks: some thousand at a time are more than the server's table holds.
    for from in (0..=5000).step_by(500) {
        let to = (from + 499).min(5000);
        source.sql(&format!("INSERT INTO many SELECT g * 10 + i, g, 'row ' || i FROM generate_series({from}, {to}) g, generate_series(0, 4) i"));
    }
    assert_eq!(
        source.sql("SELECT count(*) FROM show_chunks('many')"),
        "5001"
    );
    let target = server.empty(&format!("chunks_{version}_r"));
    let repo = Repo::new();
    let began = Instant::now();
    let id = repo.dump(&source, &["-j", "2"]);
    let dumped = began.elapsed();
    let began = Instant::now();
    let again = repo.dump(&source, &["-j", "2"]);
    let dumped_again = began.elapsed();
    assert_eq!(repo.open(&again).snapshot.totals.added_blocks, 0);
    let began = Instant::now();
    let done = repo.restore(&id, &target, &["-j", "2"]);
    let restored = began.elapsed();
    eprintln!(
        "5,001 chunks on {version}: dump {dumped:.1?}, again {dumped_again:.1?}, restore {restored:.1?}, {} MB of memory",
        done.peak_bytes / 1_000_000
    );
    if std::env::var_os("PGTIDE_TEST_TIMES").is_some() {
        peers(&server, &source);
    }
    assert_equal(&source, &target);
    assert_eq!(not_analysed(&target), "");
    assert_eq!(chunks(&source, "many"), chunks(&target, "many"));
    assert_eq!(views(&source), views(&target));
    assert_awake(&target);
    let after = repo.dump(&target, &[]);
    assert_eq!(digests(&repo, &id), digests(&repo, &after));
    for database in [&source, &target] {
        database.sql("INSERT INTO many VALUES (1000000, 1, 'new'), (5, 2, 'old')");
        assert_eq!(
            database.sql("SELECT count(*) FROM show_chunks('many')"),
            "5002"
        );
        assert_eq!(
            database.sql("SELECT count(*) FROM drop_chunks('many', 1000)"),
            "100"
        );
    }
    assert_eq!(chunks(&source, "many"), chunks(&target, "many"));
}

/// What pg_dump and pg_restore need for the same, as TimescaleDB's manual says it.
fn peers(server: &Server, source: &Database) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("archive");
    let file = file.to_str().unwrap();
    let mut dump = server.program("DUMP", "pg_dump");
    dump.args(["-Fc", "-f", file, "-d", &conninfo(&source.name)]);
    let began = Instant::now();
    run(dump);
    let dumped = began.elapsed();
    let target = server.empty(&format!("peer_{}", server.version));
    let began = Instant::now();
    target.sql("CREATE EXTENSION timescaledb");
    target.sql("SELECT timescaledb_pre_restore()");
    let mut restore = server.program("RESTORE", "pg_restore");
    restore.args(["-d", &conninfo(&target.name), file]);
    restore.output().unwrap();
    target.sql("SELECT timescaledb_post_restore()");
    target.sql("ANALYZE");
    eprintln!(
        "5,001 chunks on {}: pg_dump {dumped:.1?}, pg_restore {:.1?}",
        server.version,
        began.elapsed()
    );
}

#[test]
fn five_thousand_chunks_come_back_on_17() {
    many("17");
}

#[test]
fn five_thousand_chunks_come_back_on_18() {
    many("18");
}

#[test]
fn create_brings_back_a_database_with_hypertables() {
    for version in ["17", "18"] {
        let Some(server) = Server::with_timescale(version) else {
            continue;
        };
        let source = server.empty(&format!("ts_create_{version}"));
        // In a schema of its own, which has to be there before the extension.
        source.sql("CREATE SCHEMA \"Time series\"");
        source.sql("CREATE EXTENSION timescaledb SCHEMA \"Time series\"");
        source.sql(&format!(
            "CREATE TABLE m (at timestamptz NOT NULL, v integer); SELECT \"Time series\".create_hypertable('m', 'at');
             INSERT INTO m SELECT '2025-01-01'::timestamptz + g * interval '1 hour', g FROM generate_series(1, 1000) g;
             ALTER DATABASE {0} SET work_mem = '9MB'; COMMENT ON DATABASE {0} IS 'ts'", source.name
        ));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let moved = server.no_database(&format!("ts_moved_{version}"));
        // The scheduler of jobs is connected, too.
        server.psql(
            "postgres",
            &[
                "-c",
                &format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
                    source.name
                ),
            ],
        );
        for _ in 0..50 {
            let rename = format!("ALTER DATABASE {} RENAME TO {}", source.name, moved.name);
            if server
                .psql_command("postgres", &["-c", &rename])
                .output()
                .unwrap()
                .status
                .success()
            {
                break;
            }
            server.psql("postgres", &["-c", &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", source.name)]);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        repo.run(&server, &["restore", &id, "--create", "-d", "postgres"])
            .expect(0);
        assert_equal(&moved, &source);
        assert_eq!(source.sql("SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()"), "{work_mem=9MB}");
        source.sql("INSERT INTO m VALUES ('2026-01-01', 1)");
        // With workers connected to what is to be dropped.
        repo.run(
            &server,
            &[
                "restore", &id, "--create", "--clean", "--yes", "-d", "postgres",
            ],
        )
        .expect(0);
        assert_equal(&moved, &source);
    }
}

#[test]
fn hypertables_are_restored_over_themselves() {
    for version in ["17", "18"] {
        let Some(server) = Server::with_timescale(version) else {
            continue;
        };
        let source = server.empty(&format!("ts_clean_{version}"));
        source.sql("CREATE EXTENSION timescaledb");
        source.sql(
            "CREATE TABLE d (id integer PRIMARY KEY); INSERT INTO d VALUES (1); CREATE TABLE m (at timestamptz PRIMARY KEY, v integer, d integer REFERENCES d DEFAULT 1);
             SELECT create_hypertable('m', 'at'); INSERT INTO m SELECT '2025-01-01'::timestamptz + g * interval '1 hour', g FROM generate_series(1, 1000) g;
             CREATE TABLE r (at timestamptz REFERENCES m); INSERT INTO r SELECT max(at) FROM m",
        );
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("ts_clean_{version}_r"));
        // Into a database that has the extension already, as some templates do.
        target.sql("CREATE EXTENSION timescaledb");
        repo.restore(&id, &target, &[]);
        assert_equal(&source, &target);
        // Chunks that were made since, and are referred to.
        target.sql(
            "DELETE FROM m WHERE v BETWEEN 500 AND 900; INSERT INTO m SELECT '2026-01-01'::timestamptz + g * interval '1 week', g FROM generate_series(1, 9) g;
             INSERT INTO r SELECT max(at) FROM m",
        );
        let refused = repo.try_restore(&id, &target, &[]).expect(1);
        refused.says(&[
            "nothing was restored",
            "has hypertables: public.m",
            "--clean",
        ]);
        repo.restore(&id, &target, &["--clean", "--yes"]);
        assert_equal(&source, &target);
        assert_eq!(views(&source), views(&target));
        assert_awake(&target);
        // Another hypertable would be left without its catalog.
        target.sql("CREATE TABLE n (at date NOT NULL); SELECT create_hypertable('n', 'at')");
        let refused = repo
            .try_restore(&id, &target, &["--clean", "--yes"])
            .expect(1);
        refused.says(&["that are not restored: public.n"]);
        // Over chunks of the same names that were made anew, with constraints of other names.
        target.sql("DROP TABLE n; DROP TABLE r; DROP TABLE m; DROP TABLE d");
        repo.restore(&id, &target, &["--portable"]);
        repo.restore(&id, &target, &["--portable", "--clean", "--yes"]);
        assert_same(&contents(&source), &contents(&target));
        repo.restore(&id, &target, &["--clean", "--yes"]);
        assert_equal(&source, &target);
    }
}

#[test]
fn a_server_with_another_timescaledb_is_refused_before_anything_is_touched() {
    let (Some(old), Some(new)) = (Server::with_timescale("17"), Server::with_timescale("18"))
    else {
        return;
    };
    let source = old.empty("ts_version");
    source.sql("CREATE EXTENSION timescaledb");
    let version = source.sql("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'");
    source.sql("CREATE TABLE m (at timestamptz NOT NULL); SELECT create_hypertable('m', 'at')");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let mut targets = vec![new];
    targets.extend(Server::find("15"));
    for server in &targets {
        let offered = "SELECT count(*) FROM pg_available_extension_versions WHERE name = 'timescaledb' AND version = ";
        if server
            .psql("postgres", &["-c", &format!("{offered}'{version}'")])
            .trim()
            != "0"
        {
            eprintln!(
                "PostgreSQL {}: not run, it has TimescaleDB {version} as well",
                server.version
            );
            continue;
        }
        let target = server.empty("ts_version_r");
        repo.try_restore(&id, &target, &[]).expect(1).says(&[
            "nothing was restored",
            "TimescaleDB",
            &version,
        ]);
        assert_eq!(target.sql("SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relnamespace = 'public'::regnamespace"), "0");
        assert_eq!(
            target.sql("SELECT count(*) FROM pg_extension WHERE oid >= 16384"),
            "0"
        );
        let made = repo
            .run(server, &["restore", &id, "--create", "-d", "postgres"])
            .expect(1);
        made.says(&["nothing was restored", &version]);
    }
}

/// Thirty days of metrics, numbers in chunks of a thousand, and what is built on them.
fn history<'s>(server: &'s Server, name: &str) -> Database<'s> {
    let source = server.empty(name);
    source.sql("CREATE EXTENSION timescaledb");
    source.sql(
        "CREATE TABLE device (id integer PRIMARY KEY); INSERT INTO device SELECT generate_series(0, 9);
         CREATE TABLE metrics (at timestamptz NOT NULL, device integer NOT NULL REFERENCES device, v integer, PRIMARY KEY (at, device));
         SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
         INSERT INTO metrics SELECT '2025-01-01 00:00:00+00'::timestamptz + g * interval '1 hour', g % 10, g FROM generate_series(0, 719) g;
         CREATE TABLE remark (at timestamptz, device integer, FOREIGN KEY (at, device) REFERENCES metrics);
         INSERT INTO remark VALUES ('2025-01-02 00:00:00+00', 4), ('2025-01-28 00:00:00+00', 8);
         CREATE INDEX metrics_v ON metrics (v);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v = -NEW.v; RETURN NEW; END'; CREATE TRIGGER see BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION see();
         CREATE TABLE counts (n bigint NOT NULL, v integer); SELECT create_hypertable('counts', 'n', chunk_time_interval => 1000);
         INSERT INTO counts SELECT g, g FROM generate_series(0, 4999) g; CREATE VIEW sums AS SELECT sum(v) FROM counts;
         CREATE TABLE plain (i integer); INSERT INTO plain SELECT generate_series(1, 10); CREATE VIEW days AS SELECT time_bucket('1 day', at) AS day, count(*) FROM metrics GROUP BY 1",
    );
    source
}

/// What the hypertables have: how many chunks and rows, and the sum of these.
fn held(database: &Database) -> [String; 2] {
    ["metrics", "counts"].map(|name| {
        let chunks = format!("(SELECT count(*) FROM show_chunks('{name}'))");
        database.sql(&format!("SELECT {chunks}, count(*), sum(v) FROM {name}"))
    })
}

/// Rows go into chunks that were left out, and all chunks can be dropped.
fn assert_works(database: &Database, device: i32, new_chunks: &str) {
    let before = database.sql("SELECT count(*) FROM show_chunks('metrics')");
    database.sql(&format!("INSERT INTO metrics VALUES ('2025-01-01 00:30:00+00', {device}, 5), ('2025-03-01 00:00:00+00', {device}, 5), ('2025-01-25 00:30:00+00', {device}, 5)"));
    let made = format!("SELECT count(*) - {before} FROM show_chunks('metrics')");
    assert_eq!(database.sql(&made), new_chunks);
    assert_eq!(
        database.sql("SELECT count(*) FROM metrics WHERE v = -5"),
        "3"
    );
    database.sql("ALTER TABLE metrics ADD COLUMN more integer DEFAULT 3");
    database.sql("ALTER TABLE IF EXISTS remark DROP CONSTRAINT remark_at_device_fkey");
    database.sql("SELECT count(*) FROM drop_chunks('metrics', '2025-01-26'::timestamptz)");
    let left = "SELECT count(*) FROM metrics WHERE at < '2025-01-26 00:00:00+00' OR more <> 3";
    assert_eq!(database.sql(left), "0");
    database.sql("DROP TABLE metrics CASCADE");
    assert_eq!(database.sql("SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_name = 'metrics'"), "0");
}

fn part_of_the_history(version: &'static str) {
    let Some(server) = Server::with_timescale(version) else {
        return;
    };
    let source = history(&server, &format!("ts_part_{version}"));
    let repo = Repo::new();
    let all = repo.dump(&source, &[]);
    let target = |name: &str| server.empty(&format!("ts_part_{version}_{name}"));

    // A bound on a chunk's end leaves that chunk out, one within a chunk takes it.
    let bounds = [
        "--since",
        "2025-01-21T00:00:00Z",
        "--until",
        "2025-01-28T00:00:01Z",
    ];
    let dumped = repo.dump(&source, &bounds);
    let one = target("one");
    let done = repo.restore(&dumped, &one, &["-j", "3"]);
    done.says(&["remark_at_device_fkey", "not validated"]);
    let expected = source.sql("SELECT 8, count(*), sum(v) FROM metrics WHERE at >= '2025-01-21 00:00:00+00' AND at < '2025-01-29 00:00:00+00'");
    let counts = held(&source)[1].clone();
    assert_eq!(held(&one), [expected.clone(), counts]);
    let ranges = "SELECT min(range_start), max(range_end), count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'metrics'";
    assert_eq!(
        one.sql(ranges),
        "2025-01-21 00:00:00+00|2025-01-29 00:00:00+00|8"
    );
    for nothing in [
        "SELECT count(*) FROM _timescaledb_catalog.dimension_slice s JOIN _timescaledb_catalog.dimension d ON d.id = s.dimension_id WHERE d.column_name = 'at' AND s.range_end <= 1737417600000000",
        "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_hyper\\_1\\_1\\_%'",
    ] {
        assert_eq!(one.sql(nothing), "0", "{nothing}");
    }
    assert_eq!(one.sql("SELECT count(*) FROM remark"), "2");
    assert_awake(&one);
    // The same of a snapshot of everything, with bounds of their own.
    let two = target("two");
    let options = [
        "--since",
        "metrics=2025-01-21T00:00:00Z",
        "--until",
        "public.metrics=2025-01-28T00:00:01Z",
        "--since",
        "counts=2000",
        "--until",
        "counts=3001",
    ];
    repo.restore(&all, &two, &options);
    let numbers =
        source.sql("SELECT 2, count(*), sum(v) FROM counts WHERE n BETWEEN 2000 AND 3999");
    assert_eq!(held(&two), [expected, numbers]);
    assert_awake(&two);
    // Neither is less of a source than another.
    let three = target("three");
    let again = repo.dump(&two, &[]);
    repo.restore(&again, &three, &["--exclude-table", "remark"]);
    assert_eq!(held(&two), held(&three));
    for database in [&one, &two, &three] {
        assert_works(database, 1, "2");
    }

    // One hypertable with what belongs to it, but for what needs others.
    let four = target("four");
    let done = repo.restore(
        &all,
        &four,
        &["--hypertable", "metrics", "--since", "2025-01-30T00:00:00Z"],
    );
    done.says(&["metrics_device_fkey", "left out"]);
    assert_eq!(four.sql("SELECT count(*) FROM metrics"), "24");
    let names = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'i')";
    assert_eq!(
        four.sql(names),
        "metrics metrics_at_idx metrics_pkey metrics_v"
    );
    assert_awake(&four);
    assert_works(&four, 77, "3");

    // Without it, and without what is built on it.
    for (name, dump, restore) in [
        ("five", &["-T", "metrics"][..], &[][..]),
        ("six", &[], &["--exclude-table", "metrics"]),
    ] {
        let without = target(name);
        let id = repo.dump(&source, dump);
        repo.restore(&id, &without, restore);
        assert_eq!(
            without.sql(names),
            "counts counts_n_idx device device_pkey plain remark sums"
        );
        assert_eq!(
            without.sql(
                "SELECT string_agg(hypertable_name, ' ') FROM timescaledb_information.hypertables"
            ),
            "counts"
        );
        assert_eq!(without.sql("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_hyper%chunk' AND relkind = 'r'"), "5");
        assert_eq!(without.sql("SELECT count(*), (SELECT count(*) FROM device), (SELECT count(*) FROM plain) FROM counts"), "5000|10|10");
        assert_awake(&without);
        without.sql(
            "INSERT INTO counts VALUES (99000, 1), (1, 1); SELECT drop_chunks('counts', 3000)",
        );
        // The numbers of what was left out are not given again, and nothing stands in the way of its name.
        without.sql("CREATE TABLE metrics (at timestamptz NOT NULL); SELECT create_hypertable('metrics', 'at'); INSERT INTO metrics VALUES (now())");
    }

    // What is not there.
    let seven = target("seven");
    let known = "public.counts, public.metrics";
    let unknown = |options: &[&str]| {
        let done = repo.try_restore(&all, &seven, options).expect(1);
        done.says(&["there is no hypertable \"metric\"", "hint"]);
        assert_eq!(seven.sql("SELECT count(*) FROM pg_extension"), "1");
    };
    unknown(&["--hypertable", "metric"]);
    unknown(&["--since", "metric=3 days"]);
    let done = repo
        .try_dump(&source, &["--until", "metric=3 days"])
        .expect(1);
    assert!(
        known.split(", ").all(|name| done.stderr.contains(name)),
        "{}",
        done.stderr
    );
    let done = repo
        .try_dump(&source, &["--until", "counts=3 days"])
        .expect(1);
    done.says(&["public.counts", "bigint", "give a number"]);
    let plain = server.empty(&format!("ts_part_{version}_none"));
    plain.sql("CREATE TABLE t (i integer)");
    let none = repo.try_dump(&plain, &["--since", "3 days"]).expect(1);
    none.says(&["no hypertables", "--since"]);
    let none = repo.dump(&plain, &[]);
    let none = repo
        .try_restore(&none, &seven, &["--since", "3 days"])
        .expect(1);
    none.says(&["no hypertables", "--since"]);
}

#[test]
fn part_of_the_history_comes_back_and_works_on_17() {
    part_of_the_history("17");
}

#[test]
fn part_of_the_history_comes_back_and_works_on_18() {
    part_of_the_history("18");
}

#[test]
fn a_tiered_chunk_stays_behind_and_that_is_said() {
    for version in ["17", "18"] {
        let Some(server) = Server::with_timescale(version) else {
            continue;
        };
        let source = server.empty(&format!("ts_tiered_{version}"));
        source.sql("CREATE EXTENSION timescaledb");
        // What stands for object storage is a foreign table that nobody can read.
        source.sql(
            "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER storage FOREIGN DATA WRAPPER nowhere;
             CREATE TABLE m (at timestamptz NOT NULL, v integer); SELECT create_hypertable('m', 'at');
             INSERT INTO m SELECT '2025-01-01'::timestamptz + g * interval '1 day', g FROM generate_series(1, 50) g;
             CREATE FOREIGN TABLE tiered (at timestamptz NOT NULL, v integer) SERVER storage;
             SELECT _timescaledb_functions.attach_osm_table_chunk('m', 'tiered')",
        );
        assert_eq!(
            source.sql("SELECT count(*) FROM _timescaledb_catalog.chunk WHERE osm_chunk"),
            "1"
        );
        let target = server.empty(&format!("ts_tiered_{version}_r"));
        let repo = Repo::new();
        let dumped = repo.try_dump(&source, &[]).expect(3);
        let dumped = dumped.says(&["public.m: its tiered data (1 chunk) is left out"]);
        let id = dumped.stdout.lines().last().unwrap().to_owned();
        repo.restore(&id, &target, &[]);
        assert_eq!(target.sql("SELECT count(*), sum(v) FROM m"), "50|1275");
        assert_eq!(
            target.sql("SELECT status FROM _timescaledb_catalog.hypertable"),
            "0"
        );
        target.sql("INSERT INTO m VALUES ('2026-01-01', 1)");
    }
}
