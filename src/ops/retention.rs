//! Which snapshots stay: a policy, and what follows from it. Pure: no repository, no clock.
//!
//! Periods are those of the calendar in the user's time zone. Of each period the newest snapshot stays. What a rule says
//! of "the last 30 days" is counted from the newest snapshot, not from today, so that nothing goes only because no dumps
//! came for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::duration::Duration;
use crate::repo::model::Snapshot;
use crate::repo::{Hex, Inventory, Protection, SnapshotId};

/// A snapshot may be this far ahead of our clock: clocks differ. What is further ahead is not trusted.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// How many to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// So many; zero is no rule.
    Limited(u32),
    /// All.
    Unlimited,
}

impl Default for Count {
    fn default() -> Self {
        Self::Limited(0)
    }
}

impl Count {
    fn exceeds(self, number: usize) -> bool {
        match self {
            Self::Limited(limit) => number < limit as usize,
            Self::Unlimited => true,
        }
    }
}

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            _ => text
                .parse()
                .map(Self::Limited)
                .map_err(|_| "give a number, or 'unlimited'"),
        }
    }
}

/// A stretch of the calendar of which one snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour. When summer time ends, two hours have the same name; they are two.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday on (ISO 8601).
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// All of them, in the order in which reasons are given.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Which one a time is in; equal for times of the same one.
    fn of(self, time: Timestamp, zone: &TimeZone) -> (i16, i8, i8, i8, i32) {
        let time = time.to_zoned(zone.clone());
        match self {
            Self::Hour => (
                time.year(),
                time.month(),
                time.day(),
                time.hour(),
                time.offset().seconds(),
            ),
            Self::Day => (time.year(), time.month(), time.day(), 0, 0),
            Self::Week => {
                let week = time.date().iso_week_date();
                (week.year(), week.week(), 0, 0, 0)
            }
            Self::Month => (time.year(), time.month(), 0, 0, 0),
            Self::Year => (time.year(), 0, 0, 0, 0),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }
}

/// What is to stay. A snapshot stays if any rule wants it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// The newest so many.
    pub last: Count,
    /// One of each of the newest so many periods that have snapshots.
    pub periods: BTreeMap<Period, Count>,
    /// All that are at most so much older than the newest.
    pub within: Option<Duration>,
    /// One of each period, of those that are at most so much older than the newest.
    pub periods_within: BTreeMap<Period, Duration>,
    /// All that have one of these tags.
    pub tags: Vec<String>,
}

impl Policy {
    /// Whether it has no rule at all.
    pub fn is_empty(&self) -> bool {
        let none = Count::default();
        self.last == none
            && self.periods.values().all(|count| *count == none)
            && self.within.is_none()
            && self.periods_within.is_empty()
            && self.tags.is_empty()
    }
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// It is the newest of its kind.
    Newest,
    /// It is one of the last.
    Last,
    /// It is the newest of its period.
    Period(Period),
    /// It is young enough.
    Within(Duration),
    /// It is the newest of its period, and young enough.
    PeriodWithin(Period, Duration),
    /// It has this tag.
    Tag(String),
    /// It is protected.
    Protected(Protection),
    /// Its time is in the future, so it is not known how old it is.
    Future,
    /// It belongs to this snapshot of a cluster.
    Member(SnapshotId),
    /// The dump of its cluster may not have ended.
    Unfinished,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Last => f.write_str("last"),
            Self::Period(period) => f.write_str(period.name()),
            Self::Within(duration) => write!(f, "within {duration}"),
            Self::PeriodWithin(period, duration) => {
                write!(f, "{} within {duration}", period.name())
            }
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Protected(protection) => write!(f, "protected {protection}"),
            Self::Future => f.write_str("in the future: check the clocks"),
            Self::Member(cluster) => write!(f, "of cluster {cluster:.12}"),
            Self::Unfinished => f.write_str("of a cluster's dump that has not ended"),
        }
    }
}

