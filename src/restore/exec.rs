//! Does tasks on one session: several cheap ones in one transaction, and each alone where that fails.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use crate::pg::archive::SqlText;
use crate::pg::{BatchError, Connection, Error, Together, TransactionStatus};
use crate::repo::RepoError;
use crate::repo::model::{TableRecord, TableRole};
use crate::rows::Format;
use crate::schema::statements::Renderer;

use super::journal::{self};
use super::load::{self, Count, LoadError, SharedLoad};
use super::rows::{Pieces, RowSession, Rows};
use super::triggers::Triggers;
use super::work::{Failure, Halt, Shared, Work, shorten};
use super::{large_objects, statistics};

/// Above this payload a table is emptied and loaded in one transaction with FREEZE; below it, the new files that
/// TRUNCATE makes cost more than frozen rows save.
const FREEZE_BYTES: u64 = 1 << 20;

/// Tables up to this payload travel together.
const TOGETHER_BYTES: u64 = 32 << 10;

/// How often work is done again because the source broke off.
const ATTEMPTS: u32 = 5;

/// SQLSTATE object_not_in_prerequisite_state.
const NOT_IN_PREREQUISITE_STATE: &str = "55000";

/// Cheap work on its way.
#[derive(Default)]
struct Pending {
    together: Together,
    /// The tables whose rows are in it, in their order, and how many rows these are.
    loads: Vec<(usize, u64)>,
    /// The rows of the batch's small tables.
    small: HashMap<usize, Rows>,
}

/// One session of a restore.
pub struct Session<'a> {
    conn: Connection,
    renderer: Renderer,
    rows: Box<dyn RowSession + 'a>,
    shared: &'a Shared<'a>,
}

/// Why a piece of work failed: the statement, and the error.
pub struct Failed {
    /// The object, where it is not what the work is called by.
    object: Option<String>,
    statement: String,
    error: String,
    /// Whether the session is lost, so that nothing more can be done on it.
    lost: bool,
    /// Whether an object was not in the state that is needed, as a view that is still empty.
    early: bool,
    /// Whether another try may succeed, as the source broke off.
    again: bool,
}

impl From<RepoError> for Failed {
    fn from(error: RepoError) -> Self {
        Self::load("", &LoadError::Repo(error))
    }
}

impl Failed {
    /// The server refused a statement.
    pub fn server(statement: &[u8], error: &Error) -> Self {
        Self {
            object: None,
            statement: shorten(statement),
            error: error.to_string(),
            lost: error.is_connection_lost(),
            early: error.code() == Some(NOT_IN_PREREQUISITE_STATE),
            again: false,
        }
    }

    /// Rows could not be loaded by a statement.
    pub fn load(statement: &str, error: &LoadError) -> Self {
        match error {
            LoadError::Server(error) => Self::server(statement.as_bytes(), error),
            other => Self {
                object: None,
                statement: shorten(statement.as_bytes()),
                error: other.to_string(),
                lost: false,
                early: false,
                again: matches!(other, LoadError::Source { again: true, .. }),
            },
        }
    }

    /// Whether the session is lost, so that nothing more can be done on it.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The same, as the failure of one object among others.
    pub fn of(self, object: String) -> Self {
        Self {
            object: Some(object),
            ..self
        }
    }

    /// What is told of it, as the failure of some work.
    pub fn failure(self, work: impl FnOnce() -> String) -> Failure {
        Failure {
            object: self.object.unwrap_or_else(work),
            statement: self.statement,
            error: self.error,
        }
    }
}

impl<'a> Session<'a> {
    /// A session on an open connection.
    pub fn new(conn: Connection, shared: &'a Shared<'a>) -> Self {
        let role = shared.role.or(conn.parameter("session_authorization"));
        Self {
            renderer: Renderer::of_role(shared.render, role),
            rows: shared.rows.session(),
            conn,
            shared,
        }
    }

    /// The connection.
    pub fn conn(&mut self) -> &mut Connection {
        &mut self.conn
    }

