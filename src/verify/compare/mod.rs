//! Compares two live databases: definitions as one and the same `pg_dump` prints them, rows by their digests, sequences,
//! large objects. Each side is read in one MVCC snapshot of its own, both at the same time, by the readers of a dump;
//! nothing is written, and no repository is needed.

pub(super) mod definitions;
mod differing;
mod hypertables;
pub(super) mod pairing;
mod print;
pub(super) mod reading;
mod search;

use std::collections::HashSet;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::dump::origin::Origin;
use crate::dump::worker::WorkerError;
use crate::dump::{self, DumpError, DumpOptions, Kindness};
use crate::pg::Settings;
use crate::pg::interrupt::Interrupt;
use crate::progress::Progress;
use crate::repo::outline::KnownTables;
use crate::rows::Effort;
use crate::schema::selection::Selection;
use crate::timescale;
use crate::timescale::contents::Counts;
use crate::timescale::part::Part;

pub use definitions::{Change, EntryDifference, SequenceDifference, SequenceState};
pub use differing::{Differing, RowDifference};
pub use pairing::Kind;

use definitions::Definitions;
use differing::Printers;
use hypertables::Strange;
use pairing::Group;
use reading::Tally;

/// What the sides are called.
pub const SIDES: [&str; 2] = ["source", "target"];

/// What a comparison is asked to do.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Where the databases are.
    pub sides: [Settings; 2],
    /// Sessions that read at each side; nothing for as many as the machine and the servers allow.
    pub jobs: Option<usize>,
    /// The command to run as `pg_dump`, if not the one that is found.
    pub pg_dump: Option<String>,
    /// Where it is looked for before the usual places, in the form of `PATH`.
    pub path: Option<OsString>,
    /// How long to wait for a table's lock.
    pub lock_wait_timeout: Duration,
    /// What of the databases.
    pub selection: Selection,
    /// Which part of the hypertables' history.
    pub part: Part,
    /// What each side is spared.
    pub kindness: Kindness,
    /// Read those rows of tables with row security that the role may see, instead of none.
    pub row_security: bool,
    /// How many rows to show of each table that differs; nothing for none.
    pub rows: Option<usize>,
}

/// What was compared, and in what it differs.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Whether nothing that was compared differs.
    pub equal: bool,
    /// The one side.
    pub source: Side,
    /// The other side.
    pub target: Side,
    /// Definitions that are not the same, in order of kind and name.
    pub schema: Vec<EntryDifference>,
    /// All tables, and what else has rows.
    pub tables: Vec<TableComparison>,
    /// Sequences that are not at the same value.
    pub sequences: Vec<SequenceDifference>,
    /// What could not be compared, and why.
    pub not_compared: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Seconds that reading all rows took.
    pub read_seconds: f64,
    /// Seconds altogether.
    pub seconds: f64,
}

/// A side, and what was read there.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Name of the database.
    pub database: String,
    /// Host (or socket directory) as it was connected to.
    pub host: String,
    /// Port as it was connected to.
    pub port: u16,
    /// Version of the server, for people.
    pub server_version: String,
    /// When its MVCC snapshot was taken.
    pub time: jiff::Timestamp,
    /// Definitions.
    pub objects: u64,
    /// Sequences.
    pub sequences: u64,
    /// Tables that are nothing of TimescaleDB's.
    pub tables: u64,
    /// Hypertables.
    pub hypertables: u64,
    /// Their chunks.
    pub chunks: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of heap and TOAST.
    pub bytes: u64,
}

/// The rows of a table at both sides.
#[derive(Debug, Serialize)]
pub struct TableComparison {
    /// What has the rows.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Whether its rows are the same.
    pub equal: bool,
    /// What the source has, if it has the table.
    pub source: Option<Held>,
    /// What the target has, if it has the table.
    pub target: Option<Held>,
    /// In which columns it differs, so that rows cannot be the same.
    pub columns: Vec<String>,
    /// Rows that differ, where they were asked for and can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<Differing>,
}

/// The rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Their number.
    pub rows: u64,
    /// Their bytes as COPY sends them.
    pub bytes: u64,
    /// Their number and the sum of their hashes.
    pub digest: String,
}

