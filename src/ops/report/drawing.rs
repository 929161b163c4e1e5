//! Drawings in SVG. Colours are the page's, by classes, so that they fit the day and the night.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use crate::repo::Outcome;

/// Weeks that the calendar shows.
const WEEKS: i64 = 18;
/// The side of a day, and the distance of one to the next.
const DAY: (i64, i64) = (13, 16);

/// What was on a day.
pub struct Day {
    /// How its last run ended.
    pub outcome: Outcome,
    /// What is said of it.
    pub told: String,
}

/// A value of a trend.
pub struct Point {
    /// The value.
    pub value: f64,
    /// What is said of it.
    pub label: String,
}

/// Text in an attribute or between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The last weeks, a column each, from Monday to Sunday.
pub fn calendar(days: &BTreeMap<Date, Day>, today: Date) -> String {
    let (side, step) = DAY;
    let left = 30;
    let top = 16;
    let monday = i64::from(today.weekday().to_monday_zero_offset());
    let (width, height) = (left + WEEKS * step, top + 7 * step);
    let mut svg = format!(
        "<svg class=\"calendar\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"calendar of nights\">"
    );
    for (row, name) in [(0, "Mon"), (2, "Wed"), (4, "Fri"), (6, "Sun")] {
        let y = top + row * step + side - 3;
        let _ = write!(svg, "<text x=\"0\" y=\"{y}\">{name}</text>");
    }
    let mut month = 0;
    for week in 0..WEEKS {
        for weekday in 0..7 {
            let back = (WEEKS - 1 - week) * 7 + monday - weekday;
            let Ok(date) = today.checked_sub(back.days()) else {
                continue;
            };
            if back < 0 {
                continue;
            }
            let (x, y) = (left + week * step, top + weekday * step);
            if date.month() != month && weekday == 0 {
                month = date.month();
                let name = date.strftime("%b");
                let _ = write!(svg, "<text x=\"{x}\" y=\"10\">{name}</text>");
            }
            let (class, told) = match days.get(&date) {
                Some(day) => (day.outcome.word(), escaped(&day.told)),
                None => ("none", "no run".to_owned()),
            };
            let date = date.strftime("%a %-d %b %Y");
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" rx=\"3\"><title>{date}: {told}</title></rect>"
            );
        }
    }
    svg + "</svg>"
}

/// Bars, one for each value, from zero on.
pub fn trend(points: &[Point]) -> String {
    const WIDTH: f64 = 320.0;
    const HEIGHT: f64 = 72.0;
    let most = points
        .iter()
        .map(|point| point.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let step = (WIDTH / points.len().max(1) as f64).min(24.0);
    let width = (step * 0.75).max(1.0);
    let mut svg = format!(
        "<svg class=\"trend\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\">"
    );
    for (number, point) in points.iter().enumerate() {
        // What there is can be seen, be it ever so little.
        let height =
            (point.value / most * (HEIGHT - 2.0)).max(if point.value > 0.0 { 1.5 } else { 0.0 });
        let class = if number + 1 == points.len() {
            "bar last"
        } else {
            "bar"
        };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
            number as f64 * step,
            HEIGHT - height,
            escaped(&point.label)
        );
    }
    svg + "</svg>"
}

/// A line as high as a line of text.
pub fn spark(points: &[Point]) -> String {
    const WIDTH: f64 = 110.0;
    const HEIGHT: f64 = 22.0;
    let values = || points.iter().map(|point| point.value);
    let (least, most) = (
        values().fold(f64::MAX, f64::min),
        values().fold(0.0, f64::max),
    );
    let range = (most - least).max(most * 0.02).max(1.0);
    let step = WIDTH / (points.len().max(2) - 1) as f64;
    let mut line = String::new();
    let mut end = (0.0, HEIGHT / 2.0);
    for (number, value) in values().enumerate() {
        end = (
            number as f64 * step,
            HEIGHT - 3.0 - (value - least) / range * (HEIGHT - 6.0),
        );
        let _ = write!(line, "{:.1},{:.1} ", end.0, end.1);
    }
    format!(
        "<svg class=\"spark\" viewBox=\"-3 0 {} {HEIGHT}\" role=\"img\"><polyline points=\"{}\"/><circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/></svg>",
        WIDTH + 6.0,
        line.trim_end(),
        end.0,
        end.1
    )
}

