//! Runs tasks on workers: what they depend on first, what most waits for next, and never two at once that would wait for
//! each other's locks.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cost::Kind;

/// Something to do.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// What kind of work it is.
    pub kind: Kind,
    /// How much work it is, in microseconds.
    pub cost: u64,
    /// Tasks that must be done before.
    pub after: Vec<usize>,
    /// Objects that it locks against all other use.
    pub exclusive: Vec<i32>,
    /// Objects that it uses.
    pub shared: Vec<i32>,
    /// It takes transactions of its own, so it is never done together with others.
    pub alone: bool,
    /// It goes before all others as soon as it can.
    pub urgent: bool,
    /// It is done in its order by one worker, which takes it with [`Schedule::take_elsewhere`].
    pub elsewhere: bool,
}

/// Several cheap tasks are taken at once, to be done in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// A task above this cost is done alone.
    pub cheap: u64,
    /// Tasks in a batch.
    pub count: usize,
    /// Cost of a batch.
    pub cost: u64,
}

/// Ready tasks that cannot join a batch, as something locks what they need, that are looked at before it is left as it is.
const PASSED_OVER: usize = 400;

/// The state that all workers share.
pub struct Schedule {
    tasks: Vec<Task>,
    /// What is to be done from the beginning of each task to the end of all that waits for it, one after the other.
    path: Vec<u64>,
    batching: Batching,
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

/// Tasks that a worker does together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Number of the run.
    run: usize,
    /// The tasks, in their order.
    pub tasks: Vec<usize>,
    /// How many more cores could work on it without keeping others from theirs: what waits for this is longer than what
    /// all workers have to do besides.
    pub spare: usize,
}

/// Tasks that were done together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The worker.
    pub worker: usize,
    /// The tasks, in their order.
    pub tasks: Vec<usize>,
    /// Since the schedule was made.
    pub start: Duration,
    /// Since the schedule was made.
    pub end: Duration,
    /// The run whose end let this one begin.
    pub cause: Option<usize>,
    /// Why it did not begin earlier.
    pub waited: Waited,
}

/// Why something did not begin earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It was the first.
    Start,
    /// It needed what another did.
    Dependency,
    /// Another had locked what it needs.
    Lock,
    /// The workers were busy.
    Worker,
}

#[derive(Default)]
struct State {
    /// Ready tasks that may be done with others, and those that are done alone: the longest path first, then in their
    /// order.
    cheap: Ready,
    dear: Ready,
    /// How many tasks each one still waits for.
    waiting: Vec<usize>,
    /// Who waits for each task.
    dependents: Vec<Vec<usize>>,
    /// How many running tasks use each object.
    shared: HashMap<i32, usize>,
    /// How many running tasks lock each object; more than one only within a batch.
    exclusive: HashMap<i32, usize>,
    running: usize,
    /// Tasks that are still to be done elsewhere, the last first.
    elsewhere: Vec<usize>,
    /// Cost of all that is not done.
    left: u64,
    stopped: bool,
    runs: Vec<Run>,
    /// The run that ended last.
    ended: Option<usize>,
    /// The last run of each worker.
    last: HashMap<usize, usize>,
    /// Workers that have called.
    workers: usize,
}

type Ready = BTreeSet<(Reverse<u64>, usize)>;

impl Schedule {
    /// A schedule of these tasks.
    pub fn new(tasks: Vec<Task>, batching: Batching) -> Self {
        let mut waiting = vec![0; tasks.len()];
        let mut dependents = vec![Vec::new(); tasks.len()];
        for (n, task) in tasks.iter().enumerate() {
            waiting[n] = task.after.len();
            for &before in &task.after {
                dependents[before].push(n);
            }
        }
        let mut elsewhere: Vec<usize> = (0..tasks.len()).filter(|&n| tasks[n].elsewhere).collect();
        elsewhere.reverse();
        let mut state = State {
            cheap: Ready::new(),
            dear: Ready::new(),
            waiting,
            dependents,
            shared: HashMap::new(),
            exclusive: HashMap::new(),
            running: 0,
            elsewhere,
            left: tasks.iter().map(|task| task.cost).sum(),
            stopped: false,
            runs: Vec::new(),
            ended: None,
            last: HashMap::new(),
            workers: 0,
        };
        let path = paths(&tasks, &state.dependents, &state.waiting);
        let schedule = Self {
            tasks,
            path,
            batching,
            began: Instant::now(),
            changed: Condvar::new(),
            state: Mutex::new(State::default()),
        };
        for n in 0..schedule.tasks.len() {
            if state.waiting[n] == 0 {
                schedule.make_ready(&mut state, n);
            }
        }
        *schedule.lock() = state;
        schedule
    }

