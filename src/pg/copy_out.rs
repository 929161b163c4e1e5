//! COPY to us: the hot path. Rows are handed out as slices of the read buffer; nothing is allocated or copied per row.

use super::connection::Connection;
use super::error::{CopyError, Error, ServerError};
use super::wire::FRAME_HEADER;

/// Where the rows of a COPY go.
pub trait RowSink {
    /// Why a sink gives up.
    type Error;
    /// A whole row: in binary format a field count and the fields, in text format a line with its newline.
    fn row(&mut self, row: &[u8]) -> Result<(), Self::Error>;
    /// The next part of a row that is longer than the sink wants to see at once. Parts come in order and are as long as
    /// the network makes them; the last one ends at `row_len`.
    fn part(&mut self, part: &[u8], row_len: u64, offset: u64) -> Result<(), Self::Error>;
}

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER: usize = SIGNATURE.len() + 8;
const TRAILER: &[u8] = &[0xff, 0xff];
/// No server sends a header extension at all.
const MAX_EXTENSION: usize = 4096;
/// Flag for OIDs in rows, which servers up to 11 may send.
const FLAG_OIDS: u32 = 1 << 16;
/// The longest row that is put together in memory, whatever the caller allows.
const MAX_WHOLE_ROW: usize = 16 << 20;

