//! Row digests: what makes two tables equal.

use std::fmt;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::columns::NULL;
use super::error::RowsError;
use super::id::Format;
use super::kind::Shape;
use super::normalise::{Walker, has_oids};
use super::parts::PartDigester;
use super::value::{MAX_INLINE, Value, append_text, append_value};

/// The digest of some rows of a table: their count, and the sum modulo 2^128 of a 128-bit hash of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct RowDigest {
    /// Number of rows.
    pub rows: u64,
    /// Sum of the row hashes, modulo 2^128.
    pub sum: u128,
}

impl Add for RowDigest {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

impl AddAssign for RowDigest {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for RowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.rows, self.sum)
    }
}

/// How the rows of one table are digested.
#[derive(Debug, Clone)]
pub struct DigestPlan {
    pub(super) format: Format,
    pub(super) shapes: Vec<Shape>,
    /// The columns, by position, in order of their names.
    pub(super) order: Vec<usize>,
    /// Whether that is the order they stand in.
    in_order: bool,
    /// Whether no value can hold an OID.
    plain: bool,
}

impl DigestPlan {
    /// A plan for rows of the given columns, in the order of the payload.
    pub fn new(format: Format, columns: &[(String, Shape)]) -> Self {
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by(|a, b| columns[*a].0.as_bytes().cmp(columns[*b].0.as_bytes()));
        Self {
            format,
            in_order: order.is_sorted(),
            plain: format == Format::Text || !columns.iter().any(|(_, shape)| has_oids(shape)),
            shapes: columns.iter().map(|(_, shape)| shape.clone()).collect(),
            order,
        }
    }
}

/// Digests the rows of a segment, pushed in order: whole rows, or a huge row in parts.
pub struct Digester<'a> {
    plan: &'a DigestPlan,
    /// Where the fields of the last row stand, by position: start and length, with the length word. In a text row the
    /// start is that in the payload, in a binary row that in the row.
    fields: Vec<(usize, usize)>,
    /// Their length words, in a binary row.
    words: Vec<[u8; 4]>,
    /// Bytes of the last binary row, and of its longest value; no row is as long before the first.
    row_len: usize,
    longest: usize,
    /// What a row's hash is taken of.
    row: Vec<u8>,
    value: Value,
    walker: Walker<'a>,
    parts: PartDigester<'a>,
}

impl<'a> Digester<'a> {
    /// A digester for rows of the plan.
    pub fn new(plan: &'a DigestPlan) -> Self {
        Self {
            plan,
            fields: Vec::with_capacity(plan.order.len()),
            words: Vec::with_capacity(plan.order.len()),
            row_len: usize::MAX,
            longest: 0,
            row: Vec::new(),
            value: Value::default(),
            walker: Walker::default(),
            parts: PartDigester::new(plan),
        }
    }

    /// Digests whole rows.
    pub fn push_rows(&mut self, payload: &[u8]) -> Result<RowDigest, RowsError> {
        if !self.parts.is_idle() {
            return Err(malformed("a row in parts was not completed", 0));
        }
        match self.plan.format {
            Format::Text => self.push_text_rows(payload),
            _ => self.push_binary_rows(payload),
        }
    }

    fn push_binary_rows(&mut self, payload: &[u8]) -> Result<RowDigest, RowsError> {
        let mut digest = RowDigest::default();
        let mut pos = 0;
        while pos < payload.len() {
            let rest = &payload[pos..];
            if !self.like_the_last(rest) {
                self.row_len = usize::MAX;
                self.row_len = self
                    .find_fields(rest)
                    .map_err(|(detail, offset)| malformed(detail, pos + offset))?;
            }
            let hash = if !self.plan.plain || self.longest > MAX_INLINE {
                self.hash_row(rest)
            } else if self.plan.in_order {
                xxh3_128(&rest[2..self.row_len])
            } else {
                gather(&self.plan.order, &self.fields, rest, &mut self.row);
                xxh3_128(&self.row)
            };
            digest += RowDigest { rows: 1, sum: hash };
            pos += self.row_len;
        }
        Ok(digest)
    }

