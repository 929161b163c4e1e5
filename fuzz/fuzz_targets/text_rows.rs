//! Any bytes print as values of any type, or are an error; and rows print the same whole and in parts.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use pgtide::rows::Format;
use pgtide::rows::text::{NotAValue, RowStyle, TextRows, TextType};

#[derive(Debug, Arbitrary)]
struct Input {
    #[arbitrary(with = types)]
    types: Vec<TextType>,
    csv: bool,
    text: bool,
    rows: Vec<u8>,
    fields: Vec<Option<Vec<u8>>>,
    cut: u8,
}

fn types(input: &mut Unstructured<'_>) -> Result<Vec<TextType>> {
    let count = input.int_in_range(0..=3)?;
    (0..count).map(|_| kind(input, 3)).collect()
}

fn kind(input: &mut Unstructured<'_>, depth: u8) -> Result<TextType> {
    use TextType::*;
    let simple = [
        Bool,
        Int2,
        Int4,
        Int8,
        Unsigned4,
        Unsigned8,
        Float4,
        Float8,
        Numeric,
        Money,
        Text,
        Char { octal: true },
        Versioned,
        Bytea,
        Date,
        Time,
        TimeTz,
        Timestamp,
        TimestampTz,
        Interval { infinite: true },
        Uuid,
        Network,
        Mac,
        Bits,
        Point,
        Line,
        Segment,
        Box,
        Path,
        Polygon,
        Circle,
        TsVector,
        TsQuery,
        Lsn,
        Snapshot,
        Tid,
        Hstore,
        Cube,
        HexUpper,
        Vector,
        HalfVec,
        SparseVec,
        Base64,
    ];
    Ok(
        match input.int_in_range(0..=if depth == 0 { 0 } else { 5 })? {
            0 => input.choose(&simple)?.clone(),
            1 => List(std::boxed::Box::new(kind(input, depth - 1)?)),
            2 => Array {
                element: std::boxed::Box::new(kind(input, depth - 1)?),
                delimiter: b',',
            },
            3 => {
                let count = input.int_in_range(0..=3)?;
                Composite(
                    (0..count)
                        .map(|_| kind(input, depth - 1))
                        .collect::<Result<_>>()?,
                )
            }
            4 => Range(std::boxed::Box::new(kind(input, depth - 1)?)),
            _ => Multirange(std::boxed::Box::new(kind(input, depth - 1)?)),
        },
    )
}

fn lines(
    types: &[TextType],
    (format, style): (Format, RowStyle),
    blocks: &[&[u8]],
    part: bool,
) -> std::result::Result<Vec<u8>, NotAValue> {
    let mut rows = TextRows::new(types, format, style);
    let mut text = Vec::new();
    for block in blocks {
        rows.block(block, part, &mut |piece| {
            text.extend_from_slice(piece);
            Ok::<_, NotAValue>(())
        })?;
    }
    rows.finish()?;
    Ok(text)
}

fuzz_target!(|input: Input| {
    let format = if input.text {
        Format::Text
    } else {
        Format::Binary
    };
    let style = if input.csv {
        RowStyle::Csv
    } else {
        RowStyle::Text
    };
    let _ = lines(&input.types, (format, style), &[&input.rows], false);
    let parts: Vec<&[u8]> = input.rows.chunks(usize::from(input.cut) + 1).collect();
    let _ = lines(&input.types, (format, style), &parts, true);

    let mut fields = input.fields.into_iter();
    let mut row = (input.types.len() as u16).to_be_bytes().to_vec();
    for _ in &input.types {
        match fields.next().flatten() {
            Some(field) => {
                row.extend((field.len() as u32).to_be_bytes());
                row.extend(field);
            }
            None => row.extend((-1i32).to_be_bytes()),
        }
    }
    let how = (Format::Binary, style);
    let whole = lines(&input.types, how, &[&row], false);
    let parts: Vec<&[u8]> = row.chunks(usize::from(input.cut) + 1).collect();
    assert_eq!(lines(&input.types, how, &parts, true), whole);
});
