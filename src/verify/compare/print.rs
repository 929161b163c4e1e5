//! Rows for people: the values of each column as the server prints them, long ones shortened.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::rows::Format;
use crate::rows::text::{TextType, copy_value};

/// Characters of a value that are shown.
const SHOWN: usize = 60;
/// Bytes of a value that are kept to print it; of a longer one its beginning, its length and its hash are told.
const KEPT: usize = 64 << 10;

/// What a shown row takes of memory for each column, at most.
pub const COLUMN_BYTES: usize = 4 * SHOWN + 64;

/// How the values of a column are printed.
#[derive(Debug, Clone)]
pub struct ColumnText {
    /// The type, if its values can be printed; else they are hexadecimal digits.
    pub text: Option<TextType>,
    /// Whether equal values have equal bytes in all databases.
    pub plain: bool,
}

/// Turns a row of COPY, which may come in parts, into its values.
pub struct Printer<'t> {
    columns: &'t [ColumnText],
    format: Format,
    state: State,
    word: Vec<u8>,
    /// The beginning of the value.
    kept: Vec<u8>,
    /// Bytes of the value so far, and their hash where not all are kept.
    len: u64,
    hasher: Option<Box<Xxh3>>,
    values: Vec<Option<String>>,
}

/// Where in its row the printer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the number of fields.
    Count,
    /// In the length of a field.
    Length,
    /// In a field of which so many bytes are missing.
    Bytes(usize),
    /// In a field of text, or between two.
    Text,
}

impl<'t> Printer<'t> {
    /// For a row of these columns.
    pub fn new(columns: &'t [ColumnText], format: Format) -> Self {
        Self {
            columns,
            format,
            state: match format {
                Format::Text => State::Text,
                _ => State::Count,
            },
            word: Vec::new(),
            kept: Vec::new(),
            len: 0,
            hasher: None,
            values: Vec::with_capacity(columns.len()),
        }
    }

    /// The next bytes of the row.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Count => self.word(bytes, 2),
                State::Length => self.word(bytes, 4),
                State::Bytes(missing) => {
                    let (value, rest) = bytes.split_at(missing.min(bytes.len()));
                    self.keep(value);
                    self.state = State::Bytes(missing - value.len());
                    rest
                }
                State::Text => {
                    let end = bytes.iter().position(|b| matches!(b, b'\t' | b'\n'));
                    let (value, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    self.keep(value);
                    if end.is_some() {
                        self.end(false);
                    }
                    rest.get(1..).unwrap_or_default()
                }
            };
            if self.state == State::Bytes(0) {
                self.end(false);
                self.state = State::Length;
            }
        }
    }

    /// The values of the row, in the order of the columns; `None` is NULL.
    pub fn finish(mut self) -> Vec<Option<String>> {
        self.values.truncate(self.columns.len());
        self.values
    }

    /// Takes bytes of a number of this many; what is left of them.
    fn word<'b>(&mut self, bytes: &'b [u8], size: usize) -> &'b [u8] {
        let (part, rest) = bytes.split_at((size - self.word.len()).min(bytes.len()));
        self.word.extend_from_slice(part);
        if self.word.len() == size {
            let word = std::mem::take(&mut self.word);
            self.state = match word[..] {
                [a, b, c, d] => match usize::try_from(i32::from_be_bytes([a, b, c, d])) {
                    Ok(len) => State::Bytes(len),
                    Err(_) => {
                        self.end(true);
                        State::Length
                    }
                },
                _ => State::Length,
            };
        }
        rest
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = (KEPT - self.kept.len()).min(bytes.len());
        if self.hasher.is_none() && room < bytes.len() {
            let hasher = self.hasher.insert(Box::default());
            hasher.update(&self.kept);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.kept.extend_from_slice(&bytes[..room]);
        self.len += bytes.len() as u64;
    }

    fn end(&mut self, null: bool) {
        let column = self.columns.get(self.values.len());
        let value = column
            .filter(|_| !null)
            .and_then(|column| self.value(column));
        self.values.push(value);
        self.kept.clear();
        self.len = 0;
        self.hasher = None;
    }

    /// The value that was gathered; `None` is NULL.
    fn value(&self, column: &ColumnText) -> Option<String> {
        let hash = match &self.hasher {
            Some(hasher) => hasher.digest(),
            None => xxh3_64(&self.kept),
        };
        let mut text = Vec::new();
        match (self.format, &column.text) {
            (Format::Text, _) => text = copy_value(&self.kept)?,
            // The beginning of text is text; that of anything else cannot be printed.
            (_, Some(TextType::Text)) => text.extend_from_slice(&self.kept),
            (_, Some(kind))
                if self.hasher.is_none() && kind.render(&self.kept, &mut text).is_ok() => {}
            _ => {
                text = b"\\x".to_vec();
                let shown = self.kept.iter().take(SHOWN);
                shown.for_each(|byte| text.extend_from_slice(format!("{byte:02x}").as_bytes()));
            }
        }
        let whole = self.hasher.is_none();
        // Where OIDs are in it, only what is printed is the same in both databases.
        let hash = match (column.plain, whole) {
            (true, _) => Some(hash),
            (false, true) => Some(xxh3_64(&text)),
            (false, false) => None,
        };
        Some(shorten(
            &String::from_utf8_lossy(&text),
            self.len,
            whole,
            hash,
        ))
    }
}

