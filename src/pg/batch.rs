//! Many small statements without waiting for each: DDL by the thousand.

use super::connection::{Connection, TransactionStatus};
use super::error::BatchError;

/// Bounds of what a batch sends before it reads the replies: small enough to always fit the socket's buffers.
const WINDOW_STATEMENTS: usize = 64;
const WINDOW_BYTES: usize = 64 * 1024;

impl Connection {
    /// Runs statements, each as a message of its own, and stops at the first failure.
    ///
    /// Inside a transaction block many travel before the first reply is awaited: what follows a failed one is then
    /// refused by the server, so nothing is done twice or out of order. Outside of one, each waits for the one before. A
    /// batch must therefore not end the transaction it was started in.
    pub fn batch<'s, S: AsRef<[u8]> + ?Sized + 's>(
        &mut self,
        statements: impl IntoIterator<Item = &'s S>,
    ) -> Result<(), BatchError> {
        let mut statements = statements.into_iter().peekable();
        let mut first = 0;
        while statements.peek().is_some() {
            let window = match self.transaction_status() {
                TransactionStatus::Idle => 1,
                _ => WINDOW_STATEMENTS,
            };
            let failed = |offset| {
                move |source| BatchError {
                    index: first + offset,
                    source,
                }
            };
            self.check_free().map_err(failed(0))?;
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            let mut sent = 0;
            while sent < window && out.len() < WINDOW_BYTES {
                let Some(sql) = statements.next() else { break };
                self.query_message(&mut out, sql.as_ref())
                    .map_err(failed(sent))?;
                sent += 1;
            }
            self.busy = true;
            let written = self.write(&out);
            self.out = out;
            written.map_err(failed(0))?;
            let mut failure = None;
            for offset in 0..sent {
                self.busy = true;
                if let Err(error) = self.finish_query() {
                    let lost = self.broken.is_some();
                    failure.get_or_insert(failed(offset)(error));
                    if lost {
                        break;
                    }
                }
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            first += sent;
        }
        Ok(())
    }
}
