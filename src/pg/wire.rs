//! Frames of the PostgreSQL protocol: a large read buffer that is parsed in place, and messages written whole.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Instant;

use super::stream::Stream;

/// Size of the read buffer in ordinary operation.
const READ_BUFFER: usize = 256 * 1024;
/// Frames are a type byte, and a length that counts itself.
pub(super) const FRAME_HEADER: usize = 5;
/// PostgreSQL never sends more in one message: its own buffers end at 1 GiB.
const MAX_FRAME: usize = (1 << 30) + 16;

/// The stream with its read buffer.
#[derive(Debug)]
pub(super) struct Wire {
    pub stream: Stream,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Reads fail after this moment (while connecting).
    deadline: Option<Instant>,
    /// Reads come back with much, if much is on its way.
    patient: bool,
}

/// A frame in the buffer: its type and where its body lies. Valid until the next read.
#[derive(Debug)]
pub(super) struct Frame {
    pub tag: u8,
    body: Range<usize>,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Wire {
    pub fn new(stream: Stream, deadline: Option<Instant>) -> Wire {
        Wire {
            stream,
            buf: vec![0; READ_BUFFER],
            start: 0,
            end: 0,
            deadline,
            patient: false,
        }
    }

    pub fn clear_deadline(&mut self) -> io::Result<()> {
        self.deadline = None;
        self.stream.set_deadline(None)
    }

    /// Has reads wait until much is there: while much is on its way. Reads that nothing comes to are patient no more.
    pub fn set_patient(&mut self, on: bool) -> io::Result<()> {
        if self.patient != on {
            self.patient = self.stream.set_patient(on)?;
        }
        Ok(())
    }

    /// What was received and not yet taken.
    #[inline]
    pub fn available(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Takes bytes that were looked at with [`Wire::available`].
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Receives at least one more byte. The buffer grows when it is full of one frame, step by step with what really
    /// arrives, so that a wild length costs nothing.
    pub fn fill(&mut self) -> io::Result<()> {
        self.make_room();
        if self.deadline.is_some() {
            self.stream.set_deadline(self.deadline)?;
        }
        loop {
            match self.stream.read(&mut self.buf[self.end..]) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection unexpectedly",
                    ));
                }
                Ok(n) => {
                    self.end += n;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.patient => {
                    self.set_patient(false)?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Receives what is there without waiting. False where nothing came.
    pub fn try_fill(&mut self) -> io::Result<bool> {
        self.make_room();
        match self.stream.try_read(&mut self.buf[self.end..])? {
            None => Ok(false),
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(n) => {
                self.end += n;
                Ok(true)
            }
        }
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > 0 && self.buf.len() - self.end < READ_BUFFER / 4 {
            // What is left is mostly the head of one frame: cheaper to move than to read in small pieces.
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buf.len() {
            self.buf.resize(self.buf.len() * 2, 0);
        }
    }

    /// Gives memory back that one large frame needed.
    pub fn shrink(&mut self) {
        if self.buf.len() > READ_BUFFER && self.end - self.start <= READ_BUFFER {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.buf.truncate(READ_BUFFER);
            self.buf.shrink_to_fit();
        }
    }

    /// Type and body length of the next frame, waiting for its header.
    #[inline]
    pub fn peek_header(&mut self) -> io::Result<(u8, usize)> {
        loop {
            if let Some(header) = self.header()? {
                return Ok(header);
            }
            self.fill()?;
        }
    }

    #[inline]
    fn header(&self) -> io::Result<Option<(u8, usize)>> {
        let [tag, a, b, c, d, ..] = *self.available() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=MAX_FRAME).contains(&len) {
            return Err(malformed("a message of impossible length"));
        }
        Ok(Some((tag, len - 4)))
    }

    /// The next frame, whole.
    pub fn read_frame(&mut self) -> io::Result<Frame> {
        self.shrink();
        let (_, len) = self.peek_header()?;
        while self.available().len() < FRAME_HEADER + len {
            self.fill()?;
        }
        self.take_frame()?
            .ok_or_else(|| malformed("a frame that vanished"))
    }

    /// The next frame, if it has been received whole.
    pub fn take_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some((tag, len)) = self.header()? else {
            return Ok(None);
        };
        if self.available().len() < FRAME_HEADER + len {
            return Ok(None);
        }
        let body = self.start + FRAME_HEADER..self.start + FRAME_HEADER + len;
        self.start = body.end;
        Ok(Some(Frame { tag, body }))
    }

    pub fn body(&self, frame: &Frame) -> &[u8] {
        &self.buf[frame.body.clone()]
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }
}

/// Appends a message: type (none for startup messages), length, body. Fails where the length does not fit.
pub(super) fn message(
    out: &mut Vec<u8>,
    tag: Option<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) -> io::Result<()> {
    out.extend(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = out.len() - at;
    if len > MAX_FRAME {
        out.truncate(at);
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a message above the 1 GB that PostgreSQL accepts",
        ));
    }
    out[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(())
}

/// Appends a zero-terminated string. Whoever calls has made sure that there is no zero byte in it.
pub(super) fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// Splits off a zero-terminated string.
pub(super) fn take_cstr<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = body.iter().position(|b| *b == 0)?;
    let (text, rest) = body.split_at(end);
    *body = &rest[1..];
    Some(text)
}
