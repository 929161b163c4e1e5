//! What one value contributes to its row's hash.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::columns::NULL;

/// Values longer than this enter a row's hash as their own hash, so that a row never has to be held whole.
pub(super) const MAX_INLINE: usize = 256;

/// Appends the bytes of a value, or their hash if they are many.
pub(super) fn append_value(bytes: &[u8], row: &mut Vec<u8>) {
    if bytes.len() <= MAX_INLINE {
        row.extend_from_slice(bytes);
    } else {
        row.extend_from_slice(&xxh3_128(bytes).to_be_bytes());
    }
}

/// Appends a field of text COPY: its length, and its bytes or their hash.
pub(super) fn append_text(field: &[u8], row: &mut Vec<u8>) {
    if field == b"\\N" {
        row.extend_from_slice(&NULL.to_be_bytes());
    } else {
        row.extend_from_slice(&(field.len() as u32).to_be_bytes());
        append_value(field, row);
    }
}

/// Gathers a value that comes in pieces. It is never held whole if it is long.
#[derive(Default)]
pub(super) struct Value {
    start: Vec<u8>,
    hasher: Option<Box<Xxh3>>,
    len: usize,
}

impl Value {
    /// Appends a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.len += piece.len();
        match &mut self.hasher {
            Some(hasher) => hasher.update(piece),
            None if self.len <= MAX_INLINE => self.start.extend_from_slice(piece),
            None => {
                let hasher = self.hasher.insert(Box::default());
                hasher.update(&self.start);
                hasher.update(piece);
            }
        }
    }

    /// Appends the length and the bytes or their hash to `row`, and forgets the value.
    pub(super) fn finish(&mut self, row: &mut Vec<u8>) {
        row.extend_from_slice(&(self.len as u32).to_be_bytes());
        self.finish_bytes(row);
    }

    /// As [`finish`](Self::finish), for a field of text.
    pub(super) fn finish_text(&mut self, row: &mut Vec<u8>) {
        if self.hasher.is_none() {
            append_text(&self.start, row);
            self.clear();
        } else {
            self.finish(row);
        }
    }

    /// Whether no byte was pushed.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn finish_bytes(&mut self, row: &mut Vec<u8>) {
        match &self.hasher {
            Some(hasher) => row.extend_from_slice(&hasher.digest128().to_be_bytes()),
            None => row.extend_from_slice(&self.start),
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.start.clear();
        self.hasher = None;
        self.len = 0;
    }
}
