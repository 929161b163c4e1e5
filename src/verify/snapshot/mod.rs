//! The proof that a snapshot restores: it is restored into a scratch database, and that is compared with it, definition by
//! definition, sequence by sequence, and row by row.

mod content;
mod large_objects;
mod printed;
mod sample;
mod scratch;
mod server;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::dump::DumpError;
use crate::pg::interrupt::Interrupt;
use crate::pg::{Connection, Settings};
use crate::progress::{Progress, Stage};
use crate::repo::model::Snapshot;
use crate::repo::{RepoError, Repository, SnapshotId};
use crate::restore::{self, Opened, RestoreError, RestoreOptions};
use crate::schema::statements::RenderOptions;
use crate::verify::compare::{CompareError, EntryDifference, SequenceDifference, TableComparison};

pub use sample::Sampled;
pub use server::{Ephemeral, EphemeralError};

/// What a verification is asked to do.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Where databases are made, and dropped.
    pub server: Server,
    /// Sessions that restore and read.
    pub jobs: Option<usize>,
    /// The command to run as `pg_dump`, if not the one that is found.
    pub pg_dump: Option<String>,
    /// Where programs are looked for before the usual places, in the form of `PATH`.
    pub path: Option<OsString>,
    /// How long to wait for a lock.
    pub lock_wait_timeout: Duration,
    /// What is left out: owners, privileges, tablespaces.
    pub render: RenderOptions,
    /// How much of the blocks is looked at, of one, instead of restoring all rows.
    pub sample: Option<f64>,
    /// Queries whose answers must be right.
    pub queries: Vec<Query>,
    /// The time in which all must be restored.
    pub rto: Option<Duration>,
    /// Leave the scratch databases where they are.
    pub keep: bool,
}

/// Where a snapshot is restored.
#[derive(Debug, Clone)]
pub enum Server {
    /// A server that is there: the database to connect to first.
    There(Box<Settings>),
    /// One that is started for this, from the programs in that directory, or those that are found.
    Ephemeral(Option<std::path::PathBuf>),
    /// Nowhere: this database was restored from it before.
    Restored(Box<Settings>),
}

/// A query on the restored database.
#[derive(Debug, Clone)]
pub struct Query {
    /// The database; nothing for all.
    pub database: Option<String>,
    /// The query.
    pub sql: String,
    /// Its answer; nothing for any but false, zero and none.
    pub expect: Option<String>,
}

/// What came of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The query.
    pub sql: String,
    /// The first column of its first row.
    pub answer: Option<String>,
    /// What was expected.
    pub expected: Option<String>,
    /// What the server said instead.
    pub error: Option<String>,
    /// Whether it is right.
    pub right: bool,
}

