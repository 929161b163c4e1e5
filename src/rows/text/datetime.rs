//! Dates and times, in ISO 8601 as the server writes it, and intervals in PostgreSQL's own style.

use super::NotAValue;
use super::input::Input;
use super::number::{integer, padded};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// The Julian day of 2000-01-01, from which everything is counted.
const EPOCH: i64 = 2_451_545;

/// Days since 2000-01-01.
pub(super) fn date(days: i32, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    match days {
        i32::MIN => out.extend_from_slice(b"-infinity"),
        i32::MAX => out.extend_from_slice(b"infinity"),
        days => {
            let before_christ = year_month_day(i64::from(days), out)?;
            if before_christ {
                out.extend_from_slice(b" BC");
            }
        }
    }
    Ok(())
}

/// Writes the day; whether it is one before Christ, where the year 0 is called 1.
fn year_month_day(days: i64, out: &mut Vec<u8>) -> Result<bool, NotAValue> {
    // Days since 0000-03-01, in periods of 400 years.
    let days = days + EPOCH - 1_721_120;
    if days < -1_721_120 {
        return Err(NotAValue("a day before there were any"));
    }
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let shown = if year > 0 { year } else { 1 - year };
    padded(shown.unsigned_abs(), 4, out);
    out.push(b'-');
    padded(month.unsigned_abs(), 2, out);
    out.push(b'-');
    padded(day.unsigned_abs(), 2, out);
    Ok(year <= 0)
}

/// Microseconds since midnight.
pub(super) fn time(micros: i64, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    if !(0..=DAY).contains(&micros) {
        return Err(NotAValue("a time beyond its day"));
    }
    hours(micros.unsigned_abs(), out);
    Ok(())
}

/// Hours, minutes and seconds; of decimals as many as there are.
fn hours(micros: u64, out: &mut Vec<u8>) {
    let seconds = micros / SECOND as u64;
    padded(seconds / 3600, 2, out);
    out.push(b':');
    padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    padded(seconds % 60, 2, out);
    let fraction = micros % SECOND as u64;
    if fraction > 0 {
        out.push(b'.');
        padded(fraction, 6, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Seconds west of Greenwich.
pub(super) fn zone(west: i32, out: &mut Vec<u8>) {
    out.push(if west <= 0 { b'+' } else { b'-' });
    let seconds = u64::from(west.unsigned_abs());
    padded(seconds / 3600, 2, out);
    if seconds % 3600 != 0 {
        out.push(b':');
        padded(seconds / 60 % 60, 2, out);
    }
    if seconds % 60 != 0 {
        out.push(b':');
        padded(seconds % 60, 2, out);
    }
}

/// Microseconds since 2000-01-01, and what stands for the zone.
pub(super) fn timestamp(micros: i64, zone: &str, out: &mut Vec<u8>) -> Result<(), NotAValue> {
    match micros {
        i64::MIN => out.extend_from_slice(b"-infinity"),
        i64::MAX => out.extend_from_slice(b"infinity"),
        micros => {
            let before_christ = year_month_day(micros.div_euclid(DAY), out)?;
            out.push(b' ');
            hours(micros.rem_euclid(DAY).unsigned_abs(), out);
            out.extend_from_slice(zone.as_bytes());
            if before_christ {
                out.extend_from_slice(b" BC");
            }
        }
    }
    Ok(())
}

/// Microseconds, days and months.
pub(super) fn interval(
    input: &mut Input<'_>,
    infinite: bool,
    out: &mut Vec<u8>,
) -> Result<(), NotAValue> {
    let (micros, days, months) = (input.i64()?, input.i32()?, input.i32()?);
    match (micros, days, months) {
        (i64::MIN, i32::MIN, i32::MIN) if infinite => {
            out.extend_from_slice(b"-infinity");
            return Ok(());
        }
        (i64::MAX, i32::MAX, i32::MAX) if infinite => {
            out.extend_from_slice(b"infinity");
            return Ok(());
        }
        _ => {}
    }
    let start = out.len();
    // After a part with a minus a positive one gets a plus.
    let mut minus = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if minus && value > 0 {
            out.push(b'+');
        }
        integer(i64::from(value), out);
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        minus = value < 0;
    }
    if micros != 0 || out.len() == start {
        if out.len() > start {
            out.push(b' ');
        }
        if micros < 0 {
            out.push(b'-');
        } else if minus {
            out.push(b'+');
        }
        hours(micros.unsigned_abs(), out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: i32) -> String {
        let mut out = Vec::new();
        date(days, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_of_all_ages() {
        assert_eq!(day(0), "2000-01-01");
        assert_eq!(day(59), "2000-02-29");
        assert_eq!(day(-730_119), "0001-01-01");
        assert_eq!(day(-730_120), "0001-12-31 BC");
        assert_eq!(day(-2_451_545), "4714-11-24 BC");
        assert_eq!(day(2_921_940), "10000-01-01");
        assert_eq!(day(i32::MAX), "infinity");
        assert!(date(-2_451_546, &mut Vec::new()).is_err());
    }

    #[test]
    fn intervals_say_signs_where_they_change() {
        let printed = |micros: i64, days: i32, months: i32| {
            let mut value = micros.to_be_bytes().to_vec();
            value.extend(days.to_be_bytes());
            value.extend(months.to_be_bytes());
            let mut out = Vec::new();
            interval(&mut Input(&value), true, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(0, 0, 0), "00:00:00");
        assert_eq!(printed(0, -3, 14), "1 year 2 mons -3 days");
        assert_eq!(printed(4_500_000, -3, 0), "-3 days +00:00:04.5");
        assert_eq!(printed(-1, 1, 0), "1 day -00:00:00.000001");
        assert_eq!(printed(0, 1, -13), "-1 years -1 mons +1 day");
        assert_eq!(printed(i64::MAX, i32::MAX, i32::MAX), "infinity");
    }
}
