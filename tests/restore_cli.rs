//! What `restore` and the other commands refuse, ask, report, and how they end.
//!
//! Runs on the servers of `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/testbed`.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::equal::{assert_equal, differences};
use common::program::{Repo, finish, pgtide};
use common::testbed::{Database, Server, quoted};

fn any_server() -> Option<Server> {
    ["17", "18", "15"].into_iter().find_map(Server::find)
}

/// The names of all that a user made in the database.
fn objects(database: &Database) -> String {
    database.sql(
        "SELECT string_agg(what, ' ' ORDER BY what) FROM (
           SELECT nspname || '.' || relname AS what FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid >= 16384 AND nspname <> 'pg_toast'
           UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE oid >= 16384
           UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE oid >= 16384
           UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE oid >= 16384
           UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata) o",
    )
}

fn small<'a>(server: &'a Server, name: &str) -> Database<'a> {
    let database = server.empty(name);
    database.sql(
        "CREATE SCHEMA s; CREATE TABLE s.a (id integer PRIMARY KEY, v text); CREATE TABLE b (id integer PRIMARY KEY, a integer REFERENCES s.a);
         INSERT INTO s.a SELECT g, 'v' || g FROM generate_series(1, 100) g; INSERT INTO b SELECT g, g FROM generate_series(1, 50) g;
         CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'; CREATE VIEW v AS SELECT * FROM b; CREATE SEQUENCE q;
         CREATE TYPE mood AS ENUM ('x')",
    );
    database
}

// Refusals -------------------------------------------------------------------------------------------------------------

#[test]
fn what_is_missing_at_the_target_is_listed_and_nothing_is_touched() {
    let (Some(source), Some(target)) = (Server::find("17"), Server::find("15")) else {
        return;
    };
    let role = format!("pgtide only here {}", std::process::id());
    source.psql(
        "postgres",
        &["-c", &format!("CREATE ROLE {}", quoted(&role))],
    );
    {
        let database = small(&source, "missing");
        let role = quoted(&role);
        let grantee = format!("pgtide reads {}", std::process::id());
        let grantee = quoted(&grantee);
        database.sql(&format!(
            "CREATE ROLE {grantee}; ALTER TABLE b OWNER TO {role}; GRANT SELECT ON s.a TO {grantee}; SELECT lo_create(7); ALTER LARGE OBJECT 7 OWNER TO {role}"
        ));
        let repo = Repo::new();
        let id = repo.dump(&database, &[]);
        let into = target.empty("missing_r");
        let names = [
            role.trim_matches('"'),
            grantee.trim_matches('"'),
            "--no-owner",
            "nothing was restored",
        ];
        repo.try_restore(&id, &into, &[]).expect(1).says(&names);
        repo.try_restore(&id, &into, &["--dry-run"]).expect(1);
        assert_eq!(objects(&into), "");
        database.sql(&format!("DROP OWNED BY {grantee}; DROP ROLE {grantee}"));
    }
    source.psql("postgres", &["-c", &format!("DROP ROLE {}", quoted(&role))]);
}

#[test]
fn roles_named_only_by_a_large_object_are_missed_too() {
    let (Some(source), Some(target)) = (Server::find("17"), Server::find("18")) else {
        return;
    };
    let role = format!("pgtide_lo_{}", std::process::id());
    source.psql("postgres", &["-c", &format!("CREATE ROLE {role}")]);
    {
        let database = source.empty("lo_role");
        database.sql(&format!("SELECT lo_create(7); ALTER LARGE OBJECT 7 OWNER TO {role}; SELECT lo_create(8); GRANT SELECT ON LARGE OBJECT 8 TO {role}"));
        let repo = Repo::new();
        let id = repo.dump(&database, &[]);
        let into = target.empty("lo_role_r");
        repo.try_restore(&id, &into, &[])
            .expect(1)
            .says(&[&role, "nothing was restored"]);
        assert_eq!(objects(&into), "");
        repo.restore(&id, &into, &["-O", "-x"]);
        assert_eq!(into.sql("SELECT count(*), bool_and(pg_get_userbyid(lomowner) = current_user) FROM pg_largeobject_metadata"), "2|t");
    }
    source.psql("postgres", &["-c", &format!("DROP ROLE {role}")]);
}

