//! PostgreSQL's own tests as the measure: the databases that they leave behind come back through pgtide with no
//! difference that they do not have, too, when they come back through `pg_dump` and `pg_restore`.
//!
//! Runs on the servers of `PGTIDE_TEST_SUITE_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/suite`.

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::program::Repo;
use common::testbed::{Database, Server, any_text, conninfo};

/// Everything that `pg_dump` says of a database, rows and all.
fn plain(database: &Database) -> String {
    let mut command = database.server.program("DUMP", "pg_dump");
    command.args(["-d", &conninfo(&database.name)]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    comparable(&any_text(output.stdout))
}

/// The text without what differs from run to run: the order of a table's rows, which depends on how full its pages are
/// left, and the random key of a psql command that newer versions write.
fn comparable(text: &str) -> String {
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
fn differing(before: &str, after: &str) -> BTreeMap<String, usize> {
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

/// An empty database like this one, for what is restored of it.
fn empty_like<'a>(source: &Database<'a>, name: &str) -> Database<'a> {
    let locale = source.sql(
        "SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype)
         FROM pg_database WHERE datname = current_database()",
    );
    source.server.database(name, &locale)
}

/// Brings it back with `pg_dump` and `pg_restore`; how many errors that made.
fn stock(source: &Database, target: &Database) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let mut dump = source.server.program("DUMP", "pg_dump");
    dump.args(["-Fd", "-j2", "-d", &conninfo(&source.name), "-f"])
        .arg(&archive);
    common::testbed::run(dump);
    let mut restore = source.server.program("RESTORE", "pg_restore");
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

/// Proves that a database comes back as well as it does with PostgreSQL's own programs, and without an error unless they
/// make some.
fn measure(server: &Server, name: &str) {
    let source = std::mem::ManuallyDrop::new(Database {
        server,
        name: name.to_owned(),
    });
    let before = plain(&source);
    let theirs = empty_like(&source, &format!("{name}_stock"));
    let errors = stock(&source, &theirs);
    let known = differing(&before, &plain(&theirs));
    drop(theirs);

    let ours = empty_like(&source, &format!("{name}_r"));
    let repo = Repo::new();
    let id = repo.dump(&source, &["-j", "2"]);
    if errors == 0 {
        repo.restore(&id, &ours, &["-j", "2"]);
    } else {
        // A member that was added to an extension by hand is not there after CREATE EXTENSION, and its privileges are
        // asked for all the same.
        assert_eq!(name, "test_pg_dump");
        let options = ["-j", "2", "--continue-on-error", "--json"];
        let failures = repo.try_restore(&id, &ours, &options).expect(3).json();
        let failures = failures["failures"].as_array().unwrap();
        assert!(failures.len() <= errors, "{failures:?}");
    }
    let lines = before.lines().count();
    eprintln!(
        "{name}: {lines} lines, {} of them differ with pg_restore",
        known.values().sum::<usize>()
    );
    let mut more = Vec::new();
    for (line, times) in differing(&before, &plain(&ours)) {
        let known = known.get(&line).copied().unwrap_or(0);
        more.extend(std::iter::repeat_n(line, times.saturating_sub(known)));
    }
    assert!(
        more.is_empty(),
        "{name}: {} lines of pg_dump differ that do not with pg_restore:\n{}",
        more.len(),
        more[..more.len().min(60)].join("\n")
    );
}

fn regression(version: &'static str) {
    if let Some(server) = Server::suite(version) {
        measure(&server, "regression");
    }
}

/// All databases of the server but `regression`.
fn objects(version: &'static str) {
    let Some(server) = Server::suite(version) else {
        return;
    };
    let names = "SELECT datname FROM pg_database
                 WHERE datallowconn AND datconnlimit >= -1 AND datname NOT LIKE 'pgtide%' AND datname NOT IN ('regression', 'template1')
                 ORDER BY datname";
    let names = server.psql("postgres", &["-c", names]);
    assert!(names.lines().count() >= 4, "{names}");
    for name in names.lines() {
        measure(&server, name);
    }
}

#[test]
fn the_regression_database_comes_back_on_15() {
    regression("15");
}

#[test]
fn the_regression_database_comes_back_on_17() {
    regression("17");
}

#[test]
fn the_regression_database_comes_back_on_18() {
    regression("18");
}

#[test]
fn the_objects_of_the_tests_of_pg_dump_come_back_on_15() {
    objects("15");
}

#[test]
fn the_objects_of_the_tests_of_pg_dump_come_back_on_17() {
    objects("17");
}

#[test]
fn the_objects_of_the_tests_of_pg_dump_come_back_on_18() {
    objects("18");
}

#[test]
fn the_measure_sees_lines_and_how_often_they_differ() {
    let two = differing("a\nb\nb\n", "a\nc\n");
    assert_eq!(two.get("< b"), Some(&2));
    assert_eq!(two.get("> c"), Some(&1));
    assert!(differing("a\n", "a\n").is_empty());

    let text = "\\restrict key\nCOPY public.t (a) FROM stdin;\n2\n1\n\\.\n\nSELECT 2;\nSELECT 1;\n";
    let same = "COPY public.t (a) FROM stdin;\n1\n2\n\nSELECT 2;\nSELECT 1;";
    assert_eq!(comparable(text), same);
}
