//! Part of the history: which chunks and hypertables a dump or a restore leaves out.

use std::collections::HashSet;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::pg::catalog::Name;

use super::model::{Dimension, Hypertable, Kind, Model};

/// Where part of the history begins or ends.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// So long before the snapshot.
    Before(Span),
    /// A moment.
    Moment(Timestamp),
    /// What a clock shows: the user's own, for columns with a time zone.
    Clock(DateTime),
    /// A number, for hypertables that count.
    Number(i64),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Bound, String> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Ok(Bound::Number(number));
        }
        if let Ok(moment) = text.parse() {
            return Ok(Bound::Moment(moment));
        }
        if let Ok(clock) = text.parse() {
            return Ok(Bound::Clock(clock));
        }
        match text.parse::<Span>() {
            Ok(span) => Ok(Bound::Before(span.abs())),
            Err(_) => Err(format!(
                "{text:?} is none of: how long ago ('30 days', '6 months'), a time ('2025-12-10 14:00'), a number"
            )),
        }
    }
}

impl Bound {
    /// The bound in the units of a dimension; nothing where it has none of its kind.
    fn of(self, dimension: &Dimension, snapshot: Timestamp) -> Result<Option<i64>, PartError> {
        let out_of_range = |error: jiff::Error| PartError::Range(error.to_string());
        Ok(match (self, dimension.is_integer()) {
            (Bound::Number(number), true) => Some(number),
            (Bound::Number(_), false) | (_, true) => None,
            (Bound::Moment(moment), false) => Some(moment.as_microsecond()),
            (Bound::Clock(clock), false) => {
                let zone = if dimension.has_zone() {
                    TimeZone::system()
                } else {
                    TimeZone::UTC
                };
                let moment = clock.to_zoned(zone).map_err(out_of_range)?;
                Some(moment.timestamp().as_microsecond())
            }
            (Bound::Before(span), false) => {
                let moment = snapshot.to_zoned(TimeZone::UTC).checked_sub(span);
                Some(moment.map_err(out_of_range)?.timestamp().as_microsecond())
            }
        })
    }
}

/// A bound for one hypertable, or for all.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The hypertable's name, with or without its schema.
    pub hypertable: Option<String>,
    /// The bound.
    pub bound: Bound,
}

impl FromStr for Limit {
    type Err = String;

    /// `BOUND`, or `HYPERTABLE=BOUND`.
    fn from_str(text: &str) -> Result<Limit, String> {
        let (hypertable, bound) = match text.rsplit_once('=') {
            Some((name, bound)) => (Some(name.trim().to_owned()), bound),
            None => (None, text),
        };
        Ok(Limit {
            hypertable,
            bound: bound.parse()?,
        })
    }
}

/// Part of the history.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Chunks that end at this or before are left out.
    pub since: Vec<Limit>,
    /// Chunks that begin at this or after are left out.
    pub until: Vec<Limit>,
}

/// What cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// No hypertable of that name.
    #[error("there is no hypertable {name:?}; there {}\nhint: name it as shown, with or without its schema", list(.known))]
    Unknown {
        /// As given.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// A bound of another kind than the hypertable's time.
    #[error("{hypertable}: its dimension {column} is {column_type}\nhint: {hint}")]
    Kind {
        /// The hypertable.
        hypertable: String,
        /// Its dimension.
        column: String,
        /// Its type.
        column_type: String,
        /// What to give instead.
        hint: &'static str,
    },
    /// A bound beyond the calendar.
    #[error("{0}\nhint: give a time within the years 1 to 9999")]
    Range(String),
}

fn list(names: &[String]) -> String {
    match names {
        [] => "are none".to_owned(),
        [one] => format!("is {one}"),
        _ => format!("are {}", names.join(", ")),
    }
}

/// What is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Relations: tables, chunks, what holds compressed rows, views of aggregates.
    pub relations: HashSet<Name>,
    /// For the user: what was chosen where that is not plain to see.
    pub notes: Vec<String>,
}

/// The hypertables of a name, with or without schema: several schemas may have one.
pub fn named(model: &Model, name: &str) -> Result<Vec<i64>, PartError> {
    let users = || {
        let all = model.hypertables.iter();
        all.filter(|(_, h)| h.kind != Kind::Compressed)
    };
    let found: Vec<i64> = users()
        .filter(|(_, h)| h.display_name() == name || h.known_as().1 == name)
        .map(|(&id, _)| id)
        .collect();
    if found.is_empty() {
        return Err(PartError::Unknown {
            name: name.to_owned(),
            known: users().map(|(_, h)| h.display_name()).collect(),
        });
    }
    Ok(found)
}

