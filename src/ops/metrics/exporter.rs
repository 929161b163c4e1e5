//! `pgtide exporter`: the metrics over HTTP. It keeps nothing: each request looks at the repositories.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::gauges::Gauges;
use crate::ops::config::Profile;
use crate::ops::state::State;
use crate::pg::interrupt::Interrupt;

/// Time after a connection that could not be taken.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}: {source}\nhint: --listen takes another address")]
pub struct ExporterError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Answers requests for metrics.
pub struct Exporter {
    profiles: Arc<Vec<Profile>>,
    listener: std::net::TcpListener,
}

impl Exporter {
    /// Listens on an address.
    pub fn bind(address: SocketAddr, profiles: Vec<Profile>) -> Result<Self, ExporterError> {
        let failed = |source| ExporterError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            profiles: Arc::new(profiles),
            listener,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is to stop.
    pub fn run(self, interrupt: &Interrupt) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        // One scrape at a time, however many ask: each opens repositories.
        let scrape = Arc::new(Mutex::new(()));
        let result = runtime.block_on(async {
            let listener = TcpListener::from_std(self.listener)?;
            crate::ops::run::systemd(&[sd_notify::NotifyState::Ready]);
            let mut look = tokio::time::interval(std::time::Duration::from_millis(200));
            loop {
                tokio::select! {
                    _ = look.tick() => {
                        if interrupt.raised() {
                            return Ok(());
                        }
                    }
                    accepted = listener.accept() => {
                        let stream = match accepted {
                            Ok((stream, _)) => stream,
                            // The client is gone, or there are no descriptors left for a while.
                            Err(error) => {
                                tracing::warn!("a client of the exporter: {error}");
                                tokio::time::sleep(PAUSE).await;
                                continue;
                            }
                        };
                        let (profiles, scrape) = (Arc::clone(&self.profiles), Arc::clone(&scrape));
                        tokio::spawn(async move {
                            let service = service_fn(move |request| answer(request, Arc::clone(&profiles), Arc::clone(&scrape)));
                            let connection = hyper::server::conn::http1::Builder::new()
                                .serve_connection(TokioIo::new(stream), service);
                            if let Err(error) = connection.await {
                                tracing::debug!("a client of the exporter: {error}");
                            }
                        });
                    }
                }
            }
        });
        // A scrape that waits for a storage is not waited for.
        runtime.shutdown_background();
        result
    }
}

async fn answer(
    request: Request<Incoming>,
    profiles: Arc<Vec<Profile>>,
    scrape: Arc<Mutex<()>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_get = [Method::GET, Method::HEAD].contains(request.method());
    let (status, kind, text) = match (is_get, request.uri().path()) {
        (true, "/metrics") => {
            let _alone = scrape.lock().await;
            // Repositories are read by blocking calls.
            let text = tokio::task::spawn_blocking(move || metrics(&profiles)).await;
            match text {
                Ok(text) => (
                    StatusCode::OK,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    text,
                ),
                Err(error) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain",
                    error.to_string(),
                ),
            }
        }
        (true, "/") => (
            StatusCode::OK,
            "text/plain",
            "pgtide: see /metrics\n".to_owned(),
        ),
        (true, _) => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "see /metrics\n".to_owned(),
        ),
        (false, _) => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "GET only\n".to_owned(),
        ),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Full::from(text));
    Ok(response.unwrap_or_default())
}

/// The metrics of all profiles.
fn metrics(profiles: &[Profile]) -> String {
    let mut gauges = Gauges::default();
    for profile in profiles {
        match State::of(profile) {
            Ok(state) => {
                gauges.state(&state);
                gauges.past(&state);
            }
            Err(error) => {
                tracing::warn!("{}: {error}", profile.name);
                gauges.reachable(profile, false);
            }
        }
    }
    gauges.text()
}
