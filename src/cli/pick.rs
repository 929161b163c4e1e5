//! What of a snapshot is wanted: the options of `pg_restore` that select, for all commands that take a snapshot apart.

use std::path::PathBuf;

use clap::Args;
use pgtide::restore::{Content, Names, Pick};
use pgtide::schema::pattern::Pattern;
use pgtide::schema::skip::{SectionName, Sections, Skip};
use pgtide::schema::{filter_file, list};

use super::Failure;
use super::common::{History, Without};
use super::selection::read_filter;

/// Options that select.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to restore (names as they are, not patterns)")]
pub struct Selection {
    /// Only objects in this schema, without the schema itself (repeatable)
    #[arg(short = 'n', long = "schema", value_name = "NAME")]
    schemas: Vec<String>,
    /// No objects in this schema (repeatable)
    #[arg(short = 'N', long = "exclude-schema", value_name = "NAME")]
    exclude_schemas: Vec<String>,
    /// Only this table, view or sequence with its rows, without its indexes and constraints (repeatable)
    #[arg(short, long = "table", value_name = "NAME")]
    tables: Vec<String>,
    /// Only this index (repeatable)
    #[arg(short = 'I', long = "index", value_name = "NAME")]
    indexes: Vec<String>,
    /// Only this function, procedure or aggregate, with the types of its arguments as pgtide list shows them (repeatable)
    #[arg(short = 'P', long = "function", value_name = "NAME(ARGS)")]
    functions: Vec<String>,
    /// Only this trigger: its name, or its table's and its own (repeatable)
    #[arg(short = 'T', long = "trigger", value_name = "NAME")]
    triggers: Vec<String>,
    /// Only this hypertable or continuous aggregate, with its chunks, indexes, constraints, triggers and policies, the
    /// aggregates on it, and what it needs (repeatable)
    #[arg(
        long = "hypertable",
        value_name = "NAME",
        conflicts_with_all = ["tables", "schemas", "indexes", "functions", "triggers", "use_list"]
    )]
    hypertables: Vec<String>,
    /// No tables, views and sequences of this name, and nothing that is built on them; hypertables with their chunks. A
    /// pattern by psql's rules, in all schemas unless it names one (repeatable)
    #[arg(long = "exclude-table", value_name = "PATTERN")]
    exclude_tables: Vec<Pattern>,
    #[command(flatten)]
    part: History,
    /// Only what this file lists, in its order: the output of pgtide list, edited
    #[arg(short = 'L', long, value_name = "FILE")]
    use_list: Option<PathBuf>,
    /// Names from a file: lines like 'include table orders', 'exclude schema old'; - is stdin (repeatable)
    #[arg(long, value_name = "FILE")]
    filter: Vec<String>,
    /// Every name of --schema, --table, --index, --function and --trigger must be there
    #[arg(long)]
    strict_names: bool,
    /// Only this section: pre-data, data or post-data (repeatable)
    #[arg(long = "section", value_name = "SECTION", conflicts_with_all = ["schema_only", "data_only"])]
    sections: Vec<SectionName>,
    /// Only definitions, no rows
    #[arg(short, long, visible_alias = "no-data")]
    schema_only: bool,
    /// Only rows, values of sequences and large objects, into what exists
    #[arg(
        short = 'a',
        long,
        visible_alias = "no-schema",
        conflicts_with = "schema_only"
    )]
    data_only: bool,
    #[command(flatten)]
    without: Without,
}

impl Selection {
    /// What is wanted, with what the files say.
    pub fn pick(&self) -> Result<Pick, Failure> {
        let mut names = Names {
            schemas: self.schemas.clone(),
            exclude_schemas: self.exclude_schemas.clone(),
            tables: self.tables.clone(),
            indexes: self.indexes.clone(),
            functions: self.functions.clone(),
            triggers: self.triggers.clone(),
        };
        for file in &self.filter {
            add_filter(&mut names, file)?;
        }
        let list = match &self.use_list {
            Some(file) => {
                let text = std::fs::read(file).map_err(|error| {
                    Failure::usage(format!("could not read {}: {error}", file.display()))
                })?;
                let list = list::parse_list(&text);
                Some(list.map_err(|error| Failure::usage(error.to_string()))?)
            }
            None => None,
        };
        Ok(Pick {
            names,
            strict_names: self.strict_names,
            hypertables: self.hypertables.clone(),
            exclude_tables: self.exclude_tables.clone(),
            part: self.part.part(),
            list,
            sections: Sections::of(&self.sections),
            content: match (self.schema_only, self.data_only) {
                (true, _) => Content::SCHEMA,
                (_, true) => Content::DATA,
                _ => Content::default(),
            },
            skip: self.without.skip(),
        })
    }

    /// Whether anything of it is given.
    pub fn is_given(&self) -> Result<bool, Failure> {
        let pick = self.pick()?;
        Ok(!pick.is_whole()
            || !pick.exclude_tables.is_empty()
            || !pick.part.is_whole()
            || pick.sections != Sections::ALL
            || pick.content != Content::default()
            || pick.skip != Skip::default())
    }

    /// Whether rows alone are wanted.
    pub fn data_only(&self) -> bool {
        self.data_only
    }

    /// Kinds of entries that are left out.
    pub fn skip(&self) -> Skip {
        self.without.skip()
    }
}

/// Adds what a filter file names, as `pg_restore` takes it: names, not patterns, and of schemas only what to exclude.
fn add_filter(names: &mut Names, file: &str) -> Result<(), Failure> {
    for item in filter_file::parse(&read_filter(file)?)? {
        let list = match (item.include, item.kind.as_str()) {
            (true, "schema") => &mut names.schemas,
            (false, "schema") => &mut names.exclude_schemas,
            (true, "table") => &mut names.tables,
            (true, "index") => &mut names.indexes,
            (true, "function") => &mut names.functions,
            (true, "trigger") => &mut names.triggers,
            _ => return Err(filter_file::not_supported(&item).into()),
        };
        list.push(unquoted(&item.pattern));
    }
    Ok(())
}

/// A name in double quotes is what is between them, as in a filter file of `pg_dump`.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(inner) if !inner.replace("\"\"", "").contains('"') => inner.replace("\"\"", "\""),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_name_is_what_is_between_the_quotes() {
        assert_eq!(unquoted("\"Odd \"\"name\""), "Odd \"name");
        assert_eq!(unquoted("plain"), "plain");
        assert_eq!(unquoted("\"a\" (b\")"), "\"a\" (b\")");
    }
}
