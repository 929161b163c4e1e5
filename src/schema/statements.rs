//! The statements that restore an entry, as `pg_restore` would run them.

use crate::pg::archive::{Section, SqlText, TocEntry};

use super::globals::unquoted;
use super::ident::{push_ident, push_qualified};
use super::tokens::{Token, Tokens};

/// What to leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Owners: everything belongs to the role that restores.
    pub no_owner: bool,
    /// `GRANT` and `REVOKE`.
    pub no_privileges: bool,
    /// Tablespaces: everything goes to the database's own.
    pub no_tablespaces: bool,
    /// Comments of large objects; others are entries, and chosen or not.
    pub no_comments: bool,
    /// Security labels of large objects; others are entries, and chosen or not.
    pub no_security_labels: bool,
    /// Access methods of tables: all get the database's own.
    pub no_table_access_method: bool,
}

/// Kinds whose name in `ALTER ... OWNER TO` is their schema and tag.
const NAMED_BY_TAG: &[&str] = &[
    "COLLATION",
    "CONVERSION",
    "DATABASE",
    "DOMAIN",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "MATERIALIZED VIEW",
    "PROCEDURAL LANGUAGE",
    "PUBLICATION",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TYPE",
    "VIEW",
];

/// Kinds whose name needs arguments or an access method, which only the `DROP` statement has.
const NAMED_BY_DROP: &[&str] = &[
    "AGGREGATE",
    "FUNCTION",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURE",
];

/// Writes the statements of entries for one session of the target, and knows the defaults it has set there.
#[derive(Clone, Debug)]
pub struct Renderer {
    options: RenderOptions,
    /// The role that creates what it creates.
    role: Option<String>,
    tablespace: Option<SqlText>,
    tableam: Option<SqlText>,
}

impl Renderer {
    /// For a new session.
    pub fn new(options: RenderOptions) -> Self {
        Self {
            options,
            role: None,
            tablespace: None,
            tableam: None,
        }
    }

    /// For a session of a role: of tables that are its own anyway it needs not be said.
    pub fn of_role(options: RenderOptions, role: Option<&str>) -> Self {
        Self {
            role: role.map(str::to_owned),
            ..Self::new(options)
        }
    }

    /// To be called after a rollback: the session's defaults went back with everything else.
    pub fn forget(&mut self) {
        self.tablespace = None;
        self.tableam = None;
    }

    /// The statements that restore the entry, to be run in this order. One may hold several commands, which belong
    /// together. Nothing, where there is nothing to do.
    pub fn statements(&mut self, entry: &TocEntry) -> Vec<SqlText> {
        let mut out = Vec::new();
        if is_setting(entry) || (self.options.no_privileges && is_privilege(entry)) {
            return out;
        }
        self.select_defaults(entry, &mut out);
        if is_public(entry) && !is_comment(&entry.defn) {
            out.push(SqlText::from("CREATE SCHEMA IF NOT EXISTS public;"));
        } else if self.options.no_owner && entry.desc == "SCHEMA" && !is_comment(&entry.defn) {
            // The definition may say AUTHORIZATION.
            out.push(statement(b"CREATE SCHEMA ", |out| {
                push_ident(out, &entry.tag)
            }));
        } else if !is_comment(&entry.defn) {
            let elsewhere = self.options.no_tablespaces.then(|| database_place(entry));
            out.push(match elsewhere.flatten() {
                Some((statement, _)) => statement,
                None => entry.defn.clone(),
            });
        }
        let own = entry.desc == "TABLE" && self.role.as_deref() == entry.owner.to_str();
        if !self.options.no_owner && !own {
            out.extend(owner(entry));
        }
        // A partitioned table has no storage; its access method is only what its partitions take over.
        if let (Some('p'), Some(tableam)) = (entry.relkind, &entry.tableam)
            && !self.options.no_table_access_method
        {
            out.push(statement(b"ALTER TABLE ", |out| {
                push_qualified(out, entry.namespace.as_ref(), &entry.tag);
                out.extend_from_slice(b" SET ACCESS METHOD ");
                push_ident(out, tableam);
            }));
        }
        out
    }

