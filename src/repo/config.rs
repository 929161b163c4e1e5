//! The object `config`: what the repository is and what it takes to use it. Written last by `init`, never again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ids::{Hex, RepoId};
use super::seal::Keyring;
use super::{RepoError, record};
use crate::rows::IdKey;
use crate::store::Store;

/// Name of the object.
pub(super) const NAME: &str = "config";
/// A copy of it, for repair.
pub(super) const COPY: &str = "config.copy";
const KIND: &str = "config";

/// The format this program writes and reads.
const FORMAT: u32 = 1;

/// The feature of repositories whose objects are sealed.
const ENCRYPTION: &str = "encryption";

/// What one wants to do; a repository may ask for different features for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Restore, list, show.
    Read,
    /// Dump.
    Write,
    /// Check.
    Check,
    /// Forget and prune.
    Delete,
}

/// The content of `config`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The repository's id.
    pub id: RepoId,
    /// Version of the format; a program that does not know it refuses everything.
    pub format: u32,
    /// Features that a program must know for an operation.
    pub features: Features,
    /// The key of block ids; an encrypted repository keeps it in its key slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id_key: Option<Hex<32>>,
    /// The public key that rows and names are sealed to, for people: what is used is in the key slots.
    pub public_keys: Vec<Hex<32>>,
}

/// Names of features that must be known, per operation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Features {
    /// To restore, list, show.
    pub read: BTreeSet<String>,
    /// To dump.
    pub write: BTreeSet<String>,
    /// To check.
    pub check: BTreeSet<String>,
    /// To forget and prune.
    pub delete: BTreeSet<String>,
}

impl Config {
    /// A new repository's.
    pub(super) fn plain(id_key: Hex<32>) -> Self {
        Self {
            id: RepoId::random(),
            format: FORMAT,
            features: Features::default(),
            id_key: Some(id_key),
            public_keys: Vec::new(),
        }
    }

    /// A new encrypted repository's.
    pub(super) fn encrypted(id: RepoId, public_key: Hex<32>) -> Self {
        let needed = || BTreeSet::from([ENCRYPTION.to_owned()]);
        Self {
            id,
            format: FORMAT,
            features: Features {
                read: needed(),
                write: needed(),
                check: needed(),
                delete: needed(),
            },
            id_key: None,
            public_keys: vec![public_key],
        }
    }

    /// Whether objects are sealed.
    pub(super) fn is_encrypted(&self) -> bool {
        self.features.read.contains(ENCRYPTION)
    }

    /// The key of block ids of a repository that is not encrypted.
    pub(super) fn id_key(&self) -> Result<IdKey, RepoError> {
        let key = self
            .id_key
            .ok_or_else(|| RepoError::damaged(NAME, "has no id key"))?;
        Ok(IdKey(key.0))
    }

    /// Whether the public key that it states, if it does, is that of a key slot. Anyone who can write to the storage
    /// can write another one here.
    pub(super) fn agrees_with(&self, public_key: &Hex<32>) -> bool {
        self.public_keys.iter().all(|stated| stated == public_key)
    }

    pub(super) fn store(&self, store: &dyn Store) -> Result<(), RepoError> {
        let bytes = record::encode(&Keyring::plain(), KIND, "", self)?;
        store.put(COPY, &bytes)?;
        Ok(store.put(NAME, &bytes)?)
    }

    /// The bytes of the copy, verified.
    pub(super) fn load_copy(store: &dyn Store) -> Result<Vec<u8>, RepoError> {
        let bytes = store.get(COPY)?;
        record::decode::<Self>(&Keyring::plain(), KIND, "", &bytes)
            .map_err(|detail| RepoError::damaged(COPY, detail))?;
        Ok(bytes)
    }

    /// Reads and verifies the object.
    pub(super) fn load(store: &dyn Store) -> Result<Self, RepoError> {
        let bytes = store.get(NAME)?;
        let config: Self = record::decode(&Keyring::plain(), KIND, "", &bytes)
            .map_err(|detail| RepoError::damaged(NAME, detail))?;
        if config.format != FORMAT {
            return Err(RepoError::Unsupported {
                what: format!("format {}", config.format),
                operation: "use",
            });
        }
        Ok(config)
    }

    /// Whether this program knows all it takes.
    pub(super) fn require(&self, operation: Operation) -> Result<(), RepoError> {
        let (features, operation) = match operation {
            Operation::Read => (&self.features.read, "read"),
            Operation::Write => (&self.features.write, "write"),
            Operation::Check => (&self.features.check, "check"),
            Operation::Delete => (&self.features.delete, "delete"),
        };
        match features.iter().find(|feature| *feature != ENCRYPTION) {
            Some(feature) => Err(RepoError::Unsupported {
                what: format!("the feature {feature:?}"),
                operation,
            }),
            None => Ok(()),
        }
    }
}
