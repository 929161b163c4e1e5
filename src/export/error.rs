//! Why an export failed.

use std::path::PathBuf;

use crate::repo::RepoError;
use crate::restore::RestoreError;
use crate::rows::text::NotAValue;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshot could not be opened, or what is wanted of it is not there.
    #[error(transparent)]
    Open(#[from] RestoreError),
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The output could not be written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// Whoever reads the output went away.
    #[error(
        "the reader of the output closed it: the export is not complete\nhint: what it read is only the beginning"
    )]
    Closed,
    /// The directory is not empty.
    #[error("{} exists and is not an empty directory\nhint: give a directory that does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    /// Values that this version cannot print.
    #[error(
        "these columns have types whose values pgtide does not know how to print; nothing was written:\n{}\nhint: {hint}leave the tables out (--exclude-table), or use --format directory, which takes their rows in binary",
        .columns.iter().map(|column| format!("  {column}")).collect::<Vec<_>>().join("\n")
    )]
    Unprintable {
        /// Table, column and type of each.
        columns: Vec<String>,
        /// What may help besides.
        hint: &'static str,
    },
    /// A value that is not what its type says.
    #[error("{table}: {source}")]
    Value {
        /// The table.
        table: String,
        /// What is wrong.
        #[source]
        source: NotAValue,
    },
    /// Rows are missing, or there are too many.
    #[error(
        "{table}: {written} rows were written, and the snapshot has {expected}\nhint: pgtide check --read-data tells whether the repository is damaged; if it is not, please report this"
    )]
    Count {
        /// The table.
        table: String,
        /// Rows that were written.
        written: u64,
        /// Rows of the snapshot.
        expected: u64,
    },
    /// No table to write as CSV.
    #[error(
        "no table with rows of its own is called {0}\nhint: pgtide list shows what there is; of a partitioned table name the partitions, of a hypertable the chunks"
    )]
    NoTable(String),
    /// Several tables for one output.
    #[error("{} tables match, and stdout takes one: {}\nhint: write each to a file of its own with --file DIRECTORY, or name one with --table", .0.len(), shown(.0))]
    SeveralTables(Vec<String>),
    /// The user asked to stop.
    #[error("interrupted: the export is not complete")]
    Interrupted,
}

impl From<NotAValue> for ExportError {
    fn from(source: NotAValue) -> Self {
        Self::Value {
            table: String::new(),
            source,
        }
    }
}

impl ExportError {
    /// Makes of an error in writing one of the export.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| match source.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io {
                path: path.into(),
                source,
            },
        }
    }
}

fn shown(tables: &[String]) -> String {
    let mut shown = tables
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if tables.len() > 5 {
        shown.push_str(", ...");
    }
    shown
}
