//! One consistent moment, whatever others do to the database meanwhile.

mod common;

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::session::{connect, settings};
use common::testbed::{Database, Server, run};
use pgtide::dump::{self, DumpOptions, DumpReport};
use pgtide::pg::interrupt::Interrupt;
use pgtide::progress::{Progress, Silent, Stage};
use pgtide::repo::Repository;
use pgtide::restore::{self, RestoreOptions};
use pgtide::rows::Effort;
use pgtide::schema::statements::RenderOptions;
use pgtide::store::LocalStore;

/// The servers that are there.
fn servers() -> impl Iterator<Item = Server> {
    ["15", "17", "18"].into_iter().filter_map(Server::find)
}

fn repository(dir: &Path) -> Repository {
    Repository::init(Arc::new(LocalStore::new(dir.join("repo")))).unwrap()
}

fn options(database: &Database, jobs: usize) -> DumpOptions {
    DumpOptions {
        settings: settings(database),
        jobs: Some(jobs),
        effort: Effort::Fast,
        pg_dump: Some(database.server.program_name("DUMP", "pg_dump")),
        tags: Vec::new(),
        lock_wait_timeout: Duration::from_secs(20),
        exclude_tables: Vec::new(),
        part: Default::default(),
        decompress: false,
    }
}

fn dump(repo: &Repository, database: &Database, progress: &dyn Progress) -> DumpReport {
    dump::run(repo, &options(database, 2), &Interrupt::default(), progress).unwrap()
}

/// Restores a dump into a fresh database.
fn restored<'s>(repo: &Repository, report: &DumpReport, source: &Database<'s>) -> Database<'s> {
    // Of the source's name, so that tests beside this one have another.
    let target = source.server.empty(&format!("{}_r", source.name));
    let options = RestoreOptions {
        settings: settings(&target),
        jobs: Some(2),
        create: false,
        clean: false,
        tables: Vec::new(),
        hypertables: Vec::new(),
        exclude_tables: Vec::new(),
        part: Default::default(),
        render: RenderOptions::default(),
        analyze: false,
        continue_on_error: false,
    };
    let opened = restore::open(repo, report.snapshot.clone()).unwrap();
    restore::run(&opened, &options, &Interrupt::default(), &Silent).unwrap();
    target
}

/// Does something at one stage of a dump, the first time that the stage is reached.
struct SlipIn<F: Fn() + Sync + Send> {
    stage: fn(&Stage) -> bool,
    done: AtomicBool,
    what: F,
}

impl<F: Fn() + Sync + Send> SlipIn<F> {
    fn new(stage: fn(&Stage) -> bool, what: F) -> Self {
        Self {
            stage,
            done: AtomicBool::new(false),
            what,
        }
    }
}

impl<F: Fn() + Sync + Send> Progress for SlipIn<F> {
    fn stage(&self, stage: &Stage) {
        if (self.stage)(stage) && !self.done.swap(true, Ordering::SeqCst) {
            (self.what)();
        }
    }
}

fn listed(stage: &Stage) -> bool {
    matches!(stage, Stage::Listed { .. })
}

fn locked(stage: &Stage) -> bool {
    matches!(stage, Stage::Locked)
}

