//! Small forms: characters, bytes, identifiers, positions.

use super::NotAValue;
use super::float;
use super::input::Input;
use super::number::{integer, unsigned};

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

fn digits(bytes: &[u8], digits: &[u8; 16], out: &mut Vec<u8>) {
    out.extend(bytes.iter().flat_map(|byte| {
        [
            digits[usize::from(byte >> 4)],
            digits[usize::from(byte & 15)],
        ]
    }));
}

/// Two lower-case digits for each byte.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    digits(bytes, LOWER, out);
}

/// Two upper-case digits for each byte.
pub(super) fn hex_upper(bytes: &[u8], out: &mut Vec<u8>) {
    digits(bytes, UPPER, out);
}

/// One byte; zero is no character.
pub(super) fn char(byte: u8, octal: bool, out: &mut Vec<u8>) {
    match byte {
        0 => {}
        128.. if octal => {
            out.push(b'\\');
            out.extend([byte >> 6, byte >> 3 & 7, byte & 7].map(|digit| b'0' + digit));
        }
        byte => out.push(byte),
    }
}

pub(super) fn uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    for (n, part) in [
        &bytes[..4],
        &bytes[4..6],
        &bytes[6..8],
        &bytes[8..10],
        &bytes[10..],
    ]
    .into_iter()
    .enumerate()
    {
        if n > 0 {
            out.push(b'-');
        }
        hex(part, out);
    }
}

/// A number of bits, then bytes, the first bit highest.
pub(super) fn bits(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let count = usize::try_from(input.i32()?).map_err(|_| NotAValue("a negative number"))?;
    let bytes = input.bytes(count.div_ceil(8))?;
    out.extend((0..count).map(|n| b'0' + (bytes[n / 8] >> (7 - n % 8) & 1)));
    Ok(())
}

/// A position in the log: two halves in hexadecimal digits.
pub(super) fn lsn(position: u64, out: &mut Vec<u8>) {
    let text = format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF);
    out.extend_from_slice(text.as_bytes());
}

/// Number of running transactions, `xmin`, `xmax`, then those.
pub(super) fn snapshot(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let running = usize::try_from(input.i32()?).map_err(|_| NotAValue("a negative number"))?;
    unsigned(input.u64()?, out);
    out.push(b':');
    unsigned(input.u64()?, out);
    out.push(b':');
    for n in 0..running {
        if n > 0 {
            out.push(b',');
        }
        unsigned(input.u64()?, out);
    }
    Ok(())
}

/// A block and a line pointer in it.
pub(super) fn tid(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    out.push(b'(');
    unsigned(u64::from(input.u32()?), out);
    out.push(b',');
    unsigned(u64::from(input.u16()?), out);
    out.push(b')');
    Ok(())
}

/// Dimensions (2 bytes), 2 unused, then a single for each.
pub(super) fn vector(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    vector_of(input, out, |input| input.f32())
}

/// As [`vector`], of half precision.
pub(super) fn half_vector(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    vector_of(input, out, |input| input.u16().map(half))
}

fn vector_of(
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
    mut next: impl FnMut(&mut Input<'_>) -> Result<f32, NotAValue>,
) -> Result<(), NotAValue> {
    let dimensions = input.u16()?;
    input.u16()?;
    out.push(b'[');
    for n in 0..dimensions {
        if n > 0 {
            out.push(b',');
        }
        float::float4(next(input)?, out);
    }
    out.push(b']');
    Ok(())
}

/// IEEE 754 half precision.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 31);
    let mantissa = f32::from(bits & 1023);
    sign * match exponent {
        0 => mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + mantissa) * 2f32.powi(exponent - 25),
    }
}

/// Dimensions, number of values, an unused word; their indexes from 0 on; the values.
pub(super) fn sparse_vector(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let dimensions = input.i32()?;
    let values = usize::try_from(input.i32()?).map_err(|_| NotAValue("a negative number"))?;
    input.u32()?;
    let mut indexes =
        Input(input.bytes(values.checked_mul(4).ok_or(NotAValue("it is too long"))?)?);
    out.push(b'{');
    for n in 0..values {
        if n > 0 {
            out.push(b',');
        }
        integer(i64::from(indexes.i32()?) + 1, out);
        out.push(b':');
        float::float4(input.f32()?, out);
    }
    out.extend_from_slice(b"}/");
    integer(i64::from(dimensions), out);
    Ok(())
}

/// RFC 4648, without line ends.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for n in 0..4 {
            out.push(if n <= group.len() {
                DIGITS[(word >> (18 - 6 * n) & 63) as usize]
            } else {
                b'='
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(print: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        print(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!(text(|out| base64(b"", out)), "");
        assert_eq!(text(|out| base64(b"f", out)), "Zg==");
        assert_eq!(text(|out| base64(b"fo", out)), "Zm8=");
        assert_eq!(text(|out| base64(b"foob", out)), "Zm9vYg==");
    }

    #[test]
    fn vectors_of_every_kind() {
        let value = [0, 2, 0, 0, 0x3C, 0, 0xC0, 0x40];
        assert_eq!(
            text(|out| half_vector(&mut Input(&value), out).unwrap()),
            "[1,-2.125]"
        );
        let mut value = vec![0, 2, 0, 0];
        value.extend(1.5f32.to_be_bytes());
        value.extend((-3f32).to_be_bytes());
        assert_eq!(
            text(|out| vector(&mut Input(&value), out).unwrap()),
            "[1.5,-3]"
        );
        let mut value = vec![0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
        value.extend(1.5f32.to_be_bytes());
        assert_eq!(
            text(|out| sparse_vector(&mut Input(&value), out).unwrap()),
            "{3:1.5}/5"
        );
    }

    #[test]
    fn high_bytes_are_octal_in_newer_versions() {
        assert_eq!(text(|out| char(0xE9, true, out)), "\\351");
        assert_eq!(text(|out| char(b'x', true, out)), "x");
        assert_eq!(text(|out| char(0, true, out)), "");
    }
}
