//! Runs `pgtide` as its users do.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pgtide::repo::Repository;
use pgtide::restore::{self, Opened};
use pgtide::store::LocalStore;

use super::testbed::{Database, Server, conninfo};

/// A repository that is gone when the test is.
pub struct Repo {
    dir: tempfile::TempDir,
}

/// What a run of the program left behind.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// Most memory the process had at a time.
    pub peak_bytes: u64,
}

impl Done {
    /// Panics with everything that was printed unless the program ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The one JSON document that stdout is.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// Panics unless stderr contains all of this.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Done {
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "{text:?} is not in:\n{}",
                self.stderr
            );
        }
        self
    }
}

/// The program, without a server.
pub fn pgtide(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtide"));
    for name in [
        "PGTIDE_REPO",
        "PGTIDE_PASSWORD",
        "PGTIDE_PASSWORD_FILE",
        "PGTIDE_PASSWORD_COMMAND",
        "PGDATABASE",
        "PGHOST",
        "PGPORT",
        "PGUSER",
    ] {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Runs a command to its end without input, watching its memory.
pub fn finish(mut command: Command) -> Done {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    watch(child)
}

/// Runs a command on the repository that this environment leads to.
pub fn run_in(environment: Vec<(String, String)>, arguments: &[&str]) -> Done {
    let mut command = pgtide(arguments);
    command.envs(environment);
    command.env("TZ", "UTC");
    finish(command)
}

/// A clone of one database into another of the same server.
pub fn clone_command(source: &Database, target: &Database, options: &[&str]) -> Command {
    let server = source.server;
    let (from, to) = (conninfo(&source.name), conninfo(&target.name));
    let mut command = pgtide(&["clone", "--source", &from, "--target", &to]);
    command.args(options);
    command.envs(server.env.iter().map(|(name, value)| (name, value)));
    command.env("PATH", &server.path);
    command.env_remove("PGTIDE_PG_DUMP");
    command
}

/// Clones a database into another of the same server; what came of it.
pub fn try_clone(source: &Database, target: &Database, options: &[&str]) -> Done {
    finish(clone_command(source, target, options))
}

fn watch(child: Child) -> Done {
    let status = format!("/proc/{}/status", child.id());
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                peak = peak.max(high_water(&status).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(10));
            }
            peak
        });
        let output = child.wait_with_output().unwrap();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            peak_bytes: watcher.join().unwrap(),
        }
    })
}

/// The kernel's high-water mark of a process.
fn high_water(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

impl Repo {
    pub fn new() -> Repo {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo { dir };
        finish(pgtide(&["init", "--repo", &repo.url()])).expect(0);
        repo
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("repo")
    }

    fn url(&self) -> String {
        self.path().to_str().unwrap().to_string()
    }

    /// A command on this repository, for this server.
    pub fn command(&self, server: &Server, arguments: &[&str]) -> Command {
        let mut command = pgtide(arguments);
        command.env("PGTIDE_REPO", self.url());
        command.envs(server.env.iter().map(|(name, value)| (name, value)));
        if arguments.first() == Some(&"dump") {
            command.env("PATH", &server.path);
            command.env_remove("PGTIDE_PG_DUMP");
        }
        command
    }

    /// Runs a command on this repository, for this server.
    pub fn run(&self, server: &Server, arguments: &[&str]) -> Done {
        finish(self.command(server, arguments))
    }

    /// A command of which no server takes part, or one that the arguments name.
    pub fn local_command(&self, arguments: &[&str]) -> Command {
        let mut command = pgtide(arguments);
        command.env("PGTIDE_REPO", self.url());
        command
    }

    /// Runs a command of which no server takes part.
    pub fn local(&self, arguments: &[&str]) -> Done {
        finish(self.local_command(arguments))
    }

    /// Dumps a database; what came of it.
    pub fn try_dump(&self, database: &Database, options: &[&str]) -> Done {
        let dbname = conninfo(&database.name);
        let mut arguments = vec!["dump", "-d", &dbname];
        arguments.extend(options);
        self.run(database.server, &arguments)
    }

    /// Dumps a database; the snapshot's id.
    pub fn dump(&self, database: &Database, options: &[&str]) -> String {
        let done = self.try_dump(database, options).expect(0);
        done.stdout.lines().last().unwrap().to_string()
    }

    /// Restores into a database; what came of it.
    pub fn try_restore(&self, id: &str, target: &Database, options: &[&str]) -> Done {
        let dbname = conninfo(&target.name);
        let mut arguments = vec!["restore", id, "-d", &dbname];
        arguments.extend(options);
        self.run(target.server, &arguments)
    }

    /// Restores into a database.
    #[track_caller]
    pub fn restore(&self, id: &str, target: &Database, options: &[&str]) -> Done {
        self.try_restore(id, target, options).expect(0)
    }

    /// A snapshot, opened.
    pub fn open(&self, id: &str) -> Opened {
        let repo = open(&self.path());
        let (_, snapshot) = repo.find(id).unwrap();
        restore::open(&repo, snapshot).unwrap()
    }
}

fn open(path: &Path) -> Repository {
    Repository::open(Arc::new(LocalStore::new(path))).unwrap()
}

/// A copy of a golden repository, as tests write sessions and more.
pub fn golden(name: &str) -> Repo {
    let repo = Repo::new();
    std::fs::remove_dir_all(repo.path()).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    copy(&from, &repo.path());
    repo
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
