//! Blocks and row digests over random schemas and values.

use pgtide::rows::{
    ColumnKind, Decoder, DigestPlan, Digester, Effort, Encoder, Format, RowDigest, Shape,
};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

const KINDS: [ColumnKind; 12] = [
    ColumnKind::Bool,
    ColumnKind::Int16,
    ColumnKind::Int32,
    ColumnKind::Int64,
    ColumnKind::Float32,
    ColumnKind::Float64,
    ColumnKind::Date,
    ColumnKind::Timestamp,
    ColumnKind::Uuid,
    ColumnKind::Text,
    ColumnKind::Numeric,
    ColumnKind::Bytes,
];

type Field = Option<Vec<u8>>;

/// Encodes, decodes, and compares; returns the size of the encoded block.
fn round_trip(format: Format, kinds: &[ColumnKind], columns: u16, payload: &[u8]) -> usize {
    let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
    for effort in [Effort::Default, Effort::Fast] {
        let info = Encoder::new(effort)
            .encode(format, kinds, columns, payload, &mut encoded)
            .unwrap();
        assert_eq!(info.payload_len as usize, payload.len());
        assert_eq!(pgtide::rows::read_header(&encoded).unwrap(), info);
        assert_eq!(Decoder::new().decode(&encoded, &mut decoded).unwrap(), info);
        assert!(decoded == payload);
    }
    encoded.len()
}

fn binary_row(fields: &[Field]) -> Vec<u8> {
    let mut row = (fields.len() as u16).to_be_bytes().to_vec();
    for field in fields {
        match field {
            Some(bytes) => {
                row.extend((bytes.len() as u32).to_be_bytes());
                row.extend(bytes);
            }
            None => row.extend((-1i32).to_be_bytes()),
        }
    }
    row
}

fn binary(rows: &[Vec<Field>]) -> Vec<u8> {
    rows.iter().flat_map(|row| binary_row(row)).collect()
}

fn numeric(value: i32, scale: u16) -> Vec<u8> {
    let (whole, fraction) = (value / 100, value % 100);
    let mut digits = vec![
        whole.unsigned_abs() as u16,
        fraction.unsigned_abs() as u16 * 100,
    ];
    let mut weight = 0i16;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.first() == Some(&0) {
        digits.remove(0);
        weight = -1;
    }
    if digits.is_empty() {
        weight = 0;
    }
    let sign = if value < 0 { 0x4000 } else { 0 };
    [digits.len() as u16, weight as u16, sign, scale]
        .into_iter()
        .chain(digits)
        .flat_map(u16::to_be_bytes)
        .collect()
}

/// A value such as a column of this kind has.
fn value(kind: ColumnKind) -> BoxedStrategy<Vec<u8>> {
    match kind {
        ColumnKind::Bool => (0..2u8).prop_map(|v| vec![v]).boxed(),
        ColumnKind::Int16 => any::<i16>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnKind::Int32 | ColumnKind::Date => prop_oneof![any::<i32>(), 0..100i32]
            .prop_map(|v| v.to_be_bytes().to_vec())
            .boxed(),
        ColumnKind::Int64 | ColumnKind::Timestamp => {
            prop_oneof![any::<i64>(), (0..100i64).prop_map(|v| v * 10_000_000)]
                .prop_map(|v| v.to_be_bytes().to_vec())
                .boxed()
        }
        ColumnKind::Float32 => any::<u32>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnKind::Float64 => prop_oneof![
            any::<u64>(),
            (0..9999u64).prop_map(|v| (v as f64 / 100.0).to_bits())
        ]
        .prop_map(|v| v.to_be_bytes().to_vec())
        .boxed(),
        ColumnKind::Uuid => any::<[u8; 16]>().prop_map(|v| v.to_vec()).boxed(),
        ColumnKind::Text => "(ok|warn|fail|[a-z ]{0,30})"
            .prop_map(String::into_bytes)
            .boxed(),
        ColumnKind::Numeric => (-99_999i32..99_999).prop_map(|v| numeric(v, 2)).boxed(),
        ColumnKind::Bytes => prop::collection::vec(any::<u8>(), 0..300).boxed(),
    }
}

fn kind() -> impl Strategy<Value = ColumnKind> {
    prop::sample::select(&KINDS[..])
}

