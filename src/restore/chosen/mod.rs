//! Which entries, rows and other items of a snapshot a restore is about.

mod hypertable;
mod items;
mod rules;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::pg::archive::TocEntry;
use crate::pg::catalog::Name;
use crate::repo::model::{SequenceValue, TableRecord, TableRole};
use crate::schema::list::Listed;
use crate::schema::pattern::Pattern;
use crate::schema::skip::{self, Sections, Skip};
use crate::schema::{closure, statements};
use crate::timescale;
use crate::timescale::contents::Counts;
use crate::timescale::model::Kind;
use crate::timescale::part::{self, Part};

use super::{Opened, RestoreError, hypertables, portable};

pub use items::{Item, What};
pub use rules::Names;

use rules::Rules;

/// What of a snapshot is wanted.
#[derive(Debug, Clone, Default)]
pub struct Pick {
    /// Objects by their names, as `pg_restore` takes them.
    pub names: Names,
    /// Every name must be met.
    pub strict_names: bool,
    /// Only these hypertables, with all that belongs to them.
    pub hypertables: Vec<String>,
    /// Not these tables, views and sequences, nor what is built on them; hypertables with their chunks.
    pub exclude_tables: Vec<Pattern>,
    /// Which part of the hypertables' history.
    pub part: Part,
    /// Only what is listed, in the order of the list.
    pub list: Option<Vec<Listed>>,
    /// Sections.
    pub sections: Sections,
    /// Definitions, rows or both.
    pub content: Content,
    /// Kinds of entries that are left out.
    pub skip: Skip,
}

/// Definitions, rows or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Definitions.
    pub schema: bool,
    /// Rows, values of sequences, large objects.
    pub data: bool,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            schema: true,
            data: true,
        }
    }
}

impl Content {
    /// Definitions without rows.
    pub const SCHEMA: Self = Self {
        schema: true,
        data: false,
    };
    /// Rows without definitions.
    pub const DATA: Self = Self {
        schema: false,
        data: true,
    };
}

impl Pick {
    /// Whether relations may be created.
    pub fn creates(&self) -> bool {
        self.content.schema && self.sections.pre_data
    }

    /// Whether nothing is named that is restored instead of everything.
    pub fn is_whole(&self) -> bool {
        self.names.is_empty() && self.hypertables.is_empty() && self.list.is_none()
    }
}

/// How what is picked is restored, as far as it decides what that is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mode {
    /// The database is created, with its own entries.
    pub create: bool,
    /// The database's own entries are restored into one that is there.
    pub properties: bool,
    /// Hypertables are made anew, and rows of chunks go where their hypertable is.
    pub portable: bool,
}

