//! What earlier runs of a profile did.

use std::time::Duration;

use jiff::Timestamp;

use crate::ops::exit::Exit;
use crate::ops::retention::TOLERANCE;
use crate::ops::verified;
use crate::repo::{Outcome, RepoError, Repository, RunRecord};

use super::report::{Details, Step};

/// Records that are looked at: two years of nights of three profiles.
const LOOKED_AT: usize = 2000;

/// A run of the past.
#[derive(Debug, Clone)]
pub struct PastRun {
    /// Its record.
    pub record: RunRecord,
    /// What the record says of steps and databases.
    pub details: Details,
}

impl PastRun {
    /// Whether the databases were dumped, all of them.
    pub fn dumped(&self) -> bool {
        self.details.is_dumped()
    }

    /// Whether a step was done: one that failed is to be done again.
    fn did(&self, step: Step) -> bool {
        let done = [Some(Outcome::Done), Some(Outcome::Partly)];
        let report = self.details.step(step);
        report.is_some_and(|report| done.contains(&report.outcome))
    }
}

/// Runs of a profile, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Past(pub Vec<PastRun>);

impl Past {
    /// Reads the records of the profile's runs.
    pub fn load(repo: &Repository, profile: &str) -> Result<Self, RepoError> {
        let records = repo.runs(LOOKED_AT)?.into_iter().map(|(_, record)| record);
        Ok(Self::of(records, profile))
    }

    /// Those of the records that are of the profile's runs.
    pub fn of(records: impl IntoIterator<Item = RunRecord>, profile: &str) -> Self {
        // What a clock that was ahead has left says nothing of any time.
        let now = crate::clock::now();
        let latest = now.checked_add(TOLERANCE).unwrap_or(Timestamp::MAX);
        let runs = records
            .into_iter()
            .filter(|record| record.started <= latest)
            // One that found another at work did nothing.
            .filter(|record| record.exit != Exit::Busy as u8)
            .filter(|record| record.command == "run" && record.profile.as_deref() == Some(profile))
            .map(|record| PastRun {
                // Of another version of pgtide, which may have said it otherwise.
                details: serde_json::from_value(record.details.clone()).unwrap_or_default(),
                record,
            });
        Self(runs.collect())
    }

    /// The last one.
    pub fn last(&self) -> Option<&PastRun> {
        self.0.last()
    }

    /// The last one that dumped all.
    pub fn last_success(&self) -> Option<&PastRun> {
        self.0.iter().rev().find(|run| run.dumped())
    }

    /// When a step was done last.
    pub fn last_of(&self, step: Step) -> Option<Timestamp> {
        let run = self.0.iter().rev().find(|run| run.did(step))?;
        Some(run.record.finished)
    }

    /// What the last verification found, and when.
    pub fn last_verified(&self) -> Option<(Timestamp, &verified::Summary)> {
        let runs = self.0.iter().rev();
        let mut found =
            runs.filter_map(|run| Some((run.record.finished, run.details.verified.as_ref()?)));
        found.next()
    }

    /// Whether a step is to be done again, if it is not to be done more often than that. What is nearly due is done: nights
    /// do not begin at the same second.
    pub fn is_due(&self, step: Step, every: Option<Duration>, now: Timestamp) -> bool {
        let (Some(every), Some(last)) = (every, self.last_of(step)) else {
            return true;
        };
        let since = now.duration_since(last).as_secs_f64();
        // Or the clock was set back.
        since < 0.0 || since >= every.as_secs_f64() * 0.95
    }
}
