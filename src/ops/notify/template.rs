//! What is said: templates in the language of Jinja, with all that is known of an event.

use minijinja::{Environment, UndefinedBehavior, Value};

use crate::ops::text;

/// The subject of a mail, and the title of other messages.
pub const SUBJECT: &str = "\
{% if event == 'start' %}[pgtide] {{ profile }} on {{ host }} begins\
{% elif event == 'success' %}[pgtide] {{ profile }} on {{ host }}: done\
{% elif event == 'anomaly' %}[pgtide] {{ profile }} on {{ host }}: done, but {{ anomalies[0] | line }}\
{% elif outcome == 'partly' %}[pgtide] {{ profile }} on {{ host }}: PARTLY DONE - {{ error | line }}\
{% else %}[pgtide] {{ profile }} on {{ host }}: FAILED - {{ error | line }}{% endif %}";

/// The text of a message.
pub const BODY: &str = "\
{% if event == 'start' %}The run begins.\
{% elif outcome == 'done' %}The run is done.\
{% elif outcome == 'partly' %}The run is done, but not all of it.\
{% else %}The run FAILED.{% endif %}\
{% if error %}

{{ error }}{% endif %}\
{% if anomalies %}

Not as usual:
{% for anomaly in anomalies %}- {{ anomaly }}
{% endfor %}{% endif %}\
{% if steps %}
{% for step in steps %}
{{ '%-10s' | format(step.step) }} {{ '%-7s' | format(step.outcome or '-') }} {{ '%9s' | format(step.seconds | duration) }}  {{ step.summary or (step.error | line) }}{% endfor %}
{% endif %}\
{% if databases %}
{% for one in databases %}
{{ one.database }}: {% if one.error %}NOT DUMPED{% else %}{{ one.rows | count }} rows, {{ one.source_bytes | bytes }}, {{ one.added_bytes | bytes }} added{% endif %}{% endfor %}
{% endif %}
source      {{ source or '-' }}
repository  {{ repository }}
begun       {{ started }}{% if seconds is defined %}
took        {{ seconds | duration }}{% endif %}
";

/// The language's environment.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // What is not known of an event is nothing: a message with a gap is better than none.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("bytes", |number: u64| text::bytes(number));
    environment.add_filter("count", |number: u64| text::count(number));
    environment.add_filter("duration", |seconds: f64| text::seconds(seconds));
    environment.add_filter("line", |value: Value| {
        text::first_line(value.as_str().unwrap_or_default()).to_owned()
    });
    environment.add_filter("format", format);
    environment
}

/// `'%-10s' | format(text)`: as wide as that, to the left or to the right.
fn format(pattern: &str, value: Value) -> String {
    let text = value.to_string();
    let inner = pattern.trim_start_matches('%').trim_end_matches('s');
    let width: usize = inner.trim_start_matches('-').parse().unwrap_or(0);
    match inner.starts_with('-') {
        true => format!("{text:<width$}"),
        false => format!("{text:>width$}"),
    }
}

/// What a template says of an event.
pub fn render(template: &str, document: &serde_json::Value) -> Result<String, String> {
    let value = Value::from(minijinja::value::Serde(document));
    let said = environment().render_str(template, value);
    said.map_err(|error| format!("the template is wrong: {error:#}"))
}

/// Whether a template can be used at all.
pub fn check(template: &str) -> Result<(), String> {
    let environment = environment();
    let checked = environment.template_from_str(template).map(drop);
    checked.map_err(|error| format!("the template is wrong: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(event: &str) -> serde_json::Value {
        serde_json::json!({
            "event": event,
            "profile": "nightly",
            "host": "db1",
            "outcome": match event { "failure" => "failed", _ => "done" },
            "error": match event { "failure" => Some("dump: no\nhint: yes"), _ => None },
            "anomalies": match event { "anomaly" => vec!["shop: half"], _ => vec![] },
            "steps": [{"step": "dump", "outcome": "done", "seconds": 61.0, "summary": "1 database"},
                      {"step": "copy", "outcome": null, "seconds": 0.0, "summary": "nothing was dumped"}],
            "databases": [{"database": "shop", "rows": 1200, "source_bytes": 5_000_000, "added_bytes": 10}],
            "source": "db1:5432",
            "repository": "/srv/pgtide",
            "started": "2026-01-01T02:00:00Z",
            "seconds": 62.0,
        })
    }

    #[test]
    fn the_subject_says_how_it_ended() {
        let subject = |event| render(SUBJECT, &document(event)).unwrap();
        assert_eq!(subject("success"), "[pgtide] nightly on db1: done");
        assert_eq!(
            subject("failure"),
            "[pgtide] nightly on db1: FAILED - dump: no"
        );
        assert_eq!(
            subject("anomaly"),
            "[pgtide] nightly on db1: done, but shop: half"
        );
        assert_eq!(subject("start"), "[pgtide] nightly on db1 begins");
    }

    #[test]
    fn the_text_has_steps_and_databases() {
        let body = render(BODY, &document("failure")).unwrap();
        let lines: Vec<&str> = body.lines().collect();
        assert_eq!(lines[0], "The run FAILED.");
        assert!(body.contains("dump: no\nhint: yes"), "{body}");
        assert!(
            body.contains("dump       done    1 min 01 s  1 database"),
            "{body}"
        );
        assert!(
            body.contains("copy       -           0.0 s  nothing was dumped"),
            "{body}"
        );
        assert!(
            body.contains("shop: 1,200 rows, 5.00 MB, 10 B added"),
            "{body}"
        );
        let start = render(
            BODY,
            &serde_json::json!({"event": "start", "repository": "r"}),
        )
        .unwrap();
        assert!(start.starts_with("The run begins."), "{start}");
    }

    #[test]
    fn a_wrong_template_is_known_before() {
        assert!(check("{{ profile }}").is_ok());
        assert!(check("{{ profile").is_err());
        assert!(check("{% if %}").is_err());
    }
}
