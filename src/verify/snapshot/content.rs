//! Compares a database with the snapshot that it was restored from: definitions, rows, sequences, large objects.

use std::collections::{BTreeMap, HashMap};

use crate::dump::origin::Origin;
use crate::dump::plan::{Plan, PlannedTable};
use crate::dump::{DumpOptions, Kindness};
use crate::pg::Settings;
use crate::pg::archive::TocEntry;
use crate::pg::catalog::Name;
use crate::pg::interrupt::Interrupt;
use crate::progress::Progress;
use crate::repo::model::{TableRecord, TableRole};
use crate::repo::outline::KnownTables;
use crate::restore::Opened;
use crate::rows::{Effort, Format};
use crate::schema::compare::texts;
use crate::schema::selection::Selection;
use crate::schema::statements::RenderOptions;
use crate::timescale::EXTENSION;
use crate::timescale::part::Part;
use crate::verify::compare::definitions::{Definitions, differences, sequences};
use crate::verify::compare::pairing::{self, Kind};
use crate::verify::compare::reading::{self, Tally};
use crate::verify::compare::{Change, EntryDifference, Held, TableComparison};

use super::{Differences, VerifyError, VerifyOptions};
use super::{large_objects, printed};

/// What rows are of.
type Key = (Kind, Name);

/// The rows of both sides that must be the same, and the names of their columns.
#[derive(Default)]
struct Pair<'a> {
    stored: Option<Tally>,
    found: Option<Tally>,
    records: Vec<&'a TableRecord>,
    planned: Vec<&'a PlannedTable>,
}

/// Compares a database with the snapshot; without `rows` only what is defined there, and the sequences.
pub fn compare(
    opened: &Opened,
    settings: &Settings,
    options: &VerifyOptions,
    rows: bool,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<Differences, VerifyError> {
    let asked = asked(settings, options);
    let mut origin = Origin::open(&asked, interrupt, progress, &|_, _| {
        Ok(KnownTables::default())
    })?;
    let fitted = is_fitted(opened, options.render);
    let stored = Stored::of(opened, fitted);
    let mut not_compared = stored.align(&mut origin);
    progress.stage(&origin.counts.stage(origin.plan.bytes));
    let wanted: Vec<bool> = (origin.plan.tables.iter())
        .map(|table| rows && stored.is_compared(table))
        .collect();
    let read = || -> Result<_, VerifyError> {
        let [sums] = reading::sums([&origin], [&wanted], progress)?;
        Ok((sums, Definitions::read(&origin)?))
    };
    let (sums, found) = origin.holding.watched(read)?;
    let tables = match rows {
        true => stored.compare(opened, &origin.plan, &sums)?,
        false => Vec::new(),
    };
    let kept = Definitions::stored(&opened.entries, &opened.sequences);
    // Their values are data.
    let sequences = match rows {
        true => sequences([&kept, &found], true, None),
        false => Vec::new(),
    };
    let defined = definitions(opened, &origin, options.render, kept, found);
    let (schema, mut notes) = (defined.different, defined.notes);
    not_compared.extend(defined.not_compared);
    if fitted && !opened.model.hypertables.is_empty() {
        notes.push("TimescaleDB's catalog was made to fit what was restored, so it was not compared row by row; chunks, their rows and their definitions were".to_owned());
    }
    not_compared.extend(origin.plan.skipped.iter().cloned());
    notes.extend(origin.holding.take_notes());
    origin.holding.release();
    Ok(Differences {
        schema,
        tables,
        sequences,
        not_compared,
        notes,
    })
}

/// How the database is read: all of it, as the dump was.
fn asked(settings: &Settings, options: &VerifyOptions) -> DumpOptions {
    DumpOptions {
        settings: settings.clone(),
        jobs: options.jobs,
        effort: Effort::Fast,
        pg_dump: options.pg_dump.clone(),
        path: options.path.clone(),
        tags: Vec::new(),
        lock_wait_timeout: options.lock_wait_timeout,
        selection: Selection::default(),
        role: None,
        row_security: false,
        snapshot: None,
        part: Part::default(),
        decompress: false,
        statistics: false,
        kindness: Kindness::default(),
        cluster: None,
    }
}

/// Whether the restore changes TimescaleDB's catalog: it has all of the chunks, and the owners of all jobs, and not all of
/// them were dumped, or are restored.
fn is_fitted(opened: &Opened, render: RenderOptions) -> bool {
    !opened.snapshot.chosen.is_empty() || render.no_owner
}

/// What kind of rows a table has; nothing for facts that are none of the user's.
fn kind(role: &TableRole) -> Option<Kind> {
    match role {
        TableRole::Plain => Some(Kind::Table),
        TableRole::ExtensionConfig { .. } => Some(Kind::ExtensionConfiguration),
        TableRole::LargeObjects => Some(Kind::LargeObjects),
        TableRole::LargeObjectMetadata => Some(Kind::LargeObjectProperties),
        _ => None,
    }
}

/// The tables of the snapshot.
struct Stored<'a> {
    by_key: HashMap<Key, &'a TableRecord>,
    /// Bytes of a page of a large object.
    page: u32,
}

