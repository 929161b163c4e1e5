//! `pgtide history`

use pgtide::repo::{
    Event, HistoryRecord, LogLine, ObjectId, Outcome as How, RunRecord, SnapshotId,
};

use super::common::{Repo, print_json};
use super::render::{self, Align};
use super::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// The last so many entries
    #[arg(short = 'l', long, value_name = "N", default_value = "50")]
    last: usize,
    /// Only what this profile's runs did
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// The log of a run, as JSON lines: an id of the list, or the beginning of one, or latest
    #[arg(long, value_name = "ID")]
    log: Option<String>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

/// An entry, for people.
struct Entry {
    id: ObjectId,
    time: jiff::Timestamp,
    what: String,
    who: String,
    how: String,
    about: String,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let mut runs = repo.runs(usize::MAX)?;
    if let Some(profile) = &args.profile {
        runs.retain(|(_, run)| run.profile.as_ref() == Some(profile));
    }
    if let Some(wanted) = &args.log {
        return log(&runs, wanted);
    }
    let records = match args.profile {
        Some(_) => Vec::new(),
        None => repo.history()?,
    };
    if args.json {
        let runs: Vec<_> = runs.iter().map(|(id, run)| with_id(id, run)).collect();
        let records: Vec<_> = records
            .iter()
            .map(|(id, record)| with_id(id, record))
            .collect();
        print_json(&serde_json::json!({"runs": runs, "records": records}))?;
        return Ok(Exit::Done);
    }
    let mut entries: Vec<Entry> = runs.iter().map(|(id, run)| of_run(*id, run)).collect();
    entries.extend(records.iter().map(|(id, record)| of_record(*id, record)));
    entries.sort_by_key(|entry| entry.time);
    let from = entries.len().saturating_sub(args.last);
    let rows: Vec<Vec<String>> = entries[from..]
        .iter()
        .map(|entry| {
            vec![
                render::short(&entry.id),
                render::time(entry.time),
                entry.what.clone(),
                entry.how.clone(),
                entry.who.clone(),
                entry.about.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        outln!("nothing is on record");
    } else {
        let header = ["ID", "TIME", "WHAT", "HOW", "WHO", "ABOUT"];
        render::table(&header.map(|name| (name, Align::Left)), &rows);
    }
    Ok(Exit::Done)
}

/// A record with its id.
fn with_id(id: &ObjectId, record: &impl serde::Serialize) -> serde_json::Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    value["id"] = id.to_string().into();
    value
}

fn log(runs: &[(ObjectId, RunRecord)], wanted: &str) -> Outcome {
    let found: Vec<&(ObjectId, RunRecord)> = match wanted {
        "latest" => runs.last().into_iter().collect(),
        prefix => runs
            .iter()
            .filter(|(id, _)| id.to_string().starts_with(prefix))
            .collect(),
    };
    let [(_, run)] = found[..] else {
        return Err(Failure::usage(match found.len() {
            0 => format!("no run {wanted:?} is on record\nhint: pgtide history lists them"),
            n => format!("{n} runs begin with {wanted:?}\nhint: give more of the id"),
        }));
    };
    for line in &run.log {
        let line: &LogLine = line;
        outln!("{}", serde_json::to_string(line)?);
    }
    Ok(Exit::Done)
}

fn of_run(id: ObjectId, run: &RunRecord) -> Entry {
    let snapshots = ids(&run.snapshots);
    let error = run.error.iter();
    let error = error.map(|error| render::first_line(error).to_owned());
    let target = run.target.iter().map(|target| match run.command.as_str() {
        "run" => format!("of {target}"),
        _ => format!("on {target}"),
    });
    let about: Vec<String> = snapshots.into_iter().chain(target).chain(error).collect();
    Entry {
        id,
        time: run.started,
        what: match &run.profile {
            Some(profile) => format!("{} {profile}", run.command),
            None => run.command.clone(),
        },
        who: format!("{}@{}", run.user, run.host),
        how: match run.outcome {
            How::Done => "done",
            How::Partly => "PARTLY",
            How::Failed => "FAILED",
        }
        .to_owned(),
        about: about.join("; "),
    }
}

fn of_record(id: ObjectId, record: &HistoryRecord) -> Entry {
    let (what, about) = match &record.event {
        Event::Committed(snapshots) => ("committed", ids(snapshots)),
        Event::Forgotten(snapshots) => ("forgotten", ids(snapshots)),
        Event::Abandoned(snapshots) => ("abandoned", ids(snapshots)),
        Event::Lost(snapshots) => ("lost", ids(snapshots)),
        Event::Hurt(loss) => ("hurt", Some(render::short(&loss.snapshot))),
        Event::RecordsLost(records) => {
            let number = render::plural(records.len() as u64, "record", "records");
            ("records lost", Some(number))
        }
        Event::Protected { snapshots, until } => {
            let until = until.map_or("until released".to_owned(), |until| {
                format!("until {}", render::time(until))
            });
            (
                "protected",
                ids(snapshots).map(|ids| format!("{ids} {until}")),
            )
        }
        Event::Released { snapshots } => ("released", ids(snapshots)),
    };
    Entry {
        id,
        time: record.time,
        what: what.to_owned(),
        who: record.host.clone(),
        how: String::new(),
        about: about.unwrap_or_default(),
    }
}

/// Some of them.
fn ids(snapshots: &[SnapshotId]) -> Option<String> {
    const SHOWN: usize = 4;
    let shown: Vec<String> = snapshots.iter().take(SHOWN).map(render::short).collect();
    let more = snapshots.len().saturating_sub(SHOWN);
    let shown = shown.join(" ");
    match (snapshots.is_empty(), more) {
        (true, _) => None,
        (_, 0) => Some(shown),
        (_, more) => Some(format!("{shown} and {more} more")),
    }
}
