//! An S3 server in memory that fails as it is told to.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use pgtide::store::{self, Options, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

pub use super::wire::{Request, Response};

/// How a request fails.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This is answered, and nothing is done.
    Answer(Response),
    /// Nothing is answered, and the connection stays open.
    Stall,
    /// The connection ends, and nothing was done.
    Refuse,
    /// It is done, and the connection ends before the answer.
    Lose,
    /// The connection ends in the middle of the body.
    Cut,
    /// The body is half as long as it should be, and the length says so.
    Short,
    /// The bytes of another range come, and that is said.
    WrongRange,
    /// The whole object comes instead of a range.
    Whole,
    /// A byte of the body is another.
    Flip,
    /// A listing says that it goes on, but not where.
    NoToken,
    /// A listing does not have the objects that were put last.
    Stale(usize),
    /// All pages of a listing name the same page as the next one.
    Loop,
    /// A listing has everything twice.
    Double,
}

/// An answer that is an error.
pub fn error(status: u16, code: &str) -> Fault {
    Fault::Answer(Response::error(status, code, "as scripted"))
}

type When = Box<dyn Fn(&Request) -> bool + Send>;

/// What is stored, and what is to go wrong.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    order: Vec<String>,
    uploads: HashMap<String, Upload>,
    retention: HashMap<String, String>,
    script: Vec<(When, usize, Fault)>,
    chaos: Option<(StdRng, f64)>,
    log: Vec<Request>,
    sent: u64,
    page: usize,
    numbers: u64,
}

#[derive(Clone)]
struct Object {
    bytes: Vec<u8>,
    modified: jiff::Timestamp,
}

struct Upload {
    key: String,
    begun: jiff::Timestamp,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// The running server; its threads end with the process.
#[derive(Clone)]
pub struct Endpoint {
    state: Arc<Mutex<State>>,
    pub address: String,
    cache: Arc<tempfile::TempDir>,
}

pub const SECRET: &str = "very-secret-key";

impl Endpoint {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            page: 1000,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&state, stream));
            }
        });
        Self {
            state,
            address,
            cache: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A store in the server's bucket, which gives up soon.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store_with(&[])
    }

    pub fn store_with(&self, options: &[&str]) -> Arc<dyn Store> {
        let endpoint = format!("s3.endpoint={}", self.address);
        let usual = [endpoint.as_str(), "retries=3", "timeout.stall=150ms"];
        let options = Options::parse(usual.into_iter().chain(options.iter().copied())).unwrap();
        let cache = self.cache.path().display().to_string();
        let env = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("key".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some(SECRET.to_owned()),
            "PGTIDE_CACHE_DIR" => Some(cache.clone()),
            _ => None,
        };
        store::open("s3://bucket/repo", &options, &env).unwrap()
    }

    /// The next `times` requests of that kind fail like this.
    pub fn fail(
        &self,
        times: usize,
        fault: Fault,
        when: impl Fn(&Request) -> bool + Send + 'static,
    ) {
        self.state().script.push((Box::new(when), times, fault));
    }

    /// From now on requests fail at random, with that probability.
    pub fn chaos(&self, seed: u64, probability: f64) {
        self.state().chaos = Some((StdRng::seed_from_u64(seed), probability));
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        let mut state = self.state();
        state.script.clear();
        state.chaos = None;
    }

    /// How many of the failures asked for are still to come.
    pub fn pending(&self) -> usize {
        self.state().script.iter().map(|(_, times, _)| times).sum()
    }

    /// Objects on a page of a listing.
    pub fn page(&self, objects: usize) {
        self.state().page = objects;
    }

    /// All requests since the last call.
    pub fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().log)
    }

    /// Bytes of bodies sent since the last call.
    pub fn sent(&self) -> u64 {
        std::mem::take(&mut self.state().sent)
    }

    /// Uploads that were begun and not ended.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// An upload that someone began then.
    pub fn begin_upload(&self, key: &str, begun: jiff::Timestamp) {
        let id = format!("{key} {begun}");
        let upload = Upload {
            key: key.into(),
            begun,
            parts: BTreeMap::new(),
        };
        self.state().uploads.insert(id, upload);
    }

    /// Changes a stored object.
    pub fn change(&self, key: &str, change: impl Fn(&mut Vec<u8>)) {
        change(&mut self.state().objects.get_mut(key).unwrap().bytes);
    }

    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }
}

