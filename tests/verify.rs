//! `pgtide verify`: a snapshot that restores is found to, and one that does not is not.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::program::{Done, Repo, finish, pgtide};
use common::server::{TestServer, bin_dir};
use common::testbed::{Database, Server, conninfo};
use pgtide::pg::interrupt::Interrupt;
use pgtide::progress::Silent;
use pgtide::repo::lists::{read_list, read_value};
use pgtide::repo::model::{ManifestShard, Root, TableRecord};
use pgtide::repo::{CopyOptions, InitOptions, PackGroup, Repository};
use pgtide::rows::{Decoder, Effort, Encoder};
use pgtide::store::LocalStore;

/// Verifies a snapshot on the server itself.
fn verify(repo: &Repo, server: &Server, id: &str, options: &[&str]) -> Done {
    let mut arguments = vec!["verify", id, "-d", "postgres", "--json"];
    arguments.extend(options);
    let mut command = repo.command(server, &arguments);
    command.env("PATH", &server.path);
    command.env_remove("PGTIDE_PG_DUMP");
    finish(command)
}

/// No scratch database of a snapshot is left.
fn assert_clean(server: &Server, id: &str) {
    let left = format!(
        "SELECT datname FROM pg_database WHERE datname LIKE 'pgtide_verify_{}_%'",
        &id[..8]
    );
    assert_eq!(server.psql("postgres", &["-c", &left]).trim(), "");
}

fn one_of_everything(version: &'static str) {
    let Some(server) = Server::find(version) else {
        return;
    };
    let database = server.rich("verify_rich");
    let repo = Repo::new();
    let id = repo.dump(&database, &[]);
    let report = verify(&repo, &server, &id, &[]).expect(0).json();
    assert_eq!(report["equal"], true, "{report:#}");
    let one = &report["databases"][0];
    let rows = database.sql("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384");
    assert!(one["differences"]["tables"].as_array().unwrap().len() >= rows.parse().unwrap());
    assert_eq!(
        one["differences"]["notes"],
        serde_json::json!([]),
        "{report:#}"
    );
    assert!(one["rows"].as_u64().unwrap() > 100);
    // It is on record.
    let history = repo.local(&["history", "--json"]).expect(0).json();
    assert_eq!(history["runs"][0]["command"], "verify");
    assert_eq!(history["runs"][0]["snapshots"][0], id.as_str());
    assert_clean(&server, &id);
}

#[test]
fn one_of_everything_is_as_in_its_snapshot_on_15() {
    one_of_everything("15");
}

#[test]
fn one_of_everything_is_as_in_its_snapshot_on_17() {
    one_of_everything("17");
}

#[test]
fn one_of_everything_is_as_in_its_snapshot_on_18() {
    one_of_everything("18");
}

#[test]
fn hypertables_are_as_in_their_snapshot() {
    for version in ["17", "18"] {
        let Some(server) = Server::with_timescale(version) else {
            continue;
        };
        let database = server.empty("verify_hyper");
        database.sql("CREATE EXTENSION timescaledb");
        database.sql(
            "CREATE TABLE metrics (time timestamptz NOT NULL, device int, value float8);
             SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '30 days');
             INSERT INTO metrics SELECT now() - n * interval '12 hours', n % 7, n * 0.5 FROM generate_series(1, 2000) n",
        );
        let repo = Repo::new();
        let id = repo.dump(&database, &[]);
        let report = verify(&repo, &server, &id, &[]).expect(0).json();
        assert_eq!(report["equal"], true, "{report:#}");
        let part = repo.dump(&database, &["--since", "2 years"]);
        verify(&repo, &server, &part, &[]).expect(0);
        let definitions = repo.dump(&database, &["--schema-only"]);
        verify(&repo, &server, &definitions, &[]).expect(0);
    }
}

