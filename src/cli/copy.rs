//! `pgtide copy`

use std::sync::Arc;

use pgtide::repo::{CopyOptions, Repository, SnapshotId, default_jobs};
use pgtide::rows::Effort;

use super::common::{Filter, Repo, interrupt, print_json, store};
use super::password::ToPassword;
use super::progress::Shown;
use super::{Exit, Failure, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    to: To,
    /// Snapshots to copy: ids, unique prefixes of ids, latest, or latest:DATABASE [default: all]
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Threads [default: the cores, at most 4]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Show no progress and no summary
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

/// The second repository.
#[derive(Debug, clap::Args)]
struct To {
    /// The repository to copy to, which must exist
    #[arg(
        long,
        value_name = "REPO",
        env = "PGTIDE_TO_REPO",
        hide_env_values = true
    )]
    to: String,
    /// A setting of its store, as --repo-option is for the first (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    to_option: Vec<String>,
    #[command(flatten)]
    password: ToPassword,
}

impl To {
    fn open(&self) -> Result<Repository, Failure> {
        Repository::open_with(store(&self.to, &self.to_option)?, || {
            self.password.get(&self.to)
        })
    }
}

pub fn run(args: &Args) -> Outcome {
    if !args.snapshots.is_empty() && !args.filter.is_empty() {
        return Err(Failure::usage(
            "--host, --database and --tag pick snapshots, and so do their ids\nhint: give the one or the other",
        ));
    }
    let (repo, target) = (args.repo.open()?, args.to.open()?);
    let mut ids: Vec<SnapshotId> = Vec::new();
    let mut damaged = Vec::new();
    if args.snapshots.is_empty() {
        let snapshots = repo.snapshots()?;
        let picked = snapshots
            .list
            .iter()
            .filter(|(_, snapshot)| args.filter.picks(snapshot));
        ids.extend(picked.map(|(id, _)| *id));
        damaged = snapshots.damaged;
    }
    for wanted in &args.snapshots {
        ids.push(repo.find(wanted)?.0);
    }
    let options = CopyOptions {
        jobs: args.jobs.map_or_else(default_jobs, usize::from),
        effort: Effort::Default,
    };
    let shown = Arc::new(Shown::new(args.quiet || args.json, "copied"));
    let interrupt = interrupt(&shown)?;
    let result = repo.copy_to(&target, &ids, &options, &interrupt, shown.as_ref());
    shown.finish();
    let report = result?;
    let mut failed: Vec<(Option<SnapshotId>, String)> = damaged
        .iter()
        .map(|error| (None, error.to_string()))
        .collect();
    failed.extend(
        report
            .failed
            .iter()
            .map(|(id, error)| (Some(*id), error.to_string())),
    );
    if args.json {
        let copied = report.copied.iter().map(|copied| {
            serde_json::json!({
                "from": copied.from,
                "to": copied.to,
                "was_there": copied.stored.is_none(),
                "added_blocks": copied.stored.map_or(0, |stored| stored.new_blocks),
                "added_bytes": copied.stored.map_or(0, |stored| stored.new_bytes),
            })
        });
        let failed = failed
            .iter()
            .map(|(id, error)| serde_json::json!({"snapshot": id, "error": error}));
        print_json(&serde_json::json!({
            "copied": copied.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
        }))?;
    } else {
        for (id, error) in &failed {
            match id {
                Some(id) => eprintln!("error: {id:.12} was not copied: {error}"),
                None => eprintln!("error: {error}"),
            }
        }
        if !args.quiet {
            let mut there = 0;
            for copied in &report.copied {
                let Some(stored) = copied.stored else {
                    there += 1;
                    continue;
                };
                outln!(
                    "copied    {} to {}: {} in {}",
                    render::short(&copied.from),
                    render::short(&copied.to),
                    render::bytes(stored.new_bytes),
                    render::plural(stored.new_blocks, "new block", "new blocks"),
                );
            }
            if there > 0 {
                outln!(
                    "there     {}",
                    render::plural(there, "snapshot", "snapshots")
                );
            }
        }
    }
    Ok(if failed.is_empty() {
        Exit::Done
    } else {
        Exit::Partly
    })
}
