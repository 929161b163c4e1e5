//! What happens when things break in the middle of a dump or a restore: nothing stored is lost, and nothing false is said.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::equal::assert_equal;
use common::program::{Repo, finish};
use common::server;
use common::testbed::{Database, Server, conninfo, run, sql_file};
use common::timescale::{assert_awake, assert_same, contents};
use nix::sys::signal::Signal;
use rand::Rng;

/// Incompressible rows, so that packs fill and are finished while a dump runs.
fn noise<'s>(server: &'s Server, name: &str, megabytes: u32) -> Database<'s> {
    let database = server.empty(name);
    database.sql(&format!(
        "CREATE TABLE public.noise (id int, bytes bytea);
         ALTER TABLE public.noise ALTER COLUMN bytes SET STORAGE EXTERNAL;
         INSERT INTO public.noise
           SELECT i, (SELECT string_agg(sha512((i || ' ' || j)::bytea), '') FROM generate_series(1, 256) j)
           FROM generate_series(1, {}) i",
        megabytes * 64
    ));
    database
}

fn dump(repo: &Repo, database: &Database) -> Command {
    let dbname = conninfo(&database.name);
    let options = ["dump", "-d", &dbname, "-j", "2", "--json", "-Z", "fast"];
    let mut command = repo.command(database.server, &options);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Both outputs of a command, for messages.
fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn added_bytes(report: &str) -> u64 {
    json(report)["snapshot"]["totals"]["added_bytes"]
        .as_u64()
        .unwrap()
}

fn check(repo: &Repo) {
    repo.local(&["check", "--read-data", "-q"]).expect(0);
}

fn snapshots(repo: &Repo) -> usize {
    let list = repo.local(&["snapshots", "--json"]).expect(0).json();
    list["snapshots"].as_array().unwrap().len()
}

fn packs(repo: &Repo) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in std::fs::read_dir(repo.path().join("packs"))
        .into_iter()
        .flatten()
    {
        for pack in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            found.insert(pack.unwrap().file_name().into_string().unwrap());
        }
    }
    found
}

/// Sessions of pgtide and its pg_dump in the database.
fn sessions(database: &Database) -> String {
    database.sql(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name IN ('pgtide', 'pg_dump')",
    )
}

fn no_sessions_remain(database: &Database) {
    let began = Instant::now();
    while sessions(database) != "0" {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "sessions remain at the server"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dump_killed_at_ten_random_moments_leaves_a_sound_repository_and_the_next_reuses_what_it_stored()
 {
    let mut servers = ["15", "17", "18"].into_iter().filter_map(Server::find);
    let Some(server) = servers.next() else {
        return;
    };
    let source = noise(&server, "killed", 320);
    let (whole, mut repo) = (Repo::new(), Repo::new());
    let began = Instant::now();
    let full = added_bytes(&run(dump(&whole, &source)));
    let mut took = began.elapsed();

    let mut kept = BTreeSet::new();
    let mut killed = 0;
    for _ in 0..50 {
        if killed == 10 {
            break;
        }
        let mut child = dump(&repo, &source).spawn().unwrap();
        std::thread::sleep(took.mul_f64(rand::rng().random_range(0.02..0.95)));
        // SIGKILL: no handler runs, nothing is flushed.
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        check(&repo);
        no_sessions_remain(&source);
        if output.status.success() {
            // It was done before: after that, nothing new would ever be stored there.
            repo = Repo::new();
            kept.clear();
            took = took.mul_f64(0.9);
            continue;
        }
        killed += 1;
        let now = packs(&repo);
        assert!(now.is_superset(&kept), "a finished pack is gone");
        kept = now;
    }
    assert_eq!(killed, 10, "the dump was too fast to be killed");
    // Should all ten have come too early for a finished pack, some late ones make sure that there is one.
    for _ in 0..5 {
        if kept.is_empty() {
            let mut child = dump(&repo, &source).spawn().unwrap();
            std::thread::sleep(took.mul_f64(0.9));
            child.kill().unwrap();
            child.wait().unwrap();
            kept = packs(&repo);
        }
    }
    let before = kept.len();
    assert!(before > 0, "no pack was ever finished");
    let last = added_bytes(&run(dump(&repo, &source)));
    check(&repo);
    assert!(
        last < full * 9 / 10,
        "{before} packs were there, yet {last} of {full} bytes were stored again"
    );
    let digest = |repo: &Repo| repo.open("latest").tables[0].digest;
    assert_eq!(digest(&repo), digest(&whole));
}

#[test]
fn an_interrupt_ends_the_dump_and_its_sessions_and_the_next_run_goes_on() {
    if let Some(server) = Server::find("17") {
        let source = noise(&server, "interrupted", 160);
        let repo = Repo::new();
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let child = dump(&repo, &source).spawn().unwrap();
            let began = Instant::now();
            while sessions(&source).parse::<u32>().unwrap() < 4 {
                assert!(began.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(200));
            let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
            nix::sys::signal::kill(pid, signal).unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            assert!(said(&output).contains("interrupted"), "{}", said(&output));
            no_sessions_remain(&source);
        }
        assert_eq!(snapshots(&repo), 0);
        check(&repo);
        let stored = packs(&repo);
        assert!(
            !stored.is_empty(),
            "an interrupted dump keeps what it stored"
        );
        let report = run(dump(&repo, &source));
        assert!(packs(&repo).is_superset(&stored));
        assert!(json(&report)["snapshot"]["totals"]["rows"] == 160 * 64);
        check(&repo);
    }
}

#[test]
fn a_full_disk_is_said_and_costs_nothing_that_was_stored() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT RUN: only root may mount a small file system");
        return;
    }
    if let Some(server) = Server::find("17") {
        let source = noise(&server, "full", 60);
        let repo = Repo::new();
        let place = repo.path();
        std::fs::remove_dir_all(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=30m", "tmpfs"])
            .arg(&place)
            .status()
            .unwrap();
        if !mounted.success() {
            eprintln!("NOT RUN: a small file system cannot be mounted here");
            return;
        }
        let unmount = Unmount(&place);
        repo.local(&["init"]).expect(0);
        let small = server.empty("small");
        small.sql("CREATE TABLE public.t AS SELECT i FROM generate_series(1, 1000) i");
        run(dump(&repo, &small));
        let output = dump(&repo, &source).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).to_lowercase().contains("no space") || said(&output).contains("full"),
            "{}",
            said(&output)
        );
        no_sessions_remain(&source);
        assert_eq!(snapshots(&repo), 1);
        check(&repo);
        drop(unmount);
    }
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_refused_connection_and_an_unknown_database_are_said_plainly() {
    if let Some(server) = Server::find("17") {
        let repo = Repo::new();
        let nobody = "host=127.0.0.1 port=1 user=postgres dbname=x";
        repo.run(&server, &["dump", "-d", nobody])
            .expect(1)
            .says(&["127.0.0.1", "refused"]);
        repo.run(&server, &["dump", "-d", "no such database"])
            .expect(1)
            .says(&["3D000"]);
        assert_eq!(snapshots(&repo), 0);
    }
}

