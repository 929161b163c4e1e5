//! The nightly run: everything that a profile asks for, one step after the other, each of them timed, and all of it on
//! record. A step that fails keeps those from running that rely on it, or that would remove what may be needed now.

mod anomaly;
mod hooks;
mod lock;
mod log;
mod order;
mod past;
mod preflight;
mod report;
mod steps;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::dump::{self, DumpError};
use crate::pg::Settings;
use crate::pg::interrupt::Interrupt;
use crate::progress::{Progress, Stage};
use crate::repo::{Level, Outcome, RepoError, Repository, RunRecord};

use super::config::{Config, PlaceError, Profile};
use super::exit::Exit;
use super::metrics;
use super::notify::{Channel, Event};

pub use anomaly::{overdue, span};
pub use lock::LockError;
pub use past::{Past, PastRun};
pub use report::{Database, Details, Report, Step, StepReport};

use lock::Lock;
use log::{Log, Logged};

/// Which steps.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only these; all if there are none.
    pub only: BTreeSet<Step>,
    /// Not these.
    pub skip: BTreeSet<Step>,
}

impl Choice {
    fn has(&self, step: Step) -> bool {
        (self.only.is_empty() || self.only.contains(&step)) && !self.skip.contains(&step)
    }
}

/// Why a step broke off, and how the command ends because of it.
#[derive(Debug)]
pub struct Broken {
    exit: Exit,
    message: String,
}

impl Broken {
    fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
        }
    }

    fn from_error(error: impl std::fmt::Display) -> Self {
        Self::failed(error.to_string())
    }

    fn from_repo(error: RepoError) -> Self {
        Self {
            exit: Exit::from(&error),
            message: error.to_string(),
        }
    }
}

impl From<RepoError> for Broken {
    fn from(error: RepoError) -> Self {
        Self::from_repo(error)
    }
}

impl From<DumpError> for Broken {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Repo(error) => Self::from_repo(error),
            error => Self::from_error(error),
        }
    }
}

impl From<PlaceError> for Broken {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Repository(error) => Self::from_repo(error),
            error => Self {
                exit: Exit::Usage,
                message: error.to_string(),
            },
        }
    }
}

/// What all steps have in common.
struct Night<'a> {
    profile: &'a Profile,
    interrupt: &'a Interrupt,
    progress: &'a dyn Progress,
    log: &'a Log,
    path: Option<OsString>,
    /// Whether the deadline has passed.
    expired: &'a AtomicBool,
}

impl Night<'_> {
    /// Tries again what may succeed then.
    fn again<T>(
        &self,
        step: Step,
        attempt: impl FnMut() -> Result<T, DumpError>,
    ) -> Result<T, DumpError> {
        let retries = (self.profile.retries, self.profile.retry_wait);
        dump::again(retries, self.interrupt, &watch(self, step), attempt)
    }
}

/// How a step ended, where it did not break off.
#[derive(Debug)]
struct Done {
    exit: Exit,
    summary: String,
    error: Option<String>,
}

impl Done {
    fn well(summary: impl Into<String>) -> Self {
        Self {
            exit: Exit::Done,
            summary: summary.into(),
            error: None,
        }
    }

    /// Done, but for what is wrong, if anything is.
    fn but_for(wrong: &[String], summary: impl Into<String>) -> Self {
        let done = Self::well(summary);
        if wrong.is_empty() {
            return done;
        }
        Self {
            exit: Exit::Partly,
            error: Some(wrong.join("\n")),
            ..done
        }
    }
}

