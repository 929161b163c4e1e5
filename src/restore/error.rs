//! What can go wrong in a restore.

use crate::pg::Error;
use crate::repo::RepoError;
use crate::timescale::catalog::CatalogError;
use crate::timescale::part::PartError;

use super::load::LoadError;
use super::preflight::Problems;
use super::work::Failure;

/// Why a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Nothing was touched: something is missing at the target or in the way.
    #[error("nothing was restored\n{0}")]
    Refused(Box<Problems>),
    /// The server said no outside any entry.
    #[error("{context}: {source}")]
    Server {
        /// What was being done.
        context: &'static str,
        /// What the server said.
        #[source]
        source: Error,
    },
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The schema in the repository does not fit together.
    #[error(
        "the schema entries of the snapshot cannot be read: {0}\nhint: pgtide check tells what is damaged"
    )]
    Schema(String),
    /// TimescaleDB's catalog is not understood.
    #[error("{0}\nhint: pgtide check --read-data tells whether the repository is damaged")]
    Catalog(#[from] CatalogError),
    /// What is to be taken of the hypertables is not there.
    #[error(transparent)]
    Part(#[from] PartError),
    /// Part of the history of a snapshot that has none.
    #[error(
        "the snapshot has no hypertables, so there is no part of their history\nhint: leave out --since and --until"
    )]
    NoHypertables,
    /// The role may not put its sessions into the restoring state.
    #[error(
        "TimescaleDB's restoring state could not be set, so it would take part in the restore\nhint: connect as a superuser, or GRANT SET ON PARAMETER timescaledb.restoring to the role"
    )]
    NotAsleep,
    /// The catalog did not arrive whole.
    #[error(
        "{table}: the server loaded {loaded} rows of {expected}\nhint: drop the target database and restore anew; if it happens again, please report it"
    )]
    CatalogRows {
        /// The catalog table.
        table: String,
        /// Rows that the server counted.
        loaded: u64,
        /// Rows that there are.
        expected: u64,
    },
    /// An entry or a table failed.
    #[error(
        "the restore stopped at the first error: {0}\nhint: what was restored before stays; --continue-on-error goes on after errors and lists them"
    )]
    Failed(Box<Failure>),
    /// Something that is to be restored could not be dropped first.
    #[error(
        "could not drop what is to be restored: {source}\n  statement: {statement}\nhint: drop by hand what stands in the way, or restore into an empty database (--create makes one)"
    )]
    Drop {
        /// The statement, shortened.
        statement: String,
        /// What the server said.
        #[source]
        source: Error,
    },
    /// No relation of that name is in the snapshot.
    #[error(
        "no table, view or sequence named {0:?} is in the snapshot\nhint: pgtide list shows what is"
    )]
    NoSuchTable(String),
    /// One database of a cluster failed.
    #[error("database {database}: {source}{}", if done.is_empty() { String::new() } else { format!("\nrestored before it: {}", done.join(", ")) })]
    Database {
        /// Its name.
        database: String,
        /// Why.
        #[source]
        source: Box<RestoreError>,
        /// The databases that were restored before.
        done: Vec<String>,
    },
    /// Names that stand for nothing, and must not.
    #[error(
        "not in the snapshot: {0}\nhint: names are taken as they are, case and all, and without their schema; pgtide list shows them"
    )]
    NotThere(String),
    /// The list does not fit the snapshot.
    #[error(
        "line {line} of the list: {reason}\nhint: print the list of this snapshot with pgtide list, and edit that"
    )]
    List {
        /// The line.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Rows cannot be had.
    #[error("{table}: {source}")]
    Rows {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The user asked to stop.
    #[error(
        "interrupted: the target holds a part of the snapshot\nhint: run it again with --clean, or into a new database"
    )]
    Interrupted,
}

/// Why the server said no.
pub fn server(context: &'static str) -> impl FnOnce(Error) -> RestoreError {
    move |source| RestoreError::Server { context, source }
}
