//! A database cloned straight into another is equal to its source, whatever happens on the way.

mod common;

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::equal::{assert_equal, differences, not_analysed};
use common::program::{clone_command, finish, pgtide, try_clone};
use common::server;
use common::testbed::{Database, Server};
use nix::sys::signal::Signal;
use rand::Rng;

/// The server that is there, the newest of those with a long life first.
fn any_server() -> Option<Server> {
    ["17", "18", "15"].into_iter().find_map(Server::find)
}

/// Nothing of the clone itself is left at its target.
fn assert_tidy(target: &Database) {
    let left = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgtide%')
        + (SELECT count(*) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
           WHERE d.datname = current_database() AND setconfig::text LIKE '%pgtide%')";
    assert_eq!(target.sql(left), "0", "something of the clone is left");
}

// Equality -------------------------------------------------------------------------------------------------------------

fn one_of_everything(version: &'static str) {
    let Some(server) = Server::find(version) else {
        return;
    };
    let source = server.rich(&format!("clone_{version}"));
    source.sql(
        "CREATE TABLE wide (id integer PRIMARY KEY, b bytea); ALTER TABLE wide ALTER b SET STORAGE EXTERNAL;
         INSERT INTO wide SELECT g, decode(repeat(md5(g::text), 40000), 'hex') FROM generate_series(1, 40) g;
         CREATE TABLE huge (b bytea); ALTER TABLE huge ALTER b SET STORAGE EXTERNAL;
         INSERT INTO huge SELECT decode(repeat(md5('huge'), 700000), 'hex') FROM generate_series(1, 2);
         CREATE TABLE many (id bigint PRIMARY KEY, parent bigint, note text);
         INSERT INTO many SELECT g, 1 + g / 2, repeat('n', (g % 90)::int) FROM generate_series(1, 200000) g;
         ALTER TABLE many ADD FOREIGN KEY (parent) REFERENCES many;
         CREATE INDEX ON many (note); CREATE INDEX ON many USING brin (id);
         CREATE TABLE nothing (); INSERT INTO nothing SELECT FROM generate_series(1, 5);
         SELECT lo_from_bytea(4711 + g, repeat('x', g * 3000)::bytea) FROM generate_series(0, 20) g;
         COMMENT ON LARGE OBJECT 4712 IS 'large'; GRANT SELECT ON LARGE OBJECT 4713 TO PUBLIC",
    );
    for jobs in ["1", "4"] {
        let target = server.empty(&format!("clone_{version}_{jobs}"));
        let done = try_clone(&source, &target, &["-j", jobs, "--json"]).expect(0);
        let rows = done.json()["rows"].as_u64().unwrap();
        assert!(rows > 200_000, "{rows} rows");
        assert_equal(&source, &target);
        assert_eq!(not_analysed(&target), "", "without statistics");
        assert_tidy(&target);
    }
}

#[test]
fn one_of_everything_is_cloned_on_15() {
    one_of_everything("15");
}

#[test]
fn one_of_everything_is_cloned_on_17() {
    one_of_everything("17");
}

#[test]
fn one_of_everything_is_cloned_on_18() {
    one_of_everything("18");
}

#[test]
fn values_of_all_types_and_an_encoding_of_its_own_are_cloned() {
    let Some(server) = any_server() else { return };
    let source = server.database("clone_latin", "ENCODING 'LATIN1' LOCALE 'C'");
    source.sql(
        "CREATE TABLE t (a text, b text[], n numeric, r int4range, j jsonb, x xml, o regclass, p point);
         INSERT INTO t VALUES (chr(228) || chr(252), ARRAY[chr(223), NULL, ''], 'NaN', '[1,5)', '{\"a\": [1, null]}', '<a/>', 'pg_class', '(1,2)'),
           (NULL, '{}', '1e-200', 'empty', 'null', NULL, NULL, NULL)",
    );
    let same = server.database("clone_latin_r", "ENCODING 'LATIN1' LOCALE 'C'");
    try_clone(&source, &same, &[]).expect(0);
    assert_equal(&source, &same);
    let other = server.empty("clone_latin_u");
    try_clone(&source, &other, &[]).expect(0);
    let text =
        "SELECT encode(convert_to(string_agg(t::text, '/' ORDER BY n), 'UTF8'), 'hex') FROM t";
    assert_eq!(source.sql(text), other.sql(text));
}

