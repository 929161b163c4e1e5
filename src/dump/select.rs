//! Which relations a dump is about: those that the selection asks for, hypertables with their chunks; and the same for
//! `pg_dump`, so that both choose the same.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::pg::archive::{Archive, SqlText, TocEntry};
use crate::pg::catalog::{self, Name, Relation, quote_ident};
use crate::pg::snapshot::Held;
use crate::pg::{Connection, Error, Settings, families, session_options};
use crate::repo::model::Condition;
use crate::schema::selection::{Known, Selection};
use crate::schema::{closure, skip};
use crate::timescale::model::{Kind, Model};
use crate::timescale::{self, reading};

use super::{DumpError, server};

/// Names in one pattern for `pg_dump`: it asks the server for each pattern.
const NAMES_PER_PATTERN: usize = 40;

/// A selection, and how the role that dumps understands bare names.
pub struct Selector<'a> {
    selection: &'a Selection,
    search_path: Vec<String>,
}

/// What is chosen, as one catalog snapshot sees it.
#[derive(Default)]
pub struct Choice {
    /// The tables to lock, with or without rows to read, in order of schema and name; at the end foreign tables.
    pub relations: Vec<Relation>,
    /// How patterns are understood.
    pub known: Known,
    /// What the chosen hypertables consist of: chunks, aggregates.
    hypertables: HashSet<Name>,
    /// The same of hypertables that are not chosen.
    strange: HashSet<Name>,
    /// Tables that were to be left out by name.
    excluded: Vec<Relation>,
    /// Those of them, and of the sequences, that the role may not read; known when all is settled.
    unreadable: Vec<Name>,
}

impl<'a> Selector<'a> {
    /// Asks the server for what patterns need, and whether there is what must be.
    pub fn new(selection: &'a Selection, settings: &Settings) -> Result<Self, DumpError> {
        let mut selector = Self {
            selection,
            search_path: Vec::new(),
        };
        if selection.needs_visible() || !selection.foreign_data.is_empty() {
            let mut own = session_options();
            own.options.retain(|(name, _)| name != "search_path");
            let mut conn = settings
                .connect(&own)
                .map_err(server("could not ask for the search path"))?;
            selector.search_path = families::search_path(&mut conn)
                .map_err(server("could not ask for the search path"))?;
            let servers = families::foreign_servers(&mut conn)
                .map_err(server("could not ask for the foreign servers"))?;
            let mut patterns = selection.foreign_data.iter();
            let unmatched = |pattern: &&crate::schema::pattern::Pattern| {
                !servers.iter().any(|server| pattern.matches_name(server))
            };
            if let Some(pattern) = patterns.find(unmatched) {
                return Err(DumpError::NoServer {
                    pattern: pattern.to_string(),
                });
            }
        }
        Ok(selector)
    }

    /// Chooses what the holders keep, once and for all.
    pub fn settle(&self, held: &mut Held) -> Result<Choice, Error> {
        let conn = &mut held.first;
        if self.selection.has_all_tables() {
            // Just what was listed and locked.
            return self.among(conn, held.relations.clone());
        }
        let mut choice = self.choose(conn)?;
        let oids: Vec<u32> = choice.excluded.iter().map(|r| r.oid).collect();
        let unreadable = families::unreadable(conn, &oids)?;
        let tables = choice.excluded.iter();
        let tables = tables.filter(|r| unreadable.contains(&r.oid));
        choice.unreadable = tables.map(Relation::key).collect();
        let sequences = families::unreadable_sequences(conn)?.into_iter();
        let sequences = sequences.filter(|name| self.selection.excludes(name, &choice.known));
        choice.unreadable.extend(sequences);
        Ok(choice)
    }

    /// Chooses among what the transaction of `conn` sees.
    pub fn choose(&self, conn: &mut Connection) -> Result<Choice, Error> {
        let relations = catalog::relations(conn)?;
        self.among(conn, relations)
    }

