//! Rows of COPY taken apart into columns.

/// The values of one column, joined, as they stood in the rows.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// The values that are not NULL, end to end.
    pub data: Vec<u8>,
    /// How the values are delimited within `data`.
    pub width: Width,
    /// The length of each value that is not NULL, if they differ; else empty.
    pub lengths: Vec<u32>,
    /// One bit for each row, set where the value is NULL; empty if none is. Lowest bit first.
    pub nulls: Vec<u8>,
    /// Number of NULLs.
    pub null_count: usize,
}

/// Whether the values of a column have one length.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// There was no value yet.
    #[default]
    Unknown,
    /// All have this many bytes.
    Fixed(u32),
    /// They differ.
    Variable,
}

/// The length word of NULL.
pub(super) const NULL: u32 = u32::MAX;

/// Capacity that is kept for the next block. A workload that spreads more over its columns gives the memory back.
const KEEP: usize = 24 << 20;

impl Column {
    pub(super) fn clear(&mut self) {
        self.data.clear();
        self.width = Width::Unknown;
        self.lengths.clear();
        self.nulls.clear();
        self.null_count = 0;
    }

    fn capacity(&self) -> usize {
        self.data.capacity() + 4 * self.lengths.capacity() + self.nulls.capacity()
    }

    /// Marks the value of `row` as NULL.
    pub(super) fn push_null(&mut self, row: usize) {
        let byte = row / 8;
        if self.nulls.len() <= byte {
            self.nulls.resize(byte + 1, 0);
        }
        self.nulls[byte] |= 1 << (row % 8);
        self.null_count += 1;
    }

    /// Whether the value of `row` is NULL.
    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls
            .get(row / 8)
            .is_some_and(|byte| byte & (1 << (row % 8)) != 0)
    }

    /// Appends a value, whatever its length. `values` is the number of values before it.
    #[inline]
    pub(super) fn push(&mut self, value: &[u8], values: usize) {
        let len = value.len() as u32;
        match self.width {
            Width::Variable => self.lengths.push(len),
            Width::Fixed(width) if width == len => {}
            Width::Fixed(width) => {
                self.lengths.resize(values, width);
                self.lengths.push(len);
                self.width = Width::Variable;
            }
            Width::Unknown => self.width = Width::Fixed(len),
        }
        self.data.extend_from_slice(value);
    }

    /// The values, in order. `values` is their number.
    pub(super) fn values(&self, values: usize) -> Values<'_> {
        Values {
            column: self,
            next: 0,
            values,
            offset: 0,
        }
    }
}

/// Iterates over the values of a column that are not NULL.
pub(super) struct Values<'a> {
    column: &'a Column,
    next: usize,
    values: usize,
    offset: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.next == self.values {
            return None;
        }
        let len = match self.column.width {
            Width::Fixed(width) => width,
            _ => *self.column.lengths.get(self.next)?,
        } as usize;
        let value = self.column.data.get(self.offset..self.offset + len)?;
        self.next += 1;
        self.offset += len;
        Some(value)
    }
}

/// The columns of a block, with memory that is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Columns {
    columns: Vec<Column>,
    count: usize,
    pub rows: usize,
}

impl Columns {
    /// Forgets the rows, and prepares for rows of `count` columns.
    pub(super) fn reset(&mut self, count: usize) {
        if self.columns.iter().map(Column::capacity).sum::<usize>() > KEEP {
            self.columns.clear();
        }
        if self.columns.len() < count {
            self.columns.resize_with(count, Column::default);
        }
        self.columns.iter_mut().for_each(Column::clear);
        self.count = count;
        self.rows = 0;
    }

    pub(super) fn as_slice(&self) -> &[Column] {
        &self.columns[..self.count]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Column] {
        &mut self.columns[..self.count]
    }

