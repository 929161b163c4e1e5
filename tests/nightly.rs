//! `pgtide run`: the nightly job, night after night, and everything that can go wrong in one.

mod common;
mod nightly_support;
mod store_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::program::{Done, finish, pgtide};
use common::server::{TestServer, bin_dir};
use common::testbed::Server;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use nightly_support::Catcher;
use store_support::endpoint::{self, Endpoint};

const PASSWORD: &str = "correct horse";

/// A place for configuration, passwords, metrics and repositories of a test.
struct Place {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
    path: Option<std::ffi::OsString>,
}

impl Place {
    fn new() -> Place {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
            env: Vec::new(),
            path: None,
        };
        std::fs::create_dir(place.file("metrics")).unwrap();
        std::fs::write(place.file("password"), PASSWORD).unwrap();
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration.
    fn config(&self, text: &str) {
        std::fs::write(self.file("pgtide.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = pgtide(arguments);
        command.env("PGTIDE_CONFIG", self.file("pgtide.toml"));
        command.env("XDG_RUNTIME_DIR", self.dir.path());
        command.env("PGTIDE_CACHE_DIR", self.file("cache"));
        command.env("TZ", "UTC");
        command.env_remove("PGTIDE_PG_DUMP");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.envs(self.path.as_ref().map(|path| ("PATH", path)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        finish(self.command(arguments))
    }

    /// Runs the profile at that time.
    fn night(&self, time: Timestamp) -> Done {
        self.night_with(time, &[])
    }

    fn night_with(&self, time: Timestamp, env: &[(&str, &str)]) -> Done {
        let mut command = self.command(&["run", "nightly", "--json"]);
        command.env("PGTIDE_TEST_CLOCK", time.to_string());
        command.envs(env.iter().copied());
        finish(command)
    }

    /// The metrics of the profile.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let text = std::fs::read_to_string(self.file("metrics/pgtide_nightly.prom")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        let found = metrics.get(&format!("{name}{{profile=\"nightly\"}}"));
        *found.unwrap_or_else(|| panic!("{name} is not among {metrics:#?}"))
    }
}

fn step<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let steps = report["steps"].as_array().unwrap();
    steps
        .iter()
        .find(|step| step["step"] == name)
        .unwrap_or(&serde_json::Value::Null)
}

/// The dates of the nights that a policy of 7 days, 4 weeks and 6 months leaves, by counting.
fn kept(nights: &[Date]) -> BTreeSet<Date> {
    let mut kept = BTreeSet::new();
    let newest = |of: &dyn Fn(&Date) -> (i16, i8), most: usize| {
        let mut newest: BTreeMap<(i16, i8), Date> = BTreeMap::new();
        for night in nights {
            newest.insert(of(night), *night);
        }
        newest.into_values().rev().take(most).collect::<Vec<_>>()
    };
    kept.extend(nights.iter().rev().take(7));
    kept.extend(newest(
        &|date| (date.iso_week_date().year(), date.iso_week_date().week()),
        4,
    ));
    kept.extend(newest(&|date| (date.year(), date.month()), 6));
    kept
}

/// The dates of the cluster's snapshots in a repository.
fn dates(place: &Place, repo: &str, env: &[(&str, &str)]) -> BTreeMap<Date, String> {
    let mut command = place.command(&["snapshots", "--json", "--repo", repo]);
    command.env("PGTIDE_PASSWORD_FILE", place.file("password"));
    command.envs(env.iter().copied());
    let document = finish(command).expect(0).json();
    let snapshots = document["snapshots"].as_array().unwrap();
    let clusters = snapshots
        .iter()
        .filter(|s| s["snapshot"]["cluster"]["databases"].is_array());
    clusters
        .map(|snapshot| {
            let time: Timestamp = snapshot["snapshot"]["time"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
            (date, snapshot["id"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn forty_nights_leave_what_the_policy_names_in_both_repositories() {
    let Some(server) = Server::with_timescale("17") else {
        return;
    };
    let (shop, crm, metrics) = (
        server.empty("night_shop"),
        server.empty("night_crm"),
        server.empty("night_metrics"),
    );
    shop.sql("CREATE TABLE orders (id serial PRIMARY KEY, what text); INSERT INTO orders (what) SELECT n::text FROM generate_series(1, 3000) n");
    crm.sql("CREATE TABLE people (name text); INSERT INTO people SELECT 'p' || n FROM generate_series(1, 500) n");
    metrics.sql("CREATE EXTENSION timescaledb");
    metrics.sql(
        "CREATE TABLE readings (time timestamptz NOT NULL, value float8);
         SELECT create_hypertable('readings', 'time', chunk_time_interval => interval '7 days');
         INSERT INTO readings SELECT timestamptz '2026-01-01' + n * interval '1 hour', n FROM generate_series(1, 500) n",
    );
    let s3 = Endpoint::start();
    let (mail, web) = (Catcher::mail(), Catcher::web());
    let mut place = Place::new();
    place.path = Some(server.path.clone());
    place.env = server.env.clone();
    place.env.extend([
        ("AWS_ACCESS_KEY_ID".to_owned(), "key".to_owned()),
        (
            "AWS_SECRET_ACCESS_KEY".to_owned(),
            endpoint::SECRET.to_owned(),
        ),
    ]);
    place.config(&format!(
        r#"
[sources.main]
connection = "dbname=postgres connect_timeout=5 port=${{PORT_OF_TONIGHT}}"
pg_dumpall = "{dumpall}"

[repositories.main]
location = "s3://bucket/main"
options = {{ "s3.endpoint" = "{s3}" }}
password = {{ file = "password" }}

[repositories.second]
location = "second"
password = {{ file = "password" }}

[profiles.nightly]
source = "main"
repository = "main"
databases = ["{shop}", "{crm}", "{metrics}"]
globals = true
every = "1d"
retries = 0
keep = {{ daily = 7, weekly = 4, monthly = 6 }}
verify = {{ server = "main", every = "10d", rto = "10min" }}
check = {{ read_data = "10%", every = "7d" }}
copy = {{ to = "second" }}

[[notify.mail]]
server = "smtp+plain://{mail}"
from = "pgtide@example.org"
to = ["dba@example.org"]

[[notify.webhook]]
url = "http://{web}/hook"
on = ["start", "success", "failure", "anomaly"]

[[notify.ping]]
url = "http://{web}/ping"

[metrics]
textfile = "metrics"
push = "http://{web}"
"#,
        dumpall = server.program_name("DUMPALL", "pg_dumpall"),
        s3 = s3.address,
        shop = shop.name,
        crm = crm.name,
        metrics = metrics.name,
        mail = mail.address,
        web = web.address,
    ));
    let port = server
        .env
        .iter()
        .find(|(name, _)| name == "PGPORT")
        .unwrap()
        .1
        .clone();
    let s3_options = format!("s3.endpoint={}", s3.address);
    let s3_env = [("PGTIDE_REPO_OPTIONS", s3_options.as_str())];
    for (repo, env) in [
        ("s3://bucket/main", &s3_env[..]),
        (place.file("second").to_str().unwrap(), &[]),
    ] {
        let mut init = place.command(&["init", "--encrypt", "--repo", repo]);
        init.env("PGTIDE_PASSWORD_FILE", place.file("password"));
        init.envs(env.iter().copied());
        finish(init).expect(0);
    }
    place.env.push(("PORT_OF_TONIGHT".to_owned(), port));
    place.run(&["config", "check"]).expect(0);

    let first = jiff::civil::date(2026, 1, 1);
    let broken = 20;
    let mut nights = Vec::new();
    for number in 0..40 {
        let date = first.checked_add(i64::from(number).days()).unwrap();
        let time = date
            .at(2, 0, 0, 0)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .unwrap()
            .timestamp();
        shop.sql(&format!("INSERT INTO orders (what) VALUES ('night {number}'); UPDATE orders SET what = 'x' WHERE id = {}", number + 1));
        metrics.sql(&format!(
            "INSERT INTO readings VALUES (timestamptz '{date}', {number})"
        ));
        let when = format!("night {number}, {date}");
        if number == broken {
            let report = place
                .night_with(time, &[("PORT_OF_TONIGHT", "1")])
                .expect(1)
                .json();
            assert_eq!(report["outcome"], "failed", "{when}");
            let mails = mail.take();
            assert_eq!(mails.len(), 1, "{when}");
            assert!(
                mails[0].to.contains("dba@example.org") && mails[0].head.contains("FAILED"),
                "{mails:?}"
            );
            assert!(mails[0].body.contains("preflight"), "{mails:?}");
            let told: Vec<String> = web.take().into_iter().map(|caught| caught.to).collect();
            assert_eq!(
                told,
                [
                    "/hook",
                    "/ping/start",
                    "/hook",
                    "/ping/fail",
                    "/metrics/job/pgtide/profile/nightly"
                ],
                "{when}"
            );
            assert_eq!(place.metric("pgtide_last_run_success"), 0.0);
            assert_eq!(place.metric("pgtide_last_run_exit_code"), 1.0);
            // What the repository knows is as it was the night before.
            let night_before = (time - jiff::SignedDuration::from_hours(24)).as_second() as f64;
            let last = place.metric("pgtide_last_success_timestamp_seconds");
            assert!((last - night_before).abs() < 60.0, "{last}");
            continue;
        }
        let done = place.night(time);
        assert_eq!(done.code, 0, "{when}: {}\n{}", done.stdout, done.stderr);
        let report = done.json();
        nights.push(date);
        assert_eq!(report["databases"].as_array().unwrap().len(), 3, "{when}");
        let verified = step(&report, "verify");
        assert_eq!(
            verified["outcome"] == "done",
            [0, 10, 21, 31].contains(&number),
            "{when}: {verified}"
        );
        assert_eq!(
            step(&report, "copy")["outcome"],
            "done",
            "{when}: {report:#}"
        );
        let caught = web.take();
        let told: Vec<&str> = caught.iter().map(|caught| caught.to.as_str()).collect();
        assert_eq!(
            told,
            [
                "/hook",
                "/ping/start",
                "/hook",
                "/ping",
                "/metrics/job/pgtide/profile/nightly"
            ],
            "{when}"
        );
        let hook: serde_json::Value = serde_json::from_str(&caught[2].body).unwrap();
        let missed = number == broken + 1;
        assert_eq!(
            hook["event"],
            if missed { "anomaly" } else { "success" },
            "{when}: {hook:#}"
        );
        assert_eq!(hook["profile"], "nightly");
        let mails = mail.take();
        assert_eq!(mails.len(), usize::from(missed), "{when}: {mails:?}");
        if missed {
            assert!(mails[0].body.contains("a night is missing"), "{mails:?}");
        }
        assert_eq!(place.metric("pgtide_last_run_success"), 1.0);
        let at = time.as_second() as f64;
        assert!((place.metric("pgtide_last_success_timestamp_seconds") - at).abs() < 60.0);
        assert!(
            caught[4].body.contains("pgtide_repository_bytes"),
            "{caught:?}"
        );
    }

    let wanted = kept(&nights);
    let main = dates(&place, "s3://bucket/main", &s3_env);
    let second = place.file("second");
    let second = second.to_str().unwrap();
    let copies = dates(&place, second, &[]);
    assert_eq!(main.keys().copied().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(copies.keys().copied().collect::<BTreeSet<_>>(), wanted);
    // Every one of them restores, from both.
    for (repo, env, ids) in [
        ("s3://bucket/main", &s3_env[..], &main),
        (second, &[], &copies),
    ] {
        for id in ids.values() {
            let mut verify = place.command(&["verify", id, "--repo", repo, "-d", "postgres"]);
            verify.env("PGTIDE_PASSWORD_FILE", place.file("password"));
            verify.envs(env.iter().copied());
            finish(verify).expect(0);
        }
    }
    // And the terminal and the page show it.
    let mut status = place.command(&["status"]);
    status.env("PGTIDE_TEST_CLOCK", "2026-02-09T06:00:00Z");
    let status = finish(status).expect(0);
    assert!(status.stdout.starts_with("well"), "{}", status.stdout);
    let mut report = place.command(&["report", "-o", "-"]);
    report.env("PGTIDE_TEST_CLOCK", "2026-02-09T06:00:00Z");
    let page = finish(report).expect(0).stdout;
    assert!(
        page.contains("<rect class=\"failed\"") && page.contains("1 well"),
        "{}",
        &page[..500]
    );
    let history = place
        .run_with_password(&["history", "--repo", second])
        .expect(0);
    assert!(history.stdout.contains("committed"), "{}", history.stdout);
}

impl Place {
    fn run_with_password(&self, arguments: &[&str]) -> Done {
        let mut command = self.command(arguments);
        command.env("PGTIDE_PASSWORD_FILE", self.file("password"));
        finish(command)
    }
}

/// A server of its own, a database, a repository in a directory, and somebody who is told.
struct Trouble {
    server: TestServer,
    place: Place,
    web: Catcher,
}

impl Trouble {
    fn new(more: &str) -> Option<Trouble> {
        let server = TestServer::start(&bin_dir()?, "");
        server.psql("CREATE DATABASE shop");
        server.psql_in(
            "shop",
            "CREATE TABLE orders AS SELECT n, 'order ' || n what FROM generate_series(1, 4000) n",
        );
        let trouble = Trouble {
            server,
            place: Place::new(),
            web: Catcher::web(),
        };
        trouble.configure(more);
        trouble
            .place
            .run(&["init", "--repo", trouble.repo().to_str().unwrap()])
            .expect(0);
        Some(trouble)
    }

    fn repo(&self) -> PathBuf {
        self.place.file("repo/main")
    }

    fn configure(&self, more: &str) {
        self.place.config(&format!(
            r#"
[sources.main]
connection = "{connection}"

[repositories.main]
location = "repo/main"

[profiles.nightly]
source = "main"
repository = "main"
retries = 40
retry_wait = "100ms"
keep = {{ daily = 7 }}
{more}

[[notify.webhook]]
url = "http://{web}/hook"

[metrics]
textfile = "metrics"
"#,
            connection = self.server.tcp("postgres", "shop"),
            web = self.web.address,
        ));
    }

    fn at(&self, day: i8) -> Timestamp {
        let time = jiff::civil::date(2026, 3, day).at(2, 0, 0, 0);
        time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
    }

    /// A night that is as it should be.
    fn good(&self, day: i8) -> serde_json::Value {
        let report = self.place.night(self.at(day)).expect(0).json();
        self.web.take();
        report
    }

    /// A night that is not: its exit code, and what everybody is told.
    fn bad(&self, day: i8, code: i32, said: &str, env: &[(&str, &str)]) -> serde_json::Value {
        let done = self.place.night_with(self.at(day), env);
        assert_eq!(done.code, code, "{}\n{}", done.stdout, done.stderr);
        let report = done.json();
        let error = report["error"].as_str().unwrap_or_default();
        assert!(error.contains(said), "{said:?} is not in {error:?}");
        let told = self.web.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].body.contains("\"event\":\"failure\""), "{told:?}");
        assert_eq!(self.place.metric("pgtide_last_run_success"), 0.0);
        assert_eq!(
            self.place.metric("pgtide_last_run_exit_code"),
            f64::from(code)
        );
        report
    }

    fn snapshots(&self) -> usize {
        let repo = self.repo();
        let listed = self
            .place
            .run(&["snapshots", "--json", "--repo", repo.to_str().unwrap()]);
        listed.expect(0).json()["snapshots"]
            .as_array()
            .unwrap()
            .len()
    }

    fn check(&self) {
        let repo = self.repo();
        self.place
            .run(&["check", "--read-data", "--repo", repo.to_str().unwrap()])
            .expect(0);
    }
}

#[test]
fn a_server_that_is_down_is_asked_again_and_then_told_of() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    trouble.good(1);
    let stop = |how: &str| {
        let mut command = common::server::as_postgres(&trouble.server.bin_dir.join("pg_ctl"));
        command
            .args([how, "-w", "-m", "immediate", "-D"])
            .arg(&trouble.server.data_dir);
        command.args(["-l", "/dev/null"]).stdout(Stdio::null());
        common::server::run(&mut command);
    };
    stop("stop");
    let report = trouble.bad(2, 1, "preflight", &[]);
    assert_eq!(step(&report, "dump"), &serde_json::Value::Null);
    stop("start");
    trouble.good(3);
    assert_eq!(trouble.snapshots(), 2);
}

#[test]
fn a_wrong_password_is_not_tried_twice() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    trouble.server.psql("ALTER ROLE postgres PASSWORD 'right'");
    trouble
        .server
        .set_hba("host all all 127.0.0.1/32 scram-sha-256");
    let text = std::fs::read_to_string(trouble.place.file("pgtide.toml")).unwrap();
    let with = text.replacen(
        "[repositories.main]",
        "password = { env = \"DB_PASSWORD\" }\n[repositories.main]",
        1,
    );
    trouble.place.config(&with);
    trouble.bad(
        1,
        1,
        "password authentication failed",
        &[("DB_PASSWORD", "wrong")],
    );
    trouble.bad(1, 2, "DB_PASSWORD: is not set", &[]);
    let done = trouble
        .place
        .night_with(trouble.at(2), &[("DB_PASSWORD", "right")])
        .expect(0);
    assert!(!done.stdout.contains("right\""), "{}", done.stdout);
}

#[test]
fn a_lock_that_is_held_is_waited_for_again_and_again() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    // Locks are waited for, in vain the first time.
    trouble.configure("lock_wait_timeout = \"300ms\"");
    let server = &trouble.server;
    std::thread::scope(|scope| {
        let night = scope.spawn(|| trouble.place.night(trouble.at(1)));
        server.psql_in(
            "shop",
            "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT",
        );
        night.join().unwrap().expect(0);
    });
}

#[test]
fn a_disk_that_is_full_hurts_nothing() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    let mut mount = Command::new("mount");
    let repo = trouble.place.file("repo");
    mount
        .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
        .arg(&repo);
    if !nix::unistd::geteuid().is_root() || !mount.status().is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: a small file system cannot be mounted here");
        return;
    }
    let main = trouble.repo();
    let main = main.to_str().unwrap();
    let tested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        trouble.place.run(&["init", "--repo", main]).expect(0);
        trouble.good(1);
        trouble.server.psql_in("shop", "CREATE TABLE noise AS SELECT sha512(n::text::bytea) || sha512((n + 1)::text::bytea) b FROM generate_series(1, 600000) n");
        trouble.bad(2, 1, "no space left", &[]);
        trouble.server.psql_in("shop", "DROP TABLE noise");
        trouble.check();
        trouble.good(3);
        assert_eq!(trouble.snapshots(), 2);
    }));
    let _ = Command::new("umount").arg(&repo).status();
    tested.unwrap();
}

