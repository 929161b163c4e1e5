//! What is told.

use serde_json::Value;

use crate::ops::config::{On, Profile};
use crate::ops::run::Report;
use crate::repo::{Outcome, RunRecord};

/// Something that is told.
#[derive(Debug, Clone)]
pub struct Event {
    /// What it is about: each channel wants some of these.
    kinds: Vec<On>,
    /// All that is known of it, for templates and programs.
    pub(super) document: Value,
}

impl Event {
    /// A run begins.
    pub fn start(profile: &Profile, record: &RunRecord) -> Self {
        Self {
            kinds: vec![On::Start],
            document: serde_json::json!({
                "event": "start",
                "profile": profile.name,
                "host": record.host,
                "user": record.user,
                "repository": profile.repository.location,
                "started": record.started,
            }),
        }
    }

    /// A run has ended.
    pub fn end(report: &Report) -> Self {
        let done = report.outcome == Outcome::Done;
        let odd = !report.details.anomalies.is_empty();
        let mut kinds = vec![if done { On::Success } else { On::Failure }];
        kinds.extend(odd.then_some(On::Anomaly));
        let mut document = serde_json::to_value(report).unwrap_or_default();
        document["event"] = match (done, odd) {
            (false, _) => "failure",
            (true, true) => "anomaly",
            (true, false) => "success",
        }
        .into();
        Self { kinds, document }
    }

    /// Whether it is of one of these kinds.
    pub(super) fn is(&self, wanted: &[On]) -> bool {
        self.kinds.iter().any(|kind| wanted.contains(kind))
    }

    /// Whether it is that a run begins.
    pub fn is_start(&self) -> bool {
        self.is(&[On::Start])
    }

    /// Whether it is that a run has failed, or something of it.
    pub(super) fn is_failure(&self) -> bool {
        self.is(&[On::Failure])
    }
}
