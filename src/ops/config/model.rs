//! What a configuration file may say. Every key here is one of the file, and every comment here is its description in the
//! JSON schema (`pgtide config schema`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{At, Keep, Reference, Text, Value};
use crate::ops::duration::Duration;
use crate::ops::units::{Percent, Size, Wait};
use crate::rows::Effort;
use crate::schema::pattern::Pattern;
use crate::schema::selection::RowCondition;
use crate::timescale::part::Limit;

/// pgtide's configuration
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// What profiles have that do not say otherwise; a table such as keep is taken as a whole, or not at all
    pub defaults: ProfileKeys,
    /// Servers to dump from, and to verify on
    pub sources: BTreeMap<String, SourceKeys>,
    /// Repositories
    pub repositories: BTreeMap<String, RepositoryKeys>,
    /// What `pgtide run PROFILE` does
    pub profiles: BTreeMap<String, ProfileKeys>,
    /// Who is told of runs
    pub notify: NotifyKeys,
    /// Where metrics go
    pub metrics: MetricsKeys,
}

/// A server
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceKeys {
    /// How to connect: a connection string or a URI, without a password
    pub connection: At<Text>,
    /// The password, unless the password file of libpq (.pgpass) has it
    pub password: Option<Reference>,
    /// Become this role after connecting
    pub role: Option<Text>,
    /// Command to run as pg_dump
    pub pg_dump: Option<Text>,
    /// Command to run as pg_dumpall
    pub pg_dumpall: Option<Text>,
}

/// A repository
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryKeys {
    /// A directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    pub location: At<Text>,
    /// Settings of its store, such as "s3.endpoint"
    #[serde(default)]
    pub options: BTreeMap<String, Text>,
    /// The password, if it is encrypted
    pub password: Option<Reference>,
}

/// What a run does
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileKeys {
    /// The source, by its name
    pub source: Option<At<Text>>,
    /// The repository, by its name
    pub repository: Option<At<Text>>,
    /// The databases, by their names; without it the one that the source's connection names
    pub databases: Option<At<Vec<Text>>>,
    /// All databases of the server, with roles and tablespaces
    pub all_databases: Option<bool>,
    /// With all_databases: none of these, patterns by psql's rules
    pub exclude_databases: Option<Vec<Value<Pattern>>>,
    /// Roles and tablespaces, too
    pub globals: Option<bool>,
    /// Keep the passwords of roles, which are hashes (default true)
    pub role_passwords: Option<bool>,
    /// Sessions that read in parallel
    pub jobs: Option<u16>,
    /// fast, default or best
    pub compress: Option<Compress>,
    /// Tags of the snapshots
    pub tags: Option<Vec<Text>>,
    /// Protect the snapshots from forget for so long: 7y
    pub protect: Option<Value<Duration>>,
    /// What of the databases
    pub select: Option<SelectKeys>,
    /// Wait this long for a table's lock before giving up (default 30s)
    pub lock_wait_timeout: Option<Value<Wait>>,
    /// Read no more than this in a second: 50MB
    pub max_rate: Option<Value<Size>>,
    /// Fail if the MVCC snapshot has been held for this long
    pub max_snapshot_age: Option<Value<Wait>>,
    /// How often the profile is to run: 1d. When more than one and a half of it has passed since the last success, a night
    /// is missing
    pub every: Option<Value<Wait>>,
    /// The run is stopped after so long
    pub deadline: Option<Value<Wait>>,
    /// How often a dump is begun again that the server broke off, or could not be begun (default 2)
    pub retries: Option<u16>,
    /// Time before that (default 30s)
    pub retry_wait: Option<Value<Wait>>,
    /// Which snapshots stay
    pub keep: Option<KeepKeys>,
    /// Free what is not needed any more after snapshots were forgotten (default true)
    pub prune: Option<bool>,
    /// A check of the repository
    pub check: Option<CheckKeys>,
    /// A restore of what was dumped, into a scratch database
    pub verify: Option<VerifyKeys>,
    /// A copy in a second repository
    pub copy: Option<CopyKeys>,
    /// Commands before and after
    pub hooks: Option<HookKeys>,
    /// What is worth telling though nothing failed
    pub anomaly: Option<AnomalyKeys>,
}

