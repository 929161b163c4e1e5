//! What is not as the last times, though nothing failed: a database that lost half of its rows, a night that did not come.

use std::time::Duration;

use jiff::Timestamp;

use crate::ops::config::{self, Profile};
use crate::ops::text;

use super::past::Past;
use super::report::Database;

/// Runs that a run is compared with: their median says what is usual.
const COMPARED: usize = 7;
/// Fewer of them say nothing.
const LEAST: usize = 2;
/// Below this a duration says nothing: it is noise.
const SHORT: f64 = 10.0;

/// What of the databases is not as the last times.
pub fn of_databases(databases: &[Database], past: &Past, limits: &config::Anomaly) -> Vec<String> {
    let mut found = vanished(databases, past);
    for now in databases.iter().filter(|one| one.snapshot.is_some()) {
        let before: Vec<&Database> = (past.0.iter().rev())
            .filter_map(|run| {
                let mut databases = run.details.databases.iter();
                databases.find(|one| one.database == now.database && one.snapshot.is_some())
            })
            .take(COMPARED)
            .collect();
        if before.len() < LEAST {
            continue;
        }
        let usual = |of: &dyn Fn(&Database) -> f64| median(before.iter().map(|one| of(one)));
        let name = &now.database;
        let rows = |number| format!("{} rows", text::count(number));
        let size = |number| format!("{} at the source", text::bytes(number));
        for (say, of, limit, less) in [
            (
                &rows as &dyn Fn(u64) -> String,
                (|one| one.rows) as fn(&Database) -> u64,
                limits.rows,
                "fewer",
            ),
            (&size, |one| one.source_bytes, limits.size, "less"),
        ] {
            let (now, usual) = (of(now) as f64, usual(&|one| of(one) as f64));
            if usual > 0.0 && (now - usual).abs() >= usual * limit {
                let more = if now > usual { "more" } else { less };
                found.push(format!(
                    "{name}: {}, {} {more} than the usual {}",
                    say(now as u64),
                    percent(now, usual),
                    say(usual as u64)
                ));
            }
        }
        let usual = usual(&|one| one.seconds);
        if now.seconds > SHORT && now.seconds > usual * (1.0 + limits.duration) {
            found.push(format!(
                "{name}: the dump took {:.0} s, {} longer than the usual {usual:.0} s",
                now.seconds,
                percent(now.seconds, usual)
            ));
        }
    }
    found
}

/// Databases that were dumped the last time, and are not among those that were to be dumped now.
fn vanished(databases: &[Database], past: &Past) -> Vec<String> {
    let Some(last) = past.last_success().filter(|_| !databases.is_empty()) else {
        return Vec::new();
    };
    let before = last.details.databases.iter();
    let gone = before.filter(|one| !databases.iter().any(|now| now.database == one.database));
    gone.map(|one| {
        let name = &one.database;
        format!("{name}: is not there any more; its snapshots are kept as the rules say, and no new one comes")
    })
    .collect()
}

/// What is missing at this time: a night, or a verification.
pub fn of_times(profile: &Profile, past: &Past, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(every) = profile.every
        && let Some(last) = past.last_success()
        && let Some(ago) = overdue(last.record.started, every, now)
    {
        found.push(format!(
            "a night is missing: the last dump of everything began {} ago, and the profile is to run every {}",
            span(ago),
            span(every)
        ));
    }
    if let Some(every) = profile.verify.as_ref().and_then(|verify| verify.every)
        && let Some((last, _)) = past.last_verified()
        && let Some(ago) = overdue(last, every, now)
    {
        found.push(format!(
            "the verification is overdue: the last one was {} ago, and is to be every {}",
            span(ago),
            span(every)
        ));
    }
    found
}

/// How long ago, if that is more than half as much again as it should be.
pub fn overdue(last: Timestamp, every: Duration, now: Timestamp) -> Option<Duration> {
    let ago = Duration::try_from(now.duration_since(last)).ok()?;
    (ago.as_secs_f64() > every.as_secs_f64() * 1.5).then_some(ago)
}

/// A time for people, as far as it matters.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let rounded = |unit: u64| (seconds + unit / 2) / unit;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", rounded(60)),
        7200..86_400 => format!("{} h", rounded(3600)),
        86_400 => "1 d".to_owned(),
        86_401..172_800 => format!("{} h", rounded(3600)),
        _ => format!("{} d", rounded(86_400)),
    }
}

fn percent(now: f64, usual: f64) -> String {
    match usual {
        0.0 => "all".to_owned(),
        usual => format!("{:.0} %", ((now - usual) / usual * 100.0).abs()),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::past::PastRun;
    use super::super::report::Details;
    use super::*;
    use crate::repo::{Hex, RunRecord};

    const LIMITS: config::Anomaly = config::Anomaly {
        size: 0.5,
        rows: 0.2,
        duration: 1.0,
    };

    fn database(rows: u64, source_bytes: u64, seconds: f64) -> Database {
        Database {
            database: "shop".into(),
            snapshot: Some(Hex([7; 32])),
            rows,
            source_bytes,
            added_bytes: 0,
            seconds,
            skipped: Vec::new(),
            error: None,
        }
    }

    fn past(nights: &[(u64, u64, f64)]) -> Past {
        let runs = nights.iter().map(|&(rows, bytes, seconds)| PastRun {
            record: RunRecord::begin("run"),
            details: Details {
                databases: vec![database(rows, bytes, seconds)],
                ..Details::default()
            },
        });
        Past(runs.collect())
    }

    #[test]
    fn what_is_far_from_the_usual_is_told() {
        let usual = past(&[
            (1000, 5000, 20.0),
            (1010, 5000, 22.0),
            (5, 5, 1.0),
            (1020, 5100, 20.0),
        ]);
        let told =
            |rows, bytes, seconds| of_databases(&[database(rows, bytes, seconds)], &usual, &LIMITS);
        // One odd night does not make the usual.
        assert!(told(1100, 5200, 21.0).is_empty());
        let found = told(500, 5000, 20.0);
        assert_eq!(
            found,
            ["shop: 500 rows, 50 % fewer than the usual 1,010 rows"]
        );
        assert!(told(1010, 50_000, 20.0)[0].contains("50.0 kB at the source, 900 % more"));
        assert!(told(1010, 5000, 60.0)[0].contains("the dump took 60 s"));
        // The first nights have nothing to be compared with.
        let first = of_databases(
            &[database(1, 1, 1.0)],
            &past(&[(1000, 5000, 20.0)]),
            &LIMITS,
        );
        assert!(first.is_empty());
    }

    #[test]
    fn what_is_overdue_is_told_after_half_as_much_again() {
        let day = Duration::from_secs(86_400);
        let at = |hours: i64| Timestamp::from_second(hours * 3600).unwrap();
        assert_eq!(overdue(at(0), day, at(35)), None);
        assert_eq!(
            overdue(at(0), day, at(37)),
            Some(Duration::from_secs(37 * 3600))
        );
        // A clock that was set back says nothing here.
        assert_eq!(overdue(at(100), day, at(0)), None);
        assert_eq!(span(Duration::from_secs(37 * 3600)), "37 h");
    }
}
