//! What a restore does for hypertables: the extension, the restoring state, the catalog, and what comes after it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::pg::archive::{Section, SqlText};
use crate::pg::catalog::{self, Name, Relation, qualified, quote_ident};
use crate::pg::{Connection, Error};
use crate::repo::Reader;
use crate::repo::model::{TableRecord, TableRole};
use crate::schema::{self, closure, foreign_key, statements};
use crate::timescale::catalog::{Catalog, CatalogError, Rows};
use crate::timescale::fit::{self, Target};
use crate::timescale::model::Kind;
use crate::timescale::{self, missing, reading, state};

use super::chosen::Chosen;
use super::exec::Session;
use super::journal::{self, Journal};
use super::preflight::{self, Problems};
use super::steps::Restore;
use super::work::{Failure, Halt, Work, entry_name};
use super::{Opened, RestoreError, RestoreOptions, load, plan, portable, server};

/// TimescaleDB's catalog as a snapshot has it.
pub fn catalog(reader: &Reader, tables: &[TableRecord]) -> Result<Catalog, RestoreError> {
    let mut catalog = Catalog::default();
    for table in tables.iter().filter(|table| is_catalog(table)) {
        let name = table.key();
        catalog.tables.insert(name, rows(reader, table)?);
    }
    Ok(catalog)
}

/// Whether the rows are TimescaleDB's own.
pub fn is_catalog(table: &TableRecord) -> bool {
    matches!(&table.role, TableRole::ExtensionConfig { extension } if extension == timescale::EXTENSION)
}

fn rows(reader: &Reader, table: &TableRecord) -> Result<Rows, RestoreError> {
    let columns = table.columns.iter().map(|c| c.name.clone()).collect();
    let bytes = load::whole(reader, table)?;
    let text = String::from_utf8(bytes).map_err(|error| CatalogError::Row(error.to_string()))?;
    Ok(Rows::parse(columns, &text)?)
}

/// Entries that only the extension at work can restore, once it knows its hypertables: foreign keys that refer to one
/// reach all of its chunks then; and what depends on these.
pub fn after_catalog(opened: &Opened) -> BTreeSet<usize> {
    let hypertables: HashSet<&Name> = opened
        .model
        .hypertables
        .values()
        .map(|h| &h.table)
        .collect();
    let mut ids = HashSet::new();
    let mut found = BTreeSet::new();
    for (n, entry) in opened.entries.iter().enumerate() {
        let key = foreign_key::tables(entry);
        let refers = key.is_some_and(|(own, other)| own != other && hypertables.contains(&other));
        if refers || entry.dependencies.iter().any(|id| ids.contains(id)) {
            ids.insert(entry.dump_id);
            found.insert(n);
        }
    }
    found
}

/// Chunks and what belongs to them, as far as it comes before the rows, in their order.
pub fn late(opened: &Opened) -> Vec<usize> {
    let relations = opened.model.chunk_relations();
    let chunks = closure::with_dependents(&opened.entries, &|name| relations.contains(name));
    let pre = opened.graph.pre.iter().copied();
    pre.filter(|n| chunks.contains(n)).collect()
}

/// What stands against the restore of the hypertables.
pub fn problems(
    opened: &Opened,
    options: &RestoreOptions,
    chosen: &Chosen,
    resumed: bool,
    conn: &mut Connection,
    problems: &mut Problems,
) -> Result<(), RestoreError> {
    if options.portable || chosen.timescale(opened).is_some() {
        let fitted = fitted(opened, options, chosen, None)?;
        missing_names(&fitted, options, conn, problems).map_err(server(
            "could not look at the target's roles and tablespaces",
        ))?;
    }
    let found = look(opened, options, chosen, resumed, conn)
        .map_err(server("could not look at the target's TimescaleDB"))?;
    problems.others.extend(found);
    Ok(())
}

/// The catalog as it fits what is restored; jobs that are not to keep their owners belong to `owner`.
fn fitted(
    opened: &Opened,
    options: &RestoreOptions,
    chosen: &Chosen,
    owner: Option<&str>,
) -> Result<Catalog, CatalogError> {
    let target = Target {
        restored: &|name| chosen.restores(name),
        owner,
        tablespaces: !options.render.no_tablespaces,
        whole: chosen.whole,
    };
    fit::fit(&opened.catalog, target)
}

