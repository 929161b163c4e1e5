//! What stays and what goes, for policies and calendars of all kinds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pgtide::ops::retention::{Candidate, Count, Group, Period, Policy, Reason, plan};
use pgtide::repo::{Hex, Protection, SnapshotId};
use proptest::prelude::*;

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Pacific/Apia",
    // Summer time ended a minute after midnight: the day before began once more.
    "America/St_Johns",
];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn id(number: usize) -> SnapshotId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Hex(bytes)
}

fn group(number: u8) -> Group {
    Group {
        server: "s".into(),
        label: format!("db{number}"),
        part: String::new(),
    }
}

fn candidate(number: usize, time: Timestamp) -> Candidate {
    Candidate {
        id: id(number),
        time,
        finished: time,
        group: group(0),
        tags: vec![],
        protection: None,
        run: None,
        members: None,
    }
}

/// Snapshots at these local times, the oldest first.
fn at(zone: &TimeZone, times: &[&str]) -> Vec<Candidate> {
    let times = times.iter().enumerate().map(|(number, time)| {
        let time: jiff::civil::DateTime = time.parse().unwrap();
        candidate(number, time.to_zoned(zone.clone()).unwrap().timestamp())
    });
    times.collect()
}

fn policy(rules: &[(Period, u32)]) -> Policy {
    Policy {
        periods: rules
            .iter()
            .map(|(period, n)| (*period, Count::Limited(*n)))
            .collect(),
        ..Policy::default()
    }
}

fn far() -> Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

fn reasons(
    policy: &Policy,
    candidates: &[Candidate],
    now: Timestamp,
    zone: &TimeZone,
) -> BTreeMap<SnapshotId, Vec<Reason>> {
    let plans = plan(policy, candidates, |_| true, now, zone);
    let verdicts = plans.into_iter().flat_map(|plan| plan.verdicts);
    let all: BTreeMap<SnapshotId, Vec<Reason>> = verdicts.map(|v| (v.id, v.reasons)).collect();
    assert_eq!(all.len(), candidates.len(), "each has one verdict");
    all
}

fn kept(
    policy: &Policy,
    candidates: &[Candidate],
    now: Timestamp,
    zone: &TimeZone,
) -> BTreeSet<SnapshotId> {
    let all = reasons(policy, candidates, now, zone).into_iter();
    all.filter(|(_, reasons)| !reasons.is_empty())
        .map(|(id, _)| id)
        .collect()
}

/// Numbers of those that stay.
fn stay(policy: &Policy, candidates: &[Candidate], zone: &TimeZone) -> Vec<usize> {
    let kept = kept(policy, candidates, far(), zone);
    (0..candidates.len())
        .filter(|n| kept.contains(&id(*n)))
        .collect()
}

#[test]
fn days_are_those_of_the_zone() {
    // 23:30 and 00:30 in Berlin are two days, in London one.
    let times = ["2024-06-01 23:30", "2024-06-02 00:30", "2024-06-02 22:30"];
    let berlin = zone("Europe/Berlin");
    let all = at(&berlin, &times);
    assert_eq!(stay(&policy(&[(Period::Day, 5)]), &all, &berlin), [0, 2]);
    assert_eq!(
        stay(
            &policy(&[(Period::Day, 5)]),
            &all,
            &zone("America/New_York")
        ),
        [1, 2]
    );
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    let berlin = zone("Europe/Berlin");
    // Summer time ended on 2024-10-27 at 01:00 UTC: 02:30 came at 00:30 and at 01:30.
    let times = [
        "2024-10-26T23:30:00Z",
        "2024-10-27T00:30:00Z",
        "2024-10-27T01:30:00Z",
        "2024-10-27T02:30:00Z",
    ];
    let all: Vec<Candidate> = times
        .iter()
        .enumerate()
        .map(|(n, time)| candidate(n, time.parse().unwrap()))
        .collect();
    assert_eq!(
        stay(&policy(&[(Period::Hour, 9)]), &all, &berlin),
        [0, 1, 2, 3]
    );
    assert_eq!(stay(&policy(&[(Period::Day, 9)]), &all, &berlin), [3]);
    // And there is no 02:30 when it begins: the hours on both sides are neighbours.
    let spring = at(
        &berlin,
        &["2024-03-31 01:10", "2024-03-31 01:50", "2024-03-31 03:10"],
    );
    assert_eq!(
        stay(&policy(&[(Period::Hour, 2)]), &spring, &berlin),
        [1, 2]
    );
}

