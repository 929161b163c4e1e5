//! The extension's catalog as rows of text: read from a server or from a snapshot, in every dialect.
//!
//! Up to 2.28 a chunk is named by schema and table, from 2.29 on by its `regclass`; up to 2.27 its ranges hang on
//! `chunk_constraint`, from 2.28 on on the chunk itself. Columns are found by their names, and only those are looked at
//! that mean something here: all others travel as they are.

use std::collections::{BTreeMap, HashMap};

use crate::pg::catalog::Name;

/// Name of the schema of the catalog.
const SCHEMA: &str = "_timescaledb_catalog";

/// Rows of one catalog table: text values, `None` for NULL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, each as long as the columns.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// Parses rows as COPY sends them in its text format
    /// (<https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2>).
    pub fn parse(columns: Vec<String>, text: &str) -> Result<Rows, CatalogError> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let row = line
                .split('\t')
                .map(unescape)
                .collect::<Option<Vec<Option<String>>>>()
                .filter(|row| row.len() == columns.len());
            rows.push(row.ok_or_else(|| CatalogError::Row(line.to_owned()))?);
        }
        Ok(Rows { columns, rows })
    }

    /// The rows as COPY takes them in its text format.
    pub fn to_copy_text(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            for (n, value) in row.iter().enumerate() {
                if n > 0 {
                    out.push('\t');
                }
                match value {
                    None => out.push_str("\\N"),
                    Some(value) => escape(&mut out, value),
                }
            }
            out.push('\n');
        }
        out
    }

    /// Number of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// One field of COPY's text format; the outer `None` is for text that COPY does not send.
#[allow(clippy::option_option)]
fn unescape(field: &str) -> Option<Option<String>> {
    if field == "\\N" {
        return Some(None);
    }
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(Some(out))
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        let escaped = match c {
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\u{b}' => 'v',
            '\\' => '\\',
            other => {
                out.push(other);
                continue;
            }
        };
        out.push('\\');
        out.push(escaped);
    }
}

/// Why a catalog cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A row that is not what COPY sends.
    #[error("a row of TimescaleDB's catalog cannot be read: {0:?}")]
    Row(String),
    /// A value that should be a number.
    #[error("TimescaleDB's catalog has {value:?} where {table}.{column} should be a number")]
    Number {
        /// The catalog table.
        table: String,
        /// The column.
        column: String,
        /// What is there.
        value: String,
    },
}

/// All catalog tables of a database, by schema and name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// The tables.
    pub tables: BTreeMap<Name, Rows>,
}

/// A row of a catalog table, by the names of its columns.
#[derive(Clone, Copy)]
pub(super) struct RowRef<'a> {
    table: &'a str,
    rows: &'a Rows,
    row: &'a [Option<String>],
}

impl<'a> RowRef<'a> {
    /// A row of a table.
    pub fn new(table: &'a str, rows: &'a Rows, row: &'a [Option<String>]) -> Self {
        Self { table, rows, row }
    }

    /// A value; `None` for NULL and for a column that this version does not have.
    pub fn get(&self, column: &str) -> Option<&'a str> {
        self.row.get(self.rows.column(column)?)?.as_deref()
    }

    /// A whole number.
    pub fn number(&self, column: &str) -> Result<Option<i64>, CatalogError> {
        let Some(value) = self.get(column) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(CatalogError::Number {
                table: self.table.to_owned(),
                column: column.to_owned(),
                value: value.to_owned(),
            }),
        }
    }

    /// A relation: given by `regclass`, or by the schema and the name in two columns of older versions.
    pub fn relation(&self, regclass: &str, schema: &str, name: &str) -> Option<Name> {
        match self.get(regclass) {
            Some(text) => parse_regclass(text),
            None => Some((self.get(schema)?.to_owned(), self.get(name)?.to_owned())),
        }
    }
}

/// Schema and name out of a `regclass` as it prints with an empty search path; nothing for the bare number that stands
/// for a relation that is gone.
pub fn parse_regclass(text: &str) -> Option<Name> {
    let (first, rest) = identifier(text)?;
    match rest.strip_prefix('.') {
        Some(rest) => {
            let (second, rest) = identifier(rest)?;
            rest.is_empty().then_some((first, second))
        }
        // Only pg_catalog is found without being named.
        None => {
            let number = first.starts_with(|c: char| c.is_ascii_digit());
            (rest.is_empty() && !number && text != "-").then(|| ("pg_catalog".to_owned(), first))
        }
    }
}

