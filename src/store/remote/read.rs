//! Reads that run ahead. A restore reads the blocks of a pack in order, each a small range of it: asked for one by one
//! they would cost a round trip each. So whoever reads on where it stopped gets a window of the object, and the next
//! window is fetched in the meantime; whoever jumps about gets what it asks for and no more. An object that is not larger
//! than a window is fetched whole when it is read a second time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::{Failed, Inner};

/// Bytes that are fetched at once.
pub(super) const WINDOW: u64 = 4 << 20;
/// A reader that leaves out so much still reads on: threads that share a pack are not in step, nor are its blocks in
/// the order of the table, as several threads wrote it.
const GAP: u64 = WINDOW;
/// Windows of an object that are kept, beside the one that is under way.
const WINDOWS: usize = 3;
/// Objects that are read on at once. Beyond that, the one not used for longest starts anew.
const STREAMS: usize = 12;

type Shared = Arc<tokio::sync::Mutex<Stream>>;

/// What is read ahead: of at most [`STREAMS`] objects [`WINDOWS`] windows and one.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<VecDeque<(Path, Shared)>>);

/// How far an object was read.
#[derive(Debug, Default)]
struct Stream {
    /// End of what was read furthest on by windows; 0 if nothing was.
    end: u64,
    /// End of the last read that was elsewhere: the second one there begins windows anew.
    aside: Option<u64>,
    windows: VecDeque<Window>,
    next: Option<Ahead>,
    /// The object's length, once something of it was read.
    size: Option<u64>,
}

/// Some of an object's bytes.
#[derive(Debug)]
struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
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
    fn stream(&self, path: &Path) -> Shared {
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
        {
            // Threads that read the same object wait for each other here: the second finds what the first fetched.
            let mut stream = stream.lock().await;
            if stream.reads_on(&range) {
                let result = stream.read(inner, path, range, out).await;
                if !matches!(result, Ok(true)) {
                    *stream = Stream::default();
                }
                return result;
            }
        }
        let (bytes, size) = inner.get_range(path, range.clone()).await?;
        out.extend_from_slice(&bytes);
        stream.lock().await.size = Some(size);
        Ok(out.len() as u64 == range.end - range.start)
    }

    /// Forgets what was read ahead of an object.
    pub fn discard(&self, path: &Path) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|(known, _)| known != path);
    }
}

impl Stream {
    /// Whether a read goes on where others were, so that windows pay. Notes where it is if it does not.
    fn reads_on(&mut self, range: &Range<u64>) -> bool {
        let held = self
            .windows
            .iter()
            .any(|window| (window.start..window.end()).contains(&range.start));
        if held || self.is_small() {
            return true;
        }
        let reach = self
            .next
            .as_ref()
            .map_or(0, |next| next.start + WINDOW)
            .max(self.end);
        if self.end > 0 && (self.end..=reach.saturating_add(GAP)).contains(&range.start) {
            return true;
        }
        let from_there = |aside: u64| (aside..=aside.saturating_add(GAP)).contains(&range.start);
        let on = self.aside.is_some_and(from_there);
        if on {
            *self = Self {
                size: self.size,
                ..Self::default()
            };
        } else {
            self.aside = Some(range.end);
        }
        on
    }

    /// Whether the object is known to fit into a window.
    fn is_small(&self) -> bool {
        self.size.is_some_and(|size| size <= WINDOW)
    }

    async fn read(
        &mut self,
        inner: &Arc<Inner>,
        path: &Path,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Failed> {
        let mut at = range.start;
        let mut fetched = None;
        while at < range.end {
            if let Some(bytes) = self.held(at..range.end) {
                out.extend_from_slice(&bytes);
                at += bytes.len() as u64;
                continue;
            }
            let mut ahead = self
                .next
                .take_if(|next| (next.start..next.start + WINDOW).contains(&at));
            let window = match &mut ahead {
                Some(ahead) => (&mut ahead.task)
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .map(|window| (ahead.start, window)),
                None => None,
            };
            let (start, (bytes, size)) = match window {
                Some(window) => window,
                // Nothing is ahead; or it went wrong, and may go right now, or is told now.
                None => {
                    let start = if self.is_small() { 0 } else { at };
                    let end = range.end.max(start.saturating_add(WINDOW));
                    (start, inner.get_range(path, start..end).await?)
                }
            };
            self.size = Some(size);
            let window = Window { start, bytes };
            if window.end() <= at {
                return Ok(false);
            }
            fetched = Some((window.end(), size));
            self.hold(window);
        }
        self.end = self.end.max(range.end);
        // A window was used up or begun: the one after it is fetched meanwhile, unless it was the last.
        if let Some((end, size)) = fetched
            && self.next.is_none()
            && end < size
        {
            let (inner, path) = (Arc::clone(inner), path.clone());
            let task = tokio::spawn(async move { inner.get_range(&path, end..end + WINDOW).await });
            self.next = Some(Ahead { start: end, task });
        }
        Ok(true)
    }

    /// What is held of a range, from its beginning on.
    fn held(&self, range: Range<u64>) -> Option<Bytes> {
        self.windows.iter().find_map(|window| {
            let from = usize::try_from(range.start.checked_sub(window.start)?).ok()?;
            let to = usize::try_from(range.end - window.start)
                .ok()?
                .min(window.bytes.len());
            (from < to).then(|| window.bytes.slice(from..to))
        })
    }

    fn hold(&mut self, window: Window) {
        self.windows.push_back(window);
        if self.windows.len() > WINDOWS {
            self.windows.pop_front();
        }
    }
}