/// Owners of jobs and tablespaces of hypertables that the target does not have: no entry names these.
fn missing_names(
    fitted: &Catalog,
    options: &RestoreOptions,
    conn: &mut Connection,
    problems: &mut Problems,
) -> Result<(), Error> {
    let mut unknown = |wanted: BTreeSet<String>, sql: &str, list: &mut Vec<String>| {
        let known = preflight::names(conn, sql)?;
        let missing = wanted.into_iter().filter(|name| !known.contains(name));
        let missing: Vec<String> = missing.filter(|name| !list.contains(name)).collect();
        list.extend(missing);
        Ok::<_, Error>(())
    };
    if !options.render.no_owner {
        let roles = "SELECT rolname FROM pg_catalog.pg_roles";
        unknown(fit::owners(fitted), roles, &mut problems.roles)?;
    }
    let tablespaces = "SELECT spcname FROM pg_catalog.pg_tablespace";
    unknown(
        fit::tablespaces(fitted),
        tablespaces,
        &mut problems.tablespaces,
    )
}

/// What the server and its extension lack.
fn look(
    opened: &Opened,
    options: &RestoreOptions,
    chosen: &Chosen,
    resumed: bool,
    conn: &mut Connection,
) -> Result<Vec<String>, Error> {
    if options.portable {
        let problems = timescale::problem(conn, None, false)?.into_iter();
        return Ok(problems.chain(portable::problem(opened, chosen)).collect());
    }
    let in_parts = in_parts(opened, options, chosen);
    let Some(version) = chosen.timescale(opened) else {
        return Ok(in_parts.into_iter().collect());
    };
    let here = !options.create;
    let mut problems: Vec<String> = timescale::problem(conn, Some(version), here)?
        .into_iter()
        .chain(in_parts)
        .collect();
    let compressed = opened.model.chunks.iter().any(|c| {
        c.compressed
            .as_ref()
            .is_some_and(|relation| chosen.restores(relation))
    });
    let aggregates = opened
        .model
        .hypertables
        .values()
        .any(|h| matches!(h.kind, Kind::Aggregate { .. }) && chosen.restores(&h.table));
    if (compressed || aggregates) && timescale::has_tsl(conn, version)? == Some(false) {
        let what = match (compressed, aggregates) {
            (true, true) => "compressed chunks and continuous aggregates",
            (true, false) => "compressed chunks",
            _ => "continuous aggregates",
        };
        problems.push(format!(
            "the snapshot has {what}, which the Apache edition of TimescaleDB at the target does not know\nhint: install the TSL edition at the target{}",
            if compressed { ", or dump with --decompress what is to be restored there" } else { "" }
        ));
    }
    if here && !resumed {
        problems.extend(problems_here(options, chosen, conn)?);
    }
    Ok(problems)
}

/// Hypertables that are not restored as such, though their rows or what belongs to them are: they are there as a whole,
/// with TimescaleDB's catalog, or not at all.
fn in_parts(opened: &Opened, options: &RestoreOptions, chosen: &Chosen) -> Option<String> {
    let model = &opened.model;
    let parts: HashSet<Name> = model
        .hypertables
        .keys()
        .flat_map(|&id| model.relations_of(id))
        .collect();
    let tables: HashSet<i32> = opened
        .entries
        .iter()
        .filter(|e| closure::relation(e).is_some_and(|name| parts.contains(&name)))
        .map(|e| e.dump_id)
        .collect();
    let whole = chosen.timescale(opened).is_some() && options.pick.sections.post_data;
    let definitions = !whole && parts.iter().any(|name| chosen.restores(name));
    let rows = parts
        .iter()
        .any(|name| chosen.loads(name) && !chosen.restores(name));
    let entries = opened.entries.iter().zip(&chosen.entries);
    let mut entries = entries.filter(|(_, chosen)| **chosen);
    let belongs = entries.any(|(e, _)| {
        e.section == Section::PostData && e.dependencies.iter().any(|id| tables.contains(id))
    });
    let found = if options.pick.names.by_kind() {
        // A hypertable that is asked for as a table is one, without what is in its chunks.
        rows
    } else {
        definitions || rows || (belongs && !whole)
    };
    found.then(|| {
        "the snapshot's hypertables can only be restored whole, not in sections or into tables that exist\nhint: leave them out with --exclude-table, or restore them whole with --hypertable; their rows alone go into existing hypertables with --data-only --portable".to_owned()
    })
}

