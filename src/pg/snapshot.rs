//! The MVCC snapshot that all readers share, and the locks that keep the tables as it sees them.
//!
//! Lock first, then look: tables are listed and locked before the first query takes the snapshot, because TRUNCATE,
//! rewrites and their like are not MVCC-safe: between a snapshot and a lock they would make a table read empty, without
//! an error. What slipped in between listing and locking shows in the comparison of what the snapshot sees with what
//! a fresh session sees; then everything starts again.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::catalog::{self, Relation};
use super::{Connection, Error, SessionOptions, Settings, session_options};
use crate::progress::{Progress, Stage};

/// How often the tables are locked and looked at again at least before the dump gives up. Where chunks come and go all the
/// time, it takes more than a few: the time that may be waited for a lock may be spent on it.
const ATTEMPTS: u32 = 5;
/// How often the tables are listed before the snapshot is taken, while there are always new ones.
const LISTINGS: u32 = 20;
/// Tables named in an error.
const SHOWN: usize = 5;
/// Tables in one LOCK statement.
const LOCK_BATCH: usize = 500;

/// Why no MVCC snapshot with locks could be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The server said no.
    #[error("{context}: {source}")]
    Server {
        /// What was being done.
        context: String,
        /// What the server said.
        #[source]
        source: Error,
    },
    /// A lock was not granted in time.
    #[error(
        "could not lock {tables} within {waited:?}{blockers}\nhint: wait until it has finished, or give the dump more time with --lock-wait-timeout"
    )]
    LockTimeout {
        /// The tables of the batch that could not be locked, at most a few.
        tables: String,
        /// How long was waited.
        waited: Duration,
        /// Who holds or awaits a conflicting lock.
        blockers: String,
    },
    /// Tables kept changing between listing and locking.
    #[error(
        "these tables were changed or dropped while the dump was about to lock them, {attempts} times in a row: {tables}\nhint: dump at a time without DDL, TRUNCATE or VACUUM FULL on them, or give the dump more time with --lock-wait-timeout"
    )]
    Unstable {
        /// How often it was tried.
        attempts: u32,
        /// The tables.
        tables: String,
    },
    /// The server's lock table is too small.
    #[error(
        "{tables} tables need {needed} locks, and the server's lock table has room for about {free} more\nhint: set max_locks_per_transaction to at least {suggested} at the source and restart it"
    )]
    LockTable {
        /// Number of tables.
        tables: usize,
        /// Locks needed.
        needed: u64,
        /// Locks that are free.
        free: u64,
        /// A setting that would do.
        suggested: u64,
    },
    /// Tables were changed since a snapshot that was given was taken.
    #[error(
        "these tables were rewritten, changed or dropped since the snapshot was exported: {tables}\nhint: they would read empty or wrong; export a new snapshot, or dump without --snapshot"
    )]
    Changed {
        /// The tables.
        tables: String,
    },
    /// Sessions reached different servers.
    #[error(
        "two sessions reached two different servers\nhint: connect to one server directly, not through a pooler or a name that stands for several"
    )]
    OtherServer,
}

impl SnapshotError {
    /// Whether another try may succeed: others held locks.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::LockTimeout { .. } | Self::Unstable { .. })
    }
}

fn at(context: impl Into<String>) -> impl FnOnce(Error) -> SnapshotError {
    let context = context.into();
    move |source| SnapshotError::Server { context, source }
}

/// The sessions that hold the MVCC snapshot and the locks, and what the snapshot sees.
pub struct Held {
    /// The session that took the snapshot and exported it, in its transaction.
    pub first: Connection,
    /// A second one with the same snapshot, the same locks and an exported id of its own, so that one cancelled session
    /// loses nothing. Absent where the lock table has no room for it or a lock was refused.
    pub second: Option<Connection>,
    /// Ids of the exported snapshot, the first holder's first.
    pub snapshot_ids: Vec<String>,
    /// The tables, in order of schema and name.
    pub relations: Vec<Relation>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What is to be held.
pub struct Wanted<'a> {
    /// Lists the tables of the dump that the transaction of a session sees.
    pub list: &'a dyn Fn(&mut Connection) -> Result<Vec<Relation>, Error>,
    /// How long to wait for a lock.
    pub lock_timeout: Duration,
    /// The id of a snapshot that somebody else has exported and keeps, if that is to be used.
    pub snapshot: Option<&'a str>,
}

