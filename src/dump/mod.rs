//! The dump: lock and look, plan, read, encode, store, commit.

mod access;
mod catalogs;
pub mod cluster;
mod collect;
mod definitions;
mod encode;
mod facts;
mod gather;
pub(crate) mod holding;
pub(crate) mod origin;
mod pace;
pub(crate) mod plan;
pub(crate) mod read;
mod select;
pub(crate) mod sessions;
mod types;
pub(crate) mod worker;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ConstantBuilder};

use crate::pg::Settings;
use crate::pg::archive::TocEntry;
use crate::pg::catalog::DatabaseFacts;
use crate::pg::interrupt::Interrupt;
use crate::pg::pg_dump::PgDumpError;
use crate::pg::snapshot::SnapshotError;
use crate::progress::{Progress, Stage};
use crate::repo::model::{Cluster, Root, SequenceValue, Snapshot, Source, TableRecord, Totals};
use crate::repo::outline::{KnownTables, Tree};
use crate::repo::{PackGroup, Reader, RepoError, Repository, SnapshotId, Writer, lists};
use crate::rows::Effort;
use crate::schema;
use crate::schema::globals::GlobalsError;
use crate::schema::selection::Selection;
use crate::schema::skip::Sections;
use crate::timescale::contents::Counts;
use crate::timescale::part::Part;
use crate::timescale::reading::ReadingError;

pub use holding::Kindness;

use encode::EncodeError;
pub(crate) use gather::Here;
use gather::Run;
use origin::Origin;
use worker::WorkerError;

/// What a dump is asked to do.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// Where the database is.
    pub settings: Settings,
    /// Sessions that read, and threads that encode; nothing for as many as the machine and the server allow.
    pub jobs: Option<usize>,
    /// How hard to compress.
    pub effort: Effort,
    /// The command to run as `pg_dump`, if not the one that is found.
    pub pg_dump: Option<String>,
    /// Where it is looked for before the usual places, in the form of `PATH`.
    pub path: Option<OsString>,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// How long to wait for a table's lock.
    pub lock_wait_timeout: Duration,
    /// What of the database; hypertables are chosen and left out with their chunks.
    pub selection: Selection,
    /// The role to read as, if not the one that connects.
    pub role: Option<String>,
    /// Read those rows of tables with row security that the role may see, instead of none.
    pub row_security: bool,
    /// The id of an exported snapshot that is to be read, if not one of our own.
    pub snapshot: Option<String>,
    /// Which part of the hypertables' history.
    pub part: Part,
    /// Whether compressed rows of hypertables are read as rows.
    pub decompress: bool,
    /// Whether the planner's statistics are.
    pub statistics: bool,
    /// What the source is spared.
    pub kindness: Kindness,
    /// The place of this dump in that of a cluster.
    pub cluster: Option<Cluster>,
}