impl From<Tally> for Held {
    fn from(tally: Tally) -> Self {
        Self {
            rows: tally.digest.rows,
            bytes: tally.bytes,
            digest: tally.digest.to_string(),
        }
    }
}

/// Why databases were not compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A side could not be read.
    #[error("the {side}: {source}")]
    Side {
        /// Which.
        side: &'static str,
        /// Why.
        #[source]
        source: Box<DumpError>,
    },
    /// Large objects are cut into other pages.
    #[error(
        "the servers' pages have different sizes ({} and {} bytes), so that large objects cannot be compared page by page\nhint: leave them out with --no-large-objects", .0[0], .0[1]
    )]
    LargeObjectPages([u32; 2]),
    /// The user asked to stop.
    #[error(
        "interrupted: nothing is known of what was not read yet\nhint: run the same command again; nothing was written anywhere"
    )]
    Interrupted,
}

impl CompareError {
    /// That a side could not be read.
    fn of(side: &'static str) -> impl FnOnce(DumpError) -> Self {
        move |source| Self::Side {
            side,
            source: Box::new(source),
        }
    }

    /// The first of some errors that is a cause: what was stopped for another's sake says only that.
    fn cause(errors: Vec<Self>) -> Self {
        let mut stopped = Self::Interrupted;
        for error in errors {
            match &error {
                Self::Side { source, .. }
                    if matches!(**source, DumpError::Read(WorkerError::Stopped)) =>
                {
                    stopped = error;
                }
                _ => return error,
            }
        }
        stopped
    }

    /// That a side said no.
    fn server(side: usize, context: &'static str) -> impl FnOnce(crate::pg::Error) -> Self {
        move |source| Self::of(SIDES[side])(DumpError::Server { context, source })
    }
}

