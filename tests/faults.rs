//! What happens when things break in the middle of a dump: nothing stored is lost, and nothing false is said.

#[path = "common/live.rs"]
mod live;
#[path = "common/server.rs"]
#[allow(dead_code)]
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use live::{Database, Server, ok, pgtide, said, servers};
use rand::Rng;

/// Incompressible rows, so that packs fill and are finished while a dump runs.
fn noise(server: &Server, megabytes: u32) -> Database {
    let database = server.database("noise");
    database.run(&format!(
        "CREATE TABLE public.noise (id int, bytes bytea);
         ALTER TABLE public.noise ALTER COLUMN bytes SET STORAGE EXTERNAL;
         INSERT INTO public.noise
           SELECT i, (SELECT string_agg(sha512((i || ' ' || j)::bytea), '') FROM generate_series(1, 256) j)
           FROM generate_series(1, {}) i",
        megabytes * 64
    ));
    database
}

fn dump(repo: &Path, database: &Database) -> Command {
    let mut command = pgtide(repo, &database.server);
    command
        .arg("dump")
        .args(database.args())
        .args(["-j", "2", "--json", "-Z", "fast"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn init(repo: &Path, server: &Server) {
    ok(pgtide(repo, server).arg("init"));
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn added_bytes(report: &str) -> u64 {
    json(report)["snapshot"]["totals"]["added_bytes"]
        .as_u64()
        .unwrap()
}

fn check(repo: &Path, server: &Server) {
    ok(pgtide(repo, server).args(["check", "--read-data", "-q"]));
}

fn snapshots(repo: &Path, server: &Server) -> usize {
    let list = ok(pgtide(repo, server).args(["snapshots", "--json"]));
    json(&list)["snapshots"].as_array().unwrap().len()
}

fn packs(repo: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in std::fs::read_dir(repo.join("packs")).into_iter().flatten() {
        for pack in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            found.insert(pack.unwrap().file_name().into_string().unwrap());
        }
    }
    found
}

/// Sessions of pgtide and its pg_dump in the database.
fn sessions(database: &Database) -> String {
    database.value(
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
    for server in servers(&["15", "17", "18"]).into_iter().take(1) {
        let source = noise(&server, 320);
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("whole");
        init(&whole, &server);
        let began = Instant::now();
        let full = added_bytes(&ok(&mut dump(&whole, &source)));
        let took = began.elapsed();

        let repo = dir.path().join("killed");
        init(&repo, &server);
        let mut kept = BTreeSet::new();
        let mut killed = 0;
        for round in 0..10 {
            let mut child = dump(&repo, &source).spawn().unwrap();
            // The later rounds more often get far.
            let moment = rand::rng().random_range(0.02..1.0) * (0.5 + f64::from(round) / 10.0);
            std::thread::sleep(took.mul_f64(moment.min(0.95)));
            // SIGKILL: no handler runs, nothing is flushed.
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            killed += u32::from(!output.status.success());
            check(&repo, &server);
            let now = packs(&repo);
            assert!(now.is_superset(&kept), "a finished pack is gone");
            kept = now;
            no_sessions_remain(&source);
        }
        assert!(killed >= 5, "the dump was too fast to be killed");
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
        let last = added_bytes(&ok(&mut dump(&repo, &source)));
        check(&repo, &server);
        assert!(
            last < full * 9 / 10,
            "{before} packs were there, yet {last} of {full} bytes were stored again"
        );
        let digest = |repo: &Path| {
            let shown = json(&ok(pgtide(repo, &server).args(["show", "latest", "--json"])));
            shown["tables"][0]["digest"].clone()
        };
        assert_eq!(digest(&repo), digest(&whole));
    }
}

#[test]
fn an_interrupt_ends_the_dump_and_its_sessions_and_the_next_run_goes_on() {
    for server in servers(&["17"]) {
        let source = noise(&server, 160);
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        init(&repo, &server);
        for signal in ["-INT", "-TERM"] {
            let child = dump(&repo, &source).spawn().unwrap();
            let began = Instant::now();
            while sessions(&source).parse::<u32>().unwrap() < 4 {
                assert!(began.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(200));
            ok(Command::new("kill").args([signal, &child.id().to_string()]));
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            assert!(said(&output).contains("interrupted"), "{}", said(&output));
            no_sessions_remain(&source);
        }
        assert_eq!(snapshots(&repo, &server), 0);
        check(&repo, &server);
        let stored = packs(&repo);
        assert!(
            !stored.is_empty(),
            "an interrupted dump keeps what it stored"
        );
        let report = ok(&mut dump(&repo, &source));
        assert!(packs(&repo).is_superset(&stored));
        assert!(json(&report)["snapshot"]["totals"]["rows"] == 160 * 64);
        check(&repo, &server);
    }
}

#[test]
fn a_full_disk_is_said_and_costs_nothing_that_was_stored() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT RUN: only root may mount a small file system");
        return;
    }
    for server in servers(&["17"]) {
        let source = noise(&server, 60);
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("small");
        std::fs::create_dir(&mount).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=30m", "tmpfs"])
            .arg(&mount)
            .status()
            .unwrap();
        if !mounted.success() {
            eprintln!("NOT RUN: a small file system cannot be mounted here");
            return;
        }
        let unmount = Unmount(&mount);
        let repo = mount.join("repo");
        init(&repo, &server);
        let small = server.database("small");
        small.run("CREATE TABLE public.t AS SELECT i FROM generate_series(1, 1000) i");
        ok(&mut dump(&repo, &small));
        let output = dump(&repo, &source).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).to_lowercase().contains("no space") || said(&output).contains("full"),
            "{}",
            said(&output)
        );
        no_sessions_remain(&source);
        assert_eq!(snapshots(&repo, &server), 1);
        check(&repo, &server);
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
    for server in servers(&["17"]) {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        init(&repo, &server);
        let refused = pgtide(&repo, &server)
            .args([
                "dump",
                "-h",
                "127.0.0.1",
                "-p",
                "1",
                "-U",
                "postgres",
                "-d",
                "x",
            ])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains("127.0.0.1"), "{}", said(&refused));
        assert!(said(&refused).contains("refused"), "{}", said(&refused));

        let mut args = server.database("gone").args();
        *args.last_mut().unwrap() = "no such database".to_owned();
        let unknown = pgtide(&repo, &server)
            .arg("dump")
            .args(args)
            .output()
            .unwrap();
        assert_eq!(unknown.status.code(), Some(1));
        assert!(said(&unknown).contains("3D000"), "{}", said(&unknown));
        assert_eq!(snapshots(&repo, &server), 0);
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
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    let run = |server: &server::TestServer, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgtide"));
        command
            .env("PGTIDE_REPO", &repo)
            .env("PGTIDE_PG_DUMP", bin.join("pg_dump"))
            .args(arguments);
        if arguments[0] == "dump" {
            command
                .args(["-h", &server.socket_dir.to_string_lossy()])
                .args(["-p", &server.port.to_string()])
                .args(["-U", server::SUPERUSER, "-d", "postgres"]);
        }
        let output = command.output().unwrap();
        // A standby's unlogged tables are left out, and that is said.
        let skipped = arguments[0] == "dump" && server.port != primary.port;
        let expected = if skipped { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&primary, &["init"]);
    let from_primary = json(&run(&primary, &["dump", "--json"]));
    let from_standby = json(&run(&standby, &["dump", "--json"]));
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
        let shown = json(&run(&primary, &["show", id.as_str().unwrap(), "--json"]));
        let tables = shown["tables"].as_array().unwrap().clone();
        tables
            .into_iter()
            .find(|table| table["name"] == "t")
            .unwrap()["digest"]
            .clone()
    };
    assert_eq!(
        digest(&from_primary["snapshot_id"]),
        digest(&from_standby["snapshot_id"])
    );
}
