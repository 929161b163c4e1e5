//! What `dump` chooses with a selection option is what `pg_dump` chooses with it.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;

use common::equal::differences;
use common::program::Repo;
use common::session;
use common::testbed::{Database, Server, conninfo, quoted};
use pgtide::pg::archive::Archive;
use pgtide::repo::model::TableRole;

/// The server that is there, the newest first.
fn any_server() -> Option<Server> {
    ["17", "18", "15"].into_iter().find_map(Server::find)
}

fn item(desc: &str, schema: &str, name: &str) -> String {
    format!("{desc} {schema} {name}")
}

/// What `pg_dump` puts into an archive.
fn theirs(database: &Database, options: &[&str]) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("archive");
    let mut command = database.server.program("DUMP", "pg_dump");
    command.args(["-Fc", "-Z0", "--create", "-d", &conninfo(&database.name)]);
    command.args(options);
    let output = command
        .stdout(File::create(&file).unwrap())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{options:?}: {stderr}");
    let archive = Archive::read(File::open(&file).unwrap()).unwrap();
    let settings = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];
    let entries = archive.entries.iter();
    entries
        .filter(|e| !settings.contains(&e.desc.as_str()))
        .map(|e| {
            let tag = e.tag.to_lossy();
            if e.desc.starts_with("BLOB") || tag.starts_with("LARGE OBJECT") {
                return "LARGE OBJECTS".to_owned();
            }
            let schema = e.namespace.as_ref().map(|n| n.to_lossy().into_owned());
            item(&e.desc, &schema.unwrap_or_default(), &tag)
        })
        .collect()
}

/// What a snapshot holds, in the same words.
fn ours(repo: &Repo, id: &str) -> BTreeSet<String> {
    let opened = repo.open(id);
    let settings = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];
    let entries = opened.entries.iter();
    let mut items: BTreeSet<String> = entries
        .filter(|e| !settings.contains(&e.desc.as_str()))
        .map(|e| {
            let schema = e.namespace.as_ref().map(|n| n.to_lossy().into_owned());
            item(&e.desc, &schema.unwrap_or_default(), &e.tag.to_lossy())
        })
        .collect();
    for table in &opened.tables {
        items.extend(match table.role {
            TableRole::Plain | TableRole::ExtensionConfig { .. } => {
                Some(item("TABLE DATA", &table.schema, &table.name))
            }
            TableRole::LargeObjects => Some("LARGE OBJECTS".to_owned()),
            _ => None,
        });
    }
    let sequences = opened.sequences.iter();
    items.extend(sequences.map(|s| item("SEQUENCE SET", &s.schema, &s.name)));
    items
}

/// Both sides' choice, each without what the other has.
fn compared(repo: &Repo, database: &Database, options: &[&str]) -> (Vec<String>, Vec<String>) {
    let id = repo.dump(database, options);
    let (mut theirs, ours) = (theirs(database, options), ours(repo, &id));
    // pg_dump has it in any section; a restore that creates the database needs its definitions.
    theirs.retain(|line| !line.starts_with("DATABASE ") || ours.contains(line));
    assert!(!ours.is_empty(), "{options:?} chooses nothing");
    (
        theirs.difference(&ours).cloned().collect(),
        ours.difference(&theirs).cloned().collect(),
    )
}