#[test]
fn a_standby_is_dumped_like_its_primary() {
    let Some(bin) = server::bin_dir() else {
        eprintln!("NOT RUN: no PostgreSQL server programs on this machine");
        return;
    };
    let primary = server::TestServer::start(&bin, "wal_level = replica\nmax_wal_senders = 4\n");
    primary.psql(
        "CREATE TABLE public.t AS SELECT i AS id, md5(i::text) AS text FROM generate_series(1, 20000) i;
         CREATE UNLOGGED TABLE public.u (id int GENERATED ALWAYS AS IDENTITY);
         INSERT INTO public.u DEFAULT VALUES;",
    );
    let standby = primary.standby();
    let repo = Repo::new();
    // A standby's unlogged tables are left out, and that is said and has an exit code of its own.
    let dump = |server: &server::TestServer, code: i32| {
        let conninfo = server.conninfo("postgres");
        let mut command = repo.local_command(&["dump", "--json", "-d", &conninfo]);
        // Found there, it works in a session of the dump's.
        command.env("PATH", &bin).env_remove("PGTIDE_PG_DUMP");
        finish(command).expect(code).json()
    };
    let from_primary = dump(&primary, 0);
    let from_standby = dump(&standby, 3);
    let snapshot = &from_standby["snapshot"];
    assert_eq!(snapshot["source"]["standby"], true);
    assert!(
        snapshot["warnings"][0]
            .as_str()
            .unwrap()
            .contains("public.u is unlogged"),
        "{snapshot}"
    );
    // The same pages, the same blocks.
    assert_eq!(from_primary["snapshot"]["totals"]["rows"], 20_001);
    assert_eq!(snapshot["totals"]["rows"], 20_000);
    let digest = |id: &serde_json::Value| {
        let opened = repo.open(id.as_str().unwrap());
        let table = opened.tables.iter().find(|table| table.name == "t");
        table.unwrap().digest
    };
    assert_eq!(
        digest(&from_primary["snapshot_id"]),
        digest(&from_standby["snapshot_id"])
    );
}

