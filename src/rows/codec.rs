//! How a column is encoded: its codecs. The numbers and layouts are part of the format (`docs/format.md`); a codec
//! is never removed and never changes what it decodes to.

use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::bytes::{Squeezer, Unsqueezer};
use super::columns::{Column, Width};
use super::decimal;
use super::dictionary;
use super::error::RowsError;
use super::kind::ColumnKind;
use super::numbers::{self, Decompressor};
use super::numeric;
use super::wire::{Reader, sized};

/// All values are NULL.
const ALL_NULL: u8 = 0;
/// All values are the same.
const CONSTANT: u8 = 1;
/// Numbers of one byte through pco.
const PCO_U8: u8 = 2;
/// Numbers of two bytes.
const PCO_I16: u8 = 3;
/// Integers of four bytes.
const PCO_I32: u8 = 4;
/// Integers of eight bytes.
const PCO_I64: u8 = 5;
/// Floats of four bytes.
const PCO_F32: u8 = 6;
/// Floats of eight bytes.
const PCO_F64: u8 = 7;
/// Bytes of one length.
const FIXED: u8 = 8;
/// Bytes of any length.
const VARIABLE: u8 = 9;
/// Distinct values, and a number for each row.
const DICTIONARY: u8 = 10;
/// `numeric` of one display scale as integers.
const NUMERIC: u8 = 11;
/// Floats of four bytes that are decimals, as integers.
const DECIMAL_F32: u8 = 12;
/// Floats of eight bytes that are decimals, as integers.
const DECIMAL_F64: u8 = 13;

/// Passes over a column; returns the name of its codec.
pub(super) fn skip(reader: &mut Reader<'_>) -> Result<&'static str, RowsError> {
    let codec = reader.u8()?;
    let _version = reader.u8()?;
    if reader.u8()? != 0 {
        reader.sized()?;
    }
    if codec != ALL_NULL {
        reader.sized()?;
    }
    Ok(match codec {
        ALL_NULL => "all NULL",
        CONSTANT => "constant",
        PCO_U8 => "pco u8",
        PCO_I16 => "pco i16",
        PCO_I32 => "pco i32",
        PCO_I64 => "pco i64",
        PCO_F32 => "pco f32",
        PCO_F64 => "pco f64",
        FIXED => "zstd fixed",
        VARIABLE => "zstd variable",
        DICTIONARY => "dictionary",
        NUMERIC => "numeric",
        DECIMAL_F32 => "decimal f32",
        DECIMAL_F64 => "decimal f64",
        value => {
            return Err(RowsError::Unknown {
                what: "the codec",
                value,
            });
        }
    })
}

/// Bytes of the shortest column: codec, version, whether there is a bitmap.
pub(super) const MIN_COLUMN: usize = 3;

/// The only version of every codec so far.
const VERSION: u8 = 1;

/// How much work goes into making blocks small: `-Z/--compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Effort {
    /// As little as sensible.
    Fast,
    /// The balance that suits a nightly dump.
    #[default]
    Default,
    /// Smaller, at several times the work.
    Best,
}

impl Effort {
    fn pco_level(self) -> usize {
        match self {
            Self::Fast => 3,
            Self::Default => 5,
            Self::Best => 9,
        }
    }

    fn zstd_level(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Default => 3,
            Self::Best => 9,
        }
    }

    /// Numbers of a column: mode and differences are found from a sample.
    fn numbers(self) -> ChunkConfig {
        ChunkConfig::default()
            .with_compression_level(self.pco_level())
            .with_enable_8_bit(true)
    }

    /// Lengths and numbers of dictionary entries: small integers without an order worth looking for.
    fn small_integers(self) -> ChunkConfig {
        self.numbers()
            .with_mode_spec(ModeSpec::Classic)
            .with_delta_spec(match self {
                Self::Best => DeltaSpec::Auto,
                Self::Fast | Self::Default => DeltaSpec::NoOp,
            })
    }
}

