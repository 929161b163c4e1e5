//! Whole clusters: dumped in one command, restored in one command, judged by `pg_dumpall`.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::program::{Done, Repo, finish};
use common::server::{SUPERUSER, TestServer, as_postgres, bin_dir, run};

/// A place for tablespaces that clusters use one after the other.
struct Spaces {
    dir: tempfile::TempDir,
}

const SPACES: [&str; 2] = ["fast", "rather slow"];

impl Spaces {
    fn new() -> Spaces {
        let dir = tempfile::Builder::new()
            .prefix("pgtide-test-")
            .tempdir()
            .unwrap();
        let spaces = Spaces { dir };
        spaces.empty();
        spaces
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the directories anew. No cluster that has files there may be at work.
    fn empty(&self) {
        for name in SPACES {
            let path = self.path(name);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            give(&path);
        }
        give(self.dir.path());
    }
}

/// Makes a directory the server's.
fn give(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        run(Command::new("chown").arg("postgres:").arg(path));
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn psql(server: &TestServer, database: &str, arguments: &[&str]) -> String {
    let output = run(as_postgres(&server.bin_dir.join("psql"))
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1"])
        .args(arguments)
        .arg("-d")
        .arg(server.conninfo(database)));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn sql(server: &TestServer, database: &str, sql: &str) -> String {
    psql(server, database, &["-c", sql])
}

/// What `pg_dumpall` says, without what is random.
fn text(server: &TestServer, options: &[&str]) -> String {
    let output = run(as_postgres(&server.bin_dir.join("pg_dumpall"))
        .args(options)
        .arg("-d")
        .arg(server.conninfo("postgres")));
    // Databases come in encodings of their own: a letter for each byte.
    let text: String = output.stdout.into_iter().map(char::from).collect();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The texts of `pg_dumpall`: of all that its script restores, and with the properties of all databases.
fn texts(server: &TestServer) -> [String; 2] {
    [text(server, &[]), text(server, &["--clean", "--if-exists"])]
}

#[track_caller]
fn assert_same(expected: &[String; 2], found: &[String; 2]) {
    for (expected, found) in expected.iter().zip(found) {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (lines(expected), lines(found));
        let differ = a.iter().zip(&b).position(|(a, b)| a != b);
        if let Some(n) = differ {
            panic!(
                "line {n}: {:#?} | {:#?}",
                &a[n..a.len().min(n + 4)],
                &b[n..b.len().min(n + 4)]
            );
        }
        assert_eq!(a.len(), b.len());
    }
}

fn pgtide(repo: &Repo, server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = repo.local_command(arguments);
    // pg_dump and pg_dumpall of the server's version come first.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", server.bin_dir.display()));
    command.env_remove("PGTIDE_PG_DUMP");
    command.env_remove("PGTIDE_PG_DUMPALL");
    command.env("PGHOST", &server.socket_dir);
    command.env("PGPORT", server.port.to_string());
    command.env("PGUSER", SUPERUSER);
    command
}

fn go(repo: &Repo, server: &TestServer, arguments: &[&str]) -> Done {
    finish(pgtide(repo, server, arguments))
}

fn last_line(done: &Done) -> String {
    done.stdout.lines().last().unwrap().to_owned()
}

fn newer(server: &TestServer, major: i32) -> bool {
    let number = sql(server, "postgres", "SHOW server_version_num");
    number.parse::<i32>().unwrap() >= major * 10_000
}

/// Three databases, roles with memberships and passwords, two tablespaces, and settings, privileges and comments of
/// all of them; the databases that are there from the beginning are changed, too.
fn fill(server: &TestServer, spaces: &Spaces) {
    let [fast, slow] = SPACES.map(|name| quoted(spaces.path(name).to_str().unwrap()));
    let options = if newer(server, 16) {
        "ADMIN TRUE, INHERIT FALSE, SET FALSE"
    } else {
        "ADMIN OPTION"
    };
    let statements = format!(
        r#"
        CREATE ROLE alice LOGIN PASSWORD 'secret' VALID UNTIL '2031-02-03 04:05:06+00' CONNECTION LIMIT 7;
        CREATE ROLE "Bob; -- 'the' ""builder""" LOGIN CREATEDB BYPASSRLS PASSWORD 'it''s; "hidden"';
        CREATE ROLE readers NOINHERIT;
        CREATE ROLE writers ROLE alice;
        COMMENT ON ROLE readers IS E'it''s; two\nlines \\ and a backslash';
        ALTER ROLE alice SET search_path TO "$user", 'a b', public;
        ALTER ROLE alice SET my.path TO E'C:\\temp';
        GRANT readers TO alice WITH {options};
        GRANT writers TO "Bob; -- 'the' ""builder""";
        GRANT readers TO writers WITH ADMIN OPTION;
        GRANT pg_read_all_data TO readers;
        GRANT SET ON PARAMETER work_mem TO readers WITH GRANT OPTION;
        SET SESSION AUTHORIZATION readers;
        GRANT SET ON PARAMETER work_mem TO writers;
        RESET SESSION AUTHORIZATION;
        CREATE TABLESPACE fast OWNER alice LOCATION {fast};
        CREATE TABLESPACE "it's slow" LOCATION {slow};
        ALTER TABLESPACE fast SET (random_page_cost = 1.1, seq_page_cost = 0.9);
        GRANT CREATE ON TABLESPACE "it's slow" TO readers WITH GRANT OPTION;
        COMMENT ON TABLESPACE fast IS 'quick; and not cheap';
        CREATE DATABASE app OWNER alice TABLESPACE fast;
        CREATE DATABASE "odd 'name'; x" TEMPLATE template0 ENCODING 'LATIN1' CONNECTION LIMIT 5;
        CREATE DATABASE empty IS_TEMPLATE true;
        CREATE DATABASE closed ALLOW_CONNECTIONS false;
        ALTER DATABASE app SET work_mem TO '7MB';
        ALTER ROLE alice IN DATABASE app SET work_mem TO '8MB';
        REVOKE CONNECT ON DATABASE app FROM PUBLIC;
        GRANT CONNECT ON DATABASE app TO readers;
        COMMENT ON DATABASE app IS 'the app';
        ALTER DATABASE postgres SET work_mem TO '9MB';
        GRANT CREATE ON DATABASE postgres TO writers;
        "#
    );
    for statement in statements.split(";\n") {
        if !statement.trim().is_empty() {
            // Statements that no transaction may be around.
            psql(server, "postgres", &["-c", statement]);
        }
    }
    sql(
        server,
        "app",
        r#"
        CREATE TABLE plain (id integer PRIMARY KEY, text text) TABLESPACE "it's slow";
        INSERT INTO plain SELECT n, 'row ' || n FROM generate_series(1, 1000) n;
        CREATE INDEX ON plain (text) TABLESPACE fast;
        ALTER TABLE plain OWNER TO alice;
        GRANT SELECT ON plain TO readers;
        CREATE SEQUENCE numbers; SELECT setval('numbers', 42);
        CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM plain;
        SELECT lo_from_bytea(0, 'large');
        "#,
    );
    sql(
        server,
        "odd 'name'; x",
        "CREATE TABLE letters (t text); INSERT INTO letters VALUES (U&'\\00e4\\00df')",
    );
    sql(
        server,
        "postgres",
        "CREATE TABLE kept (n integer); INSERT INTO kept VALUES (1), (2)",
    );
    sql(
        server,
        "template1",
        "CREATE TABLE in_every_new_database (n integer)",
    );
}

#[test]
fn a_cluster_comes_back_whole_by_one_command_each_way() {
    let Some(bin) = bin_dir() else {
        eprintln!("not run: no server's programs on this machine");
        return;
    };
    let (repo, spaces) = (Repo::new(), Spaces::new());
    let source = TestServer::start(&bin, "");
    fill(&source, &spaces);
    let expected = texts(&source);
    for needed in [
        "SCRAM-SHA-256$",
        "CREATE TABLESPACE",
        "GRANTED BY",
        "in_every_new_database",
    ] {
        assert!(expected[0].contains(needed), "{needed}");
    }

    let dumped = go(&repo, &source, &["dump", "--all-databases", "-j", "2"])
        .expect(0)
        .says(&["database closed is left out: it allows no connections"]);
    let id = last_line(&dumped);

    // Its rows are there for everybody to see, and those of its databases.
    let listed = repo.local(&["snapshots", "--json"]).expect(0).json();
    let mut labels = BTreeMap::new();
    for snapshot in listed["snapshots"].as_array().unwrap() {
        let database = snapshot["snapshot"]["source"]["database"].as_str().unwrap();
        labels.insert(
            database.to_owned(),
            snapshot["id"].as_str().unwrap().to_owned(),
        );
    }
    let names: Vec<&str> = labels.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["", "app", "empty", "odd 'name'; x", "postgres", "template1"]
    );
    assert_eq!(labels[""], id);
    let table = repo.local(&["snapshots"]).expect(0).stdout;
    assert!(table.contains("(cluster)"), "{table}");
    for (wanted, found) in [
        ("latest", ""),
        ("latest:(cluster)", ""),
        ("latest:app", "app"),
        ("latest:odd 'name'; x", "odd 'name'; x"),
    ] {
        let shown = repo.local(&["show", wanted, "--json"]).expect(0).json();
        assert_eq!(shown["id"].as_str().unwrap(), labels[found], "{wanted}");
    }
    let shown = repo.local(&["show", &id]).expect(0).stdout;
    assert!(shown.contains(&labels["app"]), "{shown}");
    let entries = repo.local(&["list", &id]).expect(0).stdout;
    for line in [
        "ROLE - alice",
        "ROLE MEMBERSHIP - readers TO alice",
        "TABLESPACE - fast alice",
    ] {
        assert!(entries.contains(line), "{line}: {entries}");
    }
    assert!(!entries.contains("SCRAM"), "{entries}");
    repo.local(&["check", "--read-data"]).expect(0);

    // A second night stores next to nothing.
    let again = go(&repo, &source, &["dump", "--all-databases", "--json"])
        .expect(0)
        .json();
    let added = again["snapshot"]["totals"]["added_blocks"]
        .as_u64()
        .unwrap();
    assert!(added < 20, "{added} blocks");

    // One that was dumped by itself is another source.
    go(&repo, &source, &["dump", "-d", "empty"]).expect(0);
    repo.local(&["show", "latest"])
        .expect(1)
        .says(&["/(cluster)", "/empty"]);
    repo.local(&["show", "latest:(cluster)"]).expect(0);

    // The directories are in use: everything that is in the way is said before anything is touched.
    let target = TestServer::start(&bin, "");
    let before = texts(&target);
    for name in SPACES {
        std::fs::rename(spaces.path(name), spaces.path(&format!("{name}.away"))).unwrap();
    }
    let (fast, slow) = (spaces.path(SPACES[0]), spaces.path(SPACES[1]));
    go(&repo, &target, &["restore", &id]).expect(1).says(&[
        "nothing was restored",
        &format!("{} is not there", fast.display()),
        &format!("{} is not there", slow.display()),
        "--no-tablespaces",
    ]);
    for name in SPACES {
        std::fs::rename(spaces.path(&format!("{name}.away")), spaces.path(name)).unwrap();
    }
    go(&repo, &target, &["restore", &id])
        .expect(1)
        .says(&["is in use by another cluster"]);
    assert_same(&before, &texts(&target));
    drop(source);
    spaces.empty();

    let plan = go(&repo, &target, &["restore", &id, "--dry-run"])
        .expect(0)
        .stdout;
    assert!(plan.contains("would restore database app"), "{plan}");
    assert_same(&before, &texts(&target));
    go(&repo, &target, &["restore", &id, "-j", "2"]).expect(0);
    // pg_dumpall leaves out databases that allow no connections, but for their names in DROP DATABASE.
    let expected = expected.map(|text| text.replace("DROP DATABASE IF EXISTS closed;\n", ""));
    assert_same(&expected, &texts(&target));

    // Again: what is there is in the way, and --clean drops it.
    go(&repo, &target, &["restore", &id]).expect(1).says(&[
        "the database app exists already",
        "TABLE public.kept (database postgres)",
    ]);
    sql(&target, "app", "DROP TABLE plain CASCADE");
    go(&repo, &target, &["restore", &id, "--clean"])
        .expect(2)
        .says(&["drops the databases", "app"]);
    go(
        &repo,
        &target,
        &["restore", &id, "--clean", "--yes", "-d", "app"],
    )
    .expect(1)
    .says(&["database app is to be dropped", "--dbname postgres"]);
    let done = go(&repo, &target, &["restore", &id, "--clean", "--yes"]).expect(0);
    assert!(
        done.stdout.contains("existed   ROLE Bob"),
        "{}",
        done.stdout
    );
    assert_same(&expected, &texts(&target));

    // One database of it, elsewhere.
    sql(
        &target,
        "postgres",
        "CREATE DATABASE one TEMPLATE template0",
    );
    go(
        &repo,
        &target,
        &["restore", &id, "--database", "app", "-d", "one"],
    )
    .expect(0);
    assert_eq!(sql(&target, "one", "SELECT count(*) FROM plain"), "1000");
    go(
        &repo,
        &target,
        &["restore", &id, "--database", "nowhere", "-d", "one"],
    )
    .expect(2)
    .says(&["it has template1, app, empty"]);
    go(
        &repo,
        &target,
        &["restore", &id, "-t", "plain", "-d", "one"],
    )
    .expect(2)
    .says(&["is for one database"]);
    drop(target);
    spaces.empty();

    // Without tablespaces there is no need of their directories.
    let flat = TestServer::start(&bin, "");
    std::fs::remove_dir_all(spaces.path(SPACES[0])).unwrap();
    go(
        &repo,
        &flat,
        &["restore", &id, "--no-tablespaces", "--no-analyze"],
    )
    .expect(0);
    assert_eq!(sql(&flat, "app", "SELECT count(*) FROM plain"), "1000");
    assert_eq!(
        sql(&flat, "postgres", "SELECT count(*) FROM pg_tablespace"),
        "2"
    );
    drop(flat);
    spaces.empty();

    // The script of pg_dumpall gives the same.
    let third = TestServer::start(&bin, "");
    let script = spaces.path("script.sql");
    let bytes: Vec<u8> = expected[0]
        .chars()
        .filter_map(|c| u8::try_from(c).ok())
        .collect();
    std::fs::write(&script, bytes).unwrap();
    // It makes the superuser that is there already.
    run(as_postgres(&bin.join("psql"))
        .args(["-XAtq", "-f", script.to_str().unwrap(), "-d"])
        .arg(third.conninfo("postgres")));
    assert_same(&expected, &[text(&third, &[]), expected[1].clone()]);
}

/// A command as this role, with this password.
fn go_as(repo: &Repo, server: &TestServer, role: &str, password: &str, arguments: &[&str]) -> Done {
    let mut command = pgtide(repo, server, arguments);
    command.env("PGUSER", role).env("PGPASSWORD", password);
    finish(command)
}

fn skipped(done: &Done) -> Vec<String> {
    let document = done.json();
    let skipped = document["skipped"].as_array().unwrap().iter();
    skipped.map(|s| s.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_role_cannot_dump_of_a_cluster_is_named_and_the_rest_is_dumped() {
    let Some(bin) = bin_dir() else {
        eprintln!("not run: no server's programs on this machine");
        return;
    };
    let source = TestServer::start(&bin, "");
    for statement in [
        "CREATE ROLE plain LOGIN PASSWORD 'x'",
        "CREATE ROLE auditor LOGIN IN ROLE pg_read_all_data",
        "CREATE DATABASE open",
        "CREATE DATABASE private",
        "CREATE DATABASE private_too",
        "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
    ] {
        sql(&source, "postgres", statement);
    }
    sql(
        &source,
        "open",
        "CREATE TABLE hidden (n integer); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    );

    // A database that cannot be dumped does not keep the others from it.
    let repo = Repo::new();
    let dump = [
        "dump",
        "--all-databases",
        "--exclude-database",
        "*_too",
        "--json",
    ];
    let done = go_as(&repo, &source, "auditor", "", &dump).expect(3);
    let document = done.json();
    let failed = &document["failed"];
    assert_eq!(failed[0]["database"], "private", "{failed}");
    assert!(failed[1].is_null(), "{failed}");
    let row_security = "open: the rows of public.hidden are left out: row security may hide some of them from the role";
    assert_eq!(skipped(&done), [row_security]);
    let names: Vec<&str> = document["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["database"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["template1", "open", "postgres"]);
    let id = document["snapshot_id"].as_str().unwrap();
    let shown = repo.local(&["show", id]).expect(0).stdout;
    for line in ["database private is missing: ", row_security] {
        assert!(shown.contains(line), "{shown}");
    }

    // Whether passwords can be read is the server's to say.
    let globals = ["dump", "--globals", "--json"];
    let whole = go_as(&repo, &source, "auditor", "", &globals).expect(0);
    assert!(skipped(&whole).is_empty());
    let done = go_as(&repo, &source, "plain", "x", &globals).expect(3);
    assert_eq!(
        skipped(&done),
        ["passwords of roles are left out: the role may not read pg_catalog.pg_authid"]
    );
    let none = ["dump", "--globals", "--no-role-passwords", "--json"];
    assert!(skipped(&go_as(&repo, &source, "plain", "x", &none).expect(0)).is_empty());
    let listed = repo.local(&["snapshots"]).expect(0).stdout;
    assert_eq!(listed.matches("(globals)").count(), 3, "{listed}");

    // Roles alone, with and without their passwords.
    let target = TestServer::start(&bin, "");
    let password = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'plain'";
    let restore = ["restore", id, "--globals", "--no-role-passwords"];
    go(&repo, &target, &restore).expect(0);
    assert_eq!(sql(&target, "postgres", password), "f");
    let databases = "SELECT count(*) FROM pg_database";
    assert_eq!(sql(&target, "postgres", databases), "3");
    let id = whole.json()["snapshot_id"].as_str().unwrap().to_owned();
    go(&repo, &target, &["restore", &id]).expect(0);
    assert_eq!(sql(&target, "postgres", password), "t");
    assert_eq!(sql(&target, "postgres", databases), "3");

    // Nothing at all, and nothing left.
    for database in ["postgres", "template1", "open", "private_too"] {
        let revoke = format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC");
        sql(&source, "postgres", &revoke);
    }
    sql(&source, "postgres", "CREATE DATABASE door");
    sql(
        &source,
        "postgres",
        "GRANT CONNECT ON DATABASE door TO plain",
    );
    sql(&source, "door", "CREATE TABLE closed (n integer)");
    go_as(
        &repo,
        &source,
        "plain",
        "x",
        &["dump", "--all-databases", "-d", "door"],
    )
    .expect(1)
    .says(&[
        "none of the databases could be dumped",
        "table public.closed",
        "private: ",
    ]);
    go(
        &repo,
        &source,
        &["dump", "--all-databases", "--exclude-database", "*"],
    )
    .expect(1)
    .says(&["no database is left to dump"]);
    go(
        &repo,
        &source,
        &["dump", "--exclude-database", "a.b", "--all-databases"],
    )
    .expect(2);
    go(
        &repo,
        &source,
        &["dump", "--no-role-passwords", "-d", "open"],
    )
    .expect(2)
    .says(&["add --all-databases"]);
}

#[test]
fn the_role_that_restores_a_cluster_keeps_its_password_until_the_end() {
    let Some(bin) = bin_dir() else {
        eprintln!("not run: no server's programs on this machine");
        return;
    };
    let repo = Repo::new();
    let source = TestServer::start(&bin, "");
    sql(
        &source,
        "postgres",
        "CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'there'",
    );
    sql(&source, "postgres", "ALTER ROLE boss SET work_mem TO '9MB'");
    sql(&source, "postgres", "CREATE DATABASE app OWNER boss");
    sql(&source, "app", "CREATE TABLE t AS SELECT 1 AS n");
    let id = last_line(&go(&repo, &source, &["dump", "--all-databases"]).expect(0));

    let target = TestServer::start(&bin, "");
    sql(
        &target,
        "postgres",
        "CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'here'",
    );
    target.set_hba("local all postgres trust\nlocal all boss scram-sha-256\n");
    let restore = ["restore", &id];
    go_as(&repo, &target, "boss", "there", &restore).expect(1);
    go_as(&repo, &target, "boss", "here", &restore).expect(0);
    assert_eq!(sql(&target, "app", "SELECT n FROM t"), "1");
    let of_boss = "SELECT rolpassword FROM pg_authid WHERE rolname = 'boss'";
    assert_eq!(
        sql(&target, "postgres", of_boss),
        sql(&source, "postgres", of_boss)
    );
    assert_eq!(text(&target, &["-g"]), text(&source, &["-g"]));
}