/// A child that is stopped with the value.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn twenty_dumps_under_load_each_hold_one_moment() {
    for server in servers() {
        let source = server.empty("load");
        let mut make = server.program("BENCH", "pgbench");
        make.args(["-i", "-q", "-s", "1", &source.name])
            .stderr(Stdio::null());
        run(make);
        let load = server
            .program("BENCH", "pgbench")
            .args(["-c", "4", "-T", "600", &source.name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let load = Load(load);
        let history = "SELECT count(*) FROM public.pgbench_history";
        while source.sql(history) == "0" {
            thread::sleep(Duration::from_millis(20));
        }
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let mut transactions = Vec::new();
        for _ in 0..20 {
            let report = dump(&repo, &source, &Silent);
            let target = restored(&repo, &report, &source);
            let sums = target.sql(
                "SELECT (SELECT sum(abalance) FROM public.pgbench_accounts) || ' '
                   || (SELECT sum(tbalance) FROM public.pgbench_tellers) || ' '
                   || (SELECT sum(bbalance) FROM public.pgbench_branches) || ' '
                   || (SELECT sum(delta) FROM public.pgbench_history)",
            );
            let sums: Vec<&str> = sums.split(' ').collect();
            assert!(
                sums.iter().all(|sum| *sum == sums[0]),
                "PostgreSQL {}: {sums:?}",
                server.version
            );
            transactions.push(target.sql(history).parse::<u64>().unwrap());
        }
        drop(load);
        // The load was on: every dump saw another moment.
        assert!(
            transactions.windows(2).all(|pair| pair[0] < pair[1]),
            "{transactions:?}"
        );
    }
}

#[test]
fn what_slips_in_between_listing_and_locking_is_in_the_dump_as_it_is() {
    for server in servers() {
        let source = server.empty("slip");
        source.sql(
            "CREATE TABLE public.t (id int PRIMARY KEY, a text, b text);
             INSERT INTO public.t SELECT i, 'a' || i, 'b' || i FROM generate_series(1, 5000) i;
             DELETE FROM public.t WHERE id % 3 = 0;",
        );
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let content = "SELECT count(*) || ' ' || coalesce(sum(pg_catalog.hashtextextended(t::text, 0)), 0) FROM public.t";
        for statement in [
            "VACUUM FULL public.t",
            "ALTER TABLE public.t DROP COLUMN b; ALTER TABLE public.t ADD COLUMN b text DEFAULT 'new'",
            "ALTER TABLE public.t ALTER COLUMN a TYPE varchar(50)",
            "TRUNCATE public.t; INSERT INTO public.t SELECT i, 'x', 'y' FROM generate_series(1, 7) i",
        ] {
            let slip = SlipIn::new(listed, || drop(source.sql(statement)));
            let report = dump(&repo, &source, &slip);
            let target = restored(&repo, &report, &source);
            assert_eq!(
                target.sql(content),
                source.sql(content),
                "PostgreSQL {}: {statement}",
                server.version
            );
        }
    }
}

#[test]
fn a_table_made_between_listing_and_the_snapshot_is_locked_and_dumped() {
    for server in servers() {
        let source = server.empty("new");
        source.sql("CREATE TABLE public.old (id int)");
        let slip = SlipIn::new(locked, || {
            source.sql("CREATE TABLE public.fresh AS SELECT 42 AS answer");
        });
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let report = dump(&repo, &source, &slip);
        let target = restored(&repo, &report, &source);
        assert_eq!(target.sql("SELECT answer FROM public.fresh"), "42");
    }
}

#[test]
fn a_table_dropped_between_listing_and_locking_is_left_out() {
    for server in servers() {
        let source = server.empty("dropped");
        source.sql("CREATE TABLE public.a (id int); CREATE TABLE public.b AS SELECT 1 AS id");
        let slip = SlipIn::new(listed, || drop(source.sql("DROP TABLE public.a")));
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let report = dump(&repo, &source, &slip);
        assert_eq!(report.snapshot.totals.tables, 1);
        let target = restored(&repo, &report, &source);
        assert_eq!(target.sql("SELECT id FROM public.b"), "1");
    }
}

#[test]
fn tables_that_change_all_the_time_end_the_dump_with_their_names() {
    for server in servers() {
        let source = server.empty("unstable");
        // Dropped between listing and locking, and made again before the next attempt lists it.
        struct Again<'a>(&'a Database<'a>, Mutex<u32>);
        impl Progress for Again<'_> {
            fn stage(&self, stage: &Stage) {
                if let Stage::Listed { .. } = stage {
                    let mut round = self.1.lock().unwrap();
                    let (gone, next) = (*round, *round + 1);
                    *round = next;
                    self.0.sql(&format!(
                        "CREATE TABLE public.t{next} (id int); DROP TABLE IF EXISTS public.t{gone}"
                    ));
                }
            }
        }
        source.sql("CREATE TABLE public.t0 (id int)");
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let again = Again(&source, Mutex::new(0));
        let error = dump::run(&repo, &options(&source, 2), &Interrupt::default(), &again)
            .expect_err("the table never stood still");
        let text = error.to_string();
        assert!(
            text.contains("5 times") && text.contains("public.t"),
            "{text}"
        );
        assert!(repo.snapshots().unwrap().list.is_empty());
    }
}

/// Queues an ALTER TABLE behind the dump's locks as soon as rows are read and `pg_dump` has its locks.
struct Queue<'a> {
    source: &'a Database<'a>,
    alter: Mutex<Option<JoinHandle<()>>>,
}

impl Progress for Queue<'_> {
    fn bytes(&self, _bytes: u64) {
        let mut alter = self.alter.lock().unwrap();
        if alter.is_some() {
            return;
        }
        let mut conn = connect(&settings(self.source));
        let count = |conn: &mut pgtide::pg::Connection, sql: &str| -> i64 {
            conn.query(sql).unwrap()[0].get_i64(0).unwrap()
        };
        // pg_dump has its locks, or has had them already.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5)
            && count(
                &mut conn,
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                 WHERE l.relation = 'public.big'::regclass AND a.application_name = 'pg_dump' AND l.granted",
            ) == 0
        {
            thread::sleep(Duration::from_millis(5));
        }
        let settings = settings(self.source);
        *alter = Some(thread::spawn(move || {
            connect(&settings)
                .execute("ALTER TABLE public.big ADD COLUMN late int")
                .unwrap();
        }));
        wait(|| {
            count(
                &mut conn,
                "SELECT count(*) FROM pg_locks WHERE relation = 'public.big'::regclass AND NOT granted",
            ) > 0
        });
    }
}

