//! The lines of `pg_restore --list`, and files of such lines.

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

/// A line of a list that picks something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The number of the item.
    pub id: i32,
    /// What the line says of it, if anything.
    rest: Vec<u8>,
    /// The line it stands on, counted from 1.
    pub line: usize,
}

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} of the list: {reason}\nhint: a line begins with an item's number as pgtide list prints it; what comes after a ';' at its beginning is a comment"
)]
pub struct ListError {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Listed {
    /// Whether the line says of the item what is true, or nothing.
    pub fn is_of(&self, entry: &TocEntry) -> bool {
        let line = list_line(entry);
        let line = line.as_bytes().splitn(2, |byte| *byte == b';').nth(1);
        let line = line.unwrap_or_default().trim_ascii();
        self.rest.is_empty() || self.rest.starts_with(line)
    }
}

/// Reads a list, as it was printed and edited: lines taken out, made comments by a semicolon, or put elsewhere.
pub fn parse_list(text: &[u8]) -> Result<Vec<Listed>, ListError> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut lines_of = std::collections::HashMap::new();
    for (line, text) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let mut parts = text.splitn(2, |byte| *byte == b';');
        let number = parts.next().unwrap_or_default().trim_ascii();
        if number.is_empty() {
            continue;
        }
        let error = |reason: String| ListError { line, reason };
        let id = std::str::from_utf8(number).ok();
        let id: i32 = id
            .and_then(|text| text.parse().ok())
            .filter(|id| *id > 0)
            .ok_or_else(|| {
                let text = String::from_utf8_lossy(number);
                error(format!("{text:?} is not an item's number"))
            })?;
        if let Some(before) = lines_of.insert(id, line) {
            return Err(error(format!("item {id} is on line {before} already")));
        }
        listed.push(Listed {
            id,
            rest: parts.next().unwrap_or_default().trim_ascii().to_vec(),
            line,
        });
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dump_id: i32, tag: &str) -> TocEntry {
        TocEntry {
            dump_id,
            tableoid: 1259,
            oid: 16_391,
            desc: "TABLE".to_owned(),
            namespace: Some("s".into()),
            tag: tag.into(),
            owner: "me".into(),
            ..TocEntry::default()
        }
    }

    #[test]
    fn an_edited_list_is_read() {
        let text =
            b"; a comment\n\n  12; 1259 16391 TABLE s t me  \n;3; 1259 1 TABLE s gone me\n4\r\n5;";
        let list = parse_list(text).unwrap();
        let ids: Vec<i32> = list.iter().map(|l| l.id).collect();
        assert_eq!(ids, [12, 4, 5]);
        assert!(list[0].is_of(&entry(12, "t")));
        assert!(!list[0].is_of(&entry(12, "u")));
        assert!(list[1].is_of(&entry(4, "u")));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, reason) in [
            ("1\ntable t", 2, "\"table t\""),
            ("-1; 0 0 TABLE", 1, "number"),
            ("99999999999;", 1, "number"),
            ("1;\n2;\n1; again", 3, "line 1 already"),
        ] {
            let error = parse_list(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, line);
            assert!(error.reason.contains(reason), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_parser(bytes: Vec<u8>) {
            let _ = parse_list(&bytes);
        }

        #[test]
        fn a_printed_line_is_of_its_entry(id in 1.., tag in "(?s).{1,8}") {
            let entry = entry(id, &tag);
            let list = parse_list(list_line(&entry).as_bytes()).unwrap();
            proptest::prop_assert_eq!(list.len(), 1);
            proptest::prop_assert!(list[0].is_of(&entry));
        }
    }
}
