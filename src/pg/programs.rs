//! PostgreSQL's programs on this machine: where they are, and of which version.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where installations of PostgreSQL keep their programs; `*` stands for one name.
const USUAL_PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/pgsql-*/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Library/PostgreSQL/*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// The directories of this machine that have a server's programs, and its major version: the lowest first.
pub fn servers(path: Option<&OsStr>) -> Vec<(PathBuf, i32)> {
    let programs = candidates("postgres", path).into_iter();
    let mut servers: Vec<(PathBuf, i32)> = programs
        .filter_map(|program| {
            let answer = ask_version(&[program.clone().into_os_string()]).ok()?;
            Some((program.parent()?.to_owned(), parse_major(&answer)?))
        })
        .collect();
    servers.sort_by_key(|(_, major)| *major);
    servers
}

/// What a program says that is asked for its version.
pub(super) fn ask_version(command: &[OsString]) -> std::io::Result<String> {
    let output = Command::new(&command[0])
        .args(&command[1..])
        .arg("--version")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()?;
    let mut answer = String::from_utf8_lossy(&output.stdout).into_owned();
    answer.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(answer)
}

/// The major version in the answer: `pg_dump (PostgreSQL) 17.4 (Debian 17.4-1)`, `pg_dump (PostgreSQL) 19devel`.
pub(super) fn parse_major(answer: &str) -> Option<i32> {
    let rest = answer.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The programs of that name, in `path`, of the form of `PATH`, and in the usual places.
pub(super) fn candidates(name: &str, path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = path
        .into_iter()
        .flat_map(std::env::split_paths)
        .filter(|path| path.is_absolute())
        .collect();
    for pattern in USUAL_PLACES {
        directories.extend(expand(pattern));
    }
    let mut seen = BTreeSet::new();
    let mut result = Vec::new();
    for directory in directories {
        let path = directory.join(name);
        let Ok(real) = path.canonicalize() else {
            continue;
        };
        // Debian's wrapper chooses a version by the connection; it is asked for one and then runs another. What it
        // chooses from is among the usual places.
        if real.file_name().is_some_and(|name| name == "pg_wrapper") {
            continue;
        }
        if real.is_file() && seen.insert(real) {
            result.push(path);
        }
    }
    result
}

/// The existing directories of a pattern with at most one `*`.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let Some((parent, prefix)) = before.rsplit_once('/') else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(Path::new(parent))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| PathBuf::from(format!("{parent}/{name}{after}")))
        .collect()
}
