//! The schema of real databases: read through pg_dump, restored by our own statements, compared with pg_restore.
//!
//! Runs on the servers of `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/testbed`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgtide::pg::archive::{Archive, TocEntry};
use pgtide::pg::pg_dump::{ChildConnection, PgDump, PgDumpError, PgDumpKiller, SchemaRequest};
use pgtide::pg::{Connection, TransactionStatus, session_options, snapshot};
use pgtide::schema::graph::{Graph, Pass};
use pgtide::schema::list::list_line;
use pgtide::schema::statements::{
    RenderOptions, Renderer, is_privilege, is_setting, session_settings,
};
use pgtide::schema::store::{decode, encode};

mod common;

use common::session::settings;
use common::testbed::{Database, Server, conninfo, run};

/// Of this server's version.
fn pg_dump(server: &Server) -> PgDump {
    let command = server.program_name("DUMP", "pg_dump");
    PgDump::find(Some(&command), None, server.major() * 10_000).unwrap()
}

fn connection(database: &Database) -> ChildConnection {
    ChildConnection {
        env: database.server.env.clone(),
        conninfo: conninfo(&database.name),
    }
}

fn archive(database: &Database) -> Archive {
    let running = pg_dump(database.server)
        .schema(&connection(database), &SchemaRequest::default())
        .unwrap();
    running.wait().unwrap().0
}

/// The entries that make something, in the order of a serial restore.
fn serial(entries: &[TocEntry], with_database: bool) -> Vec<&TocEntry> {
    let graph = Graph::build(entries);
    let mut order: Vec<(Pass, usize)> =
        graph.pre.iter().map(|entry| (Pass::Main, *entry)).collect();
    // pg_restore has refreshes and event triggers in one pass; here the refreshes come first.
    let pass = |pass| {
        if pass == Pass::Refreshes {
            Pass::Last
        } else {
            pass
        }
    };
    let tasks = graph.tasks.iter();
    order.extend(tasks.map(|task| (pass(task.pass), task.entry)));
    if with_database {
        let pass = |entry: usize| {
            if is_privilege(&entries[entry]) {
                Pass::Privileges
            } else {
                Pass::Main
            }
        };
        order.extend(graph.database.iter().map(|entry| (pass(*entry), *entry)));
    }
    order.sort_unstable();
    order
        .into_iter()
        .map(|(_, entry)| &entries[entry])
        .collect()
}

fn rendered(entries: &[&TocEntry], options: RenderOptions) -> String {
    let mut renderer = Renderer::new(options);
    let statements = entries.iter().flat_map(|entry| renderer.statements(entry));
    statements
        .map(|statement| statement.to_str().unwrap().to_string() + "\n")
        .collect()
}

/// Without comments, empty lines, psql's commands and the session's settings.
fn bare(sql: &str) -> Vec<String> {
    let ours = |line: &&str| {
        !(line.is_empty()
            || line.starts_with("--")
            || line.starts_with('\\')
            || line.starts_with("SELECT pg_catalog.set_config('search_path'")
            || (line.starts_with("SET ") && !line.starts_with("SET default_")))
    };
    let lines = sql.lines().map(str::trim_end).filter(ours);
    // pg_restore 15 says TABLE whatever the relation is; newer ones, and we, say what it is.
    let owner = |line: &str| match line.strip_prefix("ALTER ") {
        Some(rest) if line.contains(" OWNER TO ") => {
            let kinds = ["VIEW ", "SEQUENCE ", "MATERIALIZED VIEW "];
            let name = kinds.iter().find_map(|kind| rest.strip_prefix(kind));
            name.map(|name| format!("ALTER TABLE {name}"))
        }
        _ => None,
    };
    lines
        .map(|line| owner(line).unwrap_or_else(|| line.to_string()))
        .collect()
}

fn assert_same<A: AsRef<str>, B: AsRef<str>>(left: &[A], right: &[B], what: &str) {
    for (number, (a, b)) in left.iter().zip(right).enumerate() {
        assert_eq!(a.as_ref(), b.as_ref(), "{what}: line {number}");
    }
    assert_eq!(left.len(), right.len(), "{what}");
}

