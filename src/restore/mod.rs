//! The restore: look first, then entries, rows and all that follows them, in one graph.

mod exec;
mod large_objects;
mod load;
mod plan;
mod preflight;
mod schedule;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::{self, qualified, quote_ident, quote_literal};
use crate::pg::interrupt::{Interrupt, Registration};
use crate::pg::{Connection, Error, SessionOptions, Settings};
use crate::progress::{Progress, Stage};
use crate::repo::model::{Root, SequenceValue, Snapshot, TableRecord, TableRole};
use crate::repo::{Reader, RepoError, Repository, lists};
use crate::schema;
use crate::schema::graph::{Graph, Pass};
use crate::schema::statements::{self, RenderOptions};
use crate::timescale;

pub use exec::{Failure, entry_name};
pub use preflight::Problems;

use exec::{Session, Shared, Work};
use plan::{Plan, Selection};
use schedule::{Batching, Schedule, Task};

/// What a restore is asked to do.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The target database, or with `create` any database of the server to connect to first.
    pub settings: Settings,
    /// Sessions at the target; nothing for as many as the machine and the server allow.
    pub jobs: Option<usize>,
    /// Create the database as it was at the source, and restore into it.
    pub create: bool,
    /// Drop what is restored first.
    pub clean: bool,
    /// Restore only these relations, without what belongs to them, as `pg_restore -t` does.
    pub tables: Vec<String>,
    /// What is left out of statements.
    pub render: RenderOptions,
    /// Collect statistics at the end.
    pub analyze: bool,
    /// Go on after an error.
    pub continue_on_error: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestoreReport {
    /// Name of the database.
    pub database: String,
    /// Entries restored.
    pub entries: u64,
    /// Tables loaded.
    pub tables: u64,
    /// Rows loaded.
    pub rows: u64,
    /// Bytes of payload loaded.
    pub payload_bytes: u64,
    /// Seconds altogether.
    pub seconds: f64,
    /// What could not be restored.
    pub failures: Vec<Failure>,
}

/// Why a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Nothing was touched: something is missing at the target or in the way.
    #[error("nothing was restored\n{0}")]
    Refused(Problems),
    /// The server said no outside any entry.
    #[error("{context}: {source}")]
    Server {
        /// What was being done.
        context: &'static str,
        /// What the server said.
        #[source]
        source: Error,
    },
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The schema in the repository does not fit together.
    #[error(
        "the schema entries of the snapshot cannot be read: {0}\nhint: pgtide check tells what is damaged"
    )]
    Schema(String),
    /// An entry or a table failed.
    #[error(
        "the restore stopped at the first error: {0}\nhint: what was restored before stays; --continue-on-error goes on after errors and lists them"
    )]
    Failed(Box<Failure>),
    /// Something that is to be restored could not be dropped first.
    #[error(
        "could not drop what is to be restored: {source}\n  statement: {statement}\nhint: drop by hand what stands in the way, or restore into an empty database (--create makes one)"
    )]
    Drop {
        /// The statement, shortened.
        statement: String,
        /// What the server said.
        #[source]
        source: Error,
    },
    /// No relation of that name is in the snapshot.
    #[error(
        "no table, view or sequence named {0:?} is in the snapshot\nhint: pgtide list shows what is"
    )]
    NoSuchTable(String),
    /// The user asked to stop.
    #[error(
        "interrupted: the target holds a part of the snapshot\nhint: run it again with --clean, or into a new database"
    )]
    Interrupted,
}

fn server(context: &'static str) -> impl FnOnce(Error) -> RestoreError {
    move |source| RestoreError::Server { context, source }
}

/// A snapshot opened for restoring: its entries, tables and sequences.
pub struct Opened {
    /// What the snapshot says of itself.
    pub snapshot: Snapshot,
    /// Its entries, in the order of `pg_dump`.
    pub entries: Vec<TocEntry>,
    /// Its tables, in order of name.
    pub tables: Vec<TableRecord>,
    /// Its sequences' values.
    pub sequences: Vec<SequenceValue>,
    /// The order of a restore.
    pub graph: Graph,
    reader: Reader,
}