fn wait(mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited too long");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_alter_table_queued_in_mid_dump_runs_afterwards_and_is_named() {
    for server in servers() {
        let source = server.empty("queue");
        // Many schema objects, so that pg_dump is still at work when the first rows are there.
        source.sql(
            "CREATE TABLE public.big AS SELECT i AS id, repeat(md5(i::text), 30) AS text FROM generate_series(1, 60000) i;
             DO $$ BEGIN FOR i IN 1..400 LOOP
               EXECUTE format('CREATE FUNCTION public.f%s(a int, b text) RETURNS int LANGUAGE sql AS ''SELECT 1''', i);
             END LOOP; END $$",
        );
        let queue = Queue {
            source: &source,
            alter: Mutex::new(None),
        };
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let report = dump(&repo, &source, &queue);
        let alter = queue
            .alter
            .into_inner()
            .unwrap()
            .expect("ALTER TABLE began");
        alter.join().expect("ALTER TABLE succeeded");
        assert!(
            report
                .snapshot
                .warnings
                .iter()
                .any(|note| note.contains("public.big") && note.contains("ADD COLUMN late")),
            "PostgreSQL {}: {:?}",
            server.version,
            report.snapshot.warnings
        );
        assert_eq!(report.snapshot.totals.rows, 60_000);
        let target = restored(&repo, &report, &source);
        let content = "SELECT count(*) || ' ' || sum(pg_catalog.hashtextextended(id || text, 0)) FROM public.big";
        assert_eq!(target.sql(content), source.sql(content));
    }
}

/// Ends sessions of the dump once rows are being read.
struct Terminate<'a> {
    source: &'a Database<'a>,
    /// Which sessions: a condition on `pg_stat_activity`.
    which: &'a str,
    ended: Mutex<i64>,
}

impl Progress for Terminate<'_> {
    fn bytes(&self, _bytes: u64) {
        let mut ended = self.ended.lock().unwrap();
        if *ended == 0 {
            let sql = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'pgtide' AND {}",
                self.which
            );
            let rows = connect(&settings(self.source)).query(&sql).unwrap();
            *ended = rows[0].get_i64(0).unwrap();
        }
    }
}

#[test]
fn a_terminated_reader_or_first_holder_loses_nothing() {
    for server in servers() {
        let source = server.empty("ended");
        source.sql(
            "CREATE TABLE public.big AS SELECT i AS id, repeat(md5(i::text), 30) AS text FROM generate_series(1, 60000) i",
        );
        for which in [
            "query LIKE 'BEGIN%COPY%' AND state = 'active'",
            "state = 'idle in transaction' AND backend_start = (SELECT min(backend_start) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'pgtide' AND state = 'idle in transaction')",
        ] {
            let terminate = Terminate {
                source: &source,
                which,
                ended: Mutex::new(0),
            };
            let dir = tempfile::tempdir().unwrap();
            let repo = repository(dir.path());
            let report = dump(&repo, &source, &terminate);
            assert!(*terminate.ended.lock().unwrap() > 0, "nothing was ended: {which}");
            assert_eq!(report.snapshot.totals.rows, 60_000, "{which}");
            let target = restored(&repo, &report, &source);
            let content = "SELECT count(*) || ' ' || sum(pg_catalog.hashtextextended(t::text, 0)) FROM public.big t";
            assert_eq!(target.sql(content), source.sql(content), "{which}");
        }
    }
}

#[test]
fn a_table_that_stays_locked_ends_the_dump_with_the_name_of_who_holds_it() {
    if let Some(server) = Server::find("17") {
        let source = server.empty("held");
        source.sql("CREATE TABLE public.held (id int)");
        let mut other = connect(&settings(&source));
        other
            .execute("BEGIN; LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE")
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let options = DumpOptions {
            lock_wait_timeout: Duration::from_millis(300),
            ..options(&source, 1)
        };
        let error = dump::run(&repo, &options, &Interrupt::default(), &Silent).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("public.held is locked by process") && text.contains("pgtide test"),
            "{text}"
        );
    }
}

/// Dies where a defect of the engine's own would.
struct Dies;

impl Progress for Dies {
    fn bytes(&self, _bytes: u64) {
        panic!("as a defect would");
    }
}

#[test]
fn a_thread_that_dies_ends_the_dump_and_hangs_nobody() {
    for server in servers() {
        let source = server.empty("dies");
        source.sql(
            "CREATE TABLE public.big AS SELECT i AS id, repeat(md5(i::text), 30) AS text FROM generate_series(1, 40000) i",
        );
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let died = thread::scope(|scope| {
            let dump = scope.spawn(|| {
                dump::run(&repo, &options(&source, 2), &Interrupt::default(), &Dies).is_ok()
            });
            dump.join().is_err()
        });
        assert!(died);
        assert!(repo.snapshots().unwrap().list.is_empty());
    }
}
