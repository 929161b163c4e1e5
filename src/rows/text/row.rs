//! Rows of COPY, binary or text, as lines of COPY's text format or of CSV.

use super::misc::hex;
use super::{NotAValue, TextType};
use crate::rows::Format;

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowStyle {
    /// COPY's text format: fields between tabs, `\N` for NULL.
    Text,
    /// COPY's CSV: fields between commas, nothing for NULL.
    Csv,
}

/// Text that is handed on at a time.
const FLUSH: usize = 1 << 20;

/// Turns the blocks of one table into lines.
///
/// A row that comes in parts is printed as it comes; only a value whose text depends on all of it is held whole: any in
/// CSV but `bytea`, as quotes around it depend on its last byte; in text any but those that travel as text, and `bytea`.
/// The server takes no value above 1 GiB.
#[derive(Debug)]
pub struct TextRows<'t> {
    types: &'t [TextType],
    format: Format,
    style: RowStyle,
    state: State,
    /// The beginning of something that came in parts.
    gathered: Vec<u8>,
    out: Vec<u8>,
    /// Lines so far.
    rows: u64,
}

/// Where in a row of parts the last part ended.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a row.
    Idle,
    /// Before the field of this number.
    Field(usize),
    /// Within a field that is held until it is whole; bytes that are missing.
    Gather(usize, usize),
    /// Within a field that is printed as it comes; bytes that are missing.
    Stream(usize, usize),
}

impl<'t> TextRows<'t> {
    /// Rows of this format, of columns of these types. Of text rows the types do not matter, only their number does.
    pub fn new(types: &'t [TextType], format: Format, style: RowStyle) -> Self {
        Self {
            types,
            format,
            style,
            state: State::Idle,
            gathered: Vec::new(),
            out: Vec::new(),
            rows: 0,
        }
    }

    /// Prints a block, and hands the text on in pieces. A block is whole rows or a part of one.
    pub fn block<E: From<NotAValue>>(
        &mut self,
        payload: &[u8],
        part: bool,
        emit: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match (self.format, self.style) {
            (Format::Text, RowStyle::Text) => return emit(payload),
            (Format::Text, RowStyle::Csv) => self.text_rows(payload, part, emit)?,
            _ if part => self.binary_part(payload, emit)?,
            _ => self.binary_rows(payload, emit)?,
        }
        self.flush(0, emit)
    }

    /// To be called after the last block: whether every row was whole.
    pub fn finish(&self) -> Result<(), NotAValue> {
        match self.state {
            State::Idle if self.gathered.is_empty() => Ok(()),
            _ => Err(NotAValue("a row breaks off")),
        }
    }

    /// Lines that were printed; nothing where text is passed on as it came.
    pub fn rows(&self) -> Option<u64> {
        let passed = (self.format, self.style) == (Format::Text, RowStyle::Text);
        (!passed).then_some(self.rows)
    }

    fn end_line(&mut self) {
        self.out.push(b'\n');
        self.rows += 1;
    }

