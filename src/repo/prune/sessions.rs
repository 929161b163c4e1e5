//! Whose sessions are alive, and the end of those that are not.
//!
//! A session is dead if its process is known to be gone, or if it gives no sign of life for as long as the prune has
//! patience, by the prune's own clock. To be wrong about it costs time and no data: a writer that finds its session
//! removed looks again for everything its snapshot needs.

use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use super::super::history::{Event, History};
use super::super::ids::{ObjectId, SessionId};
use super::super::session::{self, Beat, Registered, SessionRecord};
use super::super::{RepoError, Repository, complete, snapshots};
use crate::store::Listed;

/// How often a session that is watched is looked at.
const POLL: Duration = Duration::from_millis(500);

/// A session of somebody else.
#[derive(Debug)]
pub(in crate::repo) struct Live {
    id: SessionId,
    /// Nothing if it cannot be read.
    record: Option<SessionRecord>,
    /// Nothing if it has not given a sign of life yet: it has loaded no index.
    beat: Option<Beat>,
    began: jiff::Timestamp,
}

impl Live {
    /// Whether it began before that time, by the storage's clock.
    pub fn began_before(&self, time: jiff::Timestamp) -> bool {
        self.began <= time
    }

    /// Whether it saw those tombstones before it loaded the index.
    pub fn has_seen_all<'a>(&self, mut tombstones: impl Iterator<Item = &'a ObjectId>) -> bool {
        tombstones.all(|id| self.has_seen(id))
    }

    fn has_seen(&self, tombstone: &ObjectId) -> bool {
        self.beat
            .as_ref()
            .is_some_and(|beat| beat.tombstones.contains(tombstone))
    }

    fn name(&self) -> String {
        match &self.record {
            Some(record) => format!(
                "{} (process {}), since {}",
                record.host, record.pid, record.started
            ),
            None => session::object_name(&self.id),
        }
    }
}

/// The sessions that are alive, after those that are not were ended.
pub(in crate::repo) struct AllLive {
    live: Vec<Live>,
    /// What there is to say of the others.
    pub notes: Vec<String>,
}

impl AllLive {
    /// Who they are.
    pub fn names(&self) -> Vec<String> {
        self.live.iter().map(Live::name).collect()
    }

    /// When the oldest of them began, by the storage's clock.
    pub fn oldest(&self) -> Option<jiff::Timestamp> {
        self.live.iter().map(|live| live.began).min()
    }

    /// The tombstones that all of them have seen.
    pub fn deletable<'a>(
        &self,
        tombstones: impl Iterator<Item = &'a ObjectId>,
    ) -> BTreeSet<ObjectId> {
        tombstones
            .filter(|id| self.live.iter().all(|live| live.has_seen(id)))
            .copied()
            .collect()
    }
}

/// Keeps an eye on the sessions of others.
pub(in crate::repo) struct Watch<'a> {
    repository: &'a Repository,
    own: SessionId,
    /// The first counter that was seen of each, and when.
    seen: HashMap<SessionId, (Option<u64>, Instant)>,
}

impl<'a> Watch<'a> {
    pub fn new(repository: &'a Repository, own: SessionId) -> Self {
        Self {
            repository,
            own,
            seen: HashMap::new(),
        }
    }

    /// All sessions but our own that are registered now.
    fn look(&self) -> Result<Vec<Live>, RepoError> {
        let store = &*self.repository.store;
        let mut all = Vec::new();
        for Listed { name, modified, .. } in store.list(session::PREFIX)? {
            let Some(id) = session::parse_name(&name).filter(|id| *id != self.own) else {
                continue;
            };
            let Some(Registered { record, beat }) = session::read(self.repository, &id)? else {
                continue;
            };
            all.push(Live {
                id,
                record,
                beat,
                began: modified,
            });
        }
        Ok(all)
    }

    /// The sessions that have not seen all of these tombstones.
    pub fn names<'t>(
        &self,
        tombstones: impl Iterator<Item = &'t ObjectId> + Clone,
    ) -> Result<Vec<String>, RepoError> {
        let all = self.look()?.into_iter();
        let waiting = all.filter(|live| !live.has_seen_all(tombstones.clone()));
        Ok(waiting.map(|live| live.name()).collect())
    }

    /// Ends the sessions that are dead; returns those that are alive. Waits for a sign of life of those that hold
    /// something up, and of no others; `waiting` is told for how long it has been doing that.
    pub fn settle(
        &mut self,
        patience: Duration,
        holds_up: &dyn Fn(&Live) -> bool,
        waiting: &dyn Fn(Duration),
    ) -> Result<AllLive, RepoError> {
        let began = Instant::now();
        let mut notes = Vec::new();
        loop {
            let mut alive = Vec::new();
            let mut wait = false;
            for live in self.look()? {
                let counter = live.beat.as_ref().map(|beat| beat.counter);
                let (first, since) = *self
                    .seen
                    .entry(live.id)
                    .or_insert_with(|| (counter, Instant::now()));
                let known = live.record.as_ref().and_then(SessionRecord::is_alive);
                let dead = match known {
                    Some(alive) => !alive,
                    None => first == counter && since.elapsed() >= patience,
                };
                if dead {
                    bury(self.repository, &live.id)?;
                    notes.push(format!(
                        "{} ended without a word: its session was removed",
                        live.name()
                    ));
                    continue;
                }
                wait |= known.is_none() && first == counter && holds_up(&live);
                alive.push(live);
            }
            if !wait {
                return Ok(AllLive { live: alive, notes });
            }
            waiting(began.elapsed());
            thread::sleep(POLL.min(patience / 4));
        }
    }
}

/// Removes a dead session. A snapshot that it put and could not record is recorded first, if it is whole.
fn bury(repository: &Repository, id: &SessionId) -> Result<(), RepoError> {
    let store = &*repository.store;
    let history = History::load(repository)?;
    let known = history.committed();
    let mut committed = Vec::new();
    for snapshot in snapshots::list(store)? {
        if known.contains(&snapshot) {
            continue;
        }
        if let Ok(stored) = snapshots::load(repository, &snapshot)
            && stored.session == *id
            && complete::missing(repository, &stored.snapshot)? == 0
        {
            committed.push(snapshot);
        }
    }
    if !committed.is_empty() {
        history.append(repository, Event::Committed(committed))?;
    }
    session::remove(store, id)
}
