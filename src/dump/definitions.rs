//! What a source says of its schema: definitions by `pg_dump`, and the values of sequences.

use std::collections::HashSet;
use std::sync::PoisonError;

use crate::pg::archive::Archive;
use crate::pg::catalog::Name;
use crate::pg::pg_dump::{ChildConnection, SchemaRequest};
use crate::pg::{sequences, session_options, snapshot};
use crate::repo::model::SequenceValue;
use crate::schema::closure;

use super::origin::Origin;
use super::worker::WorkerError;
use super::{DumpError, select, server};

/// How often a `pg_dump` that could not get its locks in time is started again.
const PG_DUMP_ATTEMPTS: u32 = 3;

impl Origin<'_> {
    /// Runs `pg_dump` beside the readers.
    pub fn schema(&self) -> Result<Archive, DumpError> {
        let options = self.options;
        // One encoding for all entries, whatever the database's own; and bytes where it says nothing of them.
        let encoding = match self.facts.encoding.as_str() {
            encoding @ "SQL_ASCII" => encoding,
            _ => "UTF8",
        };
        let mut arguments = vec![format!("--encoding={encoding}")];
        arguments.extend(options.role.iter().map(|role| format!("--role={role}")));
        let program = &self.pg_dump;
        let choice = &self.choice;
        arguments.extend(choice.arguments(&options.selection, program.major()));
        let request = SchemaRequest {
            snapshot: None,
            lock_wait_timeout: Some(options.lock_wait_timeout),
            extra: arguments,
        };
        if program.is_local() {
            self.schema_at_holder(&request)
        } else {
            self.schema_beside(request)
        }
    }

    /// In a holder's session, which has the locks and the MVCC snapshot. It may still meet a lock that no holder has: on
    /// a view, or on a chunk that was made since.
    fn schema_at_holder(&self, request: &SchemaRequest) -> Result<Archive, DumpError> {
        let holding = &self.holding;
        let mut lost = None;
        // The last one first: the first is the one whose loss would hurt most.
        for holder in holding.holders.iter().rev() {
            let mut attempt = 1;
            while !holding.stopped() {
                let result = {
                    let mut conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
                    let started = |killer| holding.set_child(killer);
                    let program = &self.pg_dump;
                    program.schema_within(&mut conn, &holding.settings, request, started)
                };
                match result {
                    Err(error) if error.is_session_lost() => {
                        lost = Some(error);
                        break;
                    }
                    Err(error) if error.is_lock_timeout() && attempt < PG_DUMP_ATTEMPTS => {
                        holding.note_waiters();
                        attempt += 1;
                    }
                    other => return Ok(holding.heard(other?)),
                }
            }
        }
        Err(lost.map_or(WorkerError::Stopped.into(), DumpError::from))
    }

    /// Over a connection of its own: a command that was given may run in a container or on another machine. It waits for
    /// locks itself: an ALTER TABLE that queued between our locks and its own makes it give up in time, and it is
    /// started again.
    fn schema_beside(&self, mut request: SchemaRequest) -> Result<Archive, DumpError> {
        let holding = &self.holding;
        let connection = ChildConnection::new(&holding.settings);
        let mut ids = holding.snapshot_ids.iter();
        request.snapshot = ids.next().cloned();
        let mut attempt = 1;
        loop {
            let running = self.pg_dump.schema(&connection, &request)?;
            holding.set_child(running.killer());
            match running.wait() {
                Err(error) if error.is_lock_timeout() && attempt < PG_DUMP_ATTEMPTS => {
                    holding.note_waiters();
                    attempt += 1;
                }
                Err(error) if error.is_snapshot_gone() => match ids.next() {
                    Some(id) => request.snapshot = Some(id.clone()),
                    None => return Err(error.into()),
                },
                other => return Ok(holding.heard(other?)),
            }
        }
    }

    /// The sequences that the archive defines and those of extensions' configuration, with the values they have now.
    pub fn sequences(&self, archive: &Archive) -> Result<Vec<SequenceValue>, DumpError> {
        let holding = &self.holding;
        let mut conn = {
            let mut watcher = holding.watcher();
            snapshot::connect_same(&holding.settings, &session_options(), &mut watcher)?
        };
        let _registration = holding.interrupt.register(conn.cancel_token());
        let timeout = self.options.lock_wait_timeout;
        conn.execute(&snapshot::set_lock_timeout(timeout))
            .and_then(|()| snapshot::import(&mut conn, &holding.snapshot_ids))
            .map_err(server("could not import the MVCC snapshot"))?;
        let (selection, choice) = (&self.options.selection, &self.choice);
        let defined = archive.entries.iter().filter(|e| e.desc == "SEQUENCE");
        let defined: HashSet<Name> = defined.filter_map(closure::relation).collect();
        let wanted = |name: &Name, extension: Option<&str>| {
            selection.sections.data
                && !self.left_out(name)
                && !selection.excludes_data(name, &choice.known)
                && match extension {
                    Some(extension) => choice.has_configuration(selection, name, extension),
                    None => defined.contains(name),
                }
        };
        let rows = sequences::sequences(&mut conn, &wanted)
            .map_err(server("could not read the sequences' values"))?;
        Ok(rows
            .into_iter()
            .map(|row| SequenceValue {
                schema: row.schema,
                name: row.name,
                extension: row.extension,
                last_value: row.last_value,
                is_called: row.is_called,
            })
            .collect())
    }

    /// Takes out of the archive what is not chosen, and makes sure that it defines just the tables that are locked here;
    /// the relations that are gone with what they belong to.
    pub fn keep_chosen(&self, archive: &mut Archive) -> Result<HashSet<Name>, DumpError> {
        let gone = leave_out(archive, &|name| self.left_out(name));
        self.choice.compare(archive, &gone)?;
        select::reduce(archive, &self.options.selection, &self.choice.known);
        Ok(gone)
    }
}

/// Takes the definitions of relations out, with all that cannot be without them: the relations that are gone.
fn leave_out(archive: &mut Archive, left_out: &dyn Fn(&Name) -> bool) -> HashSet<Name> {
    let gone = closure::with_dependents(&archive.entries, left_out);
    let relations = gone
        .iter()
        .filter_map(|&n| closure::relation(&archive.entries[n]))
        .collect();
    let mut n = 0..;
    archive
        .entries
        .retain(|_| n.next().is_none_or(|n| !gone.contains(&n)));
    relations
}
