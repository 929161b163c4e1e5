//! What is special in the reading of a database with hypertables.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use crate::pg::catalog::{self, Name, Relation, quote_ident};
use crate::pg::{Connection, Error};

use super::catalog::{Catalog, CatalogError, Rows};
use super::model::Model;
use super::part::{Part, PartError};
use super::{EXTENSION, RESTORING, missing};

/// What is special in the reading of a database with hypertables; nothing in one without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Relations whose rows and definitions are left out.
    pub left_out: HashSet<Name>,
    /// Chunks whose compressed rows are read as rows.
    pub decompressed: HashSet<Name>,
    /// The query for missing values that are needed.
    pub missing: Option<String>,
    /// What the catalog says.
    pub model: Model,
    /// For the user: what was left out without having been asked for.
    pub skipped: Vec<String>,
    /// For the user: what else is worth knowing.
    pub notes: Vec<String>,
}

/// Why hypertables cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// The server said no.
    #[error("could not read TimescaleDB's catalog: {0}")]
    Server(#[from] Error),
    /// The catalog is not understood.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What is to be left out is not there.
    #[error(transparent)]
    Part(#[from] PartError),
    /// Part of the history of a database that has none.
    #[error(
        "the database has no hypertables, so there is no part of their history\nhint: leave out --since and --until"
    )]
    NoHypertables,
    /// Names that the catalog's rows would bring to a restore in another encoding.
    #[error(
        "TimescaleDB's catalog has names beyond ASCII, and the database's encoding is not UTF8: {0:?}\nhint: rename what is called so, or dump with pg_dump"
    )]
    Encoding(String),
    /// A session in which compressed rows would be passed over.
    #[error(
        "{setting} is {value} in the sessions of this dump, so compressed rows would be missing from what --decompress reads\nhint: set it to {wanted} for the role and the database (ALTER ROLE, ALTER DATABASE ... RESET {setting}), or dump without --decompress"
    )]
    Asleep {
        /// The setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Chunks of an access method whose rows COPY does not give.
    #[error(
        "{0}: COPY does not give all rows of chunks that use the access method hypercore (TimescaleDB 2.18 to 2.21)\nhint: bring them back first: ALTER TABLE ... SET ACCESS METHOD heap"
    )]
    AccessMethod(String),
}

/// What is to be read of a database with hypertables.
pub struct Wanted<'a> {
    /// Which part of their history.
    pub part: &'a Part,
    /// Whether a relation is left out by its name.
    pub excluded: &'a dyn Fn(&Name) -> bool,
    /// Whether compressed rows are read as rows.
    pub decompress: bool,
}

/// Looks at the catalog of the database, as the transaction of `conn` sees it.
pub fn reading(
    conn: &mut Connection,
    relations: &[Relation],
    wanted: &Wanted<'_>,
    snapshot: Timestamp,
) -> Result<Reading, ReadingError> {
    let catalog = read_catalog(conn, relations)?;
    let mut values = catalog
        .tables
        .values()
        .flat_map(|t| t.rows.iter().flatten().flatten());
    if conn.parameter("server_encoding") != Some("UTF8")
        && let Some(value) = values.find(|value| !value.is_ascii())
    {
        return Err(ReadingError::Encoding(value.clone()));
    }
    let model = catalog.model()?;
    if model.hypertables.is_empty() && !wanted.part.is_whole() {
        return Err(ReadingError::NoHypertables);
    }
    let oids: HashMap<Name, &Relation> = relations.iter().map(|r| (r.key(), r)).collect();
    let mut strange = model
        .chunks
        .iter()
        .filter_map(|chunk| oids.get(&chunk.table));
    if let Some(chunk) = strange.find(|relation| !relation.heap && relation.kind == 'r') {
        return Err(ReadingError::AccessMethod(chunk.display_name()));
    }
    let left_out = wanted.part.left_out(&model, snapshot, wanted.excluded)?;
    let mut reading = Reading {
        left_out: left_out.relations,
        notes: left_out.notes,
        ..Reading::default()
    };
    let by_name = oids.keys().filter(|name| (wanted.excluded)(name));
    reading.left_out.extend(by_name.cloned());
    leave_tiered(&model, &mut reading);
    let mut compressed = Vec::new();
    for chunk in &model.chunks {
        let Some(relation) = &chunk.compressed else {
            continue;
        };
        if reading.left_out.contains(&chunk.table) {
            continue;
        }
        if wanted.decompress {
            reading.decompressed.insert(chunk.table.clone());
            reading.left_out.insert(relation.clone());
        } else {
            compressed.extend(oids.get(&chunk.table).map(|r| r.oid));
        }
    }
    if !reading.decompressed.is_empty() {
        must_decompress(conn)?;
    }
    reading.missing = (!compressed.is_empty()).then(|| missing::query(&compressed));
    reading.model = model;
    Ok(reading)
}

