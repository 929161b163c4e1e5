//! How a profile is: what its repository has, and what its runs did. Nothing of it is kept anywhere but in the repository.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use super::config::{PlaceError, Profile};
use super::run::{Past, overdue, span};
use super::text;
use super::verified;
use crate::repo::model::Snapshot;
use crate::repo::{Outcome, Repository, SnapshotId};

/// How well a profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Well,
    /// Something should be looked at.
    Warning,
    /// There is no good dump of the time there should be one of, or a verification found a difference.
    Bad,
}

/// The snapshots of a database.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// The database, `(cluster)`, or `(globals)`.
    pub label: String,
    /// Its snapshots that are kept, the oldest first.
    #[serde(skip)]
    pub snapshots: Vec<(SnapshotId, Snapshot)>,
}

impl Series {
    /// The oldest that is kept.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.snapshots.first().map(|(_, snapshot)| snapshot.time)
    }

    /// The newest.
    pub fn newest(&self) -> Option<Timestamp> {
        self.snapshots.last().map(|(_, snapshot)| snapshot.time)
    }
}

/// How a profile is.
#[derive(Debug, Clone)]
pub struct State {
    /// The profile.
    pub profile: Profile,
    /// The time this is of.
    pub now: Timestamp,
    /// Its runs.
    pub past: Past,
    /// What it dumped, by database.
    pub series: Vec<Series>,
    /// Bytes of all packs of the repository, other profiles' among them.
    pub repository_bytes: u64,
    /// Bytes of payload of all snapshots of the repository: what they would take without deduplication and compression.
    pub payload_bytes: u64,
    /// Snapshots of the repository.
    pub snapshots: u64,
}

impl State {
    /// Opens the repository of a profile, and looks at it.
    pub fn of(profile: &Profile) -> Result<Self, PlaceError> {
        Self::load(profile, &profile.repository.open()?)
    }

    /// Looks at the repository of a profile.
    pub fn load(profile: &Profile, repo: &Repository) -> Result<Self, PlaceError> {
        let past = Past::load(repo, &profile.name)?;
        let list = repo.snapshots()?.list;
        // Others may dump the same databases into the same repository.
        let ours: HashSet<SnapshotId> = (past.0.iter())
            .flat_map(|run| &run.details.databases)
            .filter_map(|one| one.snapshot)
            .collect();
        let mut series: BTreeMap<String, Vec<(SnapshotId, Snapshot)>> = BTreeMap::new();
        let mut payload_bytes = 0;
        let snapshots = list.len() as u64;
        for (id, snapshot) in list {
            if snapshot.databases().is_none() {
                payload_bytes += snapshot.totals.payload_bytes;
                if ours.contains(&id) {
                    let label = snapshot.label().to_owned();
                    series.entry(label).or_default().push((id, snapshot));
                }
            }
        }
        Ok(Self {
            profile: profile.clone(),
            now: crate::clock::now(),
            past,
            series: series
                .into_iter()
                .map(|(label, snapshots)| Series { label, snapshots })
                .collect(),
            repository_bytes: repo.packs_bytes()?,
            payload_bytes,
            snapshots,
        })
    }

    /// When all databases were dumped last.
    pub fn last_success(&self) -> Option<Timestamp> {
        self.past.last_success().map(|run| run.record.started)
    }

    /// What the last verification found, and when.
    pub fn verified(&self) -> Option<(Timestamp, &verified::Summary)> {
        self.past.last_verified()
    }

    /// How much larger what is stored is than what it takes.
    pub fn dedup_ratio(&self) -> Option<f64> {
        (self.repository_bytes > 0)
            .then(|| self.payload_bytes as f64 / self.repository_bytes as f64)
    }

    /// How it is, and why not well.
    pub fn health(&self) -> (Health, Vec<String>) {
        let mut found = Vec::new();
        let Some(last) = self.past.last() else {
            return (Health::Warning, vec!["it never ran".to_owned()]);
        };
        match last.record.outcome {
            Outcome::Done => {}
            Outcome::Partly => found.push((
                Health::Warning,
                line("the last run did not do all", &last.record.error),
            )),
            Outcome::Failed => {
                found.push((Health::Bad, line("the last run failed", &last.record.error)))
            }
        }
        if let Some(every) = self.profile.every {
            match self.last_success() {
                None => found.push((Health::Bad, "everything was never dumped".to_owned())),
                Some(last) => {
                    if let Some(ago) = overdue(last, every, self.now) {
                        let ago = span(ago);
                        found.push((Health::Bad, format!("the last good dump is {ago} old")));
                    }
                }
            }
        }
        if let Some(verify) = &self.profile.verify {
            match self.verified() {
                None => found.push((Health::Warning, "it was never verified".to_owned())),
                Some((_, summary)) if !summary.equal => {
                    found.push((
                        Health::Bad,
                        "the last verification found differences".to_owned(),
                    ));
                }
                Some((at, _)) => {
                    if let Some(ago) = verify.every.and_then(|every| overdue(at, every, self.now)) {
                        let ago = span(ago);
                        found.push((
                            Health::Warning,
                            format!("the last verification is {ago} old"),
                        ));
                    }
                }
            }
        }
        let anomalies = last.details.anomalies.iter();
        found.extend(anomalies.map(|text| (Health::Warning, text::first_line(text).to_owned())));
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        let worst = found.first().map_or(Health::Well, |(health, _)| *health);
        (worst, found.into_iter().map(|(_, text)| text).collect())
    }
}

fn line(what: &str, error: &Option<String>) -> String {
    match error {
        Some(error) => format!("{what}: {}", text::first_line(error)),
        None => what.to_owned(),
    }
}
