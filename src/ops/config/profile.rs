//! A profile with everything that it refers to, and with what the defaults say where it says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{AnomalyKeys, KeepKeys, ProfileKeys, QueryKeys, SelectKeys, VerifyKeys};
use super::places::{Place, Source};
use super::values::{At, Keep, Text, Value};
use super::{Config, Problems};
use crate::dump::Kindness;
use crate::ops::duration::Duration as KeepFor;
use crate::ops::retention::{Count, Period, Policy};
use crate::ops::units::{Percent, Wait};
use crate::rows::Effort;
use crate::schema::pattern::Pattern;
use crate::schema::selection::{Selection, TablePattern};
use crate::timescale::part::Part;

/// How often a dump is begun again, if nothing is said.
const RETRIES: u16 = 2;
/// Time before that.
const RETRY_WAIT: Duration = Duration::from_secs(30);
/// Time to wait for a table's lock.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How long a hook may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);

/// Which databases.
#[derive(Debug, Clone)]
pub enum Databases {
    /// The one that the connection names.
    Connected,
    /// These.
    Named(Vec<String>),
    /// All but these.
    All(Vec<Pattern>),
}

/// What a run does.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Where the databases are.
    pub source: Source,
    /// Where the snapshots go.
    pub repository: Place,
    /// Which databases.
    pub databases: Databases,
    /// Whether roles and tablespaces, too.
    pub globals: bool,
    /// Whether with the roles' passwords.
    pub role_passwords: bool,
    /// Sessions that read.
    pub jobs: Option<usize>,
    /// How hard to compress.
    pub effort: Effort,
    /// Tags of the snapshots.
    pub tags: Vec<String>,
    /// How long snapshots are protected.
    pub protect: Option<KeepFor>,
    /// What of the databases.
    pub selection: Selection,
    /// Which part of the hypertables' history.
    pub part: Part,
    /// Whether compressed rows are read as rows.
    pub decompress: bool,
    /// Whether the planner's statistics are dumped.
    pub statistics: bool,
    /// How long to wait for a table's lock.
    pub lock_wait_timeout: Duration,
    /// What the source is spared.
    pub kindness: Kindness,
    /// How often it is to run.
    pub every: Option<Duration>,
    /// When a run is stopped.
    pub deadline: Option<Duration>,
    /// How often a dump is begun again.
    pub retries: u16,
    /// Time before that.
    pub retry_wait: Duration,
    /// Which snapshots stay; all, if nothing is said.
    pub keep: Option<Policy>,
    /// Whether what is not needed any more is freed.
    pub prune: bool,
    /// A check of the repository.
    pub check: Option<Check>,
    /// A restore of what was dumped.
    pub verify: Option<VerifyStep>,
    /// A copy in a second repository.
    pub copy: Option<CopyStep>,
    /// Commands before and after.
    pub hooks: Hooks,
    /// What is worth telling though nothing failed.
    pub anomaly: Anomaly,
}

/// A check of the repository.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// How much of the data is read, in percent.
    pub percent: Option<f64>,
    /// Not more often than this.
    pub every: Option<Duration>,
}

/// Where a snapshot is restored to see whether it can be.
#[derive(Debug, Clone)]
pub enum VerifyServer {
    /// A server that is there.
    Source(Box<Source>),
    /// A throw-away server.
    Ephemeral,
}

/// A restore of what was dumped.
#[derive(Debug, Clone)]
pub struct VerifyStep {
    /// Where.
    pub server: VerifyServer,
    /// Not more often than this.
    pub every: Option<Duration>,
    /// The time in which all must be restored.
    pub rto: Option<Duration>,
    /// How much of the blocks is looked at, of one; all are restored if nothing is said.
    pub sample: Option<f64>,
    /// Sessions that restore.
    pub jobs: Option<usize>,
    /// Queries whose answers must be right.
    pub queries: Vec<QueryKeys>,
}

/// A copy in a second repository.
#[derive(Debug, Clone)]
pub struct CopyStep {
    /// The repository.
    pub to: Place,
    /// Which snapshots stay there.
    pub keep: Option<Policy>,
}

/// Commands before and after.
#[derive(Debug, Clone)]
pub struct Hooks {
    /// Before anything is done.
    pub before: Option<String>,
    /// At the end.
    pub after: Option<String>,
    /// How long one may take.
    pub timeout: Duration,
}

/// How far from the last ones is worth telling, as a part of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anomaly {
    /// Bytes at the source.
    pub size: f64,
    /// Rows.
    pub rows: f64,
    /// Time.
    pub duration: f64,
}

impl Profile {
    /// Whether the snapshots of both cannot be told apart, and they are not to stay by the same rules.
    pub(super) fn rivals(&self, other: &Self) -> bool {
        let what = |profile: &Self| {
            let mut tags = profile.tags.clone();
            tags.sort();
            let part = format!(
                "{:?} {:?}",
                profile.selection.chosen(),
                profile.part.chosen()
            );
            let databases = format!("{:?} {}", profile.databases, profile.globals);
            (
                profile.source.name.clone(),
                profile.repository.location.clone(),
                databases,
                part,
                tags,
            )
        };
        what(self) == what(other) && self.keep != other.keep
    }
}

