//! The clone: schema, rows and all that belongs to them from one MVCC snapshot of a source straight into a target, with
//! no disk in between.
//!
//! What is small (definitions, catalogs, values of sequences, owners of large objects) is dumped into a repository in
//! memory; the restore reads it there, and takes rows from the source while the MVCC snapshot is held.

mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::dump::origin::Origin;
use crate::dump::{self, DumpError, DumpOptions, Here};
use crate::pg::catalog::{self, DatabaseFacts, Name, database_facts};
use crate::pg::interrupt::Interrupt;
use crate::pg::{Connection, FIRST_DATABASE, Settings, session_options};
use crate::progress::Progress;
use crate::repo::model::{Snapshot, TableRecord, TableRole};
use crate::repo::outline::KnownTables;
use crate::repo::{RepoError, Repository};
use crate::restore::journal::{self, Journal, Subject};
use crate::restore::rows::Stored;
use crate::restore::{
    self, Failure, Opened, Problems, RestoreError, RestoreOptions, RestoreReport,
};
use crate::store::MemoryStore;

use self::rows::{Handed, Live};

/// What a clone is asked to do.
#[derive(Debug, Clone)]
pub struct CloneOptions {
    /// What is read, and where.
    pub source: DumpOptions,
    /// Where it goes, and how.
    pub target: RestoreOptions,
    /// Create the target's database first; with `target.clean` in place of one that is there.
    pub create: bool,
    /// Take up what an earlier run has begun.
    pub resume: bool,
    /// ... even from another MVCC snapshot.
    pub not_consistent: bool,
}

/// What a clone did.
#[derive(Debug, Clone)]
pub struct CloneReport {
    /// What the source was at the time of its MVCC snapshot.
    pub snapshot: Snapshot,
    /// What the target got. Rows and bytes are those that passed through in this run.
    pub target: RestoreReport,
    /// What was left out at the source, and why.
    pub skipped: Vec<String>,
    /// When the earlier run began that was taken up.
    pub resumed: Option<jiff::Timestamp>,
}

/// Why there is no clone.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] DumpError),
    /// The target could not be written.
    #[error(transparent)]
    Target(RestoreError),
    /// Nothing was touched: something is missing at the target or in the way.
    #[error("nothing was cloned\n{0}")]
    Refused(Box<Problems>),
    /// An entry or a table failed.
    #[error(
        "the clone stopped at the first error: {0}\nhint: mend the cause and go on with --resume; --continue-on-error goes on after errors and lists them"
    )]
    Failed(Box<Failure>),
    /// The user asked to stop.
    #[error(
        "interrupted: the target holds a part of the source\nhint: --resume goes on if the MVCC snapshot is still there (--snapshot) or all rows are, --drop-existing starts anew"
    )]
    Interrupted,
    /// What is kept in memory could not be.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The target said no before anything began.
    #[error("{context}: {source}")]
    Server {
        /// What was being done.
        context: &'static str,
        /// What the server said.
        #[source]
        source: crate::pg::Error,
    },
    /// Source and target are one.
    #[error(
        "nothing was cloned: source and target are the same database, {0}\nhint: create another database for the clone and name it with --target"
    )]
    Same(String),
    /// The database to create is there.
    #[error(
        "nothing was cloned: the database {0} exists already\nhint: clone into it without --create, or have it dropped first with --drop-existing"
    )]
    Exists(String),
    /// There is nothing to resume.
    #[error(
        "the target has no unfinished clone\nhint: start one without --resume; --drop-existing drops first what is in its way"
    )]
    NothingToResume,
    /// There is something to resume.
    #[error(
        "the target has an unfinished clone of {source_name}, as it was {time}\nhint: --resume goes on with it, --drop-existing drops it and starts anew"
    )]
    Unfinished {
        /// The source of that clone.
        source_name: String,
        /// When it was read.
        time: String,
    },
    /// The unfinished clone is one of something else.
    #[error(
        "the unfinished clone at the target is of {theirs}, and this one is of {ours}\nhint: give the same source to go on, or start anew with --drop-existing"
    )]
    OtherSource {
        /// Source of the unfinished clone.
        theirs: String,
        /// Source that was given.
        ours: String,
    },
    /// The unfinished clone was started with other options.
    #[error(
        "the unfinished clone at the target was started with other options\nhint: what is cloned, and how it is restored, must be as it was; or start anew with --drop-existing"
    )]
    OtherOptions,
    /// The MVCC snapshot of the unfinished clone is gone.
    #[error(
        "the unfinished clone was read as of {time}, and that MVCC snapshot is gone: {loaded} of {tables} tables have their rows, the others would get those of now\nhint: start anew with --drop-existing; or go on with a new MVCC snapshot with --not-consistent, if rows of two moments will do. A clone that reads a snapshot that another session keeps (--snapshot) can be resumed as long as that session does"
    )]
    SnapshotGone {
        /// The time of that snapshot.
        time: String,
        /// Tables that have all their rows.
        loaded: usize,
        /// All tables.
        tables: usize,
    },
    /// Definitions at the source are others than those of the unfinished clone.
    #[error(
        "the unfinished clone has all rows, but definitions at the source have changed since {time}\nhint: start anew with --drop-existing; or go on with --not-consistent, if definitions of two moments will do"
    )]
    SchemaChanged {
        /// The time of that snapshot.
        time: String,
    },
}