    /// Does all work in one transaction; if that fails, each in one of its own, so that the failure is known and
    /// the rest is done. Returns whether to go on.
    pub fn run(&mut self, batch: &[&Work]) -> bool {
        let go_on = self.run_all(batch);
        for notice in self.conn.take_notices() {
            self.shared.progress.note(&notice.to_string());
        }
        go_on
    }

    fn run_all(&mut self, batch: &[&Work]) -> bool {
        let left = batch.iter().copied();
        let batch: Vec<&Work> = left.filter(|work| !self.shared.is_done(work)).collect();
        if batch.len() > 1 {
            match self.together(&batch) {
                Ok(()) => return true,
                Err(failed) if failed.lost => {
                    return self.report(batch[0], failed);
                }
                Err(_) => {}
            }
        }
        for work in batch {
            if let Err(failed) = self.transaction(work) {
                let lost = failed.lost;
                if !self.report(work, failed) || lost {
                    return false;
                }
            }
        }
        true
    }

    /// Restores an entry; not where it comes too early for the state of another object, which is not noted.
    pub fn run_unless_early(&mut self, entry: usize) -> Result<bool, Halt> {
        let work = Work::Entry(entry);
        if self.shared.is_done(&work) {
            return Ok(true);
        }
        match self.transaction(&work) {
            Ok(()) => Ok(true),
            Err(failed) if failed.early => Ok(false),
            Err(failed) => {
                let lost = failed.lost;
                if self.report(&work, failed) && !lost {
                    Ok(true)
                } else {
                    Err(Halt)
                }
            }
        }
    }

    fn report(&self, work: &Work, failed: Failed) -> bool {
        self.shared
            .failed(failed.failure(|| self.shared.name(work)))
    }

    /// Does cheap work in one transaction, in as few messages as possible. Which part of it failed, if one does, is not
    /// known.
    fn together(&mut self, batch: &[&Work]) -> Result<(), Failed> {
        let mut pending = Pending {
            small: self.small(batch)?,
            ..Pending::default()
        };
        pending.together.statement(b"BEGIN");
        let result = batch
            .iter()
            .try_for_each(|work| self.add(work, &mut pending))
            .and_then(|()| {
                if !pending.loads.is_empty() {
                    // What the server counted is looked at first.
                    self.send(&mut pending)?;
                }
                if let Some(note) = self.shared.note(batch) {
                    pending.together.statement(note.as_bytes());
                }
                pending.together.statement(b"COMMIT");
                self.send(&mut pending)
            });
        if result.is_err() {
            self.roll_back();
        }
        result
    }

    fn add(&mut self, work: &Work, pending: &mut Pending) -> Result<(), Failed> {
        match work {
            Work::Entry(_) | Work::Index(_) => {
                for statement in self.entry_statements(work) {
                    pending.together.statement(statement.as_bytes());
                }
            }
            Work::Statements(_, statements) => {
                for statement in statements {
                    pending.together.statement(statement.as_bytes());
                }
            }
            Work::Load(n) => {
                if !self.add_load(*n, pending)? {
                    self.send(pending)?;
                    self.load(*n)?;
                }
            }
            Work::LoadShared(..)
            | Work::LargeObjects(_)
            | Work::LargeObjectPages(..)
            | Work::Statistics(_)
            | Work::Release => {
                self.send(pending)?;
                self.work(work)?;
            }
        }
        if pending.together.is_full() {
            self.send(pending)?;
        }
        Ok(())
    }

    /// Reads the rows of small tables. Rows in another encoding need a session in that encoding.
    fn small(&mut self, batch: &[&Work]) -> Result<HashMap<usize, Rows>, Failed> {
        if self.shared.encoding.is_some() {
            return Ok(HashMap::new());
        }
        let is_small = |n: &usize| {
            let record = &self.shared.tables[*n];
            record.payload_bytes <= TOGETHER_BYTES && !self.disables_triggers(record)
        };
        let loads = batch.iter().filter_map(|work| match work {
            Work::Load(n) => Some(*n),
            _ => None,
        });
        let tables: Vec<usize> = loads.filter(is_small).collect();
        let rows = self
            .rows
            .whole(&tables)
            .map_err(|error| Failed::load("", &error))?;
        Ok(tables.into_iter().zip(rows).collect())
    }