/// Compares two databases.
pub fn run(
    options: &CompareOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<Comparison, CompareError> {
    let result = compare(options, interrupt, progress);
    if interrupt.raised() {
        return Err(CompareError::Interrupted);
    }
    result
}

fn compare(
    options: &CompareOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<Comparison, CompareError> {
    let began = Instant::now();
    let asked = [0, 1].map(|n| options.of_side(n));
    let mut sides = open(&asked, interrupt, progress)?;
    let groups = {
        let [a, b] = &sides;
        pairing::groups([a, b]).map_err(|(n, error)| {
            CompareError::server(n, "could not ask for the roots of partitions")(error)
        })?
    };
    let pages = [0, 1].map(|n| sides[n].facts.block_size / 4);
    let large = |group: &Group| group.kind == Kind::LargeObjects;
    if pages[0] != pages[1] && groups.iter().any(large) {
        return Err(CompareError::LargeObjectPages(pages));
    }
    pairing::align(&mut sides, &groups);
    same_pg_dump(&mut sides);
    let [a, b] = &sides;
    let watched = || {
        b.holding
            .watched(|| compare_sides([a, b], &groups, options, began, progress))
    };
    let comparison = a.holding.watched(watched).map_err(|error| {
        let expired = [a, b].map(dump::expired).into_iter().zip(SIDES);
        let mut expired = expired.filter_map(|(expired, side)| Some((expired?, side)));
        match expired.next() {
            Some((expired, side)) => CompareError::of(side)(expired),
            None => error,
        }
    })?;
    a.holding.release();
    b.holding.release();
    Ok(comparison)
}

impl CompareOptions {
    /// How a side is read. Chunks that are compressed at the one side and not at the other may have the same rows.
    fn of_side(&self, side: usize) -> DumpOptions {
        DumpOptions {
            settings: self.sides[side].clone(),
            jobs: self.jobs,
            effort: Effort::Fast,
            pg_dump: self.pg_dump.clone(),
            path: self.path.clone(),
            tags: Vec::new(),
            lock_wait_timeout: self.lock_wait_timeout,
            selection: self.selection.clone(),
            role: None,
            row_security: self.row_security,
            snapshot: None,
            part: self.part.clone(),
            decompress: true,
            statistics: false,
            kindness: self.kindness.clone(),
            cluster: None,
        }
    }
}

/// Opens both sides at once, so that their MVCC snapshots are of nearly the same moment.
fn open<'o>(
    asked: &'o [DumpOptions; 2],
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<[Origin<'o>; 2], CompareError> {
    let open = |n: usize| {
        Origin::open(&asked[n], interrupt, progress, &|_, _| {
            Ok(KnownTables::default())
        })
        .map_err(CompareError::of(SIDES[n]))
    };
    let (source, target) = std::thread::scope(|scope| {
        let target = scope.spawn(|| open(1));
        let source = open(0);
        let target = target.join();
        (
            source,
            target.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    Ok([source?, target?])
}

/// Has the newer `pg_dump` print the definitions of both sides, as each prints them in its own way.
fn same_pg_dump(sides: &mut [Origin<'_>; 2]) {
    let newer = usize::from(sides[1].pg_dump.major() > sides[0].pg_dump.major());
    sides[1 - newer].pg_dump = sides[newer].pg_dump.clone();
}

fn compare_sides(
    sides: [&Origin<'_>; 2],
    groups: &[Group],
    options: &CompareOptions,
    began: Instant,
    progress: &dyn Progress,
) -> Result<Comparison, CompareError> {
    let bytes = sides.iter().map(|side| side.plan.bytes).sum();
    progress.stage(&counts(sides.map(|side| side.counts)).stage(bytes));
    let strange = Strange::of(sides)?;
    let (compared, mut not_compared) = split(groups, &strange);
    let read_began = Instant::now();
    let (definitions, sums) = read(sides, &compared, progress)?;
    let read_seconds = read_began.elapsed().as_secs_f64();

    let mut tables: Vec<TableComparison> = compared
        .iter()
        .map(|group| table(sides, group, &sums))
        .collect();
    if let Some(limit) = options.rows {
        show_rows(sides, &compared, &mut tables, limit, progress)?;
    }
    let defined = options.selection.sections.pre_data;
    let [a, b] = &definitions;
    let mut schema = definitions::definitions([a, b], &strange.relations);
    let without = (!strange.is_empty()).then_some(timescale::EXTENSION);
    schema.extend(strange.differences);
    let sequences = definitions::sequences([a, b], defined, without);

    let mut notes = definitions::versions(sides);
    if !strange.hypertables.is_empty() {
        notes.push(format!(
            "chunks go by other names at the target ({}): what they cover was compared, and hypertables' dimensions, settings and jobs, but neither definitions of chunks nor TimescaleDB's catalog as it is",
            strange.hypertables.join(", ")
        ));
    }
    for (n, side) in sides.into_iter().enumerate() {
        let of_side = |text: &String| format!("the {}: {text}", SIDES[n]);
        not_compared.extend(side.plan.skipped.iter().map(of_side));
        notes.extend(side.holding.take_notes().iter().map(of_side));
    }
    let rows = [0, 1].map(|n| sums[n].iter().map(|tally| tally.digest.rows).sum());
    let [source, target] = [0, 1].map(|n| side(sides[n], &definitions[n], rows[n]));
    Ok(Comparison {
        equal: schema.is_empty() && sequences.is_empty() && tables.iter().all(|t| t.equal),
        source,
        target,
        schema,
        tables,
        sequences,
        not_compared,
        notes,
        read_seconds,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The larger of the two.
fn counts([a, b]: [Counts; 2]) -> Counts {
    Counts {
        tables: a.tables.max(b.tables),
        hypertables: a.hypertables.max(b.hypertables),
        chunks: a.chunks.max(b.chunks),
    }
}

/// The groups that can be compared, and what is to be said of the others.
fn split<'g>(groups: &'g [Group], strange: &Strange) -> (Vec<&'g Group>, Vec<String>) {
    let mut said = Vec::new();
    let own = |group: &&Group| group.extension.as_deref() == Some(timescale::EXTENSION);
    let mut compared = Vec::new();
    for group in groups {
        if let Some(n) = (0..2).find(|&n| group.unread[n]) {
            said.push(format!(
                "the rows of {}: the {} does not give them",
                group.display_name(),
                SIDES[n]
            ));
        } else if strange.is_empty() || !own(&group) {
            compared.push(group);
        }
    }
    if strange.aggregates {
        said.push(
            "policies of continuous aggregates: TimescaleDB has other numbers for hypertables at the target"
                .to_owned(),
        );
    }
    (compared, said)
}

/// Reads definitions and rows of both sides, all at once.
fn read(
    sides: [&Origin<'_>; 2],
    groups: &[&Group],
    progress: &dyn Progress,
) -> Result<([Definitions; 2], [Vec<Tally>; 2]), CompareError> {
    let halt = || sides.iter().for_each(|side| side.holding.halt());
    let wanted = [0, 1].map(|n| {
        let tables = groups.iter().flat_map(|group| &group.tables[n]);
        let tables: HashSet<usize> = tables.copied().collect();
        let all = 0..sides[n].plan.tables.len();
        all.map(|table| tables.contains(&table)).collect::<Vec<_>>()
    });
    let (definitions, sums) = std::thread::scope(|scope| {
        let halt = &halt;
        let threads = [0, 1].map(|n| {
            let read = move || Definitions::read(sides[n]).inspect_err(|_| halt());
            scope.spawn(read)
        });
        let sums = reading::sums(sides, [&wanted[0], &wanted[1]], progress);
        let definitions = threads.map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        (definitions, sums)
    });
    let mut errors = Vec::new();
    let sums = keep(sums, &mut errors);
    let [a, b] = definitions;
    let a = keep(a.map_err(CompareError::of(SIDES[0])), &mut errors);
    let b = keep(b.map_err(CompareError::of(SIDES[1])), &mut errors);
    match (a, b, sums) {
        (Some(a), Some(b), Some(sums)) => Ok(([a, b], sums)),
        _ => Err(CompareError::cause(errors)),
    }
}

/// What there is; what went wrong goes to the others.
fn keep<T>(result: Result<T, CompareError>, errors: &mut Vec<CompareError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

/// Compares the rows of a group.
fn table(sides: [&Origin<'_>; 2], group: &Group, sums: &[Vec<Tally>; 2]) -> TableComparison {
    let [source, target] = [0, 1].map(|n| {
        group.is_at(n).then(|| {
            let mut sum = Tally::default();
            group.tables[n]
                .iter()
                .for_each(|&table| sum += sums[n][table]);
            sum
        })
    });
    let columns = group.columns_differ(sides);
    TableComparison {
        kind: group.kind,
        name: group.display_name(),
        equal: match (&source, &target) {
            (Some(a), Some(b)) => a.digest == b.digest && columns.is_empty(),
            _ => false,
        },
        source: source.map(Held::from),
        target: target.map(Held::from),
        columns,
        rows: None,
    }
}

/// Finds the rows that differ in tables that both sides have, with the same columns.
fn show_rows(
    sides: [&Origin<'_>; 2],
    groups: &[&Group],
    tables: &mut [TableComparison],
    limit: usize,
    progress: &dyn Progress,
) -> Result<(), CompareError> {
    let mut printers = None;
    for (group, table) in groups.iter().zip(tables) {
        let both = table.source.is_some() && table.target.is_some();
        if table.equal || !both || !table.columns.is_empty() {
            continue;
        }
        if printers.is_none() {
            printers = Some(Printers::new(sides, progress)?);
        }
        if let Some(printers) = &printers {
            let bytes: u64 = [0, 1]
                .map(|n| {
                    let tables = group.tables[n].iter();
                    tables.map(|&t| sides[n].plan.tables[t].bytes).sum::<u64>()
                })
                .iter()
                .sum();
            // Once to find the buckets, once to take what is in them.
            progress.stage(&Counts::default().stage(bytes * 2));
            progress.task(
                0,
                Some(&format!("looking for rows of {} that differ", table.name)),
            );
            table.rows = Some(differing::find(sides, group, limit, printers, progress)?);
        }
    }
    Ok(())
}

/// What is said of a side.
fn side(origin: &Origin<'_>, definitions: &Definitions, rows: u64) -> Side {
    let settings = &origin.holding.settings;
    let (objects, sequences) = definitions.counts();
    Side {
        database: origin.facts.name.clone(),
        host: settings.host_name().to_owned(),
        port: settings.port(),
        server_version: origin.server_version.1.clone(),
        time: origin.time,
        objects,
        sequences,
        tables: origin.counts.tables,
        hypertables: origin.counts.hypertables,
        chunks: origin.counts.chunks,
        rows,
        bytes: origin.plan.bytes,
    }
}
