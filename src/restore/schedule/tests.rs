use super::*;

fn taken(schedule: &Schedule) -> Vec<usize> {
    schedule.take(0).unwrap().tasks
}

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
        ..Task::default()
    }
}

#[test]
fn the_most_expensive_ready_task_goes_first() {
    let schedule = Schedule::new(
        vec![
            task(1, &[], &[], &[]),
            task(5, &[], &[], &[]),
            task(2, &[0], &[], &[]),
        ],
        ALONE,
    );
    let [first, second] = [(); 2].map(|()| schedule.take(0).unwrap());
    assert_eq!((&first.tasks, &second.tasks), (&vec![1], &vec![0]));
    schedule.done(&second);
    let third = schedule.take(0).unwrap();
    assert_eq!(third.tasks, [2]);
    schedule.done(&first);
    schedule.done(&third);
    assert_eq!(schedule.take(0), None);
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
    let first = schedule.take(0).unwrap();
    assert_eq!(first.tasks, [0]);
    assert_eq!(taken(&schedule), [2], "the second has to wait");
    schedule.done(&first);
    assert_eq!(taken(&schedule), [1]);
}

#[test]
fn a_worker_that_dies_leaves_nobody_waiting() {
    let schedule = Schedule::new(vec![task(1, &[], &[], &[]), task(1, &[0], &[], &[])], ALONE);
    std::thread::scope(|scope| {
        let dies = scope.spawn(|| {
            let _guard = schedule.guard();
            assert_eq!(taken(&schedule), [0]);
            panic!("as a defect would");
        });
        assert!(dies.join().is_err());
        assert_eq!(schedule.take(1), None);
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
    assert_eq!(taken(&schedule), [3]);
    assert_eq!(taken(&schedule), [0, 1, 4]);
    assert_eq!(taken(&schedule), [2]);
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
        for worker in 0..4 {
            let (schedule, order) = (&schedule, &order);
            scope.spawn(move || {
                while let Some(taken) = schedule.take(worker) {
                    order.lock().unwrap().extend(&taken.tasks);
                    schedule.done(&taken);
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
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut others = Vec::new();
            while let Some(taken) = schedule.take(1) {
                others.extend_from_slice(&taken.tasks);
                schedule.done(&taken);
            }
            others
        });
        for expected in [0, 1] {
            let taken = schedule.take_elsewhere(0, 1).unwrap();
            assert_eq!(taken.tasks, [expected]);
            schedule.done(&taken);
        }
        assert_eq!(schedule.take_elsewhere(0, 1), None);
        assert_eq!(others.join().unwrap(), [2, 3]);
    });
}

#[test]
fn what_much_waits_for_goes_before_what_is_more_work_itself() {
    // The load of 3, whose index takes 20, goes before that of 9, and the index before all that is left.
    let schedule = Schedule::new(
        vec![
            task(9, &[], &[], &[1]),
            task(3, &[], &[], &[2]),
            task(20, &[1], &[], &[2]),
            task(4, &[0], &[], &[1]),
        ],
        ALONE,
    );
    let load = schedule.take(0).unwrap();
    assert_eq!(load.tasks, [1]);
    schedule.done(&load);
    assert_eq!(taken(&schedule), [2]);
    assert_eq!(taken(&schedule), [0]);
}

#[test]
fn a_task_that_takes_transactions_of_its_own_is_never_in_a_batch() {
    let mut alone = task(0, &[], &[], &[]);
    alone.alone = true;
    let tasks = vec![task(0, &[], &[], &[]), alone, task(0, &[], &[], &[])];
    let batching = Batching {
        cheap: 10,
        count: 10,
        cost: 10,
    };
    let schedule = Schedule::new(tasks, batching);
    assert_eq!(taken(&schedule), [0, 2]);
    assert_eq!(taken(&schedule), [1]);
}

#[test]
fn a_path_that_outlasts_all_other_work_may_take_the_cores_that_will_be_idle() {
    let tasks = |long| vec![task(long, &[], &[], &[]), task(30, &[], &[], &[])];
    for (long, expected) in [(30, 1), (90, 2), (3000, 3)] {
        let schedule = Schedule::new(tasks(long), ALONE);
        for worker in 0..4 {
            schedule.lock().workers = worker + 1;
        }
        assert_eq!(schedule.take(0).unwrap().spare, expected, "{long}");
    }
}

#[test]
fn runs_tell_what_they_waited_for() {
    let schedule = Schedule::new(
        vec![
            task(9, &[], &[], &[1]),
            task(8, &[0], &[1], &[]),
            task(7, &[], &[], &[2]),
            task(1, &[0], &[1], &[]),
        ],
        ALONE,
    );
    let load = schedule.take(0).unwrap();
    let other = schedule.take(1).unwrap();
    schedule.done(&load);
    let index = schedule.take(0).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| schedule.take(2).unwrap());
        schedule.done(&other);
        schedule.done(&index);
        schedule.done(&waits.join().unwrap());
    });
    let (_, runs) = schedule.into_runs();
    let causes: Vec<_> = runs.iter().map(|run| run.cause).collect();
    assert_eq!(causes[..3], [None, None, Some(0)]);
    assert_eq!(runs[2].waited, Waited::Dependency);
    assert!(runs.iter().all(|run| run.start <= run.end));
    assert_eq!(runs[3].tasks, [3]);
}
