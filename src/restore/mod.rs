//! The restore: look first, then entries, rows and all that follows them, in one graph.

pub(crate) mod chosen;
pub mod cluster;
mod cores;
mod cost;
mod error;
mod exec;
mod existing;
mod foreign_keys;
pub(crate) mod hypertables;
pub(crate) mod journal;
mod large_objects;
pub(crate) mod load;
mod mark;
mod older;
mod plan;
mod portable;
mod preflight;
pub(crate) mod rows;
mod schedule;
mod sizes;
mod statistics;
mod steps;
mod target;
mod timing;
mod triggers;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use crate::pg::archive::TocEntry;
use crate::pg::catalog::{self, Name};
use crate::pg::interrupt::Interrupt;
use crate::pg::{Connection, Settings};
use crate::progress::Progress;
use crate::repo::model::{Root, SequenceValue, Snapshot, TableRecord, TableRole};
use crate::repo::{Reader, Repository, lists};
use crate::schema;
use crate::schema::closure;
use crate::schema::graph::Graph;
use crate::schema::statements::RenderOptions;
use crate::timescale;
use crate::timescale::catalog::Catalog;
use crate::timescale::contents::{self, Counts};
use crate::timescale::model::Model;

pub use chosen::{Chosen, Content, Item, Mode, Names, Pick, What};
pub use cost::Kind;
pub use error::RestoreError;
pub use preflight::Problems;
pub use schedule::Waited;
pub use timing::{KindTime, Link, Timing};
pub use work::{Failure, entry_name};

use cores::Cores;
use error::server;
use journal::Journal;
use rows::{RowSource, Stored};
use steps::Restore;
pub(crate) use target::create_database;
use target::{database_name, lock_budget, session_options};
use timing::Clock;
use work::Shared;

/// What a restore is asked to do.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The target database, or with `create` any database of the server to connect to first.
    pub settings: Settings,
    /// Sessions at the target; nothing for as many as the machine and the server allow.
    pub jobs: Option<usize>,
    /// Create the database as it was at the source, and restore into it.
    pub create: bool,
    /// Restore settings, privileges and comment of the database itself without creating it.
    pub properties: bool,
    /// Drop what is restored first.
    pub clean: bool,
    /// What of the snapshot is restored.
    pub pick: Pick,
    /// Make hypertables anew by the public functions of the target's TimescaleDB, whatever its version.
    pub portable: bool,
    /// What is left out of statements.
    pub render: RenderOptions,
    /// Restore the statistics that the snapshot has, where the target takes them.
    pub statistics: bool,
    /// The role that restores, if it is not the one that connects.
    pub role: Option<String>,
    /// Rows that policies hide from the role are no error.
    pub row_security: bool,
    /// Triggers of tables that exist, foreign keys among them, do not fire while rows are loaded.
    pub disable_triggers: bool,
    /// Collect statistics at the end, of what has none then.
    pub analyze: bool,
    /// Go on after an error.
    pub continue_on_error: bool,
    /// TimescaleDB's jobs do not start at the end: the database is only to be looked at, and one of them might drop chunks.
    pub no_jobs: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestoreReport {
    /// Name of the database.
    pub database: String,
    /// Entries restored.
    pub entries: u64,
    /// Tables, hypertables and chunks loaded.
    pub counts: Counts,
    /// Rows loaded.
    pub rows: u64,
    /// Bytes of payload loaded.
    pub payload_bytes: u64,
    /// Seconds altogether.
    pub seconds: f64,
    /// Where they went.
    pub timing: Timing,
    /// What could not come along, known before anything was touched.
    pub left_out: Vec<String>,
    /// What could not be restored.
    pub failures: Vec<Failure>,
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
    /// TimescaleDB's catalog; without tables where the database has none.
    pub catalog: Catalog,
    /// What it says of hypertables and chunks.
    pub model: Model,
    pub(crate) reader: Reader,
}

