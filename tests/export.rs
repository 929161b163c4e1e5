//! What leaves as SQL, as an archive or as CSV is what PostgreSQL's own programs would have written, and what they
//! restore.
//!
//! Runs on the servers of `PGTIDE_TEST_PG15_URL`, `..._PG17_URL`, `..._PG18_URL`; see `tools/testbed`.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::equal::assert_equal;
use common::program::{Repo, finish};
use common::testbed::{Database, Server, conninfo, quoted, sql_file};
use pgtide::pg::archive::Archive;
use rand::{Rng, SeedableRng};

/// What `pg_dump` sets in its session, in the time zone and with the signs of money of an export.
const SETTINGS: &str = "SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3; SET bytea_output = hex; SET TimeZone = 'UTC'; SET lc_monetary = 'C'; ";

/// The server that is there, the newest first.
fn any_server() -> Option<Server> {
    ["17", "18", "15"].into_iter().find_map(Server::find)
}

/// Exports a snapshot as a directory.
#[track_caller]
fn export_directory(repo: &Repo, id: &str, directory: &Path, options: &[&str]) {
    let path = directory.to_str().unwrap();
    let mut arguments = vec!["export", id, "--format", "directory", "--file", path];
    arguments.extend(options);
    repo.local(&arguments).expect(0);
}

/// Restores a directory with PostgreSQL's own program.
#[track_caller]
fn pg_restore(directory: &Path, target: &Database, options: &[&str]) {
    let mut command = target.server.program("RESTORE", "pg_restore");
    command.args(["--exit-on-error", "-d", &conninfo(&target.name)]);
    let done = finish({
        command.args(options).arg(directory);
        command
    });
    done.expect(0);
}

/// Exports a snapshot as SQL, and runs it with psql.
#[track_caller]
fn through_sql(repo: &Repo, id: &str, target: &Database, options: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut arguments = vec!["export", id, "-f", path];
    arguments.extend(options);
    repo.local(&arguments).expect(0);
    target.psql(&["-f", path]);
}

// Databases with one of everything ------------------------------------------------------------------------------------

fn everything(version: &'static str) {
    let Some(server) = Server::find(version) else {
        return;
    };
    let source = server.rich(&format!("xrich_{version}"));
    source.sql(
        "CREATE EXTENSION lo;
         -- Groups of large objects that have something in common, with holes and cuts.
         SELECT lo_create(80000 + g) FROM generate_series(1, 2500) g;
         SELECT lo_put(80000 + g, g * 3000, 'x') FROM generate_series(1, 100) g;
         SELECT lo_truncate(lo_open(80200, x'60000'::int4), 6144);
         GRANT SELECT ON LARGE OBJECT 80001, 80002, 80003 TO \"pgtide Reader\" WITH GRANT OPTION;
         SET ROLE \"pgtide Reader\"; GRANT SELECT ON LARGE OBJECT 80003 TO pgtide_writer; RESET ROLE;
         REVOKE ALL ON LARGE OBJECT 80004 FROM postgres;
         ALTER LARGE OBJECT 80005 OWNER TO \"pgtide Reader\";
         COMMENT ON LARGE OBJECT 80006 IS 'it''s a \\ comment';",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    export_directory(&repo, &id, &archive, &[]);
    for options in [&["-j2"][..], &["--single-transaction"]] {
        let target = server.empty(&format!("xrich_{version}_d"));
        pg_restore(&archive, &target, options);
        assert_equal(&source, &target);
    }
    let target = server.empty(&format!("xrich_{version}_s"));
    through_sql(&repo, &id, &target, &[]);
    assert_equal(&source, &target);
}

#[test]
fn one_of_everything_leaves_pgtide_on_15() {
    everything("15");
}

#[test]
fn one_of_everything_leaves_pgtide_on_17() {
    everything("17");
}

#[test]
fn one_of_everything_leaves_pgtide_on_18() {
    everything("18");
}

#[test]
fn an_archive_lists_as_that_of_pg_dump_does() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let source = server.rich(&format!("xlist_{version}"));
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        let repo = Repo::new();
        export_directory(&repo, &repo.dump(&source, &[]), &ours, &[]);
        let mut dump = server.program("DUMP", "pg_dump");
        dump.args(["-Fd", "--create", "-f"]).arg(&theirs);
        dump.args(["-d", &conninfo(&source.name)]);
        finish(dump).expect(0);
        let list = |path: &Path| {
            let mut command = server.program("RESTORE", "pg_restore");
            command.arg("-l").arg(path);
            let list = finish(command).expect(0).stdout;
            let lines = list.lines().filter(|line| !line.starts_with(';'));
            // Without the number of the entry. Large objects are grouped in another order.
            let lines = lines.filter_map(|line| Some(line.split_once("; ")?.1.to_owned()));
            let mut lines: Vec<String> = lines.filter(|line| !line.contains("BLOB")).collect();
            lines.sort();
            lines
        };
        let (ours, theirs) = (list(&ours), list(&theirs));
        let only = |these: &[String], those: &[String]| {
            let only = these.iter().filter(|line| !those.contains(line));
            only.cloned().collect::<Vec<String>>()
        };
        let only = (only(&ours, &theirs), only(&theirs, &ours));
        assert_eq!(only, (vec![], vec![]), "{version}");
        assert_eq!(ours.len(), theirs.len());
    }
}

