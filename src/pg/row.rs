//! Rows of control queries: text values, few at a time.

use super::error::Error;

/// One row of a result, all values as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    bytes: Vec<u8>,
    /// Start and length of each value; None is NULL.
    values: Vec<Option<(u32, u32)>>,
}

impl Row {
    /// Reads a DataRow message.
    pub(super) fn parse(body: &[u8]) -> Result<Row, Error> {
        let short = || Error::Protocol("short row".to_owned());
        let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
        let count = usize::from(u16::from_be_bytes(*count));
        let mut values = Vec::with_capacity(count);
        let mut at = 2usize;
        for _ in 0..count {
            let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let len = i32::from_be_bytes(*len);
            at += 4;
            rest = tail;
            if len < 0 {
                values.push(None);
                continue;
            }
            let len = len as u32; // Not negative.
            rest = rest.get(len as usize..).ok_or_else(short)?;
            values.push(Some((at as u32, len)));
            at += len as usize;
        }
        Ok(Row {
            bytes: body.to_vec(),
            values,
        })
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True for a row without columns.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The bytes of a value, whatever their encoding; None for NULL and for columns that are not there.
    pub fn raw(&self, column: usize) -> Option<&[u8]> {
        let (start, len) = (*self.values.get(column)?)?;
        self.bytes.get(start as usize..(start + len) as usize)
    }

    /// A value as text; None for NULL. [`Connection::query`](super::Connection::query) has made sure that all values are UTF-8.
    pub fn get(&self, column: usize) -> Option<&str> {
        std::str::from_utf8(self.raw(column)?).ok()
    }

    /// The first column whose value is not UTF-8.
    pub(super) fn not_utf8(&self) -> Option<usize> {
        (0..self.len()).find(|i| self.raw(*i).is_some() && self.get(*i).is_none())
    }

    fn wrong(&self, column: usize, expected: &str) -> Error {
        Error::Value {
            column,
            message: match self.raw(column) {
                Some(bytes) => {
                    let text = String::from_utf8_lossy(bytes);
                    format!("expected {expected}, found \"{text}\"")
                }
                None => format!("expected {expected}, found NULL"),
            },
        }
    }

    /// A text value that must be there.
    pub fn text(&self, column: usize) -> Result<&str, Error> {
        self.get(column).ok_or_else(|| self.wrong(column, "text"))
    }

    fn parsed<T: std::str::FromStr>(&self, column: usize, expected: &str) -> Result<T, Error> {
        self.get(column)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.wrong(column, expected))
    }

    /// A `bigint` or smaller that must be there.
    pub fn get_i64(&self, column: usize) -> Result<i64, Error> {
        self.parsed(column, "an integer")
    }

    /// A `boolean` that must be there.
    pub fn get_bool(&self, column: usize) -> Result<bool, Error> {
        match self.get(column) {
            Some("t") => Ok(true),
            Some("f") => Ok(false),
            _ => Err(self.wrong(column, "a boolean")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_and_damage_is_an_error() {
        let body = b"\0\x04\0\0\0\x0242\xff\xff\xff\xff\0\0\0\x01t\0\0\0\x01\xff";
        let row = Row::parse(body).unwrap();
        assert_eq!(row.len(), 4);
        assert_eq!(row.get_i64(0).unwrap(), 42);
        assert_eq!(row.get(1), None);
        assert!(row.get_bool(2).unwrap());
        assert_eq!(row.not_utf8(), Some(3));
        assert!(row.get_i64(1).unwrap_err().to_string().contains("NULL"));
        assert!(row.get_bool(0).is_err());
        assert_eq!(row.get(9), None);
        for cut in 0..body.len() {
            assert!(Row::parse(&body[..cut]).is_err());
        }
    }
}
