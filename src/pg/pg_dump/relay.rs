//! `pg_dump` in a session of ours: a socket that it takes for the server, and behind it a connection that pgtide holds.
//!
//! A `pg_dump` with a connection of its own has to lock every table itself, and whoever asked for an exclusive lock
//! between our locks and its own stops it: he waits for us, and it waits for him. In the holder's session there is
//! nothing to wait for: the locks are there already, and so is the MVCC snapshot.
//!
//! What it does there is undone by a savepoint: settings, locks beyond ours, and an error that would otherwise end the
//! holder's transaction. Answers pass in pieces; a statement is gathered whole first, because half a statement could
//! not be taken back from the server.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{ChildConnection, PgDump, PgDumpError, PgDumpKiller, SchemaRequest};
use crate::pg::archive::Archive;
use crate::pg::error::{Error, ServerError};
use crate::pg::wire::{FRAME_HEADER, cstr, message, take_cstr};
use crate::pg::{CancelToken, Connection, Settings, TransactionStatus};

/// What `pg_dump` does comes after this.
const SAVE: &str = "SAVEPOINT pgtide_schema";
/// Takes back all that it did. Prepared statements are no part of a transaction.
const UNDO: &str =
    "ROLLBACK TO SAVEPOINT pgtide_schema; RELEASE SAVEPOINT pgtide_schema; DEALLOCATE ALL";
/// How often the relay looks whether `pg_dump` has come, or has ended.
const POLL: Duration = Duration::from_millis(5);
/// How long a statement may go on at the server after `pg_dump` has ended, before it is cancelled.
const GRACE: Duration = Duration::from_millis(200);
/// How often it is cancelled again.
const CANCEL_INTERVAL: Duration = Duration::from_secs(2);
/// PostgreSQL's own limit for the first message of a session.
const MAX_OPENING: u32 = 10_000;
/// The largest message that PostgreSQL takes.
const MAX_MESSAGE: u32 = 1 << 30;
/// Memory that is kept for statements.
const KEPT_BUFFER: usize = 64 * 1024;
/// The longest path of a socket that every system takes.
const MAX_SOCKET_PATH: usize = 103;
/// Protocol 3.0.
const PROTOCOL: u32 = 3 << 16;

/// Why `pg_dump` could not work in a session of ours.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// There is no place for the socket.
    #[error(
        "could not make a socket for pg_dump: {0}\nhint: set TMPDIR to a directory with a short name that can be written to; or name pg_dump with --pg-dump: then it makes a connection of its own"
    )]
    Socket(#[source] io::Error),
    /// It ended without having come.
    #[error(
        "it did not come to pgtide's socket, in whose session it was to read: {0}\nhint: a pg_dump that runs in a container or on another machine must be named with --pg-dump: then it makes a connection of its own"
    )]
    NotReached(String),
    /// It said something that is not passed on.
    #[error(
        "it sent {0}, which pgtide does not pass on to the server\nhint: name it with --pg-dump: then it makes a connection of its own"
    )]
    Unexpected(String),
    /// The session was lost.
    #[error(
        "the session that it was to read in was lost: {0}\nhint: look at the server's log for why it was ended, and dump again"
    )]
    Session(#[source] Error),
}

/// How the passing on of messages ended, if not well.
enum Failure {
    /// `pg_dump` went away in the middle; why, it says itself.
    Gone,
    /// It ended, and had never come.
    NotReached,
    /// It said what is not passed on.
    Unexpected(String),
    /// The server's side is lost.
    Session(Error),
}

