//! What a dump will read: tables, their segments, and the units of work that they form.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::pg::catalog::{self, Attribute, Name, Relation, TypeRow};
use crate::pg::{Connection, Error};
use crate::repo::model::{Column, TableRole};
use crate::repo::outline::{KnownTables, OutlineTable};
use crate::rows::{ColumnKind, DigestPlan, Format, Shape};
use crate::schema::selection::{Known, Selection};
use crate::timescale::reading::Reading;

use super::catalogs::{large_objects, missing_values, planner_statistics};
use super::facts;
use super::types;

/// Heap pages of a segment where TOAST does not matter: 2 MiB.
pub const SEGMENT_PAGES: u32 = 256;
/// Tables in one unit, at most: a unit locks them all in one statement.
const UNIT_TABLES: usize = 100;
/// Bytes of heap and TOAST of a unit, at most.
const UNIT_BYTES: u64 = 64 << 20;

/// A table to read.
pub struct PlannedTable {
    /// The relation as the MVCC snapshot sees it.
    pub relation: Relation,
    /// What its rows are for.
    pub role: TableRole,
    /// Columns in the order of the COPY.
    pub columns: Vec<Column>,
    /// The coder's view of them.
    pub kinds: Vec<ColumnKind>,
    /// The query that reads it, where it is not read segment by segment.
    pub query: Option<String>,
    /// How its rows travel.
    pub format: Format,
    /// How its rows are digested.
    pub digest: DigestPlan,
    /// The partition root to load through, if loading the leaf would be wrong.
    pub load_through: Option<(String, String)>,
    /// Number of segments; 1 for a table that is read whole, 0 for one without pages.
    pub segments: u32,
    /// Heap pages of a segment.
    pub segment_pages: u32,
    /// Bytes of heap and TOAST.
    pub bytes: u64,
    /// What is true for the rows to read; nothing if all are.
    pub condition: Option<String>,
    /// The table in the snapshot before, where its rows would have the same digests.
    pub previous: Option<OutlineTable>,
}

/// Neighbouring segments of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Index of the table in the plan.
    pub table: usize,
    /// Its first segment.
    pub from: u32,
    /// The segment after its last.
    pub to: u32,
}

/// Work that one reader does in one transaction, with one message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// What it reads.
    pub pieces: Vec<Piece>,
    /// Bytes of heap and TOAST, about.
    pub bytes: u64,
}

/// All there is to read.
pub struct Plan {
    /// The tables, in order of name.
    pub tables: Vec<PlannedTable>,
    /// The units, largest tables first.
    pub units: Vec<Unit>,
    /// Bytes of heap and TOAST of all tables.
    pub bytes: u64,
    /// What is left out, and why.
    pub skipped: Vec<String>,
    /// What the user should know besides.
    pub notes: Vec<String>,
    /// Tables of which only the rows are left out, as the role may not read them.
    pub without_rows: Vec<Name>,
}

impl Plan {
    /// The units, with those tables only, by their number, that are to be read.
    pub fn units_of(&self, wanted: &[bool]) -> VecDeque<Unit> {
        let mut units = VecDeque::from(self.units.clone());
        for unit in &mut units {
            unit.pieces.retain(|piece| wanted[piece.table]);
        }
        units.retain(|unit| !unit.pieces.is_empty());
        units
    }
}

/// Why the reading cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The server said no.
    #[error("could not read the tables' columns and sizes: {0}")]
    Server(#[from] Error),
    /// Not a condition on the rows of a table.
    #[error(
        "{table}: the condition cannot be used: {source}\n  condition: {condition}\nhint: --where takes what stands after WHERE, with names of functions and types of other schemas than pg_catalog qualified; quote it for the shell"
    )]
    Condition {
        /// The table.
        table: String,
        /// The condition.
        condition: String,
        /// What the server said.
        #[source]
        source: Error,
    },
    /// A condition on rows that are compressed.
    #[error(
        "{table} is a compressed chunk, whose rows a condition cannot tell apart\nhint: dump with --decompress, or choose chunks by time with --since and --until"
    )]
    Compressed {
        /// The chunk.
        table: String,
    },
    /// A condition on a table that is not there, or not dumped.
    #[error(
        "--where {pattern}: no table of that name is dumped with its rows\nhint: name it as in --table"
    )]
    NoTable {
        /// The pattern.
        pattern: String,
    },
}

