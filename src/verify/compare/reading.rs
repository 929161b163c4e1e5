//! Reads rows of one side or both at once and has something see each: its hash and its bytes, as they come.

use std::array::from_fn;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::dump::origin::Origin;
use crate::dump::plan::{Piece, PlannedTable, Unit};
use crate::dump::read::{ReadError, Taker};
use crate::dump::worker::{self, WorkerError};
use crate::pg::RowSink;
use crate::progress::Progress;
use crate::rows::{Digester, RowDigest};

use super::{CompareError, SIDES};

/// Sees rows, one piece after the other.
pub trait Seen: Send {
    /// Rows of this table follow. What came since the last end may come again.
    fn begin(&mut self, table: usize);
    /// A whole row.
    fn row(&mut self, hash: u128, row: &[u8]);
    /// The next part of a row that is too large to come whole.
    fn part(&mut self, _part: &[u8], _offset: u64) {}
    /// The row whose parts came is complete.
    fn parted(&mut self, hash: u128, len: u64);
    /// The piece was read to its end.
    fn end(&mut self);
    /// Whether what came since the beginning of the piece may come again.
    fn may_repeat(&self) -> bool {
        true
    }
}

/// How much is read in one go, and may have to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// All that a unit reads of a table.
    Units,
    /// Segment by segment, where little is kept until all of it is there.
    Segments,
}

/// Reads the wanted tables of all sides, with the sessions of each; what the sessions' watchers, made by `make` for a
/// side, have seen.
pub fn read<const N: usize, S: Seen>(
    sides: [&Origin<'_>; N],
    wanted: [&[bool]; N],
    cut: Cut,
    progress: &dyn Progress,
    make: &(dyn Fn(usize) -> S + Sync),
) -> Result<[Vec<S>; N], CompareError> {
    let halt = || sides.iter().for_each(|side| side.holding.halt());
    let queues: [_; N] = from_fn(|n| Mutex::new(sides[n].plan.units_of(wanted[n])));
    let results = std::thread::scope(|scope| {
        let threads: [_; N] = from_fn(|n| {
            let (side, queue, halt) = (sides[n], &queues[n], &halt);
            let jobs = side.jobs.min(lock(queue).len());
            let work = move || {
                let mut rows = Rows::new(side, progress, make(n));
                work(side, queue, cut, &mut rows).inspect_err(|_| halt())?;
                Ok::<_, WorkerError>(rows.seen)
            };
            let spawned = (0..jobs).map(|_| scope.spawn(work));
            spawned.collect::<Vec<_>>()
        });
        threads.map(|threads| {
            let joined = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect::<Vec<_>>()
        })
    });
    let (mut seen, mut errors) = (from_fn(|_| Vec::new()), Vec::new());
    for (n, results) in results.into_iter().enumerate() {
        for result in results {
            match result {
                Ok(rows) => seen[n].push(rows),
                Err(error) => errors.push(CompareError::of(SIDES[n])(error.into())),
            }
        }
    }
    match errors.is_empty() {
        true => Ok(seen),
        false => Err(CompareError::cause(errors)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads units until there are no more.
fn work<S: Seen>(
    side: &Origin<'_>,
    queue: &Mutex<VecDeque<Unit>>,
    cut: Cut,
    rows: &mut Rows<'_, S>,
) -> Result<(), WorkerError> {
    let (holding, tables) = (&side.holding, &side.plan.tables);
    worker::each_unit(holding, tables, queue, |session, unit| {
        let mut pieces = match cut {
            Cut::Units => unit.pieces.clone(),
            Cut::Segments => unit.segments().collect(),
        };
        holding.read(session, tables, &mut pieces, rows)
    })
}

/// Digests rows as they come.
struct Rows<'t, S> {
    tables: &'t [PlannedTable],
    progress: &'t dyn Progress,
    digester: Option<Digester<'t>>,
    /// Bytes of heap and TOAST of the piece, about.
    bytes: u64,
    seen: S,
}

impl<'t, S: Seen> Rows<'t, S> {
    fn new(side: &'t Origin<'_>, progress: &'t dyn Progress, seen: S) -> Self {
        Self {
            tables: &side.plan.tables,
            progress,
            digester: None,
            bytes: 0,
            seen,
        }
    }

    fn digester(&mut self) -> Result<&mut Digester<'t>, ReadError> {
        self.digester.as_mut().ok_or(ReadError::Stopped)
    }
}

impl<S: Seen> Taker for Rows<'_, S> {
    fn begin(&mut self, piece: &Piece, _attempt: u32) {
        let table = &self.tables[piece.table];
        self.digester = Some(Digester::new(&table.digest));
        let segments = u64::from(table.segments.max(1));
        self.bytes = table.bytes / segments * u64::from(piece.to - piece.from);
        self.seen.begin(piece.table);
    }

    fn end(&mut self) -> Result<(), ReadError> {
        self.seen.end();
        self.progress.bytes(self.bytes);
        Ok(())
    }

    fn may_repeat(&self) -> bool {
        self.seen.may_repeat()
    }
}

impl<S: Seen> RowSink for Rows<'_, S> {
    type Error = ReadError;

    #[inline]
    fn row(&mut self, row: &[u8]) -> Result<(), ReadError> {
        let digest = self.digester()?.push_rows(row)?;
        self.seen.row(digest.sum, row);
        Ok(())
    }

    fn part(&mut self, part: &[u8], row_len: u64, offset: u64) -> Result<(), ReadError> {
        let digest = self.digester()?.push_part(part)?;
        self.seen.part(part, offset);
        if digest.rows > 0 {
            self.seen.parted(digest.sum, row_len);
        }
        Ok(())
    }
}