/// How hard to compress
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// Least CPU
    Fast,
    /// Small at little CPU
    Default,
    /// Smallest
    Best,
}

impl From<Compress> for Effort {
    fn from(compress: Compress) -> Self {
        match compress {
            Compress::Fast => Self::Fast,
            Compress::Default => Self::Default,
            Compress::Best => Self::Best,
        }
    }
}

/// What of the databases, as the options of pgtide dump say it
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelectKeys {
    /// Only these schemas
    pub schemas: Vec<Value<Pattern>>,
    /// Not these schemas
    pub exclude_schemas: Vec<Value<Pattern>>,
    /// Only these tables
    pub tables: Vec<Value<Pattern>>,
    /// Not these tables
    pub exclude_tables: Vec<Value<Pattern>>,
    /// No rows of these tables
    pub exclude_table_data: Vec<Value<Pattern>>,
    /// Only some rows: "orders: created > now() - interval '30 days'"
    #[serde(rename = "where")]
    pub conditions: Vec<Value<RowCondition>>,
    /// Of hypertables only the chunks that reach beyond this: "30 days", or "metrics=30 days"
    pub since: Vec<Value<Limit>>,
    /// Of hypertables only the chunks that begin before this
    pub until: Vec<Value<Limit>>,
    /// Read the compressed rows of hypertables as rows
    pub decompress: bool,
    /// The planner's statistics, too
    pub statistics: bool,
}

/// Which snapshots stay: those that any of these rules wants
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepKeys {
    /// The newest N
    pub last: Option<Keep>,
    /// The newest of each of the last N hours that have snapshots
    pub hourly: Option<Keep>,
    /// Of the last N days
    pub daily: Option<Keep>,
    /// Of the last N weeks
    pub weekly: Option<Keep>,
    /// Of the last N months
    pub monthly: Option<Keep>,
    /// Of the last N years
    pub yearly: Option<Keep>,
    /// All that are not older than this: 30d
    pub within: Option<Value<Duration>>,
    /// All with one of these tags
    pub tags: Vec<Text>,
}

/// A check of the repository
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckKeys {
    /// Read so much of the data, what was not read for longest: 5% every night reads all in three weeks
    pub read_data: Option<Value<Percent>>,
    /// Not more often than this
    pub every: Option<Value<Wait>>,
}

/// A restore into a scratch database, compared with the snapshot
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyKeys {
    /// The server, by its name among the sources
    pub server: Option<At<Text>>,
    /// A throw-away server, started from the programs on this machine
    pub ephemeral: Option<bool>,
    /// Not more often than this; the run before which so much has passed verifies
    pub every: Option<Value<Wait>>,
    /// The time in which all must be restored: 30m
    pub rto: Option<At<Value<Wait>>>,
    /// Restore definitions only, and check so much of the blocks: for huge databases
    pub sample: Option<Value<Percent>>,
    /// Sessions that restore
    pub jobs: Option<u16>,
    /// Queries whose answers must be right
    pub queries: Vec<QueryKeys>,
}

/// A query on the restored database
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryKeys {
    /// The database; without it all
    pub database: Option<Text>,
    /// The query
    pub sql: Text,
    /// Its answer: the first column of its first row, as text; without it any but false, zero and none
    pub expect: Option<Text>,
}

/// A copy in a second repository
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyKeys {
    /// The repository, by its name
    pub to: At<Text>,
    /// Which snapshots stay there; without it the same rules hold
    pub keep: Option<KeepKeys>,
}

/// Commands, split as a shell splits words but run without one. They get a JSON document on standard input
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HookKeys {
    /// Before anything is done; if it fails, nothing is
    pub before: Option<Text>,
    /// At the end, however that is
    pub after: Option<Text>,
    /// A hook is stopped after so long (default 10min)
    pub timeout: Option<Value<Wait>>,
}

