//! What of a database to dump: the options of `pg_dump`.

use std::io::Read;

use clap::Args;
use pgtide::schema::filter_file::{self, Item};
use pgtide::schema::pattern::{self, Pattern, PatternError};
use pgtide::schema::selection::{RowCondition, Selection, TablePattern};
use pgtide::schema::skip::{SectionName, Sections};
use pgtide::schema::statements::RenderOptions;

use super::Failure;
use super::common::{Bare, Without};

#[derive(Debug, Args)]
#[command(next_help_heading = "What to dump (patterns by psql's rules; all repeatable)")]
pub struct Selected {
    /// Only what is in schemas of this name
    #[arg(short = 'n', long = "schema", value_name = "PATTERN", value_parser = pattern::plain)]
    schemas: Vec<Pattern>,
    /// Nothing of schemas of this name
    #[arg(short = 'N', long = "exclude-schema", value_name = "PATTERN", value_parser = pattern::plain)]
    exclude_schemas: Vec<Pattern>,
    /// Only tables, views, sequences and foreign tables of this name, without what they depend on; hypertables with their
    /// chunks
    #[arg(short = 't', long = "table", value_name = "PATTERN")]
    tables: Vec<Pattern>,
    /// Leave out tables, views and sequences of this name, and all that is built on them; hypertables with their chunks
    #[arg(short = 'T', long = "exclude-table", value_name = "PATTERN")]
    exclude_tables: Vec<Pattern>,
    /// The same as --table, with all partitions and children
    #[arg(long, value_name = "PATTERN")]
    table_and_children: Vec<Pattern>,
    /// The same as --exclude-table, with all partitions and children
    #[arg(long, value_name = "PATTERN")]
    exclude_table_and_children: Vec<Pattern>,
    /// Leave out the rows of tables of this name
    #[arg(long, value_name = "PATTERN")]
    exclude_table_data: Vec<Pattern>,
    /// The same with all partitions and children
    #[arg(long, value_name = "PATTERN")]
    exclude_table_data_and_children: Vec<Pattern>,
    /// Only those rows of a table, and of its partitions and children, for which the condition is true, e.g.
    /// "orders: created > now() - interval '30 days'"
    #[arg(long = "where", value_name = "PATTERN: CONDITION")]
    conditions: Vec<RowCondition>,
    /// Only extensions of this name
    #[arg(short = 'e', long = "extension", value_name = "PATTERN", value_parser = pattern::plain)]
    extensions: Vec<Pattern>,
    /// No extensions of this name
    #[arg(long, value_name = "PATTERN", value_parser = pattern::plain)]
    exclude_extension: Vec<Pattern>,
    /// Rows of foreign tables, too, of servers of this name
    #[arg(long, value_name = "PATTERN", value_parser = pattern::plain, conflicts_with = "schema_only")]
    include_foreign_data: Vec<Pattern>,
    /// Read what to include and exclude from a file, '-' for standard input
    #[arg(long = "filter", value_name = "FILE")]
    filters: Vec<String>,
    /// Fail if a pattern of --schema, --table or --extension matches nothing
    #[arg(long)]
    strict_names: bool,
    /// Only this section: pre-data, data, post-data
    #[arg(long = "section", value_name = "SECTION", conflicts_with_all = ["schema_only", "data_only"])]
    sections: Vec<SectionName>,
    /// Definitions without rows
    #[arg(short, long, visible_alias = "no-data", conflicts_with = "data_only")]
    schema_only: bool,
    /// Rows without definitions
    #[arg(short = 'a', long, visible_alias = "no-schema")]
    data_only: bool,
    /// Large objects, though what to dump is chosen by name
    #[arg(
        short = 'b',
        long,
        alias = "blobs",
        conflicts_with = "no_large_objects"
    )]
    large_objects: bool,
    /// No large objects
    #[arg(short = 'B', long, alias = "no-blobs")]
    no_large_objects: bool,
    /// No rows of unlogged tables
    #[arg(long)]
    no_unlogged_table_data: bool,
    /// Have the rows of partitions loaded through their roots
    #[arg(long)]
    load_via_partition_root: bool,
    /// Of tables with row security the rows that the role may see, instead of none
    #[arg(long)]
    enable_row_security: bool,
    #[command(flatten)]
    bare: Bare,
    #[command(flatten)]
    without: Without,
    /// No compression methods of columns
    #[arg(long)]
    no_toast_compression: bool,
}