/// Makes sure that the server takes the condition, as one expression: parentheses that close what it has not opened would
/// let it escape from the range of rows that it is read with, and rows come twice.
fn try_condition(
    conn: &mut Connection,
    relation: &Relation,
    condition: &str,
) -> Result<(), PlanError> {
    let sql = format!(
        "EXPLAIN SELECT FROM ONLY {} WHERE CASE WHEN {condition}\n THEN true END",
        relation.sql_name()
    );
    conn.execute("SAVEPOINT pgtide")?;
    let result = conn.execute(&sql);
    conn.execute("ROLLBACK TO SAVEPOINT pgtide; RELEASE SAVEPOINT pgtide")?;
    let Err(source) = result else {
        return Ok(());
    };
    Err(PlanError::Condition {
        table: relation.display_name(),
        condition: condition.to_owned(),
        source,
    })
}

/// Facts of the source that decide how rows are read.
pub struct Facts {
    /// Bytes of a page.
    pub block_size: u32,
    /// Whether the client encoding is UTF-8.
    pub utf8: bool,
    /// Whether the server is a standby, where unlogged tables have no rows.
    pub standby: bool,
    /// Tables that have rows which row security may hide from the role.
    pub hidden: HashSet<u32>,
}

/// Which rows are read.
pub struct Rows<'a> {
    /// What of the database.
    pub selection: &'a Selection,
    /// How its patterns are understood.
    pub known: &'a Known,
    /// Whether the planner's statistics are read, too.
    pub statistics: bool,
}

/// Plans the reading of all relations with rows of their own. `conn` is a holder: it sees the snapshot and has the locks.
pub fn plan(
    conn: &mut Connection,
    relations: &[Relation],
    facts: &Facts,
    reading: &Reading,
    rows: &Rows<'_>,
    previous: &KnownTables,
    jobs: usize,
) -> Result<Plan, PlanError> {
    let Rows {
        selection, known, ..
    } = rows;
    let mut skipped = reading.skipped.clone();
    let mut without_rows = Vec::new();
    let relations: Vec<&Relation> = relations
        .iter()
        .filter(|r| selection.sections.data && r.kind != 'p')
        .filter(|r| !reading.left_out.contains(&r.key()))
        .filter(|r| !selection.excludes_data(&r.key(), known))
        .filter(|r| !(selection.no_unlogged_data && r.unlogged))
        .filter(|r| {
            let empty = facts.standby && r.unlogged;
            if empty {
                skipped.push(format!(
                    "{} is unlogged: a standby does not have its rows",
                    r.display_name()
                ));
            }
            let hidden = !empty && facts.hidden.contains(&r.oid);
            if hidden {
                skipped.push(format!(
                    "the rows of {} are left out: row security may hide some of them from the role",
                    r.display_name()
                ));
                without_rows.push(r.key());
            }
            !empty && !hidden
        })
        .collect();
    let oids: Vec<u32> = relations.iter().map(|r| r.oid).collect();
    let mut attributes = catalog::attributes(conn, &oids)?;
    let type_rows = catalog::types(conn, &oids)?;
    let sizes = catalog::sizes(conn, &oids)?;
    let mut roots = catalog::load_through_roots(conn, selection.through_roots)?;

    let mut tables = Vec::with_capacity(relations.len());
    for relation in relations {
        let attributes = attributes.remove(&relation.oid).unwrap_or_default();
        let (heap, toast) = sizes.get(&relation.oid).copied().unwrap_or_default();
        let key = relation.key();
        let mut planned = table(
            relation,
            &attributes,
            &type_rows,
            (heap, toast),
            facts,
            roots.remove(&relation.oid),
            previous,
        );
        if reading.decompressed.contains(&key) {
            planned.read_decompressed();
        }
        let conditions = selection.conditions(&key, known);
        if !conditions.is_empty() {
            if reading.model.is_compressed(&key) && !reading.decompressed.contains(&key) {
                return Err(PlanError::Compressed {
                    table: relation.display_name(),
                });
            }
            for condition in &conditions {
                try_condition(conn, relation, condition)?;
            }
            // Each on a line of its own, so that a comment in it ends.
            let conditions: Vec<String> = conditions.iter().map(|c| format!("({c}\n)")).collect();
            planned.condition = Some(conditions.join(" AND "));
        }
        tables.push(planned);
    }
    let missing = reading.missing.as_ref().filter(|_| selection.sections.data);
    tables.extend(missing.map(|query| missing_values(query)));
    tables.extend(facts::types(&type_rows, &oids));
    tables.extend(facts::config_references(&tables));
    if selection.wants_large_objects() && catalog::has_large_objects(conn)? {
        tables.extend(large_objects(conn, &type_rows, facts, selection, previous)?);
    }
    if let Some(unused) = selection.conditions.iter().find(|condition| {
        let mut all = tables.iter().filter(|t| t.role == TableRole::Plain);
        !all.any(|t| known.matches_family(&condition.pattern, &t.relation.key()))
    }) {
        return Err(PlanError::NoTable {
            pattern: unused.pattern.to_string(),
        });
    }
    let mut notes = Vec::new();
    if rows.statistics {
        tables.push(planner_statistics(conn, &tables, rows, &mut notes)?);
    }
    let bytes = tables.iter().map(|t| t.bytes).sum();
    let units = units(&tables, bytes, jobs);
    Ok(Plan {
        tables,
        units,
        bytes,
        skipped,
        notes,
        without_rows,
    })
}

