//! What a run did: for its record, for those who are told, and for people.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dump::DumpReport;
use crate::ops::exit::Exit;
use crate::ops::verified;
use crate::repo::{LogLine, Outcome, SnapshotId};

/// A step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Whether everything is there that is needed.
    Preflight,
    /// The command before.
    Before,
    /// The dump.
    Dump,
    /// The restore into a scratch database.
    Verify,
    /// Snapshots that are not to stay are removed.
    Forget,
    /// What nothing needs is freed.
    Prune,
    /// The repository is checked.
    Check,
    /// The copy in the second repository.
    Copy,
    /// The command after.
    After,
    /// Others are told.
    Notify,
    /// Metrics are written.
    Metrics,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Self; 11] = [
        Self::Preflight,
        Self::Before,
        Self::Dump,
        Self::Verify,
        Self::Forget,
        Self::Prune,
        Self::Check,
        Self::Copy,
        Self::After,
        Self::Notify,
        Self::Metrics,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Before => "before",
            Self::Dump => "dump",
            Self::Verify => "verify",
            Self::Forget => "forget",
            Self::Prune => "prune",
            Self::Check => "check",
            Self::Copy => "copy",
            Self::After => "after",
            Self::Notify => "notify",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|step| step.name() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|step| step.name()).collect();
                format!("there is no such step; there are {}", names.join(", "))
            })
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// How it ended; nothing if it was not begun.
    pub outcome: Option<Outcome>,
    /// Seconds it took.
    pub seconds: f64,
    /// What it did, or why it did not, in a line.
    pub summary: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A database that was dumped, or was to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub database: String,
    /// Its snapshot; nothing if there is none.
    pub snapshot: Option<SnapshotId>,
    /// Its rows.
    pub rows: u64,
    /// Bytes of heap and TOAST at the source.
    pub source_bytes: u64,
    /// Bytes that were added to the repository for it.
    pub added_bytes: u64,
    /// Seconds that its dump took.
    pub seconds: f64,
    /// What was left out of it, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// Why there is no snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<&DumpReport> for Database {
    fn from(report: &DumpReport) -> Self {
        let totals = &report.snapshot.totals;
        Self {
            database: report.snapshot.source.database.clone(),
            snapshot: Some(report.id),
            rows: totals.rows,
            source_bytes: totals.source_bytes,
            added_bytes: totals.added_bytes,
            seconds: totals.seconds,
            skipped: report.skipped.clone(),
            error: None,
        }
    }
}

impl Database {
    /// One that was not dumped.
    pub(super) fn failed(database: String, error: String) -> Self {
        Self {
            database,
            snapshot: None,
            rows: 0,
            source_bytes: 0,
            added_bytes: 0,
            seconds: 0.0,
            skipped: Vec::new(),
            error: Some(error),
        }
    }
}

/// What is kept of a run besides what every record has. What may be missing in records of other versions has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The steps.
    pub steps: Vec<StepReport>,
    /// The databases.
    pub databases: Vec<Database>,
    /// What is not as the last times, a line each.
    pub anomalies: Vec<String>,
    /// What the verification found.
    pub verified: Option<verified::Summary>,
    /// Copies in the second repository.
    pub copied: u64,
    /// Snapshots that were removed.
    pub forgotten: u64,
    /// The snapshots that tonight's dump stands for: of a cluster the one of the whole.
    pub heads: Vec<SnapshotId>,
}

impl Details {
    /// The step, if it was looked at; none is twice in a run.
    pub fn step(&self, step: Step) -> Option<&StepReport> {
        self.steps.iter().find(|report| report.step == step)
    }

    /// Whether there are databases, and all of them were dumped, be it without something that the role may not read.
    pub fn is_dumped(&self) -> bool {
        !self.databases.is_empty() && self.databases.iter().all(|one| one.snapshot.is_some())
    }
}

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The profile.
    pub profile: String,
    /// The host.
    pub host: String,
    /// The user.
    pub user: String,
    /// The source, as it was connected to.
    pub source: String,
    /// The repository.
    pub repository: String,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub finished: jiff::Timestamp,
    /// Seconds it took.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// How the command ends.
    pub exit: Exit,
    /// The same as a number.
    pub code: u8,
    /// What went wrong first.
    pub error: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub details: Details,
    /// What happened, in order.
    #[serde(skip)]
    pub log: Vec<LogLine>,
}

impl Report {
    /// The snapshots that were made.
    pub fn snapshots(&self) -> Vec<SnapshotId> {
        let databases = self.details.databases.iter();
        let databases = databases.filter_map(|one| one.snapshot);
        let heads = self.details.heads.iter().copied();
        let all: BTreeSet<SnapshotId> = heads.chain(databases).collect();
        all.into_iter().collect()
    }
}