/// Reads a snapshot's entries and tables.
pub fn open(repo: &Repository, snapshot: Snapshot) -> Result<Opened, RestoreError> {
    let reader = repo.reader()?;
    let root: Root = lists::read_value(&reader, &snapshot.root)?;
    let items = lists::read_list(&reader, &root.entries)?;
    let order: Vec<u32> = lists::read_list(&reader, &root.entry_order)?;
    let mut entries = schema::store::decode(items, &order)
        .map_err(|error| RestoreError::Schema(error.to_string()))?;
    schema::statements::forget_database_settings(
        &mut entries,
        &[timescale::RESTORING, mark::SETTING],
    );
    let graph = Graph::build(&entries);
    let tables = lists::read_list(&reader, &root.tables)?;
    let catalog = hypertables::catalog(&reader, &tables)?;
    Ok(Opened {
        tables,
        model: catalog.model()?,
        catalog,
        sequences: lists::read_list(&reader, &root.sequences)?,
        snapshot,
        entries,
        graph,
        reader,
    })
}

impl Opened {
    /// Tables, hypertables and chunks.
    pub fn counts(&self) -> Counts {
        self.counts_where(|_| true)
    }

    /// Whether the snapshot has the planner's statistics.
    pub fn has_statistics(&self) -> bool {
        let mut tables = self.tables.iter();
        tables.any(|table| table.role == TableRole::Statistics)
    }

    /// The same of those tables, by their number, for which `wanted` is true.
    fn counts_where(&self, wanted: impl Fn(usize) -> bool) -> Counts {
        let tables = self.tables.iter().enumerate();
        let plain = tables.filter(|(n, t)| t.role == TableRole::Plain && wanted(*n));
        let names: Vec<Name> = plain.map(|(_, t)| t.key()).collect();
        Counts::of(&self.model, names.iter())
    }
}

/// Restores an opened snapshot.
pub fn run(
    opened: &Opened,
    options: &RestoreOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<RestoreReport, RestoreError> {
    let rows = Stored {
        reader: &opened.reader,
        tables: &opened.tables,
        progress,
    };
    run_from(opened, &rows, None, options, interrupt, progress)
}

/// Restores an opened snapshot, with rows from elsewhere. What is done is noted in the journal, if there is one.
pub(crate) fn run_from(
    opened: &Opened,
    rows: &dyn RowSource,
    mut journal: Option<Journal>,
    options: &RestoreOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<RestoreReport, RestoreError> {
    let clock = Clock::start();
    let resumed = journal.as_ref().is_some_and(Journal::is_resumed);
    let mut chosen = options.choose(opened)?;
    let mut conn = options
        .settings
        .connect(&session_options(opened, options))
        .map_err(server("could not connect to the target"))?;
    let mut settings = options.settings.pin(&conn);
    let problems = clock.alone("checks", Kind::Checks, || {
        preflight(opened, options, &mut chosen, resumed, &mut conn)
    })?;
    if !problems.is_empty() {
        return Err(RestoreError::Refused(Box::new(problems)));
    }
    let anew = if options.portable {
        Some(portable::plan(opened, options, &chosen, &mut conn)?)
    } else {
        None
    };
    let mut left_out = chosen.left_out.clone();
    left_out.extend(anew.iter().flat_map(|plan| plan.left_out.clone()));
    left_out.extend(not_filled(opened, &chosen));
    for note in &chosen.notes {
        progress.note(note);
    }
    for name in &left_out {
        progress.note(&format!("not carried: {name}"));
    }
    let labels = opened.model.labels();
    let label_ids = opened.entries.iter().filter_map(|entry| {
        let label = labels.get(&closure::relation(entry)?)?;
        Some((entry.dump_id, label.clone()))
    });
    if let Some(journal) = &mut journal {
        take_up(journal, opened, rows, &chosen, &mut conn)?;
    }
    let shared = Shared {
        journal: journal.as_ref(),
        label_ids: label_ids.collect(),
        labels,
        reader: &opened.reader,
        rows,
        entries: &opened.entries,
        tables: &opened.tables,
        created: &|table| chosen.created(table),
        root: &|table| chosen.root(table),
        encoding: match opened.snapshot.source.encoding.as_str() {
            "UTF8" => None,
            other => Some(other),
        },
        page: opened.snapshot.source.block_size / 4,
        objects_missing: AtomicBool::new(false),
        render: options.render,
        role: options.role.as_deref(),
        disable_triggers: options.disable_triggers,
        progress,
        failures: Mutex::new(Vec::new()),
        continue_on_error: options.continue_on_error,
    };
    if options.create {
        let name = &opened.snapshot.source.database;
        create_database(opened, options, name, &mut conn)?;
        settings = settings.with_dbname(name);
        conn = settings
            .connect(&session_options(opened, options))
            .map_err(server("could not connect to the new database"))?;
    }
    let database = database_name(&mut conn)?;
    let notes = preflight::locale_notes(&mut conn, &opened.snapshot.source).map_err(server(
        "could not ask for the locale of the target database",
    ))?;
    for note in &notes {
        progress.note(note);
    }
    mark::set(&mut conn, &database, &opened.snapshot)
        .map_err(server("could not mark the target database"))?;
    if let Some(journal) = &journal {
        journal.begin(&mut conn).map_err(server(
            "could not make the journal of the clone at the target",
        ))?;
    }
    let jobs = match options.jobs {
        Some(jobs) => jobs.max(1),
        None => catalog::default_jobs(&mut conn)
            .map_err(server("could not ask for the free connections"))?,
    };
    let restore = Restore {
        opened,
        options,
        chosen: &chosen,
        settings: &settings,
        database: &database,
        interrupt,
        progress,
        shared: &shared,
        lock_budget: lock_budget(&mut conn)?,
        timescale: chosen.timescale(opened),
        anew,
        clock,
        cores: Cores::look(&mut conn, jobs).map_err(server("could not ask where the server is"))?,
        jobs,
    };
    let result = restore.run(conn);
    let clock = restore.clock;
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
        counts: chosen.counts(opened),
        rows: loaded().map(|(_, t)| t.digest.rows).sum(),
        payload_bytes: loaded().map(|(_, t)| t.payload_bytes).sum(),
        seconds: clock.seconds(),
        timing: clock.timing(jobs),
        left_out,
        failures,
    })
}

