//! What a restore needs and what is in its way, found before anything is touched and listed together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::pg::archive::{Section, TocEntry};
use crate::pg::catalog::{self, quote_literal};
use crate::pg::{Connection, Error};
use crate::repo::model::Source;
use crate::schema::statements::{self, RenderOptions};
use crate::schema::tokens::{Token, Tokens};

use super::Opened;
use super::chosen::Chosen;
use super::large_objects::Needs;
use super::older;

/// The version that brought locales of the server's own.
const BUILTIN_SINCE: i32 = 170_000;
/// A server with ICU has collations of it from the beginning.
const ICU: &str = "SELECT collname FROM pg_catalog.pg_collation WHERE collprovider = 'i' LIMIT 1";

/// Names shown of each kind of problem.
const SHOWN: usize = 20;

/// Everything that stands against a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// Owners, grantees and the like that the target does not have.
    pub roles: Vec<String>,
    /// Tablespaces that the target does not have.
    pub tablespaces: Vec<String>,
    /// Extensions that cannot be installed at the target.
    pub extensions: Vec<String>,
    /// Entries with statements that the target, an older server than the source, does not understand.
    pub not_understood: Vec<String>,
    /// Locales of the database to create that the target does not know.
    pub locales: Vec<String>,
    /// Schemas that are not restored, but objects in them are, and that the target does not have.
    pub schemas: Vec<String>,
    /// Tables, columns and sequences that are to be filled and do not exist at the target.
    pub missing: Vec<String>,
    /// Objects that are to be restored and exist already.
    pub existing: Vec<String>,
    /// Anything else, with its hint.
    pub others: Vec<String>,
    /// The restore is part of a clone, which has other options.
    pub of_clone: bool,
}

