//! The keys of an encrypted repository: who may read it, who may only write to it.
//!
//! Every password has a slot, `keys/<id>`, that holds the repository's own keys sealed with it; see
//! `docs/security.md` for what they protect and what not.

mod error;
mod password;
mod secrets;
mod slot;

pub use self::error::KeyError;
pub use self::password::Password;
pub(super) use self::secrets::{KEY_LEN, Secrets};
pub use self::slot::{About, Kdf, Role, Slot};
pub(super) use self::slot::{PREFIX, object_name, parse_name};
use super::config::Operation;
use super::ids::{KeyId, RepoId};
use super::seal::Keyring;
use super::{RepoError, Repository};
use crate::store::{Listed, Store};

/// Fewest digits of an id that name a key.
const SHORTEST_PREFIX: usize = 4;

/// A key, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its slot.
    pub id: KeyId,
    /// What it is good for.
    pub role: Role,
    /// What is said of it; nothing where the slot was not made by someone who has a key of this repository.
    pub about: Option<About>,
    /// Whether the repository was opened with it.
    pub current: bool,
}

/// A key to be made.
#[derive(Debug)]
pub struct NewKey<'a> {
    /// What it is to be good for.
    pub role: Role,
    /// What its owner calls it; may be empty.
    pub label: &'a str,
    /// Its password.
    pub password: &'a Password,
    /// How expensive it is to try a password.
    pub kdf: Kdf,
}

/// Makes the first key of a new repository, or of one that shares the keys of another.
pub(super) fn found(
    store: &dyn Store,
    repository: RepoId,
    secrets: Secrets,
    key: &NewKey<'_>,
) -> Result<Keyring, RepoError> {
    let keys = Keyring::new(repository, KeyId::of(b""), secrets);
    let (id, bytes) = seal(&keys, repository, key)?;
    store.put(&object_name(&id), &bytes)?;
    Ok(keys.with_slot(id))
}

fn seal(
    keys: &Keyring,
    repository: RepoId,
    key: &NewKey<'_>,
) -> Result<(KeyId, Vec<u8>), RepoError> {
    let secrets = keys.secrets().ok_or(KeyError::CannotGive)?;
    let secrets = match key.role {
        Role::Read if secrets.private.is_none() => return Err(KeyError::CannotGive.into()),
        Role::Read => Secrets::clone(secrets),
        Role::Write => secrets.to_write(),
    };
    let about = About::new(key.label)?;
    Slot::seal(keys, repository, &secrets, &about, key.password, key.kdf)
}

/// Opens the repository with a password: the first slot that it fits. Changes nothing.
pub(super) fn unlock(
    store: &dyn Store,
    repository: RepoId,
    password: &Password,
) -> Result<Keyring, RepoError> {
    let mut tried = 0;
    let mut damaged = None;
    for (id, slot) in slots(store)? {
        match slot {
            Ok(slot) if slot.repository == repository => {
                tried += 1;
                if let Some(keys) = slot.open(id, password) {
                    return Ok(keys);
                }
            }
            Ok(slot) => {
                let detail = format!(
                    "is a key of repository {}, not of this one",
                    slot.repository
                );
                damaged = damaged.or(Some(RepoError::damaged(object_name(&id), detail)));
            }
            Err(detail) => {
                damaged = damaged.or(Some(RepoError::damaged(object_name(&id), detail)));
            }
        }
    }
    // The damaged slot may be the one the password is of.
    if let Some(error) = damaged {
        return Err(error);
    }
    if tried == 0 {
        let detail = "holds no key, though the repository is encrypted; restore one from a copy";
        return Err(RepoError::damaged(PREFIX, detail));
    }
    Err(KeyError::WrongPassword {
        location: store.location(),
        slots: tried,
    }
    .into())
}

/// Slots, or what is wrong with them.
type Slots = Vec<(KeyId, Result<Slot, String>)>;

/// All slots.
pub(super) fn slots(store: &dyn Store) -> Result<Slots, RepoError> {
    let mut slots = Slots::new();
    for Listed { name, len, .. } in store.list(PREFIX)? {
        let Some(id) = parse_name(&name) else {
            continue;
        };
        if len > slot::MAX_LEN {
            slots.push((id, Err("is larger than any key".into())));
            continue;
        }
        if let Some(bytes) = store.get_if_there(&name)? {
            slots.push((id, Slot::decode(&id, &bytes)));
        }
    }
    Ok(slots)
}

