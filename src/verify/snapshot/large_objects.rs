//! Pages of large objects that say nothing: traces of cuts, which a restore need not leave, and does not.

use std::collections::{HashMap, HashSet};

use crate::repo::model::TableRecord;
use crate::repo::{Reader, RepoError};
use crate::restore::load;
use crate::rows::{Decoder, DigestPlan, Digester, Format, RowDigest};

/// A page: the object's OID, and its number.
type Page = (u32, u32);

/// What is added up to the digest of a snapshot's large objects by pages that have nothing in them, and are not what makes
/// their object as long as it is.
pub fn traces(reader: &Reader, table: &TableRecord, page_len: u32) -> Result<RowDigest, RepoError> {
    let columns: Vec<_> = (table.columns.iter())
        .map(|column| (column.name.clone(), column.shape.clone()))
        .collect();
    let plan = DigestPlan::new(Format::Binary, &columns);
    let mut digester = Digester::new(&plan);
    let mut last: HashMap<u32, u32> = HashMap::new();
    let mut empty: HashMap<Page, RowDigest> = HashMap::new();
    each(reader, table, &mut |(object, number), len, row| {
        let last = last.entry(object).or_default();
        *last = number.max(*last);
        if len == 0
            && let Ok(digest) = digester.push_rows(row)
        {
            empty.insert((object, number), digest);
        }
    })?;
    if empty.is_empty() {
        return Ok(RowDigest::default());
    }
    // An empty last page makes its object longer, unless the page before it is full and does so already.
    let mut long: HashSet<Page> = empty.keys().copied().collect();
    long.retain(|(object, number)| *number > 0 && last.get(object) == Some(number));
    each(reader, table, &mut |(object, number), len, _| {
        if len >= page_len {
            long.remove(&(object, number + 1));
        }
    })?;
    let traces = empty.into_iter().filter(|(page, _)| !long.contains(page));
    Ok(traces.fold(RowDigest::default(), |sum, (_, digest)| sum + digest))
}

/// Calls `f` with every page, the length of what is in it, and its row.
fn each(
    reader: &Reader,
    table: &TableRecord,
    f: &mut dyn FnMut(Page, u32, &[u8]),
) -> Result<(), RepoError> {
    let mut decoder = Decoder::new();
    let (mut scratch, mut payload) = (Vec::new(), Vec::new());
    for block in load::blocks(reader, table)? {
        reader.read(&block.id, &mut decoder, &mut scratch, &mut payload)?;
        let mut rest = &payload[..];
        while let Some((page, len, row, after)) = next(rest) {
            f(page, len, row);
            rest = after;
        }
    }
    Ok(())
}

/// The first row of `pg_largeobject` as COPY sends it: the number of columns, then each with its length.
fn next(bytes: &[u8]) -> Option<(Page, u32, &[u8], &[u8])> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    // 3 columns; 4 bytes, loid; 4 bytes, pageno; data.
    let page = (number(6)?, number(14)?);
    let len = number(18)?;
    let end = 22usize.checked_add(len as usize)?;
    Some((page, len, bytes.get(..end)?, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_pages_are_taken_apart() {
        let row = |object: u32, number: u32, data: &[u8]| {
            let mut row = vec![0, 3];
            for field in [&object.to_be_bytes()[..], &number.to_be_bytes()[..], data] {
                row.extend((field.len() as u32).to_be_bytes());
                row.extend(field);
            }
            row
        };
        let bytes = [row(7, 0, b"abc"), row(8, 5, b"")].concat();
        let (page, len, first, rest) = next(&bytes).unwrap();
        assert_eq!((page, len, first.len()), ((7, 0), 3, 25));
        let (page, len, _, rest) = next(rest).unwrap();
        assert_eq!((page, len, rest.len()), ((8, 5), 0, 0));
        assert!(next(rest).is_none());
        assert!(next(&bytes[..20]).is_none());
    }
}
