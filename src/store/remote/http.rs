//! Requests on the wire: a watchdog over every byte, bandwidth limits, and a note of what the server last said.
//!
//! `object_store` retries and signs; it drops what a server said in detail, and takes an error document for an empty
//! listing. So this service sits below it: answers that are none become errors before it sees them, and the details of
//! an error are kept for [`super::failure`].

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use rustls::RootCertStore;
use tokio::time::{Sleep, sleep_until};

use super::failure::{Answer, Notes};
use super::limit::Limiter;
use super::options::OpenError;
use super::xml;

/// Bytes that are sent at once: what the watchdog and the limit see.
const FRAME: usize = 128 * 1024;

/// Of an error's body so much is read.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// A page of a listing has at most 5,000 objects of some hundred bytes each.
const MAX_DOCUMENT: usize = 64 << 20;

/// How requests are made.
#[derive(Debug)]
pub(super) struct Wire {
    pub stall: Duration,
    pub request: Duration,
    pub upload: Option<Limiter>,
    pub download: Option<Limiter>,
    pub roots: RootCertStore,
}

/// The certificates of the system, and those of a file.
pub(super) fn roots(ca_file: Option<&str>) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca_file {
        let wrong = |problem: String| {
            OpenError::new(file, problem, "give a file with certificates in PEM format")
        };
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(error.to_string()))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(wrong("has no certificate that can be used".into()));
        }
    }
    Ok(roots)
}

/// Makes clients for `object_store`.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub Arc<Wire>);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options
            .get_config_value(&ClientConfigKey::AllowHttp)
            .as_deref()
            == Some("true");
        self.client(allow_http)
            .map_err(|source| object_store::Error::Generic {
                store: "HTTP client",
                source,
            })
    }
}

impl Connector {
    /// A client for one server.
    pub fn client(&self, allow_http: bool) -> Result<HttpClient, Box<dyn Error + Send + Sync>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.0.roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = reqwest::Client::builder()
            .user_agent(concat!("pgtide/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .https_only(!allow_http)
            .http1_only()
            .connect_timeout(Duration::from_secs(10).min(self.0.stall))
            .timeout(self.0.request)
            .build()?;
        Ok(HttpClient::new(Service {
            client,
            wire: Arc::clone(&self.0),
        }))
    }
}

#[derive(Debug)]
struct Service {
    client: reqwest::Client,
    wire: Arc<Wire>,
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let result = self.exchange(request, &method, &uri).await;
        Notes::set(match &result {
            Ok(_) => None,
            Err(failure) => Some(failure.answer.clone()),
        });
        result.map_or_else(
            |failure| match failure.response {
                Some(response) => Ok(response),
                None => Err(HttpError::new(
                    failure.kind,
                    io::Error::other(failure.answer.to_string()),
                )),
            },
            Ok,
        )
    }
}

/// A request that failed: what is to be remembered of it, and what `object_store` is told.
struct Failed {
    answer: Answer,
    kind: HttpErrorKind,
    response: Option<HttpResponse>,
}

