//! `pgtide check`

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use pgtide::repo::{CheckOptions, CheckPhase, CheckProgress};

use super::common::{Repo, print_json};
use super::{Exit, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Read every byte, decode every block and compute every id anew
    #[arg(long)]
    read_data: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let repo = match args.repo.open() {
        // Without its config there is nothing more to be checked, but this is what a check is for.
        Err(mut failure) if failure.damaged => {
            failure.code = Exit::Difference;
            return Err(failure);
        }
        other => other?,
    };
    let bar = if args.quiet || args.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    let phase = Mutex::new(None);
    let report = repo.check(
        CheckOptions {
            read_data: args.read_data,
        },
        &|progress| show(&bar, &phase, progress, args.read_data),
    );
    bar.finish_and_clear();
    let report = report?;
    if args.json {
        let problems: Vec<_> = report
            .problems
            .iter()
            .map(|p| {
                serde_json::json!({
                    "object": p.object,
                    "kind": p.kind.to_string(),
                    "detail": p.detail,
                    "snapshots": p.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        print_json(&serde_json::json!({
            "snapshots": report.snapshots,
            "packs": report.packs,
            "blocks": report.blocks,
            "bytes": report.bytes,
            "read_data": report.read_data,
            "problems": problems,
            "notes": report.notes,
        }))?;
    } else {
        for note in &report.notes {
            outln!("note: {note}");
        }
        for problem in &report.problems {
            outln!("{problem}");
        }
        outln!(
            "checked   {}, {}, {} of {} in {}",
            render::plural(report.snapshots, "snapshot", "snapshots"),
            render::plural(report.indexes, "index object", "index objects"),
            render::plural(report.blocks, "block", "blocks"),
            render::bytes(report.bytes),
            render::plural(report.packs, "pack", "packs"),
        );
        outln!(
            "{}",
            match (report.problems.len() as u64, report.read_data) {
                (0, true) => "no damage: every byte was read".to_owned(),
                (0, false) =>
                    "no damage found in the structure; --read-data reads every byte".to_owned(),
                (n, _) => render::plural(n, "problem", "problems"),
            }
        );
    }
    if report.problems.is_empty() {
        Ok(Exit::Done)
    } else {
        Ok(Exit::Difference)
    }
}

fn show(
    bar: &ProgressBar,
    shown: &Mutex<Option<CheckPhase>>,
    progress: CheckProgress,
    read_data: bool,
) {
    let Ok(mut shown) = shown.try_lock() else {
        return;
    };
    if *shown != Some(progress.phase) {
        *shown = Some(progress.phase);
        let (template, name) = match progress.phase {
            CheckPhase::Packs if read_data => (
                "{bar:32} {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
                "packs",
            ),
            CheckPhase::Packs => ("{bar:32} {pos} of {len} {msg}", "packs"),
            CheckPhase::Index => ("{bar:32} {pos} of {len} {msg}", "index objects"),
            CheckPhase::Snapshots => ("{bar:32} {pos} of {len} {msg}", "snapshots"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_message(name);
    }
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}