impl<'a> Stored<'a> {
    /// Those that are compared; TimescaleDB's catalog is none of them where the restore made it fit.
    fn of(opened: &'a Opened, fitted: bool) -> Self {
        let own = |role: &TableRole| matches!(role, TableRole::ExtensionConfig { extension } if extension == EXTENSION);
        let tables = opened.tables.iter();
        let tables = tables.filter(|table| !(fitted && own(&table.role)));
        Self {
            by_key: tables
                .filter_map(|table| Some(((kind(&table.role)?, table.key()), table)))
                .collect(),
            page: opened.snapshot.source.block_size / 4,
        }
    }

    /// The table of the snapshot that a table of the database was restored from.
    fn find(&self, table: &PlannedTable) -> Option<&'a TableRecord> {
        let key = (kind(&table.role)?, table.relation.key());
        self.by_key.get(&key).copied()
    }

    /// Whether rows of the database are compared: all but those of extensions that the snapshot does not have, and that
    /// came with them.
    fn is_compared(&self, table: &PlannedTable) -> bool {
        match kind(&table.role) {
            Some(Kind::ExtensionConfiguration) => self.find(table).is_some(),
            kind => kind.is_some(),
        }
    }

    /// Has rows travel as they did into the snapshot. What cannot be compared, and why.
    fn align(&self, origin: &mut Origin<'_>) -> Vec<String> {
        let mut not_compared = Vec::new();
        for table in &mut origin.plan.tables {
            let Some(record) = self.find(table) else {
                continue;
            };
            match (record.format, table.format) {
                (a, b) if a == b => {}
                (Format::Text, _) => table.read_as_text(),
                _ => not_compared.push(format!(
                    "the rows of {}.{}: this server gives them as text only, and the snapshot has them in binary",
                    record.schema, record.name
                )),
            }
            if table.role == TableRole::LargeObjects {
                table.condition = Some(pairing::pages_that_matter(self.page));
            }
        }
        not_compared
    }

    /// Where rows belong: with those of the partition root that they were loaded through, as they may have gone to
    /// another leaf.
    fn home(&self, kind: Kind, name: Name) -> Key {
        let record = self.by_key.get(&(kind, name.clone()));
        match record.and_then(|record| record.load_through.clone()) {
            Some(root) => (kind, root),
            None => (kind, name),
        }
    }

    /// Compares all rows.
    fn compare(
        &self,
        opened: &Opened,
        plan: &Plan,
        sums: &[Tally],
    ) -> Result<Vec<TableComparison>, VerifyError> {
        let tables = &plan.tables;
        let mut pairs: BTreeMap<Key, Pair<'_>> = BTreeMap::new();
        for (&(kind, ref name), record) in &self.by_key {
            let pair = pairs.entry(self.home(kind, name.clone())).or_default();
            *pair.stored.get_or_insert_default() += Tally {
                digest: record.digest,
                bytes: record.payload_bytes,
            };
            pair.records.push(record);
        }
        for (table, tally) in tables.iter().zip(sums) {
            if let Some(kind) = kind(&table.role).filter(|_| self.is_compared(table)) {
                let home = self.home(kind, table.relation.key());
                let pair = pairs.entry(home).or_default();
                *pair.found.get_or_insert_default() += *tally;
                pair.planned.push(table);
            }
        }
        let binary_only = |pair: &Pair<'_>| {
            let formats = pair.planned.iter().map(|table| table.format);
            pair.records.iter().any(|r| r.format == Format::Binary)
                && formats.into_iter().any(|format| format == Format::Text)
        };
        let mut compared = Vec::new();
        for ((kind, name), pair) in pairs {
            // Of a table without its rows in the snapshot there is none to be found.
            let empty = pair.found.is_none_or(|found| found.digest.rows == 0);
            // What the role here may not read is named among what was left out.
            let hidden = pair.found.is_none() && plan.without_rows.contains(&name);
            if binary_only(&pair) || hidden || pair.stored.is_none() && empty {
                continue;
            }
            let always = matches!(kind, Kind::LargeObjects | Kind::LargeObjectProperties);
            let mut stored = pair.stored.or(always.then(Tally::default));
            let found = pair.found.or(always.then(Tally::default));
            if kind == Kind::LargeObjects
                && let (Some(tally), Some(record)) = (&mut stored, pair.records.first())
                && found.map(|found| found.digest) != Some(tally.digest)
            {
                let traces = large_objects::traces(&opened.reader, record, self.page)?;
                tally.digest.rows -= traces.rows;
                tally.digest.sum = tally.digest.sum.wrapping_sub(traces.sum);
            }
            let columns = columns_differ(&pair);
            compared.push(TableComparison {
                kind,
                name: pairing::display_name(kind, &name),
                equal: columns.is_empty()
                    && match (&stored, &found) {
                        (Some(a), Some(b)) => a.digest == b.digest,
                        _ => false,
                    },
                source: stored.map(Held::from),
                target: found.map(Held::from),
                columns,
                rows: None,
            });
        }
        Ok(compared)
    }
}

