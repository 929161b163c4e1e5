//! `pgtide compare` finds every difference between two databases, and none where there is none.
//!
//! Runs on the servers of `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/testbed`.

mod common;

use common::program::{Done, Repo, finish, pgtide};
use common::testbed::{Database, Server, conninfo, quoted};
use common::timescale::chunks;

const VERSIONS: [&str; 3] = ["15", "17", "18"];

fn servers() -> impl Iterator<Item = Server> {
    VERSIONS.into_iter().filter_map(Server::find)
}

/// Where a database is, in one string.
fn address(database: &Database) -> String {
    let env = |wanted: &str| {
        let mut env = database.server.env.iter();
        let value = env.find(|(name, _)| name == wanted);
        value.map(|(_, value)| value.clone())
    };
    let mut address = conninfo(&database.name);
    for (key, name) in [
        ("host", "PGHOST"),
        ("port", "PGPORT"),
        ("user", "PGUSER"),
        ("password", "PGPASSWORD"),
    ] {
        if let Some(value) = env(name) {
            address.push_str(&format!(" {key}='{value}'"));
        }
    }
    address
}

fn compare(source: &Database, target: &Database, options: &[&str]) -> Done {
    let (a, b) = (address(source), address(target));
    let mut command = pgtide(&["compare", "--source", &a, "--target", &b]);
    command.args(options);
    let newer = if source.server.major() > target.server.major() {
        source
    } else {
        target
    };
    command.env("PATH", &newer.server.path);
    command.env_remove("PGTIDE_PG_DUMP");
    finish(command)
}

/// Both say that they are equal, whatever is asked.
#[track_caller]
fn assert_equal(source: &Database, target: &Database) -> serde_json::Value {
    let done = compare(source, target, &["--rows"]).expect(0);
    assert!(done.stdout.ends_with("\nequal\n"), "{}", done.stdout);
    let json = compare(source, target, &["--json", "-j", "1"])
        .expect(0)
        .json();
    assert_eq!(json["equal"], true);
    assert_eq!(json["source"]["rows"], json["target"]["rows"]);
    json
}

/// A copy within the server. Nobody else may be at the source meanwhile, no worker of an extension either.
fn copy<'s>(source: &Database<'s>, name: &str) -> Database<'s> {
    let copy = source.server.no_database(name);
    let (from, to) = (quoted(&source.name), quoted(&copy.name));
    let close = format!("ALTER DATABASE {from} ALLOW_CONNECTIONS false");
    let end = format!(
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = '{}'",
        source.name
    );
    let create = format!("CREATE DATABASE {to} TEMPLATE {from}");
    let open = format!("ALTER DATABASE {from} ALLOW_CONNECTIONS true");
    let statements = [&close, &end, &create, &open];
    let statements = statements.iter().flat_map(|sql| ["-c", sql.as_str()]);
    source
        .server
        .psql("postgres", &statements.collect::<Vec<_>>());
    copy
}

#[test]
fn what_a_restore_brought_back_is_equal() {
    for server in servers() {
        let source = server.rich(&format!("cmp_rich_{}", server.version));
        let target = server.empty(&format!("cmp_rich_{}_r", server.version));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        repo.restore(&id, &target, &[]);
        let json = assert_equal(&source, &target);
        let tables = json["tables"].as_array().unwrap();
        let kinds: std::collections::BTreeSet<&str> =
            tables.iter().map(|t| t["kind"].as_str().unwrap()).collect();
        assert_eq!(
            Vec::from_iter(kinds),
            ["large_object_properties", "large_objects", "table"]
        );
        assert!(
            tables.len() > 20 && json["source"]["rows"].as_u64().unwrap() > 1000,
            "{json}"
        );
        assert!(json["source"]["objects"].as_u64().unwrap() > 100);
    }
}

/// A small database with something of most kinds.
fn small<'s>(server: &'s Server, name: &str) -> Database<'s> {
    let database = server.empty(name);
    database.sql(
        "CREATE TABLE t (id integer PRIMARY KEY, v text, n integer DEFAULT 1); CREATE INDEX t_v ON t (v);
         INSERT INTO t SELECT g, CASE WHEN g <> 7 THEN 'v' || g ELSE '' END FROM generate_series(1, 2000) g;
         CREATE TABLE d (a integer, b text); INSERT INTO d VALUES (1, 'one'), (1, 'one'), (2, 'two'), (2, 'two');
         CREATE TABLE p (k integer, v text) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (50);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (50) TO (100); INSERT INTO p SELECT g, 'p' || g FROM generate_series(0, 99) g;
         CREATE VIEW w AS SELECT id FROM t; CREATE SEQUENCE q; COMMENT ON TABLE t IS 'of t';
         SELECT lo_from_bytea(7, 'content'); COMMENT ON LARGE OBJECT 7 IS 'of 7'",
    );
    database
}

