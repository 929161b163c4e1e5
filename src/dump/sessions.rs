//! Reads pieces of tables on sessions beside the holders, each message in one short transaction; what a lock or a cancelled
//! backend stops is read on a holder's connection or tried again.

use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use crate::pg::catalog;
use crate::pg::interrupt::Registration;
use crate::pg::snapshot::{self, SnapshotError};
use crate::pg::{Connection, Error, session_options};

use super::holding::Holding;
use super::pace::Paced;
use super::plan::{Piece, PlannedTable};
use super::read::{self, ReadError, Taker};

/// How often pieces are read again after the server cancelled their reading.
const ATTEMPTS: u32 = 5;

/// A connection for reading, opened when it is first needed.
#[derive(Default)]
pub struct Session(Option<Open>);

struct Open {
    conn: Connection,
    _registration: Registration,
}

/// Why pieces were not read.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The run is to end.
    #[error("the run was stopped")]
    Stopped,
    /// No connection.
    #[error(transparent)]
    Connect(SnapshotError),
    /// The reading failed for good.
    #[error(transparent)]
    Read(ReadError),
}

impl Holding {
    /// Reads pieces and hands their rows on. Those that were read to their end are taken off the list.
    pub fn read<T: Taker>(
        &self,
        session: &mut Session,
        tables: &[PlannedTable],
        pieces: &mut Vec<Piece>,
        taker: &mut T,
    ) -> Result<(), UnitError> {
        let mut attempt = 0;
        let mut id = 0;
        loop {
            attempt += 1;
            let mut current = match session.0.take() {
                Some(current) => current,
                None => self.connect().map_err(UnitError::Connect)?,
            };
            let sql = read::unit_sql(tables, pieces);
            let message = format!(
                "{}; {}; {}; SET LOCAL client_encoding = {}; {}; COMMIT",
                snapshot::begin_with(&self.snapshot_ids[id]),
                sql.lock,
                sql.guard,
                catalog::quote_literal(&self.encoding),
                sql.copies
            );
            let error = match self.run(&mut current.conn, &message, pieces, attempt, taker) {
                Ok(()) => {
                    session.0 = Some(current);
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
                        session.0 = Some(current);
                    }
                    return self.read_at_holder(tables, pieces, attempt, taker);
                }
                // The session that exported this id is gone; the other one's id is as good.
                ReadError::Server(server)
                    if snapshot::is_gone(server) && id + 1 < self.snapshot_ids.len() =>
                {
                    id += 1;
                }
                ReadError::Server(server)
                    if is_retryable(server) && attempt < ATTEMPTS && taker.may_repeat() =>
                {
                    std::thread::sleep(Duration::from_millis(200 * u64::from(attempt)));
                }
                _ => return Err(UnitError::Read(error)),
            }
        }
    }

    fn read_at_holder<T: Taker>(
        &self,
        tables: &[PlannedTable],
        pieces: &mut Vec<Piece>,
        mut attempt: u32,
        taker: &mut T,
    ) -> Result<(), UnitError> {
        let mut last = None;
        // The last one first: the first is the one whose loss would hurt most. But pg_dump may have that one for long.
        let mut order: Vec<&Mutex<Connection>> = self.holders.iter().rev().collect();
        order.sort_by_cached_key(|holder| {
            matches!(holder.try_lock(), Err(TryLockError::WouldBlock))
        });
        for holder in order {
            let mut conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
            let sql = read::unit_sql(tables, pieces);
            // The encoding goes back with the savepoint, as the next statement is in UTF-8 again.
            let message = format!(
                "SAVEPOINT pgtide; {}; SET LOCAL client_encoding = {}; {}; ROLLBACK TO SAVEPOINT pgtide; RELEASE SAVEPOINT pgtide",
                sql.guard,
                catalog::quote_literal(&self.encoding),
                sql.copies
            );
            attempt += 1;
            match self.run(&mut conn, &message, pieces, attempt, taker) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // Where this fails too the holder is lost, and the next unit's error will say so.
                    let _ = conn.execute("ROLLBACK TO SAVEPOINT pgtide");
                    last = Some(error);
                    if !taker.may_repeat() {
                        break;
                    }
                }
            }
        }
        Err(last.map_or(UnitError::Stopped, UnitError::Read))
    }

    fn run<T: Taker>(
        &self,
        conn: &mut Connection,
        message: &str,
        pieces: &mut Vec<Piece>,
        attempt: u32,
        taker: &mut T,
    ) -> Result<(), ReadError> {
        match &self.pace {
            Some(pace) => {
                let mut paced = Paced::new(taker, pace);
                read::run(conn, message, pieces, attempt, &mut paced)
            }
            None => read::run(conn, message, pieces, attempt, taker),
        }
    }

    fn connect(&self) -> Result<Open, SnapshotError> {
        let mut watcher = self.watcher();
        let mut conn = snapshot::connect_same(&self.settings, &session_options(), &mut watcher)?;
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
        Ok(Open {
            conn,
            _registration,
        })
    }
}

/// Whether the server ended the session or its statement for reasons of its own, so that another try may succeed.
pub fn is_retryable(error: &Error) -> bool {
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
