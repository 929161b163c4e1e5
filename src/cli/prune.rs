//! `pgtide prune`

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use pgtide::repo::{PruneOptions, PrunePhase, PruneProgress, PruneReport, Repository};

use super::common::{Repo, print_json};
use super::{Exit, Failure, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Change nothing; say what would be freed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Unneeded bytes that may stay, as a part of the needed ones: packs that hold both are written anew until it is
    /// no more
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = max_waste)]
    max_unused: f64,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let options = PruneOptions {
        dry_run: args.dry_run,
        max_waste: args.max_unused,
        ..PruneOptions::default()
    };
    let report = prune(&repo, options, args.quiet || args.json)?;
    if args.json {
        print_json(&json(&report))?;
    } else {
        print(&report, args.dry_run);
    }
    Ok(Exit::Done)
}

/// Prunes, with a bar on a terminal.
pub fn prune(
    repo: &Repository,
    options: PruneOptions,
    quiet: bool,
) -> Result<PruneReport, Failure> {
    let bar = if quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    let phase = Mutex::new(None);
    let report = repo.prune(options, &|progress| show(&bar, &phase, progress));
    bar.finish_and_clear();
    Ok(report?)
}

/// The report as JSON.
pub fn json(report: &PruneReport) -> serde_json::Value {
    let amount = |amount: pgtide::repo::Amount| serde_json::json!({"packs": amount.packs, "bytes": amount.bytes});
    serde_json::json!({
        "snapshots": report.snapshots,
        "before": amount(report.before),
        "needed_bytes": report.needed_bytes,
        "unused": amount(report.unused),
        "repacked": amount(report.repacked),
        "rewritten_bytes": report.rewritten_bytes,
        "deleted": amount(report.deleted),
        "waiting": amount(report.waiting),
        "waiting_for": report.waiting_for,
        "notes": report.notes,
    })
}

/// The report for people.
pub fn print(report: &PruneReport, dry_run: bool) {
    let amount = |amount: pgtide::repo::Amount| {
        format!(
            "{} in {}",
            render::bytes(amount.bytes),
            render::plural(amount.packs, "pack", "packs")
        )
    };
    for note in &report.notes {
        outln!("note: {note}");
    }
    outln!(
        "before    {}; {} {}",
        amount(report.before),
        render::plural(report.snapshots, "snapshot needs", "snapshots need"),
        render::bytes(report.needed_bytes)
    );
    if dry_run {
        outln!("unused    {}", amount(report.unused));
        outln!(
            "repack    {}, of which {} stay",
            amount(report.repacked),
            render::bytes(report.rewritten_bytes)
        );
        outln!("would free {}", render::bytes(report.reclaimable()));
        return;
    }
    if report.repacked.packs > 0 {
        outln!(
            "repacked  {} into {}",
            amount(report.repacked),
            render::bytes(report.rewritten_bytes)
        );
    }
    outln!("deleted   {}", amount(report.deleted));
    if report.waiting.packs > 0 {
        outln!(
            "marked    {}, deleted by the next prune after these have ended:",
            amount(report.waiting)
        );
        for session in &report.waiting_for {
            outln!("          {session}");
        }
    }
}

fn max_waste(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("give a percentage, like 5%".into()),
    }
}

fn show(bar: &ProgressBar, shown: &Mutex<Option<PrunePhase>>, progress: PruneProgress) {
    let Ok(mut shown) = shown.try_lock() else {
        return;
    };
    if *shown != Some(progress.phase) {
        *shown = Some(progress.phase);
        let (template, name) = match progress.phase {
            PrunePhase::Snapshots => ("{bar:32} {pos} of {len} {msg}", "snapshots"),
            PrunePhase::Repack => (
                "{bar:32} {percent:>3} %  {decimal_bytes} of {decimal_total_bytes} {msg}  {eta} left",
                "written anew",
            ),
            PrunePhase::Sessions => (
                "waiting for a sign of life of other sessions, {pos} of at most {len} s{msg}",
                "",
            ),
            PrunePhase::Delete => ("{bar:32} {pos} of {len} {msg}", "packs deleted"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_message(name);
    }
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}
