//! What `restore` and `list` pick is what `pg_restore` picks with the same options.
//!
//! Runs on the servers of `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/testbed`.

mod common;

use common::equal::assert_equal;
use common::program::{Done, Repo};
use common::testbed::{Database, Server, conninfo, run};

fn any_server() -> Option<Server> {
    ["17", "18", "15"].into_iter().find_map(Server::find)
}

/// A database with one of everything, dumped by both.
struct Both<'a> {
    server: &'a Server,
    repo: Repo,
    id: String,
    directory: tempfile::TempDir,
}

impl<'a> Both<'a> {
    fn of(source: &Database<'a>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut dump = source.server.program("DUMP", "pg_dump");
        dump.args(["-Fc", "-C", "-d", &conninfo(&source.name), "-f"]);
        run({
            dump.arg(directory.path().join("dump"));
            dump
        });
        let repo = Repo::new();
        let id = repo.dump(source, &[]);
        Self {
            server: source.server,
            repo,
            id,
            directory,
        }
    }

    fn dump(&self) -> String {
        let path = self.directory.path().join("dump");
        path.to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn list(&self, options: &[&str]) -> Done {
        let mut arguments = vec!["list", self.id.as_str()];
        arguments.extend(options);
        self.repo.local(&arguments)
    }

    /// What both list with these options.
    #[track_caller]
    fn assert_same_list(&self, options: &[&str]) -> Vec<String> {
        let ours = self.list(options).expect(0);
        let mut theirs = self.server.program("RESTORE", "pg_restore");
        theirs.arg("-l").args(options).arg(self.dump());
        let (mut ours, mut theirs) = (items(&ours.stdout), items(&run(theirs)));
        if self.server.major() < 16 && options.iter().any(|o| o.starts_with("--section")) {
            // Older versions have large objects, but for their pages, among the definitions.
            for items in [&mut ours, &mut theirs] {
                items.retain(|item| item != "large objects");
            }
        }
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|item| !b.contains(item)).cloned().collect()
        };
        assert_eq!(
            (only(&ours, &theirs), only(&theirs, &ours)),
            (Vec::new(), Vec::new()),
            "pgtide alone, pg_restore alone, with {options:?}"
        );
        assert_eq!(ours.len(), theirs.len(), "{options:?}");
        ours
    }

    /// Runs `pg_restore`, which goes on after errors and then fails.
    fn pg_restore(&self, target: &Database, options: &[&str]) {
        let mut command = self.server.program("RESTORE", "pg_restore");
        command.args(["-d", &conninfo(&target.name)]).args(options);
        command.arg(self.dump());
        command.output().unwrap();
    }

    /// Restores into a database of each, with these options one after the other; they must be equal.
    #[track_caller]
    fn assert_same_restore(&self, name: &str, before: &str, steps: &[&[&str]], after: &str) {
        let theirs = self.server.empty(&format!("pick_{name}_t"));
        let ours = self.server.empty(&format!("pick_{name}_o"));
        for target in [&theirs, &ours] {
            target.sql(before);
        }
        for step in steps {
            self.pg_restore(&theirs, step);
            let done = self.repo.try_restore(&self.id, &ours, step);
            assert_eq!(done.code, 0, "{step:?}\n{}", done.stderr);
        }
        for target in [&theirs, &ours] {
            target.sql(after);
        }
        assert_equal(&theirs, &ours);
    }
}

/// The items of a list without their numbers, sorted. All large objects are one.
fn items(list: &str) -> Vec<String> {
    let lines = list.lines().filter(|line| !line.starts_with(';'));
    let mut items: Vec<String> = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned())
        .collect();
    let before = items.len();
    items.retain(|item| !item.starts_with("BLOB") && !item.contains(" LARGE OBJECT"));
    if items.len() < before {
        items.push("large objects".to_owned());
    }
    items.sort();
    items
}

