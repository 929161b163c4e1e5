//! What only the TSL edition of TimescaleDB has comes back and goes on working: compressed chunks, continuous
//! aggregates, policies, jobs.
//!
//! Runs on the server of `PGTIDE_TEST_TSL_URL`, for every version of the extension that it offers.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::equal::{assert_equal, digests, not_analysed};
use common::program::Repo;
use common::testbed::{Database, Server, conninfo, sql_file};
use common::timescale::{
    assert_alike, assert_awake, assert_same, both, both_refuse, contents, views,
};

/// A database with one of everything, for each version of the extension.
fn each_version(name: &str, test: impl Fn(&Server, &Database, &str)) {
    let Some(server) = Server::tsl() else {
        return;
    };
    for version in server.timescale_versions() {
        eprintln!("TimescaleDB {version}");
        let tag = format!("{name}_{}", version.replace('.', "_"));
        let source = server.empty(&tag);
        source.sql(&format!("CREATE EXTENSION timescaledb VERSION '{version}'"));
        let edition = source.sql("SHOW timescaledb.license");
        assert_eq!(edition, "timescale", "PGTIDE_TEST_TSL_URL: another edition");
        source.psql(&["-f", &sql_file("timescale-tsl.sql")]);
        source.sql("SELECT _timescaledb_functions.stop_background_workers()");
        // What jobs do is asked of them, so that neither side is ahead of the other.
        source.sql("SELECT (alter_job(job_id, scheduled => false)).job_id FROM timescaledb_information.jobs WHERE job_id >= 1000");
        test(&server, &source, &tag);
    }
}

/// What is missing from compressed rows and comes from the columns of their chunks.
fn missing_values(database: &Database) -> String {
    database.sql(
        "SELECT a.attrelid::regclass, a.attname, a.atthasmissing, a.attmissingval FROM pg_attribute a
         JOIN timescaledb_information.chunks c ON a.attrelid = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass
         WHERE c.is_compressed AND a.atthasmissing AND NOT a.attisdropped ORDER BY 1::text, 2",
    )
}

/// Stops the jobs, so that what follows is all that happens.
fn quiet(databases: [&Database; 2]) {
    for database in databases {
        database.sql("SELECT _timescaledb_functions.stop_background_workers()");
    }
}

/// The jobs of a database: id, procedure.
fn jobs(database: &Database) -> Vec<(String, String)> {
    let jobs = database
        .sql("SELECT job_id, proc_name FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY 1");
    jobs.lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(id, name)| (id.to_owned(), name.to_owned()))
        .collect()
}

/// The digests of tables in which two snapshots differ.
fn other_digests(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut names: Vec<String> = names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect();
    names.dedup();
    names
}

/// Rows that refer to a hypertable, and rows of it that are referred to.
fn refer(databases: [&Database; 2]) {
    // Rows that are referred to stay, whatever chunk they lie in.
    both_refuse(databases, "DELETE FROM two WHERE v = 5", "remark");
    both_refuse(
        databases,
        "INSERT INTO remark VALUES ('1999-01-01', 1, 'nobody')",
        "remark",
    );
    both(
        databases,
        "DELETE FROM remark WHERE device = 5; DELETE FROM two WHERE v = 5",
    );
}

