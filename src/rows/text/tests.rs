use proptest::prelude::*;

use super::*;
use crate::rows::Format;

fn lines(
    types: &[TextType],
    format: Format,
    style: RowStyle,
    parts: &[&[u8]],
    part: bool,
) -> Result<String, NotAValue> {
    let mut rows = TextRows::new(types, format, style);
    let mut text = Vec::new();
    for payload in parts {
        rows.block(payload, part, &mut |piece| {
            text.extend_from_slice(piece);
            Ok::<_, NotAValue>(())
        })?;
    }
    rows.finish()?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = (fields.len() as u16).to_be_bytes().to_vec();
    for field in fields {
        match field {
            None => out.extend((-1i32).to_be_bytes()),
            Some(value) => {
                out.extend((value.len() as u32).to_be_bytes());
                out.extend_from_slice(value);
            }
        }
    }
    out
}

const TYPES: [TextType; 4] = [
    TextType::Text,
    TextType::Int4,
    TextType::Bytea,
    TextType::Versioned,
];

fn sample() -> Vec<u8> {
    row(&[
        Some(b"a\t\"b\\,\n"),
        Some(&[0, 0, 0, 7]),
        Some(&[1, 255]),
        None,
    ])
}

#[test]
fn lines_of_both_styles() {
    let mut payload = sample();
    payload.extend(row(&[Some(b""), None, Some(b""), Some(b"\x01{\"x\": 1}")]));
    assert_eq!(
        lines(&TYPES, Format::Binary, RowStyle::Text, &[&payload], false).unwrap(),
        "a\\t\"b\\\\,\\n\t7\t\\\\x01ff\t\\N\n\t\\N\t\\\\x\t{\"x\": 1}\n"
    );
    assert_eq!(
        lines(&TYPES, Format::Binary, RowStyle::Csv, &[&payload], false).unwrap(),
        "\"a\t\"\"b\\,\n\",7,\\x01ff,\n\"\",,\\x,\"{\"\"x\"\": 1}\"\n"
    );
}

#[test]
fn rows_of_text_become_csv() {
    assert_eq!(
        lines(
            &TYPES[..2],
            Format::Text,
            RowStyle::Csv,
            &[b"a\\tb\t\\N\n\\\\,\t\n"],
            false
        )
        .unwrap(),
        "a\tb,\n\"\\,\",\"\"\n"
    );
    assert_eq!(
        lines(&[], Format::Text, RowStyle::Csv, &[b"\n\n"], false).unwrap(),
        "\n\n"
    );
    let alone = lines(
        &TYPES[..1],
        Format::Text,
        RowStyle::Csv,
        &[b"\\\\.\n"],
        false,
    )
    .unwrap();
    assert_eq!(alone, "\"\\.\"\n");
}

#[test]
fn a_row_that_breaks_off_is_noticed() {
    let payload = sample();
    for cut in 1..payload.len() {
        for part in [true, false] {
            let cut = lines(
                &TYPES,
                Format::Binary,
                RowStyle::Text,
                &[&payload[..cut]],
                part,
            );
            assert!(cut.is_err());
        }
    }
}

fn any_type() -> impl Strategy<Value = TextType> {
    use TextType::*;
    let simple = prop::sample::select(vec![
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
    ]);
    simple.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|t| List(std::boxed::Box::new(t))),
            inner.clone().prop_map(|t| Array {
                element: std::boxed::Box::new(t),
                delimiter: b','
            }),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Composite),
            inner.clone().prop_map(|t| Range(std::boxed::Box::new(t))),
            inner.prop_map(|t| Multirange(std::boxed::Box::new(t))),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_break_a_printer(kind in any_type(), value in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = Vec::new();
        let _ = kind.render(&value, &mut out);
    }

    #[test]
    fn small_numbers_break_no_printer(kind in any_type(), words in prop::collection::vec(0u8..4, 0..60)) {
        // Counts and lengths that nearly fit lead deeper than random bytes do.
        let mut out = Vec::new();
        let _ = kind.render(&words, &mut out);
    }

    #[test]
    fn however_a_row_is_cut_its_line_is_the_same(cuts in prop::collection::vec(0usize..40, 0..6)) {
        let payload = sample();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(payload.len())).collect();
        cuts.extend([0, payload.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &payload[cut[0]..cut[1]]).collect();
        for style in [RowStyle::Text, RowStyle::Csv] {
            prop_assert_eq!(
                lines(&TYPES, Format::Binary, style, &parts, true),
                lines(&TYPES, Format::Binary, style, &[&payload], false)
            );
        }
        let text = b"a\\tb\t1\t\\\\x01\t\\N\n";
        let cut = cuts.first().copied().unwrap_or(0).min(text.len() - 1).max(1);
        prop_assert_eq!(
            lines(&TYPES, Format::Text, RowStyle::Csv, &[&text[..cut], &text[cut..]], true),
            lines(&TYPES, Format::Text, RowStyle::Csv, &[text], false)
        );
    }
}
