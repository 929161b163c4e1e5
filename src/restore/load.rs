//! Loads a table's rows: blocks fetched, verified and decoded ahead, then sent as one COPY.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pg::catalog::{self, Name};
use crate::pg::{Connection, Error};
use crate::repo::model::{BlockRef, ManifestShard, TableRecord};
use crate::repo::{Reader, RepoError, lists};
use crate::rows::{Decoder, Format};

use super::rows::{Pieces, Take};

/// Blocks that are decoded ahead of the one being sent.
const AHEAD: usize = 1;
/// Below this payload a table is decoded by the thread that sends it.
const INLINE_BYTES: u64 = 1 << 20;
/// Payload that one session takes of a table that many sessions load: at least, so that a COPY is worth its while ...
const LEAST_RUN: u64 = 4 << 20;
/// ... and at most.
const MOST_RUN: u64 = 64 << 20;
/// Runs that every session takes. What all sessions write at a time mixes on the heap: a sixteenth of the table mixed
/// leaves the correlation of a column above 0.99.
const RUNS_EACH: u64 = 16;

/// Why rows could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server said no.
    #[error(transparent)]
    Server(#[from] Error),
    /// The repository could not give the rows.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The server counted other rows than were sent.
    #[error("the server loaded {loaded} rows, the source has {expected}")]
    Count {
        /// Rows that the server counted.
        loaded: u64,
        /// Rows that there are.
        expected: u64,
    },
    /// The source could not give the rows.
    #[error("could not read the rows at the source: {source}")]
    Source {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// Whether another try may succeed.
        again: bool,
    },
}

/// The blocks of a table, in order.
pub fn blocks(reader: &Reader, table: &TableRecord) -> Result<Vec<BlockRef>, RepoError> {
    let mut blocks = Vec::new();
    for id in &table.manifest {
        let shard: ManifestShard = lists::read_value(reader, id)?;
        blocks.extend(shard.segments.into_iter().flat_map(|s| s.blocks));
    }
    Ok(blocks)
}

/// The rows of a small table, all of them.
pub fn whole(reader: &Reader, table: &TableRecord) -> Result<Vec<u8>, RepoError> {
    let mut rows = Vec::new();
    each(reader, &blocks(reader, table)?, &mut |_, payload| {
        rows.extend_from_slice(payload);
        Ok::<_, RepoError>(())
    })?;
    Ok(rows)
}

/// Calls `f` with every line of a table of COPY text, its end included, one block at a time.
pub fn lines<E: From<RepoError>>(
    reader: &Reader,
    table: &TableRecord,
    mut f: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut decoder = Decoder::new();
    let (mut scratch, mut payload) = (Vec::new(), Vec::new());
    // A row that is larger than a block comes in parts.
    let mut begun: Vec<u8> = Vec::new();
    for block in blocks(reader, table)? {
        reader.read(&block.id, &mut decoder, &mut scratch, &mut payload)?;
        for line in payload.split_inclusive(|byte| *byte == b'\n') {
            if line.ends_with(b"\n") && begun.is_empty() {
                f(line)?;
                continue;
            }
            begun.extend_from_slice(line);
            if line.ends_with(b"\n") {
                f(&begun)?;
                begun = Vec::new();
            }
        }
    }
    Ok(())
}

/// The COPY statement that loads a table, or the one named instead.
pub fn copy_sql(table: &TableRecord, root: Option<&Name>, freeze: bool) -> String {
    let (schema, name) = match root {
        Some((schema, name)) => (schema, name),
        None => (&table.schema, &table.name),
    };
    let mut columns: String = table
        .columns
        .iter()
        .map(|c| catalog::quote_ident(&c.name))
        .collect::<Vec<_>>()
        .join(", ");
    if !columns.is_empty() {
        columns = format!(" ({columns})");
    }
    let mut options = Vec::new();
    if table.format == Format::Binary {
        options.push("FORMAT binary");
    }
    if freeze {
        options.push("FREEZE");
    }
    let options = if options.is_empty() {
        String::new()
    } else {
        format!(" WITH ({})", options.join(", "))
    };
    format!(
        "COPY {}{columns} FROM STDIN{options}",
        catalog::qualified(schema, name)
    )
}

/// Whether the server must count as many rows as the snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// It must.
    Exact,
    /// An extension's own triggers may turn rows into something else.
    MayDiffer,
}

