//! COPY to the server.

use super::connection::{Connection, Reply};
use super::error::{Error, ServerError};
use super::wire::FRAME_HEADER;

/// Rows are sent in frames of about this size. The server reads a frame whole before it looks at it.
const FRAME: usize = 256 * 1024;

/// What rows in binary begin with, and end with.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];

/// A COPY in progress. Ends with [`CopyIn::finish`] or [`CopyIn::abort`]; dropped without either, the server is told
/// to throw it away.
#[derive(Debug)]
pub struct CopyIn<'c> {
    connection: &'c mut Connection,
    binary: bool,
    /// The frame in the making, its header included.
    frame: Vec<u8>,
    /// No longer to be ended: ended already, or failed.
    over: bool,
}

impl Connection {
    /// Starts a `COPY ... FROM STDIN`.
    pub fn copy_in(&mut self, sql: &(impl AsRef<[u8]> + ?Sized)) -> Result<CopyIn<'_>, Error> {
        self.send(sql)?;
        let Some(binary) = self.await_copy_in()? else {
            return Err(Error::Protocol(
                "the statement is no COPY FROM STDIN".to_owned(),
            ));
        };
        let mut copy = CopyIn {
            connection: self,
            binary,
            frame: Vec::with_capacity(FRAME + FRAME_HEADER),
            over: false,
        };
        copy.start_frame();
        if binary {
            copy.frame.extend_from_slice(HEADER);
        }
        Ok(copy)
    }

    /// Reads the whole answer to statements whose COPYs have their rows already: the number of rows of each.
    pub(super) fn copied_rows(&mut self) -> Result<Vec<u64>, Error> {
        let mut copied = Vec::new();
        loop {
            let frame = self.wire.read_frame().map_err(|e| self.lost(e))?;
            let body = self.wire.body(&frame);
            match frame.tag {
                b'C' => {
                    let tag = body.strip_suffix(&[0]).unwrap_or(body);
                    let count = tag.strip_prefix(b"COPY ").map(String::from_utf8_lossy);
                    copied.extend(count.and_then(|count| count.parse::<u64>().ok()));
                }
                b'Z' => {
                    let status = body.first().copied();
                    self.ready(status);
                    return Ok(copied);
                }
                b'E' => {
                    let error = Box::new(ServerError::parse(body));
                    return Err(self.after_error(error));
                }
                // Rows of a query, and that rows are awaited.
                b'T' | b'D' | b'I' | b'G' => {}
                tag => self.asynchronous(tag, frame)?,
            }
        }
    }

    /// Whether the COPY is binary; None where the statement was none.
    fn await_copy_in(&mut self) -> Result<Option<bool>, Error> {
        loop {
            let frame = self.wire.read_frame().map_err(|e| self.lost(e))?;
            let body = self.wire.body(&frame);
            match frame.tag {
                b'G' => return Ok(Some(body.first() == Some(&1))),
                b'E' => {
                    let error = Box::new(ServerError::parse(body));
                    return Err(self.after_error(error));
                }
                b'N' | b'S' | b'A' => self.asynchronous(frame.tag, frame)?,
                b'Z' => {
                    let status = body.first().copied();
                    self.ready(status);
                    return Ok(None);
                }
                b'H' => {
                    self.copying = Some(body.first() == Some(&1));
                    self.skip_copy()?;
                }
                _ => {}
            }
        }
    }
}

impl CopyIn<'_> {
    /// Whether the server expects the binary format.
    pub fn is_binary(&self) -> bool {
        self.binary
    }

    /// Sends bytes of rows, cut anywhere. Header and trailer of the binary format are added here, not by the caller.
    ///
    /// An error of the server is noticed here as soon as it arrives; the COPY is over then, and the connection free.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if self.over {
            return Err(Error::Protocol("this COPY has ended".to_owned()));
        }
        while !bytes.is_empty() {
            let room = FRAME + FRAME_HEADER - self.frame.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.frame.extend_from_slice(now);
            bytes = later;
            if self.frame.len() == FRAME + FRAME_HEADER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the COPY and returns the number of rows the server stored.
    pub fn finish(mut self) -> Result<u64, Error> {
        if self.over {
            return Err(Error::Protocol("this COPY has ended".to_owned()));
        }
        if self.binary {
            self.write(TRAILER)?;
        }
        self.flush()?;
        self.over = true;
        self.connection.write(b"c\0\0\0\x04")?;
        let mut rows = 0;
        loop {
            match self.connection.next()? {
                Reply::Complete(tag) => {
                    if let Some(count) = tag.strip_prefix("COPY ") {
                        rows = count.parse().unwrap_or(0);
                    }
                }
                Reply::Done => return Ok(rows),
                Reply::Row(_) => {}
                Reply::CopyOut { .. } => self.connection.skip_copy()?,
            }
        }
    }

    /// Lets the server throw away what was sent. The transaction, if there is one, has failed then.
    pub fn abort(mut self, reason: &str) -> Result<(), Error> {
        self.end(reason)
    }

    fn end(&mut self, reason: &str) -> Result<(), Error> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        self.connection.fail_copy(reason)?;
        loop {
            match self.connection.next() {
                Ok(Reply::Done) => return Ok(()),
                Ok(_) => {}
                // That is the answer to a COPY given up, or the failure it had anyway.
                Err(Error::Server(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn start_frame(&mut self) {
        self.frame.clear();
        self.frame.extend_from_slice(b"d\0\0\0\0");
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.frame.len() == FRAME_HEADER {
            return Ok(());
        }
        let len = (self.frame.len() - 1) as u32; // At most FRAME and its header.
        self.frame[1..FRAME_HEADER].copy_from_slice(&len.to_be_bytes());
        let written = self.connection.write(&self.frame);
        self.start_frame();
        let result = written.and_then(|()| self.connection.check_copy_in());
        self.over |= result.is_err();
        result
    }
}

impl Connection {
    /// Looks whether the server has complained meanwhile, without waiting.
    fn check_copy_in(&mut self) -> Result<(), Error> {
        loop {
            while let Some(frame) = self.wire.take_frame().map_err(|e| self.lost(e))? {
                if frame.tag == b'E' {
                    let error = Box::new(ServerError::parse(self.wire.body(&frame)));
                    return Err(self.after_error(error));
                }
                self.asynchronous(frame.tag, frame)?;
            }
            if !self.wire.try_fill().map_err(|e| self.lost(e))? {
                return Ok(());
            }
        }
    }
}

impl Drop for CopyIn<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end("the program gave up") {
            tracing::debug!("ending a COPY: {error}");
        }
    }
}
