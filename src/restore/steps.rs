//! The steps of a restore, in their order: serial ones on one session, the others in parallel.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::pg::archive::SqlText;
use crate::pg::catalog::{self, qualified, quote_literal};
use crate::pg::interrupt::{Interrupt, Registration};
use crate::pg::{Connection, Error, SessionOptions, Settings};
use crate::progress::{Progress, Stage};
use crate::repo::model::TableRole;
use crate::schema;
use crate::schema::graph::Pass;
use crate::timescale::portable::Portable;
use crate::timescale::state;

use super::chosen::Chosen;
use super::cores::Cores;
use super::cost::{self, Kind, Size};
use super::exec::Session;
use super::existing::{self, Order};
use super::journal::{self, Journal};
use super::load::LoadError;
use super::plan::{self, Plan, Selection};
use super::schedule::{Batching, Schedule, Taken, Task};
use super::target::session_options;
use super::timing::Clock;
use super::work::{self, Failure, Halt, Shared, Work};
use super::{
    Opened, RestoreError, RestoreOptions, hypertables, large_objects, mark, server, statistics,
};

/// Entries in one transaction, however large the lock table is: what a transaction has changed makes each further
/// change of the catalog dearer. Of 5,001 chunks, 3,200 in one took twice as long as 400.
const MOST_ENTRIES: usize = 400;

/// Entries that are created in one transaction while others wait to load them.
const LATE_ENTRIES: usize = 100;

/// A restore at work.
pub struct Restore<'a> {
    /// What is restored.
    pub opened: &'a Opened,
    /// How.
    pub options: &'a RestoreOptions,
    /// Which of it.
    pub chosen: &'a Chosen,
    /// The target.
    pub settings: &'a Settings,
    /// Name of its database.
    pub database: &'a str,
    /// Who may stop it.
    pub interrupt: &'a Interrupt,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// What all sessions share.
    pub shared: &'a Shared<'a>,
    /// Objects that all sessions together may lock.
    pub lock_budget: usize,
    /// The version of TimescaleDB to restore, if any.
    pub timescale: Option<&'a str>,
    /// What the public functions of another version do instead, if it is to be restored so.
    pub anew: Option<Portable>,
    /// Sessions that work in parallel.
    pub jobs: usize,
    /// What the server's parallel workers may take.
    pub cores: Cores,
    /// Takes the time.
    pub clock: Clock,
}