/// What is kept: a row for each database, a mark for each snapshot. Time is drawn by its logarithm, as snapshots are kept:
/// many of the last days, few of the last years.
pub fn timeline(rows: &[(&str, Vec<Timestamp>)], now: Timestamp) -> String {
    const LEFT: f64 = 120.0;
    const WIDTH: f64 = 700.0;
    const ROW: f64 = 26.0;
    const DAY: f64 = 86_400.0;
    let age = |time: Timestamp| (now.duration_since(time).as_secs_f64() / DAY).max(0.0);
    let oldest = rows
        .iter()
        .flat_map(|(_, times)| times)
        .map(|time| age(*time))
        .fold(7.0, f64::max);
    let place = |days: f64| LEFT + WIDTH * (1.0 - (1.0 + days).ln() / (1.0 + oldest).ln());
    let height = ROW * rows.len() as f64 + 24.0;
    let total = LEFT + WIDTH + 20.0;
    let mut svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {total} {height}\" role=\"img\" aria-label=\"snapshots that are kept\">"
    );
    for (days, name) in [
        (0.0, "now"),
        (1.0, "1 d"),
        (7.0, "1 w"),
        (30.0, "1 m"),
        (91.0, "3 m"),
        (365.0, "1 y"),
        (1826.0, "5 y"),
    ] {
        if days > oldest {
            continue;
        }
        let x = place(days);
        let bottom = height - 16.0;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            height - 3.0
        );
    }
    for (number, (label, times)) in rows.iter().enumerate() {
        let y = ROW * number as f64 + ROW / 2.0;
        let shown: String = label.chars().take(16).collect();
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"0\" y=\"{:.1}\">{}</text>",
            y + 4.0,
            escaped(&shown)
        );
        for time in times {
            let title = time.strftime("%F %H:%M UTC");
            let _ = write!(
                svg,
                "<circle class=\"kept\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4.5\"><title>{}: {title}</title></circle>",
                place(age(*time)),
                escaped(label)
            );
        }
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_has_a_square_for_every_day_up_to_today() {
        let today = jiff::civil::date(2026, 11, 20);
        let day = Day {
            outcome: Outcome::Failed,
            told: "no <space>".into(),
        };
        let svg = calendar(
            &BTreeMap::from([(jiff::civil::date(2026, 11, 19), day)]),
            today,
        );
        // A Friday: five days of the last week.
        assert_eq!(svg.matches("<rect").count() as i64, (WEEKS - 1) * 7 + 5);
        assert_eq!(svg.matches("class=\"failed\"").count(), 1);
        assert!(svg.contains("Thu 19 Nov 2026: no &lt;space&gt;"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_drawn_without_complaint() {
        assert!(trend(&[]).ends_with("</svg>"));
        assert!(spark(&[]).ends_with("</svg>"));
        assert!(timeline(&[], Timestamp::UNIX_EPOCH).ends_with("</svg>"));
        assert!(
            !spark(&[Point {
                value: 0.0,
                label: String::new()
            }])
            .contains("NaN")
        );
    }

    #[test]
    fn the_newest_is_at_the_right() {
        let now = Timestamp::from_second(10_000_000).unwrap();
        let old = Timestamp::from_second(0).unwrap();
        let svg = timeline(&[("shop", vec![old, now])], now);
        assert!(
            svg.contains("cx=\"120.0\"") && svg.contains("cx=\"820.0\""),
            "{svg}"
        );
    }
}
