//! Readers: each runs units of work on a connection of its own and yields blocks of payload.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::pg::{Connection, CopyError, Error, Reply, RowSink};
use crate::rows::{BlockId, Digester, Format, RowDigest, RowsError};

use super::plan::{Piece, PlannedTable};

/// A block is cut after the row with which its payload passes this.
const BLOCK_BYTES: usize = 16 << 20;
/// Rows above this are streamed in parts of this size.
pub const PART_BYTES: usize = 8 << 20;

/// A piece of more segments is worth waiting a moment for its end.
const MANY_SEGMENTS: u32 = 4;

/// Digests of blocks that the snapshot before refers to: a block whose id is among them needs no new digest.
pub type Known = Arc<HashMap<BlockId, RowDigest>>;

/// A block of payload on its way to an encoder.
pub struct Block {
    /// Index of the table in the plan.
    pub table: usize,
    /// The segment.
    pub segment: u32,
    /// Its place among the segment's blocks.
    pub number: u32,
    /// The attempt that read it, counted from 1.
    pub attempt: u32,
    /// What the payload is.
    pub format: Format,
    /// The bytes.
    pub payload: Vec<u8>,
    /// The digest, where the reader has it already: of parts, which must be digested in order.
    pub digest: Option<RowDigest>,
    /// Digests known from the snapshot before.
    pub known: Known,
}

/// What a reader yields.
pub enum Item {
    /// A block.
    Block(Block),
    /// The end of a segment.
    SegmentEnd {
        /// Index of the table in the plan.
        table: usize,
        /// The segment.
        segment: u32,
        /// The attempt that read it.
        attempt: u32,
        /// How many blocks it had.
        blocks: u32,
    },
}

/// Why a unit could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server said no, or the connection broke.
    #[error(transparent)]
    Server(#[from] Error),
    /// A table's file is not the one that the snapshot saw, although a holder keeps its lock.
    #[error("{table} was rewritten while its lock should have been held")]
    Rewritten {
        /// The table.
        table: String,
    },
    /// The rows are not what COPY sends.
    #[error("the server's rows do not parse: {0}")]
    Rows(#[from] RowsError),
    /// Whoever takes the rows gave up: the run fails for another reason.
    #[error("the run was stopped")]
    Stopped,
}

/// Buffers of blocks, used again so that their memory is not given back and asked for with each block.
#[derive(Clone)]
pub struct Buffers {
    back: Sender<Vec<u8>>,
    free: Receiver<Vec<u8>>,
}

impl Buffers {
    /// Keeps at most this many.
    pub fn new(kept: usize) -> Self {
        let (back, free) = crossbeam_channel::bounded(kept);
        Self { back, free }
    }

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.free.try_recv().unwrap_or_default()
    }

    /// Gives a buffer back. Large ones are let go: most blocks are small, and memory stays bounded.
    pub fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= PART_BYTES {
            buffer.clear();
            let _ = self.back.try_send(buffer);
        }
    }
}

/// The statements of a unit, but for its transaction: the guard of the files, then a COPY per piece.
pub struct UnitSql {
    /// `LOCK TABLE ...`, never waiting; foreign tables cannot be locked.
    pub lock: String,
    /// A query that names a table whose file changed.
    pub guard: String,
    /// The COPYs.
    pub copies: String,
}

/// Writes the statements that read the given pieces.
pub fn unit_sql(tables: &[PlannedTable], pieces: &[Piece]) -> UnitSql {
    let mut touched: Vec<usize> = pieces.iter().map(|piece| piece.table).collect();
    touched.dedup();
    let relations = touched.iter().map(|&n| &tables[n].relation);
    let names: Vec<String> = relations
        .filter(|relation| relation.is_lockable())
        .map(|relation| format!("ONLY {}", relation.sql_name()))
        .collect();
    let values: Vec<String> = touched
        .iter()
        .map(|&n| {
            format!(
                "({}::pg_catalog.oid,{}::pg_catalog.oid)",
                tables[n].relation.oid, tables[n].relation.filenode
            )
        })
        .collect();
    let copies: Vec<String> = pieces
        .iter()
        .map(|piece| tables[piece.table].copy_sql(piece))
        .collect();
    UnitSql {
        lock: if names.is_empty() {
            "SELECT".to_owned()
        } else {
            format!(
                "LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT",
                names.join(", ")
            )
        },
        guard: format!(
            "SELECT v.oid::pg_catalog.regclass FROM (VALUES {}) v(oid, file) WHERE v.file <> 0 AND pg_catalog.pg_relation_filenode(v.oid) IS DISTINCT FROM v.file",
            values.join(",")
        ),
        copies: copies.join("; "),
    }
}

/// Everything a reader shares with the others.
pub struct Output<'a> {
    /// The tables of the plan.
    pub tables: &'a [PlannedTable],
    /// Where blocks go.
    pub items: Sender<Item>,
    /// Buffers to fill.
    pub buffers: Buffers,
}

/// Takes the rows of pieces, one piece after the other.
pub trait Taker: RowSink<Error = ReadError> {
    /// The rows of a piece follow. Attempts are counted from 1.
    fn begin(&mut self, piece: &Piece, attempt: u32);

    /// The piece has no more rows.
    fn end(&mut self) -> Result<(), ReadError>;

    /// Whether pieces that were not read to their end may be read again from their beginning.
    fn may_repeat(&self) -> bool;
}