#[test]
fn a_day_that_was_skipped_is_not_counted() {
    let apia = zone("Pacific/Apia");
    // Samoa went from December 29th to the 31st.
    let all = at(
        &apia,
        &["2011-12-28 12:00", "2011-12-29 12:00", "2011-12-31 12:00"],
    );
    assert_eq!(stay(&policy(&[(Period::Day, 2)]), &all, &apia), [1, 2]);
    let within = Policy {
        within: Some("1d".parse().unwrap()),
        ..Policy::default()
    };
    // The 30th never was: a day before the 31st is the 29th of the clock that ran then, or the 31st itself.
    assert!(stay(&within, &all, &apia).contains(&2));
}

#[test]
fn weeks_and_years_are_told_apart() {
    let utc = zone("UTC");
    // 2024-12-30 is a Monday, of the first week of 2025.
    let all = at(
        &utc,
        &[
            "2024-12-29 12:00",
            "2024-12-30 12:00",
            "2025-01-05 12:00",
            "2025-01-06 12:00",
        ],
    );
    assert_eq!(stay(&policy(&[(Period::Week, 9)]), &all, &utc), [0, 2, 3]);
    assert_eq!(stay(&policy(&[(Period::Year, 9)]), &all, &utc), [1, 3]);
    assert_eq!(
        stay(
            &policy(&[(Period::Month, 1), (Period::Year, 2)]),
            &all,
            &utc
        ),
        [1, 3]
    );
}

#[test]
fn leap_days_and_months_of_all_lengths() {
    let utc = zone("UTC");
    let all = at(
        &utc,
        &[
            "2023-02-28 11:59",
            "2023-02-28 12:00",
            "2024-02-28 12:00",
            "2024-02-29 12:00",
        ],
    );
    let within = |text: &str| Policy {
        within: Some(text.parse().unwrap()),
        ..Policy::default()
    };
    assert_eq!(stay(&within("1y"), &all, &utc), [1, 2, 3]);
    assert_eq!(stay(&within("1d"), &all, &utc), [2, 3]);
    let daily = Policy {
        periods_within: [(Period::Day, "1y".parse().unwrap())].into(),
        ..Policy::default()
    };
    assert_eq!(stay(&daily, &all, &utc), [1, 2, 3]);
    assert_eq!(stay(&policy(&[(Period::Day, 3)]), &all, &utc), [1, 2, 3]);
}

#[test]
fn what_lies_within_is_counted_from_the_newest_and_not_from_now() {
    let utc = zone("UTC");
    let all = at(
        &utc,
        &["2020-01-01 00:00", "2020-02-01 00:00", "2020-02-07 00:00"],
    );
    let policy = Policy {
        within: Some("7d".parse().unwrap()),
        ..Policy::default()
    };
    assert_eq!(stay(&policy, &all, &utc), [1, 2]);
}

#[test]
fn a_snapshot_from_the_future_stays_and_takes_nothings_place() {
    let utc = zone("UTC");
    let mut all = at(
        &utc,
        &["2024-01-01 00:00", "2024-01-02 00:00", "2024-01-03 00:00"],
    );
    let now = all[2].time;
    for n in 3..20 {
        all.push(candidate(n, now + SignedDuration::from_hours(n as i64)));
    }
    let reasons = reasons(
        &Policy {
            last: Count::Limited(2),
            ..Policy::default()
        },
        &all,
        now,
        &utc,
    );
    assert_eq!(reasons[&id(0)], []);
    assert_eq!(reasons[&id(1)], [Reason::Last]);
    assert_eq!(reasons[&id(2)], [Reason::Newest, Reason::Last]);
    for n in 3..20 {
        assert_eq!(reasons[&id(n)], [Reason::Future]);
    }
    // A clock that is a little ahead is none of that.
    let little = candidate(0, now + SignedDuration::from_mins(4));
    let found = self::reasons(&Policy::default(), &[little], now, &utc);
    assert_eq!(found[&id(0)], [Reason::Newest]);
}

