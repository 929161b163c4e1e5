//! Servers: the one that is dumped, and the one that is restored to.

use super::Findings;
use crate::ops::config::{Databases, Profile, Source};
use crate::ops::retention::TOLERANCE;
use crate::ops::run::span;
use crate::ops::text;
use crate::pg::pg_dump::{PgDump, PgDumpall};
use crate::pg::{Connection, Error, FIRST_DATABASE, session_options};

/// The oldest server that can be dumped.
const OLDEST: i32 = 150_000;
/// A transaction that is older keeps vacuum from cleaning up, and may hold locks.
const OLD_TRANSACTION: i64 = 3600;
/// Databases that are looked into.
const LOOKED_INTO: usize = 50;

/// What of a source matters for its targets.
#[derive(Debug, Default)]
pub struct Facts {
    /// `server_version_num`.
    pub version: i32,
    /// Names and versions of the extensions in its databases.
    pub extensions: Vec<(String, String)>,
    /// Roles that own something, or have rights.
    pub roles: Vec<String>,
}

fn connect(source: &Source, database: Option<&str>, found: &mut Findings) -> Option<Connection> {
    let settings = match source.settings() {
        Ok(settings) => settings,
        Err(error) => {
            found.error(error);
            return None;
        }
    };
    let settings = match database {
        Some(name) => settings.with_dbname(name),
        None if settings.get("dbname").is_none() => settings.with_dbname(FIRST_DATABASE),
        None => settings,
    };
    match settings.connect(&session_options()) {
        Ok(conn) => {
            let local = settings.host_name().starts_with('/')
                || ["localhost", "127.0.0.1", "::1", "local socket"]
                    .contains(&settings.host_name());
            if !local && !conn.is_encrypted() && database.is_none() {
                found.warn(
                    "the connection is not encrypted: passwords of roles and all rows can be read on the way",
                    "add sslmode=verify-full to the connection",
                );
            }
            Some(conn)
        }
        Err(error) => {
            found.error(format!(
                "{error}\nhint: see that it runs, that pg_hba.conf lets the role in from here, and that the password is right"
            ));
            None
        }
    }
}

fn one(conn: &mut Connection, sql: &str) -> Result<Option<String>, Error> {
    let rows = conn.query(sql)?;
    Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
}

fn number(conn: &mut Connection, sql: &str) -> Result<i64, Error> {
    Ok(one(conn, sql)?
        .and_then(|text| text.parse().ok())
        .unwrap_or(0))
}

/// Looks at the server that a profile dumps.
pub fn source(profile: &Profile, found: &mut Findings) -> Option<Facts> {
    let mut conn = connect(&profile.source, None, found)?;
    let version = conn.server_version();
    let name = conn
        .parameter("server_version")
        .unwrap_or_default()
        .to_owned();
    if version < OLDEST {
        found.wrong(
            format!("PostgreSQL {name} is older than pgtide knows"),
            "upgrade to 15 or later, or use pg_dump",
        );
        return None;
    }
    found.fine(format!("PostgreSQL {name} answers"));
    let path = std::env::var_os("PATH");
    match PgDump::find(profile.source.pg_dump.as_deref(), path.as_deref(), version) {
        Ok(program) => found.fine(format!("pg_dump {} is there: {program}", program.major())),
        Err(error) => found.error(error),
    }
    if profile.globals {
        let explicit = profile.source.pg_dumpall.as_deref();
        match PgDumpall::find(explicit, path.as_deref(), version) {
            Ok(program) => found.fine(format!("pg_dumpall {} is there", program.major())),
            Err(error) => found.error(error),
        }
    }
    let mut facts = Facts {
        version,
        ..Facts::default()
    };
    if let Err(error) = settings(&mut conn, found) {
        found.error(error);
    }
    let names = match names(&mut conn, profile) {
        Ok(names) => names,
        Err(error) => {
            found.error(error);
            Vec::new()
        }
    };
    for name in names.iter().take(LOOKED_INTO) {
        let Some(mut conn) = connect(&profile.source, Some(name), found) else {
            continue;
        };
        if let Err(error) = database(name, &mut conn, &mut facts, found) {
            found.error(error);
        }
    }
    Some(facts)
}

