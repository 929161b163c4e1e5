//! Requests to webhooks, chats, dead-man's switches and push gateways.

use std::sync::Arc;
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use reqwest::blocking::{Client, RequestBuilder};
use rustls::RootCertStore;

/// A request takes at most so long ...
const TIMEOUT: Duration = Duration::from_secs(20);
/// ... and is made so often.
const TRIES: usize = 3;
/// Characters of an answer that are shown.
const SHOWN: usize = 200;

/// A client that trusts the certificates of the system.
pub fn client() -> Result<Client, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .user_agent(concat!("pgtide/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| error.to_string())
}

/// Makes a request, again where the server did not answer or is not well. URLs are not shown: they may be secrets.
pub fn send(request: &dyn Fn(&Client) -> RequestBuilder) -> Result<(), String> {
    let client = client()?;
    let tries = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_times(TRIES - 1);
    let once = || -> Result<(), (bool, String)> {
        let response = request(&client)
            .send()
            .map_err(|error| (true, cause(error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text: String = response
            .text()
            .unwrap_or_default()
            .chars()
            .take(SHOWN)
            .collect();
        let again = status.is_server_error() || status.as_u16() == 429;
        Err((
            again,
            format!("the server answered {status}: {}", text.trim()),
        ))
    };
    let result = once.retry(tries).when(|(again, _)| *again).call();
    result.map_err(|(_, error)| error)
}

/// Posts a text.
pub fn post(url: &str, kind: &str, text: &str) -> Result<(), String> {
    send(&|client| {
        client
            .post(url)
            .header("content-type", kind)
            .body(text.to_owned())
    })
}

/// What went wrong, without the URL.
fn cause(error: reqwest::Error) -> String {
    super::causes(&error.without_url())
}