#[test]
fn every_kind_of_difference_is_found_and_named() {
    // What is done at the target, what stdout says of it, and how it ends.
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "UPDATE t SET v = 'x' WHERE id = 5",
            &[
                "M public.t  2,000 rows",
                "\n    - id = 5, v = v5, n = 1\n    + id = 5, v = x, n = 1\n",
            ],
            "1 table",
        ),
        (
            "DELETE FROM t WHERE id = 6",
            &["M public.t  2,000 | 1,999 rows\n    - id = 6, v = v6, n = 1\n\n"],
            "1 table",
        ),
        (
            "INSERT INTO t VALUES (3000, 'it''s new')",
            &["M public.t  2,000 | 2,001 rows\n    + id = 3000, v = 'it''s new', n = 1\n\n"],
            "1 table",
        ),
        (
            "UPDATE t SET v = NULL WHERE id = 7",
            &["\n    - id = 7, v = '', n = 1\n    + id = 7, v = NULL, n = 1\n\n"],
            "1 table",
        ),
        (
            "DELETE FROM d WHERE ctid = (SELECT min(ctid) FROM d WHERE a = 1); INSERT INTO d VALUES (2, 'two')",
            &["M public.d  4 rows\n    - a = 1, b = one\n    + a = 2, b = two\n\n"],
            "1 table",
        ),
        (
            "INSERT INTO d VALUES (9, NULL), (9, NULL)",
            &["\n    + a = 9, b = NULL  (2 times)\n\n"],
            "1 table",
        ),
        (
            "UPDATE p SET v = 'x' WHERE k = 60",
            &["M public.p2  50 rows\n    - k = 60, v = p60\n    + k = 60, v = x\n\n"],
            "1 table",
        ),
        (
            "DROP INDEX t_v",
            &["\n- INDEX public.t_v\n"],
            "1 definition",
        ),
        (
            "ALTER TABLE t ALTER n SET DEFAULT 2",
            &["\nM TABLE public.t, line 4\n    - n integer DEFAULT 1\n    + n integer DEFAULT 2\n"],
            "1 definition",
        ),
        (
            "ALTER TABLE t OWNER TO pg_monitor",
            &[
                "\nM TABLE public.t, line",
                "    - -- Owner: ",
                "    + -- Owner: pg_monitor\n",
            ],
            "1 definition",
        ),
        (
            "GRANT SELECT ON t TO PUBLIC",
            &["\n+ ACL public.TABLE t\n"],
            "1 definition",
        ),
        (
            "COMMENT ON TABLE t IS 'other'",
            &[
                "\nM COMMENT public.TABLE t, line 1\n    - COMMENT ON TABLE public.t IS 'of t';\n    + COMMENT ON TABLE public.t IS 'other';\n",
            ],
            "1 definition",
        ),
        (
            "CREATE OR REPLACE VIEW w AS SELECT id + 0 AS id FROM t",
            &["\nM VIEW public.w, line"],
            "1 definition",
        ),
        (
            "SELECT nextval('q')",
            &["\nM public.q: 1, not yet given | 1\n"],
            "1 sequence",
        ),
        (
            "SELECT setval('q', 77)",
            &["\nM public.q: 1, not yet given | 77\n"],
            "1 sequence",
        ),
        (
            "SELECT lo_put(7, 3, 'T')",
            &[
                "\nM (large objects)  1 row\n    - loid = 7, pageno = 0, data = '\\x636f6e74656e74'\n    + loid = 7, pageno = 0, data = '\\x636f6e54656e74'\n",
            ],
            "1 table",
        ),
        (
            "COMMENT ON LARGE OBJECT 7 IS 'other'",
            &[
                "\nM (properties of large objects)  1 row\n    - oid = 7, owner = ",
                "comment = 'of 7'",
                "comment = other",
            ],
            "1 table",
        ),
        (
            "CREATE TABLE more (a integer); INSERT INTO more VALUES (1)",
            &["\n+ TABLE public.more\n", "\n+ public.more  1 row\n"],
            "1 definition, 1 table",
        ),
        (
            "DROP TABLE d",
            &["\n- TABLE public.d\n", "\n- public.d  4 rows\n"],
            "1 definition, 1 table",
        ),
        (
            "ALTER TABLE d RENAME a TO c",
            &[
                "\nM TABLE public.d, line",
                "\nM public.d  4 rows\n    column a is only at the source\n    column c is only at the target\n",
            ],
            "1 definition, 1 table",
        ),
    ];
    for server in servers() {
        let source = small(&server, &format!("cmp_each_{}", server.version));
        for (number, (change, says, counts)) in cases.iter().enumerate() {
            let target = copy(&source, &format!("cmp_each_{}_{number}", server.version));
            target.sql(change);
            let done = compare(&source, &target, &["--rows", "-j", "2"]).expect(20);
            for text in *says {
                assert!(
                    done.stdout.contains(text),
                    "{change}: {text:?} is not in:\n{}",
                    done.stdout
                );
            }
            let verdict = format!("\ndifferent: {counts}\n");
            assert!(
                done.stdout.ends_with(&verdict),
                "{change}:\n{}",
                done.stdout
            );
            let quiet = compare(&target, &source, &["-q"]).expect(20);
            assert!(
                quiet.stdout.ends_with(&verdict),
                "{change}:\n{}",
                quiet.stdout
            );
        }
        let target = copy(&source, &format!("cmp_each_{}_same", server.version));
        assert_equal(&source, &target);
    }
}

