//! A password: wiped when it is no longer needed, never printed.

use std::fmt;

use zeroize::Zeroizing;

use super::KeyError;

/// A password. Not empty.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// This password, every byte of it; an empty one is refused.
    pub fn new(text: impl Into<Zeroizing<String>>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() {
            return Err(KeyError::EmptyPassword);
        }
        Ok(Self(text))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