#[test]
fn a_storage_that_refuses_is_told_of() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    let s3 = Endpoint::start();
    let mut place = Place::new();
    std::fs::copy(trouble.place.file("pgtide.toml"), place.file("pgtide.toml")).unwrap();
    place.env.extend([
        ("AWS_ACCESS_KEY_ID".to_owned(), "key".to_owned()),
        (
            "AWS_SECRET_ACCESS_KEY".to_owned(),
            endpoint::SECRET.to_owned(),
        ),
        (
            "PGTIDE_REPO_OPTIONS".to_owned(),
            format!("s3.endpoint={} retries=1", s3.address),
        ),
    ]);
    let text = std::fs::read_to_string(place.file("pgtide.toml")).unwrap();
    let options = format!(
        "location = \"s3://bucket/x\"\noptions = {{ \"s3.endpoint\" = \"{}\", retries = \"1\" }}",
        s3.address
    );
    place.config(&text.replacen("location = \"repo/main\"", &options, 1));
    let trouble = Trouble { place, ..trouble };
    trouble
        .place
        .run(&["init", "--repo", "s3://bucket/x"])
        .expect(0);
    trouble.good(1);
    s3.fail(
        usize::MAX,
        endpoint::error(403, "AccessDenied"),
        |request| !request.is("GET") || !request.key.is_empty(),
    );
    let done = trouble.place.night(trouble.at(2)).expect(1);
    assert!(
        done.json()["error"].as_str().unwrap().contains("preflight"),
        "{}",
        done.stdout
    );
    assert_eq!(trouble.place.metric("pgtide_last_run_success"), 0.0);
    let told = trouble.web.take();
    assert!(
        told.len() == 1 && told[0].body.contains("\"event\":\"failure\""),
        "{told:?}"
    );
    s3.heal();
    trouble.good(3);
}

