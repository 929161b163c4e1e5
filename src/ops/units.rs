//! Quantities as people write them: `30s`, `1.5GB`, `20%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Not a quantity: what it is, and how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct NotAQuantity {
    text: String,
    what: &'static str,
}

/// The number that a text begins with, and the unit that follows it.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    Some((number.parse().ok()?, unit.trim().to_lowercase()))
}

/// A time to wait: a number with a unit, or of milliseconds, as `pg_dump` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub Duration);

impl FromStr for Wait {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MOST: f64 = 100.0 * 366.0 * 86_400.0;
        let wrong = || NotAQuantity {
            text: text.to_owned(),
            what: "a time such as 500ms, 30s, 15min, 2h or 7d",
        };
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let seconds = match unit.as_str() {
            "" | "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 7.0 * 86_400.0,
            _ => return Err(wrong()),
        };
        match number * seconds {
            seconds if seconds <= MOST => Ok(Self(Duration::from_secs_f64(seconds))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Wait {
    /// In the largest unit that it is a whole number of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit, of) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("min", 60_000),
            ("s", 1000),
        ] {
            if ms > 0 && ms.is_multiple_of(of) {
                return write!(f, "{}{unit}", ms / of);
            }
        }
        write!(f, "{ms}ms")
    }
}

/// A number of bytes, with a unit or without: 500kB, 50MB, 1.5GB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAQuantity {
            text: text.to_owned(),
            what: "a size such as 50MB",
        };
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let unit = match unit.as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(wrong()),
        };
        match number * unit {
            bytes if bytes >= 1.0 => Ok(Self(bytes as u64)),
            _ => Err(wrong()),
        }
    }
}

/// A part of a whole: 5%. One is all of it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAQuantity {
            text: text.to_owned(),
            what: "a percentage above 0, like 5%",
        };
        let number = text.trim();
        let number = number.strip_suffix('%').unwrap_or(number).trim();
        match number.parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent.is_finite() => Ok(Self(percent / 100.0)),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_or_are_milliseconds() {
        let wait = |text: &str| text.parse::<Wait>().map(|wait| wait.0);
        assert_eq!(wait("500"), Ok(Duration::from_millis(500)));
        assert_eq!(wait("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(wait("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(wait("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(wait("1.5 h"), Ok(Duration::from_secs(5400)));
        for wrong in ["soon", "3 parsecs", "", "-1s", "99999999999d"] {
            assert!(wait(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Wait(Duration::from_secs(5400)).to_string(), "90min");
        assert_eq!(Wait(Duration::from_secs(86_400)).to_string(), "1d");
        assert_eq!(Wait(Duration::from_millis(1500)).to_string(), "1500ms");
    }

    #[test]
    fn sizes_have_units_or_are_bytes() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("500"), Ok(500));
        assert_eq!(size("1.5 GB"), Ok(1_500_000_000));
        assert_eq!(size("2MiB"), Ok(2 << 20));
        for wrong in ["", "fast", "5 parsecs", "0", "-1", "1.2.3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn percentages_are_above_zero() {
        assert_eq!("5%".parse(), Ok(Percent(0.05)));
        assert_eq!("150".parse(), Ok(Percent(1.5)));
        for wrong in ["", "0%", "-3%", "all", "NaN", "inf"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }
}