#[test]
fn rows_are_compared_wherever_they_stand() {
    // What is done at the target; the definitions that differ. The rows are the same.
    let cases: &[(&str, &str)] = &[
        // Another order of columns, and of rows.
        (
            "ALTER TABLE t RENAME v TO old; ALTER TABLE t ADD v text; UPDATE t SET v = old; ALTER TABLE t DROP old; CREATE INDEX t_v ON t (v)",
            "public.t",
        ),
        // Other types of the same text.
        (
            "ALTER TABLE t ALTER n TYPE bigint, ALTER v TYPE varchar(100)",
            "public.t",
        ),
        // Other partitions.
        (
            "CREATE TABLE pa (LIKE p); INSERT INTO pa SELECT * FROM p; DROP TABLE p1, p2; ALTER TABLE p ATTACH PARTITION pa FOR VALUES FROM (0) TO (100)",
            "public.p",
        ),
        (
            "CREATE TABLE o (LIKE p); INSERT INTO o SELECT * FROM p; DROP TABLE p; ALTER TABLE o RENAME TO p",
            "public.p",
        ),
    ];
    for server in servers() {
        let source = small(&server, &format!("cmp_where_{}", server.version));
        for (number, (change, table)) in cases.iter().enumerate() {
            let target = copy(&source, &format!("cmp_where_{}_{number}", server.version));
            target.sql(change);
            let json = compare(&source, &target, &["--json", "--rows"])
                .expect(20)
                .json();
            let tables = json["tables"].as_array().unwrap();
            let find = |name: &str| tables.iter().find(|t| t["name"] == name);
            let found = find(table).unwrap_or_else(|| panic!("{change}: {json}"));
            assert!(
                found["source"]["rows"].as_u64().unwrap() >= 100,
                "{change}: {found}"
            );
            assert!(
                tables.iter().all(|t| t["equal"] == true),
                "{change}: {json}"
            );
            assert_ne!(json["schema"].as_array().unwrap().len(), 0, "{change}");
            // Without definitions there is nothing to tell.
            compare(&source, &target, &["-a", "-q"]).expect(0);
            // And one value more that differs is found there, too.
            let name = table.trim_start_matches("public.");
            target.sql(&format!(
                "UPDATE {name} SET v = 'other' WHERE v = '{}'",
                if name == "t" { "v9" } else { "p9" }
            ));
            let done = compare(&source, &target, &["-a", "--rows"]).expect(20);
            assert!(
                done.stdout.contains("v = other"),
                "{change}: {}",
                done.stdout
            );
            assert!(
                done.stdout.ends_with("different: 1 table\n"),
                "{change}: {}",
                done.stdout
            );
        }
    }
}

