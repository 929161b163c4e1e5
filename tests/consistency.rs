//! One consistent moment, whatever others do to the database meanwhile.

mod common;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::equal::assert_equal;
use common::session::{connect, settings};
use common::testbed::{Database, Server, run};
use nix::sys::signal::Signal;
use pgtide::dump::{self, DumpError, DumpOptions, DumpReport, Kindness};
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
        pg_dump: None,
        path: Some(database.server.path.clone()),
        tags: Vec::new(),
        lock_wait_timeout: Duration::from_secs(20),
        selection: Default::default(),
        role: None,
        row_security: false,
        snapshot: None,
        part: Default::default(),
        decompress: false,
        statistics: false,
        kindness: Kindness::default(),
        cluster: None,
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
        properties: false,
        clean: false,
        pick: Default::default(),
        portable: false,
        render: RenderOptions::default(),
        role: None,
        row_security: false,
        disable_triggers: false,
        analyze: false,
        statistics: true,
        continue_on_error: false,
        no_jobs: false,
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
fn tables_that_come_and_go_while_they_are_locked_do_not_stop_a_dump() {
    for server in servers() {
        let source = server.empty("unstable");
        // Dropped between listing and locking, and another one made.
        struct Again<'a>(&'a Database<'a>, Mutex<u32>);
        impl Progress for Again<'_> {
            fn stage(&self, stage: &Stage) {
                if let Stage::Listed { .. } = stage {
                    let mut round = self.1.lock().unwrap();
                    *round += 1;
                    self.0.sql(
                        "CREATE TABLE public.comes (id int); INSERT INTO public.comes VALUES (1); DROP TABLE public.goes",
                    );
                }
            }
        }
        source
            .sql("CREATE TABLE public.goes (id int); CREATE TABLE public.stays AS SELECT 1 AS id");
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let again = Again(&source, Mutex::new(0));
        let report = dump(&repo, &source, &again);
        assert_eq!(*again.1.lock().unwrap(), 1, "locks are kept");
        assert_eq!(report.snapshot.totals.tables, 2);
        let target = restored(&repo, &report, &source);
        assert_eq!(target.sql("SELECT id FROM public.comes"), "1");
    }
}

/// Queues an ALTER TABLE behind the dump's locks as soon as rows are read and `pg_dump` has its locks.
struct Queue<'a> {
    source: &'a Database<'a>,
    /// Whether `pg_dump` has a session of its own.
    beside: bool,
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
        while self.beside
            && began.elapsed() < Duration::from_secs(5)
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
    alter_table_in_mid_dump(false);
}

#[test]
fn so_it_does_where_pg_dump_has_a_session_of_its_own() {
    alter_table_in_mid_dump(true);
}