/// What stands against it in the very database that is connected to.
fn problems_here(
    options: &RestoreOptions,
    chosen: &Chosen,
    conn: &mut Connection,
) -> Result<Vec<String>, Error> {
    let mut problems = Vec::new();
    if state::is_left_behind(conn)? {
        problems.push(format!(
            "the target database is set to TimescaleDB's restoring state, by a restore that did not end\nhint: end that state first: psql -d {} -c 'SELECT timescaledb_post_restore()'",
            options.settings.dbname()
        ));
    }
    let relations = catalog::relations(conn)?;
    let there = reading::read_catalog(conn, &relations)?;
    let model = there.model();
    let model = model.map_err(|error| Error::Protocol(error.to_string()))?;
    let others: Vec<String> = model
        .hypertables
        .values()
        .filter(|h| h.kind != Kind::Compressed)
        .filter(|h| !options.clean || !chosen.restores(&h.table))
        .map(|h| h.display_name())
        .collect();
    let mut tables = there.tables.iter();
    if !others.is_empty() {
        problems.push(format!(
            "the target database has hypertables{}: {}\nhint: TimescaleDB's catalog is restored as it is, so restore into a database without hypertables{}",
            if options.clean { " that are not restored" } else { "" },
            others.join(", "),
            if options.clean { "" } else { ", or drop first what is restored (--clean)" }
        ));
    } else if !options.clean
        && tables.any(|((_, name), rows)| name == "bgw_job" && !rows.rows.is_empty())
    {
        problems.push(
            "the target database has jobs of TimescaleDB's\nhint: delete them first (delete_job), or restore with --clean, which replaces all jobs"
                .to_owned(),
        );
    }
    Ok(problems)
}