/// Runs one message of a unit and takes its replies. What was read to its end is taken off `pieces`, so that what remains can be read again on another connection.
pub fn run<T: Taker>(
    conn: &mut Connection,
    sql: &str,
    pieces: &mut Vec<Piece>,
    attempt: u32,
    taker: &mut T,
) -> Result<(), ReadError> {
    conn.send(sql)?;
    let mut rewritten = None;
    let mut done = 0;
    let result = loop {
        match conn.next() {
            Ok(Reply::Row(row)) => rewritten = row.get(0).map(str::to_owned),
            Ok(Reply::CopyOut { .. }) => {
                if rewritten.is_some() {
                    break Err(());
                }
                let Some(piece) = pieces.get(done) else {
                    return Err(Error::Protocol("more COPYs than asked for".to_owned()).into());
                };
                taker.begin(piece, attempt);
                // The last of a message ends without anything behind it.
                let many = piece.to - piece.from > MANY_SEGMENTS;
                conn.expect_much(many || done + 1 < pieces.len())?;
                match conn.read_copy(PART_BYTES, taker) {
                    Ok(_) => {
                        taker.end()?;
                        done += 1;
                    }
                    Err(CopyError::Sink(error)) => return Err(error),
                    Err(CopyError::Connection(error)) => {
                        pieces.drain(..done);
                        return Err(error.into());
                    }
                }
            }
            Ok(Reply::Complete(_)) => {}
            Ok(Reply::Done) => {
                conn.expect_much(false)?;
                break Ok(());
            }
            Err(error) => {
                pieces.drain(..done);
                return Err(error.into());
            }
        }
    };
    pieces.drain(..done);
    match (result, rewritten) {
        (Ok(()), None) => Ok(()),
        (_, table) => Err(ReadError::Rewritten {
            table: table.unwrap_or_default(),
        }),
    }
}

/// Gathers the rows of single segments into blocks.
pub struct Blocks<'o, 'a> {
    output: &'o Output<'a>,
    known: HashMap<usize, Known>,
    table: usize,
    segment: u32,
    attempt: u32,
    format: Format,
    number: u32,
    buffer: Vec<u8>,
    /// Digests the parts of rows of the segment, which must be seen in order.
    parts: Option<Digester<'a>>,
}

impl<'o, 'a> Blocks<'o, 'a> {
    /// Blocks for encoders, with the digests that are known of some tables' blocks.
    pub fn new(output: &'o Output<'a>, known: HashMap<usize, Known>) -> Self {
        Self {
            output,
            known,
            table: 0,
            segment: 0,
            attempt: 0,
            format: Format::Binary,
            number: 0,
            buffer: Vec::new(),
            parts: None,
        }
    }

    fn emit(&mut self, format: Format, digest: Option<RowDigest>) -> Result<(), ReadError> {
        let payload = std::mem::replace(&mut self.buffer, self.output.buffers.take());
        let block = Block {
            table: self.table,
            segment: self.segment,
            number: self.number,
            attempt: self.attempt,
            format,
            payload,
            digest,
            known: self.known.get(&self.table).cloned().unwrap_or_default(),
        };
        self.number += 1;
        self.send(Item::Block(block))
    }

    fn send(&self, item: Item) -> Result<(), ReadError> {
        self.output.items.send(item).map_err(|_| ReadError::Stopped)
    }

    fn emit_part(&mut self) -> Result<(), ReadError> {
        let tables: &'a [PlannedTable] = self.output.tables;
        let plan = &tables[self.table].digest;
        let parts = self.parts.get_or_insert_with(|| Digester::new(plan));
        let digest = parts.push_part(&self.buffer)?;
        self.emit(Format::Part, Some(digest))
    }
}

impl Taker for Blocks<'_, '_> {
    fn begin(&mut self, piece: &Piece, attempt: u32) {
        self.table = piece.table;
        self.segment = piece.from;
        self.attempt = attempt;
        self.format = self.output.tables[piece.table].format;
        self.number = 0;
        self.parts = None;
        // What an attempt before this one has left.
        self.buffer.clear();
        if self.buffer.capacity() == 0 {
            self.buffer = self.output.buffers.take();
        }
    }

    fn end(&mut self) -> Result<(), ReadError> {
        if !self.buffer.is_empty() {
            self.emit(self.format, None)?;
        }
        self.send(Item::SegmentEnd {
            table: self.table,
            segment: self.segment,
            attempt: self.attempt,
            blocks: self.number,
        })
    }

    /// Of a segment that is read again only the latest attempt counts.
    fn may_repeat(&self) -> bool {
        true
    }
}

impl Drop for Blocks<'_, '_> {
    fn drop(&mut self) {
        self.output.buffers.give(std::mem::take(&mut self.buffer));
    }
}

impl RowSink for Blocks<'_, '_> {
    type Error = ReadError;

    #[inline]
    fn row(&mut self, row: &[u8]) -> Result<(), ReadError> {
        self.buffer.extend_from_slice(row);
        if self.buffer.len() >= BLOCK_BYTES {
            self.emit(self.format, None)?;
        }
        Ok(())
    }

    fn part(&mut self, mut part: &[u8], row_len: u64, offset: u64) -> Result<(), ReadError> {
        if offset == 0 && !self.buffer.is_empty() {
            self.emit(self.format, None)?;
        }
        let last = offset + part.len() as u64 == row_len;
        while self.buffer.len() + part.len() >= PART_BYTES {
            let (head, tail) = part.split_at(PART_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(head);
            part = tail;
            if part.is_empty() && last {
                // The last part is whole: below it would be emitted empty.
                return self.emit_part();
            }
            self.emit_part()?;
        }
        self.buffer.extend_from_slice(part);
        if last && !self.buffer.is_empty() {
            self.emit_part()?;
        }
        Ok(())
    }
}