// Values --------------------------------------------------------------------------------------------------------------

/// Floating-point numbers that are hard to print, and many at random.
fn floats() -> String {
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    let mut doubles: Vec<f64> = vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    doubles.extend([
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::EPSILON,
        5e-324,
        0.1,
        1e23,
        9007199254740993.0,
    ]);
    for exponent in -1074..=1023 {
        let power = 2f64.powi(exponent);
        doubles.extend([power, -power.next_up(), power.next_down()]);
    }
    for exponent in -320..=308 {
        let power: f64 = format!("1e{exponent}").parse().unwrap();
        doubles.extend([power, power.next_up(), power.next_down(), power * 3.0]);
    }
    // Neighbours of numbers with few digits, where borders have few digits, too.
    for shift in 0..80 {
        for _ in 0..150 {
            let mantissa = (1u64 << 52 | rng.random::<u64>() >> 12) & !(rng.random::<u64>() & 1);
            doubles.push(mantissa as f64 * 2f64.powi(shift));
            let few =
                (rng.random_range(1..100_000_000u64) as f64) * 10f64.powi(rng.random_range(8..16));
            doubles.extend([few, few.next_up(), few.next_down()]);
        }
    }
    for five in 0..23 {
        for two in 0..70 {
            let border = 5f64.powi(five) * 2f64.powi(two);
            doubles.extend([border, border.next_up(), border.next_down(), border * 3.0]);
        }
    }
    doubles.extend((0..20_000).map(|_| f64::from_bits(rng.random())));
    let mut singles: Vec<f32> = vec![
        0.0,
        -0.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.1,
        1e6,
        999_999.0,
        1e5,
    ];
    for exponent in -149..=127 {
        let power = 2f32.powi(exponent);
        singles.extend([power, -power.next_up(), power.next_down()]);
    }
    for shift in 0..60 {
        for _ in 0..100 {
            let mantissa = (1u32 << 23 | rng.random::<u32>() >> 9) & !(rng.random::<u32>() & 1);
            singles.push(mantissa as f32 * 2f32.powi(shift));
        }
    }
    singles.extend((0..40_000).map(|_| f32::from_bits(rng.random())));
    let mut script =
        String::from("CREATE TABLE v.t_float8 (v float8);\nCOPY v.t_float8 FROM stdin;\n");
    for value in doubles {
        script.push_str(&format!("{value:e}\n"));
    }
    script.push_str("\\.\nCREATE TABLE v.t_float4 (v float4);\nCOPY v.t_float4 FROM stdin;\n");
    for value in singles {
        script.push_str(&format!("{value:e}\n"));
    }
    script.push_str("\\.\n");
    // As Rust prints them, and as PostgreSQL reads them.
    script.replace("inf\n", "Infinity\n")
}

/// A database with values of every type.
fn values<'s>(server: &'s Server, name: &str) -> Database<'s> {
    let database = server.empty(name);
    database.psql(&["-f", &sql_file("values.sql")]);
    database.script(floats().as_bytes());
    database.sql("CREATE TABLE v.array_float8 AS SELECT array_agg(v) AS v FROM v.t_float8");
    database
}

/// The files of an exported directory by their tables.
fn data_files(directory: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let toc = std::fs::File::open(directory.join("toc.dat")).unwrap();
    let archive = Archive::read(toc).unwrap();
    let data = archive.entries.iter().filter(|e| e.desc == "TABLE DATA");
    data.map(|entry| {
        let rows = std::fs::read(directory.join(&archive.files[&entry.dump_id])).unwrap();
        (entry.tag.to_string(), (entry.copy_stmt.to_string(), rows))
    })
    .collect()
}

/// Where two files differ, if they do: the table, and what stands around the first difference.
fn difference(table: &str, ours: &[u8], theirs: &[u8]) -> Option<String> {
    if ours == theirs {
        return None;
    }
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let bytes = &bytes[at.saturating_sub(40).min(bytes.len())..(at + 40).min(bytes.len())];
        format!("{:?}", String::from_utf8_lossy(bytes))
    };
    Some(format!("{table}: {} | {}", around(ours), around(theirs)))
}

