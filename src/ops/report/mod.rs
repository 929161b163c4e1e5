//! The report: one page that stands alone, with how every profile is at a glance.

mod drawing;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

use super::run::span;
use super::state::{Health, Series, State};
use super::text;
use crate::repo::Outcome;

use drawing::{Day, Point};

/// The page.
const PAGE: &str = include_str!("page.html");
/// Nights that the trends show.
const NIGHTS: usize = 90;

/// What the page shows.
#[derive(Serialize)]
struct Page {
    created: String,
    host: String,
    version: &'static str,
    well: usize,
    warning: usize,
    bad: usize,
    profiles: Vec<Card>,
}

/// A profile.
#[derive(Default, Serialize)]
struct Card {
    name: String,
    health: &'static str,
    word: &'static str,
    why: Vec<String>,
    repository: String,
    facts: Vec<Fact>,
    calendar: String,
    trends: Vec<Trend>,
    databases: Vec<Row>,
    steps: Vec<StepRow>,
    timeline: String,
}

/// Something that is known, and what it means.
#[derive(Serialize)]
struct Fact {
    name: &'static str,
    value: String,
    more: String,
}

/// A drawing with a title.
#[derive(Serialize)]
struct Trend {
    title: &'static str,
    latest: String,
    svg: String,
}

/// A database.
#[derive(Serialize)]
struct Row {
    name: String,
    snapshots: usize,
    newest: String,
    rows: String,
    size: String,
    added: String,
    trend: String,
}

/// A step of the last run.
#[derive(Serialize)]
struct StepRow {
    step: &'static str,
    outcome: &'static str,
    took: String,
    summary: String,
}

/// A profile that could be looked at, or why it could not.
pub type Looked = (String, Result<State, String>);

/// The page, as HTML.
pub fn page(profiles: &[Looked], host: &str, zone: &TimeZone) -> Result<String, String> {
    let mut cards: Vec<Card> = profiles
        .iter()
        .map(|(name, state)| match state {
            Ok(state) => card(state, zone),
            Err(error) => Card {
                name: name.clone(),
                health: "bad",
                word: "not reachable",
                why: vec![error.clone()],
                ..Card::default()
            },
        })
        .collect();
    // What needs somebody comes first.
    cards.sort_by_key(|card| match card.health {
        "bad" => 0,
        "warning" => 1,
        _ => 2,
    });
    let count = |health: &str| cards.iter().filter(|card| card.health == health).count();
    let page = Page {
        created: time(crate::clock::now(), zone),
        host: host.to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        well: count("well"),
        warning: count("warning"),
        bad: count("bad"),
        profiles: cards,
    };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::Html);
    let said = environment.render_named_str("page.html", PAGE, Value::from(Serde(&page)));
    said.map_err(|error| format!("{error:#}"))
}

fn time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone())
        .strftime("%a %-d %b %Y, %H:%M")
        .to_string()
}

fn ago(state: &State, time: Timestamp) -> String {
    let ago = Duration::try_from(state.now.duration_since(time)).unwrap_or_default();
    format!("{} ago", span(ago))
}

fn word(outcome: Outcome) -> &'static str {
    outcome.word()
}

fn card(state: &State, zone: &TimeZone) -> Card {
    let (health, why) = state.health();
    let mut facts = Vec::new();
    let mut fact = |name, value: String, more: String| facts.push(Fact { name, value, more });
    if let Some(last) = state.past.last() {
        let took = text::seconds(last.record.seconds());
        let value = format!(
            "{}, {}",
            word(last.record.outcome),
            ago(state, last.record.started)
        );
        fact(
            "last run",
            value,
            format!("{}, took {took}", time(last.record.started, zone)),
        );
    }
    if let Some(success) = state.last_success() {
        fact("last good dump", ago(state, success), time(success, zone));
    }
    match state.verified() {
        Some((at, summary)) => {
            let found = if summary.equal { "equal" } else { "DIFFERENT" };
            fact(
                "last verified",
                format!("{found}, {}", ago(state, at)),
                time(at, zone),
            );
            let rto = summary.rto_seconds.map(|rto| {
                let word = if summary.in_time {
                    "within"
                } else {
                    "MORE THAN"
                };
                format!("{word} the {} it may take", text::seconds(rto))
            });
            let more = rto.unwrap_or_else(|| "no objective is set".to_owned());
            fact(
                "recovery takes",
                text::seconds(summary.restore_seconds),
                more,
            );
        }
        None => fact(
            "last verified",
            "never".to_owned(),
            "a dump that was never restored is a hope".to_owned(),
        ),
    }
    if let Some(at) = state.past.last_of(super::run::Step::Check) {
        fact("repository checked", ago(state, at), time(at, zone));
    }
    let snapshots = text::plural(state.snapshots, "snapshot", "snapshots");
    fact("repository", text::bytes(state.repository_bytes), snapshots);
    if let Some(ratio) = state.dedup_ratio() {
        let rows = text::bytes(state.payload_bytes);
        fact(
            "smaller than its rows",
            format!("{ratio:.1}x"),
            format!("{rows} of rows in all snapshots"),
        );
    }
    Card {
        name: state.profile.name.clone(),
        health: match health {
            Health::Well => "well",
            Health::Warning => "warning",
            Health::Bad => "bad",
        },
        word: match health {
            Health::Well => "well",
            Health::Warning => "look at it",
            Health::Bad => "bad",
        },
        why,
        repository: state.profile.repository.location.clone(),
        facts,
        calendar: drawing::calendar(&days(state, zone), state.now.to_zoned(zone.clone()).date()),
        trends: trends(state, zone),
        databases: state
            .series
            .iter()
            .filter_map(|series| row(series, zone))
            .collect(),
        steps: steps(state),
        timeline: drawing::timeline(
            &(state.series.iter())
                .map(|series| (series.label.as_str(), times(series)))
                .collect::<Vec<_>>(),
            state.now,
        ),
    }
}

