//! `pgtide snapshots`

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pgtide::repo::model::Snapshot;
use pgtide::repo::{Protection, SnapshotId};

use super::common::{Filter, Repo, print_json, time};
use super::render::{self, Align};
use super::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    filter: Filter,
    /// Only the newest N of each database
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Only those taken at this time or before, e.g. '2025-12-10 14:00'
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

type Listed = (SnapshotId, Snapshot);

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let snapshots = repo.snapshots()?;
    let marks = Marks {
        protections: repo.protections()?,
        hurt: repo.hurt()?,
    };
    let list = picked(args, snapshots.list);
    if args.json {
        let clusters = clusters(&list);
        let list: Vec<_> = list
            .iter()
            .map(|(id, snapshot)| {
                let until = match marks.protections.get(id) {
                    Some(Protection::Until(until)) => Some(*until),
                    _ => None,
                };
                serde_json::json!({
                    "id": id.to_string(),
                    "snapshot": snapshot,
                    "protected": marks.protections.contains_key(id),
                    "hurt": marks.hurt.contains(id),
                    "protected_until": until,
                    "cluster": clusters.get(id),
                })
            })
            .collect();
        let damaged: Vec<String> = snapshots.damaged.iter().map(ToString::to_string).collect();
        print_json(&serde_json::json!({"snapshots": list, "damaged": damaged}))?;
    } else {
        if list.is_empty() && snapshots.damaged.is_empty() {
            outln!("no snapshots");
        } else {
            table(&list, &marks);
        }
        for damaged in &snapshots.damaged {
            eprintln!("error: {damaged}");
        }
    }
    if snapshots.damaged.is_empty() {
        Ok(Exit::Done)
    } else {
        Ok(Exit::Failed)
    }
}

/// Those that are asked for.
fn picked(args: &Args, mut list: Vec<Listed>) -> Vec<Listed> {
    list.retain(|(_, snapshot)| {
        args.filter.picks(snapshot) && args.at.is_none_or(|at| snapshot.time <= at)
    });
    let Some(latest) = args.latest else {
        return list;
    };
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut newest: Vec<Listed> = Vec::new();
    for (id, snapshot) in list.into_iter().rev() {
        let of = (snapshot.source.server(), snapshot.label().to_owned());
        let number = seen.entry(of).or_default();
        *number += 1;
        if *number <= latest {
            newest.push((id, snapshot));
        }
    }
    newest.reverse();
    newest
}

/// For each database of a cluster that is listed, the cluster's snapshot.
fn clusters(list: &[Listed]) -> BTreeMap<SnapshotId, SnapshotId> {
    let members = list.iter().flat_map(|(id, snapshot)| {
        let members = snapshot.databases().unwrap_or_default();
        members.iter().map(|member| (member.snapshot, *id))
    });
    members.collect()
}

/// What the audit records say of snapshots.
struct Marks {
    protections: BTreeMap<SnapshotId, Protection>,
    hurt: BTreeSet<SnapshotId>,
}

fn table(list: &[Listed], marks: &Marks) {
    // The databases of a cluster stand below it.
    let clusters = clusters(list);
    let by_id: BTreeMap<SnapshotId, &Snapshot> = list.iter().map(|(id, s)| (*id, s)).collect();
    let mut rows = Vec::with_capacity(list.len());
    let mut shown = BTreeSet::new();
    for (id, snapshot) in list {
        if clusters.contains_key(id) || !shown.insert(*id) {
            continue;
        }
        rows.push(row(id, snapshot, marks, ""));
        for member in snapshot.databases().unwrap_or_default() {
            if let Some(database) = by_id.get(&member.snapshot) {
                rows.push(row(&member.snapshot, database, marks, "  "));
            }
        }
    }
    render::table(
        &[
            ("ID", Align::Left),
            ("TIME", Align::Left),
            ("HOST", Align::Left),
            ("DATABASE", Align::Left),
            ("ROWS", Align::Right),
            ("SIZE", Align::Right),
            ("ADDED", Align::Right),
            ("RATIO", Align::Right),
            ("TOOK", Align::Right),
            ("TAGS", Align::Left),
            ("NOTE", Align::Left),
        ],
        &rows,
    );
}

fn row(id: &SnapshotId, snapshot: &Snapshot, marks: &Marks, indent: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if marks.hurt.contains(id) {
        notes.push("hurt: pgtide check names what it lacks".to_owned());
    }
    if let Some(protection) = marks.protections.get(id) {
        notes.push(format!("protected {}", render::protection(protection)));
    }
    if let Some(original) = &snapshot.original {
        notes.push(format!("copy of {:.12}", original.snapshot));
    }
    let totals = &snapshot.totals;
    vec![
        render::short(id),
        render::time(snapshot.time),
        format!("{}:{}", snapshot.source.host, snapshot.source.port),
        format!("{indent}{}", snapshot.label()),
        render::count(totals.rows),
        render::bytes(totals.source_bytes),
        render::bytes(totals.added_bytes),
        render::factor(totals.payload_bytes, totals.added_bytes),
        render::seconds(totals.seconds),
        snapshot.tags.join(","),
        notes.join(", "),
    ]
}
