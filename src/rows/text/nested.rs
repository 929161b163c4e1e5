//! Values within values: arrays, composites, ranges, multiranges, `hstore`.
//!
//! What is within is printed first, and put into quotes where it stands if it needs them: mostly it does not.

use super::input::Input;
use super::number::integer;
use super::{NotAValue, TextType};

/// What the server takes for a space when it decides about quotes.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

/// Puts what stands from `start` on into quotes. Quotes and backslashes within get this before them, or are doubled.
fn quote_tail(start: usize, escape: Option<u8>, out: &mut Vec<u8>) {
    let tail = out.split_off(start);
    out.push(b'"');
    for byte in tail {
        if matches!(byte, b'"' | b'\\') {
            out.push(escape.unwrap_or(byte));
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Number of dimensions, flags, type; of each dimension its length and the number of its first element; elements.
pub(super) fn array(
    element: &TextType,
    delimiter: u8,
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    // The server allows six.
    let Ok(dimensions @ 0..=6) = usize::try_from(input.i32()?) else {
        return Err(NotAValue("an array of too many dimensions"));
    };
    input.u32()?;
    input.u32()?;
    let (mut lengths, mut first) = ([0; 6], [1; 6]);
    for n in 0..dimensions {
        lengths[n] = usize::try_from(input.i32()?).map_err(|_| NotAValue("a negative number"))?;
        first[n] = input.i32()?;
    }
    let lengths = &lengths[..dimensions];
    if dimensions == 0 || lengths.contains(&0) {
        out.extend_from_slice(b"{}");
        return Ok(());
    }
    if first.iter().any(|first| *first != 1) {
        for (length, first) in lengths.iter().zip(first) {
            let last = i64::from(first) + *length as i64 - 1;
            out.push(b'[');
            integer(i64::from(first), out);
            out.push(b':');
            integer(last, out);
            out.push(b']');
        }
        out.push(b'=');
    }
    let mut one = |input: &mut Input<'_>, out: &mut Vec<u8>| {
        let Some(value) = input.sized()? else {
            out.extend_from_slice(b"NULL");
            return Ok(());
        };
        let start = out.len();
        element.render(value, out)?;
        let text = &out[start..];
        let special = |byte: &u8| {
            matches!(byte, b'"' | b'\\' | b'{' | b'}') || *byte == delimiter || is_space(*byte)
        };
        if text.is_empty() || text.eq_ignore_ascii_case(b"NULL") || text.iter().any(special) {
            quote_tail(start, Some(b'\\'), out);
        }
        Ok(())
    };
    elements(lengths, delimiter, &mut one, input, out)
}

type One<'o> = dyn FnMut(&mut Input<'_>, &mut Vec<u8>) -> Result<(), NotAValue> + 'o;

fn elements(
    lengths: &[usize],
    delimiter: u8,
    one: &mut One<'_>,
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    let Some((length, within)) = lengths.split_first() else {
        return one(input, out);
    };
    out.push(b'{');
    for n in 0..*length {
        if n > 0 {
            out.push(delimiter);
        }
        elements(within, delimiter, one, input, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// An array of one dimension as a list with spaces.
pub(super) fn list(
    element: &TextType,
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    let dimensions = input.i32()?;
    input.u32()?;
    input.u32()?;
    if dimensions == 0 {
        return Ok(());
    }
    let length = input.i32()?;
    input.i32()?;
    for n in 0..length {
        if n > 0 {
            out.push(b' ');
        }
        let value = input.sized()?.ok_or(NotAValue("a NULL in a list"))?;
        element.render(value, out)?;
    }
    Ok(())
}

/// Number of fields; of each its type and its value.
pub(super) fn composite(
    fields: &[TextType],
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    if usize::try_from(input.i32()?).ok() != Some(fields.len()) {
        return Err(NotAValue("a composite of other fields than its type has"));
    }
    out.push(b'(');
    for (n, field) in fields.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        input.u32()?;
        let Some(value) = input.sized()? else {
            continue;
        };
        let start = out.len();
        field.render(value, out)?;
        let special =
            |byte: &u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || is_space(*byte);
        if out.len() == start || out[start..].iter().any(special) {
            quote_tail(start, None, out);
        }
    }
    out.push(b')');
    Ok(())
}

const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
/// Infinite, or NULL, which no server sends.
const NO_LOWER: u8 = 0x08 | 0x20;
const NO_UPPER: u8 = 0x10 | 0x40;

/// Flags, then the bounds that there are.
pub(super) fn range(
    bound: &TextType,
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    let flags = input.u8()?;
    if flags & EMPTY != 0 {
        out.extend_from_slice(b"empty");
        return Ok(());
    }
    let mut one = |none: u8, out: &mut Vec<u8>| {
        if flags & none != 0 {
            return Ok(());
        }
        let value = input
            .sized()?
            .ok_or(NotAValue("a range without its bound"))?;
        let start = out.len();
        bound.render(value, out)?;
        let special = |byte: &u8| {
            matches!(byte, b'"' | b'\\' | b'(' | b')' | b'[' | b']' | b',') || is_space(*byte)
        };
        if out.len() == start || out[start..].iter().any(special) {
            quote_tail(start, None, out);
        }
        Ok(())
    };
    out.push(if flags & LOWER_INCLUSIVE == 0 {
        b'('
    } else {
        b'['
    });
    one(NO_LOWER, out)?;
    out.push(b',');
    one(NO_UPPER, out)?;
    out.push(if flags & UPPER_INCLUSIVE == 0 {
        b')'
    } else {
        b']'
    });
    Ok(())
}

/// Number of ranges; of each its length, and itself.
pub(super) fn multirange(
    bound: &TextType,
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    out.push(b'{');
    for n in 0..input.count(5)? {
        if n > 0 {
            out.push(b',');
        }
        let mut value = Input(input.sized()?.ok_or(NotAValue("a NULL for a range"))?);
        range(bound, &mut value, out)?;
        value.end()?;
    }
    out.push(b'}');
    Ok(())
}

/// Number of pairs; of each the length of the key, the key, and the value behind its length.
pub(super) fn hstore(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    for n in 0..input.count(8)? {
        if n > 0 {
            out.extend_from_slice(b", ");
        }
        let key = input.sized()?.ok_or(NotAValue("a pair without its key"))?;
        let start = out.len();
        out.extend_from_slice(key);
        quote_tail(start, Some(b'\\'), out);
        out.extend_from_slice(b"=>");
        match input.sized()? {
            None => out.extend_from_slice(b"NULL"),
            Some(value) => {
                let start = out.len();
                out.extend_from_slice(value);
                quote_tail(start, Some(b'\\'), out);
            }
        }
    }
    Ok(())
}