impl PgDump {
    /// Reads the schema in the transaction of `conn`, with its locks and its MVCC snapshot; afterwards the session is as
    /// it was. Only for a program that runs on this machine. `started` gets what ends it.
    pub fn schema_within(
        &self,
        conn: &mut Connection,
        settings: &Settings,
        request: &SchemaRequest,
        started: impl FnOnce(PgDumpKiller),
    ) -> Result<(Archive, String), PgDumpError> {
        let failed = |source| PgDumpError::Relay {
            program: self.to_string(),
            source,
        };
        let door = Door::open(settings.port()).map_err(|e| failed(RelayError::Socket(e)))?;
        let connection = ChildConnection {
            env: Vec::new(),
            conninfo: settings.socket_conninfo(&door.directory()),
        };
        conn.execute(SAVE)
            .map_err(|e| failed(RelayError::Session(e)))?;
        let result = self.schema(&connection, request).map(|child| {
            started(child.killer());
            let token = conn.cancel_token();
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let relay = scope.spawn(|| serve(door, conn, &ended));
                let result = child.wait();
                ended.store(true, Ordering::SeqCst);
                // What it left behind at the server is of use to nobody.
                let mut next = Instant::now() + GRACE;
                while !relay.is_finished() {
                    if Instant::now() >= next {
                        cancel(&token);
                        next = Instant::now() + CANCEL_INTERVAL;
                    }
                    std::thread::sleep(POLL);
                }
                let relayed = relay
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                (result, relayed)
            })
        });
        undo(conn);
        let (result, relayed) = result?;
        match relayed {
            Ok(()) | Err(Failure::Gone) => result,
            Err(Failure::NotReached) => {
                let said = match result {
                    Err(PgDumpError::Failed { status, stderr, .. }) => {
                        format!("{stderr} ({status})")
                    }
                    Err(other) => return Err(other),
                    Ok(_) => "it wrote a dump of something else".to_owned(),
                };
                Err(failed(RelayError::NotReached(said)))
            }
            Err(Failure::Unexpected(what)) => Err(failed(RelayError::Unexpected(what))),
            Err(Failure::Session(error)) => Err(failed(RelayError::Session(error))),
        }
    }
}

/// Brings the session back to where it was before. A session that cannot be brought back is not used again.
fn undo(conn: &mut Connection) {
    // Whoever stops the run cancels what all sessions do, and that may hit this.
    let undone = conn.execute(UNDO).or_else(|error| match error.code() {
        Some("57014") => conn.execute(UNDO),
        _ => Err(error),
    });
    if let Err(error) = undone {
        conn.abandon(&format!("what pg_dump did was not undone: {error}"));
    }
}

fn cancel(token: &CancelToken) {
    if let Err(error) = token.cancel() {
        tracing::debug!("a statement of pg_dump could not be cancelled: {error}");
    }
}

/// A socket in a directory that nobody else may enter. It is gone when this is.
struct Door {
    listener: UnixListener,
    directory: TempDir,
}

impl Door {
    /// Makes the socket that libpq looks for where it is given the directory as host, and this port.
    fn open(port: u16) -> io::Result<Door> {
        let name = format!(".s.PGSQL.{port}");
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in [std::env::temp_dir(), PathBuf::from("/tmp")] {
            match Self::open_in(&place, &name) {
                Ok(door) => return Ok(door),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_in(place: &Path, name: &str) -> io::Result<Door> {
        let directory = tempfile::Builder::new()
            .prefix("pgtide-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(place)?;
        let path = directory.path().join(name);
        let refused = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        match path.to_str() {
            // libpq takes a comma for the end of a host's name, and what is no path for a name to look up.
            Some(text) if text.starts_with('/') && !text.contains(',') => {}
            _ => return refused("the directory for temporary files has no name that libpq takes"),
        }
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return refused("the name of the directory for temporary files is too long");
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Door {
            listener,
            directory,
        })
    }

    fn directory(&self) -> String {
        self.directory.path().to_string_lossy().into_owned()
    }

    /// Waits for a visitor; None where `pg_dump` has ended and nobody came.
    fn accept(&self, ended: &AtomicBool) -> io::Result<Option<UnixStream>> {
        loop {
            // Before the look: whoever came before it ended is still let in.
            let last = ended.load(Ordering::SeqCst);
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(Some(stream));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if last {
                        return Ok(None);
                    }
                    std::thread::sleep(POLL);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// The stream from `pg_dump`. It ends where the program has ended, whoever else may have inherited its end.
struct Incoming<'a> {
    stream: UnixStream,
    ended: &'a AtomicBool,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let last = self.ended.load(Ordering::SeqCst);
            match self.stream.read(buf) {
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    if last {
                        return Ok(0);
                    }
                }
                other => return other,
            }
        }
    }
}

/// Both directions to `pg_dump`.
struct Client<'a> {
    input: BufReader<Incoming<'a>>,
    output: BufWriter<UnixStream>,
    /// It takes no more.
    gone: bool,
}

impl<'a> Client<'a> {
    fn new(stream: UnixStream, ended: &'a AtomicBool) -> io::Result<Self> {
        // The reader looks now and then whether the program still lives.
        stream.set_read_timeout(Some(GRACE))?;
        Ok(Client {
            output: BufWriter::with_capacity(KEPT_BUFFER, stream.try_clone()?),
            input: BufReader::new(Incoming { stream, ended }),
            gone: false,
        })
    }