/// Snapshots that take each other's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// What the server is known by.
    pub server: String,
    /// The database, or `(cluster)`, or `(globals)`.
    pub label: String,
    /// What of it there is, if not all: whether it is hurt, what was chosen by name, sections, and rows of tables. A part
    /// never takes the place of the whole, nor of another part.
    pub part: String,
}

impl Group {
    fn of(snapshot: &Snapshot, hurt: bool) -> Self {
        let mut part = snapshot.chosen.clone();
        if hurt {
            part.insert(0, "hurt".to_owned());
        }
        part.extend(
            snapshot
                .sections
                .iter()
                .map(|name| format!("--section {name}")),
        );
        // Nor does a cluster that lacks a database take the place of one that has it.
        let missing = snapshot.cluster.iter().flat_map(|cluster| &cluster.missing);
        part.extend(missing.map(|name| format!("without {name}")));
        let conditions = snapshot.conditions.iter();
        part.extend(conditions.map(|c| format!("{}.{} where {}", c.schema, c.table, c.condition)));
        Self {
            server: snapshot.source.server(),
            label: snapshot.label().to_owned(),
            part: part.join(", "),
        }
    }
}

/// A snapshot as the policy sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// When it was finished; it decides where times are the same.
    pub finished: Timestamp,
    /// What it takes the place of.
    pub group: Group,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its protection, if that holds now.
    pub protection: Option<Protection>,
    /// The run of a cluster's dump it comes from.
    pub run: Option<Hex<16>>,
    /// The snapshots of a cluster's databases, if it is the cluster's.
    pub members: Option<Vec<SnapshotId>>,
}

impl Candidate {
    /// All snapshots of an inventory.
    pub fn of(inventory: &Inventory) -> Vec<Self> {
        // A cluster is hurt if one of its databases is.
        let hurt = |id: &SnapshotId, snapshot: &Snapshot| {
            let members = snapshot.databases().unwrap_or_default();
            let mut ids = members.iter().map(|member| &member.snapshot).chain([id]);
            ids.any(|id| inventory.hurt.contains(id))
        };
        let candidates = inventory.list.iter().map(|(id, snapshot)| Self {
            id: *id,
            time: snapshot.time,
            finished: snapshot.finished,
            group: Group::of(snapshot, hurt(id, snapshot)),
            tags: snapshot.tags.clone(),
            protection: inventory.protections.get(id).copied(),
            run: snapshot.cluster.as_ref().map(|cluster| cluster.run),
            members: snapshot
                .databases()
                .map(|members| members.iter().map(|m| m.snapshot).collect()),
        });
        candidates.collect()
    }

    fn order(&self) -> (Timestamp, Timestamp, SnapshotId) {
        (self.time, self.finished, self.id)
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The snapshot.
    pub id: SnapshotId,
    /// Why it stays; it goes if there is no reason.
    pub reasons: Vec<Reason>,
}

/// What becomes of the snapshots of a group, the oldest first, each cluster's followed by those of its databases.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPlan {
    /// What they are of.
    pub group: Group,
    /// The snapshots.
    pub verdicts: Vec<Verdict>,
}

