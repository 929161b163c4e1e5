//! A limit on bytes per second, shared by all requests of a store.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Hands out time slots: a caller that wants to move bytes is told when it may go on. Unused time is not saved up, but
/// for a short while, so the rate holds over every second.
#[derive(Debug)]
pub(super) struct Limiter {
    bytes_per_second: u64,
    /// When the bytes handed out so far are through.
    free: Mutex<Option<Instant>>,
}

/// How much unused time counts.
const BURST: Duration = Duration::from_millis(100);

impl Limiter {
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free: Mutex::new(None),
        }
    }

    /// Takes room for so many bytes; they may be moved at the time that is returned, which is not before `now`.
    pub fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let nanoseconds = (bytes as u128 * 1_000_000_000) / u128::from(self.bytes_per_second);
        let needed = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = free.map_or(earliest, |free| free.max(earliest));
        *free = Some(start + needed);
        start.max(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_rate_holds_over_any_stretch(
            rate in 1_000_u64..1_000_000,
            requests in prop::collection::vec((1_usize..100_000, 0_u64..300), 1..60),
        ) {
            let limiter = Limiter::new(rate);
            let begin = Instant::now();
            let mut now = begin;
            let mut grants = Vec::new();
            for (bytes, pause) in requests {
                now += Duration::from_millis(pause);
                let at = limiter.reserve(bytes, now);
                prop_assert!(at >= now);
                grants.push((at, bytes));
                now = at;
            }
            for (first, &(start, _)) in grants.iter().enumerate() {
                let mut sum = 0_u64;
                for &(at, bytes) in &grants[first..] {
                    // All that was granted from `start` until `at`, without the last, fits into that time.
                    let allowed = ((at - start + BURST).as_secs_f64() * rate as f64) + 1.0;
                    prop_assert!(sum as f64 <= allowed, "{sum} bytes in {:?}", at - start);
                    sum += bytes as u64;
                }
            }
        }
    }

    #[test]
    fn an_idle_limiter_lets_the_next_byte_pass_at_once() {
        let limiter = Limiter::new(1000);
        let now = Instant::now();
        assert_eq!(limiter.reserve(1_000, now), now);
        assert!(limiter.reserve(1, now) > now);
        let later = now + Duration::from_secs(60);
        assert_eq!(limiter.reserve(1, later), later);
    }
}