/// Reads a snapshot's entries and tables.
pub fn open(repo: &Repository, snapshot: Snapshot) -> Result<Opened, RestoreError> {
    let reader = repo.reader()?;
    let root: Root = lists::read_value(&reader, &snapshot.root)?;
    let items = lists::read_list(&reader, &root.entries)?;
    let order: Vec<u32> = lists::read_list(&reader, &root.entry_order)?;
    let entries = schema::store::decode(items, &order)
        .map_err(|error| RestoreError::Schema(error.to_string()))?;
    let graph = Graph::build(&entries);
    Ok(Opened {
        tables: lists::read_list(&reader, &root.tables)?,
        sequences: lists::read_list(&reader, &root.sequences)?,
        snapshot,
        entries,
        graph,
        reader,
    })
}

/// Restores an opened snapshot.
pub fn run(
    opened: &Opened,
    options: &RestoreOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<RestoreReport, RestoreError> {
    let began = Instant::now();
    let chosen = Chosen::new(opened, options)?;
    let mut conn = options
        .settings
        .connect(&session_options(opened))
        .map_err(server("could not connect to the target"))?;
    let mut settings = options.settings.pin(&conn);
    let problems = preflight(opened, options, &chosen, &mut conn)?;
    if !problems.is_empty() {
        return Err(RestoreError::Refused(problems));
    }
    let shared = Shared {
        reader: &opened.reader,
        entries: &opened.entries,
        tables: &opened.tables,
        created: &|table| chosen.created(table),
        encoding: match opened.snapshot.source.encoding.as_str() {
            "UTF8" => None,
            other => Some(other),
        },
        render: options.render,
        progress,
        failures: Mutex::new(Vec::new()),
        continue_on_error: options.continue_on_error,
    };
    if options.create {
        let name = create_database(opened, options, &mut conn)?;
        settings = settings.with_dbname(&name);
        conn = settings
            .connect(&session_options(opened))
            .map_err(server("could not connect to the new database"))?;
    }
    let database = database_name(&mut conn)?;
    let restore = Restore {
        opened,
        options,
        chosen: &chosen,
        settings: &settings,
        interrupt,
        progress,
        shared: &shared,
        lock_budget: lock_budget(&mut conn)?,
        timescale: chosen.timescale(opened),
        jobs: match options.jobs {
            Some(jobs) => jobs.max(1),
            None => catalog::default_jobs(&mut conn)
                .map_err(server("could not ask for the free connections"))?,
        },
    };
    let result = restore.run(conn);
    let failures = shared
        .failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if interrupt.raised() {
        return Err(RestoreError::Interrupted);
    }
    result?;
    if let Some(first) = failures.first().filter(|_| !options.continue_on_error) {
        return Err(RestoreError::Failed(Box::new(first.clone())));
    }
    let loaded = || {
        opened
            .tables
            .iter()
            .enumerate()
            .filter(|(n, _)| chosen.tables[*n])
    };
    Ok(RestoreReport {
        database,
        entries: chosen.entries.iter().filter(|&&chosen| chosen).count() as u64,
        tables: loaded().count() as u64,
        rows: loaded().map(|(_, t)| t.digest.rows).sum(),
        payload_bytes: loaded().map(|(_, t)| t.payload_bytes).sum(),
        seconds: began.elapsed().as_secs_f64(),
        failures,
    })
}

/// What a restore would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Entries.
    pub entries: u64,
    /// How many there are of each kind, the most frequent first.
    pub kinds: Vec<(String, u64)>,
    /// Tables with rows, the largest first: name, rows, bytes of payload.
    pub tables: Vec<(String, u64, u64)>,
    /// Rows.
    pub rows: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
}

/// What a restore would do; no server is asked.
pub fn outline(opened: &Opened, options: &RestoreOptions) -> Result<Outline, RestoreError> {
    let chosen = Chosen::new(opened, options)?;
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (entry, _) in opened
        .entries
        .iter()
        .zip(&chosen.entries)
        .filter(|(_, c)| **c)
    {
        *kinds.entry(&entry.desc).or_default() += 1;
    }
    let mut kinds: Vec<(String, u64)> = kinds
        .into_iter()
        .map(|(kind, number)| (kind.to_owned(), number))
        .collect();
    kinds.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let tables = opened.tables.iter().zip(&chosen.tables);
    let mut tables: Vec<(String, u64, u64)> = tables
        .filter(|(table, chosen)| **chosen && table.digest.rows > 0)
        .map(|(t, _)| {
            let name = format!("{}.{}", t.schema, t.name);
            (name, t.digest.rows, t.payload_bytes)
        })
        .collect();
    tables.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
    Ok(Outline {
        entries: kinds.iter().map(|(_, number)| number).sum(),
        kinds,
        rows: tables.iter().map(|(_, rows, _)| rows).sum(),
        payload_bytes: tables.iter().map(|(_, _, bytes)| bytes).sum(),
        tables,
    })
}