impl Connection {
    /// Reads the rows of a COPY that [`Reply::CopyOut`](super::Reply::CopyOut) announced, without the binary format's
    /// header and trailer, and returns their number. The command tag comes with the next
    /// [`Connection::next`].
    ///
    /// Rows longer than `max_row` (at most 16 MiB) are handed out in parts as they arrive and are never held whole. After
    /// an error of the server the connection is free again; after an error of the sink it can no longer be used.
    pub fn read_copy<S: RowSink>(
        &mut self,
        max_row: usize,
        sink: &mut S,
    ) -> Result<u64, CopyError<S::Error>> {
        self.check_usable()?;
        let Some(binary) = self.copying else {
            return Err(Error::Protocol("no COPY to read from".to_owned()).into());
        };
        let max_row = max_row.min(MAX_WHOLE_ROW);
        let mut rows = 0;
        if binary && !self.copy_header(max_row, sink, &mut rows)? {
            return Ok(rows);
        }
        loop {
            // Whole frames that are here already: the way of nearly every row.
            let mut used = 0;
            let available = self.wire.available();
            let failed = loop {
                let rest = &available[used..];
                let [b'd', a, b, c, d, body @ ..] = rest else {
                    break None;
                };
                let len = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).wrapping_sub(4);
                if len > max_row || len > body.len() {
                    break None;
                }
                let row = &body[..len];
                used += FRAME_HEADER + len;
                if binary && row == TRAILER {
                    continue;
                }
                if let Err(error) = sink.row(row) {
                    break Some(error);
                }
                rows += 1;
            };
            self.wire.consume(used);
            if let Some(error) = failed {
                return Err(self.sink_failed(error));
            }
            // Something else: the end, a report, a frame that is not here yet, or a large one.
            let (tag, len) = self.wire.peek_header().map_err(|e| self.lost(e))?;
            if tag != b'd' {
                if self.copy_event()? {
                    return Ok(rows);
                }
            } else if len <= max_row {
                self.await_bytes(FRAME_HEADER + len)?;
            } else {
                self.wire.consume(FRAME_HEADER);
                self.parts(len, sink)?;
                rows += 1;
            }
        }
    }

    /// Says whether many bytes follow at once: they are read in large pieces then, and what comes last may be late by some
    /// milliseconds.
    pub fn expect_much(&mut self, much: bool) -> Result<(), Error> {
        self.wire.set_patient(much).map_err(|e| self.lost(e))
    }

    /// Reads and throws away the rows of a COPY.
    pub(super) fn skip_copy(&mut self) -> Result<(), Error> {
        loop {
            let (tag, len) = self.wire.peek_header().map_err(|e| self.lost(e))?;
            if tag == b'd' {
                self.skip_frame(len)?;
            } else if self.copy_event()? {
                return Ok(());
            }
        }
    }

    /// The header shares its frame with the first row, or with the trailer where there is none. False at the end of
    /// the COPY.
    fn copy_header<S: RowSink>(
        &mut self,
        max_row: usize,
        sink: &mut S,
        rows: &mut u64,
    ) -> Result<bool, CopyError<S::Error>> {
        let len = loop {
            match self.wire.peek_header().map_err(|e| self.lost(e))? {
                (b'd', len) => break len,
                _ if self.copy_event()? => return Ok(false),
                _ => {}
            }
        };
        if len < HEADER {
            return Err(self.out_of_step("short header of a binary COPY").into());
        }
        self.await_bytes(FRAME_HEADER + HEADER)?;
        let header = &self.wire.available()[FRAME_HEADER..FRAME_HEADER + HEADER];
        let word = |at: usize| {
            let bytes = header[at..].first_chunk().copied().unwrap_or_default();
            u32::from_be_bytes(bytes)
        };
        let flags = word(SIGNATURE.len());
        let extension = word(SIGNATURE.len() + 4) as usize;
        if !header.starts_with(SIGNATURE)
            || flags & FLAG_OIDS != 0
            || extension > MAX_EXTENSION.min(len - HEADER)
        {
            return Err(self.out_of_step("unknown header of a binary COPY").into());
        }
        let skip = HEADER + extension;
        let row_len = len - skip;
        self.await_bytes(FRAME_HEADER + skip)?;
        self.wire.consume(FRAME_HEADER + skip);
        if row_len == 0 {
            return Ok(true);
        }
        if row_len > max_row {
            self.parts(row_len, sink)?;
            *rows += 1;
            return Ok(true);
        }
        self.await_bytes(row_len)?;
        let row = &self.wire.available()[..row_len];
        if row != TRAILER {
            if let Err(error) = sink.row(row) {
                return Err(self.sink_failed(error));
            }
            *rows += 1;
        }
        self.wire.consume(row_len);
        Ok(true)
    }

    fn await_bytes(&mut self, bytes: usize) -> Result<(), Error> {
        while self.wire.available().len() < bytes {
            self.wire.fill().map_err(|e| self.lost(e))?;
        }
        Ok(())
    }

    /// A row longer than the sink wants to see at once, as it arrives.
    fn parts<S: RowSink>(
        &mut self,
        row_len: usize,
        sink: &mut S,
    ) -> Result<(), CopyError<S::Error>> {
        self.wire.shrink();
        let mut offset = 0;
        while offset < row_len {
            if self.wire.available().is_empty() {
                self.wire.fill().map_err(|e| self.lost(e))?;
            }
            let available = self.wire.available();
            let part = &available[..available.len().min(row_len - offset)];
            let len = part.len();
            if let Err(error) = sink.part(part, row_len as u64, offset as u64) {
                return Err(self.sink_failed(error));
            }
            offset += len;
            self.wire.consume(len);
        }
        Ok(())
    }

    /// Anything that is not a row. True at the end of the COPY.
    fn copy_event(&mut self) -> Result<bool, Error> {
        let frame = self.wire.read_frame().map_err(|e| self.lost(e))?;
        match frame.tag {
            b'c' => {
                self.copying = None;
                self.wire.shrink();
                Ok(true)
            }
            b'E' => {
                let error = Box::new(ServerError::parse(self.wire.body(&frame)));
                self.copying = None;
                Err(self.after_error(error))
            }
            tag => {
                self.asynchronous(tag, frame)?;
                Ok(false)
            }
        }
    }

    fn sink_failed<E>(&mut self, error: E) -> CopyError<E> {
        self.abandon("left in the middle of a COPY");
        CopyError::Sink(error)
    }
}
