//! Which entries and tables of a snapshot a restore is about.

use std::collections::{BTreeSet, HashSet};

use crate::pg::catalog::Name;
use crate::repo::model::{TableRecord, TableRole};
use crate::schema::{closure, statements};
use crate::timescale;
use crate::timescale::contents::Counts;
use crate::timescale::part;

use super::exec::entry_name;
use super::{Opened, RestoreError, RestoreOptions, hypertables, portable};

/// The entries and tables to restore.
pub struct Chosen {
    /// By entry of the snapshot.
    pub entries: Vec<bool>,
    /// By table of the snapshot.
    pub tables: Vec<bool>,
    /// Entries that wait for TimescaleDB's catalog, in their order.
    pub after_catalog: BTreeSet<usize>,
    /// Entries before the rows that one session restores while others load what is there already: chunks, of which there
    /// may be thousands, and what belongs to them.
    pub late: Vec<usize>,
    /// Schema and name of the relations whose definitions are restored.
    created: HashSet<Name>,
    /// Whether nothing was named that is restored instead of everything.
    pub whole: bool,
    /// Whether hypertables are restored as such.
    hypertables: bool,
    /// Tables with rows that are loaded.
    loaded: HashSet<Name>,
    /// What the user should know of the choice.
    pub notes: Vec<String>,
    /// What cannot come along, though it was wanted.
    pub left_out: Vec<String>,
}

impl Chosen {
    /// As the options say.
    pub fn new(opened: &Opened, options: &RestoreOptions) -> Result<Self, RestoreError> {
        let whole = options.tables.is_empty() && options.hypertables.is_empty();
        let patterns = &options.exclude_tables;
        let excluded = |name: &Name| patterns.iter().any(|pattern| pattern.matches(name, None));
        let snapshot = opened.snapshot.time;
        if opened.model.hypertables.is_empty() && !options.part.is_whole() {
            return Err(RestoreError::NoHypertables);
        }
        let left_out = options.part.left_out(&opened.model, snapshot, &excluded)?;
        let mut notes = left_out.notes;
        let mut gone = closure::with_dependents(&opened.entries, &|name| {
            left_out.relations.contains(name) || excluded(name)
        });
        let mut not_portable = Vec::new();
        if options.portable {
            let own = opened.model.own_relations();
            let anew = closure::with_dependents(&opened.entries, &|name| own.contains(name));
            not_portable = portable::dependents(opened, &(&anew - &gone));
            gone.extend(anew);
            let entries = opened.entries.iter().enumerate();
            let own = entries.filter(|(_, e)| {
                timescale::portable::is_own(e)
                    || timescale::is_before_restoring(e, &opened.snapshot.source)
            });
            gone.extend(own.map(|(n, _)| n));
        }
        let wanted = if !options.hypertables.is_empty() {
            by_hypertable(opened, &options.hypertables, &gone, &mut notes)?
        } else if whole {
            let all = opened.entries.iter().enumerate();
            all.filter(|(_, e)| !statements::is_setting(e) && !statements::is_data(e))
                .map(|(n, _)| n)
                .collect()
        } else {
            by_name(opened, &options.tables, &mut notes)?
        };
        let database: HashSet<usize> = opened.graph.database.iter().copied().collect();
        let entries: Vec<bool> = (0..opened.entries.len())
            .map(|n| {
                if database.contains(&n) {
                    options.create || (options.properties && opened.entries[n].desc != "DATABASE")
                } else {
                    wanted.contains(&n) && !gone.contains(&n)
                }
            })
            .collect();
        let created: HashSet<Name> = opened
            .entries
            .iter()
            .zip(&entries)
            .filter(|(_, chosen)| **chosen)
            .filter_map(|(entry, _)| closure::relation(entry))
            .collect();
        let hypertables = whole || !options.hypertables.is_empty();
        let mut loaded = created.clone();
        if options.portable && hypertables {
            // Their rows go where their hypertable is.
            for chunk in &opened.model.chunks {
                let hypertable = opened.model.hypertables.get(&chunk.hypertable);
                if hypertable.is_some_and(|h| created.contains(&h.table))
                    && !left_out.relations.contains(&chunk.table)
                {
                    loaded.insert(chunk.table.clone());
                }
            }
        }
        let after_catalog = if hypertables {
            hypertables::after_catalog(opened)
        } else {
            BTreeSet::new()
        };
        let late = if hypertables && !options.portable {
            hypertables::late(opened)
        } else {
            Vec::new()
        };
        let tables = opened.tables.iter().map(|t| match t.role {
            TableRole::Plain => loaded.contains(&t.key()),
            _ if options.portable && hypertables::is_catalog(t) => false,
            TableRole::ExtensionConfig { .. }
            | TableRole::LargeObjects
            | TableRole::LargeObjectMetadata
            | TableRole::MissingValues => whole,
            // Statistics are set at the end; the others are facts for an export.
            TableRole::Statistics | TableRole::Types | TableRole::ConfigReferences => false,
        });
        Ok(Self {
            tables: tables.collect(),
            late: late.into_iter().filter(|&n| entries[n]).collect(),
            entries,
            after_catalog,
            created,
            whole,
            hypertables: hypertables && !options.portable,
            loaded,
            notes,
            left_out: not_portable,
        })
    }