#[test]
fn each_option_picks_what_pg_restore_picks() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.rich(&format!("pick_{version}"));
        let both = Both::of(&source);
        let all = both.assert_same_list(&[]);
        let mut cases: Vec<Vec<&str>> = [
            "-n app",
            "-n app -n select",
            "-n nowhere",
            "-N app",
            "-N app -N select",
            "-n app -n select -N select",
            "-t everything",
            "-t everything -n app",
            "-t orders -t customer",
            "-t per_customer",
            "-t far",
            "-t never_called",
            "-t events -t events_2023",
            "-I everything_gin",
            "-I everything_gin -I replica_a -n app",
            "-P first(anyelement)",
            "-T nothing",
            "-s",
            "-a",
            "-s -t everything",
            "-a -t everything",
            "-a -n app",
            "-a -N app",
            "--section=pre-data",
            "--section=data",
            "--section=post-data",
            "--section=pre-data --section=post-data",
            "--section=data --section=post-data",
            "--section=post-data -n app",
            "-x",
            "-s -x -n app --no-comments",
            "--no-comments",
            "--no-publications",
            "--no-security-labels",
            "--no-subscriptions",
            "--no-publications --no-subscriptions --no-comments",
            "--strict-names -n app -t everything",
        ]
        .iter()
        .map(|options| options.split(' ').collect())
        .collect();
        cases.extend([
            vec!["-n", "Odd Schema"],
            vec!["-t", "Se quence"],
            vec!["-P", "add(integer, integer)"],
            vec!["-P", "do_nothing(integer, text)", "-P", "Odd name()"],
            vec!["-T", "everything touch"],
            vec!["-T", "everything Odd trigger", "-I", "everything_gin"],
            vec![
                "-t",
                "replica",
                "-I",
                "replica_a",
                "-P",
                "touch()",
                "-T",
                "everything touch",
                "-n",
                "app",
            ],
        ]);
        let filter = both.file(
            "filter",
            "include schema app # only this\nexclude schema public\n\ninclude table everything\ninclude index everything_gin\ninclude function touch()\ninclude trigger everything touch\n",
        );
        if server.major() >= 17 {
            cases.push(vec!["--filter", &filter]);
        }
        if server.major() >= 18 {
            cases.extend([
                vec!["--no-policies"],
                vec!["--no-policies", "--no-comments"],
                vec!["--no-data"],
                vec!["--no-schema"],
                vec!["--no-schema", "-n", "app"],
            ]);
        }
        let mut picked = std::collections::BTreeSet::new();
        for options in cases {
            let items = both.assert_same_list(&options);
            if items.len() > 1 && items.len() < all.len() {
                picked.insert(items);
            }
        }
        assert!(picked.len() > 25, "the options do not tell much apart");
    }
}

#[test]
fn what_is_restored_is_what_pg_restore_restores() {
    for version in ["17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.rich(&format!("pick_r_{version}"));
        let both = Both::of(&source);
        let name = |what: &str| format!("{what}_{version}");
        let steps: [&[&str]; 3] = [
            &["--section=pre-data"],
            &["--section=data"],
            &["--section=post-data"],
        ];
        both.assert_same_restore(&name("sections"), "", &steps, "");
        if version == "18" {
            continue;
        }
        both.assert_same_restore(&name("schema"), "", &[&["-s"]], "");
        let rows = [&["-s"][..], &["-a", "--disable-triggers"]];
        // pg_restore leaves triggers enabled that were not before.
        let enable = "ALTER TABLE app.everything ENABLE TRIGGER ALL; ALTER TABLE app.events_2023 ENABLE TRIGGER ALL";
        both.assert_same_restore(&name("rows"), "", &rows, enable);
        let plain = ["-O", "-x", "--no-comments", "--no-publications"];
        both.assert_same_restore(&name("plain"), "", &[&plain], "");
        let table = ["-t", "customer", "-t", "never_called", "-n", "app"];
        both.assert_same_restore(&name("table"), "CREATE SCHEMA app", &[&table], "");
        let role = [
            "-O",
            "-x",
            "-n",
            "app",
            "--role=pgtide_writer",
            "-t",
            "customer",
        ];
        let before = "CREATE SCHEMA app AUTHORIZATION pgtide_writer";
        both.assert_same_restore(&name("role"), before, &[&role], "");
    }
}