/// What a dump did.
#[derive(Debug, Clone)]
pub struct DumpReport {
    /// The snapshot.
    pub id: SnapshotId,
    /// What it says of itself.
    pub snapshot: Snapshot,
    /// Tables, hypertables and chunks.
    pub counts: Counts,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The server said no before the MVCC snapshot was there.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The server said no.
    #[error("{context}: {source}")]
    Server {
        /// What was being done.
        context: &'static str,
        /// What the server said.
        #[source]
        source: crate::pg::Error,
    },
    /// The schema could not be had.
    #[error(transparent)]
    PgDump(#[from] PgDumpError),
    /// Rows could not be read.
    #[error(transparent)]
    Read(#[from] WorkerError),
    /// Blocks could not be made or stored.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The repository could not be read or written.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A table's segments did not all arrive: a defect of pgtide.
    #[error(
        "{table}: segments from {segment} on are missing\nhint: this is a defect of pgtide; please report it. Nothing was stored as a snapshot"
    )]
    Incomplete {
        /// The table.
        table: String,
        /// The first segment of the incomplete shard.
        segment: u32,
    },
    /// Something is wrong with the hypertables, or with what was chosen of them.
    #[error(transparent)]
    Hypertables(#[from] ReadingError),
    /// The reading could not be planned.
    #[error(transparent)]
    Plan(#[from] plan::PlanError),
    /// No server of that name.
    #[error(
        "no foreign server matches {pattern:?}\nhint: --include-foreign-data takes names of servers (SELECT srvname FROM pg_foreign_server)"
    )]
    NoServer {
        /// The pattern.
        pattern: String,
    },
    /// pgtide and `pg_dump` understand a pattern differently, or see different tables.
    #[error(
        "{} the table {table}, {}\nhint: name it in --table, --schema and their like with the schema and in double quotes; nothing was stored as a snapshot",
        if *by_pg_dump { "pg_dump defines" } else { "pgtide was to read" },
        if *by_pg_dump { "and pgtide was not to read it" } else { "and pg_dump does not define it" }
    )]
    Disagreement {
        /// The table.
        table: String,
        /// Whether `pg_dump` has it.
        by_pg_dump: bool,
    },
    /// The server is older than pgtide knows.
    #[error(
        "the server is PostgreSQL {version}; pgtide dumps from PostgreSQL 15 on\nhint: use pg_dump"
    )]
    OldServer {
        /// Its version, for people.
        version: String,
    },
    /// Names that pgtide cannot read, as they are no UTF-8.
    #[error(
        "the database is in SQL_ASCII, and names of schemas, tables or columns are no UTF-8: {}\nhint: rename them (ALTER ... RENAME), or use pg_dump; rows, comments and functions may hold any bytes",
        .0.join(", ")
    )]
    Names(Vec<String>),
    /// The role may not read all that is to be dumped.
    #[error(
        "nothing was dumped: the role {role} may not read\n{}\nhint: GRANT pg_read_all_data TO {}, or leave them out with --exclude-table",
        lines(objects),
        crate::pg::catalog::quote_ident(role)
    )]
    NotReadable {
        /// The role.
        role: String,
        /// What it may not read.
        objects: Vec<String>,
    },
    /// Roles and tablespaces are not what was expected.
    #[error(transparent)]
    Globals(#[from] GlobalsError),
    /// None of a cluster's databases could be dumped.
    #[error(
        "none of the databases could be dumped\n{}\nhint: pgtide dump -d DATABASE tries one of them alone", .0.join("\n")
    )]
    NoDatabase(Vec<String>),
    /// Databases that are named are not there, or allow no connections.
    #[error(
        "the server has no database {} that can be connected to\nhint: psql -l lists those that there are", .0.join(", ")
    )]
    NoSuchDatabase(Vec<String>),
    /// There is nothing to dump.
    #[error(
        "no database is left to dump\nhint: check the patterns of --exclude-database, or dump roles and tablespaces alone with --globals"
    )]
    AllExcluded,
    /// The user asked to stop the dump of a cluster.
    #[error(
        "interrupted: no snapshot of the cluster was written{}\nhint: run the same command again; what was stored already is not stored twice",
        if .0.is_empty() { String::new() } else { format!(", only those of {}", .0.join(", ")) }
    )]
    ClusterInterrupted(Vec<String>),
    /// The MVCC snapshot was held for too long.
    #[error(
        "ended, as the MVCC snapshot was held for {0:.0?}, which is as long as it may be (--max-snapshot-age)\nhint: give it longer, more --jobs or a higher --max-rate, or read from a standby"
    )]
    SnapshotAge(Duration),
    /// The user asked to stop.
    #[error(
        "interrupted: no snapshot was written\nhint: run the same command again; what was stored already is not stored twice"
    )]
    Interrupted,
}