/// A cluster's snapshot and those of its databases.
fn cluster(first: usize, time: Timestamp, finished: bool) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = (0..3).map(|n| candidate(first + n, time)).collect();
    for (n, candidate) in all.iter_mut().enumerate() {
        candidate.run = Some(Hex([first as u8; 16]));
        candidate.group = group(n as u8);
    }
    if finished {
        all[2].members = Some(vec![all[0].id, all[1].id]);
        all[2].group.label = "(cluster)".into();
    }
    all
}

#[test]
fn a_cluster_and_its_databases_stay_or_go_together() {
    let utc = zone("UTC");
    let day = |n: i64| Timestamp::from_second(86_400 * n).unwrap();
    let mut all: Vec<Candidate> = (0..4)
        .flat_map(|n| cluster(n * 3, day(n as i64), true))
        .collect();
    // Dumps of one of the databases alone, newer than all of them.
    all.push(candidate(12, day(9)));
    all[0].protection = Some(Protection::Forever);
    let found = reasons(
        &Policy {
            last: Count::Limited(1),
            ..Policy::default()
        },
        &all,
        far(),
        &utc,
    );
    let of = |n: usize| found[&id(n)].clone();
    assert_eq!(of(12), [Reason::Newest, Reason::Last]);
    assert_eq!(of(11), [Reason::Newest, Reason::Last]);
    assert_eq!(
        (of(9), of(10)),
        (vec![Reason::Member(id(11))], vec![Reason::Member(id(11))])
    );
    for n in 3..9 {
        assert_eq!(of(n), []);
    }
    // One protected database keeps the cluster whole.
    assert_eq!(of(2), [Reason::Protected(Protection::Forever)]);
    assert_eq!(
        (of(0), of(1)),
        (vec![Reason::Member(id(2))], vec![Reason::Member(id(2))])
    );
}

#[test]
fn databases_of_a_cluster_that_is_being_dumped_stay() {
    let utc = zone("UTC");
    let day = |n: i64| Timestamp::from_second(86_400 * n).unwrap();
    let last = Policy {
        last: Count::Limited(1),
        ..Policy::default()
    };
    let mut all = cluster(0, day(0), false);
    all.extend(cluster(3, day(1), false));
    // Newer dumps of the same databases.
    for n in 0..3 {
        all.push(Candidate {
            group: group(n),
            ..candidate(6 + usize::from(n), day(2))
        });
    }
    assert_eq!(stay(&last, &all, &utc), [3, 4, 5, 6, 7, 8]);
    // When a cluster came after it, the one that was interrupted is nothing special.
    all.extend(cluster(9, day(3), true));
    assert_eq!(stay(&last, &all, &utc), [6, 7, 8, 9, 10, 11]);
}

#[test]
fn only_what_is_picked_is_judged() {
    let utc = zone("UTC");
    let mut all = at(
        &utc,
        &["2024-01-01 00:00", "2024-01-02 00:00", "2024-01-03 00:00"],
    );
    all[0].tags = vec!["a".into()];
    all[1].tags = vec!["a".into(), "b".into()];
    let plans = plan(
        &Policy::default(),
        &all,
        |c| c.tags.contains(&"a".to_owned()),
        far(),
        &utc,
    );
    let verdicts: Vec<_> = plans.iter().flat_map(|plan| &plan.verdicts).collect();
    assert_eq!(
        verdicts.iter().map(|v| v.id).collect::<Vec<_>>(),
        [id(0), id(1)]
    );
    assert_eq!(verdicts[0].reasons, []);
    let tags = Policy {
        tags: vec!["b".into(), "a".into()],
        ..Policy::default()
    };
    assert_eq!(stay(&tags, &all, &utc), [0, 1, 2]);
}