#[test]
fn an_edited_list_is_what_is_restored() {
    let Some(server) = any_server() else { return };
    let source = server.rich("pick_list");
    let both = Both::of(&source);
    let edit = |list: &str| {
        let gone = |line: &str| {
            [
                "TABLE DATA app toasted",
                "INDEX app everything_gin",
                "VIEW app late",
                "BLOB",
                "LARGE OBJECT",
            ]
            .iter()
            .any(|what| line.contains(what))
        };
        let lines = list.lines().map(|line| match gone(line) {
            true => format!(";{line}"),
            false => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let list = both.list(&[]).expect(0).stdout;
    assert_eq!(list, both.list(&[]).expect(0).stdout, "numbers are stable");
    let ours = both.file("ours", &edit(&list));
    let mut theirs = server.program("RESTORE", "pg_restore");
    theirs.arg("-l").arg(both.dump());
    let theirs = both.file("theirs", &edit(&run(theirs)));

    let (a, b) = (server.empty("pick_list_t"), server.empty("pick_list_o"));
    both.pg_restore(&a, &["-L", &theirs]);
    both.repo.restore(&both.id, &b, &["-L", &ours]);
    assert_equal(&a, &b);
    assert_eq!(b.sql("SELECT count(*) FROM app.toasted"), "0");

    // The order is that of the file, and what is listed is what was picked.
    let mut lines: Vec<&str> = list.lines().filter(|l| l.contains(" SCHEMA ")).collect();
    lines.reverse();
    let reversed = both.file("reversed", &lines.join("\n"));
    let again = both.list(&["-L", &reversed]).expect(0).stdout;
    let again: Vec<&str> = again.lines().filter(|l| !l.starts_with(';')).collect();
    assert_eq!(again, lines);
}

#[test]
fn a_list_that_does_not_fit_is_refused_with_its_line() {
    let Some(server) = any_server() else { return };
    let source = server.empty("pick_bad");
    source.sql("CREATE TABLE a (); CREATE TABLE b ()");
    let both = Both::of(&source);
    let line = |what: &str| {
        let list = both.list(&[]).expect(0).stdout;
        let line = list.lines().find(|line| line.contains(what)).unwrap();
        line.to_owned()
    };
    let (a, b) = (line(" TABLE public a "), line(" TABLE public b "));
    let other = a.replace(" a ", " c ");
    for (text, code, message) in [
        (format!("{a}\nTABLE b"), 2, "line 2 of the list"),
        (format!("{a}\n{b}\n{a}"), 2, "is on line 1 already"),
        ("9999; 0 0 TABLE".to_owned(), 1, "no item 9999"),
        (format!("\n{other}"), 1, "line 2 of the list: item"),
    ] {
        let file = both.file("list", &text);
        let done = both.list(&["-L", &file]).expect(code);
        done.says(&[message, "hint: "]);
    }
}

#[test]
fn names_that_stand_for_nothing_are_said() {
    let Some(server) = any_server() else { return };
    let source = server.empty("pick_names");
    source.sql("CREATE TABLE a (); CREATE SCHEMA s; CREATE TABLE s.b ()");
    let both = Both::of(&source);
    both.list(&["-t", "public.a"])
        .expect(1)
        .says(&["\"public.a\"", "hint: "]);
    both.list(&["-n", "S", "-I", "i"])
        .expect(0)
        .says(&["schema S, index i"]);
    let strict = ["--strict-names", "-n", "s", "-n", "S", "-P", "f()"];
    both.list(&strict)
        .expect(1)
        .says(&["schema S, function f()", "hint: "]);
    // As with pg_restore, a name counts where the schemas leave it.
    both.list(&["-n", "s", "-t", "a"]).expect(1);
    for (line, message) in [
        ("exclude table a", "exclude table is not supported"),
        (
            "include table_data a",
            "include table_data is not supported",
        ),
    ] {
        let file = both.file("filter", line);
        both.list(&["--filter", &file])
            .expect(2)
            .says(&[message, "line 1"]);
    }
    let quoted = both.file("filter", "include table \"a\"");
    let list = both.list(&["--filter", &quoted]).expect(0).stdout;
    assert_eq!(items(&list).len(), 2, "{list}");
}

// Rows into what exists ------------------------------------------------------------------------------------------------

/// Tables whose foreign keys run against the order of their names, and a circle.
fn referring<'a>(server: &'a Server, name: &str) -> Database<'a> {
    let database = server.empty(name);
    database.sql(
        "CREATE TABLE z (id integer PRIMARY KEY, v text); CREATE TABLE y (id integer PRIMARY KEY, z integer REFERENCES z);
         CREATE TABLE a (id integer PRIMARY KEY, y integer REFERENCES y, same integer REFERENCES a) PARTITION BY RANGE (id);
         CREATE TABLE a0root (id integer, a integer REFERENCES a) PARTITION BY RANGE (id); CREATE TABLE a0 PARTITION OF a0root FOR VALUES FROM (0) TO (5000);
         CREATE TABLE a1 PARTITION OF a FOR VALUES FROM (0) TO (500); CREATE TABLE a2 PARTITION OF a FOR VALUES FROM (500) TO (5000);
         INSERT INTO z SELECT g, repeat('v', 2000) FROM generate_series(1, 1000) g; INSERT INTO y SELECT g, g FROM generate_series(1, 1000) g; INSERT INTO a SELECT g, g, g FROM generate_series(1, 1000) g; INSERT INTO a0root SELECT g, 1001 - g FROM generate_series(1, 1000) g;
         COMMENT ON CONSTRAINT y_z_fkey ON y IS 'refers'; CREATE SEQUENCE q; SELECT setval('q', 77); SELECT lo_from_bytea(4711, 'large')",
    );
    database
}

#[test]
fn rows_alone_are_added_to_tables_that_exist_parents_first() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = referring(&server, &format!("pick_a_{version}"));
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let target = server.empty(&format!("pick_a_{version}_r"));
        repo.restore(&id, &target, &["-s"]);
        target.sql("INSERT INTO z VALUES (-1, 'mine')");
        for jobs in ["-j1", "-j4"] {
            repo.restore(&id, &target, &["-a", jobs]);
            assert_eq!(
                target.sql("SELECT (SELECT count(*) FROM z), (SELECT count(*) FROM y), (SELECT count(*) FROM a), nextval('q'), convert_from(lo_get(4711), 'UTF8')"),
                "1001|1000|1000|78|large"
            );
            target.sql(
                "DELETE FROM a0root; DELETE FROM a; DELETE FROM y; DELETE FROM z WHERE id > 0; SELECT lo_unlink(4711)",
            );
        }
        repo.restore(&id, &target, &["-a"]);
        // They are there now, and nothing is done twice in silence.
        let done = repo.try_restore(&id, &target, &["-a"]).expect(1);
        done.says(&["LARGE OBJECT 4711", "nothing was restored"]);
        repo.try_restore(&id, &target, &["-a", "--clean"]).expect(2);
    }
}