impl Service {
    async fn exchange(
        &self,
        request: HttpRequest,
        method: &Method,
        uri: &Uri,
    ) -> Result<HttpResponse, Failed> {
        let progress = Progress::new(self.wire.stall);
        let (parts, body) = request.into_parts();
        let url = parts
            .uri
            .to_string()
            .parse()
            .map_err(|error: url::ParseError| {
                lost(uri, HttpErrorKind::Unknown, error.to_string())
            })?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        if body.content_length() > 0 {
            *request.body_mut() = Some(reqwest::Body::wrap(Sending {
                left: SizeHint::with_exact(body.content_length() as u64),
                body,
                frame: Bytes::new(),
                wait: None,
                progress: progress.clone(),
                wire: Arc::clone(&self.wire),
            }));
        }
        let response = tokio::select! {
            response = self.client.execute(request) => response.map_err(|error| transport(uri, error))?,
            () = progress.stalled() => return Err(stalled(uri, self.wire.stall)),
        };
        progress.moved();
        let response: http::Response<reqwest::Body> = response.into();
        let (parts, body) = response.into_parts();
        let body = Receiving {
            body,
            wait: Box::pin(sleep_until(progress.deadline().into())),
            limited: false,
            progress,
            wire: Arc::clone(&self.wire),
        };
        if !parts.status.is_success() {
            let bytes = collect(body, MAX_ERROR_BODY).await.unwrap_or_default();
            let answer = Answer::refused(uri, parts.status, &parts.headers, &bytes);
            return Err(Failed {
                answer,
                kind: HttpErrorKind::Unknown,
                response: Some(HttpResponse::from_parts(parts, bytes.into())),
            });
        }
        let Some(expected) = document(method, uri) else {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        };
        // The answer is a document, and all of it is needed to know what it says.
        let bytes = collect(body, MAX_DOCUMENT)
            .await
            .map_err(|error| lost(uri, HttpErrorKind::Request, error.to_string()))?;
        match xml::verify(&bytes, expected) {
            Ok(()) => Ok(HttpResponse::from_parts(parts, bytes.into())),
            Err(xml::Wrong::Error) => {
                // 200 on the outside, an error inside: told as the error it is, so that it is tried again or not.
                let mut answer = Answer::refused(uri, StatusCode::OK, &parts.headers, &bytes);
                let status = match answer.code.as_str() {
                    "InternalError" | "SlowDown" | "ServiceUnavailable" | "RequestTimeout"
                    | "OperationAborted" => StatusCode::SERVICE_UNAVAILABLE,
                    "NoSuchUpload" | "NoSuchKey" | "NoSuchBucket" => StatusCode::NOT_FOUND,
                    "AccessDenied" => StatusCode::FORBIDDEN,
                    _ => StatusCode::BAD_REQUEST,
                };
                answer.status = Some(status);
                let mut parts = parts;
                parts.status = status;
                Err(Failed {
                    answer,
                    kind: HttpErrorKind::Unknown,
                    response: Some(HttpResponse::from_parts(parts, bytes.into())),
                })
            }
            // Cut on its way, or made up by something in between: asking again is all that can be done.
            Err(xml::Wrong::Document(detail)) => Err(Failed {
                answer: Answer::nonsense(uri, detail),
                kind: HttpErrorKind::Request,
                response: None,
            }),
        }
    }
}

/// The root element that a successful answer must have, where the answer is a document.
fn document(method: &Method, uri: &Uri) -> Option<&'static str> {
    let query = uri.query().unwrap_or_default();
    let has = |name: &str| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(name))
    };
    match *method {
        Method::GET if has("list-type") => Some("ListBucketResult"),
        Method::GET if has("comp") && query.contains("comp=list") => Some("EnumerationResults"),
        Method::GET if has("uploads") => Some("ListMultipartUploadsResult"),
        Method::POST if has("uploads") => Some("InitiateMultipartUploadResult"),
        Method::POST if has("uploadId") => Some("CompleteMultipartUploadResult"),
        _ => None,
    }
}

async fn collect(body: Receiving, limit: usize) -> Result<Bytes, HttpError> {
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(HttpError::new(
                    HttpErrorKind::Unknown,
                    io::Error::other("the answer is too long"),
                ));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.into())
}

fn lost(uri: &Uri, kind: HttpErrorKind, detail: String) -> Failed {
    Failed {
        answer: Answer::lost(uri, detail),
        kind,
        response: None,
    }
}

fn stalled(uri: &Uri, stall: Duration) -> Failed {
    // All requests of a store may be repeated, so a lost one counts as one that was never sent.
    lost(
        uri,
        HttpErrorKind::Request,
        format!("no byte moved for {stall:?}"),
    )
}

