//! How a command ends.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::repo::{KeyError, Outcome, RepoError};

/// How a command ends; the numbers are documented and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The arguments or the environment are wrong.
    Usage = 2,
    /// Done, but something was skipped or failed and is listed.
    Partly = 3,
    /// There is no repository at that place.
    NoRepository = 10,
    /// Others use it.
    Busy = 11,
    /// The password opens no key of the repository.
    WrongPassword = 12,
    /// A check or a comparison found a difference.
    Difference = 20,
}

impl Exit {
    /// How much of it was done.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Done => Outcome::Done,
            Self::Partly => Outcome::Partly,
            _ => Outcome::Failed,
        }
    }

    /// Of two, the one that matters more: failures before differences before what is only incomplete.
    pub fn worse(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Done => 0,
            Self::Partly => 1,
            Self::Difference => 2,
            _ => 3,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

impl From<&RepoError> for Exit {
    fn from(error: &RepoError) -> Self {
        match error {
            RepoError::NoRepository { .. } => Self::NoRepository,
            RepoError::Busy { .. } => Self::Busy,
            RepoError::Key(KeyError::WrongPassword { .. }) => Self::WrongPassword,
            RepoError::Key(
                KeyError::NoPassword { .. }
                | KeyError::NotEncrypted { .. }
                | KeyError::NotNeeded { .. }
                | KeyError::KeysDoNotFit { .. }
                | KeyError::Label { .. },
            ) => Self::Usage,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_more_is_how_it_ends() {
        assert_eq!(Exit::Done.worse(Exit::Partly), Exit::Partly);
        assert_eq!(Exit::Difference.worse(Exit::Partly), Exit::Difference);
        assert_eq!(Exit::Busy.worse(Exit::Difference), Exit::Busy);
        assert_eq!(Exit::WrongPassword.worse(Exit::Failed), Exit::WrongPassword);
    }
}