#[test]
fn a_target_that_lacks_something_fails_the_verification_and_nothing_is_forgotten() {
    let (Some(trouble), Some(other)) = (Trouble::new(""), bin_dir()) else {
        return;
    };
    let target = TestServer::start(&other, "");
    trouble.server.psql("CREATE ROLE owner_of_orders");
    trouble
        .server
        .psql_in("shop", "ALTER TABLE orders OWNER TO owner_of_orders");
    trouble.configure(&format!(
        "verify = {{ server = \"target\" }}\n[sources.target]\nconnection = \"{}\"",
        target.tcp("postgres", "postgres")
    ));
    let report = trouble.bad(1, 1, "verify", &[]);
    assert!(
        report["error"]
            .as_str()
            .unwrap()
            .contains("cannot be restored on this server"),
        "{report:#}"
    );
    assert_eq!(step(&report, "dump")["outcome"], "done");
    assert_eq!(step(&report, "forget")["outcome"], serde_json::Value::Null);
    target.psql("CREATE ROLE owner_of_orders");
    let report = trouble.good(2);
    assert_eq!(step(&report, "verify")["outcome"], "done");
    assert_eq!(step(&report, "forget")["outcome"], "done");
}

#[test]
fn a_run_that_is_killed_keeps_nobody_out() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    trouble.good(1);
    let begun = trouble.place.file("begun");
    trouble.configure(&format!(
        "hooks = {{ before = \"sh -c 'touch {}; sleep 600'\" }}",
        begun.display()
    ));
    let mut command = trouble.place.command(&["run", "nightly"]);
    command.env("PGTIDE_TEST_CLOCK", trouble.at(2).to_string());
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Somebody else comes while it is at work.
    while !begun.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    trouble.bad(
        2,
        11,
        "the previous run of nightly is still at work (process",
        &[],
    );
    child.kill().unwrap();
    child.wait().unwrap();
    trouble.configure("");
    trouble.good(2);
    assert_eq!(trouble.snapshots(), 2);
    trouble.check();
}

