//! Processes that are killed, frozen, or find the disk full, at any moment: what was committed is there and restores,
//! and whoever comes next goes on without a helping hand.

mod chaos_support;
mod repo_support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chaos_support::*;
use nix::sys::signal::Signal;
use pgtide::pg::interrupt::Interrupt;
use pgtide::progress::Silent;
use pgtide::repo::{PruneOptions, RepoError, Repository, SnapshotId};
use pgtide::store::StoreError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use repo_support::*;

/// A prune takes others for dead after this time, if it cannot know.
const PATIENCE: Duration = Duration::from_millis(100);

#[test]
#[ignore = "a process that the other tests start"]
fn process() {
    chaos_support::process();
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Random choices, that can be had again by `PGTIDE_TEST_SEED`.
fn dice(what: &str) -> StdRng {
    let seed = setting("PGTIDE_TEST_SEED", rand::rng().random());
    eprintln!("{what}: PGTIDE_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn bytes(place: &Place) -> u64 {
    let packs = place.store.list("packs/").unwrap();
    packs.iter().map(|pack| pack.len).sum()
}

fn site(place: &Place) -> Site {
    Site {
        path: place.url().into(),
        password: place.password.as_ref().map(|_| PASSWORD.into()),
    }
}

fn task(place: &Place, job: Job) -> Task {
    Task {
        site: site(place),
        job,
        pause: None,
    }
}

/// Every snapshot that is there restores, and those that must be there are.
fn assert_whole(repo: &Repository, kept: &BTreeMap<SnapshotId, i64>, when: &str) {
    let snapshots = repo.snapshots().unwrap();
    assert!(
        snapshots.damaged.is_empty(),
        "{when}: {:?}",
        snapshots.damaged
    );
    let mut kept = kept.clone();
    for (id, snapshot) in &snapshots.list {
        let time = snapshot.time.as_second();
        let restored = restore(repo, snapshot).unwrap_or_else(|e| panic!("{when}: {id}: {e}"));
        assert!(
            restored == content_at(time),
            "{when}: {id} is not what was dumped"
        );
        assert!(
            kept.remove(id).is_none_or(|known| known == time),
            "{when}: {id}"
        );
    }
    assert!(
        kept.is_empty(),
        "{when}: {kept:?} were committed and are gone"
    );
}

/// Prunes, until nothing is left to do; then it takes no more than a repository that never held anything else.
fn assert_small(place: &Place, repo: &Repository, when: &str) -> (u64, u64) {
    for _ in 0..2 {
        repo.prune(pruning(PATIENCE), &|_| ()).unwrap();
    }
    assert!(place.names("tombstones/").is_empty(), "{when}");
    assert!(place.names("sessions/").is_empty(), "{when}");
    let fresh = match place.password {
        Some(_) => Place::encrypted(),
        None => Place::new(),
    };
    for (_, snapshot) in repo.snapshots().unwrap().list {
        let time = snapshot.time.as_second();
        dump(&fresh.open(), &content_at(time), time).unwrap();
    }
    let (now, least) = (bytes(place), bytes(&fresh));
    assert!(
        now as f64 <= least as f64 * 1.1 + 2_000.0,
        "{when}: {now} bytes, a fresh repository takes {least}"
    );
    (now, least)
}

fn ids(repo: &Repository) -> Vec<SnapshotId> {
    let list = repo.inventory().unwrap().list;
    list.into_iter().map(|(id, _)| id).collect()
}

/// Two repositories, one of which is copied to the other, and what is known of them.
struct Victim {
    place: Place,
    copies: Place,
    /// The password it takes now, and the one before.
    passwords: [String; 2],
    kept: BTreeMap<SnapshotId, i64>,
    time: i64,
    dice: StdRng,
    /// How long each job takes if nobody kills it, and how many operations.
    took: BTreeMap<&'static str, (Duration, usize)>,
    /// How often which job was killed at which operation.
    killed: BTreeMap<(&'static str, String), u64>,
    /// How often one had ended before.
    late: u64,
}

impl Victim {
    fn new(kind: Kind, dice: StdRng) -> Self {
        // Copied between repositories with and without a key: blocks get other ids.
        let copies = match kind {
            Kind::Plain => Place::encrypted(),
            Kind::Encrypted => Place::new(),
        };
        Self {
            place: Place::of(kind),
            copies,
            passwords: [PASSWORD.into(), PASSWORD.into()],
            kept: BTreeMap::new(),
            time: 0,
            dice,
            took: BTreeMap::new(),
            killed: BTreeMap::new(),
            late: 0,
        }
    }

    /// Finds out which password it takes, as a change may have been killed on either side of its commit.
    fn open(&mut self) -> Repository {
        if self.place.password.is_none() {
            return self.place.open();
        }
        let found = (self.passwords.iter())
            .find_map(|text| Some((text.clone(), self.place.open_with(text).ok()?)));
        let (password, repo) = found.expect("neither the old nor the new password fits");
        self.passwords[1] = password;
        repo
    }

    fn dump(&mut self) {
        self.time += 1;
        let id = dump(&self.open(), &content_at(self.time), self.time)
            .unwrap()
            .0;
        self.kept.insert(id, self.time);
    }

    /// The oldest snapshots, of which some remain.
    fn oldest(&mut self, leave: usize) -> Vec<SnapshotId> {
        let mut all: Vec<(i64, SnapshotId)> = self.kept.iter().map(|(id, t)| (*t, *id)).collect();
        all.sort_unstable();
        all.truncate(all.len().saturating_sub(leave));
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// Gives the job something to do.
    fn prepare(&mut self, number: u64) -> Job {
        while self.kept.len() < 3 {
            self.dump();
        }
        match number % 6 {
            0 => {
                self.time += 1;
                Job::Dump { time: self.time }
            }
            1 => {
                self.dump();
                let forgotten = self.oldest(3);
                self.kept.retain(|id, _| !forgotten.contains(id));
                // With those that were committed and whose writer was killed before it could say so.
                let repo = self.open();
                let mut old = ids(&repo);
                old.retain(|id| !self.kept.contains_key(id));
                repo.forget(&old).unwrap();
                Job::Prune { patience: PATIENCE }
            }
            2 => {
                self.dump();
                let copies = self.copies.open();
                let here = self.open().snapshots().unwrap().list;
                let times: Vec<i64> = (here.iter().map(|(_, s)| s.time.as_second())).collect();
                let mut gone = copies.inventory().unwrap().list;
                gone.retain(|(_, snapshot)| !times.contains(&snapshot.time.as_second()));
                let gone: Vec<SnapshotId> = gone.into_iter().map(|(id, _)| id).collect();
                copies.forget(&gone).unwrap();
                copies.prune(pruning(PATIENCE), &|_| ()).unwrap();
                Job::Copy {
                    to: site(&self.copies),
                }
            }
            3 => {
                let indexes = self.place.names("index/");
                let index = &indexes[self.dice.random_range(0..indexes.len())];
                if self.dice.random() {
                    self.place.store.delete(index).unwrap();
                } else {
                    self.place.store.put(index, b"not an index").unwrap();
                }
                Job::Repair
            }
            4 => {
                self.dump();
                let snapshots = self.oldest(2);
                // From now on they may be there or not.
                self.kept.retain(|id, _| !snapshots.contains(id));
                let snapshots = snapshots.iter().map(ToString::to_string).collect();
                Job::Forget { snapshots }
            }
            _ if self.place.password.is_some() => {
                let password = format!("password {number}");
                self.passwords[0].clone_from(&password);
                Job::ChangeKey { password }
            }
            _ => {
                self.time += 1;
                Job::Dump { time: self.time }
            }
        }
    }

    fn start(&mut self, job: &Job) -> Worker {
        drop(self.open());
        let password = self
            .place
            .password
            .as_ref()
            .map(|_| self.passwords[1].clone());
        let mut task = task(&self.place, job.clone());
        task.site.password = password;
        Worker::start(&task, false)
    }

    fn verify(&mut self, when: &str) {
        let repo = self.open();
        assert_clean(&repo, when);
        assert_whole(&repo, &self.kept, when);
        assert_clean(&self.copies.open(), when);
        assert_whole(&self.copies.open(), &BTreeMap::new(), when);
    }

    /// Kills the job somewhere between its begin and its end, and runs it again.
    fn kill(&mut self, number: u64) {
        let job = self.prepare(number);
        let name = job.name();
        let first_guess = (Duration::from_millis(20), 20);
        let (took, steps) = *self.took.entry(name).or_insert(first_guess);
        let mut worker = self.start(&job);
        worker.go();
        // By the clock, or at an operation: most of them are over in no time.
        if self.dice.random() {
            thread::sleep(took.mul_f64(self.dice.random_range(0.0..1.0)));
        } else {
            worker.until_step(self.dice.random_range(0..=steps));
        }
        let ended = worker.kill();
        let when = format!("{number}: {name} killed at {}", ended.at());
        assert!(
            ended.all("failed").next().is_none(),
            "{when}: {:?}",
            ended.said
        );
        self.kept.extend(ended.committed());
        if ended.success {
            self.late += 1;
        } else {
            *self.killed.entry((name, ended.at().into())).or_default() += 1;
        }
        // What is to be mended is not sound until it is.
        if !matches!(job, Job::Repair) {
            self.verify(&when);
        }

        let mut again = self.start(&job);
        let began = Instant::now();
        again.go();
        again.until("done");
        let took = (took * 3 + began.elapsed()) / 4;
        let ended = again.end();
        self.took.insert(name, (took, ended.all("at").count()));
        assert!(ended.success, "{when}, again: {:?}", ended.said);
        self.kept.extend(ended.committed());
        if let Job::ChangeKey { password } = &job {
            self.place.open_with(password).unwrap();
        }
        self.verify(&format!("{when}, then done"));
    }

    fn kills(&self) -> u64 {
        self.killed.values().sum()
    }
}

/// Kills so many processes, on a repository with a key and on one without.
fn kill_processes(kills: u64) {
    let mut dice = dice("kills");
    for (kind, kills) in [
        (Kind::Plain, kills / 2),
        (Kind::Encrypted, kills - kills / 2),
    ] {
        let began = Instant::now();
        let mut victim = Victim::new(kind, StdRng::from_rng(&mut dice));
        for number in 0.. {
            if victim.kills() >= kills {
                break;
            }
            assert!(victim.late <= kills + 20, "most end before they are killed");
            victim.kill(number);
        }
        let repo = victim.open();
        let (now, least) = assert_small(&victim.place, &repo, "at the end");
        let copies = assert_small(&victim.copies, &victim.copies.open(), "copies at the end");
        victim.verify("at the end");
        eprintln!(
            "{kind:?}: {} kills in {:?}, {} had ended before; {now} bytes of packs (fresh: {least}), copies {} ({})",
            victim.kills(),
            began.elapsed(),
            victim.late,
            copies.0,
            copies.1,
        );
        let mut jobs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((job, at), count) in &victim.killed {
            jobs.entry(job).or_default().push(format!("{at} {count}"));
        }
        for (job, at) in jobs {
            eprintln!("  {job} ({:.0?}): {}", victim.took[job].0, at.join(", "));
        }
    }
}

#[test]
fn whatever_is_killed_what_was_committed_restores_and_the_next_run_goes_on() {
    kill_processes(60);
}

/// Two snapshots, of which the first is to be forgotten, and the second has nothing in common with what comes.
fn two_snapshots() -> (Place, SnapshotId, SnapshotId) {
    let place = Place::new();
    let repo = place.open();
    let (first, _) = dump(&repo, &content_at(1), 1).unwrap();
    let mut other = content_at(700);
    other.truncate(1);
    let (second, _) = dump(&repo, &other, 700).unwrap();
    (place, first, second)
}

fn prune_twice(place: &Place) {
    for _ in 0..2 {
        place.open().prune(pruning(PATIENCE), &|_| ()).unwrap();
    }
}

/// A check is clean; but what a writer indexes that was taken for dead may have been deleted, until the next prune.
fn assert_stale_at_most(repo: &Repository, clean: bool, when: &str) {
    let mut problems = check(repo).problems;
    problems.retain(|problem| clean || !is_stale(&problem.to_string()));
    assert!(problems.is_empty(), "{when}: {problems:#?}");
}

fn is_stale(problem: &str) -> bool {
    problem.contains("missing: an index names it") && problem.ends_with("hurts no snapshot")
}

/// Who was taken for dead puts its snapshot without a session, and is frozen or killed before it says whether that is
/// whole: the next prune settles it.
fn is_unsettled(problem: &str) -> bool {
    problem.contains("the audit record of")
}

/// What it left, after it ended, is whole, and the next dump and prune go on.
fn assert_sound(place: &Place, ended: &Ended, when: &str) {
    let repo = place.open();
    assert_stale_at_most(&repo, ended.success, when);
    let list = repo.snapshots().unwrap().list;
    let found = list
        .iter()
        .find(|(_, snapshot)| snapshot.time.as_second() == 2);
    match found {
        Some((id, snapshot)) => {
            assert_eq!(ended.committed(), [(*id, 2)], "{when}");
            assert!(restore(&repo, snapshot).unwrap() == content_at(2), "{when}");
        }
        None => {
            assert!(!ended.success && ended.committed().is_empty(), "{when}");
            assert_eq!(ended.all("lost").count(), 1, "{when}: {:?}", ended.said);
        }
    }
    let (_, stats) = dump(&repo, &content_at(3), 3).unwrap();
    assert!(stats.new_blocks > 0);
    prune_twice(place);
    assert_clean(&repo, when);
    assert!(place.names("sessions/").is_empty(), "{when}");
    let (_, latest) = repo
        .find_at("latest", "1970-01-01T00:00:03Z".parse().unwrap())
        .unwrap();
    assert!(restore(&repo, &latest).unwrap() == content_at(3), "{when}");
}

/// Whether a frozen writer is alive can be known beside it, and not on another host.
fn hosts() -> Vec<bool> {
    if elsewhere_exists() {
        return vec![false, true];
    }
    eprintln!("NOT RUN: writers on another host, as unshare --pid is refused here");
    vec![false]
}

#[test]
fn a_writer_frozen_at_its_commit_commits_all_of_it_or_nothing() {
    for elsewhere in hosts() {
        for step in [
            "put index, get index",
            "put snapshots",
            "look for sessions",
            "put history",
            "delete sessions",
        ] {
            let when = format!("frozen at {step}, elsewhere: {elsewhere}");
            let (place, first, _) = two_snapshots();
            let mut task = task(&place, Job::Dump { time: 2 });
            task.pause = Some(step.into());
            let mut worker = Worker::start(&task, elsewhere);
            worker.go();
            assert!(step.ends_with(&worker.until("paused")));
            worker.signal(Signal::SIGSTOP);
            worker.go();
            place.open().forget(&[first]).unwrap();
            prune_twice(&place);
            assert_clean(&place.open(), &when);
            worker.signal(Signal::SIGCONT);
            let ended = worker.end();
            // Who is known to be alive is waited for; who is not, before anything says what it needs, is not: a writer
            // first looks for its session when it comes to its commit.
            let lost = elsewhere && !["put history", "delete sessions"].contains(&step);
            assert_eq!(ended.success, !lost, "{when}: {:?}", ended.said);
            assert_sound(&place, &ended, &when);
        }
    }
}

#[test]
fn a_writer_frozen_at_any_moment_commits_all_of_it_or_nothing() {
    let mut dice = dice("frozen writers");
    let mut took = Duration::from_millis(30);
    let (mut frozen, mut lost) = (0, 0);
    for elsewhere in hosts() {
        let enough = frozen + 10;
        for _ in 0..100 {
            if frozen >= enough {
                break;
            }
            let (place, first, _) = two_snapshots();
            let mut worker = Worker::start(&task(&place, Job::Dump { time: 2 }), elsewhere);
            let delay = took.mul_f64(dice.random_range(0.0..1.0));
            worker.go();
            thread::sleep(delay);
            worker.signal(Signal::SIGSTOP);
            let early = place.open().snapshots().unwrap().list.len() == 2;
            place.open().forget(&[first]).unwrap();
            prune_twice(&place);
            worker.signal(Signal::SIGCONT);
            let ended = worker.end();
            let when = format!(
                "frozen after {delay:?}, elsewhere: {elsewhere}: {}",
                ended.at()
            );
            assert!(ended.success || elsewhere, "{when}: {:?}", ended.said);
            assert_sound(&place, &ended, &when);
            frozen += u32::from(early);
            lost += u32::from(!ended.success);
            took = took.mul_f64(if early { 1.02 } else { 0.9 });
        }
        assert!(frozen >= enough, "the dump is too fast to be frozen");
    }
    eprintln!("{frozen} writers frozen before their commit, {lost} of them lost their session");
}

/// Runs a job up to its first operation of that kind, does the rest, and lets it go on.
fn beside(place: &Place, job: Job, step: &str, rest: impl FnOnce()) -> Ended {
    let mut task = task(place, job);
    task.pause = Some(step.into());
    let mut worker = Worker::start(&task, false);
    worker.go();
    worker.until("paused");
    rest();
    worker.go();
    worker.end()
}

#[test]
fn a_snapshot_that_is_committed_while_a_prune_lists_them_does_not_stop_it() {
    for step in ["get snapshots", "list index", "list packs"] {
        let (place, first, _) = two_snapshots();
        place.open().forget(&[first]).unwrap();
        let job = Job::Prune { patience: PATIENCE };
        let ended = beside(&place, job, step, || {
            dump(&place.open(), &content_at(2), 2).unwrap();
        });
        assert!(ended.success, "{step}: {:?}", ended.said);
        let repo = place.open();
        assert_clean(&repo, step);
        let kept = repo.snapshots().unwrap().list;
        assert_eq!(kept.len(), 2, "{step}");
        assert!(
            restore(&repo, &kept[0].1).unwrap() == content_at(2),
            "{step}"
        );
    }
}

#[test]
fn what_is_pruned_during_a_check_is_not_taken_for_damage() {
    for step in ["get snapshots", "get index", "list packs", "get packs"] {
        let (place, first, _) = two_snapshots();
        dump(&place.open(), &content_at(2), 2).unwrap();
        let ended = beside(&place, Job::Check, step, || {
            place.open().forget(&[first]).unwrap();
            let thorough = PruneOptions {
                max_waste: 0.0,
                ..pruning(PATIENCE)
            };
            let report = place.open().prune(thorough, &|_| ()).unwrap();
            assert!(
                report.deleted.packs > 0 && report.repacked.packs > 0,
                "{report:?}"
            );
        });
        assert!(ended.success, "{step}: {:?}", ended.said);
        assert_eq!(ended.all("problem").next(), None, "{step}");
    }
    // What is damaged is found all the same.
    let (place, first, _) = two_snapshots();
    let pack = place.names("packs/").remove(0);
    place.store.put(&pack, b"damaged").unwrap();
    let ended = beside(&place, Job::Check, "get packs", || {
        place.open().forget(&[first]).unwrap();
    });
    let named = ended
        .all("problem")
        .filter(|problem| problem.starts_with(&pack));
    assert!(named.count() > 0, "{:?}", ended.said);
}

/// A repository on a file system of a few MiB.
struct SmallDisk {
    mounted: PathBuf,
    place: Place,
}

impl SmallDisk {
    /// None, and that is said, where it cannot be mounted.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]);
        let mounted = nix::unistd::geteuid().is_root()
            && mount
                .arg(dir.path())
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("NOT RUN: a small file system cannot be mounted here");
            return None;
        }
        let mounted = dir.path().to_owned();
        let disk = Self {
            mounted,
            place: Place::below(dir, "repo"),
        };
        Repository::init(Arc::clone(&disk.place.store)).unwrap();
        Some(disk)
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.mounted).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Leaves so many bytes to others.
    fn fill(&self, leave: u64) {
        let mut file = File::create(self.mounted.join("fill")).unwrap();
        while self.free() > leave {
            file.write_all(&[1; 4096]).unwrap();
        }
    }

    fn unfill(&self) {
        fs::remove_file(self.mounted.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted).status();
    }
}

/// Whether it was done; if not, the disk is full, and the error says so and what to do.
fn done_or_full<T>(result: Result<T, RepoError>, when: &str) -> bool {
    let Err(error) = result else { return true };
    assert!(
        matches!(error.store_error(), Some(StoreError::Full { .. })),
        "{when}: {error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("no space left") && text.contains("free some space"),
        "{when}: {text}"
    );
    false
}

#[test]
fn a_full_disk_hurts_nothing_and_what_failed_is_done_when_there_is_space() {
    let from = Place::new();
    dump(&from.open(), &content_at(50), 50).unwrap();
    let jobs = ["dump", "prune", "repair", "copy", "forget"];
    let mut full: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for job in jobs {
        for pages in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
            let Some(disk) = SmallDisk::mount() else {
                return;
            };
            let place = &disk.place;
            let repo = place.open();
            let ids: Vec<SnapshotId> = (1..=3)
                .map(|time| dump(&repo, &content_at(time), time).unwrap().0)
                .collect();
            let mut kept: BTreeMap<SnapshotId, i64> = ids.iter().copied().zip(1..).collect();
            match job {
                "prune" => drop(repo.forget(&ids[..1]).unwrap()),
                "repair" => place.store.delete(&place.names("index/")[0]).unwrap(),
                _ => {}
            }
            if matches!(job, "prune" | "forget") {
                kept.remove(&ids[0]);
            }
            let run = || -> Result<(), RepoError> {
                let repo = place.open();
                match job {
                    "dump" => drop(dump(&repo, &content_at(4), 4)?),
                    "prune" => drop(repo.prune(pruning(PATIENCE), &|_| ())?),
                    "repair" => drop(repo.repair(REPAIRING, &|_| ())?),
                    "copy" => {
                        let source = from.open();
                        let id = source.find("latest")?.0;
                        source.copy_to(&repo, &[id], &COPYING, &Interrupt::default(), &Silent)?;
                    }
                    _ => drop(repo.forget(&ids[..1])?),
                }
                Ok(())
            };
            let when = format!("{job}, {pages} pages left");
            disk.fill(pages * 4096);
            let before = disk.free();
            let done = done_or_full(run(), &when);
            if done && job == "prune" {
                assert!(disk.free() > before, "{when}: nothing was freed");
            }
            assert!(
                done || !matches!(job, "prune" | "forget"),
                "{when}: it frees space"
            );
            if !done {
                full.entry(job).or_default().push(pages);
            }
            if done || job != "repair" {
                assert_clean(&place.open(), &when);
                assert_whole(&place.open(), &kept, &when);
            }
            disk.unfill();
            if !done {
                run().unwrap();
            }
            assert_clean(&place.open(), &when);
            assert_whole(&place.open(), &kept, &when);
            let there = place.open().snapshots().unwrap().list.len();
            assert_eq!(
                there,
                kept.len() + usize::from(matches!(job, "dump" | "copy")),
                "{when}"
            );
        }
    }
    eprintln!("the disk was full, by pages left: {full:?}");
    assert!(
        ["dump", "copy", "repair"]
            .iter()
            .all(|job| full[job].len() > 1),
        "{full:?}"
    );
}

#[test]
fn a_disk_that_dumps_filled_to_the_last_byte_is_freed_by_forget_and_prune() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let place = &disk.place;
    let mut kept = BTreeMap::new();
    let mut time = 0;
    loop {
        time += 1;
        let result = dump(&place.open(), &content_at(time), time);
        let Ok((id, _)) = result else {
            done_or_full(result, "filled by dumps");
            break;
        };
        kept.insert(id, time);
    }
    disk.fill(0);
    assert!(kept.len() > 10);
    let full = dump(&place.open(), &content_at(time), time);
    assert!(!done_or_full(full, "to the last byte"));
    assert_clean(&place.open(), "full");
    assert_whole(&place.open(), &kept, "full");

    let old: Vec<SnapshotId> = kept
        .iter()
        .filter(|(_, t)| **t < 6)
        .map(|(id, _)| *id)
        .collect();
    place.open().forget(&old).unwrap();
    kept.retain(|id, _| !old.contains(id));
    let report = place.open().prune(pruning(PATIENCE), &|_| ()).unwrap();
    assert!(report.deleted.bytes > 0, "{report:?}");
    assert_clean(&place.open(), "pruned");
    let (id, _) = dump(&place.open(), &content_at(time), time).unwrap();
    kept.insert(id, time);
    assert_clean(&place.open(), "dumped again");
    assert_whole(&place.open(), &kept, "dumped again");
}

