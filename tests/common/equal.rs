//! The judge: whether two databases are equal in every object and every row. It asks `pg_dump` and the server, and
//! nothing of pgtide, so that it finds what pgtide itself would overlook.

use std::collections::BTreeMap;

use pgtide::repo::model::TableRole;

use super::program::Repo;
use super::testbed::{Database, any_text, sql_file};

/// Everything in which two databases differ, a line each.
pub fn differences(left: &Database, right: &Database) -> Vec<String> {
    let mut found = Vec::new();
    let (a, b) = (left.plain_schema(), right.plain_schema());
    if a != b {
        found.push(format!("pg_dump -s: {}", first_difference(&a, &b)));
    }
    let (a, b) = (inventory(left), inventory(right));
    for (object, value) in &a {
        match b.get(object) {
            Some(other) if other == value => {}
            Some(other) => found.push(format!("{object}: {value} | {other}")),
            None => found.push(format!("{object}: {value} | not there")),
        }
    }
    let more = b.iter().filter(|(object, _)| !a.contains_key(*object));
    found.extend(more.map(|(object, value)| format!("{object}: not there | {value}")));
    found
}

/// Panics with all differences, if there are any.
#[track_caller]
pub fn assert_equal(left: &Database, right: &Database) {
    let found = differences(left, right);
    let shown: Vec<&str> = found.iter().take(20).map(String::as_str).collect();
    let more = found.len();
    assert!(
        found.is_empty(),
        "{more} differences:\n{}",
        shown.join("\n")
    );
}

/// Rows, sequences and large objects: each object's name, and what it holds.
fn inventory(database: &Database) -> BTreeMap<String, String> {
    let script = std::fs::read(sql_file("inventory.sql")).unwrap();
    let text = any_text(database.script(&script));
    let line = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        let mut field = || fields.next().unwrap_or_default();
        (format!("{} {}", field(), field()), field().to_string())
    };
    text.lines().map(line).collect()
}

fn first_difference(a: &str, b: &str) -> String {
    let (mut a, mut b) = (a.lines(), b.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (None, None) => return "only in line ends".to_string(),
            (a, b) if a == b => {}
            (a, b) => {
                return format!("line {number}: {a:?} | {b:?}");
            }
        }
    }
}

/// Tables and materialized views that have no statistics.
pub fn not_analysed(database: &Database) -> String {
    database.sql(
        "SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
         WHERE (c.relkind IN ('r', 'm') OR c.relkind = 'p' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)) AND c.relispopulated AND c.reltuples = -1 AND c.oid >= 16384
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')",
    )
}

/// The row digests of a snapshot's tables, but for those whose rows may lie in another partition after a restore.
pub fn digests(repo: &Repo, id: &str) -> BTreeMap<String, String> {
    let opened = repo.open(id);
    let tables = opened.tables.iter().filter(|t| t.load_through.is_none());
    // A page of a large object that only marks where the object was cut is not written again.
    let tables = tables.filter(|t| t.role != TableRole::LargeObjects);
    tables
        .map(|t| {
            (
                format!("{}.{}", t.schema, t.name),
                format!("{:?}", t.digest),
            )
        })
        .collect()
}

/// Proves that a restored database is the one that was dumped: by the judge, by statistics, and by the digests of
/// a dump of it.
#[track_caller]
pub fn assert_restored(repo: &Repo, id: &str, source: &Database, target: &Database) {
    assert_equal(source, target);
    assert_eq!(not_analysed(target), "", "without statistics");
    let again = repo.dump(target, &[]);
    let (before, after) = (digests(repo, id), digests(repo, &again));
    let differ: Vec<_> = before
        .iter()
        .filter(|(table, digest)| after.get(*table) != Some(digest))
        .collect();
    assert!(
        differ.is_empty() && before.len() == after.len(),
        "row digests: {differ:?}"
    );
}

/// Dumps and restores a database within its server, and proves that both are equal.
#[track_caller]
pub fn round_trip(source: &Database, target: &Database) {
    let repo = Repo::new();
    let id = repo.dump(source, &[]);
    repo.restore(&id, target, &[]);
    assert_restored(&repo, &id, source, target);
}
