//! The opening of a source: one server, one MVCC snapshot, all locks, and a plan of what there is to read.

use std::time::Instant;

use crate::pg::archive::Archive;
use crate::pg::catalog::{self, DatabaseFacts, Name};
use crate::pg::interrupt::Interrupt;
use crate::pg::pg_dump::PgDump;
use crate::pg::snapshot;
use crate::pg::{Connection, Settings, session_options};
use crate::progress::Progress;
use crate::repo::model::{Extension, Source, TableRole};
use crate::repo::outline::KnownTables;
use crate::timescale::contents::Counts;
use crate::timescale::reading::{self, Reading, Wanted};

use super::holding::Holding;
use super::plan::{self, Plan};
use super::select::{Choice, Selector};
use super::{DumpError, DumpOptions, access, server};

/// The oldest server whose catalog is known.
const OLDEST_SERVER: i32 = 150_000;

/// A source that is ready to be read.
pub struct Origin<'a> {
    /// What was asked for.
    pub options: &'a DumpOptions,
    /// The sessions that have snapshot and locks.
    pub holding: Holding,
    /// The database.
    pub facts: DatabaseFacts,
    /// What was chosen.
    pub choice: Choice,
    /// What is special about hypertables.
    pub special: Reading,
    /// What there is to read.
    pub plan: Plan,
    /// Tables, hypertables and chunks.
    pub counts: Counts,
    /// The program that gives the schema.
    pub pg_dump: PgDump,
    /// Sessions that read, and threads that encode.
    pub jobs: usize,
    /// When the opening began ...
    pub began: Instant,
    /// ... and when all locks were there.
    pub locked: Instant,
    /// The time of the MVCC snapshot.
    pub time: jiff::Timestamp,
    /// The server's version, for programs and for people.
    pub server_version: (i32, String),
    /// The installed extensions.
    pub extensions: Vec<Extension>,
}

/// Finds what is known of the tables of a database from earlier.
pub type Earlier<'a> = dyn Fn(&Settings, &DatabaseFacts) -> Result<KnownTables, DumpError> + 'a;