/// Takes away what an earlier run has done only a part of.
fn take_up(
    journal: &mut Journal,
    opened: &Opened,
    rows: &dyn RowSource,
    chosen: &Chosen,
    conn: &mut Connection,
) -> Result<(), RestoreError> {
    let context = "could not take away what the earlier run has done only a part of";
    if !journal.is_resumed() {
        return Ok(());
    }
    if !journal.has(journal::ROWS) {
        let locks = lock_budget(conn)?;
        large_objects::drop_existing(opened, &chosen.tables, locks, conn)?;
    }
    for (n, table) in opened.tables.iter().enumerate() {
        let name = table.key();
        if chosen.tables[n] && table.role == TableRole::Plain {
            let pieces = rows.pieces(n).map_err(|error| RestoreError::Rows {
                table: format!("{}.{}", name.0, name.1),
                source: error,
            })?;
            if journal.must_be_emptied(&name, pieces.len()) {
                journal.forget_rows(conn, &name).map_err(server(context))?;
            }
        }
    }
    Ok(())
}

/// What is restored without rows.
fn not_filled(opened: &Opened, chosen: &Chosen) -> Vec<String> {
    let tables = opened.snapshot.without_rows.iter();
    tables
        .filter(|table| chosen.restores(table))
        .map(|(schema, name)| {
            format!("the rows of {schema}.{name}, which the role that dumped could not read")
        })
        .collect()
}

/// What a restore would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Entries.
    pub entries: u64,
    /// How many there are of each kind, the most frequent first.
    pub kinds: Vec<(String, u64)>,
    /// Tables, hypertables and chunks.
    pub counts: Counts,
    /// Tables and hypertables with rows, the largest first.
    pub tables: Vec<contents::Item>,
    /// Rows.
    pub rows: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What cannot come along.
    pub left_out: Vec<String>,
}

