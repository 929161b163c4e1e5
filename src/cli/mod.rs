//! The command line: arguments in, a call, a rendering out. One file per command.

/// Prints a line of what a command has to say.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::render::line(format_args!($($text)*)) };
}

mod check;
mod clone;
mod cluster;
mod common;
mod compare;
mod config;
mod copy;
mod diff;
mod doctor;
mod dump;
mod export;
mod exporter;
mod forget;
mod generate;
mod history;
mod init;
mod key;
mod list;
mod password;
mod pick;
mod profile;
mod progress;
mod protect;
mod prune;
mod record;
mod render;
mod repair;
mod report;
mod restore;
mod run;
mod selection;
mod show;
mod snapshots;
mod stats;
mod status;
mod timing;
mod verify;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
pub use pgtide::ops::exit::Exit;
use pgtide::repo::RepoError;

/// Parallel dump and restore for PostgreSQL and TimescaleDB, into a deduplicated, checksummed repository.
#[derive(Debug, Parser)]
#[command(
    name = "pgtide",
    version,
    disable_help_flag = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes:\n   0  done\n   1  failed\n   2  wrong usage\n   3  done, but something failed and is listed\n  10  no repository\n  11  in use by others\n  12  wrong password\n  20  a check or a comparison found a difference\n\nNote that -h is the host, as in every PostgreSQL tool; \"pgtide COMMAND -?\" explains a command."
)]
struct Cli {
    /// Print help
    #[arg(short = '?', long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a repository
    Init(init::Args),
    /// Dump a database, or a whole cluster, into a repository
    Dump(Box<dump::Args>),
    /// Restore a snapshot into a database, or a whole cluster
    Restore(Box<restore::Args>),
    /// Copy a database straight into another, without a repository
    Clone(Box<clone::Args>),
    /// Prove that a snapshot restores: into a scratch database, compared with it row by row
    Verify(Box<verify::Args>),
    /// Compare two databases: definitions, every row, sequences, large objects
    Compare(Box<compare::Args>),
    /// Write a snapshot as SQL, as an archive for pg_restore, or tables as CSV
    Export(Box<export::Args>),
    /// List the snapshots of a repository
    Snapshots(snapshots::Args),
    /// Show what a snapshot holds
    Show(show::Args),
    /// List what of a snapshot can be picked, as pg_restore -l does
    List(Box<list::Args>),
    /// Show what a repository holds: sizes, deduplication, growth, and by table and coder
    Stats(stats::Args),
    /// Show what changed from one snapshot to another
    Diff(diff::Args),
    /// Copy snapshots into another repository, without the database
    Copy(copy::Args),
    /// Remove snapshots by rules: so many days, weeks, months
    Forget(Box<forget::Args>),
    /// Protect snapshots from forget
    Protect(protect::Args),
    /// Add, list, remove and change the keys of an encrypted repository
    Key(key::Args),
    /// Check a repository: structure and references, with --read-data every byte
    Check(check::Args),
    /// Free what no snapshot needs
    Prune(prune::Args),
    /// Mend what a check finds, as far as that can be done
    Repair(repair::Args),
    /// Do what a profile of the configuration says: the nightly job
    Run(run::Args),
    /// Show how profiles are
    Status(status::Args),
    /// Write a page that shows how profiles are: nights, sizes, what is kept
    Report(report::Args),
    /// Show who did what, when, to which snapshots
    History(history::Args),
    /// Tell what would go wrong, before it does
    Doctor(doctor::Args),
    /// Write and check the configuration
    Config(config::Args),
    /// Serve metrics for Prometheus over HTTP
    Exporter(exporter::Args),
    /// Make shell completions and man pages
    Generate(generate::Args),
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if std::env::var_os("PGTIDE_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_env("PGTIDE_LOG"))
            .with_writer(std::io::stderr)
            .init();
    }
    let result = match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Clone(args) => clone::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Snapshots(args) => snapshots::run(&args),
        Command::Show(args) => show::run(&args),
        Command::List(args) => list::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Copy(args) => copy::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Protect(args) => protect::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Report(args) => report::run(&args),
        Command::History(args) => history::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Exporter(args) => exporter::run(&args),
        Command::Generate(args) => generate::run(&args),
    };
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("pgtide: {}", failure.message.trim_end());
            failure.code.into()
        }
    }
}

/// A command's failure: what to print, and how to end.
#[derive(Debug)]
pub struct Failure {
    code: Exit,
    message: String,
    /// Whether the repository itself is damaged.
    damaged: bool,
}

impl Failure {
    /// A failure of wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: Exit::Usage,
            message: message.into(),
            damaged: false,
        }
    }
}

macro_rules! failed {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self { code: Exit::Failed, message: error.to_string(), damaged: false }
            }
        }
    )*};
}

failed!(
    std::io::Error,
    serde_json::Error,
    pgtide::pg::Error,
    pgtide::restore::RestoreError,
    pgtide::clone::CloneError,
    pgtide::dump::DumpError,
    pgtide::verify::compare::CompareError,
    pgtide::verify::snapshot::VerifyError,
    pgtide::export::ExportError
);

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        Self {
            code: Exit::from(&error),
            damaged: matches!(error, RepoError::Damaged { .. }),
            message: error.to_string(),
        }
    }
}

impl From<pgtide::schema::filter_file::FilterError> for Failure {
    fn from(error: pgtide::schema::filter_file::FilterError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<pgtide::store::OpenError> for Failure {
    fn from(error: pgtide::store::OpenError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<pgtide::pg::SettingsError> for Failure {
    fn from(error: pgtide::pg::SettingsError) -> Self {
        Self::usage(error.to_string())
    }
}

/// What every command returns.
pub type Outcome = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