    /// A length, and as much after it as it says; false at the end of the stream.
    fn read_body(&mut self, body: &mut Vec<u8>, limit: u32) -> Result<bool, Failure> {
        body.clear();
        let mut length = [0; 4];
        if self.input.read_exact(&mut length).is_err() {
            return Ok(false);
        }
        let length = u32::from_be_bytes(length);
        if !(4..=limit).contains(&length) {
            return Err(Failure::Unexpected("a message of impossible length".into()));
        }
        // It grows with what really arrives: a wild length costs nothing.
        let length = u64::from(length - 4);
        let read = self.input.by_ref().take(length).read_to_end(body);
        Ok(read.is_ok_and(|read| read as u64 == length))
    }

    /// The first messages, up to the one that begins a session; false where there is none.
    fn opens_session(&mut self, conn: &Connection) -> Result<bool, Failure> {
        let mut body = Vec::new();
        while self.read_body(&mut body, MAX_OPENING)? {
            match Opening::parse(&body).map_err(|what| Failure::Unexpected(what.to_owned()))? {
                Opening::Encryption => self.put(b"N"),
                // It came for a session of which we know nothing.
                Opening::Cancel => return Ok(false),
                Opening::Session { minor, extensions } => {
                    let greeting = greeting(conn, minor, &extensions)
                        .map_err(|e| Failure::Unexpected(e.to_string()))?;
                    self.put(&greeting);
                    self.flush();
                    return Ok(true);
                }
            }
            self.flush();
        }
        Ok(false)
    }