/// A name out of a `regrole` or the like.
pub(super) fn parse_name(text: &str) -> Option<String> {
    match identifier(text) {
        Some((name, "")) => Some(name),
        _ => None,
    }
}

fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            out.push(c);
        } else if quoted[at + 1..].starts_with('"') {
            out.push('"');
            chars.next();
        } else {
            return Some((out, &quoted[at + 1..]));
        }
    }
    None
}

impl Catalog {
    /// The rows of a table of the catalog's own schema, each by its columns' names; none where there is no such table.
    pub(super) fn rows<'a>(&'a self, table: &'a str) -> impl Iterator<Item = RowRef<'a>> {
        let rows = self.tables.get(&(SCHEMA.to_owned(), table.to_owned()));
        rows.into_iter()
            .flat_map(move |rows| rows.rows.iter().map(move |row| RowRef { table, rows, row }))
    }

    /// What the catalog says of hypertables and chunks.
    pub fn model(&self) -> Result<Model, CatalogError> {
        Model::new(self)
    }
}

/// What a hypertable is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One that a user made.
    User,
    /// The rows of a continuous aggregate, which users know by its view.
    Aggregate {
        /// The view.
        view: Name,
        /// The views that the extension keeps beside it: its partial and its direct form.
        internal: Vec<Name>,
    },
    /// What compressed chunks of another hypertable hang on, up to 2.28.
    Compressed,
}

/// The dimension that chunks are first cut by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// Its column.
    pub column: String,
    /// The column's type, as `regtype` prints it.
    pub column_type: String,
}

impl Dimension {
    /// Whether its ranges are whole numbers; all others are microseconds since 1970-01-01 00:00 UTC.
    pub fn is_integer(&self) -> bool {
        matches!(self.column_type.as_str(), "smallint" | "integer" | "bigint")
    }

    /// A range for people: days, moments or numbers.
    pub fn show(&self, (start, end): (i64, i64)) -> String {
        if self.is_integer() {
            return format!("{start} to {end}");
        }
        let (start, end) = (moment(start), moment(end));
        match (start.strip_suffix(MIDNIGHT), end.strip_suffix(MIDNIGHT)) {
            (Some(start), Some(end)) => format!("{start} to {end}"),
            _ => format!("{start} to {end}"),
        }
    }

    /// Whether a range is a moment; without this it is what a clock without a zone showed.
    pub fn has_zone(&self) -> bool {
        !matches!(
            self.column_type.as_str(),
            "date" | "timestamp without time zone"
        )
    }
}

/// What a day begins with.
const MIDNIGHT: &str = " 00:00:00";

/// Microseconds since 1970-01-01 00:00 UTC for people.
fn moment(microseconds: i64) -> String {
    match jiff::Timestamp::from_microsecond(microseconds) {
        Ok(moment) => moment.strftime("%F %T").to_string(),
        // The first and the last slice of all.
        Err(_) if microseconds < 0 => "the beginning".to_owned(),
        Err(_) => "the end".to_owned(),
    }
}

/// A hypertable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypertable {
    /// Its table.
    pub table: Name,
    /// What it is for.
    pub kind: Kind,
    /// The dimension that chunks are first cut by.
    pub dimension: Option<Dimension>,
    /// The hypertable that this continuous aggregate aggregates.
    pub raw: Option<i64>,
    /// The hypertable that its compressed chunks hang on, up to 2.28.
    pub compressed: Option<i64>,
}

impl Hypertable {
    /// The name that its users know.
    pub fn display_name(&self) -> String {
        let (schema, name) = self.known_as();
        format!("{schema}.{name}")
    }

    /// Schema and name that its users know: of a continuous aggregate those of its view.
    pub fn known_as(&self) -> &Name {
        match &self.kind {
            Kind::Aggregate { view, .. } => view,
            _ => &self.table,
        }
    }
}

