//! The table of contents of a `pg_dump` archive: read from one in the custom format, which `pg_dump` writes for us, and
//! written for one in the directory format.
//!
//! Only the header and the table of contents are read: everything pgtide takes from `pg_dump` is in there.

mod read;
mod write;

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text as the server sent it, in the server's encoding: usually UTF-8, but a `SQL_ASCII` or `LATIN1` database makes
/// no such promise, and every byte has to reach the target.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlText(Vec<u8>);

impl SqlText {
    /// The bytes, as the server sent them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The text for people to read; what is not UTF-8 becomes replacement characters.
    pub fn to_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl From<Vec<u8>> for SqlText {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for SqlText {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for SqlText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl PartialEq<str> for SqlText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for SqlText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl Borrow<[u8]> for SqlText {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SqlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_lossy())
    }
}

impl fmt::Debug for SqlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_lossy(), f)
    }
}

impl Serialize for SqlText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SqlText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = SqlText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<SqlText, E> {
                Ok(SqlText(bytes.to_vec()))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<SqlText, E> {
                Ok(SqlText(bytes))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<SqlText, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(SqlText(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// The part of a restore an entry belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Section {
    /// None of its own: comments, privileges and labels go with the entry before them.
    #[default]
    None,
    /// What must exist before rows arrive.
    PreData,
    /// Rows, sequence values, large objects.
    Data,
    /// What is better made, or must be made, once the rows are there.
    PostData,
}

/// One entry of the table of contents: an object of the schema as `pg_dump` states it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TocEntry {
    /// The entry's number in its archive, by which other entries depend on it.
    pub dump_id: i32,
    /// OID of the catalog that holds the object; 0 where the entry is no object of its own.
    pub tableoid: u32,
    /// OID of the object in that catalog.
    pub oid: u32,
    /// The object's name, for some kinds with its arguments or its table.
    pub tag: SqlText,
    /// The kind of the entry: `TABLE`, `FK CONSTRAINT`, `COMMENT` ...
    pub desc: String,
    /// The section.
    pub section: Section,
    /// The statements that make the object, often more than one.
    pub defn: SqlText,
    /// The statement that drops it; empty for what has no life of its own.
    pub drop_stmt: SqlText,
    /// The `COPY` statement of a data entry.
    pub copy_stmt: SqlText,
    /// The schema it lives in.
    pub namespace: Option<SqlText>,
    /// Its tablespace; empty is the database's own, `None` is an object that has none.
    pub tablespace: Option<SqlText>,
    /// The access method of a table.
    pub tableam: Option<SqlText>,
    /// `pg_class.relkind` of a table; known from archive version 1.16 on.
    pub relkind: Option<char>,
    /// The role that owns it; empty where there is none.
    pub owner: SqlText,
    /// The entries that have to be restored before; some may not be in the archive.
    pub dependencies: Vec<i32>,
    /// Whether the archive may hold data for the entry.
    pub had_dumper: bool,
}

/// The header and the table of contents of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Version of the format: major, minor, revision.
    pub version: (u8, u8, u8),
    /// The database it was taken from.
    pub dbname: SqlText,
    /// The server's version, as it says it.
    pub server_version: SqlText,
    /// The version of the `pg_dump` that wrote it.
    pub dump_version: SqlText,
    /// The entries, in the order of a serial restore.
    pub entries: Vec<TocEntry>,
    /// The files with the data of entries, by their dump ids; of an archive in the directory format.
    pub files: BTreeMap<i32, String>,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream failed, or ended in the middle.
    #[error(
        "the output of pg_dump breaks off after {offset} bytes: {source}; see what pg_dump itself reports"
    )]
    Io {
        /// Bytes read before.
        offset: u64,
        /// What happened.
        source: std::io::Error,
    },
    /// The bytes are no archive in the custom format.
    #[error(
        "this is not the output of pg_dump -Fc: {what}; does the pg_dump command print something of its own?"
    )]
    NotAnArchive {
        /// What is wrong with them.
        what: &'static str,
    },
    /// A version of the format that this program does not know.
    #[error(
        "pg_dump wrote archive version {major}.{minor}, and 1.14 to 1.16 are understood; \
         use the pg_dump of PostgreSQL 15 to 18"
    )]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// A value that no `pg_dump` writes.
    #[error("the archive is damaged near byte {offset}: {what}; run the dump again")]
    Damaged {
        /// Bytes read before.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}