#[test]
fn a_policy_of_zeros_is_empty() {
    assert!(policy(&[(Period::Day, 0)]).is_empty());
    assert!(!policy(&[(Period::Day, 1)]).is_empty());
    assert!(
        !Policy {
            last: Count::Unlimited,
            ..Policy::default()
        }
        .is_empty()
    );
}

/// Times around the moments at which these zones change their clocks, and others, many of them the same.
fn time() -> impl Strategy<Value = Timestamp> {
    let base = prop_oneof![
        Just("2024-03-31T01:00:00Z"),
        Just("2024-10-27T01:00:00Z"),
        Just("2024-03-10T07:00:00Z"),
        Just("2024-11-03T06:00:00Z"),
        Just("2011-12-30T10:00:00Z"),
        Just("2006-10-29T02:31:00Z"),
        Just("2024-02-29T12:00:00Z"),
        Just("2023-12-31T23:30:00Z"),
    ];
    let minutes = prop_oneof![-6i64..6, -1000i64..1000, -600_000i64..600_000];
    (base, minutes).prop_map(|(base, minutes)| {
        let base: Timestamp = base.parse().unwrap();
        base + SignedDuration::from_mins(minutes * 10)
    })
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (
        time(),
        0i64..3,
        0u8..2,
        prop::option::weighted(0.1, Just("t")),
    );
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let all = all
            .into_iter()
            .enumerate()
            .map(|(n, (time, later, of, tag))| Candidate {
                finished: time + SignedDuration::from_secs(later),
                group: group(of),
                tags: tag.into_iter().map(str::to_owned).collect(),
                ..candidate(n, time)
            });
        all.collect()
    })
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![(0u32..6).prop_map(Count::Limited), Just(Count::Unlimited)]
}

fn policies() -> impl Strategy<Value = Policy> {
    let period = || prop::sample::select(Period::ALL.to_vec());
    let duration = || {
        prop::sample::select(vec!["6h", "1d", "9d", "1m", "1y", "2y5m3d12h"])
            .prop_map(|text| text.parse().unwrap())
    };
    (
        prop_oneof![Just(Count::Limited(0)), count()],
        prop::collection::btree_map(period(), count(), 0..4),
        prop::option::weighted(0.3, duration()),
        prop::collection::btree_map(period(), duration(), 0..2),
        prop::collection::vec(Just("t".to_owned()), 0..2),
    )
        .prop_map(|(last, periods, within, periods_within, tags)| Policy {
            last,
            periods,
            within,
            periods_within,
            tags,
        })
}

fn newest(candidates: &[Candidate], now: Timestamp) -> BTreeSet<SnapshotId> {
    let mut newest: BTreeMap<&Group, &Candidate> = BTreeMap::new();
    for candidate in candidates.iter().filter(|c| c.time <= now) {
        let best = newest.entry(&candidate.group).or_insert(candidate);
        if (candidate.time, candidate.finished, candidate.id) > (best.time, best.finished, best.id)
        {
            *best = candidate;
        }
    }
    newest.into_values().map(|candidate| candidate.id).collect()
}

