//! Lengths of time as people write them for keeping things: `7y5m3d12h`, `30 days`.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A length of time by the calendar: a month is as long as the month is, and a day that begins or ends summer time has
/// 23 or 25 hours.
#[derive(Debug, Clone, Copy)]
pub struct Duration(Span);

/// Not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a length of time; write it like 7y5m3d12h: y years, m months, w weeks, d days, h hours"
)]
pub struct NotADuration {
    text: String,
}

impl Duration {
    /// The time that long before `time`; the first of all times if there is none.
    pub fn before(&self, time: Timestamp, zone: &TimeZone) -> Timestamp {
        let then = time.to_zoned(zone.clone()).checked_sub(self.0);
        then.map_or(Timestamp::MIN, |then| then.timestamp())
    }

    /// The time that long after `time`; the last of all times if there is none.
    pub fn after(&self, time: Timestamp, zone: &TimeZone) -> Timestamp {
        let then = time.to_zoned(zone.clone()).checked_add(self.0);
        then.map_or(Timestamp::MAX, |then| then.timestamp())
    }
}

impl PartialEq for Duration {
    fn eq(&self, other: &Self) -> bool {
        self.0.fieldwise() == other.0.fieldwise()
    }
}

impl FromStr for Duration {
    type Err = NotADuration;

    /// Numbers with units, from large to small or not. `m` is a month, as in other programs that keep backups: minutes
    /// are nothing to keep backups by.
    fn from_str(text: &str) -> Result<Self, NotADuration> {
        parse(text).ok_or_else(|| NotADuration { text: text.into() })
    }
}

fn parse(text: &str) -> Option<Duration> {
    let mut span = Span::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let number: i64 = number.parse().ok()?;
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        span = match unit.to_ascii_lowercase().as_str() {
            "y" | "yr" | "yrs" | "year" | "years" => {
                span.try_years(number.checked_add(span.get_years().into())?)
            }
            "m" | "mo" | "mos" | "month" | "months" => {
                span.try_months(number.checked_add(span.get_months().into())?)
            }
            "w" | "wk" | "wks" | "week" | "weeks" => {
                span.try_weeks(number.checked_add(span.get_weeks().into())?)
            }
            "d" | "day" | "days" => span.try_days(number.checked_add(span.get_days().into())?),
            "h" | "hr" | "hrs" | "hour" | "hours" => {
                span.try_hours(number.checked_add(span.get_hours().into())?)
            }
            _ => return None,
        }
        .ok()?;
        rest = after.trim_start_matches([' ', ',']);
    }
    (!span.is_zero()).then_some(Duration(span))
}

impl fmt::Display for Duration {
    /// As [`FromStr`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = &self.0;
        for (number, unit) in [
            (i64::from(span.get_years()), 'y'),
            (span.get_months().into(), 'm'),
            (span.get_weeks().into(), 'w'),
            (span.get_days().into(), 'd'),
            (span.get_hours().into(), 'h'),
        ] {
            if number != 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn duration(text: &str) -> Duration {
        text.parse().unwrap()
    }

    #[test]
    fn lengths_of_time_are_read() {
        for (text, shown) in [
            ("7y5m3d12h", "7y5m3d12h"),
            ("30d", "30d"),
            ("30 days", "30d"),
            ("1 year, 2 months", "1y2m"),
            ("2 weeks 36 hours", "2w36h"),
            ("1d1d", "2d"),
            (" 6MO ", "6m"),
        ] {
            assert_eq!(duration(text).to_string(), shown);
            assert_eq!(duration(shown), duration(text));
        }
        for text in [
            "",
            " ",
            "d",
            "3",
            "0d",
            "-3d",
            "3 lightyears",
            "5min",
            "1.5d",
            "99999999999999999999d",
            "99999y",
            "d3",
            "3d x",
            "3ⅷ",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn months_and_days_are_those_of_the_calendar() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let before = |text: &str, from: &str| {
            let from: Timestamp = from.parse().unwrap();
            duration(text).before(from, &berlin).to_string()
        };
        // A year before a leap day there is none.
        assert_eq!(before("1y", "2024-02-29T11:00:00Z"), "2023-02-28T11:00:00Z");
        assert_eq!(before("1m", "2024-03-31T11:00:00Z"), "2024-02-29T12:00:00Z");
        // Summer time began on March 31st: a day before noon is noon, 24 hours before it is 11.
        assert_eq!(before("1d", "2024-03-31T10:00:00Z"), "2024-03-30T11:00:00Z");
        assert_eq!(
            before("24h", "2024-03-31T10:00:00Z"),
            "2024-03-30T10:00:00Z"
        );
        // Beyond all calendars.
        assert_eq!(
            duration("19000y").before(Timestamp::UNIX_EPOCH, &berlin),
            Timestamp::MIN
        );
        assert_eq!(
            duration("19000y").after(Timestamp::UNIX_EPOCH, &berlin),
            Timestamp::MAX
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,20}", digits in "[0-9]{1,20}[ymwdh][0-9]{1,20}[ymwdh]") {
            for text in [text, digits] {
                if let Ok(duration) = text.parse::<Duration>() {
                    prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
                    let now = Timestamp::UNIX_EPOCH;
                    prop_assert!(duration.before(now, &TimeZone::UTC) < now);
                    prop_assert!(duration.after(now, &TimeZone::UTC) > now);
                }
            }
        }
    }
}
