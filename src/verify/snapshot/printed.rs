//! The same definition in other words. PostgreSQL does not always print what it was given: a list of `varchar` in a check
//! has its cast outside of the array at first, and inside when what was printed is read and printed again; so do signed
//! constants. And no dump keeps the order of columns of a child that got its columns before it was one.

use std::iter::Peekable;
use std::str::Chars;

/// Whether both define the same table, which inherits, but for the order of its columns.
pub fn is_reordered(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = (text.lines())
            .map(|line| line.trim_end_matches(',').to_owned())
            .collect();
        lines.sort_unstable();
        lines
    };
    a.contains("\nINHERITS (") && sorted(a) == sorted(b)
}

/// Whether both say the same but for casts, parentheses and spaces: where they stand is PostgreSQL's choice.
pub fn is_alike(a: &str, b: &str) -> bool {
    bare(a) == bare(b)
}

/// Whether the second is the first, a foreign key, that was not validated, as rows are missing that it refers to.
pub fn is_not_validated(a: &str, b: &str) -> bool {
    a.contains("FOREIGN KEY") && bare(a) == bare(&b.replace(" NOT VALID", ""))
}

/// The text without casts, parentheses and spaces; constants that are numbers without quotes.
fn bare(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let constant = quoted('\'', &mut chars);
                match constant.trim().parse::<f64>() {
                    Ok(_) => bare.push_str(constant.trim()),
                    Err(_) => {
                        bare.push('\'');
                        bare.push_str(&constant);
                        bare.push('\'');
                    }
                }
            }
            '"' => {
                bare.push('"');
                bare.push_str(&quoted('"', &mut chars));
                bare.push('"');
            }
            ':' if chars.peek() == Some(&':') => {
                chars.next();
                skip_type(&mut chars);
            }
            '(' | ')' => {}
            c if c.is_whitespace() => {}
            c => bare.push(c),
        }
    }
    bare
}

/// What stands up to the closing quote; a doubled one is part of it.
fn quoted(quote: char, chars: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if c == quote {
            if chars.peek() != Some(&quote) {
                break;
            }
            chars.next();
        }
        text.push(c);
    }
    text
}

/// Words that a type goes on with, after its first.
const MORE_WORDS: [&str; 6] = ["varying", "precision", "without", "with", "time", "zone"];

/// Passes over the name of a type, as `format_type` prints it: `character varying(10)[]`, `a."b"`, `timestamp(3) with time zone`.
fn skip_type(chars: &mut Peekable<Chars<'_>>) {
    let mut word = String::new();
    loop {
        match chars.peek() {
            Some('"') => {
                chars.next();
                quoted('"', chars);
            }
            Some(&c) if c.is_alphanumeric() || c == '_' || c == '.' => {
                word.push(c);
                chars.next();
            }
            _ => break,
        }
    }
    loop {
        // Behind the name: lengths, brackets, and the words that belong to it.
        let rest: String = chars.clone().collect();
        let passed = if rest.starts_with("[]") {
            2
        } else if let Some(inner) = rest.strip_prefix('(') {
            let digits = inner
                .find(|c: char| !c.is_ascii_digit() && c != ',')
                .unwrap_or(0);
            match digits > 0 && inner[digits..].starts_with(')') {
                true => digits + 2,
                false => return,
            }
        } else {
            let words = rest.trim_start();
            let found = MORE_WORDS.iter().find(|more| {
                rest.starts_with(' ')
                    && words.starts_with(**more)
                    && !words[more.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
            });
            match found {
                Some(more) => rest.len() - words.len() + more.len(),
                None => return,
            }
        };
        let _ = chars.by_ref().take(passed).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_may_stand_where_postgresql_puts_them() {
        for (a, b) in [
            (
                "CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
                "CHECK (((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
            ),
            ("DEFAULT (- 1)", "DEFAULT '-1'::integer"),
            ("x = (1)::numeric(10,2)", "x = 1"),
            (
                "t > '2026-01-01 00:00:00+00'::timestamp with time zone",
                "t > '2026-01-01 00:00:00+00'",
            ),
            ("x::public.\"Odd type\"[] = y", "x = y"),
        ] {
            assert!(is_alike(a, b), "{a} | {b}: {} | {}", bare(a), bare(b));
        }
        for (a, b) in [
            ("CHECK (s = 'a'::text)", "CHECK (s = 'b'::text)"),
            ("CREATE INDEX i ON t (a)", "CREATE INDEX i ON t (b)"),
            ("SELECT 'a b'", "SELECT 'ab'"),
            ("a \"B c\"", "a \"Bc\""),
            ("'it''s'", "'its'"),
            ("a::integer, b", "a::integer, c"),
            ("GRANT SELECT ON t TO a", "GRANT INSERT ON t TO a"),
        ] {
            assert!(!is_alike(a, b), "{a} | {b}: {}", bare(a));
        }
    }

    #[test]
    fn a_foreign_key_may_be_not_validated() {
        let key = "ALTER TABLE ONLY a\n    ADD CONSTRAINT k FOREIGN KEY (b) REFERENCES c(d);";
        assert!(is_not_validated(key, &key.replace(";", " NOT VALID;")));
        assert!(!is_not_validated(
            key,
            &key.replace("(d);", "(e) NOT VALID;")
        ));
    }

    #[test]
    fn only_children_may_have_their_columns_in_another_order() {
        let child = "CREATE TABLE c (\n    a integer,\n    b text\n)\nINHERITS (p);";
        let other = "CREATE TABLE c (\n    b text,\n    a integer\n)\nINHERITS (p);";
        assert!(is_reordered(child, other));
        assert!(!is_reordered(child, &other.replace("integer", "bigint")));
        let alone = |text: &str| text.replace("\nINHERITS (p)", "");
        assert!(!is_reordered(&alone(child), &alone(other)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_like_itself(text in ".{0,60}") {
            proptest::prop_assert!(is_alike(&text, &text));
        }
    }
}
