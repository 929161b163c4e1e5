//! How objects of an encrypted repository are sealed.
//!
//! Everything is AES-256-GCM under a key of its own, the object key, which follows from a *seed* of 32 bytes that stands
//! before the ciphertext. For the class *reader* the seed is what HPKE (RFC 9180, export only) encapsulated to the
//! readers' public key; for the class *index* it is random, and the object key is derived from it and the index key.
//! Both classes have the same frame: seed 32, counter u64, ciphertext, tag 16. A seed is drawn anew by every writer and
//! for every record, the counter grows with every frame under it, so that no nonce is used twice under a key.

mod stream;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hpke::aead::ExportOnlyAead;
use hpke::kdf::HkdfSha256;
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

pub(super) use self::stream::{
    is_sealed as is_sealed_stream, open as open_stream, seal as seal_stream,
};
use super::block::BlockHeader;
use super::bytes::{array, u64_at};
use super::ids::{KeyId, RepoId};
use super::keys::{KEY_LEN, KeyError, Secrets};

/// The key encapsulation of the readers' key: DHKEM(X25519, HKDF-SHA256).
pub(super) type Kem = hpke::kem::X25519HkdfSha256;

/// `info` of the HPKE context.
const INFO: &[u8] = b"pgtide reader key 1";
/// Exporter context of object keys.
const EXPORT: &[u8] = b"pgtide object key 1";
/// BLAKE3's context of object keys of the class index.
const DERIVE: &str = "pgtide index object key 1";

const SEED_LEN: usize = 32;
const COUNTER_LEN: usize = 8;
const TAG_LEN: usize = 16;
/// Bytes that sealing adds.
pub(super) const OVERHEAD: usize = SEED_LEN + COUNTER_LEN + TAG_LEN;

/// What was sealed, of a frame that was opened where it lies.
pub(super) fn opened(frame: &[u8]) -> &[u8] {
    let end = frame.len().saturating_sub(TAG_LEN);
    frame.get(SEED_LEN + COUNTER_LEN..end).unwrap_or_default()
}

/// Object keys kept for the next object of the same writer.
const CACHED_KEYS: usize = 4096;

type Seed = [u8; SEED_LEN];

/// Who can open what is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Whoever has any key of the repository.
    Index,
    /// Whoever has a key that reads.
    Reader,
}

/// Why something does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It takes a key that reads.
    NoKey,
    /// It is not what was sealed, or was sealed with another key or for another place.
    Damaged,
    /// It is sealed in a repository that is not encrypted, or the other way.
    OtherKind,
}

/// The keys that a repository was opened with; none of a plain one. Cheap to clone.
#[derive(Clone, Default)]
pub struct Keyring(Option<Arc<Keys>>);

struct Keys {
    repository: RepoId,
    slot: KeyId,
    secrets: Arc<Secrets>,
    opened: Mutex<HashMap<(Class, Seed), Arc<LessSafeKey>>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            None => "Keyring(none)",
            Some(_) => "Keyring(..)",
        })
    }
}

impl Keyring {
    /// Of a repository that is not encrypted.
    pub fn plain() -> Self {
        Self(None)
    }

    /// What a slot of the repository gave.
    pub(super) fn new(repository: RepoId, slot: KeyId, secrets: Secrets) -> Self {
        Self::of(repository, slot, Arc::new(secrets))
    }

    fn of(repository: RepoId, slot: KeyId, secrets: Arc<Secrets>) -> Self {
        Self(Some(Arc::new(Keys {
            repository,
            slot,
            secrets,
            opened: Mutex::default(),
        })))
    }

    /// The same keys out of another slot.
    pub(super) fn with_slot(&self, slot: KeyId) -> Self {
        match &self.0 {
            None => Self(None),
            Some(keys) => Self::of(keys.repository, slot, Arc::clone(&keys.secrets)),
        }
    }

    /// The keys themselves.
    pub(super) fn secrets(&self) -> Option<&Arc<Secrets>> {
        self.0.as_ref().map(|keys| &keys.secrets)
    }

    /// The slot they are from.
    pub(super) fn slot(&self) -> Option<KeyId> {
        self.0.as_ref().map(|keys| keys.slot)
    }

    /// Whether objects are sealed.
    pub(super) fn seals(&self) -> bool {
        self.0.is_some()
    }

