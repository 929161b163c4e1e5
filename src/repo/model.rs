//! What a snapshot is made of. Everything but [`Snapshot`] itself is stored in blocks of format
//! [`Format::Other`], encoded with postcard, so that what did not change since last
//! night is stored once. Field order is part of the format (`docs/format.md`).

use serde::{Deserialize, Serialize};

use super::ids::{Hex, RepoId, SnapshotId};
use crate::rows::{BlockId, ColumnKind, Format, RowDigest, Shape};

/// One stored dump: the commit point, stored as JSON in `snapshots/<id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the MVCC snapshot was taken; of a cluster, when all of it was there. Snapshots are ordered by it.
    pub time: jiff::Timestamp,
    /// When the last block was stored.
    pub finished: jiff::Timestamp,
    /// Version of pgtide that wrote it.
    pub tool: String,
    /// Name of the host that ran the dump.
    pub host: String,
    /// Tags given by the user.
    pub tags: Vec<String>,
    /// The database that was dumped, and its server.
    pub source: Source,
    /// Counts and sizes.
    pub totals: Totals,
    /// What the dump wants its reader to know, a line each: objects skipped, sessions that waited.
    pub warnings: Vec<String>,
    /// The sections that the dump was to have (`pre-data`, `data`, `post-data`); none listed means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<String>,
    /// What was chosen or left out by name, an option each, sorted; nothing where all was wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<String>,
    /// Tables of which only some rows were wanted, without those whose parents are among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Tables (schema and name) whose definitions are here and whose rows are not, as the role could not read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_rows: Vec<(String, String)>,
    /// Its place in the dump of a cluster, if it was taken in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// The snapshot that this is a copy of, if it came from another repository; of a copy's copy the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
    /// The block that holds the [`Root`].
    #[serde(with = "super::ids::block_as_hex")]
    pub root: BlockId,
    /// The block that holds the [`Outline`](super::outline::Outline); snapshots of the first versions have none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "super::ids::optional_block_as_hex"
    )]
    pub outline: Option<BlockId>,
    /// Whether the repository was opened with a key that cannot read: warnings, sections, conditions, tables without
    /// rows, and extensions are then missing here. Never stored.
    #[serde(default, skip_deserializing, skip_serializing_if = "is_false")]
    pub sealed: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A snapshot of another repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Original {
    /// The repository.
    pub repository: RepoId,
    /// The snapshot in it.
    pub snapshot: SnapshotId,
}

/// The rows of a table, and of its partitions and children, that were wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// What is true for its rows.
    pub condition: String,
}

/// The dump of a cluster: a snapshot of what its databases share, which names the snapshots of the databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The same in all snapshots of one run, and in no other: random.
    pub run: Hex<16>,
    /// In the snapshot of what the databases share: those of the databases, in the order in which they were dumped;
    /// none where only that was asked for. Nothing in the snapshot of a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<Vec<Member>>,
    /// In the snapshot of what the databases share: databases that were to be dumped and were not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A database of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub database: String,
    /// Its snapshot.
    pub snapshot: SnapshotId,
}

impl Snapshot {
    /// The databases' snapshots, if this is the one of what they share.
    pub fn databases(&self) -> Option<&[Member]> {
        self.cluster.as_ref()?.databases.as_deref()
    }

    /// What was dumped, for people: the database's name, `(cluster)`, or `(globals)` for what the databases of a
    /// cluster share without them.
    pub fn label(&self) -> &str {
        match self.databases() {
            None => &self.source.database,
            Some([]) => "(globals)",
            Some(_) => "(cluster)",
        }
    }
}

/// Facts of the source that a restore checks or shows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Source {
    /// Name of the database; empty where a cluster was dumped.
    pub database: String,
    /// Host (or socket directory) as it was connected to.
    pub host: String,
    /// Port as it was connected to.
    pub port: u16,
    /// `system_identifier` of the cluster, where the role may read it.
    pub system_identifier: Option<String>,
    /// `server_version`, for people.
    pub server_version: String,
    /// `server_version_num`, for programs.
    pub server_version_num: i32,
    /// Version of the `pg_dump` that gave the schema.
    pub pg_dump_version: String,
    /// Name of the database's encoding; also the client encoding of all rows.
    pub encoding: String,
    /// `datcollate`.
    pub collate: String,
    /// `datctype`.
    pub ctype: String,
    /// `datlocprovider`: `c`, `i` or `b`.
    pub locale_provider: String,
    /// `datlocale`: the locale of other providers than the C library.
    #[serde(default)]
    pub locale: Option<String>,
    /// Version of the locale's rules at the source, where the server knew of one.
    #[serde(default)]
    pub collation_version: Option<String>,
    /// Bytes of a page; a large object is stored in quarters of it.
    pub block_size: u32,
    /// Whether the source was a standby.
    pub standby: bool,
    /// Installed extensions.
    pub extensions: Vec<Extension>,
}

