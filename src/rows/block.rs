//! The encoded block: header, and columns or rows behind it (`docs/format.md`).

use super::codec::{ColumnDecoder, ColumnEncoder, Effort, MIN_COLUMN};
use super::columns::Columns;
use super::error::RowsError;
use super::id::Format;
use super::join::Joiner;
use super::kind::ColumnKind;
use super::wire::Reader;

/// The most bytes of payload that a block holds.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// First bytes of an encoded block.
const MAGIC: [u8; 3] = *b"pgb";
/// Version of the header and of the layouts.
const VERSION: u8 = 1;
/// Bytes of the header.
const HEADER: usize = 16;

/// How a payload is stored.
pub(super) struct Layout;

impl Layout {
    /// As it is.
    pub const RAW: u8 = 0;
    /// As one zstd frame.
    pub const ROWS: u8 = 1;
    /// Taken apart into columns.
    pub const COLUMNS: u8 = 2;
}
// 3 is reserved for a block that is a patch of another, named by its id (32 bytes after the header); depth one.

/// Rows are put together and compared in pieces of this size.
const PIECE: usize = 64 << 10;
/// From this size on, memory that is not needed for a while is given back.
const LARGE: usize = 4 << 20;
/// Capacity of the scratch that is kept for the next block.
const KEEP: usize = 24 << 20;

/// What the header of an encoded block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockInfo {
    /// What the payload is.
    pub format: Format,
    /// Columns of the rows.
    pub columns: u16,
    /// Number of rows; 0 if the payload is not whole rows.
    pub rows: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
}

impl BlockInfo {
    fn write(&self, layout: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, self.format as u8, layout]);
        out.extend_from_slice(&self.columns.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.payload_len.to_le_bytes());
    }

    /// Bytes of the payload that are not bytes of values: counts, lengths, separators.
    fn overhead(&self) -> Option<usize> {
        let columns = usize::from(self.columns);
        let row = match self.format {
            Format::Binary => 2 + 4 * columns,
            Format::Text => columns.max(1),
            Format::Part | Format::Other => return None,
        };
        row.checked_mul(self.rows as usize)
    }
}

/// Reads the header of an encoded block.
pub fn read_header(encoded: &[u8]) -> Result<BlockInfo, RowsError> {
    parse(encoded).map(|(info, ..)| info)
}

/// The header, the layout and what follows.
pub(super) fn parse(encoded: &[u8]) -> Result<(BlockInfo, u8, Reader<'_>), RowsError> {
    let mut reader = Reader(encoded);
    if reader.array()? != MAGIC {
        return Err(RowsError::damaged("it does not start as a block"));
    }
    let version = reader.u8()?;
    if version != VERSION {
        return Err(RowsError::Unknown {
            what: "the version",
            value: version,
        });
    }
    let format = reader.u8()?;
    let format = Format::from_byte(format).ok_or(RowsError::Unknown {
        what: "the format",
        value: format,
    })?;
    let layout = reader.u8()?;
    let info = BlockInfo {
        format,
        columns: reader.u16()?,
        rows: reader.u32()?,
        payload_len: reader.u32()?,
    };
    if info.payload_len as usize > MAX_PAYLOAD {
        return Err(RowsError::damaged("its payload is larger than any block's"));
    }
    if info.rows > 0
        && info
            .overhead()
            .is_none_or(|len| len > info.payload_len as usize)
    {
        return Err(RowsError::damaged(
            "it has more rows than its payload can hold",
        ));
    }
    Ok((info, layout, reader))
}

/// Encodes blocks. Keeps its memory for the next one.
pub struct Encoder {
    columns: Columns,
    encoder: ColumnEncoder,
    decoder: ColumnDecoder,
    /// The block by rows, where that might be smaller; a piece of the block as it decodes.
    scratch: Vec<u8>,
}

impl Encoder {
    /// An encoder of the given effort.
    pub fn new(effort: Effort) -> Self {
        Self {
            columns: Columns::default(),
            encoder: ColumnEncoder::new(effort),
            decoder: ColumnDecoder::default(),
            scratch: Vec::new(),
        }
    }

