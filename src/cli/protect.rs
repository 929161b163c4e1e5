//! `pgtide protect`, and `pgtide dump --protect`

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgtide::ops::duration::Duration;
use pgtide::repo::{Protected, Repository, SnapshotId};

use super::common::{Repo, print_json, time};
use super::{Exit, Failure, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Snapshots: ids, unique prefixes of ids, latest, or latest:DATABASE; the databases of a cluster are protected with
    /// it
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
    /// For so long from now on, e.g. 7y [default: until they are released]
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
    term: Option<Duration>,
    /// Until this time, e.g. '2032-12-31'
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Take the protection away
    #[arg(long, conflicts_with_all = ["term", "until"])]
    release: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let ids = args.snapshots.iter().map(|wanted| Ok(repo.find(wanted)?.0));
    let ids: Vec<SnapshotId> = ids.collect::<Result<_, Failure>>()?;
    if args.release {
        let released = repo.release(&ids)?;
        if args.json {
            let ids: Vec<String> = released.iter().map(ToString::to_string).collect();
            print_json(&serde_json::json!({"released": ids}))?;
        } else {
            let number = render::plural(released.len() as u64, "snapshot", "snapshots");
            outln!("released  {number}");
        }
        return Ok(Exit::Done);
    }
    let until = args.until.or_else(|| args.term.map(from_now));
    if until.is_some_and(|until| until <= pgtide::clock::now()) {
        return Err(Failure::usage(
            "--until is in the past\nhint: give a time to come; --release takes a protection away",
        ));
    }
    let protected = Said::of(repo.protect(&ids, until)?, until);
    if args.json {
        print_json(&serde_json::json!({"protected": protected}))?;
    } else {
        say(Some(&Some(protected)));
    }
    Ok(Exit::Done)
}

fn from_now(term: Duration) -> Timestamp {
    term.after(pgtide::clock::now(), &TimeZone::system())
}

/// What was protected, for people and programs.
#[derive(Debug, serde::Serialize)]
pub struct Said {
    snapshots: Vec<SnapshotId>,
    until: Option<Timestamp>,
    /// Number of objects that the storage has locked.
    locked_objects: Option<u64>,
}

impl Said {
    fn of(protected: Protected, until: Option<Timestamp>) -> Self {
        Self {
            snapshots: protected.snapshots,
            until,
            locked_objects: protected.locked,
        }
    }
}

/// Protects what was just dumped, if that is wanted. That it could not be is told here.
pub fn dumped(
    repo: &Repository,
    id: SnapshotId,
    wanted: Option<Option<Duration>>,
) -> Result<Option<Said>, ()> {
    let Some(term) = wanted else {
        return Ok(None);
    };
    let until = term.map(from_now);
    match repo.protect(&[id], until) {
        Ok(protected) => Ok(Some(Said::of(protected, until))),
        Err(error) => {
            eprintln!(
                "error: the snapshot is stored, but not protected: {error}\nhint: pgtide protect {id:.12} tries again"
            );
            Err(())
        }
    }
}

/// Says what was protected, if anything.
pub fn say(protected: Option<&Option<Said>>) {
    let Some(Some(said)) = protected else {
        return;
    };
    let number = render::plural(said.snapshots.len() as u64, "snapshot", "snapshots");
    match (said.until, said.locked_objects) {
        (None, _) => outln!(
            "protected {number} from forget until released; a lock of the storage itself needs an end"
        ),
        (Some(until), None) => outln!(
            "protected {number} from forget until {}; the storage itself has no lock",
            render::time(until)
        ),
        (Some(until), Some(objects)) => outln!(
            "protected {number} until {}, {} locked by the storage itself",
            render::time(until),
            render::plural(objects, "object", "objects")
        ),
    }
}
