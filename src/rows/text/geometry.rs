//! Geometric types, and `cube`.

use super::NotAValue;
use super::float::float8;
use super::input::Input;

/// Some numbers with this between them.
fn numbers(
    count: usize,
    between: &[u8],
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    for n in 0..count {
        if n > 0 {
            out.extend_from_slice(between);
        }
        float8(input.f64()?, out);
    }
    Ok(())
}

fn points(count: usize, input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    for n in 0..count {
        if n > 0 {
            out.push(b',');
        }
        point(input, out)?;
    }
    Ok(())
}

pub(super) fn point(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    out.push(b'(');
    numbers(2, b",", input, out)?;
    out.push(b')');
    Ok(())
}

pub(super) fn line(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    out.push(b'{');
    numbers(3, b",", input, out)?;
    out.push(b'}');
    Ok(())
}

pub(super) fn segment(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    out.push(b'[');
    points(2, input, out)?;
    out.push(b']');
    Ok(())
}

pub(super) fn corners(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    points(2, input, out)
}

/// Whether it is closed, number of points, points.
pub(super) fn path(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let (open, close) = if input.u8()? == 0 {
        (b'[', b']')
    } else {
        (b'(', b')')
    };
    out.push(open);
    points(input.count(16)?, input, out)?;
    out.push(close);
    Ok(())
}

/// Number of points, points.
pub(super) fn polygon(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    out.push(b'(');
    points(input.count(16)?, input, out)?;
    out.push(b')');
    Ok(())
}

/// Centre and radius.
pub(super) fn circle(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    out.push(b'<');
    point(input, out)?;
    out.push(b',');
    float8(input.f64()?, out);
    out.push(b'>');
    Ok(())
}

/// Dimensions, with the highest bit set for a point; one corner, and unless it is a point, the other.
pub(super) fn cube(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    let header = input.u32()?;
    let dimensions = (header & 0x7FFF_FFFF) as usize;
    let mut corner = |input: &mut Input<'_>| {
        out.push(b'(');
        numbers(dimensions, b", ", input, out)?;
        out.push(b')');
        Ok(())
    };
    let first = *input;
    corner(input)?;
    if header >> 31 == 0 {
        let (from, mut second) = (first.0.len() - input.0.len(), *input);
        // Two corners that are the same are a point, too.
        let mut one = Input(&first.0[..from]);
        let mut same = true;
        for _ in 0..dimensions {
            same &= one.f64()? == second.f64()?;
        }
        if same {
            *input = second;
        } else {
            out.push(b',');
            out.push(b'(');
            numbers(dimensions, b", ", input, out)?;
            out.push(b')');
        }
    }
    Ok(())
}
