//! A script that psql runs, as `pg_dump` prints one: settings, objects, rows, what is built on rows, privileges, and at
//! last refreshes and event triggers.

use rand::Rng;

use crate::pg::archive::{SqlText, TocEntry};
use crate::rows::text::RowStyle;
use crate::schema::graph::Pass;
use crate::schema::statements::{Renderer, session_settings};

use super::large_objects::{self, Object};
use super::output::{Output, Sink};
use super::source::Source;
use super::tables::{self, Form};
use super::{ExportError, large_objects::Privileges};

/// Bytes of neighbouring pages of a large object that one statement writes.
const PUT_BYTES: usize = 64 << 10;

/// Writes the script.
pub fn write(source: &Source<'_>, output: &Output) -> Result<(), ExportError> {
    let tables = tables::all_printable(source, &source.tables()?)?;
    let money = tables.iter().any(|(_, types)| tables::has_money(types));
    source.notes();
    let mut script = Script {
        source,
        sink: output.open()?,
        renderer: Renderer::new(source.render),
        restricted: restricted(source).then(key),
        money,
    };
    script.begin()?;
    let graph = &source.opened.graph;
    let of_database = |desc: &str| {
        let chosen = graph.database.iter().filter(|n| source.chosen.entries[**n]);
        let chosen = chosen.map(|n| &source.opened.entries[*n]);
        let (made, rest): (Vec<_>, Vec<_>) = chosen.partition(|entry| entry.desc == desc);
        (made, rest)
    };
    let (made, rest) = of_database("DATABASE");
    for entry in made {
        script.entry(entry)?;
        script.connect(&entry.tag)?;
    }
    for n in graph.pre.iter().filter(|n| source.chosen.entries[**n]) {
        script.entry(&source.opened.entries[*n])?;
    }
    script.make_large_objects()?;
    for (table, types) in tables {
        let owner = source.relation(&table.key()).map(|entry| &entry.owner);
        script.title(
            "Data for Name",
            &table.name.as_str().into(),
            "TABLE DATA",
            Some(&table.schema.as_str().into()),
            owner,
        )?;
        tables::warn_of_large_rows(source, table)?;
        let form = Form::Text(types);
        script
            .sink
            .write(&tables::copy_statement(source, table, &form))?;
        let Form::Text(types) = form else { continue };
        let sink = &mut script.sink;
        tables::write_lines(source, table, &types, RowStyle::Text, &mut |text| {
            sink.write(text)
        })?;
        script.sink.write(b"\\.\n\n\n")?;
    }
    for (sequence, statement) in source.sequences() {
        let name = (sequence.schema.clone(), sequence.name.clone());
        let owner = source.relation(&name).map(|entry| &entry.owner);
        script.title(
            "Name",
            &sequence.name.as_str().into(),
            "SEQUENCE SET",
            Some(&sequence.schema.as_str().into()),
            owner,
        )?;
        script.sink.write(statement.as_bytes())?;
        script.sink.write(b"\n\n")?;
    }
    script.fill_large_objects()?;
    for pass in [Pass::Main, Pass::Privileges, Pass::Refreshes, Pass::Last] {
        for task in graph.tasks.iter().filter(|task| task.pass == pass) {
            if source.chosen.entries[task.entry] {
                script.entry(&source.opened.entries[task.entry])?;
            }
        }
        if pass == Pass::Privileges {
            script.grant_large_objects()?;
        }
    }
    // Settings of the database come last, as they would hold for this script's next session.
    for entry in rest {
        script.entry(entry)?;
    }
    script.end()
}

/// Whether psql is to be told that the script has no commands of its own, which keeps it from running any that the
/// source may have slipped in: done as the `pg_dump` of the snapshot does, since psql has to know it.
fn restricted(source: &Source<'_>) -> bool {
    let version = &source.opened.snapshot.source.pg_dump_version;
    let number = version.split([' ', '(']).next().unwrap_or_default();
    let mut parts = number
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match major {
        15 => minor >= 14,
        16 => minor >= 10,
        17 => minor >= 6,
        _ => major >= 18,
    }
}

/// A word that nobody can guess.
fn key() -> String {
    let mut rng = rand::rng();
    (0..63)
        .map(|_| char::from(rng.sample(rand::distr::Alphanumeric)))
        .collect()
}

struct Script<'a> {
    source: &'a Source<'a>,
    sink: Sink,
    renderer: Renderer,
    /// The key with which restrictions are lifted.
    restricted: Option<String>,
    /// Whether there are values of `money`.
    money: bool,
}

