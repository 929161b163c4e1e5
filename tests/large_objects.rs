//! Large objects come back whoever restores them, with all that belongs to them.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::equal::{assert_equal, assert_restored};
use common::program::Repo;
use common::testbed::{Database, Server};

const VERSIONS: [&str; 3] = ["15", "17", "18"];

fn servers() -> impl Iterator<Item = Server> {
    VERSIONS.into_iter().filter_map(Server::find)
}

/// Roles of these names, gone when the test is. They must be dropped after the databases that know them.
struct Roles<'s> {
    server: &'s Server,
    names: Vec<String>,
}

impl<'s> Roles<'s> {
    fn new(server: &'s Server, count: usize) -> Roles<'s> {
        let names: Vec<String> = (0..count)
            .map(|n| format!("pgtide_lo_{}_{}_{n}", server.version, unique()))
            .collect();
        for name in &names {
            let create = format!("CREATE ROLE {name} LOGIN");
            server.psql("postgres", &["-c", &create]);
        }
        Roles { server, names }
    }
}

impl Drop for Roles<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let drop = format!("DROP ROLE {name}");
            let _ = self
                .server
                .psql_command("postgres", &["-c", &drop])
                .output();
        }
    }
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}_{next}", std::process::id())
}

/// Owners, privileges and comments of all objects, and a digest of what is in them.
fn objects(database: &Database) -> String {
    database.sql(
        "SELECT string_agg(concat_ws(' ', m.oid, pg_get_userbyid(m.lomowner), m.lomacl::text, obj_description(m.oid, 'pg_largeobject'), md5(lo_get(m.oid))), E'\\n' ORDER BY m.oid)
         FROM pg_largeobject_metadata m",
    )
}

#[test]
fn every_kind_of_privilege_comes_back() {
    for server in servers() {
        let roles = Roles::new(&server, 3);
        let [owner, a, b] = &roles.names[..] else {
            unreachable!()
        };
        let source = server.empty(&format!("lo_acl_{}", server.version));
        source.sql(&format!(
            "SELECT lo_from_bytea(g, 'object ' || g::text::bytea) FROM generate_series(1000, 1020) g;
             DO $$ BEGIN FOR g IN 1005 .. 1020 LOOP EXECUTE format('ALTER LARGE OBJECT %s OWNER TO {owner}', g); END LOOP; END $$;
             GRANT SELECT ON LARGE OBJECT 1001, 1006 TO {a};
             GRANT SELECT ON LARGE OBJECT 1002, 1007 TO {a} WITH GRANT OPTION; GRANT UPDATE ON LARGE OBJECT 1002, 1007 TO {a};
             GRANT ALL ON LARGE OBJECT 1003, 1008 TO PUBLIC;
             REVOKE ALL ON LARGE OBJECT 1009 FROM {owner};
             REVOKE UPDATE ON LARGE OBJECT 1010 FROM {owner}; GRANT UPDATE ON LARGE OBJECT 1010 TO {a};
             GRANT SELECT ON LARGE OBJECT 1011 TO {owner} WITH GRANT OPTION;
             GRANT ALL ON LARGE OBJECT 1012 TO {owner} WITH GRANT OPTION; GRANT SELECT ON LARGE OBJECT 1012 TO {a}, {b}, PUBLIC;
             GRANT SELECT ON LARGE OBJECT 1013 TO {a}; REVOKE SELECT ON LARGE OBJECT 1013 FROM {a};
             GRANT SELECT ON LARGE OBJECT 1014 TO {a} WITH GRANT OPTION;
             SET SESSION AUTHORIZATION {a}; GRANT SELECT ON LARGE OBJECT 1014 TO {b} WITH GRANT OPTION;
             SET SESSION AUTHORIZATION {b}; GRANT SELECT ON LARGE OBJECT 1014 TO PUBLIC; RESET SESSION AUTHORIZATION;
             COMMENT ON LARGE OBJECT 1014 IS 'on a''s'; COMMENT ON LARGE OBJECT 1003 IS ''"
        ));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        for jobs in ["1", "3"] {
            let target = server.empty(&format!("lo_acl_{}_{jobs}", server.version));
            repo.restore(&id, &target, &["-j", jobs]);
            assert_restored(&repo, &id, &source, &target);
            assert_eq!(objects(&source), objects(&target));
        }

        // What the owner has goes to whoever owns it now, whether the snapshot knows the owner or not.
        let ownerless = repo.dump(&source, &["--no-owner"]);
        for (number, (id, options)) in [(&id, &["--no-owner"][..]), (&ownerless, &[])]
            .into_iter()
            .enumerate()
        {
            let target = server.empty(&format!("lo_acl_{}_o{number}", server.version));
            repo.restore(id, &target, options);
            let query = "SELECT oid, pg_get_userbyid(lomowner), lomacl FROM pg_largeobject_metadata WHERE oid IN (1005, 1006, 1009, 1010) ORDER BY oid";
            assert_eq!(
                target.sql(query),
                format!(
                    "1005|postgres|\n1006|postgres|{{postgres=rw/postgres,{a}=r/postgres}}\n1009|postgres|{{}}\n1010|postgres|{{postgres=r/postgres,{a}=w/postgres}}"
                )
            );
        }
        let id = repo.dump(&source, &["-x", "--no-comments"]);
        let target = server.empty(&format!("lo_acl_{}_x", server.version));
        repo.restore(&id, &target, &[]);
        let bare = "SELECT count(*), count(lomacl), count(obj_description(oid, 'pg_largeobject')) FROM pg_largeobject_metadata";
        assert_eq!(target.sql(bare), "21|0|0");
    }
}

