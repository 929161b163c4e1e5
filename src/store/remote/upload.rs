//! Objects on their way in: first into an unlinked file, as their name comes last, then to the storage.

use std::env;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, PutMultipartOptions, PutPayload};
use tokio::task::JoinSet;

use super::super::{Buffer, StoreError, Upload};
use super::{Failed, Inner, RUNTIME, noted};

/// Larger objects are sent in parts.
const SINGLE: usize = 16 << 20;
/// Bytes of a part; all servers take at least 5 MiB.
const PART: usize = 8 << 20;
/// Parts on their way at once. What is sent is mapped, not loaded.
const IN_FLIGHT: usize = 6;

/// A temporary file that has no name. The directory is `TMPDIR`, or `/var/tmp`: `/tmp` is often memory.
pub(super) fn spool_file(object: &str) -> Result<File, StoreError> {
    let dir = env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    tempfile::tempfile_in(&dir).map_err(|source| StoreError::Io {
        object: object.to_owned(),
        source: std::io::Error::new(
            source.kind(),
            format!(
                "no temporary file in {}: {source}; set TMPDIR to a directory with room",
                dir.display()
            ),
        ),
    })
}

/// An upload in its file.
pub(super) struct Spool {
    inner: Arc<Inner>,
    file: BufWriter<File>,
}

impl Spool {
    pub fn new(inner: Arc<Inner>) -> Result<Self, StoreError> {
        Ok(Self {
            inner,
            file: BufWriter::with_capacity(64 * 1024, spool_file("an upload")?),
        })
    }
}

impl Upload for Spool {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(|error| StoreError::from_io("a temporary file", error))
    }

    fn finish(self: Box<Self>, name: &str) -> Result<(), StoreError> {
        let Self { inner, file } = *self;
        let path = inner.path(name)?;
        let buffer = file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| Buffer::map(&file))
            .map_err(|error| StoreError::from_io("a temporary file", error))?;
        let bytes = Bytes::from_owner(buffer);
        let result = RUNTIME.block_on(async {
            if bytes.len() <= SINGLE {
                inner.put(name, &path, bytes).await
            } else {
                in_parts(&inner, name, &path, bytes).await
            }
        });
        result.map_err(|failed| inner.error(name, failed))
    }
}

async fn in_parts(inner: &Inner, name: &str, path: &Path, bytes: Bytes) -> Result<(), Failed> {
    let options = PutMultipartOptions::from(inner.backend.classes.attributes(name));
    let mut upload = noted(inner.backend.objects.put_multipart_opts(path, options)).await?;
    let len = bytes.len() as u64;
    let failed = match send(&mut *upload, bytes).await {
        Ok(()) => match noted(upload.complete()).await {
            Ok(_) => return Ok(()),
            Err(failed) => failed,
        },
        Err(failed) => failed,
    };
    // The answer to a completion may get lost, and then the upload is not known any more. Its name is its content's,
    // so an object of that name and length is this one.
    if failed
        .answer
        .as_ref()
        .is_some_and(|answer| answer.code == "NoSuchUpload" || answer.status.is_none())
        && inner.head(path).await.is_ok_and(|size| size == len)
    {
        return Ok(());
    }
    if let Err(failed) = noted(upload.abort()).await {
        // It costs until the next writer, or a rule of the bucket, ends it.
        tracing::debug!("an upload was left unfinished: {}", failed.error);
    }
    Err(failed)
}

/// Sends all parts, a few at a time.
async fn send(upload: &mut dyn MultipartUpload, mut bytes: Bytes) -> Result<(), Failed> {
    let mut sending = JoinSet::new();
    while !bytes.is_empty() || !sending.is_empty() {
        if !bytes.is_empty() && sending.len() < IN_FLIGHT {
            let part = bytes.split_to(PART.min(bytes.len()));
            sending.spawn(noted(upload.put_part(PutPayload::from(part))));
            continue;
        }
        match sending.join_next().await {
            Some(Ok(result)) => result?,
            Some(Err(error)) => return Err(Failed::nonsense(error.to_string())),
            None => {}
        }
    }
    Ok(())
}