/// Plans the reading of one table, of so many bytes of heap and TOAST.
pub fn table(
    relation: &Relation,
    attributes: &[Attribute],
    type_rows: &HashMap<u32, TypeRow>,
    (heap, toast): (u64, u64),
    facts: &Facts,
    load_through: Option<(String, String)>,
    previous: &KnownTables,
) -> PlannedTable {
    let type_facts: Vec<types::TypeFacts> = attributes
        .iter()
        .map(|a| types::facts(type_rows, a.type_oid, facts.utf8))
        .collect();
    // An extension's configuration names things by reg* types and is loaded by appending: as text, like pg_dump.
    let binary = relation.config.is_none() && type_facts.iter().all(|facts| facts.binary);
    let format = if binary { Format::Binary } else { Format::Text };
    let columns: Vec<Column> = attributes
        .iter()
        .zip(&type_facts)
        .map(|(attribute, facts)| Column {
            name: attribute.name.clone(),
            type_name: attribute.type_name.clone(),
            kind: if binary { facts.kind } else { ColumnKind::Text },
            shape: if binary {
                facts.shape.clone()
            } else {
                Shape::Plain
            },
        })
        .collect();
    let digest_columns: Vec<(String, Shape)> = columns
        .iter()
        .map(|c| (c.name.clone(), c.shape.clone()))
        .collect();
    let (schema, name) = relation.key();
    let previous = previous.find(&schema, &name, format, &columns);
    let pages = heap.div_ceil(u64::from(facts.block_size));
    let segment_pages = previous.map_or_else(|| segment_pages(heap, toast), |p| p.segment_pages);
    let whole = relation.config.is_some() || !relation.heap;
    let segments = if pages == 0 && relation.heap {
        // A heap without pages has no rows, and under our lock it stays the heap that the snapshot sees.
        0
    } else if whole {
        1
    } else {
        pages.div_ceil(u64::from(segment_pages))
    };
    let role = match &relation.config {
        Some(config) => TableRole::ExtensionConfig {
            extension: config.extension.clone(),
        },
        None if relation.oid == catalog::LARGE_OBJECT_OID => TableRole::LargeObjects,
        None => TableRole::Plain,
    };
    PlannedTable {
        role,
        query: relation.config.as_ref().map(|config| {
            format!(
                "SELECT {} FROM ONLY {} {}",
                column_list(&columns),
                relation.sql_name(),
                config.condition
            )
        }),
        relation: relation.clone(),
        kinds: columns.iter().map(|c| c.kind).collect(),
        digest: DigestPlan::new(format, &digest_columns),
        columns,
        format,
        load_through,
        // A heap has at most 2^32 pages.
        segments: u32::try_from(segments).unwrap_or(u32::MAX),
        segment_pages,
        bytes: heap + toast,
        condition: None,
        previous: previous.cloned(),
    }
}

