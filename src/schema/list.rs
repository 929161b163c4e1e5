//! The lines of `pg_restore --list`.

use crate::pg::archive::{SqlText, TocEntry};

/// The entry's line, without a line end: number, catalog, OID, kind, schema, name, owner.
pub fn list_line(entry: &TocEntry) -> SqlText {
    let TocEntry {
        dump_id,
        tableoid,
        oid,
        desc,
        ..
    } = entry;
    let mut line = format!("{dump_id}; {tableoid} {oid} {desc} ").into_bytes();
    match &entry.namespace {
        Some(namespace) => push_line(&mut line, namespace),
        None => line.push(b'-'),
    }
    line.push(b' ');
    push_line(&mut line, &entry.tag);
    line.push(b' ');
    push_line(&mut line, &entry.owner);
    line.into()
}

/// A name may hold line ends, and a line of the list may not.
fn push_line(out: &mut Vec<u8>, text: &SqlText) {
    out.extend(text.as_bytes().iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        other => *other,
    }));
}
