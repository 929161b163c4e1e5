//! The object `config`: what the repository is and what it takes to use it. Written last by `init`, never again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ids::{Hex, RepoId};
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
    /// The key of block ids.
    id_key: Hex<32>,
    /// Keys that objects are encrypted to. None yet: a repository that has some names a feature, too.
    pub public_keys: Vec<String>,
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
    pub(super) fn new() -> Self {
        Self {
            id: RepoId::random(),
            format: FORMAT,
            features: Features::default(),
            id_key: Hex::random(),
            public_keys: Vec::new(),
        }
    }

    /// The key of block ids.
    pub(super) fn id_key(&self) -> IdKey {
        IdKey(self.id_key.0)
    }

    pub(super) fn store(&self, store: &dyn Store) -> Result<(), RepoError> {
        let bytes = record::encode(KIND, self)?;
        store.put(COPY, &bytes)?;
        Ok(store.put(NAME, &bytes)?)
    }

    /// The bytes of the copy, verified.
    pub(super) fn load_copy(store: &dyn Store) -> Result<Vec<u8>, RepoError> {
        let bytes = store.get(COPY)?;
        record::decode::<Self>(KIND, &bytes).map_err(|detail| RepoError::damaged(COPY, detail))?;
        Ok(bytes)
    }

    /// Reads and verifies the object.
    pub(super) fn load(store: &dyn Store) -> Result<Self, RepoError> {
        let bytes = store.get(NAME)?;
        let config: Self =
            record::decode(KIND, &bytes).map_err(|detail| RepoError::damaged(NAME, detail))?;
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
        // This version knows none.
        match features.first() {
            Some(feature) => Err(RepoError::Unsupported {
                what: format!("the feature {feature:?}"),
                operation,
            }),
            None => Ok(()),
        }
    }
}
