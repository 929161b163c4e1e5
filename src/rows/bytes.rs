//! Bytes through zstd.

use std::io::{self, Cursor};

use zstd::bulk::{Compressor, Decompressor};

use super::error::RowsError;

/// The level that looks for repetitions least.
const FASTEST: i32 = 1;
/// Of more bytes than so many samples, a sample is compressed first.
const SAMPLES: usize = 16;
/// Bytes of a sample.
const SAMPLE: usize = 16 << 10;
/// What looking harder for repetitions must save of a sample, in parts of it.
const WORTH: usize = 50;

/// Compresses bytes, with memory that is used again.
pub(super) struct Squeezer {
    thorough: Level,
    fastest: Level,
    scratch: Vec<u8>,
}

/// A level of zstd.
struct Level {
    level: i32,
    compressor: Option<Compressor<'static>>,
}

impl Squeezer {
    pub(super) fn new(level: i32) -> Self {
        let of = |level| Level {
            level,
            compressor: None,
        };
        Self {
            thorough: of(level),
            fastest: of(FASTEST),
            scratch: Vec::new(),
        }
    }

    /// Appends one zstd frame that holds `bytes`. Where there is little to find, as in hashes, it is not looked for.
    pub(super) fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RowsError> {
        let thorough = bytes.len() < SAMPLES * SAMPLE || self.pays(bytes)?;
        let level = match thorough {
            true => &mut self.thorough,
            false => &mut self.fastest,
        };
        level.compress(bytes, out)
    }

    fn pays(&mut self, bytes: &[u8]) -> Result<bool, RowsError> {
        if self.thorough.level <= FASTEST {
            return Ok(true);
        }
        let start = bytes.len() / 2;
        let sample = &bytes[start..start + SAMPLE];
        let mut len = |level: &mut Level| {
            self.scratch.clear();
            level.compress(sample, &mut self.scratch)?;
            Ok::<_, RowsError>(self.scratch.len())
        };
        let (most, least) = (len(&mut self.fastest)?, len(&mut self.thorough)?);
        Ok(most.saturating_sub(least) > most / WORTH)
    }
}

impl Level {
    fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RowsError> {
        let failed = |error: io::Error| RowsError::Encode {
            detail: error.to_string(),
        };
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(self.level).map_err(failed)?),
        };
        out.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        let mut cursor = Cursor::new(std::mem::take(out));
        cursor.set_position(cursor.get_ref().len() as u64);
        let result = compressor.compress_to_buffer(bytes, &mut cursor);
        *out = cursor.into_inner();
        result.map(drop).map_err(failed)
    }
}

/// Decompresses bytes, with memory that is used again.
#[derive(Default)]
pub(super) struct Unsqueezer {
    decompressor: Option<Decompressor<'static>>,
}

impl Unsqueezer {
    /// Puts the bytes of one zstd frame, which must be `len`, into `out`. The caller has bounded `len`.
    pub(super) fn decompress(
        &mut self,
        frame: &[u8],
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RowsError> {
        let failed = |error: io::Error| RowsError::damaged(format!("bytes: {error}"));
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(failed)?),
        };
        out.clear();
        out.reserve_exact(len);
        decompressor
            .decompress_to_buffer(frame, out)
            .map_err(failed)?;
        if out.len() != len {
            return Err(RowsError::damaged("bytes are missing or left over"));
        }
        Ok(())
    }
}