/// What takes long: run by `tools/test --long`.
mod long {
    use super::*;

    #[test]
    #[ignore = "takes minutes"]
    fn a_thousand_killed_processes_hurt_nothing() {
        kill_processes(setting("PGTIDE_TEST_KILLS", 1000));
    }

    /// A writer that runs for ever, and what was done to it.
    struct Writer {
        number: i64,
        worker: Worker,
        frozen_until: Option<Instant>,
    }

    /// What all processes said, together.
    #[derive(Default)]
    struct Log {
        kept: BTreeMap<SnapshotId, i64>,
        counts: BTreeMap<String, u64>,
        wrong: Vec<String>,
    }

    impl Log {
        fn add(&mut self, ended: &Ended) {
            self.kept.extend(ended.committed());
            for id in ended.all("forgetting") {
                self.kept.remove(&id.parse().unwrap());
            }
            for line in &ended.said {
                let (word, rest) = line.split_once(' ').unwrap();
                *self.counts.entry(word.into()).or_default() += 1;
                let explained = is_stale(rest) || is_unsettled(rest);
                if word == "failed" || matches!(word, "problem" | "blocked") && !explained {
                    self.wrong.push(line.clone());
                }
                if word == "pruned" {
                    *self.counts.entry("packs deleted".into()).or_default() +=
                        rest.parse::<u64>().unwrap();
                }
            }
        }
    }

