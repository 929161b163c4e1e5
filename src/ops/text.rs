//! Numbers and messages for people: for messages, mails, reports and the terminal alike.

/// Bytes with a unit: `217 MB`. Powers of 1000, as disks and networks are sold.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else if value < 9.995 {
        format!("{value:.2} {}", UNITS[unit])
    } else if value < 99.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A count with thousands separated: `21,600,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The first line: of an error, what went wrong without what to do about it.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Seconds with a unit: `5.7 s`, `2 min 05 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 59.5 {
        format!("{seconds:.0} s")
    } else {
        let whole = seconds.round() as u64;
        if whole < 3600 {
            format!("{} min {:02} s", whole / 60, whole % 60)
        } else {
            format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
        }
    }
}

/// `1 row`, `2 rows`.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rendered_for_people() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(216_400_000), "216 MB");
        assert_eq!(bytes(1_940_000), "1.94 MB");
        assert_eq!(bytes(999_600), "1.00 MB");
        assert_eq!(count(21_600_000), "21,600,000");
        assert_eq!(count(12), "12");
        assert_eq!(seconds(5.72), "5.7 s");
        assert_eq!(seconds(125.0), "2 min 05 s");
        assert_eq!(seconds(3725.0), "1 h 02 min");
    }
}