fn times(series: &Series) -> Vec<Timestamp> {
    series
        .snapshots
        .iter()
        .map(|(_, snapshot)| snapshot.time)
        .collect()
}

/// How each day's last run ended.
fn days(state: &State, zone: &TimeZone) -> BTreeMap<jiff::civil::Date, Day> {
    let mut days = BTreeMap::new();
    for run in &state.past.0 {
        let date = run.record.started.to_zoned(zone.clone()).date();
        let outcome = run.record.outcome;
        let told = match &run.record.error {
            Some(error) => format!("{}: {}", word(outcome), text::first_line(error)),
            None => format!(
                "{} in {}",
                word(outcome),
                text::seconds(run.record.seconds())
            ),
        };
        days.insert(date, Day { outcome, told });
    }
    days
}

fn trends(state: &State, zone: &TimeZone) -> Vec<Trend> {
    let runs = &state.past.0;
    let runs = &runs[runs.len().saturating_sub(NIGHTS)..];
    let draw = |title, of: &dyn Fn(&super::run::PastRun) -> f64, say: &dyn Fn(f64) -> String| {
        let dumped = runs.iter().filter(|run| !run.details.databases.is_empty());
        let points: Vec<Point> = dumped
            .map(|run| {
                let value = of(run);
                let date = run
                    .record
                    .started
                    .to_zoned(zone.clone())
                    .strftime("%-d %b")
                    .to_string();
                Point {
                    value,
                    label: format!("{date}: {}", say(value)),
                }
            })
            .collect();
        Some(Trend {
            title,
            latest: say(points.last()?.value),
            svg: drawing::trend(&points),
        })
    };
    let bytes = |value: f64| text::bytes(value as u64);
    let sum = |of: fn(&super::run::Database) -> u64| {
        move |run: &super::run::PastRun| run.details.databases.iter().map(of).sum::<u64>() as f64
    };
    let all = [
        draw("size at the source", &sum(|one| one.source_bytes), &bytes),
        draw(
            "added to the repository",
            &sum(|one| one.added_bytes),
            &bytes,
        ),
        draw("duration", &|run| run.record.seconds(), &text::seconds),
    ];
    all.into_iter().flatten().collect()
}

fn row(series: &Series, zone: &TimeZone) -> Option<Row> {
    let (_, newest) = series.snapshots.last()?;
    let totals = &newest.totals;
    let points = series.snapshots.iter().map(|(_, snapshot)| Point {
        value: snapshot.totals.rows as f64,
        label: format!(
            "{}: {} rows",
            time(snapshot.time, zone),
            text::count(snapshot.totals.rows)
        ),
    });
    Some(Row {
        name: series.label.clone(),
        snapshots: series.snapshots.len(),
        newest: time(newest.time, zone),
        rows: text::count(totals.rows),
        size: text::bytes(totals.source_bytes),
        added: text::bytes(totals.added_bytes),
        trend: drawing::spark(&points.collect::<Vec<_>>()),
    })
}

fn steps(state: &State) -> Vec<StepRow> {
    let last = state.past.last();
    let steps = last.into_iter().flat_map(|run| &run.details.steps);
    let rows = steps.map(|step| StepRow {
        step: step.step.name(),
        outcome: step.outcome.map_or("skipped", word),
        took: match step.outcome {
            Some(_) => text::seconds(step.seconds),
            None => String::new(),
        },
        summary: match &step.error {
            Some(error) => error.clone(),
            None => step.summary.clone(),
        },
    });
    rows.collect()
}
