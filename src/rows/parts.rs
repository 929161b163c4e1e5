//! The digest of a row that is too large to be held: it comes in parts, cut anywhere.

use xxhash_rust::xxh3::xxh3_128;

use super::columns::NULL;
use super::digest::{DigestPlan, RowDigest, gather, malformed};
use super::error::RowsError;
use super::id::Format;
use super::normalise::{Walker, has_oids};
use super::value::Value;

/// Digests rows that come in parts.
pub(super) struct PartDigester<'a> {
    plan: &'a DigestPlan,
    state: State,
    value: Value,
    walker: Walker<'a>,
    /// What the complete fields contribute, in the order they came.
    contributions: Vec<u8>,
    /// Where the contribution of each stands.
    fields: Vec<(usize, usize)>,
}

/// Where in its row the last part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two rows.
    Idle,
    /// Within the count of fields, of which this byte is there.
    Count(u8),
    /// Within the length of a field, of which so many bytes are there.
    Length([u8; 4], usize),
    /// Within a field of which so many bytes are missing, and whether the walker looks at them.
    Bytes(usize, bool),
    /// Within a field of text.
    Text,
}

impl<'a> PartDigester<'a> {
    pub(super) fn new(plan: &'a DigestPlan) -> Self {
        Self {
            plan,
            state: State::Idle,
            value: Value::default(),
            walker: Walker::default(),
            contributions: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// Whether no row has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Digests the next part. After an error the digester is of no use.
    pub(super) fn push(&mut self, part: &[u8]) -> Result<RowDigest, RowsError> {
        let mut rest = part;
        while !rest.is_empty() {
            let at = |rest: &[u8]| part.len() - rest.len();
            let complete = match self.plan.format {
                Format::Text => self.text(&mut rest),
                _ => self.binary(&mut rest),
            }
            .map_err(|detail| malformed(detail, at(rest)))?;
            if complete {
                if !rest.is_empty() {
                    return Err(malformed("a part goes on behind its row", at(rest)));
                }
                let mut row = Vec::new();
                gather(
                    &self.plan.order,
                    &self.fields,
                    &self.contributions,
                    &mut row,
                );
                self.state = State::Idle;
                self.fields.clear();
                self.contributions.clear();
                return Ok(RowDigest {
                    rows: 1,
                    sum: xxh3_128(&row),
                });
            }
        }
        Ok(RowDigest::default())
    }

    /// Takes some bytes of a binary row, at least one. True if the row is complete.
    fn binary(&mut self, rest: &mut &[u8]) -> Result<bool, &'static str> {
        match self.state {
            State::Idle | State::Text => self.state = State::Count(take(rest, 1)[0]),
            State::Count(first) => {
                let count = u16::from_be_bytes([first, take(rest, 1)[0]]);
                if usize::from(count) != self.plan.order.len() {
                    return Err("a row has another number of fields");
                }
                return Ok(self.next_field());
            }
            State::Length(mut word, have) => {
                let bytes = take(rest, 4 - have);
                let end = have + bytes.len();
                word[have..end].copy_from_slice(bytes);
                self.state = State::Length(word, end);
                if end == 4 {
                    return self.start_value(u32::from_be_bytes(word));
                }
            }
            State::Bytes(left, walk) => {
                let bytes = take(rest, left);
                if walk {
                    self.walker.feed(bytes, |piece| self.value.push(piece));
                } else {
                    self.value.push(bytes);
                }
                self.state = State::Bytes(left - bytes.len(), walk);
                if left == bytes.len() {
                    return Ok(self.finish_value());
                }
            }
        }
        Ok(false)
    }

    /// Prepares for the next field. True if there is none.
    fn next_field(&mut self) -> bool {
        self.state = State::Length([0; 4], 0);
        self.fields.len() == self.plan.order.len()
    }

    /// The length of a field is known.
    fn start_value(&mut self, len: u32) -> Result<bool, &'static str> {
        if len == NULL {
            self.fields.push((self.contributions.len(), 4));
            self.contributions.extend_from_slice(&NULL.to_be_bytes());
            return Ok(self.next_field());
        }
        if i32::try_from(len).is_err() {
            return Err("a field has a negative length");
        }
        let shape = &self.plan.shapes[self.fields.len()];
        let walk = has_oids(shape);
        if walk {
            self.walker.start(shape, u64::from(len));
        }
        self.state = State::Bytes(len as usize, walk);
        Ok(len == 0 && self.finish_value())
    }

    /// A value is complete. True if the row is too.
    fn finish_value(&mut self) -> bool {
        let start = self.contributions.len();
        self.value.finish(&mut self.contributions);
        self.fields.push((start, self.contributions.len() - start));
        self.next_field()
    }

    /// Takes some bytes of a text row, at least one. True if the row is complete.
    fn text(&mut self, rest: &mut &[u8]) -> Result<bool, &'static str> {
        self.state = State::Text;
        let len = rest
            .iter()
            .position(|byte| matches!(byte, b'\t' | b'\n'))
            .unwrap_or(rest.len());
        let bytes = take(rest, len);
        self.value.push(bytes);
        if rest.is_empty() {
            return Ok(false);
        }
        let last = take(rest, 1) == b"\n";
        // A row of no columns has one field, which is empty.
        if self.plan.order.is_empty() && last && self.value.is_empty() {
            return Ok(true);
        }
        let start = self.contributions.len();
        self.value.finish_text(&mut self.contributions);
        self.fields.push((start, self.contributions.len() - start));
        let (fields, columns) = (self.fields.len(), self.plan.order.len());
        if fields > columns || (last && fields < columns) {
            return Err("a row has another number of fields");
        }
        Ok(last)
    }
}

/// Cuts off the first `len` bytes, or all if there are fewer.
fn take<'b>(rest: &mut &'b [u8], len: usize) -> &'b [u8] {
    let (bytes, after) = rest.split_at(len.min(rest.len()));
    *rest = after;
    bytes
}