fn names(conn: &mut Connection, profile: &Profile) -> Result<Vec<String>, Error> {
    let connected = one(conn, "SELECT pg_catalog.current_database()")?;
    Ok(match &profile.databases {
        Databases::Connected => connected.into_iter().collect(),
        Databases::Named(names) => names.clone(),
        Databases::All(excluded) => {
            let rows = conn.query(
                "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datname <> 'template0' ORDER BY 1",
            )?;
            let names = rows.iter().filter_map(|row| row.get(0));
            let wanted =
                names.filter(|name| !excluded.iter().any(|pattern| pattern.matches_name(name)));
            wanted.map(str::to_owned).collect()
        }
    })
}

/// What of the whole server matters for a dump.
fn settings(conn: &mut Connection, found: &mut Findings) -> Result<(), Error> {
    let theirs = number(
        conn,
        "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::int8",
    )?;
    let apart = (jiff::Timestamp::now().as_second() - theirs).unsigned_abs();
    if apart > TOLERANCE.unsigned_abs().as_secs() {
        found.warn(
            format!("its clock and this one are {apart} s apart"),
            "have both set by NTP: retention goes by the time of this machine",
        );
    }
    let oldest = number(
        conn,
        "SELECT pg_catalog.max(extract(epoch FROM pg_catalog.clock_timestamp() - xact_start))::int8
         FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()",
    )?;
    if oldest > OLD_TRANSACTION {
        let ago = span(std::time::Duration::from_secs(oldest.unsigned_abs()));
        found.warn(
            format!("a transaction has been open for {ago}"),
            "end it (pg_stat_activity names it): it may hold locks that a dump waits for",
        );
    }
    let prepared = number(
        conn,
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xacts",
    )?;
    if prepared > 0 {
        found.warn(
            format!("{prepared} prepared transactions wait for their end"),
            "COMMIT PREPARED or ROLLBACK PREPARED them: their locks stay over restarts",
        );
    }
    let standby = one(conn, "SELECT pg_catalog.pg_is_in_recovery()")?.as_deref() == Some("t");
    if standby {
        let feedback = one(conn, "SHOW hot_standby_feedback")?;
        let delay = one(conn, "SHOW max_standby_streaming_delay")?.unwrap_or_default();
        if feedback.as_deref() == Some("off") && delay != "-1" {
            found.warn(
                format!("is a standby that cancels what is read for longer than max_standby_streaming_delay = {delay}"),
                "set hot_standby_feedback = on there, or max_standby_streaming_delay = -1 while it is dumped",
            );
        }
    }
    let free = number(
        conn,
        "SELECT current_setting('max_connections')::int8 - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')",
    )?;
    if free < 8 {
        found.warn(
            format!("only {free} connections are free"),
            "raise max_connections, or set jobs = 1: a dump takes jobs + 3",
        );
    }
    Ok(())
}