#[test]
fn what_is_in_the_way_is_listed_and_nothing_is_touched() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = small(&server, &format!("way_{version}"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("way_{version}_r"));
        target.sql("CREATE SCHEMA s; CREATE TABLE b (other integer); CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql AS 'SELECT 2'; CREATE TYPE mood AS (a integer);
                    CREATE VIEW v AS SELECT 1 AS one; CREATE SEQUENCE q; SELECT lo_create(1); CREATE FUNCTION f(text) RETURNS text LANGUAGE sql AS 'SELECT 1'; INSERT INTO b VALUES (1)");
        let before = (objects(&target), target.plain_schema());
        let done = repo.try_restore(&id, &target, &[]).expect(1);
        let done = done.says(&[
            "nothing was restored",
            "SCHEMA s",
            "TABLE public.b",
            "FUNCTION public.f(integer)",
            "TYPE public.mood",
            "VIEW public.v",
            "SEQUENCE public.q",
            "--clean",
        ]);
        assert!(!done.stderr.contains("s.a"), "{}", done.stderr);
        assert_eq!((objects(&target), target.plain_schema()), before);

        // Others than those that are to be restored are in nobody's way.
        let live = server.empty(&format!("way_{version}_l"));
        live.sql(
            "CREATE TABLE others (a integer); INSERT INTO others VALUES (1); CREATE SCHEMA other",
        );
        repo.restore(&id, &live, &[]);
        assert_eq!(
            live.sql("SELECT (SELECT count(*) FROM others), (SELECT count(*) FROM s.a)"),
            "1|100"
        );
    }
}

#[test]
fn a_large_object_in_the_way_is_found_before_anything_is_touched() {
    let Some(server) = any_server() else { return };
    let source = server.empty("lo_way");
    source.sql("CREATE TABLE t (); SELECT lo_create(77), lo_create(78)");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("lo_way_r");
    target.sql("SELECT lo_from_bytea(78, 'mine')");
    repo.try_restore(&id, &target, &[])
        .expect(1)
        .says(&["nothing was restored", "LARGE OBJECT 78"]);
    assert_eq!(objects(&target), "large object 78");
    repo.restore(&id, &target, &["--clean", "--yes"]);
    assert_equal(&source, &target);
}

#[test]
fn extensions_that_the_target_lacks_are_a_refusal() {
    let (Some(source), Some(target)) = (Server::with_timescale("17"), Server::find("15")) else {
        return;
    };
    let database = source.empty("extension");
    database.sql("CREATE EXTENSION timescaledb; CREATE TABLE t (a integer)");
    let repo = Repo::new();
    let id = repo.dump(&database, &[]);
    let into = target.empty("extension_r");
    repo.try_restore(&id, &into, &[]).expect(1).says(&[
        "nothing was restored",
        "timescaledb",
        "extensions that the target's server cannot install",
    ]);
    assert_eq!(objects(&into), "");
}

#[test]
fn missing_tablespaces_are_a_refusal_and_can_be_left_out() {
    let Some(server) = any_server() else { return };
    // Of superusers, and in the server's own directory.
    let space = format!("pgtide space {}", std::process::id());
    let source = server.empty("space");
    source.psql(&[
        "-c",
        "SET allow_in_place_tablespaces = on",
        "-c",
        &format!("CREATE TABLESPACE {} LOCATION ''", quoted(&space)),
    ]);
    source.sql(&format!("CREATE TABLE t (a integer PRIMARY KEY) TABLESPACE {0}; INSERT INTO t VALUES (1); CREATE INDEX i ON t (a) TABLESPACE {0}", quoted(&space)));
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("space_r");
    repo.restore(&id, &target, &[]);
    assert_equal(&source, &target);
    drop(target);
    source.sql("ALTER TABLE t SET TABLESPACE pg_default; ALTER INDEX i SET TABLESPACE pg_default");
    source.sql(&format!("DROP TABLESPACE {}", quoted(&space)));
    let target = server.empty("space_r2");
    repo.try_restore(&id, &target, &[]).expect(1).says(&[
        &space,
        "--no-tablespaces",
        "nothing was restored",
    ]);
    assert_eq!(objects(&target), "");
    repo.restore(&id, &target, &["--no-tablespaces"]);
    assert_equal(&source, &target);
}

