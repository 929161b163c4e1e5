//! Processes to be killed and frozen: the test program starts itself, in a role.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgtide::pg::interrupt::Interrupt;
use pgtide::progress::Silent;
use pgtide::repo::{
    CheckOptions, CopyOptions, PruneOptions, ReadData, RepairOptions, RepoError, Repository,
    SnapshotId, WriterOptions,
};
use pgtide::rows::Effort;
use pgtide::store::{Buffer, Listed, LocalStore, Store, StoreError, Upload};
use serde::{Deserialize, Serialize};

use crate::repo_support::*;

/// The environment variable that makes a process of the test program.
const TASK: &str = "PGTIDE_TEST_TASK";
/// What a line of such a process begins with, as the test harness has its own.
const TAG: &str = "@ ";
/// Runs a program in a namespace of process numbers of its own. What unshare itself has to say of a killed program is
/// not worth showing.
const ELSEWHERE: &str =
    r#"exec unshare --pid --fork sh -c 'exec "$0" "$@" 2>&3' "$0" "$@" 3>&2 2>/dev/null"#;
/// A process that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// Writers that give a sign of life often.
const LIVELY: WriterOptions = WriterOptions {
    heartbeat: Duration::from_millis(20),
    ..SMALL
};

pub const COPYING: CopyOptions = CopyOptions {
    jobs: 2,
    effort: Effort::Fast,
};

pub const REPAIRING: RepairOptions = RepairOptions {
    read_data: true,
    patience: Duration::from_millis(300),
};

/// With small packs, and quick to take a session for dead.
pub fn pruning(patience: Duration) -> PruneOptions {
    PruneOptions {
        patience,
        heartbeat: Duration::from_millis(20),
        pack_size: SMALL.pack_size,
        ..PruneOptions::default()
    }
}

/// What a database holds at that time: half of it never changes, and is that of all others, too.
pub fn content_at(time: i64) -> Database {
    let mut database = database(4, 8, 6_000);
    let seed = 1_000_000 + time as u64 * 100;
    for (block, slot) in (0..).zip(&mut database[0].1) {
        *slot = payload(seed + block, 6_000);
    }
    // As it is for some nights, and then is not any more.
    database[1].1[2] = payload(500_000 + time as u64 / 3, 9_000);
    if time % 7 == 0 {
        database.truncate(2);
    }
    database
}

/// A repository and the password it takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Site {
    pub path: PathBuf,
    pub password: Option<String>,
}

impl Site {
    fn open(&self, store: Arc<dyn Store>) -> Result<Repository, RepoError> {
        Repository::open_with(store, || match &self.password {
            Some(text) => Ok(password(text)),
            None => panic!("a password is asked for"),
        })
    }
}

/// What a process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Job {
    Dump {
        time: i64,
    },
    Prune {
        patience: Duration,
    },
    Copy {
        to: Site,
    },
    Repair,
    Forget {
        snapshots: Vec<String>,
    },
    Check,
    ChangeKey {
        password: String,
    },
    /// Dumps and forgets until its input ends, with times of its own.
    Writer {
        number: i64,
        first: i64,
    },
    /// Prunes until its input ends.
    Pruner {
        patience: Duration,
    },
    /// Checks until its input ends.
    Checker,
}

impl Job {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dump { .. } => "dump",
            Self::Prune { .. } => "prune",
            Self::Copy { .. } => "copy",
            Self::Repair => "repair",
            Self::Forget { .. } => "forget",
            Self::Check => "check",
            Self::ChangeKey { .. } => "key change",
            Self::Writer { .. } => "writer",
            Self::Pruner { .. } => "pruner",
            Self::Checker => "checker",
        }
    }
}

/// How often a writer's sources are dumped: their times do not meet.
pub const WRITERS: i64 = 3;

/// What a process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub site: Site,
    pub job: Job,
    /// It waits for a line before its first operation of that kind, as `put snapshots`; or, as in
    /// `put index, get index`, before the first of the last kind that follows those before it.
    pub pause: Option<String>,
}

