//! Databases in any encoding and locale come back, in another where that is possible; where it is not, that is said.

mod common;

use common::equal::round_trip;
use common::program::Repo;
use common::stock::plain;
use common::testbed::{Database, Server, quoted};

const VERSIONS: [&str; 3] = ["15", "17", "18"];

/// Objects of most kinds, rows and a large object; `NAME` stands for text in the encoding that is to be tried.
const SCRIPT: &str = r#"
    CREATE SCHEMA "NAME s"; CREATE TABLE "NAME s"."NAME t" ("NAME c" text PRIMARY KEY DEFAULT 'NAME', a text[]);
    INSERT INTO "NAME s"."NAME t" SELECT 'NAME' || g, ARRAY['NAME', NULL, 'x'] FROM generate_series(1, 100) g;
    COMMENT ON TABLE "NAME s"."NAME t" IS 'NAME'; CREATE SEQUENCE "NAME q"; SELECT nextval('"NAME q"');
    CREATE TABLE as_text (r regclass, t text); INSERT INTO as_text VALUES ('"NAME s"."NAME t"', 'NAME');
    CREATE TYPE mood AS ENUM ('NAME', 'x'); CREATE TABLE moods AS SELECT 'NAME'::mood AS m;
    CREATE MATERIALIZED VIEW "NAME m" AS SELECT * FROM "NAME s"."NAME t";
    CREATE DOMAIN "NAME d" AS text CONSTRAINT "NAME" CHECK (VALUE <> 'NAME');
    CREATE FUNCTION "NAME f"("NAME" text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'NAME'; END $$;
    COMMENT ON FUNCTION "NAME f"(text) IS 'NAME';
    CREATE VIEW "NAME v" AS SELECT 'NAME'::text AS "NAME" WHERE 'NAME' <> 'x';
    CREATE INDEX "NAME i" ON "NAME s"."NAME t" (("NAME c" || 'NAME')) WHERE "NAME c" <> 'NAME';
    CREATE TABLE "NAME p" ("NAME" text) PARTITION BY LIST ("NAME");
    CREATE TABLE "NAME p1" PARTITION OF "NAME p" FOR VALUES IN ('NAME'); INSERT INTO "NAME p" VALUES ('NAME');
    CREATE RULE "NAME r" AS ON DELETE TO "NAME s"."NAME t" DO INSTEAD NOTHING;
    CREATE POLICY "NAME" ON "NAME s"."NAME t" USING ("NAME c" <> 'NAME');
    CREATE FOREIGN DATA WRAPPER "NAME" OPTIONS ("NAME" 'NAME'); CREATE PUBLICATION "NAME";
    SELECT lo_from_bytea(5, 'NAME'); COMMENT ON LARGE OBJECT 5 IS 'NAME';
"#;

/// The server that is there, the newest first.
fn any_server() -> Option<Server> {
    ["17", "18", "15"].into_iter().find_map(Server::find)
}

fn in_encoding<'a>(server: &'a Server, name: &str, encoding: &str) -> Database<'a> {
    server.database(name, &format!("ENCODING '{encoding}' LOCALE 'C'"))
}

/// Fills a database by the script, with this text in it, which psql gives in the encoding `client`.
fn fill(database: &Database, client: &str, name: &str) {
    let script = SCRIPT.replace("NAME", name);
    let script = format!("SET client_encoding = '{client}';\n{script}");
    database.script(script.as_bytes());
}

#[test]
fn databases_in_other_encodings_come_back() {
    for version in VERSIONS {
        let Some(server) = Server::find(version) else {
            continue;
        };
        for (encoding, client, name) in [
            ("LATIN1", "UTF8", "Straße é ÿ"),
            ("EUC_JP", "UTF8", "日本語 カナ"),
            ("SQL_ASCII", "SQL_ASCII", "Straße 日本"),
        ] {
            let source = in_encoding(&server, &format!("{encoding}_{version}"), encoding);
            fill(&source, client, name);
            let target = in_encoding(&server, &format!("{encoding}_{version}_r"), encoding);
            round_trip(&source, &target);
        }
    }
}

