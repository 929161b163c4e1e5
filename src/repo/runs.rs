//! Records of what was done with a repository: runs of profiles, restores, verifications. They say who did what, when, to
//! which snapshots, and how it ended. Nothing depends on them: one that is lost is missed by people only.

use serde::{Deserialize, Serialize};

use super::ids::{ObjectId, SnapshotId};
use super::seal::Keyring;
use super::{RepoError, Repository, parallel, record};

/// Folder of all records.
pub(super) const PREFIX: &str = "runs/";
const KIND: &str = "run";
/// Threads that read them.
const JOBS: usize = 16;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All was done.
    Done,
    /// Most was done; what was not is listed.
    Partly,
    /// It was not done.
    Failed,
}

impl Outcome {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partly => "partly",
            Self::Failed => "failed",
        }
    }
}

/// How much a line of a log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the record.
    Info,
    /// Worth knowing.
    Warning,
    /// Something was not done.
    Error,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub time: jiff::Timestamp,
    /// How much it matters.
    pub level: Level,
    /// At which step.
    pub step: String,
    /// What.
    pub text: String,
}

/// What was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// The command: `run`, `restore`, `verify`.
    pub command: String,
    /// The profile of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Name of the host.
    pub host: String,
    /// The user on that host.
    pub user: String,
    /// Version of pgtide.
    pub tool: String,
    /// When it began, by that host's clock.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub finished: jiff::Timestamp,
    /// How.
    pub outcome: Outcome,
    /// The exit code.
    pub exit: u8,
    /// What went wrong first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The snapshots it was about.
    pub snapshots: Vec<SnapshotId>,
    /// The database or server it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What else the command has to say of it.
    #[serde(default)]
    pub details: serde_json::Value,
    /// What happened, in order.
    #[serde(default)]
    pub log: Vec<LogLine>,
}

impl RunRecord {
    /// The record of something that begins now, done by nobody else.
    pub fn begin(command: &str) -> Self {
        let now = crate::clock::now();
        Self {
            command: command.to_owned(),
            profile: None,
            host: super::session::host_name(),
            user: user(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            started: now,
            finished: now,
            outcome: Outcome::Done,
            exit: 0,
            error: None,
            snapshots: Vec::new(),
            target: None,
            details: serde_json::Value::Null,
            log: Vec::new(),
        }
    }

    /// Seconds it took.
    pub fn seconds(&self) -> f64 {
        self.finished.duration_since(self.started).as_secs_f64()
    }
}

/// The name of the user that this process runs as, else the number.
fn user() -> String {
    let uid = nix::unistd::Uid::effective();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

impl Repository {
    /// Stores a record.
    pub fn record_run(&self, run: &RunRecord) -> Result<ObjectId, RepoError> {
        let bytes = record::encode(&self.keys, KIND, "", run)?;
        let id = ObjectId::of(&bytes);
        self.store.put(&object_name(&id), &bytes)?;
        Ok(id)
    }

    /// The newest records, so many at most, the oldest first; those that cannot be read are left out, and found by a
    /// check.
    pub fn runs(&self, most: usize) -> Result<Vec<(ObjectId, RunRecord)>, RepoError> {
        let mut listed = self.store.list(PREFIX)?;
        listed.sort_by_key(|object| std::cmp::Reverse(object.modified));
        let names: Vec<(ObjectId, String)> = listed
            .into_iter()
            .filter_map(|object| {
                let id = object.name.strip_prefix(PREFIX)?.parse().ok()?;
                Some((id, object.name))
            })
            .take(most)
            .collect();
        let runs = parallel::map(
            JOBS.min(names.len().max(1)),
            &names,
            |_, (id, name)| match self.store.map(name) {
                Ok(bytes) => Ok(decode(&self.keys, id, &bytes).ok().map(|run| (*id, run))),
                Err(error) if error.is_absent() => Ok(None),
                Err(error) => Err(error.into()),
            },
        )?;
        let mut runs: Vec<(ObjectId, RunRecord)> = runs.into_iter().flatten().collect();
        runs.sort_by_key(|(id, run)| (run.started, run.finished, *id));
        Ok(runs)
    }
}

/// Name of a record's object.
fn object_name(id: &ObjectId) -> String {
    format!("{PREFIX}{id}")
}

/// What the bytes of a record say; the error says what is wrong with them.
pub(super) fn decode(keys: &Keyring, id: &ObjectId, bytes: &[u8]) -> Result<RunRecord, String> {
    if ObjectId::of(bytes) != *id {
        return Err("its bytes do not have the hash that is its name".into());
    }
    record::decode(keys, KIND, "", bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn records_come_back_in_order_of_time() {
        let repo = Repository::init(Arc::new(MemoryStore::default())).unwrap();
        for second in [30, 10, 20] {
            let mut run = RunRecord::begin("run");
            run.started = jiff::Timestamp::from_second(second).unwrap();
            run.finished = run.started;
            repo.record_run(&run).unwrap();
        }
        let runs = repo.runs(usize::MAX).unwrap();
        let times: Vec<i64> = runs.iter().map(|(_, r)| r.started.as_second()).collect();
        assert_eq!(times, [10, 20, 30]);
        assert_eq!(repo.runs(1).unwrap().len(), 1);
    }
}
