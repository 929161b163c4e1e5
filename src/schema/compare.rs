//! Entries of two databases side by side: what they are known by, without numbers and OIDs, and what they say.

use std::collections::BTreeMap;

use crate::pg::archive::{SqlText, TocEntry};

use super::statements;

/// What an entry is known by: kind, schema, name, and a number that tells apart those of one name.
pub type EntryName = (String, Option<String>, String, usize);

/// What two lists have of each key.
pub fn pairs<T, K: Ord>(
    a: impl Iterator<Item = T>,
    b: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> BTreeMap<K, (Option<T>, Option<T>)> {
    let mut pairs: BTreeMap<K, (Option<T>, Option<T>)> = BTreeMap::new();
    for item in a {
        let key = key(&item);
        pairs.entry(key).or_insert((None, None)).0 = Some(item);
    }
    for item in b {
        let key = key(&item);
        pairs.entry(key).or_insert((None, None)).1 = Some(item);
    }
    pairs
}

/// The entries' names and what they say, with owner, tablespace and access method. Those of one name are told apart by
/// their order among what they say.
pub fn texts<'e>(entries: impl IntoIterator<Item = &'e TocEntry>) -> BTreeMap<EntryName, String> {
    let text = |text: &SqlText| text.to_lossy().into_owned();
    let mut by_name: BTreeMap<(String, Option<String>, String), Vec<String>> = BTreeMap::new();
    for entry in entries.into_iter().filter(|entry| says_something(entry)) {
        let name = (
            entry.desc.clone(),
            entry.namespace.as_ref().map(text),
            text(&entry.tag),
        );
        let mut said = statements_of(entry);
        said.push('\n');
        let owner = statements::has_owner(entry).then_some(&entry.owner);
        for (what, value) in [
            ("Owner", owner),
            ("Tablespace", entry.tablespace.as_ref()),
            ("Access method", entry.tableam.as_ref()),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                said.push_str(&format!("-- {what}: {}\n", text(value)));
            }
        }
        by_name.entry(name).or_default().push(said);
    }
    let mut texts = BTreeMap::new();
    for ((kind, schema, name), mut said) in by_name {
        said.sort();
        for (number, said) in said.into_iter().enumerate() {
            texts.insert((kind.clone(), schema.clone(), name.clone(), number), said);
        }
    }
    texts
}

/// The statements of an entry. Privileges, which the server keeps in the order in which they were granted, are sorted,
/// but where who granted them is said by the statements before and after.
fn statements_of(entry: &TocEntry) -> String {
    let said = entry.defn.to_lossy();
    let said = said.trim();
    if entry.desc == "ACL" && !said.contains("SESSION AUTHORIZATION") {
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        return lines.join("\n");
    }
    said.to_owned()
}

/// Whether it has statements of its own; those of rows have none, and sequences' values are compared as such.
fn says_something(entry: &TocEntry) -> bool {
    !entry.defn.is_empty() && entry.desc != "SEQUENCE SET"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(desc: &str, tag: &str, defn: &str) -> TocEntry {
        TocEntry {
            desc: desc.to_owned(),
            namespace: Some("s".into()),
            tag: tag.into(),
            defn: defn.into(),
            drop_stmt: "DROP".into(),
            owner: "me".into(),
            ..TocEntry::default()
        }
    }

    #[test]
    fn only_what_has_an_owner_of_its_own_says_who_it_is() {
        let entries = [
            entry("TABLE", "t", "CREATE TABLE t ();"),
            entry("INDEX", "i", "CREATE INDEX i ON t (a);"),
        ];
        let texts: Vec<String> = texts(&entries).into_values().collect();
        assert_eq!(
            texts,
            [
                "CREATE INDEX i ON t (a);\n",
                "CREATE TABLE t ();\n-- Owner: me\n"
            ]
        );
    }

    #[test]
    fn the_order_of_grants_is_no_difference_but_who_granted_is() {
        let a = [entry(
            "ACL",
            "TABLE t",
            "GRANT SELECT ON s.t TO a;\nGRANT SELECT ON s.t TO b;\n",
        )];
        let b = [entry(
            "ACL",
            "TABLE t",
            "GRANT SELECT ON s.t TO b;\nGRANT SELECT ON s.t TO a;\n",
        )];
        assert_eq!(texts(&a), texts(&b));
        let by = |first: &str, second: &str| {
            let defn = format!(
                "SET SESSION AUTHORIZATION {first};\nGRANT SELECT ON s.t TO x;\nRESET SESSION AUTHORIZATION;\n\
                 SET SESSION AUTHORIZATION {second};\nGRANT SELECT ON s.t TO y;\nRESET SESSION AUTHORIZATION;"
            );
            [entry("ACL", "TABLE t", &defn)]
        };
        assert_ne!(texts(&by("a", "b")), texts(&by("b", "a")));
    }
}