/// A table that many sessions load, with indexes of all kinds, and one that refers to it.
fn large<'s>(server: &'s Server, name: &str) -> Database<'s> {
    let source = server.empty(name);
    source.sql(
        "CREATE TABLE large (id bigint PRIMARY KEY, at timestamptz, v float8, bytes bytea);
         ALTER TABLE large ALTER bytes SET STORAGE PLAIN;
         INSERT INTO large SELECT g, '2026-01-01'::timestamptz + g * interval '1 s', g / 7.0,
             decode(repeat(md5(g::text), 70), 'hex') FROM generate_series(1, 260000) g;
         CREATE INDEX ON large (at); CREATE INDEX ON large (v) WHERE id % 2 = 0;
         CREATE TABLE small (id integer PRIMARY KEY, of bigint REFERENCES large);
         INSERT INTO small SELECT g, g * 10 FROM generate_series(1, 20000) g;
         CREATE MATERIALIZED VIEW sums AS SELECT id % 10 AS digit, sum(id) FROM large GROUP BY 1",
    );
    source
}

#[test]
fn a_table_that_many_sessions_copy_is_whole_and_in_its_order() {
    let Some(server) = any_server() else { return };
    let source = large(&server, "clone_large");
    let target = server.empty("clone_large_r");
    try_clone(&source, &target, &["-j", "3"]).expect(0);
    assert_equal(&source, &target);
    let correlation =
        "SELECT abs(correlation) > 0.95 FROM pg_stats WHERE tablename = 'large' AND attname = 'id'";
    assert_eq!(target.sql(correlation), "t");
}

#[test]
fn what_is_selected_is_cloned_and_nothing_else() {
    let Some(server) = any_server() else { return };
    let source = server.empty("clone_select");
    source.sql(
        "CREATE SCHEMA other; CREATE TABLE a (id integer PRIMARY KEY, v text); INSERT INTO a SELECT g, 'v' FROM generate_series(1, 100) g;
         CREATE TABLE b (id integer); INSERT INTO b VALUES (1), (2); CREATE TABLE other.c (id integer); INSERT INTO other.c VALUES (3);
         CREATE SEQUENCE s; SELECT nextval('s'); SELECT lo_from_bytea(1, 'x')",
    );
    let count = |target: &Database, table: &str| {
        let there = target.sql(&format!("SELECT to_regclass('{table}') IS NOT NULL"));
        match there.as_str() {
            "t" => target.sql(&format!("SELECT count(*) FROM {table}")),
            _ => "-".to_owned(),
        }
    };
    for (number, (options, counts)) in [
        (&["-t", "a"][..], ["100", "-", "-"]),
        (&["-n", "public", "--where", "a: id <= 7"], ["7", "2", "-"]),
        (&["-T", "a"], ["-", "2", "1"]),
        (&["--exclude-table-data", "b"], ["100", "0", "1"]),
        (&["-s"], ["0", "0", "0"]),
    ]
    .into_iter()
    .enumerate()
    {
        let target = server.empty(&format!("clone_select_{number}"));
        try_clone(&source, &target, options).expect(0);
        let found = ["public.a", "public.b", "other.c"].map(|table| count(&target, table));
        assert_eq!(found, counts, "{options:?}");
    }
    // Rows alone go into tables that are there.
    let target = server.empty("clone_select_rows");
    target.sql("CREATE SCHEMA other; CREATE TABLE a (v text, id integer); CREATE TABLE b (id integer); CREATE TABLE other.c (id integer); CREATE SEQUENCE s");
    try_clone(&source, &target, &["-a"]).expect(0);
    assert_eq!(target.sql("SELECT sum(id) FROM a"), "5050");
    assert_eq!(target.sql("SELECT last_value FROM s"), "1");
}

