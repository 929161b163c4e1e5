//! The reading workers: units taken from a queue, each in one short transaction; what a lock or a cancelled backend
//! stops is read on a holder's connection or tried again.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use crate::pg::archive::Archive;
use crate::pg::catalog;
use crate::pg::interrupt::{Interrupt, Registration};
use crate::pg::pg_dump::{self, PgDumpKiller};
use crate::pg::snapshot::{self, SnapshotError};
use crate::pg::{Connection, Error, Settings, session_options};
use crate::repo::model::ManifestShard;
use crate::repo::outline::OutlineTable;
use crate::repo::{Reader, lists};
use crate::rows::{BlockId, RowDigest};

use super::collect::SHARD_SEGMENTS;
use super::plan::{PlannedTable, Unit};
use super::read::{self, Known, Output, ReadError};

/// How often a unit is read again after the server cancelled it.
const ATTEMPTS: u32 = 5;

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
pub struct Shared<'a> {
    /// Settings pinned to the one server.
    pub settings: &'a Settings,
    /// The holders' connections, for units whose lock was refused; a session takes one at a time.
    pub holders: &'a [Mutex<Connection>],
    /// Their backends.
    pub holder_pids: &'a [i32],
    /// A session to compare the server's start time with.
    pub watcher: &'a Mutex<Connection>,
    /// Ids of the exported snapshot.
    pub snapshot_ids: &'a [String],
    /// The tables of the plan.
    pub tables: &'a [PlannedTable],
    /// Units that nobody has taken.
    pub units: Mutex<VecDeque<Unit>>,
    /// Reads the manifests of the snapshot before.
    pub reader: &'a Reader,
    /// Set when the run is to end.
    pub stop: &'a AtomicBool,
    /// Whether the user asked to stop.
    pub interrupt: &'a Interrupt,
    /// What the report will name.
    pub notes: &'a Mutex<Vec<String>>,
    /// Ends the running `pg_dump`.
    pub child: Mutex<Option<PgDumpKiller>>,
    /// The database's encoding, in which rows travel.
    pub encoding: &'a str,
}

/// A worker's own connection.
struct Session {
    conn: Connection,
    _registration: Registration,
}

