//! The same work on many blocks, by several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::RepoError;
use crate::rows::Decoder;

/// What a thread needs to read blocks, and keeps for the next one.
#[derive(Default)]
pub(super) struct Scratch {
    pub decoder: Decoder,
    /// The encoded block.
    pub encoded: Vec<u8>,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Does the work on all items, by at most `jobs` threads; the results are in the order of the items. The first failure
/// ends it.
pub(super) fn map<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&mut Scratch, &T) -> Result<R, RepoError> + Sync,
) -> Result<Vec<R>, RepoError> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, Result<R, RepoError>)>> = Mutex::default();
    let run = || {
        let mut scratch = Scratch::default();
        let mut mine = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            let result = work(&mut scratch, item);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            mine.push((at, result));
        }
        results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut mine);
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(items.len()) {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_failure_is_told() {
        let items: Vec<u64> = (0..1000).collect();
        for jobs in [0, 1, 4] {
            let doubled = map(jobs, &items, |_, n| Ok(n * 2)).unwrap();
            assert_eq!(doubled, items.iter().map(|n| n * 2).collect::<Vec<_>>());
            let failed = map(jobs, &items, |_, n| match n {
                500.. => Err(RepoError::Interrupted),
                _ => Ok(()),
            });
            assert!(matches!(failed, Err(RepoError::Interrupted)));
            assert!(map(jobs, &[] as &[u64], |_, _| Ok(())).unwrap().is_empty());
        }
    }
}