#[test]
fn a_clone_beside_writers_is_of_one_moment() {
    let Some(server) = any_server() else { return };
    let source = server.empty("clone_writers");
    source.sql(
        "CREATE TABLE account (id integer PRIMARY KEY, balance bigint NOT NULL);
         INSERT INTO account SELECT g, 1000 FROM generate_series(1, 20000) g;
         CREATE TABLE transfer (id bigserial PRIMARY KEY, a integer REFERENCES account, b integer REFERENCES account, amount bigint)",
    );
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let write = |seed: u32| {
            while !ended.load(Ordering::SeqCst) {
                source.sql(&format!(
                    "DO $$ DECLARE x integer; y integer; BEGIN FOR n IN 1..200 LOOP
                       x := 1 + (random() * 9999)::int * 2 - {seed}; y := 1 + (random() * 9999)::int * 2 - {seed};
                       CONTINUE WHEN x < 1 OR y < 1 OR x = y;
                       UPDATE account SET balance = balance - 5 WHERE id = least(x, y); UPDATE account SET balance = balance + 5 WHERE id = greatest(x, y);
                       INSERT INTO transfer (a, b, amount) VALUES (least(x, y), greatest(x, y), 5); COMMIT;
                     END LOOP; END $$"
                ));
            }
        };
        scope.spawn(move || write(0));
        scope.spawn(move || write(1));
        for round in 0..4 {
            let target = server.empty(&format!("clone_writers_{round}"));
            let done = try_clone(&source, &target, &["-j", "3"]);
            if done.code != 0 {
                ended.store(true, Ordering::SeqCst);
            }
            done.expect(0);
            let wrong = target.sql(
                "SELECT (SELECT sum(balance) FROM account) - 20000000, count(*) FROM (
                   SELECT a.id FROM account a LEFT JOIN (SELECT id, sum(amount) AS moved FROM (
                     SELECT a AS id, -amount AS amount FROM transfer UNION ALL SELECT b, amount FROM transfer) m GROUP BY id) m ON m.id = a.id
                   WHERE a.balance <> 1000 + coalesce(m.moved, 0)) wrong",
            );
            if wrong != "0|0" {
                ended.store(true, Ordering::SeqCst);
            }
            assert_eq!(wrong, "0|0", "not of one moment");
        }
        ended.store(true, Ordering::SeqCst);
    });
}

// Faults ---------------------------------------------------------------------------------------------------------------

