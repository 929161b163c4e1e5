//! What an export is made of: the chosen entries and tables of a snapshot, and how the rows of each are written.

use std::cell::Cell;
use std::collections::HashMap;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::Name;
use crate::pg::interrupt::Interrupt;
use crate::progress::Progress;
use crate::repo::model::{SequenceValue, TableRecord, TableRole};
use crate::restore::chosen::Chosen;
use crate::restore::{Opened, RestoreOptions, hypertables, load};
use crate::rows::text::Types;
use crate::schema::closure;
use crate::schema::statements::RenderOptions;
use crate::timescale;
use crate::timescale::catalog::Rows;

use super::{ExportError, ExportReport};

/// A snapshot, and what of it is exported.
pub struct Source<'a> {
    /// The snapshot.
    pub opened: &'a Opened,
    /// What is chosen of it.
    pub chosen: Chosen,
    /// What is left out of statements.
    pub render: RenderOptions,
    /// The types that columns are made of.
    pub types: Types,
    /// Who watches.
    pub progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    /// The definitions of relations, by name.
    relations: HashMap<Name, usize>,
    /// Rows and tables written so far.
    written: Cell<(u64, u64)>,
}

impl<'a> Source<'a> {
    /// As the options say; notes are told.
    pub fn new(
        opened: &'a Opened,
        options: &RestoreOptions,
        interrupt: &'a Interrupt,
        progress: &'a dyn Progress,
    ) -> Result<Self, ExportError> {
        let chosen = options.choose(opened)?;
        for note in &chosen.notes {
            progress.note(note);
        }
        let mut types = Vec::new();
        for table in opened.tables.iter().filter(|t| t.role == TableRole::Types) {
            types = load::whole(&opened.reader, table)?;
        }
        let relations = opened.entries.iter().enumerate();
        let relations = relations.filter_map(|(n, entry)| Some((closure::relation(entry)?, n)));
        let bytes = opened.tables.iter().zip(&chosen.tables);
        let bytes = bytes.filter(|(_, chosen)| **chosen);
        let bytes = bytes.map(|(table, _)| table.payload_bytes).sum();
        progress.stage(&chosen.counts(opened).stage(bytes));
        Ok(Self {
            opened,
            render: options.render,
            types: Types::new(&types, opened.snapshot.source.server_version_num),
            progress,
            interrupt,
            relations: relations.collect(),
            written: Cell::default(),
            chosen,
        })
    }

    /// The chosen entry that makes a relation.
    pub fn relation(&self, name: &Name) -> Option<&'a TocEntry> {
        let n = *self.relations.get(name)?;
        self.chosen.entries[n].then(|| &self.opened.entries[n])
    }

    /// The chosen tables with rows of users and extensions, in the order in which they are written: configuration of
    /// extensions first, what is referred to before what refers to it.
    pub fn tables(&self) -> Result<Vec<&'a TableRecord>, ExportError> {
        let all = self.opened.tables.iter().zip(&self.chosen.tables);
        let chosen = all.filter(|(_, chosen)| **chosen).map(|(table, _)| table);
        let (mut plain, mut config) = (Vec::new(), HashMap::new());
        for table in chosen {
            match &table.role {
                TableRole::Plain => plain.push(table),
                TableRole::ExtensionConfig { .. } => {
                    config.insert((table.schema.as_str(), table.name.as_str()), table);
                }
                _ => {}
            }
        }
        let mut names: Vec<_> = config.keys().copied().collect();
        names.sort_unstable();
        let ordered = hypertables::ordered(names, &self.config_references()?);
        let ordered = ordered.iter().filter_map(|name| config.get(name).copied());
        Ok(ordered.chain(plain).collect())
    }

    /// Which configuration tables refer to which others.
    pub fn config_references(&self) -> Result<Vec<(Name, Name)>, ExportError> {
        let mut pairs = Vec::new();
        let tables = self.opened.tables.iter();
        for table in tables.filter(|t| t.role == TableRole::ConfigReferences) {
            let columns = table.columns.iter().map(|c| c.name.clone()).collect();
            let text = load::whole(&self.opened.reader, table)?;
            let rows = Rows::parse(columns, &String::from_utf8_lossy(&text))
                .map_err(crate::restore::RestoreError::from)?;
            for row in rows.rows {
                if let [Some(schema), Some(name), Some(of), Some(referenced)] = &row[..] {
                    pairs.push((
                        (schema.clone(), name.clone()),
                        (of.clone(), referenced.clone()),
                    ));
                }
            }
        }
        Ok(pairs)
    }

    /// The chosen sequences, with the statements that set them.
    pub fn sequences(&self) -> impl Iterator<Item = (&'a SequenceValue, SqlText)> {
        let chosen = |sequence: &&SequenceValue| match sequence.extension {
            Some(_) => self.chosen.whole,
            None => self
                .chosen
                .restores(&(sequence.schema.clone(), sequence.name.clone())),
        };
        self.opened.sequences.iter().filter(chosen).map(|sequence| {
            let mut name = Vec::new();
            crate::schema::ident::push_qualified(
                &mut name,
                Some(&SqlText::from(sequence.schema.as_str())),
                &SqlText::from(sequence.name.as_str()),
            );
            let name = crate::pg::catalog::quote_literal(&String::from_utf8_lossy(&name));
            let statement = format!(
                "SELECT pg_catalog.setval({}, {}, {});\n",
                name.trim_start(),
                sequence.last_value,
                sequence.is_called
            );
            (sequence, SqlText::from(statement))
        })
    }

    /// The encoding of rows, where it is not that of the entries.
    pub fn encoding(&self) -> Option<&'a str> {
        match self.opened.snapshot.source.encoding.as_str() {
            "UTF8" | "SQL_ASCII" => None,
            other => Some(other),
        }
    }

    /// Says what a restore with PostgreSQL's own programs needs to know.
    pub fn notes(&self) {
        if let Some(version) = self.chosen.timescale(self.opened) {
            self.progress.note(&format!(
                "the database has {}: restore it as its documentation says, with version {version} at the target, between timescaledb_pre_restore() and timescaledb_post_restore(), and with one job",
                timescale::EXTENSION
            ));
        }
        let missing = self.opened.tables.iter();
        if missing
            .into_iter()
            .any(|t| t.role == TableRole::MissingValues && t.digest.rows > 0)
        {
            self.progress.note(
                "values that compressed rows of TimescaleDB have in columns added after compression are not exported, as pg_dump does not carry them either; pgtide restore does",
            );
        }
    }

    /// Fails when the user asked to stop.
    pub fn check(&self) -> Result<(), ExportError> {
        if self.interrupt.raised() {
            Err(ExportError::Interrupted)
        } else {
            Ok(())
        }
    }

    /// Counts a table that was written.
    pub fn wrote(&self, rows: u64) {
        let (tables, all) = self.written.get();
        self.written.set((tables + 1, all + rows));
    }

    /// What was written.
    pub fn report(&self) -> ExportReport {
        let (tables, rows) = self.written.get();
        ExportReport { tables, rows }
    }
}
