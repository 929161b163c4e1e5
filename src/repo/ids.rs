//! Names of objects: hashes of content, and random ids.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `N` bytes written as hexadecimal digits, in names of objects and in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// Name of an object by its content: BLAKE3 of its bytes.
pub type ObjectId = Hex<32>;
/// A pack's name.
pub type PackId = ObjectId;
/// A snapshot's name.
pub type SnapshotId = ObjectId;
/// A key slot's name.
pub type KeyId = ObjectId;
/// A history record's name.
pub type HistoryId = ObjectId;
/// The repository's id, random.
pub type RepoId = Hex<16>;
/// A writer's id, random.
pub type SessionId = Hex<16>;

impl ObjectId {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }
}

impl From<blake3::Hash> for ObjectId {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl<const N: usize> Hex<N> {
    /// A new random id.
    pub fn random() -> Self {
        let mut bytes = [0; N];
        rand::fill(&mut bytes[..]);
        Self(bytes)
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // One object has one name.
        if let Some((index, c)) = text.char_indices().find(|(_, c)| c.is_ascii_uppercase()) {
            return Err(hex::FromHexError::InvalidHexCharacter { c, index });
        }
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A block id that may be missing, as hexadecimal digits, for JSON.
pub(super) mod optional_block_as_hex {
    use super::{Deserialize, Deserializer, Hex, Serialize, Serializer};
    use crate::rows::BlockId;

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(
        id: &Option<BlockId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        id.map(|id| Hex(id.0)).serialize(serializer)
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<BlockId>, D::Error> {
        Ok(Option::<Hex<32>>::deserialize(deserializer)?.map(|id| BlockId(id.0)))
    }
}

/// A block id as hexadecimal digits, for JSON.
pub(super) mod block_as_hex {
    use super::{Deserialize, Deserializer, Hex, Serialize, Serializer};
    use crate::rows::BlockId;

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(id: &BlockId, serializer: S) -> Result<S::Ok, S::Error> {
        Hex(id.0).serialize(serializer)
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BlockId, D::Error> {
        Ok(BlockId(Hex::deserialize(deserializer)?.0))
    }
}