/// What follows from the policy for all snapshots that `wanted` picks. A cluster's snapshot and those of its databases
/// stay or go together, and count as one: it is the cluster's that is picked. Neither the order of the candidates nor
/// anything but what is given matters.
pub fn plan(
    policy: &Policy,
    candidates: &[Candidate],
    wanted: impl Fn(&Candidate) -> bool,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<GroupPlan> {
    let by_id: BTreeMap<SnapshotId, &Candidate> = candidates.iter().map(|c| (c.id, c)).collect();
    let members: BTreeSet<SnapshotId> = (candidates.iter())
        .filter_map(|candidate| candidate.members.as_ref())
        .flatten()
        .copied()
        .collect();
    let unfinished = unfinished(candidates, &members);
    let mut groups: BTreeMap<&Group, Vec<&Candidate>> = BTreeMap::new();
    for candidate in by_id.values() {
        if !members.contains(&candidate.id) && wanted(candidate) {
            groups.entry(&candidate.group).or_default().push(candidate);
        }
    }
    let plans = groups.into_iter().map(|(group, mut heads)| {
        heads.sort_by_key(|candidate| candidate.order());
        let mut reasons = rules(policy, &heads, now, zone);
        let mut verdicts = Vec::with_capacity(heads.len());
        for (head, reasons) in heads.iter().zip(&mut reasons) {
            let below: Vec<&Candidate> = (head.members.iter().flatten())
                .filter_map(|id| by_id.get(id).copied())
                .collect();
            let all = || std::iter::once(*head).chain(below.iter().copied());
            // One that is protected keeps all of the cluster.
            if let Some(protection) = all().find_map(|c| c.protection) {
                reasons.push(Reason::Protected(protection));
            }
            if head.run.is_some_and(|run| unfinished.contains(&run)) && head.members.is_none() {
                reasons.push(Reason::Unfinished);
            }
            let goes = reasons.is_empty();
            verdicts.push(Verdict {
                id: head.id,
                reasons: std::mem::take(reasons),
            });
            verdicts.extend(below.iter().map(|member| Verdict {
                id: member.id,
                reasons: if goes {
                    Vec::new()
                } else {
                    vec![Reason::Member(head.id)]
                },
            }));
        }
        GroupPlan {
            group: group.clone(),
            verdicts,
        }
    });
    plans.collect()
}

/// Runs of dumps of clusters that have databases but no cluster yet: of each server the newest, if no cluster came after
/// it. It may be running now, and would name snapshots that are gone.
fn unfinished(candidates: &[Candidate], members: &BTreeSet<SnapshotId>) -> BTreeSet<Hex<16>> {
    let mut newest: BTreeMap<&str, (Timestamp, Option<Hex<16>>)> = BTreeMap::new();
    for candidate in candidates.iter().filter(|c| !members.contains(&c.id)) {
        let Some(run) = candidate.run else {
            continue;
        };
        let found = (candidate.time, candidate.members.is_none().then_some(run));
        let newest = newest.entry(&candidate.group.server).or_insert(found);
        if found > *newest {
            *newest = found;
        }
    }
    newest.into_values().filter_map(|(_, run)| run).collect()
}

/// The reasons of the policy for each snapshot of a group; they are in order of time.
fn rules(
    policy: &Policy,
    heads: &[&Candidate],
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Vec<Reason>> {
    let mut reasons = vec![Vec::new(); heads.len()];
    let latest = now.checked_add(TOLERANCE).unwrap_or(Timestamp::MAX);
    let mut past = Vec::new();
    for (at, head) in heads.iter().enumerate().rev() {
        if head.time > latest {
            reasons[at].push(Reason::Future);
        } else {
            past.push((at, *head));
        }
    }
    // From the newest on.
    let Some((at, newest)) = past.first() else {
        return reasons;
    };
    reasons[*at].push(Reason::Newest);
    for (number, (at, _)) in past.iter().enumerate() {
        if policy.last.exceeds(number) {
            reasons[*at].push(Reason::Last);
        }
    }
    for (period, count) in &policy.periods {
        let mut seen = BTreeSet::new();
        for (at, head) in &past {
            let period_of = period.of(head.time, zone);
            if !seen.contains(&period_of) && count.exceeds(seen.len()) {
                seen.insert(period_of);
                reasons[*at].push(Reason::Period(*period));
            }
        }
    }
    let young =
        |head: &Candidate, duration: &Duration| head.time >= duration.before(newest.time, zone);
    if let Some(duration) = &policy.within {
        for (at, _) in past.iter().filter(|(_, head)| young(head, duration)) {
            reasons[*at].push(Reason::Within(*duration));
        }
    }
    for (period, duration) in &policy.periods_within {
        let mut seen = BTreeSet::new();
        for (at, head) in past.iter().filter(|(_, head)| young(head, duration)) {
            if seen.insert(period.of(head.time, zone)) {
                reasons[*at].push(Reason::PeriodWithin(*period, *duration));
            }
        }
    }
    for (at, head) in &past {
        let tag = policy.tags.iter().find(|tag| head.tags.contains(tag));
        reasons[*at].extend(tag.cloned().map(Reason::Tag));
    }
    reasons
}