/// In what a database differs from its snapshot, which is the source here.
#[derive(Debug, Default, Serialize)]
pub struct Differences {
    /// Definitions.
    pub schema: Vec<EntryDifference>,
    /// All tables, and what else has rows.
    pub tables: Vec<TableComparison>,
    /// Sequences.
    pub sequences: Vec<SequenceDifference>,
    /// What could not be compared, and why.
    pub not_compared: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// What was found of one database.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// The database.
    pub database: String,
    /// Its snapshot.
    pub snapshot: SnapshotId,
    /// Whether nothing differs, and all answers are right.
    pub equal: bool,
    /// Why it could not be restored.
    pub failed: Option<String>,
    /// Rows that were compared.
    pub rows: u64,
    /// Bytes of payload that were restored.
    pub bytes: u64,
    /// Seconds that the restore took.
    pub restore_seconds: f64,
    /// Seconds altogether.
    pub seconds: f64,
    /// In what it differs.
    pub differences: Differences,
    /// What came of the queries.
    pub answers: Vec<Answer>,
    /// What was looked at of the blocks, where not all rows were restored.
    pub sampled: Option<Sampled>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub server: String,
    /// Its version.
    pub server_version: String,
    /// The databases.
    pub databases: Vec<Verified>,
    /// Whether all are equal.
    pub equal: bool,
    /// Seconds that all restores took: the time to recover.
    pub restore_seconds: f64,
    /// The time in which all was to be restored.
    pub rto_seconds: Option<f64>,
    /// Whether it was.
    pub in_time: bool,
    /// Seconds altogether.
    pub seconds: f64,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The repository cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The server said no before anything was restored.
    #[error("{context}: {source}")]
    Server {
        /// What was being done.
        context: &'static str,
        /// What the server said.
        #[source]
        source: crate::pg::Error,
    },
    /// Something is missing at the server.
    #[error("{database} cannot be restored on this server: {source}")]
    Refused {
        /// The database.
        database: String,
        /// What.
        #[source]
        source: Box<RestoreError>,
    },
    /// The restored database could not be read.
    #[error("the restored database could not be compared: {0}")]
    Read(#[source] Box<DumpError>),
    /// There is no throw-away server.
    #[error(transparent)]
    Ephemeral(#[from] EphemeralError),
    /// The server, or the storage, gave up in the middle of it: that says nothing of the snapshot.
    #[error(
        "nothing is known of the snapshot, as the restore broke off for another reason: {0}\nhint: try again"
    )]
    Trouble(String),
    /// A snapshot that cannot be restored alone.
    #[error(
        "this snapshot has no definition of its database (it is of rows only, or of a section), so it is not restored by itself\nhint: restore it into a database that has the definitions, and compare: verify --restored -d DATABASE"
    )]
    NoDefinitions,
    /// The key writes only.
    #[error(
        "the key of this repository writes and maintains, and does not read, so nothing can be restored with it\nhint: verify where a key that reads is at hand, from the same repository or a copy"
    )]
    CannotRead,
    /// Roles could not be restored.
    #[error("roles could not be restored on the throw-away server\n{}", .0.join("\n"))]
    Globals(Vec<String>),
    /// A snapshot of roles and tablespaces alone.
    #[error(
        "this snapshot holds roles and tablespaces only, so there is no database to verify\nhint: restore it with --dry-run to see what it would do"
    )]
    OnlyGlobals,
    /// Several databases, and one to compare them with.
    #[error(
        "this snapshot is of a whole cluster, and one database is compared with one snapshot\nhint: name the snapshot of the database; pgtide show lists them"
    )]
    Several,
    /// The user asked to stop.
    #[error("interrupted: nothing is known of the snapshot")]
    Interrupted,
}

impl From<DumpError> for VerifyError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Interrupted => Self::Interrupted,
            error => Self::Read(Box::new(error)),
        }
    }
}

impl From<CompareError> for VerifyError {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Side { source, .. } => (*source).into(),
            _ => Self::Interrupted,
        }
    }
}

fn server(context: &'static str) -> impl FnOnce(crate::pg::Error) -> VerifyError {
    move |source| VerifyError::Server { context, source }
}