impl DumpError {
    /// Whether another try may succeed: the server did not answer, or broke off, or was in the middle of something.
    pub fn may_pass(&self) -> bool {
        if let Self::Snapshot(error) = self
            && error.may_pass()
        {
            return true;
        }
        let mut next: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<crate::pg::Error>() {
                return error.may_pass();
            }
            next = error.source();
        }
        false
    }
}

/// How long is waited between two looks whether the run is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// Tries again, so often and after such a time, what may succeed then.
pub(crate) fn again<T>(
    (times, wait): (u16, Duration),
    interrupt: &Interrupt,
    progress: &dyn Progress,
    attempt: impl FnMut() -> Result<T, DumpError>,
) -> Result<T, DumpError> {
    let builder = ConstantBuilder::default()
        .with_delay(wait)
        .with_max_times(usize::from(times));
    let stopped = interrupt.clone();
    attempt
        .retry(builder)
        .when(|error| error.may_pass() && !interrupt.raised())
        .notify(|error, wait| progress.note(&format!("{error}\ntrying again in {wait:?}")))
        .sleep(move |wait: Duration| {
            let until = Instant::now() + wait;
            while Instant::now() < until && !stopped.raised() {
                std::thread::sleep(LOOK.min(wait));
            }
        })
        .call()
}

/// Names that are listed in an error.
const SHOWN: usize = 100;

/// The names, a line each.
fn lines(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let mut lines: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("  {name}"))
        .collect();
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

fn server(context: &'static str) -> impl FnOnce(crate::pg::Error) -> DumpError {
    move |source| DumpError::Server { context, source }
}

