//! Where the time of a restore went: the chain of tasks that determined when it ended, what each kind of work took, and
//! how busy the workers were.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cost::Kind;
use super::schedule::{Run, Schedule, Waited};

/// Links of the chain that take less than this part of the whole are put together with others beside them.
const SMALL: f64 = 0.01;

/// Where the time of a restore went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timing {
    /// The chain that determined the end, from the beginning to the end.
    pub path: Vec<Link>,
    /// What each kind of work took, all sessions together; the longest first.
    pub kinds: Vec<KindTime>,
    /// Sessions that worked side by side.
    pub workers: usize,
    /// Seconds in which they could.
    pub parallel_seconds: f64,
    /// Seconds that they worked, all together: at most workers times [`parallel_seconds`](Self::parallel_seconds).
    pub busy_seconds: f64,
}

/// A part of the chain that determined the end of a restore: something that was done, or several short ones in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// What it was; of several, the longest.
    pub task: String,
    /// Of which kind.
    pub kind: Kind,
    /// How many tasks.
    pub tasks: usize,
    /// Seconds after the beginning of the restore.
    pub start: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Why it did not begin earlier.
    pub waited: Waited,
    /// Seconds of the longest of them.
    longest: f64,
}

/// What a kind of work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KindTime {
    /// The kind.
    pub kind: Kind,
    /// Tasks.
    pub tasks: usize,
    /// Seconds, all sessions together.
    pub seconds: f64,
}

