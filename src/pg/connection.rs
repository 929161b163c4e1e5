//! A session with a server: simple queries, their replies, and the state that goes with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cancel::CancelToken;
use super::connect::{ClientEncoding, SessionOptions};
use super::error::{Error, Notice, ServerError};
use super::row::Row;
use super::settings::{Host, Settings, Target};
use super::startup::{Session, parameter};
use super::stream::Address;
use super::tls::Connector;
use super::wire::{Wire, cstr, message};

/// The buffer for statements is kept up to this size.
const KEPT_BUFFER: usize = 64 * 1024;
/// More notices than this are not kept for a caller who never takes them.
const MAX_NOTICES: usize = 10_000;

/// Where a session stands with transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a transaction block that an error has ended.
    Failed,
}

/// One part of the answer to [`Connection::send`].
#[derive(Debug)]
pub enum Reply {
    /// A row of a query.
    Row(Row),
    /// Rows of a COPY follow: call [`Connection::read_copy`] next.
    CopyOut {
        /// Number of columns.
        columns: u16,
        /// Binary format.
        binary: bool,
    },
    /// A statement is done; its command tag.
    Complete(String),
    /// All statements are done; the connection is free.
    Done,
}

/// A session with a server. Blocking; one thread at a time.
#[derive(Debug)]
pub struct Connection {
    pub(super) wire: Wire,
    pub(super) address: Arc<str>,
    host: Host,
    target: Address,
    settings: Settings,
    connector: Option<Arc<Connector>>,
    parameters: BTreeMap<String, String>,
    notices: Vec<Notice>,
    pid: i32,
    secret: Arc<[u8]>,
    status: u8,
    password: Option<String>,
    /// A query was sent and its ReadyForQuery has not come yet.
    pub(super) busy: bool,
    /// Why nothing can be done with this connection any more.
    pub(super) broken: Option<String>,
    /// Inside a COPY to us: its rows must be read before anything else.
    pub(super) copying: Option<bool>,
    pub(super) out: Vec<u8>,
}

impl Connection {
    pub(super) fn new(
        wire: Wire,
        session: Session,
        host: Host,
        target: Address,
        address: Arc<str>,
        settings: Settings,
        connector: Option<Arc<Connector>>,
    ) -> Connection {
        Connection {
            wire,
            address,
            host,
            target,
            settings,
            connector,
            parameters: session.parameters,
            notices: session.notices,
            pid: session.pid,
            secret: session.secret.into(),
            status: session.status,
            password: session.password,
            busy: false,
            broken: None,
            copying: None,
            out: Vec::new(),
        }
    }

    /// Settings that need to know the server first.
    pub(super) fn pin_session(&mut self, options: &SessionOptions) -> Result<(), Error> {
        let version = self.server_version();
        let mut sql = String::new();
        for (since, name, value) in &options.since {
            if version >= *since {
                let value = value.replace('\'', "''");
                sql.push_str(&format!("SET {name} = '{value}';"));
            }
        }
        let wanted = match options.client_encoding {
            ClientEncoding::Utf8 => "UTF8",
            ClientEncoding::Server => self.parameter("server_encoding").unwrap_or("UTF8"),
        };
        let given = |(name, _): &(String, String)| name == "client_encoding";
        let given = options.options.iter().any(given);
        if !given && self.parameter("client_encoding") != Some(wanted) {
            sql.push_str(&format!("SET client_encoding = '{wanted}';"));
        }
        if sql.is_empty() {
            return Ok(());
        }
        self.execute(&sql)
    }

    pub(super) fn check_target(&mut self, target: Target) -> Result<(), Error> {
        if target == Target::Any {
            return Ok(());
        }
        let rows = self.query(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool",
        )?;
        let [row] = rows.as_slice() else {
            return Err(Error::Protocol(
                "no answer about the server's role".to_owned(),
            ));
        };
        let (standby, read_only) = (row.get_bool(0)?, row.get_bool(1)?);
        let (good, message) = match target {
            Target::Any => (true, ""),
            Target::ReadWrite => (!read_only, "session is read-only"),
            Target::ReadOnly => (read_only, "session is not read-only"),
            Target::Primary => (!standby, "server is in hot standby mode"),
            Target::Standby | Target::PreferStandby => {
                (standby, "server is not in hot standby mode")
            }
        };
        if good {
            return Ok(());
        }
        Err(Error::Unsuitable {
            address: self.address.to_string(),
            message: message.to_owned(),
        })
    }