#[test]
fn each_option_chooses_what_pg_dump_chooses_with_it() {
    let mut wrong = Vec::new();
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.rich("select_dump");
        let repo = Repo::new();
        let mut cases: Vec<&[&str]> = vec![
            &[],
            &["-n", "app"],
            &["-n", "app", "-n", "\"Odd Schema\""],
            &["-n", "a*", "-N", "app"],
            &["-N", "app"],
            &["-N", "(app|public)"],
            &["-t", "app.customer"],
            &["-t", "app.*"],
            &["-t", "app.e*", "-t", "app.happy", "-n", "public"],
            &["-t", "app.by_default"],
            &["-t", "app.events*"],
            &["-t", "app.happy*", "-b"],
            &["-t", "*.\"Tab\"\"le with 'quotes'\""],
            &["-e", "hstore"],
            &["-e", "h*", "-n", "app"],
            &["-e", "btree*", "-t", "app.customer", "--strict-names"],
            &["--exclude-table-data", "app.customer"],
            &["--exclude-table-data", "app.*"],
            &["--exclude-table-data", "*.*_seq"],
            &["--section", "pre-data", "-B"],
            &["--section", "data"],
            &["--section", "post-data"],
            &["--section", "pre-data", "--section", "data", "-B"],
            &["-s"],
            &["-a"],
            &["-a", "-n", "app"],
            &["-s", "-t", "app.orders"],
            &["-b", "-n", "app"],
            &["-B"],
            &["-s", "-b"],
            &["-x"],
            &["--no-comments"],
            &["--no-publications"],
            &["--no-security-labels"],
            &["--no-subscriptions"],
            &["--no-unlogged-table-data"],
            &["--load-via-partition-root"],
            &["--no-toast-compression"],
        ];
        if server.major() >= 17 {
            cases.extend([
                &["--table-and-children", "app.events"][..],
                &["--table-and-children", "app.animal", "-T", "app.dog"],
                &["--exclude-table-data-and-children", "app.events"],
                &["--exclude-extension", "hstore", "-N", "*"],
                &["--exclude-extension", "btree_gist"],
            ]);
        }
        if server.major() >= 18 {
            cases.extend([&["--no-policies"][..], &["--no-data"], &["--no-schema"]]);
        }
        for options in cases {
            let (theirs, ours) = compared(&repo, &source, options);
            if !theirs.is_empty() || !ours.is_empty() {
                wrong.push(format!(
                    "{version} {options:?}: only pg_dump {theirs:#?}, only pgtide {ours:#?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_built_on_a_table_that_is_left_out_is_left_out_too() {
    let Some(server) = any_server() else { return };
    let source = server.rich("select_out");
    let (theirs, ours) = compared(&Repo::new(), &source, &["-T", "app.customer"]);
    assert!(ours.is_empty(), "{ours:?}");
    assert!(theirs.contains(&item("FK CONSTRAINT", "app", "orders orders_customer")));
    assert!(theirs.contains(&item("VIEW", "app", "grouped")));
    let depends = |line: &String| {
        [
            "VIEW",
            "FK",
            "RULE",
            "MATERIALIZED",
            "COMMENT",
            "ACL",
            "FUNCTION",
            "INDEX",
        ]
        .iter()
        .any(|kind| line.starts_with(kind))
    };
    assert!(theirs.iter().all(depends), "{theirs:#?}");
}

#[test]
fn a_filter_file_says_what_options_say() {
    let Some(server) = any_server() else { return };
    let source = server.rich("select_filter");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("filter");
    let text = "# what staging needs\ninclude schema app # all of it\ninclude schema \"Odd Schema\"\n\nexclude table_data app . customer\ninclude extension hstore\n";
    File::create(&file)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let filter = format!("--filter={}", file.display());
    let repo = Repo::new();
    let filtered = ours(&repo, &repo.dump(&source, &[&filter]));
    let options = [
        "-n",
        "app",
        "-n",
        "\"Odd Schema\"",
        "--exclude-table-data",
        "app.customer",
        "-e",
        "hstore",
    ];
    assert_eq!(filtered, theirs(&source, &options));
    if server.major() >= 17 {
        assert_eq!(filtered, theirs(&source, &[&filter]));
    }
    File::create(&file)
        .unwrap()
        .write_all(b"include index x\n")
        .unwrap();
    repo.try_dump(&source, &[&filter]).expect(2).says(&[
        "line 1",
        "include index is not supported",
        "hint:",
    ]);
}

#[test]
fn only_rows_for_which_the_condition_is_true_are_dumped() {
    let Some(server) = any_server() else { return };
    let source = server.empty("select_where");
    source.sql(
        "CREATE TABLE parent (id integer PRIMARY KEY, v text);
         INSERT INTO parent SELECT g, repeat('x', 200) FROM generate_series(1, 40000) g;
         CREATE INDEX ON parent (id);
         CREATE TABLE child (parent integer REFERENCES parent, at date);
         INSERT INTO child SELECT g, '2025-01-01'::date + g % 300 FROM generate_series(1, 40000) g;
         CREATE TABLE part (at date, n integer) PARTITION BY RANGE (at);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
         CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2025-02-01') TO ('2025-03-01');
         INSERT INTO part SELECT '2025-01-01'::date + g % 50, g FROM generate_series(1, 1000) g;",
    );
    let repo = Repo::new();
    let id = repo.dump(
        &source,
        &[
            "--where",
            "parent: id % 7 = 0 OR id < 10 -- some of them",
            "--where",
            "child: parent % 7 = 0",
            "--where",
            "part: n > 500",
        ],
    );
    let target = server.empty("select_where_to");
    repo.restore(&id, &target, &[]);
    for (table, condition) in [
        ("parent", "id % 7 = 0 OR id < 10"),
        ("child", "parent % 7 = 0"),
        ("part", "n > 500"),
    ] {
        let all =
            format!("SELECT count(*), sum(pg_catalog.hashtextextended(t::text, 0)) FROM {table} t");
        assert_eq!(
            target.sql(&all),
            source.sql(&format!("{all} WHERE {condition}")),
            "{table}"
        );
        assert_ne!(target.sql(&all), source.sql(&all), "{table}");
    }
    for (condition, says) in [
        ("parent: nothing > 1", "column \"nothing\" does not exist"),
        ("parent: id > 1) OR (true", "syntax error"),
        ("nobody: true", "no table of that name"),
    ] {
        repo.try_dump(&source, &["--where", condition])
            .expect(1)
            .says(&[says, "hint:"]);
    }
    repo.try_dump(&source, &["--where", "parent"])
        .expect(2)
        .says(&["is not TABLE: CONDITION"]);
}

#[test]
fn a_given_snapshot_is_what_is_dumped_unless_a_table_was_rewritten_since() {
    let Some(server) = any_server() else { return };
    let source = server.empty("select_snapshot");
    source.sql(
        "CREATE TABLE t (a integer); INSERT INTO t VALUES (1); CREATE TABLE other (a integer)",
    );
    let mut holder = session::connect(&session::settings(&source));
    holder
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .unwrap();
    let id = holder.query("SELECT pg_export_snapshot()").unwrap();
    let id = id[0].get(0).unwrap().to_owned();
    source.sql("INSERT INTO t VALUES (2)");
    let repo = Repo::new();
    let dumped = repo.dump(&source, &["--snapshot", &id]);
    assert_eq!(repo.open(&dumped).snapshot.totals.rows, 1);
    source.sql("TRUNCATE other");
    repo.try_dump(&source, &["--snapshot", &id])
        .expect(1)
        .says(&["public.other", "rewritten", "hint:"]);
    // What is not dumped may be what it is.
    let dumped = repo.dump(&source, &["--snapshot", &id, "-t", "t"]);
    assert_eq!(repo.open(&dumped).snapshot.totals.rows, 1);
    repo.try_dump(&source, &["--snapshot", "00000003-0000001B-9"])
        .expect(1);
}

#[test]
fn a_role_dumps_what_it_may_read_and_what_row_security_shows_it() {
    let Some(server) = any_server() else { return };
    let source = server.empty("select_role");
    let role = quoted(&format!("pgtide_select_{}", std::process::id()));
    source.sql(&format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role};
         CREATE TABLE open (a integer); INSERT INTO open VALUES (1), (2);
         CREATE TABLE closed (a integer); INSERT INTO closed VALUES (1);
         CREATE TABLE mine (who text, v integer); INSERT INTO mine VALUES ('me', 1), ('you', 2), ('me', 3);
         ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON mine FOR SELECT USING (who = 'me');
         GRANT SELECT ON open, mine TO {role}"
    ));
    let repo = Repo::new();
    let as_role = format!("--role={}", role.trim_matches('"'));
    // The names of tables that must not be read are enough to leave them out.
    let id = repo.dump(
        &source,
        &[&as_role, "-T", "closed", "--enable-row-security"],
    );
    assert_eq!(repo.open(&id).snapshot.totals.rows, 4);
    let id = repo.dump(&source, &[&as_role, "-t", "open"]);
    assert_eq!(repo.open(&id).snapshot.totals.rows, 2);
    repo.try_dump(&source, &["--role=pgtide_nobody"])
        .expect(1)
        .says(&["pgtide_nobody"]);
    source.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn rows_of_foreign_tables_come_along_if_they_are_asked_for() {
    let Some(server) = any_server() else { return };
    let far = server.empty("select_far");
    far.sql("CREATE TABLE t (a integer, b text); INSERT INTO t SELECT g, 'far ' || g FROM generate_series(1, 5000) g");
    let build = |database: &Database| {
        database.sql(&format!(
            "CREATE EXTENSION postgres_fdw;
             CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname '{}', port '{}');
             CREATE USER MAPPING FOR CURRENT_USER SERVER far",
            far.name,
            database.sql("SHOW port")
        ));
    };
    let source = server.empty("select_near");
    build(&source);
    source.sql("CREATE FOREIGN TABLE near (a integer, b text) SERVER far OPTIONS (table_name 't'); CREATE TABLE own (a integer); INSERT INTO own VALUES (1)");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    assert_eq!(repo.open(&id).snapshot.totals.rows, 1);
    let id = repo.dump(&source, &["--include-foreign-data", "f*"]);
    assert_eq!(repo.open(&id).snapshot.totals.rows, 5001);
    let (theirs, ours) = compared(&Repo::new(), &source, &["--include-foreign-data", "far"]);
    assert!(theirs.is_empty() && ours.is_empty(), "{theirs:?} {ours:?}");
    // They are written where the foreign table leads: there they are twice now.
    let target = server.empty("select_near_to");
    repo.restore(&id, &target, &[]);
    assert_eq!(far.sql("SELECT count(*) FROM t"), "10000");
    repo.try_dump(&source, &["--include-foreign-data", "nowhere"])
        .expect(1)
        .says(&["no foreign server matches", "hint:"]);
}

#[test]
fn a_pattern_that_matches_nothing_is_an_error() {
    let Some(server) = any_server() else { return };
    let source = server.empty("select_nothing");
    source.sql("CREATE TABLE t (a integer)");
    let repo = Repo::new();
    for (options, says) in [
        (&["-t", "nobody"][..], "no matching tables"),
        (&["-n", "nobody"], "no matching schemas"),
        (
            &["-t", "t", "-t", "nobody", "--strict-names"],
            "no matching tables",
        ),
        (
            &["-e", "nobody", "--strict-names"],
            "no matching extensions",
        ),
    ] {
        repo.try_dump(&source, options).expect(1).says(&[says]);
    }
    repo.try_dump(&source, &["-n", "a.b"])
        .expect(2)
        .says(&["has a dot"]);
    repo.try_dump(&source, &["--section", "middle"]).expect(2);
    repo.try_dump(&source, &["-s", "-a"]).expect(2);
}

#[test]
fn bare_names_mean_what_the_roles_search_path_finds_first() {
    let Some(server) = any_server() else { return };
    let source = server.empty("select_path");
    source.sql(&format!(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (x integer); CREATE TABLE b.t (x integer); CREATE TABLE b.u (x integer);
         CREATE VIEW a.u AS SELECT 1; ALTER DATABASE {} SET search_path = a, b",
        quoted(&source.name)
    ));
    for options in [
        &["-t", "t"][..],
        &["-t", "u"],
        &["--exclude-table-data", "t"],
        &["--exclude-table-data", "u"],
    ] {
        let (theirs, ours) = compared(&Repo::new(), &source, options);
        assert!(
            theirs.is_empty() && ours.is_empty(),
            "{options:?} {theirs:?} {ours:?}"
        );
    }
}

#[test]
fn owners_tablespaces_and_access_methods_can_be_left_behind() {
    let Some(server) = any_server() else { return };
    let source = server.rich("select_bare");
    let repo = Repo::new();
    let id = repo.dump(
        &source,
        &["-O", "-x", "--no-tablespaces", "--no-table-access-method"],
    );
    let opened = repo.open(&id);
    let bare = |e: &pgtide::pg::archive::TocEntry| {
        e.owner.is_empty()
            && e.tableam.is_none()
            && e.tablespace.as_ref().is_none_or(|t| t.is_empty())
    };
    assert!(opened.entries.iter().all(bare));
    let with = repo.dump(&source, &[]);
    assert!(!repo.open(&with).entries.iter().all(bare));
}

#[test]
fn a_selection_comes_back_as_it_was() {
    let Some(server) = any_server() else { return };
    let source = server.empty("select_back");
    source.sql(
        "CREATE SCHEMA app; CREATE TABLE app.a (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
         INSERT INTO app.a (v) SELECT 'v' || g FROM generate_series(1, 1000) g;
         CREATE VIEW app.v AS SELECT * FROM app.a; CREATE TABLE public.other (x integer)",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &["-n", "app"]);
    let target = server.empty("select_back_to");
    repo.restore(&id, &target, &[]);
    // The schema public is in every database already, which is no reason not to restore what is in it.
    let id = repo.dump(&source, &["-n", "public"]);
    let public = server.empty("select_back_public");
    repo.restore(&id, &public, &[]);
    source.sql("DROP TABLE public.other");
    assert_eq!(differences(&source, &target), [""; 0]);
    source.sql("DROP SCHEMA app CASCADE; CREATE TABLE public.other (x integer)");
    assert_eq!(differences(&source, &public), [""; 0]);
}

#[test]
fn a_hypertable_is_chosen_and_left_out_with_its_chunks() {
    let Some(server) = Server::with_timescale("17") else {
        return;
    };
    let source = server.empty("select_hyper");
    source.sql("CREATE EXTENSION timescaledb");
    source.sql(
        "CREATE SCHEMA app; CREATE TABLE plain (a integer); INSERT INTO plain VALUES (1);
         CREATE TABLE metrics (at timestamptz NOT NULL, device integer, v float8);
         SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
         INSERT INTO metrics SELECT '2025-01-01'::timestamptz + g * interval '1 hour', g % 5, g FROM generate_series(1, 240) g;
         CREATE INDEX ON metrics (device, at);
         CREATE TABLE app.events (at timestamptz NOT NULL, what text);
         SELECT create_hypertable('app.events', 'at', chunk_time_interval => interval '1 day');
         INSERT INTO app.events SELECT '2025-01-01'::timestamptz + g * interval '1 hour', 'e' || g FROM generate_series(1, 100) g",
    );
    let repo = Repo::new();
    for (options, metrics, events, plain) in [
        (&["-t", "metrics"][..], 240, 0, 0),
        (&["-t", "app.*"], 0, 100, 0),
        (&["-n", "app"], 0, 100, 0),
        (&["-N", "app"], 240, 0, 1),
        (&["-t", "metrics", "-t", "plain", "-n", "app"], 240, 0, 1),
        (&["-T", "metrics"], 0, 100, 1),
        (&["-t", "plain"], 0, 0, 1),
    ] {
        let id = repo.dump(&source, options);
        let target = server.empty("select_hyper_to");
        if options[0] == "-t" {
            // What a chosen table is in does not come with it.
            target.sql("CREATE SCHEMA app");
        }
        repo.restore(&id, &target, &[]);
        for (table, rows) in [
            ("metrics", metrics),
            ("app.events", events),
            ("plain", plain),
        ] {
            let there = target.sql(&format!("SELECT to_regclass('{table}') IS NOT NULL"));
            assert_eq!(there == "t", rows > 0, "{options:?} {table}");
            if rows > 0 {
                let count = target.sql(&format!("SELECT count(*) FROM {table}"));
                assert_eq!(count, rows.to_string(), "{options:?} {table}");
            }
        }
        let hypertables = u8::from(metrics > 0) + u8::from(events > 0);
        if hypertables == 0 {
            assert_eq!(target.sql("SELECT count(*) FROM pg_extension"), "1");
            continue;
        }
        let known = target.sql("SELECT count(*) FROM timescaledb_information.hypertables");
        assert_eq!(known, hypertables.to_string(), "{options:?}");
        let chunks = "SELECT count(*) FROM timescaledb_information.chunks";
        let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '_hyper_'";
        assert_eq!(target.sql(chunks), target.sql(tables), "{options:?}");
        if metrics > 0 {
            let before: u32 = target.sql(chunks).parse().unwrap();
            target.sql("INSERT INTO metrics VALUES ('2030-01-01', 1, 1)");
            assert_eq!(target.sql(chunks), (before + 1).to_string());
        }
    }
    let rows = |options: &[&str]| repo.open(&repo.dump(&source, options)).snapshot.totals.rows;
    assert_eq!(rows(&["--exclude-table-data", "metrics"]) + 240, rows(&[]));
    let id = repo.dump(
        &source,
        &["--where", "metrics: device = 3", "-t", "metrics"],
    );
    assert_eq!(repo.open(&id).snapshot.conditions.len(), 1);
    let target = server.empty("select_hyper_where");
    repo.restore(&id, &target, &[]);
    assert_eq!(
        target.sql("SELECT count(*), sum(v) FROM metrics"),
        source.sql("SELECT count(*), sum(v) FROM metrics WHERE device = 3")
    );
}

#[test]
fn the_sequence_of_a_serial_column_goes_with_its_table() {
    let Some(server) = any_server() else { return };
    let source = server.empty("select_serial");
    source.sql(
        "CREATE TABLE stays (id serial PRIMARY KEY, what text);
         CREATE TABLE goes (id serial PRIMARY KEY, always int GENERATED ALWAYS AS IDENTITY);
         CREATE SEQUENCE alone;
         INSERT INTO stays (what) SELECT 'x' FROM generate_series(1, 7); INSERT INTO goes DEFAULT VALUES; SELECT nextval('alone')",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &["-T", "goes"]);
    let target = server.empty("select_serial_r");
    repo.restore(&id, &target, &[]);
    let sequences =
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'S'";
    assert_eq!(target.sql(sequences), "alone stays_id_seq");
    assert_eq!(target.sql("SELECT nextval('stays_id_seq')"), "8");
    let clone = server.empty("select_serial_c");
    common::program::try_clone(&source, &clone, &["-T", "goes"]).expect(0);
    assert_eq!(clone.sql(sequences), "alone stays_id_seq");
}