fn serve(state: &Mutex<State>, mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = super::wire::read(&mut reader) {
        let fault = {
            let mut state = state.lock().unwrap();
            state.log.push(Request {
                body: Vec::new(),
                ..request.clone()
            });
            state.fault(&request)
        };
        let answer = || state.lock().unwrap().answer(&request);
        let mut cut = usize::MAX;
        let mut response = match fault {
            Some(Fault::Answer(response)) => response,
            Some(Fault::Stall) => {
                // Until the other side gives up.
                let _ = stream.read(&mut [0]);
                return;
            }
            Some(Fault::Refuse) => return drop(stream.shutdown(Shutdown::Both)),
            Some(Fault::Lose) => {
                answer();
                return drop(stream.shutdown(Shutdown::Both));
            }
            Some(Fault::Cut) => {
                let response = answer();
                cut = response.body.len() / 2;
                response
            }
            Some(Fault::Whole) => {
                let plain = Request {
                    headers: HashMap::new(),
                    ..request.clone()
                };
                state.lock().unwrap().answer(&plain)
            }
            Some(fault) => spoil(answer(), &fault),
            None => answer(),
        };
        if request.is("HEAD") && response.status >= 300 {
            response.body.clear();
        }
        state.lock().unwrap().sent += response.body.len().min(cut) as u64;
        if response.send(&mut stream, request.is("HEAD"), cut).is_err() || cut < response.body.len()
        {
            return drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// An answer that is wrong in some way.
fn spoil(mut response: Response, fault: &Fault) -> Response {
    let text = |response: &Response| String::from_utf8_lossy(&response.body).into_owned();
    match fault {
        Fault::Short => response.body.truncate(response.body.len() / 2),
        Fault::Flip => {
            if let Some(byte) = response.body.last_mut() {
                *byte ^= 1;
            }
        }
        Fault::WrongRange => {
            for (name, value) in &mut response.headers {
                if name == "content-range" {
                    let (_, rest) = value.split_once('-').unwrap();
                    *value = format!("bytes 1-{rest}");
                }
            }
        }
        Fault::NoToken => {
            response.body = text(&response)
                .replace("<IsTruncated>false", "<IsTruncated>true")
                .into();
        }
        Fault::Loop => {
            let next = "<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>";
            response.body = text(&response)
                .replace("<IsTruncated>false</IsTruncated>", next)
                .into();
        }
        Fault::Double => {
            let text = text(&response);
            let (start, end) = (
                text.find("<Contents>").unwrap(),
                text.find("<IsTruncated>").unwrap(),
            );
            response.body = format!("{}{}{}", &text[..end], &text[start..end], &text[end..]).into();
        }
        Fault::Stale(newest) => {
            let mut text = text(&response);
            for _ in 0..*newest {
                let Some(start) = text.rfind("<Contents>") else {
                    break;
                };
                let end = text.rfind("</Contents>").unwrap() + "</Contents>".len();
                text.replace_range(start..end, "");
            }
            response.body = text.into();
        }
        _ => {}
    }
    response
}

impl State {
    fn fault(&mut self, request: &Request) -> Option<Fault> {
        let found = self
            .script
            .iter()
            .position(|(when, times, _)| *times > 0 && when(request));
        if let Some(at) = found {
            self.script[at].1 = self.script[at].1.saturating_sub(1);
            return Some(self.script[at].2.clone());
        }
        let (rng, probability) = self.chaos.as_mut()?;
        if !rng.random_bool(*probability) {
            return None;
        }
        let mut faults = vec![
            Fault::Answer(Response::error(500, "InternalError", "try again")),
            Fault::Answer(Response::error(503, "SlowDown", "slow down")),
            Fault::Answer(Response::error(429, "TooManyRequests", "slow down")),
            Fault::Refuse,
            Fault::Lose,
            Fault::Cut,
        ];
        if request.has("uploadId") && request.is("POST") {
            faults.push(Fault::Answer(Response::error(
                200,
                "InternalError",
                "try again",
            )));
        }
        if request.range().is_some() {
            faults.extend([Fault::Short, Fault::WrongRange, Fault::Whole]);
        }
        if request.is_list() {
            faults.extend([
                Fault::NoToken,
                Fault::Short,
                Fault::Answer(Response::error(200, "InternalError", "")),
            ]);
        }
        // Rarely what no retry helps against.
        if rng.random_bool(0.02) {
            faults = vec![
                Fault::Answer(Response::error(403, "AccessDenied", "no")),
                Fault::Answer(Response::error(400, "ExpiredToken", "expired")),
                Fault::Stall,
            ];
        }
        let pick = rng.random_range(0..faults.len());
        Some(faults.swap_remove(pick))
    }

    fn answer(&mut self, request: &Request) -> Response {
        if request.bucket != "bucket" {
            return Response::error(404, "NoSuchBucket", "The specified bucket does not exist");
        }
        let hash = request.header("x-amz-content-sha256");
        if !hash.is_empty() && hash != hex::encode(Sha256::digest(&request.body)) {
            return Response::error(
                400,
                "XAmzContentSHA256Mismatch",
                "the bytes are not those that were sent",
            );
        }
        let part = request
            .query
            .get("partNumber")
            .and_then(|number| number.parse().ok());
        let upload = request.query.get("uploadId").cloned();
        match (request.method.as_str(), upload) {
            ("GET", _) if request.has("list-type") => self.list(request),
            ("GET", _) if request.has("uploads") => self.list_uploads(),
            ("POST", None) if request.has("uploads") => self.begin(request),
            ("PUT", Some(id)) => match (self.uploads.get_mut(&id), part) {
                (Some(upload), Some(part)) => {
                    upload.parts.insert(part, request.body.clone());
                    Response::new(200, "").with("etag", format!("\"{part}\""))
                }
                _ => Response::error(404, "NoSuchUpload", "no such upload"),
            },
            ("POST", Some(id)) => match self.uploads.remove(&id) {
                Some(upload) => {
                    let bytes = upload.parts.into_values().flatten().collect();
                    self.put(&request.key, bytes);
                    Response::new(
                        200,
                        "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>",
                    )
                }
                None => Response::error(404, "NoSuchUpload", "no such upload"),
            },
            ("DELETE", Some(id)) => match self.uploads.remove(&id) {
                Some(_) => Response::new(204, ""),
                None => Response::error(404, "NoSuchUpload", "no such upload"),
            },
            ("PUT", None) if request.has("retention") => self.retain(request),
            ("GET", None) if request.has("retention") => match self.retention.get(&request.key) {
                Some(document) => Response::new(200, document.clone()),
                None => Response::error(404, "NoSuchObjectLockConfiguration", "none"),
            },
            ("PUT", None) => {
                self.put(&request.key, request.body.clone());
                Response::new(200, "").with("etag", "\"x\"")
            }
            ("DELETE", None) => {
                self.objects.remove(&request.key);
                Response::new(204, "")
            }
            ("GET" | "HEAD", None) => self.get(request),
            _ => Response::error(501, "NotImplemented", "not here"),
        }
    }

    fn put(&mut self, key: &str, bytes: Vec<u8>) {
        let modified = jiff::Timestamp::now();
        self.order.push(key.to_owned());
        self.objects
            .insert(key.to_owned(), Object { bytes, modified });
    }

    fn begin(&mut self, request: &Request) -> Response {
        self.numbers += 1;
        let id = format!("upload-{}", self.numbers);
        let upload = Upload {
            key: request.key.clone(),
            begun: jiff::Timestamp::now(),
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), upload);
        Response::new(
            200,
            format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ),
        )
    }

    /// A lock may only be made longer.
    fn retain(&mut self, request: &Request) -> Response {
        if !self.objects.contains_key(&request.key) {
            return Response::error(404, "NoSuchKey", "no such key");
        }
        let date = |document: &str| {
            document
                .split("<RetainUntilDate>")
                .nth(1)
                .map(|rest| rest[..20].to_owned())
        };
        let document = String::from_utf8(request.body.clone()).unwrap();
        if self
            .retention
            .get(&request.key)
            .is_some_and(|held| date(held) > date(&document))
        {
            return Response::error(403, "AccessDenied", "Access Denied");
        }
        self.retention.insert(request.key.clone(), document);
        Response::new(200, "")
    }

    fn get(&self, request: &Request) -> Response {
        let Some(Object { bytes, modified }) = self.objects.get(&request.key) else {
            return Response::error(404, "NoSuchKey", "The specified key does not exist.");
        };
        let response = match request.range() {
            None => Response::new(200, bytes.clone()),
            Some((first, _)) if first >= bytes.len() as u64 => {
                return Response::error(
                    416,
                    "InvalidRange",
                    "The requested range is not satisfiable",
                );
            }
            Some((first, last)) => {
                let last = last.min(bytes.len() as u64 - 1);
                Response::new(206, &bytes[first as usize..=last as usize]).with(
                    "content-range",
                    format!("bytes {first}-{last}/{}", bytes.len()),
                )
            }
        };
        let tag = blake3::hash(bytes).to_hex();
        response.with("etag", format!("\"{tag}\"")).with(
            "last-modified",
            modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        )
    }

    fn list(&self, request: &Request) -> Response {
        let get = |name: &str| request.query.get(name).cloned().unwrap_or_default();
        let (prefix, token) = (get("prefix"), get("continuation-token"));
        let page = request
            .query
            .get("max-keys")
            .and_then(|max| max.parse().ok())
            .unwrap_or(self.page);
        let mut found = self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && **key > token)
            .peekable();
        let mut body = String::from("<ListBucketResult>");
        let mut last = String::new();
        for (key, object) in found.by_ref().take(page) {
            let (size, modified) = (object.bytes.len(), object.modified);
            body.push_str(&format!("<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{modified}</LastModified></Contents>"));
            last = key.clone();
        }
        let more = found.next().is_some();
        body.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
        if more {
            body.push_str(&format!(
                "<NextContinuationToken>{last}</NextContinuationToken>"
            ));
        }
        Response::new(200, body + "</ListBucketResult>")
    }

    fn list_uploads(&self) -> Response {
        let mut body = String::from("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>");
        for (id, upload) in &self.uploads {
            let (key, begun) = (&upload.key, upload.begun);
            body.push_str(&format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>"));
        }
        Response::new(200, body + "</ListMultipartUploadsResult>")
    }
}
