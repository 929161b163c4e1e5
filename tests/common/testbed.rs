//! The servers of `tools/testbed`, or the caller's own: `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; those of
//! `tools/suite`: `PGTIDE_TEST_SUITE_PG15_URL` and so on; and one with the TSL edition of TimescaleDB, which neither has:
//! `PGTIDE_TEST_TSL_URL`.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// One server.
pub struct Server {
    pub version: &'static str,
    /// Where `pg_dump` of its version is found, in the form of `PATH`.
    pub path: OsString,
    programs: tempfile::TempDir,
    url: String,
    /// How libpq finds it.
    pub env: Vec<(String, String)>,
}

/// A database that is gone when the test is.
pub struct Database<'a> {
    pub server: &'a Server,
    pub name: String,
}

fn var(version: &str, what: &str) -> Option<String> {
    std::env::var(format!("PGTIDE_TEST_PG{version}_{what}"))
        .ok()
        .filter(|value| !value.is_empty())
}

/// The password of a URI, if it has one there.
fn password(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.split_once('@')?;
    let (_, password) = user.split_once(':')?;
    let mut plain = Vec::new();
    let mut bytes = password.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let hex = [bytes.next()?, bytes.next()?];
        plain.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
    }
    String::from_utf8(plain).ok()
}

impl Server {
    /// The server of that version; says so where there is none.
    pub fn find(version: &'static str) -> Option<Server> {
        let Some(url) = var(version, "URL") else {
            eprintln!("PostgreSQL {version}: not run, PGTIDE_TEST_PG{version}_URL is not set");
            return None;
        };
        Some(Server::at(version, url))
    }

    /// The server with the databases of PostgreSQL's own tests; says so where there is none.
    pub fn suite(version: &'static str) -> Option<Server> {
        let name = format!("PGTIDE_TEST_SUITE_PG{version}_URL");
        let Some(url) = std::env::var(&name).ok().filter(|url| !url.is_empty()) else {
            eprintln!("PostgreSQL {version}'s own tests: not run, {name} is not set");
            return None;
        };
        Some(Server::at(version, url))
    }

    /// The server with the TSL edition of TimescaleDB; says so where there is none. Client programs are those of its
    /// version.
    pub fn tsl() -> Option<Server> {
        let url = std::env::var("PGTIDE_TEST_TSL_URL").unwrap_or_default();
        if url.is_empty() {
            eprintln!("TSL edition of TimescaleDB: not run, PGTIDE_TEST_TSL_URL is not set");
            return None;
        }
        let server = Server {
            version: "TSL",
            path: OsString::new(),
            programs: tempfile::tempdir().unwrap(),
            url: url.clone(),
            env: Vec::new(),
        };
        let number = "SELECT current_setting('server_version_num')::integer / 10000";
        let major = server.psql("postgres", &["-c", number]);
        Some(Server::at(String::leak(major.trim().to_owned()), url))
    }

    /// The server at this address.
    fn at(version: &'static str, url: String) -> Server {
        let mut server = Server {
            version,
            path: OsString::new(),
            programs: tempfile::tempdir().unwrap(),
            url,
            env: Vec::new(),
        };
        server.path = server.path_with_pg_dump(server.programs.path(), "");
        let address = server.psql("postgres", &["-c", r"\echo :HOST :PORT :USER"]);
        let mut address = address.split_whitespace().map(str::to_string);
        for name in ["PGHOST", "PGPORT", "PGUSER"] {
            server.env.push((name.to_string(), address.next().unwrap()));
        }
        let password = password(&server.url).or_else(|| std::env::var("PGPASSWORD").ok());
        let password = password.map(|value| ("PGPASSWORD".to_string(), value));
        server.env.extend(password);
        server
    }

    /// The server of that version, if TimescaleDB can be had there; says so where it cannot.
    pub fn with_timescale(version: &'static str) -> Option<Server> {
        let server = Server::find(version)?;
        let ready = "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'
                     AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'";
        if server.psql("postgres", &["-c", ready]).trim() == "1" {
            return Some(server);
        }
        eprintln!("TimescaleDB on PostgreSQL {version}: not run, the server does not have it");
        None
    }

    /// The versions of TimescaleDB that it offers.
    pub fn timescale_versions(&self) -> Vec<String> {
        let query = "SELECT version FROM pg_available_extension_versions WHERE name = 'timescaledb' ORDER BY version";
        let versions = self.psql("postgres", &["-c", query]);
        versions.lines().map(str::to_owned).collect()
    }

    pub fn major(&self) -> i32 {
        self.version.parse().unwrap()
    }