#[test]
fn what_lacks_at_the_target_is_listed_before_a_row_is_loaded() {
    let Some(server) = any_server() else { return };
    let source = referring(&server, "pick_missing");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("pick_missing_r");
    target.sql("CREATE TABLE z (id integer); CREATE VIEW y AS SELECT 1 AS id, 1 AS z");
    repo.try_restore(&id, &target, &["-a"]).expect(1).says(&[
        "COLUMN public.z.v",
        "TABLE public.y",
        "TABLE public.a1",
        "TABLE public.a2",
        "SEQUENCE public.q",
        "nothing was restored",
    ]);
    assert_eq!(target.sql("SELECT count(*) FROM z"), "0");
    source.sql("CREATE SCHEMA s; CREATE TABLE s.t ()");
    let id = repo.dump(&source, &[]);
    let done = repo.try_restore(&id, &target, &["-n", "s"]).expect(1);
    done.says(&["schemas that the target does not have", "  s\n", "hint: "]);
    target.sql("CREATE SCHEMA s");
    repo.restore(&id, &target, &["-n", "s"]);
}

#[test]
fn triggers_are_off_while_rows_are_loaded_and_are_what_they_were_after() {
    let Some(server) = any_server() else { return };
    let source = server.empty("pick_triggers");
    source.sql(
        "CREATE TABLE a (id integer PRIMARY KEY, b integer); CREATE TABLE b (id integer PRIMARY KEY, a integer REFERENCES a);
         ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; CREATE TABLE seen (n integer);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (1); RETURN NEW; END';
         INSERT INTO a VALUES (1, NULL); INSERT INTO b VALUES (1, 1); UPDATE a SET b = 1;
         CREATE TRIGGER t_origin AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION see(); CREATE TRIGGER t_always AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION see();
         CREATE TRIGGER t_off AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION see(); CREATE TRIGGER t_replica AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION see();
         ALTER TABLE a ENABLE ALWAYS TRIGGER t_always; ALTER TABLE a DISABLE TRIGGER t_off; ALTER TABLE a ENABLE REPLICA TRIGGER t_replica",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("pick_triggers_r");
    repo.restore(&id, &target, &["-s"]);
    let states = "SELECT string_agg(tgrelid::regclass || regexp_replace(tgname, '\\d+', 'n') || tgenabled::text, ' ' ORDER BY 1) FROM (SELECT * FROM pg_trigger ORDER BY tgrelid::regclass::text, tgname) t";
    let before = target.sql(states);
    assert!(
        before.contains("t_offD") && before.contains("t_replicaR"),
        "{before}"
    );
    let done = repo.try_restore(&id, &target, &["-a"]).expect(1);
    done.says(&["public.a, public.b", "circle", "--disable-triggers"]);
    assert_eq!(target.sql("SELECT count(*) FROM a"), "0");

    // The mark of that run is still there, and the way out is said.
    let done = repo
        .try_restore(&id, &target, &["-a", "--disable-triggers"])
        .expect(1);
    done.says(&["unfinished restore", "RESET pgtide.unfinished_restore"]);
    let name = common::testbed::quoted(&target.name);
    target.sql(&format!(
        "ALTER DATABASE {name} RESET pgtide.unfinished_restore"
    ));

    // A load that fails leaves no trigger off.
    target.sql("INSERT INTO b VALUES (1)");
    let off = ["-a", "--disable-triggers", "-t", "b"];
    repo.try_restore(&id, &target, &off)
        .expect(1)
        .says(&["b_pkey"]);
    assert_eq!(target.sql(states), before);
    target.sql(&format!(
        "ALTER DATABASE {name} RESET pgtide.unfinished_restore; DELETE FROM b"
    ));

    repo.restore(&id, &target, &["-a", "--disable-triggers"]);
    assert_eq!(target.sql(states), before);
    assert_equal(&source, &target);
}

// Foreign keys ---------------------------------------------------------------------------------------------------------

#[test]
fn foreign_keys_to_what_is_not_there_are_not_validated_or_left_out_and_said() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = referring(&server, &format!("pick_fk_{version}"));
        let both = Both::of(&source);
        let list = both.list(&[]).expect(0).stdout;
        let without = |what: &[&str]| {
            let lines = list
                .lines()
                .filter(|line| !what.iter().any(|w| line.contains(w)));
            both.file("list", &lines.collect::<Vec<_>>().join("\n"))
        };
        // Rows that another refers to stay behind.
        let file = without(&["TABLE DATA public z ", "TABLE DATA public y "]);
        let target = server.empty(&format!("pick_fk_{version}_1"));
        let of_partitioned = server.major() >= 18;
        let code = if of_partitioned { 0 } else { 3 };
        let done = both.repo.try_restore(&both.id, &target, &["-L", &file]);
        let done = done.expect(code);
        // Nothing in y refers to z.
        let keys = "SELECT string_agg(conname || convalidated, ' ' ORDER BY conname) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND conrelid IN ('a'::regclass, 'y'::regclass)";
        if of_partitioned {
            done.says(&["a_y_fkey is added NOT VALID"]);
            assert_eq!(
                target.sql(keys),
                "a_same_fkeytrue a_y_fkeyfalse y_z_fkeytrue"
            );
        } else {
            done.says(&["not carried: FK CONSTRAINT public.a a_y_fkey"]);
            assert_eq!(target.sql(keys), "a_same_fkeytrue y_z_fkeytrue");
        }
        let file = without(&["TABLE DATA public z "]);
        let target = server.empty(&format!("pick_fk_{version}_2"));
        let done = both.repo.restore(&both.id, &target, &["-L", &file]);
        done.says(&["y_z_fkey is added NOT VALID"]);
        assert_eq!(
            target.sql(keys),
            "a_same_fkeytrue a_y_fkeytrue y_z_fkeyfalse"
        );

        // The table itself does.
        let gone = [" public z ", " public z_pkey", "public z z_pkey"];
        let file = without(&gone);
        let target = server.empty(&format!("pick_fk_{version}_3"));
        let done = both
            .repo
            .try_restore(&both.id, &target, &["-L", &file])
            .expect(3);
        done.says(&["y_z_fkey", "public.z", "neither restored nor at the target"]);
        assert_eq!(target.sql(keys), "a_same_fkeytrue a_y_fkeytrue");
        // One that is at the target does.
        let target = server.empty(&format!("pick_fk_{version}_4"));
        target.sql("CREATE TABLE z (id integer PRIMARY KEY); INSERT INTO z SELECT generate_series(1, 1000)");
        both.repo.restore(&both.id, &target, &["-L", &file]);
        assert_eq!(
            target.sql(keys),
            "a_same_fkeytrue a_y_fkeytrue y_z_fkeytrue"
        );
    }
}

