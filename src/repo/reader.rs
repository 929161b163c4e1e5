//! Reading blocks, with proof: the bytes have their checksum and the payload has its id.

use std::sync::{Arc, PoisonError, RwLock};

use super::block::{BlockHeader, HEADER_LEN};
use super::index::{IndexSet, Location};
use super::keys::KeyError;
use super::seal::Closed;
use super::{RepoError, Repository, pack, seal};
use crate::rows::{BlockId, BlockInfo, Decoder, RowsError};

/// Reads blocks; for many threads at once.
#[derive(Debug)]
pub struct Reader {
    repository: Repository,
    index: RwLock<Arc<Indexes>>,
}

/// How often the index is loaded again for a block that is not where it says.
const RELOADS: u32 = 8;

/// The index objects, and what they are looked up in.
#[derive(Debug)]
struct Indexes {
    objects: IndexSet,
    lookup: IndexSet,
}

impl Indexes {
    fn new(objects: IndexSet) -> Result<Arc<Self>, RepoError> {
        Ok(Arc::new(Self {
            lookup: objects.compacted()?,
            objects,
        }))
    }
}

impl Repository {
    /// A reader of what is stored now.
    pub fn reader(&self) -> Result<Reader, RepoError> {
        self.reader_with(IndexSet::load(self, None)?)
    }

    /// A reader that knows these index objects.
    pub(super) fn reader_with(&self, index: IndexSet) -> Result<Reader, RepoError> {
        Ok(Reader {
            repository: self.clone(),
            index: RwLock::new(Indexes::new(index)?),
        })
    }
}

impl Reader {
    /// The index objects that it knows, for lookups.
    pub(super) fn lookup(&self) -> IndexSet {
        self.index().lookup.clone()
    }

    fn index(&self) -> Arc<Indexes> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads a block: fetched, verified, decoded into `out`, and its id computed anew. `scratch` holds the encoded
    /// bytes. A block that lies in several places is read from the first that is sound.
    pub fn read(
        &self,
        id: &BlockId,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<BlockInfo, RepoError> {
        self.with_a_place(id, &mut |location| {
            self.read_at(id, location, decoder, scratch, out)
        })
    }

    /// A block as it lies in its pack: its header, and what follows it. Verified as [`read`](Self::read) does, as far as
    /// this key can open it.
    pub(super) fn read_stored<'r>(
        &self,
        id: &BlockId,
        decoder: &mut Decoder,
        raw: &'r mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(BlockHeader, &'r [u8]), RepoError> {
        let mut opened = Vec::new();
        self.with_a_place(id, &mut |location| {
            let verified = self.read_at(id, location, decoder, &mut opened, out);
            match verified {
                Ok(_) | Err(RepoError::Key(KeyError::CannotRead)) => {}
                Err(error) => return Err(error),
            }
            let (offset, length) = (location.offset, location.length as usize);
            let name = pack::object_name(&location.pack);
            Ok(self
                .repository
                .store
                .get_range(&name, offset, length, raw)?)
        })?;
        let damaged = |detail: &str| RepoError::Content {
            block: *id,
            detail: detail.to_owned(),
        };
        BlockHeader::open(raw).map_err(damaged)
    }

