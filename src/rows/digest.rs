//! Row digests: what makes two tables equal.

use std::fmt;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// The digest of some rows of a table: their count, and the sum modulo 2^128 of a 128-bit hash of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct RowDigest {
    /// Number of rows.
    pub rows: u64,
    /// Sum of the row hashes, modulo 2^128.
    pub sum: u128,
}

impl Add for RowDigest {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

impl AddAssign for RowDigest {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for RowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.rows, self.sum)
    }
}
