//! Storing blocks, and the commit.
//!
//! Threads put encoded blocks into open packs; a pack that is full goes to the finisher, a thread that makes packs
//! durable and writes index objects for them, away from the hot path. The first failure anywhere fails the writer.

mod finisher;
pub(super) mod known;
mod open;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use self::finisher::Finisher;
use self::known::Known;
use self::open::OpenPacks;
use super::block::{BlockHeader, HEADER_LEN};
use super::config::Operation;
use super::history::{self, Event, History};
use super::ids::SnapshotId;
use super::index::IndexSet;
use super::model::Snapshot;
use super::pack::OpenPack;
use super::seal::{self, Class, Sealers};
use super::session::{self, Session};
use super::snapshots::{self, Stored as StoredSnapshot};
use super::{RepoError, Repository, complete, pack};
use crate::rows::{BlockId, Effort, Encoder, Format, IdKey, MAX_PAYLOAD, read_header};

/// Blocks that die together share packs, so that forgetting is deleting whole packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackGroup {
    /// One table, or neighbouring chunks of one hypertable, by a number of the caller's choice.
    Table(u64),
    /// All small tables.
    Small,
    /// Lists and schema entries, which have names in them.
    Meta,
    /// Manifests and outlines: ids, sizes and counts.
    Outline,
}

impl PackGroup {
    /// Who can open its blocks in an encrypted repository: whoever writes needs the outlines of what is there.
    fn class(self) -> Class {
        match self {
            Self::Outline => Class::Index,
            Self::Table(_) | Self::Small | Self::Meta => Class::Reader,
        }
    }
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whether it was not there before.
    pub new: bool,
    /// Bytes it added to the repository.
    pub bytes: u64,
}

/// What a writer did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterStats {
    /// Blocks added.
    pub new_blocks: u64,
    /// Bytes of the blocks added, as they are stored.
    pub new_bytes: u64,
    /// Blocks that were there already.
    pub reused_blocks: u64,
    /// Packs of an interrupted run that were found without an index and taken over.
    pub adopted_packs: u64,
}

/// How a writer goes about it; the default is right but for tests.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// A pack of this size is finished.
    pub pack_size: u64,
    /// Packs waiting for their next block; beyond that the one not used for longest is finished.
    pub open_packs: usize,
    /// A pack open for longer is finished, so that a run that is killed loses little.
    pub pack_age: Duration,
    /// An index object is written after this time at the latest ...
    pub index_interval: Duration,
    /// ... or after so many bytes of packs.
    pub index_bytes: u64,
    /// Time between two signs of life.
    pub heartbeat: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            pack_size: 64 << 20,
            open_packs: 16,
            pack_age: Duration::from_secs(120),
            index_interval: Duration::from_secs(60),
            index_bytes: 1 << 30,
            heartbeat: Duration::from_secs(20),
        }
    }
}

/// Stores blocks and commits a snapshot. For many threads at once. Dropped without [`commit`](Self::commit), it
/// keeps what is stored for the next run, as [`abort`](Self::abort) does.
pub struct Writer {
    shared: Arc<Shared>,
    /// For the blocks of an encrypted repository.
    sealers: Option<Sealers>,
    effort: Effort,
    encoders: Mutex<Vec<Encoder>>,
    finisher: Option<Finisher>,
    session: Option<Session>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("repository", &self.shared.repository)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    repository: Repository,
    options: WriterOptions,
    /// Blocks in index objects.
    known: Known,
    /// Blocks put in this session and in no index object yet.
    claims: Mutex<HashSet<BlockId>>,
    open: OpenPacks,
    failure: OnceLock<Arc<RepoError>>,
    new_blocks: AtomicU64,
    new_bytes: AtomicU64,
    reused_blocks: AtomicU64,
}

impl Shared {
    fn claims(&self) -> std::sync::MutexGuard<'_, HashSet<BlockId>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the first failure: from then on nothing this writer says can be relied on.
    fn fail(&self, error: RepoError) -> RepoError {
        let error = Arc::new(error);
        RepoError::Failed(Arc::clone(self.failure.get_or_init(|| error)))
    }

    fn check_failure(&self) -> Result<(), RepoError> {
        match self.failure.get() {
            Some(error) => Err(RepoError::Failed(Arc::clone(error))),
            None => Ok(()),
        }
    }
}

impl Repository {
    /// A writer with default options.
    pub fn writer(&self, effort: Effort) -> Result<Writer, RepoError> {
        self.writer_with(effort, WriterOptions::default())
    }

