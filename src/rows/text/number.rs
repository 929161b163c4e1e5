//! Integers, `numeric`, `money`.

use super::NotAValue;
use super::input::Input;

/// Appends a number in decimal digits.
pub(super) fn integer(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(value.unsigned_abs(), out);
}

/// Appends a number in decimal digits.
pub(super) fn unsigned(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a number with zeros before it, so that it has this many digits at least.
pub(super) fn padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    unsigned(value, out);
    let missing = width.saturating_sub(out.len() - start);
    out.splice(start..start, std::iter::repeat_n(b'0', missing));
}

/// Digits of base 10,000 around a decimal point: count, weight of the first, sign, and how many decimals to show.
pub(super) fn numeric(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let count = usize::from(input.u16()?);
    let weight = i64::from(input.i16()?);
    let sign = input.u16()?;
    let scale = usize::from(input.u16()?);
    let digits = input.bytes(2 * count)?;
    match sign {
        0 => {}
        0x4000 => out.push(b'-'),
        0xC000 => {
            out.extend_from_slice(b"NaN");
            return Ok(());
        }
        0xD000 => {
            out.extend_from_slice(b"Infinity");
            return Ok(());
        }
        0xF000 => {
            out.extend_from_slice(b"-Infinity");
            return Ok(());
        }
        _ => return Err(NotAValue("a number with an unknown sign")),
    }
    // The digit of that weight; zero beyond those that are there.
    let digit = |of: i64| -> Result<u64, NotAValue> {
        let at = usize::try_from(weight - of).ok();
        let bytes = at.and_then(|at| digits.get(2 * at..2 * at + 2));
        let digit = bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        match digit {
            0..10_000 => Ok(u64::from(digit)),
            _ => Err(NotAValue("a digit of a number is too large")),
        }
    };
    if weight < 0 {
        out.push(b'0');
    } else {
        // A number begins with its first digit that is not zero, as the server prints it.
        unsigned(digit(weight)?, out);
        for of in (0..weight).rev() {
            padded(digit(of)?, 4, out);
        }
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + scale;
        let mut of = -1;
        while out.len() < end {
            padded(digit(of)?, 4, out);
            of -= 1;
        }
        out.truncate(end);
    }
    Ok(())
}

/// Hundredths with the signs of the locale C.
pub(super) fn money(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    out.push(b'$');
    let value = value.unsigned_abs();
    let start = out.len();
    unsigned(value / 100, out);
    let mut at = out.len();
    while at > start + 3 {
        at -= 3;
        out.insert(at, b',');
    }
    out.push(b'.');
    padded(value % 100, 2, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(words: &[u16]) -> String {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        let mut out = Vec::new();
        numeric(&mut Input(&bytes), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_have_the_decimals_that_they_show() {
        assert_eq!(printed(&[0, 0, 0, 0]), "0");
        assert_eq!(printed(&[0, 0, 0, 2]), "0.00");
        assert_eq!(printed(&[2, 0, 0x4000, 2, 12, 5000]), "-12.50");
        assert_eq!(printed(&[1, 1, 0, 0, 3]), "30000");
        assert_eq!(printed(&[1, (-2i16) as u16, 0, 8, 1]), "0.00000001");
        assert_eq!(printed(&[0, 0, 0xC000, 0]), "NaN");
        assert_eq!(printed(&[0, 0, 0xF000, 0]), "-Infinity");
    }

    #[test]
    fn money_has_commas() {
        let printed = |value| {
            let mut out = b"x".to_vec();
            money(value, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(0), "x$0.00");
        assert_eq!(printed(-123), "x-$1.23");
        assert_eq!(printed(123_456_789), "x$1,234,567.89");
        assert_eq!(printed(i64::MIN), "x-$92,233,720,368,547,758.08");
    }
}
