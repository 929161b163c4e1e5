//! Small objects for people and programs: a line that says what it is, with a checksum, then JSON.
//!
//! ```text
//! pgtide snapshot 1 <BLAKE3 of everything after this line, in hex>\n
//! { ... }\n
//! ```
//!
//! In an encrypted repository the JSON is sealed. Damage is still seen without a key:
//!
//! ```text
//! pgtide sealed snapshot 1 <BLAKE3 of everything after this line, in hex>\n
//! seed 32, counter 8, ciphertext, tag 16
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RepoError;
use super::ids::ObjectId;
use super::seal::{Class, Closed, Keyring};

/// Version of the framing, and of every record in it.
const VERSION: &str = "1";
/// Stands before the kind of a record that is sealed.
const SEALED: &str = "sealed ";

/// The object's bytes. `name` is the object's name where that is no hash of its bytes, else empty.
pub(super) fn encode<T: Serialize>(
    keys: &Keyring,
    kind: &str,
    name: &str,
    value: &T,
) -> Result<Vec<u8>, RepoError> {
    let mut body = serde_json::to_vec_pretty(value).map_err(|error| RepoError::Damaged {
        object: format!("a new {kind}"),
        detail: error.to_string(),
    })?;
    body.push(b'\n');
    let sealed = if keys.seals() {
        body = keys.seal(Class::Index, &aad(keys, kind, name), &body)?;
        SEALED
    } else {
        ""
    };
    let line = format!("pgtide {sealed}{kind} {VERSION} {}\n", ObjectId::of(&body));
    let mut bytes = line.into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// What a sealed record is sealed for.
fn aad(keys: &Keyring, kind: &str, name: &str) -> Vec<u8> {
    let mut aad = [b"pgtide record 1", keys.repository()].concat();
    for text in [kind, name] {
        aad.extend_from_slice(&(text.len() as u32).to_le_bytes());
        aad.extend_from_slice(text.as_bytes());
    }
    aad
}

/// Reads an object's bytes back; the error says what is wrong with them.
pub fn decode<T: DeserializeOwned>(
    keys: &Keyring,
    kind: &str,
    name: &str,
    bytes: &[u8],
) -> Result<T, String> {
    let end = bytes
        .iter()
        .take(256)
        .position(|&byte| byte == b'\n')
        .ok_or("has no first line")?;
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let line = std::str::from_utf8(line).map_err(|_| "its first line is not text")?;
    let line = line
        .strip_prefix("pgtide ")
        .ok_or_else(|| format!("does not begin with `pgtide {kind}`"))?;
    let (sealed, line) = match line.strip_prefix(SEALED) {
        Some(line) => (true, line),
        None => (false, line),
    };
    let mut words = line.split(' ');
    if words.next() != Some(kind) {
        return Err(format!("is no record of the kind {kind}"));
    }
    let version = words.next().unwrap_or_default();
    if version != VERSION {
        return Err(format!(
            "has format version {version:?}, this program knows {VERSION}"
        ));
    }
    if words.next() != Some(&ObjectId::of(body).to_string()) || words.next().is_some() {
        return Err("its content does not have the checksum of its first line".into());
    }
    let mut body = std::borrow::Cow::from(body);
    let json = match (keys.seals(), sealed) {
        (false, false) => &body,
        (true, true) => keys
            .open(Class::Index, &aad(keys, kind, name), body.to_mut())
            .map_err(|_: Closed| {
                "was not sealed by a key of this repository as what it is found as, or was changed since"
            })?,
        (true, false) => return Err("is not sealed, and this repository is encrypted".into()),
        (false, true) => return Err("is sealed, and this repository is not encrypted".into()),
    };
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::ids::{Hex, RepoId};
    use crate::repo::keys::Secrets;

    fn sealing(repository: RepoId, secrets: &Secrets) -> Keyring {
        Keyring::new(repository, ObjectId::of(b""), secrets.clone())
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let value = vec!["a".to_owned(), "b".to_owned()];
        for keys in [
            Keyring::plain(),
            sealing(Hex([1; 16]), &Secrets::generate().unwrap()),
        ] {
            let read = |kind: &str, bytes: &[u8]| decode::<Vec<String>>(&keys, kind, "", bytes);
            let bytes = encode(&keys, "thing", "", &value).unwrap();
            assert_eq!(read("thing", &bytes).unwrap(), value);
            assert!(read("other", &bytes).is_err());
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut bad = bytes.clone();
                    bad[at] ^= 1 << bit;
                    assert!(read("thing", &bad).is_err(), "byte {at} bit {bit}");
                }
                assert!(read("thing", &bytes[..at]).is_err());
            }
            let longer = [&bytes[..], b" "].concat();
            assert!(read("thing", &longer).is_err());
        }
    }

    #[test]
    fn a_sealed_record_opens_as_what_it_was_sealed_as_and_as_nothing_else() {
        let (secrets, here) = (Secrets::generate().unwrap(), Hex([1; 16]));
        let keys = sealing(here, &secrets);
        let bytes = encode(&keys, "thing", "name", &7).unwrap();
        assert_eq!(decode::<u32>(&keys, "thing", "name", &bytes), Ok(7));
        // A write key will do.
        let write = sealing(here, &secrets.to_write());
        assert_eq!(decode::<u32>(&write, "thing", "name", &bytes), Ok(7));
        assert!(decode::<u32>(&keys, "thing", "another", &bytes).is_err());
        let elsewhere = sealing(Hex([2; 16]), &secrets);
        assert!(decode::<u32>(&elsewhere, "thing", "name", &bytes).is_err());
        let stranger = sealing(here, &Secrets::generate().unwrap());
        assert!(decode::<u32>(&stranger, "thing", "name", &bytes).is_err());
        // The kind is named in the clear, too: whoever changes it there must still not be believed.
        let end = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let line = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let renamed = [line.replace("thing", "other").as_bytes(), &bytes[end..]].concat();
        let error = decode::<u32>(&keys, "other", "name", &renamed).unwrap_err();
        assert!(error.contains("not sealed by a key"), "{error}");

        let plain = encode(&Keyring::plain(), "thing", "name", &7).unwrap();
        assert!(decode::<u32>(&keys, "thing", "name", &plain).is_err());
        assert!(decode::<u32>(&Keyring::plain(), "thing", "name", &bytes).is_err());
    }
}