/// Sends rows through one COPY. `rows` hands them on and returns how many they were.
pub fn load(
    conn: &mut Connection,
    sql: &str,
    count: Count,
    rows: impl FnOnce(&mut Take<'_>) -> Result<u64, LoadError>,
) -> Result<(), LoadError> {
    let mut copy = conn.copy_in(sql)?;
    let sent = rows(&mut |bytes| copy.write(bytes).map_err(LoadError::from));
    let expected = match sent {
        Ok(expected) => expected,
        Err(LoadError::Server(error)) => return Err(error.into()),
        Err(error) => {
            // The server throws away what it has of this COPY.
            let _ = copy.abort("pgtide could not read the rows");
            return Err(error);
        }
    };
    let loaded = copy.finish()?;
    if loaded == expected || count == Count::MayDiffer {
        Ok(())
    } else {
        Err(LoadError::Count { loaded, expected })
    }
}

/// Takes a block's payload.
pub type TakeBlock<'t, E> = dyn FnMut(&BlockRef, &[u8]) -> Result<(), E> + 't;

/// Hands on the payloads of blocks, in order. Every block's id is computed again from its payload; large ones are read
/// and decoded ahead.
pub fn each<E: From<RepoError>>(
    reader: &Reader,
    blocks: &[BlockRef],
    take: &mut TakeBlock<'_, E>,
) -> Result<(), E> {
    let payload: u64 = blocks.iter().map(|b| u64::from(b.payload_len)).sum();
    if payload <= INLINE_BYTES {
        each_inline(reader, blocks, take)
    } else {
        each_ahead(reader, blocks, take)
    }
}

fn each_inline<E: From<RepoError>>(
    reader: &Reader,
    blocks: &[BlockRef],
    take: &mut TakeBlock<'_, E>,
) -> Result<(), E> {
    let mut decoder = Decoder::new();
    let (mut scratch, mut payload) = (Vec::new(), Vec::new());
    for block in blocks {
        reader.read(&block.id, &mut decoder, &mut scratch, &mut payload)?;
        take(block, &payload)?;
    }
    Ok(())
}

fn each_ahead<E: From<RepoError>>(
    reader: &Reader,
    blocks: &[BlockRef],
    take: &mut TakeBlock<'_, E>,
) -> Result<(), E> {
    std::thread::scope(|scope| {
        let (full, decoded) = crossbeam_channel::bounded::<Result<Vec<u8>, RepoError>>(AHEAD);
        let (back, empty) = crossbeam_channel::bounded::<Vec<u8>>(AHEAD + 2);
        scope.spawn(move || {
            let mut decoder = Decoder::new();
            let mut scratch = Vec::new();
            for block in blocks {
                let mut payload = empty.try_recv().unwrap_or_default();
                let read = reader
                    .read(&block.id, &mut decoder, &mut scratch, &mut payload)
                    .map(|_| payload);
                let failed = read.is_err();
                // The taker is gone when it failed.
                if full.send(read).is_err() || failed {
                    return;
                }
            }
        });
        for (block, payload) in blocks.iter().zip(decoded) {
            let payload = payload?;
            take(block, &payload)?;
            let _ = back.try_send(payload);
        }
        Ok(())
    })
}

/// A table that many sessions load: its pieces handed out in ascending runs, so that the heap stays nearly in the
/// order of the source.
#[derive(Debug)]
pub struct SharedLoad {
    /// The pieces.
    pub pieces: Pieces,
    next: AtomicUsize,
    runs: Vec<Range<usize>>,
}

impl SharedLoad {
    /// Cuts those pieces that are to be loaded into runs for this many sessions.
    pub fn new(pieces: Pieces, wanted: &[Range<usize>], sessions: usize) -> Self {
        let size = pieces.total() / (RUNS_EACH * sessions.max(1) as u64);
        let size = size.clamp(LEAST_RUN, MOST_RUN);
        let wanted = wanted.iter();
        let runs = wanted.flat_map(|range| pieces.runs(range.clone(), size));
        let runs = runs.collect();
        Self {
            pieces,
            next: AtomicUsize::new(0),
            runs,
        }
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// The next run that nobody has taken.
    pub fn next_run(&self) -> Option<Range<usize>> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.runs.get(n).cloned()
    }
}
