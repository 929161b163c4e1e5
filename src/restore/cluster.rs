//! The restore of a cluster: what its databases share, then one database after the other.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::quote_literal;
use crate::pg::interrupt::Interrupt;
use crate::pg::{Connection, FIRST_DATABASE, Settings};
use crate::progress::{Progress, Stage};
use crate::repo::model::{Member, Snapshot, Source};
use crate::repo::{RepoError, Repository};
use crate::schema::globals;
use crate::schema::statements::{Renderer, is_setting};

use super::preflight::{self, Problems};
use super::target::session_options;
use super::work::{Failure, shorten};
use super::{Opened, RestoreError, RestoreOptions, RestoreReport, entry_name, server};

/// Databases that every cluster has from its beginning: they are filled, not made.
const ALWAYS_THERE: [&str; 2] = ["postgres", "template1"];

/// What the restore of a cluster is asked to do, besides what is asked of each database.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOptions {
    /// Whether the databases are restored, too.
    pub databases: bool,
    /// Whether the roles get their passwords.
    pub role_passwords: bool,
}

/// What the restore of a cluster did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterReport {
    /// Entries of what the databases share that were restored.
    pub entries: u64,
    /// Roles and tablespaces that were there already.
    pub existing: Vec<String>,
    /// The databases.
    pub databases: Vec<RestoreReport>,
    /// What could not be restored besides what the databases' reports name.
    pub failures: Vec<Failure>,
    /// Seconds altogether.
    pub seconds: f64,
}

/// A restore of a cluster: what, and how.
pub struct ClusterRestore<'a> {
    /// Where the databases' snapshots are.
    pub repo: &'a Repository,
    /// The snapshot of what they share.
    pub opened: &'a Opened,
    /// How each database is restored; no part of one is chosen.
    pub options: &'a RestoreOptions,
    /// How the whole is.
    pub cluster: ClusterOptions,
}

/// What to do of one database.
struct Planned {
    snapshot: Snapshot,
    options: RestoreOptions,
}

