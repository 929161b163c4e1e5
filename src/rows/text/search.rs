//! Text search: `tsvector` and `tsquery`.

use super::NotAValue;
use super::input::Input;
use super::number::{integer, unsigned};

/// Most operators of a query that are one within another.
const MAX_DEPTH: usize = 4000;

/// A word in quotes, which are doubled within, and so are backslashes.
fn quoted(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in word {
        if matches!(byte, b'\'' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'\'');
}

/// Number of words; of each the word, ended by a zero, the number of its positions, and those: two bits of weight, 14 of
/// position.
pub(super) fn vector(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    for n in 0..input.count(3)? {
        if n > 0 {
            out.push(b' ');
        }
        quoted(input.text()?, out);
        for n in 0..input.u16()? {
            out.push(if n == 0 { b':' } else { b',' });
            let position = input.u16()?;
            unsigned(u64::from(position & 0x3FFF), out);
            match position >> 14 {
                3 => out.push(b'A'),
                2 => out.push(b'B'),
                1 => out.push(b'C'),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Number of items; operators before their operands, of two the right one first.
pub(super) fn query(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    if input.count(1)? == 0 {
        return Ok(());
    }
    item(input, 0, false, 0, out)
}

/// Prints the item that comes next, within an operator that binds this strongly; `right_of_phrase` where it is the
/// right operand of a phrase.
fn item(
    input: &mut Input<'_>,
    outer: u8,
    right_of_phrase: bool,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    if depth > MAX_DEPTH {
        return Err(NotAValue("a query of too many operators within each other"));
    }
    match input.u8()? {
        1 => {
            operand(input, out)?;
            return Ok(());
        }
        2 => {}
        _ => return Err(NotAValue("a query with an unknown item")),
    }
    let operator = input.u8()?;
    let (strength, sign): (u8, &[u8]) = match operator {
        1 => (4, b"!"),
        2 => (2, b" & "),
        3 => (1, b" | "),
        4 => (3, b" <-> "),
        _ => return Err(NotAValue("a query with an unknown operator")),
    };
    let distance = if operator == 4 { input.i16()? } else { 1 };
    let parentheses = strength < outer || (operator == 4 && right_of_phrase);
    if parentheses {
        out.extend_from_slice(b"( ");
    }
    if operator == 1 {
        out.extend_from_slice(sign);
        item(input, strength, false, depth + 1, out)?;
    } else {
        // The right one comes first and is printed last.
        let start = out.len();
        item(input, strength, operator == 4, depth + 1, out)?;
        let right = out.split_off(start);
        item(input, strength, false, depth + 1, out)?;
        if distance == 1 {
            out.extend_from_slice(sign);
        } else {
            out.extend_from_slice(b" <");
            integer(i64::from(distance), out);
            out.extend_from_slice(b"> ");
        }
        out.extend_from_slice(&right);
    }
    if parentheses {
        out.extend_from_slice(b" )");
    }
    Ok(())
}

/// Weights, whether it is a prefix, the word.
fn operand(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let (weights, prefix) = (input.u8()?, input.u8()?);
    quoted(input.text()?, out);
    if weights != 0 || prefix != 0 {
        out.push(b':');
    }
    if prefix != 0 {
        out.push(b'*');
    }
    for (bit, letter) in [(8, b'A'), (4, b'B'), (2, b'C'), (1, b'D')] {
        if weights & bit != 0 {
            out.push(letter);
        }
    }
    Ok(())
}