/// Hints, and rows that mostly follow them.
fn table() -> impl Strategy<Value = (Vec<ColumnKind>, Vec<Vec<Field>>)> {
    // The hint, the kind the values really have, and how many values in ten are NULL.
    let column = (kind(), kind(), prop::bool::weighted(0.8), 0..=10u8);
    prop::collection::vec(column, 0..7).prop_flat_map(|columns| {
        let hints: Vec<_> = columns.iter().map(|(hint, ..)| *hint).collect();
        let row: Vec<_> = columns
            .into_iter()
            .map(|(hint, other, honest, nulls)| {
                let kind = if honest { hint } else { other };
                match nulls {
                    0 => value(kind).prop_map(Some).boxed(),
                    10 => Just(None).boxed(),
                    _ => prop::option::weighted(1.0 - f64::from(nulls) / 10.0, value(kind)).boxed(),
                }
            })
            .collect();
        (Just(hints), prop::collection::vec(row, 0..200))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rows_of_any_table_come_back((hints, rows) in table()) {
        round_trip(Format::Binary, &hints, hints.len() as u16, &binary(&rows));
        round_trip(Format::Binary, &[], hints.len() as u16, &binary(&rows));
    }

    #[test]
    fn repeated_rows_come_back((hints, rows) in table(), times in 2..60usize) {
        let payload = binary(&rows).repeat(times);
        round_trip(Format::Binary, &hints, hints.len() as u16, &payload);
    }

    #[test]
    fn garbage_comes_back(payload in prop::collection::vec(any::<u8>(), 0..2000), columns in 0..5u16, kind in kind()) {
        for format in [Format::Binary, Format::Text, Format::Part, Format::Other] {
            round_trip(format, &vec![kind; usize::from(columns)], columns, &payload);
        }
    }

    #[test]
    fn text_comes_back(rows in prop::collection::vec(prop::collection::vec("[a-c]{0,6}|\\\\N", 3), 0..100)) {
        let payload: String = rows.iter().map(|row| row.join("\t") + "\n").collect();
        round_trip(Format::Text, &[ColumnKind::Text; 3], 3, payload.as_bytes());
        round_trip(Format::Text, &[], 2, payload.as_bytes());
    }

    #[test]
    fn a_damaged_block_is_an_error_or_other_rows((hints, rows) in table(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let payload = binary(&rows).repeat(20);
        let mut encoded = Vec::new();
        Encoder::new(Effort::Default).encode(Format::Binary, &hints, hints.len() as u16, &payload, &mut encoded).unwrap();
        let at = at.index(encoded.len());
        if cut {
            encoded.truncate(at);
        } else {
            encoded[at] ^= byte;
        }
        let mut out = Vec::new();
        match Decoder::new().decode(&encoded, &mut out) {
            Ok(info) => prop_assert_eq!(out.len(), info.payload_len as usize),
            Err(_) => prop_assert!(out.is_empty()),
        }
    }
}

#[test]
fn edges_come_back() {
    round_trip(Format::Binary, &[], 0, b"");
    round_trip(Format::Binary, &[], 0, &[0; 2000]);
    round_trip(Format::Text, &[], 0, b"\n\n\n");
    round_trip(Format::Text, &[], 1, b"\n\n\n");
    round_trip(Format::Other, &[], 0, &b"manifest".repeat(1000));
    let nulls = binary(&vec![vec![None; 1600]; 3]);
    assert!(round_trip(Format::Binary, &[ColumnKind::Int32; 1600], 1600, &nulls) < nulls.len());
    let huge = binary(&[
        vec![Some(vec![7; 5 << 20]), None],
        vec![Some(vec![8; 3 << 20]), Some(vec![1])],
    ]);
    assert!(round_trip(Format::Binary, &[ColumnKind::Bytes; 2], 2, &huge) < 10_000);
}

#[test]
fn too_much_is_refused() {
    let mut out = Vec::new();
    let payload = vec![0; pgtide::rows::MAX_PAYLOAD + 1];
    let result = Encoder::new(Effort::Fast).encode(Format::Other, &[], 0, &payload, &mut out);
    assert!(result.is_err() && out.is_empty());
}

/// A value with OIDs in it.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(Vec<u8>),
    Array(Vec<Option<Tree>>),
    Composite(Vec<Option<Tree>>),
    Range(Vec<Tree>),
    Multirange(Vec<Tree>),
}

impl Tree {
    fn wire(&self, oid: u32, out: &mut Vec<u8>) {
        match self {
            Tree::Leaf(bytes) => out.extend(bytes),
            Tree::Array(elements) => {
                let dimensions = u32::from(!elements.is_empty());
                out.extend([dimensions, 0, oid].map(u32::to_be_bytes).concat());
                if dimensions > 0 {
                    out.extend([elements.len() as u32, 1].map(u32::to_be_bytes).concat());
                }
                elements
                    .iter()
                    .for_each(|element| sized(element.as_ref(), oid, out));
            }
            Tree::Composite(fields) => {
                out.extend((fields.len() as u32).to_be_bytes());
                for field in fields {
                    out.extend(oid.to_be_bytes());
                    sized(field.as_ref(), oid, out);
                }
            }
            Tree::Range(bounds) => {
                out.push(2);
                bounds.iter().for_each(|bound| sized(Some(bound), oid, out));
            }
            Tree::Multirange(ranges) => {
                out.extend((ranges.len() as u32).to_be_bytes());
                ranges.iter().for_each(|range| sized(Some(range), oid, out));
            }
        }
    }

    fn bytes(&self, oid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.wire(oid, &mut out);
        out
    }
}

fn sized(tree: Option<&Tree>, oid: u32, out: &mut Vec<u8>) {
    match tree {
        Some(tree) => {
            let bytes = tree.bytes(oid);
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend(bytes);
        }
        None => out.extend((-1i32).to_be_bytes()),
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    Just(Shape::Plain).prop_recursive(3, 12, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(Shape::Array),
            prop::collection::vec(inner, 0..4).prop_map(Shape::Composite),
            boxed.clone().prop_map(Shape::Range),
            boxed.prop_map(Shape::Multirange),
        ]
    })
}

fn tree(shape: &Shape) -> BoxedStrategy<Tree> {
    match shape {
        Shape::Plain => prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 0..20),
            1 => prop::collection::vec(any::<u8>(), 250..600),
        ]
        .prop_map(Tree::Leaf)
        .boxed(),
        Shape::Array(inner) => prop::collection::vec(prop::option::of(tree(inner)), 0..5)
            .prop_map(Tree::Array)
            .boxed(),
        Shape::Composite(fields) => fields
            .iter()
            .map(|field| prop::option::of(tree(field)))
            .collect::<Vec<_>>()
            .prop_map(Tree::Composite)
            .boxed(),
        Shape::Range(inner) => prop::collection::vec(tree(inner), 0..3)
            .prop_map(Tree::Range)
            .boxed(),
        Shape::Multirange(inner) => {
            let range = prop::collection::vec(tree(inner), 0..3).prop_map(Tree::Range);
            prop::collection::vec(range, 0..3)
                .prop_map(Tree::Multirange)
                .boxed()
        }
    }
}

