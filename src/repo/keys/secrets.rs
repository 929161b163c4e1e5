//! What the keys of an encrypted repository protect: the keys behind them.

use std::fmt;

use hpke::{Deserializable, Kem as _, Serializable};
use zeroize::Zeroizing;

use super::KeyError;
use crate::repo::seal::{self, Kem};

/// Bytes of every key.
pub(in crate::repo) const KEY_LEN: usize = 32;

/// The keys of a repository, as far as a slot gives them.
#[derive(Clone)]
pub(in crate::repo) struct Secrets {
    /// Opens what is sealed to the readers; only in slots that read.
    pub private: Option<Zeroizing<[u8; KEY_LEN]>>,
    /// Seals to the readers.
    pub public: [u8; KEY_LEN],
    /// The key of block ids.
    pub id_key: Zeroizing<[u8; KEY_LEN]>,
    /// Seals and opens what whoever writes needs.
    pub index_key: Zeroizing<[u8; KEY_LEN]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// New random keys.
    pub fn generate() -> Result<Self, KeyError> {
        let (private, public) = Kem::gen_keypair();
        let mut private_bytes = Zeroizing::new([0; KEY_LEN]);
        private.write_exact(&mut *private_bytes);
        let mut public_bytes = [0; KEY_LEN];
        public.write_exact(&mut public_bytes);
        Ok(Self {
            private: Some(private_bytes),
            public: public_bytes,
            id_key: Zeroizing::new(seal::random()?),
            index_key: Zeroizing::new(seal::random()?),
        })
    }

    /// Without what it takes to read.
    pub fn to_write(&self) -> Self {
        Self {
            private: None,
            ..self.clone()
        }
    }

    /// The keys one after the other: private where there is one, public, id key, index key.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Never grown, so that no copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 * KEY_LEN));
        if let Some(private) = &self.private {
            bytes.extend_from_slice(&**private);
        }
        bytes.extend_from_slice(&self.public);
        bytes.extend_from_slice(&*self.id_key);
        bytes.extend_from_slice(&*self.index_key);
        bytes
    }

    /// Reads them back. A private key that is not the public one's is refused.
    pub fn from_bytes(bytes: &[u8], reads: bool) -> Option<Self> {
        let (keys, []) = bytes.as_chunks::<KEY_LEN>() else {
            return None;
        };
        let (private, rest) = match (reads, keys) {
            (true, [private, rest @ ..]) => (Some(Zeroizing::new(*private)), rest),
            (false, rest) => (None, rest),
            _ => return None,
        };
        let [public, id_key, index_key] = rest else {
            return None;
        };
        if let Some(private) = &private {
            let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(&**private).ok()?;
            let mut derived = [0; KEY_LEN];
            Kem::sk_to_pk(&private).write_exact(&mut derived);
            if derived != *public {
                return None;
            }
        }
        Some(Self {
            private,
            public: *public,
            id_key: Zeroizing::new(*id_key),
            index_key: Zeroizing::new(*index_key),
        })
    }
}