#[test]
fn a_role_without_superuser_restores_what_it_owns() {
    for server in servers() {
        let roles = Roles::new(&server, 2);
        let (owner, other) = (&roles.names[0], &roles.names[1]);
        let source = server.empty(&format!("lo_own_{}", server.version));
        source.sql(&format!(
            "SET SESSION AUTHORIZATION {owner};
             SELECT lo_from_bytea(g, repeat('object ' || g, g % 1000)::bytea) FROM generate_series(1000, 3000) g;
             SELECT lo_create(1); SELECT lo_put(1, 3000000, 'behind a hole'); COMMENT ON LARGE OBJECT 1 IS 'sparse'; SELECT lo_create(2);
             SELECT lo_truncate(lo_open(2, 393216), 1024000); GRANT SELECT ON LARGE OBJECT 2 TO {other}"
        ));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("lo_own_{}_r", server.version));
        target.sql(&format!(
            "ALTER DATABASE \"{}\" OWNER TO {owner}",
            target.name
        ));
        repo.restore(&id, &target, &["-U", owner, "-j", "2"]);
        assert_eq!(objects(&source), objects(&target));

        // What belongs to others is theirs to make.
        source.sql(&format!("ALTER LARGE OBJECT 1500 OWNER TO {other}"));
        let id = repo.dump(&source, &[]);
        let second = server.empty(&format!("lo_own_{}_2", server.version));
        second.sql(&format!(
            "ALTER DATABASE \"{}\" OWNER TO {owner}",
            second.name
        ));
        repo.try_restore(&id, &second, &["-U", owner])
            .expect(1)
            .says(&["LARGE OBJECT 1500", "permission denied to set role"]);
        let clean = ["-U", owner, "--clean", "--yes", "--continue-on-error"];
        let done = repo.try_restore(&id, &second, &clean).expect(3);
        assert_eq!(done.stderr.matches("LARGE OBJECT").count(), 1);
        target.sql("SELECT lo_unlink(1500)");
        assert_eq!(objects(&target), objects(&second));
        // Nothing of it is left that another object of that number would find.
        second.sql("SELECT lo_create(1500)");
        assert_eq!(second.sql("SELECT length(lo_get(1500))"), "0");
    }
}

#[test]
fn a_label_that_the_target_does_not_take_is_a_failure_of_its_own() {
    for server in servers() {
        let source = server.empty(&format!("lo_label_{}", server.version));
        // No provider of labels comes with the servers.
        source.sql(
            "SELECT lo_from_bytea(g, 'object') FROM generate_series(1, 100) g;
             INSERT INTO pg_seclabel SELECT 50, 'pg_largeobject'::regclass, 0, p, 'a \"label\" of ''' || p FROM unnest(ARRAY['one', 'two']) p",
        );
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("lo_label_{}_r", server.version));
        let done = repo.try_restore(&id, &target, &["--continue-on-error"]);
        done.expect(3)
            .says(&["LARGE OBJECT 50", "provider \"one\" is not loaded"]);
        assert_eq!(objects(&source), objects(&target));
        let target = server.empty(&format!("lo_label_{}_s", server.version));
        repo.try_restore(&id, &target, &[])
            .expect(1)
            .says(&["LARGE OBJECT 50", "provider \"one\" is not loaded"]);
    }
}

#[test]
fn many_small_objects_come_back_after_a_restore_that_was_killed() {
    for server in servers() {
        let source = server.empty(&format!("lo_many_{}", server.version));
        source.sql(
            "SELECT count(lo_from_bytea(10000 + g, decode(md5(g::text), 'hex'))) FROM generate_series(1, 40000) g;
             DO $$ BEGIN FOR g IN 1 .. 300 LOOP EXECUTE format('COMMENT ON LARGE OBJECT %s IS ''c%s''', 10000 + g * 100, g); END LOOP; END $$",
        );
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("lo_many_{}_r", server.version));
        let dbname = common::testbed::conninfo(&target.name);
        let mut command = repo.command(&server, &["restore", &id, "-q", "-d", &dbname, "-j", "2"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while target.sql("SELECT count(*) FROM pg_largeobject_metadata") == "0"
            && child.try_wait().unwrap().is_none()
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        child.wait().unwrap();
        repo.try_restore(&id, &target, &[])
            .expect(1)
            .says(&["--clean"]);
        repo.restore(&id, &target, &["--clean", "--yes"]);
        assert_equal(&source, &target);
        // In the way they are shown, but not one by one.
        target.sql("SELECT lo_from_bytea(1, 'mine')");
        repo.try_restore(&id, &target, &[])
            .expect(1)
            .says(&["LARGE OBJECT 10001, 10002, 10003 and 39997 more"]);
    }
}

#[test]
fn large_objects_are_left_out_on_request() {
    let Some(server) = Server::find("18") else {
        return;
    };
    let source = server.empty("lo_none");
    source.sql("CREATE TABLE t AS SELECT 1 AS a; SELECT lo_from_bytea(1, 'object')");
    let repo = Repo::new();
    for (options, number) in [
        (&["-B"][..], 0),
        (&["--no-blobs"], 0),
        (&["--no-large-objects"], 0),
        (&["-b"], 1),
        (&[], 1),
    ] {
        let id = repo.dump(&source, options);
        let opened = repo.open(&id);
        assert_eq!(opened.snapshot.totals.large_objects, number, "{options:?}");
        let tables = if number == 0 { 1 } else { 3 };
        assert_eq!(opened.tables.len(), tables, "{options:?}");
    }
    let id = repo.dump(&source, &["-B"]);
    let target = server.empty("lo_none_r");
    repo.restore(&id, &target, &[]);
    assert_eq!(objects(&target), "");
    assert_eq!(target.sql("SELECT a FROM t"), "1");
}