impl Shared<'_> {
    /// Reads units until there are no more, or the run is to end.
    pub fn run(&self, output: &Output<'_>) -> Result<(), WorkerError> {
        let mut session = None;
        while let Some(unit) = self.next_unit() {
            if self.stopped() {
                return Err(WorkerError::Stopped);
            }
            let known = self.known(&unit);
            let mut segments: Vec<(usize, u32)> = unit.segments().collect();
            self.read(&mut session, &mut segments, &known, output)
                .map_err(|error| self.explain(&unit, error))?;
        }
        Ok(())
    }

    fn next_unit(&self) -> Option<Unit> {
        self.units
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// Says which `pg_dump` runs.
    pub fn set_child(&self, killer: PgDumpKiller) {
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(killer);
    }

    /// Ends `pg_dump`, if it runs.
    pub fn kill_child(&self) {
        let child = self
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(child) = child {
            child.kill();
        }
    }

    /// Whether the run is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.interrupt.raised()
    }

    fn read(
        &self,
        session: &mut Option<Session>,
        segments: &mut Vec<(usize, u32)>,
        known: &HashMap<usize, Known>,
        output: &Output<'_>,
    ) -> Result<(), UnitError> {
        let mut attempt = 0;
        let mut id = 0;
        loop {
            attempt += 1;
            let mut current = match session.take() {
                Some(current) => current,
                None => self.connect().map_err(UnitError::Connect)?,
            };
            let sql = read::unit_sql(self.tables, segments);
            let message = format!(
                "{}; {}; {}; SET LOCAL client_encoding = {}; {}; COMMIT",
                snapshot::begin_with(&self.snapshot_ids[id]),
                sql.lock,
                sql.guard,
                catalog::quote_literal(self.encoding),
                sql.copies
            );
            let error = match read::run(
                &mut current.conn,
                &message,
                segments,
                attempt,
                known,
                output,
            ) {
                Ok(()) => {
                    *session = Some(current);
                    return Ok(());
                }
                Err(error) => error,
            };
            if self.stopped() {
                return Err(UnitError::Stopped);
            }
            match &error {
                // lock_not_available: somebody waits for the table, and waiting behind him could last for ever. A
                // holder has the lock already.
                ReadError::Server(server) if server.code() == Some("55P03") => {
                    self.note_waiters();
                    if current.conn.execute("ROLLBACK").is_ok() {
                        *session = Some(current);
                    }
                    return self.read_at_holder(segments, attempt, known, output);
                }
                // The session that exported this id is gone; the other one's id is as good.
                ReadError::Server(server)
                    if snapshot::is_gone(server) && id + 1 < self.snapshot_ids.len() =>
                {
                    id += 1;
                }
                ReadError::Server(server) if retryable(server) && attempt < ATTEMPTS => {
                    std::thread::sleep(Duration::from_millis(200 * u64::from(attempt)));
                }
                _ => return Err(UnitError::Read(error)),
            }
        }
    }

    fn read_at_holder(
        &self,
        segments: &mut Vec<(usize, u32)>,
        mut attempt: u32,
        known: &HashMap<usize, Known>,
        output: &Output<'_>,
    ) -> Result<(), UnitError> {
        let mut last = None;
        // The last one first: the first is the one whose loss would hurt most. But pg_dump may have that one for long.
        let mut order: Vec<&Mutex<Connection>> = self.holders.iter().rev().collect();
        order.sort_by_cached_key(|holder| {
            matches!(holder.try_lock(), Err(TryLockError::WouldBlock))
        });
        for holder in order {
            let mut conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
            let _registration = self.interrupt.register(conn.cancel_token());
            let sql = read::unit_sql(self.tables, segments);
            // The encoding goes back with the savepoint, as the next statement is in UTF-8 again.
            let message = format!(
                "SAVEPOINT pgtide; {}; SET LOCAL client_encoding = {}; {}; ROLLBACK TO SAVEPOINT pgtide; RELEASE SAVEPOINT pgtide",
                sql.guard,
                catalog::quote_literal(self.encoding),
                sql.copies
            );
            attempt += 1;
            match read::run(&mut conn, &message, segments, attempt, known, output) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // Where this fails too the holder is lost, and the next unit's error will say so.
                    let _ = conn.execute("ROLLBACK TO SAVEPOINT pgtide");
                    last = Some(error);
                }
            }
        }
        Err(last.map_or(UnitError::Stopped, UnitError::Read))
    }

    fn connect(&self) -> Result<Session, SnapshotError> {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let mut conn = snapshot::connect_same(self.settings, &session_options(), &mut watcher)?;
        // Only ranges of TIDs go through the planner, perhaps with a condition: they must not become filters over whole
        // tables, nor rows come in the order of an index. What is switched off counts as expensive, and expensive queries
        // would be compiled: the description of each large object anew.
        conn.execute(
            "SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SET jit = off",
        )
            .map_err(|source| SnapshotError::Server {
                context: "could not prepare a reading session".to_owned(),
                source,
            })?;
        let _registration = self.interrupt.register(conn.cancel_token());
        Ok(Session {
            conn,
            _registration,
        })
    }

    /// Writes down who waits for the holders' locks.
    pub fn note_waiters(&self) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(waiters) = snapshot::who_waits(&mut watcher, self.holder_pids) {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            for waiter in waiters {
                if !notes.contains(&waiter) {
                    notes.push(waiter);
                }
            }
        }
    }

    /// Writes down what `pg_dump` said without failing; what it read.
    pub fn heard(&self, (archive, stderr): (Archive, String)) -> Archive {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.extend(pg_dump::remarks(&stderr));
        archive
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

    fn explain(&self, unit: &Unit, error: UnitError) -> WorkerError {
        match error {
            UnitError::Stopped => WorkerError::Stopped,
            UnitError::Connect(error) => error.into(),
            UnitError::Read(ReadError::Stopped) => WorkerError::Stopped,
            UnitError::Read(source) => {
                let pieces = unit.pieces.iter();
                let names: Vec<String> = pieces
                    .map(|piece| self.tables[piece.table].relation.display_name())
                    .collect();
                let tables = snapshot::some_of(&names, 3);
                WorkerError::Unit { tables, source }
            }
        }
    }
}

/// Why one unit failed.
enum UnitError {
    Stopped,
    Connect(SnapshotError),
    Read(ReadError),
}

/// Whether the server ended the session or its statement for reasons of its own, so that another try may succeed.
fn retryable(error: &Error) -> bool {
    match error.code() {
        // serialization_failure (a standby's conflict with recovery), query_canceled, admin_shutdown and its kin,
        // connection exceptions, too_many_connections.
        Some(code) => {
            matches!(
                code,
                "40001" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "53300"
            ) || code.starts_with("08")
        }
        None => error.is_connection_lost(),
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