    /// Registers a session, notes the tombstones, then loads the index: in this order. Packs of interrupted runs
    /// that no index names are taken over.
    pub fn writer_with(&self, effort: Effort, options: WriterOptions) -> Result<Writer, RepoError> {
        self.config.require(Operation::Write)?;
        self.store.clean()?;
        let (session, tombstones) = Session::register(self, options.heartbeat)?;
        let marked = session::marked(&tombstones);
        let index = IndexSet::load(self, None)?;
        // Index first, packs second: what an index names was durable before it.
        let packs = pack::list(&*self.store)?;
        let orphans = finisher::orphans(&index, &packs, &marked);
        let shared = Arc::new(Shared {
            repository: self.clone(),
            options,
            known: Known::new(&index, |pack, size| {
                !marked.contains(pack) && packs.get(pack) == Some(&size)
            })?,
            claims: Mutex::default(),
            open: OpenPacks::default(),
            failure: OnceLock::new(),
            new_blocks: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
            reused_blocks: AtomicU64::new(0),
        });
        let finisher = Finisher::start(&shared, orphans)?;
        Ok(Writer {
            shared,
            sealers: self.keys.sealers()?,
            effort,
            encoders: Mutex::default(),
            finisher: Some(finisher),
            session: Some(session),
        })
    }
}

impl Writer {
    /// The key of block ids.
    pub fn id_key(&self) -> &IdKey {
        self.shared.repository.id_key()
    }

    /// Whether the block need not be stored: it is in an index object and its pack is there, or it was put in this
    /// session. A yes is counted as a block reused.
    pub fn contains(&self, id: &BlockId) -> bool {
        // Claims first: a block leaves them only after it is known.
        let contains = self.shared.claims().contains(id) || self.shared.known.contains(id);
        if contains {
            self.shared.reused_blocks.fetch_add(1, Ordering::Relaxed);
        }
        contains
    }

    /// Stores an encoded block, unless it is there.
    pub fn put(&self, group: &PackGroup, id: BlockId, encoded: &[u8]) -> Result<Stored, RepoError> {
        self.shared.check_failure()?;
        let info = read_header(encoded)?;
        let max = u32::MAX as usize - HEADER_LEN;
        let sealer = self.sealers.as_ref().map(|all| all.of(group.class()));
        let overhead = if sealer.is_some() { seal::OVERHEAD } else { 0 };
        let stored_len = u32::try_from(encoded.len() + overhead)
            .ok()
            .filter(|len| *len as usize <= max);
        let header = BlockHeader {
            format: info.format,
            sealed: sealer.map(|_| group.class()),
            id,
            stored_len: stored_len.ok_or_else(|| RepoError::TooLarge {
                what: format!("block {id}"),
                len: encoded.len(),
                max,
            })?,
            raw_len: info.payload_len,
        };
        self.store(group, header, || {
            Ok(match sealer {
                None => Cow::from(encoded),
                Some(sealer) => Cow::from(sealer.seal(&header.fields(), encoded)?),
            })
        })
    }

    /// Stores a block as it lies in a repository that has the same keys, unless it is there.
    pub(super) fn put_stored(
        &self,
        group: &PackGroup,
        header: BlockHeader,
        stored: &[u8],
    ) -> Result<Stored, RepoError> {
        self.shared.check_failure()?;
        self.store(group, header, || Ok(Cow::from(stored)))
    }

