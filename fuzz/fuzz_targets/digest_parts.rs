//! A row digests the same whole and in parts, whatever its shape and however it is cut.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use pgtide::rows::{DigestPlan, Digester, Format, RowDigest, Shape};

#[derive(Debug, Arbitrary)]
struct Input {
    text: bool,
    #[arbitrary(with = shapes)]
    shapes: Vec<Shape>,
    fields: Vec<Option<Vec<u8>>>,
    cut: u8,
    garbage: Vec<u8>,
}

fn shapes(input: &mut Unstructured<'_>) -> Result<Vec<Shape>> {
    let count = input.int_in_range(0..=4)?;
    (0..count).map(|_| shape(input, 4)).collect()
}

fn shape(input: &mut Unstructured<'_>, depth: u8) -> Result<Shape> {
    Ok(
        match input.int_in_range(0..=if depth == 0 { 0 } else { 4 })? {
            0 => Shape::Plain,
            1 => Shape::Array(Box::new(shape(input, depth - 1)?)),
            2 => {
                let count = input.int_in_range(0..=3)?;
                Shape::Composite(
                    (0..count)
                        .map(|_| shape(input, depth - 1))
                        .collect::<Result<_>>()?,
                )
            }
            3 => Shape::Range(Box::new(shape(input, depth - 1)?)),
            _ => Shape::Multirange(Box::new(shape(input, depth - 1)?)),
        },
    )
}

fuzz_target!(|input: Input| {
    let columns: Vec<_> = input
        .shapes
        .into_iter()
        .enumerate()
        .map(|(i, shape)| (format!("{}", 9 - i), shape))
        .collect();
    let format = if input.text {
        Format::Text
    } else {
        Format::Binary
    };
    let plan = DigestPlan::new(format, &columns);
    let mut digester = Digester::new(&plan);
    let cut = usize::from(input.cut) + 1;

    let _ = digester.push_rows(&input.garbage);
    for part in input.garbage.chunks(cut) {
        let _ = digester.push_part(part);
    }

    let mut fields = input.fields.into_iter();
    let mut row = Vec::new();
    if !input.text {
        row.extend((columns.len() as u16).to_be_bytes());
    }
    for i in 0..columns.len() {
        let field = fields.next().flatten();
        if input.text {
            let field = field.unwrap_or_else(|| b"\\N".to_vec());
            row.extend(
                field
                    .into_iter()
                    .filter(|byte| !matches!(byte, b'\t' | b'\n')),
            );
            row.push(if i + 1 < columns.len() { b'\t' } else { b'\n' });
        } else if let Some(field) = field {
            row.extend((field.len() as u32).to_be_bytes());
            row.extend(field);
        } else {
            row.extend((-1i32).to_be_bytes());
        }
    }
    if row.is_empty() {
        row.push(b'\n');
    }
    let mut digester = Digester::new(&plan);
    let whole = digester.push_rows(&row).unwrap();
    let mut parts = RowDigest::default();
    for part in row.chunks(cut) {
        parts += digester.push_part(part).unwrap();
    }
    assert_eq!(whole, parts);
});
