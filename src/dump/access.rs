//! What the role that dumps may not read: known before anything is read, so that nothing is left out in silence.

use std::collections::HashSet;

use crate::pg::catalog::{self, Name, Relation, oid_array, quote_literal};
use crate::pg::{Connection, Error, families};
use crate::schema::selection::Selection;

use super::DumpOptions;
use super::select::Selector;

/// What is missing in a dump by a role that may read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Tables that have rows which row security may hide from it.
    pub hidden: HashSet<u32>,
    /// What else is missing, a line each.
    pub missing: Vec<String>,
}

fn is_superuser(conn: &Connection) -> bool {
    conn.parameter("is_superuser") == Some("on")
}

/// What is to be dumped and the role may not read at all, a line each: the dump cannot be. Asked before anything is
/// locked, as locking is reading.
pub fn refused(
    conn: &mut Connection,
    selector: &Selector<'_>,
    selection: &Selection,
) -> Result<Vec<String>, Error> {
    if is_superuser(conn) {
        return Ok(Vec::new());
    }
    let choice = selector.choose(conn)?;
    let oids: Vec<u32> = choice.relations.iter().map(|r| r.oid).collect();
    let unreadable = families::unreadable(conn, &oids)?;
    let tables = choice.relations.iter();
    let mut refused: Vec<String> = tables
        .filter(|r| unreadable.contains(&r.oid))
        .map(|r| format!("table {}", r.display_name()))
        .collect();
    // pg_dump reads their values, even for the schema alone.
    let wanted = |name: &Name| {
        selection.selects(name, &choice.known) && !choice.is_unwanted(selection, name)
    };
    let sequences = families::unreadable_sequences(conn)?.into_iter();
    refused.extend(
        sequences
            .filter(wanted)
            .map(|(schema, name)| format!("sequence {schema}.{name}")),
    );
    if selection.wants_large_objects()
        && catalog::has_large_objects(conn)?
        && !may_select(conn, "pg_catalog.pg_largeobject")?
    {
        refused.push("the large objects (--no-large-objects leaves them out)".to_owned());
    }
    Ok(refused)
}

/// What is missing in these tables, and in what is dumped beside them.
pub fn look(
    conn: &mut Connection,
    relations: &[Relation],
    options: &DumpOptions,
) -> Result<Access, Error> {
    let mut access = Access::default();
    if is_superuser(conn) {
        return Ok(access);
    }
    let selection = &options.selection;
    if !options.row_security {
        access.hidden = hidden(conn, relations)?;
    }
    // Neither comes with what is chosen by name.
    if selection.is_everything() && selection.sections.post_data && !selection.skip.subscriptions {
        access.missing.extend(subscriptions(conn)?);
    }
    if selection.is_everything() && selection.sections.pre_data {
        access.missing.extend(user_mappings(conn)?);
    }
    Ok(access)
}

fn may_select(conn: &mut Connection, table: &str) -> Result<bool, Error> {
    let rows = conn.query(&format!(
        "SELECT pg_catalog.has_table_privilege({}, 'SELECT')",
        quote_literal(table)
    ))?;
    rows.first().map_or(Ok(false), |row| row.get_bool(0))
}

/// Tables whose row security applies to the role: reading them is an error with row_security off, and gives a part of
/// the rows with it on.
fn hidden(conn: &mut Connection, relations: &[Relation]) -> Result<HashSet<u32>, Error> {
    let oids: Vec<u32> = relations.iter().map(|r| r.oid).collect();
    let rows = conn.query(&format!(
        "SELECT c.oid FROM pg_catalog.pg_class c
         WHERE c.oid = ANY ('{}'::pg_catalog.oid[]) AND c.relrowsecurity AND pg_catalog.row_security_active(c.oid)",
        oid_array(&oids)
    ))?;
    rows.iter()
        .map(|row| Ok(u32::try_from(row.get_i64(0)?).unwrap_or_default()))
        .collect()
}

/// Subscriptions, which `pg_dump` gives to superusers only.
fn subscriptions(conn: &mut Connection) -> Result<Vec<String>, Error> {
    let rows = conn.query(
        "SELECT s.subname FROM pg_catalog.pg_subscription s
         JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
         WHERE d.datname = pg_catalog.current_database() ORDER BY s.subname",
    )?;
    let say = |name: &str| format!("subscription {name} is left out: only a superuser can dump it");
    rows.iter().map(|row| Ok(say(row.text(0)?))).collect()
}

/// User mappings whose options the role does not see. Who may not read them cannot know whether there are any.
fn user_mappings(conn: &mut Connection) -> Result<Vec<String>, Error> {
    let known = may_select(conn, "pg_catalog.pg_user_mapping")?;
    let has_options = if known {
        "EXISTS (SELECT FROM pg_catalog.pg_user_mapping m WHERE m.oid = v.umid AND m.umoptions IS NOT NULL)"
    } else {
        // By what the view shows them, or not.
        "NOT CASE WHEN v.umuser = 0 THEN pg_catalog.pg_has_role(s.srvowner, 'USAGE')
           ELSE v.usename = CURRENT_USER AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE')
             OR pg_catalog.has_server_privilege(s.oid, 'USAGE')) END"
    };
    let rows = conn.query(&format!(
        "SELECT v.usename, v.srvname FROM pg_catalog.pg_user_mappings v
         JOIN pg_catalog.pg_foreign_server s ON s.oid = v.srvid
         WHERE v.umoptions IS NULL AND {has_options} ORDER BY v.srvname, v.usename"
    ))?;
    let missing = if known {
        "are left out"
    } else {
        "are left out, if it has any"
    };
    rows.iter()
        .map(|row| {
            Ok(format!(
                "the options of the user mapping for {} at server {} {missing}: they are hidden from the role",
                row.text(0)?,
                row.text(1)?
            ))
        })
        .collect()
}