/// A power of two, so that heap plus TOAST of a segment stays near that of 256 pages without TOAST.
fn segment_pages(heap: u64, toast: u64) -> u32 {
    if heap == 0 {
        return SEGMENT_PAGES;
    }
    let share = u128::from(SEGMENT_PAGES) * u128::from(heap) / u128::from(heap + toast);
    let share = u32::try_from(share).unwrap_or(SEGMENT_PAGES).max(1);
    1 << share.ilog2()
}

/// Cuts large tables into units of neighbouring segments, and joins small ones.
fn units(tables: &[PlannedTable], total: u64, jobs: usize) -> Vec<Unit> {
    // Small enough that no worker is left alone with a large unit at the end.
    let target = (total / (jobs as u64 * 16).max(1)).clamp(4 << 20, UNIT_BYTES);
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by_key(|&n| std::cmp::Reverse(tables[n].bytes));
    let mut units = Vec::new();
    let mut small = Unit::default();
    for n in order {
        let table = &tables[n];
        if table.bytes > target && table.segments > 1 {
            let per_segment = (table.bytes / u64::from(table.segments)).max(1);
            let step = u32::try_from((target / per_segment).clamp(1, 1 << 20)).unwrap_or(1);
            let mut from = 0;
            while from < table.segments {
                let to = from.saturating_add(step).min(table.segments);
                units.push(Unit {
                    pieces: vec![Piece { table: n, from, to }],
                    bytes: per_segment * u64::from(to - from),
                });
                from = to;
            }
        } else if table.segments > 0 {
            if small.bytes + table.bytes > target || small.pieces.len() >= UNIT_TABLES {
                units.push(std::mem::take(&mut small));
            }
            small.pieces.push(Piece {
                table: n,
                from: 0,
                to: table.segments,
            });
            small.bytes += table.bytes;
        }
    }
    units.push(small);
    units.retain(|unit| !unit.pieces.is_empty());
    units
}

/// The columns' names, quoted.
fn column_list(columns: &[Column]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|c| catalog::quote_ident(&c.name))
        .collect();
    names.join(", ")
}

impl PlannedTable {
    /// Has a chunk read with its compressed rows, which only a query on the whole of it gives: COPY, ONLY and ranges of
    /// TIDs give those of its heap.
    fn read_decompressed(&mut self) {
        let (columns, name) = (column_list(&self.columns), self.relation.sql_name());
        self.query = Some(format!("SELECT {columns} FROM {name}"));
        self.segments = 1;
    }

    /// Has the rows travel as text.
    pub fn read_as_text(&mut self) {
        for (column, kind) in self.columns.iter_mut().zip(&mut self.kinds) {
            (column.kind, *kind) = (ColumnKind::Text, ColumnKind::Text);
            column.shape = Shape::Plain;
        }
        let columns = self.columns.iter();
        let columns: Vec<(String, Shape)> =
            columns.map(|c| (c.name.clone(), Shape::Plain)).collect();
        self.format = Format::Text;
        self.digest = DigestPlan::new(self.format, &columns);
        self.previous = None;
    }

