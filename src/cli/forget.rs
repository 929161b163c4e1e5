//! `pgtide forget`

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use pgtide::ops::duration::Duration;
use pgtide::ops::retention::{self, Candidate, Count, GroupPlan, Period, Policy, Reason};
use pgtide::repo::model::Snapshot;
use pgtide::repo::{Inventory, PruneOptions, PruneReport, Repository, SnapshotId};

use super::common::{Filter, Repo, print_json};
use super::render::{self, Align};
use super::{Exit, Failure, Outcome, prune};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Snapshots to remove, whatever the rules: ids, or unique prefixes of ids
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Say what would stay and why, and what would go, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Then free what no snapshot needs any more, as pgtide prune does
    #[arg(long)]
    prune: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    keep: Keep,
}

/// What stays. Of each source (server and database) the newest snapshot stays, whatever the rules.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rules: a snapshot stays if any of them wants it")]
struct Keep {
    /// The newest N, or 'unlimited'
    #[arg(
        long = "keep-last",
        value_name = "N",
        default_value = "0",
        hide_default_value = true
    )]
    last: Count,
    /// The newest of each of the last N hours that have snapshots
    #[arg(long = "keep-hourly", value_name = "N")]
    hourly: Option<Count>,
    /// The newest of each of the last N days that have snapshots
    #[arg(long = "keep-daily", value_name = "N")]
    daily: Option<Count>,
    /// The newest of each of the last N weeks that have snapshots; a week begins on Monday
    #[arg(long = "keep-weekly", value_name = "N")]
    weekly: Option<Count>,
    /// The newest of each of the last N months that have snapshots
    #[arg(long = "keep-monthly", value_name = "N")]
    monthly: Option<Count>,
    /// The newest of each of the last N years that have snapshots
    #[arg(long = "keep-yearly", value_name = "N")]
    yearly: Option<Count>,
    /// All that are not older than this, counted from the newest, e.g. 30d or 1y6m
    #[arg(long = "keep-within", value_name = "DURATION")]
    within: Option<Duration>,
    /// The newest of each hour, of those that are not older than this
    #[arg(long = "keep-within-hourly", value_name = "DURATION")]
    within_hourly: Option<Duration>,
    /// The newest of each day, of those that are not older than this
    #[arg(long = "keep-within-daily", value_name = "DURATION")]
    within_daily: Option<Duration>,
    /// The newest of each week, of those that are not older than this
    #[arg(long = "keep-within-weekly", value_name = "DURATION")]
    within_weekly: Option<Duration>,
    /// The newest of each month, of those that are not older than this
    #[arg(long = "keep-within-monthly", value_name = "DURATION")]
    within_monthly: Option<Duration>,
    /// The newest of each year, of those that are not older than this
    #[arg(long = "keep-within-yearly", value_name = "DURATION")]
    within_yearly: Option<Duration>,
    /// All with this tag (repeatable)
    #[arg(long = "keep-tag", value_name = "TAG")]
    keep_tags: Vec<String>,
}

impl Keep {
    fn policy(&self) -> Policy {
        let counts = [
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        let durations = [
            self.within_hourly,
            self.within_daily,
            self.within_weekly,
            self.within_monthly,
            self.within_yearly,
        ];
        let of = |(period, value)| Some((period, value?));
        let of_duration = |(period, value)| Some((period, value?));
        Policy {
            last: self.last,
            periods: Period::ALL.into_iter().zip(counts).filter_map(of).collect(),
            within: self.within,
            periods_within: Period::ALL
                .into_iter()
                .zip(durations)
                .filter_map(of_duration)
                .collect(),
            tags: self.keep_tags.clone(),
        }
    }
}

/// What becomes of a snapshot.
struct Row<'a> {
    id: SnapshotId,
    snapshot: &'a Snapshot,
    /// What of the database it is of, if not all.
    part: String,
    /// Why it stays.
    reasons: Vec<Reason>,
    goes: bool,
}

