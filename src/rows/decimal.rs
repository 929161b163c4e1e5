//! Floats that are decimal numbers, such as 20.53, as integers: 2053 hundredths.
//!
//! Sensors report, and people type, few decimals. As integers such values compress better than as floats, in half
//! the time. The few that are none (NaN, minus zero, the result of a sum) are kept apart.

use pco::ChunkConfig;

use super::error::RowsError;
use super::numbers::{self, Decompressor, Wire};
use super::wire::{Reader, sized};

/// Powers of ten to try. All are exact, as floats.
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Values looked at to choose the power.
const SAMPLE: usize = 100;
/// One value in so many may be kept apart.
const EXCEPTIONS: usize = 32;
/// Adding this to a float of less than 2^51 rounds it, and leaves the integer in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// The largest integer, either sign: it must be exact in a float.
const LIMIT: f64 = 2_251_799_813_685_248.0;

/// A float that may be a decimal.
pub(super) trait Float: Wire {
    /// The integers it comes to.
    type Integer: Wire;

    fn widen(self) -> f64;
    fn narrow(wide: f64) -> Self;
    fn same(self, other: Self) -> bool;
    fn from_i64(integer: i64) -> Self::Integer;
    fn to_f64(integer: Self::Integer) -> f64;
    /// Integers must be smaller, either sign.
    const LIMIT: f64;
    /// Powers to try: with more, most values would pass, and gain nothing.
    const POWERS: usize;

    /// The float that an integer stands for.
    #[inline]
    fn value(integer: Self::Integer, power: f64) -> Self {
        Self::narrow(Self::to_f64(integer) / power)
    }

    /// The integer that stands for this float, and whether it does so exactly.
    #[inline]
    fn integer(self, power: f64) -> (Self::Integer, bool) {
        let scaled = self.widen() * power;
        let rounded = scaled + ROUND;
        let integer =
            Self::from_i64((rounded.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64));
        let exact = scaled.abs() < Self::LIMIT && Self::value(integer, power).same(self);
        (integer, exact)
    }
}

impl Float for f64 {
    type Integer = i64;
    const LIMIT: f64 = LIMIT;
    const POWERS: usize = POWERS.len();

    fn widen(self) -> f64 {
        self
    }
    fn narrow(wide: f64) -> Self {
        wide
    }
    fn same(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
    fn from_i64(integer: i64) -> i64 {
        integer
    }
    fn to_f64(integer: i64) -> f64 {
        integer as f64
    }
}

impl Float for f32 {
    type Integer = i32;
    const LIMIT: f64 = i32::MAX as f64;
    const POWERS: usize = 5;

