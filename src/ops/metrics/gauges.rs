//! The metrics: gauges all of them, as nothing of pgtide lives long enough to count.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::ops::config::Profile;
use crate::ops::run::Report;
use crate::ops::state::State;
use crate::repo::Outcome;

type Labels = Vec<(String, String)>;
type Metric = Family<Labels, Gauge<f64, AtomicU64>>;

/// Every metric: its name, and what it says.
const METRICS: &[(&str, &str)] = &[
    (
        "pgtide_last_run_timestamp_seconds",
        "When the last run ended",
    ),
    (
        "pgtide_last_run_success",
        "Whether the last run did everything (1), or not (0)",
    ),
    ("pgtide_last_run_exit_code", "The exit code of the last run"),
    (
        "pgtide_last_run_duration_seconds",
        "How long the last run took",
    ),
    (
        "pgtide_last_run_anomalies",
        "What was not as usual in the last run",
    ),
    (
        "pgtide_step_success",
        "Whether a step of the last run did everything (1), or not (0)",
    ),
    (
        "pgtide_step_duration_seconds",
        "How long a step of the last run took",
    ),
    (
        "pgtide_expected_interval_seconds",
        "How often the profile is to run",
    ),
    (
        "pgtide_last_success_timestamp_seconds",
        "When the last run began that dumped everything",
    ),
    (
        "pgtide_database_rows",
        "Rows of a database in its newest snapshot",
    ),
    (
        "pgtide_database_source_bytes",
        "Bytes of a database at the source, of its newest snapshot",
    ),
    (
        "pgtide_database_payload_bytes",
        "Bytes of a database's rows as the server sends them, of its newest snapshot",
    ),
    (
        "pgtide_database_added_bytes",
        "Bytes that a database's newest snapshot added to the repository",
    ),
    (
        "pgtide_database_dump_duration_seconds",
        "How long the dump of a database's newest snapshot took",
    ),
    (
        "pgtide_database_snapshots",
        "Snapshots of a database that are kept",
    ),
    (
        "pgtide_database_oldest_snapshot_timestamp_seconds",
        "When the oldest snapshot of a database was taken",
    ),
    (
        "pgtide_database_newest_snapshot_timestamp_seconds",
        "When the newest snapshot of a database was taken",
    ),
    (
        "pgtide_last_verify_timestamp_seconds",
        "When a snapshot was last restored to see whether it can be",
    ),
    (
        "pgtide_last_verify_success",
        "Whether that was as in the snapshot (1), or not (0)",
    ),
    (
        "pgtide_last_verify_recovery_seconds",
        "How long the restore took",
    ),
    (
        "pgtide_last_check_timestamp_seconds",
        "When the repository was last checked",
    ),
    ("pgtide_repository_bytes", "Bytes of the repository's packs"),
    ("pgtide_repository_snapshots", "Snapshots in the repository"),
    (
        "pgtide_repository_dedup_ratio",
        "Bytes of all snapshots' rows, divided by the bytes of the packs that hold them",
    ),
    (
        "pgtide_repository_reachable",
        "Whether the repository could be opened (1), or not (0)",
    ),
];

/// The metrics of some profiles.
pub struct Gauges {
    registry: Registry,
    families: Vec<Metric>,
    used: Vec<bool>,
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            registry: Registry::default(),
            families: METRICS.iter().map(|_| Metric::default()).collect(),
            used: vec![false; METRICS.len()],
        }
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn flag(outcome: Outcome) -> f64 {
    f64::from(u8::from(outcome == Outcome::Done))
}

impl Gauges {
    fn set(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let Some(number) = METRICS.iter().position(|(known, _)| *known == name) else {
            debug_assert!(false, "{name} is no metric");
            return;
        };
        let labels: Labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        self.families[number].get_or_create(&labels).set(value);
        self.used[number] = true;
    }

    /// What a run did that has just ended.
    pub fn run(&mut self, profile: &Profile, report: &Report) {
        let of = [("profile", profile.name.as_str())];
        self.set(
            "pgtide_last_run_timestamp_seconds",
            &of,
            seconds(report.finished),
        );
        self.set("pgtide_last_run_success", &of, flag(report.outcome));
        self.set("pgtide_last_run_exit_code", &of, f64::from(report.code));
        self.set("pgtide_last_run_duration_seconds", &of, report.seconds);
        self.set(
            "pgtide_last_run_anomalies",
            &of,
            report.details.anomalies.len() as f64,
        );
        self.steps(&profile.name, &report.details);
        if let Some(every) = profile.every {
            self.set("pgtide_expected_interval_seconds", &of, every.as_secs_f64());
        }
    }

