//! The dump: lock and look, plan, read, encode, store, commit.

mod collect;
mod encode;
mod plan;
mod read;
mod types;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::pg::archive::Archive;
use crate::pg::catalog::{self, DatabaseFacts};
use crate::pg::interrupt::Interrupt;
use crate::pg::pg_dump::{ChildConnection, PgDump, PgDumpError, SchemaRequest};
use crate::pg::snapshot::{self, Held, SnapshotError};
use crate::pg::{Connection, Settings, session_options};
use crate::progress::{Progress, Stage};
use crate::repo::model::{Extension, Root, SequenceValue, Snapshot, Source, TableRecord, Totals};
use crate::repo::{PackGroup, Reader, RepoError, Repository, SnapshotId, Writer, lists};
use crate::rows::Effort;
use crate::schema;

use collect::Collector;
use encode::EncodeError;
use plan::{Plan, PlannedTable};
use read::{Buffers, Output};
use worker::{Shared, WorkerError};

/// How often a `pg_dump` that could not get its locks in time is started again.
const PG_DUMP_ATTEMPTS: u32 = 3;
/// How often the dump looks who waits for its locks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often an idle holder is spoken to, so that nothing between it and us drops the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// What a dump is asked to do.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// Where the database is.
    pub settings: Settings,
    /// Sessions that read, and threads that encode; nothing for as many as the machine and the server allow.
    pub jobs: Option<usize>,
    /// How hard to compress.
    pub effort: Effort,
    /// The command to run as `pg_dump`, if not the one that is found.
    pub pg_dump: Option<String>,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// How long to wait for a table's lock.
    pub lock_wait_timeout: Duration,
}

/// What a dump did.
#[derive(Debug, Clone)]
pub struct DumpReport {
    /// The snapshot.
    pub id: SnapshotId,
    /// What it says of itself.
    pub snapshot: Snapshot,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The server said no before the MVCC snapshot was there.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The server said no.
    #[error("{context}: {source}")]
    Server {
        /// What was being done.
        context: &'static str,
        /// What the server said.
        #[source]
        source: crate::pg::Error,
    },
    /// The schema could not be had.
    #[error(transparent)]
    PgDump(#[from] PgDumpError),
    /// Rows could not be read.
    #[error(transparent)]
    Read(#[from] WorkerError),
    /// Blocks could not be made or stored.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The repository could not be read or written.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A table's segments did not all arrive: a defect of pgtide.
    #[error(
        "{table}: segments from {segment} on are missing\nhint: this is a defect of pgtide; please report it. Nothing was stored as a snapshot"
    )]
    Incomplete {
        /// The table.
        table: String,
        /// The first segment of the incomplete shard.
        segment: u32,
    },
    /// The user asked to stop.
    #[error(
        "interrupted: no snapshot was written\nhint: run the same command again; what was stored already is not stored twice"
    )]
    Interrupted,
}

fn server(context: &'static str) -> impl FnOnce(crate::pg::Error) -> DumpError {
    move |source| DumpError::Server { context, source }
}

