//! Little helpers to read and write the encoded block.

use super::error::RowsError;

/// Reads an encoded block from its start to its end.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RowsError> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| RowsError::damaged("it ends too early"))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RowsError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, RowsError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RowsError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], RowsError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| RowsError::damaged("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Bytes with their length (four bytes, little-endian) before them.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], RowsError> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn end(&self) -> Result<(), RowsError> {
        match self.0 {
            [] => Ok(()),
            _ => Err(RowsError::damaged("it has bytes left over")),
        }
    }
}

/// Runs `write` and puts the number of bytes it appended (four bytes, little-endian) before them.
pub(super) fn sized<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}
