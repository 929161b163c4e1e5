//! Repositories of every released format, as they were written then, can always be read.
//!
//! Each holds dumps of `tests/sql/rich.sql` from PostgreSQL 15, and the JSON beside it the digests that the tables had.
//! None is ever changed: a new format gets a repository of its own beside them.
//!
//! - `format-1`: one snapshot, by the first version.
//! - `format-1-sealed`: the same, encrypted, with a key that reads (`correct horse`) and one that writes
//!   (`battery staple`).
//! - `format-1-kept`: a life of nights. Four dumps: the first forgotten, the second hurt by the loss of a pack with rows
//!   of `public.lost`, which a repair recorded, the third protected, and the last; then packs that a prune marked and
//!   wrote anew while a dump ran, which was interrupted, and a check that read everything.

mod common;

use std::collections::BTreeMap;

use common::equal::digests;
use common::program::{Done, Repo, golden};
use common::testbed::{Database, Server};

type Digests = BTreeMap<String, String>;

const READS: &str = "correct horse";
const WRITES: &str = "battery staple";

/// A command with a password.
fn sealed(repo: &Repo, password: &str, arguments: &[&str]) -> Done {
    let mut command = repo.local_command(arguments);
    command.env("PGTIDE_PASSWORD", password);
    common::program::finish(command)
}

/// The digests in what `show --json` printed.
fn shown(done: Done) -> Digests {
    let tables = done.expect(0).json()["tables"].as_array().unwrap().clone();
    let field = |table: &serde_json::Value, name: &str| table[name].as_str().unwrap().to_owned();
    let digest = |table| {
        let name = format!("{}.{}", field(table, "schema"), field(table, "name"));
        (name, field(table, "digest"))
    };
    tables.iter().map(digest).collect()
}

/// Policies and user mappings name roles, whatever is left out.
fn make_roles(target: &Database) {
    target.sql(
        "DO $$ DECLARE role text; BEGIN
           FOREACH role IN ARRAY ARRAY['pgtide_owner', 'pgtide Reader', 'pgtide_writer'] LOOP
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
               EXECUTE format('CREATE ROLE %I', role);
             END IF;
           END LOOP; END $$",
    );
}

/// What a restore must bring back, of these digests: owners and privileges of large objects were left out.
fn rows(mut digests: Digests) -> Digests {
    digests.remove("pg_catalog.pg_largeobject_metadata");
    // A page that only marks where an object was cut is not written again.
    digests.remove("pg_catalog.pg_largeobject");
    // In which partition a row belongs is a matter of the OIDs of an enum's values.
    digests.retain(|name, _| !name.starts_with("app.by_mood_"));
    digests
}

#[test]
fn an_encrypted_repository_of_format_1_opens_with_each_key_and_is_sound() {
    let repo = golden("format-1-sealed");
    let expected: Digests =
        serde_json::from_str(include_str!("golden/format-1-sealed.json")).unwrap();
    let report = sealed(&repo, READS, &["check", "--read-data", "--json"]).expect(0);
    assert_eq!(report.json()["snapshots"], 1);
    assert_eq!(
        shown(sealed(&repo, READS, &["show", "latest", "--json"])),
        expected
    );
    // Who writes checks and cannot look into it.
    sealed(&repo, WRITES, &["check", "--read-data"]).expect(0);
    let listed = sealed(&repo, WRITES, &["snapshots", "--json"]).expect(0);
    assert_eq!(listed.json()["snapshots"].as_array().unwrap().len(), 1);
    assert_ne!(sealed(&repo, WRITES, &["show", "latest"]).code, 0);
    sealed(&repo, "another", &["snapshots"]).expect(12);
    let keys = sealed(&repo, READS, &["key", "list", "--json"]).expect(0);
    let keys = keys.json()["keys"].as_array().unwrap().clone();
    let mut roles: Vec<&str> = keys.iter().map(|k| k["role"].as_str().unwrap()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["read", "write"]);
}

#[test]
fn an_encrypted_repository_of_format_1_restores() {
    let expected: Digests =
        serde_json::from_str(include_str!("golden/format-1-sealed.json")).unwrap();
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let (repo, again) = (golden("format-1-sealed"), Repo::new());
        let target = server.empty("golden_sealed");
        make_roles(&target);
        let dbname = common::testbed::conninfo(&target.name);
        let options = ["--no-owner", "--no-privileges"];
        let arguments = [&["restore", "latest", "-d", &dbname][..], &options].concat();
        let mut command = repo.command(&server, &arguments);
        command.env("PGTIDE_PASSWORD", READS);
        common::program::finish(command).expect(0);
        let id = again.dump(&target, &[]);
        let found = shown(again.local(&["show", &id, "--json"]));
        assert_eq!(rows(found), rows(expected.clone()));
    }
}

