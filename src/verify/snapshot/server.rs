//! A throw-away server: made in a temporary directory from the programs of this machine, for nobody else, and gone with
//! the verification.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::pg::catalog::quote_ident;
use crate::pg::interrupt::Interrupt;
use crate::pg::{Connection, ConnectionArgs, Settings, programs, session_options};
use crate::progress::Progress;
use crate::repo::Repository;
use crate::repo::model::Snapshot;
use crate::restore::cluster::{ClusterOptions, ClusterRestore};
use crate::restore::{self, Opened, RestoreOptions};
use crate::timescale;

use super::{VerifyError, refused};

/// How long the server may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// The role that everything is done as.
const SUPERUSER: &str = "postgres";
/// Who runs the server where this process is root, who may not: the first of these that there is.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// Bytes of the server's log that are shown.
const LOG_SHOWN: u64 = 2000;

/// Why there is no throw-away server.
#[derive(Debug, thiserror::Error)]
pub enum EphemeralError {
    /// There are no programs for it.
    #[error(
        "no programs of a PostgreSQL server of version {needed} or later were found (found: {found})\nhint: install them (Debian: postgresql-{needed}), name their directory with --ephemeral=DIRECTORY, or verify on a server that is there"
    )]
    NoPrograms {
        /// The version that is needed.
        needed: i32,
        /// What was found.
        found: String,
    },
    /// One of them failed.
    #[error("could not start a throw-away server: {what}: {detail}\nhint: {hint}")]
    Start {
        /// What was being done.
        what: &'static str,
        /// What was said.
        detail: String,
        /// What may help.
        hint: &'static str,
    },
}

/// What the server must have.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    /// At least this version, as `server_version_num`.
    pub version: i32,
    /// Whether TimescaleDB is among the extensions.
    pub timescale: bool,
}

/// Whether a snapshot has TimescaleDB.
pub fn has_timescale(snapshot: &Snapshot) -> bool {
    let mut extensions = snapshot.source.extensions.iter();
    extensions.any(|extension| extension.name == timescale::EXTENSION)
}

/// A server that ends when this is dropped.
#[derive(Debug)]
pub struct Ephemeral {
    child: Child,
    // After the child: the directory goes when the server is gone.
    directory: TempDir,
}

fn failed<E: ToString>(what: &'static str, hint: &'static str) -> impl Fn(E) -> EphemeralError {
    move |error| EphemeralError::Start {
        what,
        detail: error.to_string(),
        hint,
    }
}