    /// Runs statements and returns the rows of the last one that has any. Values must be UTF-8: see
    /// [`Connection::query_raw`] for databases in other encodings.
    pub fn query(&mut self, sql: &(impl AsRef<[u8]> + ?Sized)) -> Result<Vec<Row>, Error> {
        let rows = self.query_raw(sql)?;
        for row in &rows {
            if let Some(column) = row.not_utf8() {
                return Err(Error::Value {
                    column,
                    message: format!(
                        "\"{}\" is not UTF-8; the database has encoding {}",
                        String::from_utf8_lossy(row.raw(column).unwrap_or_default()),
                        self.parameter("server_encoding").unwrap_or("unknown")
                    ),
                });
            }
        }
        Ok(rows)
    }

    /// The same for values in any encoding, to be read with [`Row::raw`].
    pub fn query_raw(&mut self, sql: &(impl AsRef<[u8]> + ?Sized)) -> Result<Vec<Row>, Error> {
        self.send(sql)?;
        let mut rows = Vec::new();
        let mut complete = false;
        loop {
            match self.next()? {
                Reply::Row(row) => {
                    if std::mem::take(&mut complete) {
                        rows.clear();
                    }
                    rows.push(row);
                }
                Reply::Complete(_) => complete = true,
                Reply::CopyOut { .. } => self.skip_copy()?,
                Reply::Done => return Ok(rows),
            }
        }
    }

    /// Runs one or many statements. Rows are thrown away.
    pub fn execute(&mut self, sql: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), Error> {
        self.send(sql)?;
        self.finish_query()
    }

    /// Reads the rest of an answer and throws its rows away.
    pub(super) fn finish_query(&mut self) -> Result<(), Error> {
        loop {
            match self.next()? {
                Reply::Row(_) | Reply::Complete(_) => {}
                Reply::CopyOut { .. } => self.skip_copy()?,
                Reply::Done => return Ok(()),
            }
        }
    }

    /// Sends one message with one or many statements; the replies come from [`Connection::next`] until it says
    /// [`Reply::Done`] or fails.
    pub fn send(&mut self, sql: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), Error> {
        self.check_free()?;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let built = self.query_message(&mut out, sql.as_ref());
        let result = built.and_then(|()| self.send_message(&out));
        self.out = out;
        self.out.shrink_to(KEPT_BUFFER);
        result
    }

    /// Sends a message that was built elsewhere and asks for an answer.
    pub(super) fn send_message(&mut self, message: &[u8]) -> Result<(), Error> {
        self.check_free()?;
        self.busy = true;
        self.write(message)
    }

    pub(super) fn query_message(&self, out: &mut Vec<u8>, sql: &[u8]) -> Result<(), Error> {
        if sql.contains(&0) {
            return Err(Error::Protocol(
                "a statement with a zero byte in it".to_owned(),
            ));
        }
        message(out, Some(b'Q'), |out| cstr(out, sql)).map_err(|e| Error::io(&self.address, e))
    }

