//! The dump of a cluster: what its databases share, and each of them with an MVCC snapshot of its own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::pg::archive::TocEntry;
use crate::pg::catalog;
use crate::pg::interrupt::Interrupt;
use crate::pg::pg_dump::{ChildConnection, PgDump, PgDumpall};
use crate::pg::{Connection, Error, FIRST_DATABASE, Settings, is_scratch, session_options};
use crate::progress::{Progress, Stage};
use crate::repo::model::{Cluster, Member, Snapshot, Source, Totals};
use crate::repo::{Hex, Repository, SnapshotId};
use crate::schema::globals;
use crate::schema::pattern::Pattern;

use super::origin::check_version;
use super::{DumpError, DumpOptions, DumpReport, server, this_host, write_tree};

/// The template that is never dumped: what can be changed in it is that it may be.
const UNTOUCHED_TEMPLATE: &str = "template0";

/// Which databases of a cluster are dumped.
#[derive(Debug, Clone)]
pub enum Members {
    /// None: roles and tablespaces only.
    None,
    /// All but these.
    All(Vec<Pattern>),
    /// These.
    Named(Vec<String>),
}

impl Members {
    /// Whether there are any.
    fn any(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// What was chosen, an option each.
    fn chosen(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::All(exclude) => {
                let exclude = exclude.iter();
                exclude
                    .map(|pattern| format!("--exclude-database {pattern}"))
                    .collect()
            }
            Self::Named(names) => names
                .iter()
                .map(|name| format!("--database {name}"))
                .collect(),
        }
    }
}

/// What the dump of a cluster is asked to do.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Which databases.
    pub databases: Members,
    /// Whether the roles' password hashes are kept.
    pub role_passwords: bool,
    /// The command to run as `pg_dumpall`, if not the one that is found.
    pub pg_dumpall: Option<String>,
    /// How often the dump of a database is begun again that the server broke off, and the time before that.
    pub retries: (u16, Duration),
}

/// What the dump of a cluster did.
#[derive(Debug, Clone)]
pub struct ClusterReport {
    /// The cluster's snapshot.
    pub id: SnapshotId,
    /// What it says of itself.
    pub snapshot: Snapshot,
    /// The databases that were dumped.
    pub databases: Vec<DumpReport>,
    /// The databases that were not, and why.
    pub failed: Vec<(String, String)>,
    /// What is missing, in the databases, too; not those that were not dumped.
    pub skipped: Vec<String>,
}

