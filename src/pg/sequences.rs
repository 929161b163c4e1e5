//! Values of sequences, which do not follow MVCC.

use super::catalog::{Name, flag, number, qualified, text};
use super::{Connection, Error, Row};

/// A sequence, its value, and the extension whose configuration it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceRow {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Extension that lists it among its configuration.
    pub extension: Option<String>,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

/// The values of those sequences of users and of extensions' configuration that are wanted, as they are now: sequences do not follow
/// MVCC, so a value is the snapshot's or later. A standby does not have unlogged ones.
pub fn sequences(
    conn: &mut Connection,
    wanted: &dyn Fn(&Name, Option<&str>) -> bool,
) -> Result<Vec<SequenceRow>, Error> {
    // Before 18 a sequence can only be read by name; one query joins them all.
    let names = conn.query(
        "SELECT n.nspname, c.relname, e.extname
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_catalog.pg_extension e ON c.oid = ANY (e.extconfig)
         WHERE c.relkind = 'S' AND c.relpersistence <> 't'
           AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           AND (e.oid IS NOT NULL OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'))
         ORDER BY n.nspname, c.relname",
    )?;
    let names: Vec<Row> = names
        .into_iter()
        .filter(|row| match (row.get(0), row.get(1)) {
            (Some(schema), Some(name)) => wanted(&(schema.to_owned(), name.to_owned()), row.get(2)),
            _ => false,
        })
        .collect();
    let mut found = Vec::with_capacity(names.len());
    for names in names.chunks(500) {
        let mut parts = Vec::with_capacity(names.len());
        for (number, row) in names.iter().enumerate() {
            parts.push(format!(
                "SELECT {number}, last_value, is_called FROM {}",
                qualified(&text(row, 0)?, &text(row, 1)?)
            ));
        }
        for value in conn.query(&parts.join(" UNION ALL "))? {
            let row = &names[number::<usize>(&value, 0)?];
            found.push(SequenceRow {
                schema: text(row, 0)?,
                name: text(row, 1)?,
                extension: row.get(2).map(str::to_owned),
                last_value: number(&value, 1)?,
                is_called: flag(&value, 2),
            });
        }
    }
    found.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    Ok(found)
}