    fn widen(self) -> f64 {
        f64::from(self)
    }
    fn narrow(wide: f64) -> Self {
        wide as f32
    }
    fn same(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
    fn from_i64(integer: i64) -> i32 {
        integer as i32
    }
    fn to_f64(integer: i32) -> f64 {
        f64::from(integer)
    }
}

/// The exponent of the power of ten that makes integers of nearly all values of a sample.
fn exponent<T: Float>(values: &[T]) -> Option<usize> {
    // An odd step, so that a period in the values does not hide some of them.
    let step = values.len().div_ceil(SAMPLE) | 1;
    let sample = || values.iter().step_by(step);
    let allowed = sample().count() / EXCEPTIONS;
    POWERS[..T::POWERS].iter().position(|power| {
        let exceptions = sample().filter(|value| !value.integer(*power).1).count();
        exceptions <= allowed
    })
}

/// Appends the floats of `data` as integers. False, with nothing appended, if too many are none.
pub(super) fn compress<T: Float>(
    data: &[u8],
    config: &ChunkConfig,
    out: &mut Vec<u8>,
) -> Result<bool, RowsError> {
    let mut values: Vec<T> = Vec::with_capacity(data.len() / T::WIDTH);
    T::read(data, &mut values);
    let Some(exponent) = exponent(&values) else {
        return Ok(false);
    };
    let power = POWERS[exponent];
    let mut integers = Vec::with_capacity(values.len());
    let mut exceptions: Vec<u32> = Vec::new();
    let mut last = T::Integer::default();
    for (i, value) in values.iter().enumerate() {
        let (integer, exact) = value.integer(power);
        if exact {
            last = integer;
        } else {
            exceptions.push(i as u32);
            if exceptions.len() > values.len() / EXCEPTIONS {
                return Ok(false);
            }
        }
        integers.push(last);
    }
    drop(values);
    out.push(exponent as u8);
    out.extend_from_slice(&(exceptions.len() as u32).to_le_bytes());
    for exception in exceptions {
        out.extend_from_slice(&exception.to_le_bytes());
        let start = exception as usize * T::WIDTH;
        out.extend_from_slice(&data[start..start + T::WIDTH]);
    }
    sized(out, |out| numbers::compress_native(&integers, config, out))?;
    Ok(true)
}

/// Appends `count` floats to `out`, which is empty, as the wire has them. The caller has bounded `count`.
pub(super) fn decompress<T: Float>(
    body: &mut Reader<'_>,
    count: usize,
    decompressor: &mut Decompressor,
    out: &mut Vec<u8>,
) -> Result<(), RowsError> {
    let power = *POWERS
        .get(usize::from(body.u8()?))
        .ok_or_else(|| RowsError::damaged("bad power of ten"))?;
    let exceptions = body.u32()? as usize;
    let mut exceptions = Reader(body.bytes(exceptions.saturating_mul(4 + T::WIDTH))?);
    let mut values: Vec<T> = Vec::new();
    decompressor.decompress_chunks(body.sized()?, count, |integers: &[T::Integer]| {
        values.clear();
        values.extend(integers.iter().map(|integer| T::value(*integer, power)));
        T::write(&values, out);
    })?;
    while !exceptions.0.is_empty() {
        let start = exceptions.u32()? as usize * T::WIDTH;
        let value = exceptions.bytes(T::WIDTH)?;
        out.get_mut(start..start + T::WIDTH)
            .ok_or_else(|| RowsError::damaged("a float kept apart has no place"))?
            .copy_from_slice(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Float>(values: &[T]) -> Option<usize> {
        let mut wire = Vec::new();
        T::write(values, &mut wire);
        let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
        if !compress::<T>(&wire, &ChunkConfig::default(), &mut encoded).unwrap() {
            return None;
        }
        let mut body = Reader(&encoded);
        decompress::<T>(
            &mut body,
            values.len(),
            &mut Decompressor::default(),
            &mut decoded,
        )
        .unwrap();
        body.end().unwrap();
        assert!(decoded == wire);
        Some(encoded.len())
    }

    #[test]
    fn decimals_become_small_integers() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i % 50) / 100.0).collect();
        assert!(round_trip(&values).unwrap() < 1000);
        let values: Vec<f32> = (0..1000).map(|i| (i % 50) as f32 / 10.0).collect();
        assert!(round_trip(&values).unwrap() < 1000);
    }

    #[test]
    fn values_that_are_none_are_kept_apart() {
        let mut values: Vec<f64> = (0..1000).map(|i| f64::from(i) / 8.0).collect();
        values[1] = f64::NAN;
        values[2] = -0.0;
        values[500] = f64::INFINITY;
        values[999] = 1.0 / 3.0;
        assert!(round_trip(&values).is_some());
    }

    #[test]
    fn floats_of_every_size_come_back_or_are_left() {
        assert_eq!(round_trip(&[1.0f64 / 3.0; 100]), None);
        assert_eq!(round_trip(&[f64::NAN; 100]), None);
        assert_eq!(round_trip(&[1e300f64; 100]), None);
        assert_eq!(round_trip(&[f32::MAX; 100]), None);
        for value in [LIMIT, LIMIT - 0.5, -LIMIT, LIMIT / 2.0, 1e15, 1e14 + 0.1] {
            round_trip(&[value; 100]);
            round_trip(&[value as f32; 100]);
        }
        for value in [f32::MIN_POSITIVE, i32::MAX as f32, i32::MIN as f32, 2e9] {
            round_trip(&[value; 100]);
        }
    }
}
