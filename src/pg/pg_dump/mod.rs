//! Finding the right `pg_dump` and `pg_dumpall`, and running them: for the schema of a database, and for what the
//! databases of a cluster share.

mod child;
mod error;
mod globals;
mod relay;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub use child::{PgDumpKiller, RunningPgDump};
pub use error::{PgDumpError, Program};
pub use globals::PgDumpall;
pub use relay::RelayError;

use super::Settings;
use super::programs::{ask_version, candidates, parse_major};

const PG_DUMP: Program = Program {
    name: "pg_dump",
    option: "--pg-dump",
};

/// What a child said on stderr without failing, a remark each: a warning with its details is one.
///
/// That foreign keys form a circle is left out: it matters to who loads rows into tables that have them already.
pub fn remarks(stderr: &str) -> Vec<String> {
    let mut remarks: Vec<String> = Vec::new();
    for line in stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let more = [": detail: ", ": hint: "].iter().find_map(|mark| {
            let (_, text) = line.split_once(mark)?;
            Some(text)
        });
        match (more, remarks.last_mut()) {
            (Some(more), Some(remark)) => {
                remark.push_str("; ");
                remark.push_str(more);
            }
            _ => remarks.push(line.replacen(": warning: ", ": ", 1)),
        }
    }
    remarks.retain(|remark| !remark.contains("circular foreign-key constraints"));
    remarks
}

/// How a child process reaches the database.
#[derive(Clone, Default)]
pub struct ChildConnection {
    /// libpq's environment variables, all of them: what this process inherited is not passed on.
    pub env: Vec<(String, String)>,
    /// A connection string that names the database, without secrets: arguments are for everybody to read.
    pub conninfo: String,
}

impl ChildConnection {
    /// A connection of the child's own, by these settings.
    pub fn new(settings: &Settings) -> Self {
        let env = settings.child_env().into_iter();
        Self {
            env: env
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
            conninfo: settings.child_conninfo(),
        }
    }
}

impl fmt::Debug for ChildConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may hold a password.
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("ChildConnection")
            .field("env", &names)
            .field("conninfo", &self.conninfo)
            .finish()
    }
}

/// What to ask of `pg_dump`.
#[derive(Clone, Debug, Default)]
pub struct SchemaRequest {
    /// The exported MVCC snapshot to read in.
    pub snapshot: Option<String>,
    /// How long it may wait for its table locks.
    pub lock_wait_timeout: Option<Duration>,
    /// Selection and other options, passed on as they are.
    pub extra: Vec<String>,
}

/// A `pg_dump` that suits the server.
#[derive(Clone, Debug)]
pub struct PgDump {
    command: Vec<OsString>,
    major: i32,
    local: bool,
}

impl PgDump {
    /// Takes the explicit command (any command line), or finds the lowest major version that is not below the
    /// server's (`170004`) in `path`, of the form of `PATH`, and the usual places.
    pub fn find(
        explicit: Option<&str>,
        path: Option<&OsStr>,
        server_version: i32,
    ) -> Result<PgDump, PgDumpError> {
        Self::find_program(PG_DUMP, explicit, path, server_version)
    }

    fn find_program(
        program: Program,
        explicit: Option<&str>,
        path: Option<&OsStr>,
        server_version: i32,
    ) -> Result<PgDump, PgDumpError> {
        let needed = server_version / 10_000;
        match explicit {
            Some(command) => Self::explicit(program, command, needed),
            None => Self::lowest(program, candidates(program.name, path), needed),
        }
    }

