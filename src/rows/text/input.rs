//! Reads a value from its first byte to its last; numbers are big-endian.

use super::NotAValue;

/// What is left of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub &'a [u8]);

const SHORT: NotAValue = NotAValue("it ends too early");

impl<'a> Input<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], NotAValue> {
        let (array, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, NotAValue> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, NotAValue> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16, NotAValue> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, NotAValue> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, NotAValue> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, NotAValue> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, NotAValue> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn f32(&mut self) -> Result<f32, NotAValue> {
        self.array().map(f32::from_be_bytes)
    }

    pub(super) fn f64(&mut self) -> Result<f64, NotAValue> {
        self.array().map(f64::from_be_bytes)
    }

    /// A number of things that follow, each of at least `size` bytes.
    pub(super) fn count(&mut self, size: usize) -> Result<usize, NotAValue> {
        let count = usize::try_from(self.i32()?).map_err(|_| NotAValue("a negative number"))?;
        match count.checked_mul(size) {
            Some(bytes) if bytes <= self.0.len() => Ok(count),
            _ => Err(SHORT),
        }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], NotAValue> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A value behind its length; `None` is NULL.
    pub(super) fn sized(&mut self) -> Result<Option<&'a [u8]>, NotAValue> {
        match self.i32()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| NotAValue("a negative length"))?;
                self.bytes(len).map(Some)
            }
        }
    }

    /// Bytes that a zero ends.
    pub(super) fn text(&mut self) -> Result<&'a [u8], NotAValue> {
        let len = self.0.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
        let text = self.bytes(len)?;
        self.u8()?;
        Ok(text)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn end(&self) -> Result<(), NotAValue> {
        match self.0 {
            [] => Ok(()),
            _ => Err(NotAValue("it has bytes left over")),
        }
    }
}