/// A small database: a table, its index, a sequence, a large object.
fn small<'a>(server: &'a Server, name: &str) -> Database<'a> {
    let database = server.empty(name);
    database.sql(
        "CREATE TABLE orders (id serial PRIMARY KEY, what text, paid numeric);
         INSERT INTO orders (what, paid) SELECT 'order ' || n, n * 1.5 FROM generate_series(1, 5000) n;
         CREATE INDEX by_what ON orders (what);
         SELECT lo_from_bytea(4711, convert_to(repeat('x', 5000), 'UTF8'));
         SELECT lo_from_bytea(4712, convert_to(repeat('x', 3000), 'UTF8'));
         DO $$ DECLARE fd int; BEGIN fd := lo_open(4712, 393216); PERFORM lo_truncate(fd, 10); PERFORM lo_close(fd); END $$",
    );
    database
}

#[test]
fn every_difference_is_found_and_named() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = small(&server, "verify_source");
    let repo = Repo::new();
    let id = repo.dump(&database, &[]);
    let compare = |what: &str| {
        let target = server.empty("verify_target");
        repo.restore(&id, &target, &[]);
        target.sql(what);
        let dbname = conninfo(&target.name);
        let mut command = repo.command(&server, &["verify", &id, "--restored", "-d", &dbname]);
        command.env("PATH", &server.path);
        finish(command)
    };
    let good = compare("SELECT 1").expect(0);
    assert!(good.stdout.contains("verified"), "{}", good.stdout);
    for (what, said) in [
        (
            "UPDATE orders SET paid = paid + 0.01 WHERE id = 4321",
            "public.orders",
        ),
        ("DELETE FROM orders WHERE id = 1", "5,000 | 4,999 rows"),
        ("DROP INDEX by_what", "INDEX public.by_what"),
        ("DROP TABLE orders", "TABLE public.orders"),
        (
            "SELECT setval('orders_id_seq', 17)",
            "public.orders_id_seq: 5000 | 17",
        ),
        ("SELECT lo_put(4711, 4000, 'y')", "(large objects)"),
        (
            "GRANT SELECT ON orders TO PUBLIC",
            "ACL public.TABLE orders",
        ),
        ("CREATE VIEW more AS SELECT 1", "+ VIEW public.more"),
        (
            "CREATE TABLE more (); INSERT INTO more DEFAULT VALUES",
            "public.more",
        ),
        (
            "ALTER TABLE orders ALTER what SET STATISTICS 5",
            "TABLE public.orders",
        ),
    ] {
        let found = compare(what).expect(20);
        assert!(found.stdout.contains(said), "{what}: {}", found.stdout);
        assert!(
            found.stdout.contains("not verified"),
            "{what}: {}",
            found.stdout
        );
    }
}

#[test]
fn what_postgresql_prints_in_other_words_is_the_same() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = server.empty("verify_words");
    database.sql(
        "CREATE TABLE parent (id int PRIMARY KEY, s varchar(3) CHECK (s IN ('a', 'b')), n int CHECK (n > - 1::int));
         CREATE TABLE child (id int REFERENCES parent, s varchar DEFAULT 'a'::varchar);
         CREATE INDEX part ON parent (id) WHERE s IN ('a', 'b');
         CREATE VIEW v AS SELECT * FROM parent WHERE s IN ('a', 'b') OR n = - 5::int;
         INSERT INTO parent SELECT n, 'a', n FROM generate_series(1, 100) n;
         INSERT INTO child SELECT n FROM generate_series(1, 100) n",
    );
    let repo = Repo::new();
    for options in [
        &[][..],
        &["--where", "parent: id > 50"],
        &["-t", "child"],
        &["--no-owner"],
        &["--no-privileges"],
        &["--schema-only"],
        &["--exclude-table-data", "child"],
    ] {
        let id = repo.dump(&database, options);
        let report = verify(&repo, &server, &id, &[]);
        assert!(
            [0, 3].contains(&report.code),
            "{options:?}: {} {}",
            report.stdout,
            report.stderr
        );
        assert_eq!(
            report.json()["equal"],
            true,
            "{options:?}: {}",
            report.stdout
        );
        assert_eq!(
            report.code == 0,
            !options.contains(&"-t"),
            "{options:?}: {}",
            report.stdout
        );
    }
    let rows = repo.dump(&database, &["--data-only"]);
    verify(&repo, &server, &rows, &[])
        .expect(1)
        .says(&["no definition of its database"]);
}