    fn select_defaults(&mut self, entry: &TocEntry, out: &mut Vec<SqlText>) {
        if let Some(wanted) = &entry.tablespace
            && !self.options.no_tablespaces
            && self.tablespace.as_ref() != Some(wanted)
        {
            out.push(statement(b"SET default_tablespace = ", |out| {
                if wanted.is_empty() {
                    out.extend_from_slice(b"''");
                } else {
                    push_ident(out, wanted);
                }
            }));
            self.tablespace = Some(wanted.clone());
        }
        if let Some(wanted) = &entry.tableam
            && !self.options.no_table_access_method
            && entry.relkind != Some('p')
            && self.tableam.as_ref() != Some(wanted)
        {
            let set = b"SET default_table_access_method = ";
            out.push(statement(set, |out| push_ident(out, wanted)));
            self.tableam = Some(wanted.clone());
        }
    }
}

/// The statements that restore the entry in a session nothing is known of.
pub fn statements(entry: &TocEntry, options: RenderOptions) -> Vec<SqlText> {
    Renderer::new(options).statements(entry)
}

/// The settings that every session of a restore must start with, besides those that pgtide pins anyway: what the
/// statements of the archive rely on.
pub fn session_settings(entries: &[TocEntry]) -> Vec<(String, String)> {
    let mut settings = vec![
        ("search_path".to_string(), String::new()),
        ("check_function_bodies".to_string(), "off".to_string()),
        ("xmloption".to_string(), "content".to_string()),
        ("client_min_messages".to_string(), "warning".to_string()),
        ("row_security".to_string(), "off".to_string()),
    ];
    for (desc, name) in [
        ("ENCODING", "client_encoding"),
        ("STDSTRINGS", "standard_conforming_strings"),
    ] {
        let entry = entries.iter().find(|entry| entry.desc == desc);
        // SET client_encoding = 'UTF8';
        let value = entry.and_then(|entry| entry.defn.to_str()?.split('\'').nth(1));
        if let Some(value) = value {
            settings.push((name.to_string(), value.to_string()));
        }
    }
    settings
}

/// Whether the entry is one of the archive's settings, which describe the archive and make no object.
pub fn is_setting(entry: &TocEntry) -> bool {
    matches!(
        entry.desc.as_str(),
        "ENCODING" | "STDSTRINGS" | "SEARCHPATH"
    )
}

/// Whether the entry makes the schema `public`, as one of a dump of that schema alone does. Every database has it from its
/// beginning.
pub fn is_public(entry: &TocEntry) -> bool {
    entry.desc == "SCHEMA" && entry.tag.as_bytes() == b"public"
}

/// Whether the entry grants or revokes.
pub fn is_privilege(entry: &TocEntry) -> bool {
    matches!(entry.desc.as_str(), "ACL" | "DEFAULT ACL")
}

/// Whether the entry makes or describes the database as a whole, which is restored on demand only.
pub fn is_database(entry: &TocEntry) -> bool {
    match entry.desc.as_str() {
        "DATABASE" | "DATABASE PROPERTIES" => true,
        "ACL" | "COMMENT" | "SECURITY LABEL" => entry.tag.as_bytes().starts_with(b"DATABASE "),
        _ => false,
    }
}

/// Takes settings of the database out of its properties: those that must not be carried over.
pub fn forget_database_settings(entries: &mut [TocEntry], names: &[&str]) {
    let properties = entries
        .iter_mut()
        .filter(|e| e.desc == "DATABASE PROPERTIES");
    for entry in properties {
        let Some(statements) = entry.defn.to_str() else {
            continue;
        };
        // One statement a line, as pg_dump writes them.
        let kept: Vec<&str> = statements
            .lines()
            .filter(|line| !names.iter().any(|name| line.contains(name)))
            .collect();
        entry.defn = SqlText::from(kept.join("\n"));
    }
}

/// Whether the entry brings rows, sequence values or large objects, which are not taken from `pg_dump`.
pub fn is_data(entry: &TocEntry) -> bool {
    entry.section == Section::Data
        || matches!(
            entry.desc.as_str(),
            "BLOB" | "BLOB METADATA" | "BLOBS" | "BLOB COMMENTS"
        )
        || (matches!(entry.desc.as_str(), "ACL" | "COMMENT" | "SECURITY LABEL")
            && entry.tag.as_bytes().starts_with(b"LARGE OBJECT"))
}

/// `pg_dump` writes a comment where there is nothing to run, as for the schema `public`.
fn is_comment(defn: &SqlText) -> bool {
    let mut lines = defn
        .as_bytes()
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_start);
    lines.all(|line| line.is_empty() || line.starts_with(b"--"))
}