    #[test]
    #[ignore = "takes ten minutes"]
    fn three_writers_a_pruner_and_a_checker_side_by_side_while_they_are_killed_and_frozen() {
        let mut dice = dice("side by side");
        let place = Place::new();
        let patience = Duration::from_secs(1);
        let elsewhere = *hosts().last().unwrap();
        let mut first = 0;
        let mut write = |number: i64| {
            first += 100_000;
            let mut worker = Worker::start(
                &task(&place, Job::Writer { number, first }),
                elsewhere && number == 2,
            );
            worker.go();
            Writer {
                number,
                worker,
                frozen_until: None,
            }
        };
        let run = |job: Job| {
            let mut worker = Worker::start(&task(&place, job), false);
            worker.go();
            worker
        };
        let mut writers: Vec<Writer> = (0..WRITERS).map(&mut write).collect();
        let mut pruner = run(Job::Pruner { patience });
        let mut checker = run(Job::Checker);
        let mut log = Log::default();
        let (mut killed, mut pruners_killed, mut frozen) = (0, 0, 0);

        let end = Instant::now() + Duration::from_secs(60 * setting("PGTIDE_TEST_MINUTES", 10));
        let running = |worker: &mut Worker| worker.is_running();
        while Instant::now() < end
            && running(&mut pruner)
            && running(&mut checker)
            && writers.iter_mut().all(|writer| running(&mut writer.worker))
        {
            thread::sleep(Duration::from_millis(dice.random_range(20..400)));
            for writer in &mut writers {
                if writer
                    .frozen_until
                    .is_some_and(|until| until <= Instant::now())
                {
                    writer.worker.signal(Signal::SIGCONT);
                    writer.frozen_until = None;
                }
            }
            let at = dice.random_range(0..writers.len());
            match dice.random_range(0..20) {
                0..3 => {
                    let writer = writers.remove(at);
                    log.add(&writer.worker.kill());
                    writers.insert(at, write(writer.number));
                    killed += 1;
                }
                3..7 => {
                    writers[at].worker.signal(Signal::SIGSTOP);
                    let long = Duration::from_millis(dice.random_range(10..4_000));
                    writers[at].frozen_until = Some(Instant::now() + long);
                    frozen += 1;
                }
                7 => {
                    log.add(&pruner.kill());
                    pruner = run(Job::Pruner { patience });
                    pruners_killed += 1;
                }
                _ => {}
            }
        }
        for writer in writers {
            writer.worker.signal(Signal::SIGCONT);
            log.add(&writer.worker.end());
        }
        log.add(&pruner.end());
        log.add(&checker.end());
        eprintln!(
            "writers killed {killed}, frozen {frozen}; pruners killed {pruners_killed}; said: {:?}",
            log.counts
        );
        assert!(log.wrong.is_empty(), "{:#?}", log.wrong);
        let repo = place.open();
        assert_stale_at_most(&repo, !elsewhere, "after all");
        assert_whole(&repo, &log.kept, "after all");
        let (now, least) = assert_small(&place, &repo, "after all");
        assert_clean(&repo, "pruned");
        assert_whole(&repo, &log.kept, "pruned");
        eprintln!(
            "{} snapshots kept; {now} bytes of packs (fresh: {least})",
            log.kept.len()
        );
    }
}
