//! From one version of PostgreSQL to another: to a newer one like PostgreSQL's own programs, to an older one where that
//! understands the statements.

mod common;

use common::program::Repo;
use common::stock::{more_than_stock, stock};
use common::testbed::{Server, any_text, sql_file};

#[track_caller]
fn to_newer(from: &'static str, to: &'static str) {
    let (Some(old), Some(new)) = (Server::find(from), Server::find(to)) else {
        return;
    };
    // Roles are the cluster's.
    drop(new.rich(&format!("roles_{from}_{to}")));
    let source = old.rich(&format!("upgrade_{from}_{to}"));
    // Which of its partitions holds a row depends on the OIDs that a restore gives.
    source.sql("DROP TABLE app.by_mood");
    let theirs = new.empty(&format!("upgrade_{from}_{to}_stock"));
    assert_eq!(stock(&source, &theirs), 0);
    let ours = new.empty(&format!("upgrade_{from}_{to}_r"));
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    repo.restore(&id, &ours, &["-j", "2"]);
    let more = more_than_stock(&source, &ours, &theirs);
    assert!(more.is_empty(), "{}", more.join("\n"));
}

#[test]
fn a_newer_server_takes_it_from_15_to_17() {
    to_newer("15", "17");
}

#[test]
fn a_newer_server_takes_it_from_17_to_18() {
    to_newer("17", "18");
}

#[test]
fn a_newer_server_takes_it_from_15_to_18() {
    to_newer("15", "18");
}

/// What all versions understand.
const COMMON: &str = "
    CREATE TABLE parent (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text NOT NULL DEFAULT 'x', doubled integer GENERATED ALWAYS AS (2) STORED);
    CREATE TABLE child (id bigserial, parent integer NOT NULL REFERENCES parent, at date) PARTITION BY RANGE (at);
    CREATE TABLE child_1 PARTITION OF child FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    INSERT INTO parent (t) SELECT 't' || g FROM generate_series(1, 100) g;
    INSERT INTO child (parent, at) SELECT id, '2020-06-01' FROM parent;
    CREATE FUNCTION f(integer) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM parent WHERE id < $1; SELECT 2::bigint; END;
    CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN /* ; $pgtide$ */ RETURN NEW; END $$;
    CREATE RULE r AS ON UPDATE TO parent DO ALSO (SELECT 1; SELECT 2);
    CREATE TRIGGER t BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION g();
    CREATE VIEW v AS SELECT t, f(5) FROM parent; CREATE MATERIALIZED VIEW m AS SELECT * FROM v;
    CREATE INDEX ON child (at); COMMENT ON TABLE parent IS 'it''s; -- one'; GRANT SELECT, DELETE ON parent TO PUBLIC;
    CREATE STATISTICS s ON t, id FROM parent; SELECT lo_from_bytea(6, 'large');";

#[test]
fn an_older_server_takes_what_it_understands() {
    for (from, to) in [("17", "15"), ("18", "17"), ("18", "15")] {
        let (Some(new), Some(old)) = (Server::find(from), Server::find(to)) else {
            continue;
        };
        let source = new.empty(&format!("common_{from}_{to}"));
        source.sql(COMMON);
        let target = old.empty(&format!("common_{from}_{to}_r"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        repo.restore(&id, &target, &[]);
        // The judge's rows, with a view of the objects that no version words differently.
        let mut script = std::fs::read(sql_file("inventory.sql")).unwrap();
        script.extend_from_slice(
            b"\nSELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY conname;
              SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname;
              SELECT relname, relacl FROM pg_class WHERE relname = 'child' ORDER BY 1;
              SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid >= 16384 AND indrelid::regclass::text NOT LIKE 'pg_toast%' ORDER BY 1;
              SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename = 'r';
              SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal;\n",
        );
        let of = |database: &common::testbed::Database| any_text(database.script(&script));
        assert_eq!(of(&source), of(&target), "{from} to {to}");
    }
}

#[test]
fn an_older_server_is_refused_what_it_does_not_understand() {
    let cases = [
        (
            "18",
            "17",
            "CREATE TABLE fine (a integer); CREATE TABLE newer (a integer, b integer GENERATED ALWAYS AS (a * 2) VIRTUAL);
             CREATE EXTENSION btree_gist; CREATE TABLE temporal (a integer, b int4range, PRIMARY KEY (a, b WITHOUT OVERLAPS))",
            vec!["TABLE public.newer: syntax error", "CONSTRAINT public.temporal temporal_pkey: syntax error"],
        ),
        (
            "17",
            "15",
            "CREATE TABLE fine (a integer); CREATE TABLE granted (a integer); GRANT SELECT, MAINTAIN ON granted TO PUBLIC",
            vec!["ACL public.TABLE granted", "maintain"],
        ),
    ];
    for (from, to, sql, says) in cases {
        let (Some(new), Some(old)) = (Server::find(from), Server::find(to)) else {
            continue;
        };
        let source = new.empty(&format!("newer_{from}_{to}"));
        source.sql(sql);
        let target = old.empty(&format!("newer_{from}_{to}_r"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let done = repo.try_restore(&id, &target, &[]).expect(1);
        let done = done.says(&[
            "nothing was restored",
            "hint: restore into the source's version",
        ]);
        let done = done.says(&says);
        assert!(!done.stderr.contains("fine"), "{}", done.stderr);
        let tables = target.sql("SELECT count(*) FROM pg_class WHERE relname = 'fine'");
        assert_eq!(tables, "0");
        // Without what it does not understand it is taken.
        if from == "17" {
            repo.restore(&id, &target, &["--no-privileges"]);
            assert_eq!(target.sql("SELECT count(*) FROM granted"), "0");
        }
    }
}