#[test]
fn traces_of_cuts_in_large_objects_are_no_difference_but_lengths_are() {
    for server in servers() {
        let source = server.empty(&format!("cmp_lo_{}", server.version));
        let cut = |database: &Database, object: i32, bytes: i32, to: i32| {
            database.sql(&format!(
                "SELECT lo_from_bytea({object}, pg_catalog.convert_to(repeat('x', {bytes}), 'UTF8')); BEGIN; SELECT lo_truncate(lo_open({object}, x'60000'::int), {to}); COMMIT"
            ));
        };
        cut(&source, 1, 3000, 2048);
        cut(&source, 2, 100, 4096);
        let target = server.empty(&format!("cmp_lo_{}_r", server.version));
        target.sql("SELECT lo_from_bytea(1, convert_to(repeat('x', 2048), 'UTF8'))");
        cut(&target, 2, 100, 4096);
        let traces =
            "SELECT string_agg(loid::text, ' ' ORDER BY loid) FROM pg_largeobject WHERE data = ''";
        assert_eq!(
            (source.sql(traces), target.sql(traces)),
            ("1 2".to_owned(), "2".to_owned())
        );
        assert_equal(&source, &target);
        target.sql(
            "SELECT lo_unlink(2); SELECT lo_from_bytea(2, convert_to(repeat('x', 100), 'UTF8'))",
        );
        compare(&source, &target, &[]).expect(20);
    }
}

#[test]
fn rows_that_differ_are_named_exactly_however_many_there_are() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let source = server.empty("cmp_many");
    source.sql(
        "CREATE TABLE t (v text, a integer, b text, PRIMARY KEY (b, a)); INSERT INTO t SELECT 'v' || g, g, 'k' || g % 7 FROM generate_series(1, 100000) g;
         CREATE TABLE wide (id integer PRIMARY KEY, v text, w bytea); INSERT INTO wide SELECT g, repeat('x', 20000000), '\\x00' FROM generate_series(1, 3) g",
    );
    let target = copy(&source, "cmp_many_r");
    target.sql("UPDATE t SET v = 'changed' WHERE a % 10000 = 1; DELETE FROM t WHERE a = 5; UPDATE wide SET v = left(v, -1) || 'y' WHERE id = 2");
    let json = compare(&source, &target, &["--rows=100", "--json"])
        .expect(20)
        .json();
    let tables = json["tables"].as_array().unwrap();
    let rows = |name: &str| &tables.iter().find(|t| t["name"] == name).unwrap()["rows"];
    let differing = rows("public.t");
    assert_eq!(differing["complete"], true);
    assert_eq!(differing["key"], serde_json::json!(["b", "a"]));
    let mut expected: Vec<(String, i32, &str, String)> =
        vec![("k5".into(), 5, "source", "v5".into())];
    for a in (1..100_000).step_by(10_000) {
        expected.push((format!("k{}", a % 7), a, "source", format!("v{a}")));
        expected.push((format!("k{}", a % 7), a, "target", "changed".to_owned()));
    }
    expected.sort();
    let expected: Vec<serde_json::Value> = expected
        .into_iter()
        .map(|(b, a, side, v)| serde_json::json!({"side": side, "times": 1, "values": [["b", b], ["a", a.to_string()], ["v", v]]}))
        .collect();
    assert_eq!(differing["rows"], serde_json::Value::Array(expected));
    let wide = rows("public.wide");
    let shown = wide["rows"].as_array().unwrap();
    assert_eq!(shown.len(), 2, "{wide}");
    let text = |n: usize| shown[n]["values"][1][1].as_str().unwrap();
    assert_eq!(shown[0]["values"][0], serde_json::json!(["id", "2"]));
    assert!(
        text(0).contains("20000000 bytes") && text(0) != text(1),
        "{wide}"
    );

    // More than are shown: as many keys as asked for, each with both of its rows.
    target.sql("UPDATE t SET v = 'changed'");
    let json = compare(&source, &target, &["--rows=6", "--json", "-t", "t"])
        .expect(20)
        .json();
    let differing = &json["tables"][0]["rows"];
    let shown = differing["rows"].as_array().unwrap();
    assert_eq!(
        (shown.len(), &differing["complete"]),
        (6, &serde_json::json!(false))
    );
    for pair in shown.chunks(2) {
        assert_eq!(
            (&pair[0]["side"], &pair[1]["side"]),
            (&"source".into(), &"target".into()),
            "{json}"
        );
        let key = |row: &serde_json::Value| row["values"].as_array().unwrap()[..2].to_vec();
        assert_eq!(key(&pair[0]), key(&pair[1]), "{json}");
    }
    assert!(differing["at_least"].as_u64().unwrap() > 10_000, "{json}");
}

