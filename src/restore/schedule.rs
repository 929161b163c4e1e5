//! Runs tasks on workers: what they depend on first, the most expensive ready one next, and never two at once that
//! would wait for each other's locks.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Something to do.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// How much work it is, in bytes of payload or their like.
    pub cost: u64,
    /// Tasks that must be done before.
    pub after: Vec<usize>,
    /// Objects that it locks against all other use.
    pub exclusive: Vec<i32>,
    /// Objects that it uses.
    pub shared: Vec<i32>,
    /// It is done by somebody else, who says so with [`Schedule::complete`].
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

/// The state that all workers share.
pub struct Schedule {
    tasks: Vec<Task>,
    batching: Batching,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Ready tasks: most expensive first, then in their order.
    ready: BTreeSet<(std::cmp::Reverse<u64>, usize)>,
    /// How many tasks each one still waits for.
    waiting: Vec<usize>,
    /// Who waits for each task.
    dependents: Vec<Vec<usize>>,
    /// How many running tasks use each object.
    shared: HashMap<i32, usize>,
    /// How many running tasks lock each object; more than one only within a batch.
    exclusive: HashMap<i32, usize>,
    running: usize,
    /// Tasks that are still to be done elsewhere.
    elsewhere: usize,
    stopped: bool,
}

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
        let ready = (0..tasks.len())
            .filter(|&n| waiting[n] == 0 && !tasks[n].elsewhere)
            .map(|n| (std::cmp::Reverse(tasks[n].cost), n))
            .collect();
        let elsewhere = tasks.iter().filter(|task| task.elsewhere).count();
        Self {
            tasks,
            batching,
            state: Mutex::new(State {
                ready,
                waiting,
                dependents,
                shared: HashMap::new(),
                exclusive: HashMap::new(),
                running: 0,
                elsewhere,
                stopped: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits for tasks that can be done now and takes them; `None` when all are done or the schedule was stopped. The
    /// caller must say [`done`](Self::done) of what it took.
    pub fn take(&self) -> Option<Vec<usize>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let batch = self.pick(&mut state);
            if !batch.is_empty() {
                state.running += 1;
                return Some(batch);
            }
            if state.running == 0 && state.elsewhere == 0 {
                // Nothing runs and nothing can: all is done, as a graph without cycles always has something ready.
                self.changed.notify_all();
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// These tasks are done: what waited for them may run.
    pub fn done(&self, batch: &[usize]) {
        let mut state = self.lock();
        state.running -= 1;
        for &n in batch {
            for object in &self.tasks[n].exclusive {
                release(&mut state.exclusive, *object);
            }
            for object in &self.tasks[n].shared {
                release(&mut state.shared, *object);
            }
            self.release_dependents(&mut state, n);
        }
        self.changed.notify_all();
    }

    /// The tasks that are done elsewhere, in their order.
    pub fn elsewhere(&self) -> Vec<usize> {
        (0..self.tasks.len())
            .filter(|&n| self.tasks[n].elsewhere)
            .collect()
    }

    /// These tasks were done elsewhere: what waited for them may run.
    pub fn complete(&self, batch: &[usize]) {
        let mut state = self.lock();
        state.elsewhere -= batch.len();
        for &n in batch {
            self.release_dependents(&mut state, n);
        }
        self.changed.notify_all();
    }

    fn release_dependents(&self, state: &mut State, n: usize) {
        for dependent in std::mem::take(&mut state.dependents[n]) {
            state.waiting[dependent] -= 1;
            if state.waiting[dependent] == 0 && !self.tasks[dependent].elsewhere {
                let cost = std::cmp::Reverse(self.tasks[dependent].cost);
                state.ready.insert((cost, dependent));
            }
        }
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

    fn pick(&self, state: &mut State) -> Vec<usize> {
        let mut batch = Vec::new();
        let mut cost = 0;
        for &(_, n) in &state.ready {
            let task = &self.tasks[n];
            let cheap = task.cost <= self.batching.cheap;
            if !batch.is_empty() && (!cheap || cost + task.cost > self.batching.cost) {
                continue;
            }
            if !state.free(task) {
                continue;
            }
            batch.push(n);
            cost += task.cost;
            if !cheap || batch.len() >= self.batching.count {
                break;
            }
        }
        // Within a batch tasks follow one another in the order in which they were given.
        batch.sort_unstable();
        for &n in &batch {
            let task = &self.tasks[n];
            state.ready.remove(&(std::cmp::Reverse(task.cost), n));
            for object in &task.exclusive {
                *state.exclusive.entry(*object).or_default() += 1;
            }
            for object in &task.shared {
                *state.shared.entry(*object).or_default() += 1;
            }
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
mod tests {
    use super::*;

    const ALONE: Batching = Batching {
        cheap: 0,
        count: 1,
        cost: 0,
    };

    fn task(cost: u64, after: &[usize], exclusive: &[i32], shared: &[i32]) -> Task {
        Task {
            cost,
            after: after.to_vec(),
            exclusive: exclusive.to_vec(),
            shared: shared.to_vec(),
            elsewhere: false,
        }
    }

    #[test]
    fn the_most_expensive_ready_task_goes_first() {
        let schedule = Schedule::new(
            vec![
                task(1, &[], &[], &[]),
                task(5, &[], &[], &[]),
                task(9, &[0], &[], &[]),
            ],
            ALONE,
        );
        assert_eq!(schedule.take(), Some(vec![1]));
        assert_eq!(schedule.take(), Some(vec![0]));
        schedule.done(&[0]);
        assert_eq!(schedule.take(), Some(vec![2]));
        schedule.done(&[1]);
        schedule.done(&[2]);
        assert_eq!(schedule.take(), None);
    }

    #[test]
    fn tasks_that_lock_the_same_table_never_run_at_once() {
        let schedule = Schedule::new(
            vec![
                task(3, &[], &[7], &[]),
                task(2, &[], &[], &[7]),
                task(1, &[], &[], &[8]),
            ],
            ALONE,
        );
        assert_eq!(schedule.take(), Some(vec![0]));
        assert_eq!(schedule.take(), Some(vec![2]), "the second has to wait");
        schedule.done(&[0]);
        assert_eq!(schedule.take(), Some(vec![1]));
    }

    #[test]
    fn a_worker_that_dies_leaves_nobody_waiting() {
        let schedule = Schedule::new(vec![task(1, &[], &[], &[]), task(1, &[0], &[], &[])], ALONE);
        std::thread::scope(|scope| {
            let dies = scope.spawn(|| {
                let _guard = schedule.guard();
                assert_eq!(schedule.take(), Some(vec![0]));
                panic!("as a defect would");
            });
            assert!(dies.join().is_err());
            assert_eq!(schedule.take(), None);
        });
    }

    #[test]
    fn cheap_tasks_are_taken_together_and_dear_ones_alone() {
        let batching = Batching {
            cheap: 10,
            count: 3,
            cost: 25,
        };
        let schedule = Schedule::new(
            vec![
                task(10, &[], &[], &[]),
                task(10, &[], &[], &[]),
                task(10, &[], &[], &[]),
                task(50, &[], &[], &[]),
                task(1, &[], &[], &[]),
            ],
            batching,
        );
        assert_eq!(schedule.take(), Some(vec![3]));
        assert_eq!(schedule.take(), Some(vec![0, 1, 4]));
        assert_eq!(schedule.take(), Some(vec![2]));
    }

    #[test]
    fn all_tasks_run_once_on_many_workers_and_in_order() {
        let tasks: Vec<Task> = (0..500)
            .map(|n| {
                let after = if n >= 10 { vec![n - 10, n - 7] } else { vec![] };
                task((n % 13) as u64, &after, &[(n % 5) as i32], &[])
            })
            .collect();
        let schedule = Schedule::new(
            tasks.clone(),
            Batching {
                cheap: 6,
                count: 4,
                cost: 20,
            },
        );
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(batch) = schedule.take() {
                        order.lock().unwrap().extend(&batch);
                        schedule.done(&batch);
                    }
                });
            }
        });
        let order = order.into_inner().unwrap();
        assert_eq!(order.len(), tasks.len());
        let place: HashMap<usize, usize> = order.iter().enumerate().map(|(p, &n)| (n, p)).collect();
        for (n, task) in tasks.iter().enumerate() {
            assert!(task.after.iter().all(|before| place[before] < place[&n]));
        }
    }

    #[test]
    fn what_is_done_elsewhere_is_waited_for_and_never_taken() {
        let task = |elsewhere, after: &[usize]| Task {
            elsewhere,
            after: after.to_vec(),
            ..Task::default()
        };
        let tasks = vec![
            task(true, &[]),
            task(true, &[]),
            task(false, &[0]),
            task(false, &[1, 2]),
        ];
        let batching = Batching {
            cheap: 0,
            count: 1,
            cost: 0,
        };
        let schedule = Schedule::new(tasks, batching);
        assert_eq!(schedule.elsewhere(), [0, 1]);
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| {
                let mut taken = Vec::new();
                while let Some(batch) = schedule.take() {
                    taken.extend_from_slice(&batch);
                    schedule.done(&batch);
                }
                taken
            });
            schedule.complete(&[0]);
            schedule.complete(&[1]);
            assert_eq!(taken.join().unwrap(), [2, 3]);
        });
    }
}