#[test]
fn what_two_encodings_have_comes_back_in_the_other() {
    let Some(server) = any_server() else { return };
    for (from, to, client, name) in [
        ("LATIN1", "UTF8", "UTF8", "Straße é ÿ"),
        ("EUC_JP", "UTF8", "UTF8", "日本語 カナ"),
        ("UTF8", "LATIN1", "UTF8", "Straße é ÿ"),
        ("UTF8", "EUC_JP", "UTF8", "日本語 カナ"),
        ("SQL_ASCII", "UTF8", "SQL_ASCII", "Straße 日本"),
    ] {
        let source = in_encoding(&server, &format!("from_{from}_{to}"), from);
        fill(&source, client, name);
        let target = in_encoding(&server, &format!("to_{to}_{from}"), to);
        let repo = Repo::new();
        let id = repo.dump(&source, &[]);
        repo.restore(&id, &target, &[]);
        // What is in SQL_ASCII is in no other encoding.
        let client = if from == "SQL_ASCII" { from } else { "UTF8" };
        for database in [&source, &target] {
            database.sql(&format!(
                "ALTER DATABASE {} SET client_encoding = '{client}'",
                quoted(&database.name)
            ));
        }
        let lines = |database: &Database| {
            let text = plain(database, &server);
            let lines = text
                .lines()
                .filter(|line| !line.starts_with("SET client_encoding"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&source), lines(&target), "{from} {to}");
    }
}

#[test]
fn what_the_target_has_no_characters_for_is_refused_with_its_name() {
    let Some(server) = any_server() else { return };
    let script = |database: &Database, sql: &[u8]| {
        database.script(sql);
    };
    let utf8 = server.empty("no_room_u");
    script(
        &utf8,
        "SET client_encoding = 'UTF8'; CREATE TABLE fits AS SELECT 'é'::text AS t; CREATE TABLE does_not AS SELECT '日本'::text AS t".as_bytes(),
    );
    let named = server.empty("no_room_n");
    script(
        &named,
        "SET client_encoding = 'UTF8'; CREATE TABLE \"日本\" ()".as_bytes(),
    );
    let bytes = in_encoding(&server, "no_room_b", "SQL_ASCII");
    script(
        &bytes,
        b"SET client_encoding = 'SQL_ASCII'; CREATE TABLE fits AS SELECT 'x'::text AS t; CREATE TABLE does_not AS SELECT 'caf\xe9'::text AS t",
    );
    for (source, encoding, says) in [
        (
            &utf8,
            "LATIN1",
            ["rows of public.does_not", "has no equivalent in encoding"],
        ),
        (
            &named,
            "LATIN1",
            ["TABLE public.日本", "has no equivalent in encoding"],
        ),
        (
            &bytes,
            "UTF8",
            [
                "rows of public.does_not",
                "invalid byte sequence for encoding",
            ],
        ),
        // These are known beforehand.
        (
            &utf8,
            "SQL_ASCII",
            [
                "nothing was restored",
                "has the encoding SQL_ASCII, the snapshot UTF8",
            ],
        ),
    ] {
        let repo = Repo::new();
        let id = repo.dump(source, &[]);
        let target = in_encoding(&server, &format!("no_room_{encoding}_r"), encoding);
        let done = repo.try_restore(&id, &target, &[]).expect(1);
        done.says(&says).says(&["hint: "]);
    }
    let japanese = in_encoding(&server, "no_room_j", "EUC_JP");
    let repo = Repo::new();
    let id = repo.dump(&japanese, &[]);
    let target = in_encoding(&server, "no_room_j_r", "LATIN1");
    let done = repo.try_restore(&id, &target, &[]).expect(1);
    done.says(&[
        "nothing was restored",
        "LATIN1",
        "EUC_JP",
        "hint: create the target database with ENCODING 'EUC_JP'",
    ]);
}

#[test]
fn bytes_that_are_no_text_come_back_from_sql_ascii() {
    let Some(server) = any_server() else { return };
    let source = in_encoding(&server, "bytes", "SQL_ASCII");
    let mut sql = b"SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (a text, b name, c char(4)); INSERT INTO t VALUES ('caf\xe9 \xff\xfe', '\xe9', '\xe9');".to_vec();
    let script = SCRIPT.replace("'NAME'", "'@'").replace("NAME", "name");
    for (n, part) in script.split('@').enumerate() {
        if n > 0 {
            sql.extend_from_slice(b"caf\xe9");
        }
        sql.extend_from_slice(part.as_bytes());
    }
    source.script(&sql);
    round_trip(&source, &in_encoding(&server, "bytes_r", "SQL_ASCII"));

    // A name that is no text is refused.
    source.script(b"SET client_encoding = 'SQL_ASCII'; CREATE TABLE \"na\xe9me\" (\"caf\xe9\" integer, \"caf\xc3\xa9\" integer);");
    let done = Repo::new().try_dump(&source, &[]).expect(1);
    let done = done.says(&[r"caf\xe9, na\xe9me", "hint: rename them"]);
    assert!(!done.stderr.contains(r"\xc3"), "{}", done.stderr);
}

/// The locale of a database, in the words of any version.
fn locale(database: &Database) -> String {
    database.sql(
        "SELECT concat_ws(' ', encoding, datlocprovider, datcollate, datctype,
           coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), to_jsonb(d) ->> 'daticurules')
         FROM pg_database d WHERE datname = current_database()",
    )
}

#[test]
fn a_database_is_created_with_its_provider_and_locale() {
    for version in VERSIONS {
        let Some(server) = Server::find(version) else {
            continue;
        };
        let mut locales = vec![
            "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C.UTF-8'",
            "ENCODING 'LATIN1' LOCALE 'C'",
            "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
        ];
        if server.major() >= 17 {
            locales.push(
                "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
            );
            locales.push("ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&a < g' LOCALE 'C'");
        }
        for (n, options) in locales.into_iter().enumerate() {
            let source = server.database(&format!("locale_{version}_{n}"), options);
            source.sql("CREATE TABLE t AS SELECT chr(g) AS t FROM generate_series(65, 90) g");
            let before = locale(&source);
            let repo = Repo::new();
            let id = repo.dump(&source, &[]);
            server.drop(&source.name);
            let create = ["restore", &id, "--create", "-d", "postgres"];
            let done = repo.run(&server, &create).expect(0);
            assert!(!done.stderr.contains("sort"), "{}", done.stderr);
            assert_eq!(locale(&source), before, "{options}");
            assert_eq!(source.sql("SELECT count(*) FROM t"), "26");

            // A database with another locale will do, and that is said.
            let other = server.database(
                &format!("locale_{version}_o"),
                "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'sv' LOCALE 'C'",
            );
            let done = repo.restore(&id, &other, &[]);
            done.says(&["sv of ICU", "text may sort in another order"]);
        }
    }
}

#[test]
fn a_locale_that_an_older_server_cannot_have_is_refused() {
    let (Some(old), Some(new)) = (Server::find("15"), Server::find("17")) else {
        return;
    };
    let options = "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'";
    let source = new.database("builtin", options);
    let repo = Repo::new();
    let id = repo.dump(&source, &[]);
    let create = ["restore", &id, "--create", "-d", "postgres"];
    let done = repo.run(&old, &create).expect(1);
    done.says(&["nothing was restored", "C.UTF-8 of the server's own"]);
}
