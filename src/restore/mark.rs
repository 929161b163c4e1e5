//! A mark on the target database while a restore is at work, so that the next run knows of one that did not end.
//!
//! It is a setting of the database that means nothing to the server. A role that may not set it leaves no mark.

use crate::pg::catalog::{quote_ident, quote_literal};
use crate::pg::{Connection, Error};
use crate::repo::model::Snapshot;

/// Name of the setting.
pub const SETTING: &str = "pgtide.unfinished_restore";

/// Marks the database that is connected to.
pub fn set(conn: &mut Connection, database: &str, snapshot: &Snapshot) -> Result<(), Error> {
    let source = &snapshot.source;
    let text = format!(
        "of {} at {}:{} as of {}, begun {}",
        source.database,
        source.host,
        source.port,
        snapshot.time.strftime("%F %T UTC"),
        crate::clock::now().strftime("%F %T UTC")
    );
    allowed(conn.execute(&format!(
        "ALTER DATABASE {} SET {SETTING} = {}",
        quote_ident(database),
        quote_literal(&text)
    )))
}

/// Takes the mark away.
pub fn clear(conn: &mut Connection, database: &str) -> Result<(), Error> {
    allowed(conn.execute(&format!(
        "ALTER DATABASE {} RESET {SETTING}",
        quote_ident(database)
    )))
}

/// The mark that the database connected to has: of what, and since when.
pub fn find(conn: &mut Connection) -> Result<Option<String>, Error> {
    let rows = conn.query(&format!(
        "SELECT pg_catalog.substr(c.setting, {}) FROM pg_catalog.pg_db_role_setting s
         JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase CROSS JOIN LATERAL unnest(s.setconfig) c(setting)
         WHERE d.datname = pg_catalog.current_database() AND c.setting LIKE '{SETTING}=%'",
        SETTING.len() + 2
    ))?;
    Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
}

/// Takes a refusal for an answer.
fn allowed(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        // insufficient_privilege
        Err(error) if error.code() == Some("42501") => Ok(()),
        other => other,
    }
}