fn alter_table_in_mid_dump(beside: bool) {
    for server in servers() {
        let source = server.empty(if beside { "queue_beside" } else { "queue" });
        // Many schema objects, so that pg_dump is still at work when the first rows are there.
        source.sql(
            "CREATE TABLE public.big AS SELECT i AS id, repeat(md5(i::text), 30) AS text FROM generate_series(1, 60000) i;
             DO $$ BEGIN FOR i IN 1..400 LOOP
               EXECUTE format('CREATE FUNCTION public.f%s(a int, b text) RETURNS int LANGUAGE sql AS ''SELECT 1''', i);
             END LOOP; END $$",
        );
        let queue = Queue {
            source: &source,
            beside,
            alter: Mutex::new(None),
        };
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let mut options = options(&source, 2);
        if beside {
            options.pg_dump = Some(server.program_name("DUMP", "pg_dump"));
        }
        let report = dump::run(&repo, &options, &Interrupt::default(), &queue).unwrap();
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

/// A `pg_dump` that stops before it begins, until it is let go.
struct Held {
    dir: tempfile::TempDir,
    /// Where it is found.
    path: OsString,
}

impl Held {
    fn new(server: &Server) -> Held {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display();
        let lines =
            format!("echo $$ > {place}/came; while [ ! -e {place}/go ]; do sleep 0.02; done");
        Held {
            path: server.path_with_pg_dump(dir.path(), &lines),
            dir,
        }
    }

    fn command(&self) -> String {
        self.dir.path().join("pg_dump").display().to_string()
    }

    fn process(&self) -> Option<nix::unistd::Pid> {
        let text = std::fs::read_to_string(self.dir.path().join("came")).ok()?;
        text.trim().parse().ok().map(nix::unistd::Pid::from_raw)
    }

    fn wait_until_it_came(&self) {
        wait(|| self.process().is_some());
    }

    fn let_go(&self) {
        std::fs::write(self.dir.path().join("go"), "").unwrap();
    }
}

/// Some rows, and many objects of which `pg_dump` asks one by one.
fn many_functions(source: &Database, functions: u32) {
    source.sql(&format!(
        "CREATE TABLE public.t AS SELECT i AS id, md5(i::text) AS text FROM generate_series(1, 1000) i;
         CREATE VIEW public.v AS SELECT count(*) FROM public.t;
         DO $$ BEGIN FOR i IN 1..{functions} LOOP
           EXECUTE format('CREATE FUNCTION public.f%s(a int, b text) RETURNS int LANGUAGE sql AS $f$SELECT 1$f$', i);
         END LOOP; END $$"
    ));
}

/// Waits until `pg_dump` asks for function after function in a session of the dump, and asks the server for something
/// about the session.
fn in_mid_schema(source: &Database, what: &str) {
    let mut conn = connect(&settings(source));
    let sql = format!(
        "SELECT {what} FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'pgtide' AND query LIKE 'EXECUTE dumpFunc%'"
    );
    wait(|| !conn.query(&sql).unwrap().is_empty());
}

/// Dumps while an ALTER TABLE waits for the dump's lock since before `pg_dump` began.
fn with_a_waiter_before_pg_dump(
    source: &Database,
    repo: &Repository,
    held: &Held,
    options: &DumpOptions,
) -> Result<DumpReport, DumpError> {
    thread::scope(|scope| {
        let dump = scope.spawn(|| dump::run(repo, options, &Interrupt::default(), &Silent));
        held.wait_until_it_came();
        let alter = scope.spawn(|| {
            connect(&settings(source))
                .execute("ALTER TABLE public.t ADD COLUMN late int")
                .unwrap();
        });
        let mut conn = connect(&settings(source));
        wait(|| {
            let sql = "SELECT FROM pg_locks WHERE relation = 'public.t'::regclass AND NOT granted";
            !conn.query(sql).unwrap().is_empty()
        });
        held.let_go();
        let report = dump.join().unwrap();
        alter.join().unwrap();
        report
    })
}

#[test]
fn an_alter_table_queued_before_pg_dump_begins_does_not_stop_it() {
    for server in servers() {
        let source = server.empty("before");
        let before = server.empty("before_copy");
        many_functions(&source, 10);
        many_functions(&before, 10);
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let held = Held::new(&server);
        let options = DumpOptions {
            path: Some(held.path.clone()),
            ..options(&source, 2)
        };
        let began = Instant::now();
        let report = with_a_waiter_before_pg_dump(&source, &repo, &held, &options).unwrap();
        assert!(began.elapsed() < options.lock_wait_timeout, "it waited");
        let notes = &report.snapshot.warnings;
        assert!(
            notes.iter().any(|note| note.contains("ADD COLUMN late")),
            "{notes:?}"
        );
        assert_equal(&before, &restored(&repo, &report, &source));
    }
}

#[test]
fn it_stops_a_pg_dump_with_a_session_of_its_own() {
    for server in servers() {
        let source = server.empty("beside");
        many_functions(&source, 10);
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let held = Held::new(&server);
        let options = DumpOptions {
            pg_dump: Some(held.command()),
            lock_wait_timeout: Duration::from_millis(300),
            ..options(&source, 2)
        };
        let error = with_a_waiter_before_pg_dump(&source, &repo, &held, &options).unwrap_err();
        assert!(error.to_string().contains("LOCK TABLE"), "{error}");
    }
}

struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn sessions_that_always_want_exclusive_locks_do_not_stop_dumps() {
    for server in servers() {
        let source = server.empty("exclusive");
        many_functions(&source, 10);
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stop = Raise(&stop);
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut conn = connect(&settings(&source));
                    while !stop.load(Ordering::SeqCst) {
                        conn.execute("BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE; COMMIT")
                            .unwrap();
                        thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            for _ in 0..5 {
                let began = Instant::now();
                let report = dump(&repo, &source, &Silent);
                assert!(began.elapsed() < Duration::from_secs(15), "it waited");
                assert_eq!(report.snapshot.totals.rows, 1000);
            }
        });
    }
}

#[test]
fn the_loss_of_the_session_that_pg_dump_works_in_loses_nothing() {
    for server in servers() {
        let source = server.empty("lost");
        many_functions(&source, 3000);
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let report = thread::scope(|scope| {
            let dump = scope.spawn(|| dump(&repo, &source, &Silent));
            in_mid_schema(&source, "pg_terminate_backend(pid)");
            dump.join().unwrap()
        });
        assert_equal(&source, &restored(&repo, &report, &source));
    }
}

#[test]
fn a_pg_dump_that_is_killed_ends_the_dump_and_is_named() {
    for server in servers() {
        let source = server.empty("child");
        many_functions(&source, 3000);
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let held = Held::new(&server);
        held.let_go();
        let options = DumpOptions {
            path: Some(held.path.clone()),
            ..options(&source, 2)
        };
        let error = thread::scope(|scope| {
            let dump = scope.spawn(|| dump::run(&repo, &options, &Interrupt::default(), &Silent));
            in_mid_schema(&source, "pid");
            nix::sys::signal::kill(held.process().unwrap(), Signal::SIGKILL).unwrap();
            dump.join().unwrap().unwrap_err()
        });
        let text = error.to_string();
        assert!(
            text.contains("pg_dump failed") && text.contains("signal: 9"),
            "{text}"
        );
        assert!(repo.snapshots().unwrap().list.is_empty());
    }
}

#[test]
fn a_pg_dump_that_does_not_come_is_said_with_what_to_do() {
    for server in servers() {
        let source = server.empty("away");
        source.sql("CREATE TABLE public.t (id int)");
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let programs = tempfile::tempdir().unwrap();
        for lines in [
            "echo no such container >&2; exit 3",
            // It reads somewhere else.
            "unset PGHOST; set -- -d 'host=127.0.0.1 port=1'",
        ] {
            let options = DumpOptions {
                path: Some(server.path_with_pg_dump(programs.path(), lines)),
                ..options(&source, 2)
            };
            let error = dump::run(&repo, &options, &Interrupt::default(), &Silent).unwrap_err();
            let text = error.to_string();
            let said = ["not come", "--pg-dump"];
            assert!(said.iter().all(|said| text.contains(said)), "{text}");
            assert!(
                text.contains("no such container") || text.contains("refused"),
                "{text}"
            );
        }
    }
}

#[test]
fn an_interrupt_ends_a_pg_dump_that_never_comes_or_is_at_work() {
    for server in servers() {
        let source = server.empty("stop");
        many_functions(&source, 3000);
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        for at_work in [false, true] {
            let held = Held::new(&server);
            let options = DumpOptions {
                path: Some(held.path.clone()),
                ..options(&source, 2)
            };
            let interrupt = Interrupt::default();
            thread::scope(|scope| {
                let dump = scope.spawn(|| dump::run(&repo, &options, &interrupt, &Silent));
                held.wait_until_it_came();
                if at_work {
                    held.let_go();
                    in_mid_schema(&source, "pid");
                }
                let began = Instant::now();
                interrupt.raise();
                let error = dump.join().unwrap().unwrap_err();
                assert!(error.to_string().contains("interrupted"), "{error}");
                assert!(began.elapsed() < Duration::from_secs(5), "it hung");
            });
        }
    }
}

/// Ends the first holder with the first block, and lets `pg_dump` begin some blocks later.
struct EndFirst<'a> {
    source: &'a Database<'a>,
    held: &'a Held,
    blocks: Mutex<u32>,
}

