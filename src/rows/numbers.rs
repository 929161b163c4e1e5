//! Columns of numbers through pco.
//!
//! The numbers stand in the column as on the wire, big-endian. They are compressed in chunks, so that pco's own
//! memory stays small whatever the block holds.

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec};

use super::error::RowsError;
use super::noise;

/// Numbers in one pco chunk; part of the format.
const CHUNK: usize = 1 << 18;
/// Numbers looked at to find out whether they grow by one step.
const STEP_SAMPLE: usize = 256;
/// One step in so many may be another.
const STEP_EXCEPTIONS: usize = 16;

/// A number as COPY sends it.
pub(super) trait Wire: pco::data_types::Number {
    /// Bytes on the wire.
    const WIDTH: usize;
    /// Whether it is an integer.
    const INTEGER: bool;

    /// The number as a word, of which differences can be taken, if it is an integer.
    fn word(self) -> u64;

    /// Its place among all numbers of the type: in their order.
    fn place(self) -> u64;

    /// Reads numbers from the wire; incomplete ones at the end are left out.
    fn read(bytes: &[u8], out: &mut Vec<Self>);

    /// Appends numbers as the wire has them.
    fn write(numbers: &[Self], out: &mut Vec<u8>);
}

macro_rules! wire {
    ($integer:literal: $($number:ty, |$x:ident| $place:expr;)*) => {$(
        impl Wire for $number {
            const WIDTH: usize = size_of::<$number>();
            const INTEGER: bool = $integer;

            #[inline]
            fn place(self) -> u64 {
                let $x = self;
                $place
            }

            #[inline]
            fn word(self) -> u64 {
                self as u64
            }

            fn read(bytes: &[u8], out: &mut Vec<Self>) {
                let (numbers, _) = bytes.as_chunks();
                out.extend(numbers.iter().map(|b| Self::from_be_bytes(*b)));
            }

            fn write(numbers: &[Self], out: &mut Vec<u8>) {
                let start = out.len();
                out.resize(start + size_of_val(numbers), 0);
                let (slots, _) = out[start..].as_chunks_mut();
                for (slot, number) in slots.iter_mut().zip(numbers) {
                    *slot = number.to_be_bytes();
                }
            }
        }
    )*};
}

/// The bits of a float, of so many with its sign, in the order of the floats.
#[inline]
fn float_place(bits: u64, sign: u64) -> u64 {
    if bits & sign == 0 {
        bits | sign
    } else {
        sign - 1 - (bits & (sign - 1))
    }
}

wire!(true:
    u8, |x| x.into();
    u16, |x| x.into();
    u32, |x| x.into();
    i16, |x| i64::from(x) as u64 ^ (1 << 63);
    i32, |x| i64::from(x) as u64 ^ (1 << 63);
    i64, |x| x as u64 ^ (1 << 63);
);
wire!(false:
    f32, |x| float_place(x.to_bits().into(), 1 << 31);
    f64, |x| float_place(x.to_bits(), 1 << 63);
);

/// Appends the numbers of `data`, compressed, to `out`.
pub(super) fn compress<T: Wire>(
    data: &[u8],
    config: &ChunkConfig,
    out: &mut Vec<u8>,
) -> Result<(), RowsError> {
    let file = FileCompressor::default();
    file.write_header(&mut *out).map_err(encode_error)?;
    let mut numbers = Vec::with_capacity(CHUNK.min(data.len() / T::WIDTH));
    for bytes in data.chunks(CHUNK * T::WIDTH) {
        numbers.clear();
        T::read(bytes, &mut numbers);
        compress_chunk(&file, &numbers, config, out)?;
    }
    Ok(())
}

/// Appends native numbers, compressed, to `out`.
pub(super) fn compress_native<T: Wire>(
    numbers: &[T],
    config: &ChunkConfig,
    out: &mut Vec<u8>,
) -> Result<(), RowsError> {
    let file = FileCompressor::default();
    file.write_header(&mut *out).map_err(encode_error)?;
    for chunk in numbers.chunks(CHUNK) {
        compress_chunk(&file, chunk, config, out)?;
    }
    Ok(())
}

fn compress_chunk<T: Wire>(
    file: &FileCompressor,
    numbers: &[T],
    config: &ChunkConfig,
    out: &mut Vec<u8>,
) -> Result<(), RowsError> {
    let mut chunk = file
        .chunk_compressor(numbers, &stepping(numbers, config))
        .map_err(encode_error)?;
    chunk.write_meta(&mut *out).map_err(encode_error)?;
    chunk.write_page(0, &mut *out).map_err(encode_error)?;
    Ok(())
}

/// The configuration for these numbers: with the mode and the differences given, where it is plain what they should be.
///
/// Timestamps, serial numbers and counters mostly grow by one step. Left to itself pco would look for a common factor
/// first, and having found the step as such it stores two columns of numbers where their differences would be one of
/// nothing, in a third of the time.
fn stepping<T: Wire>(numbers: &[T], config: &ChunkConfig) -> ChunkConfig {
    let config = config.clone();
    match config.mode_spec {
        ModeSpec::Auto if T::INTEGER && has_step(numbers) => config
            .with_mode_spec(ModeSpec::Classic)
            .with_delta_spec(DeltaSpec::TryConsecutive(1)),
        // With one bin, and no differences to try.
        _ if noise::is_noise(numbers) => config
            .with_compression_level(0)
            .with_delta_spec(DeltaSpec::NoOp),
        _ => config,
    }
}