/// Dumps a database into a repository. Nothing is written at the source.
pub fn run(
    repo: &Repository,
    options: &DumpOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<DumpReport, DumpError> {
    let writer = repo.writer(options.effort)?;
    let result = dump(repo, &writer, options, interrupt, progress);
    match result {
        Ok(_) if interrupt.raised() => {
            writer.abort()?;
            Err(DumpError::Interrupted)
        }
        Ok(snapshot) => {
            progress.stage(&Stage::Committing);
            let id = writer.commit(snapshot.clone())?;
            Ok(DumpReport { id, snapshot })
        }
        Err(error) => {
            // What went wrong first is what the user must know.
            let _ = writer.abort();
            Err(if interrupt.raised() {
                DumpError::Interrupted
            } else {
                error
            })
        }
    }
}

/// Everything up to the commit.
fn dump(
    repo: &Repository,
    writer: &Writer,
    options: &DumpOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<Snapshot, DumpError> {
    let began = Instant::now();
    let mut watcher = options
        .settings
        .connect(&session_options())
        .map_err(server("could not connect"))?;
    for notice in watcher.take_notices() {
        progress.note(&notice.to_string());
    }
    let settings = options.settings.pin(&watcher);
    let _registration = interrupt.register(watcher.cancel_token());
    watcher
        .execute(&format!(
            "SET lock_timeout = {}",
            options.lock_wait_timeout.as_millis().max(1)
        ))
        .map_err(server("could not prepare the session"))?;
    let facts = catalog::database_facts(&mut watcher)
        .map_err(server("could not read the database's properties"))?;
    let version = watcher.server_version();
    let server_version = watcher
        .parameter("server_version")
        .unwrap_or_default()
        .to_owned();
    let jobs = match options.jobs {
        Some(jobs) => jobs.max(1),
        None => catalog::default_jobs(&mut watcher)
            .map_err(server("could not ask for the free connections"))?,
    };
    let pg_dump = PgDump::find(options.pg_dump.as_deref(), version)?;
    let reader = repo.reader()?;
    let previous = previous_tables(repo, &reader, &settings, &facts)?;

    let mut held = snapshot::hold(&settings, &mut watcher, options.lock_wait_timeout, progress)?;
    let time = jiff::Timestamp::now();
    let lock_seconds = began.elapsed().as_secs_f64();
    let reading = Instant::now();
    let extensions = catalog::extensions(&mut held.first)
        .map_err(server("could not read the installed extensions"))?;
    let planned = plan::plan(
        &mut held.first,
        &held.relations,
        &plan::Facts {
            block_size: facts.block_size,
            utf8: facts.encoding == "UTF8",
            standby: facts.standby,
        },
        &previous,
        jobs,
    )
    .map_err(server("could not read the tables' columns and sizes"))?;
    progress.stage(&Stage::Rows {
        bytes: planned.bytes,
        tables: planned.tables.len(),
    });

    let run = Run {
        repo,
        writer,
        options,
        settings: &settings,
        reader: &reader,
        interrupt,
        progress,
        pg_dump: &pg_dump,
        jobs,
    };
    let read = run.read(held, watcher, planned, &facts)?;

    let source = Source {
        database: facts.name.clone(),
        host: settings.host_name().to_owned(),
        port: settings.port(),
        system_identifier: facts.system_identifier.clone(),
        server_version,
        server_version_num: version,
        pg_dump_version: read.archive.dump_version.to_lossy().into_owned(),
        encoding: facts.encoding.clone(),
        collate: facts.collate.clone(),
        ctype: facts.ctype.clone(),
        locale_provider: facts.locale_provider.clone(),
        standby: facts.standby,
        extensions: extensions
            .into_iter()
            .map(|(name, version, schema)| Extension {
                name,
                version,
                schema,
            })
            .collect(),
    };
    let root = write_root(writer, &read)?;
    let stats = writer.stats();
    Ok(Snapshot {
        time,
        finished: jiff::Timestamp::now(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        tags: options.tags.clone(),
        totals: Totals {
            entries: read.archive.entries.len() as u64,
            tables: read.tables.len() as u64,
            rows: read.tables.iter().map(|t| t.digest.rows).sum(),
            source_bytes: read.tables.iter().map(|t| t.source_bytes).sum(),
            payload_bytes: read.tables.iter().map(|t| t.payload_bytes).sum(),
            blocks: read.blocks,
            added_blocks: stats.new_blocks,
            added_bytes: stats.new_bytes,
            large_objects: read.large_objects,
            lock_seconds,
            read_seconds: reading.elapsed().as_secs_f64(),
            seconds: began.elapsed().as_secs_f64(),
        },
        source,
        warnings: read.warnings,
        root,
    })
}

/// What the reading of a database gave.
struct Read {
    archive: Archive,
    tables: Vec<TableRecord>,
    sequences: Vec<SequenceValue>,
    blocks: u64,
    large_objects: u64,
    warnings: Vec<String>,
}

/// What the parts of a run share.
struct Run<'a> {
    repo: &'a Repository,
    writer: &'a Writer,
    options: &'a DumpOptions,
    settings: &'a Settings,
    reader: &'a Reader,
    interrupt: &'a Interrupt,
    progress: &'a dyn Progress,
    pg_dump: &'a PgDump,
    jobs: usize,
}

impl Run<'_> {
    /// Reads schema, rows and sequences, all at once.
    fn read(
        &self,
        held: Held,
        watcher: Connection,
        plan: Plan,
        facts: &DatabaseFacts,
    ) -> Result<Read, DumpError> {
        let Held {
            first,
            second,
            snapshot_ids,
            notes,
            ..
        } = held;
        let mut registrations = vec![self.interrupt.register(first.cancel_token())];
        registrations.extend(
            second
                .as_ref()
                .map(|second| self.interrupt.register(second.cancel_token())),
        );
        let holders: Vec<Mutex<Connection>> = std::iter::once(first)
            .chain(second)
            .map(Mutex::new)
            .collect();
        let watcher = Mutex::new(watcher);
        let notes = Mutex::new(notes);
        let stop = AtomicBool::new(false);
        let finished = AtomicBool::new(false);
        let collector = Collector::new(plan.tables.iter().map(|t| t.segments));
        let jobs = self.jobs;
        let (sender, receiver) = crossbeam_channel::bounded(jobs);
        let buffers = Buffers::new(jobs * 3);
        let shared = Shared {
            settings: self.settings,
            holders: &holders,
            watcher: &watcher,
            snapshot_ids: &snapshot_ids,
            tables: &plan.tables,
            units: Mutex::new(VecDeque::from(plan.units)),
            reader: self.reader,
            stop: &stop,
            interrupt: self.interrupt,
            notes: &notes,
            child: Mutex::new(None),
            encoding: &facts.encoding,
        };
        let store = encode::Store {
            repo: self.repo,
            writer: self.writer,
            tables: &plan.tables,
            collector: &collector,
            buffers: buffers.clone(),
            progress: self.progress,
            effort: self.options.effort,
        };

        let halt = || stop.store(true, Ordering::SeqCst);
        let (archive, sequences) = std::thread::scope(|scope| {
            let schema = scope.spawn(|| {
                self.schema(&snapshot_ids, &facts.name, &facts.encoding, &shared)
                    .inspect_err(|_| halt())
            });
            let encoders: Vec<_> = (0..jobs)
                .map(|_| scope.spawn(|| store.run(&receiver, &halt)))
                .collect();
            let readers: Vec<_> = (0..jobs)
                .map(|_| {
                    let output = Output {
                        tables: &plan.tables,
                        items: sender.clone(),
                        buffers: buffers.clone(),
                    };
                    let shared = &shared;
                    scope.spawn(move || shared.run(&output).inspect_err(|_| halt()))
                })
                .collect();
            drop(sender);
            scope.spawn(|| watch(&shared, &finished));

            let sequences = self.sequences(&snapshot_ids, &shared);
            let read = join_all(readers);
            let encoded = join_all(encoders);
            let schema = schema
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            shared.note_waiters();
            finished.store(true, Ordering::SeqCst);
            // The cause first: a reader that was stopped says only that.
            encoded?;
            match read {
                Err(WorkerError::Stopped) => {
                    schema?;
                    return Err(WorkerError::Stopped.into());
                }
                other => other?,
            }
            Ok::<_, DumpError>((schema?, sequences?))
        })?;
        for holder in &holders {
            let mut holder = holder.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing is lost if this fails: everything was read.
            let _ = holder.execute("COMMIT");
        }
        drop(registrations);

        let mut warnings = plan.notes;
        warnings.append(&mut notes.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut blocks = 0;
        let mut tables = Vec::with_capacity(plan.tables.len());
        let mut large_objects = 0;
        for (n, table) in plan.tables.into_iter().enumerate() {
            let result = collector.finish(n).map_err(|shard| DumpError::Incomplete {
                table: table.relation.display_name(),
                segment: shard * collect::SHARD_SEGMENTS,
            })?;
            blocks += result.blocks;
            if table.role == crate::repo::model::TableRole::LargeObjectMetadata {
                large_objects = result.digest.rows;
            }
            tables.push(record(table, result));
        }
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(Read {
            archive,
            tables,
            sequences,
            blocks,
            large_objects,
            warnings,
        })
    }

    /// Runs `pg_dump` beside the readers. It waits for locks itself: an ALTER TABLE that queued between our locks and
    /// its own makes it give up in time, and it is started again.
    fn schema(
        &self,
        snapshot_ids: &[String],
        dbname: &str,
        encoding: &str,
        shared: &Shared<'_>,
    ) -> Result<Archive, DumpError> {
        let connection = ChildConnection {
            env: self
                .settings
                .child_env()
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
            dbname: dbname.to_owned(),
        };
        let mut extra = Vec::new();
        if encoding != "SQL_ASCII" {
            // One encoding for all entries, whatever the database's own.
            extra.push("--encoding=UTF8".to_owned());
        }
        let mut ids = snapshot_ids.iter();
        let mut request = SchemaRequest {
            snapshot: ids.next().cloned(),
            lock_wait_timeout: Some(self.options.lock_wait_timeout),
            extra,
        };
        let mut attempt = 1;
        loop {
            let running = self.pg_dump.schema(&connection, &request)?;
            *shared.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(running.killer());
            match running.wait() {
                Err(error) if error.is_lock_timeout() && attempt < PG_DUMP_ATTEMPTS => {
                    shared.note_waiters();
                    attempt += 1;
                }
                Err(error) if error.is_snapshot_gone() => match ids.next() {
                    Some(id) => request.snapshot = Some(id.clone()),
                    None => return Err(error.into()),
                },
                other => return Ok(other?.0),
            }
        }
    }

    /// The sequences that the snapshot sees, with the values they have now.
    fn sequences(
        &self,
        snapshot_ids: &[String],
        shared: &Shared<'_>,
    ) -> Result<Vec<SequenceValue>, DumpError> {
        let mut conn = {
            let mut watcher = shared
                .watcher
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            snapshot::connect_same(self.settings, &session_options(), &mut watcher)?
        };
        let _registration = self.interrupt.register(conn.cancel_token());
        conn.execute(&format!(
            "SET lock_timeout = {}",
            self.options.lock_wait_timeout.as_millis().max(1)
        ))
        .and_then(|()| snapshot::import(&mut conn, snapshot_ids))
        .map_err(server("could not import the MVCC snapshot"))?;
        let rows = catalog::sequences(&mut conn)
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
}

/// Looks who waits for the dump's locks, and keeps idle holders' connections alive, until the dump has finished.
fn watch(shared: &Shared<'_>, finished: &AtomicBool) {
    let mut spoken = Instant::now();
    let mut looked = Instant::now();
    while !finished.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
        if shared.stopped() {
            shared.kill_child();
        }
        if looked.elapsed() >= WATCH_INTERVAL {
            looked = Instant::now();
            shared.note_waiters();
        }
        if spoken.elapsed() >= KEEPALIVE_INTERVAL {
            spoken = Instant::now();
            for holder in shared.holders {
                if let Ok(mut conn) = holder.try_lock() {
                    // A holder that is gone is noticed where it is needed.
                    let _ = conn.execute("SELECT 1");
                }
            }
        }
    }
}

fn join_all<E>(threads: Vec<std::thread::ScopedJoinHandle<'_, Result<(), E>>>) -> Result<(), E> {
    let mut result = Ok(());
    for thread in threads {
        let joined = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if result.is_ok() {
            result = joined;
        }
    }
    result
}

fn record(table: PlannedTable, result: collect::TableResult) -> TableRecord {
    TableRecord {
        schema: table.relation.schema,
        name: table.relation.name,
        role: table.role,
        columns: table.columns,
        format: table.format,
        load_through: table.load_through,
        segment_pages: table.segment_pages,
        source_bytes: table.bytes,
        payload_bytes: result.payload_bytes,
        digest: result.digest,
        manifest: result.manifest,
    }
}

/// Stores entries, tables and sequences, and the root that refers to them.
fn write_root(writer: &Writer, read: &Read) -> Result<crate::rows::BlockId, DumpError> {
    let (entries, order) = schema::store::encode(&read.archive.entries);
    let root = Root {
        entries: lists::write_list(writer, &PackGroup::Meta, &entries, |e| e.key.to_le_bytes())?,
        entry_order: lists::write_list(writer, &PackGroup::Meta, &order, |n| {
            n.to_le_bytes().to_vec()
        })?,
        tables: lists::write_list(writer, &PackGroup::Meta, &read.tables, |t| {
            format!("{}.{}", t.schema, t.name).into_bytes()
        })?,
        sequences: lists::write_list(writer, &PackGroup::Meta, &read.sequences, |s| {
            format!("{}.{}", s.schema, s.name).into_bytes()
        })?,
    };
    Ok(lists::write_value(writer, &PackGroup::Meta, &root)?)
}

/// The tables of this database's newest snapshot: their segments' sizes are kept, and their digests used again.
fn previous_tables(
    repo: &Repository,
    reader: &Reader,
    settings: &Settings,
    facts: &DatabaseFacts,
) -> Result<HashMap<(String, String), TableRecord>, DumpError> {
    let same = |source: &Source| {
        source.database == facts.name
            && match (&source.system_identifier, &facts.system_identifier) {
                (Some(theirs), Some(ours)) => theirs == ours,
                _ => source.host == settings.host_name() && source.port == settings.port(),
            }
    };
    let snapshots = repo.snapshots()?;
    let Some((_, snapshot)) = snapshots.list.iter().rev().find(|(_, s)| same(&s.source)) else {
        return Ok(HashMap::new());
    };
    // Damage in an old snapshot is no reason to go without tonight's dump.
    let tables = lists::read_value::<Root>(reader, &snapshot.root)
        .and_then(|root| lists::read_list::<TableRecord>(reader, &root.tables))
        .unwrap_or_default();
    Ok(tables
        .into_iter()
        .map(|t| ((t.schema.clone(), t.name.clone()), t))
        .collect())
}