    /// Adds the rows of a small table, if they fit.
    fn add_load(&mut self, table: usize, pending: &mut Pending) -> Result<bool, Failed> {
        let Some(rows) = pending.small.remove(&table) else {
            return Ok(false);
        };
        let record = &self.shared.tables[table];
        let sql = self.copy_sql(record, false);
        let binary = record.format == Format::Binary;
        if !pending.together.copy(&sql, binary, &rows.bytes) {
            self.send(pending)?;
            if !pending.together.copy(&sql, binary, &rows.bytes) {
                return Ok(false);
            }
        }
        pending.loads.push((table, rows.count));
        Ok(true)
    }

    /// Sends what is pending. The server must have counted as many rows of each table as the snapshot has.
    fn send(&mut self, pending: &mut Pending) -> Result<(), Failed> {
        let copied = self
            .conn
            .run_together(&mut pending.together)
            .map_err(|error| Failed::server(b"", &error))?;
        let loads = std::mem::take(&mut pending.loads);
        for (n, (table, expected)) in loads.into_iter().enumerate() {
            let record = &self.shared.tables[table];
            let loaded = copied.get(n).copied().unwrap_or(0);
            if loaded != expected && count(record) == Count::Exact {
                let error = LoadError::Count { loaded, expected };
                return Err(Failed::load(&self.copy_sql(record, false), &error));
            }
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        self.renderer.forget();
        // A message that the server could not even read began nothing.
        if self.conn.transaction_status() == TransactionStatus::Idle {
            return;
        }
        // A session that cannot even roll back is lost, and the next statement will say so.
        let _ = self.conn.execute("ROLLBACK");
    }

    /// Does one piece of work in a transaction of its own.
    fn transaction(&mut self, work: &Work) -> Result<(), Failed> {
        if work.commits() {
            return self.work(work);
        }
        let note = self.shared.note(&[work]);
        self.in_transaction(note, |session| session.work(work))
    }

    /// Does something in a transaction, and notes it. Where the source breaks off, it is done again.
    fn in_transaction(
        &mut self,
        note: Option<String>,
        mut work: impl FnMut(&mut Self) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let mut attempt = 1;
        loop {
            let result = self
                .execute("BEGIN")
                .and_then(|()| work(self))
                .and_then(|()| note.iter().try_for_each(|note| self.execute(note)))
                .and_then(|()| self.execute("COMMIT"));
            let Err(failed) = result else {
                return Ok(());
            };
            self.roll_back();
            if !failed.again || attempt >= ATTEMPTS {
                return Err(failed);
            }
            std::thread::sleep(Duration::from_millis(200 * u64::from(attempt)));
            attempt += 1;
        }
    }

    fn execute(&mut self, statement: &str) -> Result<(), Failed> {
        let result = self.conn.execute(statement);
        result.map_err(|error| Failed::server(statement.as_bytes(), &error))
    }

    fn work(&mut self, work: &Work) -> Result<(), Failed> {
        match work {
            Work::Entry(_) | Work::Index(_) => {
                let statements = self.entry_statements(work);
                self.statements(&statements)
            }
            Work::Statements(_, statements) => self.statements(statements),
            Work::Load(n) => self.load(*n),
            Work::LoadShared(n, runs) => self.load_shared(*n, runs),
            Work::LargeObjects(part) => large_objects::create(&mut self.conn, self.shared, part),
            Work::LargeObjectPages(n, runs) => self.large_object_pages(*n, runs),
            Work::Statistics(part) => statistics::restore(&mut self.conn, self.shared, part),
            Work::Release => {
                self.shared.rows.release();
                Ok(())
            }
        }
    }

    fn entry_statements(&mut self, work: &Work) -> Vec<SqlText> {
        match work {
            Work::Entry(n) => self.renderer.statements(&self.shared.entries[*n]),
            Work::Index(entry) => self.renderer.statements(entry),
            _ => Vec::new(),
        }
    }

    fn statements(&mut self, statements: &[SqlText]) -> Result<(), Failed> {
        self.conn
            .batch(statements.iter().map(SqlText::as_bytes))
            .map_err(|BatchError { index, source }| {
                let statement = statements.get(index).map_or(&b""[..], SqlText::as_bytes);
                Failed::server(statement, &source)
            })
    }

    fn load(&mut self, table: usize) -> Result<(), Failed> {
        let record = &self.shared.tables[table];
        let pieces = (self.shared.rows.pieces(table)).map_err(|error| Failed::load("", &error))?;
        let all = 0..pieces.len();
        let freeze = record.payload_bytes >= FREEZE_BYTES
            && (self.shared.root)(record).is_none()
            && (self.shared.created)(record);
        if freeze {
            let name = crate::pg::catalog::qualified(&record.schema, &record.name);
            let truncate = format!("TRUNCATE TABLE ONLY {name}");
            self.conn
                .execute(&truncate)
                .map_err(|error| Failed::server(truncate.as_bytes(), &error))?;
        }
        let sql = self.copy_sql(record, freeze);
        if !self.disables_triggers(record) {
            return self.copy(&sql, table, &pieces, all);
        }
        let failed = |error: Error| Failed::server(b"ALTER TABLE ... DISABLE TRIGGER ALL", &error);
        let root = (self.shared.root)(record).cloned();
        let filled = root.unwrap_or_else(|| record.key());
        let triggers = Triggers::disable(&mut self.conn, &filled).map_err(failed)?;
        self.copy(&sql, table, &pieces, all)?;
        triggers.enable(&mut self.conn).map_err(failed)
    }

    fn copy_sql(&self, table: &TableRecord, freeze: bool) -> String {
        load::copy_sql(table, (self.shared.root)(table), freeze)
    }

    fn disables_triggers(&self, table: &TableRecord) -> bool {
        self.shared.disable_triggers && !(self.shared.created)(table)
    }

    fn load_shared(&mut self, table: usize, runs: &SharedLoad) -> Result<(), Failed> {
        let record = &self.shared.tables[table];
        let sql = self.copy_sql(record, false);
        while let Some(run) = runs.next_run() {
            let task = journal::run(&record.key(), &run, runs.pieces.len());
            let note = self.shared.journal.map(|_| journal::note(&[task]));
            self.in_transaction(note, |session| {
                session.copy(&sql, table, &runs.pieces, run.clone())
            })?;
        }
        Ok(())
    }

    fn large_object_pages(&mut self, table: usize, runs: &SharedLoad) -> Result<(), Failed> {
        let direct = large_objects::takes_pages(&mut self.conn, self.shared)
            .map_err(|error| Failed::server(b"", &error))?;
        if direct {
            return self.load_shared(table, runs);
        }
        let rows = &mut *self.rows;
        large_objects::put(&mut self.conn, self.shared, runs, &mut |run, take| {
            rows.read(table, &runs.pieces, run, take)
        })
        .map_err(|error| Failed::load("", &error))
    }

    fn copy(
        &mut self,
        sql: &str,
        table: usize,
        pieces: &Pieces,
        range: Range<usize>,
    ) -> Result<(), Failed> {
        // The server reads a message in the encoding that holds when it arrives: the COPY's own text is in that of the
        // entries, to which the session goes back.
        let sql = match self.shared.encoding {
            Some(encoding) => format!(
                "SET client_encoding = {}; {sql}",
                crate::pg::catalog::quote_literal(encoding)
            ),
            None => sql.to_owned(),
        };
        let count = count(&self.shared.tables[table]);
        let rows = &mut *self.rows;
        let result = load::load(&mut self.conn, &sql, count, |take| {
            rows.read(table, pieces, range, take)
        });
        if self.shared.encoding.is_some() && result.is_ok() {
            self.conn
                .execute("RESET client_encoding")
                .map_err(|error| Failed::server(b"RESET client_encoding", &error))?;
        }
        result.map_err(|error| Failed::load(&sql, &error))
    }
}

fn count(table: &TableRecord) -> Count {
    match table.role {
        TableRole::ExtensionConfig { .. } => Count::MayDiffer,
        _ => Count::Exact,
    }
}