/// Runs a profile. An error only where the configuration does not make one: everything else is in the report, has been
/// told to those who are to be told, and is in the metrics.
pub fn run(
    config: &Config,
    profile: &Profile,
    channels: &[Channel],
    choice: &Choice,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Report {
    let began = Instant::now();
    let mut record = RunRecord::begin("run");
    record.profile = Some(profile.name.clone());
    let log = Log::default();
    let expired = AtomicBool::new(false);
    let night = Night {
        profile,
        interrupt,
        progress,
        log: &log,
        path: std::env::var_os("PATH"),
        expired: &expired,
    };
    let mut run = Run {
        night: &night,
        choice,
        details: Details::default(),
        exit: Exit::Done,
        error: None,
        may_forget: true,
        stored: None,
    };
    let deadline = profile.deadline;
    let mut repo = None;
    // Until all is on record, and all are told.
    let lock = Lock::take(profile);
    under_deadline(deadline, interrupt, &expired, || match &lock {
        Ok(_) => {
            if choice.has(Step::Notify) {
                tell(channels, &Event::start(profile, &record), &night, &mut run);
            }
            repo = run.all(&record);
        }
        Err(error) => {
            let held = matches!(error, LockError::Held { .. });
            let exit = if held { Exit::Busy } else { Exit::Failed };
            let message = error.to_string();
            run.step(Step::Preflight, |_| Err(Broken { exit, message }));
            repo = profile.repository.open().ok();
        }
    });
    record.finished = crate::clock::now();
    let mut report = run.report(&record, began.elapsed());
    // It may undo what the command before has done, for a run that is still at work.
    if let Some(command) = &profile.hooks.after
        && choice.has(Step::After)
        && lock.is_ok()
    {
        let document = serde_json::to_vec(&report).unwrap_or_default();
        let environment = hook_environment(profile, report.outcome.word());
        let timeout = profile.hooks.timeout;
        run.step(Step::After, |_| {
            // What stopped the run must not keep it from being told.
            let go_on = Interrupt::default();
            let said = hooks::run(command, &document, &environment, timeout, &go_on);
            said.map(Done::well).map_err(Broken::failed)
        });
        report = run.report(&record, began.elapsed());
    }
    if let Some(repo) = &repo {
        run.keep(repo, &mut record, &report);
    }
    if choice.has(Step::Notify) {
        tell(channels, &Event::end(&report), &night, &mut run);
    }
    if choice.has(Step::Metrics) {
        let result = metrics::publish(config, profile, &report, repo.as_ref());
        match result {
            Ok(None) => {}
            Ok(Some(summary)) => run.step(Step::Metrics, |_| Ok(Done::well(summary))),
            Err(message) => run.step(Step::Metrics, |_| {
                Ok(Done::but_for(&[message], "not written"))
            }),
        }
    }
    run.report(&record, began.elapsed())
}

/// Does something, and raises the interrupt when its time is over.
fn under_deadline(
    deadline: Option<Duration>,
    interrupt: &Interrupt,
    expired: &AtomicBool,
    work: impl FnOnce(),
) {
    let Some(deadline) = deadline else {
        return work();
    };
    thread::scope(|scope| {
        let (done, over) = channel::<()>();
        scope.spawn(move || {
            if over.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
                expired.store(true, Ordering::Relaxed);
                interrupt.raise();
            }
        });
        work();
        drop(done);
    });
}

/// Tells all who want to know of it.
fn tell(channels: &[Channel], event: &Event, night: &Night<'_>, run: &mut Run<'_>) {
    let mut told = Vec::new();
    let mut failed = Vec::new();
    for channel in channels.iter().filter(|channel| channel.wants(event)) {
        match channel.send(event) {
            Ok(()) => told.push(channel.name().to_owned()),
            Err(error) => failed.push(format!("{}: {error}", channel.name())),
        }
    }
    for error in &failed {
        night.progress.note(&format!("not told: {error}"));
    }
    if event.is_start() {
        // That it begins is not worth a step; that it could not be told is.
        for error in failed {
            night.log.add(Level::Warning, Step::Notify, error);
        }
        return;
    }
    if told.is_empty() && failed.is_empty() {
        return;
    }
    run.step(Step::Notify, |_| {
        let summary = match told.is_empty() {
            true => "nobody".to_owned(),
            false => told.join(", "),
        };
        Ok(Done::but_for(&failed, summary))
    });
}

fn hook_environment<'a>(profile: &'a Profile, outcome: &'a str) -> [(&'a str, &'a str); 2] {
    [
        ("PGTIDE_PROFILE", &profile.name),
        ("PGTIDE_OUTCOME", outcome),
    ]
}