pub fn run(args: &Args) -> Outcome {
    let policy = args.keep.policy();
    match (args.snapshots.is_empty(), policy.is_empty()) {
        (true, true) => {
            return Err(Failure::usage(
                "nothing says which snapshots are to stay\nhint: give rules such as --keep-daily 7 --keep-weekly 4, or the snapshots to remove",
            ));
        }
        (false, false) => {
            return Err(Failure::usage(
                "either rules say what stays, or snapshots are named that go\nhint: run forget twice",
            ));
        }
        (false, true) if !args.filter.is_empty() => {
            return Err(Failure::usage(
                "--host, --database and --tag are for rules\nhint: name the snapshots only",
            ));
        }
        _ => {}
    }
    let repo = args.repo.open()?;
    let inventory = repo.inventory()?;
    let rows = if args.snapshots.is_empty() {
        by_rules(&inventory, &policy, &args.filter)
    } else {
        by_name(&repo, &inventory, &args.snapshots)?
    };
    let goes: Vec<SnapshotId> = rows
        .iter()
        .filter(|row| row.goes)
        .map(|row| row.id)
        .collect();
    if !args.json && rows.is_empty() {
        outln!("no snapshots");
    } else if !args.json {
        table(&rows);
    }
    let removed = if args.dry_run {
        Vec::new()
    } else {
        repo.forget(&goes)?
    };
    if args.json {
        let mut document = document(args.dry_run, &rows, &removed);
        if let Some(report) = freed(args, &repo)? {
            document["prune"] = prune::json(&report);
        }
        print_json(&document)?;
    } else {
        let stays = match args.snapshots.is_empty() {
            true => rows.len() - goes.len(),
            false => inventory.list.len() - goes.len(),
        } as u64;
        let stay = format!(
            "{} stay{}",
            render::count(stays),
            if stays == 1 { "s" } else { "" }
        );
        let number = goes.len() as u64;
        let text = render::plural(number, "snapshot", "snapshots");
        match (args.dry_run, number) {
            (_, 0) => outln!("\nnothing to remove"),
            (true, _) => outln!("\nwould remove {text}; {} would stay", render::count(stays)),
            (false, _) if args.prune => outln!("\nremoved {text}; {stay}"),
            (false, _) => outln!("\nremoved {text}; {stay}. pgtide prune frees the space"),
        }
        // What an interrupted run left.
        let left = removed.iter().filter(|id| !goes.contains(id)).count() as u64;
        if left > 0 {
            let text = render::plural(left, "snapshot", "snapshots");
            outln!("removed {text} that an interrupted run had forgotten");
        }
        if let Some(report) = freed(args, &repo)? {
            prune::print(&report, false);
        }
    }
    Ok(Exit::Done)
}

/// Prunes, if it was asked for.
fn freed(args: &Args, repo: &Repository) -> Result<Option<PruneReport>, Failure> {
    if !args.prune || args.dry_run {
        return Ok(None);
    }
    prune::prune(repo, PruneOptions::default(), args.quiet || args.json).map(Some)
}

fn by_rules<'a>(inventory: &'a Inventory, policy: &Policy, filter: &Filter) -> Vec<Row<'a>> {
    let snapshots: BTreeMap<SnapshotId, &Snapshot> = inventory
        .list
        .iter()
        .map(|(id, snapshot)| (*id, snapshot))
        .collect();
    let wanted = |candidate: &Candidate| {
        let snapshot = snapshots.get(&candidate.id);
        snapshot.is_some_and(|snapshot| filter.picks(snapshot))
    };
    let plans: Vec<GroupPlan> = retention::plan(
        policy,
        &Candidate::of(inventory),
        wanted,
        pgtide::clock::now(),
        &TimeZone::system(),
    );
    let verdicts = plans.into_iter().flat_map(|plan| {
        let part = plan.group.part;
        plan.verdicts
            .into_iter()
            .map(move |verdict| (part.clone(), verdict))
    });
    let rows = verdicts.filter_map(|(part, verdict)| {
        Some(Row {
            id: verdict.id,
            snapshot: snapshots.get(&verdict.id)?,
            part,
            goes: verdict.reasons.is_empty(),
            reasons: verdict.reasons,
        })
    });
    rows.collect()
}

fn by_name<'a>(
    repo: &Repository,
    inventory: &'a Inventory,
    wanted: &[String],
) -> Result<Vec<Row<'a>>, Failure> {
    let ids = wanted.iter().map(|wanted| Ok(repo.find(wanted)?.0));
    let ids: Vec<SnapshotId> = ids.collect::<Result<_, Failure>>()?;
    let goes: BTreeSet<SnapshotId> = inventory.forgettable(&ids)?.into_iter().collect();
    let rows = inventory.list.iter().filter(|(id, _)| goes.contains(id));
    let rows = rows.map(|(id, snapshot)| Row {
        id: *id,
        snapshot,
        part: String::new(),
        reasons: Vec::new(),
        goes: true,
    });
    Ok(rows.collect())
}

fn table(rows: &[Row<'_>]) {
    let cells: Vec<Vec<String>> = (rows.iter())
        .map(|row| {
            let reasons = row.reasons.iter().map(|reason| match reason {
                Reason::Protected(until) => format!("protected {}", render::protection(until)),
                other => other.to_string(),
            });
            vec![
                if row.goes { "remove" } else { "keep" }.to_owned(),
                render::short(&row.id),
                render::time(row.snapshot.time),
                format!("{}:{}", row.snapshot.source.host, row.snapshot.source.port),
                match row.part.as_str() {
                    "" => row.snapshot.label().to_owned(),
                    part => format!("{} {part}", row.snapshot.label()),
                },
                row.snapshot.tags.join(","),
                reasons.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    let header = ["", "ID", "TIME", "HOST", "DATABASE", "TAGS", "WHY"];
    render::table(&header.map(|name| (name, Align::Left)), &cells);
}

fn document(dry_run: bool, rows: &[Row<'_>], removed: &[SnapshotId]) -> serde_json::Value {
    let snapshots = rows.iter().map(|row| {
        let reasons: Vec<String> = row.reasons.iter().map(ToString::to_string).collect();
        serde_json::json!({
            "id": row.id,
            "time": row.snapshot.time,
            "host": row.snapshot.source.host,
            "port": row.snapshot.source.port,
            "database": row.snapshot.label(),
            "part": row.part,
            "tags": row.snapshot.tags,
            "keep": !row.goes,
            "reasons": reasons,
        })
    });
    serde_json::json!({
        "dry_run": dry_run,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "removed": removed,
    })
}
