//! Files of `--filter`, as `pg_dump` and `pg_restore` read them
//! (<https://www.postgresql.org/docs/current/app-pgdump.html>, option `--filter`).
//!
//! A line is `include` or `exclude`, a kind of object, and a pattern; `#` begins a comment. What stands in double quotes
//! means itself, line breaks included.

/// A line that asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Whether it is to be included, else excluded.
    pub include: bool,
    /// What kind of object.
    pub kind: String,
    /// The pattern or name, with as many blanks as the server prints.
    pub pattern: String,
    /// The line it begins on, counted from 1.
    pub line: usize,
}

/// Why a filter file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} of the filter file: {reason}\nhint: a line is 'include' or 'exclude', a kind of object and a pattern, e.g. exclude table_data log_*"
)]
pub struct FilterError {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Parses a filter file.
pub fn parse(text: &str) -> Result<Vec<Item>, FilterError> {
    let mut items = Vec::new();
    let mut number = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let line = number + 1;
        let (content, after) = logical_line(rest).ok_or_else(|| FilterError {
            line,
            reason: "a double quote is not closed".to_owned(),
        })?;
        number += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
        let content = content.trim();
        if content.is_empty() {
            continue;
        }
        let error = |reason: String| FilterError { line, reason };
        let (command, content) = word(content);
        let include = match command {
            "include" => true,
            "exclude" => false,
            other => {
                return Err(error(format!("{other:?} is neither include nor exclude")));
            }
        };
        let (kind, pattern) = word(content);
        if kind.is_empty() {
            return Err(error("the kind of object is missing".to_owned()));
        }
        if pattern.is_empty() {
            return Err(error(format!("the pattern is missing after {kind}")));
        }
        items.push(Item {
            include,
            kind: kind.to_owned(),
            pattern: normalised(pattern),
            line,
        });
    }
    Ok(items)
}

/// The error of a line that asks for what there is not.
pub fn not_supported(item: &Item) -> FilterError {
    let command = if item.include { "include" } else { "exclude" };
    FilterError {
        line: item.line,
        reason: format!("{command} {} is not supported", item.kind),
    }
}

/// The text up to a line's end or its comment, and what comes after the line. Nothing for quotes that are not closed.
fn logical_line(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut end = None;
    for (at, c) in text.char_indices() {
        match c {
            '"' if end.is_none() => quoted = !quoted,
            '#' if !quoted => end = end.or(Some(at)),
            '\n' if !quoted => return Some((&text[..end.unwrap_or(at)], &text[at + 1..])),
            _ => {}
        }
    }
    (!quoted).then_some((&text[..end.unwrap_or(text.len())], ""))
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Takes out blanks that the server does not print: around dots and parentheses, before commas, more than one.
fn normalised(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut quoted = false;
    let mut blank = false;
    for c in pattern.chars() {
        if quoted || !c.is_whitespace() {
            let joins = |c: char| matches!(c, '.' | '(' | ')' | ',');
            if blank && !joins(c) && !out.ends_with(['.', '(', ' ']) {
                out.push(' ');
            }
            blank = false;
            if c == '"' {
                quoted = !quoted;
            }
            out.push(c);
            // A list of arguments has a blank after each comma.
            if c == ',' && !quoted {
                out.push(' ');
            }
        } else {
            blank = true;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Vec<(bool, String, String)> {
        let items = parse(text).unwrap().into_iter();
        items.map(|i| (i.include, i.kind, i.pattern)).collect()
    }

    #[test]
    fn lines_are_read_as_pg_dump_reads_them() {
        let text = "# a comment\n\n  include table public . orders # why\nexclude table_data \"odd # \"\" name\nof two lines\"\ninclude function f ( int4 ,text )";
        assert_eq!(
            items(text),
            [
                (true, "table".to_owned(), "public.orders".to_owned()),
                (
                    false,
                    "table_data".to_owned(),
                    "\"odd # \"\" name\nof two lines\"".to_owned()
                ),
                (true, "function".to_owned(), "f(int4, text)".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, reason) in [
            ("\nkeep table x", 2, "neither include nor exclude"),
            ("include", 1, "kind"),
            ("include table # x", 1, "pattern"),
            (
                "include table \"a\n\nb\"\nexclude schema \"x",
                4,
                "not closed",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.reason.contains(reason), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(?s).*") {
            let _ = parse(&text);
        }

        #[test]
        fn a_quoted_name_comes_back_as_it_is(name in "[^\0]{1,10}") {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            let text = format!("include table {quoted} # comment\n");
            proptest::prop_assert_eq!(&items(&text)[0].2, &quoted);
        }
    }
}