/// A repository with the same snapshot, in which a value of a table is another: its pack, headers and index have all their
/// checksums, and only the block's id tells.
fn forged(repo: &Repo, id: &str, table: &str, directory: &Path) -> Repository {
    let honest = Repository::open(Arc::new(LocalStore::new(repo.path()))).unwrap();
    let (id, snapshot) = honest.find(id).unwrap();
    let reader = honest.reader().unwrap();
    let root: Root = read_value(&reader, &snapshot.root).unwrap();
    let tables: Vec<TableRecord> = read_list(&reader, &root.tables).unwrap();
    let table = tables.iter().find(|record| record.name == table).unwrap();
    let shard: ManifestShard = read_value(&reader, &table.manifest[0]).unwrap();
    let block = shard.segments[0].blocks[0];
    let mut payload = Vec::new();
    let (mut decoder, mut scratch) = (Decoder::new(), Vec::new());
    reader
        .read(&block.id, &mut decoder, &mut scratch, &mut payload)
        .unwrap();
    let place = payload
        .windows(8)
        .position(|bytes| bytes == b"order 77")
        .unwrap();
    payload[place] = b'0';

    let forged = Repository::init_with(
        Arc::new(LocalStore::new(directory)),
        &InitOptions {
            keys_from: Some(&honest),
            ..InitOptions::default()
        },
    )
    .unwrap();
    let kinds: Vec<_> = table.columns.iter().map(|column| column.kind).collect();
    let mut encoded = Vec::new();
    let columns = table.columns.len() as u16;
    Encoder::new(Effort::Fast)
        .encode(block.format, &kinds, columns, &payload, &mut encoded)
        .unwrap();
    let writer = forged.writer(Effort::Fast).unwrap();
    writer.put(&PackGroup::Small, block.id, &encoded).unwrap();
    writer.abort().unwrap();
    let options = CopyOptions {
        jobs: 1,
        effort: Effort::Fast,
    };
    let report = honest
        .copy_to(&forged, &[id], &options, &Interrupt::default(), &Silent)
        .unwrap();
    assert!(report.failed.is_empty());
    forged
}

#[test]
fn a_value_that_was_changed_with_all_its_checksums_is_found() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = small(&server, "verify_forged");
    let repo = Repo::new();
    let id = repo.dump(&database, &[]);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("forged");
    forged(&repo, &id, "orders", &place);
    let place = place.to_str().unwrap();
    for options in [&[][..], &["--sample", "100%"]] {
        let mut arguments = vec!["verify", "latest", "--repo", place, "-d", "postgres"];
        arguments.extend(options);
        let mut command = pgtide(&arguments);
        command.envs(server.env.iter().map(|(name, value)| (name, value)));
        command.env("PATH", &server.path);
        let found = finish(command).expect(20);
        assert!(
            found.stdout.contains("payload does not have its id"),
            "{}",
            found.stdout
        );
    }
}