#[test]
fn what_the_dump_left_out_shows_in_foreign_keys_and_rows_alone_find_their_tables() {
    let Some(server) = any_server() else { return };
    let source = referring(&server, "pick_dumped");
    let repo = Repo::new();
    let target = || server.empty("pick_dumped_r");
    let valid = "SELECT conname || convalidated FROM pg_constraint WHERE contype = 'f' AND conrelid = 'y'::regclass";
    for options in [["--where", "z: id <= 10"], ["--exclude-table-data", "z"]] {
        let id = repo.dump(&source, &options);
        let target = target();
        let done = repo.restore(&id, &target, &[]);
        done.says(&["y_z_fkey is added NOT VALID", "public.z"]);
        assert_eq!(target.sql(valid), "y_z_fkeyfalse");
        assert_eq!(target.sql("SELECT count(*) FROM y"), "1000");
    }
    let id = repo.dump(&source, &["-t", "y"]);
    {
        let target = target();
        let done = repo.try_restore(&id, &target, &[]).expect(3);
        done.says(&["y_z_fkey", "neither restored nor at the target"]);
        assert_eq!(target.sql("SELECT count(*) FROM y"), "1000");
    }
    let (schema, rows) = (repo.dump(&source, &["-s"]), repo.dump(&source, &["-a"]));
    let target = target();
    repo.restore(&schema, &target, &[]);
    repo.restore(&rows, &target, &[]);
    assert_equal(&source, &target);
}