/// What there is of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Their count and digest.
    pub digest: RowDigest,
    /// Bytes as COPY sends them.
    pub bytes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.digest += other.digest;
        self.bytes += other.bytes;
    }
}

/// Sums up the rows of each table.
struct Sums {
    tables: Vec<Tally>,
    table: usize,
    piece: Tally,
}

impl Seen for Sums {
    fn begin(&mut self, table: usize) {
        self.table = table;
        self.piece = Tally::default();
    }

    #[inline]
    fn row(&mut self, hash: u128, row: &[u8]) {
        self.parted(hash, row.len() as u64);
    }

    #[inline]
    fn parted(&mut self, hash: u128, len: u64) {
        self.piece += Tally {
            digest: RowDigest { rows: 1, sum: hash },
            bytes: len,
        };
    }

    fn end(&mut self) {
        self.tables[self.table] += self.piece;
    }
}

/// The sums of the wanted tables of all sides.
pub fn sums<const N: usize>(
    sides: [&Origin<'_>; N],
    wanted: [&[bool]; N],
    progress: &dyn Progress,
) -> Result<[Vec<Tally>; N], CompareError> {
    let seen = read(sides, wanted, Cut::Units, progress, &|n| Sums {
        tables: vec![Tally::default(); sides[n].plan.tables.len()],
        table: 0,
        piece: Tally::default(),
    })?;
    let mut n = 0;
    Ok(seen.map(|seen| {
        let mut tables = vec![Tally::default(); sides[n].plan.tables.len()];
        n += 1;
        for sums in seen {
            for (to, from) in tables.iter_mut().zip(sums.tables) {
                *to += from;
            }
        }
        tables
    }))
}

/// Keeps rows as they came.
struct Whole(Vec<u8>, usize);

impl Seen for Whole {
    fn begin(&mut self, _table: usize) {
        self.1 = self.0.len();
    }

    fn row(&mut self, _hash: u128, row: &[u8]) {
        self.0.extend_from_slice(row);
    }

    fn part(&mut self, part: &[u8], _offset: u64) {
        self.0.extend_from_slice(part);
    }

    fn parted(&mut self, _hash: u128, _len: u64) {}

    fn end(&mut self) {}

    fn may_repeat(&self) -> bool {
        self.0.len() == self.1
    }
}

/// All rows of small tables, as they came.
pub fn whole(
    sides: [&Origin<'_>; 2],
    wanted: [&[bool]; 2],
    progress: &dyn Progress,
) -> Result<[Vec<u8>; 2], CompareError> {
    let make = |_| Whole(Vec::new(), 0);
    let seen = read(sides, wanted, Cut::Units, progress, &make)?;
    Ok(seen.map(|seen| seen.into_iter().flat_map(|whole| whole.0).collect()))
}