    /// The COPY statement that reads neighbouring segments.
    ///
    /// All segments of a table are read by name: a plain scan, which uses a small ring of the server's buffers. A range
    /// of TIDs leaves out its upper bound in the last segment, as rows may lie beyond the size that was looked up.
    pub fn copy_sql(&self, piece: &Piece) -> String {
        let name = self.relation.sql_name();
        let columns = column_list(&self.columns);
        let options = match self.format {
            Format::Text => "",
            _ => " (FORMAT binary)",
        };
        if let Some(query) = &self.query {
            let query = match &self.condition {
                Some(condition) => format!(
                    "SELECT {columns} FROM ({query}) AS {} WHERE {condition}",
                    catalog::quote_ident(&self.relation.name)
                ),
                None => query.clone(),
            };
            return format!("COPY ({query}) TO STDOUT{options}");
        }
        let all = piece.from == 0 && piece.to >= self.segments;
        if all && (self.condition.is_some() || !self.relation.is_lockable()) {
            let condition = self.condition.as_deref().unwrap_or("true");
            return format!(
                "COPY (SELECT {columns} FROM ONLY {name} WHERE {condition}) TO STDOUT{options}"
            );
        }
        if all {
            return if columns.is_empty() {
                format!("COPY {name} TO STDOUT{options}")
            } else {
                format!("COPY {name} ({columns}) TO STDOUT{options}")
            };
        }
        let page = |segment: u32| u64::from(segment) * u64::from(self.segment_pages);
        let first = page(piece.from);
        let upper = if piece.to >= self.segments {
            String::new()
        } else {
            format!(" AND ctid < '({},0)'::pg_catalog.tid", page(piece.to))
        };
        let condition = self.condition.iter().map(|c| format!(" AND {c}"));
        let condition: String = condition.collect();
        format!(
            "COPY (SELECT {columns} FROM ONLY {name} WHERE ctid >= '({first},0)'::pg_catalog.tid{upper}{condition}) TO STDOUT{options}"
        )
    }
}

impl Unit {
    /// All segments of the unit, in order, each as a piece of its own.
    pub fn segments(&self) -> impl Iterator<Item = Piece> + '_ {
        self.pieces.iter().flat_map(|&Piece { table, from, to }| {
            (from..to).map(move |from| Piece {
                table,
                from,
                to: from + 1,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_with_toast_has_fewer_pages_and_a_power_of_two() {
        assert_eq!(segment_pages(1 << 30, 0), 256);
        assert_eq!(segment_pages(1 << 30, 1 << 30), 128);
        assert_eq!(segment_pages(1 << 20, 1 << 30), 1);
        assert_eq!(segment_pages(3 << 20, 1 << 20), 128);
        assert_eq!(segment_pages(0, 0), 256);
    }

    fn planned(bytes: u64, segments: u32) -> PlannedTable {
        PlannedTable {
            relation: Relation {
                oid: 1,
                schema: "s".to_owned(),
                name: "t".to_owned(),
                kind: 'r',
                unlogged: false,
                heap: true,
                filenode: 1,
                config: None,
                fingerprint: String::new(),
            },
            role: TableRole::Plain,
            columns: Vec::new(),
            kinds: Vec::new(),
            format: Format::Binary,
            digest: DigestPlan::new(Format::Binary, &[]),
            query: None,
            load_through: None,
            segments,
            segment_pages: 256,
            bytes,
            condition: None,
            previous: None,
        }
    }

    #[test]
    fn units_cover_every_segment_once() {
        let tables = vec![
            planned(1 << 30, 512),
            planned(0, 1),
            planned(3 << 20, 2),
            planned(100 << 20, 50),
        ];
        let total = tables.iter().map(|t| t.bytes).sum();
        let units = units(&tables, total, 2);
        let mut seen: Vec<Piece> = units.iter().flat_map(Unit::segments).collect();
        seen.sort_unstable();
        let mut expected = Vec::new();
        for (table, planned) in tables.iter().enumerate() {
            expected.extend((0..planned.segments).map(|from| Piece {
                table,
                from,
                to: from + 1,
            }));
        }
        assert_eq!(seen, expected);
        assert_eq!(units[0].pieces[0].table, 0, "largest table first");
    }

    #[test]
    fn a_table_of_many_small_segments_in_a_small_unit_is_read_by_tid() {
        let sql = |table: &PlannedTable, from, to| table.copy_sql(&Piece { table: 0, from, to });
        let table = planned(3 << 20, 2);
        assert!(sql(&table, 0, 1).contains("ctid < '(256,0)'"));
        assert!(!sql(&table, 1, 2).contains("ctid <"));
        assert!(!sql(&table, 0, 2).contains("ctid"));
        assert!(!sql(&planned(0, 1), 0, 1).contains("ctid"));
    }
}