fn pg_restore(server: &Server, archive: &Path, arguments: &[&str]) -> String {
    let mut command = server.program("RESTORE", "pg_restore");
    command.args(arguments).arg(archive);
    run(command)
}

fn statements_are_those_of_pg_restore(version: &'static str) {
    let Some(server) = Server::find(version) else {
        return;
    };
    let database = server.rich(&format!("schema_rich_{version}"));
    database.psql(&[
        "-c",
        &format!(
            "ALTER DATABASE {0} SET work_mem = '7MB'; COMMENT ON DATABASE {0} IS 'rich'; \
        GRANT TEMPORARY ON DATABASE {0} TO pgtide_writer; ALTER DATABASE {0} OWNER TO pgtide_owner",
            database.name
        ),
    ]);

    // Not in the file, because a database with a subscription cannot just be dropped.
    database.psql(&[
        "-c",
        "CREATE SUBSCRIPTION nothing_comes CONNECTION 'host=nowhere dbname=x' PUBLICATION some_tables \
         WITH (connect = false, slot_name = NONE)",
    ]);

    let entries = archive(&database).entries;
    let kinds: HashMap<&str, usize> = entries.iter().fold(HashMap::new(), |mut kinds, entry| {
        *kinds.entry(entry.desc.as_str()).or_default() += 1;
        kinds
    });
    for (kind, least) in [
        ("DATABASE", 1),
        ("DATABASE PROPERTIES", 1),
        ("MATERIALIZED VIEW DATA", 3),
        ("ACL", 50),
        ("COMMENT", 30),
    ] {
        assert!(
            kinds.get(kind).is_some_and(|count| *count >= least),
            "{kind}: {kinds:?}"
        );
    }
    for kind in [
        "TABLE DATA",
        "SEQUENCE SET",
        "BLOB",
        "BLOBS",
        "BLOB METADATA",
    ] {
        assert!(!kinds.contains_key(kind), "{kind}: {kinds:?}");
    }

    // The same archive in a file, for pg_restore.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("archive");
    let mut command = server.program("DUMP", "pg_dump");
    command.args([
        "--section=pre-data",
        "--section=post-data",
        "--no-blobs",
        "-C",
        "-Fc",
        "-d",
        &conninfo(&database.name),
    ]);
    command.stdout(std::fs::File::create(&file).unwrap());
    run(command);
    let from_file = Archive::read(std::fs::File::open(&file).unwrap()).unwrap();
    // The numbers differ between two runs when the catalogs were analyzed in between; what is stored may not.
    assert_eq!(encode(&from_file.entries), encode(&entries));
    let entries = from_file.entries;

    let expected = pg_restore(&server, &file, &["-C", "-f", "-"]);
    let all = serial(&entries, true);
    assert_same(
        &bare(&rendered(&all, RenderOptions::default())),
        &bare(&expected),
        "statements",
    );

    let expected = pg_restore(&server, &file, &["-O", "-x", "--no-tablespaces", "-f", "-"]);
    let options = RenderOptions {
        no_owner: true,
        no_privileges: true,
        no_tablespaces: true,
        ..RenderOptions::default()
    };
    assert_same(
        &bare(&rendered(&serial(&entries, false), options)),
        &bare(&expected),
        "without owners",
    );

    let list = pg_restore(&server, &file, &["-C", "-l"]);
    let expected: Vec<&str> = list.lines().filter(|line| !line.starts_with(';')).collect();
    let lines: Vec<String> = entries
        .iter()
        .filter(|entry| !is_setting(entry))
        .map(|entry| list_line(entry).to_string())
        .collect();
    assert_same(&lines, &expected, "list");

    // Stored and read again, it is the same schema under other numbers.
    let (items, order) = encode(&entries);
    let again = decode(items, &order).unwrap();
    assert_eq!(
        rendered(&serial(&again, true), RenderOptions::default()),
        rendered(&all, RenderOptions::default())
    );
    let (items, order) = encode(&again);
    assert_eq!(decode(items, &order).unwrap(), again);

    // And it restores.
    let copy = server.empty(&format!("schema_copy_{version}"));
    let mut sql: String = session_settings(&entries)
        .iter()
        .map(|(name, value)| format!("SET {name} = '{value}';\n"))
        .collect();
    sql.push_str(&rendered(
        &serial(&entries, false),
        RenderOptions::default(),
    ));
    let script = directory.path().join("script");
    std::fs::write(&script, sql).unwrap();
    copy.psql(&["-f", script.to_str().unwrap()]);
    let (source, target) = (database.plain_schema(), copy.plain_schema());
    assert_same(
        &target.lines().collect::<Vec<_>>(),
        &source.lines().collect::<Vec<_>>(),
        "pg_dump -s",
    );
}

