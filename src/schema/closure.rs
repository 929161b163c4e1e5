//! What goes with a table that is left out, and what comes with one that is chosen.

use std::collections::{HashMap, HashSet};

use crate::pg::archive::TocEntry;

/// Kinds of entries that are relations, whose tags are their names.
const RELATIONS: &[&str] = &[
    "TABLE",
    "FOREIGN TABLE",
    "VIEW",
    "MATERIALIZED VIEW",
    "SEQUENCE",
];

/// Whether the entry is a relation, and its schema and name.
pub fn relation(entry: &TocEntry) -> Option<(String, String)> {
    if !RELATIONS.contains(&entry.desc.as_str()) {
        return None;
    }
    let schema = entry.namespace.as_ref()?.to_lossy().into_owned();
    Some((schema, entry.tag.to_lossy().into_owned()))
}

/// Indexes of the relations for which `gone` is true, and of all entries that cannot be without them: their indexes,
/// constraints and triggers, comments and privileges, views and functions on them, and what depends on those.
pub fn with_dependents(
    entries: &[TocEntry],
    gone: &dyn Fn(&(String, String)) -> bool,
) -> HashSet<usize> {
    let mut found: HashSet<usize> = HashSet::new();
    let mut ids: HashSet<i32> = HashSet::new();
    let mut open = true;
    // pg_dump sorts by dependencies, so one round finds nearly all; loops that it has broken need another.
    while std::mem::take(&mut open) {
        for (n, entry) in entries.iter().enumerate() {
            if found.contains(&n) {
                continue;
            }
            let depends = entry.dependencies.iter().any(|id| ids.contains(id));
            if depends || relation(entry).is_some_and(|name| gone(&name)) {
                found.insert(n);
                ids.insert(entry.dump_id);
                open = true;
            }
        }
    }
    found
}

/// Indexes of all entries that the given ones cannot be without, themselves among them.
pub fn with_dependencies(
    entries: &[TocEntry],
    chosen: impl Iterator<Item = usize>,
) -> HashSet<usize> {
    let by_id: HashMap<i32, usize> = entries
        .iter()
        .enumerate()
        .map(|(n, entry)| (entry.dump_id, n))
        .collect();
    let mut open: Vec<usize> = chosen.collect();
    let mut found: HashSet<usize> = open.iter().copied().collect();
    while let Some(n) = open.pop() {
        let needed = entries[n].dependencies.iter();
        for &n in needed.filter_map(|id| by_id.get(id)) {
            if found.insert(n) {
                open.push(n);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dump_id: i32, desc: &str, tag: &str, dependencies: &[i32]) -> TocEntry {
        TocEntry {
            dump_id,
            desc: desc.to_owned(),
            tag: tag.into(),
            namespace: Some("public".into()),
            dependencies: dependencies.to_vec(),
            ..TocEntry::default()
        }
    }

    fn entries() -> Vec<TocEntry> {
        vec![
            entry(1, "TYPE", "mood", &[]),
            entry(2, "TABLE", "a", &[1]),
            entry(3, "TABLE", "b", &[]),
            // A loop that pg_dump has broken: the entry before depends on the one after.
            entry(4, "RULE", "early", &[8]),
            entry(5, "VIEW", "v", &[2, 3]),
            entry(6, "INDEX", "a_i", &[2]),
            entry(7, "COMMENT", "INDEX a_i", &[6]),
            entry(8, "FK CONSTRAINT", "b b_a", &[3, 6]),
            entry(9, "INDEX", "b_i", &[3]),
            // Not a table, though called as one.
            entry(10, "FUNCTION", "a", &[]),
        ]
    }

    fn ids(found: HashSet<usize>) -> Vec<usize> {
        let mut ids: Vec<usize> = found.into_iter().map(|n| n + 1).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_table_takes_all_that_depends_on_it() {
        let gone = with_dependents(&entries(), &|name| name.1 == "a");
        assert_eq!(ids(gone), [2, 4, 5, 6, 7, 8]);
        assert!(with_dependents(&entries(), &|_| false).is_empty());
    }

    #[test]
    fn a_table_brings_all_that_it_depends_on() {
        assert_eq!(
            ids(with_dependencies(&entries(), [4].into_iter())),
            [1, 2, 3, 5]
        );
    }
}
