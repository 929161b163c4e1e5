//! Large objects of the class index, sealed in segments: neither sealing nor opening holds them in memory twice.
//!
//! ```text
//! start 16, seed 32, then for each MiB: ciphertext, tag 16
//! ```
//! The nonce of a segment is its number (u64), three zero bytes, and 1 if it is the last, else 0: segments can be
//! neither swapped nor cut off.

use std::io::Write;

use super::{
    Class, Closed, Keyring, SEED_LEN, TAG_LEN, open as open_segment, seal as seal_segment,
};
use crate::repo::RepoError;
use crate::repo::bytes::array;
use crate::store::{Buffer, StoreError};

/// Bytes of a segment before it is sealed.
const SEGMENT: usize = 1 << 20;
/// An object up to this size is opened into memory, a larger one into a file.
const IN_MEMORY: usize = 64 << 10;

const START_LEN: usize = 16;
/// Bit of the start's flags.
const SEALED: u8 = 1;

/// Whether the object, which starts with 8 bytes of magic, a version and flags, is sealed.
pub(in crate::repo) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.get(12).is_some_and(|flags| flags & SEALED != 0)
}

/// The start of the sealed object.
fn sealed_start(plain: &[u8]) -> Option<[u8; START_LEN]> {
    let mut start: [u8; START_LEN] = array(plain, 0)?;
    start[12] |= SEALED;
    Some(start)
}

fn aad(keys: &Keyring, start: &[u8; START_LEN]) -> Vec<u8> {
    [&b"pgtide stream 1"[..], keys.repository(), start].concat()
}

/// Seals an object piece by piece.
pub(in crate::repo) fn seal(
    keys: &Keyring,
    plain: &[u8],
    mut emit: impl FnMut(&[u8]) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let start = sealed_start(plain)
        .ok_or_else(|| RepoError::damaged("a new object", "is shorter than its start"))?;
    let sealer = keys.sealer(Class::Index)?;
    emit(&start)?;
    emit(&sealer.seed)?;
    let aad = aad(keys, &start);
    let last = plain.len().div_ceil(SEGMENT) - 1;
    for (number, segment) in plain.chunks(SEGMENT).enumerate() {
        let mut body = Vec::with_capacity(segment.len() + TAG_LEN);
        body.extend_from_slice(segment);
        let tag = seal_segment(&sealer.key, nonce(number, number == last), &aad, &mut body)?;
        body.extend_from_slice(&tag);
        emit(&body)?;
    }
    Ok(())
}

/// Opens an object, into a file without a name if it is large.
pub(in crate::repo) fn open(
    keys: &Keyring,
    name: &str,
    sealed: &[u8],
) -> Result<Buffer, RepoError> {
    let damaged = || {
        RepoError::damaged(
            name,
            "was not sealed by a key of this repository, or was changed since",
        )
    };
    // That there is no room is no damage.
    let failed = |source| {
        let object = format!("{name}, opened in {}", std::env::temp_dir().display());
        RepoError::from(StoreError::from_io(&object, source))
    };
    let start: [u8; START_LEN] = array(sealed, 0).ok_or_else(damaged)?;
    let seed = array(sealed, START_LEN).ok_or_else(damaged)?;
    let key = keys.object_key(Class::Index, &seed);
    let key = key.map_err(|_: Closed| damaged())?;
    let aad = aad(keys, &start);
    let body = &sealed[START_LEN + SEED_LEN..];
    let last = body
        .len()
        .div_ceil(SEGMENT + TAG_LEN)
        .checked_sub(1)
        .ok_or_else(damaged)?;
    let (mut memory, mut file) = (Vec::new(), None);
    if body.len() > IN_MEMORY {
        file = Some(tempfile::tempfile().map_err(failed)?);
    }
    let mut scratch = Vec::new();
    for (number, segment) in body.chunks(SEGMENT + TAG_LEN).enumerate() {
        scratch.clear();
        scratch.extend_from_slice(segment);
        let nonce = nonce(number, number == last);
        let plain = open_segment(&key, nonce, &aad, &mut scratch);
        let plain = plain.map_err(|_: Closed| damaged())?;
        match &mut file {
            Some(file) => file.write_all(plain).map_err(failed)?,
            None => memory.extend_from_slice(plain),
        }
    }
    match file {
        Some(file) => Buffer::map(&file).map_err(failed),
        None => Ok(memory.into()),
    }
}

fn nonce(number: usize, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
    nonce[11] = u8::from(last);
    nonce
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repo::ids::{Hex, KeyId};
    use crate::repo::keys::Secrets;

    fn keys() -> Keyring {
        Keyring::new(Hex([1; 16]), KeyId::of(b""), Secrets::generate().unwrap())
    }

    fn sealed(keys: &Keyring, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(keys, plain, |piece| {
            out.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        out
    }

    fn plain(len: usize) -> Vec<u8> {
        let mut plain = b"PGTIDEIX\x01\0\0\0\0\0\0\0".to_vec();
        plain.extend((plain.len()..len).map(|at| (at / 7) as u8));
        plain
    }

    #[test]
    fn what_was_sealed_opens_whatever_its_length() {
        let keys = keys();
        for len in [
            16,
            17,
            IN_MEMORY,
            SEGMENT - 1,
            SEGMENT,
            SEGMENT + 1,
            3 * SEGMENT,
        ] {
            let plain = plain(len);
            let sealed = sealed(&keys, &plain);
            assert!(is_sealed(&sealed) && !is_sealed(&plain));
            assert_eq!(&*open(&keys, "index/x", &sealed).unwrap(), plain, "{len}");
        }
    }

    #[test]
    fn segments_that_are_cut_off_swapped_or_repeated_are_noticed() {
        let keys = keys();
        let sealed = sealed(&keys, &plain(3 * SEGMENT));
        let (start, body) = sealed.split_at(START_LEN + SEED_LEN);
        let parts: Vec<&[u8]> = body.chunks(SEGMENT + TAG_LEN).collect();
        for order in [
            &[][..],
            &[0],
            &[0, 1],
            &[1, 0, 2],
            &[0, 0, 1, 2],
            &[0, 2],
            &[0, 1, 2, 2],
        ] {
            let parts: Vec<&[u8]> = order.iter().map(|&part: &usize| parts[part]).collect();
            let bad = [start, &parts.concat()].concat();
            assert!(open(&keys, "index/x", &bad).is_err(), "{order:?}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8) {
            let keys = keys();
            let mut bytes = sealed(&keys, &plain(500));
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(open(&keys, "index/x", &bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(&keys(), "index/x", &bytes).is_err());
        }
    }
}