/// A chunk of a hypertable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its number.
    pub id: i64,
    /// Its hypertable.
    pub hypertable: i64,
    /// Its table.
    pub table: Name,
    /// The relation with its compressed rows.
    pub compressed: Option<Name>,
    /// What it covers of the first dimension: from, and up to but without.
    pub range: Option<(i64, i64)>,
    /// Whether its rows are in object storage.
    pub tiered: bool,
}

/// What the catalog says of hypertables and chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// By number.
    pub hypertables: BTreeMap<i64, Hypertable>,
    /// Those of hypertables with rows of users; what holds compressed rows is named by them.
    pub chunks: Vec<Chunk>,
}

impl Model {
    fn new(catalog: &Catalog) -> Result<Model, CatalogError> {
        let mut views = HashMap::new();
        for row in catalog.rows("continuous_agg") {
            let view = |which: &str| {
                row.relation(
                    "",
                    &format!("{which}_view_schema"),
                    &format!("{which}_view_name"),
                )
            };
            if let (Some(id), Some(user)) = (row.number("mat_hypertable_id")?, view("user")) {
                let internal = ["partial", "direct"].into_iter().filter_map(view).collect();
                let kind = Kind::Aggregate {
                    view: user,
                    internal,
                };
                views.insert(id, (kind, row.number("raw_hypertable_id")?));
            }
        }
        let mut compressed_hypertables = Vec::new();
        for row in catalog.rows("hypertable") {
            compressed_hypertables.extend(row.number("compressed_hypertable_id")?);
        }
        let mut hypertables = BTreeMap::new();
        for row in catalog.rows("hypertable") {
            let (Some(id), Some(table)) = (
                row.number("id")?,
                row.relation("relid", "schema_name", "table_name"),
            ) else {
                continue;
            };
            let (kind, raw) = match views.remove(&id) {
                Some((kind, raw)) => (kind, raw),
                None if compressed_hypertables.contains(&id) => (Kind::Compressed, None),
                None => (Kind::User, None),
            };
            hypertables.insert(
                id,
                Hypertable {
                    table,
                    kind,
                    dimension: None,
                    raw,
                    compressed: row.number("compressed_hypertable_id")?,
                },
            );
        }
        // The first of a hypertable's dimensions has the lowest number.
        let mut first: HashMap<i64, i64> = HashMap::new();
        for row in catalog.rows("dimension") {
            let (Some(id), Some(of)) = (row.number("id")?, row.number("hypertable_id")?) else {
                continue;
            };
            if row.get("interval_length").is_none() || first.get(&of).is_some_and(|&n| n < id) {
                continue;
            }
            first.insert(of, id);
            if let Some(hypertable) = hypertables.get_mut(&of) {
                hypertable.dimension = Some(Dimension {
                    column: row.get("column_name").unwrap_or_default().to_owned(),
                    column_type: row.get("column_type").unwrap_or_default().to_owned(),
                });
            }
        }
        let chunks = chunks(catalog, &hypertables, &first)?;
        Ok(Model {
            hypertables,
            chunks,
        })
    }

    /// All relations of a hypertable: its table, its chunks, what holds compressed rows, an aggregate's views.
    pub fn relations_of(&self, hypertable: i64) -> Vec<Name> {
        let Some(found) = self.hypertables.get(&hypertable) else {
            return Vec::new();
        };
        let mut names = vec![found.table.clone()];
        if let Kind::Aggregate { view, internal } = &found.kind {
            names.push(view.clone());
            names.extend(internal.iter().cloned());
        }
        let compressed = found.compressed.and_then(|id| self.hypertables.get(&id));
        names.extend(compressed.map(|h| h.table.clone()));
        for chunk in self.chunks_of(hypertable) {
            names.push(chunk.table.clone());
            names.extend(chunk.compressed.clone());
        }
        names
    }

