//! The extension's catalog as rows of text: read from a server or from a snapshot, in every dialect.
//!
//! Up to 2.28 a chunk is named by schema and table, from 2.29 on by its `regclass`; up to 2.27 its ranges hang on
//! `chunk_constraint`, from 2.28 on on the chunk itself. Columns are found by their names, and only those are looked at
//! that mean something here: all others travel as they are.

use std::collections::BTreeMap;

use crate::pg::catalog::Name;
use crate::pg::printed;

use super::model::Model;

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
    /// Parses rows as COPY sends them in its text format.
    pub fn parse(columns: Vec<String>, text: &str) -> Result<Rows, CatalogError> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let row = line
                .split('\t')
                .map(printed::copy_field)
                .collect::<Result<Vec<Option<String>>, _>>()
                .ok()
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
                printed::push_copy_field(&mut out, value.as_deref());
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
    let (first, rest) = name_before_dot(text)?;
    match rest.strip_prefix('.') {
        Some(rest) => {
            let (second, rest) = name_before_dot(rest)?;
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
    match name_before_dot(text) {
        Some((name, "")) => Some(name),
        _ => None,
    }
}

/// A name that is not empty, and what comes after it.
fn name_before_dot(text: &str) -> Option<(String, &str)> {
    printed::identifier(text, &['.']).filter(|(name, _)| !name.is_empty())
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
