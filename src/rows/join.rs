//! Columns put together into rows of COPY.

use super::columns::{Column, Columns, NULL, Width};
use super::id::Format;

/// Writes the rows of some columns, a stretch at a time.
pub(super) struct Joiner<'a> {
    columns: Vec<Cursor<'a>>,
    row: usize,
    rows: usize,
    format: Format,
}

struct Cursor<'a> {
    column: &'a Column,
    /// The values that were not written yet.
    data: &'a [u8],
    /// Their lengths, where they differ.
    lengths: &'a [u32],
    kind: Kind,
}

/// How the next value of a column is found, with the cheap cases told apart once.
#[derive(Clone, Copy)]
enum Kind {
    Four,
    Eight,
    Fixed(usize),
    Variable,
    /// Has NULLs.
    Sparse,
}

impl<'a> Joiner<'a> {
    /// The columns must be consistent: every value that a width, a length or a missing null bit announces is there.
    /// What is not there is left out, so that no damage makes it panic.
    pub(super) fn new(columns: &'a Columns, format: Format) -> Self {
        let cursors = columns.as_slice().iter().map(|column| Cursor {
            column,
            data: &column.data,
            lengths: &column.lengths,
            kind: match column.width {
                _ if column.null_count > 0 => Kind::Sparse,
                Width::Fixed(4) => Kind::Four,
                Width::Fixed(8) => Kind::Eight,
                Width::Fixed(width) => Kind::Fixed(width as usize),
                Width::Variable | Width::Unknown => Kind::Variable,
            },
        });
        Self {
            columns: cursors.collect(),
            row: 0,
            rows: columns.rows,
            format,
        }
    }

    /// Appends rows to `out` until it holds at least `target` bytes or there are no more. True if there may be more.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, target: usize) -> bool {
        match self.format {
            Format::Text => self.write_text(out, target),
            _ => self.write_binary(out, target),
        }
        self.row < self.rows
    }

    fn write_binary(&mut self, out: &mut Vec<u8>, target: usize) {
        let mark = (self.columns.len() as u16).to_be_bytes();
        while self.row < self.rows && out.len() < target {
            out.extend_from_slice(&mark);
            for cursor in &mut self.columns {
                match cursor.kind {
                    Kind::Eight => cursor.put_fixed::<8, 12>(out),
                    Kind::Four => cursor.put_fixed::<4, 8>(out),
                    _ => match cursor.next(self.row) {
                        Some(value) => {
                            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                            out.extend_from_slice(value);
                        }
                        None => out.extend_from_slice(&NULL.to_be_bytes()),
                    },
                }
            }
            self.row += 1;
        }
    }

    fn write_text(&mut self, out: &mut Vec<u8>, target: usize) {
        while self.row < self.rows && out.len() < target {
            for (i, cursor) in self.columns.iter_mut().enumerate() {
                if i > 0 {
                    out.push(b'\t');
                }
                out.extend_from_slice(cursor.next(self.row).unwrap_or_default());
            }
            out.push(b'\n');
            self.row += 1;
        }
    }
}

impl<'a> Cursor<'a> {
    /// Writes the length word and the value in one piece. `FIELD` is `WIDTH + 4`.
    #[inline]
    fn put_fixed<const WIDTH: usize, const FIELD: usize>(&mut self, out: &mut Vec<u8>) {
        let Some((value, rest)) = self.data.split_first_chunk::<WIDTH>() else {
            return;
        };
        let mut field = [0; FIELD];
        field[..4].copy_from_slice(&(WIDTH as u32).to_be_bytes());
        field[4..].copy_from_slice(value);
        out.extend_from_slice(&field);
        self.data = rest;
    }

    /// The value of `row`, rows being asked for in order; `None` for NULL.
    #[inline]
    fn next(&mut self, row: usize) -> Option<&'a [u8]> {
        let len = match self.kind {
            Kind::Four => 4,
            Kind::Eight => 8,
            Kind::Fixed(width) => width,
            Kind::Variable => self.next_length(),
            Kind::Sparse if self.column.is_null(row) => return None,
            Kind::Sparse => match self.column.width {
                Width::Fixed(width) => width as usize,
                _ => self.next_length(),
            },
        };
        let (value, rest) = self.data.split_at_checked(len).unwrap_or_default();
        self.data = rest;
        Some(value)
    }

    #[inline]
    fn next_length(&mut self) -> usize {
        match self.lengths.split_first() {
            Some((len, rest)) => {
                self.lengths = rest;
                *len as usize
            }
            None => 0,
        }
    }
}