/// The statement that makes a database without the tablespace that it names, and that name.
pub fn database_place(entry: &TocEntry) -> Option<(SqlText, String)> {
    const KEY: &[u8] = b" TABLESPACE = ";
    if entry.desc != "DATABASE" {
        return None;
    }
    let text = entry.defn.as_bytes();
    let mut outside = unquoted(text).map(|(at, _)| at);
    // pg_dump writes it last.
    let key = outside.find(|at| text[*at..].starts_with(KEY))?;
    let end = unquoted(text)
        .find(|(at, byte)| *at > key && *byte == b';')?
        .0;
    let name = String::from_utf8_lossy(&text[key + KEY.len()..end]);
    let name = match Tokens::of(&name).next()? {
        Token::Word(name) | Token::Quoted(name) => name,
        Token::Mark(_) => return None,
    };
    Some(([&text[..key], &text[end..]].concat().into(), name))
}

/// Whether the object has an owner of its own: not one of what it belongs to.
pub fn has_owner(entry: &TocEntry) -> bool {
    let desc = entry.desc.as_str();
    let kind = NAMED_BY_TAG.contains(&desc) || NAMED_BY_DROP.contains(&desc);
    // What cannot be dropped by itself has none.
    kind && !entry.owner.is_empty() && !entry.drop_stmt.is_empty()
}

fn owner(entry: &TocEntry) -> Option<SqlText> {
    if !has_owner(entry) {
        return None;
    }
    let desc = entry.desc.as_str();
    if NAMED_BY_TAG.contains(&desc) {
        return Some(statement(b"ALTER ", |out| {
            out.extend_from_slice(desc.as_bytes());
            out.push(b' ');
            push_qualified(out, entry.namespace.as_ref(), &entry.tag);
            out.extend_from_slice(b" OWNER TO ");
            push_ident(out, &entry.owner);
        }));
    }
    if NAMED_BY_DROP.contains(&desc) {
        let name = entry.drop_stmt.as_bytes().strip_prefix(b"DROP ")?;
        let end = name
            .iter()
            .rposition(|byte| !matches!(byte, b'\n' | b';'))?
            + 1;
        return Some(statement(b"ALTER ", |out| {
            out.extend_from_slice(&name[..end]);
            out.extend_from_slice(b" OWNER TO ");
            push_ident(out, &entry.owner);
        }));
    }
    None
}