#[test]
fn a_clock_that_was_set_back_removes_nothing() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    trouble.configure("check = {}");
    for day in [10, 11, 12] {
        trouble.good(day);
    }
    let before = trouble.snapshots();
    let report = trouble.bad(1, 3, "the clock of this host cannot be right", &[]);
    assert_eq!(step(&report, "dump")["outcome"], "done");
    assert_eq!(step(&report, "forget")["outcome"], serde_json::Value::Null);
    assert!(
        report["anomalies"][0]
            .as_str()
            .unwrap()
            .contains("the clock of this host is behind")
    );
    assert_eq!(trouble.snapshots(), before + 1);
    trouble.good(13);
}

#[test]
fn a_dump_of_half_the_size_is_told_of_though_it_succeeds() {
    let Some(trouble) = Trouble::new("anomaly = { rows = \"30%\" }\nevery = \"1d\"") else {
        return;
    };
    for day in [1, 2, 3] {
        trouble.good(day);
    }
    trouble
        .server
        .psql_in("shop", "DELETE FROM orders WHERE n > 1500");
    let report = trouble.place.night(trouble.at(4)).expect(0).json();
    let anomaly = report["anomalies"][0].as_str().unwrap();
    assert!(
        anomaly.contains("shop: 1,500 rows, 62 % fewer than the usual 4,000 rows"),
        "{anomaly}"
    );
    let told = trouble.web.take();
    assert!(
        told.len() == 1 && told[0].body.contains("\"event\":\"anomaly\""),
        "{told:?}"
    );
    assert_eq!(trouble.place.metric("pgtide_last_run_success"), 1.0);
    assert_eq!(trouble.place.metric("pgtide_last_run_anomalies"), 1.0);
    // Two nights do not come.
    let report = trouble.place.night(trouble.at(7)).expect(0).json();
    let missing = report["anomalies"][0].as_str().unwrap();
    assert!(
        missing.starts_with("a night is missing: the last dump of everything began 3 d ago"),
        "{missing}"
    );
}