/// How far from the last ones is worth telling
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnomalyKeys {
    /// Bytes at the source (default 50%)
    pub size: Option<Value<Percent>>,
    /// Rows (default 50%)
    pub rows: Option<Value<Percent>>,
    /// Time, if it is more (default 100%: twice as long)
    pub duration: Option<Value<Percent>>,
}

/// What is told of
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// A run that failed, or of which something did
    Failure,
    /// A run that did all
    Success,
    /// Something that is not as the last times
    Anomaly,
    /// A run begins
    Start,
}

/// Who is told of runs
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyKeys {
    /// By mail
    pub mail: Vec<MailKeys>,
    /// Any HTTP server, which gets JSON
    pub webhook: Vec<WebhookKeys>,
    /// Slack, Mattermost and others that take {"text": ...}
    pub slack: Vec<ChatKeys>,
    /// ntfy
    pub ntfy: Vec<NtfyKeys>,
    /// A dead-man's switch that is pinged at the start, on success and on failure, as healthchecks.io and its like
    pub ping: Vec<PingKeys>,
}

/// Mail
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailKeys {
    /// The server: smtps://HOST, smtp://HOST (with STARTTLS), or smtp+plain://HOST (without TLS: on this machine only)
    pub server: At<Text>,
    /// The user, if the server wants one
    pub user: Option<Text>,
    /// The user's password
    pub password: Option<Reference>,
    /// The sender
    pub from: At<Text>,
    /// The receivers
    pub to: At<Vec<Text>>,
    /// What is told of (default failure and anomaly)
    pub on: Option<Vec<On>>,
    /// Only these profiles
    pub profiles: Option<Vec<Text>>,
    /// The subject, a template
    pub subject: Option<At<String>>,
    /// The text, a template
    pub body: Option<At<String>>,
}

/// A webhook
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookKeys {
    /// The URL, unless it is a secret
    pub url: Option<At<Text>>,
    /// Where the URL is, if it is a secret
    pub url_secret: Option<Reference>,
    /// Headers
    #[serde(default)]
    pub headers: BTreeMap<String, Text>,
    /// What is told of (default failure and anomaly)
    pub on: Option<Vec<On>>,
    /// Only these profiles
    pub profiles: Option<Vec<Text>>,
    /// The body, a template; without it all that is known, as JSON
    pub body: Option<At<String>>,
}

/// A chat
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatKeys {
    /// The URL of the incoming webhook, unless it is a secret, which those of Slack are
    pub url: Option<At<Text>>,
    /// Where the URL is
    pub url_secret: Option<Reference>,
    /// What is told of (default failure and anomaly)
    pub on: Option<Vec<On>>,
    /// Only these profiles
    pub profiles: Option<Vec<Text>>,
    /// The text, a template
    pub text: Option<At<String>>,
}

/// ntfy
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NtfyKeys {
    /// The topic's URL: https://ntfy.sh/TOPIC
    pub url: Option<At<Text>>,
    /// Where the URL is, if it is a secret
    pub url_secret: Option<Reference>,
    /// An access token
    pub token: Option<Reference>,
    /// What is told of (default failure and anomaly)
    pub on: Option<Vec<On>>,
    /// Only these profiles
    pub profiles: Option<Vec<Text>>,
    /// The text, a template
    pub text: Option<At<String>>,
}

/// A dead-man's switch
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PingKeys {
    /// The URL: URL/start is pinged at the start, URL on success, URL/fail on failure
    pub url: Option<At<Text>>,
    /// Where the URL is, if it is a secret
    pub url_secret: Option<Reference>,
    /// Only these profiles
    pub profiles: Option<Vec<Text>>,
}

/// Metrics for Prometheus
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsKeys {
    /// The directory of node_exporter's textfile collector; each profile has a file there
    pub textfile: Option<Text>,
    /// A push gateway: http://HOST:9091
    pub push: Option<At<Text>>,
}
