//! Where the time of a restore went, for people and for programs.

use pgtide::restore::{Link, Timing, Waited};

use super::render::{self, Align};

/// Prints it.
pub fn print(timing: &Timing) {
    let seconds = |seconds: f64| format!("{seconds:.2}");
    outln!("\nWhat determined the end, with seconds from the beginning:");
    let header = [
        ("START", Align::Right),
        ("TOOK", Align::Right),
        ("WAITED FOR", Align::Left),
        ("TASK", Align::Left),
    ];
    let path = timing.path.iter().filter(|link| link.seconds >= 0.005);
    let rows: Vec<Vec<String>> = path
        .map(|link| {
            vec![
                seconds(link.start),
                seconds(link.seconds),
                waited(link.waited).to_owned(),
                task(link),
            ]
        })
        .collect();
    render::table(&header, &rows);
    outln!("\nSeconds by kind of work, all sessions together:");
    let header = [
        ("TOOK", Align::Right),
        ("TASKS", Align::Right),
        ("KIND", Align::Left),
    ];
    let kinds = timing.kinds.iter().filter(|kind| kind.seconds >= 0.005);
    let rows: Vec<Vec<String>> = kinds
        .map(|kind| {
            vec![
                seconds(kind.seconds),
                render::count(kind.tasks as u64),
                kind.kind.key().to_owned(),
            ]
        })
        .collect();
    render::table(&header, &rows);
    let possible = timing.parallel_seconds * timing.workers as f64;
    outln!(
        "\n{} worked side by side for {}, busy for {:.0} % of it",
        render::plural(timing.workers as u64, "session", "sessions"),
        render::seconds(timing.parallel_seconds),
        timing.busy_seconds / possible.max(0.001) * 100.0
    );
}

fn task(link: &Link) -> String {
    match link.tasks {
        0 | 1 => link.task.clone(),
        more => format!("{} and {} more", link.task, render::count(more as u64 - 1)),
    }
}

/// Why something did not begin earlier.
fn waited(waited: Waited) -> &'static str {
    match waited {
        Waited::Start => "-",
        Waited::Dependency => "the one before",
        Waited::Lock => "a lock",
        Waited::Worker => "a free session",
    }
}

/// The same as JSON.
pub fn json(timing: &Timing) -> serde_json::Value {
    let path: Vec<_> = timing
        .path
        .iter()
        .map(|link| {
            serde_json::json!({
                "task": link.task,
                "kind": link.kind.key(),
                "tasks": link.tasks,
                "start": link.start,
                "seconds": link.seconds,
                "waited_for": match link.waited {
                    Waited::Start => "nothing",
                    Waited::Dependency => "dependency",
                    Waited::Lock => "lock",
                    Waited::Worker => "worker",
                },
            })
        })
        .collect();
    let kinds: Vec<_> = timing
        .kinds
        .iter()
        .map(|kind| {
            serde_json::json!({
                "kind": kind.kind.key(),
                "tasks": kind.tasks,
                "seconds": kind.seconds,
            })
        })
        .collect();
    serde_json::json!({
        "critical_path": path,
        "kinds": kinds,
        "workers": timing.workers,
        "parallel_seconds": timing.parallel_seconds,
        "busy_seconds": timing.busy_seconds,
    })
}