    /// Whether they open all there is.
    pub(super) fn can_read(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|keys| keys.secrets.private.is_some())
    }

    /// The repository they are of, as it enters associated data; nothing where there are none.
    pub(super) fn repository(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |keys| &keys.repository.0)
    }

    /// A sealer with a new seed.
    pub(super) fn sealer(&self, class: Class) -> Result<Sealer, KeyError> {
        let failed = |detail| KeyError::Seal { detail };
        let keys = self.0.as_ref().ok_or(failed("there are no keys"))?;
        let (seed, key) = match class {
            Class::Index => {
                let seed = random()?;
                (seed, index_key(&keys.secrets, &seed))
            }
            Class::Reader => encapsulate(&keys.secrets.public)
                .ok_or(failed("the readers' public key is not one"))?,
        };
        Ok(Sealer {
            seed,
            key: cipher(&key).ok_or(failed("no AES-256-GCM"))?,
            counter: AtomicU64::new(0),
        })
    }

    /// One sealer of each class; none where nothing is sealed.
    pub(super) fn sealers(&self) -> Result<Option<Sealers>, KeyError> {
        if !self.seals() {
            return Ok(None);
        }
        Ok(Some(Sealers {
            index: self.sealer(Class::Index)?,
            reader: self.sealer(Class::Reader)?,
        }))
    }

    /// Seals one thing under a seed of its own.
    pub(super) fn seal(&self, class: Class, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sealer(class)?.seal(aad, plain)
    }

    /// Opens a frame where it lies.
    pub(super) fn open<'a>(
        &self,
        class: Class,
        aad: &[u8],
        frame: &'a mut [u8],
    ) -> Result<&'a [u8], Closed> {
        let (seed, counter) = array(frame, 0)
            .zip(u64_at(frame, SEED_LEN))
            .ok_or(Closed::Damaged)?;
        let key = self.object_key(class, &seed)?;
        open(
            &key,
            nonce(counter),
            aad,
            &mut frame[SEED_LEN + COUNTER_LEN..],
        )
    }

    /// The encoded block behind a header, opened where it lies.
    pub fn open_block<'a>(
        &self,
        header: &BlockHeader,
        stored: &'a mut [u8],
    ) -> Result<&'a [u8], Closed> {
        match (self.seals(), header.sealed) {
            (false, None) => Ok(stored),
            (true, Some(class)) => self.open(class, &header.fields(), stored),
            _ => Err(Closed::OtherKind),
        }
    }

    /// Whether what is sealed by one of them opens to the other.
    pub fn is_like(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => a.secrets.public == b.secrets.public,
            _ => false,
        }
    }

    /// The key of objects under that seed.
    fn object_key(&self, class: Class, seed: &Seed) -> Result<Arc<LessSafeKey>, Closed> {
        let keys = self.0.as_ref().ok_or(Closed::NoKey)?;
        let cache = || keys.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = cache().get(&(class, *seed)) {
            return Ok(Arc::clone(key));
        }
        let key = match class {
            Class::Index => index_key(&keys.secrets, seed),
            Class::Reader => {
                let private = keys.secrets.private.as_ref().ok_or(Closed::NoKey)?;
                decapsulate(private, seed).ok_or(Closed::Damaged)?
            }
        };
        let key = Arc::new(cipher(&key).ok_or(Closed::Damaged)?);
        let mut cache = cache();
        if cache.len() >= CACHED_KEYS {
            cache.clear();
        }
        cache.insert((class, *seed), Arc::clone(&key));
        Ok(key)
    }
}

/// Seals many frames under one seed; for many threads at once.
pub(super) struct Sealer {
    seed: Seed,
    key: LessSafeKey,
    counter: AtomicU64,
}

impl Sealer {
    /// The frame of these bytes.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::with_capacity(plain.len() + OVERHEAD);
        frame.extend_from_slice(&self.seed);
        frame.extend_from_slice(&counter.to_le_bytes());
        frame.extend_from_slice(plain);
        let body = &mut frame[SEED_LEN + COUNTER_LEN..];
        let tag = seal(&self.key, nonce(counter), aad, body)?;
        frame.extend_from_slice(&tag);
        Ok(frame)
    }
}

/// A sealer of each class.
pub(super) struct Sealers {
    index: Sealer,
    reader: Sealer,
}

impl Sealers {
    /// The one of that class.
    pub fn of(&self, class: Class) -> &Sealer {
        match class {
            Class::Index => &self.index,
            Class::Reader => &self.reader,
        }
    }
}

/// Seals with a key that seals nothing else.
pub(super) fn seal_once(
    key: &[u8; KEY_LEN],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let key = cipher(key).ok_or(KeyError::Seal {
        detail: "no AES-256-GCM",
    })?;
    let mut out = Vec::with_capacity(plain.len() + TAG_LEN);
    out.extend_from_slice(plain);
    let tag = seal(&key, nonce(0), aad, &mut out)?;
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Opens what [`seal_once`] sealed.
pub(super) fn open_once<'a>(
    key: &[u8; KEY_LEN],
    aad: &[u8],
    sealed: &'a mut [u8],
) -> Result<&'a [u8], Closed> {
    open(&cipher(key).ok_or(Closed::Damaged)?, nonce(0), aad, sealed)
}

fn seal(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    body: &mut [u8],
) -> Result<[u8; TAG_LEN], KeyError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), body);
    tag.ok()
        .and_then(|tag| tag.as_ref().try_into().ok())
        .ok_or(KeyError::Seal {
            detail: "AES-256-GCM refused the length",
        })
}

fn open<'a>(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    sealed: &'a mut [u8],
) -> Result<&'a [u8], Closed> {
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), sealed)
        .map(|plain| &*plain)
        .map_err(|_| Closed::Damaged)
}