impl Anomaly {
    fn of(keys: &AnomalyKeys) -> Self {
        let part =
            |value: Option<Value<Percent>>, usual| value.map_or(usual, |percent| percent.0.0);
        Self {
            size: part(keys.size, 0.5),
            rows: part(keys.rows, 0.5),
            duration: part(keys.duration, 1.0),
        }
    }
}

/// What a profile says, else what the defaults say.
macro_rules! either {
    ($keys:ident, $defaults:ident, $field:ident) => {
        $keys.$field.as_ref().or($defaults.$field.as_ref())
    };
}

/// The profile of a name, with what its keys say.
pub(super) fn resolve(
    config: &Config,
    name: &str,
    keys: &ProfileKeys,
    problems: &mut Problems<'_>,
) -> Option<Profile> {
    let defaults = &config.file.defaults;
    let wait = |value: Option<&Value<Wait>>| value.map(|wait| wait.0.0);
    let part = |value: Option<&Value<Percent>>| value.map(|percent| percent.0.0);

    let source = either!(keys, defaults, source);
    let source = match source {
        Some(wanted) => source_named(config, wanted, problems),
        None => {
            problems.missing(format!(
                "the profile {name} has no source: add source = \"NAME\""
            ));
            None
        }
    };
    let repository = match either!(keys, defaults, repository) {
        Some(wanted) => place_named(config, wanted, problems),
        None => {
            problems.missing(format!(
                "the profile {name} has no repository: add repository = \"NAME\""
            ));
            None
        }
    };
    let databases = either!(keys, defaults, databases);
    let all = either!(keys, defaults, all_databases)
        .copied()
        .unwrap_or_default();
    let exclude: Vec<Pattern> = either!(keys, defaults, exclude_databases)
        .into_iter()
        .flatten()
        .map(|pattern| pattern.0.clone())
        .collect();
    let databases = match (databases, all) {
        (Some(named), true) => {
            problems.at(named.span(), "all_databases says all, so none can be named");
            Databases::Connected
        }
        (None, true) => Databases::All(exclude.clone()),
        (Some(named), false) if named.is_empty() => {
            problems.at(named.span(), "names no database");
            Databases::Connected
        }
        (Some(named), false) => Databases::Named(named.iter().map(|n| n.0.clone()).collect()),
        (None, false) => Databases::Connected,
    };
    if !exclude.is_empty() && !matches!(databases, Databases::All(_)) {
        problems.missing(format!(
            "the profile {name} has exclude_databases, which is for all_databases"
        ));
    }
    let globals = either!(keys, defaults, globals).copied();
    let keep = either!(keys, defaults, keep).map(policy);
    let verify = match either!(keys, defaults, verify) {
        Some(verify) => verify_step(config, name, verify, problems),
        None => None,
    };
    let copy = either!(keys, defaults, copy).and_then(|copy| {
        let to = place_named(config, &copy.to, problems)?;
        if repository
            .as_ref()
            .is_some_and(|r| r.location == to.location)
        {
            problems.at(copy.to.span(), "is the repository of the dump itself");
        }
        let own = copy.keep.as_ref().map(policy);
        let keep = own.or_else(|| keep.clone());
        Some(CopyStep { to, keep })
    });
    let select = either!(keys, defaults, select).cloned().unwrap_or_default();
    let hooks = either!(keys, defaults, hooks).cloned().unwrap_or_default();
    let anomaly = either!(keys, defaults, anomaly)
        .cloned()
        .unwrap_or_default();
    let jobs = |jobs: Option<&u16>| jobs.map(|jobs| usize::from(*jobs).max(1));
    let texts = |texts: Option<&Vec<Text>>| {
        let texts = texts.into_iter().flatten();
        texts.map(|text| text.0.clone()).collect::<Vec<_>>()
    };
    let text = |text: Option<Text>| text.map(|text| text.0);
    Some(Profile {
        name: name.to_owned(),
        source: source?,
        repository: repository?,
        globals: globals.unwrap_or(all),
        databases,
        role_passwords: either!(keys, defaults, role_passwords)
            .copied()
            .unwrap_or(true),
        jobs: jobs(either!(keys, defaults, jobs)),
        effort: either!(keys, defaults, compress).map_or(Effort::Default, |c| (*c).into()),
        tags: texts(either!(keys, defaults, tags)),
        protect: either!(keys, defaults, protect).map(|protect| protect.0),
        part: Part {
            since: select.since.iter().map(|limit| limit.0.clone()).collect(),
            until: select.until.iter().map(|limit| limit.0.clone()).collect(),
        },
        decompress: select.decompress,
        statistics: select.statistics,
        selection: selection(select),
        lock_wait_timeout: wait(either!(keys, defaults, lock_wait_timeout)).unwrap_or(LOCK_WAIT),
        kindness: Kindness {
            max_rate: either!(keys, defaults, max_rate).map(|rate| rate.0.0),
            max_snapshot_age: wait(either!(keys, defaults, max_snapshot_age)),
        },
        every: wait(either!(keys, defaults, every)),
        deadline: wait(either!(keys, defaults, deadline)),
        retries: either!(keys, defaults, retries).copied().unwrap_or(RETRIES),
        retry_wait: wait(either!(keys, defaults, retry_wait)).unwrap_or(RETRY_WAIT),
        keep,
        prune: either!(keys, defaults, prune).copied().unwrap_or(true),
        check: either!(keys, defaults, check).map(|check| Check {
            percent: part(check.read_data.as_ref()).map(|part| part * 100.0),
            every: wait(check.every.as_ref()),
        }),
        verify,
        copy,
        hooks: Hooks {
            before: text(hooks.before),
            after: text(hooks.after),
            timeout: wait(hooks.timeout.as_ref()).unwrap_or(HOOK_TIMEOUT),
        },
        anomaly: Anomaly::of(&anomaly),
    })
}