impl Repository {
    /// Whether the repository is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.keys.secrets().is_some()
    }

    /// Whether rows and names can be read: always, but with a key of an encrypted repository that only writes.
    pub fn can_read(&self) -> bool {
        self.keys.can_read()
    }

    /// Its keys, in the order of their making as far as that is known.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, RepoError> {
        self.require_encrypted()?;
        let mut keys = Vec::new();
        for (id, slot) in slots(&*self.store)? {
            let slot = slot.map_err(|detail| RepoError::damaged(object_name(&id), detail))?;
            keys.push(KeyInfo {
                id,
                role: slot.role,
                about: slot.about(&self.keys),
                current: self.keys.slot() == Some(id),
            });
        }
        keys.sort_by_key(|key| (key.about.as_ref().map(|about| about.created), key.id));
        Ok(keys)
    }

    /// Adds a key. One that only writes can add none that reads.
    pub fn add_key(&self, key: &NewKey<'_>) -> Result<KeyId, RepoError> {
        self.require_encrypted()?;
        self.config.require(Operation::Write)?;
        let (id, bytes) = seal(&self.keys, self.id(), key)?;
        self.store.put(&object_name(&id), &bytes)?;
        Ok(id)
    }

    /// Removes the key whose id begins so. What it opened, its owner may know; see `docs/security.md`.
    pub fn remove_key(&self, wanted: &str) -> Result<KeyId, RepoError> {
        self.require_encrypted()?;
        self.config.require(Operation::Delete)?;
        let keys = self.keys()?;
        let digits = wanted.to_ascii_lowercase();
        let named = |key: &&KeyInfo| {
            digits.len() >= SHORTEST_PREFIX && key.id.to_string().starts_with(&digits)
        };
        let matches: Vec<&KeyInfo> = keys.iter().filter(named).collect();
        let [key] = matches[..] else {
            let wanted = wanted.to_owned();
            return Err(match matches.len() {
                0 => KeyError::NoSuchKey { wanted },
                count => KeyError::Ambiguous { wanted, count },
            }
            .into());
        };
        // A slot that somebody forged is no key.
        let others = keys
            .iter()
            .filter(|other| other.id != key.id && other.about.is_some());
        if key.role == Role::Read && !others.into_iter().any(|other| other.role == Role::Read) {
            let id = key.id.to_string();
            return Err(KeyError::LastReadKey { id }.into());
        }
        self.store.delete(&object_name(&key.id))?;
        Ok(key.id)
    }

    /// Gives the key that the repository was opened with another password. Returns its new id.
    pub fn change_key(&mut self, password: &Password, kdf: Kdf) -> Result<KeyId, RepoError> {
        self.require_encrypted()?;
        let slots = self.keys()?;
        let current = slots.iter().find(|key| key.current);
        let label = current.and_then(|key| Some(key.about.as_ref()?.label.clone()));
        let role = if self.can_read() {
            Role::Read
        } else {
            Role::Write
        };
        // The new one first: whatever happens, one of them is there.
        let id = self.add_key(&NewKey {
            role,
            label: &label.unwrap_or_default(),
            password,
            kdf,
        })?;
        if let Some(old) = current {
            self.store.remove(&object_name(&old.id))?;
        }
        self.keys = self.keys.with_slot(id);
        Ok(id)
    }

    fn require_encrypted(&self) -> Result<(), KeyError> {
        if self.is_encrypted() {
            return Ok(());
        }
        Err(KeyError::NotEncrypted {
            location: self.location(),
        })
    }
}

/// The keys a repository shares with another, if both are of a kind.
pub(super) fn shared(from: &Repository, encrypt: bool) -> Result<Option<Secrets>, KeyError> {
    match from.keys.secrets() {
        // Without the private key the new repository would have no key that reads it.
        Some(secrets) if encrypt && secrets.private.is_none() => Err(KeyError::CannotRead),
        Some(secrets) if encrypt => Ok(Some(Secrets::clone(secrets))),
        None if !encrypt => Ok(None),
        _ => Err(KeyError::KeysDoNotFit {
            location: from.location(),
        }),
    }
}