    /// Chooses among these.
    fn among(&self, conn: &mut Connection, mut relations: Vec<Relation>) -> Result<Choice, Error> {
        let selection = self.selection;
        let mut known = Known::default();
        if selection.needs_visible() {
            known.visible = families::visible(conn, &self.search_path)?;
        }
        if selection.needs_parents() {
            known.parents = families::parents(conn)?;
        }
        let whole = selection.has_all_tables();
        if whole && selection.exclude_data.is_empty() {
            return Ok(Choice {
                relations,
                known,
                ..Choice::default()
            });
        }
        let catalog = reading::read_catalog(conn, &relations)?;
        let model = catalog.model();
        let model = model.map_err(|error| Error::Protocol(error.to_string()))?;
        known.hypertables = rows_of_hypertables(&model);
        if whole {
            return Ok(Choice {
                relations,
                known,
                ..Choice::default()
            });
        }
        let (hypertables, strange) = self.hypertables(&model, &known);
        let excluded = relations.iter();
        let excluded = excluded.filter(|r| selection.excludes(&r.key(), &known));
        let excluded = excluded.cloned().collect();
        let foreign = families::foreign_tables(conn, &|server| selection.selects_server(server))?;
        relations.extend(foreign);
        relations.retain(|relation| {
            let name = relation.key();
            if hypertables.contains(&name) {
                return !selection.excludes(&name, &known);
            }
            if strange.contains(&name) {
                return false;
            }
            relation.config.is_some() || selection.selects(&name, &known)
        });
        let mut choice = Choice {
            known,
            hypertables,
            strange,
            excluded,
            ..Choice::default()
        };
        relations.retain(|r| match &r.config {
            Some(config) => choice.has_configuration(selection, &r.key(), &config.extension),
            None => true,
        });
        choice.relations = relations;
        Ok(choice)
    }

    /// All relations of the chosen hypertables, and the extension's own ones of all others. An aggregate and what it
    /// aggregates cannot be without each other: one that is named brings it, else one without it stays behind.
    fn hypertables(&self, model: &Model, known: &Known) -> (HashSet<Name>, HashSet<Name>) {
        let selection = self.selection;
        let mut ids = BTreeSet::new();
        for (&id, hypertable) in &model.hypertables {
            let chosen = selection.selects(hypertable.known_as(), known);
            if hypertable.kind != Kind::Compressed && chosen {
                ids.insert(id);
            }
        }
        let raw = |id: &i64| model.hypertables.get(id).and_then(|h| h.raw);
        if !selection.tables.is_empty() {
            let mut open: Vec<i64> = ids.iter().copied().collect();
            while let Some(id) = open.pop() {
                open.extend(raw(&id).filter(|&raw| ids.insert(raw)));
            }
        }
        loop {
            let whole: BTreeSet<i64> = ids
                .iter()
                .copied()
                .filter(|id| raw(id).is_none_or(|raw| ids.contains(&raw)))
                .collect();
            if whole.len() == ids.len() {
                break;
            }
            ids = whole;
        }
        let chosen: HashSet<Name> = ids.iter().flat_map(|&id| model.relations_of(id)).collect();
        let own = model.own_relations().into_iter();
        let strange = own.filter(|name| !chosen.contains(*name)).cloned();
        let strange = strange.collect();
        (chosen, strange)
    }
}

impl Choice {
    /// Whether an extension is wanted. TimescaleDB comes with hypertables.
    pub fn has_extension(&self, selection: &Selection, extension: &str) -> bool {
        selection.selects_extension(extension)
            || (extension == timescale::EXTENSION && !self.hypertables.is_empty())
    }

    /// Whether the configuration of an extension, in a table or a sequence, is wanted. TimescaleDB's is what makes
    /// hypertables of tables, and nothing without them.
    pub fn has_configuration(&self, selection: &Selection, name: &Name, extension: &str) -> bool {
        if extension == timescale::EXTENSION {
            return self.has_extension(selection, extension);
        }
        selection.selects_configuration(name, extension, &self.known)
    }

