//! `pgtide check`

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use pgtide::repo::{CheckOptions, CheckPhase, CheckProgress, Hurt, Problem, ReadData, SnapshotId};

use super::common::{Repo, print_json};
use super::{Exit, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Read every byte, decode every block and compute every id anew; with a percentage only so much of the repository,
    /// what was not read for longest: --read-data=5% every night reads all of it in three weeks
    #[arg(
        long,
        value_name = "PERCENT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100%",
        value_parser = percent
    )]
    read_data: Option<f64>,
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
    let shown = Shown::new(args.quiet || args.json);
    let report = repo.check(
        CheckOptions {
            read_data: match args.read_data {
                None => ReadData::None,
                Some(percent) if percent >= 100.0 => ReadData::All,
                Some(percent) => ReadData::Percent(percent),
            },
        },
        &|progress| shown.show(progress),
    );
    shown.finish();
    let report = report?;
    if args.json {
        print_json(&serde_json::json!({
            "snapshots": report.snapshots,
            "packs": report.packs,
            "blocks": report.blocks,
            "bytes": report.bytes,
            "read_data": args.read_data.is_some(),
            "read_bytes": report.read_bytes,
            "never_read_bytes": report.never_read_bytes,
            "oldest_read": report.oldest_read,
            "hurt": hurt_json(&report.hurt),
            "problems": problems_json(&report.problems),
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
        for (id, hurt) in &report.hurt {
            outln!(
                "hurt      snapshot {} lacks {}{}",
                render::short(id),
                tables(hurt),
                if hurt.known {
                    ": known, recorded by a repair"
                } else {
                    ""
                },
            );
        }
        if report.bytes > 0 && (args.read_data.is_some() || report.never_read_bytes < report.bytes)
        {
            outln!(
                "read      {} of {}; {}",
                render::bytes(report.read_bytes),
                render::bytes(report.bytes),
                match report.oldest_read {
                    Some(time) => format!("everything was read since {}", render::time(time)),
                    None => format!("{} were never read", render::bytes(report.never_read_bytes)),
                }
            );
        }
        outln!(
            "{}",
            match (
                report.problems.len() as u64,
                report.read_bytes == report.bytes
            ) {
                (0, true) => "no damage: every byte was read".to_owned(),
                (0, false) if args.read_data.is_some() => "no damage found".to_owned(),
                (0, false) =>
                    "no damage found in the structure; --read-data reads every byte".to_owned(),
                (n, _) => format!(
                    "{}; pgtide repair mends what can be mended",
                    render::plural(n, "problem", "problems")
                ),
            }
        );
    }
    if report.problems.is_empty() {
        Ok(Exit::Done)
    } else {
        Ok(Exit::Difference)
    }
}

/// `5%` or `5`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("give a percentage above 0 and up to 100, like 5%".into()),
    }
}

/// What a snapshot lacks, for people.
pub fn tables(hurt: &Hurt) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = hurt.tables.iter().take(SHOWN).map(String::as_str).collect();
    match hurt.tables.len() {
        0 => "definitions or lists".to_owned(),
        n if n > SHOWN => format!("rows of {} and {} more tables", names.join(", "), n - SHOWN),
        _ => format!("rows of {}", names.join(", ")),
    }
}

/// Problems as JSON.
pub fn problems_json(problems: &[Problem]) -> serde_json::Value {
    problems
        .iter()
        .map(|p| {
            serde_json::json!({
                "object": p.object,
                "kind": p.kind.to_string(),
                "detail": p.detail,
                "snapshots": p.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect()
}

/// What snapshots lack, as JSON.
pub fn hurt_json(hurt: &BTreeMap<SnapshotId, Hurt>) -> serde_json::Value {
    hurt.iter()
        .map(|(id, hurt)| {
            serde_json::json!({
                "snapshot": id.to_string(),
                "tables": hurt.tables,
                "known": hurt.known,
            })
        })
        .collect()
}

/// A bar that shows how far a check is.
pub struct Shown {
    bar: ProgressBar,
    phase: Mutex<Option<CheckPhase>>,
}

impl Shown {
    /// On a terminal, and not if it is to be quiet.
    pub fn new(quiet: bool) -> Self {
        let bar = if quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        Self {
            bar,
            phase: Mutex::new(None),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows progress.
    pub fn show(&self, progress: CheckProgress) {
        let Ok(mut shown) = self.phase.try_lock() else {
            return;
        };
        if *shown != Some(progress.phase) {
            *shown = Some(progress.phase);
            let (template, name) = match progress.phase {
                CheckPhase::Packs => (
                    "{bar:32} {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
                    "packs",
                ),
                CheckPhase::Index => ("{bar:32} {pos} of {len} {msg}", "index objects"),
                CheckPhase::Snapshots => ("{bar:32} {pos} of {len} {msg}", "snapshots"),
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style.progress_chars("━╸ "));
            }
            self.bar.set_message(name);
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
    }
}