fn start(source: &Database, target: &Database, options: &[&str]) -> Child {
    let mut command = clone_command(source, target, options);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// A session that exports an MVCC snapshot and keeps it.
struct Keeper {
    session: pgtide::pg::Connection,
}

impl Keeper {
    fn new(source: &Database) -> (Self, String) {
        let mut session = common::session::connect(&common::session::settings(source));
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        session.execute(begin).unwrap();
        let rows = session.query("SELECT pg_export_snapshot()").unwrap();
        let id = rows[0].get(0).unwrap().to_owned();
        (Self { session }, id)
    }

    fn end(mut self) {
        self.session.execute("COMMIT").unwrap();
    }
}

fn no_sessions_remain(database: &Database) {
    let began = Instant::now();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name IN ('pgtide', 'pg_dump')";
    while database.sql(sessions) != "0" {
        assert!(began.elapsed() < Duration::from_secs(30), "sessions remain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_clone_killed_again_and_again_is_resumed_to_the_moment_it_began_with() {
    let Some(server) = any_server() else { return };
    let source = large(&server, "clone_killed");
    source.sql("SELECT lo_from_bytea(4711 + g, repeat('x', g * 300)::bytea) FROM generate_series(0, 200) g");
    let (whole, target) = (
        server.empty("clone_killed_w"),
        server.empty("clone_killed_r"),
    );
    let began = Instant::now();
    try_clone(&source, &whole, &["-j", "2"]).expect(0);
    let took = began.elapsed();
    let (keeper, id) = Keeper::new(&source);
    // What happens from here on is not in the clone.
    source.sql("DELETE FROM small WHERE id < 100; UPDATE large SET v = 0 WHERE id < 1000; SELECT lo_unlink(4711)");
    let mut killed = 0;
    loop {
        let first = killed == 0;
        let mut options = vec!["-j", "2", "--snapshot", &id];
        options.extend((!first).then_some("--resume"));
        let mut child = start(&source, &target, &options);
        // Later and later, or it would never end.
        let share = rand::rng().random_range(0.15..0.5) + f64::from(killed) * 0.12;
        std::thread::sleep(took.mul_f64(share));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        no_sessions_remain(&target);
        no_sessions_remain(&source);
        if output.status.success() {
            break;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("pgtide:"), "{said}");
        let begun = target.sql("SELECT to_regclass('pgtide_clone.run') IS NOT NULL") == "t";
        killed += u32::from(begun);
        assert!(begun || first, "the journal is gone");
    }
    eprintln!("{killed} kills");
    assert!(killed > 0, "it was too fast to be killed");
    assert_eq!(differences(&whole, &target), Vec::<String>::new());
    assert_tidy(&target);
    keeper.end();
}

#[test]
fn a_clone_whose_snapshot_is_gone_says_so_and_goes_on_only_if_told_to() {
    let Some(server) = any_server() else { return };
    let source = large(&server, "clone_gone");
    let target = server.empty("clone_gone_r");
    let mut child = start(&source, &target, &["-j", "2"]);
    let began = Instant::now();
    // As soon as some of the rows are there.
    let noted = "SELECT count(*) FROM pgtide_clone.done WHERE task LIKE 'rows %'";
    let there = "SELECT to_regclass('pgtide_clone.done') IS NOT NULL";
    while target.sql(there) != "t" || target.sql(noted) == "0" {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was too fast");
    no_sessions_remain(&target);
    try_clone(&source, &target, &[]).expect(1).says(&[
        "has an unfinished clone",
        "--resume",
        "--drop-existing",
    ]);
    let gone = [
        "that MVCC snapshot is gone",
        "of 2 tables",
        "--not-consistent",
    ];
    try_clone(&source, &target, &["--resume"])
        .expect(1)
        .says(&gone);
    try_clone(&source, &target, &["--resume", "-t", "large"])
        .expect(1)
        .says(&["started with other options"]);
    let other = server.empty("clone_gone_o");
    try_clone(&other, &target, &["--resume"])
        .expect(1)
        .says(&["the unfinished clone at the target is of"]);
    try_clone(&source, &other, &["--resume"])
        .expect(1)
        .says(&["no unfinished clone"]);
    // Nobody wrote meanwhile, so the rows of both moments are the same.
    try_clone(
        &source,
        &target,
        &["--resume", "--not-consistent", "-j", "2"],
    )
    .expect(0);
    assert_equal(&source, &target);
    assert_tidy(&target);
}

#[test]
fn a_clone_that_has_all_rows_needs_no_snapshot_to_be_resumed() {
    let Some(server) = any_server() else { return };
    let source = large(&server, "clone_rows");
    // An index that cannot be built at the target until something is mended there.
    source.sql(
        "CREATE SCHEMA help; CREATE FUNCTION help.f(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
         CREATE INDEX broken ON large (help.f(id));
         CREATE OR REPLACE FUNCTION help.f(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1 / (SELECT n FROM public.switch); END $$;
         CREATE TABLE switch (n integer); INSERT INTO switch VALUES (0)",
    );
    let target = server.empty("clone_rows_r");
    let failed = try_clone(&source, &target, &["-j", "2"]).expect(1);
    failed.says(&["division by zero", "broken"]);
    // The function at the target is mended; the rows at the source change.
    target.sql("CREATE OR REPLACE FUNCTION help.f(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1; END $$");
    let before = source.sql("SELECT count(*), sum(id) FROM large");
    source.sql("DELETE FROM small; DELETE FROM large WHERE id > 200000");
    let done = try_clone(&source, &target, &["-j", "2", "--resume"]).expect(0);
    assert!(done.stdout.contains("copied    0 rows"), "{}", done.stdout);
    assert_eq!(target.sql("SELECT count(*), sum(id) FROM large"), before);
    assert_eq!(target.sql("SELECT count(*) FROM small"), "20000");
    assert_tidy(&target);
}

#[test]
fn sessions_that_the_source_ends_cost_time_and_no_row() {
    let Some(server) = any_server() else { return };
    let source = large(&server, "clone_ended");
    for round in 0..3 {
        let target = server.empty(&format!("clone_ended_{round}"));
        let mut child = start(&source, &target, &["-j", "2"]);
        let mut ended = 0;
        while child.try_wait().unwrap().is_none() {
            // Not those that hold the snapshot, and not all the time.
            let copying = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE '%COPY%large%' AND state = 'active' AND pid <> pg_backend_pid() LIMIT 1) s";
            if ended < 3 {
                ended += source.sql(copying).parse::<u32>().unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(ended > 0, "no session was ended");
        assert_equal(&source, &target);
    }
}

#[test]
fn an_interrupt_ends_all_sessions_and_what_is_done_is_kept() {
    let Some(server) = any_server() else { return };
    let source = large(&server, "clone_interrupt");
    let target = server.empty("clone_interrupt_r");
    let child = start(&source, &target, &["-j", "2"]);
    let began = Instant::now();
    let there = "SELECT to_regclass('pgtide_clone.done') IS NOT NULL";
    while target.sql(there) != "t" {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("interrupted") && said.contains("--resume"),
        "{said}"
    );
    no_sessions_remain(&source);
    no_sessions_remain(&target);
    try_clone(&source, &target, &["--drop-existing", "--yes", "-j", "2"]).expect(0);
    assert_equal(&source, &target);
    assert_tidy(&target);
}

#[test]
fn the_target_is_created_as_the_source_is_and_replaced_only_if_told_to() {
    let Some(server) = any_server() else { return };
    let source = server.database("clone_create", "ENCODING 'LATIN1' LOCALE 'C'");
    source.sql("CREATE TABLE a (v text); INSERT INTO a VALUES (chr(228))");
    let target = server.no_database("clone create \"r\"");
    try_clone(&source, &target, &["--create"]).expect(0);
    assert_equal(&source, &target);
    let encoding = "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()";
    assert_eq!(source.sql(encoding), target.sql(encoding));
    target.sql("CREATE TABLE b ()");
    try_clone(&source, &target, &["--create"])
        .expect(1)
        .says(&["exists already", "--drop-existing"]);
    assert_eq!(target.sql("SELECT count(*) FROM b"), "0");
    try_clone(&source, &target, &["--create", "--drop-existing", "--yes"]).expect(0);
    assert_equal(&source, &target);
    try_clone(&source, &source, &["--create", "--drop-existing", "--yes"])
        .expect(1)
        .says(&["the same database"]);
    assert_eq!(source.sql("SELECT count(*) FROM a"), "1");
}

#[test]
fn what_stands_in_the_way_is_said_before_anything_is_touched() {
    let Some(server) = any_server() else { return };
    let (source, target) = (server.empty("clone_way"), server.empty("clone_way_r"));
    source.sql("CREATE TABLE a (id integer CHECK (id > 0)); INSERT INTO a VALUES (1), (2)");
    target.sql("CREATE TABLE a (old text)");
    try_clone(&source, &source, &[])
        .expect(1)
        .says(&["source and target are the same database"]);
    try_clone(&source, &target, &[]).expect(1).says(&[
        "nothing was",
        "objects that exist already",
        "TABLE public.a",
        "--drop-existing",
    ]);
    // Without a terminal to ask on.
    try_clone(&source, &target, &["--drop-existing"])
        .expect(2)
        .says(&["This drops all", "--yes"]);
    assert_eq!(target.sql("SELECT count(*) FROM a"), "0");
    try_clone(&source, &target, &["--drop-existing", "--yes"]).expect(0);
    assert_equal(&source, &target);
    // A row that the target does not take.
    target.sql("TRUNCATE a; ALTER TABLE a ADD CHECK (id > 1)");
    try_clone(&source, &target, &["-a"])
        .expect(1)
        .says(&["rows of public.a", "violates check constraint"]);
    assert_eq!(target.sql("SELECT count(*) FROM a"), "0");
    no_sessions_remain(&source);
}

#[test]
fn a_standby_is_a_source_like_any_other_but_for_what_it_does_not_have() {
    let Some(bin_dir) = server::bin_dir() else {
        return;
    };
    let primary = server::TestServer::start(&bin_dir, "max_wal_senders = 4");
    primary.psql(
        "CREATE TABLE a (id integer PRIMARY KEY, v text); INSERT INTO a SELECT g, repeat('v', g % 50) FROM generate_series(1, 100000) g;
         CREATE UNLOGGED TABLE u (id integer); INSERT INTO u VALUES (1)",
    );
    primary.psql("CREATE DATABASE copy");
    primary.psql("CREATE DATABASE nothing");
    let standby = primary.standby();
    let clone = |source: &str, target: &str| {
        let mut command = pgtide(&["clone", "--source", source, "--target", target]);
        command.env("PATH", &bin_dir).env_remove("PGTIDE_PG_DUMP");
        finish(command)
    };
    // The unlogged table has no rows there, and that is said.
    clone(&standby.conninfo("postgres"), &primary.conninfo("copy"))
        .expect(3)
        .says(&["public.u is unlogged"]);
    let digest = "DO $$ BEGIN IF (SELECT count(*) <> 100000 OR sum(length(v)) <> 2450000 FROM a) OR EXISTS (SELECT FROM u) THEN RAISE 'not the same'; END IF; END $$";
    primary.psql_in("copy", digest);
    // The target cannot be one.
    clone(&primary.conninfo("copy"), &standby.conninfo("nothing"))
        .expect(1)
        .says(&["read-only"]);
}

// Kindness -------------------------------------------------------------------------------------------------------------

#[test]
fn rows_are_read_no_faster_than_they_may_be_and_the_snapshot_held_no_longer() {
    let Some(server) = any_server() else { return };
    let source = server.empty("clone_kind");
    source.sql(
        "CREATE TABLE a (b bytea); ALTER TABLE a ALTER b SET STORAGE EXTERNAL;
         INSERT INTO a SELECT decode(repeat(md5(g::text), 600), 'hex') FROM generate_series(1, 1000) g",
    );
    let target = server.empty("clone_kind_r");
    // 9.6 MB: no machine is so slow that it would take this long without being told to, and no faster may it be.
    let began = Instant::now();
    try_clone(&source, &target, &["--max-rate", "4MB", "-j", "2"]).expect(0);
    assert!(began.elapsed() > Duration::from_secs(2), "too fast");
    assert_equal(&source, &target);
    let done = try_clone(
        &source,
        &target,
        &[
            "--drop-existing",
            "--yes",
            "--max-rate",
            "100kB",
            "--max-snapshot-age",
            "1s",
        ],
    );
    done.expect(1).says(&[
        "the MVCC snapshot was held for 1s",
        "--max-snapshot-age",
        "hint:",
    ]);
    no_sessions_remain(&source);
    // All rows are not there, and it is known.
    try_clone(&source, &target, &["--resume"])
        .expect(1)
        .says(&["that MVCC snapshot is gone"]);
}