    /// Whether the row that starts here has its fields where the last one had them. Most have; to look whether all
    /// lengths are in their places is faster than to go from each to the next.
    #[inline]
    fn like_the_last(&self, rest: &[u8]) -> bool {
        self.row_len <= rest.len()
            && rest.starts_with(&(self.words.len() as u16).to_be_bytes())
            && self
                .fields
                .iter()
                .zip(&self.words)
                .all(|((start, _), word)| rest[*start..].first_chunk() == Some(word))
    }

    /// Finds the fields of the binary row that starts here; returns its length.
    fn find_fields(&mut self, rest: &[u8]) -> Result<usize, (&'static str, usize)> {
        let columns = self.plan.order.len();
        if !rest.starts_with(&(columns as u16).to_be_bytes()) {
            return Err(("a row has another number of fields", 0));
        }
        self.fields.clear();
        self.words.clear();
        self.longest = 0;
        let mut pos = 2;
        for _ in 0..columns {
            let Some(word) = rest[pos..].first_chunk() else {
                return Err(("a row is cut", pos));
            };
            let len = match u32::from_be_bytes(*word) {
                NULL => 0,
                len => len as usize,
            };
            if len > rest.len() - pos - 4 {
                return Err(("a field is longer than its row", pos));
            }
            self.longest = self.longest.max(len);
            self.fields.push((pos, 4 + len));
            self.words.push(*word);
            pos += 4 + len;
        }
        Ok(pos)
    }

    /// The hash of a binary row whose fields are found.
    fn hash_row(&mut self, row: &[u8]) -> u128 {
        self.row.clear();
        for column in &self.plan.order {
            let (start, len) = self.fields[*column];
            let (word, bytes) = row[start..start + len].split_at(4);
            let shape = &self.plan.shapes[*column];
            if has_oids(shape) && word != NULL.to_be_bytes() {
                self.walker.start(shape, bytes.len() as u64);
                self.walker.feed(bytes, |piece| self.value.push(piece));
                self.value.finish(&mut self.row);
            } else {
                self.row.extend_from_slice(word);
                append_value(bytes, &mut self.row);
            }
        }
        xxh3_128(&self.row)
    }

    fn push_text_rows(&mut self, payload: &[u8]) -> Result<RowDigest, RowsError> {
        let mut digest = RowDigest::default();
        let mut pos = 0;
        for line in payload.split_inclusive(|byte| *byte == b'\n') {
            let Some(row) = line.strip_suffix(b"\n") else {
                return Err(malformed("a row is cut", pos));
            };
            self.fields.clear();
            let mut start = pos;
            if !self.plan.order.is_empty() || !row.is_empty() {
                for field in row.split(|byte| *byte == b'\t') {
                    self.fields.push((start, field.len()));
                    start += field.len() + 1;
                }
            }
            if self.fields.len() != self.plan.order.len() {
                return Err(malformed("a row has another number of fields", pos));
            }
            self.row.clear();
            for column in &self.plan.order {
                let (start, len) = self.fields[*column];
                append_text(&payload[start..start + len], &mut self.row);
            }
            digest += RowDigest {
                rows: 1,
                sum: xxh3_128(&self.row),
            };
            pos += line.len();
        }
        Ok(digest)
    }

    /// Digests the next part of a row. The part that completes the row returns its digest, any other an empty one.
    pub fn push_part(&mut self, part: &[u8]) -> Result<RowDigest, RowsError> {
        let result = self.parts.push(part);
        if result.is_err() {
            self.parts = PartDigester::new(self.plan);
        }
        result
    }
}

/// Puts fields into `row`, in order of their names. `fields` says where each stands in `from`.
pub(super) fn gather(order: &[usize], fields: &[(usize, usize)], from: &[u8], row: &mut Vec<u8>) {
    /// Copying a constant number of bytes, some too many, is faster than a call for a few.
    const CHUNK: usize = 16;
    let total: usize = fields.iter().map(|(_, len)| len).sum();
    row.resize(total + CHUNK, 0);
    let mut at = 0;
    for column in order {
        let (start, len) = fields[*column];
        match (
            from[start..].first_chunk::<CHUNK>(),
            row[at..].first_chunk_mut(),
        ) {
            (Some(chunk), Some(slot)) if len <= CHUNK => *slot = *chunk,
            _ => row[at..at + len].copy_from_slice(&from[start..start + len]),
        }
        at += len;
    }
    row.truncate(total);
}

pub(super) fn malformed(detail: &'static str, offset: usize) -> RowsError {
    RowsError::Malformed { detail, offset }
}