    /// The command of `PGTIDE_TEST_PG<V>_<WHAT>`, or the default.
    pub fn program_name(&self, what: &str, default: &str) -> String {
        var(self.version, what).unwrap_or_else(|| default.to_string())
    }

    /// One of PostgreSQL's client programs, of this server's version.
    pub fn program(&self, what: &str, default: &str) -> Command {
        let mut command = Command::new(self.program_name(what, default));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A `PATH` on which `pg_dump` of this server's version is found first, in a directory of its own; before it comes to
    /// that, it runs these lines of shell.
    pub fn path_with_pg_dump(&self, directory: &Path, lines: &str) -> OsString {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Where the program is named without a directory it is found where the tests find it, not here again.
        let script = format!(
            "#!/bin/sh\nPATH={}\nif [ \"$1\" != --version ]; then :\n{lines}\nfi\nexec {} \"$@\"\n",
            shell_words::quote(path.to_str().unwrap()),
            shell_words::quote(&self.program_name("DUMP", "pg_dump")),
        );
        let file = directory.join("pg_dump");
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut all = directory.as_os_str().to_owned();
        all.push(":");
        all.push(path);
        all
    }

    pub fn psql_command(&self, database: &str, arguments: &[&str]) -> Command {
        let mut command = self.program("PSQL", "psql");
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1"])
            .args(arguments);
        let address = if self.env.is_empty() {
            self.url.clone()
        } else {
            conninfo(database)
        };
        command.arg("-d").arg(address);
        command
    }

    pub fn psql(&self, database: &str, arguments: &[&str]) -> String {
        run(self.psql_command(database, arguments))
    }

    /// A new database of a name that no other run of the tests has.
    pub fn database(&self, name: &str, options: &str) -> Database<'_> {
        let database = self.no_database(name);
        let name = quoted(&database.name);
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 {options}");
        self.psql("postgres", &["-c", &create]);
        database
    }

    /// A name for a database that somebody else makes; it is gone when the test is, too.
    pub fn no_database(&self, name: &str) -> Database<'_> {
        let name = format!("pgtide_{name}_{}", std::process::id());
        self.drop(&name);
        Database { server: self, name }
    }

    /// An empty database in UTF-8.
    pub fn empty(&self, name: &str) -> Database<'_> {
        self.database(name, "ENCODING 'UTF8' LOCALE 'C.UTF-8'")
    }

    /// A database with one of everything that the server has.
    pub fn rich(&self, name: &str) -> Database<'_> {
        let database = self.empty(name);
        for (file, since) in [("rich.sql", 15), ("rich-17.sql", 17), ("rich-18.sql", 18)] {
            if self.major() >= since {
                database.psql(&["-1", "-f", &sql_file(file)]);
            }
        }
        database
    }

    /// Also what an earlier run may have left.
    pub fn drop(&self, name: &str) {
        let subscriptions = sql_file("drop-subscriptions.sql");
        let _ = self.psql_command(name, &["-f", &subscriptions]).output();
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name));
        let _ = self.psql_command("postgres", &["-c", &drop]).output();
    }
}

impl Database<'_> {
    pub fn psql(&self, arguments: &[&str]) -> String {
        self.server.psql(&self.name, arguments)
    }

    /// Runs statements; what the last query says.
    pub fn sql(&self, sql: &str) -> String {
        self.psql(&["-c", sql]).trim_end().to_string()
    }

    /// Runs a script with psql's own commands in it; bytes, as it may be in any encoding.
    pub fn script(&self, script: &[u8]) -> Vec<u8> {
        let mut command = self.server.psql_command(&self.name, &["-f", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A psql that stopped at an error reads no more.
                let _ = stdin.write_all(script);
            });
            child.wait_with_output().unwrap()
        });
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", self.name);
        output.stdout
    }

    /// What `pg_dump -s` says, without what differs from run to run.
    pub fn plain_schema(&self) -> String {
        let mut command = self.server.program("DUMP", "pg_dump");
        command.args(["-s", "-d", &conninfo(&self.name)]);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
        // The key of a psql command that newer versions write is random.
        let text = any_text(output.stdout);
        let lines = text.lines().filter(|line| !line.starts_with('\\'));
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if std::env::var_os("PGTIDE_TEST_KEEP").is_none() {
            self.server.drop(&self.name);
        }
    }
}

/// Text of whatever encoding, with nothing lost.
pub fn any_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect())
}

/// The path of a file in `tests/sql`.
pub fn sql_file(name: &str) -> String {
    format!("{}/tests/sql/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name that libpq does not take for a connection string.
pub fn conninfo(name: &str) -> String {
    format!(
        "dbname='{}'",
        name.replace('\\', "\\\\").replace('\'', "\\'")
    )
}

/// Runs a command that must succeed; its output.
pub fn run(mut command: Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