/// Rows go into, change in and go from compressed and other chunks; then aggregates and policies see to them.
fn work_on(databases: [&Database; 2], alike: &dyn Fn()) {
    let [source, target] = databases;
    // Into compressed chunks, among them one with changed defaults; into a new one; against a unique key.
    both(
        databases,
        "INSERT INTO conditions (at, device, temperature) VALUES ('2025-01-10 00:00:03+00', 1, 5), ('2025-01-30 00:00:03+00', 2, 6), ('2030-01-01 00:00:00+00', 3, 7)",
    );
    both(
        databases,
        "INSERT INTO events (t, kind, v) VALUES (1500, 'kind 9', 1), (90000, 'kind 9', 2)",
    );
    both(
        databases,
        "INSERT INTO two VALUES ('2025-01-01 00:30:00+00', 3, 1, 'x'), ('2026-01-01 00:00:00+00', 3, 2, 'y')",
    );
    both_refuse(
        databases,
        "INSERT INTO two VALUES ('2025-01-01 01:00:00+00', 1, 0)",
        "duplicate key",
    );
    alike();
    both(
        databases,
        "WITH done AS (UPDATE conditions SET note = 'changed' WHERE device = 5 AND at < '2025-01-20' RETURNING 1) SELECT count(*) FROM done",
    );
    both(
        databases,
        "WITH done AS (DELETE FROM conditions WHERE device = 6 AND at < '2025-02-10' RETURNING 1) SELECT count(*) FROM done",
    );
    both(
        databases,
        "WITH done AS (DELETE FROM events WHERE kind = 'kind 2' RETURNING v) SELECT sum(v) FROM done",
    );
    both(
        databases,
        "UPDATE conditions SET unit = 'R' WHERE device = 7 AND unit LIKE 'it%'",
    );
    alike();
    for (aggregate, from, to) in [
        (
            "hourly",
            "'2025-01-09'::timestamptz",
            "'2031-01-01'::timestamptz",
        ),
        ("daily", "NULL", "NULL"),
        ("live", "'2025-01-10'::timestamptz", "NULL"),
        ("counted", "NULL", "NULL"),
    ] {
        let refresh = format!("CALL refresh_continuous_aggregate('{aggregate}', {from}, {to})");
        both(databases, &refresh);
        assert_same(&contents(source), &contents(target));
    }
    // Each policy has something to do now.
    both(
        databases,
        "SELECT alter_job(job_id, config => jsonb_set(config, '{compress_after}', CASE WHEN hypertable_name = 'events' THEN '100' ELSE '\"1 day\"' END::jsonb)) IS NULL
         FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'",
    );
    both(
        databases,
        "SELECT alter_job(job_id, config => jsonb_set(config, '{drop_after}', '\"1 day\"')) IS NULL FROM timescaledb_information.jobs
         WHERE proc_name = 'policy_retention' AND hypertable_name <> 'conditions'",
    );
    both(
        databases,
        "SELECT alter_job(job_id, config => jsonb_set(config, '{end_offset}', '\"1 day\"')) IS NULL FROM timescaledb_information.jobs
         WHERE proc_name = 'policy_refresh_continuous_aggregate'",
    );
    let all = jobs(source);
    assert_eq!(all, jobs(target));
    assert_eq!(all.len(), 7, "{all:?}");
    for (id, name) in &all {
        let before = contents(source);
        both(databases, &format!("CALL run_job({id})"));
        both(databases, "UPDATE job_log SET at = '2025-01-01'");
        alike();
        let ran = both(
            databases,
            "SELECT count(*) FROM job_log WHERE config = '{\"what\": \"a user''s job\"}'",
        );
        assert_eq!(ran == "1", name == "log_job", "{name}");
        if name == "policy_retention" && contents(source) == before {
            // Of the two one has nothing to drop.
            both(
                databases,
                "SELECT count(*) > 0 FROM show_chunks('conditions')",
            );
        }
        both(databases, "DELETE FROM job_log");
    }
    // By itself, too: the scheduler of the restored database starts a job that is due.
    let id = &all.iter().find(|(_, name)| name == "log_job").unwrap().0;
    target.sql("SELECT _timescaledb_functions.start_background_workers()");
    target.sql(&format!(
        "SELECT alter_job({id}, scheduled => true, initial_start => now(), next_start => now())"
    ));
    let began = Instant::now();
    while target.sql("SELECT count(*) FROM job_log") == "0" {
        assert!(
            began.elapsed().as_secs() < 60,
            "the scheduler starts no job"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    quiet(databases);
    target.sql(&format!(
        "SELECT alter_job({id}, scheduled => false); TRUNCATE job_log"
    ));
    both(
        databases,
        "SELECT count(*) > 5 FROM timescaledb_information.chunks WHERE hypertable_name = 'conditions' AND is_compressed",
    );
    both(databases, "SELECT count(*) FROM show_chunks('daily')");
}

/// Every compressed chunk is a plain one after this, with the same rows.
fn decompress_all(database: &Database) {
    let before = contents(database);
    database.sql("SELECT count(decompress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass)) FROM timescaledb_information.chunks WHERE is_compressed");
    let left = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed";
    assert_eq!(database.sql(left), "0");
    assert_same(&before, &contents(database));
}

#[test]
fn everything_of_the_tsl_edition_comes_back_and_goes_on_working() {
    each_version("tsl", |server, source, tag| {
        let target = server.empty(&format!("{tag}_r"));
        let repo = Repo::new();
        let id = repo.dump(source, &["-j", "2"]);
        let schema = source.plain_schema();
        let read = contents(source);
        let compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed";
        assert!(source.sql(compressed).parse::<u32>().unwrap() > 8);
        repo.restore(&id, &target, &["-j", "4"]);
        assert_awake(&target);
        quiet([source, &target]);
        assert_eq!(source.plain_schema(), schema);
        assert_same(&read, &contents(source));
        assert_equal(source, &target);
        assert_eq!(not_analysed(&target), "", "without statistics");
        assert_alike(source, &target);
        let missing = missing_values(source);
        assert!(
            missing.contains("unit") && missing.contains("since"),
            "{missing}"
        );
        assert_eq!(missing, missing_values(&target));
        // What compressed rows have of a default that has changed since, and of one that went.
        let olds =
            "SELECT unit, since, quality, count(*) FROM conditions GROUP BY 1, 2, 3 ORDER BY 4";
        assert!(both([source, &target], olds).contains("it's \"C\""));
        let again = repo.dump(&target, &["-j", "3"]);
        assert_eq!(
            other_digests(&digests(&repo, &id), &digests(&repo, &again)),
            Vec::<String>::new()
        );
        refer([source, &target]);
        work_on([source, &target], &|| assert_alike(source, &target));
        decompress_all(&target);
        assert_same(&contents(source), &contents(&target));

        // What was changed is restored over itself.
        repo.restore(&id, &target, &["--clean", "--yes", "-j", "4"]);
        assert_awake(&target);
        assert_same(&read, &contents(&target));
        assert_eq!(target.plain_schema(), schema);
        // And a restored database is as good a source as any.
        let third = server.empty(&format!("{tag}_3"));
        repo.restore(&again, &third, &["-j", "1"]);
        quiet([&target, &third]);
        assert_equal(&target, &third);
        assert_alike(&target, &third);
    });
}

#[test]
fn decompressed_a_database_has_the_same_rows_and_can_be_compressed_again() {
    each_version("plain", |server, source, tag| {
        let target = server.empty(&format!("{tag}_r"));
        let repo = Repo::new();
        // Chunks that rows refer to cannot be compressed.
        source.sql("DROP TABLE remark");
        // Where compressed rows would be passed over in silence, nothing is read.
        for (setting, value) in [
            ("timescaledb.enable_columnarscan", "off"),
            ("timescaledb.restoring", "on"),
        ] {
            let database = format!("ALTER DATABASE {}", source.name);
            source.sql(&format!("{database} SET {setting} = {value}"));
            let refused = repo.try_dump(source, &["--decompress"]).expect(1);
            refused.says(&[setting, "compressed rows would be missing"]);
            server.psql("postgres", &["-c", &format!("{database} RESET {setting}")]);
        }
        let id = repo.dump(source, &["--decompress", "-j", "2"]);
        repo.restore(&id, &target, &["-j", "4"]);
        assert_awake(&target);
        quiet([source, &target]);
        assert_same(&contents(source), &contents(&target));
        for nothing in [
            "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed",
            "SELECT count(*) FROM _timescaledb_catalog.compression_chunk_size",
            "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind = 'r' AND a.atttypid = '_timescaledb_internal.compressed_data'::regtype AND c.oid IN (SELECT inhrelid FROM pg_inherits)",
        ] {
            assert_eq!(target.sql(nothing), "0", "{nothing}");
        }
        let databases = [source, &target];
        both(
            databases,
            "SELECT * FROM timescaledb_information.hypertable_compression_settings ORDER BY hypertable::text",
        );
        both(
            databases,
            "SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables ORDER BY 1",
        );
        both(
            databases,
            "INSERT INTO conditions (at, device, temperature) VALUES ('2025-01-10 00:00:03+00', 1, 5), ('2030-01-01', 3, 7)",
        );
        let compress = "SELECT count(compress_chunk(c, if_not_compressed => true)) FROM (SELECT c FROM show_chunks('{}') c ORDER BY c) s";
        for hypertable in ["conditions", "events", "two", "hourly"] {
            both(databases, &compress.replace("{}", hypertable));
        }
        assert_same(&contents(source), &contents(&target));
        // But for what indexes that came after compression add to the settings of chunks.
        let views = |database| {
            let mut views = views(database);
            views.retain(|name, _| !name.contains(".chunk_"));
            views
        };
        assert_same(&views(source), &views(&target));
        // Where compressed chunks take numbers, new chunks have others here and there.
        work_on(databases, &|| {
            assert_same(&contents(source), &contents(&target));
        });
    });
}

/// Hypertables and aggregates, and the jobs on them.
fn known(database: &Database) -> [String; 2] {
    [
        "SELECT string_agg(name, ' ' ORDER BY name COLLATE \"C\") FROM (SELECT view_name::text FROM timescaledb_information.continuous_aggregates
         UNION ALL SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = 'public') h (name)",
        "SELECT string_agg(concat_ws(' ', replace(proc_name, 'policy_', ''), hypertable_name), ', ' ORDER BY job_id) FROM timescaledb_information.jobs WHERE job_id >= 1000",
    ]
    .map(|query| database.sql(query))
}

#[test]
fn part_of_the_history_comes_back_with_aggregates_and_jobs_and_works() {
    each_version("tsl_part", |server, source, tag| {
        let repo = Repo::new();
        let all = repo.dump(source, &["-j", "2"]);
        let target = |name: &str| server.empty(&format!("{tag}_{name}"));
        let bounds = [
            "--since",
            "conditions=2025-01-20T00:00:00Z",
            "--until",
            "conditions=2025-02-20T00:00:00Z",
            "--since",
            "events=1500",
            "--since",
            "public.hourly=2025-01-20T00:00:00Z",
        ];
        let dumped = repo.dump(source, &bounds);
        let (one, two) = (target("one"), target("two"));
        repo.restore(&dumped, &one, &["-j", "4"]);
        repo.restore(&all, &two, &bounds);
        // Chunks of seven days: from Thursday to Thursday.
        let expected = [
            "SELECT count(*), sum(temperature::numeric), min(unit) FROM conditions WHERE at >= '2025-01-16' AND at < '2025-02-20'",
            "SELECT count(*), sum(v) FROM events WHERE t >= 1000",
            "SELECT count(*), sum(n) FROM hourly WHERE bucket >= '2025-01-02'",
            "SELECT count(*), sum(n) FROM daily",
            "SELECT count(*) FROM two",
        ]
        .map(|query| source.sql(query));
        for part in [&one, &two] {
            assert_awake(part);
            quiet([part, part]);
            assert_eq!(known(source), known(part));
            let held = [
                "SELECT count(*), sum(temperature::numeric), min(unit) FROM conditions",
                "SELECT count(*), sum(v) FROM events",
                "SELECT count(*), sum(n) FROM hourly",
                "SELECT count(*), sum(n) FROM daily",
                "SELECT count(*) FROM two",
            ]
            .map(|query| part.sql(query));
            assert_eq!(expected, held);
            let ranges = "SELECT count(*), count(*) FILTER (WHERE is_compressed), min(range_start), max(range_end) FROM timescaledb_information.chunks WHERE hypertable_name = 'conditions'";
            assert_eq!(
                part.sql(ranges),
                source.sql(&format!(
                    "{ranges} AND range_end > '2025-01-20' AND range_start < '2025-02-20'"
                ))
            );
            assert!(missing_values(part).contains("unit"));
        }
        assert_same(&contents(&one), &contents(&two));
        assert_same(&views(&one), &views(&two));
        work_on([&one, &two], &|| {
            assert_same(&contents(&one), &contents(&two));
        });
        for part in [&one, &two] {
            part.sql("INSERT INTO conditions (at, device) VALUES ('2025-01-02', 1)");
            let dropped =
                "SELECT count(*) > 1 FROM drop_chunks('conditions', '2025-01-20'::timestamptz)";
            assert_eq!(part.sql(dropped), "t");
            let left = "SELECT count(*) FROM conditions WHERE at < '2025-01-20'";
            assert_eq!(
                part.sql(left),
                part.sql(&left.replace("'2025-01-20'", "'2025-01-20' AND at >= '2025-01-16'"))
            );
        }

        // A hypertable goes, and comes, with its aggregates and jobs.
        let without = target("without");
        let id = repo.dump(source, &["-T", "conditions"]);
        repo.restore(&id, &without, &[]);
        let [hypertables, jobs] = known(&without);
        assert_eq!(hypertables, "counted events two");
        assert_eq!(jobs, "compression events, log_job");
        assert_awake(&without);
        for job in ["policy_compression", "log_job"] {
            let id = without.sql(&format!(
                "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = '{job}'"
            ));
            without.sql(&format!("CALL run_job({id})"));
        }
        assert_eq!(without.sql("SELECT count(*) FROM job_log"), "1");
        both([source, &without], "SELECT count(*), sum(v) FROM events");
        both([source, &without], "SELECT count(*), sum(v) FROM counted");

        let only = target("only");
        repo.restore(&all, &only, &["--hypertable", "daily", "-j", "2"]);
        let [hypertables, jobs] = known(&only);
        assert_eq!(hypertables, "conditions daily hourly live");
        let [_, of_all] = known(source);
        let of_conditions = of_all
            .replace("compression events, ", "")
            .replace(", log_job", "");
        assert_ne!(of_all, of_conditions);
        assert_eq!(jobs, of_conditions);
        assert_awake(&only);
        quiet([&only, &only]);
        for view in ["conditions", "hourly", "daily", "live"] {
            both(
                [source, &only],
                &format!("SELECT count(*), sum(hashtext(v::text)) FROM {view} v"),
            );
        }
        both(
            [source, &only],
            "INSERT INTO conditions (at, device, temperature) VALUES ('2025-01-10 00:00:03+00', 1, 5), ('2031-01-30 00:00:03+00', 2, 6)",
        );
        both(
            [source, &only],
            "CALL refresh_continuous_aggregate('hourly', '2025-01-09', '2032-01-01')",
        );
        both(
            [source, &only],
            "SELECT count(*), sum(n), sum(mean::numeric(20, 6)) FROM hourly",
        );
        for (id, _) in self::jobs(&only) {
            only.sql(&format!("CALL run_job({id})"));
        }

        let none = repo
            .try_restore(&all, &target("none"), &["--hypertable", "weekly"])
            .expect(1);
        none.says(&[
            "there is no hypertable \"weekly\"",
            "public.conditions",
            "public.hourly",
        ]);
    });
}

#[test]
fn jobs_at_the_target_are_in_the_way_of_a_restore() {
    each_version("tsl_jobs", |server, source, tag| {
        let repo = Repo::new();
        let id = repo.dump(source, &[]);
        let target = server.empty(&format!("{tag}_r"));
        let version =
            source.sql("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'");
        target.sql(&format!("CREATE EXTENSION timescaledb VERSION '{version}'"));
        target.sql("CREATE PROCEDURE other(job_id integer, config jsonb) LANGUAGE sql AS 'SELECT 1'; SELECT add_job('other', interval '1 year')");
        let refused = repo.try_restore(&id, &target, &[]).expect(1);
        refused.says(&["nothing was restored", "jobs", "delete_job", "--clean"]);
        repo.restore(&id, &target, &["--clean", "--yes"]);
        assert_eq!(jobs(source), jobs(&target));
    });
}

#[test]
fn compressed_rows_are_refused_by_a_server_without_the_tsl_edition() {
    let Some(apache) = Server::with_timescale("17") else {
        return;
    };
    each_version("tsl_apache", |_, source, tag| {
        let repo = Repo::new();
        let id = repo.dump(source, &[]);
        let target = apache.empty(&format!("{tag}_r"));
        // Of another version as a rule, which is said first.
        let refused = repo.try_restore(&id, &target, &[]).expect(1);
        assert!(
            refused.stderr.contains("nothing was restored"),
            "{}",
            refused.stderr
        );
        let version =
            source.sql("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'");
        assert!(
            refused.stderr.contains(&version) || refused.stderr.contains("Apache edition"),
            "{}",
            refused.stderr
        );
        assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
        assert_eq!(target.sql("SELECT count(*) FROM pg_extension"), "1");
    });
}

/// What runs all the time while dumps are taken: a loop in the server each.
const LOOPS: &[&str] = &[
    // Rows into all ranges, those that are dropped too, and in the same transaction what to look for.
    "n := nextval('number'); t := (n * 7919) % 25000 - 5000; INSERT INTO samples VALUES (t, n, n % 7); INSERT INTO log VALUES (n, t);",
    "PERFORM compress_chunk(c) FROM (SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS c FROM timescaledb_information.chunks WHERE hypertable_name = 'samples' AND NOT is_compressed ORDER BY random() LIMIT 1) s; PERFORM pg_sleep(0.05);",
    "PERFORM decompress_chunk(c) FROM (SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS c FROM timescaledb_information.chunks WHERE hypertable_name = 'samples' AND is_compressed ORDER BY random() LIMIT 1) s; PERFORM pg_sleep(0.1);",
    "PERFORM drop_chunks('samples', 0); PERFORM pg_sleep(0.2);",
];

#[test]
fn dumps_while_chunks_are_compressed_and_dropped_and_aggregates_refreshed_are_consistent() {
    let Some(server) = Server::tsl() else {
        return;
    };
    let source = server.empty("tsl_busy");
    source.sql("CREATE EXTENSION timescaledb");
    source.sql(
        "CREATE TABLE log (id bigint PRIMARY KEY, t bigint); CREATE TABLE stop (); CREATE SEQUENCE number;
         CREATE TABLE samples (t bigint NOT NULL, id bigint NOT NULL, k integer NOT NULL);
         SELECT create_hypertable('samples', 't', chunk_time_interval => 1000);
         CREATE FUNCTION latest() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 20000::bigint'; SELECT set_integer_now_func('samples', 'latest');
         ALTER TABLE samples SET (timescaledb.compress, timescaledb.compress_segmentby = 'k', timescaledb.compress_orderby = 't');
         INSERT INTO samples SELECT (g * 7919) % 25000 - 5000, -g, g % 7 FROM generate_series(1, 20000) g; INSERT INTO log SELECT id, t FROM samples",
    );
    source.sql("CREATE MATERIALIZED VIEW summed WITH (timescaledb.continuous) AS SELECT time_bucket(500, t) AS bucket, k, count(*) AS n, sum(id) AS ids FROM samples GROUP BY 1, 2 WITH NO DATA");
    source.sql("SELECT (alter_job(add_continuous_aggregate_policy('summed', NULL, 500::bigint, interval '1 hour'), scheduled => false)).job_id");
    let job = jobs(&source)[0].0.clone();
    let repo = Repo::new();
    let dbname = conninfo(&source.name);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let stop = Stop(&source);
        for work in LOOPS {
            let source = &source;
            scope.spawn(move || {
                // What meets a lock or another's change is tried again; what is committed, is.
                let work = format!(
                    "DO $$ DECLARE n bigint; t bigint; BEGIN WHILE NOT EXISTS (SELECT FROM stop) LOOP
                       BEGIN {work} EXCEPTION WHEN OTHERS THEN PERFORM pg_sleep(0.001); END; COMMIT;
                     END LOOP; END $$"
                );
                source.psql(&["-c", "SET lock_timeout = '2s'", "-c", &work]);
            });
        }
        for refresh in [
            format!("CALL run_job({job})"),
            "CALL refresh_continuous_aggregate('summed', NULL, 15000)".to_owned(),
        ] {
            let source = &source;
            scope.spawn(move || {
                while source.sql("SELECT count(*) FROM stop") == "0" {
                    let mut command = server_command(source, &refresh);
                    command.output().unwrap();
                }
            });
        }
        let ids = (0..10).map(|n| {
            let arguments = ["dump", "-d", &dbname, "-j", "2"];
            let done = repo.run(&server, &arguments);
            assert_eq!(done.code, 0, "dump {n}: {}", done.stderr);
            done.stdout.lines().last().unwrap().to_owned()
        });
        let ids = ids.collect();
        drop(stop);
        ids
    });
    let mut kinds = BTreeSet::new();
    for id in &ids {
        let target = server.empty("tsl_busy_r");
        repo.restore(id, &target, &["-j", "4"]);
        quiet([&target, &target]);
        for nothing in [
            "SELECT count(*) FROM log l WHERE t >= 0 AND NOT EXISTS (SELECT FROM samples s WHERE s.id = l.id AND s.t = l.t)",
            "SELECT count(*) FROM samples s WHERE NOT EXISTS (SELECT FROM log l WHERE s.id = l.id AND s.t = l.t)",
            "SELECT count(*) - count(DISTINCT id) FROM samples",
        ] {
            assert_eq!(target.sql(nothing), "0", "{nothing}");
        }
        kinds.insert(target.sql("SELECT count(*), count(*) FILTER (WHERE is_compressed), (SELECT count(*) FROM log) FROM timescaledb_information.chunks WHERE hypertable_name = 'samples'"));
        // What the aggregate does not know yet, it knows that it does not know.
        target.sql("CALL refresh_continuous_aggregate('summed', NULL, NULL)");
        let differs = "SELECT count(*) FROM (SELECT time_bucket(500, t) AS bucket, k, count(*) AS n, sum(id) AS ids FROM samples WHERE t >= 0 GROUP BY 1, 2) a
                       FULL JOIN (SELECT * FROM summed WHERE bucket >= 0) b USING (bucket, k) WHERE a.n IS DISTINCT FROM b.n OR a.ids IS DISTINCT FROM b.ids";
        assert_eq!(target.sql(differs), "0");
        decompress_all(&target);
        target.sql("SELECT count(compress_chunk(c)) FROM show_chunks('samples') c; INSERT INTO samples VALUES (3, 0, 0), (50000, 0, 0)");
        target.sql("SELECT count(*) FROM drop_chunks('samples', 10000)");
    }
    eprintln!("chunks, compressed ones, rows logged: {kinds:?}");
    assert!(kinds.len() > 5, "little happened: {kinds:?}");
}

/// Ends the loops, also where something failed.
struct Stop<'a>(&'a Database<'a>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.sql("INSERT INTO stop DEFAULT VALUES");
    }
}

fn server_command(database: &Database, sql: &str) -> std::process::Command {
    database.server.psql_command(&database.name, &["-c", sql])
}