impl Selected {
    /// What is chosen, with what the filter files say.
    pub fn selection(&self) -> Result<Selection, Failure> {
        let skip = self.without.skip();
        let render = self.render();
        let mut selection = Selection {
            schemas: self.schemas.clone(),
            exclude_schemas: self.exclude_schemas.clone(),
            tables: both(&self.tables, &self.table_and_children),
            exclude_tables: both(&self.exclude_tables, &self.exclude_table_and_children),
            exclude_data: both(
                &self.exclude_table_data,
                &self.exclude_table_data_and_children,
            ),
            extensions: self.extensions.clone(),
            exclude_extensions: self.exclude_extension.clone(),
            foreign_data: self.include_foreign_data.clone(),
            conditions: self.conditions.clone(),
            sections: match (self.schema_only, self.data_only) {
                (true, _) => Sections::SCHEMA,
                (_, true) => Sections::DATA,
                _ => Sections::of(&self.sections),
            },
            skip,
            no_refresh: self.schema_only,
            strict_names: self.strict_names,
            no_unlogged_data: self.no_unlogged_table_data,
            large_objects: match (self.large_objects, self.no_large_objects) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            through_roots: self.load_via_partition_root,
            no_owner: render.no_owner,
            no_tablespaces: render.no_tablespaces,
            no_table_access_method: render.no_table_access_method,
            no_toast_compression: self.no_toast_compression,
        };
        for file in &self.filters {
            let text = read_filter(file)?;
            for item in filter_file::parse(&text)? {
                add(&mut selection, &item)?;
            }
        }
        Ok(selection)
    }

    /// What is left out of statements.
    pub fn render(&self) -> RenderOptions {
        self.bare.render(self.without.skip())
    }

    /// Whether rows that row security hides may be missing.
    pub fn row_security(&self) -> bool {
        self.enable_row_security
    }
}

fn both(patterns: &[Pattern], with_children: &[Pattern]) -> Vec<TablePattern> {
    let of = |patterns: &[Pattern], descendants| {
        let patterns = patterns.iter().cloned();
        patterns
            .map(move |pattern| TablePattern {
                pattern,
                descendants,
            })
            .collect::<Vec<_>>()
    };
    let mut all = of(patterns, false);
    all.extend(of(with_children, true));
    all
}

/// The text of a filter file, `-` for standard input.
pub fn read_filter(file: &str) -> Result<String, Failure> {
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| Failure::usage(format!("could not read the filter file {file}: {error}")))
}

/// What a line of a filter file adds to the selection.
fn add(selection: &mut Selection, item: &Item) -> Result<(), Failure> {
    let wrong = |error: PatternError| {
        Failure::usage(format!("line {} of the filter file: {error}", item.line))
    };
    let plain = || pattern::plain(&item.pattern).map_err(wrong);
    let table = |descendants| {
        let pattern = item.pattern.parse().map_err(wrong)?;
        Ok::<_, Failure>(TablePattern {
            pattern,
            descendants,
        })
    };
    match (item.include, item.kind.as_str()) {
        (true, "table") => selection.tables.push(table(false)?),
        (true, "table_and_children") => selection.tables.push(table(true)?),
        (true, "schema") => selection.schemas.push(plain()?),
        (true, "extension") => selection.extensions.push(plain()?),
        (true, "foreign_data") => selection.foreign_data.push(plain()?),
        (false, "table") => selection.exclude_tables.push(table(false)?),
        (false, "table_and_children") => selection.exclude_tables.push(table(true)?),
        (false, "table_data") => selection.exclude_data.push(table(false)?),
        (false, "table_data_and_children") => selection.exclude_data.push(table(true)?),
        (false, "schema") => selection.exclude_schemas.push(plain()?),
        (false, "extension") => selection.exclude_extensions.push(plain()?),
        _ => return Err(filter_file::not_supported(item).into()),
    }
    Ok(())
}
