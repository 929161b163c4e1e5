//! Cancelling what a session does, from another thread.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Error;
use super::settings::Settings;
use super::stream::{Address, Stream};
use super::tls::Connector;

/// A cancel request that no server answers is given up after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the server to stop what a session does. Can be kept and sent anywhere; using it after the session has ended does
/// no harm.
#[derive(Debug, Clone)]
pub struct CancelToken {
    settings: Settings,
    target: Address,
    address: Arc<str>,
    connector: Option<Arc<Connector>>,
    pid: i32,
    secret: Arc<[u8]>,
}

impl CancelToken {
    pub(super) fn new(
        settings: Settings,
        target: Address,
        address: Arc<str>,
        connector: Option<Arc<Connector>>,
        pid: i32,
        secret: Arc<[u8]>,
    ) -> CancelToken {
        CancelToken {
            settings,
            target,
            address,
            connector,
            pid,
            secret,
        }
    }

    /// Sends the request over a connection of its own, encrypted if the session's is. Returns once the server has taken
    /// it; the session then sees error 57014, unless it had finished before.
    pub fn cancel(&self) -> Result<(), Error> {
        let io = |e| Error::io(&self.address, e);
        let deadline = Some(Instant::now() + self.settings.timeout.unwrap_or(PATIENCE));
        let raw = self
            .settings
            .open_raw(&self.target, &self.address, deadline)?;
        let mut stream = match &self.connector {
            Some(connector) => connector.open(raw, &self.address, deadline, true)?,
            None => Stream::Plain(raw),
        };
        stream.set_deadline(deadline).map_err(io)?;
        let mut out = Vec::new();
        super::wire::message(&mut out, None, |out| {
            out.extend_from_slice(&((1234u32 << 16) | 5678).to_be_bytes());
            out.extend_from_slice(&self.pid.to_be_bytes());
            out.extend_from_slice(&self.secret);
        })
        .map_err(io)?;
        std::io::Write::write_all(&mut stream, &out).map_err(io)?;
        std::io::Write::flush(&mut stream).map_err(io)?;
        // The server closes without a word. A reset says the same.
        let _ = stream.read(&mut [0]);
        Ok(())
    }
}