/// Random bytes of the operating system, which knows when a machine was cloned: a generator of our own does not.
pub(super) fn random() -> Result<[u8; SEED_LEN], KeyError> {
    let random = ring::rand::generate(&SystemRandom::new());
    random
        .map(|bytes| bytes.expose())
        .map_err(|_| KeyError::Seal {
            detail: "the system has no random numbers",
        })
}

/// Four zero bytes, then the counter.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

fn cipher(key: &[u8; KEY_LEN]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?))
}

fn index_key(secrets: &Secrets, seed: &Seed) -> Zeroizing<[u8; KEY_LEN]> {
    let mut hasher = blake3::Hasher::new_derive_key(DERIVE);
    hasher.update(&*secrets.index_key);
    hasher.update(seed);
    Zeroizing::new(hasher.finalize().into())
}

/// A new seed for whoever has the private key, and the object key that goes with it.
fn encapsulate(public: &[u8; KEY_LEN]) -> Option<(Seed, Zeroizing<[u8; KEY_LEN]>)> {
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(public).ok()?;
    let (enc, context) =
        hpke::setup_sender::<ExportOnlyAead, HkdfSha256, Kem>(&OpModeS::Base, &public, INFO)
            .ok()?;
    let mut seed = [0; SEED_LEN];
    enc.write_exact(&mut seed);
    let mut key = Zeroizing::new([0; KEY_LEN]);
    context.export(EXPORT, &mut key[..]).ok()?;
    Some((seed, key))
}

fn decapsulate(private: &[u8; KEY_LEN], seed: &Seed) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(private).ok()?;
    let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(seed).ok()?;
    let context = hpke::setup_receiver::<ExportOnlyAead, HkdfSha256, Kem>(
        &OpModeR::Base,
        &private,
        &enc,
        INFO,
    )
    .ok()?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    context.export(EXPORT, &mut key[..]).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::ids::Hex;
    use super::*;

    fn both() -> (Keyring, Keyring) {
        let secrets = Secrets::generate().unwrap();
        let ring = |secrets| Keyring::new(Hex([1; 16]), KeyId::of(b""), secrets);
        (ring(secrets.clone()), ring(secrets.to_write()))
    }

    proptest! {
        #[test]
        fn a_frame_opens_for_those_it_is_for_and_for_nobody_else(
            plain in prop::collection::vec(any::<u8>(), 0..300),
            aad in prop::collection::vec(any::<u8>(), 0..60),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let (read, write) = both();
            for class in [Class::Index, Class::Reader] {
                // Whoever writes seals for readers.
                let frame = write.seal(class, &aad, &plain).unwrap();
                prop_assert_eq!(frame.len(), plain.len() + OVERHEAD);
                let opens = |keys: &Keyring, aad: &[u8], frame: &[u8]| {
                    let mut frame = frame.to_vec();
                    keys.open(class, aad, &mut frame).map(<[u8]>::to_vec)
                };
                prop_assert_eq!(opens(&read, &aad, &frame), Ok(plain.clone()));
                let expected = match class {
                    Class::Index => Ok(plain.clone()),
                    Class::Reader => Err(Closed::NoKey),
                };
                prop_assert_eq!(opens(&write, &aad, &frame), expected);
                prop_assert!(opens(&Keyring::plain(), &aad, &frame).is_err());
                prop_assert!(opens(&both().0, &aad, &frame).is_err());
                let other = [&aad[..], b"x"].concat();
                prop_assert!(opens(&read, &other, &frame).is_err());
                let mut bad = frame.clone();
                let at = at.index(bad.len());
                bad[at] ^= 1u8 << bit;
                prop_assert!(opens(&read, &aad, &bad).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for class in [Class::Index, Class::Reader] {
                prop_assert!(both().0.open(class, b"", &mut bytes.clone()).is_err());
            }
        }
    }

    #[test]
    fn no_nonce_is_used_twice_under_a_seed_and_no_seed_twice() {
        let (keys, _) = both();
        let mut seen = HashSet::new();
        for class in [Class::Index, Class::Reader] {
            for _ in 0..20 {
                let sealer = keys.sealer(class).unwrap();
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..4)
                        .map(|_| scope.spawn(|| [(); 50].map(|()| sealer.seal(b"", b"x").unwrap())))
                        .collect();
                    for frame in threads
                        .into_iter()
                        .flat_map(|thread| thread.join().unwrap())
                    {
                        let start = frame[..SEED_LEN + COUNTER_LEN].to_vec();
                        assert!(seen.insert(start));
                    }
                });
            }
        }
    }

    #[test]
    fn object_keys_are_kept_for_a_bounded_number_of_seeds() {
        let (keys, _) = both();
        for _ in 0..CACHED_KEYS + 10 {
            let mut frame = keys.seal(Class::Index, b"", b"x").unwrap();
            keys.open(Class::Index, b"", &mut frame).unwrap();
        }
        let opened = keys.0.unwrap().opened.lock().unwrap().len();
        assert!(opened <= CACHED_KEYS, "{opened}");
    }
}
