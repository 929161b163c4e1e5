//! Stopping cleanly: a flag that all workers look at, and the server-side work that it cancels.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::CancelToken;

/// Shared by all workers of a run; cloned freely.
#[derive(Clone, Default)]
pub struct Interrupt {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    raised: AtomicBool,
    next: AtomicU64,
    tokens: Mutex<Vec<(u64, CancelToken)>>,
}

/// Takes a connection's token back when it goes out of scope.
pub struct Registration {
    interrupt: Interrupt,
    number: u64,
}

impl Interrupt {
    /// Whether the run was asked to stop.
    pub fn raised(&self) -> bool {
        self.inner.raised.load(Ordering::SeqCst)
    }

    /// Asks the run to stop: sets the flag and cancels what registered connections are doing at the server.
    pub fn raise(&self) {
        self.inner.raised.store(true, Ordering::SeqCst);
        self.cancel();
    }

    /// Cancels what registered connections are doing at the server.
    pub fn cancel(&self) {
        let tokens = self.tokens();
        for (_, token) in tokens.iter() {
            // A connection that cannot be cancelled any more has nothing left to stop.
            let _ = token.cancel();
        }
    }

    /// Registers a connection whose work is to be cancelled when the run is stopped.
    pub fn register(&self, token: CancelToken) -> Registration {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.tokens().push((number, token));
        Registration {
            interrupt: self.clone(),
            number,
        }
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, Vec<(u64, CancelToken)>> {
        self.inner
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.interrupt
            .tokens()
            .retain(|(number, _)| *number != self.number);
    }
}