/// Locks all tables, takes the MVCC snapshot, and makes sure that it sees the tables as they are.
///
/// `watcher` is a session outside any transaction. All sessions must reach the server that it reached.
pub fn hold(
    settings: &Settings,
    watcher: &mut Connection,
    wanted: &Wanted<'_>,
    progress: &dyn Progress,
) -> Result<Held, SnapshotError> {
    let lock_timeout = wanted.lock_timeout;
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(settings, watcher, wanted, progress)? {
            Ok(held) => return Ok(held),
            // Trying again would not make an old snapshot see what is there now.
            Err(changed) if wanted.snapshot.is_some() => {
                return Err(SnapshotError::Changed {
                    tables: some_of(&changed, SHOWN),
                });
            }
            Err(changed) if attempts >= ATTEMPTS && began.elapsed() >= lock_timeout => {
                return Err(SnapshotError::Unstable {
                    attempts,
                    tables: some_of(&changed, SHOWN),
                });
            }
            Err(_) => {}
        }
    }
}

/// Opens another session and makes sure that it is at the same server.
pub fn connect_same(
    settings: &Settings,
    options: &SessionOptions,
    like: &mut Connection,
) -> Result<Connection, SnapshotError> {
    let mut conn = settings.connect(options).map_err(at("could not connect"))?;
    let theirs = conn
        .server_start_time()
        .map_err(at("could not ask for the server's start time"))?;
    let ours = like
        .server_start_time()
        .map_err(at("could not ask for the server's start time"))?;
    if theirs == ours {
        Ok(conn)
    } else {
        Err(SnapshotError::OtherServer)
    }
}

/// One round. The inner error carries the names of tables that changed meanwhile.
fn attempt(
    settings: &Settings,
    watcher: &mut Connection,
    wanted: &Wanted<'_>,
    progress: &dyn Progress,
) -> Result<Result<Held, Vec<String>>, SnapshotError> {
    let lock_timeout = wanted.lock_timeout;
    let list = |conn: &mut Connection| (wanted.list)(conn).map_err(at("could not list the tables"));
    let mut holder = connect_same(settings, &session_options(), watcher)?;
    let listed = list(watcher)?;
    progress.stage(&Stage::Listed {
        tables: listed.len(),
    });
    let room = LockTable::read(watcher)?;
    room.check(listed.len())?;

    let begin = match wanted.snapshot {
        Some(id) => begin_with(id),
        None => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY".to_owned(),
    };
    holder
        .execute(&format!("{}; {begin}", set_lock_timeout(lock_timeout)))
        .map_err(at("could not begin the dump's transaction"))?;
    // What is dropped meanwhile is passed over, what is made is locked, too: what is locked stays as it is, so this comes
    // to an end.
    let mut known: HashSet<(u32, String, String)> = HashSet::new();
    let mut listed = listed;
    for _ in 0..LISTINGS {
        let new = not_known(&known, &listed);
        if new.is_empty() {
            break;
        }
        lock_existing(&mut holder, &new, watcher, lock_timeout)?;
        let keys: Vec<_> = new.into_iter().map(key).collect();
        known.extend(keys);
        listed = list(watcher)?;
    }
    progress.stage(&Stage::Locked);

    // The first query of the transaction: this takes the MVCC snapshot.
    let id = export(&mut holder)?;
    let seen = list(&mut holder)?;
    let new = not_known(&known, &seen);
    if let Err(name) = lock(
        &mut holder,
        new.into_iter(),
        "",
        Some((watcher, lock_timeout)),
    )? {
        return Ok(Err(vec![name]));
    }

    let fresh: HashMap<u32, Relation> = list(watcher)?.into_iter().map(|r| (r.oid, r)).collect();
    let changed: Vec<String> = seen
        .iter()
        .filter(|r| {
            fresh.get(&r.oid).is_none_or(|now| {
                now.fingerprint != r.fingerprint || now.schema != r.schema || now.name != r.name
            })
        })
        .map(Relation::display_name)
        .collect();
    if !changed.is_empty() {
        return Ok(Err(changed));
    }
    progress.stage(&Stage::Snapshot);

    let mut held = Held {
        first: holder,
        second: None,
        snapshot_ids: vec![id],
        relations: seen,
        notes: Vec::new(),
    };
    if room.fits_second_holder(held.relations.len()) {
        add_second(&mut held, settings, watcher)?;
    } else {
        held.notes.push(format!(
            "the server's lock table has no room for a second session that holds {} tables: if the first is cancelled, the dump fails (max_locks_per_transaction)",
            held.relations.len()
        ));
    }
    Ok(Ok(held))
}

