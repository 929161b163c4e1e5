//! Reads a database: schema, rows and sequences at once, while holders keep the MVCC snapshot and the locks.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::pg::archive::Archive;
use crate::pg::catalog::{DatabaseFacts, Name};
use crate::pg::interrupt::Interrupt;
use crate::pg::pg_dump::{ChildConnection, PgDump, SchemaRequest};
use crate::pg::sequences;
use crate::pg::snapshot::{self, Held};
use crate::pg::{Connection, Settings, session_options};
use crate::progress::Progress;
use crate::repo::model::{SequenceValue, TableRecord, TableRole};
use crate::repo::{Reader, Repository, Writer};
use crate::schema::closure;

use super::collect::{self, Collector};
use super::encode;
use super::plan::{Plan, PlannedTable};
use super::read::{Buffers, Output};
use super::select::{self, Choice};
use super::worker::{Shared, WorkerError};
use super::{DumpError, DumpOptions, server};

/// How often a `pg_dump` that could not get its locks in time is started again.
const PG_DUMP_ATTEMPTS: u32 = 3;
/// How often the dump looks who waits for its locks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often an idle holder is spoken to, so that nothing between it and us drops the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

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
    /// What was left out.
    pub skipped: Vec<String>,
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
    /// What was asked for.
    pub options: &'a DumpOptions,
    /// Settings pinned to the one server.
    pub settings: &'a Settings,
    /// Reads the snapshot before.
    pub reader: &'a Reader,
    /// Whether the user asked to stop.
    pub interrupt: &'a Interrupt,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// The program that gives the schema.
    pub pg_dump: &'a PgDump,
    /// Whether a relation's definition is left out, with all that cannot be without it.
    pub left_out: &'a (dyn Fn(&Name) -> bool + Sync),
    /// What was chosen.
    pub choice: &'a Choice,
    /// Sessions that read, and threads that encode.
    pub jobs: usize,
}