impl Restore<'_> {
    /// All of it. What failed is noted in what the sessions share.
    pub fn run(&self, conn: Connection) -> Result<(), RestoreError> {
        let mut serial = self.session(conn);
        if self.options.clean && !self.options.create && !self.is_resumed() {
            self.drop_existing(&mut serial.0)?;
        }
        if let Some(journal) = self.shared.journal {
            journal.begin(serial.0.conn()).map_err(server(
                "could not make the journal of the clone at the target",
            ))?;
        }
        if let Some(version) = self.timescale {
            // The extension is created first in a session of its own, and the sessions after it are in its restoring
            // state.
            serial = self.session(self.begin_timescale(version)?);
        }
        if self.anew.is_some() && self.options.pick.creates() {
            self.begin_portable()?;
        }
        if self.steps(&mut serial.0).is_err() {
            return Ok(());
        }
        if self.timescale.is_some() {
            serial = self.session(self.connect_awake()?);
        }
        if self.last_steps(&mut serial.0).is_err() {
            return Ok(());
        }
        let conn = serial.0.conn();
        if self.timescale.is_some() {
            self.end_timescale(conn)?;
        }
        // One commit that waits for the disk makes all the earlier ones durable.
        conn.execute("SET synchronous_commit = on")
            .and_then(|()| match self.shared.journal {
                Some(_) => journal::end(conn),
                None => Ok(()),
            })
            .and_then(|()| mark::clear(conn, self.database))
            .and_then(|()| conn.execute("SELECT pg_catalog.pg_current_xact_id()"))
            .map_err(server("could not make the restore durable"))
    }

    /// Whether an earlier run has done a part of it.
    fn is_resumed(&self) -> bool {
        self.shared.journal.is_some_and(Journal::is_resumed)
    }

    /// The steps that do without hypertables: to these sessions all tables are plain ones.
    fn steps(&self, serial: &mut Session<'_>) -> Result<(), Halt> {
        let pre: Vec<usize> = self.graph_pre();
        self.progress.stage(&Stage::PreData { entries: pre.len() });
        let clock = &self.clock;
        clock.alone("objects before the rows", Kind::PreData, || {
            self.entries(serial, &pre)?;
            if let Some(anew) = &self.anew
                && self.options.pick.creates()
            {
                self.portable_steps(serial, &anew.create)?;
            }
            Ok(())
        })?;
        clock.alone("rows of extensions", Kind::Rows, || {
            self.configuration(serial)
        })?;
        clock.alone("sequences", Kind::Sequences, || self.sequences(serial))?;
        self.main(serial)?;
        clock.alone("privileges", Kind::Privileges, || {
            self.pass(serial, Pass::Privileges)
        })?;
        self.statistics(serial, "TABLE")?;
        clock.alone("TimescaleDB's catalog", Kind::Catalog, || {
            self.hypertables(serial)
        })
    }

    /// The steps that need everything else to be there, hypertables too.
    fn last_steps(&self, serial: &mut Session<'_>) -> Result<(), Halt> {
        let clock = &self.clock;
        clock.alone("what waits for the catalog", Kind::Catalog, || {
            self.after_catalog(serial)
        })?;
        clock.alone("refreshes", Kind::Refresh, || self.refresh(serial))?;
        if let Some(anew) = &self.anew
            && self.options.pick.content.schema
            && self.options.pick.sections.post_data
        {
            self.portable_steps(serial, &anew.settings)?;
        }
        self.statistics(serial, "MATERIALIZED VIEW")?;
        self.pass(serial, Pass::Last)?;
        let database: Vec<usize> = self
            .opened
            .graph
            .database
            .iter()
            .copied()
            .filter(|&n| self.chosen.entries[n] && self.opened.entries[n].desc != "DATABASE")
            .collect();
        self.entries(serial, &database)
    }

    /// A session as most steps need it: with hypertables to restore, one to which these are plain tables.
    pub fn connect(&self) -> Result<Connection, RestoreError> {
        self.connect_in(state::asleep)
    }

    /// A session, with hypertables to restore in the given state of the extension.
    pub fn connect_in(
        &self,
        state: fn(SessionOptions) -> SessionOptions,
    ) -> Result<Connection, RestoreError> {
        let mut options = session_options(self.opened, self.options);
        if self.timescale.is_some() {
            options = state(options);
        }
        self.settings
            .connect(&options)
            .map_err(server("could not connect to the target"))
    }

    fn session<'s>(&'s self, conn: Connection) -> (Session<'s>, Registration) {
        let registration = self.interrupt.register(conn.cancel_token());
        (Session::new(conn, self.shared), registration)
    }

    fn graph_pre(&self) -> Vec<usize> {
        let done = self.before_timescale();
        let late: HashSet<usize> = self.chosen.late.iter().copied().collect();
        let pre = self.opened.graph.pre.iter().copied();
        let pre = pre.filter(|n| self.chosen.entries[*n] && !done.contains(n) && !late.contains(n));
        self.chosen.in_order(pre.collect())
    }

    /// Drops what is to be restored, the last first. What is not there is no error.
    fn drop_existing(&self, session: &mut Session<'_>) -> Result<(), RestoreError> {
        let chosen = |n: usize| self.chosen.entries[n];
        let conn = session.conn();
        if self.timescale.is_some() {
            self.forget_hypertables(&mut self.connect()?)?;
        }
        let statements = schema::drops::drop_all(&self.opened.entries, &chosen);
        self.drop(conn, &statements)?;
        large_objects::drop_existing(self.opened, &self.chosen.tables, self.lock_budget, conn)
    }

    /// Runs statements that drop something, many in one transaction.
    pub fn drop(&self, conn: &mut Connection, statements: &[SqlText]) -> Result<(), RestoreError> {
        for batch in statements.chunks((self.lock_budget / 4).max(1)) {
            let failed = |statement: &SqlText, source| RestoreError::Drop {
                statement: work::shorten(statement.as_bytes()),
                source,
            };
            conn.execute("BEGIN")
                .map_err(server("could not begin to drop"))?;
            conn.batch(batch.iter().map(SqlText::as_bytes))
                .map_err(|error| failed(&batch[error.index.min(batch.len() - 1)], error.source))?;
            conn.execute("COMMIT")
                .map_err(server("could not drop what is to be restored"))?;
        }
        Ok(())
    }

    /// Restores entries one after the other, many in one transaction.
    fn entries(&self, session: &mut Session<'_>, entries: &[usize]) -> Result<(), Halt> {
        // A table locks itself, its TOAST table, that one's index, and its parent.
        let most = (self.lock_budget / 4).clamp(1, MOST_ENTRIES);
        let mut batch = Vec::new();
        for &n in entries {
            // CREATE EXTENSION may want to be alone, and locks much.
            let alone = self.opened.entries[n].desc == "EXTENSION";
            if alone {
                self.run_batch(session, &mut batch)?;
            }
            batch.push(Work::Entry(n));
            if alone || batch.len() >= most {
                self.run_batch(session, &mut batch)?;
            }
        }
        self.run_batch(session, &mut batch)
    }

    fn run_batch(&self, session: &mut Session<'_>, batch: &mut Vec<Work>) -> Result<(), Halt> {
        let work = std::mem::take(batch);
        let work: Vec<&Work> = work.iter().collect();
        if self.interrupt.raised() || (!work.is_empty() && !session.run(&work)) {
            return Err(Halt);
        }
        Ok(())
    }

    /// Loads the configuration tables of extensions, serially and in the order of their foreign keys: loaded side by
    /// side they would lose rows to them.
    fn configuration(&self, session: &mut Session<'_>) -> Result<(), Halt> {
        let mut tables: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (n, table) in self.opened.tables.iter().enumerate() {
            let config = matches!(table.role, TableRole::ExtensionConfig { .. });
            // TimescaleDB's own comes when everything that it describes is there.
            if config
                && !hypertables::is_catalog(table)
                && self.chosen.tables[n]
                && table.digest.rows > 0
            {
                tables.insert((&table.schema, &table.name), n);
            }
        }
        if tables.is_empty() {
            return Ok(());
        }
        let pairs = match catalog::foreign_keys(session.conn()) {
            Ok(pairs) => pairs,
            Err(error) => return self.halt("foreign keys of configuration tables", &error),
        };
        let order = hypertables::ordered(tables.keys().copied().collect(), &pairs);
        let work: Vec<Work> = order.iter().map(|name| Work::Load(tables[name])).collect();
        let work: Vec<&Work> = work.iter().collect();
        if session.run(&work) {
            Ok(())
        } else {
            Err(Halt)
        }
    }

    fn halt(&self, object: &str, error: &Error) -> Result<(), Halt> {
        let go_on = self.shared.failed(Failure {
            object: object.to_owned(),
            statement: String::new(),
            error: error.to_string(),
        });
        if go_on { Ok(()) } else { Err(Halt) }
    }

    /// Sets the sequences.
    fn sequences(&self, session: &mut Session<'_>) -> Result<(), Halt> {
        let sequences = self.opened.sequences.iter().zip(&self.chosen.sequences);
        let wanted = sequences.filter(|(_, wanted)| **wanted);
        let mut batch = Vec::new();
        for (sequence, _) in wanted {
            let name = qualified(&sequence.schema, &sequence.name);
            batch.push(Work::Statements(
                format!("SEQUENCE SET {}.{}", sequence.schema, sequence.name),
                vec![SqlText::from(format!(
                    "SELECT pg_catalog.setval({}, {}, {})",
                    quote_literal(&name),
                    sequence.last_value,
                    sequence.is_called
                ))],
            ));
            if batch.len() >= self.lock_budget.max(1) {
                self.run_batch(session, &mut batch)?;
            }
        }
        self.run_batch(session, &mut batch)
    }

    /// Loads rows, builds indexes and adds constraints, in parallel.
    fn main(&self, session: &mut Session<'_>) -> Result<(), Halt> {
        let order = self.order_of_loads(session)?;
        let selection = Selection {
            entries: &self.opened.entries,
            entry: &|n| self.chosen.entries[n] && !self.chosen.after_catalog.contains(&n),
            tables: &self.opened.tables,
            table: &|n| self.chosen.tables[n],
            graph: &self.opened.graph,
            late: &self.chosen.late,
            unchecked: &self.chosen.unchecked,
            created: &|table| self.chosen.created(table),
            order: &order,
            missing: &|name, of| match self.shared.journal {
                Some(journal) => journal.missing(name, of),
                None => std::iter::once(0..of).collect(),
            },
            version: session.conn().server_version(),
            resumed: self.is_resumed(),
            done: &|work| self.shared.is_done(work),
            // Of hypertables that are there already the extension would have a say in it.
            takes_over: !self.options.portable
                && (self.options.pick.creates() || self.opened.model.hypertables.is_empty()),
        };
        let bytes = self.chosen_bytes();
        self.progress
            .stage(&self.chosen.counts(self.opened).stage(bytes));
        let rows = self.shared.rows;
        let plan = self.clock.alone("the plan", Kind::Checks, || {
            let mut plan = plan::main(&selection, rows, self.jobs)?;
            let (chosen, locks) = (&self.chosen.tables, self.lock_budget / self.jobs);
            large_objects::plan(&mut plan, self.opened, chosen, rows, self.jobs, locks)?;
            plan.push_release();
            Ok::<_, LoadError>(plan)
        });
        match plan {
            Ok(plan) => self.parallel(plan),
            Err(error) => {
                self.shared.failed(Failure {
                    object: "manifests".to_owned(),
                    statement: String::new(),
                    error: error.to_string(),
                });
                Err(Halt)
            }
        }
    }

    /// Tables that exist are loaded in the order of their foreign keys, unless these are off.
    fn order_of_loads(&self, session: &mut Session<'_>) -> Result<Order, Halt> {
        if self.options.disable_triggers {
            return Ok(Order::default());
        }
        match existing::order(self.opened, self.chosen, session.conn()) {
            Ok(order) => {
                if !order.circle.is_empty() {
                    self.progress.note(&format!(
                        "these tables refer to each other in a circle, so no order of loading suits them all: {}; if it fails, --disable-triggers loads them",
                        order.circle.join(", ")
                    ));
                }
                Ok(order)
            }
            Err(error) => self
                .halt("foreign keys of tables", &error)
                .map(|()| Order::default()),
        }
    }

    fn chosen_bytes(&self) -> u64 {
        let tables = self.opened.tables.iter().zip(&self.chosen.tables);
        tables
            .filter(|(_, chosen)| **chosen)
            .map(|(table, _)| table.payload_bytes)
            .sum()
    }

    /// Runs a plan on as many sessions as there are jobs.
    fn parallel(&self, plan: Plan) -> Result<(), Halt> {
        let batching = Batching {
            cheap: cost::CHEAP,
            // Every session may have a batch of its own, and a task locks a few objects.
            count: (self.lock_budget / (4 * self.jobs)).clamp(1, 100),
            cost: cost::BATCH,
        };
        let Plan { tasks, work } = plan;
        let start = self.clock.seconds();
        let schedule = Schedule::new(tasks, batching);
        let halted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for worker in 0..self.jobs {
                let (schedule, work, halted) = (&schedule, &work, &halted);
                scope.spawn(move || {
                    if self.work(worker, schedule, work).is_err() {
                        halted.fetch_add(1, Ordering::SeqCst);
                        schedule.stop();
                    }
                });
            }
        });
        let name = |n: usize| self.shared.shown(&work[n]);
        self.clock.side_by_side(schedule, start, name);
        if halted.into_inner() == 0 {
            Ok(())
        } else {
            Err(Halt)
        }
    }

    fn work(&self, worker: usize, schedule: &Schedule, work: &[Work]) -> Result<(), Halt> {
        let conn = match self.connect() {
            Ok(conn) => conn,
            Err(error) => {
                self.shared.failed(Failure {
                    object: "a worker's connection".to_owned(),
                    statement: String::new(),
                    error: error.to_string(),
                });
                return Err(Halt);
            }
        };
        let (mut session, _registration) = self.session(conn);
        self.cores.begin(session.conn());
        let _guard = schedule.guard();
        if worker == 0 {
            self.create_late(&mut session, schedule, work)?;
        }
        while let Some(taken) = schedule.take(worker) {
            let lent = self.cores.lend(session.conn(), schedule, &taken);
            self.run_taken(worker, &mut session, work, &taken)?;
            self.cores.take_back(session.conn(), lent);
            schedule.done(&taken);
        }
        self.progress.task(worker, None);
        Ok(())
    }

    /// Restores what others wait for: it has to be done in its order, by one session, as a child locks its parent.
    fn create_late(
        &self,
        session: &mut Session<'_>,
        schedule: &Schedule,
        work: &[Work],
    ) -> Result<(), Halt> {
        let most = (self.lock_budget / 4).clamp(1, LATE_ENTRIES);
        while let Some(taken) = schedule.take_elsewhere(0, most) {
            self.run_taken(0, session, work, &taken)?;
            schedule.done(&taken);
        }
        Ok(())
    }

    fn run_taken(
        &self,
        worker: usize,
        session: &mut Session<'_>,
        work: &[Work],
        taken: &Taken,
    ) -> Result<(), Halt> {
        let pieces: Vec<&Work> = taken.tasks.iter().map(|&n| &work[n]).collect();
        let name = pieces.first().map(|work| self.shared.shown(work));
        self.progress.task(worker, name.as_deref());
        if self.interrupt.raised() || !session.run(&pieces) {
            return Err(Halt);
        }
        Ok(())
    }

    /// Restores the entries of a later pass, one after the other.
    fn pass(&self, session: &mut Session<'_>, pass: Pass) -> Result<(), Halt> {
        if pass == Pass::Privileges {
            self.progress.stage(&Stage::PostData);
        }
        self.entries(session, &self.chosen.in_order(self.of_pass(pass)))
    }

    fn of_pass(&self, pass: Pass) -> Vec<usize> {
        let tasks = self.opened.graph.tasks.iter();
        tasks
            .filter(|task| task.pass == pass && self.chosen.entries[task.entry])
            .map(|task| task.entry)
            .collect()
    }

    /// Refreshes materialised views. Nobody knows that one reads another through a function, so those that found one still
    /// empty are tried again as long as others could be refreshed.
    fn refresh(&self, session: &mut Session<'_>) -> Result<(), Halt> {
        let mut views = self.chosen.in_order(self.of_pass(Pass::Refreshes));
        loop {
            let before = views.len();
            let mut early = Vec::new();
            for n in views {
                if self.interrupt.raised() {
                    return Err(Halt);
                }
                if !session.run_unless_early(n)? {
                    early.push(n);
                }
            }
            if early.is_empty() || early.len() == before {
                return self.entries(session, &early);
            }
            views = early;
        }
    }

    /// Gives the relations that were restored the statistics that they had, and collects those of the others.
    fn statistics(&self, session: &mut Session<'_>, desc: &str) -> Result<(), Halt> {
        let version = session.conn().server_version();
        let table = statistics::table(self.opened, self.options, version);
        if let Some(table) = table {
            let views = desc != "TABLE";
            let (jobs, locks) = (self.jobs, self.lock_budget / self.jobs);
            let (opened, chosen) = (self.opened, self.chosen);
            self.parallel(statistics::plan(opened, chosen, table, views, jobs, locks))?;
        }
        if self.options.analyze {
            self.analyze(session, desc, table.is_some())?;
        }
        Ok(())
    }

    /// Collects the statistics of the relations that were restored and have none.
    fn analyze(&self, session: &mut Session<'_>, desc: &str, restored: bool) -> Result<(), Halt> {
        let mut names: Vec<String> = self
            .opened
            .entries
            .iter()
            .enumerate()
            .filter(|(n, e)| self.chosen.entries[*n] && e.desc == desc)
            .filter_map(|(_, e)| {
                let schema = e.namespace.as_ref()?.to_lossy();
                Some(qualified(&schema, &e.tag.to_lossy()))
            })
            .collect();
        if desc == "TABLE" {
            let tables = self.opened.tables.iter().zip(&self.chosen.tables);
            let filled = tables.filter(|(t, wanted)| **wanted && t.role == TableRole::Plain);
            let filled = filled.filter(|(t, _)| !self.chosen.created(t));
            names.extend(filled.map(|(t, _)| qualified(&t.schema, &t.name)));
        }
        let mut plan = Plan::default();
        let found = match catalog::analyzable(session.conn(), &names, restored) {
            Ok(found) => found,
            Err(error) => return self.halt("ANALYZE", &error),
        };
        for (n, (name, bytes)) in found.into_iter().enumerate() {
            let task = Task {
                kind: Kind::Analyze,
                cost: Kind::Analyze.cost(Size { rows: 0, bytes }),
                shared: vec![i32::try_from(n).unwrap_or(0)],
                ..Task::default()
            };
            let statement = format!("ANALYZE {name}");
            let text = vec![SqlText::from(statement.as_str())];
            plan.push(task, Work::Statements(statement, text));
        }
        self.parallel(plan)
    }
}