#[test]
fn databases_of_other_servers_and_encodings_can_be_equal() {
    let (Some(old), Some(new)) = (Server::find("15"), Server::find("18")) else {
        return;
    };
    let make = |server, name: &str, options: &str| {
        let server: &Server = server;
        let database = server.database(name, options);
        database.sql(
            "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a integer, m mood[]);
             CREATE TABLE t (id integer PRIMARY KEY, v text, x xml, m mood[], p pair, at timestamptz DEFAULT '2025-01-01', f float8, n numeric, r int4range);
             INSERT INTO t SELECT g, U&'Gr\\00F6\\00DFe ' || g, '<a/>', '{sad,glad}', ROW(g, '{glad}'::mood[])::pair, timestamptz '2025-01-01' + g * interval '1 hour', g / 3.0, g / 7.0, int4range(g, g + 5) FROM generate_series(1, 500) g",
        );
        database
    };
    let utf8 = "ENCODING 'UTF8' LOCALE 'C.UTF-8'";
    let latin = "ENCODING 'LATIN1' LOCALE 'C'";
    let a = make(&old, "cmp_over_15", utf8);
    let b = make(&new, "cmp_over_18", utf8);
    let c = make(&old, "cmp_over_latin", latin);
    assert_equal(&a, &b);
    assert_equal(&a, &c);
    c.sql("UPDATE t SET v = U&'Gro\\00DFe 9' WHERE id = 9");
    let done = compare(&c, &b, &["--rows"]).expect(20);
    assert!(
        done.stdout.contains("- id = 9, v = 'Große 9'"),
        "{}",
        done.stdout
    );
}

#[test]
fn only_what_is_chosen_is_compared() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let source = small(&server, "cmp_select");
    let target = copy(&source, "cmp_select_r");
    target.sql("UPDATE t SET v = 'x' WHERE id = 5; DROP INDEX t_v; SELECT lo_unlink(7); SELECT setval('q', 9)");
    for (options, code) in [
        (&["-t", "d"][..], 0),
        (&["-t", "t"], 20),
        (&["-T", "t", "-B", "-a"], 20),
        (&["-T", "t", "-T", "q", "-B", "-a"], 0),
        (&["-t", "t", "-s"], 20),
        (&["-t", "public.p*", "-s"], 0),
        (&["-a", "-t", "t", "--where", "t: id <> 5"], 0),
        (&["-a", "-t", "t", "--where", "t: id = 5"], 20),
        (&["-a", "-t", "t", "--exclude-table-data", "t"], 0),
    ] {
        compare(&source, &target, &[options, &["-q"]].concat()).expect(code);
    }
}

#[test]
fn what_a_role_may_not_see_is_not_called_equal() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let role = format!("pgtide_cmp_{}", std::process::id());
    server.psql(
        "postgres",
        &[
            "-c",
            &format!("CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data"),
        ],
    );
    {
        let source = small(&server, "cmp_rls");
        source.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY");
        let target = copy(&source, "cmp_rls_r");
        let (a, b) = (
            address(&source),
            format!("{} user={role}", address(&target)),
        );
        let run = |options: &[&str]| {
            let mut command = pgtide(&["compare", "--source", &a, "--target", &b, "-B"]);
            command.args(options).env("PATH", &server.path);
            finish(command)
        };
        let done = run(&[])
            .expect(3)
            .says(&["not compared: the rows of public.t: the target does not give them"]);
        assert!(done.stdout.ends_with("not compared\n"), "{}", done.stdout);
        run(&["-T", "t"]).expect(0);
    }
    server.psql("postgres", &["-c", &format!("DROP ROLE {role}")]);
}

#[test]
fn a_comparison_that_cannot_be_made_says_why() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let source = small(&server, "cmp_fail");
    let (a, gone) = (address(&source), server.no_database("cmp_gone"));
    let run = |target: &str| {
        let mut command = pgtide(&["compare", "--source", &a, "--target", target]);
        command.env("PATH", &server.path);
        finish(command)
    };
    run(&address(&gone))
        .expect(1)
        .says(&["the target: ", "does not exist"]);
    run("host=127.0.0.1 nonsense=1").expect(2);
    finish(pgtide(&["compare", "--source", &a]))
        .expect(2)
        .says(&["--target"]);
}

