//! What can go wrong with `pg_dump` and `pg_dumpall`.

use std::fmt;
use std::process::ExitStatus;

use super::RelayError;
use crate::pg::archive::ArchiveError;

/// A program of PostgreSQL's that pgtide runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub(super) name: &'static str,
    /// The option that gives another command for it.
    pub(super) option: &'static str,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Why there is no schema from `pg_dump`, or nothing from `pg_dumpall`.
#[derive(Debug, thiserror::Error)]
pub enum PgDumpError {
    /// No suitable program on this machine.
    #[error(
        "no {program} of PostgreSQL {needed} or later found (there is: {found}); install it (Debian, \
         Ubuntu: postgresql-client-{needed}; Red Hat: postgresql{needed}; macOS: libpq), or name \
         one with {option}, for example {option} 'docker exec -i CONTAINER {program} -U postgres'", option = program.option
    )]
    Missing {
        /// Which.
        program: Program,
        /// The server's major version.
        needed: i32,
        /// The programs seen, with their versions.
        found: String,
    },
    /// The given command is no command line.
    #[error("{} {command:?} is not a command line: {reason}; quote it as for a shell", program.option)]
    Command {
        /// Which.
        program: Program,
        /// As given.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The given command does not tell its version.
    #[error("{} {command:?} does not answer to --version as {program} does: {answer}", program.option)]
    NoVersion {
        /// Which.
        program: Program,
        /// As given.
        command: String,
        /// What it printed.
        answer: String,
    },
    /// The given command is older than the server.
    #[error(
        "{} {command:?} is version {version}, and the server is version {needed}; \
         {program} must not be older than the server: name a newer one", program.option
    )]
    TooOld {
        /// Which.
        program: Program,
        /// As given.
        command: String,
        /// Its major version.
        version: i32,
        /// The server's major version.
        needed: i32,
    },
    /// The program does not start, or cannot be waited for.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The command line.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It ran, and failed.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed on stderr.
        stderr: String,
    },
    /// It ended well, but what it wrote cannot be read.
    #[error("{program}: {source}")]
    Output {
        /// The command line.
        program: String,
        /// What is wrong with it.
        #[source]
        source: ArchiveError,
    },
    /// It could not work in a session of pgtide's.
    #[error("{program}: {source}")]
    Relay {
        /// The command line.
        program: String,
        /// Why.
        #[source]
        source: RelayError,
    },
}

impl PgDumpError {
    /// Whether the exported MVCC snapshot was gone: the session that exported it has ended.
    pub fn is_snapshot_gone(&self) -> bool {
        matches!(self, PgDumpError::Failed { stderr, .. } if stderr.contains("SET TRANSACTION SNAPSHOT"))
    }

    /// Whether the session that it was to work in was lost.
    pub fn is_session_lost(&self) -> bool {
        matches!(
            self,
            PgDumpError::Relay {
                source: RelayError::Session(_),
                ..
            }
        )
    }

    /// Whether it failed to lock the tables in time, so that another attempt may succeed.
    pub fn is_lock_timeout(&self) -> bool {
        // pg_dump does not print the SQLSTATE, and the server's words depend on lc_messages; the statement itself does
        // not. A refusal comes with the same statement, but another attempt meets it at once again.
        matches!(self, PgDumpError::Failed { stderr, .. } if stderr.contains("LOCK TABLE "))
    }
}
