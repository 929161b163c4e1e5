//! What the catalog says of names and families of relations: whatever patterns of names are understood by.

use std::collections::{HashMap, HashSet};

use super::catalog::{Name, Relation, oid_array, quote_literal};
use super::{Connection, Error};

fn name(row: &super::Row, at: usize) -> Option<Name> {
    Some((row.get(at)?.to_owned(), row.get(at + 1)?.to_owned()))
}

/// The schemas in which the session finds bare names, in their order.
pub fn search_path(conn: &mut Connection) -> Result<Vec<String>, Error> {
    let rows = conn.query("SELECT unnest(pg_catalog.current_schemas(true))")?;
    let schemas = rows.iter().filter_map(|row| row.get(0));
    Ok(schemas.map(str::to_owned).collect())
}

/// The tables, views, sequences and foreign tables that their bare names lead to, with such a search path: those that are
/// the first of their name.
pub fn visible(conn: &mut Connection, search_path: &[String]) -> Result<HashSet<Name>, Error> {
    let path: Vec<String> = search_path.iter().map(|s| quote_literal(s)).collect();
    let rows = conn.query(&format!(
        "SELECT v.nspname, v.relname FROM (
         SELECT DISTINCT ON (c.relname) n.nspname, c.relname, c.relkind
         FROM unnest(ARRAY[{}]::pg_catalog.name[]) WITH ORDINALITY AS p(schema, place)
         JOIN pg_catalog.pg_namespace n ON n.nspname = p.schema
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
         ORDER BY c.relname, p.place) v
         WHERE v.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')",
        path.join(",")
    ))?;
    Ok(rows.iter().filter_map(|row| name(row, 0)).collect())
}

/// What each table is a partition or a child of.
pub fn parents(conn: &mut Connection) -> Result<HashMap<Name, Vec<Name>>, Error> {
    let rows = conn.query(
        "SELECT cn.nspname, c.relname, pn.nspname, p.relname FROM pg_catalog.pg_inherits i
         JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
         JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
         WHERE c.relkind IN ('r', 'p', 'f')",
    )?;
    let mut parents: HashMap<Name, Vec<Name>> = HashMap::new();
    for row in &rows {
        if let (Some(child), Some(parent)) = (name(row, 0), name(row, 2)) {
            parents.entry(child).or_default().push(parent);
        }
    }
    Ok(parents)
}

/// Names of the foreign servers.
pub fn foreign_servers(conn: &mut Connection) -> Result<Vec<String>, Error> {
    let rows = conn.query("SELECT srvname FROM pg_catalog.pg_foreign_server ORDER BY srvname")?;
    let names = rows.iter().filter_map(|row| row.get(0));
    Ok(names.map(str::to_owned).collect())
}

/// The foreign tables of some servers. They cannot be locked, and have neither files nor pages.
pub fn foreign_tables(
    conn: &mut Connection,
    server: &dyn Fn(&str) -> bool,
) -> Result<Vec<Relation>, Error> {
    let rows = conn.query(
        "SELECT n.nspname, c.relname, c.oid, s.srvname FROM pg_catalog.pg_foreign_table f
         JOIN pg_catalog.pg_class c ON c.oid = f.ftrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
           WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
         ORDER BY n.nspname, c.relname",
    )?;
    let wanted = rows.iter().filter(|row| row.get(3).is_some_and(server));
    Ok(wanted
        .filter_map(|row| {
            let (schema, table) = name(row, 0)?;
            Some(Relation {
                oid: row.get(2)?.parse().ok()?,
                schema,
                name: table,
                kind: 'f',
                unlogged: false,
                heap: false,
                filenode: 0,
                config: None,
                fingerprint: String::new(),
            })
        })
        .collect())
}

/// Which of the relations the role may not read, or lock by their names. Of what was dropped meanwhile nothing is known.
pub fn unreadable(conn: &mut Connection, oids: &[u32]) -> Result<HashSet<u32>, Error> {
    let rows = conn.query(&format!(
        "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ('{}'::pg_catalog.oid[])
           AND NOT (pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
             AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))",
        oid_array(oids)
    ))?;
    let oids = rows.iter().filter_map(|row| row.get(0)?.parse().ok());
    Ok(oids.collect())
}

/// Sequences of users and of extensions' configuration that the role may not read.
pub fn unreadable_sequences(conn: &mut Connection) -> Result<Vec<Name>, Error> {
    let rows = conn.query(
        "SELECT n.nspname, c.relname
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'S' AND c.relpersistence <> 't'
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           AND (EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig))
             OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
               WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'))
           AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
             AND pg_catalog.has_sequence_privilege(c.oid, 'SELECT'))
         ORDER BY n.nspname, c.relname",
    )?;
    Ok(rows.iter().filter_map(|row| name(row, 0)).collect())
}
