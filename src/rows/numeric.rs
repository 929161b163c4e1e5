//! `numeric` values with one display scale as integers: `12.50` of scale 2 is 1250.
//!
//! The wire form has a count of digits, the weight of the first, a sign and the display scale (two bytes each, all
//! big-endian), then digits of base 10,000 (two bytes each) without zeros at either end.

/// Bytes before the digits.
const HEADER: usize = 8;
const NEGATIVE: u16 = 0x4000;
/// The largest power of ten that a group of digits can need.
const POWERS: [i128; 4] = [1, 10, 100, 1000];
/// Display scales above this do not fit the integers that come out.
const MAX_SCALE: u16 = 18;

/// The display scale of a value.
pub(super) fn scale(value: &[u8]) -> Option<u16> {
    let scale = value.get(6..HEADER)?;
    Some(u16::from_be_bytes([scale[0], scale[1]]))
}

/// The value times ten to the power of `scale`, if it has that scale and its wire form can be made of the result.
pub(super) fn to_integer(value: &[u8], scale: u16, scratch: &mut Vec<u8>) -> Option<i64> {
    let (words, rest) = value.as_chunks::<2>();
    let [count, weight, sign, display, digits @ ..] = words else {
        return None;
    };
    let weight = i32::from(i16::from_be_bytes(*weight));
    let sign = u16::from_be_bytes(*sign);
    if !rest.is_empty()
        || usize::from(u16::from_be_bytes(*count)) != digits.len()
        || u16::from_be_bytes(*display) != scale
        || scale > MAX_SCALE
        || digits.len() > 8
        || !(-8..=8).contains(&weight)
        || (sign != 0 && sign != NEGATIVE)
    {
        return None;
    }
    // The digits as one integer, then shifted so that its last decimal is the last of the display scale.
    let mut number: i128 = 0;
    for digit in digits {
        number = number * 10_000 + i128::from(u16::from_be_bytes(*digit));
    }
    let mut shift = 4 * (weight + 1 - digits.len() as i32) + i32::from(scale);
    if number == 0 {
        shift = 0;
    }
    while shift > 0 {
        let step = shift.min(3);
        number = number.checked_mul(POWERS[step as usize])?;
        shift -= step;
    }
    while shift < 0 {
        let step = (-shift).min(3);
        if number % POWERS[step as usize] != 0 {
            return None;
        }
        number /= POWERS[step as usize];
        shift += step;
    }
    let number = i64::try_from(if sign == 0 { number } else { -number }).ok()?;
    scratch.clear();
    from_integer(number, scale, scratch);
    (scratch == value).then_some(number)
}

/// Appends the wire form of `number` divided by ten to the power of `scale`.
pub(super) fn from_integer(number: i64, scale: u16, out: &mut Vec<u8>) {
    let fraction_groups = usize::from(scale.min(MAX_SCALE)).div_ceil(4);
    let padding = fraction_groups * 4 - usize::from(scale.min(MAX_SCALE));
    let mut left = u128::from(number.unsigned_abs()) * POWERS[padding] as u128;
    // Groups of four decimals, the last first.
    let mut groups = [0u16; 10];
    let mut used = 0;
    let mut trailing = 0;
    while left > 0 && used < groups.len() {
        groups[used] = (left % 10_000) as u16;
        left /= 10_000;
        used += 1;
        if used == trailing + 1 && groups[trailing] == 0 {
            trailing = used;
        }
    }
    let digits = &groups[trailing..used];
    let weight = match used {
        0 => 0,
        _ => used as i16 - fraction_groups as i16 - 1,
    };
    let sign = if number < 0 { NEGATIVE } else { 0 };
    for word in [digits.len() as u16, weight as u16, sign, scale] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for digit in digits.iter().rev() {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(words: &[i16]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn values_and_integers_agree() {
        let negative = NEGATIVE as i16;
        for (words, scale, number) in [
            (&[0, 0, 0, 0][..], 0, 0),
            (&[0, 0, 0, 2], 2, 0),
            (&[1, 0, 0, 0, 7], 0, 7),
            (&[2, 0, 0, 2, 12, 5000], 2, 1250),
            (&[1, 0, 0, 2, 12], 2, 1200),
            (&[1, 1, 0, 0, 3], 0, 30_000),
            (&[2, 0, negative, 3, 1, 2340], 3, -1234),
            (&[1, -1, 0, 2, 100], 2, 1),
            (&[1, -2, 0, 8, 1], 8, 1),
            (&[3, 1, 0, 1, 1, 0, 5000], 1, 100_005),
        ] {
            let value = wire(words);
            let mut scratch = Vec::new();
            assert_eq!(
                to_integer(&value, scale, &mut scratch),
                Some(number),
                "{words:?}"
            );
            let mut back = Vec::new();
            from_integer(number, scale, &mut back);
            assert_eq!(back, value, "{words:?}");
        }
    }

    #[test]
    fn what_would_not_come_back_is_refused() {
        let mut scratch = Vec::new();
        for (words, scale) in [
            (&[0, 0, 0xC000u16 as i16, 0][..], 0),                  // NaN
            (&[1, 0, 0, 2, 7], 0),                                  // another scale
            (&[2, 0, 0, 0, 7, 0], 0),                               // a zero at the end
            (&[2, 1, 0, 0, 0, 7], 0),                               // a zero at the start
            (&[1, 0, 0, 0], 0),                                     // cut
            (&[2, 0, 0, 0, 7, 5000], 0),                            // decimals beyond the scale
            (&[0, 0, NEGATIVE as i16, 0], 0),                       // minus zero
            (&[6, 5, 0, 0, 9999, 9999, 9999, 9999, 9999, 9999], 0), // too large
        ] {
            assert_eq!(
                to_integer(&wire(words), scale, &mut scratch),
                None,
                "{words:?}"
            );
        }
    }

    #[test]
    fn every_integer_has_a_form() {
        for number in [i64::MIN, i64::MAX, -1, 1, 9999, 10_000] {
            for scale in 0..=MAX_SCALE {
                let (mut out, mut scratch) = (Vec::new(), Vec::new());
                from_integer(number, scale, &mut out);
                assert!(out.len() <= HEADER + 16);
                assert_eq!(
                    to_integer(&out, scale, &mut scratch),
                    Some(number),
                    "{number} {scale}"
                );
            }
        }
    }
}
