//! Roles that may not read everything: what they dump, and that they are told what they do not.

mod common;

use common::equal::{assert_equal, differences};
use common::program::{Done, Repo, finish};
use common::testbed::{Database, Server, conninfo};

/// A role that is gone when the test is, with what was granted to it.
struct Role<'a> {
    database: &'a Database<'a>,
    name: String,
}

impl<'a> Role<'a> {
    fn new(database: &'a Database<'a>, options: &str) -> Role<'a> {
        let name = format!("{}_reader", database.name);
        database.sql(&format!(
            "DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN {options}"
        ));
        Role { database, name }
    }

    fn dump(&self, repo: &Repo, options: &[&str]) -> Done {
        let dbname = conninfo(&self.database.name);
        let mut arguments = vec!["dump", "-d", &dbname, "-U", &self.name];
        arguments.extend(options);
        finish(repo.command(self.database.server, &arguments))
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let name = &self.name;
        let sql = format!("DROP OWNED BY {name}; DROP ROLE {name}");
        let mut command = self
            .database
            .server
            .psql_command(&self.database.name, &["-c", &sql]);
        let _ = command.output();
    }
}

fn last_line(done: &Done) -> String {
    done.stdout.lines().last().unwrap().to_owned()
}

const SUBSCRIPTION: &str =
    "CREATE SUBSCRIPTION nothing_comes CONNECTION 'host=nowhere dbname=x' PUBLICATION some_tables
     WITH (connect = false, slot_name = NONE)";

fn reads_all_data(server: &Server) {
    let source = server.rich("least");
    source.sql(SUBSCRIPTION);
    // Rows that refer to rows which are hidden.
    source.sql(
        "CREATE TABLE app.tenant (id integer PRIMARY KEY);
         ALTER TABLE app.tenant ENABLE ROW LEVEL SECURITY;
         CREATE TABLE app.of_tenant (tenant integer CONSTRAINT to_tenant REFERENCES app.tenant);
         INSERT INTO app.tenant VALUES (1); INSERT INTO app.of_tenant VALUES (1)",
    );
    let role = Role::new(&source, "IN ROLE pg_read_all_data");
    let repo = Repo::new();

    let done = role.dump(&repo, &["--json"]).expect(3).json();
    let mut skipped: Vec<&str> = done["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap())
        .collect();
    skipped.sort_unstable();
    let expected = [
        "subscription nothing_comes is left out: only a superuser can dump it",
        "the options of the user mapping for pgtide_owner at server elsewhere are left out: they are hidden from the role",
        "the rows of app.secret are left out: row security may hide some of them from the role",
        "the rows of app.tenant are left out: row security may hide some of them from the role",
    ];
    assert_eq!(skipped, expected);
    let id = done["snapshot_id"].as_str().unwrap().to_owned();
    // What pg_dump says of itself reaches the user, too.
    let said = role.dump(&repo, &[]).expect(3).says(&expected);
    assert!(said.stderr.contains("note: pg_dump: "), "{}", said.stderr);
    let shown = repo.local(&["show", &id]).expect(0).stdout;
    for line in expected {
        assert!(shown.contains(line), "{line}: {shown}");
    }

    // The restore says it again, and does not stop at a foreign key that may not hold.
    let target = server.empty("least_back");
    let done = repo.try_restore(&id, &target, &[]).expect(3).says(&[
        "not carried: the rows of app.secret",
        "not carried: the rows of app.tenant",
        "FK CONSTRAINT app.of_tenant to_tenant is added NOT VALID",
    ]);
    assert!(!done.stderr.contains("error:"), "{}", done.stderr);
    assert_eq!(target.sql("SELECT count(*) FROM app.secret"), "0");
    // A part of it that has all its rows is restored without a word.
    let part = server.empty("least_part");
    part.sql("CREATE SCHEMA app");
    let done = repo.restore(
        &id,
        &part,
        &["-t", "of_tenant", "--no-owner", "--no-privileges"],
    );
    assert!(!done.stderr.contains("not carried"), "{}", done.stderr);

    // With what was named it is the source again, and nothing else is missing.
    assert!(!differences(&source, &target).is_empty());
    target.sql("INSERT INTO app.secret VALUES ('pgtide_owner', 'a'), ('nobody', 'b'); INSERT INTO app.tenant VALUES (1)");
    target.sql("ALTER TABLE app.of_tenant VALIDATE CONSTRAINT to_tenant");
    target.sql("ALTER USER MAPPING FOR pgtide_owner SERVER elsewhere OPTIONS (ADD user 'u', ADD password 'it''s')");
    target.sql(SUBSCRIPTION);
    assert_equal(&source, &target);
}

fn reads_little(server: &Server) {
    let source = server.empty("little");
    source.sql(
        "CREATE TABLE open (n integer); INSERT INTO open VALUES (1), (2);
         CREATE TABLE closed (n integer); CREATE TABLE closed_too (n integer);
         CREATE SCHEMA inner_room; CREATE TABLE inner_room.t (n integer);
         CREATE SEQUENCE counter; CREATE VIEW look AS SELECT * FROM open;
         SELECT lo_create(0)",
    );
    let role = Role::new(&source, "");
    let name = &role.name;
    source.sql(&format!(
        "GRANT SELECT ON open TO {name}; GRANT SELECT ON inner_room.t TO {name}"
    ));
    let repo = Repo::new();

    // All of it at once, before anything is read.
    role.dump(&repo, &[]).expect(1).says(&[
        "nothing was dumped",
        "table inner_room.t\n",
        "table public.closed\n",
        "table public.closed_too\n",
        "sequence public.counter\n",
        "the large objects (--no-large-objects",
        &format!(
            "hint: GRANT pg_read_all_data TO \"{name}\", or leave them out with --exclude-table"
        ),
    ]);
    assert_eq!(
        repo.local(&["snapshots"]).expect(0).stdout,
        "no snapshots\n"
    );

    // Each hint helps.
    let options = ["-T", "closed*", "-T", "inner_room.*", "-T", "counter", "-B"];
    let id = last_line(&role.dump(&repo, &options).expect(0));
    let target = server.empty("little_back");
    repo.restore(&id, &target, &[]);
    assert_eq!(target.sql("SELECT sum(n) FROM look"), "3");
    assert_eq!(target.sql("SELECT to_regclass('closed')"), "");
    source.sql(&format!("GRANT pg_read_all_data TO {name}"));
    let id = last_line(&role.dump(&repo, &[]).expect(0));
    let target = server.empty("little_whole");
    repo.restore(&id, &target, &[]);
    assert_equal(&source, &target);
}

macro_rules! on_every_version {
    ($($test:ident $version:literal $run:ident;)*) => {$(
        #[test]
        fn $test() {
            if let Some(server) = Server::find($version) {
                $run(&server);
            }
        }
    )*};
}

on_every_version! {
    a_member_of_pg_read_all_data_dumps_what_it_can_and_says_what_is_missing_15 "15" reads_all_data;
    a_member_of_pg_read_all_data_dumps_what_it_can_and_says_what_is_missing_17 "17" reads_all_data;
    a_member_of_pg_read_all_data_dumps_what_it_can_and_says_what_is_missing_18 "18" reads_all_data;
    a_role_is_told_everything_that_it_may_not_read_at_once_15 "15" reads_little;
    a_role_is_told_everything_that_it_may_not_read_at_once_17 "17" reads_little;
    a_role_is_told_everything_that_it_may_not_read_at_once_18 "18" reads_little;
}