#[test]
fn a_partition_that_comes_alone_is_loaded_by_itself() {
    let Some(server) = any_server() else { return };
    let source = server.empty("pick_leaf");
    source.sql(
        "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e'); CREATE TABLE m (mood mood) PARTITION BY HASH (mood);
         CREATE TABLE m0 PARTITION OF m FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE m1 PARTITION OF m FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO m SELECT unnest(enum_range(NULL::mood))",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("pick_leaf_r");
    target.sql("CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e')");
    repo.restore(&id, &target, &["-t", "m0", "-t", "m1"]);
    let rows = "SELECT string_agg(mood::text, '' ORDER BY mood) FROM m0";
    assert_eq!(target.sql(rows), source.sql(rows));
    // Into the tables of another database, whose hashes may differ, they go through the root.
    let target = server.empty("pick_leaf_a");
    repo.restore(&id, &target, &["-s"]);
    repo.restore(&id, &target, &["-a"]);
    assert_eq!(
        target.sql("SELECT string_agg(mood::text, '' ORDER BY mood) FROM m"),
        "abcde"
    );
}

// TimescaleDB ----------------------------------------------------------------------------------------------------------

#[test]
fn hypertables_come_whole_with_their_schema_or_empty_or_not_at_all() {
    let Some(server) = Server::with_timescale("17") else {
        return;
    };
    let source = server.empty("pick_ts");
    source.sql("CREATE EXTENSION timescaledb");
    source.sql(
        "CREATE SCHEMA s; CREATE TABLE s.m (at timestamptz NOT NULL, v integer); SELECT create_hypertable('s.m', 'at', chunk_time_interval => interval '1 day');
         INSERT INTO s.m SELECT '2025-01-01'::timestamptz + g * interval '1 hour', g FROM generate_series(0, 99) g; CREATE INDEX m_v ON s.m (v);
         CREATE TABLE public.o (at timestamptz NOT NULL); SELECT create_hypertable('public.o', 'at'); INSERT INTO o VALUES ('2025-01-01'); CREATE TABLE p (a integer); INSERT INTO p VALUES (1)",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let counts = "SELECT (SELECT count(*) FROM s.m), (SELECT count(*) FROM timescaledb_information.chunks), (SELECT string_agg(hypertable_name::text, ' ') FROM timescaledb_information.hypertables)";

    let target = server.empty("pick_ts_n");
    repo.restore(&id, &target, &["-n", "s"]);
    assert_eq!(target.sql(counts), "100|5|m");
    assert_eq!(
        target.sql("SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%m_v'"),
        "6"
    );

    // A list of everything is everything.
    let list = repo.local(&["list", &id]).expect(0).stdout;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), list).unwrap();
    let target = server.empty("pick_ts_l");
    repo.restore(&id, &target, &["-L", file.path().to_str().unwrap()]);
    assert_equal(&source, &target);

    let target = server.empty("pick_ts_s");
    repo.restore(&id, &target, &["-s"]);
    assert_eq!(target.sql("SELECT (SELECT count(*) FROM s.m), (SELECT count(*) FROM timescaledb_information.chunks), (SELECT count(*) FROM timescaledb_information.hypertables)"), "0|0|2");
    target.sql("INSERT INTO s.m VALUES ('2025-01-01', 1)");

    let whole = "only be restored whole";
    repo.try_restore(&id, &target, &["-a"])
        .expect(1)
        .says(&[whole, "--portable"]);
    target.sql("TRUNCATE s.m");
    repo.restore(&id, &target, &["-a", "--portable"]);
    assert_eq!(target.sql("SELECT count(*) FROM s.m"), "100");
    repo.restore(&id, &target, &["-a", "-t", "p"]);
    assert_eq!(target.sql("SELECT count(*) FROM p"), "2");

    let target = server.empty("pick_ts_p");
    repo.try_restore(&id, &target, &["--section=pre-data"])
        .expect(1)
        .says(&[whole]);
    repo.restore(
        &id,
        &target,
        &[
            "--section=pre-data",
            "--exclude-table",
            "m",
            "--exclude-table",
            "o",
        ],
    );
}