#[test]
fn profiles_forget_their_own_snapshots_only() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    trouble.server.psql("CREATE DATABASE crm");
    trouble.configure(
        "[profiles.yearly]\nsource = \"main\"\nrepository = \"main\"\ntags = [\"yearly\"]\nkeep = { daily = 100 }\n\
         [profiles.part]\nsource = \"main\"\nrepository = \"main\"\nselect = { tables = [\"orders\"] }\nkeep = { daily = 100 }\n\
         [profiles.both]\nsource = \"main\"\nrepository = \"main\"\ndatabases = [\"shop\", \"crm\"]\nglobals = true\nretries = 0\nkeep = { last = 1 }",
    );
    let run = |profile: &str, day: i8| {
        let mut command = trouble.place.command(&["run", profile, "--json"]);
        command.env("PGTIDE_TEST_CLOCK", trouble.at(day).to_string());
        finish(command)
    };
    let repo = trouble.repo();
    let repo = repo.to_str().unwrap();
    let shop = trouble.server.tcp("postgres", "shop");
    let mut by_hand = trouble.place.command(&[
        "dump", "--repo", repo, "-q", "--tag", "by-hand", "-d", &shop,
    ]);
    by_hand.env("PGTIDE_TEST_CLOCK", trouble.at(1).to_string());
    finish(by_hand).expect(0);
    for day in 1..=10 {
        for profile in ["nightly", "yearly", "part"] {
            run(profile, day).expect(0);
        }
    }
    // Seven nights, ten of the two others, and the one by hand.
    assert_eq!(trouble.snapshots(), 7 + 10 + 10 + 1);

    // A cluster without a database does not take the place of a whole one.
    run("both", 11).expect(0);
    trouble
        .server
        .psql("ALTER DATABASE crm ALLOW_CONNECTIONS false");
    let partly = run("both", 12).expect(3).json();
    assert!(
        partly["error"]
            .as_str()
            .unwrap()
            .contains("crm was not dumped"),
        "{partly:#}"
    );
    assert_eq!(step(&partly, "forget")["outcome"], serde_json::Value::Null);
    trouble
        .server
        .psql("ALTER DATABASE crm ALLOW_CONNECTIONS true");
    run("both", 13).expect(0);
    // The whole ones are one now; the one without crm is still there, with its database.
    assert_eq!(trouble.snapshots(), 28 + 3 + 2);
    trouble.check();
}

