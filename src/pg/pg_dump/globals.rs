//! `pg_dumpall`, for what the databases of a cluster share.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use super::{ChildConnection, PgDump, PgDumpError, Program};

const PG_DUMPALL: Program = Program {
    name: "pg_dumpall",
    option: "--pg-dumpall",
};

/// A `pg_dumpall` that suits the server.
#[derive(Clone, Debug)]
pub struct PgDumpall(PgDump);

impl PgDumpall {
    /// Takes the explicit command, or finds it as [`PgDump::find`] finds `pg_dump`.
    pub fn find(
        explicit: Option<&str>,
        path: Option<&OsStr>,
        server_version: i32,
    ) -> Result<PgDumpall, PgDumpError> {
        PgDump::find_program(PG_DUMPALL, explicit, path, server_version).map(PgDumpall)
    }

    /// The program's major version.
    pub fn major(&self) -> i32 {
        self.0.major()
    }

    /// The script that makes roles, memberships and tablespaces anew, and what was said on stderr. Without `passwords` it reads no table that only a superuser may read.
    pub fn globals(
        &self,
        connection: &ChildConnection,
        role: Option<&str>,
        passwords: bool,
    ) -> Result<(Vec<u8>, String), PgDumpError> {
        let mut command = self.0.command(connection);
        command.args(["--globals-only", "--encoding=UTF8", "--no-password"]);
        command.args(role.map(|role| format!("--role={role}")));
        if !passwords {
            command.arg("--no-role-passwords");
        }
        // Of a connection string in --dbname the database's name does not count; as a database's name it does.
        command.arg(format!("--database={}", connection.conninfo));
        let program = self.0.to_string();
        let output = command
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .map_err(|source| PgDumpError::Run {
                program: program.clone(),
                source,
            })?;
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() {
            Ok((output.stdout, stderr))
        } else {
            Err(PgDumpError::Failed {
                program,
                status: output.status,
                stderr,
            })
        }
    }
}
