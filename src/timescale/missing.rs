//! The values that compressed rows have in columns which were added after compression.
//!
//! `ALTER TABLE ... ADD COLUMN ... DEFAULT` does not touch the rows that are there: PostgreSQL stores the default once, as
//! the value that they are missing (`pg_attribute.attmissingval`). Rows that are read and written again have the value in
//! them, but the compressed rows of a chunk do not: they ask the chunk's column for it when they are decompressed. A
//! column that is created with its table has no missing value, and these rows would come back with NULL.

use std::collections::BTreeMap;

use crate::pg::catalog::{Name, oid_array, qualified, quote_ident, quote_literal};
use crate::pg::{Connection, Error};

use super::catalog::Rows;

/// The table that lends its missing values.
const LENDER: &str = "pgtide_missing";
/// Columns of the lender: well below what a table may have.
const LENDER_COLUMNS: usize = 400;
/// Columns of the query's result.
pub const COLUMNS: [&str; 5] = ["schema", "table", "column", "type", "value"];

/// The query for the missing values of the given relations, as text.
pub fn query(oids: &[u32]) -> String {
    // An array of one element, of a type that no expression may look into but by its text.
    format!(
        "SELECT n.nspname AS schema, c.relname AS \"table\", a.attname AS \"column\",
           pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, (a.attmissingval::text::text[])[1] AS value
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE a.attrelid = ANY ('{}'::pg_catalog.oid[]) AND a.atthasmissing AND NOT a.attisdropped AND a.attnum > 0
         ORDER BY n.nspname, c.relname, a.attnum",
        oid_array(oids)
    )
}

/// Gives columns their missing values again, in a transaction that the caller has begun. Rows of tables for which
/// `restored` is false are passed over. Needs a superuser, as all that writes to PostgreSQL's own catalog does.
///
/// A column added to an empty table stores its default as missing, too: a temporary table lends its values, one column
/// for each value of each type, and one statement copies them to all the columns that miss them.
pub fn restore(
    conn: &mut Connection,
    rows: &Rows,
    restored: &dyn Fn(&Name) -> bool,
) -> Result<(), Error> {
    let mut values: BTreeMap<(&str, &str), Vec<(String, &str)>> = BTreeMap::new();
    for row in &rows.rows {
        let [
            Some(schema),
            Some(table),
            Some(column),
            Some(data_type),
            Some(value),
        ] = &row[..]
        else {
            return Err(Error::Protocol(
                "a missing value without its column".to_owned(),
            ));
        };
        if restored(&(schema.clone(), table.clone())) {
            let columns = values.entry((data_type, value)).or_default();
            columns.push((qualified(schema, table), column));
        }
    }
    let values: Vec<_> = values.into_iter().collect();
    for values in values.chunks(LENDER_COLUMNS) {
        let mut lender =
            format!("CREATE TEMPORARY TABLE {LENDER} (); ALTER TABLE pg_temp.{LENDER}");
        let mut targets = Vec::new();
        for (n, ((data_type, value), columns)) in values.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            lender.push_str(&format!(
                "{comma} ADD COLUMN m{n} {data_type} DEFAULT {}::{data_type}",
                quote_literal(value)
            ));
            targets.extend(columns.iter().map(|(table, column)| {
                let (table, column) = (quote_literal(table), quote_literal(column));
                format!("({table}::pg_catalog.regclass, {column}, 'm{n}')")
            }));
        }
        conn.execute(&lender)?;
        conn.execute(&format!(
            "UPDATE pg_catalog.pg_attribute a SET atthasmissing = true, attmissingval = m.attmissingval
             FROM pg_catalog.pg_attribute m, (VALUES {}) v(relid, attname, lender)
             WHERE m.attrelid = 'pg_temp.{LENDER}'::pg_catalog.regclass AND m.attname = v.lender
               AND a.attrelid = v.relid AND a.attname = v.attname AND NOT a.attisdropped;
             DROP TABLE pg_temp.{}",
            targets.join(", "),
            quote_ident(LENDER)
        ))?;
    }
    Ok(())
}
