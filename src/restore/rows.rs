//! Where a restore takes the rows of tables from: the repository, or the source itself.

use std::ops::Range;

use crate::progress::Progress;
use crate::repo::Reader;
use crate::repo::model::{BlockRef, TableRecord};
use crate::rows::Format;

use super::load::{self, LoadError};

/// Takes bytes of rows, cut anywhere.
pub type Take<'t> = dyn FnMut(&[u8]) -> Result<(), LoadError> + 't;

/// The rows of all tables. Shared by all sessions.
pub trait RowSource: Sync {
    /// What one session of the restore reads with.
    fn session(&self) -> Box<dyn RowSession + '_>;

    /// The pieces of a table, by its number.
    fn pieces(&self, table: usize) -> Result<Pieces, LoadError>;

    /// All rows were loaded.
    fn release(&self);
}

/// Reads rows for one session of the restore.
pub trait RowSession {
    /// Hands on the rows of neighbouring pieces of a table, in their order. Returns their number.
    fn read(
        &mut self,
        table: usize,
        pieces: &Pieces,
        range: Range<usize>,
        take: &mut Take<'_>,
    ) -> Result<u64, LoadError>;

    /// All rows of small tables.
    fn whole(&mut self, tables: &[usize]) -> Result<Vec<Rows>, LoadError>;
}

/// The rows of a small table.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rows {
    /// As COPY sends them.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub count: u64,
}

/// What a table is cut into: it is read in pieces, one after the other, and no row is torn apart between two of them.
#[derive(Debug, Clone)]
pub enum Pieces {
    /// Blocks of the repository.
    Blocks(Vec<BlockRef>),
    /// Segments of the table at the source.
    Segments {
        /// How many there are.
        number: u32,
        /// Bytes of heap and TOAST of each, about.
        bytes: u64,
    },
}

impl Pieces {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Pieces::Blocks(blocks) => blocks.len(),
            Pieces::Segments { number, .. } => *number as usize,
        }
    }

    /// Bytes of a piece, about.
    fn bytes(&self, piece: usize) -> u64 {
        match self {
            Pieces::Blocks(blocks) => u64::from(blocks[piece].payload_len),
            Pieces::Segments { bytes, .. } => *bytes,
        }
    }

    /// Whether a row ends with the piece. One in parts ends with its last part, which is the one that counts a row.
    fn ends_row(&self, piece: usize) -> bool {
        match self {
            Pieces::Blocks(blocks) => {
                let block = &blocks[piece];
                block.format != Format::Part || block.digest.rows > 0
            }
            Pieces::Segments { .. } => true,
        }
    }

    /// Bytes of all of them.
    pub fn total(&self) -> u64 {
        (0..self.len()).map(|piece| self.bytes(piece)).sum()
    }

    /// Cuts a range of them into runs of about so many bytes.
    pub fn runs(&self, range: Range<usize>, size: u64) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut from = range.start;
        let mut bytes = 0;
        for piece in range.clone() {
            bytes += self.bytes(piece);
            if self.ends_row(piece) && bytes >= size {
                runs.push(from..piece + 1);
                from = piece + 1;
                bytes = 0;
            }
        }
        if from < range.end {
            runs.push(from..range.end);
        }
        runs
    }
}

/// The rows of a snapshot.
pub struct Stored<'a> {
    /// The repository.
    pub reader: &'a Reader,
    /// The tables of the snapshot.
    pub tables: &'a [TableRecord],
    /// Who watches.
    pub progress: &'a dyn Progress,
}

impl RowSource for Stored<'_> {
    fn session(&self) -> Box<dyn RowSession + '_> {
        Box::new(self)
    }

    fn pieces(&self, table: usize) -> Result<Pieces, LoadError> {
        let blocks = load::blocks(self.reader, &self.tables[table])?;
        Ok(Pieces::Blocks(blocks))
    }

    /// A snapshot stays.
    fn release(&self) {}
}

impl RowSession for &Stored<'_> {
    fn read(
        &mut self,
        _: usize,
        pieces: &Pieces,
        range: Range<usize>,
        take: &mut Take<'_>,
    ) -> Result<u64, LoadError> {
        let Pieces::Blocks(blocks) = pieces else {
            return Ok(0);
        };
        stored(self.reader, &blocks[range], self.progress, take)
    }

    fn whole(&mut self, tables: &[usize]) -> Result<Vec<Rows>, LoadError> {
        let records = tables.iter().map(|&n| &self.tables[n]);
        records
            .map(|record| {
                let bytes = load::whole(self.reader, record)?;
                self.progress.bytes(bytes.len() as u64);
                Ok(Rows {
                    bytes,
                    count: record.digest.rows,
                })
            })
            .collect()
    }
}

/// Hands on the rows of blocks, each of whose ids is computed again from what is handed on. Returns their number.
pub fn stored(
    reader: &Reader,
    blocks: &[BlockRef],
    progress: &dyn Progress,
    take: &mut Take<'_>,
) -> Result<u64, LoadError> {
    load::each(reader, blocks, &mut |_, payload| {
        progress.bytes(payload.len() as u64);
        take(payload)
    })?;
    Ok(blocks.iter().map(|block| block.digest.rows).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{BlockId, RowDigest};

    fn block(payload_len: u32, format: Format, rows: u64) -> BlockRef {
        BlockRef {
            id: BlockId([0; 32]),
            format,
            payload_len,
            digest: RowDigest { rows, sum: 0 },
        }
    }

    #[test]
    fn runs_cover_all_blocks_in_order_and_never_tear_a_row_apart() {
        let mut blocks = vec![block(16 << 20, Format::Binary, 10); 9];
        blocks.extend(vec![block(8 << 20, Format::Part, 0); 20]);
        blocks.push(block(5, Format::Part, 1));
        blocks.push(block(16 << 20, Format::Binary, 3));
        let pieces = Pieces::Blocks(blocks.clone());
        let mut next = 0;
        for run in pieces.runs(0..pieces.len(), 30 << 20) {
            assert_eq!(run.start, next);
            next = run.end;
            let before = run.start.checked_sub(1).map(|n| blocks[n]);
            assert!(
                before.is_none_or(|b| b.format != Format::Part || b.digest.rows > 0),
                "{run:?} starts within a row"
            );
        }
        assert_eq!(next, blocks.len());
    }

    #[test]
    fn runs_cover_all_segments_in_order() {
        let pieces = Pieces::Segments {
            number: 10,
            bytes: 2 << 20,
        };
        assert_eq!(pieces.runs(0..10, 6 << 20), [0..3, 3..6, 6..9, 9..10]);
        assert_eq!(pieces.runs(2..6, 6 << 20), [2..5, 5..6]);
    }
}