impl Restore<'_> {
    /// Drops the chunks of the target's hypertables, all of which are to be restored, and makes plain tables of these, so
    /// that they can be dropped like any other. Chunks may be others than those of the snapshot, and constraints of theirs
    /// may be called otherwise.
    ///
    /// The session is in the restoring state. To the extension at work, foreign keys of hypertables, continuous aggregates
    /// and what holds compressed rows are no tables and views that PostgreSQL's statements may drop.
    pub fn forget_hypertables(&self, conn: &mut Connection) -> Result<(), RestoreError> {
        let failed = |source| RestoreError::Server {
            context: "could not drop the target's hypertables",
            source,
        };
        let relations = catalog::relations(conn).map_err(failed)?;
        let model = reading::read_catalog(conn, &relations)
            .map_err(failed)?
            .model()?;
        let mut tables: Vec<_> = relations
            .iter()
            .filter(|r| {
                r.config
                    .as_ref()
                    .is_some_and(|c| c.extension == timescale::EXTENSION)
            })
            // Of the installation rather than of hypertables.
            .filter(|r| r.name != "metadata")
            .collect();
        if tables.is_empty() {
            return Ok(());
        }
        state::stop_workers(conn).map_err(failed)?;
        // A foreign key that refers to a hypertable refers to each of its chunks.
        let entries = &self.opened.entries;
        let keys = |n: usize| self.chosen.entries[n] && entries[n].desc == "FK CONSTRAINT";
        let mut statements = schema::drops::drop_all(entries, &keys);
        let chunks = model.chunk_relations().into_iter();
        let hidden = model.hypertables.values();
        let hidden = hidden
            .filter(|h| h.kind == Kind::Compressed)
            .map(|h| &h.table);
        let names = chunks.chain(hidden);
        statements.extend(
            names
                .map(|(schema, name)| format!("DROP TABLE IF EXISTS {}", qualified(schema, name)))
                .map(SqlText::from),
        );
        self.drop(conn, &statements)?;
        let pairs = catalog::foreign_keys(conn).map_err(failed)?;
        let names = tables.iter().map(|t| (t.schema.as_str(), t.name.as_str()));
        let order = ordered(names.collect(), &pairs);
        let rank = |t: &Relation| {
            order
                .iter()
                .position(|name| *name == (&*t.schema, &*t.name))
        };
        tables.sort_by_key(|table| std::cmp::Reverse(rank(table)));
        conn.execute("BEGIN").map_err(failed)?;
        for table in tables {
            let condition = table.config.as_ref().map_or("", |c| c.condition.as_str());
            let delete = format!("DELETE FROM ONLY {} {condition}", table.sql_name());
            conn.execute(&delete).map_err(failed)?;
        }
        conn.execute("COMMIT").map_err(failed)
    }

    /// The entries that come before the restoring state: TimescaleDB, and the schema that it lives in.
    pub fn before_timescale(&self) -> Vec<usize> {
        if self.timescale.is_none() {
            return Vec::new();
        }
        let source = &self.opened.snapshot.source;
        let pre = self.opened.graph.pre.iter().copied();
        pre.filter(|&n| timescale::is_before_restoring(&self.opened.entries[n], source))
            .collect()
    }

    /// Creates the extension at the version of the source and stops its workers.
    /// Gives back the session of the steps that follow, to which all tables are plain ones.
    pub fn begin_timescale(&self, version: &str) -> Result<Connection, RestoreError> {
        let mut renderer = statements::Renderer::new(self.options.render);
        for n in self.before_timescale() {
            let entry = &self.opened.entries[n];
            let mut statements = if timescale::is_extension(entry) {
                vec![timescale::create_extension(entry, version)]
            } else {
                renderer.statements(entry)
            };
            let task = journal::entry(entry);
            if statements.is_empty() || self.shared.journal.is_some_and(|j| j.has(&task)) {
                continue;
            }
            if self.shared.journal.is_some() {
                statements.push(journal::note(&[task]).into());
            }
            // The extension must be the first of its session.
            let mut conn = self.connect_awake()?;
            let begin = || SqlText::from("BEGIN");
            let statements = std::iter::once(begin()).chain(statements);
            for statement in statements.chain([SqlText::from("COMMIT")]) {
                conn.execute(statement.as_bytes())
                    .map_err(server("could not create the extension timescaledb"))?;
            }
        }
        let mut conn = self.connect()?;
        state::stop_workers(&mut conn)
            .map_err(server("could not stop TimescaleDB's background workers"))?;
        if !state::is_asleep(&mut conn)
            .map_err(server("could not ask for TimescaleDB's restoring state"))?
        {
            return Err(RestoreError::NotAsleep);
        }
        Ok(conn)
    }

    /// A session in which the extension is at work.
    pub fn connect_awake(&self) -> Result<Connection, RestoreError> {
        self.connect_in(state::awake)
    }

    /// Makes the restored tables hypertables: the catalog, all of it in one transaction, in the order of its foreign
    /// keys, so that the database has either no hypertable and no job, or all of them.
    pub fn hypertables(&self, session: &mut Session<'_>) -> Result<(), Halt> {
        let done = |journal: &Journal| journal.has(journal::HYPERTABLES);
        if self.timescale.is_none() || self.shared.journal.is_some_and(done) {
            return Ok(());
        }
        let conn = session.conn();
        let result = self.load_catalog(conn);
        if let Err(error) = result {
            // A session that cannot even roll back is lost, and the next statement will say so.
            let _ = conn.execute("ROLLBACK");
            self.shared.failed(Failure {
                object: "TimescaleDB's catalog".to_owned(),
                statement: String::new(),
                error: error.to_string(),
            });
            return Err(Halt);
        }
        Ok(())
    }

    fn load_catalog(&self, conn: &mut Connection) -> Result<(), RestoreError> {
        let failed = |source| RestoreError::Server {
            context: "could not load TimescaleDB's catalog",
            source,
        };
        let current = conn.query("SELECT current_user").map_err(failed)?;
        let current = current
            .first()
            .and_then(|row| row.get(0))
            .unwrap_or_default();
        let restored = |name: &Name| self.chosen.restores(name);
        let owner = self.options.render.no_owner.then_some(current);
        let fitted = fitted(self.opened, self.options, self.chosen, owner)?;
        let names = fitted.tables.keys().map(|(s, n)| (s.as_str(), n.as_str()));
        let pairs = catalog::foreign_keys(conn).map_err(failed)?;
        conn.execute("BEGIN").map_err(failed)?;
        for (schema, name) in ordered(names.collect(), &pairs) {
            let rows = &fitted.tables[&(schema.to_owned(), name.to_owned())];
            if rows.rows.is_empty() {
                continue;
            }
            let columns: Vec<String> = rows.columns.iter().map(|c| quote_ident(c)).collect();
            let sql = format!(
                "COPY {} ({}) FROM STDIN",
                qualified(schema, name),
                columns.join(", ")
            );
            let mut copy = conn.copy_in(&sql).map_err(failed)?;
            copy.write(rows.to_copy_text().as_bytes()).map_err(failed)?;
            let loaded = copy.finish().map_err(failed)?;
            // The extension's own trigger on its metadata makes updates of rows that are there.
            if loaded != rows.rows.len() as u64 && name != "metadata" {
                return Err(RestoreError::CatalogRows {
                    table: format!("{schema}.{name}"),
                    loaded,
                    expected: rows.rows.len() as u64,
                });
            }
        }
        // The one sequence that the extension does not list as its configuration.
        conn.execute(
            "SELECT pg_catalog.setval('_timescaledb_catalog.tablespace_id_seq', m.id)
             FROM (SELECT pg_catalog.max(id) AS id FROM _timescaledb_catalog.tablespace) m WHERE m.id IS NOT NULL",
        )
        .map_err(failed)?;
        for table in &self.opened.tables {
            if table.role == TableRole::MissingValues {
                let rows = rows(&self.opened.reader, table)?;
                missing::restore(conn, &rows, &restored).map_err(failed)?;
            }
        }
        if self.shared.journal.is_some() {
            let note = journal::note(&[journal::HYPERTABLES.to_owned()]);
            conn.execute(&note).map_err(failed)?;
        }
        conn.execute("COMMIT").map_err(failed)
    }

    /// Ends the restore of hypertables: the workers start again, unless they are to rest.
    pub fn end_timescale(&self, conn: &mut Connection) -> Result<(), RestoreError> {
        if self.options.no_jobs {
            return Ok(());
        }
        let scheduler = state::end(conn).map_err(server(
            "the hypertables are restored, but TimescaleDB's background workers could not be started; call timescaledb_post_restore()",
        ))?;
        if !scheduler {
            self.progress.note(
                "TimescaleDB's jobs do not run in the target database: the server has no background worker left (max_worker_processes). Raise it and restart the server, or call _timescaledb_functions.start_background_workers() when there is one",
            );
        }
        Ok(())
    }

    /// Restores the entries that only the extension at work can restore.
    pub fn after_catalog(&self, session: &mut Session<'_>) -> Result<(), Halt> {
        let partly = self.partly_restored();
        for &n in &self.chosen.after_catalog {
            if !self.chosen.entries[n] {
                continue;
            }
            let entry = &self.opened.entries[n];
            let mut work = Work::Entry(n);
            if self.chosen.unchecked.contains(&n) {
                let add = plan::not_valid(entry);
                work = Work::Statements(entry_name(entry), vec![add]);
            } else if let Some((add, _)) = plan::not_valid_first(entry)
                && entry.dependencies.iter().any(|id| partly.contains(id))
            {
                self.progress.note(&format!(
                    "{} is not validated: rows may refer to chunks that were left out",
                    entry_name(entry)
                ));
                work = Work::Statements(entry_name(entry), vec![add]);
            }
            if !session.run(&[&work]) {
                return Err(Halt);
            }
        }
        Ok(())
    }

    /// Dump ids of the hypertables that come without some of their chunks.
    fn partly_restored(&self) -> HashSet<i32> {
        let model = &self.opened.model;
        let missing = model
            .chunks
            .iter()
            .filter(|chunk| !self.chosen.loads(&chunk.table));
        let partly: HashSet<&Name> = missing
            .filter_map(|chunk| Some(&model.hypertables.get(&chunk.hypertable)?.table))
            .collect();
        let entries = self.opened.entries.iter();
        entries
            .filter(|e| closure::relation(e).is_some_and(|name| partly.contains(&name)))
            .map(|e| e.dump_id)
            .collect()
    }
}