    /// Waits for tasks that can be done now and takes them; `None` when all are done or the schedule was stopped. The
    /// caller must say [`done`](Self::done) of what it took.
    pub fn take(&self, worker: usize) -> Option<Taken> {
        let mut state = self.lock();
        state.workers = state.workers.max(worker + 1);
        let mut waited = false;
        loop {
            if state.stopped {
                return None;
            }
            let batch = self.pick(&mut state);
            if !batch.is_empty() {
                return Some(self.begin(&mut state, worker, batch, waited));
            }
            if state.running == 0 && state.elsewhere.is_empty() {
                // Nothing runs and nothing can: all is done, as a graph without cycles always has something ready.
                self.changed.notify_all();
                return None;
            }
            waited = true;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next tasks, at most so many, of those that one worker does in their order; `None` when there are no more.
    pub fn take_elsewhere(&self, worker: usize, most: usize) -> Option<Taken> {
        let mut state = self.lock();
        if state.elsewhere.is_empty() || state.stopped {
            return None;
        }
        let from = state.elsewhere.len().saturating_sub(most);
        let mut batch = state.elsewhere.split_off(from);
        batch.reverse();
        Some(self.begin(&mut state, worker, batch, false))
    }

    fn begin(&self, state: &mut State, worker: usize, batch: Vec<usize>, waited: bool) -> Taken {
        let own = state.last.get(&worker).copied();
        let cause = if waited { state.ended } else { own };
        let run = state.runs.len();
        let start = self.began.elapsed();
        state.running += 1;
        state.last.insert(worker, run);
        let spare = self.spare(state, worker, &batch);
        state.runs.push(Run {
            worker,
            waited: self.reason(state, &batch, cause, waited),
            tasks: batch.clone(),
            start,
            end: start,
            cause,
        });
        Taken {
            run,
            tasks: batch,
            spare,
        }
    }

    fn reason(&self, state: &State, batch: &[usize], cause: Option<usize>, waited: bool) -> Waited {
        let Some(cause) = cause.map(|run| &state.runs[run]) else {
            return Waited::Start;
        };
        // What waits for much, as for all rows, has its tasks in ascending order.
        let depends = |n: &usize| {
            let after = &self.tasks[*n].after;
            let mut before = cause.tasks.iter();
            before.any(|task| after.binary_search(task).is_ok() || after.last() == Some(task))
        };
        if batch.iter().any(depends) {
            Waited::Dependency
        } else if waited {
            Waited::Lock
        } else {
            Waited::Worker
        }
    }

    /// See [`Taken::spare`]: with a path longer than the work that each worker has left, some of them will have nothing
    /// to do before it ends.
    fn spare(&self, state: &State, worker: usize, batch: &[usize]) -> usize {
        let path = batch.iter().map(|&n| self.path[n]).max().unwrap_or(0);
        let workers = state.workers.max(1) as u128;
        // What the others are at is done by as much as they have been at it.
        let now = self.began.elapsed();
        let others = state.last.iter().filter(|(other, _)| **other != worker);
        let running = others
            .map(|(_, &run)| &state.runs[run])
            .filter(|run| run.end == run.start);
        let done: u64 = running
            .map(|run| {
                let cost: u64 = run.tasks.iter().map(|&n| self.tasks[n].cost).sum();
                let elapsed = now.saturating_sub(run.start).as_micros();
                cost.min(u64::try_from(elapsed).unwrap_or(u64::MAX))
            })
            .sum();
        let left = state.left.saturating_sub(done).max(1);
        let cores = (u128::from(path) * workers).div_ceil(u128::from(left));
        cores.clamp(1, workers) as usize - 1
    }

    /// These tasks are done: what waited for them may run.
    pub fn done(&self, taken: &Taken) {
        let mut state = self.lock();
        state.running -= 1;
        for &n in &taken.tasks {
            let task = &self.tasks[n];
            if !task.elsewhere {
                for object in &task.exclusive {
                    release(&mut state.exclusive, *object);
                }
                for object in &task.shared {
                    release(&mut state.shared, *object);
                }
            }
            state.left -= task.cost;
            for dependent in std::mem::take(&mut state.dependents[n]) {
                state.waiting[dependent] -= 1;
                if state.waiting[dependent] == 0 {
                    self.make_ready(&mut state, dependent);
                }
            }
        }
        state.runs[taken.run].end = self.began.elapsed();
        state.ended = Some(taken.run);
        self.changed.notify_all();
    }

    fn make_ready(&self, state: &mut State, n: usize) {
        let task = &self.tasks[n];
        if !task.elsewhere {
            let ready = if self.is_cheap(task) {
                &mut state.cheap
            } else {
                &mut state.dear
            };
            ready.insert(self.key(n));
        }
    }

    /// A task.
    pub fn task(&self, n: usize) -> &Task {
        &self.tasks[n]
    }

    /// Nothing more is to be taken.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Stops the schedule if the thread that holds this dies, so that no other waits for what it had taken.
    pub fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// What was done, and when; and what the tasks were.
    pub fn into_runs(self) -> (Vec<Task>, Vec<Run>) {
        let state = self.state.into_inner();
        (
            self.tasks,
            state.unwrap_or_else(PoisonError::into_inner).runs,
        )
    }

    fn key(&self, n: usize) -> (Reverse<u64>, usize) {
        let path = if self.tasks[n].urgent {
            u64::MAX
        } else {
            self.path[n]
        };
        (Reverse(path), n)
    }

    fn is_cheap(&self, task: &Task) -> bool {
        task.cost <= self.batching.cheap && !task.alone
    }

    /// The ready task with the longest path that nothing stands in the way of, and if it is cheap, others like it.
    fn pick(&self, state: &mut State) -> Vec<usize> {
        let free = |ready: &Ready| {
            let mut ready = ready.iter();
            ready.find(|(_, n)| state.free(&self.tasks[*n])).copied()
        };
        let batch = match (free(&state.cheap), free(&state.dear)) {
            (None, None) => return Vec::new(),
            (cheap, Some(dear)) if cheap.is_none_or(|cheap| dear < cheap) => vec![dear.1],
            (None, Some(dear)) => vec![dear.1],
            (Some(first), _) => self.together(state, first),
        };
        for &n in &batch {
            let task = &self.tasks[n];
            let key = self.key(n);
            if !state.cheap.remove(&key) {
                state.dear.remove(&key);
            }
            for object in &task.exclusive {
                *state.exclusive.entry(*object).or_default() += 1;
            }
            for object in &task.shared {
                *state.shared.entry(*object).or_default() += 1;
            }
        }
        batch
    }

    /// Cheap tasks from the first one on.
    fn together(&self, state: &State, first: (Reverse<u64>, usize)) -> Vec<usize> {
        let mut batch = Vec::new();
        let mut cost = 0;
        let mut passed_over = 0;
        for &(_, n) in state.cheap.range(first..) {
            let task = &self.tasks[n];
            let fits = batch.is_empty() || cost + task.cost <= self.batching.cost;
            if !fits || !state.free(task) {
                passed_over += 1;
                if passed_over > PASSED_OVER {
                    break;
                }
                continue;
            }
            batch.push(n);
            cost += task.cost;
            if batch.len() >= self.batching.count {
                break;
            }
        }
        // Within a batch tasks follow one another in the order in which they were given.
        batch.sort_unstable();
        batch
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Schedule::path`]. What is in a circle, which no graph has that came from an archive, has none.
fn paths(tasks: &[Task], dependents: &[Vec<usize>], waiting: &[usize]) -> Vec<u64> {
    let mut waiting = waiting.to_vec();
    let mut order: Vec<usize> = (0..tasks.len()).filter(|&n| waiting[n] == 0).collect();
    let mut next = 0;
    while let Some(&n) = order.get(next) {
        next += 1;
        for &dependent in &dependents[n] {
            waiting[dependent] -= 1;
            if waiting[dependent] == 0 {
                order.push(dependent);
            }
        }
    }
    let mut path = vec![0; tasks.len()];
    for &n in order.iter().rev() {
        let after = dependents[n].iter().map(|&dependent| path[dependent]);
        path[n] = tasks[n].cost.saturating_add(after.max().unwrap_or(0));
    }
    path
}

/// See [`Schedule::guard`].
pub struct Guard<'s>(&'s Schedule);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl State {
    /// Whether nothing that runs stands in the way of the task.
    fn free(&self, task: &Task) -> bool {
        let held = |objects: &HashMap<i32, usize>, object: &i32| objects.contains_key(object);
        !task
            .exclusive
            .iter()
            .any(|o| held(&self.exclusive, o) || held(&self.shared, o))
            && !task.shared.iter().any(|o| held(&self.exclusive, o))
    }
}

fn release(objects: &mut HashMap<i32, usize>, object: i32) {
    if let Some(count) = objects.get_mut(&object) {
        *count -= 1;
        if *count == 0 {
            objects.remove(&object);
        }
    }
}

#[cfg(test)]
mod tests;
