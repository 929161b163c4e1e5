//! What can go wrong between us and a server, as data.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::settings::SettingsError;

/// Anything that can go wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused a statement, or the connection itself.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// The connection could not be made, or was lost.
    #[error("connection to server at {address}: {source}")]
    Io {
        /// The server's address as the user would recognise it.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// TLS could not be agreed on, or the server's certificate was not accepted.
    #[error("connection to server at {address}: TLS: {message}")]
    Tls {
        /// The server's address as the user would recognise it.
        address: String,
        /// What is wrong, and what to do about it.
        message: String,
    },
    /// Authentication failed on our side of the wire.
    #[error("connection to server at {address}: {message}")]
    Auth {
        /// The server's address as the user would recognise it.
        address: String,
        /// What is wrong, and what to do about it.
        message: String,
    },
    /// The server does not have the properties that were asked for.
    #[error("connection to server at {address}: {message}")]
    Unsuitable {
        /// The server's address as the user would recognise it.
        address: String,
        /// What was asked for, and what was found.
        message: String,
    },
    /// Every address was tried, and none would do.
    #[error("{}", join(.0))]
    Connect(Vec<Error>),
    /// The server, or something between, does not speak the protocol we know.
    #[error(
        "unexpected message from the server: {0}; a proxy or pooler between may not support this"
    )]
    Protocol(String),
    /// The connection was left in the middle of a COPY, or lost, and cannot be used any more.
    #[error("this connection is no longer usable: {0}")]
    Unusable(String),
    /// A value in a result is not what the query promised.
    #[error("unexpected value in column {column} of a result: {message}")]
    Value {
        /// Column, counted from zero.
        column: usize,
        /// What was expected, and what stands there.
        message: String,
    },
    /// The connection settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

fn join(errors: &[Error]) -> String {
    let texts: Vec<String> = errors.iter().map(Error::to_string).collect();
    texts.join("\n")
}

impl Error {
    /// The SQLSTATE, where a server gave one.
    pub fn code(&self) -> Option<&str> {
        self.server().map(|e| e.code.as_str())
    }

    /// The server's report, where there is one.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Error::Server(error) => Some(error),
            Error::Connect(errors) => errors.last()?.server(),
            _ => None,
        }
    }

    /// True where the connection is gone and a new one may succeed: lost, or ended by the server.
    pub fn is_connection_lost(&self) -> bool {
        match self {
            Error::Io { .. } | Error::Unusable(_) => true,
            Error::Connect(errors) => errors.iter().all(Error::is_connection_lost),
            Error::Server(e) => {
                e.severity == "FATAL" || e.severity == "PANIC" || e.code.starts_with("08")
            }
            _ => false,
        }
    }

    /// Whether another try after a while may succeed: the connection was lost or could not be made, and not because of who
    /// we are (class 28) or where we want to go (3D000).
    pub fn may_pass(&self) -> bool {
        let refused = |code: &str| code.starts_with("28") || code == "3D000";
        self.is_connection_lost() && !self.code().is_some_and(refused)
    }

    pub(super) fn io(address: &Arc<str>, source: io::Error) -> Error {
        // Our sockets block: this only comes from a timeout.
        let source = match source.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "timeout expired"),
            _ => source,
        };
        Error::Io {
            address: address.to_string(),
            source,
        }
    }
}

/// A report of the server: an error or a notice, with all the fields we can act on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// ERROR, FATAL, PANIC, WARNING, NOTICE, DEBUG, INFO or LOG, never translated.
    pub severity: String,
    /// The SQLSTATE.
    pub code: String,
    /// The message in one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What the server suggests.
    pub hint: Option<String>,
    /// Where it happened: functions, COPY lines.
    pub context: Option<String>,
    /// Character position in the statement, counted from one.
    pub position: Option<u32>,
    /// The schema of the object.
    pub schema: Option<String>,
    /// The table of the object.
    pub table: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// The data type.
    pub data_type: Option<String>,
    /// The constraint.
    pub constraint: Option<String>,
}

/// A warning or notice the server sent along.
pub type Notice = ServerError;

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse. Text that is not UTF-8 (a message about LATIN1 data)
    /// is shown with replacement characters rather than lost.
    pub(super) fn parse(body: &[u8]) -> ServerError {
        let mut error = ServerError::default();
        let mut localized_severity = None;
        let mut rest = body;
        while let [field, tail @ ..] = rest {
            if *field == 0 {
                break;
            }
            let end = tail.iter().position(|b| *b == 0).unwrap_or(tail.len());
            let value = String::from_utf8_lossy(&tail[..end]).into_owned();
            rest = tail.get(end + 1..).unwrap_or_default();
            match field {
                b'S' => localized_severity = Some(value),
                b'V' => error.severity = value,
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'W' => error.context = Some(value),
                b'P' => error.position = value.parse().ok(),
                b's' => error.schema = Some(value),
                b't' => error.table = Some(value),
                b'c' => error.column = Some(value),
                b'd' => error.data_type = Some(value),
                b'n' => error.constraint = Some(value),
                _ => {} // Source file, line and routine, and what later versions add.
            }
        }
        if error.severity.is_empty() {
            // Servers before 9.6 and some poolers send only the translated word.
            error.severity = localized_severity.unwrap_or_default();
        }
        error
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity, self.message, self.code)?;
        if let Some(detail) = &self.detail {
            write!(f, "\nDETAIL: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nHINT: {hint}")?;
        }
        if let Some(context) = &self.context {
            write!(f, "\nCONTEXT: {context}")?;
        }
        Ok(())
    }
}

/// A batch stopped at a statement.
#[derive(Debug, thiserror::Error)]
#[error("statement {} of the batch: {source}", index + 1)]
pub struct BatchError {
    /// The statement that failed, counted from zero.
    pub index: usize,
    /// Why.
    pub source: Error,
}

/// A COPY stopped: the connection failed, or whoever takes the rows.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E> {
    /// The server or the connection.
    #[error(transparent)]
    Connection(#[from] Error),
    /// The sink gave up. The connection is in the middle of the COPY and cannot be used any more.
    #[error("{0}")]
    Sink(E),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_damaged_reports_do_no_harm() {
        let error =
            ServerError::parse(b"SFEHLER\0VERROR\0C23505\0Mdup\0Dkey \xff\0P12\0npk\0Zx\0\0");
        assert_eq!(error.severity, "ERROR");
        assert_eq!(error.code, "23505");
        assert_eq!(error.detail.as_deref(), Some("key \u{fffd}"));
        assert_eq!(error.position, Some(12));
        assert_eq!(error.constraint.as_deref(), Some("pk"));
        assert_eq!(
            error.to_string(),
            "ERROR: dup (23505)\nDETAIL: key \u{fffd}"
        );
        for cut in [&b""[..], b"S", b"SERR", b"M\0", b"\0\0\0"] {
            let _ = ServerError::parse(cut);
        }
        assert_eq!(ServerError::parse(b"SERROR\0").severity, "ERROR");
    }
}