impl Problems {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds those of one database of several.
    pub fn add(&mut self, database: &str, more: Problems) {
        let named = |name: String| format!("{name} (database {database})");
        self.roles.extend(more.roles.into_iter().map(named));
        self.tablespaces
            .extend(more.tablespaces.into_iter().map(named));
        self.extensions
            .extend(more.extensions.into_iter().map(named));
        self.locales.extend(more.locales.into_iter().map(named));
        self.existing.extend(more.existing.into_iter().map(named));
        for other in more.others {
            if !self.others.contains(&other) {
                self.others.push(other);
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = |title: &str, names: &[String], hint: &str| -> fmt::Result {
            if names.is_empty() {
                return Ok(());
            }
            writeln!(f, "{title}:")?;
            for name in names.iter().take(SHOWN) {
                writeln!(f, "  {name}")?;
            }
            if names.len() > SHOWN {
                writeln!(f, "  and {} more", names.len() - SHOWN)?;
            }
            writeln!(f, "hint: {hint}")
        };
        section(
            "roles that the target does not have",
            &self.roles,
            "create them there; owners and privileges can be left out with --no-owner --no-privileges",
        )?;
        section(
            "tablespaces that the target does not have",
            &self.tablespaces,
            "create them there, or put everything into the default one with --no-tablespaces",
        )?;
        section(
            "extensions that the target's server cannot install",
            &self.extensions,
            "install their packages on the target's server",
        )?;
        section(
            "entries that the target's server does not understand, as it is older than the source's",
            &self.not_understood,
            "restore into the source's version of PostgreSQL or a later one, or leave these objects out",
        )?;
        section(
            "locales of the database that the target's server does not know",
            &self.locales,
            "install them there and run SELECT pg_import_system_collations('pg_catalog'), or create the database yourself with another locale and restore without --create",
        )?;
        section(
            "schemas that the target does not have",
            &self.schemas,
            "create them there; --schema and --table take objects of a schema without the schema itself",
        )?;
        section(
            "not at the target, where rows and values are to go",
            &self.missing,
            "restore their definitions too, or leave out their rows; pgtide list shows what is picked",
        )?;
        section(
            "objects that exist already at the target",
            &self.existing,
            if self.of_clone {
                "clone into an empty database, or drop first what is cloned with --drop-existing"
            } else {
                "restore into an empty database (--create makes one), or drop what is restored first with --clean"
            },
        )?;
        for other in &self.others {
            writeln!(f, "{other}")?;
        }
        Ok(())
    }
}

/// What the entries are checked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What is left out of statements: owners, privileges, tablespaces.
    pub render: RenderOptions,
    /// The database is created, with its locale.
    pub database: bool,
    /// Existing objects are a problem.
    pub existing: bool,
}

/// Looks at the server and, unless the database is still to be created, at the database.
pub fn check(
    conn: &mut Connection,
    source: &Source,
    entries: &[&TocEntry],
    objects: &Needs,
    wanted: Wanted,
) -> Result<Problems, Error> {
    let mut problems = Problems::default();
    let known = names(conn, "SELECT rolname FROM pg_catalog.pg_roles")?;
    let mut needed = roles(entries, wanted);
    needed.extend(
        objects
            .owners
            .iter()
            .filter(|_| !wanted.render.no_owner)
            .cloned(),
    );
    needed.extend(
        objects
            .roles
            .iter()
            .filter(|_| !wanted.render.no_privileges)
            .cloned(),
    );
    problems.roles = needed
        .into_iter()
        .filter(|role| !known.contains(role))
        .collect();
    if !wanted.render.no_tablespaces {
        let known = names(conn, "SELECT spcname FROM pg_catalog.pg_tablespace")?;
        problems.tablespaces = entries
            .iter()
            .filter_map(|e| match &e.tablespace {
                Some(name) => Some(name.to_lossy().into_owned()),
                None => statements::database_place(e).map(|(_, name)| name),
            })
            .filter(|t| !t.is_empty() && !known.contains(t))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
    }
    let known = names(conn, "SELECT name FROM pg_catalog.pg_available_extensions")?;
    problems.extensions = entries
        .iter()
        .filter(|e| e.desc == "EXTENSION")
        .map(|e| e.tag.to_lossy().into_owned())
        .filter(|name| !known.contains(name))
        .map(|name| {
            let version = source.extensions.iter().find(|e| e.name == name);
            version.map_or(name.clone(), |e| format!("{name} {}", e.version))
        })
        .collect();
    if wanted.database {
        problems.locales = locales(conn, source)?;
    }
    if conn.server_version() / 10_000 < source.server_version_num / 10_000 {
        problems.not_understood = older::not_understood(conn, entries, wanted.render)?;
    }
    if wanted.existing {
        problems.existing = existing(conn, entries)?;
        problems.existing.extend(objects.existing.clone());
    }
    if !wanted.database {
        problems.others.extend(encodings(conn, source)?);
    }
    Ok(problems)
}

/// Why the target database cannot take text in the source's encoding, if it cannot.
fn encodings(conn: &mut Connection, source: &Source) -> Result<Option<String>, Error> {
    let target = conn.parameter("server_encoding").unwrap_or_default();
    let target = target.to_owned();
    if target == source.encoding {
        return Ok(None);
    }
    // Without a conversion the server takes bytes from SQL_ASCII as they are, if they are valid text.
    let possible = source.encoding == "SQL_ASCII"
        || !names(
            conn,
            &format!(
                "SELECT conname FROM pg_catalog.pg_conversion WHERE condefault
                   AND conforencoding = pg_catalog.pg_char_to_encoding({})
                   AND contoencoding = pg_catalog.pg_char_to_encoding({})",
                quote_literal(&source.encoding),
                quote_literal(&target)
            ),
        )?
        .is_empty();
    Ok((!possible).then(|| {
        format!(
            "the target database has the encoding {target}, the snapshot {}, and the server does not convert one into the other\nhint: create the target database with ENCODING '{}' TEMPLATE template0, or use --create",
            source.encoding, source.encoding
        )
    }))
}

/// What is different about the order of text in the target database, for people.
pub fn locale_notes(conn: &mut Connection, source: &Source) -> Result<Vec<String>, Error> {
    let target = catalog::database_facts(conn)?;
    let mut notes = Vec::new();
    let of = |collate: &str, ctype: &str, provider: &str, locale: Option<&str>| {
        let name = match locale {
            Some(locale) => locale.to_owned(),
            None if collate == ctype => collate.to_owned(),
            None => format!("{collate} and {ctype}"),
        };
        let provider = match provider {
            "i" => " of ICU",
            "b" => " of the server's own",
            _ => "",
        };
        format!("{name}{provider}")
    };
    let here = of(
        &target.collate,
        &target.ctype,
        &target.locale_provider,
        target.locale.as_deref(),
    );
    let there = of(
        &source.collate,
        &source.ctype,
        &source.locale_provider,
        source.locale.as_deref(),
    );
    // Snapshots of older versions of pgtide do not know the locale of other providers than the C library.
    let known = source.locale_provider == "c" || source.locale.is_some();
    if known && here != there {
        notes.push(format!(
            "the target database has the locale {here}, the source {there}: text may sort in another order"
        ));
    } else if let (Some(here), Some(there)) = (&target.collation_version, &source.collation_version)
        && here != there
    {
        notes.push(format!(
            "the locale has version {here} at the target and {there} at the source: text may sort in another order"
        ));
    }
    Ok(notes)
}

/// Schemas that objects are restored into, which neither this restore creates nor the target has. An extension may
/// bring schemas of its own.
pub fn schemas(
    opened: &Opened,
    chosen: &Chosen,
    conn: &mut Connection,
) -> Result<Vec<String>, Error> {
    let entries = || opened.entries.iter().enumerate();
    let is_schema = |e: &TocEntry| e.desc == "SCHEMA";
    let mut named: BTreeSet<String> = entries()
        .filter(|(n, e)| chosen.entries[*n] && e.section != Section::None)
        .filter_map(|(_, e)| e.namespace.as_ref())
        .filter(|schema| !schema.is_empty())
        .map(|schema| schema.to_lossy().into_owned())
        .collect();
    let defined: HashMap<String, usize> = entries()
        .filter(|(_, e)| is_schema(e))
        .map(|(n, e)| (e.tag.to_lossy().into_owned(), n))
        .collect();
    named.retain(|schema| match defined.get(schema) {
        Some(&n) => !chosen.entries[n],
        None => !chosen.creates_extensions(),
    });
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let known = names(conn, "SELECT nspname FROM pg_catalog.pg_namespace")?;
    Ok(named.into_iter().filter(|s| !known.contains(s)).collect())
}

/// The names that a query gives.
pub fn names(conn: &mut Connection, sql: &str) -> Result<BTreeSet<String>, Error> {
    let rows = conn.query(sql)?;
    Ok(rows
        .iter()
        .filter_map(|row| row.get(0).map(str::to_owned))
        .collect())
}

/// Locales of the source's database that no collation and no database of the target has.
fn locales(conn: &mut Connection, source: &Source) -> Result<Vec<String>, Error> {
    // The operating system takes a name with its encoding in several spellings: en_US.UTF-8, en_US.utf8.
    let spelling = |name: &str| name.to_lowercase().replace('-', "");
    let known: BTreeSet<String> = names(
        conn,
        "SELECT collcollate FROM pg_catalog.pg_collation WHERE collprovider = 'c'
         UNION SELECT datcollate FROM pg_catalog.pg_database UNION SELECT datctype FROM pg_catalog.pg_database
         UNION VALUES ('C'), ('POSIX')",
    )?
    .iter()
    .map(|name| spelling(name))
    .collect();
    let provider = |what: &str| {
        vec![format!(
            "{} of {what}",
            source.locale.as_deref().unwrap_or("one")
        )]
    };
    match source.locale_provider.as_str() {
        "b" if conn.server_version() < BUILTIN_SINCE => {
            return Ok(provider(
                "the server's own, which PostgreSQL 17 was the first to have",
            ));
        }
        "i" if names(conn, ICU)?.is_empty() => {
            return Ok(provider("ICU, without which the server was built"));
        }
        _ => {}
    }
    let mut missing: Vec<String> = [&source.collate, &source.ctype]
        .into_iter()
        .filter(|name| !name.is_empty() && !known.contains(&spelling(name)))
        .cloned()
        .collect();
    missing.dedup();
    Ok(missing)
}

/// Objects of the entries that exist, of the kinds that a database is made of; others are left to the server's own
/// error.
fn existing(conn: &mut Connection, entries: &[&TocEntry]) -> Result<Vec<String>, Error> {
    let rows = conn.query(
        "SELECT 'relation', n.nspname, c.relname FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind <> 'c'
         UNION ALL
         SELECT 'type', n.nspname, t.typname FROM pg_catalog.pg_type t
           JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
           LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid WHERE c.oid IS NULL OR c.relkind = 'c'
         UNION ALL
         SELECT 'function', n.nspname, p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')'
           FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         UNION ALL
         SELECT 'schema', '', n.nspname FROM pg_catalog.pg_namespace n",
    )?;
    let known: HashSet<(&str, &str, &str)> = rows
        .iter()
        .map(|row| {
            let field = |n| row.get(n).unwrap_or_default();
            (field(0), field(1), field(2))
        })
        .collect();
    let mut found = Vec::new();
    for entry in entries {
        let kind = match entry.desc.as_str() {
            "TABLE" | "FOREIGN TABLE" | "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "INDEX" => {
                "relation"
            }
            "TYPE" | "SHELL TYPE" | "DOMAIN" => "type",
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => "function",
            // The schema public is there from the beginning.
            "SCHEMA" if !statements::is_public(entry) => "schema",
            _ => continue,
        };
        let schema = entry.namespace.as_ref().map(|n| n.to_lossy());
        // An aggregate of all rows has a star for its arguments.
        let name = entry.tag.to_lossy().replace("(*)", "()");
        if known.contains(&(kind, schema.as_deref().unwrap_or_default(), name.as_str())) {
            found.push(super::entry_name(entry));
        }
    }
    // A type in two steps is two entries.
    found.dedup();
    Ok(found)
}