    fn explicit(program: Program, command: &str, needed: i32) -> Result<PgDump, PgDumpError> {
        let refused = |reason: String| PgDumpError::Command {
            program,
            command: command.into(),
            reason,
        };
        let words = shell_words::split(command).map_err(|error| refused(error.to_string()))?;
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        if words.is_empty() {
            return Err(refused("it is empty".into()));
        }
        let answer = ask_version(&words).map_err(|source| PgDumpError::Run {
            program: command.into(),
            source,
        })?;
        match parse_major(&answer) {
            Some(version) if version < needed => Err(PgDumpError::TooOld {
                program,
                command: command.into(),
                version,
                needed,
            }),
            Some(major) => Ok(PgDump {
                command: words,
                major,
                local: false,
            }),
            None => Err(PgDumpError::NoVersion {
                program,
                command: command.into(),
                answer: answer.trim().into(),
            }),
        }
    }

    fn lowest(
        program: Program,
        candidates: Vec<PathBuf>,
        needed: i32,
    ) -> Result<PgDump, PgDumpError> {
        let mut best: Option<PgDump> = None;
        let mut found = Vec::new();
        for path in candidates {
            let command = vec![path.clone().into_os_string()];
            let Some(major) = ask_version(&command).ok().as_deref().and_then(parse_major) else {
                continue;
            };
            found.push(format!("{} {major}", path.display()));
            if major >= needed && best.as_ref().is_none_or(|best| major < best.major) {
                best = Some(PgDump {
                    command,
                    major,
                    local: true,
                });
            }
        }
        best.ok_or_else(|| PgDumpError::Missing {
            program,
            needed,
            found: if found.is_empty() {
                "none".into()
            } else {
                found.join(", ")
            },
        })
    }

    /// The program's major version.
    pub fn major(&self) -> i32 {
        self.major
    }

    /// Whether it surely runs on this machine and sees its files: found here, not given as a command, which may lead
    /// anywhere.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// Starts reading the schema. The password, if any, travels in the environment, never among the arguments.
    pub fn schema(
        &self,
        connection: &ChildConnection,
        request: &SchemaRequest,
    ) -> Result<RunningPgDump, PgDumpError> {
        let mut command = self.command(connection);
        // --create adds the database's own entries, which describe it and are restored on demand only.
        command.args([
            "--section=pre-data",
            "--section=post-data",
            "--no-blobs",
            "--create",
            "-Fc",
            "-Z0",
            "--no-password",
        ]);
        if let Some(snapshot) = &request.snapshot {
            command.arg(format!("--snapshot={snapshot}"));
        }
        if let Some(timeout) = request.lock_wait_timeout {
            command.arg(format!("--lock-wait-timeout={}", timeout.as_millis()));
        }
        command.args(&request.extra);
        command.arg(format!("--dbname={}", connection.conninfo));
        RunningPgDump::start(command, self.to_string())
    }

    /// The command, in the environment of that connection.
    fn command(&self, connection: &ChildConnection) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        for (name, _) in std::env::vars_os() {
            if is_connection_variable(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        command.envs(connection.env.iter().map(|(name, value)| (name, value)));
        // Messages that can be searched; what is written on stdout is in the encoding that is asked for in any locale.
        command.env("LC_ALL", "C");
        command
    }
}

impl fmt::Display for PgDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self
            .command
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        f.write_str(&shell_words::join(words))
    }
}