impl ClusterRestore<'_> {
    /// The databases to restore.
    pub fn members(&self) -> &[Member] {
        if self.cluster.databases {
            self.opened.snapshot.databases().unwrap_or_default()
        } else {
            &[]
        }
    }

    /// The entries to restore of what the databases share.
    pub fn entries(&self) -> impl Iterator<Item = &TocEntry> {
        let render = self.options.render;
        self.opened
            .entries
            .iter()
            .filter(|entry| !is_setting(entry))
            .filter(move |entry| !render.no_tablespaces || !globals::is_of_tablespace(entry))
            .filter(move |entry| !render.no_privileges || entry.desc != "ACL")
    }

    /// What stands against it; nothing is touched.
    pub fn problems(&self) -> Result<Problems, RestoreError> {
        let (settings, mut conn) = self.connect()?;
        self.look(&settings, &mut conn)
    }

    /// Restores it.
    pub fn run(
        &self,
        interrupt: &Interrupt,
        progress: &dyn Progress,
    ) -> Result<ClusterReport, RestoreError> {
        let began = Instant::now();
        let (settings, mut conn) = self.connect()?;
        let registration = interrupt.register(conn.cancel_token());
        let problems = self.look(&settings, &mut conn)?;
        if !problems.is_empty() {
            return Err(RestoreError::Refused(Box::new(problems)));
        }
        let stopped = |error| {
            if interrupt.raised() {
                RestoreError::Interrupted
            } else {
                error
            }
        };
        let mut report = ClusterReport::default();
        // What the role that restores is itself given may end its sessions, or its right to go on.
        let own = settings.user();
        let (late, early): (Vec<&TocEntry>, Vec<&TocEntry>) = self.entries().partition(|entry| {
            matches!(
                entry.desc.as_str(),
                globals::ROLE_ATTRIBUTES | globals::ROLE_SETTING
            ) && entry.tag.to_lossy() == own
        });
        progress.stage(&Stage::PreData {
            entries: early.len(),
        });
        self.globals(&mut conn, &early, &mut report)
            .map_err(stopped)?;
        let databases = databases(&mut conn)?;
        for (number, member) in (1..).zip(self.members()) {
            let of = self.members().len();
            progress.stage(&Stage::Database {
                name: member.database.clone(),
                number,
                of,
            });
            let restored = self
                .planned(member, &settings, &databases)
                .and_then(|plan| {
                    let opened = super::open(self.repo, plan.snapshot)?;
                    super::run(&opened, &plan.options, interrupt, progress)
                });
            match restored {
                Ok(done) => report.databases.push(done),
                Err(error) if interrupt.raised() => return Err(stopped(error)),
                Err(error) if self.options.continue_on_error => report.failures.push(Failure {
                    object: format!("DATABASE {}", member.database),
                    statement: String::new(),
                    error: error.to_string(),
                }),
                Err(error) => {
                    let done = report.databases.iter().map(|done| done.database.clone());
                    return Err(RestoreError::Database {
                        database: member.database.clone(),
                        source: Box::new(error),
                        done: done.collect(),
                    });
                }
            }
        }
        self.globals(&mut conn, &late, &mut report)
            .map_err(stopped)?;
        // A commit that waits for the disk makes the earlier ones durable.
        conn.execute("SET synchronous_commit = on")
            .and_then(|()| conn.execute("SELECT pg_catalog.pg_current_xact_id()"))
            .map_err(server("could not make the restore durable"))?;
        drop(registration);
        report.seconds = began.elapsed().as_secs_f64();
        Ok(report)
    }

    /// A session in the database that is named, else in `postgres`.
    fn connect(&self) -> Result<(Settings, Connection), RestoreError> {
        let settings = &self.options.settings;
        let settings = match settings.get("dbname") {
            Some(_) => settings.clone(),
            None => settings.with_dbname(FIRST_DATABASE),
        };
        let options =
            session_options(self.opened, self.options).with("default_transaction_read_only", "off");
        let conn = settings
            .connect(&options)
            .map_err(server("could not connect to the target"))?;
        Ok((settings.pin(&conn), conn))
    }

    /// What to do of a database, at a server that has these.
    fn planned(
        &self,
        member: &Member,
        settings: &Settings,
        databases: &BTreeSet<String>,
    ) -> Result<Planned, RestoreError> {
        let name = &member.database;
        let (_, snapshot) = self.repo.find(&member.snapshot.to_string())?;
        let there = ALWAYS_THERE.contains(&name.as_str()) && databases.contains(name);
        Ok(Planned {
            snapshot,
            options: RestoreOptions {
                settings: if there {
                    settings.with_dbname(name)
                } else {
                    settings.clone()
                },
                create: !there,
                properties: there,
                ..self.options.clone()
            },
        })
    }

    fn look(&self, settings: &Settings, conn: &mut Connection) -> Result<Problems, RestoreError> {
        let failed = || server("could not look at the target");
        let mut problems = Problems::default();
        older_server(conn, &self.opened.snapshot.source, &mut problems);
        self.look_at_tablespaces(conn, &mut problems)?;
        let provided = |desc: &str| -> BTreeSet<String> {
            let made = self.entries().filter(|entry| entry.desc == desc);
            made.map(|entry| entry.tag.to_lossy().into_owned())
                .collect()
        };
        let roles = provided(globals::ROLE);
        let tablespaces = provided(globals::TABLESPACE);
        let databases = databases(conn)?;
        let here = conn
            .query("SELECT pg_catalog.current_database()")
            .map_err(failed())?;
        let here = here.first().and_then(|row| row.get(0)).unwrap_or_default();
        for member in self.members() {
            let name = &member.database;
            let plan = match self.planned(member, settings, &databases) {
                Err(RestoreError::Repo(RepoError::NoSnapshot { .. })) => {
                    problems.others.push(format!(
                        "the snapshot {} of database {name} is no longer in the repository\nhint: restore the others one by one, by their own snapshots; roles and tablespaces first, with --globals",
                        member.snapshot
                    ));
                    continue;
                }
                plan => plan?,
            };
            if plan.options.create && plan.options.clean && here == name {
                problems.others.push(format!(
                    "the database {name} is to be dropped, and is the one that is connected to\nhint: connect to another with --dbname, for example --dbname postgres"
                ));
            }
            let opened = super::open(self.repo, plan.snapshot)?;
            let (_, mut found) = super::rehearse(&opened, &plan.options)?;
            found.roles.retain(|role| !roles.contains(role));
            found.tablespaces.retain(|name| !tablespaces.contains(name));
            problems.add(name, found);
        }
        Ok(problems)
    }

    /// Tablespaces that are to be created need an empty directory at the server.
    fn look_at_tablespaces(
        &self,
        conn: &mut Connection,
        problems: &mut Problems,
    ) -> Result<(), RestoreError> {
        let failed = || server("could not look at the target's tablespaces");
        let there = preflight::names(conn, "SELECT spcname FROM pg_catalog.pg_tablespace")
            .map_err(failed())?;
        let missing: Vec<(String, String)> = self
            .entries()
            .filter(|entry| entry.desc == globals::TABLESPACE)
            .map(|entry| {
                let location = globals::location(entry).unwrap_or_default();
                (entry.tag.to_lossy().into_owned(), location)
            })
            .filter(|(name, _)| !there.contains(name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let hint = "hint: or create the tablespaces yourself, where you like, before the restore; or put everything into the default one with --no-tablespaces";
        if conn.parameter("is_superuser") != Some("on") {
            let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
            problems.others.push(format!(
                "only a superuser can create the tablespaces {}\nhint: connect as one\n{hint}",
                names.join(", ")
            ));
            return Ok(());
        }
        let major = conn.server_version() / 10_000;
        let mut wrong = Vec::new();
        for (name, directory) in missing {
            if directory.is_empty() {
                let rows = conn
                    .query("SELECT pg_catalog.current_setting('allow_in_place_tablespaces', true)")
                    .map_err(failed())?;
                if rows.first().and_then(|row| row.get(0)) != Some("on") {
                    wrong.push(format!(
                        "  {name}: in the data directory, which needs allow_in_place_tablespaces"
                    ));
                }
                continue;
            }
            if !directory.starts_with('/') {
                wrong.push(format!("  {name}: was in the source's data directory"));
                continue;
            }
            let rows = conn
                .query(&format!(
                    "SELECT (pg_catalog.pg_stat_file(d, true)).isdir,
                       (pg_catalog.pg_stat_file(d || '/PG_{major}_' || c.catalog_version_no, true)).isdir
                     FROM pg_catalog.pg_control_system() c, (VALUES ({})) AS v(d)",
                    quote_literal(&directory)
                ))
                .map_err(failed())?;
            let state = |n| rows.first().and_then(|row| row.get(n));
            match (state(0), state(1)) {
                (Some("t"), None) => {}
                (Some("t"), Some(_)) => wrong.push(format!(
                    "  {name}: {directory} is in use by another cluster of PostgreSQL {major}"
                )),
                (Some(_), _) => wrong.push(format!("  {name}: {directory} is no directory")),
                (None, _) => wrong.push(format!("  {name}: {directory} is not there")),
            }
        }
        if !wrong.is_empty() {
            problems.others.push(format!(
                "directories that the tablespaces need at the target's server:\n{}\nhint: create them there, empty, with the server's operating system user as their owner\n{hint}",
                wrong.join("\n")
            ));
        }
        Ok(())
    }

    /// Restores entries of what the databases share, each by itself: a tablespace is not made in a transaction.
    fn globals(
        &self,
        conn: &mut Connection,
        entries: &[&TocEntry],
        report: &mut ClusterReport,
    ) -> Result<(), RestoreError> {
        let roles = preflight::names(conn, "SELECT rolname FROM pg_catalog.pg_roles");
        let spaces = preflight::names(conn, "SELECT spcname FROM pg_catalog.pg_tablespace");
        let failed = || server("could not list the target's roles and tablespaces");
        let (roles, spaces) = (roles.map_err(failed())?, spaces.map_err(failed())?);
        let mut renderer = Renderer::new(self.options.render);
        for &entry in entries {
            let name = entry.tag.to_lossy();
            let makes = matches!(entry.desc.as_str(), globals::ROLE | globals::TABLESPACE);
            let there = match entry.desc.as_str() {
                globals::ROLE => roles.contains(&*name),
                globals::TABLESPACE => spaces.contains(&*name),
                _ => false,
            };
            if there {
                report.existing.push(entry_name(entry));
                continue;
            }
            let mut done = true;
            for statement in renderer.statements(entry) {
                let bare = globals::without_password(&statement);
                let statement = match &bare {
                    Some(bare) if !self.cluster.role_passwords => bare,
                    _ => &statement,
                };
                match conn.execute(statement.as_bytes()) {
                    Ok(()) => {}
                    // duplicate_object: somebody else was quicker.
                    Err(error) if makes && error.code() == Some("42710") => {
                        report.existing.push(entry_name(entry));
                    }
                    Err(error) => {
                        done = false;
                        let shown: &SqlText = bare.as_ref().unwrap_or(statement);
                        let failure = Failure {
                            object: entry_name(entry),
                            statement: shorten(shown.as_bytes()),
                            error: error.to_string(),
                        };
                        if !self.options.continue_on_error || error.is_connection_lost() {
                            return Err(RestoreError::Failed(Box::new(failure)));
                        }
                        report.failures.push(failure);
                    }
                }
            }
            report.entries += u64::from(done);
        }
        Ok(())
    }
}

/// The names of the server's databases.
fn databases(conn: &mut Connection) -> Result<BTreeSet<String>, RestoreError> {
    preflight::names(conn, "SELECT datname FROM pg_catalog.pg_database")
        .map_err(server("could not list the target's databases"))
}

/// A target that is older than the source.
fn older_server(conn: &Connection, source: &Source, problems: &mut Problems) {
    let target = conn.server_version() / 10_000;
    let origin = source.server_version_num / 10_000;
    if target < origin {
        problems.others.push(format!(
            "the snapshot comes from PostgreSQL {origin}, the target is {target}: an older server may not know its statements and types\nhint: restore into PostgreSQL {origin} or later"
        ));
    }
}