fn statement(start: &[u8], rest: impl FnOnce(&mut Vec<u8>)) -> SqlText {
    let mut out = start.to_vec();
    rest(&mut out);
    out.push(b';');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(
        desc: &str,
        namespace: Option<&str>,
        tag: &str,
        defn: &str,
        drop_stmt: &str,
    ) -> TocEntry {
        TocEntry {
            dump_id: 1,
            oid: 0,
            tag: tag.into(),
            desc: desc.into(),
            section: Section::PreData,
            defn: defn.into(),
            drop_stmt: drop_stmt.into(),
            copy_stmt: SqlText::default(),
            namespace: namespace.map(SqlText::from),
            owner: "Me".into(),
            ..TocEntry::default()
        }
    }

    fn render(entry: &TocEntry, options: RenderOptions) -> Vec<String> {
        statements(entry, options)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_table_with_everything() {
        let mut table = entry(
            "TABLE",
            Some("S"),
            "t",
            "CREATE TABLE \"S\".t ();",
            "DROP TABLE \"S\".t;",
        );
        table.tablespace = Some("fast".into());
        table.tableam = Some("heap".into());
        let expected = [
            "SET default_tablespace = fast;",
            "SET default_table_access_method = heap;",
            "CREATE TABLE \"S\".t ();",
            "ALTER TABLE \"S\".t OWNER TO \"Me\";",
        ];
        assert_eq!(render(&table, RenderOptions::default()), expected);
        let bare = RenderOptions {
            no_owner: true,
            no_tablespaces: true,
            ..Default::default()
        };
        assert_eq!(render(&table, bare), expected[1..3]);
        table.relkind = Some('p');
        let partitioned = render(&table, RenderOptions::default());
        assert_eq!(partitioned[1], expected[2]);
        assert_eq!(
            partitioned[3],
            "ALTER TABLE \"S\".t SET ACCESS METHOD heap;"
        );
    }

    #[test]
    fn a_table_of_the_role_that_creates_it_needs_no_owner() {
        let drop = "DROP TABLE t;";
        let table = entry("TABLE", None, "t", "CREATE TABLE t ();", drop);
        let view = entry(
            "VIEW",
            None,
            "v",
            "CREATE VIEW v AS SELECT;",
            "DROP VIEW v;",
        );
        let count = |role, entry: &TocEntry| {
            let mut renderer = Renderer::of_role(RenderOptions::default(), Some(role));
            renderer.statements(entry).len()
        };
        assert_eq!((count("Me", &table), count("other", &table)), (1, 2));
        assert_eq!(count("Me", &view), 2);
    }

    #[test]
    fn a_session_is_told_once_until_it_forgets() {
        let mut table = entry("TABLE", None, "t", "CREATE TABLE t ();", "");
        table.tablespace = Some("".into());
        let mut renderer = Renderer::new(RenderOptions::default());
        assert_eq!(
            renderer.statements(&table)[0],
            "SET default_tablespace = '';"
        );
        assert_eq!(renderer.statements(&table).len(), 1);
        renderer.forget();
        assert_eq!(renderer.statements(&table).len(), 2);
    }

    #[test]
    fn names_with_arguments_come_from_the_drop_statement() {
        let function = entry(
            "FUNCTION",
            Some("s"),
            "f(integer)",
            "CREATE ...;",
            "DROP FUNCTION s.f(a integer);\n",
        );
        assert_eq!(
            render(&function, RenderOptions::default())[1],
            "ALTER FUNCTION s.f(a integer) OWNER TO \"Me\";"
        );
        let cast = entry(
            "CAST",
            None,
            "CAST (a AS b)",
            "CREATE CAST ...;",
            "DROP CAST (a AS b);\n",
        );
        assert_eq!(
            render(&cast, RenderOptions::default()),
            ["CREATE CAST ...;"]
        );
    }

    #[test]
    fn schemas_privileges_and_comments() {
        let no_owner = RenderOptions {
            no_owner: true,
            ..Default::default()
        };
        let schema = entry(
            "SCHEMA",
            None,
            "a b",
            "CREATE SCHEMA \"a b\" AUTHORIZATION x;",
            "DROP SCHEMA \"a b\";",
        );
        assert_eq!(render(&schema, no_owner), ["CREATE SCHEMA \"a b\";"]);
        let public = entry(
            "SCHEMA",
            None,
            "public",
            "-- *not* creating schema\n",
            "-- *not* dropping\n",
        );
        assert!(render(&public, no_owner).is_empty());
        assert_eq!(
            render(&public, RenderOptions::default()),
            ["ALTER SCHEMA public OWNER TO \"Me\";"]
        );
        let acl = entry("ACL", None, "TABLE t", "GRANT ...;", "");
        assert_eq!(render(&acl, RenderOptions::default()), ["GRANT ...;"]);
        let no_privileges = RenderOptions {
            no_privileges: true,
            ..Default::default()
        };
        assert!(render(&acl, no_privileges).is_empty());
    }

    #[test]
    fn a_database_goes_to_its_tablespace_unless_it_is_not_to() {
        let defn = "CREATE DATABASE \" TABLESPACE = x;\" WITH TEMPLATE = template0 TABLESPACE = \"a;\"\"b\";\n";
        let database = entry("DATABASE", None, "x", defn, "");
        let (statement, name) = database_place(&database).unwrap();
        assert_eq!(name, "a;\"b");
        assert_eq!(
            statement,
            "CREATE DATABASE \" TABLESPACE = x;\" WITH TEMPLATE = template0;\n"
        );
        let options = RenderOptions {
            no_tablespaces: true,
            ..Default::default()
        };
        assert_eq!(render(&database, options), [statement.to_string()]);
        assert_eq!(render(&database, RenderOptions::default()), [defn]);
        let plain = entry("DATABASE", None, "x", "CREATE DATABASE x;", "");
        assert_eq!(database_place(&plain), None);
    }

    #[test]
    fn settings_are_no_statements() {
        let encoding = entry(
            "ENCODING",
            None,
            "ENCODING",
            "SET client_encoding = 'LATIN1';\n",
            "",
        );
        assert!(render(&encoding, RenderOptions::default()).is_empty());
        let settings = session_settings(&[encoding]);
        assert!(settings.contains(&("client_encoding".into(), "LATIN1".into())));
    }

    #[test]
    fn settings_that_must_not_be_carried_over_are_forgotten_and_others_are_not() {
        let mut entries = [entry(
            "DATABASE PROPERTIES",
            None,
            "d",
            "ALTER DATABASE d SET \"timescaledb.restoring\" TO 'on';\nALTER DATABASE d SET work_mem TO '7MB';\n",
            "",
        )];
        forget_database_settings(&mut entries, &["timescaledb.restoring"]);
        assert_eq!(
            entries[0].defn.to_lossy(),
            "ALTER DATABASE d SET work_mem TO '7MB';"
        );
    }
}