/// The name of a period, as a calendar on the wall has it.
fn name(period: Period, time: Timestamp, zone: &TimeZone) -> String {
    let format = match period {
        Period::Hour => "%Y-%m-%d %H %z",
        Period::Day => "%Y-%m-%d",
        Period::Week => "%G-%V",
        Period::Month => "%Y-%m",
        Period::Year => "%Y",
    };
    time.to_zoned(zone.clone()).strftime(format).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rules_say_the_same_of_what_they_left(policy in policies(), all in candidates(), zone in prop::sample::select(ZONES.to_vec())) {
        let zone = self::zone(zone);
        let stay = kept(&policy, &all, far(), &zone);
        let rest: Vec<Candidate> = all.into_iter().filter(|c| stay.contains(&c.id)).collect();
        prop_assert_eq!(kept(&policy, &rest, far(), &zone), stay);
    }

    #[test]
    fn the_newest_of_every_group_stays(policy in policies(), all in candidates(), zone in prop::sample::select(ZONES.to_vec())) {
        let kept = kept(&policy, &all, far(), &self::zone(zone));
        prop_assert!(newest(&all, far()).is_subset(&kept));
    }

    #[test]
    fn so_many_periods_stay_each_by_its_newest(
        all in candidates(), n in 1u32..6, period in prop::sample::select(Period::ALL.to_vec()), zone in prop::sample::select(ZONES.to_vec()),
    ) {
        let zone = self::zone(zone);
        let kept = kept(&policy(&[(period, n)]), &all, far(), &zone);
        for of in 0..2 {
            let mut of_group: Vec<&Candidate> = all.iter().filter(|c| c.group == group(of)).collect();
            of_group.sort_by_key(|c| (c.time, c.finished, c.id));
            let names: BTreeSet<String> = of_group.iter().map(|c| name(period, c.time, &zone)).collect();
            let stay: Vec<&&Candidate> = of_group.iter().filter(|c| kept.contains(&c.id)).collect();
            prop_assert_eq!(stay.len(), names.len().min(n as usize));
            for one in stay {
                let mut of_period = of_group.iter().filter(|c| name(period, c.time, &zone) == name(period, one.time, &zone));
                prop_assert_eq!(of_period.next_back().map(|c| c.id), Some(one.id));
            }
        }
    }

    #[test]
    fn the_last_are_the_last(all in candidates(), n in 1usize..6) {
        let policy = Policy { last: Count::Limited(n as u32), ..Policy::default() };
        let kept = kept(&policy, &all, far(), &zone("UTC"));
        for of in 0..2 {
            let mut of_group: Vec<&Candidate> = all.iter().filter(|c| c.group == group(of)).collect();
            of_group.sort_by_key(|c| std::cmp::Reverse((c.time, c.finished, c.id)));
            for (place, candidate) in of_group.iter().enumerate() {
                prop_assert_eq!(kept.contains(&candidate.id), place < n);
            }
        }
    }

    #[test]
    fn a_stricter_policy_keeps_no_less(
        policy in policies(), more in policies(), all in candidates(), zone in prop::sample::select(ZONES.to_vec()),
    ) {
        let zone = self::zone(zone);
        let mut both = policy.clone();
        both.last = both.last.max(more.last);
        for (period, count) in &more.periods {
            let entry = both.periods.entry(*period).or_default();
            *entry = (*entry).max(*count);
        }
        for (period, duration) in &more.periods_within {
            both.periods_within.entry(*period).or_insert(*duration);
        }
        both.within = both.within.or(more.within);
        both.tags.extend(more.tags.clone());
        prop_assert!(kept(&policy, &all, far(), &zone).is_subset(&kept(&both, &all, far(), &zone)));
    }

    #[test]
    fn the_order_in_which_they_are_listed_does_not_matter(
        policy in policies(), all in candidates().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let zone = zone("Europe/Berlin");
        prop_assert_eq!(reasons(&policy, &all.0, far(), &zone), reasons(&policy, &all.1, far(), &zone));
    }

    #[test]
    fn those_from_the_future_stay_and_change_nothing(
        policy in policies(), all in candidates(), now in time(), protected in 0usize..40,
    ) {
        let zone = zone("America/New_York");
        let mut all = all;
        if let Some(one) = all.get_mut(protected) {
            one.protection = Some(Protection::Forever);
        }
        let late = now + SignedDuration::from_mins(5);
        let with = kept(&policy, &all, now, &zone);
        let past: Vec<Candidate> = all.iter().filter(|c| c.time <= late).cloned().collect();
        let without = kept(&policy, &past, now, &zone);
        for candidate in &all {
            let expected = candidate.time > late || without.contains(&candidate.id);
            prop_assert_eq!(with.contains(&candidate.id), expected);
        }
        prop_assert!(all.get(protected).is_none_or(|one| with.contains(&one.id)));
        prop_assert!(newest(&all, late).is_subset(&with));
    }
}