    /// The next part of the answer. After an error the rest of the answer has been read and thrown away: the
    /// connection is free for the next statement.
    // Not an iterator: the end is an item, and an error does not end it.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Reply, Error> {
        self.check_usable()?;
        if self.copying.is_some() {
            return Err(Error::Protocol("rows of a COPY were not read".to_owned()));
        }
        if !self.busy {
            return Ok(Reply::Done);
        }
        loop {
            let frame = self.wire.read_frame().map_err(|e| self.lost(e))?;
            let body = self.wire.body(&frame);
            match frame.tag {
                b'D' => return Row::parse(body).map(Reply::Row),
                b'C' => {
                    let tag = body.strip_suffix(&[0]).unwrap_or(body);
                    let tag = String::from_utf8_lossy(tag).into_owned();
                    return Ok(Reply::Complete(tag));
                }
                b'I' => return Ok(Reply::Complete(String::new())),
                b'T' => {}
                b'H' => {
                    let [format, a, b, ..] = *body else {
                        return Err(self.out_of_step("short CopyOutResponse"));
                    };
                    self.copying = Some(format == 1);
                    return Ok(Reply::CopyOut {
                        columns: u16::from_be_bytes([a, b]),
                        binary: format == 1,
                    });
                }
                b'G' => {
                    // COPY FROM STDIN in a place where nobody has rows: the server ends it with an error.
                    self.send_copy_fail("COPY FROM STDIN is not expected here")?;
                }
                b'Z' => {
                    self.ready(body.first().copied());
                    return Ok(Reply::Done);
                }
                b'E' => {
                    let error = Box::new(ServerError::parse(body));
                    return Err(self.after_error(error));
                }
                tag => self.asynchronous(tag, frame)?,
            }
        }
    }

    pub(super) fn ready(&mut self, status: Option<u8>) {
        self.status = status.unwrap_or(b'I');
        self.busy = false;
        self.copying = None;
    }

    /// Reads on until the server is ready again, and returns the error as it goes to the caller.
    pub(super) fn after_error(&mut self, error: Box<ServerError>) -> Error {
        if let Err(lost) = self.drain() {
            // The server said why before it went away; that says more.
            tracing::debug!("after an error: {lost}");
        }
        Error::Server(error)
    }

    fn drain(&mut self) -> Result<(), Error> {
        loop {
            // Rows in flight may be huge: skip them piece by piece.
            let (tag, len) = self.wire.peek_header().map_err(|e| self.lost(e))?;
            if matches!(tag, b'D' | b'd') {
                self.skip_frame(len)?;
                continue;
            }
            let frame = self.wire.read_frame().map_err(|e| self.lost(e))?;
            match frame.tag {
                b'Z' => {
                    self.ready(self.wire.body(&frame).first().copied());
                    return Ok(());
                }
                b'N' | b'S' | b'A' => self.asynchronous(frame.tag, frame)?,
                b'G' => self.send_copy_fail("stopped after an error")?,
                _ => {}
            }
        }
    }

    pub(super) fn skip_frame(&mut self, len: usize) -> Result<(), Error> {
        let mut left = super::wire::FRAME_HEADER + len;
        while left > 0 {
            let now = self.wire.available().len().min(left);
            self.wire.consume(now);
            left -= now;
            if left > 0 {
                self.wire.fill().map_err(|e| self.lost(e))?;
            }
        }
        Ok(())
    }

    /// What the server may say at any time.
    pub(super) fn asynchronous(&mut self, tag: u8, frame: super::wire::Frame) -> Result<(), Error> {
        let body = self.wire.body(&frame);
        match tag {
            b'N' => {
                if self.notices.len() < MAX_NOTICES {
                    self.notices.push(ServerError::parse(body));
                }
            }
            b'S' => {
                if let Some((name, value)) = parameter(body) {
                    self.parameters.insert(name, value);
                }
            }
            b'A' => {} // A notification; nobody here listens.
            tag => {
                let what = format!("message {:?} in a query's answer", char::from(tag));
                return Err(self.out_of_step(&what));
            }
        }
        Ok(())
    }

    fn send_copy_fail(&mut self, reason: &str) -> Result<(), Error> {
        let mut out = Vec::new();
        message(&mut out, Some(b'f'), |out| {
            cstr(out, reason.replace('\0', " ").as_bytes());
        })
        .map_err(|e| Error::io(&self.address, e))?;
        self.write(&out)
    }

    pub(super) fn fail_copy(&mut self, reason: &str) -> Result<(), Error> {
        self.send_copy_fail(reason)
    }

    /// Writes; where that fails, a report the server left behind says why.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.wire.send(bytes) {
            Ok(()) => Ok(()),
            Err(e) => Err(self.last_words(e)),
        }
    }

    fn last_words(&mut self, error: std::io::Error) -> Error {
        let lost = self.lost(error);
        while let Ok(frame) = self.wire.read_frame() {
            if frame.tag == b'E' {
                return Error::Server(Box::new(ServerError::parse(self.wire.body(&frame))));
            }
        }
        lost
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, source: std::io::Error) -> Error {
        let error = Error::io(&self.address, source);
        self.broken.get_or_insert(error.to_string());
        error
    }

    /// We no longer know what the server's bytes mean.
    pub(super) fn out_of_step(&mut self, what: &str) -> Error {
        self.broken.get_or_insert(what.to_owned());
        Error::Protocol(what.to_owned())
    }

    /// Marks the connection as left in the middle of something.
    pub(super) fn abandon(&mut self, why: &str) {
        self.broken.get_or_insert(why.to_owned());
    }

    pub(super) fn check_usable(&self) -> Result<(), Error> {
        match &self.broken {
            Some(why) => Err(Error::Unusable(why.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn check_free(&self) -> Result<(), Error> {
        self.check_usable()?;
        if self.busy {
            return Err(Error::Protocol(
                "a statement was sent before the answer to the one before was read".to_owned(),
            ));
        }
        Ok(())
    }

    /// A handle with which another thread can cancel what this session does.
    pub fn cancel_token(&self) -> CancelToken {
        CancelToken::new(
            self.settings.clone(),
            self.target.clone(),
            self.address.clone(),
            self.connector.clone(),
            self.pid,
            self.secret.clone(),
        )
    }

    /// The server's version as one number: 170004 is 17.4.
    pub fn server_version(&self) -> i32 {
        version_number(self.parameter("server_version").unwrap_or_default())
    }

    /// A parameter the server reports of itself: `server_version`, `server_encoding`, `TimeZone` ...
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// All of them.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.parameters.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The server process that serves this session.
    pub fn backend_pid(&self) -> i32 {
        self.pid
    }

    /// Where the session stands with transactions.
    pub fn transaction_status(&self) -> TransactionStatus {
        match self.status {
            b'T' => TransactionStatus::Open,
            b'E' => TransactionStatus::Failed,
            _ => TransactionStatus::Idle,
        }
    }

    /// Warnings and notices that came since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// False once the connection is lost or was left in the middle of a COPY.
    pub fn is_usable(&self) -> bool {
        self.broken.is_none()
    }

    /// Whether what travels is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.connector.is_some()
    }

    /// When the server was started: equal for all sessions of one server, different behind a balancer or after a
    /// restart.
    pub fn server_start_time(&mut self) -> Result<String, Error> {
        let rows = self.query(
            "SELECT (pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8",
        )?;
        match rows.first() {
            Some(row) => Ok(row.text(0)?.to_owned()),
            None => Err(Error::Protocol("no start time".to_owned())),
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn password_used(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.broken.is_none() {
            // A polite goodbye; without it the server writes a line into its log.
            let _ = self.wire.send(b"X\0\0\0\x04");
        }
    }
}

/// libpq's way to read a version: 17.4 is 170004, 17beta1 is 170000, 9.6.3 is 90603.
fn version_number(text: &str) -> i32 {
    let mut numbers = text
        .split('.')
        .map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit());
            part[..end.unwrap_or(part.len())].parse().unwrap_or(0i32)
        })
        .map(|number| number.min(200));
    let mut next = || numbers.next().unwrap_or(0);
    let major = next();
    if major >= 10 {
        major * 10_000 + next()
    } else {
        major * 10_000 + next() * 100 + next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_numbers() {
        for (text, number) in [
            ("17.4", 170004),
            ("15.14 (Debian 15.14-0+deb12u1)", 150014),
            ("18beta1", 180000),
            ("9.6.3", 90603),
            ("", 0),
            ("99999999999.1", 100),
        ] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }
}
