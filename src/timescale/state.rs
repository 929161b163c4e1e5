//! The restoring state, and the background workers that must not work in the meantime.
//!
//! The state is a setting, `timescaledb.restoring`, and every session of a restore has it for itself: the database is not
//! set to it, so that a restore that is killed leaves nothing to be reset. Sessions of others see plain tables until the
//! catalog is there.

use std::time::Duration;

use crate::pg::{Connection, Error, SessionOptions};

use super::{EXTENSION, RESTORING};

/// How often the scheduler is looked for after a restore, how long it is given each time ...
const SCHEDULER_ATTEMPTS: u32 = 200;
const SCHEDULER_PAUSE: Duration = Duration::from_millis(10);
/// ... and how often it is looked for before it is asked for again.
const SCHEDULER_PATIENCE: u32 = 10;

/// Options of a session in which the extension leaves all statements to PostgreSQL.
pub fn asleep(options: SessionOptions) -> SessionOptions {
    let mut options = options.with(RESTORING, "on");
    // Its event triggers are called after each statement, only to find that they have nothing to do.
    let since = (170000, "event_triggers".to_owned(), "off".to_owned());
    options.since.push(since);
    options
}

/// Options of a session in which it is at work, whatever the database is set to.
pub fn awake(options: SessionOptions) -> SessionOptions {
    options.with(RESTORING, "off")
}

/// Whether the session is in the restoring state: a role that may not set it is only warned.
pub fn is_asleep(conn: &mut Connection) -> Result<bool, Error> {
    // The first use of the extension in a session defines its settings.
    let rows = conn.query(&format!(
        "SELECT pg_catalog.current_setting('{RESTORING}', true)"
    ))?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("on"))
}

/// Stops the workers of the database until [`end`], or until the server starts anew.
pub fn stop_workers(conn: &mut Connection) -> Result<(), Error> {
    conn.execute("SELECT _timescaledb_functions.stop_background_workers()")
}

/// Ends a restore: checks the catalog's version and starts the workers again. Whether the scheduler of the database's
/// jobs came up: a server whose background workers are all taken does not start it.
pub fn end(conn: &mut Connection) -> Result<bool, Error> {
    let schema = functions(conn)?;
    conn.execute(&format!("SELECT {schema}.timescaledb_post_restore()"))?;
    // One call has been known not to be enough (timescaledb issue 5842), so it is looked at, and asked for again.
    for attempt in 1..=SCHEDULER_ATTEMPTS {
        std::thread::sleep(SCHEDULER_PAUSE);
        let rows = conn.query(
            "SELECT FROM pg_catalog.pg_stat_activity
             WHERE datname = pg_catalog.current_database() AND backend_type = 'TimescaleDB Background Worker Scheduler'",
        )?;
        if !rows.is_empty() {
            return Ok(true);
        }
        if attempt.is_multiple_of(SCHEDULER_PATIENCE) {
            conn.execute("SELECT _timescaledb_functions.start_background_workers()")?;
        }
    }
    Ok(false)
}

/// Whether the database itself is set to the restoring state, as other tools leave it behind when they fail.
pub fn is_left_behind(conn: &mut Connection) -> Result<bool, Error> {
    let rows = conn.query(
        "SELECT FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
         CROSS JOIN LATERAL unnest(s.setconfig) c(setting)
         WHERE d.datname = pg_catalog.current_database() AND c.setting ~ '^timescaledb\\.restoring=(on|true|yes|1)$'",
    )?;
    Ok(!rows.is_empty())
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