    /// How the relations of hypertables are called for people: `metrics, 2025-01-01 to 2025-01-08`.
    pub fn labels(&self) -> HashMap<Name, String> {
        let mut labels = HashMap::new();
        for (&id, hypertable) in &self.hypertables {
            let name = hypertable.display_name();
            for chunk in self.chunks_of(id) {
                let range = chunk.range.zip(hypertable.dimension.as_ref());
                let range = range.map_or_else(
                    || format!("chunk {}", chunk.id),
                    |(range, dimension)| dimension.show(range),
                );
                labels.insert(chunk.table.clone(), format!("{name}, {range}"));
                if let Some(compressed) = &chunk.compressed {
                    labels.insert(compressed.clone(), format!("{name}, {range}, compressed"));
                }
            }
        }
        labels
    }

    /// The hypertables that aggregate the given one, directly or through each other.
    pub fn aggregates_on(&self, hypertable: i64) -> Vec<i64> {
        let mut found = Vec::new();
        let mut open = vec![hypertable];
        while let Some(on) = open.pop() {
            for (&id, _) in self.hypertables.iter().filter(|(_, h)| h.raw == Some(on)) {
                if !found.contains(&id) {
                    found.push(id);
                    open.push(id);
                }
            }
        }
        found
    }

    /// The chunks of a hypertable.
    pub fn chunks_of(&self, hypertable: i64) -> impl Iterator<Item = &Chunk> {
        self.chunks
            .iter()
            .filter(move |chunk| chunk.hypertable == hypertable)
    }
}