    fn flush<E>(
        &mut self,
        above: usize,
        emit: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.out.len() > above {
            emit(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    fn binary_rows<E: From<NotAValue>>(
        &mut self,
        mut payload: &[u8],
        emit: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !payload.is_empty() {
            self.count(take(&mut payload)?)?;
            for field in 0..self.types.len() {
                self.separate(field);
                match length(take(&mut payload)?)? {
                    None => self.null(),
                    Some(len) => {
                        let value = payload
                            .split_off(..len)
                            .ok_or(NotAValue("a field breaks off"))?;
                        self.value(field, value)?;
                    }
                }
            }
            self.end_line();
            self.flush(FLUSH, emit)?;
        }
        Ok(())
    }

    fn count(&self, count: [u8; 2]) -> Result<(), NotAValue> {
        if usize::from(u16::from_be_bytes(count)) == self.types.len() {
            Ok(())
        } else {
            Err(NotAValue("a row of another number of fields"))
        }
    }

    fn separate(&mut self, field: usize) {
        if field > 0 {
            self.out.push(match self.style {
                RowStyle::Text => b'\t',
                RowStyle::Csv => b',',
            });
        }
    }

    fn null(&mut self) {
        if self.style == RowStyle::Text {
            self.out.extend_from_slice(b"\\N");
        }
    }

    fn value(&mut self, field: usize, value: &[u8]) -> Result<(), NotAValue> {
        let start = self.out.len();
        match (&self.types[field], self.style) {
            (TextType::Text, RowStyle::Text) => escape(value, &mut self.out),
            (kind, style) => {
                kind.render(value, &mut self.out)?;
                match style {
                    RowStyle::Text => escape_tail(start, &mut self.out),
                    RowStyle::Csv => quote_tail(start, self.types.len() == 1, &mut self.out),
                }
            }
        }
        Ok(())
    }

    /// Takes a part of a row.
    fn binary_part<E: From<NotAValue>>(
        &mut self,
        mut part: &[u8],
        emit: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            match self.state {
                State::Idle => {
                    // Where a part ends is not known to be where a row does; the next one begins with the next part.
                    let Some(count) = self.gather::<2>(&mut part) else {
                        return Ok(());
                    };
                    self.count(count)?;
                    self.state = State::Field(0);
                }
                State::Field(field) if field == self.types.len() => {
                    self.end_line();
                    self.state = State::Idle;
                    if !part.is_empty() {
                        return Err(NotAValue("a part goes on behind its row").into());
                    }
                    return Ok(());
                }
                State::Field(field) => {
                    let Some(len) = self.gather::<4>(&mut part) else {
                        return Ok(());
                    };
                    self.separate(field);
                    match length(len)? {
                        None => {
                            self.null();
                            self.state = State::Field(field + 1);
                        }
                        Some(len) => self.start(field, len),
                    }
                }
                State::Gather(field, missing) => {
                    let bytes = cut(&mut part, missing);
                    self.gathered.extend_from_slice(bytes);
                    self.state = State::Gather(field, missing - bytes.len());
                    if bytes.len() < missing {
                        return Ok(());
                    }
                    let value = std::mem::take(&mut self.gathered);
                    self.value(field, &value)?;
                    self.state = State::Field(field + 1);
                    self.flush(FLUSH, emit)?;
                }
                State::Stream(field, missing) => {
                    let bytes = cut(&mut part, missing);
                    for bytes in bytes.chunks(FLUSH) {
                        match &self.types[field] {
                            TextType::Bytea => hex(bytes, &mut self.out),
                            _ => escape(bytes, &mut self.out),
                        }
                        self.flush(FLUSH, emit)?;
                    }
                    self.state = State::Stream(field, missing - bytes.len());
                    if bytes.len() < missing {
                        return Ok(());
                    }
                    self.state = State::Field(field + 1);
                }
            }
        }
    }

    /// Begins a field of a row of parts.
    fn start(&mut self, field: usize, len: usize) {
        let streamed = match (&self.types[field], self.style) {
            (TextType::Bytea, RowStyle::Text) => {
                self.out.extend_from_slice(b"\\\\x");
                true
            }
            (TextType::Bytea, RowStyle::Csv) => {
                self.out.extend_from_slice(b"\\x");
                true
            }
            (TextType::Text, RowStyle::Text) => true,
            _ => false,
        };
        self.state = if streamed {
            State::Stream(field, len)
        } else {
            State::Gather(field, len)
        };
    }

    /// The next bytes of a row of parts, once all of them are there.
    fn gather<const N: usize>(&mut self, part: &mut &[u8]) -> Option<[u8; N]> {
        let bytes = cut(part, N - self.gathered.len());
        self.gathered.extend_from_slice(bytes);
        let whole = self.gathered.first_chunk().copied()?;
        self.gathered.clear();
        Some(whole)
    }

    /// Text rows as CSV. What a part begins is kept until its row is whole.
    fn text_rows<E: From<NotAValue>>(
        &mut self,
        payload: &[u8],
        part: bool,
        emit: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if part && payload.last() != Some(&b'\n') {
            self.gathered.extend_from_slice(payload);
            return Ok(());
        }
        let mut begun = std::mem::take(&mut self.gathered);
        let rows = if begun.is_empty() {
            payload
        } else {
            begun.extend_from_slice(payload);
            &begun
        };
        for row in rows.split_inclusive(|byte| *byte == b'\n') {
            let row = row
                .strip_suffix(b"\n")
                .ok_or(NotAValue("a row breaks off"))?;
            let fields = row.split(|byte| *byte == b'\t');
            for (n, field) in fields.enumerate() {
                self.separate(n);
                if field == b"\\N" {
                    continue;
                }
                if self.types.is_empty() && field.is_empty() {
                    continue;
                }
                let start = self.out.len();
                unescape(field, &mut self.out);
                quote_tail(start, self.types.len() == 1, &mut self.out);
            }
            self.end_line();
            self.flush(FLUSH, emit)?;
        }
        Ok(())
    }
}

/// The names of columns as the first line of CSV.
pub fn csv_header<'c>(names: impl Iterator<Item = &'c str>) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, name) in names.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        let start = out.len();
        out.extend_from_slice(name.as_bytes());
        quote_tail(start, false, &mut out);
    }
    out.push(b'\n');
    out
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NotAValue> {
    let (array, after) = rest
        .split_first_chunk()
        .ok_or(NotAValue("a row breaks off"))?;
    *rest = after;
    Ok(*array)
}

