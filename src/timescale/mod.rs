//! Everything that is special to TimescaleDB.
//!
//! Its catalog tables are configuration tables of the extension and travel as text. A database with hypertables is
//! restored in its restoring state, in which the extension leaves all statements to PostgreSQL: the extension at the
//! version of the source, then all relations, then the catalog, serially in the order of its foreign keys, then rows,
//! indexes and constraints in parallel, then the end of the restoring state.

pub mod catalog;
pub mod fit;
pub mod part;

use std::time::Duration;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::quote_literal;
use crate::pg::{Connection, Error};
use crate::repo::model::Source;

/// How often the scheduler is looked for after a restore, and how long it is given each time.
const SCHEDULER_ATTEMPTS: u32 = 20;
const SCHEDULER_PAUSE: Duration = Duration::from_millis(100);

/// Name of the extension.
pub const EXTENSION: &str = "timescaledb";

/// Types of the extension whose binary form is portable between databases of the same version.
pub const PORTABLE_TYPES: &[&str] = &["compressed_data"];

/// The extension's version at the source, where it is installed.
pub fn version(source: &Source) -> Option<&str> {
    source
        .extensions
        .iter()
        .find(|e| e.name == EXTENSION)
        .map(|e| e.version.as_str())
}

/// Why the target cannot take hypertables of this version, with a hint; nothing if it can. `here` tells whether they are
/// to be restored into the very database that is connected to.
pub fn problem(conn: &mut Connection, version: &str, here: bool) -> Result<Option<String>, Error> {
    let rows = conn.query(&format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extension_versions v WHERE v.name = '{EXTENSION}' AND v.version = {}),
           (SELECT pg_catalog.string_agg(v.version, ', ') FROM pg_catalog.pg_available_extension_versions v WHERE v.name = '{EXTENSION}'),
           pg_catalog.current_setting('shared_preload_libraries') LIKE '%timescaledb%',
           (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = '{EXTENSION}'),
           pg_catalog.current_setting('is_superuser') = 'on'",
        quote_literal(version)
    ))?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let available = row.get(1).unwrap_or("none");
    if row.get(0) != Some("t") {
        return Ok(Some(format!(
            "the snapshot has TimescaleDB {version}, the target's server offers {available}\nhint: install TimescaleDB {version} at the target; its catalog is restored as it is, so the version must be the same"
        )));
    }
    if row.get(2) != Some("t") {
        return Ok(Some(
            "the target's server does not preload TimescaleDB\nhint: add timescaledb to shared_preload_libraries there and restart it"
                .to_owned(),
        ));
    }
    if let Some(installed) = row.get(3).filter(|&installed| here && installed != version) {
        return Ok(Some(format!(
            "the target database has TimescaleDB {installed}, the snapshot {version}\nhint: restore into a database without the extension, or with version {version}"
        )));
    }
    if row.get(4) != Some("t") {
        return Ok(Some(
            "restoring hypertables needs a superuser, who alone may stop TimescaleDB's background workers\nhint: connect as a superuser"
                .to_owned(),
        ));
    }
    Ok(None)
}

/// Whether the entry creates the extension.
pub fn is_extension(entry: &TocEntry) -> bool {
    entry.desc == "EXTENSION" && entry.tag.to_lossy() == EXTENSION
}

/// Whether the entry comes before the restoring state: the extension, and the schema it lives in.
pub fn is_before_restoring(entry: &TocEntry, source: &Source) -> bool {
    let mut extensions = source.extensions.iter().filter(|e| e.name == EXTENSION);
    is_extension(entry)
        || (entry.desc == "SCHEMA" && extensions.any(|e| entry.tag.to_lossy() == e.schema.as_str()))
}

/// Takes a restoring state of the source out of the database's settings: it must not be carried over.
pub fn forget_restoring(entries: &mut [TocEntry]) {
    for entry in entries
        .iter_mut()
        .filter(|e| e.desc == "DATABASE PROPERTIES")
    {
        let Some(statements) = entry.defn.to_str() else {
            continue;
        };
        // One statement a line, as pg_dump writes them.
        let kept: Vec<&str> = statements
            .lines()
            .filter(|line| !line.contains("timescaledb.restoring"))
            .collect();
        entry.defn = SqlText::from(kept.join("\n"));
    }
}

/// The statement that creates the extension, at the version of the source. It must be the first of its session.
pub fn create_extension(entry: &TocEntry, version: &str) -> SqlText {
    let statement = entry.defn.to_lossy();
    let statement = statement.trim_end().trim_end_matches(';');
    SqlText::from(format!("{statement} VERSION {};", quote_literal(version)).into_bytes())
}

/// Begins the restoring state: for sessions that are opened from now on, until [`end`].
pub fn begin(conn: &mut Connection) -> Result<(), Error> {
    let schema = functions(conn)?;
    conn.execute(&format!("SELECT {schema}.timescaledb_pre_restore()"))
}

/// Ends the restoring state. Sets the one sequence that the extension does not list as its configuration. Whether the
/// scheduler of the database's jobs came up: a server whose background workers are all taken does not start it.
pub fn end(conn: &mut Connection) -> Result<bool, Error> {
    conn.execute(
        "SELECT pg_catalog.setval('_timescaledb_catalog.tablespace_id_seq', m.id)
         FROM (SELECT pg_catalog.max(id) AS id FROM _timescaledb_catalog.tablespace) m WHERE m.id IS NOT NULL",
    )?;
    let schema = functions(conn)?;
    conn.execute(&format!("SELECT {schema}.timescaledb_post_restore()"))?;
    // One call has been known not to be enough (timescaledb issue 5842), so it is looked at, and asked for again.
    for _ in 0..SCHEDULER_ATTEMPTS {
        std::thread::sleep(SCHEDULER_PAUSE);
        let rows = conn.query(
            "SELECT FROM pg_catalog.pg_stat_activity
             WHERE datname = pg_catalog.current_database() AND backend_type = 'TimescaleDB Background Worker Scheduler'",
        )?;
        if !rows.is_empty() {
            return Ok(true);
        }
        conn.execute("SELECT _timescaledb_functions.start_background_workers()")?;
    }
    Ok(false)
}

/// The quoted schema that the extension's public functions live in.
fn functions(conn: &mut Connection) -> Result<String, Error> {
    let rows = conn.query(&format!(
        "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = '{EXTENSION}'"
    ))?;
    rows.first()
        .and_then(|row| row.get(0))
        .map(str::to_owned)
        .ok_or_else(|| Error::Protocol("the extension timescaledb is not installed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::archive::Section;

    #[test]
    fn a_restoring_state_is_not_carried_over_and_other_settings_are() {
        let mut entries = [TocEntry {
            dump_id: 1,
            oid: 1,
            tag: "d".into(),
            desc: "DATABASE PROPERTIES".to_owned(),
            section: Section::PreData,
            defn: "ALTER DATABASE d SET \"timescaledb.restoring\" TO 'on';\nALTER DATABASE d SET work_mem TO '7MB';\n".into(),
            owner: "o".into(),
            ..TocEntry::default()
        }];
        forget_restoring(&mut entries);
        assert_eq!(
            entries[0].defn.to_lossy(),
            "ALTER DATABASE d SET work_mem TO '7MB';"
        );
    }
}
