//! What can go wrong with rows and blocks.

/// An error of the rows room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The encoded block is not one: cut, flipped, or something else altogether.
    #[error(
        "the encoded block is damaged ({detail}); run `pgtide check --read-data` to see what it hurts"
    )]
    Damaged {
        /// What does not fit.
        detail: String,
    },
    /// The encoded block uses something that this version does not know.
    #[error(
        "the encoded block has {what} {value}, which this version of pgtide does not know; use a newer pgtide"
    )]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// Its number.
        value: u8,
    },
    /// The payload is larger than a block may be.
    #[error(
        "a payload of {len} bytes is more than a block holds ({max}); cut it into smaller blocks"
    )]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
        /// The most a block holds.
        max: usize,
    },
    /// The encoded block did not decode to the payload it was made of.
    #[error(
        "a block of {len} bytes did not decode to what was encoded; nothing was stored: \
         check the machine's memory, and report this if it happens again"
    )]
    Verification {
        /// Bytes of the payload.
        len: usize,
    },
    /// A compressor failed.
    #[error(
        "cannot encode a block ({detail}); check the machine's memory, and report this if it happens again"
    )]
    Encode {
        /// What it said.
        detail: String,
    },
    /// The bytes are not rows of the table that was announced.
    #[error(
        "the rows cannot be read ({detail}, at byte {offset}); \
         run the dump again, and report this if it happens again"
    )]
    Malformed {
        /// What does not fit.
        detail: &'static str,
        /// Where, counted from the start of the bytes that were given.
        offset: usize,
    },
}

impl RowsError {
    pub(super) fn damaged(detail: impl Into<String>) -> Self {
        Self::Damaged {
            detail: detail.into(),
        }
    }
}