/// A run as far as it has come.
struct Run<'a> {
    night: &'a Night<'a>,
    choice: &'a Choice,
    details: Details,
    exit: Exit,
    /// What went wrong first.
    error: Option<String>,
    /// Whether something may be removed by this clock.
    may_forget: bool,
    /// What tonight's dump has stored.
    stored: Option<steps::Stored>,
}

impl Run<'_> {
    /// Does a step, and takes down how it went.
    fn step(&mut self, step: Step, work: impl FnOnce(&mut Self) -> Result<Done, Broken>) {
        let began = Instant::now();
        self.night.progress.stage(&Stage::Step(step.name()));
        systemd(&[NotifyState::Status(step.name())]);
        let (exit, summary, error) = match work(self) {
            Ok(done) => (done.exit, done.summary, done.error),
            Err(broken) => {
                let late = self.night.expired.load(Ordering::Relaxed);
                let message = match self.night.profile.deadline.filter(|_| late) {
                    Some(deadline) => format!(
                        "stopped, as the deadline of {} has passed\nhint: give the profile a later deadline, or the dump more jobs",
                        span(deadline)
                    ),
                    None => broken.message,
                };
                (broken.exit, String::new(), Some(message))
            }
        };
        let outcome = exit.outcome();
        let level = match outcome {
            Outcome::Done => Level::Info,
            Outcome::Partly => Level::Warning,
            Outcome::Failed => Level::Error,
        };
        let said = error.as_deref().filter(|_| outcome != Outcome::Done);
        self.night.log.add(level, step, said.unwrap_or(&summary));
        if exit != Exit::Done && self.error.is_none() {
            let what = error.as_deref().unwrap_or(&summary);
            self.error = Some(format!("{step}: {what}"));
        }
        self.exit = self.exit.worse(exit);
        self.details.steps.push(StepReport {
            step,
            outcome: Some(outcome),
            seconds: began.elapsed().as_secs_f64(),
            summary,
            error,
        });
    }

    /// Takes down that a step is not done, and why.
    fn skip(&mut self, step: Step, why: &str) {
        self.night
            .log
            .add(Level::Info, step, format!("not done: {why}"));
        self.details.steps.push(StepReport {
            step,
            outcome: None,
            seconds: 0.0,
            summary: why.to_owned(),
            error: None,
        });
    }

    /// Takes down what is odd: told now, in the log, and in the report.
    fn odd(&mut self, step: Step, text: String) {
        self.night.progress.note(&text);
        self.night.log.add(Level::Warning, step, &*text);
        self.details.anomalies.push(text);
    }

    /// What was done so far.
    fn report(&self, record: &RunRecord, took: Duration) -> Report {
        let profile = self.night.profile;
        let settings: Option<Settings> = profile.source.settings().ok();
        Report {
            profile: profile.name.clone(),
            host: record.host.clone(),
            user: record.user.clone(),
            source: settings.map_or_else(
                || profile.source.name.clone(),
                |settings| format!("{}:{}", settings.host_name(), settings.port()),
            ),
            repository: profile.repository.location.clone(),
            started: record.started,
            finished: record.finished,
            seconds: took.as_secs_f64(),
            outcome: self.exit.outcome(),
            exit: self.exit,
            code: self.exit as u8,
            error: self.error.clone(),
            details: self.details.clone(),
            log: self.night.log.lines(),
        }
    }

    /// Stores the record of the run.
    fn keep(&mut self, repo: &Repository, record: &mut RunRecord, report: &Report) {
        record.outcome = report.outcome;
        record.exit = report.code;
        record.error = report.error.clone();
        record.snapshots = report.snapshots();
        record.target = Some(report.source.clone());
        record.details = serde_json::to_value(&report.details).unwrap_or_default();
        record.log = report.log.clone();
        if let Err(error) = repo.record_run(record) {
            let text = format!("the history of the repository does not have this run: {error}");
            self.night.progress.note(&text);
            self.night.log.add(Level::Warning, Step::After, text);
        }
    }
}

/// Tells systemd, where it started this.
pub(in crate::ops) fn systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// A step's watcher.
fn watch<'a>(night: &'a Night<'_>, step: Step) -> Logged<'a> {
    Logged {
        log: night.log,
        step,
        next: night.progress,
    }
}
