//! Whether everything is there that a run needs: better known before than in the middle of the night's work.

use std::time::Duration;

use jiff::Timestamp;

use crate::dump::{DumpError, DumpOptions};
use crate::ops::config::{Databases, Profile};
use crate::ops::retention::TOLERANCE;
use crate::ops::text::bytes;
use crate::pg::pg_dump::{PgDump, PgDumpall};
use crate::pg::{Connection, FIRST_DATABASE, Settings, session_options};
use crate::repo::Repository;
use crate::store::local_path;

use super::past::Past;
use super::report::Step;
use super::{Broken, Night};

/// Runs whose additions say how much room is needed.
const COMPARED: usize = 7;
/// How much of the source the first dump takes, at most as a rule.
const FIRST: f64 = 0.5;
/// After so many intervals without a run, or so long where none is set, it may be the clock that is wrong.
const LONG_AGO: u32 = 10;
const LONG_AGO_WITHOUT: Duration = Duration::from_secs(60 * 86_400);

/// What was found.
pub struct Found {
    /// What is worth telling, though the run goes on.
    pub warnings: Vec<String>,
    /// The clock of this host cannot be right: nothing may be removed by it.
    pub clock_wrong: bool,
    /// So much time has passed since the last run that the clock may be wrong.
    pub long_ago: bool,
    /// In a line.
    pub summary: String,
}

/// Looks at the server, the repository and this machine.
pub fn look(
    night: &Night<'_>,
    repo: &Repository,
    options: &DumpOptions,
    past: &Past,
) -> Result<Found, Broken> {
    let profile = night.profile;
    let now = crate::clock::now();
    let mut warnings = Vec::new();
    let mut conn = connect(night, &options.settings)?;
    let version = conn.server_version();
    PgDump::find(options.pg_dump.as_deref(), options.path.as_deref(), version)
        .map_err(Broken::from_error)?;
    if profile.globals {
        let explicit = profile.source.pg_dumpall.as_deref();
        PgDumpall::find(explicit, options.path.as_deref(), version).map_err(Broken::from_error)?;
    }
    let server_clock = clock_of_server(&mut conn)?;
    let apart = server_clock.is_some();
    warnings.extend(server_clock);
    let size = databases(&mut conn, profile)?;
    warnings.extend(blocking(&mut conn)?);
    let clock_wrong = clock_of_host(repo, now, &mut warnings)? || apart;
    let long_ago = long_ago(profile, past, now);
    warnings.extend(long_ago.clone());
    warnings.extend(room(profile, past, size));
    let server = conn.parameter("server_version").unwrap_or_default();
    let server = server.split_whitespace().next().unwrap_or_default();
    Ok(Found {
        summary: format!(
            "PostgreSQL {server} at {}:{}, {} to dump",
            options.settings.host_name(),
            options.settings.port(),
            bytes(size)
        ),
        warnings,
        clock_wrong,
        long_ago: long_ago.is_some(),
    })
}

/// A session in the database that is named, else in the one that every cluster has.
fn connect(night: &Night<'_>, settings: &Settings) -> Result<Connection, Broken> {
    let profile = night.profile;
    let named = settings.get("dbname").is_some();
    let settings = match profile.databases {
        Databases::Connected if !profile.globals => settings.clone(),
        _ if named => settings.clone(),
        _ => settings.with_dbname(FIRST_DATABASE),
    };
    night
        .again(Step::Preflight, || {
            let connected = settings.connect(&session_options());
            connected.map_err(|source| DumpError::Server {
                context: "could not connect",
                source,
            })
        })
        .map_err(Broken::from)
}

fn clock_of_server(conn: &mut Connection) -> Result<Option<String>, Broken> {
    let rows = conn
        .query("SELECT extract(epoch FROM pg_catalog.clock_timestamp())::int8")
        .map_err(Broken::from_error)?;
    let theirs = rows.first().and_then(|row| row.get(0)?.parse().ok());
    let Some(theirs) = theirs.and_then(|seconds| Timestamp::from_second(seconds).ok()) else {
        return Ok(None);
    };
    let apart = Timestamp::now().duration_since(theirs).abs();
    Ok((apart > TOLERANCE).then(|| {
        format!(
            "the clocks of this host and of the server are {} s apart: nothing is removed tonight, as what is old is not known\nhint: have both set by NTP",
            apart.as_secs()
        )
    }))
}

