//! What of a verification is kept, and what is told of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text;
use crate::verify::snapshot::{Report, Verified};

/// What a verification found, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Where.
    pub server: String,
    /// Whether everything was as in the snapshot.
    pub equal: bool,
    /// Whether it was restored in the time that was set.
    pub in_time: bool,
    /// Seconds that all restores took.
    pub restore_seconds: f64,
    /// The time that was set.
    pub rto_seconds: Option<f64>,
    /// The databases.
    pub databases: Vec<Database>,
    /// What could not be compared, and why.
    #[serde(default)]
    pub not_compared: Vec<String>,
    /// Whether a part of the blocks was looked at instead of all rows.
    #[serde(default)]
    pub sampled: bool,
}

/// A database of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub database: String,
    /// Whether it was as in the snapshot.
    pub equal: bool,
    /// Rows that were compared.
    pub rows: u64,
    /// Seconds that its restore took.
    pub restore_seconds: f64,
    /// What was wrong, a line each, a few at most.
    pub wrong: Vec<String>,
}

/// Lines of what is wrong that are kept.
const KEPT: usize = 20;

impl From<&Report> for Summary {
    fn from(report: &Report) -> Self {
        Self {
            server: report.server.clone(),
            equal: report.equal,
            in_time: report.in_time,
            restore_seconds: report.restore_seconds,
            rto_seconds: report.rto_seconds,
            databases: report.databases.iter().map(Database::from).collect(),
            not_compared: (report.databases.iter())
                .flat_map(|one| {
                    let texts = one.differences.not_compared.iter();
                    texts.map(|text| format!("{}: {text}", one.database))
                })
                .collect(),
            sampled: report.databases.iter().any(|one| one.sampled.is_some()),
        }
    }
}

impl From<&Verified> for Database {
    fn from(one: &Verified) -> Self {
        let mut wrong: Vec<String> = one.failed.clone().into_iter().collect();
        let found = &one.differences;
        wrong.extend(found.schema.iter().map(|entry| {
            let schema = entry.schema.iter().filter(|schema| !schema.is_empty());
            let schema: String = schema.map(|schema| format!("{schema}.")).collect();
            format!("{:?}: {} {schema}{}", entry.change, entry.kind, entry.name)
        }));
        let tables = found.tables.iter().filter(|table| !table.equal);
        wrong.extend(tables.map(|table| {
            let rows = |held: &Option<crate::verify::compare::Held>| match held {
                Some(held) => held.rows.to_string(),
                None => "no table".to_owned(),
            };
            format!(
                "rows of {}: {} in the snapshot, {} restored",
                table.name,
                rows(&table.source),
                rows(&table.target)
            )
        }));
        wrong.extend(
            found
                .sequences
                .iter()
                .map(|s| format!("sequence {}", s.sequence)),
        );
        let answers = one.answers.iter().filter(|answer| !answer.right);
        wrong.extend(answers.map(|answer| {
            let got = answer.error.as_deref().or(answer.answer.as_deref());
            format!("{} is {}", answer.sql, got.unwrap_or("nothing"))
        }));
        let damaged = one.sampled.iter().flat_map(|sampled| &sampled.damaged);
        wrong.extend(damaged.cloned());
        // What a server says in detail may be rows.
        for text in &mut wrong {
            let lines = text.lines().filter(|line| {
                let line = line.trim_start();
                !line.starts_with("DETAIL:") && !line.starts_with("CONTEXT:")
            });
            *text = lines.collect::<Vec<_>>().join("\n");
        }
        let more = wrong.len().saturating_sub(KEPT);
        wrong.truncate(KEPT);
        if more > 0 {
            wrong.push(format!("and {more} more"));
        }
        Self {
            database: one.database.clone(),
            equal: one.equal,
            rows: one.rows,
            restore_seconds: one.restore_seconds,
            wrong,
        }
    }
}

impl Summary {
    /// Adds what the verification of another snapshot found.
    pub fn add(&mut self, other: Self) {
        self.equal &= other.equal;
        self.restore_seconds += other.restore_seconds;
        let rto = self.rto_seconds;
        self.in_time = rto.is_none_or(|rto| self.restore_seconds <= rto);
        self.databases.extend(other.databases);
        self.not_compared.extend(other.not_compared);
        self.sampled |= other.sampled;
    }

    /// In a line.
    pub fn line(&self) -> String {
        let rows: u64 = self.databases.iter().map(|one| one.rows).sum();
        let databases = self.databases.len();
        let wrong: Vec<&str> = (self.databases.iter())
            .filter(|one| !one.equal)
            .map(|one| one.database.as_str())
            .collect();
        let found = match wrong.is_empty() {
            true if self.not_compared.is_empty() => "all as in the snapshot".to_owned(),
            true => "no difference, but not all was compared".to_owned(),
            false => format!("NOT as in the snapshot: {}", wrong.join(", ")),
        };
        let seconds = Duration::from_secs_f64(self.restore_seconds.max(0.0));
        let late = if self.in_time {
            ""
        } else {
            ", MORE THAN it may take"
        };
        let of = if databases == 1 {
            "database"
        } else {
            "databases"
        };
        if self.sampled {
            return format!(
                "definitions of {databases} {of} restored on {}, a sample of the blocks read: {found}",
                self.server
            );
        }
        format!(
            "{databases} {of} restored on {} in {seconds:.1?}{late}, {} rows compared: {found}",
            self.server,
            text::count(rows)
        )
    }
}
