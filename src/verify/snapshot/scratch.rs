//! Databases that are made to be dropped.

use crate::pg::Connection;
use crate::pg::catalog::quote_ident;
use crate::repo::SnapshotId;
use crate::restore::{self, Opened, RestoreError, RestoreOptions};

/// What the name of each begins with.
pub const PREFIX: &str = "pgtide_verify_";

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
        let name = format!("{PREFIX}{id:.8}_{:08x}", rand::random::<u32>());
        restore::create_database(opened, options, &name, conn)?;
        Ok(Self { name, keep })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops it, unless it is to stay. That it could not be dropped is told.
    pub fn drop(self, conn: &mut Connection) {
        if self.keep {
            return;
        }
        // With its sessions: TimescaleDB's, or one that was interrupted and has not noticed yet.
        let sql = format!("DROP DATABASE {} WITH (FORCE)", quote_ident(&self.name));
        if let Err(error) = conn.execute(&sql) {
            tracing::warn!("the scratch database {} stays behind: {error}", self.name);
        }
    }
}