fn add_second(
    held: &mut Held,
    settings: &Settings,
    watcher: &mut Connection,
) -> Result<(), SnapshotError> {
    let mut second = connect_same(settings, &session_options(), watcher)?;
    second
        .execute(&begin_with(&held.snapshot_ids[0]))
        .map_err(at("could not import the MVCC snapshot"))?;
    // Never wait here: whoever is queued for a lock on one of these tables waits for the first holder.
    match lock(&mut second, held.relations.iter(), " NOWAIT", None) {
        Ok(Ok(())) => {
            held.snapshot_ids.push(export(&mut second)?);
            held.second = Some(second);
        }
        Ok(Err(_)) | Err(SnapshotError::Server { .. }) => held.notes.push(
            "another session waits for a lock on a table of this dump, so no second session could take the locks"
                .to_owned(),
        ),
        Err(other) => return Err(other),
    }
    Ok(())
}

/// The statement that keeps a session from waiting longer for a lock. 0 would mean for ever.
pub fn set_lock_timeout(timeout: Duration) -> String {
    format!("SET lock_timeout = {}", timeout.as_millis().max(1))
}

/// Statements that begin a read-only transaction in an exported snapshot.
pub fn begin_with(snapshot_id: &str) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {}",
        catalog::quote_literal(snapshot_id)
    )
}

/// Begins a read-only transaction in the exported snapshot, by the first of its ids that still holds.
pub fn import(conn: &mut Connection, snapshot_ids: &[String]) -> Result<(), Error> {
    let mut result = Ok(());
    for id in snapshot_ids {
        result = conn.execute(&begin_with(id));
        match &result {
            Err(error) if is_gone(error) => conn.execute("ROLLBACK")?,
            _ => return result,
        }
    }
    result
}

/// Whether an import failed because the session that exported the snapshot has ended.
pub fn is_gone(error: &Error) -> bool {
    // undefined_object; before 17 invalid_parameter_value.
    matches!(error.code(), Some("42704" | "22023"))
}

fn export(conn: &mut Connection) -> Result<String, SnapshotError> {
    let rows = conn
        .query("SELECT pg_catalog.pg_export_snapshot()")
        .map_err(at("could not export the MVCC snapshot"))?;
    rows.first()
        .and_then(|row| row.get(0))
        .map(str::to_owned)
        .ok_or_else(|| SnapshotError::Server {
            context: "could not export the MVCC snapshot".to_owned(),
            source: Error::Protocol("no id came back".to_owned()),
        })
}

/// By what a relation is known: as another one may have its name.
fn key(relation: &Relation) -> (u32, String, String) {
    (relation.oid, relation.schema.clone(), relation.name.clone())
}

/// Those of the relations that are not known.
fn not_known<'r>(
    known: &HashSet<(u32, String, String)>,
    relations: &'r [Relation],
) -> Vec<&'r Relation> {
    relations
        .iter()
        .filter(|relation| !known.contains(&key(relation)))
        .collect()
}

