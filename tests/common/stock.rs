//! How `pg_dump` and `pg_restore` fare, to be measured by.

use std::collections::BTreeMap;
use std::process::Command;

use super::testbed::{Database, Server, any_text, conninfo, run};

/// Everything that `pg_dump` of a server's version says of a database, rows and all.
pub fn plain(database: &Database, programs: &Server) -> String {
    let mut command = programs.program("DUMP", "pg_dump");
    command.envs(
        database
            .server
            .env
            .iter()
            .map(|(name, value)| (name, value)),
    );
    command.args(["-d", &conninfo(&database.name)]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    comparable(&any_text(output.stdout))
}

/// The text without what differs from run to run: the order of a table's rows, which depends on how full its pages are
/// left, and the random key of a psql command that newer versions write.
pub fn comparable(text: &str) -> String {
    let mut lines = text.lines();
    let mut sorted: Vec<&str> = Vec::new();
    while let Some(line) = lines.next() {
        if !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ") {
            sorted.push(line);
        }
        if line.starts_with("COPY ") && line.ends_with(" FROM stdin;") {
            let mut rows: Vec<&str> = lines.by_ref().take_while(|row| *row != "\\.").collect();
            rows.sort_unstable();
            sorted.extend(rows);
        }
    }
    sorted.join("\n")
}

/// The lines in which two texts differ, as `diff` marks them, and how often each of them does.
pub fn differing(before: &str, after: &str) -> BTreeMap<String, usize> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut command = Command::new("diff");
    command.args(["--text", "--minimal"]);
    command.args([write("before", before), write("after", after)]);
    let output = command.output().unwrap();
    assert!(output.status.code().unwrap_or(2) < 2, "{output:?}");
    let mut lines = BTreeMap::new();
    for line in any_text(output.stdout).lines() {
        if line.starts_with(['<', '>']) {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
    }
    lines
}

/// Brings it back with `pg_dump` and `pg_restore`; how many errors that made.
pub fn stock(source: &Database, target: &Database) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    // Of the target's version, which has to be the newer one.
    let mut dump = target.server.program("DUMP", "pg_dump");
    dump.envs(source.server.env.iter().map(|(name, value)| (name, value)));
    dump.args(["-Fd", "-j2", "-d", &conninfo(&source.name), "-f"])
        .arg(&archive);
    run(dump);
    let mut restore = target.server.program("RESTORE", "pg_restore");
    restore
        .args(["-j2", "-d", &conninfo(&target.name)])
        .arg(&archive);
    let output = restore.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    eprint!("{stderr}");
    let ignored = stderr.split("errors ignored on restore: ").nth(1);
    let errors = ignored.map_or(0, |number| number.trim().parse().unwrap());
    assert_eq!(output.status.success(), errors == 0, "{stderr}");
    errors
}

/// The lines in which a restored database differs from its source, and one that the stock programs brought back does not.
pub fn more_than_stock(source: &Database, ours: &Database, theirs: &Database) -> Vec<String> {
    let before = plain(source, ours.server);
    let known = differing(&before, &plain(theirs, ours.server));
    eprintln!(
        "{}: {} lines, {} of them differ with pg_restore",
        source.name,
        before.lines().count(),
        known.values().sum::<usize>()
    );
    let mut more = Vec::new();
    for (line, times) in differing(&before, &plain(ours, ours.server)) {
        let known = known.get(&line).copied().unwrap_or(0);
        more.extend(std::iter::repeat_n(line, times.saturating_sub(known)));
    }
    more
}