/// Takes the time of a restore.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    path: Vec<Link>,
    kinds: BTreeMap<Kind, (usize, f64)>,
    parallel: Duration,
    busy: Duration,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            noted: Mutex::default(),
        }
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Does something that nothing else is done beside.
    pub fn alone<T>(&self, task: &str, kind: Kind, work: impl FnOnce() -> T) -> T {
        let start = self.seconds();
        let result = work();
        let seconds = self.seconds() - start;
        self.note(|noted| {
            noted.add(kind, 1, seconds);
            noted.path.push(Link {
                task: task.to_owned(),
                kind,
                tasks: 1,
                start,
                seconds,
                waited: Waited::Dependency,
                longest: seconds,
            });
        });
        result
    }

    /// Notes what the workers of a schedule did, which began `start` seconds after the restore. `name` says what a task is
    /// called.
    pub fn side_by_side(&self, schedule: Schedule, start: f64, name: impl Fn(usize) -> String) {
        let parallel = Duration::from_secs_f64((self.seconds() - start).max(0.0));
        let (tasks, runs) = schedule.into_runs();
        let length = |run: &Run| run.end.saturating_sub(run.start);
        let mut path = Vec::new();
        let mut next = (0..runs.len()).max_by_key(|&n| runs[n].end);
        while let Some(run) = next.map(|n| &runs[n]) {
            let dearest = run.tasks.iter().max_by_key(|&&n| tasks[n].cost);
            let seconds = length(run).as_secs_f64();
            path.push(Link {
                task: dearest.map(|&n| name(n)).unwrap_or_default(),
                kind: dearest.map(|&n| tasks[n].kind).unwrap_or_default(),
                tasks: run.tasks.len(),
                start: start + run.start.as_secs_f64(),
                seconds,
                waited: run.waited,
                longest: seconds,
            });
            next = run.cause;
        }
        path.reverse();
        self.note(|noted| {
            noted.path.append(&mut path);
            noted.parallel += parallel;
            for run in &runs {
                noted.busy += length(run);
                // What each task of a batch took is not known: as much as it costs, and a bit for being there.
                let weight = |n: usize| tasks[n].cost as f64 + 100.0;
                let all: f64 = run.tasks.iter().map(|&n| weight(n)).sum();
                for &n in &run.tasks {
                    let seconds = length(run).as_secs_f64() * weight(n) / all;
                    noted.add(tasks[n].kind, 1, seconds);
                }
            }
        });
    }

    fn note(&self, note: impl FnOnce(&mut Noted)) {
        note(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was noted; `workers` worked side by side.
    pub fn timing(self, workers: usize) -> Timing {
        let whole = self.seconds();
        let noted = self.noted.into_inner();
        let noted = noted.unwrap_or_else(PoisonError::into_inner);
        let mut kinds: Vec<KindTime> = noted
            .kinds
            .into_iter()
            .map(|(kind, (tasks, seconds))| KindTime {
                kind,
                tasks,
                seconds,
            })
            .collect();
        kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Timing {
            path: joined(noted.path, whole * SMALL),
            kinds,
            workers,
            parallel_seconds: noted.parallel.as_secs_f64(),
            busy_seconds: noted.busy.as_secs_f64(),
        }
    }
}

impl Noted {
    fn add(&mut self, kind: Kind, tasks: usize, seconds: f64) {
        let of = self.kinds.entry(kind).or_default();
        of.0 += tasks;
        of.1 += seconds;
    }
}

/// Puts links of less than `small` seconds together with such beside them, so that there are few.
fn joined(path: Vec<Link>, small: f64) -> Vec<Link> {
    let mut joined: Vec<Link> = Vec::new();
    for link in path {
        match joined.last_mut() {
            Some(last) if last.longest < small && link.longest < small => {
                last.tasks += link.tasks;
                last.seconds += link.seconds;
                if link.longest > last.longest {
                    last.task = link.task;
                    last.kind = link.kind;
                    last.longest = link.longest;
                }
            }
            _ => joined.push(link),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::schedule::{Batching, Task};

    fn link(task: &str, seconds: f64) -> Link {
        Link {
            task: task.to_owned(),
            kind: Kind::Rows,
            tasks: 1,
            start: 0.0,
            seconds,
            waited: Waited::Worker,
            longest: seconds,
        }
    }

    #[test]
    fn short_links_are_put_together_and_long_ones_are_not() {
        let path = vec![
            link("a", 0.1),
            link("b", 0.3),
            link("c", 5.0),
            link("d", 6.0),
            link("e", 0.1),
            link("f", 0.1),
        ];
        let joined = joined(path, 1.0);
        let tasks: Vec<_> = joined.iter().map(|l| (l.task.as_str(), l.tasks)).collect();
        assert_eq!(tasks, [("b", 2), ("c", 1), ("d", 1), ("e", 2)]);
        assert!((joined[0].seconds - 0.4).abs() < 1e-9);
    }

    #[test]
    fn the_chain_leads_from_the_last_end_over_what_it_waited_for_to_the_beginning() {
        let clock = Clock::start();
        clock.alone("first", Kind::PreData, || ());
        let task = |kind, after: &[usize]| Task {
            kind,
            cost: 1000,
            after: after.to_vec(),
            ..Task::default()
        };
        let tasks = vec![
            task(Kind::Rows, &[]),
            task(Kind::Gin, &[0]),
            task(Kind::Rows, &[]),
        ];
        let batching = Batching {
            cheap: 0,
            count: 1,
            cost: 0,
        };
        let schedule = Schedule::new(tasks, batching);
        let load = schedule.take(0).unwrap();
        let other = schedule.take(1).unwrap();
        schedule.done(&load);
        let index = schedule.take(0).unwrap();
        schedule.done(&other);
        schedule.done(&index);
        clock.side_by_side(schedule, clock.seconds(), |n| format!("task {n}"));
        let noted = clock.noted.lock().unwrap();
        let names: Vec<&str> = noted.path.iter().map(|l| l.task.as_str()).collect();
        assert_eq!(names, ["first", "task 0", "task 1"]);
        assert_eq!(noted.kinds[&Kind::Rows].0, 2);
        drop(noted);
        let timing = clock.timing(2);
        assert_eq!(timing.workers, 2);
        let tasks: usize = timing.path.iter().map(|link| link.tasks).sum();
        assert_eq!(tasks, 3);
    }
}