fn say(word: &str, what: impl fmt::Display) {
    let text = format!("{word} {what}").replace('\n', " ");
    // At once, so that a line is there as a whole or not at all; the harness may be in the middle of one of its own.
    let line = format!("\n{TAG}{text}\n");
    let mut out = io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

fn await_line() {
    let _ = io::stdin().lock().read_line(&mut String::new());
}

/// Does what the environment says; nothing if it says nothing.
pub fn process() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let task: Task = serde_json::from_str(&task).unwrap();
    // Its number as the one sees it who started it, in whatever namespace it is.
    let number = std::fs::read_link("/proc/self").unwrap();
    say("ready", number.display());
    await_line();
    if let Err(error) = work(&task) {
        let kind = match &error {
            RepoError::SessionLost { .. } => "lost",
            _ => "failed",
        };
        say(kind, error);
        std::process::exit(1);
    }
    say("done", "");
}

fn work(task: &Task) -> Result<(), RepoError> {
    let Task { site, job, pause } = task;
    let store: Arc<dyn Store> = match job {
        // There would be no end of what they tell.
        Job::Writer { .. } | Job::Pruner { .. } | Job::Checker => {
            Arc::new(LocalStore::new(&site.path))
        }
        _ => Arc::new(Journal::new(&site.path, pause.as_deref())),
    };
    let mut repo = site.open(store)?;
    match job {
        Job::Dump { time } => dump_at(&repo, "host/db", *time, Duration::ZERO)?,
        Job::Prune { patience } => drop(repo.prune(pruning(*patience), &|_| ())?),
        Job::Copy { to } => {
            let all: Vec<SnapshotId> = repo.snapshots()?.list.iter().map(|(id, _)| *id).collect();
            let to = to.open(Arc::new(Journal::new(&to.path, None)))?;
            let report = repo.copy_to(&to, &all, &COPYING, &Interrupt::default(), &Silent)?;
            if let Some((id, error)) = report.failed.first() {
                panic!("{id} was not copied: {error}");
            }
        }
        Job::Repair => {
            let report = repo.repair(REPAIRING, &|_| ())?;
            assert!(
                report.left.is_empty() && report.hurt.is_empty() && report.lost.is_empty(),
                "{report:#?}"
            );
        }
        Job::Forget { snapshots } => {
            let wanted: Vec<SnapshotId> = snapshots.iter().map(|id| id.parse().unwrap()).collect();
            // A run before this one may have been killed when some were gone already.
            let there = repo.inventory()?.list;
            let mut left: Vec<SnapshotId> = there.into_iter().map(|(id, _)| id).collect();
            left.retain(|id| wanted.contains(id));
            repo.forget(&left)?;
        }
        Job::Check => check_and_say(&repo, ReadData::All)?,
        Job::ChangeKey { password: text } => {
            repo.change_key(&password(text), CHEAP)?;
        }
        Job::Writer { number, first } => {
            let stop = end_of_input();
            let source = format!("host/db{number}");
            for round in *first.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // A writer that lost its session goes on with its next dump, as cron would.
                let time = round * WRITERS + number;
                match dump_at(&repo, &source, time, Duration::from_millis(50)) {
                    Err(error @ RepoError::SessionLost { .. }) => say("lost", error),
                    other => other?,
                }
                match forget_old(&repo, &source[5..]) {
                    Err(error @ RepoError::BeyondSight { .. }) => say("blocked", error),
                    other => other?,
                }
            }
        }
        Job::Pruner { patience } => {
            let stop = end_of_input();
            while !stop.load(Ordering::Relaxed) {
                let report = repo.prune(pruning(*patience), &|_| ())?;
                say("pruned", report.deleted.packs);
                thread::sleep(Duration::from_millis(200));
            }
        }
        Job::Checker => {
            let stop = end_of_input();
            for round in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let read_data = match round % 4 {
                    0 => ReadData::All,
                    _ => ReadData::None,
                };
                check_and_say(&repo, read_data)?;
            }
        }
    }
    Ok(())
}

