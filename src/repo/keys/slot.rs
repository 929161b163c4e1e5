//! The objects `keys/<id>`: the repository's keys, sealed with a password.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::secrets::{KEY_LEN, Secrets};
use super::{KeyError, Password};
use crate::repo::ids::{Hex, KeyId, ObjectId, RepoId};
use crate::repo::seal::{self, Class, Keyring};
use crate::repo::{RepoError, record};

/// Folder of all slots.
pub(in crate::repo) const PREFIX: &str = "keys/";
const KIND: &str = "key";

/// A slot takes less than one kB; whoever can write to the storage must not make us read more.
pub(in crate::repo) const MAX_LEN: u64 = 64 << 10;

/// Longest label, in bytes.
const MAX_LABEL: usize = 200;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Restore, and all else.
    Read = 0,
    /// Dump, check, forget and prune, but see no row and no name of a table.
    Write = 1,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// How a key is made of a password: Argon2id (RFC 9106). The default takes 64 MiB and some tenths of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "lowercase")]
pub enum Kdf {
    /// Argon2id, version 1.3.
    Argon2id {
        /// KiB of memory.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes of the memory.
        lanes: u32,
    },
}

impl Default for Kdf {
    fn default() -> Self {
        Self::Argon2id {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 1,
        }
    }
}

impl Kdf {
    /// As Argon2 takes them. Costs that only an attacker would ask for are refused before they are paid.
    fn params(self) -> Result<Params, KeyError> {
        let Self::Argon2id {
            memory_kib,
            passes,
            lanes,
        } = self;
        if memory_kib > 1 << 20 || passes > 32 || lanes > 64 {
            return Err(KeyError::Cost);
        }
        Params::new(memory_kib, passes, lanes, Some(KEY_LEN)).map_err(|_| KeyError::Cost)
    }

    /// The key for a password.
    fn derive(
        self,
        password: &Password,
        salt: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params()?)
            .hash_password_into(password.as_bytes(), salt, &mut key[..])
            .map_err(|_| KeyError::Cost)?;
        Ok(key)
    }

    /// As it enters the associated data.
    fn to_bytes(self) -> [u8; 13] {
        let Self::Argon2id {
            memory_kib,
            passes,
            lanes,
        } = self;
        let mut bytes = [1; 13];
        for (at, number) in [memory_kib, passes, lanes].into_iter().enumerate() {
            bytes[1 + at * 4..5 + at * 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// What is said of a key, for those who have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// What its owner calls it.
    pub label: String,
    /// When it was made, by the clock of the host.
    pub created: jiff::Timestamp,
    /// The host it was made on.
    pub host: String,
}

impl About {
    /// Of a key that is made here and now.
    pub(super) fn new(label: &str) -> Result<Self, KeyError> {
        if label.len() > MAX_LABEL || label.chars().any(char::is_control) {
            return Err(KeyError::Label { max: MAX_LABEL });
        }
        Ok(Self {
            label: label.to_owned(),
            created: crate::clock::now(),
            host: crate::repo::session::host_name(),
        })
    }
}

/// A slot as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slot {
    /// The repository it is of.
    pub(super) repository: RepoId,
    /// What it gives.
    pub role: Role,
    /// How the key of `secrets` is made of the password ...
    kdf: Kdf,
    /// ... and of this.
    salt: Hex<32>,
    /// [`About`] as JSON, sealed to the index key.
    #[serde(with = "hex::serde")]
    about: Vec<u8>,
    /// The keys, sealed with the password.
    #[serde(with = "hex::serde")]
    secrets: Vec<u8>,
}

impl Slot {
    /// A new slot; its id and its object's bytes.
    pub(super) fn seal(
        keys: &Keyring,
        repository: RepoId,
        secrets: &Secrets,
        about: &About,
        password: &Password,
        kdf: Kdf,
    ) -> Result<(KeyId, Vec<u8>), RepoError> {
        let role = match secrets.private {
            Some(_) => Role::Read,
            None => Role::Write,
        };
        let mut slot = Self {
            repository,
            role,
            kdf,
            salt: Hex::random(),
            about: Vec::new(),
            secrets: Vec::new(),
        };
        let json = serde_json::to_vec(about)
            .map_err(|error| RepoError::damaged("a new key", error.to_string()))?;
        slot.about = keys.seal(Class::Index, &slot.about_aad(), &json)?;
        let key = kdf.derive(password, &slot.salt.0)?;
        slot.secrets = seal::seal_once(&key, &slot.aad(), &secrets.to_bytes())?;
        let bytes = record::encode(&Keyring::plain(), KIND, "", &slot)?;
        Ok((ObjectId::of(&bytes), bytes))
    }

    /// Reads a slot; the error says what is wrong with it.
    pub(in crate::repo) fn decode(id: &KeyId, bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_LEN {
            return Err("is larger than any key".into());
        }
        if ObjectId::of(bytes) != *id {
            return Err("its bytes do not have the hash that is its name".into());
        }
        Self::parse(bytes)
    }

    /// As `decode`, for bytes of any name.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let slot: Self = record::decode(&Keyring::plain(), KIND, "", bytes)?;
        slot.kdf
            .params()
            .map_err(|_| "asks for more memory or time than any key does")?;
        Ok(slot)
    }

    /// The repository's keys, if that is the slot's password.
    pub fn open(&self, id: KeyId, password: &Password) -> Option<Keyring> {
        let key = self.kdf.derive(password, &self.salt.0).ok()?;
        let mut sealed = self.secrets.clone();
        let opened = seal::open_once(&key, &self.aad(), &mut sealed).ok()?;
        let secrets = Secrets::from_bytes(opened, self.role == Role::Read);
        sealed.zeroize();
        Some(Keyring::new(self.repository, id, secrets?))
    }

    /// What is said of it; an error if whoever wrote it did not have the index key.
    pub(super) fn about(&self, keys: &Keyring) -> Option<About> {
        let mut sealed = self.about.clone();
        let json = keys
            .open(Class::Index, &self.about_aad(), &mut sealed)
            .ok()?;
        serde_json::from_slice(json).ok()
    }

    fn about_aad(&self) -> Vec<u8> {
        let role = [self.role as u8];
        [
            b"pgtide about key 1",
            &self.repository.0[..],
            &role,
            &self.salt.0,
        ]
        .concat()
    }

    /// All of the slot but the secrets.
    fn aad(&self) -> Vec<u8> {
        let fixed: [&[u8]; 6] = [
            b"pgtide key 1",
            &self.repository.0,
            &[self.role as u8],
            &self.kdf.to_bytes(),
            &self.salt.0,
            &self.about,
        ];
        fixed.concat()
    }
}

/// Name of a slot's object.
pub(in crate::repo) fn object_name(id: &KeyId) -> String {
    format!("{PREFIX}{id}")
}

/// The slot with that name, if it is the name of one.
pub(in crate::repo) fn parse_name(name: &str) -> Option<KeyId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}