/// Locks those of the relations that are still there, in batches. A savepoint is no query: the transaction still has no
/// MVCC snapshot after it.
fn lock_existing(
    conn: &mut Connection,
    relations: &[&Relation],
    watcher: &mut Connection,
    timeout: Duration,
) -> Result<(), SnapshotError> {
    let failed = || at("could not lock the tables of the dump");
    let mut open: Vec<&[&Relation]> = relations.chunks(LOCK_BATCH).collect();
    while let Some(batch) = open.pop() {
        conn.execute("SAVEPOINT pgtide_lock").map_err(failed())?;
        let waiting = Some((&mut *watcher, timeout));
        match lock(conn, batch.iter().copied(), "", waiting)? {
            Ok(()) => conn
                .execute("RELEASE SAVEPOINT pgtide_lock")
                .map_err(failed())?,
            Err(_) => {
                conn.execute("ROLLBACK TO SAVEPOINT pgtide_lock; RELEASE SAVEPOINT pgtide_lock")
                    .map_err(failed())?;
                // Whichever it was: the others are locked without it.
                if batch.len() > 1 {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    open.extend([second, first]);
                }
            }
        }
    }
    Ok(())
}

/// Locks the relations in batches. The inner error names a table that is there no more.
fn lock<'r>(
    conn: &mut Connection,
    relations: impl Iterator<Item = &'r Relation>,
    nowait: &str,
    mut waiting: Option<(&mut Connection, Duration)>,
) -> Result<Result<(), String>, SnapshotError> {
    let relations: Vec<&Relation> = relations.filter(|r| r.is_lockable()).collect();
    for batch in relations.chunks(LOCK_BATCH) {
        let names: Vec<String> = batch
            .iter()
            .map(|r| format!("ONLY {}", r.sql_name()))
            .collect();
        let sql = format!(
            "LOCK TABLE {} IN ACCESS SHARE MODE{nowait}",
            names.join(", ")
        );
        let Err(error) = conn.execute(&sql) else {
            continue;
        };
        match (error.code(), &mut waiting) {
            // undefined_table, invalid_schema_name: dropped or renamed since it was listed.
            (Some("42P01" | "3F000"), _) => return Ok(Err(error.to_string())),
            // lock_not_available
            (Some("55P03"), Some((watcher, timeout))) => {
                let oids: Vec<u32> = batch.iter().map(|r| r.oid).collect();
                let (tables, blockers) = who_blocks(watcher, &oids)?;
                return Err(SnapshotError::LockTimeout {
                    tables,
                    waited: *timeout,
                    blockers,
                });
            }
            _ => {
                return Err(SnapshotError::Server {
                    context: "could not lock the tables of the dump".to_owned(),
                    source: error,
                });
            }
        }
    }
    Ok(Ok(()))
}

/// Who holds or awaits an exclusive lock on one of the relations: the tables, and a description of the sessions.
fn who_blocks(watcher: &mut Connection, oids: &[u32]) -> Result<(String, String), SnapshotError> {
    let rows = watcher
        .query(&format!(
            "SELECT DISTINCT n.nspname || '.' || c.relname, a.pid, coalesce(a.usename, ''), a.application_name,
               a.state, pg_catalog.regexp_replace(pg_catalog.left(a.query, 120), '\\s+', ' ', 'g')
             FROM pg_catalog.pg_locks l
             JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
               AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
               AND l.relation = ANY ('{}'::pg_catalog.oid[])",
            catalog::oid_array(oids)
        ))
        .map_err(at("could not ask who holds the locks"))?;
    let mut tables: Vec<String> = rows
        .iter()
        .filter_map(|row| row.get(0).map(str::to_owned))
        .collect();
    tables.dedup();
    let blockers: String = rows
        .iter()
        .map(|row| {
            let field = |n| row.get(n).unwrap_or_default();
            format!(
                "\n  {} is locked by process {} ({} {}, {}): {}",
                field(0),
                field(1),
                field(2),
                field(3),
                field(4),
                without_values(field(5))
            )
        })
        .collect();
    if tables.is_empty() {
        tables.push("a table".to_owned());
    }
    Ok((some_of(&tables, SHOWN), blockers))
}

