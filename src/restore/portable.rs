//! Hypertables restored into another version of TimescaleDB: made anew at the target, and loaded through.

use crate::pg::Connection;
use crate::pg::catalog::{Name, quote_literal};
use crate::schema::closure;
use crate::timescale::model::Kind;
use crate::timescale::portable::{self, Portable, Step, Target};
use crate::timescale::{self, EXTENSION};

use super::chosen::Chosen;
use super::exec::{Halt, Session, Work};
use super::steps::Restore;
use super::{Opened, RestoreError, RestoreOptions, server};

impl Opened {
    /// The snapshot as it is restored into another version: rows of chunks go in through their hypertables.
    pub fn portable(mut self) -> Opened {
        portable::without_only(&mut self.entries, &self.model);
        for table in &mut self.tables {
            let name = (table.schema.clone(), table.name.clone());
            let chunk = self.model.chunks.iter().find(|chunk| chunk.table == name);
            let hypertable = chunk.and_then(|chunk| self.model.hypertables.get(&chunk.hypertable));
            if let Some(hypertable) = hypertable {
                table.load_through = Some(hypertable.table.clone());
            }
        }
        self
    }
}

/// Whether a relation is the extension's own making: chunks, what holds compressed rows, all of an aggregate.
pub fn is_made_anew(opened: &Opened, relation: &Name) -> bool {
    let model = &opened.model;
    let of_chunk = |c: &timescale::model::Chunk| {
        c.table == *relation || c.compressed.as_ref() == Some(relation)
    };
    model.chunks.iter().any(of_chunk)
        || model.hypertables.values().any(|h| match &h.kind {
            Kind::User => false,
            Kind::Compressed => h.table == *relation,
            Kind::Aggregate { view, internal } => {
                h.table == *relation || view == relation || internal.contains(relation)
            }
        })
}

/// Why the snapshot cannot be restored so, if it cannot.
pub fn problem(opened: &Opened, chosen: &Chosen) -> Option<String> {
    let compressed = opened.model.chunks.iter().any(|chunk| {
        let relation = chunk.compressed.as_ref();
        let stored = |t: &crate::repo::model::TableRecord| {
            relation.is_some_and(|(schema, name)| t.schema == *schema && t.name == *name)
                && t.digest.rows > 0
        };
        chosen.loads(&chunk.table) && opened.tables.iter().any(stored)
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
    let source = opened.snapshot.source.extensions.iter();
    let own = source
        .filter(|e| e.name == EXTENSION)
        .map(|e| &e.schema)
        .next();
    let schema = installed.map_or_else(
        || crate::pg::catalog::quote_ident(own.map_or("public", String::as_str)),
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
    let mut plan = portable::plan(&opened.catalog, &opened.model, &restored, &target)?;
    plan.left_out.extend(chosen.left_out.iter().cloned());
    Ok(plan)
}

impl Restore<'_> {
    /// Creates the extension, at the version that the target has.
    pub fn begin_portable(&self) -> Result<(), RestoreError> {
        let mut conn = self.connect()?;
        let source = &self.opened.snapshot.source;
        let schema = source.extensions.iter().find(|e| e.name == EXTENSION);
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
pub fn dependents(opened: &Opened, gone: &std::collections::HashSet<usize>) -> Vec<String> {
    let kinds = [
        "VIEW",
        "MATERIALIZED VIEW",
        "FUNCTION",
        "PROCEDURE",
        "TABLE",
    ];
    let mut found: Vec<usize> = gone.iter().copied().collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|n| &opened.entries[n])
        .filter(|e| kinds.contains(&e.desc.as_str()))
        .filter(|e| closure::relation(e).is_none_or(|name| !is_made_anew(opened, &name)))
        .map(|e| format!("{}, which is built on it", super::entry_name(e)))
        .collect()
}
