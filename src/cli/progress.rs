//! Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pgtide::progress::{Progress, Stage};

use super::render;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Workers that have a line of their own.
const WORKERS_SHOWN: usize = 8;

/// What a command shows while it runs.
pub struct Shown {
    all: MultiProgress,
    bar: ProgressBar,
    /// What each worker is at, below the bar.
    workers: Mutex<Vec<Option<ProgressBar>>>,
    /// Lines instead of a bar.
    lines: bool,
    quiet: bool,
    /// What is done: `read` or `loaded`.
    verb: &'static str,
    done: AtomicU64,
    total: AtomicU64,
    line: Mutex<Line>,
}

struct Line {
    began: Instant,
    next: Instant,
}

impl Shown {
    /// Progress of a command whose bytes are `verb`: read, loaded.
    pub fn new(quiet: bool, verb: &'static str) -> Self {
        let lines = !std::io::stderr().is_terminal();
        let all = MultiProgress::new();
        let bar = if quiet || lines {
            ProgressBar::hidden()
        } else {
            all.add(ProgressBar::new_spinner())
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            all,
            bar,
            workers: Mutex::default(),
            lines,
            quiet,
            verb,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            line: Mutex::new(Line {
                began: Instant::now(),
                next: Instant::now() + LINE_INTERVAL,
            }),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.idle();
        self.bar.finish_and_clear();
    }

    /// Takes the workers' lines away.
    fn idle(&self) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers
            .drain(..)
            .flatten()
            .for_each(|line| line.finish_and_clear());
    }

    fn say(&self, text: String) {
        if !self.quiet && !self.lines {
            self.bar.set_message(text);
        }
    }

    fn line(&self) {
        let Ok(mut line) = self.line.try_lock() else {
            return;
        };
        let now = Instant::now();
        if now < line.next {
            return;
        }
        line.next = now + LINE_INTERVAL;
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed).max(1);
        let elapsed = now.duration_since(line.began).as_secs_f64().max(0.001);
        let rate = done as f64 / elapsed;
        let left = total.saturating_sub(done) as f64 / rate.max(1.0);
        eprintln!(
            "{} of {} {} ({:.0} %), {}/s, {} left",
            render::bytes(done),
            render::bytes(total),
            self.verb,
            (done as f64 / total as f64 * 100.0).min(100.0),
            render::bytes(rate as u64),
            render::seconds(left)
        );
    }
}

impl Progress for Shown {
    fn stage(&self, stage: &Stage) {
        match stage {
            Stage::Step(name) => {
                self.idle();
                if self.lines && !self.quiet {
                    eprintln!("{name}");
                }
                self.bar.reset();
                self.bar.set_style(ProgressStyle::default_spinner());
                self.say((*name).to_owned());
            }
            Stage::Database { name, number, of } => {
                let text = format!("database {name} ({number} of {of})");
                if self.lines && !self.quiet {
                    eprintln!("{text}");
                }
                self.say(text);
            }
            Stage::Listed { tables } => self.say(format!(
                "locking {}",
                render::plural(*tables as u64, "table", "tables")
            )),
            Stage::Locked => self.say("taking the snapshot".to_owned()),
            Stage::Snapshot => self.say("looking at the tables".to_owned()),
            Stage::PreData { entries } => self.say(format!(
                "creating {}",
                render::plural(*entries as u64, "object", "objects")
            )),
            Stage::Rows {
                bytes,
                tables,
                hypertables,
                chunks,
            } => {
                self.total.store(*bytes, Ordering::Relaxed);
                self.done.store(0, Ordering::Relaxed);
                self.bar.set_position(0);
                let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
                line.began = Instant::now();
                line.next = line.began + LINE_INTERVAL;
                drop(line);
                self.bar.set_length(*bytes);
                self.bar.reset_eta();
                // A template that is known to be right.
                if let Ok(style) = ProgressStyle::with_template(
                    "{bar:32} {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left  {wide_msg}",
                ) {
                    self.bar.set_style(style.progress_chars("━╸ "));
                }
                self.say(render::counts(*tables, *hypertables, *chunks));
            }
            Stage::PostData => self.say("privileges and refreshes".to_owned()),
            Stage::Committing => self.say("writing the snapshot".to_owned()),
        }
    }

    fn bytes(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.quiet {
        } else if self.lines {
            self.line();
        } else {
            self.bar.inc(bytes);
        }
    }

    fn note(&self, text: &str) {
        // Above the bar, where there is one.
        self.all.suspend(|| eprintln!("note: {text}"));
    }

    fn task(&self, worker: usize, name: Option<&str>) {
        if self.quiet || self.lines || worker >= WORKERS_SHOWN {
            return;
        }
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.len() <= worker {
            workers.resize(worker + 1, None);
        }
        match name {
            Some(name) => {
                let line = workers[worker].get_or_insert_with(|| {
                    let line = self.all.add(ProgressBar::new_spinner());
                    // A template that is known to be right.
                    if let Ok(style) = ProgressStyle::with_template("  {prefix} {wide_msg}") {
                        line.set_style(style);
                    }
                    line.set_prefix((worker + 1).to_string());
                    line
                });
                line.set_message(name.to_owned());
            }
            None => {
                if let Some(line) = workers[worker].take() {
                    line.finish_and_clear();
                    self.all.remove(&line);
                }
            }
        }
    }
}