impl Part {
    /// Which bounds are given, as options, sorted, without the bounds themselves: those may move with the time.
    pub fn chosen(&self) -> Vec<String> {
        let of = |option: &str, limits: &[Limit]| -> Vec<String> {
            let names = limits.iter().map(|limit| limit.hypertable.as_deref());
            names
                .map(|name| name.map_or(option.to_owned(), |name| format!("{option} {name}")))
                .collect()
        };
        let mut chosen = of("--since", &self.since);
        chosen.extend(of("--until", &self.until));
        chosen.sort();
        chosen
    }

    /// Whether everything is wanted.
    pub fn is_whole(&self) -> bool {
        self.since.is_empty() && self.until.is_empty()
    }

    /// What is left out of the hypertables of a database as it was at `snapshot`: chunks beyond the bounds, and the
    /// hypertables and aggregates that are excluded by name, with all that is built on them.
    pub fn left_out(
        &self,
        model: &Model,
        snapshot: Timestamp,
        excluded: &dyn Fn(&Name) -> bool,
    ) -> Result<LeftOut, PartError> {
        let mut out = LeftOut::default();
        let limits = self.since.iter().chain(&self.until);
        for name in limits.filter_map(|limit| limit.hypertable.as_ref()) {
            named(model, name)?;
        }
        for (&id, hypertable) in &model.hypertables {
            if hypertable.kind == Kind::Compressed {
                continue;
            }
            if excluded(hypertable.known_as()) || excluded(&hypertable.table) {
                for id in std::iter::once(id).chain(model.aggregates_on(id)) {
                    out.relations.extend(model.relations_of(id));
                }
            }
            let mut bound =
                |limits: &[Limit]| self.bound(limits, hypertable, snapshot, &mut out.notes);
            let (since, until) = (bound(&self.since)?, bound(&self.until)?);
            for chunk in model.chunks_of(id) {
                let (start, end) = chunk.range.unwrap_or((i64::MIN, i64::MAX));
                let too_old = since.is_some_and(|since| end <= since);
                let too_new = until.is_some_and(|until| start >= until);
                if too_old || too_new || excluded(&chunk.table) {
                    out.relations.insert(chunk.table.clone());
                    out.relations.extend(chunk.compressed.clone());
                }
            }
        }
        Ok(out)
    }

