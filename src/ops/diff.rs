//! What changed from one snapshot to another: tables, columns, sequences, and the text of the schema.

use serde::Serialize;
use similar::TextDiff;

use crate::pg::archive::TocEntry;
use crate::repo::model::{Column, TableRecord, TableRole};
use crate::repo::{BlockChanges, RepoError, Repository, compare_blocks};
use crate::restore::Opened;
use crate::schema::compare::{pairs, texts};

/// Lines around a change that are shown with it.
const CONTEXT: usize = 3;

/// The differences, each list in order of name.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    /// Tables that only the second has.
    pub tables_added: Vec<TableSummary>,
    /// Tables that only the first has.
    pub tables_removed: Vec<TableSummary>,
    /// Tables whose rows or columns are not the same.
    pub tables_changed: Vec<TableChange>,
    /// Sequences that are new, gone, or at another value.
    pub sequences: Vec<SequenceChange>,
    /// Entries of the schema that are new, gone, or not the same.
    pub schema: Vec<EntryChange>,
}

/// A table.
#[derive(Debug, Serialize)]
pub struct TableSummary {
    /// Schema and name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Bytes of its payload.
    pub payload_bytes: u64,
}

/// How a table differs.
#[derive(Debug, Serialize)]
pub struct TableChange {
    /// Schema and name.
    pub table: String,
    /// Rows of the first.
    pub rows_before: u64,
    /// Rows of the second.
    pub rows_after: u64,
    /// Whether all rows are the same: no, or not known where columns are not the same.
    pub rows_equal: Option<bool>,
    /// What became of its blocks, if they can be compared.
    pub blocks: Option<BlockChanges>,
    /// Columns that only the second has.
    pub columns_added: Vec<String>,
    /// Columns that only the first has.
    pub columns_removed: Vec<String>,
    /// Columns of another type: name, type before, type after.
    pub columns_changed: Vec<(String, String, String)>,
}

/// How a sequence differs.
#[derive(Debug, Serialize)]
pub struct SequenceChange {
    /// Schema and name.
    pub sequence: String,
    /// Its value in the first, if it is there.
    pub before: Option<i64>,
    /// Its value in the second, if it is there.
    pub after: Option<i64>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// It is not the same.
    Changed,
}

/// How an entry of the schema differs.
#[derive(Debug, Serialize)]
pub struct EntryChange {
    /// What became of it.
    pub change: Change,
    /// Its kind: `TABLE`, `INDEX` ...
    pub kind: String,
    /// Its schema, if it has one.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
    /// How its statements differ, as `diff -u` writes it.
    pub diff: String,
}

impl Difference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables_added.is_empty()
            && self.tables_removed.is_empty()
            && self.tables_changed.is_empty()
            && self.sequences.is_empty()
            && self.schema.is_empty()
    }
}

/// Compares two snapshots.
pub fn compare(repo: &Repository, a: &Opened, b: &Opened) -> Result<Difference, RepoError> {
    let mut difference = Difference {
        schema: schema(&a.entries, &b.entries),
        sequences: sequences(a, b),
        ..Difference::default()
    };
    let reader = repo.reader()?;
    for (_, pair) in pairs(rows(a), rows(b), |table| table.key()) {
        match pair {
            (Some(a), Some(b)) => {
                // Equal digests of equal columns are equal rows, whatever the blocks.
                let columns = ColumnChanges::of(&a.columns, &b.columns);
                let same_format = a.format == b.format;
                if columns.is_empty() && same_format && a.digest == b.digest {
                    continue;
                }
                difference.tables_changed.push(TableChange {
                    table: name(b),
                    rows_before: a.digest.rows,
                    rows_after: b.digest.rows,
                    rows_equal: (columns.is_empty() && same_format).then_some(false),
                    blocks: compare_blocks(&reader, a, b)?,
                    columns_added: columns.added,
                    columns_removed: columns.removed,
                    columns_changed: columns.changed,
                });
            }
            (Some(a), None) => difference.tables_removed.push(summary(a)),
            (None, Some(b)) => difference.tables_added.push(summary(b)),
            (None, None) => {}
        }
    }
    Ok(difference)
}

/// The tables that have rows of the user's.
fn rows(opened: &Opened) -> impl Iterator<Item = &TableRecord> {
    opened.tables.iter().filter(|table| {
        matches!(
            table.role,
            TableRole::Plain
                | TableRole::ExtensionConfig { .. }
                | TableRole::LargeObjects
                | TableRole::LargeObjectMetadata
        )
    })
}

fn name(table: &TableRecord) -> String {
    format!("{}.{}", table.schema, table.name)
}

fn summary(table: &TableRecord) -> TableSummary {
    TableSummary {
        table: name(table),
        rows: table.digest.rows,
        payload_bytes: table.payload_bytes,
    }
}

#[derive(Default)]
struct ColumnChanges {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<(String, String, String)>,
}

impl ColumnChanges {
    /// Columns are taken by name: their order is no difference.
    fn of(a: &[Column], b: &[Column]) -> Self {
        let mut changes = Self::default();
        for (name, pair) in pairs(a.iter(), b.iter(), |column| column.name.clone()) {
            match pair {
                (Some(a), Some(b)) if a.type_name != b.type_name => {
                    changes
                        .changed
                        .push((name, a.type_name.clone(), b.type_name.clone()));
                }
                (Some(_), None) => changes.removed.push(name),
                (None, Some(_)) => changes.added.push(name),
                _ => {}
            }
        }
        changes
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

fn sequences(a: &Opened, b: &Opened) -> Vec<SequenceChange> {
    let pairs = pairs(a.sequences.iter(), b.sequences.iter(), |sequence| {
        sequence.key()
    });
    let changes = pairs.into_iter().filter_map(|((schema, name), (a, b))| {
        let state = |s: &crate::repo::model::SequenceValue| (s.last_value, s.is_called);
        (a.map(state) != b.map(state)).then(|| SequenceChange {
            sequence: format!("{schema}.{name}"),
            before: a.map(|sequence| sequence.last_value),
            after: b.map(|sequence| sequence.last_value),
        })
    });
    changes.collect()
}

fn schema(a: &[TocEntry], b: &[TocEntry]) -> Vec<EntryChange> {
    let (a, b) = (texts(a), texts(b));
    let pairs = pairs(a.into_iter(), b.into_iter(), |(name, _)| name.clone());
    let changes = pairs
        .into_iter()
        .filter_map(|((kind, schema, name, _), pair)| {
            let (change, before, after) = match pair {
                (Some((_, before)), Some((_, after))) if before != after => {
                    (Change::Changed, before, after)
                }
                (Some((_, before)), None) => (Change::Removed, before, String::new()),
                (None, Some((_, after))) => (Change::Added, String::new(), after),
                _ => return None,
            };
            let diff = TextDiff::from_lines(&before, &after);
            Some(EntryChange {
                change,
                kind,
                schema,
                name,
                diff: diff.unified_diff().context_radius(CONTEXT).to_string(),
            })
        });
    changes.collect()
}
