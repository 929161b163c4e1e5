//! Values and long lists in blocks, encoded with postcard.
//!
//! A list is cut into blocks at places that depend on the items alone: whether a block ends after an item follows
//! from the item's key and its size, so a change in one item changes the block that holds it and no other.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::{PackGroup, Reader, RepoError, Writer};
use crate::rows::{BlockId, Decoder, Format};

/// A block ends after one item of so many, on average ...
const MEAN_ITEMS: f64 = 128.0;
/// ... or after so many bytes, on average.
const MEAN_BYTES: f64 = 256.0 * 1024.0;
/// A block never grows beyond this, whatever the keys say, but for a single item.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Stores a value as one block.
pub fn write_value<T: Serialize>(
    writer: &Writer,
    group: &PackGroup,
    value: &T,
) -> Result<BlockId, RepoError> {
    writer.put_other(group, &encode(value)?)
}

/// Stores a list; returns its blocks, none for an empty list. The key of an item should be what stays when the item
/// changes: its name.
pub fn write_list<T: Serialize, K: AsRef<[u8]>>(
    writer: &Writer,
    group: &PackGroup,
    items: &[T],
    key: impl Fn(&T) -> K,
) -> Result<Vec<BlockId>, RepoError> {
    let mut blocks = Vec::new();
    cut(items, key, |payload| {
        blocks.push(writer.put_other(group, payload)?);
        Ok(())
    })?;
    Ok(blocks)
}

fn cut<T: Serialize, K: AsRef<[u8]>>(
    items: &[T],
    key: impl Fn(&T) -> K,
    mut emit: impl FnMut(&[u8]) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let (mut count, mut body) = (0usize, Vec::new());
    let mut flush = |count: &mut usize, body: &mut Vec<u8>| -> Result<(), RepoError> {
        // As postcard encodes a Vec: the number of items, then the items.
        let mut payload = encode(count)?;
        payload.append(body);
        *count = 0;
        emit(&payload)
    };
    for item in items {
        let bytes = encode(item)?;
        if count > 0 && body.len() + bytes.len() > MAX_BYTES {
            flush(&mut count, &mut body)?;
        }
        count += 1;
        body.extend_from_slice(&bytes);
        let chance = (1.0 / MEAN_ITEMS).max(bytes.len() as f64 / MEAN_BYTES);
        if (xxh3_64(key(item).as_ref()) as f64) < chance * u64::MAX as f64 {
            flush(&mut count, &mut body)?;
        }
    }
    if count > 0 {
        flush(&mut count, &mut body)?;
    }
    Ok(())
}

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, RepoError> {
    postcard::to_allocvec(value)
        .map_err(|error| RepoError::damaged("a new block", error.to_string()))
}

/// Reads a value.
pub fn read_value<T: DeserializeOwned>(reader: &Reader, id: &BlockId) -> Result<T, RepoError> {
    let mut payload = Vec::new();
    let info = reader.read(id, &mut Decoder::new(), &mut Vec::new(), &mut payload)?;
    decode(id, info.format, &payload)
}

/// Reads a list.
pub fn read_list<T: DeserializeOwned>(
    reader: &Reader,
    ids: &[BlockId],
) -> Result<Vec<T>, RepoError> {
    let (mut decoder, mut scratch, mut payload) = (Decoder::new(), Vec::new(), Vec::new());
    let mut items = Vec::new();
    for id in ids {
        let info = reader.read(id, &mut decoder, &mut scratch, &mut payload)?;
        items.append(&mut decode::<Vec<T>>(id, info.format, &payload)?);
    }
    Ok(items)
}

/// Reads a block's payload: that of a value, or of a part of a list.
pub fn decode<T: DeserializeOwned>(
    id: &BlockId,
    format: Format,
    payload: &[u8],
) -> Result<T, RepoError> {
    if format != Format::Other {
        return Err(content(id, "holds rows where a list was expected"));
    }
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(content(id, "holds more than the list it begins with")),
        Err(error) => Err(content(
            id,
            &format!("does not hold what was expected: {error}"),
        )),
    }
}