/// Encodes columns.
pub(super) struct ColumnEncoder {
    effort: Effort,
    squeezer: Squeezer,
    scratch: Vec<u8>,
    integers: Vec<i64>,
}

impl ColumnEncoder {
    pub(super) fn new(effort: Effort) -> Self {
        Self {
            effort,
            squeezer: Squeezer::new(effort.zstd_level()),
            scratch: Vec::new(),
            integers: Vec::new(),
        }
    }

    /// Appends one zstd frame.
    pub(super) fn squeeze(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RowsError> {
        self.squeezer.compress(bytes, out)
    }

    /// Appends the column: codec, codec version, whether there is a bitmap of NULLs, the bitmap, the values.
    pub(super) fn encode(
        &mut self,
        column: &Column,
        rows: usize,
        kind: ColumnKind,
        out: &mut Vec<u8>,
    ) -> Result<(), RowsError> {
        let start = out.len();
        let values = rows - column.null_count;
        let has_nulls = column.null_count > 0 && values > 0;
        out.extend_from_slice(&[ALL_NULL, VERSION, u8::from(has_nulls)]);
        if has_nulls {
            self.scratch.clear();
            self.scratch.extend_from_slice(&column.nulls);
            self.scratch.resize(rows.div_ceil(8), 0);
            let (bitmap, squeezer) = (&self.scratch, &mut self.squeezer);
            sized(out, |out| squeezer.compress(bitmap, out))?;
        }
        out[start] = if values == 0 {
            ALL_NULL
        } else {
            let body = out.len();
            out.extend_from_slice(&[0; 4]);
            let codec = self.encode_values(column, values, kind, out)?;
            let len = (out.len() - body - 4) as u32;
            out[body..body + 4].copy_from_slice(&len.to_le_bytes());
            codec
        };
        Ok(())
    }

    fn encode_values(
        &mut self,
        column: &Column,
        values: usize,
        kind: ColumnKind,
        out: &mut Vec<u8>,
    ) -> Result<u8, RowsError> {
        let data = &column.data;
        if let Width::Fixed(width) = column.width {
            let width = width as usize;
            if data.get(..data.len() - width) == data.get(width..) {
                out.extend_from_slice(&data[..width]);
                return Ok(CONSTANT);
            }
            if let Some(codec) = self.encode_numbers(data, kind, width, out)? {
                return Ok(codec);
            }
        }
        if kind == ColumnKind::Numeric && self.encode_numeric(column, values, out)? {
            return Ok(NUMERIC);
        }
        if self.encode_dictionary(column, values, out)? {
            return Ok(DICTIONARY);
        }
        match column.width {
            Width::Fixed(width) => {
                out.extend_from_slice(&width.to_le_bytes());
                self.squeezer.compress(data, out)?;
                Ok(FIXED)
            }
            Width::Variable | Width::Unknown => {
                let config = self.effort.small_integers();
                sized(out, |out| {
                    numbers::compress_native(&column.lengths, &config, out)
                })?;
                self.squeezer.compress(data, out)?;
                Ok(VARIABLE)
            }
        }
    }

    /// Appends values of the width that their kind has in binary, and says by which codec. None, with nothing appended,
    /// if theirs is another width, or if their kind is none of numbers.
    fn encode_numbers(
        &self,
        data: &[u8],
        kind: ColumnKind,
        width: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<u8>, RowsError> {
        let config = self.effort.numbers();
        use ColumnKind as K;
        let codec = match (kind, width) {
            (K::Bool, 1) => {
                numbers::compress::<u8>(data, &self.effort.small_integers(), out)?;
                PCO_U8
            }
            (K::Int16, 2) => {
                numbers::compress::<i16>(data, &config, out)?;
                PCO_I16
            }
            (K::Int32 | K::Date, 4) => {
                numbers::compress::<i32>(data, &config, out)?;
                PCO_I32
            }
            (K::Int64 | K::Timestamp, 8) => {
                numbers::compress::<i64>(data, &config, out)?;
                PCO_I64
            }
            (K::Float32, 4) if decimal::compress::<f32>(data, &config, out)? => DECIMAL_F32,
            (K::Float64, 8) if decimal::compress::<f64>(data, &config, out)? => DECIMAL_F64,
            (K::Float32, 4) => {
                numbers::compress::<f32>(data, &config, out)?;
                PCO_F32
            }
            (K::Float64, 8) => {
                numbers::compress::<f64>(data, &config, out)?;
                PCO_F64
            }
            _ => return Ok(None),
        };
        Ok(Some(codec))
    }

    /// Appends the display scale and the integers. False, with nothing appended, if a value does not allow it.
    fn encode_numeric(
        &mut self,
        column: &Column,
        values: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, RowsError> {
        let Some(scale) = column.values(values).next().and_then(numeric::scale) else {
            return Ok(false);
        };
        self.integers.clear();
        for value in column.values(values) {
            match numeric::to_integer(value, scale, &mut self.scratch) {
                Some(integer) => self.integers.push(integer),
                None => return Ok(false),
            }
        }
        out.extend_from_slice(&scale.to_le_bytes());
        numbers::compress_native(&self.integers, &self.effort.numbers(), out)?;
        // A block of the largest size leaves no trace in the memory of the next.
        self.integers.shrink_to(1 << 17);
        Ok(true)
    }

    /// Appends distinct values and their numbers. False, with nothing appended, if they do not repeat enough.
    fn encode_dictionary(
        &mut self,
        column: &Column,
        values: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, RowsError> {
        let Some((entries, indices)) = dictionary::find(column.values(values), values) else {
            return Ok(false);
        };
        let config = self.effort.small_integers();
        let lengths: Vec<u32> = entries.iter().map(|entry| entry.len() as u32).collect();
        out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        sized(out, |out| numbers::compress_native(&lengths, &config, out))?;
        self.scratch.clear();
        for entry in &entries {
            self.scratch.extend_from_slice(entry);
        }
        let (joined, squeezer) = (&self.scratch, &mut self.squeezer);
        sized(out, |out| squeezer.compress(joined, out))?;
        if entries.len() <= 256 {
            let narrow: Vec<u8> = indices.iter().map(|index| *index as u8).collect();
            numbers::compress_native(&narrow, &config, out)?;
        } else {
            numbers::compress_native(&indices, &config, out)?;
        }
        Ok(true)
    }
}

/// Decodes columns.
#[derive(Default)]
pub(super) struct ColumnDecoder {
    unsqueezer: Unsqueezer,
    numbers: Decompressor,
    scratch: Vec<u8>,
}

impl ColumnDecoder {
    /// Puts the bytes of one zstd frame into `out`; `len` is bounded by the caller.
    pub(super) fn unsqueeze(
        &mut self,
        frame: &[u8],
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RowsError> {
        self.unsqueezer.decompress(frame, len, out)
    }

    /// Reads one column of `rows` rows into `column`, which is empty. `budget` is how many bytes its values may have;
    /// they are taken from it before memory is.
    pub(super) fn decode(
        &mut self,
        reader: &mut Reader<'_>,
        rows: usize,
        budget: &mut usize,
        column: &mut Column,
    ) -> Result<(), RowsError> {
        let codec = reader.u8()?;
        let version = reader.u8()?;
        if version != VERSION {
            return Err(RowsError::Unknown {
                what: "a codec of version",
                value: version,
            });
        }
        match reader.u8()? {
            0 => {}
            1 => {
                let frame = reader.sized()?;
                self.decode_nulls(frame, rows, column)?;
            }
            _ => return Err(RowsError::damaged("bad mark of NULLs")),
        }
        let values = rows - column.null_count;
        if codec == ALL_NULL {
            if column.null_count > 0 {
                return Err(RowsError::damaged("a column of NULLs has a bitmap"));
            }
            column.nulls.resize(rows.div_ceil(8), 0xff);
            column.null_count = rows;
            return Ok(());
        }
        if values == 0 {
            return Err(RowsError::damaged("a column of NULLs has values"));
        }
        let mut body = Reader(reader.sized()?);
        match codec {
            CONSTANT => {
                let value = body.rest();
                claim(budget, values, value.len())?;
                column.width = Width::Fixed(value.len() as u32);
                fill(&mut column.data, value, values);
            }
            PCO_U8 => self.decode_numbers::<u8>(&mut body, values, budget, column)?,
            PCO_I16 => self.decode_numbers::<i16>(&mut body, values, budget, column)?,
            PCO_I32 => self.decode_numbers::<i32>(&mut body, values, budget, column)?,
            PCO_I64 => self.decode_numbers::<i64>(&mut body, values, budget, column)?,
            PCO_F32 => self.decode_numbers::<f32>(&mut body, values, budget, column)?,
            PCO_F64 => self.decode_numbers::<f64>(&mut body, values, budget, column)?,
            DECIMAL_F32 => self.decode_decimals::<f32>(&mut body, values, budget, column)?,
            DECIMAL_F64 => self.decode_decimals::<f64>(&mut body, values, budget, column)?,
            FIXED => {
                let width = body.u32()?;
                let len = claim(budget, values, width as usize)?;
                column.width = Width::Fixed(width);
                self.unsqueezer
                    .decompress(body.rest(), len, &mut column.data)?;
            }
            VARIABLE => {
                let lengths = body.sized()?;
                self.numbers
                    .decompress_native(lengths, values, &mut column.lengths)?;
                let len = total(&column.lengths, budget)?;
                column.width = Width::Variable;
                self.unsqueezer
                    .decompress(body.rest(), len, &mut column.data)?;
            }
            DICTIONARY => self.decode_dictionary(&mut body, values, budget, column)?,
            NUMERIC => self.decode_numeric(&mut body, values, budget, column)?,
            value => {
                return Err(RowsError::Unknown {
                    what: "the codec",
                    value,
                });
            }
        }
        body.end()
    }

    fn decode_nulls(
        &mut self,
        frame: &[u8],
        rows: usize,
        column: &mut Column,
    ) -> Result<(), RowsError> {
        let nulls = &mut column.nulls;
        self.unsqueezer.decompress(frame, rows.div_ceil(8), nulls)?;
        let beyond = match (nulls.last(), rows % 8) {
            (Some(last), used @ 1..) => last >> used,
            _ => 0,
        };
        column.null_count = nulls.iter().map(|byte| byte.count_ones() as usize).sum();
        if beyond != 0 || column.null_count == 0 || column.null_count > rows {
            return Err(RowsError::damaged("bad bitmap of NULLs"));
        }
        Ok(())
    }

    fn decode_numbers<T: numbers::Wire>(
        &mut self,
        body: &mut Reader<'_>,
        values: usize,
        budget: &mut usize,
        column: &mut Column,
    ) -> Result<(), RowsError> {
        claim(budget, values, T::WIDTH)?;
        column.width = Width::Fixed(T::WIDTH as u32);
        self.numbers
            .decompress::<T>(body.rest(), values, &mut column.data)
    }

    fn decode_decimals<T: decimal::Float>(
        &mut self,
        body: &mut Reader<'_>,
        values: usize,
        budget: &mut usize,
        column: &mut Column,
    ) -> Result<(), RowsError> {
        claim(budget, values, T::WIDTH)?;
        column.width = Width::Fixed(T::WIDTH as u32);
        decimal::decompress::<T>(body, values, &mut self.numbers, &mut column.data)
    }

    fn decode_dictionary(
        &mut self,
        body: &mut Reader<'_>,
        values: usize,
        budget: &mut usize,
        column: &mut Column,
    ) -> Result<(), RowsError> {
        let count = body.u32()? as usize;
        if count == 0 || count > values || count > dictionary::MAX_ENTRIES {
            return Err(RowsError::damaged("bad size of a dictionary"));
        }
        let mut lengths = Vec::new();
        self.numbers
            .decompress_native::<u32>(body.sized()?, count, &mut lengths)?;
        // Every entry is some row's value, so the entries fit the budget too.
        let joined_len = total(&lengths, &mut budget.clone())?;
        let frame = body.sized()?;
        self.unsqueezer
            .decompress(frame, joined_len, &mut self.scratch)?;
        let mut entries = Vec::with_capacity(count);
        let mut joined = Reader(&self.scratch);
        for len in &lengths {
            entries.push(joined.bytes(*len as usize)?);
        }
        let mut indices: Vec<u16> = Vec::new();
        if count <= 256 {
            let mut narrow: Vec<u8> = Vec::new();
            self.numbers
                .decompress_native(body.rest(), values, &mut narrow)?;
            indices.extend(narrow.iter().map(|index| u16::from(*index)));
        } else {
            self.numbers
                .decompress_native(body.rest(), values, &mut indices)?;
        }
        if lengths.iter().all(|len| *len == lengths[0]) {
            column.width = Width::Fixed(lengths[0]);
        } else {
            column.width = Width::Variable;
            column.lengths.reserve_exact(values);
        }
        let mut left = *budget;
        for index in indices {
            let Some(entry) = entries.get(usize::from(index)) else {
                return Err(RowsError::damaged("a value is not in its dictionary"));
            };
            left = left.checked_sub(entry.len()).ok_or_else(too_long)?;
            column.data.extend_from_slice(entry);
            if column.width == Width::Variable {
                column.lengths.push(entry.len() as u32);
            }
        }
        *budget = left;
        Ok(())
    }

    fn decode_numeric(
        &mut self,
        body: &mut Reader<'_>,
        values: usize,
        budget: &mut usize,
        column: &mut Column,
    ) -> Result<(), RowsError> {
        let scale = body.u16()?;
        // No value is shorter than its integer, so these cannot be more than the values may have.
        claim(&mut budget.clone(), values, 8)?;
        let mut integers: Vec<i64> = Vec::new();
        self.numbers
            .decompress_native(body.rest(), values, &mut integers)?;
        for (i, integer) in integers.into_iter().enumerate() {
            self.scratch.clear();
            numeric::from_integer(integer, scale, &mut self.scratch);
            *budget = budget
                .checked_sub(self.scratch.len())
                .ok_or_else(too_long)?;
            column.push(&self.scratch, i);
        }
        Ok(())
    }
}

fn too_long() -> RowsError {
    RowsError::damaged("its values are longer than its payload")
}

/// Takes `count` values of `width` bytes from the budget, and says how many bytes that is.
fn claim(budget: &mut usize, count: usize, width: usize) -> Result<usize, RowsError> {
    let len = count.checked_mul(width).ok_or_else(too_long)?;
    *budget = budget.checked_sub(len).ok_or_else(too_long)?;
    Ok(len)
}

/// Takes values of these lengths from the budget, and says how many bytes that is.
fn total(lengths: &[u32], budget: &mut usize) -> Result<usize, RowsError> {
    let len: u64 = lengths.iter().map(|len| u64::from(*len)).sum();
    claim(budget, 1, usize::try_from(len).map_err(|_| too_long())?)
}

/// Fills `out` with `count` copies of `value`.
fn fill(out: &mut Vec<u8>, value: &[u8], count: usize) {
    out.clear();
    if !value.is_empty() {
        out.extend_from_slice(value);
        out.reserve_exact(value.len() * (count - 1));
        while out.len() < value.len() * count {
            let len = out.len().min(value.len() * count - out.len());
            out.extend_from_within(..len);
        }
    }
}