fn every_type(version: &'static str) {
    let Some(server) = Server::find(version) else {
        return;
    };
    let source = values(&server, &format!("xvalues_{version}"));
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let dir = tempfile::tempdir().unwrap();
    let (archive, csv) = (dir.path().join("archive"), dir.path().join("csv"));
    export_directory(&repo, &id, &archive, &[]);
    repo.local(&["export", &id, "-F", "csv", "-f", csv.to_str().unwrap()])
        .expect(0);
    let files = data_files(&archive);
    let tables = source.sql("SELECT relname FROM pg_class WHERE relnamespace = 'v'::regnamespace AND relkind = 'r' ORDER BY 1");
    assert!(tables.lines().count() > 80);
    let (mut csv_files, mut differences) = (0, Vec::new());
    for table in tables.lines() {
        let copy = |options: &str| {
            let copy = format!("{SETTINGS} COPY v.{} TO STDOUT{options};", quoted(table));
            source.script(copy.as_bytes())
        };
        let (_, ours) = &files[table];
        let mut theirs = copy("");
        theirs.extend_from_slice(b"\\.\n\n\n");
        differences.extend(difference(table, ours, &theirs));
        let ours = std::fs::read(csv.join(format!("v.{table}.csv"))).unwrap();
        let theirs = copy(" (FORMAT csv, HEADER)");
        differences.extend(difference(&format!("{table} as CSV"), &ours, &theirs));
        csv_files += 1;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(std::fs::read_dir(&csv).unwrap().count(), csv_files);
    for options in [&["-j2"][..], &[]] {
        let target = server.empty(&format!("xvalues_{version}_d"));
        pg_restore(&archive, &target, options);
        assert_equal(&source, &target);
    }
    let target = server.empty(&format!("xvalues_{version}_s"));
    through_sql(&repo, &id, &target, &[]);
    assert_equal(&source, &target);
}

#[test]
fn values_of_every_type_are_printed_as_15_prints_them() {
    every_type("15");
}

#[test]
fn values_of_every_type_are_printed_as_17_prints_them() {
    every_type("17");
}

#[test]
fn values_of_every_type_are_printed_as_18_prints_them() {
    every_type("18");
}

// What is odd ---------------------------------------------------------------------------------------------------------

#[test]
fn rows_and_names_in_another_encoding_keep_their_letters() {
    for version in ["15", "17", "18"] {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let options = "ENCODING 'LATIN1' LOCALE 'C'";
        let source = server.database(&format!("xlatin_{version}"), options);
        let utf8 = |database: &Database, sql: &str| {
            database.psql(&["-c", "SET client_encoding = 'UTF8'", "-c", sql])
        };
        utf8(
            &source,
            "CREATE TABLE \"täble\" (\"cölumn\" text, b bytea, a text[]); COMMENT ON TABLE \"täble\" IS 'käse';
             INSERT INTO \"täble\" VALUES ('grün', '\\xe9', '{ö,\"ä b\"}'), (E'tab\\t', NULL, NULL);
             CREATE TYPE mood AS ENUM ('fröhlich'); CREATE TABLE moods AS SELECT 'fröhlich'::mood AS m;
             SELECT lo_from_bytea(4711, 'x'); COMMENT ON LARGE OBJECT 4711 IS 'größe \\ ''7''';",
        );
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        export_directory(&repo, &id, &archive, &[]);
        let same = server.database(&format!("xlatin_{version}_d"), options);
        pg_restore(&archive, &same, &["-j2"]);
        assert_equal(&source, &same);
        let same = server.database(&format!("xlatin_{version}_s"), options);
        through_sql(&repo, &id, &same, &[]);
        assert_equal(&source, &same);
        // Into UTF-8 they are converted.
        let other = server.empty(&format!("xlatin_{version}_u"));
        through_sql(&repo, &id, &other, &[]);
        let said = "SELECT string_agg(\"cölumn\", ' ') || obj_description(4711, 'pg_largeobject') FROM \"täble\"";
        assert_eq!(utf8(&other, said), utf8(&source, said));
    }
}

#[test]
fn a_script_can_create_the_database() {
    let Some(server) = any_server() else { return };
    let source = server.empty("x create 'it\"s");
    source.sql("CREATE TABLE t (a integer); INSERT INTO t VALUES (1)");
    let alter = |what: &str| {
        let name = quoted(&source.name);
        server.psql(
            "postgres",
            &[
                "-c",
                &format!(
                    "{what} DATABASE {name} {}",
                    match what {
                        "ALTER" => "SET work_mem = '7MB'",
                        _ => "IS 'a database'",
                    }
                ),
            ],
        );
    };
    alter("ALTER");
    alter("COMMENT ON");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let expected = source.plain_schema();
    server.drop(&source.name);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    repo.local(&["export", &id, "--create", "-f", path])
        .expect(0);
    server.psql("postgres", &["-f", path]);
    assert_eq!(source.plain_schema(), expected);
    assert_eq!(
        source.sql("SELECT a, current_setting('work_mem') FROM t"),
        "1|7MB"
    );
}

#[test]
fn owners_privileges_and_tablespaces_can_be_left_out() {
    let Some(server) = any_server() else { return };
    let source = server.rich("xbare");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let bare = ["-O", "-x", "--no-tablespaces"];
    let mut arguments = vec!["export", &id];
    arguments.extend(bare);
    let script = repo.local(&arguments).expect(0).stdout;
    for word in ["OWNER TO", "GRANT ", "REVOKE ", "default_tablespace"] {
        let found = script
            .lines()
            .find(|line| line.starts_with(word) || line.contains(" OWNER TO "));
        assert_eq!(found, None, "{word}");
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    export_directory(&repo, &id, &archive, &bare);
    let (ours, theirs) = (server.empty("xbare_d"), server.empty("xbare_s"));
    pg_restore(&archive, &ours, &["-j2"]);
    through_sql(&repo, &id, &theirs, &bare);
    assert_equal(&ours, &theirs);
}

#[test]
fn a_table_that_is_left_out_is_not_there() {
    let Some(server) = any_server() else { return };
    let source = server.empty("xwithout");
    source.sql("CREATE TABLE stays AS SELECT 1 AS a; CREATE TABLE goes AS SELECT 2 AS a; CREATE VIEW goes_too AS SELECT a FROM goes");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let target = server.empty("xwithout_s");
    through_sql(&repo, &id, &target, &["--exclude-table", "goes"]);
    source.sql("DROP VIEW goes_too; DROP TABLE goes");
    assert_equal(&source, &target);
}

#[test]
fn a_row_of_many_megabytes_passes_through() {
    let Some(server) = any_server() else { return };
    let source = server.empty("xlarge");
    source.sql(
        "CREATE TABLE large (id integer, t text, b bytea, n text[]);
         ALTER TABLE large ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
         INSERT INTO large SELECT 1, repeat(E'a\\tb\\\\', 25000000), decode(repeat('00ff5c', 40000000), 'hex'), '{x,\"y z\"}';
         INSERT INTO large SELECT g, 'small', 'small', NULL FROM generate_series(2, 5) g",
    );
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script.sql");
    let done = repo
        .local(&["export", &id, "-f", file.to_str().unwrap()])
        .expect(0);
    assert!(std::fs::metadata(&file).unwrap().len() > 380_000_000);
    assert!(
        done.peak_bytes < 150 << 20,
        "{} bytes of memory",
        done.peak_bytes
    );
    let target = server.empty("xlarge_s");
    target.psql(&["-f", file.to_str().unwrap()]);
    assert_equal(&source, &target);
    let csv = dir.path().join("csv");
    repo.local(&["export", &id, "-F", "csv", "-f", csv.to_str().unwrap()])
        .expect(0);
    let path = csv.join("public.large.csv");
    target.psql(&[
        "-c",
        "TRUNCATE large",
        "-c",
        &format!(
            "\\copy large FROM '{}' (FORMAT csv, HEADER)",
            path.display()
        ),
    ]);
    assert_equal(&source, &target);
}

#[test]
fn tables_that_cannot_be_printed_are_named_or_go_in_binary() {
    let Some(server) = Server::find("15") else {
        return;
    };
    // A snapshot from before types were described.
    let repo = common::program::golden("format-1");
    let refused = repo.local(&["export", "latest"]).expect(1);
    assert_eq!(refused.stdout, "");
    refused.says(&[
        "app.by_mood_0.mood: app.mood",
        "--format directory",
        "snapshots of older versions",
    ]);
    repo.local(&["export", "latest", "-F", "csv", "-t", "by_mood_0"])
        .expect(1);
    let csv = repo.local(&["export", "latest", "-F", "csv", "-t", "replica_full"]);
    assert_eq!(csv.expect(0).stdout, "a\n");
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let path = archive.to_str().unwrap();
    let done = repo
        .local(&["export", "latest", "-F", "directory", "-f", path])
        .expect(0);
    done.says(&["app.by_mood_0 are written in binary"]);
    let (statement, rows) = &data_files(&archive)["by_mood_0"];
    assert!(
        statement.ends_with("FROM stdin WITH (FORMAT binary);\n"),
        "{statement}"
    );
    assert!(rows.starts_with(b"PGCOPY\n\xff\r\n\0") && rows.ends_with(b"\xff\xff"));
    // Roles that its objects name.
    let rich = server.rich("xbinary_roles");
    let target = server.empty("xbinary");
    pg_restore(&archive, &target, &["-j2"]);
    let restored = server.empty("xbinary_r");
    repo.restore("latest", &restored, &[]);
    drop(rich);
    assert_equal(&restored, &target);
}

#[test]
fn a_reader_that_goes_away_ends_the_export() {
    let Some(server) = any_server() else { return };
    let source = server.empty("xpipe");
    source.sql("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 100000) g");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let mut command = repo.local_command(&["export", &id]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("the export is not complete") && !stderr.contains("panic"),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_written_is_said() {
    let Some(server) = any_server() else { return };
    let source = server.empty("xrefuse");
    source.sql("CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE \"b/.c\" AS SELECT 2 AS x; CREATE TABLE p (x integer) PARTITION BY LIST (x)");
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let path = dir.path().to_str().unwrap();
    for format in ["directory", "csv"] {
        let done = repo
            .local(&["export", &id, "-F", format, "-f", path])
            .expect(1);
        done.says(&["not an empty directory", "hint:"]);
    }
    repo.local(&["export", &id, "-F", "directory"]).expect(2);
    repo.local(&["export", &id, "-F", "directory", "-f", path, "--create"])
        .expect(2);
    let csv = |arguments: &[&str]| {
        let mut all = vec!["export", id.as_str(), "-F", "csv"];
        all.extend(arguments);
        repo.local(&all)
    };
    csv(&[])
        .expect(1)
        .says(&["2 tables match", "public.a, public.b/.c", "hint:"]);
    csv(&["-t", "nothing"])
        .expect(1)
        .says(&["no table, view or sequence named \"nothing\"", "hint:"]);
    csv(&["-t", "p"]).expect(1).says(&["partitions"]);
    assert_eq!(csv(&["-t", "a"]).expect(0).stdout, "x\n1\n");
    assert_eq!(
        csv(&["--exclude-table", "public.a"]).expect(0).stdout,
        "x\n2\n"
    );
    let files = dir.path().join("csv");
    csv(&["-f", files.to_str().unwrap(), "-q"]).expect(0);
    assert_eq!(
        std::fs::read_to_string(files.join("public.b%2F%2Ec.csv")).unwrap(),
        "x\n2\n"
    );
}

// TimescaleDB ---------------------------------------------------------------------------------------------------------

#[test]
fn hypertables_leave_as_pg_dump_takes_them() {
    for version in ["17", "18"] {
        let Some(server) = Server::with_timescale(version) else {
            continue;
        };
        let source = server.empty(&format!("xts_{version}"));
        source.sql("CREATE EXTENSION timescaledb");
        source.sql(
            "CREATE TABLE m (t timestamptz NOT NULL, v float8); SELECT create_hypertable('m', 't', chunk_time_interval => interval '1 day');
             INSERT INTO m SELECT '2024-01-01 00:00:00+00'::timestamptz + g * interval '1 hour', g / 3.0 FROM generate_series(0, 200) g;
             CREATE INDEX ON m (v)",
        );
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        let path = archive.to_str().unwrap();
        repo.local(&["export", &id, "-F", "directory", "-f", path])
            .expect(0)
            .says(&["timescaledb_pre_restore()"]);
        let script = dir.path().join("script.sql");
        repo.local(&["export", &id, "-f", script.to_str().unwrap()])
            .expect(0);
        for kind in ["d", "s"] {
            let target = server.empty(&format!("xts_{version}_{kind}"));
            target.sql("CREATE EXTENSION timescaledb");
            target.sql("SELECT timescaledb_pre_restore()");
            match kind {
                "d" => pg_restore(&archive, &target, &[]),
                _ => drop(target.psql(&["-f", script.to_str().unwrap()])),
            }
            target.sql("SELECT timescaledb_post_restore()");
            target.sql("INSERT INTO m VALUES ('2025-01-01', 1)");
            source.sql(
                "DELETE FROM m WHERE t = '2025-01-01'; INSERT INTO m VALUES ('2025-01-01', 1)",
            );
            let said = "SELECT count(*), sum(v), (SELECT count(*) FROM show_chunks('m')) FROM m";
            assert_eq!(target.sql(said), source.sql(said), "{version} {kind}");
        }
    }
}