/// Tables in the order of their foreign keys, the referenced first.
pub fn ordered<'t>(
    mut tables: Vec<(&'t str, &'t str)>,
    pairs: &[(Name, Name)],
) -> Vec<(&'t str, &'t str)> {
    let mut waits_for: BTreeMap<(&str, &str), Vec<(&str, &str)>> = BTreeMap::new();
    for ((child_schema, child), (parent_schema, parent)) in pairs {
        waits_for
            .entry((child_schema, child))
            .or_default()
            .push((parent_schema, parent));
    }
    let mut order = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let (mut free, rest): (Vec<_>, Vec<_>) = tables.iter().partition(|&table| {
            let parents = waits_for.get(table).into_iter().flatten();
            parents
                .into_iter()
                .all(|parent| parent == table || !tables.contains(parent))
        });
        tables = rest;
        if free.is_empty() {
            // In a circle any order is as good as another.
            free.push(tables.remove(0));
        }
        order.append(&mut free);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referenced_tables_come_first_and_circles_do_not_hang() {
        let pair = |child: &str, parent: &str| {
            let name = |name: &str| ("s".to_owned(), name.to_owned());
            (name(child), name(parent))
        };
        let tables = ["a", "b", "c", "d", "e"].map(|name| ("s", name)).to_vec();
        let pairs = [
            pair("a", "b"),
            pair("b", "c"),
            pair("d", "e"),
            pair("e", "d"),
            pair("c", "c"),
        ];
        let order: Vec<&str> = ordered(tables, &pairs)
            .into_iter()
            .map(|(_, n)| n)
            .collect();
        let at = |name: &str| order.iter().position(|n| *n == name).unwrap();
        assert_eq!(order.len(), 5);
        assert!(at("c") < at("b") && at("b") < at("a"), "{order:?}");
    }
}
