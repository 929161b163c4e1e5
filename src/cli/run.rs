//! `pgtide run`

use std::sync::Arc;

use pgtide::ops::run::{self, Choice, Report, Step, StepReport};
use pgtide::repo::Outcome as How;

use super::common::{interrupt, print_json};
use super::profile::ConfigArg;
use super::progress::Shown;
use super::{Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The profile
    #[arg(value_name = "PROFILE")]
    profile: String,
    #[command(flatten)]
    config: ConfigArg,
    /// Only this step, and the look whether it can be done: before, dump, verify, forget, prune, check, copy, after,
    /// notify, metrics (repeatable)
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Not this step (repeatable)
    #[arg(long, value_name = "STEP")]
    skip: Vec<Step>,
    /// Show no progress, and only what went wrong
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let config = args.config.load()?;
    let profile = config.profile(&args.profile)?;
    let channels = config.channels(&args.profile)?;
    let choice = Choice {
        only: args.only.iter().copied().collect(),
        skip: args.skip.iter().copied().collect(),
    };
    let shown = Arc::new(Shown::new(args.quiet || args.json, "done"));
    let interrupt = interrupt(&shown)?;
    let report = run::run(
        &config,
        &profile,
        &channels,
        &choice,
        &interrupt,
        shown.as_ref(),
    );
    shown.finish();
    if args.json {
        print_json(&serde_json::to_value(&report)?)?;
    } else {
        show(&report, args.quiet);
    }
    Ok(report.exit)
}

fn show(report: &Report, quiet: bool) {
    let details = &report.details;
    if !quiet {
        for step in &details.steps {
            outln!("{}", line(step));
        }
        for one in &details.databases {
            match (&one.error, &one.snapshot) {
                (None, Some(id)) => outln!(
                    "database   {} {}: {} rows, {}, {} added",
                    render::short(id),
                    one.database,
                    render::count(one.rows),
                    render::bytes(one.source_bytes),
                    render::bytes(one.added_bytes)
                ),
                _ => outln!("database   {} was NOT dumped", one.database),
            }
        }
    }
    for step in &details.steps {
        if let Some(error) = &step.error {
            eprintln!("{}: {}", step.step, error.replace('\n', "\n  "));
        }
    }
    if !quiet {
        outln!(
            "{} {} in {}",
            report.profile,
            word(Some(report.outcome)),
            render::seconds(report.seconds)
        );
    }
}

fn word(outcome: Option<How>) -> &'static str {
    match outcome {
        Some(How::Done) => "done",
        Some(How::Partly) => "PARTLY",
        Some(How::Failed) => "FAILED",
        None => "-",
    }
}

fn line(step: &StepReport) -> String {
    let took = match step.outcome {
        Some(_) => render::seconds(step.seconds),
        None => String::new(),
    };
    let error = step.error.iter().flat_map(|error| error.lines().next());
    let said: String = match step.summary.is_empty() {
        true => error.collect(),
        // A hook may say more than a line.
        false => step.summary.replace('\n', " "),
    };
    let line = format!(
        "{:<10} {:<7} {took:>9}  {said}",
        step.step,
        word(step.outcome)
    );
    line.trim_end().to_owned()
}
