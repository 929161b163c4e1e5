//! The packs that wait for their next block.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::pack::OpenPack;
use super::PackGroup;

/// Packs at rest. A thread takes one out to write to it and brings it back, so no lock is held while bytes are
/// written, and two threads of one group write to two packs.
#[derive(Default)]
pub(super) struct OpenPacks(Mutex<Vec<Resting>>);

struct Resting {
    group: PackGroup,
    since: Instant,
    pack: OpenPack,
}

impl std::fmt::Debug for OpenPacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenPacks({})", self.lock().len())
    }
}

impl OpenPacks {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Resting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group's fullest pack.
    pub fn take(&self, group: PackGroup) -> Option<OpenPack> {
        let mut resting = self.lock();
        let of_group = resting
            .iter()
            .enumerate()
            .filter(|(_, resting)| resting.group == group);
        let (at, _) = of_group.max_by_key(|(_, resting)| resting.pack.size())?;
        Some(resting.swap_remove(at).pack)
    }

    /// Brings a pack back; returns one to finish if that makes too many.
    pub fn put_back(&self, group: PackGroup, pack: OpenPack, limit: usize) -> Option<OpenPack> {
        let mut resting = self.lock();
        let since = Instant::now();
        resting.push(Resting { group, since, pack });
        if resting.len() <= limit {
            return None;
        }
        let (at, _) = resting
            .iter()
            .enumerate()
            .min_by_key(|(_, resting)| resting.since)?;
        Some(resting.swap_remove(at).pack)
    }

    /// Takes those that were begun longer ago than that.
    pub fn take_older(&self, age: Duration) -> Vec<OpenPack> {
        let old = self
            .lock()
            .extract_if(.., |resting| resting.pack.opened().elapsed() >= age)
            .collect::<Vec<_>>();
        old.into_iter().map(|resting| resting.pack).collect()
    }

    /// Takes those of a group.
    pub fn take_group(&self, group: PackGroup) -> Vec<OpenPack> {
        let mut resting = self.lock();
        let of_group = resting.extract_if(.., |resting| resting.group == group);
        of_group.map(|resting| resting.pack).collect()
    }

    /// Takes all.
    pub fn take_all(&self) -> Vec<OpenPack> {
        self.lock().drain(..).map(|resting| resting.pack).collect()
    }
}