fn server(context: &'static str) -> impl FnOnce(crate::pg::Error) -> CloneError {
    move |source| CloneError::Server { context, source }
}

impl From<RestoreError> for CloneError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Refused(mut problems) => {
                problems.of_clone = true;
                Self::Refused(problems)
            }
            RestoreError::Failed(failure) => Self::Failed(failure),
            RestoreError::Interrupted => Self::Interrupted,
            error => Self::Target(error),
        }
    }
}

fn shown(time: jiff::Timestamp) -> String {
    time.strftime("%F %T UTC").to_string()
}

/// Clones a database. Nothing is written at the source.
pub fn run(
    options: &CloneOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<CloneReport, CloneError> {
    let result = clone(options, interrupt, progress);
    match result {
        Err(CloneError::Source(_)) if interrupt.raised() => Err(RestoreError::Interrupted.into()),
        other => other,
    }
}

fn clone(
    options: &CloneOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<CloneReport, CloneError> {
    let settings = &options.target.settings;
    let mut conn = match options.create {
        true => settings.with_dbname(FIRST_DATABASE),
        false => settings.clone(),
    }
    .connect(&session_options())
    .map_err(server("could not connect to the target"))?;
    // What stands against it is known before the source is locked.
    let earlier = match options.create {
        true => refuse_existing(options, &mut conn).map(|()| None),
        false => earlier(options, &mut conn),
    }?;
    let repo = Repository::init(Arc::new(MemoryStore::default()))?;
    let origin = Origin::open(&options.source, interrupt, progress, &|_, _| {
        Ok(KnownTables::default())
    })?;
    refuse_same(options, &origin.facts, &mut conn)?;
    // Each worker has a session at either side.
    let jobs = match options.target.jobs {
        Some(jobs) => jobs,
        None => catalog::default_jobs(&mut conn)
            .map_err(server("could not ask for the target's free connections"))?
            .min(origin.jobs),
    };
    let run = || {
        let (mut opened, numbers) = read(options, &repo, &origin, progress)?;
        if options.create {
            let name = options.target.settings.dbname();
            restore::create_database(&opened, &options.target, name, &mut conn)?;
        }
        if options.target.portable {
            opened = opened.portable();
        }
        let journal = journal(options, earlier, &origin, &opened)?;
        let target = RestoreOptions {
            jobs: Some(jobs),
            clean: options.target.clean && !options.create,
            ..options.target.clone()
        };
        let opened = (&opened, numbers);
        pass(&origin, opened, &target, journal, interrupt, progress)
    };
    origin.holding.watched(run)
}

/// Reads what is small. With it come the numbers in the plan of the tables whose rows are to pass through.
fn read(
    options: &CloneOptions,
    repo: &Repository,
    origin: &Origin<'_>,
    progress: &dyn Progress,
) -> Result<(Opened, Vec<Option<usize>>), CloneError> {
    let writer = repo.writer(options.source.effort)?;
    let here = Here {
        reads: &|table| !is_live(&table.role),
        then: &|| (),
    };
    let repository = (repo, &repo.reader()?);
    let snapshot = dump::read(repository, &writer, origin, &here, progress)?;
    writer.commit(snapshot.clone())?;
    for warning in &snapshot.warnings {
        progress.note(warning);
    }
    let mut opened = restore::open(repo, snapshot)?;
    let numbers = live_tables(&mut opened, origin);
    Ok((opened, numbers))
}

/// Restores what was read, with rows that pass through.
fn pass(
    origin: &Origin<'_>,
    (opened, numbers): (&Opened, Vec<Option<usize>>),
    target: &RestoreOptions,
    journal: Journal,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<CloneReport, CloneError> {
    let resumed = journal.is_resumed().then_some(journal.subject.time);
    let live = Live {
        holding: &origin.holding,
        tables: &origin.plan.tables,
        numbers,
        stored: Stored {
            reader: &opened.reader,
            tables: &opened.tables,
            progress,
        },
        progress,
        handed: Handed::default(),
    };
    let result = restore::run_from(opened, &live, Some(journal), target, interrupt, progress);
    for note in origin.holding.take_notes() {
        progress.note(&note);
    }
    let mut report = result.map_err(|error| match dump::expired(origin) {
        Some(expired) => CloneError::Source(expired),
        None => error.into(),
    })?;
    report.rows = live.handed.rows.load(Ordering::Relaxed);
    report.payload_bytes = live.handed.bytes.load(Ordering::Relaxed);
    Ok(CloneReport {
        snapshot: opened.snapshot.clone(),
        target: report,
        skipped: origin.plan.skipped.clone(),
        resumed,
    })
}

/// Whether a table's rows pass through, instead of being read first.
fn is_live(role: &TableRole) -> bool {
    matches!(role, TableRole::Plain | TableRole::LargeObjects)
}

/// The numbers in the plan of the tables whose rows pass through. How many rows these are is known when they have: what
/// a restore goes by are their bytes at the source.
fn live_tables(opened: &mut Opened, origin: &Origin<'_>) -> Vec<Option<usize>> {
    let planned: HashMap<Name, usize> = (origin.plan.tables.iter().enumerate())
        .filter(|(_, table)| is_live(&table.role))
        .map(|(n, table)| (table.relation.key(), n))
        .collect();
    let find = |table: &mut TableRecord| {
        let n = *planned.get(&table.key()).filter(|_| is_live(&table.role))?;
        let planned = &origin.plan.tables[n];
        table.payload_bytes = planned.bytes;
        table.digest.rows = u64::from(planned.segments > 0);
        Some(n)
    };
    opened.tables.iter_mut().map(find).collect()
}

/// The unfinished clone at the target that is to be taken up.
fn earlier(options: &CloneOptions, conn: &mut Connection) -> Result<Option<Journal>, CloneError> {
    let found = Journal::find(conn).map_err(server("could not look for an unfinished clone"))?;
    match found {
        None if options.resume => Err(CloneError::NothingToResume),
        Some(journal) if !options.resume && !options.target.clean => Err(CloneError::Unfinished {
            source_name: journal.subject.source,
            time: shown(journal.subject.time),
        }),
        found => Ok(found.filter(|_| options.resume)),
    }
}

/// The journal of this run: that of the earlier one, if this may take it up.
fn journal(
    options: &CloneOptions,
    earlier: Option<Journal>,
    origin: &Origin<'_>,
    opened: &Opened,
) -> Result<Journal, CloneError> {
    let source = &opened.snapshot.source;
    let subject = Subject {
        source: format!("{} at {}:{}", source.database, source.host, source.port),
        snapshot: options.source.snapshot.clone(),
        time: origin.time,
        options: options.digest(),
        schema: journal::schema(&opened.entries),
    };
    let Some(mut earlier) = earlier else {
        return Ok(Journal::new(subject));
    };
    let theirs = &earlier.subject;
    let time = shown(theirs.time);
    if theirs.source != subject.source {
        return Err(CloneError::OtherSource {
            theirs: theirs.source.clone(),
            ours: subject.source,
        });
    }
    if theirs.options != subject.options {
        return Err(CloneError::OtherOptions);
    }
    if subject.snapshot.is_some() && theirs.snapshot == subject.snapshot {
        return Ok(earlier);
    }
    let complete = earlier.has(journal::ROWS);
    if complete && theirs.schema == subject.schema {
        return Ok(earlier);
    }
    if !options.not_consistent && complete {
        return Err(CloneError::SchemaChanged { time });
    }
    if !options.not_consistent {
        let plain = opened.tables.iter().filter(|t| t.role == TableRole::Plain);
        let filled: Vec<Name> = plain
            .filter(|t| t.digest.rows > 0)
            .map(|t| t.key())
            .collect();
        return Err(CloneError::SnapshotGone {
            time,
            loaded: filled.iter().filter(|name| earlier.has_rows(name)).count(),
            tables: filled.len(),
        });
    }
    earlier.moved = !complete;
    Ok(earlier)
}

/// A database that is to be created must not be there, unless it may be dropped.
fn refuse_existing(options: &CloneOptions, conn: &mut Connection) -> Result<(), CloneError> {
    let name = options.target.settings.dbname();
    let there = catalog::has_database(conn, name)
        .map_err(server("could not look at the target's databases"))?;
    if there && !options.target.clean {
        return Err(CloneError::Exists(name.to_owned()));
    }
    Ok(())
}

/// A clone into its own source would be the end of both.
fn refuse_same(
    options: &CloneOptions,
    source: &DatabaseFacts,
    conn: &mut Connection,
) -> Result<(), CloneError> {
    let target = database_facts(conn).map_err(server("could not read the target's properties"))?;
    let place = |settings: &Settings| (settings.host_name().to_owned(), settings.port());
    let same_server = source.is_of_cluster(target.system_identifier.as_deref(), || {
        place(&options.source.settings) == place(&options.target.settings)
    });
    let name = match options.create {
        true => options.target.settings.dbname(),
        false => &target.name,
    };
    if same_server && source.name == *name {
        return Err(CloneError::Same(source.name.clone()));
    }
    Ok(())
}

impl CloneOptions {
    /// What must be as it was for a clone to be taken up.
    fn digest(&self) -> String {
        let (source, target) = (&self.source, &self.target);
        let text = format!(
            "{:?}",
            (
                (
                    &source.selection,
                    &source.part,
                    source.decompress,
                    &source.role
                ),
                (
                    source.row_security,
                    &target.render,
                    target.portable,
                    &target.role
                ),
            )
        );
        blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
    }
}
