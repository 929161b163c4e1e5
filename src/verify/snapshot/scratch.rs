//! Databases that are made to be dropped.

use crate::pg::catalog::quote_ident;
use crate::pg::{Connection, Error, SCRATCH_PREFIX, Settings, session_options};
use crate::progress::Progress;
use crate::repo::SnapshotId;
use crate::restore::{self, Opened, RestoreError, RestoreOptions};

/// A scratch database.
pub struct Scratch {
    name: String,
    keep: bool,
}

impl Scratch {
    /// Makes one as the source's was: with its encoding and locale.
    pub fn create(
        id: SnapshotId,
        opened: &Opened,
        options: &RestoreOptions,
        conn: &mut Connection,
        keep: bool,
    ) -> Result<Self, RestoreError> {
        let name = format!("{SCRATCH_PREFIX}{id:.8}_{:08x}", rand::random::<u32>());
        restore::create_database(opened, options, &name, conn)?;
        Ok(Self { name, keep })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops it, unless it is to stay. That it could not be dropped is told.
    pub fn drop(self, conn: &mut Connection, settings: &Settings, progress: &dyn Progress) {
        if self.keep {
            progress.note(&format!("the scratch database {} stays", self.name));
            return;
        }
        // With its sessions: TimescaleDB's, or one that was interrupted and has not noticed yet.
        let sql = format!("DROP DATABASE {} WITH (FORCE)", quote_ident(&self.name));
        let subscriptions = self.drop_subscriptions(settings);
        let dropped = conn.execute(&sql).or_else(|error| {
            if conn.is_usable() {
                return Err(error);
            }
            // The session did not live as long as the restore.
            settings.connect(&session_options())?.execute(&sql)
        });
        if let Err(error) = dropped.map_err(|error| subscriptions.err().unwrap_or(error)) {
            progress.note(&format!(
                "the scratch database {} stays behind, and is to be dropped by hand: {error}",
                self.name
            ));
        }
    }

    /// Drops its subscriptions, which keep a database from being dropped. They were made without slots: nothing is done at
    /// any publisher.
    fn drop_subscriptions(&self, settings: &Settings) -> Result<(), Error> {
        let mut conn = settings
            .with_dbname(&self.name)
            .connect(&session_options())?;
        let rows = conn.query(
            "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
             WHERE d.datname = pg_catalog.current_database()",
        )?;
        for row in &rows {
            let name = quote_ident(row.text(0)?);
            for statement in [
                format!("ALTER SUBSCRIPTION {name} DISABLE"),
                format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
                format!("DROP SUBSCRIPTION {name}"),
            ] {
                conn.execute(&statement)?;
            }
        }
        Ok(())
    }
}