/// What stands against the restore; nothing is touched.
pub fn problems(opened: &Opened, options: &RestoreOptions) -> Result<Problems, RestoreError> {
    let chosen = Chosen::new(opened, options)?;
    let mut conn = options
        .settings
        .connect(&session_options(opened))
        .map_err(server("could not connect to the target"))?;
    preflight(opened, options, &chosen, &mut conn)
}

fn preflight(
    opened: &Opened,
    options: &RestoreOptions,
    chosen: &Chosen,
    conn: &mut Connection,
) -> Result<Problems, RestoreError> {
    let entries: Vec<&TocEntry> = opened
        .entries
        .iter()
        .enumerate()
        .filter(|(n, _)| chosen.entries[*n])
        .map(|(_, e)| e)
        .collect();
    let mut problems = preflight::check(
        conn,
        &opened.snapshot.source,
        &entries,
        &large_objects::needs(opened, &chosen.tables)?,
        preflight::Wanted {
            owners: !options.render.no_owner,
            privileges: !options.render.no_privileges,
            tablespaces: !options.render.no_tablespaces,
            existing: !options.create && !options.clean,
        },
    )
    .map_err(server("could not look at the target"))?;
    if let Some(version) = chosen.timescale(opened) {
        // What the database connected to has matters only if it is the one to restore into.
        problems.others.extend(
            timescale::problem(conn, version, !options.create)
                .map_err(server("could not look at the target's TimescaleDB"))?,
        );
    }
    if options.create && !options.clean {
        let name = &opened.snapshot.source.database;
        let rows = conn
            .query(&format!(
                "SELECT FROM pg_catalog.pg_database WHERE datname = {}",
                quote_literal(name)
            ))
            .map_err(server("could not look at the target's databases"))?;
        if !rows.is_empty() {
            problems.others.push(format!(
                "the database {name} exists already\nhint: restore into another with --dbname and without --create, or drop it first with --clean"
            ));
        }
    }
    Ok(problems)
}

/// The entries and tables to restore.
struct Chosen {
    entries: Vec<bool>,
    tables: Vec<bool>,
    /// Schema and name of the tables whose definitions are restored.
    created: HashSet<(String, String)>,
    /// Whether everything is restored.
    whole: bool,
}

impl Chosen {
    fn new(opened: &Opened, options: &RestoreOptions) -> Result<Self, RestoreError> {
        const RELATIONS: &[&str] = &[
            "TABLE",
            "VIEW",
            "MATERIALIZED VIEW",
            "FOREIGN TABLE",
            "SEQUENCE",
            "MATERIALIZED VIEW DATA",
        ];
        let database: HashSet<usize> = opened.graph.database.iter().copied().collect();
        let named = |name: &str| options.tables.iter().any(|wanted| wanted == name);
        let whole = options.tables.is_empty();
        let entries: Vec<bool> = opened
            .entries
            .iter()
            .enumerate()
            .map(|(n, entry)| {
                if database.contains(&n) {
                    options.create && !timescale::is_restoring_setting(entry)
                } else if whole {
                    !statements::is_setting(entry) && !statements::is_data(entry)
                } else {
                    RELATIONS.contains(&entry.desc.as_str()) && named(&entry.tag.to_lossy())
                }
            })
            .collect();
        for name in &options.tables {
            let found = opened.entries.iter().zip(&entries);
            if !found
                .into_iter()
                .any(|(entry, &chosen)| chosen && entry.tag.to_lossy() == name.as_str())
            {
                return Err(RestoreError::NoSuchTable(name.clone()));
            }
        }
        let created = opened
            .entries
            .iter()
            .zip(&entries)
            .filter(|(entry, chosen)| **chosen && entry.desc == "TABLE")
            .filter_map(|(entry, _)| {
                let schema = entry.namespace.as_ref()?.to_lossy().into_owned();
                Some((schema, entry.tag.to_lossy().into_owned()))
            })
            .collect();
        Ok(Self {
            tables: opened
                .tables
                .iter()
                .map(|t| whole || (t.role == TableRole::Plain && named(&t.name)))
                .collect(),
            entries,
            created,
            whole,
        })
    }