    /// Tables of which not all rows are wanted; those whose parents are among them go without saying.
    pub fn conditions(&self, selection: &Selection) -> Vec<Condition> {
        let tables = self.relations.iter().filter(|r| r.config.is_none());
        tables
            .filter_map(|table| {
                let name = table.key();
                let conditions = selection.conditions(&name, &self.known);
                let parents = self.known.parents.get(&name).into_iter().flatten();
                let said = |parent| !selection.conditions(parent, &self.known).is_empty();
                if conditions.is_empty() || parents.into_iter().any(said) {
                    return None;
                }
                Some(Condition {
                    schema: name.0,
                    table: name.1,
                    condition: conditions.join(" AND "),
                })
            })
            .collect()
    }

    /// Whether the definition of a relation is to be taken out of what `pg_dump` gives.
    pub fn is_unwanted(&self, selection: &Selection, name: &Name) -> bool {
        selection.excludes(name, &self.known) || self.strange.contains(name)
    }

    /// Options by which `pg_dump` of that major version chooses the same relations, and perhaps more.
    pub fn arguments(&self, selection: &Selection, major: i32) -> Vec<String> {
        let mut out = Vec::new();
        let mut push = |option: &str, value: &str| out.push(format!("{option}={value}"));
        for pattern in &selection.schemas {
            push("--schema", &pattern.to_string());
        }
        for pattern in &selection.exclude_schemas {
            push("--exclude-schema", &pattern.to_string());
        }
        for table in &selection.tables {
            // The session in which it works finds nothing without a schema.
            let visible = self.known.visible.iter();
            let found: BTreeSet<&Name> = visible
                .filter(|name| table.pattern.matches(name, Some(&self.known.visible)))
                .collect();
            if table.pattern.is_unqualified() && !found.is_empty() {
                for pattern in exact(found.into_iter()) {
                    push("--table", &pattern);
                }
            } else {
                push("--table", &table.pattern.to_string());
            }
        }
        for pattern in &selection.extensions {
            push("--extension", &pattern.to_string());
        }
        if major >= 17 {
            for pattern in &selection.exclude_extensions {
                push("--exclude-extension", &pattern.to_string());
            }
        }
        // What it would lock, and must not.
        for pattern in exact(self.unreadable.iter()) {
            push("--exclude-table", &pattern);
        }
        if !selection.tables.is_empty() {
            let more = self.hypertables.iter().cloned();
            let mut more: BTreeSet<Name> = more.collect();
            let family = self.relations.iter().map(Relation::key);
            if selection.tables.iter().any(|t| t.descendants) {
                more.extend(family.filter(|name| selection.selects(name, &self.known)));
            }
            for pattern in exact(more.iter()) {
                push("--table", &pattern);
            }
        } else if !selection.schemas.is_empty() {
            let schemas: BTreeSet<&String> = self.hypertables.iter().map(|(s, _)| s).collect();
            for schema in schemas {
                push("--schema", &quote_ident(schema));
            }
        }
        if !selection.is_everything() && !self.hypertables.is_empty() {
            push("--extension", timescale::EXTENSION);
        }
        if selection.strict_names {
            out.push("--strict-names".to_owned());
        }
        if selection.no_toast_compression {
            out.push("--no-toast-compression".to_owned());
        }
        out
    }

    /// Makes sure that `pg_dump` defines just the tables that are read and locked here, but for those that are `gone`.
    pub fn compare(&self, archive: &Archive, gone: &HashSet<Name>) -> Result<(), DumpError> {
        let ours: HashSet<Name> = self
            .relations
            .iter()
            .filter(|r| r.config.is_none() && r.kind != 'f')
            .map(Relation::key)
            .filter(|name| !gone.contains(name))
            .collect();
        let tables = archive.entries.iter().filter(|e| e.desc == "TABLE");
        let theirs: HashSet<Name> = tables.filter_map(closure::relation).collect();
        let mut different = ours.symmetric_difference(&theirs);
        match different.next() {
            None => Ok(()),
            Some((schema, name)) => Err(DumpError::Disagreement {
                table: format!("{schema}.{name}"),
                by_pg_dump: theirs.contains(&(schema.clone(), name.clone())),
            }),
        }
    }
}

