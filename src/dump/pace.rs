//! Reading no faster than the user allows.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::pg::RowSink;

use super::plan::Piece;
use super::read::{ReadError, Taker};

/// So much is read before the pace is looked at: small enough that no session runs ahead for long.
const STEP: u64 = 256 << 10;

/// Spreads what all sessions read over time.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: f64,
    /// When what was read so far should have been read.
    due: Mutex<Instant>,
}

impl Pace {
    /// So many bytes in a second, by all sessions together.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1) as f64,
            due: Mutex::new(Instant::now()),
        }
    }

    /// How long to wait after so many bytes more. Time in which nothing was read is not made up for.
    fn wait(&self, bytes: u64, now: Instant) -> Duration {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = (*due).max(now) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        due.duration_since(now)
    }
}

/// Takes rows at a pace.
pub struct Paced<'t, T> {
    taker: &'t mut T,
    pace: &'t Pace,
    untold: u64,
}

impl<'t, T> Paced<'t, T> {
    /// Hands what it takes on to another.
    pub fn new(taker: &'t mut T, pace: &'t Pace) -> Self {
        Self {
            taker,
            pace,
            untold: 0,
        }
    }

    #[inline]
    fn count(&mut self, bytes: usize) {
        self.untold += bytes as u64;
        if self.untold >= STEP {
            self.rest();
        }
    }

    /// The server, whose messages nobody takes meanwhile, waits, too.
    fn rest(&mut self) {
        let bytes = std::mem::take(&mut self.untold);
        std::thread::sleep(self.pace.wait(bytes, Instant::now()));
    }
}

impl<T: Taker> RowSink for Paced<'_, T> {
    type Error = ReadError;

    #[inline]
    fn row(&mut self, row: &[u8]) -> Result<(), ReadError> {
        self.count(row.len());
        self.taker.row(row)
    }

    fn part(&mut self, part: &[u8], row_len: u64, offset: u64) -> Result<(), ReadError> {
        self.count(part.len());
        self.taker.part(part, row_len, offset)
    }
}

impl<T: Taker> Taker for Paced<'_, T> {
    fn begin(&mut self, piece: &Piece, attempt: u32) {
        self.taker.begin(piece, attempt);
    }

    fn end(&mut self) -> Result<(), ReadError> {
        self.rest();
        self.taker.end()
    }

    fn may_repeat(&self) -> bool {
        self.taker.may_repeat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_sessions_read_is_spread_over_time_and_pauses_are_not_made_up_for() {
        let pace = Pace::new(1000);
        let start = Instant::now() + Duration::from_secs(1);
        let wait = |bytes, after| pace.wait(bytes, start + Duration::from_secs(after));
        assert_eq!(wait(2000, 0), Duration::from_secs(2));
        assert_eq!(wait(1000, 0), Duration::from_secs(3), "another session");
        assert_eq!(wait(1000, 3), Duration::from_secs(1));
        assert_eq!(wait(1000, 100), Duration::from_secs(1), "after a pause");
    }
}
