//! `pgtide status`

use pgtide::ops::run::span;
use pgtide::ops::state::{Health, State};

use super::common::print_json;
use super::profile::{ConfigArg, profiles};
use super::{Exit, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Profiles [default: all]
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let config = args.config.load()?;
    let mut worst = Health::Well;
    let mut documents = Vec::new();
    for (number, profile) in profiles(&config, &args.profiles)?.iter().enumerate() {
        let state = State::of(profile);
        if number > 0 && !args.json {
            outln!("");
        }
        match state {
            Ok(state) => {
                let (health, why) = state.health();
                worst = worst.max(health);
                match args.json {
                    true => documents.push(document(&state, health, &why)),
                    false => show(&state, health, &why),
                }
            }
            Err(error) => {
                worst = Health::Bad;
                let error = error.to_string();
                match args.json {
                    true => documents.push(serde_json::json!({
                        "profile": profile.name, "health": Health::Bad, "why": [error],
                    })),
                    false => outln!(
                        "{:<8} {}\n  ! {}",
                        "BAD",
                        profile.name,
                        error.replace('\n', "\n    ")
                    ),
                }
            }
        }
    }
    if args.json {
        print_json(&serde_json::json!({"health": worst, "profiles": documents}))?;
    }
    Ok(match worst {
        Health::Well => Exit::Done,
        Health::Warning => Exit::Partly,
        Health::Bad => Exit::Failed,
    })
}

fn show(state: &State, health: Health, why: &[String]) {
    let word = match health {
        Health::Well => "well",
        Health::Warning => "WARNING",
        Health::Bad => "BAD",
    };
    outln!(
        "{word:<8} {} to {}",
        state.profile.name,
        state.profile.repository.location
    );
    for text in why {
        outln!("  ! {text}");
    }
    let ago = |time: jiff::Timestamp| {
        let ago = state.now.duration_since(time);
        match std::time::Duration::try_from(ago) {
            Ok(ago) => format!("{} ago ({})", span(ago), render::time(time)),
            Err(_) => render::time(time),
        }
    };
    if let Some(last) = state.past.last() {
        outln!(
            "  last run      {}: {}, {}",
            ago(last.record.started),
            last.record.outcome.word(),
            render::seconds(last.record.seconds())
        );
    }
    let success = state.last_success().filter(|success| {
        state
            .past
            .last()
            .is_none_or(|last| last.record.started != *success)
    });
    if let Some(success) = success {
        outln!("  last success  {}", ago(success));
    }
    if let Some((at, summary)) = state.verified() {
        let word = if summary.equal { "equal" } else { "DIFFERENT" };
        outln!(
            "  verified      {}: {word}, recovered in {}",
            ago(at),
            render::seconds(summary.restore_seconds)
        );
    }
    if let Some(at) = state.past.last_of(pgtide::ops::run::Step::Check) {
        outln!("  checked       {}", ago(at));
    }
    for series in &state.series {
        let Some((_, newest)) = series.snapshots.last() else {
            continue;
        };
        outln!(
            "  {:<13} {}, newest {}: {} rows, {}",
            series.label,
            render::plural(series.snapshots.len() as u64, "snapshot", "snapshots"),
            render::time(newest.time),
            render::count(newest.totals.rows),
            render::bytes(newest.totals.source_bytes)
        );
    }
    let ratio = state
        .dedup_ratio()
        .map_or("-".to_owned(), |ratio| format!("{ratio:.1}x"));
    outln!(
        "  repository    {} in {}, {ratio} smaller than its rows",
        render::bytes(state.repository_bytes),
        render::plural(state.snapshots, "snapshot", "snapshots"),
    );
}

fn document(state: &State, health: Health, why: &[String]) -> serde_json::Value {
    let series: Vec<_> = (state.series.iter())
        .map(|series| {
            serde_json::json!({
                "database": series.label,
                "snapshots": series.snapshots.len(),
                "oldest": series.oldest(),
                "newest": series.newest(),
            })
        })
        .collect();
    serde_json::json!({
        "profile": state.profile.name,
        "health": health,
        "why": why,
        "last_run": state.past.last().map(|run| serde_json::json!({
            "started": run.record.started,
            "finished": run.record.finished,
            "outcome": run.record.outcome,
            "exit": run.record.exit,
            "error": run.record.error,
        })),
        "last_success": state.last_success(),
        "verified": state.verified().map(|(at, summary)| serde_json::json!({"time": at, "summary": summary})),
        "databases": series,
        "repository_bytes": state.repository_bytes,
        "snapshots": state.snapshots,
        "dedup_ratio": state.dedup_ratio(),
    })
}