/// Restores a snapshot, of a cluster each of its databases, and compares it with what was restored.
pub fn run(
    repo: &Repository,
    id: SnapshotId,
    snapshot: &Snapshot,
    options: &VerifyOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<Report, VerifyError> {
    let began = Instant::now();
    if !repo.can_read() {
        return Err(VerifyError::CannotRead);
    }
    let members: Vec<(SnapshotId, Snapshot)> = match snapshot.databases() {
        None => vec![(id, snapshot.clone())],
        Some([]) => return Err(VerifyError::OnlyGlobals),
        Some(_) if matches!(options.server, Server::Restored(_)) => {
            return Err(VerifyError::Several);
        }
        Some(members) => {
            let found = members
                .iter()
                .map(|member| repo.find(&member.snapshot.to_string()));
            found.collect::<Result<_, _>>()?
        }
    };
    let started;
    let (settings, ephemeral) = match &options.server {
        Server::There(settings) | Server::Restored(settings) => ((**settings).clone(), None),
        Server::Ephemeral(programs) => {
            let newest = members
                .iter()
                .map(|(_, s)| s.source.server_version_num)
                .max();
            let timescale = members
                .iter()
                .any(|(_, snapshot)| server::has_timescale(snapshot));
            let needed = server::Needed {
                version: newest.unwrap_or_default(),
                timescale,
            };
            started = Ephemeral::start(programs.as_deref(), options.path.as_deref(), needed)?;
            (started.settings()?, Some(&started))
        }
    };
    let mut conn = settings
        .connect(&crate::pg::session_options())
        .map_err(server("could not connect to the server"))?;
    let run = Run {
        repo,
        options,
        settings: &settings,
        ephemeral: ephemeral.is_some(),
        interrupt,
        progress,
    };
    if ephemeral.is_some() && snapshot.databases().is_some() {
        let options = run.restore_options(settings.clone());
        server::restore_globals(repo, snapshot, &settings, options, interrupt, progress)?;
    }
    let mut databases = Vec::new();
    let of = members.len();
    for (number, (id, snapshot)) in (1..).zip(members) {
        if of > 1 {
            let name = snapshot.source.database.clone();
            progress.stage(&Stage::Database { name, number, of });
        }
        databases.push(run.one(id, snapshot, &mut conn)?);
    }
    let restore_seconds = databases.iter().map(|one| one.restore_seconds).sum();
    let rto_seconds = options.rto.map(|rto| rto.as_secs_f64());
    Ok(Report {
        server: match ephemeral {
            Some(_) => "a throw-away server".to_owned(),
            None => format!("{}:{}", settings.host_name(), settings.port()),
        },
        server_version: conn
            .parameter("server_version")
            .unwrap_or_default()
            .to_owned(),
        equal: databases.iter().all(|one| one.equal),
        databases,
        restore_seconds,
        rto_seconds,
        in_time: rto_seconds.is_none_or(|rto| restore_seconds <= rto),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// What all databases have in common.
struct Run<'a> {
    repo: &'a Repository,
    options: &'a VerifyOptions,
    settings: &'a Settings,
    ephemeral: bool,
    interrupt: &'a Interrupt,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    /// Verifies one database.
    fn one(
        &self,
        id: SnapshotId,
        snapshot: Snapshot,
        conn: &mut Connection,
    ) -> Result<Verified, VerifyError> {
        let began = Instant::now();
        let mut verified = Verified {
            database: snapshot.source.database.clone(),
            snapshot: id,
            equal: false,
            failed: None,
            rows: 0,
            bytes: 0,
            restore_seconds: 0.0,
            seconds: 0.0,
            differences: Differences::default(),
            answers: Vec::new(),
            sampled: None,
        };
        let result = match restore::open(self.repo, snapshot) {
            Ok(opened) => match &self.options.server {
                Server::Restored(settings) => self.compare(&opened, settings, true, &mut verified),
                _ => self.restored(id, &opened, conn, &mut verified),
            },
            Err(error) => Err(Stop::Snapshot(error)),
        };
        match result {
            Ok(()) => {}
            Err(_) if self.interrupt.raised() => return Err(VerifyError::Interrupted),
            Err(Stop::Snapshot(error)) => verified.failed = Some(error.to_string()),
            Err(Stop::Here(error)) => return Err(error),
        }
        verified.seconds = began.elapsed().as_secs_f64();
        let found = &verified.differences;
        verified.rows = (found.tables.iter())
            .filter_map(|table| table.target.as_ref())
            .map(|held| held.rows)
            .sum();
        verified.equal = verified.failed.is_none()
            && found.schema.is_empty()
            && found.sequences.is_empty()
            && found.tables.iter().all(|table| table.equal)
            && verified.answers.iter().all(|answer| answer.right)
            && verified
                .sampled
                .as_ref()
                .is_none_or(|s| s.damaged.is_empty());
        Ok(verified)
    }

    /// Restores a snapshot into a scratch database, and compares.
    fn restored(
        &self,
        id: SnapshotId,
        opened: &Opened,
        conn: &mut Connection,
        verified: &mut Verified,
    ) -> Result<(), Stop> {
        let mut entries = opened.graph.database.iter().map(|&n| &opened.entries[n]);
        if !entries.any(|entry| entry.desc == "DATABASE") {
            return Err(VerifyError::NoDefinitions.into());
        }
        if self.ephemeral {
            server::create_roles(opened, &self.restore_options(self.settings.clone()), conn)?;
        }
        let options = self.restore_options(self.settings.clone());
        // What stands against it has nothing to do with the snapshot.
        let anew = RestoreOptions {
            create: true,
            clean: true,
            ..options.clone()
        };
        let (_, problems) = restore::rehearse(opened, &anew).map_err(refused(opened))?;
        if !problems.is_empty() {
            return Err(refused(opened)(RestoreError::Refused(Box::new(problems))).into());
        }
        let scratch = scratch::Scratch::create(id, opened, &options, conn, self.options.keep)
            .map_err(refused(opened))?;
        let settings = self.settings.with_dbname(scratch.name());
        let options = self.restore_options(settings.clone());
        let began = Instant::now();
        let result = restore::run(opened, &options, self.interrupt, self.progress);
        verified.restore_seconds = began.elapsed().as_secs_f64();
        let result = match result {
            Ok(report) => {
                verified.bytes = report.payload_bytes;
                let failures: Vec<String> =
                    report.failures.iter().map(ToString::to_string).collect();
                if let Some(trouble) = failures.iter().find(|text| is_of_server(text)) {
                    Err(VerifyError::Trouble(trouble.clone()).into())
                } else {
                    if !failures.is_empty() {
                        verified.failed = Some(failures.join("\n"));
                    }
                    let rows = self.options.sample.is_none();
                    let compared = self.compare(opened, &settings, rows, verified);
                    // What was known not to come along before anything was done.
                    verified.differences.not_compared.extend(report.left_out);
                    compared
                }
            }
            // Nothing was touched: this server lacks something.
            Err(error @ RestoreError::Refused(_)) => Err(refused(opened)(error).into()),
            Err(error) if is_of_server(&error.to_string()) => {
                Err(VerifyError::Trouble(error.to_string()).into())
            }
            Err(error) => Err(Stop::Snapshot(error)),
        };
        scratch.drop(conn, self.settings, self.progress);
        result
    }

    /// Compares a database with its snapshot, and asks the queries.
    fn compare(
        &self,
        opened: &Opened,
        settings: &Settings,
        rows: bool,
        verified: &mut Verified,
    ) -> Result<(), Stop> {
        let (interrupt, progress) = (self.interrupt, self.progress);
        if let Some(part) = self.options.sample {
            verified.sampled = Some(sample::look(opened, part, interrupt, progress)?);
        }
        verified.differences =
            content::compare(opened, settings, self.options, rows, interrupt, progress)?;
        verified.answers = self.ask(&opened.snapshot.source.database, settings)?;
        Ok(())
    }

    fn restore_options(&self, settings: Settings) -> RestoreOptions {
        let mut pick = restore::Pick::default();
        if self.options.sample.is_some() {
            pick.content = restore::Content::SCHEMA;
        }
        RestoreOptions {
            settings,
            jobs: self.options.jobs,
            create: false,
            properties: false,
            clean: false,
            pick,
            portable: false,
            render: self.render(),
            statistics: false,
            role: None,
            row_security: false,
            disable_triggers: false,
            analyze: false,
            continue_on_error: true,
            no_jobs: true,
        }
    }

    /// A throw-away server has no tablespaces.
    fn render(&self) -> RenderOptions {
        RenderOptions {
            no_tablespaces: self.options.render.no_tablespaces || self.ephemeral,
            ..self.options.render
        }
    }

    fn ask(&self, database: &str, settings: &Settings) -> Result<Vec<Answer>, VerifyError> {
        let queries = self.options.queries.iter();
        let wanted = queries.filter(|q| q.database.as_deref().is_none_or(|name| name == database));
        let wanted: Vec<&Query> = wanted.collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        // As a user would ask them: with a search path.
        let session = crate::pg::session_options().with("search_path", "\"$user\", public");
        let mut conn = settings
            .connect(&session)
            .map_err(server("could not connect to the restored database"))?;
        let registration = self.interrupt.register(conn.cancel_token());
        let answers = wanted.into_iter().map(|query| {
            // A query that fails must not take the next one along.
            let result = conn.query(&query.sql);
            let (answer, error) = match result {
                Ok(rows) => {
                    let first = rows.first().and_then(|row| row.get(0)).map(str::to_owned);
                    (first, None)
                }
                Err(error) => (None, Some(error.to_string())),
            };
            let right = match &query.expect {
                Some(expected) => answer.as_ref() == Some(expected),
                None => !matches!(answer.as_deref(), None | Some("f" | "0" | "")),
            };
            Answer {
                sql: query.sql.clone(),
                expected: query.expect.clone(),
                right: right && error.is_none(),
                answer,
                error,
            }
        });
        let answers = answers.collect();
        drop(registration);
        Ok(answers)
    }
}

/// Why a database was not verified: because of what its snapshot holds, or of something here.
enum Stop {
    Snapshot(RestoreError),
    Here(VerifyError),
}

impl<E: Into<VerifyError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Here(error.into())
    }
}

/// Whether a message is of a server or a storage that gave up, rather than of what was to be restored: a lost connection
/// (class 08), no resources (53), an intervention (57), trouble of the system (58).
fn is_of_server(text: &str) -> bool {
    let class = |class: &str| text.contains(&format!("({class}"));
    ["08", "53", "57P", "58"].into_iter().any(class)
        || text.contains("connection to server")
        || text.contains("no longer usable")
}

fn refused(opened: &Opened) -> impl FnOnce(RestoreError) -> VerifyError + use<> {
    let database = opened.snapshot.source.database.clone();
    move |source| VerifyError::Refused {
        database,
        source: Box::new(source),
    }
}