impl Run<'_> {
    /// Reads schema, rows and sequences, all at once.
    pub fn read(
        &self,
        held: Held,
        watcher: Connection,
        plan: Plan,
        facts: &DatabaseFacts,
    ) -> Result<Read, DumpError> {
        let Held {
            first,
            second,
            snapshot_ids,
            notes,
            ..
        } = held;
        let mut registrations = vec![self.interrupt.register(first.cancel_token())];
        registrations.extend(
            second
                .as_ref()
                .map(|second| self.interrupt.register(second.cancel_token())),
        );
        let holders: Vec<Mutex<Connection>> = std::iter::once(first)
            .chain(second)
            .map(Mutex::new)
            .collect();
        let holder_pids: Vec<i32> = holders
            .iter()
            .map(|holder| {
                let conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
                conn.backend_pid()
            })
            .collect();
        let watcher = Mutex::new(watcher);
        let notes = Mutex::new(notes);
        let stop = AtomicBool::new(false);
        let finished = AtomicBool::new(false);
        let collector = Collector::new(plan.tables.iter().map(|t| t.segments));
        let jobs = self.jobs;
        let (sender, receiver) = crossbeam_channel::bounded(jobs);
        let buffers = Buffers::new(jobs * 3);
        let shared = Shared {
            settings: self.settings,
            holders: &holders,
            holder_pids: &holder_pids,
            watcher: &watcher,
            snapshot_ids: &snapshot_ids,
            tables: &plan.tables,
            units: Mutex::new(VecDeque::from(plan.units)),
            reader: self.reader,
            stop: &stop,
            interrupt: self.interrupt,
            notes: &notes,
            child: Mutex::new(None),
            encoding: &facts.encoding,
        };
        let store = encode::Store {
            repo: self.repo,
            writer: self.writer,
            tables: &plan.tables,
            collector: &collector,
            buffers: buffers.clone(),
            progress: self.progress,
            effort: self.options.effort,
        };

        let halt = || stop.store(true, Ordering::SeqCst);
        let (mut archive, sequences) = std::thread::scope(|scope| {
            let schema = scope.spawn(|| {
                self.schema(&snapshot_ids, &facts.encoding, &shared)
                    .inspect_err(|_| halt())
            });
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
                    let shared = &shared;
                    scope.spawn(move || shared.run(&output).inspect_err(|_| halt()))
                })
                .collect();
            drop(sender);
            let finish = Finish(&finished);
            scope.spawn(|| watch(&shared, &finished));

            let schema = schema
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let sequences = match &schema {
                Ok(archive) => self
                    .sequences(archive, &snapshot_ids, &shared)
                    .inspect_err(|_| halt()),
                Err(_) => Ok(Vec::new()),
            };
            let read = join_all(readers);
            let encoded = join_all(encoders);
            shared.note_waiters();
            drop(finish);
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
        for holder in &holders {
            let mut holder = holder.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing is lost if this fails: everything was read.
            let _ = holder.execute("COMMIT");
        }
        drop(registrations);
        let gone = leave_out(&mut archive, self.left_out);
        self.choice.compare(&archive, &gone)?;
        select::reduce(&mut archive, &self.options.selection, &self.choice.known);

        let mut without_rows = plan.without_rows;
        without_rows.retain(|name| !gone.contains(name));
        let mut warnings = plan.skipped.clone();
        warnings.append(&mut notes.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut blocks = 0;
        let mut tables = Vec::with_capacity(plan.tables.len());
        let mut large_objects = 0;
        for (n, table) in plan.tables.into_iter().enumerate() {
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
            skipped: plan.skipped,
            without_rows,
            warnings,
        })
    }

    /// Runs `pg_dump` beside the readers.
    fn schema(
        &self,
        snapshot_ids: &[String],
        encoding: &str,
        shared: &Shared<'_>,
    ) -> Result<Archive, DumpError> {
        // One encoding for all entries, whatever the database's own; and bytes where it says nothing of them.
        let encoding = match encoding {
            "SQL_ASCII" => encoding,
            _ => "UTF8",
        };
        let mut arguments = vec![format!("--encoding={encoding}")];
        arguments.extend(
            self.options
                .role
                .iter()
                .map(|role| format!("--role={role}")),
        );
        let selection = &self.options.selection;
        arguments.extend(self.choice.arguments(selection, self.pg_dump.major()));
        let request = SchemaRequest {
            snapshot: None,
            lock_wait_timeout: Some(self.options.lock_wait_timeout),
            extra: arguments,
        };
        if self.pg_dump.is_local() {
            self.schema_at_holder(&request, shared)
        } else {
            self.schema_beside(request, snapshot_ids, shared)
        }
    }

    /// In a holder's session, which has the locks and the MVCC snapshot. It may still meet a lock that no holder has: on
    /// a view, or on a chunk that was made since.
    fn schema_at_holder(
        &self,
        request: &SchemaRequest,
        shared: &Shared<'_>,
    ) -> Result<Archive, DumpError> {
        let mut lost = None;
        // The last one first: the first is the one whose loss would hurt most.
        for holder in shared.holders.iter().rev() {
            let mut attempt = 1;
            while !shared.stopped() {
                let result = {
                    let mut conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
                    let started = |killer| shared.set_child(killer);
                    self.pg_dump
                        .schema_within(&mut conn, self.settings, request, started)
                };
                match result {
                    Err(error) if error.is_session_lost() => {
                        lost = Some(error);
                        break;
                    }
                    Err(error) if error.is_lock_timeout() && attempt < PG_DUMP_ATTEMPTS => {
                        shared.note_waiters();
                        attempt += 1;
                    }
                    other => return Ok(shared.heard(other?)),
                }
            }
        }
        Err(lost.map_or(WorkerError::Stopped.into(), DumpError::from))
    }

    /// Over a connection of its own: a command that was given may run in a container or on another machine. It waits for
    /// locks itself: an ALTER TABLE that queued between our locks and its own makes it give up in time, and it is
    /// started again.
    fn schema_beside(
        &self,
        mut request: SchemaRequest,
        snapshot_ids: &[String],
        shared: &Shared<'_>,
    ) -> Result<Archive, DumpError> {
        let connection = ChildConnection::new(self.settings);
        let mut ids = snapshot_ids.iter();
        request.snapshot = ids.next().cloned();
        let mut attempt = 1;
        loop {
            let running = self.pg_dump.schema(&connection, &request)?;
            shared.set_child(running.killer());
            match running.wait() {
                Err(error) if error.is_lock_timeout() && attempt < PG_DUMP_ATTEMPTS => {
                    shared.note_waiters();
                    attempt += 1;
                }
                Err(error) if error.is_snapshot_gone() => match ids.next() {
                    Some(id) => request.snapshot = Some(id.clone()),
                    None => return Err(error.into()),
                },
                other => return Ok(shared.heard(other?)),
            }
        }
    }

    /// The sequences that the archive defines and those of extensions' configuration, with the values they have now.
    fn sequences(
        &self,
        archive: &Archive,
        snapshot_ids: &[String],
        shared: &Shared<'_>,
    ) -> Result<Vec<SequenceValue>, DumpError> {
        let mut conn = {
            let mut watcher = shared
                .watcher
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            snapshot::connect_same(self.settings, &session_options(), &mut watcher)?
        };
        let _registration = self.interrupt.register(conn.cancel_token());
        conn.execute(&snapshot::set_lock_timeout(self.options.lock_wait_timeout))
            .and_then(|()| snapshot::import(&mut conn, snapshot_ids))
            .map_err(server("could not import the MVCC snapshot"))?;
        let selection = &self.options.selection;
        let defined = archive.entries.iter().filter(|e| e.desc == "SEQUENCE");
        let defined: HashSet<Name> = defined.filter_map(closure::relation).collect();
        let wanted = |name: &Name, extension: Option<&str>| {
            selection.sections.data
                && !(self.left_out)(name)
                && !selection.excludes_data(name, &self.choice.known)
                && match extension {
                    Some(extension) => self.choice.has_configuration(selection, name, extension),
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

/// Says that the dump has finished, however it does.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Looks who waits for the dump's locks, and keeps idle holders' connections alive, until the dump has finished.
fn watch(shared: &Shared<'_>, finished: &AtomicBool) {
    let mut spoken = Instant::now();
    let mut looked = Instant::now();
    while !finished.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
        if shared.stopped() {
            shared.kill_child();
        }
        if looked.elapsed() >= WATCH_INTERVAL {
            looked = Instant::now();
            shared.note_waiters();
        }
        if spoken.elapsed() >= KEEPALIVE_INTERVAL {
            spoken = Instant::now();
            for holder in shared.holders {
                if let Ok(mut conn) = holder.try_lock() {
                    // A holder that is gone is noticed where it is needed.
                    let _ = conn.execute("SELECT 1");
                }
            }
        }
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

fn record(table: PlannedTable, result: collect::TableResult) -> TableRecord {
    TableRecord {
        schema: table.relation.schema,
        name: table.relation.name,
        role: table.role,
        columns: table.columns,
        format: table.format,
        load_through: table.load_through,
        segment_pages: table.segment_pages,
        source_bytes: table.bytes,
        payload_bytes: result.payload_bytes,
        digest: result.digest,
        manifest: result.manifest,
    }
}
