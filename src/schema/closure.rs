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
    let queries = queries(entries);
    // pg_dump sorts by dependencies, so one round finds nearly all; loops that it has broken need another.
    while std::mem::take(&mut open) {
        for (n, entry) in entries.iter().enumerate() {
            if found.contains(&n) {
                continue;
            }
            let mut depends = entry.dependencies.iter().any(|id| ids.contains(id));
            depends |= queries
                .get(&entry.dump_id)
                .is_some_and(|rule| ids.contains(rule));
            if depends || relation(entry).is_some_and(|name| gone(&name)) {
                found.insert(n);
                ids.insert(entry.dump_id);
                open = true;
            }
        }
    }
    found
}

/// The rule that gives a view its query, by the view's id: where views and others need each other, `pg_dump` makes a view
/// of NULLs first, and replaces it by such a rule. Without it the view would stay one of NULLs.
fn queries(entries: &[TocEntry]) -> HashMap<i32, i32> {
    let rules = entries.iter().filter(|e| e.desc == "RULE");
    rules
        .filter_map(|rule| {
            let tag = rule.tag.to_lossy();
            let view = tag.strip_suffix(" _RETURN")?;
            let of_rule = |e: &&TocEntry| {
                e.desc == "VIEW" && e.namespace == rule.namespace && e.tag.to_lossy() == view
            };
            let view = entries.iter().find(of_rule)?;
            Some((view.dump_id, rule.dump_id))
        })
        .collect()
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
            // A view that was made without its query first.
            entry(11, "VIEW", "w", &[]),
            entry(12, "RULE", "w _RETURN", &[11, 3]),
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
        let gone = with_dependents(&entries(), &|name| name.1 == "b");
        assert_eq!(ids(gone), [3, 4, 5, 8, 9, 11, 12]);
    }

    #[test]
    fn a_table_brings_all_that_it_depends_on() {
        assert_eq!(
            ids(with_dependencies(&entries(), [4].into_iter())),
            [1, 2, 3, 5]
        );
    }
}