type DigestTable = (Vec<(String, Shape)>, Vec<Vec<Option<Tree>>>);

fn digest_table() -> impl Strategy<Value = DigestTable> {
    prop::collection::hash_map("[a-zA-Z]{1,4}", shape(), 0..5).prop_flat_map(|columns| {
        let columns: Vec<_> = columns.into_iter().collect();
        let row: Vec<_> = columns
            .iter()
            .map(|(_, shape)| prop::option::weighted(0.9, tree(shape)))
            .collect();
        (Just(columns), prop::collection::vec(row, 1..6))
    })
}

/// The digest as its definition reads.
fn plain_digest(columns: &[(String, Shape)], rows: &[Vec<Option<Tree>>]) -> RowDigest {
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|i| columns[*i].0.as_bytes());
    let digests = rows.iter().map(|row| {
        let mut bytes = Vec::new();
        for i in &order {
            match &row[*i] {
                None => bytes.extend((-1i32).to_be_bytes()),
                Some(tree) => {
                    let value = tree.bytes(0);
                    bytes.extend((value.len() as i32).to_be_bytes());
                    match value.len() {
                        0..=256 => bytes.extend(value),
                        _ => bytes.extend(xxh3_128(&value).to_be_bytes()),
                    }
                }
            }
        }
        RowDigest {
            rows: 1,
            sum: xxh3_128(&bytes),
        }
    });
    digests.fold(RowDigest::default(), |a, b| a + b)
}

