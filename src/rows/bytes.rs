//! Bytes through zstd.

use std::io::{self, Cursor};

use zstd::bulk::{Compressor, Decompressor};

use super::error::RowsError;

/// Compresses bytes, with memory that is used again.
pub(super) struct Squeezer {
    level: i32,
    compressor: Option<Compressor<'static>>,
}

impl Squeezer {
    pub(super) fn new(level: i32) -> Self {
        Self {
            level,
            compressor: None,
        }
    }

    /// Appends one zstd frame that holds `bytes`.
    pub(super) fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RowsError> {
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