fn chunks(
    catalog: &Catalog,
    hypertables: &BTreeMap<i64, Hypertable>,
    first_dimension: &HashMap<i64, i64>,
) -> Result<Vec<Chunk>, CatalogError> {
    // Slices by their own number, where constraints refer to them, or by chunk.
    let mut slices: HashMap<i64, (i64, (i64, i64))> = HashMap::new();
    let mut ranges: HashMap<(i64, i64), (i64, i64)> = HashMap::new();
    for row in catalog.rows("dimension_slice") {
        let (Some(id), Some(dimension), Some(start), Some(end)) = (
            row.number("id")?,
            row.number("dimension_id")?,
            row.number("range_start")?,
            row.number("range_end")?,
        ) else {
            continue;
        };
        match row.number("chunk_id")? {
            Some(chunk) => ranges.insert((chunk, dimension), (start, end)),
            None => slices.insert(id, (dimension, (start, end))).map(|s| s.1),
        };
    }
    for row in catalog.rows("chunk_constraint") {
        let slice = row.number("dimension_slice_id")?;
        let slice = slice.and_then(|slice| slices.get(&slice));
        if let (Some(chunk), Some((dimension, range))) = (row.number("chunk_id")?, slice) {
            ranges.insert((chunk, *dimension), *range);
        }
    }
    let mut by_relation = HashMap::new();
    for row in catalog.rows("compression_settings") {
        let relation = row.get("relid").and_then(parse_regclass);
        let compressed = row.get("compress_relid").and_then(parse_regclass);
        if let (Some(relation), Some(compressed)) = (relation, compressed) {
            by_relation.insert(relation, compressed);
        }
    }
    let mut tables = HashMap::new();
    for row in catalog.rows("chunk") {
        let table = row.relation("relid", "schema_name", "table_name");
        if let (Some(id), Some(table)) = (row.number("id")?, table) {
            tables.insert(id, table);
        }
    }
    let mut chunks = Vec::new();
    for row in catalog.rows("chunk") {
        let (Some(id), Some(hypertable)) = (row.number("id")?, row.number("hypertable_id")?) else {
            continue;
        };
        let Some(table) = tables.get(&id) else {
            continue;
        };
        let kind = hypertables.get(&hypertable).map(|h| &h.kind);
        // What was dropped keeps its row, in some versions, for the aggregates on it.
        if kind.is_none_or(|kind| *kind == Kind::Compressed) || row.get("dropped") == Some("t") {
            continue;
        }
        let compressed = match row.number("compressed_chunk_id")? {
            Some(id) => tables.get(&id).cloned(),
            None => by_relation.get(table).cloned(),
        };
        chunks.push(Chunk {
            id,
            hypertable,
            table: table.clone(),
            compressed,
            range: first_dimension
                .get(&hypertable)
                .and_then(|dimension| ranges.get(&(id, *dimension)).copied()),
            tiered: row.get("osm_chunk") == Some("t"),
        });
    }
    Ok(chunks)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A catalog out of tables written as `name`, columns, rows; blanks separate values.
    pub fn catalog(tables: &[(&str, &str, &[&str])]) -> Catalog {
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        Catalog {
            tables: tables
                .iter()
                .map(|(name, columns, rows)| {
                    let rows = rows
                        .iter()
                        .map(|row| {
                            let values = words(row).into_iter();
                            values.map(|v| (v != "\\N").then_some(v)).collect()
                        })
                        .collect();
                    let columns = words(columns);
                    (
                        (SCHEMA.to_owned(), (*name).to_owned()),
                        Rows { columns, rows },
                    )
                })
                .collect(),
        }
    }

    /// One hypertable with a compressed and a plain chunk, an aggregate on it with a chunk, a job: as 2.28 has it.
    pub fn by_name() -> Catalog {
        catalog(&[
            (
                "hypertable",
                "id schema_name table_name compressed_hypertable_id status",
                &[
                    "1 public m 2 0",
                    "2 i compressed_2 \\N 0",
                    "3 i mat_3 \\N 0",
                ],
            ),
            (
                "dimension",
                "id hypertable_id column_name column_type interval_length",
                &["1 1 at timestamptz 10", "2 3 day timestamptz 10"],
            ),
            (
                "chunk",
                "id hypertable_id schema_name table_name compressed_chunk_id status osm_chunk",
                &[
                    "1 1 i c1 3 9 f",
                    "2 1 i c2 \\N 0 f",
                    "3 2 i z3 \\N 0 f",
                    "4 3 i a4 \\N 0 f",
                ],
            ),
            (
                "chunk_constraint",
                "chunk_id dimension_slice_id constraint_name",
                &["1 1 constraint_1", "2 2 constraint_2", "4 3 constraint_3"],
            ),
            (
                "dimension_slice",
                "id dimension_id range_start range_end",
                &["1 1 0 10", "2 1 10 20", "3 2 0 10"],
            ),
            (
                "compression_settings",
                "relid compress_relid",
                &["public.m \\N", "i.c1 i.z3"],
            ),
            (
                "compression_chunk_size",
                "chunk_id compressed_chunk_id",
                &["1 3"],
            ),
            (
                "continuous_agg",
                "mat_hypertable_id raw_hypertable_id parent_mat_hypertable_id user_view_schema user_view_name",
                &["3 1 \\N public daily"],
            ),
            (
                "continuous_aggs_invalidation_threshold",
                "hypertable_id watermark",
                &["1 5"],
            ),
            (
                "bgw_job",
                "id hypertable_id",
                &["1000 1", "1001 3", "1002 \\N"],
            ),
        ])
    }

    /// The same as 2.29 has it.
    pub fn by_relation() -> Catalog {
        let mut new = by_name();
        let replace = catalog(&[
            (
                "hypertable",
                "id schema_name table_name compressed_hypertable_id status",
                &["1 public m \\N 0", "3 i mat_3 \\N 0"],
            ),
            (
                "chunk",
                "id relid hypertable_id status osm_chunk",
                &["1 i.c1 1 9 f", "2 i.c2 1 0 f", "4 i.a4 3 0 f"],
            ),
            (
                "dimension_slice",
                "id chunk_id dimension_id range_start range_end",
                &["1 1 1 0 10", "2 2 1 10 20", "3 4 2 0 10"],
            ),
        ]);
        new.tables.extend(replace.tables);
        new.tables
            .remove(&(SCHEMA.to_owned(), "chunk_constraint".to_owned()));
        new
    }

    fn name(schema: &str, name: &str) -> Name {
        (schema.to_owned(), name.to_owned())
    }

    #[test]
    fn both_dialects_say_the_same_of_hypertables_and_chunks() {
        let old = by_name().model().unwrap();
        let mut new = by_relation().model().unwrap();
        assert_eq!(old.chunks, new.chunks);
        new.hypertables.insert(2, old.hypertables[&2].clone());
        if let Some(m) = new.hypertables.get_mut(&1) {
            m.compressed = Some(2);
        }
        assert_eq!(old.hypertables, new.hypertables);
        assert_eq!(old.hypertables[&2].kind, Kind::Compressed);
        assert_eq!(old.hypertables[&3].display_name(), "public.daily");
        assert_eq!(old.aggregates_on(1), [3]);
        let relations = old.relations_of(1).into_iter();
        let names: Vec<String> = relations.map(|(_, name)| name).collect();
        assert_eq!(names, ["m", "compressed_2", "c1", "z3", "c2"]);
        let chunks: Vec<_> = old.chunks_of(1).collect();
        assert_eq!(chunks[0].compressed, Some(name("i", "z3")));
        assert_eq!(chunks[0].range, Some((0, 10)));
        assert_eq!((chunks[1].id, &chunks[1].compressed), (2, &None));
        assert_eq!(old.chunks.len(), 3);
    }

    #[test]
    fn chunks_are_called_by_their_hypertable_and_range() {
        let dimension = |column_type: &str| Dimension {
            column: "t".to_owned(),
            column_type: column_type.to_owned(),
        };
        const DAY: i64 = 86_400_000_000;
        let zoned = dimension("timestamp with time zone");
        assert_eq!(zoned.show((0, 7 * DAY)), "1970-01-01 to 1970-01-08");
        let hour = (0, DAY / 24);
        assert_eq!(
            zoned.show(hour),
            "1970-01-01 00:00:00 to 1970-01-01 01:00:00"
        );
        assert_eq!(zoned.show((i64::MIN, i64::MAX)), "the beginning to the end");
        assert_eq!(dimension("bigint").show((-10, 0)), "-10 to 0");
        let labels = by_name().model().unwrap().labels();
        assert!(labels[&name("i", "z3")].ends_with(", compressed"));
        assert!(labels[&name("i", "a4")].starts_with("public.daily, "));
    }

    #[test]
    fn a_relation_is_read_back_from_how_it_prints() {
        assert_eq!(parse_regclass("public.m"), Some(name("public", "m")));
        assert_eq!(
            parse_regclass("\"Odd \"\" Schema\".\"Spa ce\""),
            Some(name("Odd \" Schema", "Spa ce"))
        );
        assert_eq!(
            parse_regclass("pg_class"),
            Some(name("pg_catalog", "pg_class"))
        );
        assert_eq!(parse_regclass("\"1\""), None);
        for gone in ["16412", "", "-", "\"open", "a.b.c", "\"a\"b"] {
            assert_eq!(parse_regclass(gone), None, "{gone}");
        }
    }

    #[test]
    fn rows_come_back_from_the_text_of_a_copy() {
        let text = "1\tplain\t\\N\n2\ta\\tb\\nc\\\\d\te\\r\\b\\f\\v\n3\t\t\\\\N\n";
        let columns = ["a", "b", "c"].map(str::to_owned).to_vec();
        let rows = Rows::parse(columns.clone(), text).unwrap();
        assert_eq!(rows.to_copy_text(), text);
        assert_eq!(rows.rows[1][1].as_deref(), Some("a\tb\nc\\d"));
        assert_eq!(rows.rows[2][2].as_deref(), Some("\\N"));
        assert_eq!(rows.rows[0][2], None);
        for wrong in ["1\t2\n", "1\t2\t3\t4\n", "1\t2\t\\q\n", "1\t2\t\\"] {
            assert!(Rows::parse(columns.clone(), wrong).is_err(), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_value_survives_the_text_of_a_copy(values in proptest::collection::vec(proptest::option::of("(?s)[^\0]*"), 1..5)) {
            let columns: Vec<String> = (0..values.len()).map(|n| n.to_string()).collect();
            let rows = Rows { columns: columns.clone(), rows: vec![values] };
            proptest::prop_assert_eq!(Rows::parse(columns, &rows.to_copy_text()).unwrap(), rows);
        }

        #[test]
        fn no_text_is_too_strange_to_be_refused(text in "(?s).*") {
            let _ = Rows::parse(vec!["a".to_owned()], &text);
            let _ = parse_regclass(&text);
        }

        #[test]
        fn any_relation_is_found_by_its_quoted_name(schema in "[^\0]{1,8}", table in "[^\0]{1,8}") {
            let quoted = crate::pg::catalog::qualified(&schema, &table);
            proptest::prop_assert_eq!(parse_regclass(&quoted), Some((schema, table)));
        }
    }
}