impl Ephemeral {
    /// Starts one, from the programs in that directory, else from those of the lowest version that will do.
    pub(super) fn start(
        directory: Option<&Path>,
        path: Option<&OsStr>,
        needed: Needed,
    ) -> Result<Self, EphemeralError> {
        let programs = match directory {
            Some(directory) => directory.to_owned(),
            None => find(path, needed.version / 10_000)?,
        };
        let tell = "TMPDIR names another place; it must have room for what is restored";
        let place = tempfile::Builder::new()
            .prefix("pgtide-verify-")
            .tempdir()
            .map_err(failed("no temporary directory", tell))?;
        let account = account()?;
        if let Some(user) = &account {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(place.path(), Some(uid), Some(gid))
                .map_err(failed("could not give away its directory", tell))?;
        }
        let as_account = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some(user) = &account {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            }
            command
                // A signal from the terminal is for pgtide, which ends the server.
                .process_group(0)
                .current_dir(place.path())
                .env_clear()
                .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
                .env("LC_ALL", "C")
                .stdin(Stdio::null());
            command
        };
        let data = place.path().join("data");
        let made = as_account("initdb")
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["-U", SUPERUSER, "-D"])
            .arg(&data)
            .output()
            .map_err(failed(
                "initdb",
                "name the programs' directory with --ephemeral=DIRECTORY",
            ))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(failed("initdb", tell)(said.trim()));
        }
        let log = place.path().join("log");
        let file = File::create(&log).map_err(failed("its log", tell))?;
        let again = file.try_clone().map_err(failed("its log", tell))?;
        let mut command = as_account("postgres");
        command.arg("-D").arg(&data).arg("-k").arg(place.path());
        // Nobody needs it after a crash: nothing is synced, and as little logged as can be.
        for setting in [
            "listen_addresses=",
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_wal_size=4GB",
            "autovacuum=off",
            "max_locks_per_transaction=1024",
            "unix_socket_permissions=0777",
        ] {
            command.args(["-c", setting]);
        }
        if needed.timescale {
            for setting in [
                "shared_preload_libraries=timescaledb",
                "timescaledb.telemetry_level=off",
            ] {
                command.args(["-c", setting]);
            }
        }
        let child = command.stdout(file).stderr(again).spawn().map_err(failed(
            "postgres",
            "name the programs' directory with --ephemeral=DIRECTORY",
        ))?;
        let mut server = Self {
            child,
            directory: place,
        };
        server.wait_ready(&log)?;
        Ok(server)
    }

    /// The settings to connect to it with.
    pub fn settings(&self) -> Result<Settings, VerifyError> {
        let args = ConnectionArgs {
            host: Some(self.directory.path().display().to_string()),
            user: Some(SUPERUSER.to_owned()),
            dbname: Some(crate::pg::FIRST_DATABASE.to_owned()),
            ..ConnectionArgs::default()
        };
        // What the environment says is about other servers.
        Settings::resolve(args, &|_| None).map_err(|error| VerifyError::Server {
            context: "could not address the throw-away server",
            source: error.into(),
        })
    }

    fn wait_ready(&mut self, log: &Path) -> Result<(), EphemeralError> {
        let hint = "what its log says may help; TMPDIR names another place for its files";
        let began = Instant::now();
        loop {
            if let Ok(settings) = self.settings()
                && settings.connect(&session_options()).is_ok()
            {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > PATIENCE {
                return Err(failed("it does not answer", hint)(tail(log)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // At once: its files are about to be removed.
        let asked = kill_process(Pid::from_child(&self.child), Signal::QUIT).is_ok();
        let began = Instant::now();
        while asked && began.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_SHOWN)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// The programs of the lowest version that will do.
fn find(path: Option<&OsStr>, needed: i32) -> Result<PathBuf, EphemeralError> {
    let servers = programs::servers(path);
    let found = servers.iter().find(|(_, major)| *major >= needed);
    match found {
        Some((directory, _)) => Ok(directory.clone()),
        None => {
            let found = servers
                .iter()
                .map(|(dir, major)| format!("{} {major}", dir.display()));
            let found: Vec<String> = found.collect();
            Err(EphemeralError::NoPrograms {
                needed,
                found: match found.is_empty() {
                    true => "none".to_owned(),
                    false => found.join(", "),
                },
            })
        }
    }
}

/// The account that runs the server, if it cannot be this one.
fn account() -> Result<Option<User>, EphemeralError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let mut found = ACCOUNTS
        .iter()
        .filter_map(|name| User::from_name(name).ok().flatten());
    found.next().map(Some).ok_or_else(|| EphemeralError::Start {
        what: "PostgreSQL refuses to run as root",
        detail: "and there is neither an account postgres nor nobody".to_owned(),
        hint: "run pgtide as another user",
    })
}

/// Restores roles of a cluster's snapshot. Tablespaces are not: their directories are elsewhere.
pub(super) fn restore_globals(
    repo: &Repository,
    snapshot: &Snapshot,
    settings: &Settings,
    options: RestoreOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<(), VerifyError> {
    let opened = restore::open(repo, snapshot.clone()).map_err(cluster)?;
    let options = RestoreOptions {
        settings: settings.clone(),
        ..options
    };
    let restore = ClusterRestore {
        repo,
        opened: &opened,
        options: &options,
        cluster: ClusterOptions {
            databases: false,
            role_passwords: true,
        },
    };
    let report = restore.run(interrupt, progress).map_err(cluster)?;
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(VerifyError::Globals(failures)),
    }
}

fn cluster(source: restore::RestoreError) -> VerifyError {
    VerifyError::Refused {
        database: "what the databases share".to_owned(),
        source: Box::new(source),
    }
}

/// Creates the roles that a snapshot needs, without any rights: nobody connects as one of them.
pub(super) fn create_roles(
    opened: &Opened,
    options: &RestoreOptions,
    conn: &mut Connection,
) -> Result<(), VerifyError> {
    let options = RestoreOptions {
        create: true,
        clean: true,
        ..options.clone()
    };
    let (_, problems) = restore::rehearse(opened, &options).map_err(refused(opened))?;
    for role in problems.roles {
        conn.execute(&format!("CREATE ROLE {}", quote_ident(&role)))
            .map_err(super::server("could not create a role"))?;
    }
    Ok(())
}