/// Forgets all snapshots of a database but the last two.
fn forget_old(repo: &Repository, database: &str) -> Result<(), RepoError> {
    let mut old = repo.inventory()?.list;
    old.retain(|(_, snapshot)| snapshot.source.database == database);
    old.truncate(old.len().saturating_sub(2));
    for (id, _) in &old {
        say("forgetting", id);
    }
    let old: Vec<SnapshotId> = old.into_iter().map(|(id, _)| id).collect();
    repo.forget(&old).map(drop)
}

fn check_and_say(repo: &Repository, read_data: ReadData) -> Result<(), RepoError> {
    let report = repo.check(CheckOptions { read_data }, &|_| ())?;
    for problem in &report.problems {
        say("problem", problem);
    }
    say("checked", report.snapshots);
    Ok(())
}

fn end_of_input() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let raise = Arc::clone(&stop);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        raise.store(true, Ordering::Relaxed);
    });
    stop
}

/// Dumps; the rows of each table take their time to come.
fn dump_at(repo: &Repository, source: &str, time: i64, pace: Duration) -> Result<(), RepoError> {
    let writer = repo.writer_with(Effort::Fast, LIVELY)?;
    let mut tables = Vec::new();
    for (name, payloads) in &content_at(time) {
        thread::sleep(pace);
        tables.push(put_table(repo, &writer, name, payloads)?);
    }
    let id = finish(writer, &tables, source, time)?;
    say("committed", format!("{id} {time}"));
    Ok(())
}

/// A directory whose operations are told, so that whoever kills the process knows where that was.
#[derive(Debug, Clone)]
struct Journal {
    inner: LocalStore,
    said: Arc<Mutex<(String, Option<String>)>>,
}

impl Journal {
    fn new(path: &Path, pause: Option<&str>) -> Self {
        Self {
            inner: LocalStore::new(path),
            said: Arc::new(Mutex::new((String::new(), pause.map(Into::into)))),
        }
    }

    fn at(&self, verb: &str, name: &str) {
        // Signs of life come from another thread.
        if name.ends_with(".beat") {
            return;
        }
        let folder = name.split('/').next().unwrap_or_default();
        let step = format!("{verb} {folder}");
        let mut said = self.said.lock().unwrap();
        if let Some(awaited) = said.1.take() {
            match awaited
                .strip_prefix(&*step)
                .map(|rest| rest.strip_prefix(", "))
            {
                Some(Some(rest)) => said.1 = Some(rest.into()),
                Some(None) => {
                    say("paused", &step);
                    await_line();
                }
                None => said.1 = Some(awaited),
            }
        }
        if said.0 != step {
            say("at", &step);
            said.0 = step;
        }
    }
}

struct Told(Box<dyn Upload>, Journal);

impl Upload for Told {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write(bytes)
    }
    fn finish(self: Box<Self>, name: &str) -> Result<(), StoreError> {
        self.1.at("put", name);
        self.0.finish(name)
    }
}

impl Store for Journal {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.at("put", name);
        self.inner.put(name, bytes)
    }
    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        self.at("begin", "a pack");
        let upload = self.inner.create_upload()?;
        Ok(Box::new(Told(upload, self.clone())))
    }
    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.at("get", name);
        self.inner.get(name)
    }
    fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.at("get", name);
        self.inner.get_range(name, offset, len, out)
    }
    fn len(&self, name: &str) -> Result<u64, StoreError> {
        self.at("look for", name);
        self.inner.len(name)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.at("list", prefix);
        self.inner.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.at("delete", name);
        self.inner.delete(name)
    }
    fn map(&self, name: &str) -> Result<Buffer, StoreError> {
        self.at("get", name);
        self.inner.map(name)
    }
    fn clean(&self) -> Result<u64, StoreError> {
        self.inner.clean()
    }
    fn release_reserve(&self) -> Result<bool, StoreError> {
        self.inner.release_reserve()
    }
    fn fill_reserve(&self) -> Result<(), StoreError> {
        self.inner.fill_reserve()
    }
    fn location(&self) -> String {
        self.inner.location()
    }
}