#[test]
fn statements_are_those_of_pg_restore_15() {
    statements_are_those_of_pg_restore("15");
}

#[test]
fn statements_are_those_of_pg_restore_17() {
    statements_are_those_of_pg_restore("17");
}

#[test]
fn statements_are_those_of_pg_restore_18() {
    statements_are_those_of_pg_restore("18");
}

#[test]
fn bytes_of_other_encodings_survive() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        for encoding in ["LATIN1", "SQL_ASCII"] {
            let database = server.database(
                &format!("{encoding}_{version}"),
                &format!("ENCODING '{encoding}' LOCALE 'C'"),
            );
            // Whatever encoding the server takes this for, the byte is the same.
            let create = "SELECT format('CREATE TABLE public.%I (a integer)', 'caf' || \
                          convert_from(decode('e9', 'hex'), getdatabaseencoding())) \\gexec";
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(
                file.path(),
                format!("SET client_encoding = '{encoding}';\n{create}\n"),
            )
            .unwrap();
            database.psql(&["-f", file.path().to_str().unwrap()]);
            let entries = archive(&database).entries;
            let table = entries.iter().find(|entry| entry.desc == "TABLE").unwrap();
            assert_eq!(table.tag.as_bytes(), b"caf\xe9");
            assert!(
                table
                    .defn
                    .as_bytes()
                    .windows(4)
                    .any(|bytes| bytes == b"caf\xe9")
            );
            let settings = session_settings(&entries);
            assert!(settings.contains(&("client_encoding".to_string(), encoding.to_string())));
        }
    }
}