    fn steps(&mut self, profile: &str, details: &crate::ops::run::Details) {
        for step in &details.steps {
            if let Some(outcome) = step.outcome {
                let of = [("profile", profile), ("step", step.step.name())];
                self.set("pgtide_step_success", &of, flag(outcome));
                self.set("pgtide_step_duration_seconds", &of, step.seconds);
            }
        }
    }

    /// What the repository knows of a profile.
    pub fn state(&mut self, state: &State) {
        let profile = &state.profile;
        let of = [("profile", profile.name.as_str())];
        self.reachable(profile, true);
        if let Some(last) = state.last_success() {
            self.set("pgtide_last_success_timestamp_seconds", &of, seconds(last));
        }
        for series in &state.series {
            let of = [
                ("profile", profile.name.as_str()),
                ("database", series.label.as_str()),
            ];
            self.set(
                "pgtide_database_snapshots",
                &of,
                series.snapshots.len() as f64,
            );
            let Some((_, newest)) = series.snapshots.last() else {
                continue;
            };
            let totals = &newest.totals;
            for (name, value) in [
                ("pgtide_database_rows", totals.rows as f64),
                ("pgtide_database_source_bytes", totals.source_bytes as f64),
                ("pgtide_database_payload_bytes", totals.payload_bytes as f64),
                ("pgtide_database_added_bytes", totals.added_bytes as f64),
                ("pgtide_database_dump_duration_seconds", totals.seconds),
                (
                    "pgtide_database_newest_snapshot_timestamp_seconds",
                    seconds(newest.time),
                ),
            ] {
                self.set(name, &of, value);
            }
            if let Some(oldest) = series.oldest() {
                self.set(
                    "pgtide_database_oldest_snapshot_timestamp_seconds",
                    &of,
                    seconds(oldest),
                );
            }
        }
        if let Some((at, summary)) = state.verified() {
            self.set("pgtide_last_verify_timestamp_seconds", &of, seconds(at));
            self.set(
                "pgtide_last_verify_success",
                &of,
                f64::from(u8::from(summary.equal)),
            );
            if !summary.sampled {
                self.set(
                    "pgtide_last_verify_recovery_seconds",
                    &of,
                    summary.restore_seconds,
                );
            }
        }
        if let Some(at) = state.past.last_of(crate::ops::run::Step::Check) {
            self.set("pgtide_last_check_timestamp_seconds", &of, seconds(at));
        }
        self.set(
            "pgtide_repository_bytes",
            &of,
            state.repository_bytes as f64,
        );
        self.set("pgtide_repository_snapshots", &of, state.snapshots as f64);
        if let Some(ratio) = state.dedup_ratio() {
            self.set("pgtide_repository_dedup_ratio", &of, ratio);
        }
    }

    /// What the record of the last run says, where it ended long ago.
    pub fn past(&mut self, state: &State) {
        let profile = &state.profile;
        let of = [("profile", profile.name.as_str())];
        if let Some(every) = profile.every {
            self.set("pgtide_expected_interval_seconds", &of, every.as_secs_f64());
        }
        let Some(last) = state.past.last() else {
            return;
        };
        let record = &last.record;
        self.set(
            "pgtide_last_run_timestamp_seconds",
            &of,
            seconds(record.finished),
        );
        self.set("pgtide_last_run_success", &of, flag(record.outcome));
        self.set("pgtide_last_run_exit_code", &of, f64::from(record.exit));
        self.set("pgtide_last_run_duration_seconds", &of, record.seconds());
        self.set(
            "pgtide_last_run_anomalies",
            &of,
            last.details.anomalies.len() as f64,
        );
        self.steps(&profile.name, &last.details);
    }

    /// Whether the repository of a profile could be opened.
    pub fn reachable(&mut self, profile: &Profile, reachable: bool) {
        let of = [("profile", profile.name.as_str())];
        self.set(
            "pgtide_repository_reachable",
            &of,
            f64::from(u8::from(reachable)),
        );
    }

    /// The metrics in Prometheus's text format, those that have values.
    pub fn text(mut self) -> String {
        for ((name, help), (family, used)) in
            METRICS.iter().zip(self.families.iter().zip(&self.used))
        {
            if *used {
                self.registry.register(*name, *help, family.clone());
            }
        }
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_value_is_written() {
        let mut gauges = Gauges::default();
        gauges.set("pgtide_last_run_success", &[("profile", "a \"b\"")], 1.0);
        let text = gauges.text();
        assert_eq!(
            text,
            "# HELP pgtide_last_run_success Whether the last run did everything (1), or not (0).\n# TYPE pgtide_last_run_success gauge\npgtide_last_run_success{profile=\"a \\\"b\\\"\"} 1.0\n# EOF\n"
        );
        assert_eq!(Gauges::default().text(), "# EOF\n");
    }
}
