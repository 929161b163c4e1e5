//! Exports: a snapshot as a script for psql, as an archive for `pg_restore`, as tables in CSV. Nobody needs pgtide to
//! have the data back.

mod csv;
mod directory;
mod error;
mod large_objects;
mod output;
mod source;
mod sql;
mod tables;

use std::path::PathBuf;

use crate::pg::interrupt::Interrupt;
use crate::progress::Progress;
use crate::restore::{Opened, RestoreOptions};

pub use error::ExportError;
pub use output::Output;

use source::Source;

/// What an export writes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A script that psql runs.
    Sql(Output),
    /// An archive in the directory format, which `pg_restore -j` restores.
    Directory(PathBuf),
    /// Tables in CSV, one to a file or to stdout.
    Csv {
        /// The directory for a file of each; without it the one table goes to stdout.
        directory: Option<PathBuf>,
    },
}

/// What an export did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Tables written.
    pub tables: u64,
    /// Rows written.
    pub rows: u64,
}

/// Exports an opened snapshot. Of `selection` only what chooses and leaves out is looked at: no server takes part.
pub fn run(
    opened: &Opened,
    selection: &RestoreOptions,
    target: &Target,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<ExportReport, ExportError> {
    let source = Source::new(opened, selection, interrupt, progress)?;
    match target {
        Target::Sql(output) => sql::write(&source, output)?,
        Target::Directory(directory) => directory::write(&source, directory)?,
        Target::Csv { directory } => {
            csv::write(&source, directory.as_deref(), &selection.pick.names.tables)?;
        }
    }
    Ok(source.report())
}