    /// Takes rows of binary COPY apart. `None` if the payload is anything else.
    pub(super) fn split_binary(&mut self, payload: &[u8], count: u16) -> Option<()> {
        self.reset(usize::from(count));
        let mark = count.to_be_bytes();
        let mut rest = payload;
        let mut row = 0;
        while !rest.is_empty() {
            rest = rest.strip_prefix(&mark)?;
            for column in &mut self.columns[..self.count] {
                let (word, after) = rest.split_first_chunk()?;
                let len = u32::from_be_bytes(*word);
                rest = if column.width == Width::Fixed(len) {
                    append_fixed(&mut column.data, after, len as usize)?
                } else if len == NULL {
                    column.push_null(row);
                    after
                } else if column.width == Width::Variable && len <= 16 && after.len() >= 16 {
                    // Copying a constant number of bytes and cutting is faster than a call for a few.
                    column.lengths.push(len);
                    let end = column.data.len() + len as usize;
                    column.data.extend_from_slice(after.first_chunk::<16>()?);
                    column.data.truncate(end);
                    &after[len as usize..]
                } else {
                    let (value, after) = after.split_at_checked(len as usize)?;
                    column.push(value, row - column.null_count);
                    after
                };
            }
            row += 1;
        }
        self.rows = row;
        Some(())
    }

    /// Takes rows of text COPY apart. `None` if the payload is anything else.
    pub(super) fn split_text(&mut self, payload: &[u8], count: u16) -> Option<()> {
        self.reset(usize::from(count));
        // A column costs four bytes a field besides its values; the payload only one.
        let fields = payload
            .iter()
            .filter(|b| matches!(b, b'\t' | b'\n'))
            .count();
        if fields > payload.len() / 4 + 1024 || !matches!(payload.last(), None | Some(b'\n')) {
            return None;
        }
        let mut row = 0;
        for line in payload.split_inclusive(|b| *b == b'\n') {
            let line = &line[..line.len() - 1];
            if self.count == 0 {
                if !line.is_empty() {
                    return None;
                }
            } else {
                let mut fields = line.split(|b| *b == b'\t');
                for column in &mut self.columns[..self.count] {
                    column.push(fields.next()?, row);
                }
                if fields.next().is_some() {
                    return None;
                }
            }
            row += 1;
        }
        self.rows = row;
        Some(())
    }
}

/// Appends the first `len` bytes of `from` and returns what follows them. The usual widths are copied inline.
#[inline]
fn append_fixed<'a>(data: &mut Vec<u8>, from: &'a [u8], len: usize) -> Option<&'a [u8]> {
    match len {
        8 => {
            let (value, after) = from.split_first_chunk::<8>()?;
            data.extend_from_slice(value);
            Some(after)
        }
        4 => {
            let (value, after) = from.split_first_chunk::<4>()?;
            data.extend_from_slice(value);
            Some(after)
        }
        _ => {
            let (value, after) = from.split_at_checked(len)?;
            data.extend_from_slice(value);
            Some(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_row_falls_apart_into_its_fields() {
        let mut columns = Columns::default();
        let payload = b"\0\x02\0\0\0\x01a\0\0\0\x02bc\0\x02\xff\xff\xff\xff\0\0\0\x01d";
        columns.split_binary(payload, 2).unwrap();
        assert_eq!(columns.rows, 2);
        let [first, second] = columns.as_slice() else {
            panic!("two columns");
        };
        assert_eq!(first.values(1).collect::<Vec<_>>(), [b"a"]);
        assert!(!first.is_null(0) && first.is_null(1));
        assert_eq!(second.values(2).collect::<Vec<_>>(), [&b"bc"[..], b"d"]);
        assert_eq!(second.width, Width::Variable);
    }

    #[test]
    fn what_is_not_rows_is_refused() {
        let mut columns = Columns::default();
        for payload in [
            &b"\0"[..],
            b"\0\x01",
            b"\0\x02\0\0\0\0",
            b"\0\x01\0\0\0\x05ab",
            b"\0\x01\xff\xff\xff\xfe",
        ] {
            assert!(columns.split_binary(payload, 1).is_none(), "{payload:?}");
        }
        for payload in [&b"a\tb"[..], b"a\n", b"a\tb\tc\n", b"\n"] {
            assert!(columns.split_text(payload, 2).is_none(), "{payload:?}");
        }
    }

    #[test]
    fn a_text_row_falls_apart_at_its_tabs() {
        let mut columns = Columns::default();
        columns.split_text(b"a\t\\N\n\t\n", 2).unwrap();
        assert_eq!(columns.rows, 2);
        assert_eq!(
            columns.as_slice()[0].values(2).collect::<Vec<_>>(),
            [&b"a"[..], b""]
        );
        columns.split_text(b"\n\n", 0).unwrap();
        assert_eq!(columns.rows, 2);
    }
}
