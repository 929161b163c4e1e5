//! Object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! `object_store` speaks the protocols. What is here keeps the contract of [`Store`] on top of it: names and prefixes,
//! uploads whose name comes last, reads in windows, a cache of index objects, and errors that say what to do. Calls
//! block their thread; the requests themselves run on two threads of a runtime that nobody else sees.

mod azure;
mod cache;
mod failure;
mod gcs;
mod http;
mod limit;
mod options;
mod profile;
mod read;
mod s3;
mod settings;
mod upload;
mod xml;

use std::io::{Seek, Write};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use ::http::StatusCode;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutOptions,
};
use tokio::runtime::Runtime;

use self::cache::Cache;
use self::failure::{Answer, Context, Kind, Notes};
pub use self::options::{KNOWN_OPTIONS, OpenError, Options};
use self::read::Windows;
use self::s3::S3;
use self::settings::Settings;
use super::{Buffer, Listed, Store, StoreError, Upload, is_valid_name};

/// The parsers of answers.
pub mod parse {
    use super::xml;

    /// Whether that is a whole page of a listing.
    pub fn is_listing(bytes: &[u8]) -> bool {
        xml::verify(bytes, "ListBucketResult").is_ok()
    }

    /// The name of the error that a document is about; empty if it is none.
    pub fn error_code(bytes: &[u8]) -> String {
        xml::ErrorDocument::parse(bytes).code
    }

    /// Number of unfinished uploads on a page, if it is one.
    pub fn unfinished_uploads(bytes: &[u8]) -> Option<usize> {
        Some(xml::OpenUploads::parse(bytes).ok()?.upload.len())
    }
}

/// Where all requests run. Two threads are enough: they move bytes and encrypt them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("store")
        .enable_all()
        .build()
        .expect("a process that cannot start two threads can do nothing else either")
});

/// What was begun and not ended for so long has no one who will end it.
const LEFTOVER_HOURS: i64 = 24;

/// A request whose answer was not what it must be is repeated so often, beside what `object_store` repeats.
const REPEATS: usize = 2;

/// A store of one provider, as `object_store` knows it.
#[derive(Debug)]
struct Backend {
    objects: Arc<dyn ObjectStore>,
    pages: Arc<dyn Pages>,
    kind: Kind,
    /// Bucket or container.
    bucket: String,
    /// What tells servers apart.
    address: String,
    classes: Classes,
    s3: Option<S3>,
}

trait Pages: PaginatedListStore + std::fmt::Debug {}
impl<T: PaginatedListStore + std::fmt::Debug> Pages for T {}

/// Storage classes by kind of object.
#[derive(Debug)]
struct Classes {
    packs: Option<String>,
    records: Option<String>,
}

impl Classes {
    fn attributes(&self, name: &str) -> Attributes {
        let class = match name.starts_with("packs/") {
            true => &self.packs,
            false => &self.records,
        };
        class
            .iter()
            .map(|class| (Attribute::StorageClass, class.clone()))
            .collect()
    }
}

/// A failed operation.
#[derive(Debug)]
struct Failed {
    error: object_store::Error,
    answer: Option<Answer>,
}

impl Failed {
    /// The answer is not what it must be.
    fn nonsense(detail: String) -> Self {
        let error = object_store::Error::Generic {
            store: "answer",
            source: detail.into(),
        };
        Self {
            error,
            answer: None,
        }
    }

    fn status(&self) -> Option<StatusCode> {
        self.answer.as_ref()?.status
    }
}

/// Runs an operation of `object_store`.
async fn noted<T>(operation: impl Future<Output = object_store::Result<T>>) -> Result<T, Failed> {
    let (result, answer) = Notes::of(operation).await;
    result.map_err(|error| Failed { error, answer })
}