/// The entries, tables and sequences to restore.
pub struct Chosen {
    /// By entry of the snapshot.
    pub entries: Vec<bool>,
    /// By table of the snapshot: whether its rows are loaded.
    pub tables: Vec<bool>,
    /// By sequence of the snapshot: whether it is set.
    pub sequences: Vec<bool>,
    /// Entries that wait for TimescaleDB's catalog, in their order.
    pub after_catalog: BTreeSet<usize>,
    /// Entries before the rows that one session restores while others load what is there already: chunks, of which there
    /// may be thousands, and what belongs to them.
    pub late: Vec<usize>,
    /// Foreign keys that are added without being validated: rows that they refer to are not all there.
    pub unchecked: HashSet<usize>,
    /// Place of the entries in the list that they were picked by.
    place: HashMap<usize, usize>,
    /// Schema and name of the relations whose definitions are restored.
    created: HashSet<Name>,
    /// Names of the extensions that are restored.
    extensions: HashSet<String>,
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
    pub fn new(opened: &Opened, pick: &Pick, mode: Mode) -> Result<Self, RestoreError> {
        let items = items::of(opened);
        if let Some(list) = &pick.list {
            check_list(&items, list)?;
        }
        let mut notes = Vec::new();
        let gone = Gone::new(opened, pick, mode, &mut notes)?;
        let wanted = wanted(opened, pick, mode, &items, &gone, &mut notes)?;

        let mut entries = vec![false; opened.entries.len()];
        let mut tables = vec![false; opened.tables.len()];
        let mut sequences = vec![false; opened.sequences.len()];
        for (item, wanted) in items.iter().zip(wanted) {
            match item.what {
                What::Entry(n) => entries[n] = wanted,
                What::Rows(n) => tables[n] = wanted,
                What::Sequence(n) => sequences[n] = wanted,
                What::LargeObjects if wanted => {
                    for (n, table) in opened.tables.iter().enumerate() {
                        tables[n] |= table.role == TableRole::LargeObjects
                            || table.role == TableRole::LargeObjectMetadata;
                    }
                }
                What::LargeObjects => {}
            }
        }
        let chosen = |entries: &[bool]| -> Vec<usize> {
            (0..entries.len()).filter(|&n| entries[n]).collect()
        };
        let created: HashSet<Name> = chosen(&entries)
            .into_iter()
            .filter_map(|n| closure::relation(&opened.entries[n]))
            .collect();
        // A list that has TimescaleDB has what its jobs need, too, as far as it is known.
        let listed = pick.list.is_some() && pick.names.is_empty() && pick.hypertables.is_empty();
        let with_timescale = |n: usize| entries[n] && timescale::is_extension(&opened.entries[n]);
        let whole = pick.is_whole() || (listed && (0..entries.len()).any(with_timescale));
        let of_hypertables = |name: &Name| {
            let mut all = opened.model.hypertables.values();
            all.any(|h| h.table == *name)
        };
        // pg_restore -t takes a table without what belongs to it, and so what makes a hypertable of it.
        let hypertables = !mode.portable
            && pick.creates()
            && !pick.names.by_kind()
            && (whole || created.iter().any(of_hypertables));
        if mode.portable {
            let loads = |name: &Name| {
                let mut tables = opened.tables.iter().zip(&tables);
                tables.any(|(t, wanted)| *wanted && t.key() == *name)
            };
            // Their rows go where their hypertable is.
            let chunks: HashSet<&Name> = opened
                .model
                .hypertables
                .iter()
                .filter(|(_, hypertable)| loads(&hypertable.table))
                .flat_map(|(&id, _)| opened.model.chunks_of(id))
                .map(|chunk| &chunk.table)
                .filter(|chunk| !gone.relations.contains(*chunk))
                .collect();
            for (n, table) in opened.tables.iter().enumerate() {
                tables[n] |= chunks.contains(&table.key());
            }
        }
        if hypertables && whole && pick.content.data && pick.sections.data {
            for (n, table) in opened.tables.iter().enumerate() {
                tables[n] |=
                    hypertables::is_catalog(table) || table.role == TableRole::MissingValues;
            }
        }
        if hypertables && !(pick.content.data && pick.sections.data) {
            notes.extend(aggregates_without_rows(opened, &created));
        }
        let loaded = opened.tables.iter().zip(&tables);
        let loaded = loaded.filter(|(t, wanted)| **wanted && t.role == TableRole::Plain);
        let (after_catalog, late) = if hypertables {
            let mut late = hypertables::late(opened);
            late.retain(|&n| entries[n]);
            (hypertables::after_catalog(opened), late)
        } else {
            (BTreeSet::new(), Vec::new())
        };
        let extensions = chosen(&entries).into_iter();
        let extensions = extensions.filter(|&n| opened.entries[n].desc == "EXTENSION");
        Ok(Self {
            loaded: loaded.map(|(table, _)| table.key()).collect(),
            extensions: extensions
                .map(|n| opened.entries[n].tag.to_lossy().into_owned())
                .collect(),
            after_catalog,
            late,
            unchecked: HashSet::new(),
            place: place(&items, pick),
            tables,
            sequences,
            entries,
            created,
            whole,
            hypertables,
            notes,
            left_out: gone.not_portable,
        })
    }

    /// Whether this restore creates the table, by itself or with its extension.
    pub fn created(&self, table: &TableRecord) -> bool {
        match &table.role {
            TableRole::ExtensionConfig { extension } => self.extensions.contains(extension),
            _ => self.restores(&table.key()),
        }
    }