/// The first bytes, or all if there are fewer.
fn cut<'p>(part: &mut &'p [u8], len: usize) -> &'p [u8] {
    let (bytes, after) = part.split_at(len.min(part.len()));
    *part = after;
    bytes
}

/// The length of a field; `None` is NULL.
fn length(word: [u8; 4]) -> Result<Option<usize>, NotAValue> {
    match i32::from_be_bytes(word) {
        -1 => Ok(None),
        len => usize::try_from(len)
            .map(Some)
            .map_err(|_| NotAValue("a field of a negative length")),
    }
}

/// The letter that stands for a byte behind a backslash in COPY's text format.
fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0B => b'v',
        0x0C => b'f',
        b'\r' => b'r',
        b'\\' => b'\\',
        _ => return None,
    })
}

fn is_special(byte: u8) -> bool {
    byte == b'\\' || (8..=13).contains(&byte)
}

/// Appends text as a field of COPY's text format, or as a piece of one.
fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = text.iter().position(|byte| is_special(*byte)) {
        out.extend_from_slice(&text[..at]);
        if let Some(letter) = escaped(text[at]) {
            out.extend_from_slice(&[b'\\', letter]);
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

fn escape_tail(start: usize, out: &mut Vec<u8>) {
    if out[start..].iter().any(|byte| is_special(*byte)) {
        let tail = out.split_off(start);
        escape(&tail, out);
    }
}

/// Puts a field of CSV into quotes where it needs them. `alone` where a row has no other field: a line that is `\.` would
/// be taken for the end.
fn quote_tail(start: usize, alone: bool, out: &mut Vec<u8>) {
    let text = &out[start..];
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    let quoted = text.is_empty() || text.iter().any(special) || (alone && text == b"\\.");
    if !quoted {
        return;
    }
    let tail = out.split_off(start);
    out.push(b'"');
    for byte in tail {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// The value of a field of COPY's text format, in any encoding of a server; `None` is NULL.
pub fn copy_value(field: &[u8]) -> Option<Vec<u8>> {
    (field != b"\\N").then(|| {
        let mut value = Vec::with_capacity(field.len());
        unescape(field, &mut value);
        value
    })
}

/// Appends the value of a field of COPY's text format.
fn unescape(field: &[u8], out: &mut Vec<u8>) {
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 0x08,
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'v') => 0x0B,
                Some(b'f') => 0x0C,
                Some(b'r') => b'\r',
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
}