/// What differs in the names of columns.
fn columns_differ(pair: &Pair<'_>) -> Vec<String> {
    let (Some(record), Some(table)) = (pair.records.first(), pair.planned.first()) else {
        return Vec::new();
    };
    let only = |a: &[_], b: &[_], side: &str| {
        let names = |columns: &[crate::repo::model::Column]| -> Vec<String> {
            columns.iter().map(|column| column.name.clone()).collect()
        };
        let b = names(b);
        let missing = names(a).into_iter().filter(|name| !b.contains(name));
        missing
            .map(|name| format!("{name} is only in the {side}"))
            .collect::<Vec<_>>()
    };
    [
        only(&record.columns, &table.columns, "snapshot"),
        only(&table.columns, &record.columns, "database"),
    ]
    .concat()
}

/// What came of comparing definitions.
#[derive(Default)]
struct Defined {
    different: Vec<EntryDifference>,
    notes: Vec<String>,
    not_compared: Vec<String>,
}

/// Compares definitions. The same in other words is the same; what another `pg_dump` or another server prints in other
/// words may be, or may not.
fn definitions(
    opened: &Opened,
    origin: &Origin<'_>,
    render: RenderOptions,
    mut kept: Definitions,
    mut found: Definitions,
) -> Defined {
    // Of a dump without owners everything belongs to who restores.
    let ownerless = kept.entries().iter().all(|entry| entry.owner.is_empty());
    let render = RenderOptions {
        no_owner: render.no_owner || ownerless,
        ..render
    };
    for side in [&mut kept, &mut found] {
        as_rendered(side.entries_mut(), render);
    }
    let (kept, found) = (texts(kept.entries()), texts(found.entries()));
    let source = &opened.snapshot.source;
    let major = |version: i32| version / 10_000;
    let printed_by = source.pg_dump_version.split('.').next();
    let alike = major(source.server_version_num) == major(origin.server_version.0)
        && printed_by == Some(&origin.pg_dump.major().to_string());
    let partly = !opened.snapshot.chosen.is_empty() || !opened.snapshot.conditions.is_empty();
    let mut defined = Defined::default();
    let (mut in_other_words, mut by_others) = (0, 0);
    for difference in differences(kept.clone(), found.clone()) {
        let name = format!(
            "{}.{}",
            difference.schema.as_deref().unwrap_or_default(),
            difference.name
        );
        let all = (0..).map_while(|number| {
            let key = (
                difference.kind.clone(),
                difference.schema.clone(),
                difference.name.clone(),
                number,
            );
            kept.get(&key).zip(found.get(&key))
        });
        let both = |same: fn(&str, &str) -> bool| {
            difference.change == Change::Different && all.clone().all(|(a, b)| a == b || same(a, b))
        };
        if both(printed::is_alike) {
            in_other_words += 1;
        } else if both(printed::is_reordered) {
            defined.notes.push(format!(
                "the columns of {name} stand in another order than at the source: no dump keeps that of a child that got its columns before it was one"
            ));
        } else if partly && both(printed::is_not_validated) {
            defined.notes.push(format!(
                "{name} is not validated: rows that it refers to were not dumped"
            ));
        } else if partly
            && difference.change == Change::OnlySource
            && difference.kind == "FK CONSTRAINT"
        {
            defined
                .not_compared
                .push(format!("{name}: what it refers to was not dumped"));
        } else if !alike && difference.change == Change::Different {
            by_others += 1;
        } else {
            defined.different.push(difference);
        }
    }
    if in_other_words > 0 {
        defined.notes.push(format!(
            "{in_other_words} definitions have casts or parentheses in other places, as PostgreSQL prints them once it has read what it printed"
        ));
    }
    if by_others > 0 {
        defined.not_compared.push(format!(
            "{by_others} definitions, which read otherwise than in the snapshot: that was printed by pg_dump {} of PostgreSQL {}, this by {} of {}",
            source.pg_dump_version,
            source.server_version,
            origin.pg_dump.major(),
            origin.server_version.1
        ));
    }
    defined
}

/// Leaves out what was left out of the statements.
fn as_rendered(entries: &mut Vec<TocEntry>, render: RenderOptions) {
    if render.no_privileges {
        entries.retain(|entry| !entry.desc.ends_with("ACL"));
    }
    for entry in entries {
        if render.no_owner {
            entry.owner = Default::default();
        }
        if render.no_tablespaces {
            entry.tablespace = None;
        }
    }
}
