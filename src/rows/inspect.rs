//! What an encoded block is made of, without decoding it.

use super::block::{Layout, parse};
use super::codec;
use super::error::RowsError;

/// Calls `each` with the name of the coder and the bytes of every column of an encoded block, or of the whole block
/// where it is not stored by column.
pub fn coders(encoded: &[u8], mut each: impl FnMut(&'static str, u64)) -> Result<(), RowsError> {
    let (info, layout, mut reader) = parse(encoded)?;
    match layout {
        Layout::RAW => each("raw", reader.rest().len() as u64),
        Layout::ROWS => each("zstd of rows", reader.rest().len() as u64),
        Layout::COLUMNS => {
            for _ in 0..info.columns {
                let before = reader.0.len();
                let name = codec::skip(&mut reader)?;
                each(name, (before - reader.0.len()) as u64);
            }
            reader.end()?;
        }
        value => {
            return Err(RowsError::Unknown {
                what: "the layout",
                value,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ColumnKind, Effort, Encoder, Format};
    use super::*;

    #[test]
    fn all_bytes_of_a_block_are_some_coders() {
        let mut payload = Vec::new();
        for n in 0u32..1000 {
            payload.extend_from_slice(&[0, 3, 0, 0, 0, 4]);
            payload.extend_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
            payload.extend_from_slice(b"\0\0\0\x04same\xff\xff\xff\xff");
        }
        let mut encoded = Vec::new();
        let kinds = [ColumnKind::Int32, ColumnKind::Text, ColumnKind::Text];
        Encoder::new(Effort::Fast)
            .encode(Format::Binary, &kinds, 3, &payload, &mut encoded)
            .unwrap();
        let (mut names, mut bytes) = (Vec::new(), 0);
        coders(&encoded, |name, len| {
            names.push(name);
            bytes += len;
        })
        .unwrap();
        assert_eq!(bytes, encoded.len() as u64 - 16);
        assert_eq!(names, ["pco i32", "constant", "all NULL"]);
        Encoder::new(Effort::Fast)
            .encode(Format::Other, &[], 0, b"x", &mut encoded)
            .unwrap();
        coders(&encoded, |name, len| assert_eq!((name, len), ("raw", 1))).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100), columns in 0u8..5) {
            if bytes.len() > 16 {
                bytes[..8].copy_from_slice(&[b'p', b'g', b'b', 1, 2, 2, columns, 0]);
                bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 255, 0, 0, 0]);
            }
            let _ = coders(&bytes, |_, _| ());
        }
    }
}
