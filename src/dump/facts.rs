//! Facts of the schema that rows do not tell and `pg_dump` says in SQL only, kept as tables of text: an export needs
//! them without a server to ask.

use std::collections::HashMap;

use crate::pg::catalog::{self, TypeRow};
use crate::repo::model::TableRole;

use super::catalogs::{catalog_relation, facts_table};
use super::plan::PlannedTable;

/// Columns of the table of types; see [`TableRole::Types`] and `docs/format.md`.
const TYPE_COLUMNS: &[&str] = &[
    "type",
    "kind",
    "extension",
    "name",
    "delimiter",
    "position",
    "member",
];

/// The table of the types that columns are made of, but for what came with the server; nothing if there are none.
///
/// It has no OIDs in it, so that it is the same for equal databases. Arrays are left out: their name says what they
/// are, that of their element with `[]` behind it.
pub fn types(rows: &HashMap<u32, TypeRow>, relations: &[u32]) -> Option<PlannedTable> {
    rows.values()
        .any(|row| !row.builtin || row.kind == 'c')
        .then(|| {
            let query = format!(
                "{} SELECT pg_catalog.format_type(t.oid, NULL) AS type, t.typtype AS kind, e.extname AS extension, t.typname AS name,
                   t.typdelim AS delimiter, m.position, pg_catalog.format_type(m.oid, NULL) AS member
                 FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
                 JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
                 LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                   AND d.objid = t.oid AND d.deptype = 'e'
                 LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                 LEFT JOIN LATERAL (
                   SELECT 1 AS position, t.typbasetype AS oid WHERE t.typtype = 'd'
                   UNION ALL SELECT 1, r.rngsubtype FROM pg_catalog.pg_range r WHERE t.typtype = 'r' AND r.rngtypid = t.oid
                   UNION ALL SELECT 1, r.rngtypid FROM pg_catalog.pg_range r WHERE t.typtype = 'm' AND r.rngmultitypid = t.oid
                   UNION ALL SELECT pg_catalog.row_number() OVER (ORDER BY a.attnum), a.atttypid FROM pg_catalog.pg_attribute a
                     WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                 ) m ON true
                 WHERE t.typsubscript <> 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
                   AND (n.nspname <> 'pg_catalog' OR t.oid >= 16384 OR t.typtype = 'c')
                 ORDER BY 1, 6",
                catalog::with_used_types(relations)
            );
            facts_table(
                catalog_relation(catalog::TYPE_OID, "pg_type"),
                TableRole::Types,
                TYPE_COLUMNS,
                &query,
            )
        })
}

/// Which of the extensions' configuration tables refer to which others; nothing if there are not even two.
pub fn config_references(tables: &[PlannedTable]) -> Option<PlannedTable> {
    let oids: Vec<u32> = tables
        .iter()
        .map(|table| &table.relation)
        .filter(|relation| relation.config.is_some())
        .map(|relation| relation.oid)
        .collect();
    (oids.len() > 1).then(|| {
        let oids = catalog::oid_array(&oids);
        let query = format!(
            "SELECT DISTINCT cn.nspname AS schema, c.relname AS \"table\", pn.nspname AS referenced_schema, p.relname AS referenced_table
             FROM pg_catalog.pg_constraint k
             JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
             JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
             WHERE k.contype = 'f' AND k.conrelid <> k.confrelid
               AND k.conrelid = ANY ('{oids}'::pg_catalog.oid[]) AND k.confrelid = ANY ('{oids}'::pg_catalog.oid[])
             ORDER BY 1, 2, 3, 4"
        );
        facts_table(
            catalog_relation(catalog::CONSTRAINT_OID, "pg_constraint"),
            TableRole::ConfigReferences,
            &["schema", "table", "referenced_schema", "referenced_table"],
            &query,
        )
    })
}