impl Progress for EndFirst<'_> {
    fn bytes(&self, _bytes: u64) {
        let mut blocks = self.blocks.lock().unwrap();
        *blocks += 1;
        if *blocks == 1 {
            self.held.wait_until_it_came();
            let ended = connect(&settings(self.source)).query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'pgtide' AND state = 'idle in transaction'
                   AND query NOT LIKE 'SAVEPOINT%'
                 ORDER BY backend_start LIMIT 1",
            );
            assert_eq!(ended.unwrap().len(), 1);
        }
        if *blocks == 20 {
            self.held.let_go();
        }
    }
}

#[test]
fn readers_import_the_snapshot_of_the_session_that_pg_dump_works_in() {
    for server in servers() {
        let source = server.empty("import");
        source.sql(
            "CREATE TABLE public.big AS SELECT i AS id, repeat(md5(i::text), 30) AS text FROM generate_series(1, 60000) i",
        );
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let held = Held::new(&server);
        let options = DumpOptions {
            path: Some(held.path.clone()),
            ..options(&source, 2)
        };
        let end = EndFirst {
            source: &source,
            held: &held,
            blocks: Mutex::new(0),
        };
        let report = dump::run(&repo, &options, &Interrupt::default(), &end).unwrap();
        assert_equal(&source, &restored(&repo, &report, &source));
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
