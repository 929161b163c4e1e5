//! Reading blocks, with proof: the bytes have their checksum and the payload has its id.

use std::sync::{Arc, PoisonError, RwLock};

use super::block::{BlockHeader, HEADER_LEN};
use super::index::{IndexSet, Location};
use super::{RepoError, Repository, pack};
use crate::rows::{BlockId, BlockInfo, Decoder, IdKey, RowsError};
use crate::store::Store;

/// Reads blocks; for many threads at once.
#[derive(Debug)]
pub struct Reader {
    store: Arc<dyn Store>,
    id_key: IdKey,
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
        self.reader_with(IndexSet::load(&*self.store, None)?)
    }

    /// A reader that knows these index objects.
    pub(super) fn reader_with(&self, index: IndexSet) -> Result<Reader, RepoError> {
        Ok(Reader {
            store: Arc::clone(&self.store),
            id_key: self.id_key().clone(),
            index: RwLock::new(Indexes::new(index)?),
        })
    }
}

impl Reader {
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
        let mut index = self.index();
        let mut reloads = 0;
        loop {
            let failure = match self.read_with(&index.lookup, id, decoder, scratch, out) {
                Ok(info) => return Ok(info),
                Err(failure) => failure,
            };
            let gone = matches!(failure, RepoError::MissingBlock { .. }) || failure.is_absent();
            if !gone || reloads == RELOADS {
                return Err(failure);
            }
            // The block was stored, or its pack replaced by another, since the index was loaded: possibly more than
            // once, while prunes are at work.
            reloads += 1;
            let objects = IndexSet::load(&*self.store, Some(&index.objects))?;
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
        Ok((info, scratch.get(HEADER_LEN..).unwrap_or_default()))
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
        let mut failure = None;
        for location in index.find(*id) {
            match self.read_at(id, &location, decoder, scratch, out) {
                Ok(info) => return Ok(info),
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
        let mut read = || -> Result<Result<BlockInfo, String>, RepoError> {
            self.store
                .get_range(&name, location.offset, location.length as usize, scratch)?;
            Ok(verify_block(&self.id_key, id, scratch, decoder, out))
        };
        // What was damaged on its way is sound when it is read again.
        let verified = match read()? {
            Err(_) => {
                self.store.discard(&name);
                read()?
            }
            sound => sound,
        };
        verified.map_err(|detail| RepoError::DamagedBlock {
            pack: location.pack,
            offset: location.offset,
            block: *id,
            detail,
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
        Ok(self.store.get_range(&name, location.offset, len, scratch)?)
    }
}

/// Verifies a block as it lies in a pack, and decodes it into `out`.
pub(super) fn verify_block(
    id_key: &IdKey,
    id: &BlockId,
    block: &[u8],
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<BlockInfo, String> {
    let (header, encoded) = BlockHeader::open(block)?;
    if header.id != *id {
        return Err(format!("its header is that of block {}", header.id));
    }
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
    if id_key.block_id(info.format, info.columns, out) != *id {
        return Err("its payload does not have its id".into());
    }
    Ok(info)
}