    /// The bound for a hypertable: its own, else the one for all.
    fn bound(
        &self,
        limits: &[Limit],
        hypertable: &Hypertable,
        snapshot: Timestamp,
        notes: &mut Vec<String>,
    ) -> Result<Option<i64>, PartError> {
        let name = hypertable.display_name();
        let own = limits.iter().rev().find(|limit| {
            let wanted = limit.hypertable.as_deref();
            wanted == Some(&name) || wanted == Some(&hypertable.known_as().1)
        });
        let for_all = limits.iter().rev().find(|limit| limit.hypertable.is_none());
        let (Some(limit), Some(dimension)) = (own.or(for_all), &hypertable.dimension) else {
            return Ok(None);
        };
        let bound = limit.bound.of(dimension, snapshot)?;
        if bound.is_none() && own.is_some() {
            return Err(PartError::Kind {
                hypertable: name,
                column: dimension.column.clone(),
                column_type: dimension.column_type.clone(),
                hint: if dimension.is_integer() {
                    "give a number"
                } else {
                    "give a time, or how long ago"
                },
            });
        }
        if bound.is_none() {
            let note = format!(
                "{name}: all of its chunks are taken, as its dimension {} is {}; HYPERTABLE=BOUND gives it a bound of its own",
                dimension.column, dimension.column_type
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        Ok(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Chunk;
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn name(name: &str) -> Name {
        ("public".to_owned(), name.to_owned())
    }

    fn hypertable(table: &str, column_type: &str) -> Hypertable {
        Hypertable {
            table: name(table),
            kind: Kind::User,
            dimension: Some(Dimension {
                column: "t".to_owned(),
                column_type: column_type.to_owned(),
            }),
            raw: None,
            compressed: None,
        }
    }

    /// Ten days of metrics, ten numbers of counts, and an aggregate of metrics.
    fn model() -> Model {
        let mut model = Model::default();
        let zoned = "timestamp with time zone";
        model.hypertables.insert(1, hypertable("metrics", zoned));
        model.hypertables.insert(2, hypertable("counts", "bigint"));
        let kind = Kind::Aggregate {
            view: name("daily"),
            internal: vec![name("_partial_view_3")],
        };
        let aggregate = Hypertable {
            kind,
            raw: Some(1),
            ..hypertable("mat_3", zoned)
        };
        model.hypertables.insert(3, aggregate);
        for n in 0..10 {
            for (of, unit) in [(1, DAY), (2, 1), (3, DAY)] {
                model.chunks.push(Chunk {
                    id: of * 100 + n,
                    hypertable: of,
                    table: name(&format!("chunk_{of}_{n}")),
                    compressed: (n == 0).then(|| name(&format!("compressed_{of}"))),
                    range: Some((n * unit, (n + 1) * unit)),
                    tiered: false,
                });
            }
        }
        model
    }

    fn left_out(
        since: &[&str],
        until: &[&str],
        without: &[&str],
    ) -> Result<Vec<String>, PartError> {
        let limits = |list: &[&str]| list.iter().map(|l| l.parse().unwrap()).collect();
        let part = Part {
            since: limits(since),
            until: limits(until),
        };
        let snapshot = Timestamp::from_microsecond(10 * DAY).unwrap();
        let excluded = |name: &Name| without.contains(&name.1.as_str());
        let out = part.left_out(&model(), snapshot, &excluded)?;
        let mut names: Vec<String> = out.relations.into_iter().map(|(_, name)| name).collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn chunks_that_overlap_are_taken_and_no_others() {
        let names = left_out(&["metrics=8 days"], &["metrics=1970-01-09T00:00:00Z"], &[]).unwrap();
        let expected = [
            "chunk_1_0",
            "chunk_1_1",
            "chunk_1_8",
            "chunk_1_9",
            "compressed_1",
        ];
        assert_eq!(names, expected);
        let names = left_out(&["public.metrics=191 hours"], &[], &[]).unwrap();
        assert_eq!(names.len(), 3, "{names:?}");
        let names = left_out(&["counts=7"], &["counts=8"], &[]).unwrap();
        assert_eq!(names.len(), 10, "{names:?}");
        assert!(!names.contains(&"chunk_2_7".to_owned()));
    }

    #[test]
    fn a_bound_for_all_leaves_hypertables_of_another_kind_whole() {
        let names = left_out(&["1 day"], &[], &[]).unwrap();
        assert_eq!(names.len(), 20, "{names:?}");
        assert!(
            names.iter().all(|name| !name.starts_with("chunk_2")),
            "{names:?}"
        );
        let names = left_out(&["5"], &[], &[]).unwrap();
        assert_eq!(names.len(), 6, "{names:?}");
        // Its own bound counts more than the one for all.
        let names = left_out(&["1 day", "daily=100 days", "metrics=10 days"], &[], &[]).unwrap();
        assert_eq!(names, Vec::<String>::new());
    }

    #[test]
    fn a_hypertable_goes_with_its_chunks_and_aggregates() {
        let names = left_out(&[], &[], &["metrics"]).unwrap();
        assert_eq!(names.len(), 2 * 11 + 4, "{names:?}");
        assert!(names.contains(&"_partial_view_3".to_owned()));
        let names = left_out(&[], &[], &["daily"]).unwrap();
        assert_eq!(names.len(), 11 + 3, "{names:?}");
    }

    #[test]
    fn what_is_not_there_or_of_another_kind_is_an_error_with_a_hint() {
        let error = left_out(&["metric=1 day"], &[], &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("public.metrics, public.counts, public.daily"),
            "{error}"
        );
        let error = left_out(&["counts=1 day"], &[], &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("bigint") && error.contains("a number"),
            "{error}"
        );
        assert!("yesterday".parse::<Bound>().is_err());
        assert!("m=".parse::<Limit>().is_err());
    }

    #[test]
    fn a_clock_without_a_zone_is_taken_as_it_is_where_the_column_has_none() {
        let column = |column_type: &str| Dimension {
            column: "t".to_owned(),
            column_type: column_type.to_owned(),
        };
        let bound: Bound = "1970-01-02".parse().unwrap();
        let at = bound.of(&column("date"), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(at, Some(DAY));
        let six_months: Bound = "6 months".parse().unwrap();
        let july: Timestamp = "1970-07-01T00:00:00Z".parse().unwrap();
        assert_eq!(six_months.of(&column("date"), july).unwrap(), Some(0));
    }
}
