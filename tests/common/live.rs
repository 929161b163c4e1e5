//! Databases on the servers of the testbed, for tests that run pgtide as a library or as a command.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use pgtide::pg::{Connection, ConnectionArgs, SessionOptions, Settings};

/// A server of the testbed, or one that the user gave.
#[derive(Debug, Clone)]
pub struct Server {
    /// Major version.
    pub version: &'static str,
    url: String,
}

/// The servers that are there; those that are not are said aloud.
pub fn servers(versions: &[&'static str]) -> Vec<Server> {
    let find = |version: &&'static str| {
        let url = std::env::var(format!("PGTIDE_TEST_PG{version}_URL"));
        match url {
            Ok(url) if !url.is_empty() => Some(Server { version, url }),
            _ => {
                eprintln!(
                    "NOT RUN on PostgreSQL {version}: PGTIDE_TEST_PG{version}_URL is not set"
                );
                None
            }
        }
    };
    versions.iter().filter_map(find).collect()
}

/// A database that is dropped with the value.
pub struct Database {
    /// Its server.
    pub server: Server,
    /// Its name.
    pub name: String,
}

impl Server {
    /// Settings for one of its databases.
    pub fn settings(&self, dbname: &str) -> Settings {
        let args = ConnectionArgs {
            dbname: Some(self.url.clone()),
            ..ConnectionArgs::default()
        };
        Settings::resolve(args, &|_| None)
            .unwrap()
            .with_dbname(dbname)
    }

    /// A session in one of its databases, with the server's own settings for names.
    pub fn connect(&self, dbname: &str) -> Connection {
        let options = SessionOptions {
            application_name: Some("pgtide test".to_owned()),
            ..SessionOptions::pinned().with("search_path", "public")
        };
        self.settings(dbname).connect(&options).unwrap()
    }

    /// A fresh database.
    pub fn database(&self, what: &str) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "pgtide_test_{what}_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        self.connect("postgres")
            .execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .unwrap();
        Database {
            server: self.clone(),
            name,
        }
    }

    /// The command that runs this version's pg_dump, where the testbed has one.
    pub fn pg_dump(&self) -> Option<String> {
        std::env::var(format!("PGTIDE_TEST_PG{}_DUMP", self.version))
            .ok()
            .filter(|command| !command.is_empty())
    }

    /// A program of this version, as `psql` or `pgbench`, if the testbed has it.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let dump = PathBuf::from(self.pg_dump()?);
        let path = dump.with_file_name(format!("{name}-{}", self.version));
        path.exists().then_some(path)
    }
}

impl Database {
    /// A session in it.
    pub fn connect(&self) -> Connection {
        self.server.connect(&self.name)
    }

    /// Its settings.
    pub fn settings(&self) -> Settings {
        self.server.settings(&self.name)
    }

    /// Runs statements in it.
    pub fn run(&self, sql: &str) {
        self.connect().execute(sql).unwrap();
    }

    /// The first value of a query in it.
    pub fn value(&self, sql: &str) -> String {
        let rows = self.connect().query(sql).unwrap();
        rows[0].get(0).unwrap_or_default().to_owned()
    }

    /// The connection options for a command line.
    pub fn args(&self) -> Vec<String> {
        let settings = self.settings();
        vec![
            "-h".to_owned(),
            settings.host_name().to_owned(),
            "-p".to_owned(),
            settings.port().to_string(),
            "-U".to_owned(),
            settings.user().to_owned(),
            "-d".to_owned(),
            self.name.clone(),
        ]
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = self.server.connect("postgres").execute(&drop);
    }
}

/// The pgtide command on a repository.
pub fn pgtide(repo: &Path, server: &Server) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtide"));
    command.env("PGTIDE_REPO", repo);
    if let Some(pg_dump) = server.pg_dump() {
        command.env("PGTIDE_PG_DUMP", pg_dump);
    }
    command
}

/// Runs a command that must succeed; its stdout.
pub fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Both outputs of a command, for messages.
pub fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