/// Dumps a cluster into a repository: its databases one after the other, each into a snapshot, then one snapshot of the
/// whole. A database that fails is noted, and the others go on.
pub fn run(
    repo: &Repository,
    options: &DumpOptions,
    cluster: &ClusterOptions,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<ClusterReport, DumpError> {
    let began = Instant::now();
    let (settings, mut conn) = connect(options)?;
    let role = options.role.as_deref();
    let version = check_version(&conn)?;
    let mut source = source(&mut conn, &settings, version)?;
    let program = PgDumpall::find(
        cluster.pg_dumpall.as_deref(),
        options.path.as_deref(),
        version,
    )?;
    if cluster.databases.any() {
        // Its absence is told once, not by every database.
        PgDump::find(options.pg_dump.as_deref(), options.path.as_deref(), version)?;
    }
    let mut skipped = Vec::new();
    let passwords = cluster.role_passwords && reads_passwords(&mut conn)?;
    if cluster.role_passwords && !passwords {
        skipped.push(
            "passwords of roles are left out: the role may not read pg_catalog.pg_authid"
                .to_owned(),
        );
    }
    let mut globals = Globals::read(&program, &settings, role, passwords)?;
    let mut warnings = Vec::new();
    let mut databases = Vec::new();
    let mut failed = Vec::new();
    let run = Hex::random();
    if cluster.databases.any() {
        let names = names(&mut conn, &cluster.databases, &mut warnings)?;
        if let Members::Named(wanted) = &cluster.databases {
            let missing = wanted.iter().filter(|name| !names.contains(name));
            let why = "there is no such database, or it allows no connections";
            failed.extend(missing.map(|name| (name.clone(), why.to_owned())));
        }
        for (number, name) in (1..).zip(&names) {
            let of = names.len();
            let name = name.clone();
            progress.stage(&Stage::Database {
                name: name.clone(),
                number,
                of,
            });
            let options = DumpOptions {
                settings: settings.with_dbname(&name),
                cluster: Some(Cluster {
                    run,
                    databases: None,
                    missing: Vec::new(),
                }),
                ..options.clone()
            };
            let attempt = || super::run(repo, &options, interrupt, progress);
            match super::again(cluster.retries, interrupt, progress, attempt) {
                Ok(report) => databases.push(report),
                Err(_) if interrupt.raised() => return Err(interrupted(&databases)),
                // What concerns the repository concerns all of them.
                Err(error @ DumpError::Repo(_)) => return Err(error),
                Err(error) => {
                    progress.note(&format!("database {name} was not dumped: {error}"));
                    failed.push((name, error.to_string()));
                }
            }
        }
        if databases.is_empty() {
            let failed = failed
                .iter()
                .map(|(name, error)| format!("{name}: {error}"));
            return Err(DumpError::NoDatabase(failed.collect()));
        }
        // What was made while they were read may be named in them.
        globals.renew(&program, &settings, role, passwords, &mut warnings);
    }
    warnings.extend(globals.said);
    let members = databases.iter().map(|report| Member {
        database: report.snapshot.source.database.clone(),
        snapshot: report.id,
    });
    let members: Vec<Member> = members.collect();
    for report in &databases {
        let name = &report.snapshot.source.database;
        skipped.extend(report.skipped.iter().map(|text| format!("{name}: {text}")));
    }
    let not_dumped = failed
        .iter()
        .map(|(name, error)| format!("database {name} is missing: {error}"));
    warnings.splice(0..0, not_dumped.chain(skipped.iter().cloned()));
    source.pg_dump_version = program.major().to_string();

    progress.stage(&Stage::Committing);
    let writer = repo.writer(options.effort)?;
    let tree = write_tree(&writer, &globals.entries, &[], &[])?;
    let own = writer.stats();
    let now = crate::clock::now();
    let mut totals = Totals {
        entries: globals.entries.len() as u64,
        added_blocks: own.new_blocks,
        added_bytes: own.new_bytes,
        ..Totals::default()
    };
    for report in &databases {
        add(&mut totals, &report.snapshot.totals);
    }
    totals.seconds = began.elapsed().as_secs_f64();
    let mut chosen = cluster.databases.chosen();
    chosen.extend(options.selection.chosen());
    chosen.sort();
    let snapshot = Snapshot {
        time: now,
        finished: now,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        host: this_host(),
        tags: options.tags.clone(),
        source,
        totals,
        warnings,
        sections: Vec::new(),
        chosen,
        conditions: Vec::new(),
        without_rows: Vec::new(),
        cluster: Some(Cluster {
            run,
            databases: Some(members),
            missing: failed.iter().map(|(name, _)| name.clone()).collect(),
        }),
        original: None,
        root: tree.root,
        outline: Some(tree.outline),
        sealed: false,
    };
    if interrupt.raised() {
        writer.abort()?;
        return Err(interrupted(&databases));
    }
    let id = writer.commit(snapshot.clone())?;
    Ok(ClusterReport {
        id,
        snapshot,
        databases,
        failed,
        skipped,
    })
}

fn interrupted(databases: &[DumpReport]) -> DumpError {
    let names = databases
        .iter()
        .map(|report| report.snapshot.source.database.clone());
    DumpError::ClusterInterrupted(names.collect())
}

/// A session in the database that is named, else in `postgres`.
pub(crate) fn connect(options: &DumpOptions) -> Result<(Settings, Connection), DumpError> {
    let settings = &options.settings;
    let settings = match settings.get("dbname") {
        Some(_) => settings.clone(),
        None => settings.with_dbname(FIRST_DATABASE),
    };
    let own = match &options.role {
        Some(role) => settings.clone().with_session("role", role),
        None => settings.clone(),
    };
    let conn = own
        .connect(&session_options())
        .map_err(server("could not connect"))?;
    Ok((settings.pin(&conn), conn))
}

fn source(conn: &mut Connection, settings: &Settings, version: i32) -> Result<Source, DumpError> {
    let facts = catalog::database_facts(conn)
        .map_err(server("could not read the database's properties"))?;
    let server_version = conn.parameter("server_version").unwrap_or_default();
    Ok(Source {
        database: String::new(),
        host: settings.host_name().to_owned(),
        port: settings.port(),
        system_identifier: facts.system_identifier,
        server_version: server_version.to_owned(),
        server_version_num: version,
        pg_dump_version: String::new(),
        encoding: "UTF8".to_owned(),
        block_size: facts.block_size,
        standby: facts.standby,
        ..Source::default()
    })
}

/// Whether the role may see the roles' password hashes.
fn reads_passwords(conn: &mut Connection) -> Result<bool, DumpError> {
    let rows = conn
        .query("SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')")
        .map_err(server("could not ask for the role's privileges"))?;
    Ok(rows.first().is_some_and(|row| row.get(0) == Some("t")))
}

/// The databases to dump: those that `pg_dumpall` dumps, in its order, as far as they are wanted.
pub(crate) fn names(
    conn: &mut Connection,
    wanted: &Members,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, DumpError> {
    // A connection limit of -2 marks a database of which DROP DATABASE was interrupted.
    let rows = conn
        .query(&format!(
            "SELECT datname, datallowconn, datconnlimit = -2 FROM pg_catalog.pg_database
             WHERE datname <> '{UNTOUCHED_TEMPLATE}' ORDER BY datname <> 'template1', datname"
        ))
        .map_err(server("could not list the databases"))?;
    let mut read = || -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for row in &rows {
            let name = row.text(0)?;
            let is_wanted = match wanted {
                Members::None => false,
                Members::All(exclude) => {
                    !is_scratch(name) && !exclude.iter().any(|p| p.matches_name(name))
                }
                Members::Named(names) => names.iter().any(|wanted| wanted == name),
            };
            if !is_wanted {
                continue;
            }
            if row.get_bool(2)? {
                warnings.push(format!(
                    "database {name} is left out: it was being dropped, and is invalid"
                ));
            } else if !row.get_bool(1)? {
                warnings.push(format!(
                    "database {name} is left out: it allows no connections"
                ));
            } else {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    };
    let names = read().map_err(server("could not list the databases"))?;
    if names.is_empty() {
        return Err(match wanted {
            Members::Named(names) => DumpError::NoSuchDatabase(names.clone()),
            _ => DumpError::AllExcluded,
        });
    }
    Ok(names)
}

/// What the databases share.
struct Globals {
    entries: Vec<TocEntry>,
    /// What `pg_dumpall` said.
    said: Vec<String>,
}

impl Globals {
    fn read(
        program: &PgDumpall,
        settings: &Settings,
        role: Option<&str>,
        passwords: bool,
    ) -> Result<Globals, DumpError> {
        let connection = ChildConnection::new(settings);
        let (script, stderr) = program.globals(&connection, role, passwords)?;
        Ok(Globals {
            entries: globals::parse(&script)?,
            said: stderr.lines().map(str::to_owned).collect(),
        })
    }

    /// Reads them again. What is gone is named: a database that was read before may need it.
    fn renew(
        &mut self,
        program: &PgDumpall,
        settings: &Settings,
        role: Option<&str>,
        passwords: bool,
        warnings: &mut Vec<String>,
    ) {
        let now = match Self::read(program, settings, role, passwords) {
            Ok(now) => now,
            Err(error) => {
                warnings.push(format!(
                    "roles and tablespaces are as they were before the first database was dumped, as they could not be read again: {error}"
                ));
                return;
            }
        };
        let there: BTreeSet<_> = made(&now.entries).collect();
        let gone = made(&self.entries).filter(|object| !there.contains(object));
        warnings.extend(gone.map(|(desc, name)| {
            format!(
                "{desc} {name} was dropped while databases were dumped: one of them may need it"
            )
        }));
        *self = now;
    }
}

/// Kind and name of the roles and tablespaces.
fn made(entries: &[TocEntry]) -> impl Iterator<Item = (&str, String)> {
    entries
        .iter()
        .filter(|e| matches!(e.desc.as_str(), globals::ROLE | globals::TABLESPACE))
        .map(|e| (e.desc.as_str(), e.tag.to_lossy().into_owned()))
}

fn add(totals: &mut Totals, more: &Totals) {
    totals.tables += more.tables;
    totals.rows += more.rows;
    totals.source_bytes += more.source_bytes;
    totals.payload_bytes += more.payload_bytes;
    totals.blocks += more.blocks;
    totals.added_blocks += more.added_blocks;
    totals.added_bytes += more.added_bytes;
    totals.large_objects += more.large_objects;
    totals.lock_seconds += more.lock_seconds;
    totals.read_seconds += more.read_seconds;
}
