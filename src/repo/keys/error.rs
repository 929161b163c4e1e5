//! What can go wrong with keys and passwords.

/// An error of keys and passwords.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// An encrypted repository was opened without a password.
    #[error(
        "{location}: this repository is encrypted; give its password by PGTIDE_PASSWORD_FILE, PGTIDE_PASSWORD_COMMAND \
         or --repo-password-file"
    )]
    NoPassword {
        /// Where the repository is.
        location: String,
    },
    /// No key slot opens with the password.
    #[error(
        "{location}: wrong password: no key of this repository opens with it (tried: {slots}); try another one"
    )]
    WrongPassword {
        /// Where the repository is.
        location: String,
        /// Keys that were tried.
        slots: usize,
    },
    /// A password without a character.
    #[error("the password is empty; give one of at least one character, better of twelve")]
    EmptyPassword,
    /// What was asked for is sealed to the readers.
    #[error("this key can write and maintain but not read; use the password of a key that reads")]
    CannotRead,
    /// A key that reads can only be given by one that does.
    #[error(
        "a key that reads can only be added by one that reads; use its password, or add a key with --role write"
    )]
    CannotGive,
    /// A repository whose last reading key is gone is lost.
    #[error(
        "key {id:.12} is the last one that reads: without it nobody could restore anything; \
         add another with `pgtide key add` first"
    )]
    LastReadKey {
        /// The key.
        id: String,
    },
    /// No such key.
    #[error("there is no key {wanted:?}; `pgtide key list` lists them")]
    NoSuchKey {
        /// As asked for.
        wanted: String,
    },
    /// Several keys begin with the prefix.
    #[error("{count} keys begin with {wanted:?}; give more digits")]
    Ambiguous {
        /// As asked for.
        wanted: String,
        /// How many.
        count: usize,
    },
    /// A label that does not fit on a line.
    #[error("a label is one line of at most {max} bytes; choose a shorter one")]
    Label {
        /// Longest label.
        max: usize,
    },
    /// Keys are asked of a repository that has none.
    #[error(
        "{location}: this repository is not encrypted and has no keys; `pgtide init --encrypt` makes one that is"
    )]
    NotEncrypted {
        /// Where the repository is.
        location: String,
    },
    /// A password is given for a repository that needs none. Somebody may have put it there, to be given the next dump in
    /// the clear.
    #[error(
        "{location}: a password is given, but this repository is not encrypted: is it the right one? If so, leave the password out (options, configuration, PGTIDE_PASSWORD and its like)"
    )]
    NotNeeded {
        /// Where the repository is.
        location: String,
    },
    /// A plain repository cannot give keys to an encrypted one, nor the other way.
    #[error(
        "{location}: repositories that share keys are both encrypted or both not; \
         give --encrypt if and only if that one is encrypted"
    )]
    KeysDoNotFit {
        /// Where the repository is that should give its keys.
        location: String,
    },
    /// The cost of a key derivation is out of bounds.
    #[error(
        "the cost of the password's key is out of bounds; it is a fault of the program that asked for it"
    )]
    Cost,
    /// The system has no random numbers, or a public key is none.
    #[error("nothing could be sealed: {detail}; this is a fault of the machine or of pgtide")]
    Seal {
        /// What failed.
        detail: &'static str,
    },
}