const HURT: &str = "8f8cc59fd458";
const FORGOTTEN: &str = "69430fb23a63";
const KEPT: &str = "4c75c67a8f2d";
const LAST: &str = "90a748693eef";

fn kept() -> BTreeMap<String, Digests> {
    serde_json::from_str(include_str!("golden/format-1-kept.json")).unwrap()
}

#[test]
fn a_repository_of_format_1_that_was_kept_for_a_while_still_says_what_became_of_it() {
    let repo = golden("format-1-kept");
    let expected = kept();
    let checks = |repo: &Repo| {
        std::fs::read_dir(repo.path().join("checks"))
            .unwrap()
            .count()
    };
    assert_eq!(checks(&repo), 1);
    // What was read is remembered: a part of it is due again, and nothing was never read.
    let quick = repo.local(&["check", "--json"]).expect(0).json();
    assert_eq!(quick["never_read_bytes"], 0, "{quick}");
    assert!(
        quick["oldest_read"]
            .as_str()
            .unwrap()
            .starts_with("2026-11-20")
    );
    let report = repo.local(&["check", "--read-data", "--json"]).expect(0);
    let report = report.json();
    assert_eq!(report["snapshots"], 3);
    assert_eq!(report["hurt"].as_array().unwrap().len(), 1);
    let hurt = &report["hurt"][0];
    assert!(hurt["snapshot"].as_str().unwrap().starts_with(HURT));
    assert_eq!(hurt["known"], true);
    assert_eq!(hurt["tables"], serde_json::json!(["public.lost"]));
    for (id, name) in [(KEPT, "kept"), (LAST, "last")] {
        assert_eq!(
            shown(repo.local(&["show", id, "--json"])),
            expected[name],
            "{name}"
        );
    }
    repo.local(&["show", FORGOTTEN]).expect(1);
    repo.local(&["forget", KEPT]).expect(1).says(&["protected"]);
    // The marked packs are deleted now, and what they were written anew for stays.
    assert_eq!(
        std::fs::read_dir(repo.path().join("tombstones"))
            .unwrap()
            .count(),
        1
    );
    let pruned = repo.local(&["prune", "--json"]).expect(0).json();
    assert_eq!(pruned["deleted"]["packs"], 2, "{pruned}");
    repo.local(&["check", "--read-data"]).expect(0);
    repo.local(&["protect", "--release", KEPT]).expect(0);
    repo.local(&["forget", KEPT]).expect(0);
}

#[test]
fn a_repository_of_format_1_that_was_kept_for_a_while_restores() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let repo = golden("format-1-kept");
        for (id, name) in [(KEPT, "kept"), (LAST, "last")] {
            let target = server.empty("golden_kept");
            make_roles(&target);
            repo.restore(id, &target, &["--no-owner", "--no-privileges"]);
            let again = repo.dump(&target, &[]);
            let found = shown(repo.local(&["show", &again, "--json"]));
            assert_eq!(rows(found), rows(kept()[name].clone()), "{name}");
        }
        // What a snapshot lost is said.
        let target = server.empty("golden_hurt");
        let done = repo.try_restore(HURT, &target, &["--no-owner", "--no-privileges"]);
        assert_ne!(done.code, 0);
        done.says(&["public.lost"]);
    }
}

#[test]
fn a_repository_of_format_1_opens_and_every_byte_of_it_is_sound() {
    let repo = golden("format-1");
    let report = repo.local(&["check", "--read-data", "--json"]).expect(0);
    assert_eq!(report.json()["snapshots"], 1);
    let expected: Digests = serde_json::from_str(include_str!("golden/format-1.json")).unwrap();
    assert_eq!(shown(repo.local(&["show", "latest", "--json"])), expected);
}

#[test]
fn a_repository_of_format_1_restores() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let repo = golden("format-1");
        let id = repo.local(&["snapshots", "--json"]).expect(0).json()["snapshots"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let target = server.empty("golden");
        make_roles(&target);
        repo.restore(&id, &target, &["--no-owner", "--no-privileges"]);
        let again = repo.dump(&target, &[]);
        let rows = |id: &str| {
            let mut digests = rows(digests(&repo, id));
            // Facts of types were not kept then.
            digests.remove("pg_catalog.pg_type");
            digests
        };
        assert_eq!(rows(&id), rows(&again));
    }
}
