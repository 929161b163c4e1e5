//! Any payload, under any hints, comes back.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgtide::rows::{ColumnKind, Decoder, Effort, Encoder, Format};

#[derive(Debug, Arbitrary)]
struct Input {
    format: u8,
    /// Whether the payload is made of `fields`, or is `bytes` as they are.
    rows: bool,
    kinds: Vec<u8>,
    fields: Vec<Option<Vec<u8>>>,
    repeat: u8,
    bytes: Vec<u8>,
}

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

fuzz_target!(|input: Input| {
    let format = Format::from_byte(input.format % 4 + 1).unwrap();
    let kinds: Vec<_> = input
        .kinds
        .iter()
        .take(16)
        .map(|kind| KINDS[usize::from(*kind) % KINDS.len()])
        .collect();
    let columns = kinds.len() as u16;
    let mut payload = input.bytes;
    if input.rows && columns > 0 {
        payload.clear();
        for row in input.fields.chunks_exact(kinds.len()) {
            payload.extend(columns.to_be_bytes());
            for field in row {
                match field {
                    Some(bytes) => {
                        payload.extend((bytes.len() as u32).to_be_bytes());
                        payload.extend(bytes);
                    }
                    None => payload.extend((-1i32).to_be_bytes()),
                }
            }
        }
        payload = payload.repeat(usize::from(input.repeat) + 1);
    }
    let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
    let info = Encoder::new(Effort::Default)
        .encode(format, &kinds, columns, &payload, &mut encoded)
        .unwrap();
    assert_eq!(Decoder::new().decode(&encoded, &mut decoded), Ok(info));
    assert!(decoded == payload);
});
