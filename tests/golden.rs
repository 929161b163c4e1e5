//! Repositories of every released format, as they were written then, can always be read.
//!
//! `tests/golden/format-1` is a dump of `tests/sql/rich.sql` from PostgreSQL 15; `format-1.json` has the digests that
//! its tables had. Neither is ever changed: a new format gets a repository of its own beside them.

mod common;

use std::collections::BTreeMap;

use common::equal::digests;
use common::program::golden;
use common::testbed::Server;

#[test]
fn a_repository_of_format_1_opens_and_every_byte_of_it_is_sound() {
    let repo = golden("format-1");
    let report = repo.local(&["check", "--read-data", "--json"]).expect(0);
    assert_eq!(report.json()["snapshots"], 1);
    let expected: BTreeMap<String, String> =
        serde_json::from_str(include_str!("golden/format-1.json")).unwrap();
    let shown = repo.local(&["show", "latest", "--json"]).expect(0).json();
    let found: BTreeMap<String, String> = shown["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| {
            let field = |name: &str| table[name].as_str().unwrap().to_owned();
            (
                format!("{}.{}", field("schema"), field("name")),
                field("digest"),
            )
        })
        .collect();
    assert_eq!(found, expected);
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
        // Policies and user mappings name roles, whatever is left out.
        let target = server.empty("golden");
        target.sql(
            "DO $$ DECLARE role text; BEGIN
               FOREACH role IN ARRAY ARRAY['pgtide_owner', 'pgtide Reader', 'pgtide_writer'] LOOP
                 IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                   EXECUTE format('CREATE ROLE %I', role);
                 END IF;
               END LOOP; END $$",
        );
        repo.restore(&id, &target, &["--no-owner", "--no-privileges"]);
        let again = repo.dump(&target, &[]);
        // Owners and privileges of large objects were left out.
        let rows = |id: &str| {
            let mut digests = digests(&repo, id);
            digests.remove("pg_catalog.pg_largeobject_metadata");
            // Facts of types were not kept then.
            digests.remove("pg_catalog.pg_type");
            digests
        };
        assert_eq!(rows(&id), rows(&again));
    }
}
