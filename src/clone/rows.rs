//! Rows that come straight from the source: as its server sends them, so they go to the target.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::dump::holding::Holding;
use crate::dump::plan::{Piece, PlannedTable};
use crate::dump::read::{ReadError, Taker};
use crate::dump::sessions::{Session, UnitError, is_retryable};
use crate::pg::RowSink;
use crate::pg::snapshot::SnapshotError;
use crate::progress::Progress;
use crate::restore::load::LoadError;
use crate::restore::rows::{Pieces, RowSession, RowSource, Rows, Stored, Take};

/// Progress is told after so many bytes.
const TOLD_BYTES: u64 = 1 << 20;

/// The rows of a source. Those of catalogs and their like were read already.
pub struct Live<'a> {
    /// The sessions that have snapshot and locks.
    pub holding: &'a Holding,
    /// The tables as they are read.
    pub tables: &'a [PlannedTable],
    /// Their numbers, by those of the restore; nothing for what was read already.
    pub numbers: Vec<Option<usize>>,
    /// What was read already.
    pub stored: Stored<'a>,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// What was handed on.
    pub handed: Handed,
}

/// Rows and bytes that were handed on.
#[derive(Debug, Default)]
pub struct Handed {
    /// Rows.
    pub rows: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
}

impl RowSource for Live<'_> {
    fn session(&self) -> Box<dyn RowSession + '_> {
        Box::new(LiveSession {
            live: self,
            session: Session::default(),
        })
    }

    fn pieces(&self, table: usize) -> Result<Pieces, LoadError> {
        match self.numbers[table] {
            Some(number) => {
                let planned = &self.tables[number];
                Ok(Pieces::Segments {
                    number: planned.segments,
                    bytes: planned.bytes / u64::from(planned.segments.max(1)),
                })
            }
            None => self.stored.pieces(table),
        }
    }

    fn release(&self) {
        self.holding.release();
    }
}

/// What one session of the restore reads with.
struct LiveSession<'a> {
    live: &'a Live<'a>,
    session: Session,
}

impl LiveSession<'_> {
    fn run<T: Taker>(&mut self, pieces: &mut Vec<Piece>, taker: &mut T) -> Result<(), UnitError> {
        let live = self.live;
        live.holding
            .read(&mut self.session, live.tables, pieces, taker)
    }
}

impl RowSession for LiveSession<'_> {
    fn read(
        &mut self,
        table: usize,
        pieces: &Pieces,
        range: Range<usize>,
        take: &mut Take<'_>,
    ) -> Result<u64, LoadError> {
        let Some(number) = self.live.numbers[table] else {
            return (&self.live.stored).read(table, pieces, range, take);
        };
        let segment = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let piece = Piece {
            table: number,
            from: segment(range.start),
            to: segment(range.end),
        };
        let mut pass = Pass {
            live: self.live,
            take,
            rows: 0,
            untold: 0,
            begun: false,
            refused: None,
        };
        let result = self.run(&mut vec![piece], &mut pass);
        match (pass.refused.take(), result) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(source(error)),
            (None, Ok(())) => Ok(pass.rows),
        }
    }

    fn whole(&mut self, tables: &[usize]) -> Result<Vec<Rows>, LoadError> {
        let mut found = vec![Rows::default(); tables.len()];
        let mut pieces = Vec::new();
        let mut places = Vec::new();
        for (place, &table) in tables.iter().enumerate() {
            match self.live.numbers[table] {
                Some(number) => {
                    pieces.push(Piece {
                        table: number,
                        from: 0,
                        to: self.live.tables[number].segments,
                    });
                    places.push((number, place));
                }
                None => found[place] = (&self.live.stored).whole(&[table])?.remove(0),
            }
        }
        if pieces.is_empty() {
            return Ok(found);
        }
        let mut gather = Gather {
            found: &mut found,
            places: &places,
            place: 0,
        };
        self.run(&mut pieces, &mut gather).map_err(source)?;
        for &(_, place) in &places {
            let rows = &found[place];
            self.live.tell(rows.count, rows.bytes.len() as u64);
        }
        Ok(found)
    }
}

impl Live<'_> {
    fn tell(&self, rows: u64, bytes: u64) {
        self.handed.rows.fetch_add(rows, Ordering::Relaxed);
        self.handed.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.progress.bytes(bytes);
    }
}

/// Why the source gave no rows.
fn source(error: UnitError) -> LoadError {
    let again = match &error {
        UnitError::Read(ReadError::Server(error))
        | UnitError::Connect(SnapshotError::Server { source: error, .. }) => is_retryable(error),
        _ => false,
    };
    LoadError::Source {
        source: Box::new(error),
        again,
    }
}

/// Passes rows on.
struct Pass<'p, 't> {
    live: &'p Live<'p>,
    take: &'p mut Take<'t>,
    rows: u64,
    /// Bytes and rows that were not told yet.
    untold: u64,
    /// Whether something was passed on, so that it cannot be read again from its beginning.
    begun: bool,
    /// Why the target takes no more.
    refused: Option<LoadError>,
}

impl Pass<'_, '_> {
    fn pass(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.begun = true;
        self.untold += bytes.len() as u64;
        if self.untold >= TOLD_BYTES {
            self.live.tell(0, std::mem::take(&mut self.untold));
        }
        (self.take)(bytes).map_err(|error| {
            self.refused = Some(error);
            ReadError::Stopped
        })
    }
}

impl RowSink for Pass<'_, '_> {
    type Error = ReadError;

    #[inline]
    fn row(&mut self, row: &[u8]) -> Result<(), ReadError> {
        self.rows += 1;
        self.pass(row)
    }

    fn part(&mut self, part: &[u8], row_len: u64, offset: u64) -> Result<(), ReadError> {
        if offset + part.len() as u64 == row_len {
            self.rows += 1;
        }
        self.pass(part)
    }
}

impl Taker for Pass<'_, '_> {
    fn begin(&mut self, _: &Piece, _: u32) {}

    fn end(&mut self) -> Result<(), ReadError> {
        self.live.tell(self.rows, std::mem::take(&mut self.untold));
        Ok(())
    }

    fn may_repeat(&self) -> bool {
        !self.begun
    }
}

/// Keeps the rows of small tables.
struct Gather<'g> {
    found: &'g mut [Rows],
    /// Numbers of tables, and where their rows belong.
    places: &'g [(usize, usize)],
    place: usize,
}

impl RowSink for Gather<'_> {
    type Error = ReadError;

    fn row(&mut self, row: &[u8]) -> Result<(), ReadError> {
        let rows = &mut self.found[self.place];
        rows.bytes.extend_from_slice(row);
        rows.count += 1;
        Ok(())
    }

    fn part(&mut self, part: &[u8], row_len: u64, offset: u64) -> Result<(), ReadError> {
        let rows = &mut self.found[self.place];
        rows.bytes.extend_from_slice(part);
        rows.count += u64::from(offset + part.len() as u64 == row_len);
        Ok(())
    }
}

impl Taker for Gather<'_> {
    fn begin(&mut self, piece: &Piece, _: u32) {
        let place = self.places.iter().find(|(table, _)| *table == piece.table);
        self.place = place.map_or(0, |(_, place)| *place);
        self.found[self.place] = Rows::default();
    }

    fn end(&mut self) -> Result<(), ReadError> {
        Ok(())
    }

    fn may_repeat(&self) -> bool {
        true
    }
}