#[test]
fn queries_of_the_user_are_asked_and_time_is_taken() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let database = small(&server, "verify_queries");
    let repo = Repo::new();
    let id = repo.dump(&database, &[]);
    let right = [
        "--query",
        "SELECT count(*) FROM orders => 5000",
        "--query",
        "SELECT true",
    ];
    verify(&repo, &server, &id, &right).expect(0);
    for (query, answer) in [
        ("SELECT count(*) FROM orders => 4999", "5000"),
        ("SELECT false", "f"),
        ("SELECT what FROM orders WHERE id < 0", ""),
        ("SELECT nothing", ""),
    ] {
        let report = verify(&repo, &server, &id, &["--query", query])
            .expect(20)
            .json();
        let found = &report["databases"][0]["answers"][0];
        assert_eq!(found["right"], false, "{report:#}");
        assert_eq!(
            found["answer"].as_str().unwrap_or_default(),
            answer,
            "{report:#}"
        );
    }
    let report = verify(&repo, &server, &id, &["--rto", "1ms"])
        .expect(3)
        .json();
    assert_eq!(
        (&report["equal"], &report["in_time"]),
        (&true.into(), &false.into())
    );
    verify(&repo, &server, &id, &["--rto", "10min"]).expect(0);
    let report = verify(&repo, &server, &id, &["--sample", "50%"])
        .expect(0)
        .json();
    let sampled = &report["databases"][0]["sampled"];
    assert!(sampled["blocks"].as_u64().unwrap() > 0, "{report:#}");
    assert_clean(&server, &id);
}

#[test]
fn what_the_server_lacks_is_said_and_nothing_is_left_there() {
    let Some(server) = Server::find("17") else {
        return;
    };
    let role = format!("verify_role_{}", std::process::id());
    let database = server.empty("verify_lacks");
    database.sql(&format!(
        "CREATE ROLE {role}; CREATE TABLE t (); ALTER TABLE t OWNER TO {role}"
    ));
    let repo = Repo::new();
    let id = repo.dump(&database, &[]);
    database.sql(&format!(
        "REASSIGN OWNED BY {role} TO CURRENT_USER; DROP ROLE {role}"
    ));
    verify(&repo, &server, &id, &[]).expect(1).says(&[
        "cannot be restored on this server",
        "roles that the target does not have",
        &role,
    ]);
    verify(&repo, &server, &id, &["--no-owner", "--no-privileges"]).expect(0);
    repo.local(&["verify", &id])
        .expect(2)
        .says(&["no server to restore on", "--ephemeral"]);
    assert_clean(&server, &id);
}

#[test]
fn a_throw_away_server_needs_nothing_of_the_source() {
    let Some(programs) = bin_dir() else {
        return;
    };
    let server = TestServer::start(&programs, "");
    server.psql("CREATE ROLE shop LOGIN");
    server.psql("CREATE DATABASE shop OWNER shop");
    server.psql("CREATE DATABASE other");
    server.psql_in(
        "shop",
        "CREATE TABLE t AS SELECT generate_series(1, 1000) n; ALTER TABLE t OWNER TO shop",
    );
    server.psql_in(
        "other",
        "CREATE TABLE u AS SELECT 'x' x; GRANT SELECT ON u TO shop",
    );
    let repo = Repo::new();
    let ephemeral = format!("--ephemeral={}", programs.display());
    let dumped = |arguments: &[&str]| {
        let conninfo = server.conninfo("postgres");
        let mut all = vec!["dump", "-d", &conninfo];
        all.extend(arguments);
        repo.local(&all)
            .expect(0)
            .stdout
            .lines()
            .last()
            .unwrap()
            .to_owned()
    };
    let cluster = dumped(&["--all-databases"]);
    let alone = repo
        .local(&["dump", "-d", &server.conninfo("shop")])
        .expect(0);
    let alone = alone.stdout.lines().last().unwrap();
    drop(server);
    for (id, databases) in [(cluster.as_str(), 4), (alone, 1)] {
        let report = repo
            .local(&["verify", id, &ephemeral, "--json"])
            .expect(0)
            .json();
        assert_eq!(report["equal"], true, "{report:#}");
        assert_eq!(
            report["databases"].as_array().unwrap().len(),
            databases,
            "{report:#}"
        );
    }
    repo.local(&["verify", alone, "--ephemeral=/no/such/directory"])
        .expect(1)
        .says(&["initdb"]);
}
