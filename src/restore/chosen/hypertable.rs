//! Hypertables with everything that belongs to them.

use std::collections::HashSet;

use crate::pg::catalog::Name;
use crate::restore::{Opened, RestoreError, entry_name};
use crate::schema::closure;
use crate::timescale::model::{Kind, Model};
use crate::timescale::part;

use super::Names;

/// The hypertables and continuous aggregates of these names.
pub fn ids(model: &Model, names: &[String]) -> Result<Vec<i64>, RestoreError> {
    let mut ids = Vec::new();
    for name in names {
        ids.extend(part::named(model, name)?);
    }
    Ok(ids)
}

/// Those in the schemas.
pub fn ids_in(model: &Model, names: &Names) -> Vec<i64> {
    let known = model.hypertables.iter();
    known
        .filter(|(_, h)| h.kind != Kind::Compressed)
        .filter(|(_, h)| names.schemas.contains(&h.known_as().0))
        .map(|(id, _)| *id)
        .collect()
}

/// Kinds of entries that belong to a table.
const PARTS: &[&str] = &[
    "ACL",
    "CHECK CONSTRAINT",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "STATISTICS",
    "TRIGGER",
];

/// Entries of the hypertables with their chunks, the aggregates on them, all that belongs to them, and what they
/// need: types, functions, schemas.
pub fn with_all(
    opened: &Opened,
    ids: &[i64],
    gone: &HashSet<usize>,
    notes: &mut Vec<String>,
) -> HashSet<usize> {
    let model = &opened.model;
    let mut relations: HashSet<Name> = HashSet::new();
    for &id in ids {
        // An aggregate cannot be without what it aggregates.
        let mut id = id;
        while let Some(raw) = model.hypertables.get(&id).and_then(|h| h.raw) {
            id = raw;
        }
        for id in std::iter::once(id).chain(model.aggregates_on(id)) {
            relations.extend(model.relations_of(id));
        }
    }
    let entries = &opened.entries;
    let is_ours = |n: &usize| {
        !gone.contains(n)
            && closure::relation(&entries[*n]).is_some_and(|name| relations.contains(&name))
    };
    let mut chosen = closure::with_dependencies(entries, (0..entries.len()).filter(is_ours));
    let mut ids: HashSet<i32> = chosen.iter().map(|&n| entries[n].dump_id).collect();
    let all_relations: HashSet<i32> = entries
        .iter()
        .filter(|e| closure::relation(e).is_some())
        .map(|e| e.dump_id)
        .collect();
    let chunks = model.chunk_relations();
    let chunks: HashSet<i32> = entries
        .iter()
        .filter(|e| closure::relation(e).is_some_and(|name| chunks.contains(&name)))
        .map(|e| e.dump_id)
        .collect();
    for (n, entry) in entries.iter().enumerate() {
        let belongs = PARTS.contains(&entry.desc.as_str())
            && entry.dependencies.iter().any(|id| ids.contains(id));
        if !belongs || chosen.contains(&n) || gone.contains(&n) {
            continue;
        }
        let needed = closure::with_dependencies(entries, std::iter::once(n));
        let other = |n: &usize| {
            all_relations.contains(&entries[*n].dump_id)
                && !ids.contains(&entries[*n].dump_id)
                && entries[*n].desc != "SEQUENCE"
        };
        if let Some(other) = needed.iter().find(|n| other(n)) {
            // What a hypertable lacks, its chunks lack, too.
            if !entry.dependencies.iter().any(|id| chunks.contains(id)) {
                notes.push(format!(
                    "{} is left out: it needs {}",
                    entry_name(entry),
                    entry_name(&entries[*other])
                ));
            }
            continue;
        }
        ids.extend(needed.iter().map(|&n| entries[n].dump_id));
        chosen.extend(needed);
    }
    chosen
}