/// What a restore has done at the moment at which it is killed: each is true from then on, but for the last, during which
/// a view takes its time, and for what drops a whole database first.
const MOMENTS: &[(&str, &str)] = &[
    (
        "creates",
        "EXISTS (SELECT FROM pg_class WHERE relname LIKE '\\_hyper%chunk' AND relkind = 'r')",
    ),
    (
        "loads",
        "EXISTS (SELECT FROM pg_class WHERE relname LIKE '\\_hyper%chunk' AND relkind = 'r' AND pg_relation_size(oid) > 0)",
    ),
    (
        "indexes",
        "EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname LIKE '\\_hyper%chunk')",
    ),
    (
        "has yet to load the catalog",
        "EXISTS (SELECT FROM pg_stats WHERE tablename LIKE '\\_hyper%chunk')",
    ),
    (
        "has loaded the catalog",
        "EXISTS (SELECT FROM _timescaledb_catalog.hypertable)",
    ),
    (
        "drops what was there",
        "NOT EXISTS (SELECT FROM _timescaledb_catalog.hypertable) AND EXISTS (SELECT FROM pg_db_role_setting WHERE setconfig::text LIKE '%unfinished_restore%')",
    ),
    (
        "refreshes views",
        "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%REFRESH%slow%' AND state = 'active' AND pid <> pg_backend_pid())",
    ),
];

fn restores_killed(server: &Server, source: &Database, name: &str) {
    source.sql("CREATE MATERIALIZED VIEW slow AS SELECT count(*) FROM (SELECT pg_sleep(0.7)) s");
    let repo = Repo::new();
    let id = repo.dump(source, &["-j", "2"]);
    let target = server.empty(&format!("{name}_r"));
    let dbname = conninfo(&target.name);
    let mark = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() AND s.setconfig::text LIKE '%unfinished_restore%'";
    for (moment, reached) in MOMENTS {
        // It may ask for what is not there yet.
        let look = format!(
            "DO $$ DECLARE reached boolean := false; BEGIN LOOP
               BEGIN EXECUTE $look$SELECT {reached}$look$ INTO reached; EXCEPTION WHEN undefined_table OR undefined_object THEN NULL; END;
               EXIT WHEN reached; PERFORM pg_sleep(0.001), pg_stat_clear_snapshot();
             END LOOP; END $$"
        );
        let mut options = vec!["restore", &id, "-d", &dbname, "-j", "2"];
        if moment.starts_with("drops") {
            repo.restore(&id, &target, &[]);
            options.extend(["--clean", "--yes"]);
        }
        let mut command = repo.command(server, &options);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        target.sql(&format!("SET statement_timeout = '60s'; {look}"));
        // SIGKILL: no handler runs, nothing is tidied up.
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{moment}: it had ended before");
        no_sessions_remain(&target);
        assert_eq!(target.sql(mark), "1", "{moment}");
        let refused = repo.try_restore(&id, &target, &[]).expect(1);
        refused.says(&[
            "nothing was restored",
            "unfinished restore",
            &source.name,
            "--clean",
        ]);
        repo.restore(&id, &target, &["--clean", "--yes", "-j", "2"]);
        assert_equal(source, &target);
        assert_same(&contents(source), &contents(&target));
        assert_eq!(target.sql(mark), "0", "{moment}");
        assert_awake(&target);
        // The next one begins with nothing.
        server.psql(
            "postgres",
            &[
                "-c",
                &format!("DROP DATABASE {} WITH (FORCE)", target.name),
                "-c",
                &format!(
                    "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'",
                    target.name
                ),
            ],
        );
    }
}

#[test]
fn a_restore_killed_at_seven_moments_is_known_to_be_unfinished_and_the_next_makes_it_whole() {
    if let Some(server) = Server::with_timescale("17") {
        let source = server.empty("ts_killed");
        source.sql("CREATE EXTENSION timescaledb");
        source.sql(
            "CREATE TABLE device (id integer PRIMARY KEY); INSERT INTO device SELECT generate_series(0, 9);
             CREATE TABLE metrics (at timestamptz NOT NULL, device integer NOT NULL REFERENCES device, v integer, PRIMARY KEY (at, device));
             SELECT create_hypertable('metrics', 'at', chunk_time_interval => interval '1 day');
             INSERT INTO metrics SELECT '2025-01-01 00:00:00+00'::timestamptz + g * interval '1 minute', g % 10, g FROM generate_series(0, 29999) g;
             CREATE INDEX metrics_v ON metrics (v); CREATE TABLE remark (at timestamptz, device integer, FOREIGN KEY (at, device) REFERENCES metrics);
             INSERT INTO remark SELECT at, device FROM metrics WHERE v = 10",
        );
        restores_killed(&server, &source, "ts_killed");
    }
    if let Some(server) = Server::tsl() {
        let source = server.empty("tsl_killed");
        source.sql("CREATE EXTENSION timescaledb");
        source.psql(&["-f", &sql_file("timescale-tsl.sql")]);
        source.sql("SELECT (alter_job(job_id, scheduled => false)).job_id FROM timescaledb_information.jobs WHERE job_id >= 1000");
        source.sql("SELECT _timescaledb_functions.stop_background_workers()");
        restores_killed(&server, &source, "tsl_killed");
    }
}