/// The beginning of a long text, the length of its value in bytes, and its hash, so that two with one beginning can be told
/// apart.
fn shorten(text: &str, len: u64, whole: bool, hash: Option<u64>) -> String {
    if whole && text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(SHOWN).collect();
    shown.push_str(&format!("... ({len} bytes"));
    if let Some(hash) = hash {
        shown.push_str(&format!(", hash {:08x}", hash as u32));
    }
    shown.push(')');
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(types: &[Option<TextType>]) -> Vec<ColumnText> {
        let columns = types.iter().cloned();
        columns
            .map(|text| ColumnText { text, plain: true })
            .collect()
    }

    fn binary(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut row = (values.len() as u16).to_be_bytes().to_vec();
        for value in values {
            let len = value.map_or(-1, |value| value.len() as i32);
            row.extend_from_slice(&len.to_be_bytes());
            row.extend_from_slice(value.unwrap_or_default());
        }
        row
    }

    fn print(columns: &[ColumnText], format: Format, row: &[u8]) -> Vec<Option<String>> {
        let mut printer = Printer::new(columns, format);
        printer.push(row);
        printer.finish()
    }

    #[test]
    fn null_and_empty_are_not_the_same() {
        let columns = columns(&[Some(TextType::Text), Some(TextType::Int4), None]);
        let row = binary(&[Some(b""), None, Some(&[0xab])]);
        let values = [Some(String::new()), None, Some("\\xab".to_owned())];
        assert_eq!(print(&columns, Format::Binary, &row), values);
        let values = [Some(String::new()), None, Some("a\tb".to_owned())];
        assert_eq!(print(&columns, Format::Text, b"\t\\N\ta\\tb\n"), values);
    }

    #[test]
    fn long_values_of_one_beginning_can_be_told_apart() {
        let columns = columns(&[Some(TextType::Text)]);
        for len in [200, KEPT + 10] {
            let (a, mut b) = (vec![b'x'; len], vec![b'x'; len]);
            b[len - 1] = b'y';
            let [a, b] = [a, b].map(|v| print(&columns, Format::Binary, &binary(&[Some(&v)])));
            assert_ne!(a, b);
            let a = a[0].as_deref().unwrap();
            assert!(
                a.starts_with("xxx") && a.contains(&format!("{len} bytes")),
                "{a}"
            );
            assert!(a.len() <= COLUMN_BYTES, "{a}");
        }
    }

    proptest! {
        #[test]
        fn a_row_prints_the_same_however_it_is_cut(
            values in prop::collection::vec(prop::option::of("[a-z\t\\\\]{0,80}"), 0..5), cuts in prop::collection::vec(1usize..9, 1..9),
        ) {
            let types = vec![Some(TextType::Text); values.len()];
            let columns = columns(&types);
            let bytes: Vec<Option<&[u8]>> = values.iter().map(|v| v.as_deref().map(str::as_bytes)).collect();
            let row = binary(&bytes);
            let whole = print(&columns, Format::Binary, &row);
            prop_assert_eq!(whole.len(), values.len());
            let mut printer = Printer::new(&columns, Format::Binary);
            let (mut rest, mut sizes) = (&row[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (part, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                printer.push(part);
                rest = after;
            }
            prop_assert_eq!(printer.finish(), whole);
        }

        #[test]
        fn nothing_that_a_server_may_send_breaks_the_printer(row in prop::collection::vec(any::<u8>(), 0..200), text in any::<bool>()) {
            let columns = columns(&[Some(TextType::Int4), None, Some(TextType::Text)]);
            let format = if text { Format::Text } else { Format::Binary };
            print(&columns, format, &row);
        }
    }
}
