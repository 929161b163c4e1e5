//! The steps of a restore, in their order: serial ones on one session, the others in parallel.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::pg::archive::SqlText;
use crate::pg::catalog::{self, qualified, quote_literal};
use crate::pg::interrupt::{Interrupt, Registration};
use crate::pg::{Connection, Error, Settings};
use crate::progress::{Progress, Stage};
use crate::repo::model::{SequenceValue, TableRole};
use crate::schema;
use crate::schema::graph::Pass;
use crate::schema::statements;
use crate::timescale;

use super::chosen::Chosen;
use super::exec::{self, Failure, Halt, Session, Shared, Work};
use super::plan::{self, Plan, Selection};
use super::schedule::{Batching, Schedule, Task};
use super::target::session_options;
use super::{Opened, RestoreError, RestoreOptions, large_objects, server};

/// Entries in one transaction, however large the lock table is: what a transaction has changed makes each further
/// change of the catalog dearer. Of 5,001 chunks, 3,200 in one took twice as long as 400.
const MOST_ENTRIES: usize = 400;

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
    /// Sessions that work in parallel.
    pub jobs: usize,
}

impl Restore<'_> {
    /// All of it. What failed is noted in what the sessions share.
    pub fn run(&self, conn: Connection) -> Result<(), RestoreError> {
        let mut serial = self.session(conn);
        if self.options.clean && !self.options.create {
            self.drop_existing(&mut serial.0)?;
        }
        if self.timescale.is_some() {
            // The extension is created first in a session of its own, and the sessions after it are in its restoring
            // state.
            self.begin_timescale()?;
            serial = self.session(self.connect()?);
        }
        if self.steps(&mut serial.0).is_err() {
            if self.timescale.is_some() {
                self.progress.note(
                    "the target database is still in TimescaleDB's restoring state: drop it and restore anew, or end the state with SELECT timescaledb_post_restore()",
                );
            }
            return Ok(());
        }
        if self.timescale.is_some() {
            let scheduler = timescale::end(serial.0.conn())
                .map_err(server("could not end TimescaleDB's restoring state"))?;
            if !scheduler {
                self.progress.note(
                    "TimescaleDB's jobs do not run in the target database: the server has no background worker left (max_worker_processes). Raise it and restart the server, or call _timescaledb_functions.start_background_workers() when there is one",
                );
            }
        }
        // One commit that waits for the disk makes all the earlier ones durable.
        serial
            .0
            .conn()
            .execute("SET synchronous_commit = on; SELECT pg_catalog.pg_current_xact_id()")
            .map_err(server("could not make the restore durable"))
    }

    /// All passes in their order.
    fn steps(&self, serial: &mut Session<'_>) -> Result<(), Halt> {
        let pre: Vec<usize> = self.graph_pre();
        self.progress.stage(&Stage::PreData { entries: pre.len() });
        self.entries(serial, &pre)?;
        self.configuration(serial)?;
        self.sequences(serial)?;
        large_objects::restore(serial.conn(), self.opened, self.shared, &self.chosen.tables)?;
        self.main()?;
        self.pass(serial, Pass::Privileges)?;
        if self.options.analyze {
            self.analyze(serial, "'r', 'p'")?;
        }
        self.pass(serial, Pass::Last)?;
        if self.options.analyze {
            self.analyze(serial, "'m'")?;
        }
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

    fn connect(&self) -> Result<Connection, RestoreError> {
        self.settings
            .connect(&session_options(self.opened))
            .map_err(server("could not connect to the target"))
    }

    fn session<'s>(&'s self, conn: Connection) -> (Session<'s>, Registration) {
        let registration = self.interrupt.register(conn.cancel_token());
        (Session::new(conn, self.shared), registration)
    }

    fn graph_pre(&self) -> Vec<usize> {
        let done = self.before_timescale();
        self.opened
            .graph
            .pre
            .iter()
            .copied()
            .filter(|n| self.chosen.entries[*n] && !done.contains(n))
            .collect()
    }

    /// The entries that come before the restoring state: TimescaleDB, and the schema that it lives in.
    fn before_timescale(&self) -> Vec<usize> {
        if self.timescale.is_none() {
            return Vec::new();
        }
        let source = &self.opened.snapshot.source;
        let pre = self.opened.graph.pre.iter().copied();
        pre.filter(|&n| timescale::is_before_restoring(&self.opened.entries[n], source))
            .collect()
    }

    /// Creates the extension at the version of the source and begins the restoring state.
    fn begin_timescale(&self) -> Result<(), RestoreError> {
        let Some(version) = self.timescale else {
            return Ok(());
        };
        let mut conn = self.connect()?;
        let mut renderer = statements::Renderer::new(self.options.render);
        for n in self.before_timescale() {
            let entry = &self.opened.entries[n];
            let statements = if timescale::is_extension(entry) {
                // It must be the first of its session.
                conn = self.connect()?;
                vec![timescale::create_extension(entry, version)]
            } else {
                renderer.statements(entry)
            };
            for statement in statements {
                conn.execute(statement.as_bytes())
                    .map_err(server("could not create the extension timescaledb"))?;
            }
        }
        let mut conn = self.connect()?;
        timescale::begin(&mut conn).map_err(server("could not begin TimescaleDB's restoring state"))
    }

    /// Drops what is to be restored, the last first. What is not there is no error.
    fn drop_existing(&self, session: &mut Session<'_>) -> Result<(), RestoreError> {
        let chosen = |n: usize| self.chosen.entries[n];
        let statements = schema::drops::drop_all(&self.opened.entries, &chosen);
        let conn = session.conn();
        for batch in statements.chunks((self.lock_budget / 4).max(1)) {
            let failed = |statement: &SqlText, source| RestoreError::Drop {
                statement: exec::shorten(statement.as_bytes()),
                source,
            };
            conn.execute("BEGIN")
                .map_err(server("could not begin to drop"))?;
            conn.batch(batch.iter().map(SqlText::as_bytes))
                .map_err(|error| failed(&batch[error.index.min(batch.len() - 1)], error.source))?;
            conn.execute("COMMIT")
                .map_err(server("could not drop what is to be restored"))?;
        }
        let objects = large_objects::needs(self.opened, &self.chosen.tables)?;
        large_objects::drop_existing(conn, &objects).map_err(server(
            "could not drop the large objects that are to be restored",
        ))
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
            if config && self.chosen.tables[n] && table.digest.rows > 0 {
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
        let mut order = Vec::with_capacity(tables.len());
        while !tables.is_empty() {
            let free: Vec<(&str, &str)> = tables
                .keys()
                .copied()
                .filter(|table| {
                    !pairs.iter().any(|(child, parent)| {
                        (child.0.as_str(), child.1.as_str()) == *table
                            && child != parent
                            && tables.contains_key(&(parent.0.as_str(), parent.1.as_str()))
                    })
                })
                .collect();
            // In a circle any order is as good as another.
            let next = if free.is_empty() {
                tables.keys().copied().take(1).collect()
            } else {
                free
            };
            order.extend(next.iter().filter_map(|table| tables.remove(table)));
        }
        let work: Vec<Work> = order.into_iter().map(Work::Load).collect();
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
        let named: HashSet<String> = self.options.tables.iter().cloned().collect();
        let wanted = |s: &&SequenceValue| self.chosen.whole || named.contains(&s.name);
        let mut batch = Vec::new();
        for sequence in self.opened.sequences.iter().filter(wanted) {
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
    fn main(&self) -> Result<(), Halt> {
        let selection = Selection {
            entries: &self.opened.entries,
            entry: &|n| self.chosen.entries[n],
            tables: &self.opened.tables,
            table: &|n| self.chosen.tables[n],
            graph: &self.opened.graph,
        };
        let bytes = self.chosen_bytes();
        self.progress.stage(&Stage::Rows {
            bytes,
            tables: self.chosen.tables.iter().filter(|&&chosen| chosen).count(),
        });
        match plan::main(&selection, &self.opened.reader, self.jobs) {
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
            cheap: plan::CHEAP_BYTES,
            // Every session may have a batch of its own, and a task locks a few objects.
            count: (self.lock_budget / (4 * self.jobs)).clamp(1, 100),
            cost: 32 << 20,
        };
        let Plan { tasks, work } = plan;
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
        let _guard = schedule.guard();
        while let Some(batch) = schedule.take() {
            if self.interrupt.raised() {
                return Err(Halt);
            }
            let pieces: Vec<&Work> = batch.iter().map(|&n| &work[n]).collect();
            let name = pieces.first().map(|work| self.shared.name(work));
            self.progress.task(worker, name.as_deref());
            if !session.run(&pieces) {
                return Err(Halt);
            }
            schedule.done(&batch);
        }
        self.progress.task(worker, None);
        Ok(())
    }

    /// Restores the entries of a later pass, one after the other.
    fn pass(&self, session: &mut Session<'_>, pass: Pass) -> Result<(), Halt> {
        if pass == Pass::Privileges {
            self.progress.stage(&Stage::PostData);
        }
        let entries: Vec<usize> = self
            .opened
            .graph
            .tasks
            .iter()
            .filter(|task| task.pass == pass && self.chosen.entries[task.entry])
            .map(|task| task.entry)
            .collect();
        self.entries(session, &entries)
    }

    /// Collects the statistics of the relations that were restored. A partitioned table's ANALYZE covers its partitions.
    fn analyze(&self, session: &mut Session<'_>, kinds: &str) -> Result<(), Halt> {
        let names: Vec<String> = self
            .opened
            .entries
            .iter()
            .enumerate()
            .filter(|(n, e)| {
                self.chosen.entries[*n] && matches!(e.desc.as_str(), "TABLE" | "MATERIALIZED VIEW")
            })
            .filter_map(|(_, e)| {
                let schema = e.namespace.as_ref()?.to_lossy();
                Some(qualified(&schema, &e.tag.to_lossy()))
            })
            .collect();
        let mut plan = Plan::default();
        let found = match catalog::analyzable(session.conn(), &names, kinds) {
            Ok(found) => found,
            Err(error) => return self.halt("ANALYZE", &error),
        };
        for (n, (name, bytes)) in found.into_iter().enumerate() {
            plan.tasks.push(Task {
                cost: bytes,
                shared: vec![i32::try_from(n).unwrap_or(0)],
                ..Task::default()
            });
            plan.work.push(Work::Statements(
                format!("ANALYZE {name}"),
                vec![SqlText::from(format!("ANALYZE {name}"))],
            ));
        }
        self.parallel(plan)
    }
}