impl Source {
    /// What the server is known by: its system identifier where the role could read it, else host and port. A server has
    /// many names, and a standby is its primary's.
    pub fn server(&self) -> String {
        let known = self.system_identifier.clone();
        known.unwrap_or_else(|| format!("{}:{}", self.host, self.port))
    }
}

/// An installed extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// `extname`.
    pub name: String,
    /// `extversion`.
    pub version: String,
    /// The schema it lives in.
    pub schema: String,
}

/// Counts and sizes of a snapshot. Bytes of payload are bytes as COPY sent them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Schema entries.
    pub entries: u64,
    /// Tables with data of their own (partitions and chunks each count).
    pub tables: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of heap and TOAST at the source.
    pub source_bytes: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
    /// Blocks that the tables refer to.
    pub blocks: u64,
    /// Blocks this dump added.
    pub added_blocks: u64,
    /// Bytes this dump added to the repository, encoded.
    pub added_bytes: u64,
    /// Large objects.
    pub large_objects: u64,
    /// Seconds from the first connection to the MVCC snapshot.
    pub lock_seconds: f64,
    /// Seconds from the MVCC snapshot to the last row.
    pub read_seconds: f64,
    /// Seconds altogether.
    pub seconds: f64,
}

/// The root of a snapshot's tree. Each list is cut into blocks at places that depend on the content, so that a
/// change in one place changes one block.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Root {
    /// Blocks of schema entries (the `schema` room knows their content).
    pub entries: Vec<BlockId>,
    /// Blocks that hold the order of the entries.
    pub entry_order: Vec<BlockId>,
    /// Blocks that hold `Vec<TableRecord>`, in order of name.
    pub tables: Vec<BlockId>,
    /// Blocks that hold `Vec<SequenceValue>`, in order of name.
    pub sequences: Vec<BlockId>,
}

/// What a table's rows are for; it decides how a restore loads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableRole {
    /// An ordinary table, partition or chunk.
    Plain,
    /// A configuration table of an extension: exists with the extension, loaded by appending.
    ExtensionConfig {
        /// Name of the extension.
        extension: String,
    },
    /// The pages of all large objects.
    LargeObjects,
    /// Owner, privileges and comments of all large objects.
    LargeObjectMetadata,
    /// The values that rows of some tables have in columns which were added after them (`pg_attribute.attmissingval`).
    MissingValues,
    /// What the planner knows of relations and their columns.
    Statistics,
    /// What the types of columns are made of, as far as they did not come with the server: an export prints values with
    /// it, a restore does without.
    Types,
    /// Which configuration tables of extensions refer to which: the order in which an export writes them. A restore
    /// asks its target.
    ConfigReferences,
}

/// A column as it was read: always in the order of the COPY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as `format_type` prints it.
    pub type_name: String,
    /// What the coder makes of it.
    pub kind: ColumnKind,
    /// Where its binary value holds OIDs.
    pub shape: Shape,
}

/// One table's data in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// What its rows are for.
    pub role: TableRole,
    /// Columns in the order of the payload; generated columns are not among them.
    pub columns: Vec<Column>,
    /// [`Format::Binary`] or [`Format::Text`].
    pub format: Format,
    /// The partition root to load through (schema, name), where loading the leaf would be wrong.
    pub load_through: Option<(String, String)>,
    /// Heap pages of a segment.
    pub segment_pages: u32,
    /// Bytes of heap and TOAST at the source.
    pub source_bytes: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
    /// Count and digest of all rows.
    pub digest: RowDigest,
    /// The blocks that hold the [`ManifestShard`]s: the n-th has the segments from 1024 n on. None for a table that had
    /// no pages.
    pub manifest: Vec<BlockId>,
}

/// A run of a table's segments, in order. Holds ids, sizes and counts, no names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManifestShard {
    /// Segments that have rows.
    pub segments: Vec<Segment>,
}

/// The blocks of one segment, in order: their payloads, joined, are the segment's rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Segment {
    /// Number of the segment: its first heap page divided by the pages of a segment.
    pub number: u32,
    /// Its blocks.
    pub blocks: Vec<BlockRef>,
}

/// A reference to a block of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// The block's id.
    pub id: BlockId,
    /// Whether the block is a part of a row.
    pub format: Format,
    /// Bytes of its payload.
    pub payload_len: u32,
    /// Digest of its rows. Rows of parts count at the last part.
    pub digest: RowDigest,
}

/// The value of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// Schema of the sequence.
    pub schema: String,
    /// Name of the sequence.
    pub name: String,
    /// Name of the extension whose configuration it is.
    pub extension: Option<String>,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

impl TableRecord {
    /// Schema and name.
    pub fn key(&self) -> (String, String) {
        (self.schema.clone(), self.name.clone())
    }
}

impl SequenceValue {
    /// Schema and name.
    pub fn key(&self) -> (String, String) {
        (self.schema.clone(), self.name.clone())
    }
}
