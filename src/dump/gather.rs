//! Reads a database: schema, rows and sequences at once, while holders keep the MVCC snapshot and the locks.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::pg::archive::Archive;
use crate::pg::catalog::Name;
use crate::pg::pg_dump::{ChildConnection, SchemaRequest};
use crate::pg::sequences;
use crate::pg::session_options;
use crate::pg::snapshot;
use crate::progress::Progress;
use crate::repo::model::{SequenceValue, TableRecord, TableRole};
use crate::repo::{Reader, Repository, Writer};
use crate::schema::closure;

use super::collect::{self, Collector};
use super::encode;
use super::origin::Origin;
use super::plan::PlannedTable;
use super::read::{Buffers, Output};
use super::select;
use super::worker::{WorkerError, Workers};
use super::{DumpError, server};

/// How often a `pg_dump` that could not get its locks in time is started again.
const PG_DUMP_ATTEMPTS: u32 = 3;

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
        let (mut archive, sequences) = std::thread::scope(|scope| {
            let schema = scope.spawn(|| self.schema().inspect_err(|_| halt()));
            // Each has a receiver of its own, and nobody else has one: should all of them die, no reader waits for ever.
            let encoders: Vec<_> = (0..jobs)
                .map(|_| {
                    let (receiver, store, halt) = (receiver.clone(), &store, &halt);
                    scope.spawn(move || store.run(&receiver, halt))
                })
                .collect();
            drop(receiver);
            let readers: Vec<_> = (0..jobs)
                .map(|_| {
                    let output = Output {
                        tables: &plan.tables,
                        items: sender.clone(),
                        buffers: buffers.clone(),
                    };
                    let (workers, halt) = (&workers, &halt);
                    scope.spawn(move || workers.run(&output).inspect_err(|_| halt()))
                })
                .collect();
            drop(sender);

            let schema = schema
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let sequences = match &schema {
                Ok(archive) => self.sequences(archive).inspect_err(|_| halt()),
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
        let gone = leave_out(&mut archive, &|name| origin.left_out(name));
        origin.choice.compare(&archive, &gone)?;
        select::reduce(
            &mut archive,
            &origin.options.selection,
            &origin.choice.known,
        );

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

    /// Runs `pg_dump` beside the readers.
    fn schema(&self) -> Result<Archive, DumpError> {
        let options = self.origin.options;
        // One encoding for all entries, whatever the database's own; and bytes where it says nothing of them.
        let encoding = match self.origin.facts.encoding.as_str() {
            encoding @ "SQL_ASCII" => encoding,
            _ => "UTF8",
        };
        let mut arguments = vec![format!("--encoding={encoding}")];
        arguments.extend(options.role.iter().map(|role| format!("--role={role}")));
        let program = &self.origin.pg_dump;
        let choice = &self.origin.choice;
        arguments.extend(choice.arguments(&options.selection, program.major()));
        let request = SchemaRequest {
            snapshot: None,
            lock_wait_timeout: Some(options.lock_wait_timeout),
            extra: arguments,
        };
        if program.is_local() {
            self.schema_at_holder(&request)
        } else {
            self.schema_beside(request)
        }
    }

    /// In a holder's session, which has the locks and the MVCC snapshot. It may still meet a lock that no holder has: on
    /// a view, or on a chunk that was made since.
    fn schema_at_holder(&self, request: &SchemaRequest) -> Result<Archive, DumpError> {
        let holding = &self.origin.holding;
        let mut lost = None;
        // The last one first: the first is the one whose loss would hurt most.
        for holder in holding.holders.iter().rev() {
            let mut attempt = 1;
            while !holding.stopped() {
                let result = {
                    let mut conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
                    let started = |killer| holding.set_child(killer);
                    let program = &self.origin.pg_dump;
                    program.schema_within(&mut conn, &holding.settings, request, started)
                };
                match result {
                    Err(error) if error.is_session_lost() => {
                        lost = Some(error);
                        break;
                    }
                    Err(error) if error.is_lock_timeout() && attempt < PG_DUMP_ATTEMPTS => {
                        holding.note_waiters();
                        attempt += 1;
                    }
                    other => return Ok(holding.heard(other?)),
                }
            }
        }
        Err(lost.map_or(WorkerError::Stopped.into(), DumpError::from))
    }

    /// Over a connection of its own: a command that was given may run in a container or on another machine. It waits for
    /// locks itself: an ALTER TABLE that queued between our locks and its own makes it give up in time, and it is
    /// started again.
    fn schema_beside(&self, mut request: SchemaRequest) -> Result<Archive, DumpError> {
        let holding = &self.origin.holding;
        let connection = ChildConnection::new(&holding.settings);
        let mut ids = holding.snapshot_ids.iter();
        request.snapshot = ids.next().cloned();
        let mut attempt = 1;
        loop {
            let running = self.origin.pg_dump.schema(&connection, &request)?;
            holding.set_child(running.killer());
            match running.wait() {
                Err(error) if error.is_lock_timeout() && attempt < PG_DUMP_ATTEMPTS => {
                    holding.note_waiters();
                    attempt += 1;
                }
                Err(error) if error.is_snapshot_gone() => match ids.next() {
                    Some(id) => request.snapshot = Some(id.clone()),
                    None => return Err(error.into()),
                },
                other => return Ok(holding.heard(other?)),
            }
        }
    }

    /// The sequences that the archive defines and those of extensions' configuration, with the values they have now.
    fn sequences(&self, archive: &Archive) -> Result<Vec<SequenceValue>, DumpError> {
        let (origin, holding) = (self.origin, &self.origin.holding);
        let mut conn = {
            let mut watcher = holding.watcher();
            snapshot::connect_same(&holding.settings, &session_options(), &mut watcher)?
        };
        let _registration = holding.interrupt.register(conn.cancel_token());
        let timeout = origin.options.lock_wait_timeout;
        conn.execute(&snapshot::set_lock_timeout(timeout))
            .and_then(|()| snapshot::import(&mut conn, &holding.snapshot_ids))
            .map_err(server("could not import the MVCC snapshot"))?;
        let (selection, choice) = (&origin.options.selection, &origin.choice);
        let defined = archive.entries.iter().filter(|e| e.desc == "SEQUENCE");
        let defined: HashSet<Name> = defined.filter_map(closure::relation).collect();
        let wanted = |name: &Name, extension: Option<&str>| {
            selection.sections.data
                && !origin.left_out(name)
                && !selection.excludes_data(name, &choice.known)
                && match extension {
                    Some(extension) => choice.has_configuration(selection, name, extension),
                    None => defined.contains(name),
                }
        };
        let rows = sequences::sequences(&mut conn, &wanted)
            .map_err(server("could not read the sequences' values"))?;
        Ok(rows
            .into_iter()
            .map(|row| SequenceValue {
                schema: row.schema,
                name: row.name,
                extension: row.extension,
                last_value: row.last_value,
                is_called: row.is_called,
            })
            .collect())
    }
}

/// Takes the definitions of relations out, with all that cannot be without them: the relations that are gone.
fn leave_out(archive: &mut Archive, left_out: &dyn Fn(&Name) -> bool) -> HashSet<Name> {
    let gone = closure::with_dependents(&archive.entries, left_out);
    let relations = gone
        .iter()
        .filter_map(|&n| closure::relation(&archive.entries[n]))
        .collect();
    let mut n = 0..;
    archive
        .entries
        .retain(|_| n.next().is_none_or(|n| !gone.contains(&n)));
    relations
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