    /// The partition root that the table's rows are loaded through: not where the table comes without it, as it is no
    /// partition then.
    pub fn root<'t>(&self, table: &'t TableRecord) -> Option<&'t Name> {
        let root = table.load_through.as_ref()?;
        let alone = self.created(table) && !self.restores(root);
        (!alone).then_some(root)
    }

    /// Whether this restore creates any relation.
    pub fn creates_relations(&self) -> bool {
        !self.created.is_empty()
    }

    /// Whether this restore creates the sequence, by itself or with its extension.
    pub fn creates_sequence(&self, sequence: &SequenceValue) -> bool {
        let extension = sequence.extension.as_ref();
        self.restores(&sequence.key()) || extension.is_some_and(|e| self.extensions.contains(e))
    }

    /// Whether this restore creates the relation.
    pub fn restores(&self, relation: &Name) -> bool {
        self.created.contains(relation)
    }

    /// Whether this restore creates any extension.
    pub fn creates_extensions(&self) -> bool {
        !self.extensions.is_empty()
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

    /// Entries in the order of the list that they were picked by; as they are, where there is none.
    pub fn in_order(&self, mut entries: Vec<usize>) -> Vec<usize> {
        if !self.place.is_empty() {
            entries.sort_by_key(|n| self.place.get(n).copied().unwrap_or(usize::MAX));
        }
        entries
    }

    /// The items that are restored, in the order of `pg_restore --list`, or of the list that they were picked by.
    pub fn items<'o>(&self, opened: &'o Opened, pick: &Pick) -> Vec<Item<'o>> {
        let large_objects = opened.tables.iter().zip(&self.tables);
        let large_objects = large_objects
            .filter(|(t, wanted)| **wanted && t.role == TableRole::LargeObjectMetadata)
            .count()
            > 0;
        let mut items = items::of(opened);
        items.retain(|item| match item.what {
            What::Entry(n) => self.entries[n],
            What::Rows(n) => self.tables[n],
            What::Sequence(n) => self.sequences[n],
            What::LargeObjects => large_objects,
        });
        if let Some(list) = &pick.list {
            let place: HashMap<i32, usize> = list.iter().map(|l| l.id).zip(0..).collect();
            items.sort_by_key(|item| place.get(&item.entry.dump_id).copied());
        }
        items
    }
}

/// What is left out, whatever is asked for.
struct Gone {
    entries: HashSet<usize>,
    /// Relations that are left out by their own name or age.
    relations: HashSet<Name>,
    excluded: Vec<Pattern>,
    /// Objects of users that cannot be without what is not carried.
    not_portable: Vec<String>,
}

impl Gone {
    fn new(
        opened: &Opened,
        pick: &Pick,
        mode: Mode,
        notes: &mut Vec<String>,
    ) -> Result<Self, RestoreError> {
        if opened.model.hypertables.is_empty() && !pick.part.is_whole() {
            return Err(RestoreError::NoHypertables);
        }
        let excluded = |name: &Name| {
            let mut patterns = pick.exclude_tables.iter();
            patterns.any(|pattern| pattern.matches(name, None))
        };
        let without = |name: &Name| excluded(name) || pick.names.exclude_schemas.contains(&name.0);
        let snapshot = opened.snapshot.time;
        let left_out = pick.part.left_out(&opened.model, snapshot, &without)?;
        notes.extend(left_out.notes);
        let mut relations = left_out.relations;
        if !pick.content.data || !pick.sections.data {
            // Rows are all that a chunk is for.
            relations.extend(opened.model.chunk_relations().into_iter().cloned());
        }
        let mut entries = closure::with_dependents(&opened.entries, &|name| {
            relations.contains(name) || excluded(name)
        });
        let mut not_portable = Vec::new();
        if mode.portable {
            let own = opened.model.own_relations();
            let anew = closure::with_dependents(&opened.entries, &|name| own.contains(name));
            not_portable = portable::dependents(opened, &(&anew - &entries));
            entries.extend(anew);
            let own = opened.entries.iter().enumerate().filter(|(_, e)| {
                timescale::portable::is_own(e)
                    || timescale::is_before_restoring(e, &opened.snapshot.source)
            });
            entries.extend(own.map(|(n, _)| n));
        }
        Ok(Self {
            entries,
            relations,
            excluded: pick.exclude_tables.clone(),
            not_portable,
        })
    }

    /// Whether the rows or the value of this relation are left out: they go with its definition.
    fn has(&self, name: &Name, definition: Option<usize>) -> bool {
        definition.is_some_and(|n| self.entries.contains(&n))
            || self.relations.contains(name)
            || self
                .excluded
                .iter()
                .any(|pattern| pattern.matches(name, None))
    }
}