    /// Whether this restore creates the table.
    pub fn created(&self, table: &TableRecord) -> bool {
        self.restores(&table.key())
    }

    /// Whether this restore creates the relation.
    pub fn restores(&self, relation: &Name) -> bool {
        self.created.contains(relation)
    }

    /// Whether rows of the table are loaded, wherever they go.
    pub fn loads(&self, relation: &Name) -> bool {
        self.loaded.contains(relation)
    }

    /// Tables, hypertables and chunks whose rows are loaded.
    pub fn counts(&self, opened: &Opened) -> Counts {
        opened.counts_where(|n| self.tables[n])
    }

    /// The version of TimescaleDB to restore, if any.
    pub fn timescale<'o>(&self, opened: &'o Opened) -> Option<&'o str> {
        timescale::version(&opened.snapshot.source).filter(|_| self.hypertables)
    }
}

/// The relations of these names, without what belongs to them, as `pg_restore -t` takes them.
fn by_name(
    opened: &Opened,
    names: &[String],
    notes: &mut Vec<String>,
) -> Result<HashSet<usize>, RestoreError> {
    let mut chosen = HashSet::new();
    for name in names {
        let found: Vec<usize> = opened
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| {
                let kind =
                    closure::relation(entry).is_some() || entry.desc == "MATERIALIZED VIEW DATA";
                kind && entry.tag.to_lossy() == name.as_str()
            })
            .map(|(n, _)| n)
            .collect();
        if found.is_empty() {
            return Err(RestoreError::NoSuchTable(name.clone()));
        }
        chosen.extend(found);
        if part::named(&opened.model, name).is_ok() {
            notes.push(format!(
                "{name} is a hypertable, and its rows are in its chunks: --hypertable {name} restores it with them"
            ));
        }
    }
    Ok(chosen)
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

/// The hypertables of these names with their chunks, the aggregates on them, all that belongs to them, and what they
/// need: types, functions, schemas.
fn by_hypertable(
    opened: &Opened,
    names: &[String],
    gone: &HashSet<usize>,
    notes: &mut Vec<String>,
) -> Result<HashSet<usize>, RestoreError> {
    let model = &opened.model;
    let mut relations: HashSet<Name> = HashSet::new();
    for name in names {
        for id in part::named(model, name)? {
            // An aggregate cannot be without what it aggregates.
            let mut id = id;
            while let Some(raw) = model.hypertables.get(&id).and_then(|h| h.raw) {
                id = raw;
            }
            for id in std::iter::once(id).chain(model.aggregates_on(id)) {
                relations.extend(model.relations_of(id));
            }
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
    Ok(chosen)
}