/// What a restore would do, and what stands against it; nothing is touched.
pub fn rehearse(
    opened: &Opened,
    options: &RestoreOptions,
) -> Result<(Outline, Problems), RestoreError> {
    let mut chosen = options.choose(opened)?;
    let mut conn = options
        .settings
        .connect(&session_options(opened, options))
        .map_err(server("could not connect to the target"))?;
    let problems = preflight(opened, options, &mut chosen, false, &mut conn)?;
    Ok((outline(opened, &chosen), problems))
}

fn outline(opened: &Opened, chosen: &Chosen) -> Outline {
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
    let tables = tables
        .filter(|(_, chosen)| **chosen)
        .map(|(table, _)| table);
    let mut tables = contents::items(&opened.model, tables);
    tables.retain(|item| item.payload_bytes > 0);
    tables.sort_by_key(|item| std::cmp::Reverse(item.payload_bytes));
    Outline {
        counts: chosen.counts(opened),
        notes: chosen.notes.clone(),
        left_out: chosen.left_out.clone(),
        entries: kinds.iter().map(|(_, number)| number).sum(),
        kinds,
        rows: tables.iter().map(|item| item.rows).sum(),
        payload_bytes: tables.iter().map(|item| item.payload_bytes).sum(),
        tables,
    }
}

impl RestoreOptions {
    /// What of the snapshot is restored.
    pub fn choose(&self, opened: &Opened) -> Result<Chosen, RestoreError> {
        let mode = Mode {
            create: self.create,
            properties: self.properties,
            portable: self.portable,
        };
        Chosen::new(opened, &self.pick, mode)
    }
}

/// What stands against a restore. What a run that is taken up has made does not.
fn preflight(
    opened: &Opened,
    options: &RestoreOptions,
    chosen: &mut Chosen,
    resumed: bool,
    conn: &mut Connection,
) -> Result<Problems, RestoreError> {
    let version = conn.server_version();
    let target = (!options.create).then_some(&mut *conn);
    foreign_keys::settle(opened, chosen, target, version)
        .map_err(server("could not look at the target's tables"))?;
    let chosen = &*chosen;
    let entries: Vec<&TocEntry> = opened
        .entries
        .iter()
        .enumerate()
        .filter(|(n, _)| chosen.entries[*n])
        .map(|(_, e)| e)
        .collect();
    let existing = !options.create && !options.clean && !resumed;
    let objects = large_objects::needs(opened, &chosen.tables, existing, conn)?;
    let mut problems = preflight::check(
        conn,
        &opened.snapshot.source,
        &entries,
        &objects,
        preflight::Wanted {
            render: options.render,
            database: options.create,
            existing,
        },
    )
    .map_err(server("could not look at the target"))?;
    if !options.create {
        problems.missing = existing::missing(opened, chosen, conn)
            .map_err(server("could not look at the target's tables"))?;
        problems.schemas = preflight::schemas(opened, chosen, conn)
            .map_err(server("could not look at the target's schemas"))?;
    }
    if existing
        && let Some(mark) =
            mark::find(conn).map_err(server("could not look at the target database"))?
    {
        let hint = if chosen.creates_relations() {
            "run it again with --clean, which drops what is there first; or drop the database and restore with --create".to_owned()
        } else {
            format!(
                "empty the tables that it has filled, then take the mark away: ALTER DATABASE ... RESET {}",
                mark::SETTING
            )
        };
        problems.others.push(format!(
            "the target database holds an unfinished restore, {mark}: part of it is missing\nhint: {hint}"
        ));
    }
    hypertables::problems(opened, options, chosen, resumed, conn, &mut problems)?;
    if options.create && !options.clean {
        let name = &opened.snapshot.source.database;
        let there = catalog::has_database(conn, name)
            .map_err(server("could not look at the target's databases"))?;
        if there {
            problems.others.push(format!(
                "the database {name} exists already\nhint: restore into another with --dbname and without --create, or drop it first with --clean"
            ));
        }
    }
    Ok(problems)
}
