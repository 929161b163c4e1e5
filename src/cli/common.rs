//! Arguments that several commands share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use pgtide::dump::Kindness;
use pgtide::ops::units::{Size, Wait};
use pgtide::pg::interrupt::Interrupt;
use pgtide::pg::{ConnectionArgs, Settings};
use pgtide::repo::model::Snapshot;
use pgtide::repo::{KeyError, RepoError, Repository, SnapshotId};
use pgtide::schema::skip::Skip;
use pgtide::schema::statements::RenderOptions;
use pgtide::store::{self, Options, Store};
use pgtide::timescale::part::{Limit, Part};

use super::Failure;
use super::password::RepoPassword;
use super::progress::Shown;
use pgtide::progress::Progress;

/// Where the repository is.
#[derive(Debug, Args)]
pub struct Repo {
    /// The repository: a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(long, value_name = "REPO", env = "PGTIDE_REPO", hide_env_values = true)]
    pub repo: String,
    #[command(flatten)]
    pub password: RepoPassword,
    /// A setting of the store, e.g. s3.endpoint=URL (repeatable; also PGTIDE_REPO_OPTIONS, separated by spaces)
    #[arg(long, value_name = "KEY=VALUE")]
    repo_option: Vec<String>,
}

/// The store at that place, with these settings and those of the environment.
pub fn store(place: &str, given: &[String]) -> Result<Arc<dyn Store>, Failure> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let usual = env("PGTIDE_REPO_OPTIONS").unwrap_or_default();
    let given = given.iter().map(String::as_str);
    let options = Options::parse(usual.split_whitespace().chain(given))?;
    Ok(store::open(place, &options, &env)?)
}

impl Repo {
    /// The store at that place.
    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        store(&self.repo, &self.repo_option)
    }

    /// The repository at that place.
    pub fn open(&self) -> Result<Repository, Failure> {
        let repo = Repository::open_with(self.store()?, || self.password.get(&self.repo))?;
        if self.password.is_given() && !repo.is_encrypted() {
            let location = self.repo.clone();
            return Err(RepoError::from(KeyError::NotNeeded { location }).into());
        }
        Ok(repo)
    }
}

/// Which snapshot.
#[derive(Debug, Args)]
pub struct Which {
    /// The snapshot: an id, a unique prefix of one, latest, or latest:DATABASE; a whole cluster is 'latest:(cluster)'
    #[arg(
        value_name = "SNAPSHOT",
        required_unless_present = "at",
        default_value_if("at", clap::builder::ArgPredicate::IsPresent, "latest")
    )]
    snapshot: Option<String>,
    /// The latest taken at this time or before, e.g. '2025-12-10 14:00'; SNAPSHOT may be latest:DATABASE
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<jiff::Timestamp>,
}

impl Which {
    /// The snapshot in the repository.
    pub fn find(&self, repo: &Repository) -> Result<(SnapshotId, Snapshot), Failure> {
        let wanted = self.snapshot.as_deref().unwrap_or("latest");
        Ok(match self.at {
            Some(at) => repo.find_at(wanted, at)?,
            None => repo.find(wanted)?,
        })
    }
}

/// Which snapshots.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only snapshots of this server: its host as it was connected to, or HOST:PORT (repeatable)
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Only snapshots of this database; a whole cluster is '(cluster)' (repeatable)
    #[arg(long = "database", value_name = "NAME")]
    databases: Vec<String>,
    /// Only snapshots with this tag (repeatable: with any of them)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

impl Filter {
    /// Whether it picks everything.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.databases.is_empty() && self.tags.is_empty()
    }

    /// Whether it picks this one.
    pub fn picks(&self, snapshot: &Snapshot) -> bool {
        let source = &snapshot.source;
        let any = |wanted: &[String], matches: &dyn Fn(&String) -> bool| {
            wanted.is_empty() || wanted.iter().any(matches)
        };
        any(&self.hosts, &|host| {
            *host == source.host || *host == format!("{}:{}", source.host, source.port)
        }) && any(&self.databases, &|name| name == snapshot.label())
            && any(&self.tags, &|tag| snapshot.tags.contains(tag))
    }
}

/// A time: with its zone as RFC 3339 writes it, or without one in the user's zone; a date is its first moment.
pub fn time(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    text.parse::<jiff::civil::DateTime>()
        .and_then(|time| time.to_zoned(jiff::tz::TimeZone::system()))
        .map(|time| time.timestamp())
        .map_err(|error| format!("{error}; write it like '2025-12-10 14:00'"))
}

/// Which part of the history of hypertables.
#[derive(Debug, Args)]
pub struct History {
    /// Of hypertables only the chunks that reach beyond this: how long before the snapshot ('30 days'), a time, or a
    /// number where time is a number; HYPERTABLE=WHEN for one of them (repeatable)
    #[arg(long, value_name = "WHEN")]
    since: Vec<Limit>,
    /// Of hypertables only the chunks that begin before this
    #[arg(long, value_name = "WHEN")]
    until: Vec<Limit>,
}

impl History {
    /// The part that is wanted.
    pub fn part(&self) -> Part {
        Part {
            since: self.since.clone(),
            until: self.until.clone(),
        }
    }
}