/// By item, whether it is restored.
fn wanted(
    opened: &Opened,
    pick: &Pick,
    mode: Mode,
    items: &[Item<'_>],
    gone: &Gone,
    notes: &mut Vec<String>,
) -> Result<Vec<bool>, RestoreError> {
    let definitions: HashMap<Name, usize> = opened
        .entries
        .iter()
        .enumerate()
        .filter_map(|(n, e)| Some((closure::relation(e)?, n)))
        .collect();
    let definition = |item: &Item<'_>| match item.what {
        What::Rows(n) => definitions.get(&opened.tables[n].key()).copied(),
        What::Sequence(n) => definitions.get(&opened.sequences[n].key()).copied(),
        What::Entry(_) | What::LargeObjects => None,
    };
    let is_gone = |item: &Item<'_>| match item.what {
        What::Entry(n) => gone.entries.contains(&n),
        What::Rows(n) => gone.has(&opened.tables[n].key(), definition(item)),
        What::Sequence(n) => {
            let sequence = &opened.sequences[n];
            let own = sequence.extension.as_deref() == Some(timescale::EXTENSION);
            (own && mode.portable) || gone.has(&sequence.key(), definition(item))
        }
        What::LargeObjects => false,
    };
    let sections = skip::effective(items.iter().map(|item| &*item.entry));
    let mut rules = Rules::new(pick, mode);
    let asked: Vec<bool> = items
        .iter()
        .zip(&sections)
        .map(|(item, section)| rules.asks_for(item, *section))
        .collect();
    let not_met = pick.names.not_met(&rules.met);
    check_names(opened, pick, &not_met, notes)?;

    // Hypertables that are asked for, with all that is theirs.
    let model = &opened.model;
    let ids = if !pick.hypertables.is_empty() {
        hypertable::ids(model, &pick.hypertables)?
    } else if !pick.names.schemas.is_empty() && !pick.names.by_kind() {
        hypertable::ids_in(model, &pick.names)
    } else {
        Vec::new()
    };
    let mut theirs = HashSet::new();
    if !ids.is_empty() {
        theirs = hypertable::with_all(opened, &ids, &gone.entries, notes);
    }
    let is_theirs = |item: &Item<'_>| match item.what {
        What::Entry(n) => theirs.contains(&n),
        _ => definition(item).is_some_and(|n| theirs.contains(&n)),
    };
    let wanted = items.iter().zip(asked).zip(sections);
    Ok(wanted
        .map(|((item, asked), section)| {
            let database = statements::is_database(&item.entry);
            if database || pick.hypertables.is_empty() && asked {
                return asked && !is_gone(item);
            }
            is_theirs(item) && rules.may_come(item, section) && !is_gone(item)
        })
        .collect())
}

/// What is to be known of continuous aggregates that come without rows.
fn aggregates_without_rows(opened: &Opened, created: &HashSet<Name>) -> Option<String> {
    let all = opened.model.hypertables.values();
    let names: Vec<String> = all
        .filter(|h| matches!(h.kind, Kind::Aggregate { .. }) && created.contains(&h.table))
        .map(|h| h.display_name())
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "continuous aggregates come without rows and do not know it: {}; when their hypertables have rows again, call refresh_continuous_aggregate() over all time",
            names.join(", ")
        )
    })
}

/// Names that stand for nothing: an error where they must, else a note.
fn check_names(
    opened: &Opened,
    pick: &Pick,
    not_met: &[String],
    notes: &mut Vec<String>,
) -> Result<(), RestoreError> {
    for name in &pick.names.tables {
        if not_met.contains(&format!("table {name}")) {
            return Err(RestoreError::NoSuchTable(name.clone()));
        }
        if part::named(&opened.model, name).is_ok() {
            notes.push(format!(
                "{name} is a hypertable, and its rows are in its chunks: --hypertable {name} restores it with them"
            ));
        }
    }
    if not_met.is_empty() {
        return Ok(());
    }
    if pick.strict_names {
        return Err(RestoreError::NotThere(not_met.join(", ")));
    }
    notes.push(format!("not in the snapshot: {}", not_met.join(", ")));
    Ok(())
}

/// A list must be of this snapshot.
fn check_list(items: &[Item<'_>], list: &[Listed]) -> Result<(), RestoreError> {
    let by_id: HashMap<i32, &TocEntry> = items
        .iter()
        .map(|item| (item.entry.dump_id, &*item.entry))
        .collect();
    for listed in list {
        let reason = match by_id.get(&listed.id) {
            None => format!("the snapshot has no item {}", listed.id),
            Some(entry) if !listed.is_of(entry) => format!(
                "item {} of the snapshot is {}: the list is another snapshot's",
                listed.id,
                super::entry_name(entry)
            ),
            Some(_) => continue,
        };
        return Err(RestoreError::List {
            line: listed.line,
            reason,
        });
    }
    Ok(())
}

/// Place of the entries in the list.
fn place(items: &[Item<'_>], pick: &Pick) -> HashMap<usize, usize> {
    let Some(list) = &pick.list else {
        return HashMap::new();
    };
    let by_id: HashMap<i32, usize> = list.iter().map(|listed| listed.id).zip(0..).collect();
    items
        .iter()
        .filter_map(|item| match item.what {
            What::Entry(n) => Some((n, *by_id.get(&item.entry.dump_id)?)),
            _ => None,
        })
        .collect()
}
