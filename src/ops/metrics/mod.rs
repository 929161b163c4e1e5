//! Metrics for Prometheus: in a file for node_exporter, to a push gateway, or over HTTP.

mod exporter;
mod gauges;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::config::{Config, Profile};
use super::notify;
use super::run::Report;
use super::state::State;
use crate::repo::Repository;

pub use exporter::{Exporter, ExporterError};
use gauges::Gauges;

/// Writes the metrics of a run to wherever the configuration says. What was done, in a line; nothing if nothing is wanted.
pub fn publish(
    config: &Config,
    profile: &Profile,
    report: &Report,
    repo: Option<&Repository>,
) -> Result<Option<String>, String> {
    let mut gauges = Gauges::default();
    gauges.run(profile, report);
    // What only the repository knows stays as it was, where the repository cannot be asked.
    let state = repo.map(|repo| State::load(profile, repo));
    match &state {
        Some(Ok(state)) => gauges.state(state),
        _ => gauges.reachable(profile, false),
    }
    let text = gauges.text();
    let mut done = Vec::new();
    if let Some(directory) = config.textfile() {
        let path = directory.join(format!("pgtide_{}.prom", file_name(&profile.name)));
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let text = match &state {
            Some(Ok(_)) => text.clone(),
            _ => carried_over(&text, &before),
        };
        write(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
        done.push(path.display().to_string());
    }
    if let Some(url) = config.push_gateway() {
        let url = format!(
            "{}/metrics/job/pgtide/profile/{}",
            url.trim_end_matches('/'),
            percent_encoding::utf8_percent_encode(
                &profile.name,
                percent_encoding::NON_ALPHANUMERIC
            )
        );
        // POST replaces the metrics of these names, and leaves others.
        notify::post(&url, "text/plain; version=0.0.4", &text)
            .map_err(|error| format!("push gateway: {error}"))?;
        done.push("push gateway".to_owned());
    }
    Ok((!done.is_empty()).then(|| done.join(", ")))
}

/// A name as part of a file's name.
fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let of = |c: char| match plain(c) {
        true => c.to_string(),
        false => format!("%{:x}", u32::from(c)),
    };
    name.chars().map(of).collect()
}

/// Replaces the file at once: it may be read at any moment.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    // Somebody else reads it.
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// The text, with those metrics of the one before that it does not have.
fn carried_over(text: &str, before: &str) -> String {
    let name = |line: &str| -> Option<String> {
        let line = line
            .strip_prefix("# HELP ")
            .or(line.strip_prefix("# TYPE "))
            .unwrap_or(line);
        let name = line.split([' ', '{']).next()?;
        (!name.is_empty() && !name.starts_with('#')).then(|| name.to_owned())
    };
    let known: std::collections::HashSet<String> = text.lines().filter_map(name).collect();
    let mut all: String = text
        .lines()
        .filter(|line| *line != EOF)
        .fold(String::new(), |all, line| all + line + "\n");
    for line in before.lines() {
        if name(line).is_some_and(|name| !known.contains(&name)) {
            all.push_str(line);
            all.push('\n');
        }
    }
    all + EOF + "\n"
}

/// The last line of the text format.
const EOF: &str = "# EOF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_known_stays_as_it_was() {
        let before =
            "# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n";
        let now = "# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 5\n# EOF\n";
        let text = carried_over(now, before);
        assert_eq!(
            text,
            "# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 5\n# HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n"
        );
        assert_eq!(carried_over(now, ""), now);
    }

    #[test]
    fn a_name_is_a_part_of_a_file_name() {
        assert_eq!(file_name("nightly-1_a"), "nightly-1_a");
        assert_eq!(file_name("../a b"), "%2e%2e%2fa%20b");
        assert_ne!(file_name("db.prod"), file_name("db_prod"));
    }
}