/// What a statement of somebody else does, up to the first value in it: that may be a secret, and messages go to many.
fn without_values(statement: &str) -> String {
    match statement.find(['\'', '$']) {
        Some(at) => format!("{}...", statement[..at].trim_end()),
        None => statement.to_owned(),
    }
}

/// Sessions that wait for a lock which one of the given backends holds, a line each.
pub fn who_waits(watcher: &mut Connection, holders: &[i32]) -> Result<Vec<String>, Error> {
    let pids: Vec<String> = holders.iter().map(i32::to_string).collect();
    let rows = watcher.query(&format!(
        "SELECT a.pid, coalesce(a.usename, ''), a.application_name,
           coalesce((SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_locks l
             JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE l.pid = a.pid AND NOT l.granted AND l.locktype = 'relation' LIMIT 1), 'a table'),
           pg_catalog.regexp_replace(pg_catalog.left(a.query, 200), '\\s+', ' ', 'g')
         FROM pg_catalog.pg_stat_activity a
         WHERE a.wait_event_type = 'Lock' AND pg_catalog.pg_blocking_pids(a.pid) && '{{{}}}'::int4[]",
        pids.join(",")
    ))?;
    Ok(rows
        .iter()
        .map(|row| {
            let field = |n| row.get(n).unwrap_or_default();
            format!(
                "process {} ({}{}{}) waited for this dump's lock on {}: {}",
                field(0),
                field(1),
                if field(2).is_empty() { "" } else { ", " },
                field(2),
                field(3),
                field(4)
            )
        })
        .collect())
}

/// The room in the server's lock table.
struct LockTable {
    /// Locks it has room for; each may be held by two sessions on average.
    capacity: u64,
    /// Sessions and the like that the server makes room for.
    backends: u64,
    /// Locks in use.
    used: u64,
}

impl LockTable {
    fn read(conn: &mut Connection) -> Result<Self, SnapshotError> {
        let rows = conn
            .query(
                "SELECT s.per, s.per * s.backends, (SELECT count(*) FROM pg_catalog.pg_locks WHERE NOT fastpath)
                 FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8 AS per,
                   pg_catalog.sum(pg_catalog.current_setting(name)::int8) AS backends
                   FROM unnest(ARRAY['max_connections', 'max_prepared_transactions', 'autovacuum_max_workers',
                     'max_worker_processes', 'max_wal_senders']) AS name) s",
            )
            .map_err(at("could not read the size of the lock table"))?;
        let number = |n: usize| {
            rows.first()
                .and_then(|row| row.get(n))
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Ok(Self {
            capacity: number(1),
            backends: number(1) / number(0).max(1),
            used: number(2),
        })
    }

    /// Refuses before the first lock what would fill the table and hurt everybody.
    fn check(&self, tables: usize) -> Result<(), SnapshotError> {
        let needed = tables as u64;
        let free = (self.capacity * 95 / 100).saturating_sub(self.used);
        if needed <= free {
            return Ok(());
        }
        Err(SnapshotError::LockTable {
            tables,
            needed,
            free,
            suggested: ((needed + self.used) * 5 / 4).div_ceil(self.backends.max(1)),
        })
    }

    /// Whether holder, second holder and `pg_dump` fit together, with some room for everybody else.
    fn fits_second_holder(&self, tables: usize) -> bool {
        3 * tables as u64 + self.used <= 2 * self.capacity * 9 / 10
    }
}

/// The first few names, and how many more there are.
pub fn some_of(names: &[String], shown: usize) -> String {
    let mut text = names[..names.len().min(shown)].join(", ");
    if names.len() > shown {
        text.push_str(&format!(" and {} more", names.len() - shown));
    }
    text
}