    /// Encodes a payload into `out`, decodes it again and compares. `kinds` has a hint for each column, or is
    /// empty. On an error `out` is empty.
    pub fn encode(
        &mut self,
        format: Format,
        kinds: &[ColumnKind],
        columns: u16,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<BlockInfo, RowsError> {
        out.clear();
        let result = self.encode_verified(format, kinds, columns, payload, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn encode_verified(
        &mut self,
        format: Format,
        kinds: &[ColumnKind],
        columns: u16,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<BlockInfo, RowsError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(RowsError::TooLarge {
                len: payload.len(),
                max: MAX_PAYLOAD,
            });
        }
        let split = match format {
            Format::Binary => self.columns.split_binary(payload, columns),
            Format::Text => self.columns.split_text(payload, columns),
            Format::Part | Format::Other => None,
        };
        let info = BlockInfo {
            format,
            columns,
            rows: split.map_or(0, |()| self.columns.rows as u32),
            payload_len: payload.len() as u32,
        };
        self.scratch.clear();
        if split.is_none() || !self.encode_columns(&info, kinds, payload, out)? {
            self.encode_rows(&info, payload, out)?;
        }
        self.scratch.shrink_to(KEEP);
        Ok(info)
    }

    /// Encodes by column. False if that is no good; the scratch then holds the payload as one zstd frame, or nothing.
    fn encode_columns(
        &mut self,
        info: &BlockInfo,
        kinds: &[ColumnKind],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, RowsError> {
        info.write(Layout::COLUMNS, out);
        let rows = self.columns.rows;
        for (i, column) in self.columns.as_slice().iter().enumerate() {
            let kind = kinds.get(i).copied().unwrap_or(ColumnKind::Bytes);
            self.encoder.encode(column, rows, kind, out)?;
        }
        // Columns that save little may be worse than rows: only then is it worth the work to find out.
        if out.len() > payload.len() / 2 {
            let large = payload.len() > LARGE;
            if large {
                self.columns = Columns::default();
            }
            self.encoder.squeeze(payload, &mut self.scratch)?;
            if self.scratch.len() + HEADER <= out.len() {
                return Ok(false);
            }
            if large {
                self.scratch = Vec::new();
            }
        }
        if out.len() >= payload.len() {
            return Ok(false);
        }
        // Columns that do not come back as they were are stored by rows, which cannot fail in the same way.
        let holds = self.columns_hold(payload, out);
        self.scratch.clear();
        Ok(holds)
    }

    /// Decodes the block as a restore would, and compares all of it with the payload. Only the last copy is cut
    /// into pieces, so that comparing needs no memory for a second payload; the columns, no longer needed, are
    /// decoded over.
    fn columns_hold(&mut self, payload: &[u8], encoded: &[u8]) -> bool {
        let Ok((info, Layout::COLUMNS, mut reader)) = parse(encoded) else {
            return false;
        };
        if decode_columns(&info, &mut reader, &mut self.decoder, &mut self.columns).is_err() {
            return false;
        }
        let mut joiner = Joiner::new(&self.columns, info.format);
        let mut rest = payload;
        loop {
            self.scratch.clear();
            if !joiner.write(&mut self.scratch, PIECE) {
                return rest.is_empty();
            }
            match rest.strip_prefix(self.scratch.as_slice()) {
                Some(after) => rest = after,
                None => return false,
            }
        }
    }

    /// Encodes by row, or not at all where that is no larger. The scratch may hold the zstd frame already.
    fn encode_rows(
        &mut self,
        info: &BlockInfo,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RowsError> {
        if self.scratch.is_empty() {
            self.encoder.squeeze(payload, &mut self.scratch)?;
        }
        out.clear();
        if self.scratch.len() >= payload.len() {
            info.write(Layout::RAW, out);
            out.extend_from_slice(payload);
            return Ok(());
        }
        info.write(Layout::ROWS, out);
        out.extend_from_slice(&self.scratch);
        self.decoder
            .unsqueeze(&out[HEADER..], payload.len(), &mut self.scratch)?;
        if self.scratch != payload {
            return Err(RowsError::Verification { len: payload.len() });
        }
        Ok(())
    }
}

/// Decodes blocks. Keeps its memory for the next one.
#[derive(Default)]
pub struct Decoder {
    columns: Columns,
    decoder: ColumnDecoder,
}

impl Decoder {
    /// A decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes a block into `out`. Whatever the bytes are, memory stays within a small multiple of the payload's
    /// length in the header, and that within [`MAX_PAYLOAD`]. On an error `out` is empty.
    pub fn decode(&mut self, encoded: &[u8], out: &mut Vec<u8>) -> Result<BlockInfo, RowsError> {
        out.clear();
        let result = self.decode_into(encoded, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn decode_into(&mut self, encoded: &[u8], out: &mut Vec<u8>) -> Result<BlockInfo, RowsError> {
        let (info, layout, mut reader) = parse(encoded)?;
        let len = info.payload_len as usize;
        match layout {
            Layout::RAW => {
                out.extend_from_slice(reader.bytes(len)?);
                reader.end()?;
            }
            Layout::ROWS => self.decoder.unsqueeze(reader.rest(), len, out)?,
            Layout::COLUMNS => {
                decode_columns(&info, &mut reader, &mut self.decoder, &mut self.columns)?;
                out.reserve_exact(len);
                let mut joiner = Joiner::new(&self.columns, info.format);
                while joiner.write(out, usize::MAX) {}
                if out.len() != len {
                    return Err(RowsError::damaged("its rows do not make up its payload"));
                }
            }
            value => {
                return Err(RowsError::Unknown {
                    what: "the layout",
                    value,
                });
            }
        }
        Ok(info)
    }
}

/// Decodes the columns behind the header. Their values are exactly as long as the payload allows.
fn decode_columns(
    info: &BlockInfo,
    reader: &mut Reader<'_>,
    decoder: &mut ColumnDecoder,
    columns: &mut Columns,
) -> Result<(), RowsError> {
    let rows = info.rows as usize;
    let mut budget = info
        .overhead()
        .and_then(|len| (info.payload_len as usize).checked_sub(len))
        .ok_or_else(|| RowsError::damaged("its payload cannot have columns"))?;
    if reader.0.len() < usize::from(info.columns) * MIN_COLUMN {
        return Err(RowsError::damaged("it has fewer columns than it says"));
    }
    columns.reset(usize::from(info.columns));
    columns.rows = rows;
    for column in columns.as_mut_slice() {
        decoder.decode(reader, rows, &mut budget, column)?;
    }
    if budget > 0 {
        return Err(RowsError::damaged(
            "its values are shorter than its payload",
        ));
    }
    reader.end()
}
