//! Floating-point numbers in the fewest digits that tell them from their neighbours.
//!
//! As PostgreSQL prints them since version 12: the digits never lie on the border between two numbers, where it would
//! be left to the reader's rounding which of them they mean; of two that are equally near the even one is taken; an
//! exponent is written below 1e-4, and from the number of digits on that the type always keeps (15 and 6).

use std::io::Write;

/// A number's digits and its exponent, in a small buffer of text as Rust prints it: `d.ddde-nn`.
struct Scientific {
    text: [u8; 40],
    len: usize,
}

impl Scientific {
    fn of(write: impl FnOnce(&mut &mut [u8]) -> std::io::Result<()>) -> Self {
        let mut text = [0; 40];
        let room = text.len();
        let mut left = &mut text[..];
        // No number needs more than 17 digits, a point, and an exponent.
        let _ = write(&mut left);
        let len = room - left.len();
        Self { text, len }
    }

    /// The digits without the point, and the exponent of the first.
    fn parts(&self) -> ([u8; 24], usize, i32) {
        let mut digits = [0; 24];
        let mut count = 0;
        let text = &self.text[..self.len];
        let end = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
        for byte in text[..end].iter().filter(|b| b.is_ascii_digit()) {
            if let Some(slot) = digits.get_mut(count) {
                *slot = *byte;
                count += 1;
            }
        }
        let exponent = text
            .get(end + 1..)
            .and_then(|e| std::str::from_utf8(e).ok());
        (
            digits,
            count,
            exponent.and_then(|e| e.parse().ok()).unwrap_or(0),
        )
    }
}

macro_rules! shortest {
    ($name:ident, $float:ty, $bits:ty, $mantissa_bits:expr, $bias:expr, $fixed:expr, $most:expr) => {
        /// Appends a number as the server prints it.
        pub(super) fn $name(value: $float, out: &mut Vec<u8>) {
            if value.is_nan() {
                return out.extend_from_slice(b"NaN");
            }
            if value.is_sign_negative() {
                out.push(b'-');
            }
            let value = value.abs();
            if value.is_infinite() {
                return out.extend_from_slice(b"Infinity");
            }
            if value == 0.0 {
                return out.push(b'0');
            }
            let mut parts = Scientific::of(|out| write!(out, "{value:e}")).parts();
            // Only integers of this size, and the numbers next to them, have borders of so few digits; and the borders
            // belong to numbers with an even last bit only.
            let exponent = (value.to_bits() >> $mantissa_bits) as i32 - $bias - $mantissa_bits;
            let even = value.to_bits() & 1 == 0;
            if even && (-4..=90).contains(&exponent) {
                let on_border = |(digits, count, exponent): &([u8; 24], usize, i32)| {
                    let digits = std::str::from_utf8(&digits[..*count]).unwrap_or("0");
                    let exponent = exponent - *count as i32 + 1 - 60;
                    let below = digits.parse::<u64>().unwrap_or(1) - 1;
                    let parsed = |text: String| text.parse::<$float>().ok();
                    parsed(format!("{digits}{:060}e{exponent}", 1)) != Some(value)
                        || parsed(format!("{below}{:9<60}e{exponent}", "")) != Some(value)
                };
                let mut precision = parts.1;
                while precision < $most && on_border(&parts) {
                    parts = Scientific::of(|out| write!(out, "{value:.precision$e}")).parts();
                    precision += 1;
                }
            }
            let mantissa = value.to_bits() & ((1 << $mantissa_bits) - 1) | 1 << $mantissa_bits;
            if let Some(even) = even_of_two(u64::from(mantissa), exponent, parts.1) {
                let digits = even.to_string();
                let count = digits.trim_end_matches('0').len();
                let text = format!("{even}e{}", parts.2 - digits.len() as i32 + 1);
                if digits.len() == parts.1 && text.parse() == Ok(value) {
                    parts.0[..count].copy_from_slice(&digits.as_bytes()[..count]);
                    parts.1 = count;
                }
            }
            layout(&parts.0[..parts.1], parts.2, $fixed, out);
        }
    };
}

/// For a number that lies exactly between two of so many decimal digits: the one of the two whose last digit is even.
/// The number is `mantissa` times two to the power of `exponent`.
fn even_of_two(mantissa: u64, exponent: i32, digits: usize) -> Option<u64> {
    // Without factors of two it has no decimals but those that the exponent gives it.
    let exponent = exponent + mantissa.trailing_zeros() as i32;
    let odd = u128::from(mantissa >> mantissa.trailing_zeros());
    let decimal = match exponent {
        -27..0 => odd * 5u128.pow(exponent.unsigned_abs()),
        0..24 if odd % 5u128.pow(exponent.unsigned_abs()) == 0 => {
            odd / 5u128.pow(exponent.unsigned_abs())
        }
        _ => return None,
    };
    let between = decimal % 10 == 5 && decimal.ilog10() as usize == digits;
    let lower = u64::try_from(decimal / 10).ok()?;
    between.then_some(lower + lower % 2)
}

shortest!(float8, f64, u64, 52, 1023, 15, 17);
shortest!(float4, f32, u32, 23, 127, 6, 9);

/// Writes digits with a point among them, or an exponent behind them.
fn layout(digits: &[u8], exponent: i32, fixed: i32, out: &mut Vec<u8>) {
    let (first, rest) = digits.split_at(1);
    if !(-4..fixed).contains(&exponent) {
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        super::number::padded(u64::from(exponent.unsigned_abs()), 2, out);
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(
            b'0',
            exponent.unsigned_abs() as usize - 1,
        ));
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        let (before, after) = digits.split_at(whole.min(digits.len()));
        out.extend_from_slice(before);
        out.extend(std::iter::repeat_n(b'0', whole - before.len()));
        if !after.is_empty() {
            out.push(b'.');
            out.extend_from_slice(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        float8(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn single(value: f32) -> String {
        let mut out = Vec::new();
        float4(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn exponents_appear_where_the_server_writes_them() {
        for (value, text) in [
            (0.1, "0.1"),
            (-0.0, "-0"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e20, "1e+20"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
        assert_eq!(single(1e5), "100000");
        assert_eq!(single(1e6), "1e+06");
        assert_eq!(single(0.1), "0.1");
    }

    #[test]
    fn digits_never_lie_between_two_numbers() {
        // 2^59 and 2^60, whose shortest forms are exact borders.
        assert_eq!(double(576_460_752_303_423_488.0), "5.764607523034235e+17");
        // 2^-25, which lies between two numbers of 17 digits.
        assert_eq!(double(2f64.powi(-25)), "2.9802322387695312e-08");
        assert_eq!(double(9_007_199_254_740_993.0), "9.007199254740992e+15");
    }

    proptest::proptest! {
        #[test]
        fn any_number_is_read_back(bits: u64, short: u32) {
            let (value, small) = (f64::from_bits(bits), f32::from_bits(short));
            if value.is_finite() {
                proptest::prop_assert_eq!(double(value).parse::<f64>().unwrap().to_bits(), bits);
            }
            if small.is_finite() {
                proptest::prop_assert_eq!(single(small).parse::<f32>().unwrap().to_bits(), short);
            }
        }
    }
}
