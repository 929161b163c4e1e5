//! What is read of PostgreSQL's own catalogs: large objects, missing values, statistics.

use std::collections::{HashMap, HashSet};

use crate::pg::catalog::{self, Name, Relation, TypeRow};
use crate::pg::{Connection, Error, statistics};
use crate::repo::model::{Column, TableRole};
use crate::repo::outline::KnownTables;
use crate::rows::{ColumnKind, DigestPlan, Format, Shape};
use crate::schema::selection::Selection;
use crate::timescale::missing;

use super::plan::{self, Facts, PlannedTable, Rows, SEGMENT_PAGES};

/// The pages of all large objects, read like any table, and what belongs to each: owner, privileges, comment.
pub fn large_objects(
    conn: &mut Connection,
    type_rows: &HashMap<u32, TypeRow>,
    facts: &Facts,
    selection: &Selection,
    previous: &KnownTables,
) -> Result<[PlannedTable; 2], Error> {
    let oid = catalog::LARGE_OBJECT_OID;
    let attributes = catalog::attributes(conn, &[oid])?.remove(&oid);
    let sizes = catalog::sizes(conn, &[oid])?.remove(&oid);
    let mut types = type_rows.clone();
    types.extend(catalog::types(conn, &[oid])?);
    let pages = catalog_relation(oid, "pg_largeobject");
    let pages = plan::table(
        &pages,
        &attributes.unwrap_or_default(),
        &types,
        sizes.unwrap_or_default(),
        facts,
        None,
        previous,
    );

    let metadata = facts_table(
        catalog_relation(
            catalog::LARGE_OBJECT_METADATA_OID,
            "pg_largeobject_metadata",
        ),
        TableRole::LargeObjectMetadata,
        &["oid", "owner", "acl", "comment", "labels"],
        &catalog::large_object_metadata_query(|column| match column {
            "owner" => !selection.no_owner,
            "acl" => !selection.skip.privileges,
            "comment" => !selection.skip.comments,
            "labels" => !selection.skip.security_labels,
            _ => true,
        }),
    );
    Ok([pages, metadata])
}

/// What rows of some tables have in columns which were added after them.
pub fn missing_values(query: &str) -> PlannedTable {
    facts_table(
        catalog_relation(catalog::ATTRIBUTE_OID, "pg_attribute"),
        TableRole::MissingValues,
        &missing::COLUMNS,
        query,
    )
}

/// The statistics of all relations that tell of nothing but the rows of these tables, those of which all are read.
pub fn planner_statistics(
    conn: &mut Connection,
    tables: &[PlannedTable],
    rows: &Rows<'_>,
    notes: &mut Vec<String>,
) -> Result<PlannedTable, Error> {
    let all = |table: &&PlannedTable| {
        table.role == TableRole::Plain && table.query.is_none() && table.condition.is_none()
    };
    let read: HashSet<u32> = tables.iter().filter(all).map(|t| t.relation.oid).collect();
    let Rows {
        selection, known, ..
    } = rows;
    let wanted =
        |name: &Name| selection.selects(name, known) && !selection.excludes_data(name, known);
    let told = statistics::told_by(conn, &Vec::from_iter(read.iter().copied()))?;
    let told = told.into_iter();
    let oids: Vec<u32> = told
        .filter(|(oid, name)| read.contains(oid) || wanted(name))
        .map(|(oid, _)| oid)
        .collect();
    if let (number, Some((schema, name))) = statistics::hidden(conn, &oids)? {
        let others = match number {
            1 => String::new(),
            number => format!(" and {} other tables", number - 1),
        };
        notes.push(format!(
            "statistics of {schema}.{name}{others} are not in the snapshot: the role may not see all of them"
        ));
    }
    let names = statistics::COLUMNS.map(|(name, _)| name);
    let query = statistics::query(conn.server_version(), &oids);
    Ok(facts_table(
        catalog_relation(statistics::RELATION_OID, "pg_statistic"),
        TableRole::Statistics,
        &names,
        &query,
    ))
}

/// A catalog of PostgreSQL's own. The guard of files is not for these: nobody rewrites them under a lock of ours.
pub fn catalog_relation(oid: u32, name: &str) -> Relation {
    Relation {
        oid,
        schema: "pg_catalog".to_owned(),
        name: name.to_owned(),
        kind: 'r',
        unlogged: false,
        heap: true,
        filenode: 0,
        config: None,
        fingerprint: String::new(),
    }
}

/// Facts of the catalogs, asked by a query and kept as a table of text.
pub fn facts_table(
    relation: Relation,
    role: TableRole,
    names: &[&str],
    query: &str,
) -> PlannedTable {
    let columns: Vec<Column> = names
        .iter()
        .map(|&name| Column {
            name: name.to_owned(),
            type_name: "text".to_owned(),
            kind: ColumnKind::Text,
            shape: Shape::Plain,
        })
        .collect();
    let digest_columns: Vec<(String, Shape)> = columns
        .iter()
        .map(|c| (c.name.clone(), Shape::Plain))
        .collect();
    PlannedTable {
        relation,
        role,
        kinds: vec![ColumnKind::Text; columns.len()],
        columns,
        query: Some(query.to_owned()),
        format: Format::Text,
        digest: DigestPlan::new(Format::Text, &digest_columns),
        load_through: None,
        segments: 1,
        segment_pages: SEGMENT_PAGES,
        bytes: 0,
        condition: None,
        previous: None,
    }
}