/// Bytes of the databases that are to be dumped.
fn databases(conn: &mut Connection, profile: &Profile) -> Result<u64, Broken> {
    let rows = conn
        .query(
            "SELECT datname, CASE WHEN datallowconn THEN pg_catalog.pg_database_size(oid) ELSE 0 END,
                    datname = pg_catalog.current_database()
             FROM pg_catalog.pg_database
             WHERE pg_catalog.has_database_privilege(oid, 'CONNECT') AND datname <> 'template0'",
        )
        .map_err(Broken::from_error)?;
    let wanted = rows.iter().filter(|row| {
        let name = row.get(0).unwrap_or_default();
        match &profile.databases {
            Databases::Connected => row.get(2) == Some("t"),
            Databases::Named(names) => names.iter().any(|wanted| wanted == name),
            Databases::All(excluded) => !excluded.iter().any(|p| p.matches_name(name)),
        }
    });
    let bytes = wanted.filter_map(|row| row.get(1)?.parse::<u64>().ok());
    Ok(bytes.sum())
}

/// Sessions that hold locks which a dump would wait for, and have for a while.
fn blocking(conn: &mut Connection) -> Result<Vec<String>, Broken> {
    let rows = conn
        .query(
            "SELECT DISTINCT a.pid, a.usename, a.datname, extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::int8
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
             WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
               AND a.xact_start < pg_catalog.clock_timestamp() - interval '10 seconds' AND a.pid <> pg_catalog.pg_backend_pid()
             ORDER BY 1 LIMIT 5",
        )
        .map_err(Broken::from_error)?;
    let told = rows.iter().map(|row| {
        let text = |n: usize| row.get(n).unwrap_or("?").to_owned();
        format!(
            "session {} (role {}, database {}) has held an exclusive lock for {} s: a dump of its table waits for it",
            text(0),
            text(1),
            text(2),
            text(3)
        )
    });
    Ok(told.collect())
}

/// Whether this host's clock is behind what is already in the repository.
fn clock_of_host(
    repo: &Repository,
    now: Timestamp,
    warnings: &mut Vec<String>,
) -> Result<bool, Broken> {
    let snapshots = repo.snapshots().map_err(Broken::from_repo)?.list;
    let Some((id, newest)) = snapshots.last() else {
        return Ok(false);
    };
    let ahead = newest.time.duration_since(now);
    if ahead <= TOLERANCE {
        return Ok(false);
    }
    warnings.push(format!(
        "the clock of this host is behind: snapshot {id:.12} is of {}, {} from now. Nothing is removed tonight, as what is old is not known\nhint: set the clock; a snapshot that was made while it was ahead can be removed by pgtide forget",
        newest.time.strftime("%F %T UTC"),
        super::anomaly::span(ahead.unsigned_abs())
    ));
    Ok(true)
}

/// Whether so much time has passed since the last run that the clock may be ahead: then nothing is removed in this one,
/// and somebody is told before the next.
fn long_ago(profile: &Profile, past: &Past, now: Timestamp) -> Option<String> {
    let last = past.last()?.record.started;
    let long = match profile.every {
        Some(every) => every * LONG_AGO,
        None => LONG_AGO_WITHOUT,
    };
    let ago = Duration::try_from(now.duration_since(last)).ok()?;
    (ago > long).then(|| {
        format!(
            "the last run was {} ago: if that is not so, the clock of this host is ahead. Nothing is removed in this run",
            super::anomaly::span(ago)
        )
    })
}

/// What is to be said of the room for tonight's dump, where that can be known. A guess is no reason not to try.
fn room(profile: &Profile, past: &Past, source_bytes: u64) -> Option<String> {
    let path = local_path(&profile.repository.location)?;
    let facts = rustix::fs::statvfs(&path).ok()?;
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let added = past.0.iter().rev().filter(|run| run.dumped());
    let sums = added.take(COMPARED).map(|run| {
        let databases = run.details.databases.iter();
        databases.map(|one| one.added_bytes).sum::<u64>()
    });
    let needed = match sums.max() {
        Some(most) => most + most / 2,
        None => (source_bytes as f64 * FIRST) as u64,
    };
    (free < needed).then(|| {
        format!(
            "{}: {} are free, and tonight's dump may need {}\nhint: make room, or have less kept: pgtide forget --prune",
            path.display(),
            bytes(free),
            bytes(needed)
        )
    })
}
