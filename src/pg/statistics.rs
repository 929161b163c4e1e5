//! What the planner knows of relations and their columns: how it is read from any server, and given to one from
//! PostgreSQL 18 on, by the functions that `pg_restore` uses, too.

use super::catalog::{Name, number, oid_array, text};
use super::{Connection, Error};

/// OID of `pg_statistic`, the same in every database.
pub const RELATION_OID: u32 = 2619;
/// The oldest server that takes statistics.
pub const OLDEST_TAKER: i32 = 180_000;

/// Columns of the query's result, with their types. A row is of a relation, or, where `inherited` is not null, of one of
/// its columns: that of a table by its name, that of an index by its number, as its name may be another after a restore.
pub const COLUMNS: [(&str, &str); 24] = [
    ("schema", "text"),
    ("table", "text"),
    ("index", "text"),
    ("relpages", "int4"),
    ("reltuples", "float4"),
    ("relallvisible", "int4"),
    ("relallfrozen", "int4"),
    ("attname", "text"),
    ("attnum", "int2"),
    ("inherited", "bool"),
    ("null_frac", "float4"),
    ("avg_width", "int4"),
    ("n_distinct", "float4"),
    ("most_common_vals", "text"),
    ("most_common_freqs", "float4[]"),
    ("histogram_bounds", "text"),
    ("correlation", "float4"),
    ("most_common_elems", "text"),
    ("most_common_elem_freqs", "float4[]"),
    ("elem_count_histogram", "float4[]"),
    ("range_length_histogram", "text"),
    ("range_empty_frac", "float4"),
    ("range_bounds_histogram", "text"),
    ("version", "int4"),
];

/// Where the columns of a relation begin and end in [`COLUMNS`], and those of a column.
const OF_RELATION: std::ops::Range<usize> = 3..7;
const OF_COLUMN: std::ops::Range<usize> = 7..23;

/// Tables, partitioned tables, materialised views and foreign tables whose statistics tell of nothing but the rows of
/// the given tables. Statistics hold values: those of a table that is left out stay with it.
pub fn told_by(conn: &mut Connection, tables: &[u32]) -> Result<Vec<(u32, Name)>, Error> {
    let rows = conn.query(&format!(
        "WITH RECURSIVE read AS MATERIALIZED (
           SELECT pg_catalog.unnest('{}'::pg_catalog.oid[]) AS oid
         ), own AS MATERIALIZED (
           SELECT c.oid, c.relkind, n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
             AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.objid = c.oid AND d.deptype = 'e')
         ), unread AS MATERIALIZED (
           SELECT o.oid FROM own o WHERE o.relkind = 'r' AND NOT EXISTS (SELECT FROM read r WHERE r.oid = o.oid)
         ), above(oid) AS (
           SELECT i.inhparent FROM unread u JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.oid
           UNION
           SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.oid
         )
         SELECT o.oid, o.nspname, o.relname FROM own o
         WHERE (o.relkind <> 'r' OR EXISTS (SELECT FROM read r WHERE r.oid = o.oid))
           AND (o.relkind <> 'm' OR NOT EXISTS (SELECT FROM unread))
           AND NOT EXISTS (SELECT FROM above a WHERE a.oid = o.oid)
         ORDER BY o.oid",
        oid_array(tables)
    ))?;
    let told = |row| Ok((number(row, 0)?, (text(row, 1)?, text(row, 2)?)));
    rows.iter().map(told).collect()
}

/// Those of the relations whose statistics the role may not see, or not of all columns: how many, and the first of them.
pub fn hidden(conn: &mut Connection, oids: &[u32]) -> Result<(u64, Option<Name>), Error> {
    let rows = conn.query(&format!(
        "SELECT n.nspname, c.relname, pg_catalog.count(*) OVER ()
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = ANY ('{}'::pg_catalog.oid[]) AND (c.relrowsecurity AND pg_catalog.row_security_active(c.oid)
           OR NOT pg_catalog.has_table_privilege(c.oid, 'select') AND EXISTS (SELECT FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'select')))
         ORDER BY n.nspname, c.relname LIMIT 1",
        oid_array(oids)
    ))?;
    match rows.first() {
        Some(row) => Ok((number(row, 2)?, Some((text(row, 0)?, text(row, 1)?)))),
        None => Ok((0, None)),
    }
}

/// The query for the statistics of the given relations and their indexes, for a server of this version. What it knows of
/// extended statistics objects is not among them: no server takes that.
pub fn query(version: i32, oids: &[u32]) -> String {
    let since = |least: i32, column: &'static str| if version >= least { column } else { "NULL" };
    let null = |range: std::ops::Range<usize>| {
        let nulls = COLUMNS[range]
            .iter()
            .map(|(_, kind)| format!("NULL::{kind}"));
        nulls.collect::<Vec<_>>().join(", ")
    };
    format!(
        "WITH rel AS MATERIALIZED (
           SELECT c.oid, n.nspname, t.relname AS \"table\", CASE WHEN i.indexrelid IS NOT NULL THEN c.relname END AS index,
             c.relname, c.relpages, c.reltuples, c.relallvisible, {frozen}::int4 AS relallfrozen
           FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
           JOIN pg_catalog.pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
           JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
           WHERE t.oid = ANY ('{oids}'::pg_catalog.oid[])
         )
         SELECT r.nspname, r.\"table\", r.index, r.relpages, r.reltuples, r.relallvisible, r.relallfrozen, {no_column}, {version} AS version
         FROM rel r
         UNION ALL
         SELECT r.nspname, r.\"table\", r.index, {no_relation},
           CASE WHEN r.index IS NULL THEN s.attname END, CASE WHEN r.index IS NOT NULL THEN a.attnum END, s.inherited,
           s.null_frac, s.avg_width, s.n_distinct, s.most_common_vals::text, s.most_common_freqs, s.histogram_bounds::text,
           s.correlation, s.most_common_elems::text, s.most_common_elem_freqs, s.elem_count_histogram,
           {lengths}::text, {empty}::float4, {bounds}::text, {version}
         FROM rel r JOIN pg_catalog.pg_stats s ON s.schemaname = r.nspname AND s.tablename = r.relname
         JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attname = s.attname
         ORDER BY 1, 2, 3 NULLS FIRST, 10 NULLS FIRST, 8, 9",
        frozen = since(180_000, "c.relallfrozen"),
        oids = oid_array(oids),
        no_column = null(OF_COLUMN),
        no_relation = null(OF_RELATION),
        lengths = since(170_000, "s.range_length_histogram"),
        empty = since(170_000, "s.range_empty_frac"),
        bounds = since(170_000, "s.range_bounds_histogram"),
    )
}

/// The query that gives statistics to the relations that rows of [`COLUMNS`] are of: to relations, or to columns. `from` is
/// what follows FROM; it calls the rows `s`.
pub fn give(columns: bool, from: &str) -> String {
    let (function, range) = if columns {
        ("pg_restore_attribute_stats", OF_COLUMN)
    } else {
        ("pg_restore_relation_stats", OF_RELATION)
    };
    let values = COLUMNS[range].iter().chain(&COLUMNS[23..]);
    let values: Vec<String> = values
        .map(|(name, _)| format!("'{name}', s.{name}"))
        .collect();
    let wanted = if columns { "IS NOT NULL" } else { "IS NULL" };
    format!(
        "SELECT pg_catalog.count(pg_catalog.{function}('schemaname', s.schema, 'relname', coalesce(s.index, s.\"table\"), {}))
         FROM {from} AND s.inherited {wanted}",
        values.join(", ")
    )
}
