//! The thread that makes packs durable and writes index objects for them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::super::RepoError;
use super::super::ids::PackId;
use super::super::index::{self, IndexSet};
use super::super::pack::{FinishedPack, OpenPack};
use super::Shared;

/// Packs waiting to be made durable; beyond that those who put blocks wait for the disk.
const QUEUE: usize = 4;

/// How often old packs and the index interval are looked at.
const TICK: Duration = Duration::from_secs(1);

/// The running thread.
#[derive(Debug)]
pub(super) struct Finisher {
    jobs: Sender<OpenPack>,
    thread: JoinHandle<()>,
    adopted: u64,
}

impl Finisher {
    /// Takes over the packs that no index names, then starts the thread.
    pub fn start(shared: &Arc<Shared>, orphans: Vec<(PackId, u64)>) -> Result<Self, RepoError> {
        let mut work = Work::new(Arc::clone(shared));
        let adopted = work.adopt(orphans)?;
        let (jobs, queue) = bounded(QUEUE);
        let thread = thread::Builder::new()
            .name("finisher".into())
            .spawn(move || work.run(&queue))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            jobs,
            thread,
            adopted,
        })
    }

    /// Hands over a pack; waits where the disk is behind.
    pub fn send(&self, pack: OpenPack) -> Result<(), RepoError> {
        self.jobs
            .send(pack)
            .map_err(|_| failed("it has ended".into()))
    }

    /// Waits until all packs are durable and indexed, or the writer has failed.
    pub fn join(self) -> Result<(), RepoError> {
        drop(self.jobs);
        self.thread.join().map_err(|_| failed("it panicked".into()))
    }

    /// Number of packs that were taken over.
    pub fn adopted(&self) -> u64 {
        self.adopted
    }
}

fn failed(detail: String) -> RepoError {
    RepoError::Thread {
        what: "the thread that finishes packs",
        detail,
    }
}

/// What the thread has in hand.
struct Work {
    shared: Arc<Shared>,
    /// Durable packs that no index object names yet.
    pending: Vec<FinishedPack>,
    pending_bytes: u64,
    pending_since: Instant,
}

impl Work {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since: Instant::now(),
        }
    }

    fn run(mut self, queue: &Receiver<OpenPack>) {
        let tick = TICK.min(self.shared.options.index_interval);
        loop {
            let result = match queue.recv_timeout(tick) {
                Ok(pack) => self.finish(pack),
                Err(RecvTimeoutError::Timeout) => self.finish_old(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = result.and_then(|()| self.flush_if_due()) {
                self.shared.fail(error);
            }
        }
        // Also after a failure: what is durable should be found by the next run.
        if let Err(error) = self.flush() {
            self.shared.fail(error);
        }
    }

    fn finish(&mut self, pack: OpenPack) -> Result<(), RepoError> {
        let pack = pack.finish()?;
        self.hold(pack);
        Ok(())
    }

    fn finish_old(&mut self) -> Result<(), RepoError> {
        let old = self.shared.open.take_older(self.shared.options.pack_age);
        old.into_iter().try_for_each(|pack| self.finish(pack))
    }

    fn hold(&mut self, pack: FinishedPack) {
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
        }
        self.pending_bytes += pack.size;
        self.pending.push(pack);
    }

    fn flush_if_due(&mut self) -> Result<(), RepoError> {
        let options = &self.shared.options;
        if self.pending_bytes >= options.index_bytes
            || self.pending_since.elapsed() >= options.index_interval
        {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes an index object for the packs at hand. Only then are their blocks known.
    fn flush(&mut self) -> Result<(), RepoError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (_, file) = index::put(&self.shared.repository, &index::build(&self.pending))?;
        self.shared.known.add(file);
        let mut claims = self.shared.claims();
        for entry in self.pending.drain(..).flat_map(|pack| pack.toc) {
            claims.remove(&entry.id);
        }
        self.pending_bytes = 0;
        Ok(())
    }

    /// Writes index objects for packs that have none, by their tables of contents. They may be an interrupted run's
    /// or a living writer's, who will index them again: that does no harm.
    fn adopt(&mut self, orphans: Vec<(PackId, u64)>) -> Result<u64, RepoError> {
        let mut adopted = 0;
        for (id, size) in orphans {
            match FinishedPack::read(&*self.shared.repository.store, id, size) {
                Ok(Some(pack)) => {
                    adopted += 1;
                    self.hold(pack);
                }
                Ok(None) => {}
                Err(error @ RepoError::Damaged { .. }) => tracing::warn!("left alone: {error}"),
                Err(error) => return Err(error),
            }
            self.flush_if_due()?;
        }
        self.flush()?;
        Ok(adopted)
    }
}

/// Packs that no index object names and no tombstone marks.
pub(super) fn orphans(
    index: &IndexSet,
    packs: &HashMap<PackId, u64>,
    marked: &HashSet<PackId>,
) -> Vec<(PackId, u64)> {
    let indexed = index.packs();
    let free = packs
        .iter()
        .filter(|(pack, _)| !indexed.contains_key(pack) && !marked.contains(pack));
    let mut orphans: Vec<(PackId, u64)> = free.map(|(pack, size)| (*pack, *size)).collect();
    orphans.sort_unstable();
    orphans
}