/// Waits until a query of one value answers as expected.
fn eventually(database: &Database, query: &str, expected: &str) {
    let start = Instant::now();
    loop {
        let answer = database.psql(&["-c", query]);
        if answer.trim() == expected {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{query}: {answer}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_lock_is_waited_for_no_longer_than_allowed_and_a_killed_dump_leaves_no_session() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let database = server.database(&format!("locked_{version}"), "");
        database.psql(&["-c", "CREATE TABLE t ()"]);
        let hold = "BEGIN; LOCK TABLE t; SELECT pg_sleep(60)";
        let mut command = server.psql_command(&database.name, &["-c", hold]);
        let mut holder = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually(
            &database,
            "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND granted",
            "1",
        );

        let request = SchemaRequest {
            lock_wait_timeout: Some(Duration::from_millis(200)),
            ..Default::default()
        };
        let error = pg_dump(&server)
            .schema(&connection(&database), &request)
            .unwrap()
            .wait()
            .unwrap_err();
        assert!(error.is_lock_timeout(), "{error}");

        let running = pg_dump(&server)
            .schema(&connection(&database), &SchemaRequest::default())
            .unwrap();
        let dumps = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND \
                     datname = current_database() AND wait_event_type = 'Lock'";
        eventually(&database, dumps, "1");
        let killer = running.killer();
        killer.kill();
        let error = running.wait().unwrap_err();
        assert!(matches!(error, PgDumpError::Failed { .. }), "{error}");
        eventually(&database, dumps, "0");
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}

#[test]
fn a_snapshot_is_used_and_a_bad_one_is_an_error() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = server.database("a 'b' = \"c", "");
    let request = SchemaRequest {
        snapshot: Some("00000003-0000001B-1".into()),
        ..Default::default()
    };
    let error = pg_dump(&server)
        .schema(&connection(&database), &request)
        .unwrap()
        .wait()
        .unwrap_err();
    assert!(error.to_string().contains("snapshot"), "{error}");
    assert!(!error.is_lock_timeout());
    assert!(!archive(&database).entries.is_empty());
}

/// Everything about a session that `pg_dump` could leave behind.
fn state(conn: &mut Connection) -> Vec<Option<String>> {
    let sql = "SELECT
        (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_catalog.pg_settings),
        (SELECT string_agg(relation::pg_catalog.regclass || ' ' || mode, ' ' ORDER BY relation, mode)
           FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation'),
        (SELECT count(*)::text FROM pg_catalog.pg_prepared_statements),
        pg_catalog.pg_current_snapshot()::text";
    let rows = conn.query(sql).unwrap();
    assert_eq!(conn.transaction_status(), TransactionStatus::Open);
    let mut found: Vec<Option<String>> =
        (0..4).map(|n| rows[0].get(n).map(str::to_owned)).collect();
    for name in ["client_encoding", "DateStyle", "search_path"] {
        found.push(conn.parameter(name).map(str::to_owned));
    }
    found
}

#[test]
fn pg_dump_in_a_session_of_ours_sees_its_snapshot_and_leaves_it_as_it_was() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let database = server.rich(&format!("within_{version}"));
        database.sql("CREATE VIEW public.blocked AS SELECT 1 AS one");
        let settings = settings(&database);
        let mut conn = settings.connect(&session_options()).unwrap();
        conn.execute("SET lock_timeout = 12345; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .unwrap();
        let rows = conn.query("SELECT pg_catalog.pg_export_snapshot()");
        let id = rows.unwrap()[0].get(0).unwrap().to_owned();
        // The first look takes locks of its own.
        state(&mut conn);
        let before = state(&mut conn);
        let own = archive(&database);
        database.sql("CREATE TABLE public.made_since (id int)");
        let import = || {
            let mut other = settings.connect(&session_options()).unwrap();
            snapshot::import(&mut other, std::slice::from_ref(&id)).unwrap();
        };

        let request = SchemaRequest {
            lock_wait_timeout: Some(Duration::from_secs(10)),
            extra: vec!["--encoding=UTF8".to_owned()],
            ..Default::default()
        };
        let (within, said) = pg_dump(&server)
            .schema_within(&mut conn, &settings, &request, |_| import())
            .unwrap();
        assert_eq!(said, "");
        let late = |entry: &TocEntry| list_line(entry).to_lossy().contains("made_since");
        assert!(!within.entries.iter().any(late));
        let entries = |archive: &Archive| -> Vec<String> {
            let text = |entry: &TocEntry| format!("{:?} {:?}", entry.tag, entry.defn);
            archive.entries.iter().map(text).collect()
        };
        assert_eq!(entries(&within), entries(&own));
        assert_eq!(state(&mut conn), before);
        import();

        // It meets an error of the server's, which would end a transaction without a savepoint.
        let wrong = SchemaRequest {
            extra: vec!["--role=nobody_of_that_name".to_owned()],
            ..Default::default()
        };
        let error = pg_dump(&server)
            .schema_within(&mut conn, &settings, &wrong, |_| {})
            .unwrap_err();
        assert!(error.to_string().contains("nobody_of_that_name"), "{error}");
        assert_eq!(state(&mut conn), before);

        let quoting = SchemaRequest {
            extra: vec!["--quote-all-identifiers".to_owned()],
            ..Default::default()
        };
        // It is killed while the server works for it.
        let mut other = settings.connect(&session_options()).unwrap();
        other
            .execute("BEGIN; ALTER VIEW public.blocked SET (security_barrier)")
            .unwrap();
        std::thread::scope(|scope| {
            let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'public.blocked'::regclass AND NOT granted";
            let database = &database;
            let started = |killer: PgDumpKiller| {
                scope.spawn(move || {
                    eventually(database, waits, "1");
                    killer.kill();
                });
            };
            let began = Instant::now();
            let error = pg_dump(&server)
                .schema_within(&mut conn, &settings, &quoting, started)
                .unwrap_err();
            assert!(matches!(error, PgDumpError::Failed { .. }), "{error}");
            assert!(began.elapsed() < Duration::from_secs(10), "it hung");
        });
        assert_eq!(state(&mut conn), before);
        import();
    }
}