/// What of one database matters.
fn database(
    name: &str,
    conn: &mut Connection,
    facts: &mut Facts,
    found: &mut Findings,
) -> Result<(), Error> {
    let unreadable = number(
        conn,
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
           AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind
             WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END)",
    )?;
    if unreadable > 0 {
        found.wrong(
            format!(
                "{name}: the role may not read {}",
                text::plural(
                    unreadable.unsigned_abs(),
                    "table or sequence",
                    "tables and sequences"
                )
            ),
            "GRANT pg_read_all_data to the role",
        );
    }
    let tables = number(
        conn,
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'S', 'm') AND oid >= 16384",
    )?;
    let room = number(
        conn,
        "SELECT current_setting('max_locks_per_transaction')::int8
           * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)",
    )?;
    // Two holders, and pg_dump, which also locks views.
    if tables * 3 > room {
        found.warn(
            format!("{name}: {tables} tables may need more locks than the server's lock table has room for ({room})"),
            "raise max_locks_per_transaction, and restart the server",
        );
    }
    let rows = conn.query(
        "SELECT extname, extversion FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'",
    )?;
    for row in &rows {
        let extension = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
        if !facts.extensions.contains(&extension) {
            facts.extensions.push(extension);
        }
    }
    let rows = conn.query(
        "SELECT DISTINCT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class WHERE oid >= 16384
         UNION SELECT pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace
         UNION SELECT pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
    )?;
    for row in &rows {
        let role = row.text(0)?.to_owned();
        if !facts.roles.contains(&role) {
            facts.roles.push(role);
        }
    }
    let size = number(
        conn,
        "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())",
    )?;
    if unreadable == 0 {
        found.fine(format!(
            "{name}: all of its {} can be read, {}",
            text::plural(
                tables.unsigned_abs(),
                "table or sequence",
                "tables and sequences"
            ),
            text::bytes(size.unsigned_abs())
        ));
    }
    Ok(())
}

/// Looks at the server that snapshots are restored to.
pub fn target(source: &Source, facts: Option<&Facts>, found: &mut Findings) {
    let Some(mut conn) = connect(source, None, found) else {
        return;
    };
    if let Err(error) = suits(&mut conn, facts, found) {
        found.error(error);
    }
}

fn suits(conn: &mut Connection, facts: Option<&Facts>, found: &mut Findings) -> Result<(), Error> {
    let creates = one(
        conn,
        "SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )?;
    if creates.as_deref() != Some("t") {
        found.wrong(
            "the role may not create databases there",
            "ALTER ROLE ... CREATEDB, or connect as a superuser",
        );
    }
    let locks = number(
        conn,
        "SELECT current_setting('max_locks_per_transaction')::int8",
    )?;
    let wal = number(
        conn,
        "SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_wal_size'",
    )?;
    if wal < 4096 {
        found.warn(
            format!("max_wal_size is {wal} MB there: a restore makes checkpoint after checkpoint"),
            "set max_wal_size = 8GB",
        );
    }
    let memory = number(
        conn,
        "SELECT setting::int8 / 1024 FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem'",
    )?;
    if memory < 256 {
        found.warn(
            format!("maintenance_work_mem is {memory} MB there: indexes are built slowly"),
            "set maintenance_work_mem = 1GB, if there is memory for one in each session",
        );
    }
    let Some(facts) = facts else {
        return Ok(());
    };
    let version = conn.server_version();
    if version / 10_000 < facts.version / 10_000 {
        found.wrong(
            format!(
                "is PostgreSQL {}, and the source is {}",
                version / 10_000,
                facts.version / 10_000
            ),
            "verify on the source's version or a later one",
        );
    }
    let rows =
        conn.query("SELECT name, version FROM pg_catalog.pg_available_extension_versions")?;
    for (name, version) in &facts.extensions {
        let there: Vec<&str> = rows
            .iter()
            .filter(|row| row.get(0) == Some(name))
            .filter_map(|row| row.get(1))
            .collect();
        if there.is_empty() {
            found.wrong(
                format!("the extension {name} is not installed there"),
                "install its package on that server",
            );
        } else if name == "timescaledb" && !there.contains(&version.as_str()) {
            found.wrong(
                format!("TimescaleDB {version} is not there, only {}", there.join(", ")),
                "install the source's version on that server: hypertables are restored by their catalog",
            );
        }
    }
    let rows = conn.query("SELECT rolname FROM pg_catalog.pg_roles")?;
    let missing: Vec<&str> = (facts.roles.iter())
        .filter(|role| !rows.iter().any(|row| row.get(0) == Some(role)))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        found.wrong(
            format!("roles of the source are not there: {}", missing.join(", ")),
            "create them there (pgtide restore --globals), or verify with ephemeral = true",
        );
    }
    found.fine(format!(
        "restores can be tried there; max_locks_per_transaction is {locks}"
    ));
    Ok(())
}
