//! Hypertables restored into another version of TimescaleDB: made anew at the target, and loaded through.

use std::collections::{HashMap, HashSet};

use crate::pg::Connection;
use crate::pg::catalog::{Name, quote_literal};
use crate::repo::model::TableRecord;
use crate::schema::closure;
use crate::timescale::portable::{self, Portable, Step, Target};
use crate::timescale::{self, EXTENSION};

use super::chosen::Chosen;
use super::exec::Session;
use super::steps::Restore;
use super::work::{Halt, Work};
use super::{Opened, RestoreError, RestoreOptions, server};

impl Opened {
    /// The snapshot as it is restored into another version: rows of chunks go in through their hypertables.
    pub fn portable(mut self) -> Opened {
        portable::without_only(&mut self.entries, &self.model);
        let chunks = self.model.chunks.iter();
        let root_of: HashMap<&Name, &Name> = chunks
            .filter_map(|chunk| {
                let hypertable = self.model.hypertables.get(&chunk.hypertable)?;
                Some((&chunk.table, &hypertable.table))
            })
            .collect();
        for table in &mut self.tables {
            if let Some(&root) = root_of.get(&table.key()) {
                table.load_through = Some(root.clone());
            }
        }
        self
    }
}

/// Why the snapshot cannot be restored so, if it cannot.
pub fn problem(opened: &Opened, chosen: &Chosen) -> Option<String> {
    let tables = opened.tables.iter().filter(|t| t.digest.rows > 0);
    let stored: HashSet<Name> = tables.map(TableRecord::key).collect();
    let compressed = opened.model.chunks.iter().any(|chunk| {
        let relation = chunk.compressed.as_ref();
        chosen.loads(&chunk.table) && relation.is_some_and(|relation| stored.contains(relation))
    });
    compressed.then(|| {
        "the snapshot has compressed chunks, and how rows are compressed differs between versions\nhint: dump again with --decompress, and restore that with --portable".to_owned()
    })
}

/// What is done by the public functions of the extension at the target, and what cannot be.
pub fn plan(
    opened: &Opened,
    options: &RestoreOptions,
    chosen: &Chosen,
    conn: &mut Connection,
) -> Result<Portable, RestoreError> {
    let rows = conn
        .query(&format!(
            "SELECT coalesce(e.extversion, a.default_version), pg_catalog.quote_ident(n.nspname)
             FROM pg_catalog.pg_available_extensions a
             LEFT JOIN pg_catalog.pg_extension e ON e.extname = a.name {}
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
             WHERE a.name = '{EXTENSION}'",
            // What the database connected to has matters only if it is the one to restore into.
            if options.create { "AND false" } else { "" }
        ))
        .map_err(server("could not look at the target's TimescaleDB"))?;
    let version = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    let tsl = timescale::has_tsl(conn, version)
        .map_err(server("could not look at the target's TimescaleDB"))?;
    let installed = rows.first().and_then(|row| row.get(1));
    let own = timescale::installed(&opened.snapshot.source);
    let schema = installed.map_or_else(
        || crate::pg::catalog::quote_ident(own.map_or("public", |e| e.schema.as_str())),
        str::to_owned,
    );
    let target = Target {
        schema,
        // A role that may not look finds out when it comes to it.
        tsl: tsl != Some(false),
        owners: !options.render.no_owner,
        tablespaces: !options.render.no_tablespaces,
    };
    let restored = |name: &Name| chosen.restores(name);
    Ok(portable::plan(
        &opened.catalog,
        &opened.model,
        &restored,
        &target,
    )?)
}

impl Restore<'_> {
    /// Creates the extension, at the version that the target has.
    pub fn begin_portable(&self) -> Result<(), RestoreError> {
        let mut conn = self.connect()?;
        let source = &self.opened.snapshot.source;
        let schema = timescale::installed(source);
        let schema = schema.map_or("public", |e| e.schema.as_str());
        let exists = format!(
            "SELECT FROM pg_catalog.pg_namespace WHERE nspname = {}",
            quote_literal(schema)
        );
        let schema = crate::pg::catalog::quote_ident(schema);
        let missing = conn
            .query(&exists)
            .map_err(server("could not look at the target's schemas"))?
            .is_empty();
        if missing {
            conn.execute(&format!("CREATE SCHEMA {schema}"))
                .map_err(server("could not create the schema of timescaledb"))?;
        }
        // It must be the first of its session.
        self.connect()?
            .execute(&format!(
                "CREATE EXTENSION IF NOT EXISTS {EXTENSION} SCHEMA {schema}"
            ))
            .map_err(server("could not create the extension timescaledb"))
    }

    /// Runs steps of the public functions, one after the other.
    pub fn portable_steps(&self, session: &mut Session<'_>, steps: &[Step]) -> Result<(), Halt> {
        for (name, statements) in steps {
            let work = Work::Statements(name.clone(), statements.clone());
            if !session.run(&[&work]) {
                return Err(Halt);
            }
        }
        Ok(())
    }
}

/// Objects of users that cannot be without what is not carried.
pub fn dependents(opened: &Opened, gone: &HashSet<usize>) -> Vec<String> {
    let kinds = [
        "VIEW",
        "MATERIALIZED VIEW",
        "FUNCTION",
        "PROCEDURE",
        "TABLE",
    ];
    let own = opened.model.own_relations();
    let mut found: Vec<usize> = gone.iter().copied().collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|n| &opened.entries[n])
        .filter(|e| kinds.contains(&e.desc.as_str()))
        .filter(|e| closure::relation(e).is_none_or(|name| !own.contains(&name)))
        .map(|e| format!("{}, which is built on it", super::entry_name(e)))
        .collect()
}
