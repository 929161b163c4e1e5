//! Values of binary COPY as the server prints them in text.
//!
//! Every type that may travel in binary is printed here exactly as its output function does with the settings of
//! `pg_dump` (`DateStyle` ISO, `IntervalStyle` postgres, `extra_float_digits` 3, `bytea_output` hex), in the time zone
//! UTC and with `lc_monetary` C. The forms are those of PostgreSQL's send and output functions (`src/backend/utils/adt`)
//! and of the extensions named below; tests compare them with what servers print.

mod datetime;
mod float;
mod geometry;
mod input;
mod misc;
mod nested;
mod network;
mod number;
mod row;
mod search;
#[cfg(test)]
mod tests;
mod types;

use input::Input;

pub use row::{RowStyle, TextRows, copy_value, csv_header};
pub use types::{Types, has_money};

/// How values of a type are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextType {
    /// `bool`.
    Bool,
    /// `int2`.
    Int2,
    /// `int4`.
    Int4,
    /// `int8`.
    Int8,
    /// `oid`, `xid`, `cid`.
    Unsigned4,
    /// `xid8`.
    Unsigned8,
    /// `float4`.
    Float4,
    /// `float8`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `money`, with the signs of the locale C.
    Money,
    /// Whatever travels as its text: `text`, `json`, enums ...
    Text,
    /// `"char"`; whether a byte above 127 is printed as an octal number, as from PostgreSQL 16 on.
    Char {
        /// It is.
        octal: bool,
    },
    /// Text behind a byte with the version 1: `jsonb`, `jsonpath`, `ltree`, `lquery`, `ltxtquery`.
    Versioned,
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `timetz`.
    TimeTz,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// `interval`; whether its extremes mean infinity, as from PostgreSQL 17 on.
    Interval {
        /// They do.
        infinite: bool,
    },
    /// `uuid`.
    Uuid,
    /// `inet`, `cidr`.
    Network,
    /// `macaddr`, `macaddr8`.
    Mac,
    /// `bit`, `varbit`.
    Bits,
    /// `point`.
    Point,
    /// `line`.
    Line,
    /// `lseg`.
    Segment,
    /// `box`.
    Box,
    /// `path`.
    Path,
    /// `polygon`.
    Polygon,
    /// `circle`.
    Circle,
    /// `tsvector`.
    TsVector,
    /// `tsquery`.
    TsQuery,
    /// `pg_lsn`.
    Lsn,
    /// `pg_snapshot`, `txid_snapshot`.
    Snapshot,
    /// `tid`.
    Tid,
    /// `int2vector`, `oidvector`: arrays that print as a list.
    List(Box<TextType>),
    /// An array.
    Array {
        /// The type of its elements.
        element: Box<TextType>,
        /// What stands between them: a comma, or a semicolon for `box`.
        delimiter: u8,
    },
    /// A composite of these fields.
    Composite(Vec<TextType>),
    /// A range over such bounds.
    Range(Box<TextType>),
    /// A multirange over such bounds.
    Multirange(Box<TextType>),
    /// `hstore`.
    Hstore,
    /// `cube`.
    Cube,
    /// PostGIS's `geometry`, `geography`: extended WKB in upper-case hexadecimal digits.
    HexUpper,
    /// pgvector's `vector`.
    Vector,
    /// pgvector's `halfvec`.
    HalfVec,
    /// pgvector's `sparsevec`.
    SparseVec,
    /// TimescaleDB's `compressed_data`.
    Base64,
}

/// Bytes that are no value of their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a value cannot be printed: {0}\nhint: pgtide check --read-data tells whether the repository is damaged; if it is not, please report this"
)]
pub struct NotAValue(pub &'static str);

impl TextType {
    /// Appends the text of a value.
    pub fn render(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), NotAValue> {
        let mut input = Input(value);
        match self {
            Self::Bool => out.push(if input.u8()? == 0 { b'f' } else { b't' }),
            Self::Int2 => number::integer(i64::from(input.i16()?), out),
            Self::Int4 => number::integer(i64::from(input.i32()?), out),
            Self::Int8 => number::integer(input.i64()?, out),
            Self::Unsigned4 => number::unsigned(u64::from(input.u32()?), out),
            Self::Unsigned8 => number::unsigned(input.u64()?, out),
            Self::Float4 => float::float4(input.f32()?, out),
            Self::Float8 => float::float8(input.f64()?, out),
            Self::Numeric => number::numeric(&mut input, out)?,
            Self::Money => number::money(input.i64()?, out),
            Self::Text => out.extend_from_slice(input.rest()),
            Self::Char { octal } => misc::char(input.u8()?, *octal, out),
            Self::Versioned => {
                if input.u8()? != 1 {
                    return Err(NotAValue("its version is not known"));
                }
                out.extend_from_slice(input.rest());
            }
            Self::Bytea => {
                out.extend_from_slice(b"\\x");
                misc::hex(input.rest(), out);
            }
            Self::Date => datetime::date(input.i32()?, out)?,
            Self::Time => datetime::time(input.i64()?, out)?,
            Self::TimeTz => {
                datetime::time(input.i64()?, out)?;
                datetime::zone(input.i32()?, out);
            }
            Self::Timestamp => datetime::timestamp(input.i64()?, "", out)?,
            Self::TimestampTz => datetime::timestamp(input.i64()?, "+00", out)?,
            Self::Interval { infinite } => datetime::interval(&mut input, *infinite, out)?,
            Self::Uuid => misc::uuid(input.array()?, out),
            Self::Network => network::network(&mut input, out)?,
            Self::Mac => network::mac(input.rest(), out)?,
            Self::Bits => misc::bits(&mut input, out)?,
            Self::Point => geometry::point(&mut input, out)?,
            Self::Line => geometry::line(&mut input, out)?,
            Self::Segment => geometry::segment(&mut input, out)?,
            Self::Box => geometry::corners(&mut input, out)?,
            Self::Path => geometry::path(&mut input, out)?,
            Self::Polygon => geometry::polygon(&mut input, out)?,
            Self::Circle => geometry::circle(&mut input, out)?,
            Self::TsVector => search::vector(&mut input, out)?,
            Self::TsQuery => search::query(&mut input, out)?,
            Self::Lsn => misc::lsn(input.u64()?, out),
            Self::Snapshot => misc::snapshot(&mut input, out)?,
            Self::Tid => misc::tid(&mut input, out)?,
            Self::List(element) => nested::list(element, &mut input, out)?,
            Self::Array { element, delimiter } => {
                nested::array(element, *delimiter, &mut input, out)?;
            }
            Self::Composite(fields) => nested::composite(fields, &mut input, out)?,
            Self::Range(bound) => nested::range(bound, &mut input, out)?,
            Self::Multirange(bound) => nested::multirange(bound, &mut input, out)?,
            Self::Hstore => nested::hstore(&mut input, out)?,
            Self::Cube => geometry::cube(&mut input, out)?,
            Self::HexUpper => misc::hex_upper(input.rest(), out),
            Self::Vector => misc::vector(&mut input, out)?,
            Self::HalfVec => misc::half_vector(&mut input, out)?,
            Self::SparseVec => misc::sparse_vector(&mut input, out)?,
            Self::Base64 => misc::base64(input.rest(), out),
        }
        input.end()
    }
}
