//! Everything that is special to TimescaleDB.
//!
//! Its catalog tables are configuration tables of the extension and travel as text. A database with hypertables is
//! restored by sessions in the restoring state, in which the extension leaves all statements to PostgreSQL: the extension
//! at the version of the source, then all relations, rows, indexes and constraints in parallel, as of tables that have
//! nothing to do with each other. Then comes the catalog, in one transaction: before it there are no hypertables and no
//! jobs, after it there are all of them. What only the extension can do, as foreign keys that refer to a hypertable and
//! the refreshing of views on compressed rows, comes last, in sessions where it is at work.

pub mod catalog;
pub mod contents;
pub mod fit;
pub mod missing;
pub mod model;
pub mod part;
pub mod portable;
pub mod reading;
pub mod state;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::quote_literal;
use crate::pg::{Connection, Error};
use crate::repo::model::{Extension, Source};

/// The setting of the restoring state.
pub const RESTORING: &str = "timescaledb.restoring";
/// Name of the extension.
pub const EXTENSION: &str = "timescaledb";

/// Types of the extension whose binary form is portable between databases of the same version.
pub const PORTABLE_TYPES: &[&str] = &["compressed_data"];

/// The extension at the source, where it is installed.
pub fn installed(source: &Source) -> Option<&Extension> {
    source.extensions.iter().find(|e| e.name == EXTENSION)
}

/// The extension's version at the source, where it is installed.
pub fn version(source: &Source) -> Option<&str> {
    installed(source).map(|e| e.version.as_str())
}

/// Why the target cannot take hypertables of this version, or of any version, with a hint; nothing if it can. `here`
/// tells whether they are to be restored into the very database that is connected to.
pub fn problem(
    conn: &mut Connection,
    version: Option<&str>,
    here: bool,
) -> Result<Option<String>, Error> {
    // Not everybody may look at shared_preload_libraries; what is preloaded has settings.
    let rows = conn.query(&format!(
        "SELECT (SELECT pg_catalog.string_agg(v.version, ', ') FROM pg_catalog.pg_available_extension_versions v WHERE v.name = '{EXTENSION}'),
           pg_catalog.current_setting('timescaledb.max_background_workers', true) IS NOT NULL,
           (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = '{EXTENSION}'),
           pg_catalog.current_setting('is_superuser') = 'on'"
    ))?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let available = row.get(0);
    if row.get(1) != Some("t") && available.is_some() {
        return Ok(Some(
            "the target's server does not preload TimescaleDB\nhint: add timescaledb to shared_preload_libraries there and restart it"
                .to_owned(),
        ));
    }
    let Some(version) = version else {
        return Ok(available.is_none().then(|| {
            "the target's server does not offer TimescaleDB\nhint: install it there".to_owned()
        }));
    };
    let offered = available.unwrap_or("none");
    if !offered.split(", ").any(|offered| offered == version) {
        return Ok(Some(format!(
            "the snapshot has TimescaleDB {version}, the target's server offers {offered}\nhint: install TimescaleDB {version} at the target, as its catalog is restored as it is; or make hypertables anew with what is there: --portable"
        )));
    }
    if let Some(installed) = row.get(2).filter(|&installed| here && installed != version) {
        return Ok(Some(format!(
            "the target database has TimescaleDB {installed}, the snapshot {version}\nhint: restore into a database without the extension or with version {version}, or make hypertables anew with what is there: --portable"
        )));
    }
    if row.get(3) != Some("t") {
        return Ok(Some(
            "restoring TimescaleDB's catalog needs a superuser, who alone may stop its background workers\nhint: connect as a superuser, or make hypertables anew with the rights that you have: --portable"
                .to_owned(),
        ));
    }
    Ok(None)
}

/// Whether the target's server has the TSL edition of this version; nothing where the role may not look.
pub fn has_tsl(conn: &mut Connection, version: &str) -> Result<Option<bool>, Error> {
    let rows = conn.query(&format!(
        "SELECT (pg_catalog.pg_stat_file(c.setting || '/timescaledb-tsl-' || {} || '.so', true)).size IS NOT NULL
         FROM pg_catalog.pg_config c WHERE c.name = 'PKGLIBDIR'",
        quote_literal(version)
    ));
    match rows {
        Ok(rows) => Ok(rows
            .first()
            .and_then(|row| row.get(0))
            .map(|found| found == "t")),
        // insufficient_privilege
        Err(error) if error.code() == Some("42501") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the entry creates the extension.
pub fn is_extension(entry: &TocEntry) -> bool {
    entry.desc == "EXTENSION" && entry.tag.to_lossy() == EXTENSION
}

/// Whether the entry comes before the restoring state: the extension, and the schema it lives in.
pub fn is_before_restoring(entry: &TocEntry, source: &Source) -> bool {
    let own = |e: &Extension| entry.tag.to_lossy() == e.schema.as_str();
    is_extension(entry) || (entry.desc == "SCHEMA" && installed(source).is_some_and(own))
}

/// The statement that creates the extension, at the version of the source. It must be the first of its session.
pub fn create_extension(entry: &TocEntry, version: &str) -> SqlText {
    let statement = entry.defn.to_lossy();
    let statement = statement.trim_end().trim_end_matches(';');
    SqlText::from(format!("{statement} VERSION {};", quote_literal(version)).into_bytes())
}