#[test]
fn hooks_are_told_and_may_stop_a_run_and_a_deadline_does() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    let seen = trouble.place.file("seen");
    let seen = seen.display();
    trouble.configure(&format!(
        "hooks = {{ before = \"sh -c 'cat > {seen}.before'\", after = \"sh -c 'cat > {seen}.after; echo $PGTIDE_OUTCOME > {seen}.env'\" }}"
    ));
    trouble.good(1);
    let read = |what: &str| std::fs::read_to_string(format!("{seen}.{what}")).unwrap();
    let before: serde_json::Value = serde_json::from_str(&read("before")).unwrap();
    let after: serde_json::Value = serde_json::from_str(&read("after")).unwrap();
    assert_eq!(
        (&before["profile"], &after["outcome"]),
        (&"nightly".into(), &"done".into())
    );
    assert!(after["databases"][0]["snapshot"].is_string(), "{after:#}");
    assert_eq!(read("env").trim(), "done");

    trouble.configure("hooks = { before = \"sh -c 'echo not tonight; exit 1'\" }");
    let report = trouble.bad(2, 1, "not tonight", &[]);
    assert_eq!(step(&report, "dump")["outcome"], serde_json::Value::Null);

    trouble.configure("hooks = { before = \"sleep 600\" }\ndeadline = \"500ms\"");
    trouble.bad(3, 1, "the deadline", &[]);
    assert_eq!(trouble.snapshots(), 1);
}

