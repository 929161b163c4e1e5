//! The log of a run.

use std::sync::{Mutex, PoisonError};

use crate::progress::{Progress, Stage};
use crate::repo::{Level, LogLine};

use super::report::Step;

/// Lines that are kept: a run that repeats itself must not fill the repository.
const KEPT: usize = 2000;

/// Lines, as they come.
#[derive(Debug, Default)]
pub struct Log(Mutex<Vec<LogLine>>);

impl Log {
    /// Adds a line.
    pub fn add(&self, level: Level, step: Step, text: impl Into<String>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < KEPT {
            lines.push(LogLine {
                time: crate::clock::now(),
                level,
                step: step.name().to_owned(),
                text: text.into(),
            });
        }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<LogLine> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A watcher who writes down what he hears, and tells the next.
pub struct Logged<'a> {
    /// Where it is written down.
    pub log: &'a Log,
    /// At which step.
    pub step: Step,
    /// Who watches as well.
    pub next: &'a dyn Progress,
}

impl Progress for Logged<'_> {
    fn stage(&self, stage: &Stage) {
        if let Stage::Database { name, number, of } = stage {
            let text = format!("database {name} ({number} of {of})");
            self.log.add(Level::Info, self.step, text);
        }
        self.next.stage(stage);
    }

    fn bytes(&self, bytes: u64) {
        self.next.bytes(bytes);
    }

    fn task(&self, worker: usize, name: Option<&str>) {
        self.next.task(worker, name);
    }

    fn note(&self, text: &str) {
        self.log.add(Level::Warning, self.step, text);
        self.next.note(text);
    }
}