/// Sorts an error of the transport. Only what a second try cannot cure is not tried again.
fn transport(uri: &Uri, error: reqwest::Error) -> Failed {
    let mut causes = Vec::new();
    let mut hopeless = error.is_builder() || error.is_redirect();
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(inner) = error.get_ref()
            && inner.is::<rustls::Error>()
        {
            hopeless = true;
        }
        hopeless |= error.is::<rustls::Error>();
        let text = error.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        cause = error.source();
    }
    // Where there is no metadata service there never will be one.
    hopeless |= super::failure::is_metadata(uri);
    let kind = if hopeless {
        HttpErrorKind::Unknown
    } else {
        HttpErrorKind::Request
    };
    lost(uri, kind, causes.join(": "))
}

/// When a request last moved a byte; while it waits for its share of the bandwidth, that lies in the future.
#[derive(Debug, Clone)]
struct Progress {
    last: Arc<Mutex<Instant>>,
    stall: Duration,
}

impl Progress {
    fn new(stall: Duration) -> Self {
        Self {
            last: Arc::new(Mutex::new(Instant::now())),
            stall,
        }
    }

    fn moved(&self) {
        self.moved_at(Instant::now());
    }

    fn moved_at(&self, at: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// When it counts as stalled, if nothing moves until then.
    fn deadline(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.stall
    }

    /// Ends when nothing has moved for too long.
    async fn stalled(&self) {
        loop {
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline.into()).await;
        }
    }
}

/// A request's body, in small frames.
struct Sending {
    body: HttpRequestBody,
    frame: Bytes,
    left: SizeHint,
    wait: Option<Pin<Box<Sleep>>>,
    progress: Progress,
    wire: Arc<Wire>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
            return Poll::Ready(Some(Ok(self.next_frame())));
        }
        while self.frame.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => self.frame = frame.into_data().unwrap_or_default(),
            }
        }
        let now = Instant::now();
        let go = match &self.wire.upload {
            Some(limit) => limit.reserve(self.frame.len().min(FRAME), now),
            None => now,
        };
        self.progress.moved_at(go);
        if go > now {
            self.wait = Some(Box::pin(sleep_until(go.into())));
            return self.poll_frame(cx);
        }
        Poll::Ready(Some(Ok(self.next_frame())))
    }

    fn size_hint(&self) -> SizeHint {
        self.left
    }
}

impl Sending {
    fn next_frame(&mut self) -> Frame<Bytes> {
        let len = self.frame.len().min(FRAME);
        let frame = self.frame.split_to(len);
        self.left = SizeHint::with_exact(self.left.lower().saturating_sub(len as u64));
        Frame::data(frame)
    }
}

/// A response's body under watch.
struct Receiving {
    body: reqwest::Body,
    /// The watchdog's timer, or that of the limit.
    wait: Pin<Box<Sleep>>,
    limited: bool,
    progress: Progress,
    wire: Arc<Wire>,
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.limited {
            ready!(self.wait.as_mut().poll(cx));
            self.limited = false;
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let now = Instant::now();
                let go = match (&self.wire.download, frame.data_ref()) {
                    (Some(limit), Some(data)) => limit.reserve(data.len(), now),
                    _ => now,
                };
                self.progress.moved_at(go);
                if go > now {
                    // This frame is here; the next one has to wait.
                    self.limited = true;
                    self.wait.as_mut().reset(go.into());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let text = error
                    .source()
                    .map_or_else(|| error.to_string(), ToString::to_string);
                Poll::Ready(Some(Err(HttpError::new(
                    HttpErrorKind::Interrupted,
                    io::Error::other(text),
                ))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let deadline = self.progress.deadline();
                self.wait.as_mut().reset(deadline.into());
                ready!(self.wait.as_mut().poll(cx));
                let text = format!("no byte moved for {:?}", self.wire.stall);
                Poll::Ready(Some(Err(HttpError::new(
                    HttpErrorKind::Timeout,
                    io::Error::other(text),
                ))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        !self.limited && self.body.is_end_stream()
    }
}