/// Makes sure that a query on a chunk gives its compressed rows, too: without the extension at work, or with this turned
/// off, it gives those of the heap, and no error.
fn must_decompress(conn: &mut Connection) -> Result<(), ReadingError> {
    for (setting, wanted) in [
        (RESTORING, "off"),
        ("timescaledb.enable_transparent_decompression", "on"),
        ("timescaledb.enable_columnarscan", "on"),
    ] {
        let rows = conn.query(&format!(
            "SELECT pg_catalog.current_setting('{setting}', true)"
        ))?;
        let value = rows.first().and_then(|row| row.get(0));
        // Which of the others there is depends on the version.
        let value = value.unwrap_or(if setting == RESTORING {
            "unknown"
        } else {
            wanted
        });
        if value != wanted {
            return Err(ReadingError::Asleep {
                setting,
                value: value.to_owned(),
                wanted,
            });
        }
    }
    Ok(())
}

/// Chunks whose rows are in object storage cannot be read as others.
fn leave_tiered(model: &Model, reading: &mut Reading) {
    let mut tiered: BTreeMap<i64, usize> = BTreeMap::new();
    for chunk in model.chunks.iter().filter(|chunk| chunk.tiered) {
        *tiered.entry(chunk.hypertable).or_default() += 1;
        reading.left_out.insert(chunk.table.clone());
    }
    for (hypertable, chunks) in tiered {
        let name = model.hypertables.get(&hypertable).map(|h| h.display_name());
        reading.skipped.push(format!(
            "{}: its tiered data ({chunks} {}) is left out, as its rows are in object storage; untier_chunk() brings them back",
            name.unwrap_or_default(),
            if chunks == 1 { "chunk" } else { "chunks" },
        ));
    }
}

/// The extension's catalog, as the transaction of `conn` sees it.
pub fn read_catalog(conn: &mut Connection, relations: &[Relation]) -> Result<Catalog, Error> {
    let mut found = Catalog::default();
    let tables: Vec<&Relation> = relations
        .iter()
        .filter(|r| r.config.as_ref().is_some_and(|c| c.extension == EXTENSION))
        .collect();
    let oids: Vec<u32> = tables.iter().map(|r| r.oid).collect();
    let mut attributes = catalog::attributes(conn, &oids)?;
    for table in tables {
        let columns: Vec<String> = attributes
            .remove(&table.oid)
            .unwrap_or_default()
            .into_iter()
            .map(|a| a.name)
            .collect();
        let condition = table.config.as_ref().map_or("", |c| c.condition.as_str());
        let list: Vec<String> = columns.iter().map(|c| quote_ident(c)).collect();
        let rows = conn.query_raw(&format!(
            "SELECT {} FROM ONLY {} {condition}",
            list.join(", "),
            table.sql_name()
        ))?;
        let value = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
        let rows = rows
            .iter()
            .map(|row| (0..columns.len()).map(|n| row.raw(n).map(value)).collect())
            .collect();
        let name = table.key();
        found.tables.insert(name, Rows { columns, rows });
    }
    Ok(found)
}