fn fields(row: &[Option<Tree>], oid: u32) -> Vec<Field> {
    row.iter()
        .map(|tree| tree.as_ref().map(|tree| tree.bytes(oid)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_digest_is_what_its_definition_says((columns, rows) in digest_table(), oid in any::<u32>(), cuts in prop::collection::vec(1..40usize, 1..5)) {
        let expected = plain_digest(&columns, &rows);
        let plan = DigestPlan::new(Format::Binary, &columns);
        let mut digester = Digester::new(&plan);
        let encoded: Vec<_> = rows.iter().map(|row| binary_row(&fields(row, oid))).collect();
        prop_assert_eq!(digester.push_rows(&encoded.concat()).unwrap(), expected);

        // In parts, cut anywhere.
        let mut sum = RowDigest::default();
        for row in &encoded {
            let mut rest = row.as_slice();
            for cut in cuts.iter().cycle() {
                let (part, after) = rest.split_at(rest.len().min(*cut));
                rest = after;
                let digest = digester.push_part(part).unwrap();
                prop_assert_eq!(digest.rows == 1, rest.is_empty());
                sum += digest;
                if rest.is_empty() {
                    break;
                }
            }
        }
        prop_assert_eq!(sum, expected);

        // Rows and columns in another order.
        let columns: Vec<_> = columns.into_iter().rev().collect();
        let plan = DigestPlan::new(Format::Binary, &columns);
        let reversed: Vec<u8> = rows
            .iter()
            .rev()
            .flat_map(|row| {
                let mut fields = fields(row, oid);
                fields.reverse();
                binary_row(&fields)
            })
            .collect();
        prop_assert_eq!(Digester::new(&plan).push_rows(&reversed).unwrap(), expected);
    }

    #[test]
    fn a_wrong_shape_digests_the_same_however_it_is_cut(shape in shape(), value in prop::collection::vec(0..4u8, 0..300), cut in 1..9usize) {
        let columns = [("a".to_string(), shape)];
        let plan = DigestPlan::new(Format::Binary, &columns);
        let row = binary_row(&[Some(value)]);
        let mut digester = Digester::new(&plan);
        let expected = digester.push_rows(&row).unwrap();
        let sum = row.chunks(cut).map(|part| digester.push_part(part).unwrap()).fold(RowDigest::default(), |a, b| a + b);
        prop_assert_eq!(sum, expected);
    }

    #[test]
    fn garbage_has_no_digest_and_does_no_harm(payload in prop::collection::vec(0..3u8, 0..60), shape in shape(), text in any::<bool>(), columns in 0..3usize, cut in 1..9usize) {
        let columns: Vec<_> = (0..columns).map(|i| (i.to_string(), shape.clone())).collect();
        let format = if text { Format::Text } else { Format::Binary };
        let plan = DigestPlan::new(format, &columns);
        let mut digester = Digester::new(&plan);
        let _ = digester.push_rows(&payload);
        for part in payload.chunks(cut) {
            let _ = digester.push_part(part);
        }
    }

    #[test]
    fn text_digests_the_same_in_parts(rows in prop::collection::vec(("[a-c]{0,4}|\\\\N", "[a-c]{240,300}|\\\\N|b"), 1..5), cut in 1..50usize) {
        let columns = [("b".to_string(), Shape::Plain), ("a".to_string(), Shape::Plain)];
        let plan = DigestPlan::new(Format::Text, &columns);
        let mut digester = Digester::new(&plan);
        let lines: Vec<String> = rows.iter().map(|(b, a)| format!("{b}\t{a}\n")).collect();
        let expected = digester.push_rows(lines.concat().as_bytes()).unwrap();
        prop_assert_eq!(expected.rows as usize, rows.len());
        let mut sum = RowDigest::default();
        for line in &lines {
            for part in line.as_bytes().chunks(cut) {
                sum += digester.push_part(part).unwrap();
            }
        }
        prop_assert_eq!(sum, expected);
    }
}
