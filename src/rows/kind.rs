//! What the coder and the digest know of a column's type.

use serde::{Deserialize, Serialize};

/// What a column's type tells the coder. A hint only: a wrong one costs size, never correctness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnKind {
    /// One byte, 0 or 1.
    Bool,
    /// `int2`.
    Int16,
    /// `int4`, `oid` and their like.
    Int32,
    /// `int8`, `money`, `time`, `xid8` and their like.
    Int64,
    /// `float4`.
    Float32,
    /// `float8`.
    Float64,
    /// `date`: days since 2000-01-01.
    Date,
    /// `timestamp` and `timestamptz`: microseconds since 2000-01-01.
    Timestamp,
    /// `uuid`.
    Uuid,
    /// Text-like: text, json, enum labels.
    Text,
    /// `numeric`.
    Numeric,
    /// Anything else.
    Bytes,
}

/// Where a column's binary value holds OIDs that differ between two databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Nowhere.
    Plain,
    /// An array: one OID in its header, elements of the shape within.
    Array(Box<Shape>),
    /// A composite: an OID before each field.
    Composite(Vec<Shape>),
    /// A range over bounds of the shape within.
    Range(Box<Shape>),
    /// A multirange over bounds of the shape within.
    Multirange(Box<Shape>),
}