/// Opens the store at `scheme://rest`.
pub(super) fn open(
    scheme: &str,
    rest: &str,
    options: &Options,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Store>, OpenError> {
    // Before anything of it is printed: a password may be in it.
    let place = |hidden: bool| format!("{scheme}://{}", if hidden { "..." } else { rest });
    if rest.contains(['@', '?', '#']) {
        return Err(OpenError::new(
            place(true),
            "has more than a bucket and a prefix",
            "credentials and settings have no place in it: use the environment, a profile, or --repo-option",
        ));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if bucket.is_empty() || !(prefix.is_empty() || is_valid_name(prefix)) {
        return Err(OpenError::new(
            place(false),
            "is not a bucket and a prefix",
            format!("write it like {scheme}://bucket/prefix"),
        ));
    }
    let settings = Settings::new(options)?;
    let backend = match scheme {
        "s3" => s3::open(bucket, options, env, settings)?,
        "gs" => gcs::open(bucket, options, env, settings)?,
        "az" => azure::open(bucket, options, env, settings)?,
        _ => {
            return Err(OpenError::new(
                place(true),
                "is no kind of store that is known",
                "give a directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
            ));
        }
    };
    let location = format!(
        "{scheme}://{bucket}{}{prefix}",
        if prefix.is_empty() { "" } else { "/" }
    );
    let root = if prefix.is_empty() {
        String::new()
    } else {
        format!("{prefix}/")
    };
    Ok(Arc::new(RemoteStore {
        cache: Cache::new(&format!("{location} at {}", backend.address), env),
        inner: Arc::new(Inner {
            context: Context {
                location,
                bucket: backend.bucket.clone(),
                root,
                kind: backend.kind,
            },
            backend,
        }),
        windows: Windows::default(),
    }))
}

/// A store at a provider of object storage.
#[derive(Debug)]
struct RemoteStore {
    inner: Arc<Inner>,
    windows: Windows,
    cache: Cache,
}

/// What requests need, also those that run ahead.
#[derive(Debug)]
struct Inner {
    backend: Backend,
    context: Context,
}

impl Inner {
    fn path(&self, name: &str) -> Result<Path, StoreError> {
        let wrong = || StoreError::Name {
            object: name.to_owned(),
        };
        if !is_valid_name(name) {
            return Err(wrong());
        }
        Path::parse(format!("{}{name}", self.context.root)).map_err(|_| wrong())
    }

    fn error(&self, object: &str, failed: Failed) -> StoreError {
        self.context.error(object, &failed.error, failed.answer)
    }

    async fn put(&self, name: &str, path: &Path, bytes: Bytes) -> Result<(), Failed> {
        let options = PutOptions::from(self.backend.classes.attributes(name));
        noted(self.backend.objects.put_opts(path, bytes.into(), options))
            .await
            .map(drop)
    }

    /// The bytes of a range, as far as the object reaches, and the object's length.
    async fn get_range(&self, path: &Path, range: Range<u64>) -> Result<(Bytes, u64), Failed> {
        let start = range.start;
        match self.answered_range(path, range).await {
            // Not every server says so when a range begins behind the end.
            Err(failed)
                if failed.answer.is_none()
                    || failed.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) =>
            {
                match self.head(path).await {
                    Ok(size) if size <= start => Ok((Bytes::new(), size)),
                    _ => Err(failed),
                }
            }
            result => result,
        }
    }

    async fn answered_range(&self, path: &Path, range: Range<u64>) -> Result<(Bytes, u64), Failed> {
        self.repeat(|| async {
            let options = GetOptions::new().with_range(Some(GetRange::Bounded(range.clone())));
            let (bytes, size) = self.get(path, options).await?;
            let expected = range.end.min(size) - range.start.min(size);
            if bytes.len() as u64 != expected {
                return Err(Failed::nonsense(format!(
                    "{} bytes came instead of {expected}",
                    bytes.len()
                )));
            }
            Ok((bytes, size))
        })
        .await
    }

    async fn get_all(&self, path: &Path) -> Result<Bytes, Failed> {
        self.repeat(|| async {
            let (bytes, size) = self.get(path, GetOptions::new()).await?;
            if bytes.len() as u64 != size {
                return Err(Failed::nonsense(format!(
                    "{} bytes came instead of {size}",
                    bytes.len()
                )));
            }
            Ok(bytes)
        })
        .await
    }

    async fn get(&self, path: &Path, options: GetOptions) -> Result<(Bytes, u64), Failed> {
        noted(async {
            let result = self.backend.objects.get_opts(path, options).await?;
            let size = result.meta.size;
            // What the server says to send is no more than what was asked for, or `object_store` would have refused it.
            let mut bytes = Vec::with_capacity(
                usize::try_from(result.range.end - result.range.start).unwrap_or(0),
            );
            let mut stream = result.into_stream();
            while let Some(piece) = stream.next().await {
                bytes.extend_from_slice(&piece?);
            }
            Ok((Bytes::from(bytes), size))
        })
        .await
    }

    /// Repeats what was answered, but not as it must be.
    async fn repeat<T, F: Future<Output = Result<T, Failed>>>(
        &self,
        operation: impl Fn() -> F,
    ) -> Result<T, Failed> {
        let mut repeats = 0;
        loop {
            match operation().await {
                Err(Failed {
                    answer: None,
                    error: object_store::Error::Generic { .. },
                }) if repeats < REPEATS => repeats += 1,
                result => return result,
            }
        }
    }

    async fn head(&self, path: &Path) -> Result<u64, Failed> {
        Ok(noted(self.backend.objects.head(path)).await?.size)
    }

    /// Whether the bucket is there, once an object was not: the answer to a HEAD request does not tell.
    async fn absent(&self, name: &str) -> StoreError {
        let options = PaginatedListOptions {
            max_keys: Some(1),
            ..Default::default()
        };
        let prefix = format!("{}{name}", self.context.root);
        match noted(self.backend.pages.list_paginated(Some(&prefix), options)).await {
            Ok(_) => StoreError::Absent {
                object: name.to_owned(),
            },
            Err(failed) => self.error(name, failed),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let full = format!("{}{prefix}", self.context.root);
        let named = if prefix.is_empty() {
            "the listing of all objects".to_owned()
        } else {
            format!("the listing of {prefix}")
        };
        // Azure's client leaves out an object whose name is the prefix itself.
        let mut wanted = full.as_str();
        if self.context.kind == Kind::Azure && !wanted.ends_with('/') {
            wanted = wanted.strip_suffix(|_: char| true).unwrap_or_default();
        }
        let mut listed = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let options = PaginatedListOptions {
                page_token: token.clone(),
                ..Default::default()
            };
            let page = noted(
                self.backend
                    .pages
                    .list_paginated((!wanted.is_empty()).then_some(wanted), options),
            )
            .await
            .map_err(|failed| match self.error(&named, failed) {
                // There is no such thing as an absent listing.
                StoreError::Absent { object } => StoreError::NoBucket {
                    object,
                    place: self.context.location.clone(),
                },
                error => error,
            })?;
            for object in page.result.objects {
                let Some(name) = object.location.as_ref().strip_prefix(&self.context.root) else {
                    continue;
                };
                // Directories that consoles make show up here without the slash at their end.
                if !name.starts_with(prefix) || name.is_empty() {
                    continue;
                }
                let nanoseconds = object
                    .last_modified
                    .timestamp_subsec_nanos()
                    .min(999_999_999)
                    .cast_signed();
                let modified = jiff::Timestamp::new(object.last_modified.timestamp(), nanoseconds);
                listed.push(Listed {
                    name: name.to_owned(),
                    len: object.size,
                    modified: modified.map_err(|error| StoreError::Broken {
                        object: name.to_owned(),
                        detail: error.to_string(),
                    })?,
                });
            }
            match page.page_token.filter(|token| !token.is_empty()) {
                None => break,
                next if next == token => {
                    let detail = "it answers with the same page again and again".into();
                    return Err(StoreError::Broken {
                        object: named,
                        detail,
                    });
                }
                next => token = next,
            }
        }
        listed.sort_unstable();
        listed.dedup_by(|later, earlier| later.name == earlier.name);
        Ok(listed)
    }
}

impl Store for RemoteStore {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.inner.path(name)?;
        let put = self.inner.put(name, &path, Bytes::copy_from_slice(bytes));
        RUNTIME
            .block_on(put)
            .map_err(|failed| self.inner.error(name, failed))?;
        self.windows.discard(&path);
        // Whoever puts an index object looks into it next.
        self.cache.add(name, bytes);
        Ok(())
    }

    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(upload::Spool::new(Arc::clone(&self.inner))?))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.inner.path(name)?;
        let bytes = RUNTIME.block_on(self.inner.get_all(&path));
        bytes
            .map(Vec::from)
            .map_err(|failed| self.inner.error(name, failed))
    }

    fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        out.clear();
        let path = self.inner.path(name)?;
        let short = || StoreError::Short {
            object: name.to_owned(),
            offset,
            len,
        };
        let end = offset.checked_add(len as u64).ok_or_else(short)?;
        if len == 0 {
            // No request asks for nothing.
            return match self.len(name)? {
                size if size < end => Err(short()),
                _ => Ok(()),
            };
        }
        let complete = RUNTIME
            .block_on(self.windows.read(&self.inner, &path, offset..end, out))
            .map_err(|failed| self.inner.error(name, failed))?;
        if complete { Ok(()) } else { Err(short()) }
    }

    fn len(&self, name: &str) -> Result<u64, StoreError> {
        let path = self.inner.path(name)?;
        RUNTIME.block_on(async {
            match self.inner.head(&path).await {
                Ok(len) => Ok(len),
                Err(failed) => match self.inner.error(name, failed) {
                    StoreError::Absent { .. } => Err(self.inner.absent(name).await),
                    error => Err(error),
                },
            }
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let listed = RUNTIME.block_on(self.inner.list(prefix))?;
        self.cache.keep(prefix, &listed);
        Ok(listed)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.inner.path(name)?;
        self.windows.discard(&path);
        let result = RUNTIME.block_on(noted(self.inner.backend.objects.delete(&path)));
        result.map_err(|failed| self.inner.error(name, failed))
    }

    fn map(&self, name: &str) -> Result<Buffer, StoreError> {
        match self.cache.get(name) {
            Some(cached) => Ok(cached),
            None => self.map_stored(name),
        }
    }

    fn map_stored(&self, name: &str) -> Result<Buffer, StoreError> {
        let path = self.inner.path(name)?;
        let mut file = upload::spool_file(name)?;
        let result = RUNTIME.block_on(async {
            // Piece by piece: an index of ten million blocks has half a gigabyte.
            let mut at = 0;
            loop {
                let result = self.inner.get_range(&path, at..at + read::WINDOW).await;
                let (bytes, size) = result.map_err(|failed| self.inner.error(name, failed))?;
                at += bytes.len() as u64;
                file.write_all(&bytes)
                    .map_err(|error| StoreError::from_io("a temporary file", error))?;
                if at >= size {
                    return Ok(());
                }
            }
        });
        result?;
        let buffer = file
            .rewind()
            .and_then(|()| Buffer::map(&file))
            .map_err(|error| StoreError::from_io("a temporary file", error))?;
        self.cache.add(name, &buffer);
        Ok(buffer)
    }

    fn clean(&self) -> Result<u64, StoreError> {
        let Some(s3) = &self.inner.backend.s3 else {
            // Azure forgets them after a week; for Google Cloud Storage that is a rule of the bucket.
            return Ok(0);
        };
        let before = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(LEFTOVER_HOURS);
        let what = "the listing of unfinished uploads";
        match RUNTIME.block_on(s3.abort_uploads(&self.inner.context.root, before)) {
            Ok(ended) => Ok(ended),
            Err(failed) => match self.inner.error(what, failed) {
                // Not allowed, or not known to this server: a rule of the bucket can do it.
                error @ (StoreError::Forbidden { .. }
                | StoreError::Absent { .. }
                | StoreError::Broken { .. }) => {
                    tracing::debug!("{error}");
                    Ok(0)
                }
                error => Err(error),
            },
        }
    }

    fn discard(&self, name: &str) {
        if let Ok(path) = self.inner.path(name) {
            self.windows.discard(&path);
        }
    }

    fn protect(&self, name: &str, until: jiff::Timestamp) -> Result<bool, StoreError> {
        let path = self.inner.path(name)?;
        match &self.inner.backend.s3 {
            Some(s3) => RUNTIME
                .block_on(s3.protect(&path, until))
                .map_err(|failed| self.inner.error(name, failed)),
            None => Ok(false),
        }
    }

    fn location(&self) -> String {
        self.inner.context.location.clone()
    }
}
