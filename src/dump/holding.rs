//! What keeps the MVCC snapshot and the locks while others read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pg::archive::Archive;
use crate::pg::interrupt::{Interrupt, Registration};
use crate::pg::pg_dump::{self, PgDumpKiller};
use crate::pg::snapshot::{self, Held};
use crate::pg::{Connection, Settings};

use super::pace::Pace;

/// How often it is looked who waits for the locks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often an idle holder is spoken to, so that nothing between it and us drops the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// What the source is spared.
#[derive(Debug, Clone, Default)]
pub struct Kindness {
    /// Bytes of rows in a second, at most.
    pub max_rate: Option<u64>,
    /// How long the MVCC snapshot may be held, which keeps vacuum from removing what was deleted since.
    pub max_snapshot_age: Option<Duration>,
}

/// The holders, and what all who read beside them share.
pub struct Holding {
    /// Settings pinned to the one server.
    pub settings: Settings,
    /// The holders' connections, for units whose lock was refused; a session takes one at a time.
    pub holders: Vec<Mutex<Connection>>,
    /// Ids of the exported snapshot.
    pub snapshot_ids: Vec<String>,
    /// The database's encoding, in which rows travel.
    pub encoding: String,
    /// Whether the user asked to stop.
    pub interrupt: Interrupt,
    /// How fast rows are read, if not as fast as they come.
    pub pace: Option<Pace>,
    /// When the MVCC snapshot was taken, and how long it may be held.
    since: Instant,
    max_age: Option<Duration>,
    /// Set when it was held for too long.
    expired: AtomicBool,
    /// Their backends.
    holder_pids: Vec<i32>,
    /// A session to compare the server's start time with.
    watcher: Mutex<Connection>,
    /// Set when the run is to end.
    stop: AtomicBool,
    /// Set when snapshot and locks were given back.
    released: AtomicBool,
    /// What the report will name.
    notes: Mutex<Vec<String>>,
    /// Ends the running `pg_dump`.
    child: Mutex<Option<PgDumpKiller>>,
    _registrations: Vec<Registration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Holding {
    /// Takes over what was locked. `watcher` is a session outside any transaction.
    pub fn new(
        held: Held,
        watcher: Connection,
        settings: Settings,
        encoding: &str,
        kindness: &Kindness,
        interrupt: &Interrupt,
    ) -> Self {
        let holders: Vec<Connection> = std::iter::once(held.first).chain(held.second).collect();
        let sessions = || holders.iter().chain(std::iter::once(&watcher));
        Self {
            settings,
            holder_pids: holders.iter().map(Connection::backend_pid).collect(),
            _registrations: sessions()
                .map(|conn| interrupt.register(conn.cancel_token()))
                .collect(),
            holders: holders.into_iter().map(Mutex::new).collect(),
            snapshot_ids: held.snapshot_ids,
            encoding: encoding.to_owned(),
            interrupt: interrupt.clone(),
            pace: kindness.max_rate.map(Pace::new),
            since: Instant::now(),
            max_age: kindness.max_snapshot_age,
            expired: AtomicBool::new(false),
            watcher: Mutex::new(watcher),
            stop: AtomicBool::new(false),
            released: AtomicBool::new(false),
            notes: Mutex::new(held.notes),
            child: Mutex::new(None),
        }
    }

    /// The session outside any transaction.
    pub fn watcher(&self) -> MutexGuard<'_, Connection> {
        lock(&self.watcher)
    }

    /// Has everything end that reads.
    pub fn halt(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether the run is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.interrupt.raised()
    }

    /// Whether the MVCC snapshot was held for longer than it may be.
    pub fn is_expired(&self) -> bool {
        self.expired.load(Ordering::SeqCst)
    }

    /// Ends everything, as the MVCC snapshot has been held for too long.
    fn expire(&self) {
        if !self.expired.swap(true, Ordering::SeqCst) {
            self.halt();
            self.interrupt.cancel();
        }
    }

    /// Says which `pg_dump` runs.
    pub fn set_child(&self, killer: PgDumpKiller) {
        *lock(&self.child) = Some(killer);
    }

    /// Ends `pg_dump`, if it runs.
    fn kill_child(&self) {
        let child = lock(&self.child).take();
        if let Some(child) = child {
            child.kill();
        }
    }

    /// Writes down who waits for the holders' locks.
    pub fn note_waiters(&self) {
        if let Ok(waiters) = snapshot::who_waits(&mut self.watcher(), &self.holder_pids) {
            let mut notes = lock(&self.notes);
            for waiter in waiters {
                if !notes.contains(&waiter) {
                    notes.push(waiter);
                }
            }
        }
    }

    /// Writes down what `pg_dump` said without failing; what it read.
    pub fn heard(&self, (archive, stderr): (Archive, String)) -> Archive {
        lock(&self.notes).extend(pg_dump::remarks(&stderr));
        archive
    }

    /// What was written down so far.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.notes))
    }

    /// Gives back the MVCC snapshot and the locks: everything was read.
    pub fn release(&self) {
        if self.released.swap(true, Ordering::SeqCst) {
            return;
        }
        for holder in &self.holders {
            // Nothing is lost if this fails.
            let _ = lock(holder).execute("COMMIT");
        }
    }

    /// Runs `f`, and meanwhile looks who waits for the locks, and keeps idle holders' connections alive.
    pub fn watched<T>(&self, f: impl FnOnce() -> T) -> T {
        let finished = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&finished));
            let _finish = Finish(&finished);
            f()
        })
    }

    fn watch(&self, finished: &AtomicBool) {
        let mut spoken = Instant::now();
        let mut looked = Instant::now();
        while !finished.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
            if self.stopped() {
                self.kill_child();
            }
            if self.released.load(Ordering::SeqCst) {
                continue;
            }
            if self.max_age.is_some_and(|age| self.since.elapsed() > age) {
                self.expire();
            }
            if looked.elapsed() >= WATCH_INTERVAL {
                looked = Instant::now();
                self.note_waiters();
            }
            if spoken.elapsed() >= KEEPALIVE_INTERVAL {
                spoken = Instant::now();
                for holder in &self.holders {
                    if let Ok(mut conn) = holder.try_lock() {
                        // A holder that is gone is noticed where it is needed.
                        let _ = conn.execute("SELECT 1");
                    }
                }
            }
        }
    }
}

/// Says that the reading has finished, however it does.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
