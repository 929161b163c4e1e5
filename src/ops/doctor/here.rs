//! This machine.

use super::server::Facts;
use super::{Findings, Verdict};
use crate::ops::config::Config;
use crate::ops::text;
use crate::pg::programs;
use crate::store::local_path;

/// With less than this part of a disk free, it is nearly full.
const NEARLY_FULL: f64 = 0.1;

/// Whether metrics can be written.
pub fn metrics(config: &Config, found: &mut Findings) {
    let Some(directory) = config.textfile() else {
        return;
    };
    match tempfile::NamedTempFile::new_in(&directory) {
        Ok(_) => found.fine(format!("metrics can be written to {}", directory.display())),
        Err(error) => found.wrong(
            format!(
                "metrics cannot be written to {}: {error}",
                directory.display()
            ),
            "create the directory, and let this user write to it",
        ),
    }
}

/// Room on the disk of a repository.
pub fn room(location: &str, found: &mut Findings) {
    let Some(path) = local_path(location) else {
        return;
    };
    let Ok(facts) = rustix::fs::statvfs(&path) else {
        return;
    };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let all = facts.f_blocks.saturating_mul(facts.f_frsize);
    let said = format!("{} of {} are free", text::bytes(free), text::bytes(all));
    match (free as f64) < all as f64 * NEARLY_FULL {
        true => found.warn(said, "make room, or have less kept: pgtide forget --prune"),
        false => found.fine(said),
    }
}

/// Whether there are programs for a throw-away server.
pub fn programs(source: Option<&Facts>, found: &mut Findings) {
    let servers = programs::servers(std::env::var_os("PATH").as_deref());
    let needed = source.map_or(0, |facts| facts.version / 10_000);
    match servers.iter().find(|(_, major)| *major >= needed) {
        Some((directory, major)) => {
            found.fine(format!("a throw-away server of PostgreSQL {major} can be started ({})", directory.display()));
        }
        None => found.wrong(
            format!("there are no programs of a PostgreSQL server of version {needed} or later here"),
            "install them (Debian: the package postgresql-VERSION), or verify on a server that is there",
        ),
    }
    if source.is_some_and(|facts| {
        facts
            .extensions
            .iter()
            .any(|(name, _)| name == "timescaledb")
    }) {
        found.add(
            Verdict::Fine,
            "the programs here need the package of TimescaleDB, too, in the version of the source",
            None,
        );
    }
}
