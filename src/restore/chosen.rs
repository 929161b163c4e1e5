//! Which entries and tables of a snapshot a restore is about.

use std::collections::HashSet;

use crate::repo::model::{TableRecord, TableRole};
use crate::schema::statements;
use crate::timescale;

use super::{Opened, RestoreError, RestoreOptions};

/// The entries and tables to restore.
pub struct Chosen {
    /// By entry of the snapshot.
    pub entries: Vec<bool>,
    /// By table of the snapshot.
    pub tables: Vec<bool>,
    /// Schema and name of the tables whose definitions are restored.
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
            .filter(|(entry, chosen)| **chosen && entry.desc == "TABLE")
            .filter_map(|(entry, _)| {
                let schema = entry.namespace.as_ref()?.to_lossy().into_owned();
                Some((schema, entry.tag.to_lossy().into_owned()))
            })
            .collect();
        Ok(Self {
            tables: opened
                .tables
                .iter()
                .map(|t| whole || (t.role == TableRole::Plain && named(&t.name)))
                .collect(),
            entries,
            created,
            whole,
        })
    }

    /// Whether this restore creates the table.
    pub fn created(&self, table: &TableRecord) -> bool {
        self.created
            .contains(&(table.schema.clone(), table.name.clone()))
    }

    /// The version of TimescaleDB to restore, if any.
    pub fn timescale<'o>(&self, opened: &'o Opened) -> Option<&'o str> {
        timescale::version(&opened.snapshot.source).filter(|_| self.whole)
    }
}
