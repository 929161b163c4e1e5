//! Small objects for people and programs: a line that says what it is, with a checksum, then JSON.
//!
//! ```text
//! pgtide snapshot 1 <BLAKE3 of everything after this line, in hex>\n
//! { ... }\n
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RepoError;
use super::ids::ObjectId;

/// Version of the framing, and of every record in it.
const VERSION: &str = "1";

/// The object's bytes.
pub(super) fn encode<T: Serialize>(kind: &str, value: &T) -> Result<Vec<u8>, RepoError> {
    let mut body = serde_json::to_vec_pretty(value).map_err(|error| RepoError::Damaged {
        object: format!("a new {kind}"),
        detail: error.to_string(),
    })?;
    body.push(b'\n');
    let mut bytes = format!("pgtide {kind} {VERSION} {}\n", ObjectId::of(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads an object's bytes back; the error says what is wrong with them.
pub fn decode<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T, String> {
    let end = bytes
        .iter()
        .take(256)
        .position(|&byte| byte == b'\n')
        .ok_or("has no first line")?;
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let line = std::str::from_utf8(line).map_err(|_| "its first line is not text")?;
    let mut words = line.split(' ');
    if words.next() != Some("pgtide") || words.next() != Some(kind) {
        return Err(format!("does not begin with `pgtide {kind}`"));
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
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let value = vec!["a".to_owned(), "b".to_owned()];
        let bytes = encode("thing", &value).unwrap();
        assert_eq!(decode::<Vec<String>>("thing", &bytes).unwrap(), value);
        assert!(decode::<Vec<String>>("other", &bytes).is_err());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(
                    decode::<Vec<String>>("thing", &bad).is_err(),
                    "byte {at} bit {bit}"
                );
            }
            assert!(decode::<Vec<String>>("thing", &bytes[..at]).is_err());
        }
        let longer = [&bytes[..], b" "].concat();
        assert!(decode::<Vec<String>>("thing", &longer).is_err());
    }
}