    fn store<'a>(
        &self,
        group: &PackGroup,
        header: BlockHeader,
        stored: impl FnOnce() -> Result<Cow<'a, [u8]>, RepoError>,
    ) -> Result<Stored, RepoError> {
        if !self.claim(header.id) {
            self.shared.reused_blocks.fetch_add(1, Ordering::Relaxed);
            return Ok(Stored {
                new: false,
                bytes: 0,
            });
        }
        let bytes = stored()
            .and_then(|stored| self.append(*group, header, &stored))
            .map_err(|error| self.shared.fail(error))?;
        self.shared.new_blocks.fetch_add(1, Ordering::Relaxed);
        self.shared.new_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Stored { new: true, bytes })
    }

    /// Makes the block this thread's to store. Of two threads with the same block one gets it; the other may go on,
    /// for if storing fails, so does the commit.
    fn claim(&self, id: BlockId) -> bool {
        if !self.shared.claims().insert(id) {
            return false;
        }
        // After the claim, not before: the finisher makes a block known and then drops its claim.
        if self.shared.known.contains(&id) {
            self.shared.claims().remove(&id);
            return false;
        }
        true
    }

    fn append(
        &self,
        group: PackGroup,
        header: BlockHeader,
        stored: &[u8],
    ) -> Result<u64, RepoError> {
        let shared = &self.shared;
        let mut pack = match shared.open.take(group) {
            Some(pack) => pack,
            None => OpenPack::create(&*shared.repository.store)?,
        };
        let bytes = pack.append(header, stored)?;
        let full = if pack.size() >= shared.options.pack_size {
            Some(pack)
        } else {
            shared.open.put_back(group, pack, shared.options.open_packs)
        };
        if let (Some(pack), Some(finisher)) = (full, &self.finisher) {
            finisher.send(pack)?;
        }
        Ok(bytes)
    }

    /// Says that no more blocks of the group will come: its packs are made durable now, beside the work on the next
    /// group, and not with all others before the commit. If a block comes after all it begins a new pack.
    pub fn close(&self, group: &PackGroup) -> Result<(), RepoError> {
        self.shared.check_failure()?;
        for pack in self.shared.open.take_group(*group) {
            if let Some(finisher) = &self.finisher {
                finisher.send(pack)?;
            }
        }
        Ok(())
    }

    /// Encodes and stores a payload that is not rows; returns its id.
    pub fn put_other(&self, group: &PackGroup, payload: &[u8]) -> Result<BlockId, RepoError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(RepoError::TooLarge {
                what: "an entry".into(),
                len: payload.len(),
                max: MAX_PAYLOAD,
            });
        }
        let id = self.id_key().block_id(Format::Other, 0, payload);
        if self.contains(&id) {
            return Ok(id);
        }
        let idle = self
            .encoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut encoder = idle.unwrap_or_else(|| Encoder::new(self.effort));
        let mut encoded = Vec::new();
        encoder.encode(Format::Other, &[], 0, payload, &mut encoded)?;
        self.encoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(encoder);
        self.put(group, id, &encoded)?;
        Ok(id)
    }

    /// What was done so far.
    pub fn stats(&self) -> WriterStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriterStats {
            new_blocks: get(&self.shared.new_blocks),
            new_bytes: get(&self.shared.new_bytes),
            reused_blocks: get(&self.shared.reused_blocks),
            adopted_packs: self.finisher.as_ref().map_or(0, Finisher::adopted),
        }
    }

    /// Makes all that was put durable and indexed, then commits the snapshot. When this returns an error the
    /// snapshot was not committed, unless the error is of the store and struck after the commit.
    pub fn commit(mut self, snapshot: Snapshot) -> Result<SnapshotId, RepoError> {
        let Some(mut session) = self.session.take() else {
            return Err(RepoError::damaged("the session", "ended before the commit"));
        };
        let repository = self.shared.repository.clone();
        // Taken for dead before it came here: with a session of its own again the snapshot is never there without one.
        let lost = !session.is_registered()?;
        if lost {
            session = Session::register(&repository, self.shared.options.heartbeat)?.0;
        }
        let stored = StoredSnapshot {
            session: session.id,
            snapshot,
            details: Vec::new(),
        };
        let (id, bytes) = snapshots::encode(&repository.keys, &stored)?;
        // A copy in a pack, for repair: the record is the one object that says what all others are for.
        self.put_other(&PackGroup::Outline, &bytes)?;
        self.finish()?;
        let root = stored.snapshot.root;
        if !self.shared.known.contains(&root) {
            let note = String::new();
            return Err(RepoError::MissingBlock { block: root, note });
        }
        if lost {
            let missing = complete::missing(&repository, &stored.snapshot)?;
            if missing > 0 {
                return Err(RepoError::SessionLost { missing });
            }
        }
        let store = &*repository.store;
        // From here on an error may be of something that did happen.
        session.keep_objects();
        store.put(&snapshots::object_name(&id), &bytes)?;
        if session.is_registered()? {
            history::record_commit(&repository, id)?;
            session.end();
            return Ok(id);
        }
        session.end();
        // It was taken for dead, so packs that this snapshot needs may have been deleted.
        let missing = complete::missing(&repository, &stored.snapshot)?;
        if missing == 0 {
            history::record_commit(&repository, id)?;
            // Whoever gave the snapshot up said so before it looked for the record just written.
            if !History::load(&repository)?.abandoned().contains(&id) {
                return Ok(id);
            }
        }
        History::load(&repository)?.append(&repository, Event::Lost(vec![id]))?;
        store.remove(&snapshots::object_name(&id))?;
        Err(RepoError::SessionLost { missing })
    }

    /// Stores no snapshot, but keeps what is stored: the next run finds it.
    pub fn abort(mut self) -> Result<(), RepoError> {
        self.finish()
    }

    /// Finishes all packs and index objects and stops the finisher.
    fn finish(&mut self) -> Result<(), RepoError> {
        if let Some(finisher) = self.finisher.take() {
            for pack in self.shared.open.take_all() {
                // One that failed before drops the packs; its failure is told below.
                if finisher.send(pack).is_err() {
                    break;
                }
            }
            finisher.join()?;
        }
        self.shared.check_failure()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.finisher.is_some()
            && let Err(error) = self.finish()
        {
            tracing::warn!("not all that was stored could be kept for the next run: {error}");
        }
    }
}
