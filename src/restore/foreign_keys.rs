//! Foreign keys that cannot be what they were: rows that they refer to, or the whole table, are not there.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::pg::archive::TocEntry;
use crate::pg::catalog::{Name, qualified, quote_literal};
use crate::pg::{Connection, Error};
use crate::schema::{closure, foreign_key};

use super::chosen::Chosen;
use super::work::entry_name;
use super::{Opened, plan};

/// From this server version on foreign keys of partitioned tables may be added without being validated.
const NOT_VALID_OF_PARTITIONED: i32 = 180_000;

/// Leaves out the chosen foreign keys that refer to a table which is neither restored nor at the target, and has those
/// not validated that may refer to rows which are not there. `target` is the database to restore into, if it is there;
/// `version` is its server's.
pub fn settle(
    opened: &Opened,
    chosen: &mut Chosen,
    target: Option<&mut Connection>,
    version: i32,
) -> Result<(), Error> {
    let keys: Vec<(usize, Name, Name)> = opened
        .entries
        .iter()
        .enumerate()
        .filter(|(n, _)| chosen.entries[*n])
        .filter_map(|(n, entry)| {
            let (own, other) = foreign_key::tables(entry)?;
            Some((n, own, other))
        })
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut others: Vec<&Name> = keys.iter().map(|(_, _, other)| other).collect();
    others.retain(|other| !chosen.restores(other));
    others.sort_unstable();
    others.dedup();
    let there = match target {
        Some(conn) if !others.is_empty() => existing(conn, &others)?,
        _ => HashSet::new(),
    };
    let partial = Partial::of(opened, chosen);
    let mut gone = HashSet::new();
    for (n, own, other) in &keys {
        let entry = &opened.entries[*n];
        if !chosen.restores(other) && !there.contains(other) {
            gone.insert(entry.dump_id);
            chosen.left_out.push(format!(
                "{}: {}.{}, to which it refers, is neither restored nor at the target",
                entry_name(entry),
                other.0,
                other.1
            ));
        } else if partial.tables.contains(other)
            && partial.has_rows(chosen, own)
            && !plan::is_unchecked(entry)
        {
            let rows = format!("{}.{} comes without some of the rows", other.0, other.1);
            if plan::is_of_partitioned(entry) && version < NOT_VALID_OF_PARTITIONED {
                gone.insert(entry.dump_id);
                chosen.left_out.push(format!(
                    "{}: {rows} that it may refer to, and PostgreSQL {} has no NOT VALID for partitioned tables",
                    entry_name(entry),
                    version / 10_000
                ));
            } else {
                chosen.unchecked.insert(*n);
                chosen.notes.push(format!(
                    "{} is added NOT VALID: {rows} that it may refer to",
                    entry_name(entry)
                ));
            }
        }
    }
    // What is said of them goes with them.
    for (entry, wanted) in opened.entries.iter().zip(&mut chosen.entries) {
        let of_gone = entry.dependencies.iter().any(|id| gone.contains(id));
        if gone.contains(&entry.dump_id) || (of_gone && entry.desc == "COMMENT") {
            *wanted = false;
        }
    }
    Ok(())
}

fn existing(conn: &mut Connection, names: &[&Name]) -> Result<HashSet<Name>, Error> {
    let mut found = HashSet::new();
    for names in names.chunks(5000) {
        let list = names
            .iter()
            .map(|(schema, name)| quote_literal(&qualified(schema, name)));
        let rows = conn.query(&format!(
            "SELECT pg_catalog.to_regclass(v.name) IS NOT NULL FROM unnest(ARRAY[{}]::text[]) WITH ORDINALITY AS v(name, n) ORDER BY n",
            list.collect::<Vec<_>>().join(",")
        ))?;
        let there = names.iter().zip(&rows);
        let there = there.filter(|(_, row)| row.get(0) == Some("t"));
        found.extend(there.map(|(name, _)| (*name).clone()));
    }
    Ok(found)
}

/// Tables that come without some of their rows.
struct Partial {
    tables: HashSet<Name>,
    /// The partitions of partitioned tables.
    partitions: BTreeMap<Name, Vec<Name>>,
}

impl Partial {
    fn of(opened: &Opened, chosen: &Chosen) -> Self {
        let mut partial = Self {
            tables: HashSet::new(),
            partitions: partitions(&opened.entries),
        };
        let snapshot = &opened.snapshot;
        let conditions = snapshot.conditions.iter();
        partial
            .tables
            .extend(conditions.map(|c| (c.schema.clone(), c.table.clone())));
        let stored: HashMap<Name, usize> = opened
            .tables
            .iter()
            .enumerate()
            .map(|(n, table)| (table.key(), n))
            .collect();
        let with_rows =
            snapshot.sections.is_empty() || snapshot.sections.iter().any(|s| s == "data");
        for entry in opened.entries.iter().filter(|e| e.desc == "TABLE") {
            let Some(name) = closure::relation(entry) else {
                continue;
            };
            let lacks_rows = match stored.get(&name) {
                // Its rows were left out by the dump ...
                None => with_rows && !is_partitioned(entry),
                // ... or are by this restore; a table that exists has what it has.
                Some(&n) => {
                    opened.tables[n].digest.rows > 0
                        && chosen.restores(&name)
                        && !chosen.loads(&name)
                }
            };
            if lacks_rows {
                partial.tables.insert(name);
            }
        }
        // What a partition lacks, its parents lack.
        loop {
            let of = |parts: &[Name]| parts.iter().any(|part| partial.tables.contains(part));
            let more: Vec<Name> = partial
                .partitions
                .iter()
                .filter(|(parent, parts)| !partial.tables.contains(*parent) && of(parts))
                .map(|(parent, _)| parent.clone())
                .collect();
            if more.is_empty() {
                return partial;
            }
            partial.tables.extend(more);
        }
    }

    /// Whether the table may have rows that refer to others.
    fn has_rows(&self, chosen: &Chosen, table: &Name) -> bool {
        let mut open = vec![table];
        let mut seen = HashSet::new();
        while let Some(table) = open.pop() {
            if !chosen.restores(table) || chosen.loads(table) {
                return true;
            }
            if seen.insert(table) {
                open.extend(self.partitions.get(table).into_iter().flatten());
            }
        }
        false
    }
}

/// Partitioned tables and what is attached to each.
fn partitions(entries: &[TocEntry]) -> BTreeMap<Name, Vec<Name>> {
    let tables: HashMap<i32, Name> = entries
        .iter()
        .filter_map(|e| Some((e.dump_id, closure::relation(e)?)))
        .collect();
    let mut found: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
    for entry in entries.iter().filter(|e| e.desc == "TABLE ATTACH") {
        let Some(namespace) = &entry.namespace else {
            continue;
        };
        let own = (
            namespace.to_lossy().into_owned(),
            entry.tag.to_lossy().into_owned(),
        );
        let parents = entry.dependencies.iter().filter_map(|id| tables.get(id));
        for parent in parents.filter(|parent| **parent != own) {
            found.entry(parent.clone()).or_default().push(own.clone());
        }
    }
    found
}

/// Whether the table has no rows of its own. Older versions of `pg_dump` say so in the statement only.
fn is_partitioned(table: &TocEntry) -> bool {
    match table.relkind {
        Some(kind) => kind == 'p',
        None => table.defn.to_lossy().contains("\nPARTITION BY "),
    }
}