// Options --------------------------------------------------------------------------------------------------------------

#[test]
fn owners_and_privileges_can_be_left_out() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.rich(&format!("bare_{version}"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("bare_{version}_r"));
        repo.restore(&id, &target, &["--no-owner", "-x", "--no-tablespaces"]);
        let schema = target.plain_schema();
        let named: Vec<&str> = schema
            .lines()
            .filter(|line| line.starts_with("GRANT") || line.contains(" OWNER TO pgtide"))
            .collect();
        assert_eq!(named, Vec::<&str>::new());
        let found = differences(&source, &target);
        // Large objects differ in owners and privileges, everything else in the schema's text only.
        assert!(
            found
                .iter()
                .all(|d| d.starts_with("pg_dump -s") || d.starts_with("large object")),
            "{found:?}"
        );
    }
}

#[test]
fn clean_restores_over_a_live_database() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.rich(&format!("clean_{version}"));
        let target = server.rich(&format!("clean_{version}_r"));
        target.sql("DROP TABLE app.empty; DELETE FROM app.by_default; ALTER TABLE app.customer ADD COLUMN more integer; SELECT lo_unlink(70001)");
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let refused = repo.try_restore(&id, &target, &["--clean"]).expect(2);
        refused.says(&["--yes", &target.name, "no terminal"]);
        assert_ne!(differences(&source, &target), Vec::<String>::new());
        repo.restore(&id, &target, &["--clean", "--yes"]);
        assert_equal(&source, &target);
        // Into an empty one it is no error that nothing is there.
        let empty = server.empty(&format!("clean_{version}_e"));
        repo.restore(&id, &empty, &["--clean", "-y"]);
        assert_equal(&source, &empty);
    }
}

