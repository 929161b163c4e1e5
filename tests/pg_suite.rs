//! PostgreSQL's own tests as the measure: the databases that they leave behind come back through pgtide with no
//! difference that they do not have, too, when they come back through `pg_dump` and `pg_restore`.
//!
//! Runs on the servers of `PGTIDE_TEST_SUITE_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/suite`.

mod common;

use common::program::{Repo, finish};
use common::stock::{comparable, differing, more_than_stock, stock};
use common::testbed::{Database, Server};

/// An empty database like this one, for what is restored of it.
fn empty_like<'a>(source: &Database<'a>, name: &str) -> Database<'a> {
    let locale = source.sql(
        "SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype)
         FROM pg_database WHERE datname = current_database()",
    );
    source.server.database(name, &locale)
}

/// Proves that a database comes back as well as it does with PostgreSQL's own programs, and without an error unless they
/// make some.
fn measure(server: &Server, name: &str) {
    let source = std::mem::ManuallyDrop::new(Database {
        server,
        name: name.to_owned(),
    });
    let theirs = empty_like(&source, &format!("{name}_stock"));
    let errors = stock(&source, &theirs);
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
    // And it is found to be what its snapshot says, unless no restore brings it back whole.
    let verify = ["verify", &id, "-d", "postgres", "-q"];
    let mut verify = repo.command(server, &verify);
    verify
        .env("PATH", &server.path)
        .env_remove("PGTIDE_PG_DUMP");
    finish(verify).expect(if errors == 0 { 0 } else { 20 });
    let left = format!(
        "SELECT count(*) FROM pg_database WHERE datname LIKE 'pgtide_verify_{}%'",
        &id[..8]
    );
    assert_eq!(server.psql("postgres", &["-c", &left]).trim(), "0");
    let more = more_than_stock(&source, &ours, &theirs);
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