/// Whether processes can be put where nobody can tell whether they live, as if they were on another host.
pub fn elsewhere_exists() -> bool {
    let mut command = Command::new("unshare");
    let tried = command.args(["--pid", "--fork", "true"]).status();
    tried.is_ok_and(|status| status.success())
}

/// A process in its role.
pub struct Worker {
    child: Child,
    /// Not the child where that is the one who put it elsewhere.
    pid: Pid,
    lines: Receiver<String>,
    said: Vec<String>,
}

/// What became of a process.
pub struct Ended {
    pub success: bool,
    pub said: Vec<String>,
}

impl Ended {
    /// What followed that word, wherever it was said.
    pub fn all<'a>(&'a self, word: &str) -> impl Iterator<Item = &'a str> {
        let prefix = format!("{word} ");
        self.said
            .iter()
            .filter_map(move |line| line.strip_prefix(&prefix))
    }

    /// The last operation it began.
    pub fn at(&self) -> &str {
        self.all("at").last().unwrap_or("nothing yet")
    }

    /// What it committed, with its times.
    pub fn committed(&self) -> Vec<(SnapshotId, i64)> {
        let committed = self.all("committed").map(|line| {
            let (id, time) = line.split_once(' ').unwrap();
            (id.parse().unwrap(), time.parse().unwrap())
        });
        committed.collect()
    }
}

impl Worker {
    /// Starts a process, which waits until it is told to go.
    pub fn start(task: &Task, elsewhere: bool) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match elsewhere {
            true => Command::new("sh"),
            false => Command::new(&program),
        };
        if elsewhere {
            command.args(["-c", ELSEWHERE]).arg(&program);
        }
        let mut child = command
            .args([
                "--exact",
                "process",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(TASK, serde_json::to_string(task).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(text) = line.strip_prefix(TAG) {
                    let _ = send.send(text.to_owned());
                }
            }
        });
        let mut worker = Self {
            pid: Pid::from_raw(child.id() as i32),
            child,
            lines,
            said: Vec::new(),
        };
        let ready = worker.until("ready");
        worker.pid = Pid::from_raw(ready.parse().unwrap());
        worker
    }

    /// Waits until it says that; returns what follows.
    pub fn until(&mut self, word: &str) -> String {
        let prefix = format!("{word} ");
        loop {
            let line = self.lines.recv_timeout(SILENCE);
            let line = line.unwrap_or_else(|error| {
                panic!("it never said {word:?} ({error}), but {:#?}", self.said)
            });
            self.said.push(line);
            if let Some(rest) = self.said.last().and_then(|line| line.strip_prefix(&prefix)) {
                return rest.to_owned();
            }
        }
    }

    /// Waits until it has begun its operation of that number, or has ended.
    pub fn until_step(&mut self, number: usize) {
        let mut steps = 0;
        while steps < number
            && let Ok(line) = self.lines.recv_timeout(SILENCE)
        {
            steps += usize::from(line.starts_with("at "));
            self.said.push(line);
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Lets it begin, or go on where it paused.
    pub fn go(&mut self) {
        // It may be gone already.
        let _ = self.child.stdin.as_mut().unwrap().write_all(b"\n");
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended, and nobody has asked for it yet: the number is still its own.
        let _ = kill(self.pid, signal);
        // A thread that is in the kernel, syncing a file, stops when that is done: until then it is not frozen.
        while signal == Signal::SIGSTOP && self.has_running_threads() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether one of its threads is neither stopped nor ended.
    fn has_running_threads(&self) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return false;
        };
        let states = tasks.flatten().filter_map(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        });
        states.into_iter().any(|state| !"TtZX".contains(state))
    }

    /// Kills it, wherever it is.
    pub fn kill(self) -> Ended {
        self.signal(Signal::SIGKILL);
        self.end()
    }

    /// Ends its input and waits until it has ended.
    pub fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it hangs: {:#?}", self.said),
            }
        }
        let success = self.child.wait().unwrap().success();
        Ended {
            success,
            said: std::mem::take(&mut self.said),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Only where the test failed; one that was waited for has no number any more.
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