#[test]
fn one_table_is_restored_into_a_live_database() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = small(&server, &format!("table_{version}"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let live = small(&server, &format!("table_{version}_r"));
        live.sql("DROP VIEW v; DROP TABLE b; INSERT INTO s.a VALUES (1000, 'mine')");
        repo.restore(&id, &live, &["-t", "b"]);
        assert_eq!(
            live.sql("SELECT (SELECT count(*) FROM b), (SELECT count(*) FROM s.a)"),
            "50|101"
        );
        repo.try_restore(&id, &live, &["-t", "b"])
            .expect(1)
            .says(&["TABLE public.b", "nothing was restored"]);
        live.sql("DELETE FROM b; CREATE TABLE c (a integer)");
        repo.restore(&id, &live, &["-t", "b", "--clean", "--yes"]);
        assert_eq!(live.sql("SELECT (SELECT count(*) FROM b), (SELECT count(*) FROM s.a), (SELECT count(*) FROM c)"), "50|101|0");
        repo.try_restore(&id, &live, &["-t", "no such"])
            .expect(1)
            .says(&["no such", "pgtide list"]);
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let Some(server) = any_server() else { return };
    let source = small(&server, "dry");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("dry_r");
    let done = repo.restore(&id, &target, &["--dry-run"]);
    assert!(
        done.stdout.contains("would load 150 rows of 2 tables"),
        "{}",
        done.stdout
    );
    let plan = repo.restore(&id, &target, &["--dry-run", "--json"]).json();
    assert_eq!(
        (
            plan["rows"].as_u64(),
            plan["problems"].as_array().map(Vec::len)
        ),
        (Some(150), Some(0))
    );
    repo.try_restore(&id, &source, &["--dry-run", "--clean"])
        .expect(0);
    let in_the_way = repo.try_restore(&id, &source, &["--dry-run"]).expect(1);
    assert!(
        in_the_way.stdout.contains("TABLE public.b"),
        "{}",
        in_the_way.stdout
    );
    assert_eq!(objects(&target), "");
    assert_eq!(source.sql("SELECT count(*) FROM b"), "50");
}

// Failures -------------------------------------------------------------------------------------------------------------

/// A database that cannot be restored whole: a constraint that its rows do not obey.
fn broken<'a>(server: &'a Server, name: &str) -> Database<'a> {
    let database = small(server, name);
    database.sql(
        "CREATE FUNCTION strict(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
         CREATE TABLE bad (id integer, CONSTRAINT is_strict CHECK (strict(id))); INSERT INTO bad VALUES (1), (2);
         CREATE OR REPLACE FUNCTION strict(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 1';
         CREATE TABLE bad_index (v integer); INSERT INTO bad_index VALUES (1), (0);
         CREATE FUNCTION inverse(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE INDEX by_inverse ON bad_index (inverse(v));
         CREATE OR REPLACE FUNCTION inverse(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1 / $1'",
    );
    database
}

#[test]
fn the_first_error_stops_with_statement_object_and_message() {
    let Some(server) = any_server() else { return };
    let source = broken(&server, "first");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("first_r");
    let done = repo.try_restore(&id, &target, &["-j", "1"]).expect(1);
    let done = done.says(&[
        "stopped at the first error",
        "statement: ",
        "--continue-on-error",
    ]);
    let rows = done.stderr.contains("rows of public.bad")
        && done.stderr.contains("is_strict")
        && done.stderr.contains("COPY \"public\".\"bad\"");
    let index = done.stderr.contains("INDEX public.by_inverse")
        && done.stderr.contains("division by zero")
        && done.stderr.contains("CREATE INDEX");
    assert!(rows || index, "{}", done.stderr);
}

#[test]
fn continue_on_error_restores_the_rest_and_lists_what_failed() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = broken(&server, &format!("go_on_{version}"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("go_on_{version}_r"));
        let done = repo
            .try_restore(&id, &target, &["--continue-on-error", "--json"])
            .expect(3);
        let json = done.json();
        let failures = json["failures"].as_array().unwrap();
        let mut objects: Vec<&str> = failures
            .iter()
            .map(|f| f["object"].as_str().unwrap())
            .collect();
        objects.sort_unstable();
        assert_eq!(
            objects,
            ["INDEX public.by_inverse", "rows of public.bad"],
            "{json:#}"
        );
        assert!(
            failures
                .iter()
                .all(|f| !f["statement"].as_str().unwrap().is_empty()
                    && !f["error"].as_str().unwrap().is_empty())
        );
        // All the rest is there, rows of the same batch included.
        assert_eq!(target.sql("SELECT (SELECT count(*) FROM bad), (SELECT count(*) FROM bad_index), (SELECT count(*) FROM s.a), (SELECT count(*) FROM b)"), "0|2|100|50");
        source.sql("DELETE FROM bad; DROP INDEX by_inverse");
        assert_equal(&source, &target);
    }
}

#[test]
fn an_interrupted_restore_ends_at_once_and_leaves_no_session() {
    let Some(server) = any_server() else { return };
    let source = server.empty("interrupt");
    source.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS t FROM generate_series(1, 1000000) g; CREATE INDEX ON t (t); CREATE INDEX ON t (g)");
    // A restore that would take minutes.
    source.sql("CREATE FUNCTION slow(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(0); RETURN 1; END'; CREATE TABLE s (a integer); INSERT INTO s VALUES (1);
                CREATE INDEX ON s (slow(a)); CREATE OR REPLACE FUNCTION slow(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(300); RETURN 1; END'");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("interrupt_r");
    let mut command = repo.command(&server, &["restore", &id, "-d", &target.name, "-j", "2"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        target.name
    );
    let building = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE '%slow%' AND state = 'active' AND pid <> pg_backend_pid()",
        target.name
    );
    wait_until(|| server.psql("postgres", &["-c", &building]).trim() != "0");
    let began = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("interrupted") && stderr.contains("--clean"),
        "{stderr}"
    );
    wait_until(|| server.psql("postgres", &["-c", &sessions]).trim() == "0");
}

fn wait_until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}

// Commands -------------------------------------------------------------------------------------------------------------

#[test]
fn without_a_repository_every_command_ends_with_10() {
    let directory = tempfile::tempdir().unwrap();
    let repo = directory.path().join("none");
    let repo = repo.to_str().unwrap();
    for command in [
        &["dump", "--repo", repo, "-d", "x"][..],
        &["restore", "--repo", repo, "latest", "-d", "x"],
        &["snapshots", "--repo", repo],
        &["show", "--repo", repo, "latest"],
        &["list", "--repo", repo, "latest"],
        &["check", "--repo", repo],
    ] {
        let done = finish(pgtide(command)).expect(10);
        done.says(&["pgtide: ", repo]);
    }
}

#[test]
fn latest_is_an_error_where_there_are_several_sources() {
    let Some(server) = any_server() else { return };
    let (one, two) = (small(&server, "several_1"), small(&server, "several_2"));
    let repo = Repo::new();
    let first = repo.dump(&one, &[]);
    assert_eq!(
        repo.local(&["show", "latest", "--json"]).expect(0).json()["id"],
        first.as_str()
    );
    let second = repo.dump(&two, &["--tag", "nightly"]);
    repo.local(&["show", "latest"])
        .expect(1)
        .says(&[&one.name, &two.name, "latest:"]);
    let latest = format!("latest:{}", two.name);
    assert_eq!(
        repo.local(&["show", &latest, "--json"]).expect(0).json()["id"],
        second.as_str()
    );
    // Any beginning that only one snapshot has.
    let target = server.empty("several_r");
    repo.restore(&first[..12], &target, &[]);
    assert_equal(&one, &target);
    repo.local(&["show", "ffffffffffff"])
        .expect(1)
        .says(&["ffffffffffff"]);
    repo.local(&["show", "nonsense"])
        .expect(1)
        .says(&["nonsense"]);
}

#[test]
fn json_is_one_document_on_stdout_and_the_last_line_of_a_dump_is_its_id() {
    let Some(server) = any_server() else { return };
    let source = small(&server, "json");
    let repo = Repo::new();
    let done = repo.try_dump(&source, &[]).expect(0);
    let id = done.stdout.lines().last().unwrap().to_string();
    assert!(
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    let quiet = repo.try_dump(&source, &["-q"]).expect(0);
    assert_eq!(quiet.stdout.trim().len(), 64, "{}", quiet.stdout);
    assert_eq!(quiet.stderr, "");
    let dumped = repo
        .try_dump(&source, &["--json", "--tag", "a", "--tag", "b"])
        .expect(0);
    let json = dumped.json();
    assert_eq!(json["snapshot"]["source"]["database"], source.name.as_str());
    assert_eq!(json["snapshot"]["totals"]["added_blocks"], 0);
    assert_eq!(json["snapshot"]["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(dumped.stderr, "");
    let id = json["snapshot_id"].as_str().unwrap();
    let target = server.empty("json_r");
    let restored = repo.restore(id, &target, &["--json"]).json();
    assert_eq!(
        (
            restored["database"].as_str(),
            restored["rows"].as_u64(),
            restored["tables"].as_u64()
        ),
        (Some(&*target.name), Some(150), Some(2))
    );
    let snapshots = repo.local(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 3);
    let shown = repo.local(&["show", id, "--json"]).expect(0).json();
    assert_eq!(shown["tables"][0]["rows"], 50);
    let listed = repo.local(&["list", id, "--json"]).expect(0).json();
    assert!(
        listed["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|e| e["kind"] == "TABLE" && e["name"] == "b")
    );
    let checked = repo
        .local(&["check", "--json", "--read-data"])
        .expect(0)
        .json();
    assert_eq!(checked["problems"], serde_json::json!([]));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r");
    let init = finish(pgtide(&[
        "init",
        "--repo",
        path.to_str().unwrap(),
        "--json",
    ]));
    assert!(
        init.code == 0 && init.json().is_object() || init.code == 2,
        "{init:?}"
    );
}

#[test]
fn no_analyze_leaves_statistics_to_the_server() {
    let Some(server) = any_server() else { return };
    let source = small(&server, "analyze");
    source.sql("ALTER TABLE s.a SET (autovacuum_enabled = off)");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("analyze_r");
    repo.restore(&id, &target, &["--no-analyze"]);
    assert_eq!(
        target.sql("SELECT count(*) FROM pg_stats WHERE schemaname = 's'"),
        "0"
    );
}