#[test]
fn hypertables_are_equal_whatever_their_chunks_are_called() {
    for version in ["17", "18"] {
        let Some(server) = Server::with_timescale(version) else {
            continue;
        };
        let make = |name: &str, before: &str| {
            let database = server.empty(name);
            database.sql("CREATE EXTENSION timescaledb");
            database.sql(&format!(
                "CREATE TABLE metrics (at timestamptz NOT NULL, device integer NOT NULL, v float8, PRIMARY KEY (at, device)); {before}
                 SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
                 INSERT INTO metrics SELECT '2025-01-01 00:00:00+00'::timestamptz + g * interval '7 minutes', g % 10, g FROM generate_series(0, 5000) g"
            ));
            database
        };
        let source = make(&format!("cmp_ts_{version}"), "");
        let target = server.empty(&format!("cmp_ts_{version}_r"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        repo.restore(&id, &target, &[]);
        let json = assert_equal(&source, &target);
        assert_eq!(json["source"]["hypertables"], 1);
        assert_eq!(
            json["tables"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|t| t["kind"] == "table")
                .count(),
            1
        );
        target.sql("UPDATE metrics SET v = -1 WHERE v = 4000");
        let done = compare(&source, &target, &["--rows"]).expect(20);
        for text in [
            "M public.metrics  5,001 rows",
            "device = 0, v = 4000",
            "device = 0, v = -1",
        ] {
            assert!(done.stdout.contains(text), "{text}: {}", done.stdout);
        }

        // Made by itself, its chunks have other numbers.
        let other = "CREATE TABLE gone (at timestamptz NOT NULL); SELECT create_hypertable('gone', 'at'); INSERT INTO gone VALUES (now()); DROP TABLE gone;";
        let apart = make(&format!("cmp_ts_{version}_a"), other);
        assert_ne!(chunks(&source, "metrics"), chunks(&apart, "metrics"));
        assert_equal(&source, &apart);
        let note = "note: chunks go by other names at the target (public.metrics)";
        compare(&source, &apart, &[]).expect(0).says(&[note]);
        let interval = |days: i32| {
            apart.sql(&format!(
                "SELECT set_chunk_time_interval('metrics', interval '{days} days')"
            ));
        };
        interval(2);
        let done = compare(&source, &apart, &[]).expect(20);
        assert!(
            done.stdout
                .contains("\nM TIMESCALEDB hypertable public.metrics, line 1\n"),
            "{}",
            done.stdout
        );
        interval(1);
        apart.sql("INSERT INTO metrics VALUES ('2026-06-01 00:00:00+00', 1, 1)");
        let done = compare(&source, &apart, &["--rows"]).expect(20);
        for text in [
            "+ CHUNK public.metrics, 2026-06-01 to 2026-06-02",
            "M public.metrics  5,001 | 5,002 rows\n    + at = '2026-06-01 00:00:00+00', device = 1, v = 1\n",
        ] {
            assert!(done.stdout.contains(text), "{text}: {}", done.stdout);
        }
    }
}

#[test]
fn compressed_rows_are_compared_as_rows() {
    let Some(server) = Server::tsl() else {
        return;
    };
    let source = server.empty("cmp_tsl");
    source.sql("CREATE EXTENSION timescaledb");
    source.sql(
        "CREATE TABLE metrics (at timestamptz NOT NULL, device integer NOT NULL, v float8);
         SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
         INSERT INTO metrics SELECT '2025-01-01 00:00:00+00'::timestamptz + g * interval '7 minutes', g % 10, g FROM generate_series(0, 3000) g;
         ALTER TABLE metrics SET (timescaledb.compress, timescaledb.compress_segmentby = 'device'); SELECT compress_chunk(c) FROM show_chunks('metrics') c LIMIT 8",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("cmp_tsl_r");
    repo.restore(&id, &target, &[]);
    let json = assert_equal(&source, &target);
    assert_eq!(json["source"]["rows"].as_u64().unwrap() / 3001, 1, "{json}");

    // Other batches of the same rows, and rows that are not compressed any more.
    target.sql("SELECT decompress_chunk(c) FROM show_chunks('metrics') c LIMIT 4");
    let metrics = || {
        let json = compare(&source, &target, &["--json"]).json();
        let tables = json["tables"].as_array().unwrap();
        let metrics = tables.iter().find(|t| t["name"] == "public.metrics");
        metrics.unwrap()["equal"] == true
    };
    assert!(metrics());
    target.sql("UPDATE metrics SET v = -1 WHERE v = 2999");
    assert!(!metrics());
}