/// Roles that the entries name.
fn roles(entries: &[&TocEntry], wanted: Wanted) -> BTreeSet<String> {
    let mut roles = BTreeSet::new();
    for entry in entries {
        if !wanted.render.no_owner && !entry.owner.is_empty() {
            roles.insert(entry.owner.to_lossy().into_owned());
        }
        let text = entry.defn.to_lossy();
        let named = match entry.desc.as_str() {
            "ACL" | "DEFAULT ACL" if !wanted.render.no_privileges => grantees(&text),
            "USER MAPPING" => after_keyword(&text, "FOR"),
            "POLICY" => after_keyword(&text, "TO"),
            _ => continue,
        };
        roles.extend(named);
    }
    roles
}

/// Roles after TO and FROM in GRANT and REVOKE, and after FOR ROLE.
fn grantees(text: &str) -> Vec<String> {
    let mut roles = after_keyword(text, "TO");
    roles.extend(after_keyword(text, "FROM"));
    roles.extend(after_keyword(text, "ROLE"));
    roles
}

/// The comma-separated names after each occurrence of a keyword outside quotes and parentheses.
fn after_keyword(text: &str, keyword: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut tokens = Tokens::of(text).peekable();
    let mut depth = 0;
    while let Some(token) = tokens.next() {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') => depth -= 1,
            Token::Word(word) if depth == 0 && word.eq_ignore_ascii_case(keyword) => {
                while let Some(Token::Word(name) | Token::Quoted(name)) = tokens.peek().cloned() {
                    let pseudo = ["public", "current_user", "session_user", "group"];
                    let quoted = matches!(tokens.next(), Some(Token::Quoted(_)));
                    if quoted || !pseudo.contains(&name.to_lowercase().as_str()) {
                        names.push(name);
                    }
                    match tokens.peek() {
                        Some(Token::Mark(',')) => {
                            tokens.next();
                        }
                        _ => break,
                    }
                }
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_found_in_grants_however_they_are_quoted() {
        let text = "REVOKE ALL ON TABLE public.\"from x to y\" FROM PUBLIC;\nGRANT SELECT(\"TO\"),INSERT ON TABLE public.t TO \"Odd \"\"Role\";\nGRANT ALL ON SCHEMA s TO plain WITH GRANT OPTION;";
        assert_eq!(grantees(text), ["Odd \"Role", "plain"]);
        assert_eq!(
            grantees(
                "ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA a GRANT SELECT ON TABLES TO reader;"
            ),
            ["reader", "owner"]
        );
    }

    #[test]
    fn roles_of_policies_are_found_outside_their_expressions() {
        let text = "CREATE POLICY p ON public.t TO alice, bob USING ((a > 'x to y'::text));";
        assert_eq!(after_keyword(text, "TO"), ["alice", "bob"]);
    }
}