impl Script<'_> {
    fn text(&mut self, text: &str) -> Result<(), ExportError> {
        self.sink.write(text.as_bytes())
    }

    fn begin(&mut self) -> Result<(), ExportError> {
        let facts = &self.source.opened.snapshot.source;
        let (server, pg_dump) = (&facts.server_version, &facts.pg_dump_version);
        self.text(&format!(
            "--\n-- PostgreSQL database dump, written by pgtide {}\n--\n\n-- Dumped from database version {}\n-- Dumped by pg_dump version {}\n\n",
            env!("CARGO_PKG_VERSION"),
            server.replace(['\n', '\r'], " "),
            pg_dump.replace(['\n', '\r'], " ")
        ))?;
        self.restrict("restrict")?;
        self.settings()
    }

    fn restrict(&mut self, command: &str) -> Result<(), ExportError> {
        match self.restricted.clone() {
            Some(key) => self.text(&format!("\\{command} {key}\n\n")),
            None => Ok(()),
        }
    }

    /// What the statements and the rows rely on.
    fn settings(&mut self) -> Result<(), ExportError> {
        let mut out = String::from(
            "SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n",
        );
        if self.source.opened.snapshot.source.server_version_num >= 170_000 {
            out.push_str("SET transaction_timeout = 0;\n");
        }
        for (name, value) in session_settings(&self.source.opened.entries) {
            if name == "search_path" {
                out.push_str("SELECT pg_catalog.set_config('search_path', '', false);\n");
            } else {
                out.push_str(&format!("SET {name} = '{value}';\n"));
            }
        }
        if self.money {
            out.push_str("SET lc_monetary = 'C';\n");
        }
        out.push('\n');
        self.text(&out)
    }

    /// Goes on in the database of this name.
    fn connect(&mut self, name: &SqlText) -> Result<(), ExportError> {
        self.restrict("unrestrict")?;
        let mut out = b"\\connect ".to_vec();
        let simple = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if !name.is_empty() && name.as_bytes().iter().all(simple) {
            out.extend_from_slice(name.as_bytes());
        } else {
            // A connection string, as a name could be taken for one; in quotes of psql's.
            out.extend_from_slice(b"-reuse-previous=on \"dbname='");
            for byte in name.as_bytes() {
                match byte {
                    b'\'' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
                    b'"' => out.extend_from_slice(b"\"\""),
                    other => out.push(*other),
                }
            }
            out.extend_from_slice(b"'\"");
        }
        out.extend_from_slice(b"\n\n");
        self.sink.write(&out)?;
        self.restrict("restrict")?;
        self.renderer.forget();
        self.settings()
    }

    /// The comment above an entry. Names may hold line ends, and comments may not.
    fn title(
        &mut self,
        label: &str,
        name: &SqlText,
        kind: &str,
        schema: Option<&SqlText>,
        owner: Option<&SqlText>,
    ) -> Result<(), ExportError> {
        let mut out = format!("--\n-- {label}: ").into_bytes();
        let push = |out: &mut Vec<u8>, text: Option<&SqlText>| match text {
            Some(text) if !text.is_empty() => out.extend(text.as_bytes().iter().map(|b| match b {
                b'\n' | b'\r' => b' ',
                other => *other,
            })),
            _ => out.push(b'-'),
        };
        push(&mut out, Some(name));
        out.extend_from_slice(format!("; Type: {kind}; Schema: ").as_bytes());
        push(&mut out, schema);
        out.extend_from_slice(b"; Owner: ");
        push(&mut out, owner.filter(|_| !self.source.render.no_owner));
        out.extend_from_slice(b"\n--\n\n");
        self.sink.write(&out)
    }

    fn entry(&mut self, entry: &TocEntry) -> Result<(), ExportError> {
        self.source.check()?;
        let statements = self.renderer.statements(entry);
        if statements.is_empty() {
            return Ok(());
        }
        let (schema, owner) = (entry.namespace.as_ref(), Some(&entry.owner));
        self.title("Name", &entry.tag, &entry.desc, schema, owner)?;
        for statement in statements {
            self.sink.write(statement.as_bytes().trim_ascii_end())?;
            self.text("\n\n")?;
        }
        self.text("\n")
    }

    fn make_large_objects(&mut self) -> Result<(), ExportError> {
        let source = self.source;
        large_objects::objects(source, &mut |object: Object| {
            self.text(&format!("SELECT pg_catalog.lo_create('{}');\n", object.oid))?;
            if !source.render.no_owner {
                self.sink
                    .write(&large_objects::owner_statement(source, &object))?;
            }
            if let Some(comment) = large_objects::comment_statement(source, &object) {
                self.sink.write(&comment)?;
            }
            self.text("\n")
        })
    }

    fn fill_large_objects(&mut self) -> Result<(), ExportError> {
        let sink = &mut self.sink;
        let mut out = String::new();
        // Neighbouring pages of one object, that are written together.
        let mut run: Option<(u32, u64, Vec<u8>)> = None;
        large_objects::pages(self.source, &mut |page| {
            if let (Some((oid, start, bytes)), Some(page)) = (&mut run, page)
                && *oid == page.oid
                && *start + bytes.len() as u64 == page.offset
                && bytes.len() + page.data.len() <= PUT_BYTES
            {
                bytes.extend_from_slice(page.data);
                return Ok(());
            }
            if let Some((oid, start, bytes)) = run.take() {
                out.push_str(&large_objects::put_statement(oid, start, &bytes));
            }
            match page {
                Some(page) if page.data.is_empty() => {
                    out.push_str(&large_objects::extend_statement(page.oid, page.offset));
                }
                Some(page) => run = Some((page.oid, page.offset, page.data.to_vec())),
                None => {}
            }
            if page.is_none() || out.len() > 1 << 20 {
                write_transaction(sink, &mut out)?;
            }
            Ok(())
        })
    }

    fn grant_large_objects(&mut self) -> Result<(), ExportError> {
        let source = self.source;
        if source.render.no_privileges {
            return Ok(());
        }
        large_objects::objects(
            source,
            &mut |object: Object| match large_objects::privileges(source, &object) {
                Some(Privileges { statements, .. }) => self.sink.write(&statements),
                None => Ok(()),
            },
        )
    }

    fn end(mut self) -> Result<(), ExportError> {
        self.text("--\n-- PostgreSQL database dump complete\n--\n\n")?;
        self.restrict("unrestrict")?;
        self.sink.finish()
    }
}

/// Writes statements as one transaction, and forgets them.
fn write_transaction(sink: &mut Sink, statements: &mut String) -> Result<(), ExportError> {
    if !statements.is_empty() {
        sink.write(b"BEGIN;\n")?;
        sink.write(statements.as_bytes())?;
        sink.write(b"COMMIT;\n\n")?;
        statements.clear();
    }
    Ok(())
}
