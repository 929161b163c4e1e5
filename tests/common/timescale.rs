//! What the tests of TimescaleDB's databases share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::testbed::Database;

/// What TimescaleDB itself says of a database, a view each, but for the moments of the installation: statistics of jobs
/// and of what sessions did are not part of a dump.
pub fn views(database: &Database) -> BTreeMap<String, String> {
    texts(
        database,
        "SELECT c.oid::regclass::text, format('SELECT string_agg(r, E''\\n'' ORDER BY r) FROM (SELECT (to_jsonb(v) - ''next_start'' - ''chunk_creation_time'')::text AS r FROM %s v) s', c.oid::regclass)
         FROM pg_class c WHERE c.relnamespace = 'timescaledb_information'::regnamespace AND c.relkind = 'v'
           AND c.relname NOT IN ('job_stats', 'job_history', 'job_errors', 'policy_stats', 'stat_chunk_activity')",
    )
}

/// What queries say of the user's tables, views, aggregates and materialized views: each one's rows, through the
/// extension, chunks and compressed rows as parts of their hypertables.
pub fn contents(database: &Database) -> BTreeMap<String, String> {
    texts(
        database,
        "SELECT c.oid::regclass::text, format('SELECT count(*) || '' rows '' || coalesce(sum(hashtextextended(v::text, 0)::numeric), 0) FROM %s v', c.oid::regclass)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'v', 'm', 'p') AND c.relpersistence <> 't' AND c.relispopulated
           AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
           AND (n.nspname <> '_timescaledb_internal' OR c.relkind = 'v')",
    )
}

/// The results of the queries that a query makes: name, query.
fn texts(database: &Database, queries: &str) -> BTreeMap<String, String> {
    let script = format!(
        "SET timezone = 'UTC'; SET extra_float_digits = 3; SET jit = off; SET max_parallel_workers_per_gather = 0;
         SELECT format('SELECT %L, to_json((%s)::text)', name, query) FROM ({queries} ORDER BY 1) AS q (name, query) \\gexec\n"
    );
    let output = String::from_utf8(database.script(script.as_bytes())).unwrap();
    let found: BTreeMap<String, String> = output
        .lines()
        .map(|line| line.split_once('|').unwrap())
        .map(|(name, text)| {
            let text: Option<String> = serde_json::from_str(text).unwrap_or_default();
            (name.to_owned(), text.unwrap_or_default())
        })
        .collect();
    assert!(!found.is_empty(), "nothing to compare");
    found
}

/// Panics at the first relation in which the two differ.
#[track_caller]
pub fn assert_same(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) {
    let names: Vec<&String> = left.keys().collect();
    assert_eq!(names, right.keys().collect::<Vec<_>>());
    for (name, text) in left {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (a, b) = (lines(text), lines(&right[name]));
        let only =
            |a: &BTreeSet<String>, b| a.difference(b).cloned().collect::<Vec<_>>().join("\n");
        assert_eq!(
            text,
            &right[name],
            "{name}\nleft:\n{}\nright:\n{}",
            only(&a, &b),
            only(&b, &a)
        );
    }
}

/// Panics unless queries have the same results in both, and the extension says the same of them.
#[track_caller]
pub fn assert_alike(left: &Database, right: &Database) {
    assert_same(&contents(left), &contents(right));
    assert_same(&views(left), &views(right));
}

/// Runs the same in both; what it says must be equal.
#[track_caller]
pub fn both(databases: [&Database; 2], sql: &str) -> String {
    let [left, right] = databases.map(|database| database.sql(sql));
    assert_eq!(left, right, "{sql}");
    left
}

/// Both refuse it, saying this.
#[track_caller]
pub fn both_refuse(databases: [&Database; 2], sql: &str, message: &str) {
    for database in databases {
        let command = database.server.psql_command(&database.name, &["-c", sql]);
        let output = { command }.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(message),
            "{}: {sql}: {stderr}",
            database.name
        );
    }
}

/// The chunks of a hypertable.
pub fn chunks(database: &Database, hypertable: &str) -> String {
    database.sql(&format!(
        "SELECT string_agg(c::text, ' ' ORDER BY c::text) FROM show_chunks('{hypertable}') c"
    ))
}

/// Nothing of a restore at work is left, and the scheduler is at work.
pub fn assert_awake(database: &Database) {
    let name = &database.name;
    let setting = database.sql("SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() AND (s.setconfig::text LIKE '%timescaledb%' OR s.setconfig::text LIKE '%pgtide%')");
    assert_eq!(setting, "0", "settings of the database");
    assert_eq!(
        database.sql("SELECT current_setting('timescaledb.restoring')"),
        "off"
    );
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'TimescaleDB Background Worker Scheduler'";
    // Each database has a scheduler, and all of the server's databases share its few background workers.
    let full = "SELECT count(*) >= current_setting('max_worker_processes')::integer FROM pg_stat_activity WHERE backend_type LIKE 'TimescaleDB%' OR backend_type = 'logical replication launcher'";
    let began = Instant::now();
    while database.sql(workers) != "1" {
        if database.sql(full) == "t" {
            eprintln!(
                "scheduler of {name}: not looked at, the server has no background worker left"
            );
            return;
        }
        assert!(began.elapsed().as_secs() < 60, "no scheduler");
        // The server may have been full when the restore ended, which the restore says, and a scheduler that could not
        // be started then is not started later by itself.
        if began.elapsed().as_secs() > 5 {
            eprintln!(
                "scheduler of {name}: asked for once more, the server's background workers were taken"
            );
            database.sql("SELECT _timescaledb_functions.start_background_workers()");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
