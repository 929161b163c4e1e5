//! What the engines tell whoever watches them.

/// A step that an engine has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The next step of several is about to begin: of a run.
    Step(&'static str),
    /// The next of several databases is about to begin.
    Database {
        /// Its name.
        name: String,
        /// Its place among them, from 1 on.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// Tables are listed; next they are locked.
    Listed {
        /// Number of tables.
        tables: usize,
    },
    /// All listed tables are locked; next the MVCC snapshot is taken.
    Locked,
    /// The MVCC snapshot is taken and everything it sees is locked.
    Snapshot,
    /// Rows are being read or loaded.
    Rows {
        /// Bytes to read (of heap and TOAST) or to load (of payload).
        bytes: u64,
        /// Number of tables that are nothing of TimescaleDB's.
        tables: u64,
        /// Number of hypertables.
        hypertables: u64,
        /// Number of their chunks.
        chunks: u64,
    },
    /// Schema entries before the rows are being restored.
    PreData {
        /// Number of entries.
        entries: usize,
    },
    /// Indexes, constraints and all that comes after the rows.
    PostData,
    /// The snapshot is being written.
    Committing,
}

/// A watcher of a run. Called from many threads.
pub trait Progress: Send + Sync {
    /// A step was reached.
    fn stage(&self, _stage: &Stage) {}
    /// More bytes, in the unit of [`Stage::Rows`], are done.
    fn bytes(&self, _bytes: u64) {}
    /// A worker begins with a table or a task; `None` when it falls idle.
    fn task(&self, _worker: usize, _name: Option<&str>) {}
    /// Something that the user should know now.
    fn note(&self, _text: &str) {}
}

/// A watcher that does not look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