/// Dumps a database into a repository. Nothing is written at the source.
pub fn run(
    repo: &Repository,
    options: &DumpOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<DumpReport, DumpError> {
    let writer = repo.writer(options.effort)?;
    let result = dump(repo, &writer, options, interrupt, progress);
    match result {
        Ok(_) if interrupt.raised() => {
            writer.abort()?;
            Err(DumpError::Interrupted)
        }
        Ok((snapshot, counts, skipped)) => {
            progress.stage(&Stage::Committing);
            let id = writer.commit(snapshot.clone())?;
            Ok(DumpReport {
                id,
                snapshot,
                counts,
                skipped,
            })
        }
        Err(error) => {
            // What went wrong first is what the user must know.
            let _ = writer.abort();
            Err(if interrupt.raised() {
                DumpError::Interrupted
            } else {
                error
            })
        }
    }
}

/// Everything up to the commit.
fn dump(
    repo: &Repository,
    writer: &Writer,
    options: &DumpOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<(Snapshot, Counts, Vec<String>), DumpError> {
    let reader = repo.reader()?;
    let origin = Origin::open(options, interrupt, progress, &|settings, facts| {
        previous_tables(repo, &reader, settings, facts)
    })?;
    progress.stage(&origin.counts.stage(origin.plan.bytes));
    let read = || {
        let all = Here {
            reads: &|_| true,
            then: &|| origin.holding.release(),
        };
        read((repo, &reader), writer, &origin, &all, progress)
    };
    let snapshot = origin.holding.watched(read)?;
    Ok((snapshot, origin.counts, origin.plan.skipped))
}

/// Why everything was ended, if that is how long the MVCC snapshot was held.
pub(crate) fn expired(origin: &Origin<'_>) -> Option<DumpError> {
    let age = origin.options.kindness.max_snapshot_age?;
    let expired = origin.holding.is_expired();
    expired.then_some(DumpError::SnapshotAge(age))
}

/// Reads an opened source into a repository, but for the rows of tables that are not read `here`. What the snapshot says of
/// itself, which is still to be committed.
pub(crate) fn read(
    (repo, reader): (&Repository, &Reader),
    writer: &Writer,
    origin: &Origin<'_>,
    here: &Here<'_>,
    progress: &dyn Progress,
) -> Result<Snapshot, DumpError> {
    let run = Run {
        repo,
        writer,
        origin,
        reader,
        progress,
        here,
    };
    let read = run
        .read()
        .map_err(|error| expired(origin).unwrap_or(error))?;
    write_snapshot(writer, origin, read)
}

/// Stores what was read beside the rows; what the snapshot says of itself.
fn write_snapshot(
    writer: &Writer,
    origin: &Origin<'_>,
    read: gather::Read,
) -> Result<Snapshot, DumpError> {
    let options = origin.options;
    let selection = &options.selection;
    let tree = write_tree(writer, &read.archive.entries, &read.tables, &read.sequences)?;
    let stats = writer.stats();
    Ok(Snapshot {
        time: origin.time,
        finished: crate::clock::now(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        host: this_host(),
        tags: options.tags.clone(),
        totals: Totals {
            entries: read.archive.entries.len() as u64,
            tables: read.tables.len() as u64,
            rows: read.tables.iter().map(|t| t.digest.rows).sum(),
            source_bytes: read.tables.iter().map(|t| t.source_bytes).sum(),
            payload_bytes: read.tables.iter().map(|t| t.payload_bytes).sum(),
            blocks: read.blocks,
            added_blocks: stats.new_blocks,
            added_bytes: stats.new_bytes,
            large_objects: read.large_objects,
            lock_seconds: (origin.locked - origin.began).as_secs_f64(),
            read_seconds: origin.locked.elapsed().as_secs_f64(),
            seconds: origin.began.elapsed().as_secs_f64(),
        },
        source: origin.source(&read.archive),
        warnings: read.warnings,
        sections: if selection.sections == Sections::ALL {
            Vec::new()
        } else {
            let names = selection.sections.names().into_iter();
            names.map(str::to_owned).collect()
        },
        chosen: [selection.chosen(), options.part.chosen()].concat(),
        conditions: origin.choice.conditions(selection),
        without_rows: read.without_rows,
        cluster: options.cluster.clone(),
        original: None,
        root: tree.root,
        outline: Some(tree.outline),
        sealed: false,
    })
}

/// The name of the machine that pgtide runs on.
fn this_host() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Stores entries, tables and sequences, and the root that refers to them.
fn write_tree(
    writer: &Writer,
    entries: &[TocEntry],
    tables: &[TableRecord],
    sequences: &[SequenceValue],
) -> Result<Tree, DumpError> {
    let (entries, order) = schema::store::encode(entries);
    let root = Root {
        entries: lists::write_list(writer, &PackGroup::Meta, &entries, |e| e.key.to_le_bytes())?,
        entry_order: lists::write_list(writer, &PackGroup::Meta, &order, |n| {
            n.to_le_bytes().to_vec()
        })?,
        tables: lists::write_list(writer, &PackGroup::Meta, tables, |t| {
            format!("{}.{}", t.schema, t.name).into_bytes()
        })?,
        sequences: lists::write_list(writer, &PackGroup::Meta, sequences, |s| {
            format!("{}.{}", s.schema, s.name).into_bytes()
        })?,
    };
    Ok(Tree::store(writer, &root, tables)?)
}

/// The tables of this database's newest snapshot: their segments' sizes are kept, and their digests used again.
fn previous_tables(
    repo: &Repository,
    reader: &Reader,
    settings: &Settings,
    facts: &DatabaseFacts,
) -> Result<KnownTables, DumpError> {
    let same = |source: &Source| {
        source.database == facts.name
            && facts.is_of_cluster(source.system_identifier.as_deref(), || {
                source.host == settings.host_name() && source.port == settings.port()
            })
    };
    let snapshots = repo.snapshots()?;
    let Some((_, snapshot)) = snapshots.list.iter().rev().find(|(_, s)| same(&s.source)) else {
        return Ok(KnownTables::default());
    };
    // Damage in an old snapshot is no reason to go without tonight's dump.
    Ok(KnownTables::load(repo, reader, snapshot).unwrap_or_default())
}
