//! Columns put together into rows of COPY.

use super::columns::{Column, Columns, NULL, Width};
use super::id::Format;

/// Rows that are put together at a time: column by column, while their bytes stay in the nearest cache.
const BATCH: usize = 256;

/// Writes the rows of some columns, a stretch at a time.
///
/// The columns must be consistent: every value that a width, a length or a missing null bit announces is there.
/// What is not there is taken for empty, so that no damage makes it panic.
pub(super) struct Joiner<'a> {
    columns: Vec<Cursor<'a>>,
    /// Bytes of a row besides its values of changing length.
    base: usize,
    row: usize,
    rows: usize,
    format: Format,
    /// Where the next field of each row of the batch goes.
    places: Vec<usize>,
}

struct Cursor<'a> {
    column: &'a Column,
    /// The values that were not written yet.
    data: &'a [u8],
    /// Their lengths, where they differ.
    lengths: &'a [u32],
    kind: Kind,
}

/// How the values of a column are found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All are there and have one length.
    Fixed(usize),
    /// They are there and differ in length, or some are NULL.
    Varied,
}

impl<'a> Joiner<'a> {
    pub(super) fn new(columns: &'a Columns, format: Format) -> Self {
        let cursors: Vec<_> = columns
            .as_slice()
            .iter()
            .map(|column| Cursor {
                column,
                data: &column.data,
                lengths: &column.lengths,
                kind: match column.width {
                    Width::Fixed(width) if column.null_count == 0 => Kind::Fixed(width as usize),
                    _ => Kind::Varied,
                },
            })
            .collect();
        let overhead = match format {
            Format::Text => cursors.len().max(1),
            _ => 2 + 4 * cursors.len(),
        };
        let fixed = cursors.iter().map(|cursor| match cursor.kind {
            Kind::Fixed(width) => width,
            Kind::Varied => 0,
        });
        Self {
            base: overhead + fixed.sum::<usize>(),
            columns: cursors,
            row: 0,
            rows: columns.rows,
            format,
            places: Vec::with_capacity(BATCH),
        }
    }

    /// Appends some rows: one at least, and no more than `target` bytes if that is possible. False if there are none.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, target: usize) -> bool {
        let count = self.place_rows(out, target);
        match self.format {
            Format::Text => self.write_text(out),
            _ => self.write_binary(out),
        }
        self.row += count;
        count > 0
    }

    /// Finds out where the next rows go, makes room for them, and returns their number.
    fn place_rows(&mut self, out: &mut Vec<u8>, target: usize) -> usize {
        let count = BATCH.min(self.rows - self.row);
        self.places.clear();
        self.places.resize(count, self.base);
        for cursor in &self.columns {
            cursor.add_lengths(self.row, &mut self.places);
        }
        // Lengths become places.
        let mut end = out.len();
        let mut fitting = 0;
        for place in &mut self.places {
            let len = *place;
            if fitting > 0 && end - out.len() + len > target {
                break;
            }
            *place = end;
            end += len;
            fitting += 1;
        }
        self.places.truncate(fitting);
        out.resize(end, 0);
        fitting
    }

    fn write_binary(&mut self, out: &mut [u8]) {
        let mark = (self.columns.len() as u16).to_be_bytes();
        for place in &mut self.places {
            put(out, place, mark);
        }
        for cursor in &mut self.columns {
            match cursor.kind {
                Kind::Fixed(4) => cursor.put_fixed::<4, 8>(out, &mut self.places),
                Kind::Fixed(8) => cursor.put_fixed::<8, 12>(out, &mut self.places),
                _ => {
                    for (i, place) in self.places.iter_mut().enumerate() {
                        match cursor.next(self.row + i) {
                            Some(value) => {
                                put(out, place, (value.len() as u32).to_be_bytes());
                                put_bytes(out, place, value);
                            }
                            None => put(out, place, NULL.to_be_bytes()),
                        }
                    }
                }
            }
        }
    }

    fn write_text(&mut self, out: &mut [u8]) {
        for (number, cursor) in self.columns.iter_mut().enumerate() {
            for (i, place) in self.places.iter_mut().enumerate() {
                if number > 0 {
                    put(out, place, *b"\t");
                }
                put_bytes(out, place, cursor.next(self.row + i).unwrap_or_default());
            }
        }
        for place in &mut self.places {
            put(out, place, *b"\n");
        }
    }
}

impl<'a> Cursor<'a> {
    /// Adds the lengths of the next values to those of their rows, if they are not the same for all.
    fn add_lengths(&self, row: usize, rows: &mut [usize]) {
        if self.kind != Kind::Varied {
            return;
        }
        if let Width::Fixed(width) = self.column.width {
            for (i, len) in rows.iter_mut().enumerate() {
                *len += width as usize * usize::from(!self.column.is_null(row + i));
            }
            return;
        }
        let mut lengths = self.lengths.iter();
        for (i, len) in rows.iter_mut().enumerate() {
            if !self.column.is_null(row + i) {
                *len += lengths.next().map_or(0, |len| *len as usize);
            }
        }
    }

    /// Writes the length words and the values of a column without NULLs. `FIELD` is `WIDTH + 4`.
    fn put_fixed<const WIDTH: usize, const FIELD: usize>(
        &mut self,
        out: &mut [u8],
        places: &mut [usize],
    ) {
        let (values, _) = self.data.as_chunks::<WIDTH>();
        let mut field = [0; FIELD];
        field[..4].copy_from_slice(&(WIDTH as u32).to_be_bytes());
        for (place, value) in places.iter_mut().zip(values) {
            field[4..].copy_from_slice(value);
            put(out, place, field);
        }
        self.data = self.data.get(WIDTH * places.len()..).unwrap_or_default();
    }

    /// The value of `row`, rows being asked for in order; `None` for NULL.
    #[inline]
    fn next(&mut self, row: usize) -> Option<&'a [u8]> {
        let len = match (self.kind, self.column.width) {
            (Kind::Fixed(width), _) => width,
            (Kind::Varied, _) if self.column.is_null(row) => return None,
            (Kind::Varied, Width::Fixed(width)) => width as usize,
            (Kind::Varied, _) => {
                let (len, rest) = self.lengths.split_first()?;
                self.lengths = rest;
                *len as usize
            }
        };
        let (value, rest) = self.data.split_at_checked(len)?;
        self.data = rest;
        Some(value)
    }
}

/// Writes bytes at a place, if there is room, and moves the place behind them.
#[inline]
fn put<const N: usize>(out: &mut [u8], place: &mut usize, bytes: [u8; N]) {
    if let Some(slot) = out.get_mut(*place..).and_then(<[u8]>::first_chunk_mut) {
        *slot = bytes;
        *place += N;
    }
}

/// As [`put`], for bytes of any number. Short ones are copied without a call.
#[inline]
fn put_bytes(out: &mut [u8], place: &mut usize, bytes: &[u8]) {
    let Some(slot) = out.get_mut(*place..*place + bytes.len()) else {
        return;
    };
    match bytes.len() {
        0 => {}
        1..4 => slot
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from),
        4..=8 => put_ends::<4>(slot, bytes),
        9..=16 => put_ends::<8>(slot, bytes),
        _ => slot.copy_from_slice(bytes),
    }
    *place += bytes.len();
}

/// Copies between `N` and `2 * N` bytes, as the first `N` and the last `N`.
#[inline]
fn put_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        if let Some(slot) = to.first_chunk_mut() {
            *slot = *first;
        }
        if let Some(slot) = to.last_chunk_mut() {
            *slot = *last;
        }
    }
}
