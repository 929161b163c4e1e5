//! Which entries and tables of a snapshot a restore is about.

use std::collections::{BTreeSet, HashSet};

use crate::pg::catalog::Name;
use crate::repo::model::{TableRecord, TableRole};
use crate::schema::{closure, statements};
use crate::timescale;

use super::{Opened, RestoreError, RestoreOptions, hypertables};

/// The entries and tables to restore.
pub struct Chosen {
    /// By entry of the snapshot.
    pub entries: Vec<bool>,
    /// By table of the snapshot.
    pub tables: Vec<bool>,
    /// Entries that wait for TimescaleDB's catalog, in their order.
    pub after_catalog: BTreeSet<usize>,
    /// Schema and name of the relations whose definitions are restored.
    created: HashSet<(String, String)>,
    /// Whether everything is restored.
    pub whole: bool,
}

impl Chosen {
    /// As the options say.
    pub fn new(opened: &Opened, options: &RestoreOptions) -> Result<Self, RestoreError> {
        const RELATIONS: &[&str] = &[
            "TABLE",
            "VIEW",
            "MATERIALIZED VIEW",
            "FOREIGN TABLE",
            "SEQUENCE",
            "MATERIALIZED VIEW DATA",
        ];
        let database: HashSet<usize> = opened.graph.database.iter().copied().collect();
        let named = |name: &str| options.tables.iter().any(|wanted| wanted == name);
        let whole = options.tables.is_empty();
        let entries: Vec<bool> = opened
            .entries
            .iter()
            .enumerate()
            .map(|(n, entry)| {
                if database.contains(&n) {
                    options.create
                } else if whole {
                    !statements::is_setting(entry) && !statements::is_data(entry)
                } else {
                    RELATIONS.contains(&entry.desc.as_str()) && named(&entry.tag.to_lossy())
                }
            })
            .collect();
        for name in &options.tables {
            let found = opened.entries.iter().zip(&entries);
            if !found
                .into_iter()
                .any(|(entry, &chosen)| chosen && entry.tag.to_lossy() == name.as_str())
            {
                return Err(RestoreError::NoSuchTable(name.clone()));
            }
        }
        let created = opened
            .entries
            .iter()
            .zip(&entries)
            .filter(|(_, chosen)| **chosen)
            .filter_map(|(entry, _)| closure::relation(entry))
            .collect();
        let after_catalog = if whole {
            hypertables::after_catalog(opened).into_iter().collect()
        } else {
            BTreeSet::new()
        };
        Ok(Self {
            tables: opened
                .tables
                .iter()
                .map(|t| whole || (t.role == TableRole::Plain && named(&t.name)))
                .collect(),
            entries,
            after_catalog,
            created,
            whole,
        })
    }

    /// Whether this restore creates the table.
    pub fn created(&self, table: &TableRecord) -> bool {
        self.restores(&(table.schema.clone(), table.name.clone()))
    }

    /// Whether this restore creates the relation.
    pub fn restores(&self, relation: &Name) -> bool {
        self.created.contains(relation)
    }

    /// The version of TimescaleDB to restore, if any.
    pub fn timescale<'o>(&self, opened: &'o Opened) -> Option<&'o str> {
        timescale::version(&opened.snapshot.source).filter(|_| self.whole)
    }
}
