//! A throw-away PostgreSQL server for one test program.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A server of its own, in a temporary directory, on a Unix socket and a free TCP port; stopped when dropped.
pub struct TestServer {
    /// Where its programs are.
    pub bin_dir: PathBuf,
    /// Where its sockets are.
    pub socket_dir: PathBuf,
    /// Where its data are.
    pub data_dir: PathBuf,
    /// Its TCP port, and the number of its socket.
    pub port: u16,
    _dir: tempfile::TempDir,
}

/// The superuser of every test server.
pub const SUPERUSER: &str = "postgres";

/// The directory with the server's programs of the newest PostgreSQL on this machine, or what `PGTIDE_TEST_BIN` says.
pub fn bin_dir() -> Option<PathBuf> {
    if let Ok(dir) = std::env::var("PGTIDE_TEST_BIN") {
        return Some(dir.into());
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(_, dir)| dir.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, dir)| dir)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs as the operating system user `postgres` where we are root: the server refuses to run as root.
pub fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
        ])
        .arg(program);
    command
}

/// Runs a command to its end and panics with its output where it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .current_dir("/")
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

impl TestServer {
    /// Makes a cluster and starts it, with these lines added to its configuration.
    pub fn start(bin_dir: &Path, extra_conf: &str) -> TestServer {
        let dir = tempfile::Builder::new()
            .prefix("pgtide-test-")
            .tempdir()
            .unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(dir.path()));
        }
        let data_dir = dir.path().join("data");
        run(as_postgres(&bin_dir.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={SUPERUSER}"))
            .arg(&data_dir));
        Self::launch(bin_dir, dir, data_dir, extra_conf)
    }

    /// Starts a cluster that is there, on a port and a socket of its own.
    fn launch(
        bin_dir: &Path,
        dir: tempfile::TempDir,
        data_dir: PathBuf,
        extra_conf: &str,
    ) -> TestServer {
        // The port is free now; should another take it before we do, the test fails and says so.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
             logging_collector = off\nmax_wal_size = '4GB'\n{extra_conf}\n",
            dir.path().display()
        );
        append(&data_dir.join("postgresql.conf"), &conf);
        run(as_postgres(&bin_dir.join("pg_ctl"))
            .arg("--pgdata")
            .arg(&data_dir)
            .arg("--log")
            .arg(dir.path().join("log"))
            .args(["--wait", "start"]));
        TestServer {
            bin_dir: bin_dir.to_owned(),
            socket_dir: dir.path().to_owned(),
            data_dir,
            port,
            _dir: dir,
        }
    }

    /// A standby of this server, made of a base backup; both must be in one program's hands to be stopped in order.
    pub fn standby(&self) -> TestServer {
        let dir = tempfile::Builder::new()
            .prefix("pgtide-test-")
            .tempdir()
            .unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(dir.path()));
        }
        let data_dir = dir.path().join("data");
        run(as_postgres(&self.bin_dir.join("pg_basebackup"))
            .args(["--checkpoint=fast", "--write-recovery-conf", "--no-sync"])
            .arg("--pgdata")
            .arg(&data_dir)
            .arg("--dbname")
            .arg(self.conninfo("postgres")));
        Self::launch(&self.bin_dir, dir, data_dir, "hot_standby = on")
    }

    /// Runs statements in the database `postgres`.
    pub fn psql(&self, sql: &str) {
        self.psql_in("postgres", sql);
    }

    /// Runs statements in a database.
    pub fn psql_in(&self, database: &str, sql: &str) {
        run(as_postgres(&self.bin_dir.join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d"])
            .arg(self.conninfo(database)));
    }

    /// Connection string of a database over the Unix socket.
    pub fn conninfo(&self, dbname: &str) -> String {
        format!(
            "host='{}' port={} user={SUPERUSER} {}",
            self.socket_dir.display(),
            self.port,
            super::testbed::conninfo(dbname)
        )
    }

    /// Connection string over TCP.
    pub fn tcp(&self, user: &str, dbname: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={user} dbname={dbname}",
            self.port
        )
    }

    /// Replaces the rules of who may connect how, and has the server read its configuration again.
    pub fn set_hba(&self, rules: &str) {
        fs::write(self.data_dir.join("pg_hba.conf"), rules).unwrap();
        self.reload();
    }

    /// Has the server read its configuration again.
    pub fn reload(&self) {
        run(self.pg_ctl().arg("reload"));
    }

    fn pg_ctl(&self) -> Command {
        let mut command = as_postgres(&self.bin_dir.join("pg_ctl"));
        command.arg("--pgdata").arg(&self.data_dir);
        command
    }
}

/// Adds lines to a file of the cluster, leaving its owner as it is.
pub fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self
            .pg_ctl()
            .args(["--mode=immediate", "stop"])
            .current_dir("/")
            .output();
    }
}