    /// Tries all places of a block, and loads the index again where it leads nowhere.
    fn with_a_place<T>(
        &self,
        id: &BlockId,
        go: &mut dyn FnMut(&Location) -> Result<T, RepoError>,
    ) -> Result<T, RepoError> {
        let mut index = self.index();
        let mut reloads = 0;
        loop {
            let failure = match try_places(&index.lookup, id, go) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let gone = matches!(failure, RepoError::MissingBlock { .. }) || failure.is_absent();
            if !gone || reloads == RELOADS {
                return Err(failure);
            }
            // The block was stored, or its pack replaced by another, since the index was loaded: possibly more than
            // once, while prunes are at work.
            reloads += 1;
            let objects = IndexSet::load(&self.repository, Some(&index.objects))?;
            if objects.files.keys().eq(index.objects.files.keys()) {
                return Err(failure);
            }
            index = Indexes::new(objects)?;
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&index);
        }
    }

    /// As [`read`](Self::read); returns the encoded block as well, which is in `scratch`.
    pub(super) fn read_encoded<'s>(
        &self,
        id: &BlockId,
        decoder: &mut Decoder,
        scratch: &'s mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(BlockInfo, &'s [u8]), RepoError> {
        let info = self.read(id, decoder, scratch, out)?;
        // It was opened where it lies.
        let sealed = BlockHeader::parse(scratch).is_ok_and(|header| header.sealed.is_some());
        let stored = scratch.get(HEADER_LEN..).unwrap_or_default();
        Ok((info, if sealed { seal::opened(stored) } else { stored }))
    }

    /// As [`read`](Self::read), with these index objects and no others.
    pub(super) fn read_with(
        &self,
        index: &IndexSet,
        id: &BlockId,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<BlockInfo, RepoError> {
        try_places(index, id, &mut |location| {
            self.read_at(id, location, decoder, scratch, out)
        })
    }

    /// As [`read`](Self::read), from that place.
    pub(super) fn read_at(
        &self,
        id: &BlockId,
        location: &Location,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<BlockInfo, RepoError> {
        let name = pack::object_name(&location.pack);
        let mut read = || -> Result<Result<BlockInfo, BlockFault>, RepoError> {
            let len = location.length as usize;
            let store = &self.repository.store;
            store.get_range(&name, location.offset, len, scratch)?;
            Ok(verify_block(&self.repository, id, scratch, decoder, out))
        };
        // What was damaged on its way is sound when it is read again.
        let verified = match read()? {
            Err(BlockFault::Damaged(_)) => {
                self.repository.store.discard(&name);
                read()?
            }
            other => other,
        };
        verified.map_err(|fault| match fault {
            BlockFault::NoKey => KeyError::CannotRead.into(),
            BlockFault::Damaged(detail) => RepoError::DamagedBlock {
                pack: location.pack,
                offset: location.offset,
                block: *id,
                detail,
            },
        })
    }

    /// Header and beginning of a block in its pack, enough for the coder's own header.
    pub(super) fn peek(
        &self,
        location: &Location,
        len: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<(), RepoError> {
        let name = pack::object_name(&location.pack);
        let len = len.min(location.length as usize);
        Ok(self
            .repository
            .store
            .get_range(&name, location.offset, len, scratch)?)
    }
}

/// Tries all places of a block; the first failure is told if none does.
fn try_places<T>(
    index: &IndexSet,
    id: &BlockId,
    go: &mut dyn FnMut(&Location) -> Result<T, RepoError>,
) -> Result<T, RepoError> {
    let mut failure = None;
    for location in index.find(*id) {
        match go(&location) {
            Ok(done) => return Ok(done),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let note = match &index.unusable[..] {
            [] => String::new(),
            unusable => format!(" that can be read (damaged: {})", unusable.join(", ")),
        };
        RepoError::MissingBlock { block: *id, note }
    }))
}

/// Why a block cannot be had.
#[derive(Debug)]
pub(super) enum BlockFault {
    /// It takes a key that reads. Its bytes are what its header says.
    NoKey,
    /// It is not what was stored.
    Damaged(String),
}

impl<T: Into<String>> From<T> for BlockFault {
    fn from(detail: T) -> Self {
        Self::Damaged(detail.into())
    }
}

/// Verifies a block as it lies in a pack, and decodes it into `out`. It is opened where it lies.
pub(super) fn verify_block(
    repository: &Repository,
    id: &BlockId,
    block: &mut [u8],
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<BlockInfo, BlockFault> {
    let (header, _) = BlockHeader::open(block)?;
    if header.id != *id {
        return Err(format!("its header is that of block {}", header.id).into());
    }
    let stored = &mut block[HEADER_LEN..];
    let opened = repository.keys.open_block(&header, stored);
    let encoded = opened.map_err(|closed| match closed {
        Closed::NoKey => BlockFault::NoKey,
        Closed::Damaged => "it was not sealed as this block by a key of this repository".into(),
        Closed::OtherKind => {
            "it is sealed in a repository that is not encrypted, or the other way".into()
        }
    })?;
    let info = decoder.decode(encoded, out).map_err(|error| match error {
        RowsError::Damaged { detail } => detail,
        other => other.to_string(),
    })?;
    if info.format != header.format
        || info.payload_len != header.raw_len
        || out.len() != header.raw_len as usize
    {
        return Err("its header does not agree with its content".into());
    }
    if repository.id_key().block_id(info.format, info.columns, out) != *id {
        return Err("its payload does not have its id".into());
    }
    Ok(info)
}