    /// The next statement; false where there are no more.
    fn next(&mut self, statement: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut tag = [0];
        if self.input.read_exact(&mut tag).is_err() {
            return Ok(false);
        }
        match tag[0] {
            b'Q' => self.read_body(statement, MAX_MESSAGE),
            b'X' => Ok(false),
            other => Err(Failure::Unexpected(format!(
                "a message of type {:?}",
                char::from(other)
            ))),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.gone = self.gone || self.output.write_all(bytes).is_err();
    }

    fn put_frame(&mut self, tag: u8, body: &[u8]) {
        // A body that came in a frame fits into one.
        self.put(&[tag]);
        self.put(&(body.len() as u32 + 4).to_be_bytes());
        self.put(body);
    }

    fn flush(&mut self) {
        self.gone = self.gone || self.output.flush().is_err();
    }
}

/// What a client may say first.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    /// It asks for TLS or GSSAPI.
    Encryption,
    /// It asks for a statement to be cancelled.
    Cancel,
    /// It begins a session. Whose and where is not asked: there is one session, and it is open.
    Session {
        /// The protocol's minor version.
        minor: u16,
        /// Extensions of the protocol that it would like.
        extensions: Vec<String>,
    },
}

impl Opening {
    /// Reads a first message, without its length.
    fn parse(body: &[u8]) -> Result<Opening, &'static str> {
        const CANCEL: u32 = (1234 << 16) | 5678;
        const TLS: u32 = (1234 << 16) | 5679;
        const GSSAPI: u32 = (1234 << 16) | 5680;
        let (code, mut rest) = body
            .split_first_chunk()
            .ok_or("a first message without a protocol version")?;
        let code = u32::from_be_bytes(*code);
        match code {
            CANCEL => return Ok(Opening::Cancel),
            TLS | GSSAPI => return Ok(Opening::Encryption),
            _ if code >> 16 == PROTOCOL >> 16 => {}
            _ => return Err("a first message of another protocol"),
        }
        let mut extensions = Vec::new();
        loop {
            let name = take_cstr(&mut rest).ok_or("a first message without an end")?;
            if name.is_empty() {
                return Ok(Opening::Session {
                    minor: code as u16,
                    extensions,
                });
            }
            take_cstr(&mut rest).ok_or("a first message with a name and no value")?;
            if name.starts_with(b"_pq_.") {
                extensions.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
}

/// What a server says to a new session: welcome, what the holder's session knows of itself, ready.
fn greeting(conn: &Connection, minor: u16, extensions: &[String]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if minor > 0 || !extensions.is_empty() {
        message(&mut out, Some(b'v'), |out| {
            out.extend_from_slice(&PROTOCOL.to_be_bytes());
            out.extend_from_slice(&(extensions.len() as u32).to_be_bytes());
            for name in extensions {
                cstr(out, name.as_bytes());
            }
        })?;
    }
    message(&mut out, Some(b'R'), |out| out.extend_from_slice(&[0; 4]))?;
    for (name, value) in conn.parameters() {
        message(&mut out, Some(b'S'), |out| {
            cstr(out, name.as_bytes());
            cstr(out, value.as_bytes());
        })?;
    }
    // A key that opens nothing: cancelling is our business.
    message(&mut out, Some(b'K'), |out| {
        out.extend_from_slice(&conn.backend_pid().to_be_bytes());
        out.extend_from_slice(&[0; 4]);
    })?;
    // It begins a transaction itself, and need not know that it is in one.
    message(&mut out, Some(b'Z'), |out| out.push(b'I'))?;
    Ok(out)
}

/// Lets `pg_dump` in, and passes on what it and the server say to each other, until one of them has no more to say.
fn serve(door: Door, conn: &mut Connection, ended: &AtomicBool) -> Result<(), Failure> {
    let mut client = loop {
        let stream = match door.accept(ended) {
            Ok(Some(stream)) => stream,
            Ok(None) | Err(_) => return Err(Failure::NotReached),
        };
        let mut client = Client::new(stream, ended).map_err(|_| Failure::NotReached)?;
        if client.opens_session(conn)? {
            break client;
        }
    };
    // One session is all there is. Where nobody listens, a cancel request of its own is refused and need not wait.
    drop(door);
    let token = conn.cancel_token();
    let mut statement = Vec::new();
    let mut out = Vec::new();
    while client.next(&mut statement)? {
        tracing::trace!("pg_dump: {}", String::from_utf8_lossy(&statement));
        out.clear();
        let built = message(&mut out, Some(b'Q'), |out| {
            out.extend_from_slice(&statement)
        });
        built.map_err(|e| Failure::Unexpected(e.to_string()))?;
        conn.send_message(&out).map_err(Failure::Session)?;
        answer(conn, &mut client, &token)?;
        statement.shrink_to(KEPT_BUFFER);
        out.shrink_to(KEPT_BUFFER);
    }
    Ok(())
}

/// Passes one answer on, up to the server's being ready again. Where `pg_dump` takes no more of it, the rest is read all
/// the same: the session is needed later.
fn answer(
    conn: &mut Connection,
    client: &mut Client<'_>,
    token: &CancelToken,
) -> Result<(), Failure> {
    let mut fatal = None;
    let mut cancelled = false;
    loop {
        if client.gone && !std::mem::replace(&mut cancelled, true) {
            cancel(token);
        }
        match pass_frame(conn, client, &mut fatal) {
            Ok(false) => {}
            Ok(true) => break,
            // Its last words say more than that the connection is closed.
            Err(error) => {
                client.flush();
                let error = fatal.map_or(error, |last| Error::Server(Box::new(last)));
                return Err(Failure::Session(error));
            }
        }
    }
    client.flush();
    if conn.transaction_status() == TransactionStatus::Idle {
        conn.abandon("pg_dump ended its transaction");
        return Err(Failure::Unexpected(
            "a statement that ends the transaction".into(),
        ));
    }
    if client.gone {
        Err(Failure::Gone)
    } else {
        Ok(())
    }
}

/// Passes one frame on; true where it was the answer's last.
fn pass_frame(
    conn: &mut Connection,
    client: &mut Client<'_>,
    fatal: &mut Option<ServerError>,
) -> Result<bool, Error> {
    let (tag, len) = conn.wire.peek_header().map_err(|e| conn.lost(e))?;
    if !matches!(tag, b'N' | b'E' | b'S' | b'A' | b'G' | b'Z') {
        let mut left = FRAME_HEADER + len;
        while left > 0 {
            let here = conn.wire.available();
            let now = here.len().min(left);
            client.put(&here[..now]);
            conn.wire.consume(now);
            left -= now;
            if left > 0 {
                conn.wire.fill().map_err(|e| conn.lost(e))?;
            }
        }
        return Ok(false);
    }
    let frame = conn.wire.read_frame().map_err(|e| conn.lost(e))?;
    let body = conn.wire.body(&frame);
    match tag {
        // active_sql_transaction: it begins the transaction that it is in.
        b'N' if ServerError::parse(body).code == "25001" => {}
        b'N' => client.put_frame(tag, body),
        b'E' => {
            client.put_frame(tag, body);
            let error = ServerError::parse(body);
            if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
                *fatal = Some(error);
            }
        }
        b'S' => {
            client.put_frame(tag, body);
            conn.asynchronous(tag, frame)?;
        }
        // Nobody here has rows to send; the server answers with an error.
        b'G' => conn.fail_copy("pg_dump was to read only")?,
        b'Z' => {
            client.put_frame(tag, body);
            let status = body.first().copied();
            conn.ready(status);
            return Ok(true);
        }
        _ => {} // A notification; nobody listens.
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