/// The hypertables, as their users know them, by the relations in which their rows are.
fn rows_of_hypertables(model: &Model) -> HashMap<Name, Name> {
    let chunks = model.chunks.iter();
    chunks
        .filter_map(|chunk| Some((chunk, model.hypertables.get(&chunk.hypertable)?)))
        .flat_map(|(chunk, hypertable)| {
            let relations = chunk.compressed.iter().chain([&chunk.table]);
            relations.map(|name| (name.clone(), hypertable.known_as().clone()))
        })
        .collect()
}

/// Patterns that match just these relations, some names in each.
fn exact<'n>(names: impl Iterator<Item = &'n Name>) -> Vec<String> {
    let mut names: Vec<&Name> = names.collect();
    names.sort_unstable();
    names
        .chunk_by(|a, b| a.0 == b.0)
        .flat_map(|of_schema| of_schema.chunks(NAMES_PER_PATTERN))
        .map(|some| {
            let list: Vec<String> = some.iter().map(|(_, n)| quote_ident(n)).collect();
            let schema = quote_ident(&some[0].0);
            match &list[..] {
                [one] => format!("{schema}.{one}"),
                more => format!("{schema}.({})", more.join("|")),
            }
        })
        .collect()
}

/// Takes out of the archive what the selection leaves out and `pg_dump` does not.
pub fn reduce(archive: &mut Archive, selection: &Selection, known: &Known) {
    let empty = |e: &TocEntry| {
        let name = e.namespace.as_ref();
        let name = name.map(|n| (n.to_lossy().into_owned(), e.tag.to_lossy().into_owned()));
        e.desc == "MATERIALIZED VIEW DATA"
            && (selection.no_refresh || name.is_some_and(|n| selection.excludes_data(&n, known)))
    };
    let sections = skip::effective(&archive.entries);
    let without: HashSet<i32> = archive
        .entries
        .iter()
        .filter(|e| e.desc == "EXTENSION" && !selection.exclude_extensions.is_empty())
        .filter(|e| {
            let name = e.tag.to_lossy();
            let mut patterns = selection.exclude_extensions.iter();
            patterns.any(|pattern| pattern.matches_name(&name))
        })
        .map(|e| e.dump_id)
        .collect();
    let of_extension = |e: &TocEntry| {
        without.contains(&e.dump_id)
            || (matches!(e.desc.as_str(), "ACL" | "COMMENT" | "SECURITY LABEL")
                && e.dependencies.iter().any(|id| without.contains(id)))
    };
    let mut section = sections.into_iter();
    archive.entries.retain(|entry| {
        let wanted = section.next().is_none_or(|s| selection.sections.wants(s));
        wanted && !selection.skip.skips(entry) && !of_extension(entry) && !empty(entry)
    });
    for entry in &mut archive.entries {
        if selection.no_owner {
            entry.owner = SqlText::default();
        }
        if selection.no_tablespaces {
            entry.tablespace = entry.tablespace.as_ref().map(|_| SqlText::default());
        }
        if selection.no_table_access_method {
            entry.tableam = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_patterns_match_just_the_names_they_are_made_of() {
        let names: Vec<Name> = (0..100)
            .map(|n| ("Odd \"Schema\"".to_owned(), format!("t*{n}.\"x")))
            .collect();
        let patterns = exact(names.iter());
        assert_eq!(patterns.len(), 3);
        let patterns: Vec<crate::schema::pattern::Pattern> =
            patterns.iter().map(|p| p.parse().unwrap()).collect();
        let matches = |name: &Name| patterns.iter().any(|p| p.matches(name, None));
        assert!(names.iter().all(matches));
        assert!(!matches(&(names[0].0.clone(), "tt0.\"x".to_owned())));
        assert!(!matches(&("odd".to_owned(), names[0].1.clone())));
        assert_eq!(
            exact([("a".to_owned(), "b".to_owned())].iter()),
            ["\"a\".\"b\""]
        );
    }
}