    /// Whether this restore creates the table.
    fn created(&self, table: &TableRecord) -> bool {
        self.created
            .contains(&(table.schema.clone(), table.name.clone()))
    }

    /// The version of TimescaleDB to restore, if any.
    fn timescale<'o>(&self, opened: &'o Opened) -> Option<&'o str> {
        timescale::version(&opened.snapshot.source).filter(|_| self.whole)
    }
}

/// What every session of a restore starts with.
fn session_options(opened: &Opened) -> SessionOptions {
    let mut options = crate::pg::session_options();
    for (name, value) in statements::session_settings(&opened.entries) {
        options = options.with(&name, &value);
    }
    // Commits need not reach the disk one by one; the last one of the restore makes all of them durable.
    options.with("synchronous_commit", "off")
}

fn database_name(conn: &mut Connection) -> Result<String, RestoreError> {
    let rows = conn
        .query("SELECT pg_catalog.current_database()")
        .map_err(server("could not ask for the database's name"))?;
    Ok(rows
        .first()
        .and_then(|row| row.get(0))
        .unwrap_or_default()
        .to_owned())
}

/// Objects that one transaction may lock: a quarter of the server's lock table.
fn lock_budget(conn: &mut Connection) -> Result<usize, RestoreError> {
    let rows = conn
        .query(
            "SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8
               * (pg_catalog.current_setting('max_connections')::int8
                  + pg_catalog.current_setting('max_prepared_transactions')::int8) / 4",
        )
        .map_err(server("could not read the size of the lock table"))?;
    Ok(rows
        .first()
        .and_then(|row| row.get(0))
        .and_then(|text| text.parse().ok())
        .unwrap_or(1600))
}

/// Creates the database as its entry says, and returns its name.
fn create_database(
    opened: &Opened,
    options: &RestoreOptions,
    conn: &mut Connection,
) -> Result<String, RestoreError> {
    let name = opened.snapshot.source.database.clone();
    if options.clean {
        conn.execute(&format!("DROP DATABASE IF EXISTS {}", quote_ident(&name)))
            .map_err(server("could not drop the database"))?;
    }
    let mut renderer = statements::Renderer::new(options.render);
    for &n in &opened.graph.database {
        let entry = &opened.entries[n];
        if entry.desc == "DATABASE" {
            // CREATE DATABASE allows no transaction around it.
            for statement in renderer.statements(entry) {
                conn.execute(statement.as_bytes())
                    .map_err(server("could not create the database"))?;
            }
        }
    }
    Ok(name)
}

/// A restore at work.
struct Restore<'a> {
    opened: &'a Opened,
    options: &'a RestoreOptions,
    chosen: &'a Chosen,
    settings: &'a Settings,
    interrupt: &'a Interrupt,
    progress: &'a dyn Progress,
    shared: &'a Shared<'a>,
    lock_budget: usize,
    timescale: Option<&'a str>,
    jobs: usize,
}

/// Nothing more is done: a failure was noted, or the user asked to stop.
struct Halt;

impl Restore<'_> {
    fn run(&self, conn: Connection) -> Result<(), RestoreError> {
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
            return Ok(());
        }
        if self.timescale.is_some() {
            timescale::end(serial.0.conn())
                .map_err(server("could not end TimescaleDB's restoring state"))?;
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
        let mut batch = Vec::new();
        for &n in entries {
            // CREATE EXTENSION may want to be alone, and locks much.
            let alone = self.opened.entries[n].desc == "EXTENSION";
            if alone {
                self.run_batch(session, &mut batch)?;
            }
            batch.push(Work::Entry(n));
            if alone || batch.len() >= (self.lock_budget / 4).max(1) {
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
            cheap: 4 << 20,
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
        while let Some(batch) = schedule.take() {
            if self.interrupt.raised() {
                return Err(Halt);
            }
            self.progress.task(
                worker,
                batch.first().map(|&n| schedule.task(n).name.as_str()),
            );
            let pieces: Vec<&Work> = batch.iter().map(|&n| &work[n]).collect();
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
                name: format!("ANALYZE {name}"),
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