/// Whether nearly all numbers of a sample differ by the same from the one before, and not because they are the same.
fn has_step<T: Wire>(numbers: &[T]) -> bool {
    // An odd distance, so that a period in the numbers does not hide some of them.
    let distance = (numbers.len() / STEP_SAMPLE) | 1;
    let pairs = || numbers.windows(2).step_by(distance);
    let count = pairs().count();
    let steps = majority(|| pairs().map(|pair| pair[1].word().wrapping_sub(pair[0].word())));
    count > 0
        && steps >= count - count / STEP_EXCEPTIONS
        && majority(|| pairs().map(|pair| pair[0].word())) <= count / 2
}

/// How often the item occurs that is more than half of all; if there is none, any number up to half of all.
fn majority<I: Iterator<Item = u64>>(items: impl Fn() -> I) -> usize {
    let (mut candidate, mut lead) = (0, 0usize);
    for item in items() {
        match lead {
            0 => (candidate, lead) = (item, 1),
            _ if item == candidate => lead += 1,
            _ => lead -= 1,
        }
    }
    items().filter(|item| *item == candidate).count()
}

fn encode_error(error: pco::errors::PcoError) -> RowsError {
    RowsError::Encode {
        detail: error.to_string(),
    }
}

/// Decompresses numbers, with memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Decompressor {
    scratch: DecompressorScratch,
}

impl Decompressor {
    /// Appends `count` numbers to `out` as the wire has them. The caller has bounded `count`.
    pub(super) fn decompress<T: Wire>(
        &mut self,
        encoded: &[u8],
        count: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RowsError> {
        self.decompress_chunks(encoded, count, |numbers: &[T]| T::write(numbers, out))
    }

    /// Appends `count` numbers to `out`. The caller has bounded `count`.
    pub(super) fn decompress_native<T: Wire>(
        &mut self,
        encoded: &[u8],
        count: usize,
        out: &mut Vec<T>,
    ) -> Result<(), RowsError> {
        self.decompress_chunks(encoded, count, |numbers| out.extend_from_slice(numbers))
    }

    /// Hands `count` numbers to `sink`, a chunk at a time. The caller has bounded `count`.
    pub(super) fn decompress_chunks<T: Wire>(
        &mut self,
        encoded: &[u8],
        count: usize,
        mut sink: impl FnMut(&[T]),
    ) -> Result<(), RowsError> {
        let failed = |error: pco::errors::PcoError| RowsError::damaged(format!("numbers: {error}"));
        let (file, mut rest) = FileDecompressor::new(encoded).map_err(failed)?;
        let mut numbers = vec![T::default(); CHUNK.min(count)];
        let mut left = count;
        while left > 0 {
            let n = left.min(CHUNK);
            let (chunk, pages) = file.chunk_decompressor::<T, _>(rest).map_err(failed)?;
            let mut page = chunk
                .page_decompressor_with_scratch(pages, n, &mut self.scratch)
                .map_err(failed)?;
            let progress = page.read(&mut numbers[..n]).map_err(failed)?;
            if !progress.finished || progress.n_processed != n {
                return Err(RowsError::damaged("numbers are missing"));
            }
            rest = page.into_src();
            sink(&numbers[..n]);
            left -= n;
        }
        match rest {
            [] => Ok(()),
            _ => Err(RowsError::damaged("bytes are left over after the numbers")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Wire>(numbers: &[T]) {
        let config = ChunkConfig::default().with_enable_8_bit(true);
        let mut wire = Vec::new();
        T::write(numbers, &mut wire);
        let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
        compress::<T>(&wire, &config, &mut encoded).unwrap();
        let mut decompressor = Decompressor::default();
        decompressor
            .decompress::<T>(&encoded, numbers.len(), &mut decoded)
            .unwrap();
        assert!(decoded == wire);
    }

    #[test]
    fn numbers_of_every_type_come_back() {
        round_trip::<u8>(&[0, 1, 255, 1]);
        round_trip::<i16>(&[i16::MIN, 0, i16::MAX]);
        round_trip::<i32>(&[i32::MIN, 0, i32::MAX]);
        round_trip::<i64>(&[i64::MIN, 0, i64::MAX]);
        round_trip::<f32>(&[f32::NAN, -0.0, f32::INFINITY, 1.5]);
        round_trip::<f64>(&[
            -f64::NAN,
            -0.0,
            f64::from_bits(0x7ff0_0000_0000_0001),
            20.53,
        ]);
        round_trip::<i64>(&[]);
    }

    #[test]
    fn numbers_that_grow_by_a_step_are_told_from_those_that_stay() {
        let counter: Vec<i64> = (0..10_000).map(|i| i * 36 + (i / 5000) * 77).collect();
        let runs: Vec<i32> = (0..10_000).map(|i| i / 3000).collect();
        assert!(has_step(&counter) && has_step(&runs));
        let status: Vec<i32> = (0..10_000).map(|i| i32::from(i % 50 == 0)).collect();
        let noise: Vec<i64> = (0..10_000).map(|i| i * i % 1009).collect();
        assert!(!has_step(&status) && !has_step(&noise));
        assert!(!has_step::<i64>(&[]) && !has_step(&[7i16]));

        let size = |numbers: &[i64]| {
            let mut encoded = Vec::new();
            compress_native(numbers, &ChunkConfig::default(), &mut encoded).unwrap();
            encoded.len()
        };
        assert!(size(&counter) < 200, "{}", size(&counter));
        round_trip(&counter);
        round_trip::<i64>(&[i64::MAX - 1, i64::MAX, i64::MIN, i64::MIN + 1]);
    }

    #[test]
    fn more_numbers_than_a_chunk_come_back() {
        let numbers: Vec<i32> = (0..CHUNK as i32 + 3).collect();
        round_trip(&numbers);
    }
}