fn source_named(config: &Config, wanted: &At<Text>, problems: &mut Problems<'_>) -> Option<Source> {
    match config.file.sources.get(wanted.as_str()) {
        Some(keys) => config.source_of(wanted, keys, problems),
        None => {
            let known = config.file.sources.keys();
            problems.at(wanted.span(), unknown("source", "sources", wanted, known));
            None
        }
    }
}

fn place_named(config: &Config, wanted: &At<Text>, problems: &mut Problems<'_>) -> Option<Place> {
    match config.file.repositories.get(wanted.as_str()) {
        Some(keys) => config.place_of(wanted, keys, problems),
        None => {
            let known = config.file.repositories.keys();
            let message = unknown("repository", "repositories", wanted, known);
            problems.at(wanted.span(), message);
            None
        }
    }
}

fn unknown<'a>(
    what: &str,
    table: &str,
    wanted: &Text,
    known: impl Iterator<Item = &'a String>,
) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    match known.is_empty() {
        true => format!(
            "there is no {what} {:?}: add [{table}.{}]",
            wanted.0, wanted.0
        ),
        false => format!(
            "there is no {what} {:?}; there are {}",
            wanted.0,
            known.join(", ")
        ),
    }
}

fn verify_step(
    config: &Config,
    name: &str,
    keys: &VerifyKeys,
    problems: &mut Problems<'_>,
) -> Option<VerifyStep> {
    let ephemeral = keys.ephemeral.unwrap_or_default();
    let server = match (&keys.server, ephemeral) {
        (Some(server), true) => {
            problems.at(
                server.span(),
                "ephemeral starts a server of its own: leave one out",
            );
            return None;
        }
        (Some(server), false) => {
            VerifyServer::Source(Box::new(source_named(config, server, problems)?))
        }
        (None, true) => VerifyServer::Ephemeral,
        (None, false) => {
            problems.missing(format!(
                "the verify step of the profile {name} has no server: add server = \"NAME\" (a source), or ephemeral = true"
            ));
            return None;
        }
    };
    if let (Some(rto), Some(_)) = (&keys.rto, &keys.sample) {
        problems.at(
            rto.span(),
            "a sample restores no rows, so it says nothing of the time that takes: leave one out",
        );
    }
    Some(VerifyStep {
        server,
        every: keys.every.map(|wait| wait.0.0),
        rto: keys.rto.as_ref().map(|wait| wait.0.0),
        sample: keys.sample.map(|percent| percent.0.0.min(1.0)),
        jobs: keys.jobs.map(|jobs| usize::from(jobs).max(1)),
        queries: keys.queries.clone(),
    })
}

fn policy(keys: &KeepKeys) -> Policy {
    let periods = [
        (Period::Hour, keys.hourly),
        (Period::Day, keys.daily),
        (Period::Week, keys.weekly),
        (Period::Month, keys.monthly),
        (Period::Year, keys.yearly),
    ];
    Policy {
        last: keys.last.map_or(Count::default(), |Keep(count)| count),
        periods: periods
            .into_iter()
            .filter_map(|(period, keep)| Some((period, keep?.0)))
            .collect(),
        within: keys.within.map(|within| within.0),
        periods_within: BTreeMap::new(),
        tags: keys.tags.iter().map(|tag| tag.0.clone()).collect(),
    }
}

fn selection(keys: SelectKeys) -> Selection {
    let patterns = |patterns: Vec<Value<Pattern>>| patterns.into_iter().map(|p| p.0).collect();
    let tables = |patterns: Vec<Value<Pattern>>| {
        let patterns = patterns.into_iter().map(|pattern| TablePattern {
            pattern: pattern.0,
            descendants: false,
        });
        patterns.collect()
    };
    Selection {
        schemas: patterns(keys.schemas),
        exclude_schemas: patterns(keys.exclude_schemas),
        tables: tables(keys.tables),
        exclude_tables: tables(keys.exclude_tables),
        exclude_data: tables(keys.exclude_table_data),
        conditions: keys.conditions.into_iter().map(|c| c.0).collect(),
        ..Selection::default()
    }
}
