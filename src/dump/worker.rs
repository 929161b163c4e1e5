//! The reading workers: units taken from a queue, one after the other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::pg::catalog::Name;
use crate::pg::snapshot::{self, SnapshotError};
use crate::progress::Progress;
use crate::repo::model::ManifestShard;
use crate::repo::outline::OutlineTable;
use crate::repo::{Reader, lists};
use crate::rows::{BlockId, RowDigest};

use super::collect::SHARD_SEGMENTS;
use super::holding::Holding;
use super::plan::{Piece, PlannedTable, Unit};
use super::read::{Blocks, Known, Output, ReadError};
use super::sessions::{Session, UnitError};

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No connection for a worker.
    #[error(transparent)]
    Connect(#[from] SnapshotError),
    /// A unit failed for good.
    #[error("could not read {tables}: {source}")]
    Unit {
        /// The tables it was about.
        tables: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The run was stopped.
    #[error("the run was stopped")]
    Stopped,
}

/// What the reading workers share.
pub struct Workers<'a> {
    /// The sessions that have snapshot and locks.
    pub holding: &'a Holding,
    /// The tables of the plan.
    pub tables: &'a [PlannedTable],
    /// Units that nobody has taken.
    pub units: Mutex<VecDeque<Unit>>,
    /// Reads the manifests of the snapshot before.
    pub reader: &'a Reader,
    /// How chunks are called for people.
    pub labels: HashMap<Name, String>,
    /// Who is told which table is read.
    pub progress: &'a dyn Progress,
}

impl Workers<'_> {
    /// Reads units until there are no more, or the run is to end; the worker of that number.
    pub fn run(&self, number: usize, output: &Output<'_>) -> Result<(), WorkerError> {
        let read = each_unit(self.holding, self.tables, &self.units, |session, unit| {
            self.progress.task(number, Some(&self.name(unit)));
            let mut blocks = Blocks::new(output, self.known(unit));
            let mut segments: Vec<Piece> = unit.segments().collect();
            let (holding, tables) = (self.holding, self.tables);
            holding.read(session, tables, &mut segments, &mut blocks)
        });
        self.progress.task(number, None);
        read
    }

    /// What a unit reads, for people.
    fn name(&self, unit: &Unit) -> String {
        let Some(piece) = unit.pieces.first() else {
            return String::new();
        };
        let relation = &self.tables[piece.table].relation;
        let name = match self.labels.get(&relation.key()) {
            Some(label) => label.clone(),
            None => relation.display_name(),
        };
        let mut tables: Vec<usize> = unit.pieces.iter().map(|piece| piece.table).collect();
        tables.dedup();
        match tables.len() - 1 {
            0 => name,
            more => format!("{name} and {more} more"),
        }
    }

    /// The digests that the snapshot before has for the unit's segments.
    fn known(&self, unit: &Unit) -> HashMap<usize, Known> {
        let pieces = unit.pieces.iter();
        pieces
            .filter_map(|piece| {
                let previous = self.tables[piece.table].previous.as_ref()?;
                let digests = digests(self.reader, previous, piece.from, piece.to);
                Some((piece.table, Arc::new(digests)))
            })
            .collect()
    }
}

/// Takes units and has them read, on a session of its own, until there are no more, or the run is to end.
pub fn each_unit(
    holding: &Holding,
    tables: &[PlannedTable],
    units: &Mutex<VecDeque<Unit>>,
    mut read: impl FnMut(&mut Session, &Unit) -> Result<(), UnitError>,
) -> Result<(), WorkerError> {
    let mut session = Session::default();
    let next = || {
        let mut units = units.lock().unwrap_or_else(PoisonError::into_inner);
        units.pop_front()
    };
    while let Some(unit) = next() {
        if holding.stopped() {
            return Err(WorkerError::Stopped);
        }
        read(&mut session, &unit).map_err(|error| explain(tables, &unit, error))?;
    }
    Ok(())
}

/// What the failure of a unit's reading means.
fn explain(tables: &[PlannedTable], unit: &Unit, error: UnitError) -> WorkerError {
    match error {
        UnitError::Stopped | UnitError::Read(ReadError::Stopped) => WorkerError::Stopped,
        UnitError::Connect(error) => error.into(),
        UnitError::Read(source) => {
            let pieces = unit.pieces.iter();
            let names: Vec<String> = pieces
                .map(|piece| tables[piece.table].relation.display_name())
                .collect();
            let tables = snapshot::some_of(&names, 3);
            WorkerError::Unit { tables, source }
        }
    }
}

/// The digests that the manifest of the snapshot before has for some segments. What of it cannot be read is digested
/// again: damage there is no reason to go without tonight's dump.
fn digests(
    reader: &Reader,
    previous: &OutlineTable,
    from: u32,
    to: u32,
) -> HashMap<BlockId, RowDigest> {
    let shards = (from / SHARD_SEGMENTS) as usize..to.div_ceil(SHARD_SEGMENTS) as usize;
    let mut found = HashMap::new();
    for id in previous.manifest.iter().take(shards.end).skip(shards.start) {
        if let Ok(shard) = lists::read_value::<ManifestShard>(reader, id) {
            let segments = shard.segments.iter();
            for segment in segments.filter(|s| (from..to).contains(&s.number)) {
                found.extend(segment.blocks.iter().map(|b| (b.id, b.digest)));
            }
        }
    }
    found
}
