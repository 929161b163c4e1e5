//! Reads that run ahead. A restore reads the blocks of a pack in order, each a small range of it: asked for one by one
//! they would cost a round trip each. So whoever reads on where it stopped gets a window of the object, and the next
//! window is fetched in the meantime; whoever jumps about gets what it asks for and no more.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::{Failed, Inner};

/// Bytes that are fetched at once.
pub(super) const WINDOW: u64 = 4 << 20;
/// A reader that leaves out so much still reads on.
const GAP: u64 = 1 << 20;
/// Windows of an object that are kept, beside the one that is under way: threads that share an object are not in step.
const WINDOWS: usize = 2;
/// Objects that are read on at once. Beyond that, the one not used for longest starts anew.
const STREAMS: usize = 12;

/// What is read ahead: at most [`STREAMS`] times [`WINDOWS`] and one.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<VecDeque<(Path, Arc<tokio::sync::Mutex<Stream>>)>>);

/// How far an object was read.
#[derive(Debug, Default)]
struct Stream {
    /// End of what was read furthest on; 0 if nothing was.
    end: u64,
    windows: VecDeque<(u64, Bytes)>,
    next: Option<Ahead>,
    /// Where reads began since the windows were fetched. Who asks for the same again found the bytes wrong.
    begun: HashSet<u64>,
}

/// A window under way.
#[derive(Debug)]
struct Ahead {
    start: u64,
    task: JoinHandle<Result<(Bytes, u64), Failed>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Windows {
    fn stream(&self, path: &Path) -> Arc<tokio::sync::Mutex<Stream>> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = streams.iter().position(|(known, _)| known == path);
        let entry = match found.and_then(|at| streams.remove(at)) {
            Some(entry) => entry,
            None => (path.clone(), Arc::default()),
        };
        let stream = Arc::clone(&entry.1);
        streams.push_back(entry);
        if streams.len() > STREAMS {
            streams.pop_front();
        }
        stream
    }

    /// Reads a range that is not empty; `false` if the object ends before it does.
    pub async fn read(
        &self,
        inner: &Arc<Inner>,
        path: &Path,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Failed> {
        let stream = self.stream(path);
        // Threads that read the same object wait for each other here: the second finds what the first fetched.
        let mut stream = stream.lock().await;
        let result = stream.read(inner, path, range, out).await;
        if !matches!(result, Ok(true)) {
            *stream = Stream::default();
        }
        result
    }
}

impl Stream {
    async fn read(
        &mut self,
        inner: &Arc<Inner>,
        path: &Path,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Failed> {
        let held = self.windows.front().map_or(self.end, |(start, _)| *start);
        let on = self.end > 0 && range.start >= held && range.start <= self.end.saturating_add(GAP);
        if !on || !self.begun.insert(range.start) {
            if self.end == 0 || range.start > self.end {
                *self = Self {
                    end: range.end,
                    ..Self::default()
                };
            }
            let (bytes, _) = inner.get_range(path, range.clone()).await?;
            out.extend_from_slice(&bytes);
            return Ok(out.len() as u64 == range.end - range.start);
        }
        let mut at = range.start;
        let mut size = None;
        while at < range.end {
            if let Some(bytes) = self.held(at..range.end) {
                out.extend_from_slice(&bytes);
                at += bytes.len() as u64;
                continue;
            }
            let start = self.next.as_ref().map(|next| next.start);
            let (start, (bytes, len)) = match self.next.take() {
                Some(mut next)
                    if start.is_some_and(|start| (start..start + WINDOW).contains(&at)) =>
                {
                    let result = (&mut next.task)
                        .await
                        .map_err(|error| Failed::nonsense(error.to_string()))?;
                    // What went wrong ahead may go right now.
                    match result {
                        Ok(window) => (next.start, window),
                        Err(_) => (at, inner.get_range(path, at..at + WINDOW).await?),
                    }
                }
                _ => {
                    let end = range.end.max(at + WINDOW);
                    (at, inner.get_range(path, at..end).await?)
                }
            };
            size = Some(len);
            if start + bytes.len() as u64 <= at {
                return Ok(false);
            }
            self.hold(start, bytes);
        }
        self.end = self.end.max(range.end);
        let (last, size) = match (self.windows.back(), size) {
            (Some((start, bytes)), size) => (start + bytes.len() as u64, size),
            (None, _) => return Ok(true),
        };
        // A window that was cut is the last one.
        let whole = size.is_none_or(|size| last < size);
        if self.next.is_none() && whole && self.end + WINDOW > last && size.is_some() {
            let (inner, path) = (Arc::clone(inner), path.clone());
            let task =
                tokio::spawn(async move { inner.get_range(&path, last..last + WINDOW).await });
            self.next = Some(Ahead { start: last, task });
        }
        Ok(true)
    }

    /// What is held of a range, from its beginning on.
    fn held(&self, range: Range<u64>) -> Option<Bytes> {
        self.windows.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
            let to = bytes.len().min(usize::try_from(range.end - start).ok()?);
            (from < to).then(|| bytes.slice(from..to))
        })
    }

    fn hold(&mut self, start: u64, bytes: Bytes) {
        self.windows.push_back((start, bytes));
        if self.windows.len() > WINDOWS {
            self.windows.pop_front();
        }
        let held = self.windows.front().map_or(0, |(start, _)| *start);
        self.begun.retain(|begun| *begun >= held);
    }
}