impl<'a> Origin<'a> {
    /// Connects, locks, takes the MVCC snapshot, and plans.
    pub fn open(
        options: &'a DumpOptions,
        interrupt: &Interrupt,
        progress: &dyn Progress,
        earlier: &Earlier<'_>,
    ) -> Result<Self, DumpError> {
        let began = Instant::now();
        let mut settings = options.settings.clone();
        if let Some(role) = &options.role {
            settings = settings.with_session("role", role);
        }
        if options.row_security {
            settings = settings.with_session("row_security", "on");
        }
        let mut watcher = settings
            .connect(&session_options())
            .map_err(server("could not connect"))?;
        for notice in watcher.take_notices() {
            progress.note(&notice.to_string());
        }
        let settings = settings.pin(&watcher);
        let registration = interrupt.register(watcher.cancel_token());
        watcher
            .execute(&snapshot::set_lock_timeout(options.lock_wait_timeout))
            .map_err(server("could not prepare the session"))?;
        let version = check_version(&watcher)?;
        let server_version = watcher.parameter("server_version").unwrap_or_default();
        let server_version = server_version.to_owned();
        let facts = catalog::database_facts(&mut watcher)
            .map_err(server("could not read the database's properties"))?;
        if facts.encoding == "SQL_ASCII" {
            let names = catalog::names_not_utf8(&mut watcher)
                .map_err(server("could not read the names of tables and columns"))?;
            if !names.is_empty() {
                return Err(DumpError::Names(names));
            }
        }
        let jobs = match options.jobs {
            Some(jobs) => jobs.max(1),
            None => catalog::default_jobs(&mut watcher)
                .map_err(server("could not ask for the free connections"))?,
        };
        let pg_dump = PgDump::find(options.pg_dump.as_deref(), options.path.as_deref(), version)?;
        let previous = earlier(&settings, &facts)?;

        let selection = &options.selection;
        let selector = Selector::new(selection, &settings)?;
        let wanted = snapshot::Wanted {
            list: &|conn| Ok(selector.choose(conn)?.relations),
            lock_timeout: options.lock_wait_timeout,
            snapshot: options.snapshot.as_deref(),
        };
        let refused = access::refused(&mut watcher, &selector, selection)
            .map_err(server("could not ask for the role's privileges"))?;
        if !refused.is_empty() {
            return Err(DumpError::NotReadable {
                role: options
                    .role
                    .as_deref()
                    .unwrap_or(settings.user())
                    .to_owned(),
                objects: refused,
            });
        }
        let mut held = snapshot::hold(&settings, &mut watcher, &wanted, progress)?;
        let choice = selector
            .settle(&mut held)
            .map_err(server("could not list the tables"))?;
        let time = crate::clock::now();
        let locked = Instant::now();
        let extensions = catalog::extensions(&mut held.first)
            .map_err(server("could not read the installed extensions"))?;
        let special = reading::reading(
            &mut held.first,
            &held.relations,
            &Wanted {
                part: &options.part,
                excluded: &|name| selection.excludes(name, &choice.known),
                decompress: options.decompress,
            },
            time,
        )?;
        held.notes.extend(special.notes.iter().cloned());
        let access = access::look(&mut held.first, &held.relations, options)
            .map_err(server("could not ask for the role's privileges"))?;
        let mut planned = plan::plan(
            &mut held.first,
            &held.relations,
            &plan::Facts {
                block_size: facts.block_size,
                utf8: facts.encoding == "UTF8",
                standby: facts.standby,
                hidden: access.hidden,
            },
            &special,
            &plan::Rows {
                selection,
                known: &choice.known,
                statistics: options.statistics && selection.sections.data,
            },
            &previous,
            jobs,
        )?;
        planned.skipped.extend(access.missing);
        held.notes.append(&mut planned.notes);
        let plain = planned.tables.iter().filter(|t| t.role == TableRole::Plain);
        let names: Vec<Name> = plain.map(|t| t.relation.key()).collect();
        let counts = Counts::of(&special.model, names.iter());
        drop(registration);
        Ok(Self {
            options,
            holding: Holding::new(
                held,
                watcher,
                settings,
                &facts.encoding,
                &options.kindness,
                interrupt,
            ),
            facts,
            choice,
            special,
            plan: planned,
            counts,
            pg_dump,
            jobs,
            began,
            locked,
            time,
            server_version: (version, server_version),
            extensions: extensions
                .into_iter()
                .map(|(name, version, schema)| Extension {
                    name,
                    version,
                    schema,
                })
                .collect(),
        })
    }

    /// Whether a relation's definition is left out, with all that cannot be without it.
    pub fn left_out(&self, name: &Name) -> bool {
        self.special.left_out.contains(name)
            || self.choice.is_unwanted(&self.options.selection, name)
    }

    /// What a snapshot says of its source.
    pub fn source(&self, archive: &Archive) -> Source {
        let (facts, settings) = (&self.facts, &self.holding.settings);
        let (server_version_num, server_version) = self.server_version.clone();
        let extensions = self.extensions.iter();
        Source {
            database: facts.name.clone(),
            host: settings.host_name().to_owned(),
            port: settings.port(),
            system_identifier: facts.system_identifier.clone(),
            server_version,
            server_version_num,
            pg_dump_version: archive.dump_version.to_lossy().into_owned(),
            encoding: facts.encoding.clone(),
            collate: facts.collate.clone(),
            ctype: facts.ctype.clone(),
            locale_provider: facts.locale_provider.clone(),
            locale: facts.locale.clone(),
            collation_version: facts.collation_version.clone(),
            block_size: facts.block_size,
            standby: facts.standby,
            extensions: extensions
                .filter(|e| self.choice.has_extension(&self.options.selection, &e.name))
                .cloned()
                .collect(),
        }
    }
}

/// The server's version, if it is one that pgtide dumps from.
pub(super) fn check_version(conn: &Connection) -> Result<i32, DumpError> {
    let version = conn.server_version();
    if version < OLDEST_SERVER {
        let version = conn.parameter("server_version").unwrap_or_default();
        return Err(DumpError::OldServer {
            version: version.to_owned(),
        });
    }
    Ok(version)
}