#[test]
fn what_is_wrong_with_a_profile_is_said_before_anything_is_done() {
    let place = Place::new();
    place
        .run(&["run", "nightly"])
        .expect(2)
        .says(&["pgtide.toml"]);
    place.config("[profiles.nightly]\nsource = \"x\"\nrepository = \"y\"\n");
    place.run(&["run", "nightly"]).expect(2).says(&[
        "line 2, column 10: there is no source \"x\"",
        "line 3, column 14",
    ]);
    let checked = place.run(&["config", "check"]).expect(2);
    assert!(
        checked.stdout.contains("add [sources.x]"),
        "{}",
        checked.stdout
    );
    place
        .run(&["run", "weekly"])
        .expect(2)
        .says(&["there is no profile \"weekly\"", "there are nightly"]);
}

#[test]
fn a_starter_is_written_checked_and_run() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    let config = trouble.place.file("new/pgtide.toml");
    let (source, repo) = (trouble.server.tcp("postgres", "shop"), trouble.repo());
    let init = [
        "config",
        "init",
        "--config",
        config.to_str().unwrap(),
        "--source",
        &source,
        "--database",
        "shop",
        "--repo",
        repo.to_str().unwrap(),
    ];
    trouble.place.run(&init).expect(0);
    trouble.place.run(&init).expect(2).says(&["exists already"]);
    let with = |arguments: &[&str]| {
        let mut command = trouble.place.command(arguments);
        command.env("PGTIDE_CONFIG", &config);
        finish(command)
    };
    with(&["config", "check"]).expect(0);
    let doctor = with(&["doctor"]).expect(3);
    assert!(
        doctor.stdout.contains("shop: all of its"),
        "{}",
        doctor.stdout
    );
    assert!(
        doctor.stdout.contains("nobody is told when it fails"),
        "{}",
        doctor.stdout
    );
    let run = with(&["run", "nightly"]).expect(0);
    assert!(run.stdout.contains("nightly done in"), "{}", run.stdout);
    let status = with(&["status"]).expect(0);
    assert!(status.stdout.contains("last run"), "{}", status.stdout);
    let log = with(&[
        "history",
        "--repo",
        repo.to_str().unwrap(),
        "--log",
        "latest",
    ])
    .expect(0);
    let line: serde_json::Value = serde_json::from_str(log.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(line["step"], "preflight");
}

#[test]
fn metrics_are_served() {
    let Some(trouble) = Trouble::new("") else {
        return;
    };
    trouble.good(1);
    let mut command = trouble
        .place
        .command(&["exporter", "--listen", "127.0.0.1:0"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    let address = line
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let get = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let metrics = get("/metrics");
    assert!(
        metrics.contains("pgtide_last_run_success{profile=\"nightly\"} 1.0"),
        "{metrics}"
    );
    assert!(
        metrics.contains("pgtide_database_rows{profile=\"nightly\",database=\"shop\"} 4000.0"),
        "{metrics}"
    );
    assert!(get("/other").starts_with("HTTP/1.1 404"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn completions_and_man_pages_are_made() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let made = place.run(&["generate", "completions", shell]).expect(0);
        assert!(made.stdout.contains("pgtide"), "{shell}");
    }
    let directory = place.file("man");
    place
        .run(&["generate", "man", directory.to_str().unwrap()])
        .expect(0);
    for page in ["pgtide.1", "pgtide-run.1", "pgtide-dump.1"] {
        assert!(Path::new(&directory).join(page).exists(), "{page}");
    }
}
