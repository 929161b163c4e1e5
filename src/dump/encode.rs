//! Encoders: each takes blocks of payload, and stores what the repository lacks.

use crossbeam_channel::Receiver;

use crate::progress::Progress;
use crate::repo::model::BlockRef;
use crate::repo::{PackGroup, RepoError, Repository, Writer};
use crate::rows::{Digester, Effort, Encoder, Format, RowDigest, RowsError};

use super::collect::Collector;
use super::plan::PlannedTable;
use super::read::{Block, Buffers, Item};

/// Tables below this size share packs: they die one by one, and a pack of its own for each would be tiny.
const OWN_PACK_BYTES: u64 = 8 << 20;

/// Why a block could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The rows are not what COPY sends, or did not survive the coding.
    #[error("{table}: {source}")]
    Rows {
        /// The table.
        table: String,
        /// What is wrong.
        #[source]
        source: RowsError,
    },
    /// The repository could not be written.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// What encoders share.
pub struct Store<'a> {
    /// The repository.
    pub repo: &'a Repository,
    /// Its writer.
    pub writer: &'a Writer,
    /// The tables of the plan.
    pub tables: &'a [PlannedTable],
    /// Where references to blocks go.
    pub collector: &'a Collector,
    /// Where emptied buffers go.
    pub buffers: Buffers,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// How hard to compress.
    pub effort: Effort,
}

impl Store<'_> {
    /// Takes items until there are no more. After an error the items that follow are thrown away, so that no reader
    /// waits for ever.
    pub fn run(&self, items: &Receiver<Item>, stop: &dyn Fn()) -> Result<(), EncodeError> {
        let mut encoder = Encoder::new(self.effort);
        let mut encoded = Vec::new();
        let mut result = Ok(());
        for item in items {
            if result.is_err() {
                continue;
            }
            result = match item {
                Item::Block(block) => self.store(block, &mut encoder, &mut encoded),
                Item::SegmentEnd {
                    table,
                    segment,
                    attempt,
                    blocks,
                } => {
                    let planned = &self.tables[table];
                    self.progress
                        .bytes(planned.bytes / u64::from(planned.segments.max(1)));
                    self.collector
                        .segment(self.writer, table, segment, attempt, blocks)
                        .and_then(|complete| self.close(table, complete))
                        .map_err(EncodeError::from)
                }
            };
            if result.is_err() {
                stop();
            }
        }
        result
    }

    fn store(
        &self,
        block: Block,
        encoder: &mut Encoder,
        encoded: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let table = &self.tables[block.table];
        let rows_error = |source| EncodeError::Rows {
            table: table.relation.display_name(),
            source,
        };
        // A column more than COPY can carry would not fit the count in its rows either.
        let columns = u16::try_from(table.columns.len()).unwrap_or(u16::MAX);
        let id = self
            .repo
            .id_key()
            .block_id(block.format, columns, &block.payload);
        let digest: RowDigest = match (block.digest, block.known.get(&id)) {
            (Some(digest), _) => digest,
            (None, Some(&digest)) => digest,
            (None, None) => Digester::new(&table.digest)
                .push_rows(&block.payload)
                .map_err(rows_error)?,
        };
        if !self.writer.contains(&id) {
            let kinds = match block.format {
                Format::Binary | Format::Text => table.kinds.as_slice(),
                Format::Part | Format::Other => &[],
            };
            encoder
                .encode(block.format, kinds, columns, &block.payload, encoded)
                .map_err(rows_error)?;
            self.writer.put(&self.group(block.table), id, encoded)?;
        }
        let reference = BlockRef {
            id,
            format: block.format,
            // A payload is at most two blocks' size.
            payload_len: u32::try_from(block.payload.len()).unwrap_or(u32::MAX),
            digest,
        };
        self.buffers.give(block.payload);
        let complete = self.collector.block(
            self.writer,
            block.table,
            block.segment,
            block.attempt,
            (block.number, reference),
        )?;
        self.close(block.table, complete)?;
        Ok(())
    }

    /// A complete table's own packs are made durable while the next is read.
    fn close(&self, table: usize, complete: bool) -> Result<(), RepoError> {
        match self.group(table) {
            group @ PackGroup::Table(_) if complete => self.writer.close(&group),
            _ => Ok(()),
        }
    }

    fn group(&self, table: usize) -> PackGroup {
        if self.tables[table].bytes < OWN_PACK_BYTES {
            PackGroup::Small
        } else {
            PackGroup::Table(self.tables[table].relation.oid.into())
        }
    }
}