fn content(id: &BlockId, detail: &str) -> RepoError {
    RepoError::Content {
        block: *id,
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::model::{ManifestShard, Root, TableRecord};
    use super::super::outline::{Outline, OutlineTable};

    use super::*;

    fn blocks(items: &[(String, Vec<u8>)]) -> Vec<Vec<u8>> {
        let mut blocks = Vec::new();
        cut(
            items,
            |item| item.0.clone(),
            |payload| {
                blocks.push(payload.to_vec());
                Ok(())
            },
        )
        .unwrap();
        blocks
    }

    fn items(count: usize, size: usize) -> Vec<(String, Vec<u8>)> {
        (0..count)
            .map(|n| (format!("name {n:05}"), vec![n as u8; size]))
            .collect()
    }

    #[test]
    fn a_list_reads_back_and_its_blocks_are_of_a_fair_size() {
        for (count, size) in [(0, 0), (1, 10), (5000, 30), (300, 100_000)] {
            let items = items(count, size);
            let blocks = blocks(&items);
            let back: Vec<(String, Vec<u8>)> = blocks
                .iter()
                .flat_map(|payload| {
                    decode::<Vec<(String, Vec<u8>)>>(&BlockId([0; 32]), Format::Other, payload)
                        .unwrap()
                })
                .collect();
            assert_eq!(back, items);
            let fair = (count / 128).max(count * size / (256 * 1024));
            assert!(
                blocks.len() <= fair * 2 + 2 && blocks.len() * 2 + 1 >= fair,
                "{} for {fair}",
                blocks.len()
            );
            assert!(blocks.iter().all(|payload| payload.len() <= MAX_BYTES + 10));
        }
    }

    #[test]
    fn a_change_in_one_item_changes_one_block() {
        let before = items(5000, 30);
        let old: BTreeSet<Vec<u8>> = blocks(&before).into_iter().collect();
        let new = |after: &[(String, Vec<u8>)]| {
            blocks(after)
                .iter()
                .filter(|block| !old.contains(*block))
                .count()
        };

        let mut changed = before.clone();
        changed[2500].1 = b"something else".to_vec();
        assert_eq!(new(&changed), 1);
        let mut removed = before.clone();
        removed.remove(2500);
        assert!(new(&removed) <= 1);
        let mut added = before.clone();
        added.insert(2500, ("name 02499b".into(), vec![1]));
        assert!(new(&added) <= 2);
    }

    #[test]
    fn huge_items_get_blocks_of_their_own() {
        let items = items(3, MAX_BYTES - 5);
        assert_eq!(blocks(&items).len(), 3);
    }

    #[test]
    fn payloads_that_are_not_the_list_are_refused() {
        let id = BlockId([0; 32]);
        assert!(decode::<Vec<u64>>(&id, Format::Other, &[1, 2, 3]).is_err());
        assert!(decode::<Vec<u64>>(&id, Format::Other, &[9, 2]).is_err());
        assert!(decode::<Vec<u64>>(&id, Format::Binary, &[1, 2]).is_err());
        // A count that would fill the memory.
        assert!(
            decode::<Vec<[u8; 32]>>(
                &id,
                Format::Other,
                &[255, 255, 255, 255, 255, 255, 255, 127]
            )
            .is_err()
        );
    }

    fn ids() -> impl Strategy<Value = Vec<BlockId>> {
        prop::collection::vec(any::<[u8; 32]>().prop_map(BlockId), 0..20)
    }

    proptest! {
        #[test]
        fn outlines_read_back(lists in ids(), tables in ids(), table in any::<([u8; 16], [u8; 16], u32)>(), manifest in ids()) {
            let id = BlockId([0; 32]);
            let outline = Outline { lists, tables };
            prop_assert_eq!(decode::<Outline>(&id, Format::Other, &encode(&outline).unwrap()).unwrap(), outline);
            let (name, content, segment_pages) = table;
            let tables = vec![OutlineTable { name, content, segment_pages, manifest }; 2];
            let read = decode::<Vec<OutlineTable>>(&id, Format::Other, &encode(&tables).unwrap());
            prop_assert_eq!(read.unwrap(), tables);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let id = BlockId([0; 32]);
            let _ = decode::<Root>(&id, Format::Other, &bytes);
            let _ = decode::<Vec<TableRecord>>(&id, Format::Other, &bytes);
            let _ = decode::<ManifestShard>(&id, Format::Other, &bytes);
            let _ = decode::<Outline>(&id, Format::Other, &bytes);
            let _ = decode::<Vec<OutlineTable>>(&id, Format::Other, &bytes);
        }
    }
}