/// How a live database is read.
#[derive(Debug, Args)]
pub struct Reading {
    /// Wait this long for a table's lock before giving up, e.g. 30s or 500 (milliseconds)
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub lock_wait_timeout: Wait,
    /// Command to run as pg_dump, e.g. 'docker exec -i db pg_dump -U postgres' [default: the lowest version found
    /// that is not below the server's]
    #[arg(
        long,
        value_name = "COMMAND",
        env = "PGTIDE_PG_DUMP",
        hide_env_values = true
    )]
    pub pg_dump: Option<String>,
    /// Read no more than this in a second, by all sessions together, e.g. 50MB
    #[arg(long, value_name = "SIZE")]
    max_rate: Option<Size>,
    /// Fail if the MVCC snapshot has been held for this long, e.g. 2h: it keeps vacuum from cleaning up at the source
    #[arg(long, value_name = "TIME")]
    max_snapshot_age: Option<Wait>,
}

impl Reading {
    /// What the source is spared.
    pub fn kindness(&self) -> Kindness {
        Kindness {
            max_rate: self.max_rate.map(|size| size.0),
            max_snapshot_age: self.max_snapshot_age.map(|wait| wait.0),
        }
    }
}

/// Kinds of entries to leave out.
#[derive(Debug, Args)]
pub struct Without {
    /// No privileges (GRANT and REVOKE)
    #[arg(short = 'x', long, visible_alias = "no-acl")]
    no_privileges: bool,
    /// No comments
    #[arg(long)]
    no_comments: bool,
    /// No policies of row security
    #[arg(long)]
    no_policies: bool,
    /// No publications
    #[arg(long)]
    no_publications: bool,
    /// No security labels
    #[arg(long)]
    no_security_labels: bool,
    /// No subscriptions
    #[arg(long)]
    no_subscriptions: bool,
}

/// What is left out of statements.
#[derive(Debug, Args)]
pub struct Bare {
    /// No owners: everything belongs to the role that restores
    #[arg(short = 'O', long)]
    no_owner: bool,
    /// No tablespaces: everything goes into the default one
    #[arg(long)]
    no_tablespaces: bool,
    /// No access methods of tables: all get the default one
    #[arg(long)]
    no_table_access_method: bool,
}

impl Bare {
    /// What is left out of statements, where those kinds of entries are left out.
    pub fn render(&self, skip: Skip) -> RenderOptions {
        RenderOptions {
            no_owner: self.no_owner,
            no_privileges: skip.privileges,
            no_tablespaces: self.no_tablespaces,
            no_comments: skip.comments,
            no_security_labels: skip.security_labels,
            no_table_access_method: self.no_table_access_method,
        }
    }
}

impl Without {
    /// What is left out.
    pub fn skip(&self) -> Skip {
        Skip {
            privileges: self.no_privileges,
            comments: self.no_comments,
            policies: self.no_policies,
            publications: self.no_publications,
            security_labels: self.no_security_labels,
            subscriptions: self.no_subscriptions,
        }
    }
}

/// How to reach a server: libpq's options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection options")]
pub struct Connect {
    /// Database: a name, a connection string or a URI
    #[arg(short, long, value_name = "DBNAME")]
    pub dbname: Option<String>,
    /// Server's host name or socket directory
    #[arg(short, long, value_name = "HOST")]
    pub host: Option<String>,
    /// Server's port
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<String>,
    /// Role to connect as
    #[arg(short = 'U', long = "username", value_name = "ROLE")]
    pub user: Option<String>,
    /// Never ask for a password
    #[arg(short = 'w', long, conflicts_with = "password")]
    pub no_password: bool,
    /// Ask for a password before connecting
    #[arg(short = 'W', long)]
    pub password: bool,
}

impl Connect {
    /// The settings, with the environment's, the service file's and the password file's.
    pub fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::resolve(
            ConnectionArgs {
                dbname: self.dbname.clone(),
                host: self.host.clone(),
                port: self.port.clone(),
                user: self.user.clone(),
                no_password: self.no_password,
                force_password: self.password,
            },
            &|name| std::env::var(name).ok(),
        )?)
    }
}

/// The settings that one name, connection string or URI stands for, with the environment's, the service file's and the
/// password file's.
pub fn settings_of(conninfo: &str) -> Result<Settings, Failure> {
    let args = ConnectionArgs {
        dbname: Some(conninfo.to_owned()),
        ..ConnectionArgs::default()
    };
    Ok(Settings::resolve(args, &|name| std::env::var(name).ok())?)
}

/// Signals within this time are one.
const TOGETHER: Duration = Duration::from_secs(1);

/// An interrupt that SIGINT and SIGTERM raise. A second one ends the process at once.
pub fn interrupt(shown: &Arc<Shown>) -> Result<Interrupt, Failure> {
    let interrupt = Interrupt::default();
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
    ])?;
    let raised = interrupt.clone();
    let shown = Arc::clone(shown);
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            shown.note("stopping; once more to end at once");
            raised.raise();
        }
        // What sends a signal to a process and to its group sends two.
        let first = Instant::now();
        if signals.any(|_| first.elapsed() > TOGETHER) {
            std::process::exit(1);
        }
    });
    Ok(interrupt)
}

/// One document on stdout.
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    outln!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_with_and_without_a_zone() {
        let zoned = time("2025-12-10T14:00:00Z").unwrap();
        assert_eq!(zoned.as_second(), 1_765_375_200);
        assert!(time("2025-12-10 14:00").is_ok());
        assert!(time("2025-12-10").is_ok());
        assert!(time("yesterday").is_err());
    }
}
