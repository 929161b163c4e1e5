//! Reads a database: schema, rows and sequences at once, while holders keep the MVCC snapshot and the locks.

use std::sync::Mutex;

use crate::pg::archive::Archive;
use crate::pg::catalog::Name;
use crate::progress::Progress;
use crate::repo::model::{SequenceValue, TableRecord, TableRole};
use crate::repo::{Reader, Repository, Writer};

use super::DumpError;
use super::collect::{self, Collector};
use super::encode;
use super::origin::Origin;
use super::plan::PlannedTable;
use super::read::{Buffers, Output};
use super::worker::{WorkerError, Workers};

/// What the reading of a database gave.
pub struct Read {
    /// The schema.
    pub archive: Archive,
    /// The tables, in order of name.
    pub tables: Vec<TableRecord>,
    /// The sequences, in order of name.
    pub sequences: Vec<SequenceValue>,
    /// Number of blocks that the tables refer to.
    pub blocks: u64,
    /// Number of large objects.
    pub large_objects: u64,
    /// Tables of which only the rows were left out.
    pub without_rows: Vec<Name>,
    /// What the user should know, what was left out first.
    pub warnings: Vec<String>,
}

/// What the parts of a run share.
pub struct Run<'a> {
    /// The repository.
    pub repo: &'a Repository,
    /// Its writer.
    pub writer: &'a Writer,
    /// What is read.
    pub origin: &'a Origin<'a>,
    /// Reads the snapshot before.
    pub reader: &'a Reader,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Which rows are read.
    pub here: &'a Here<'a>,
}

/// Which rows a run reads.
pub struct Here<'a> {
    /// Whether those of a table are. Others' are as good as empty.
    pub reads: &'a (dyn Fn(&PlannedTable) -> bool + Sync),
    /// Called when everything was read, though not all of it is stored yet.
    pub then: &'a (dyn Fn() + Sync),
}

impl Run<'_> {
    /// Reads schema, rows and sequences, all at once.
    pub fn read(&self) -> Result<Read, DumpError> {
        let (origin, plan) = (self.origin, &self.origin.plan);
        let holding = &origin.holding;
        let here: Vec<bool> = plan.tables.iter().map(self.here.reads).collect();
        let tables = plan.tables.iter().zip(&here);
        let collector = Collector::new(tables.map(|(t, here)| if *here { t.segments } else { 0 }));
        let jobs = origin.jobs;
        let (sender, receiver) = crossbeam_channel::bounded(jobs);
        let buffers = Buffers::new(jobs * 3);
        let workers = Workers {
            holding,
            tables: &plan.tables,
            units: Mutex::new(plan.units_of(&here)),
            reader: self.reader,
            labels: origin.special.model.labels(),
            progress: self.progress,
        };
        let store = encode::Store {
            repo: self.repo,
            writer: self.writer,
            tables: &plan.tables,
            collector: &collector,
            buffers: buffers.clone(),
            progress: self.progress,
            effort: origin.options.effort,
        };

        let halt = || holding.halt();
        let (mut archive, mut sequences) = std::thread::scope(|scope| {
            let schema = scope.spawn(|| origin.schema().inspect_err(|_| halt()));
            // Each has a receiver of its own, and nobody else has one: should all of them die, no reader waits for ever.
            let encoders: Vec<_> = (0..jobs)
                .map(|_| {
                    let (receiver, store, halt) = (receiver.clone(), &store, &halt);
                    scope.spawn(move || store.run(&receiver, halt))
                })
                .collect();
            drop(receiver);
            let readers: Vec<_> = (0..jobs)
                .map(|number| {
                    let output = Output {
                        tables: &plan.tables,
                        items: sender.clone(),
                        buffers: buffers.clone(),
                    };
                    let (workers, halt) = (&workers, &halt);
                    scope.spawn(move || workers.run(number, &output).inspect_err(|_| halt()))
                })
                .collect();
            drop(sender);

            let schema = schema
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let sequences = match &schema {
                Ok(archive) => origin.sequences(archive).inspect_err(|_| halt()),
                Err(_) => Ok(Vec::new()),
            };
            let read = join_all(readers);
            holding.note_waiters();
            if read.is_ok() && schema.is_ok() && sequences.is_ok() {
                (self.here.then)();
            }
            let encoded = join_all(encoders);
            // The cause first: a reader that was stopped says only that.
            encoded?;
            match read {
                Err(WorkerError::Stopped) => {
                    // Nothing ends the reading of sequences but its own error; pg_dump is ended with everything else.
                    sequences?;
                    schema?;
                    return Err(WorkerError::Stopped.into());
                }
                other => other?,
            }
            Ok::<_, DumpError>((schema?, sequences?))
        })?;
        let gone = origin.keep_chosen(&mut archive)?;
        // That of a serial column goes with its table.
        sequences.retain(|sequence| !gone.contains(&sequence.key()));

        let mut without_rows = plan.without_rows.clone();
        without_rows.retain(|name| !gone.contains(name));
        let mut warnings = plan.skipped.clone();
        warnings.append(&mut holding.take_notes());
        let mut blocks = 0;
        let mut tables = Vec::with_capacity(plan.tables.len());
        let mut large_objects = 0;
        for (n, table) in plan.tables.iter().enumerate() {
            let result = collector.finish(n).map_err(|shard| DumpError::Incomplete {
                table: table.relation.display_name(),
                segment: shard * collect::SHARD_SEGMENTS,
            })?;
            if gone.contains(&table.relation.key()) {
                // A partition or a child of what is left out.
                continue;
            }
            blocks += result.blocks;
            if table.role == TableRole::LargeObjectMetadata {
                large_objects = result.digest.rows;
            }
            tables.push(record(table, result));
        }
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(Read {
            archive,
            tables,
            sequences,
            blocks,
            large_objects,
            without_rows,
            warnings,
        })
    }
}

fn join_all<E>(threads: Vec<std::thread::ScopedJoinHandle<'_, Result<(), E>>>) -> Result<(), E> {
    let mut result = Ok(());
    for thread in threads {
        let joined = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if result.is_ok() {
            result = joined;
        }
    }
    result
}

fn record(table: &PlannedTable, result: collect::TableResult) -> TableRecord {
    TableRecord {
        schema: table.relation.schema.clone(),
        name: table.relation.name.clone(),
        role: table.role.clone(),
        columns: table.columns.clone(),
        format: table.format,
        load_through: table.load_through.clone(),
        segment_pages: table.segment_pages,
        source_bytes: table.bytes,
        payload_bytes: result.payload_bytes,
        digest: result.digest,
        manifest: result.manifest,
    }
}
