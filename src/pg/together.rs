//! Statements and the rows of small tables in one message: what thousands of them cost is mostly the waiting for each.

use super::connection::Connection;
use super::copy_in::{HEADER, TRAILER};
use super::error::Error;
use super::wire::FRAME_HEADER;

/// Rows that are sent ahead of the COPYs that take them: so many that they always fit the buffers between us and the
/// server, or else both might wait for the other to read.
const MAX_DATA: usize = 64 * 1024;
/// Text of the statements. The server reads a message whole before it runs it.
const MAX_TEXT: usize = 1 << 20;

/// Statements in one message, and the rows for those among them that are COPYs.
#[derive(Debug, Default)]
pub struct Together {
    text: Vec<u8>,
    data: Vec<u8>,
}

impl Together {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether it has grown so large that it should be run.
    pub fn is_full(&self) -> bool {
        self.text.len() >= MAX_TEXT
    }

    /// Adds a statement, or several that belong together.
    pub fn statement(&mut self, sql: &[u8]) {
        self.text.extend_from_slice(sql);
        // On a line of its own, should the statement end in a comment.
        self.text.extend_from_slice(b"\n;\n");
    }

    /// Adds a COPY FROM STDIN with its rows, header and trailer left out; false where they do not fit.
    pub fn copy(&mut self, sql: &str, binary: bool, rows: &[u8]) -> bool {
        let length = rows.len();
        if self.data.len() + length > MAX_DATA {
            return false;
        }
        self.statement(sql.as_bytes());
        let (header, trailer) = if binary {
            (HEADER, TRAILER)
        } else {
            (&b""[..], &b""[..])
        };
        // Within MAX_DATA, header and trailer are a few bytes more.
        let frame = (FRAME_HEADER - 1 + header.len() + length + trailer.len()) as u32;
        self.data.push(b'd');
        self.data.extend_from_slice(&frame.to_be_bytes());
        self.data.extend_from_slice(header);
        self.data.extend_from_slice(rows);
        self.data.extend_from_slice(trailer);
        self.data.extend_from_slice(b"c\0\0\0\x04");
        true
    }
}

impl Connection {
    /// Runs the statements, and empties `together`. Returns the number of rows that each COPY stored, in their order. After
    /// a failure nothing that follows it was run, and the rows that were sent for it are passed over by the server.
    pub fn run_together(&mut self, together: &mut Together) -> Result<Vec<u64>, Error> {
        let text = std::mem::take(&mut together.text);
        let data = std::mem::take(&mut together.data);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        self.check_free()?;
        let mut out = Vec::with_capacity(text.len() + data.len() + 16);
        self.query_message(&mut out, &text)?;
        out.extend_from_slice(&data);
        self.busy = true;
        self.write(&out)?;
        self.copied_rows()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::message;
    use super::*;

    #[test]
    fn rows_travel_in_a_frame_and_an_end_of_their_own() {
        let mut together = Together::default();
        assert!(together.is_empty());
        together.statement(b"BEGIN -- now");
        assert!(together.copy("COPY t FROM STDIN", false, b"1\n2\n"));
        assert_eq!(together.text, b"BEGIN -- now\n;\nCOPY t FROM STDIN\n;\n");
        assert_eq!(together.data, b"d\0\0\0\x081\n2\nc\0\0\0\x04");
        let mut expected = Vec::new();
        message(&mut expected, Some(b'd'), |out| {
            out.extend_from_slice(HEADER);
            out.extend_from_slice(b"row");
            out.extend_from_slice(TRAILER);
        })
        .unwrap();
        let mut binary = Together::default();
        assert!(binary.copy("COPY t FROM STDIN (FORMAT binary)", true, b"row"));
        assert_eq!(binary.data[..expected.len()], expected);
    }

    #[test]
    fn what_might_not_fit_the_buffers_is_not_taken() {
        let mut together = Together::default();
        assert!(together.copy("COPY t FROM STDIN", false, &[b'x'; 40_000]));
        assert!(!together.copy("COPY t FROM STDIN", false, &[b'x'; 40_000]));
        assert!(together.copy("COPY t FROM STDIN", false, b"x\n"));
    }
}