/// Variables a child must not inherit: libpq's, because the caller gives those of the one address it
/// chose, and our own, which hold secrets.
fn is_connection_variable(name: &str) -> bool {
    const NOT_LIBPQ: [&str; 3] = ["PGSYSCONFDIR", "PGLOCALEDIR", "PGCLUSTER"];
    name.starts_with("PG") && !NOT_LIBPQ.contains(&name)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use std::path::Path;

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Path, name: &str, body: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn version(directory: &Path, name: &str, version: &str) -> PathBuf {
        script(
            directory,
            name,
            &format!("echo 'pg_dump (PostgreSQL) {version}'"),
        )
    }

    #[test]
    fn takes_the_lowest_that_is_not_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let paths = vec![
            version(dir.path(), "a", "14.3"),
            version(dir.path(), "b", "19devel"),
            version(dir.path(), "c", "17.4 (Debian 17.4-1)"),
            script(dir.path(), "d", "exit 1"),
        ];
        assert_eq!(
            PgDump::lowest(PG_DUMP, paths.clone(), 15).unwrap().major(),
            17
        );
        assert_eq!(
            PgDump::lowest(PG_DUMP, paths.clone(), 18).unwrap().major(),
            19
        );
        let error = PgDump::lowest(PG_DUMP, paths, 20).unwrap_err().to_string();
        assert!(
            error.contains("postgresql-client-20") && error.contains("c 17"),
            "{error}"
        );
    }

    #[test]
    fn an_explicit_command_is_any_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = version(dir.path(), "with space", "17.4");
        let command = format!("env X=1 '{}' -U postgres", path.display());
        let found = PgDump::find(Some(&command), None, 170_004).unwrap();
        assert_eq!(found.major(), 17);
        assert_eq!(found.command.len(), 5);
        let error = PgDump::find(Some(&command), None, 180_001).unwrap_err();
        assert!(
            matches!(
                error,
                PgDumpError::TooOld {
                    version: 17,
                    needed: 18,
                    ..
                }
            ),
            "{error}"
        );
        let error = PgDump::find(Some("'unfinished"), None, 170_004).unwrap_err();
        assert!(matches!(error, PgDumpError::Command { .. }), "{error}");
        let error = PgDump::find(Some("echo hello"), None, 170_004).unwrap_err();
        assert!(matches!(error, PgDumpError::NoVersion { .. }), "{error}");
    }

    #[test]
    fn a_failure_carries_what_the_child_said() {
        let dir = tempfile::tempdir().unwrap();
        let body = "case $1 in --version) echo 'pg_dump (PostgreSQL) 17.4';; \
                    *) echo \"pg_dump: error: LOCK TABLE $PGHOST $PGPASSWORD\" >&2; exit 3;; esac";
        let path = script(dir.path(), "pg_dump", body);
        let dump = PgDump::explicit(PG_DUMP, path.to_str().unwrap(), 17).unwrap();
        let connection = ChildConnection {
            env: vec![("PGHOST".into(), "here".into())],
            conninfo: "dbname='db'".into(),
        };
        let error = dump
            .schema(&connection, &SchemaRequest::default())
            .unwrap()
            .wait()
            .unwrap_err();
        assert!(error.is_lock_timeout());
        assert!(error.to_string().contains("LOCK TABLE here"), "{error}");
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let body =
            "case $1 in --version) echo 'pg_dump (PostgreSQL) 17.4';; *) exec sleep 60;; esac";
        let path = script(dir.path(), "pg_dump", body);
        let dump = PgDump::explicit(PG_DUMP, path.to_str().unwrap(), 17).unwrap();
        let running = dump
            .schema(&ChildConnection::default(), &SchemaRequest::default())
            .unwrap();
        let start = Instant::now();
        let killer = running.killer();
        let thread = std::thread::spawn(move || running.wait());
        killer.kill();
        let error = thread.join().unwrap().unwrap_err();
        assert!(matches!(error, PgDumpError::Failed { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_warning_and_its_details_are_one_remark() {
        let stderr = "pg_dump: warning: there are circular foreign-key constraints on this table:\n\
                      pg_dump: detail: employees\n\
                      pg_dump: hint: You might not be able to restore.\n\
                      pg_dump: warning: subscriptions not dumped\npg_dump: hint: be one\n";
        assert_eq!(
            remarks(stderr),
            ["pg_dump: subscriptions not dumped; be one"]
        );
        assert!(remarks("").is_empty());
    }

    #[test]
    fn secrets_are_not_inherited() {
        for name in ["PGPASSWORD", "PGTIDE_PASSWORD", "PGOPTIONS", "PGSERVICE"] {
            assert!(is_connection_variable(name));
        }
        assert!(!is_connection_variable("PATH") && !is_connection_variable("PGSYSCONFDIR"));
    }
}
