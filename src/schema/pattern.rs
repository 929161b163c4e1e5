//! Patterns of names, by psql's rules
//! (<https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS>).
//!
//! Letters are folded to lower case unless quoted; `*` stands for any characters and `?` for one; a dot parts schema and
//! name; the rest is a regular expression that must match the whole name. `$` means itself, and so does everything in
//! double quotes.

use std::collections::HashSet;

use regex::Regex;

use crate::pg::catalog::Name;

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// More dots than schema and name need.
    #[error(
        "{0:?} has too many dots\nhint: write SCHEMA.NAME, with dots of the names themselves in double quotes"
    )]
    Dots(String),
    /// Not a regular expression.
    #[error(
        "{pattern:?} is not a pattern: {reason}\nhint: put characters that should mean themselves in double quotes"
    )]
    Expression {
        /// As given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A dot in what has no schema.
    #[error("{0:?} has a dot\nhint: put dots that belong to the name in double quotes")]
    Qualified(String),
    /// A double quote that is not closed.
    #[error("{0:?} has a double quote that is not closed")]
    Quote(String),
}

/// A pattern of names, with or without a schema.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    schema: Option<Regex>,
    name: Regex,
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            let part = parts.last_mut().expect("there is always one");
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    part.push('"');
                }
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(String::new()),
                '*' if !quoted => part.push_str(".*"),
                '?' if !quoted => part.push('.'),
                '$' => part.push_str("\\$"),
                c if quoted => part.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                c => part.extend(c.to_lowercase()),
            }
        }
        if quoted {
            return Err(PatternError::Quote(text.to_owned()));
        }
        let expression = |part: &str| {
            Regex::new(&format!("^(?s:{part})$")).map_err(|error| PatternError::Expression {
                pattern: text.to_owned(),
                // The first lines show the expression, which is not what was given.
                reason: error
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .to_owned(),
            })
        };
        let (schema, name) = match &parts[..] {
            [name] => (None, expression(name)?),
            [schema, name] => (Some(expression(schema)?), expression(name)?),
            _ => return Err(PatternError::Dots(text.to_owned())),
        };
        Ok(Pattern {
            text: text.to_owned(),
            schema,
            name,
        })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether it matches a relation. A pattern without a schema matches only those that are `visible`: found by their
    /// bare names; all of them where nothing is said of it.
    pub fn matches(&self, relation: &Name, visible: Option<&HashSet<Name>>) -> bool {
        let in_schema = match &self.schema {
            Some(pattern) => pattern.is_match(&relation.0),
            None => visible.is_none_or(|visible| visible.contains(relation)),
        };
        in_schema && self.name.is_match(&relation.1)
    }

    /// Whether it matches a name that needs no schema, such as that of an extension.
    pub fn matches_name(&self, name: &str) -> bool {
        self.name.is_match(name)
    }

    /// Whether it leaves the schema to the search path.
    pub fn is_unqualified(&self) -> bool {
        self.schema.is_none()
    }
}

/// A pattern of names that have no schema: those of schemas, extensions, foreign servers.
pub fn plain(text: &str) -> Result<Pattern, PatternError> {
    let pattern: Pattern = text.parse()?;
    if pattern.is_unqualified() {
        Ok(pattern)
    } else {
        Err(PatternError::Qualified(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, schema: &str, name: &str) -> bool {
        let pattern: Pattern = pattern.parse().unwrap();
        let visible =
            |schema: &str| (schema == "public").then(|| (schema.to_owned(), name.to_owned()));
        let visible = visible(schema).into_iter().collect();
        pattern.matches(&(schema.to_owned(), name.to_owned()), Some(&visible))
    }

    #[test]
    fn names_are_matched_as_psql_matches_them() {
        for (pattern, schema, name) in [
            ("Orders", "public", "orders"),
            ("\"Orders\"", "public", "Orders"),
            ("app.*", "app", "anything at all"),
            ("app.log_????", "app", "log_2025"),
            ("*.(log|trace)", "x", "log"),
            ("\"a.b\".c", "a.b", "c"),
            ("\"a\"\"b\"", "public", "a\"b"),
            ("part_[0-9]+", "public", "part_17"),
            ("money$", "public", "money$"),
            ("\"(x)*\"", "public", "(x)*"),
            ("Größe", "public", "größe"),
        ] {
            assert!(matches(pattern, schema, name), "{pattern} {schema}.{name}");
        }
        for (pattern, schema, name) in [
            ("orders", "public", "orders_old"),
            ("orders", "other", "orders"),
            ("Orders", "public", "Orders"),
            ("app.*", "application", "t"),
            ("\"(x)*\"", "public", "xx"),
            ("a.b", "public", "a.b"),
        ] {
            assert!(!matches(pattern, schema, name), "{pattern} {schema}.{name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for (pattern, message) in [
            ("a.b.c", "too many dots"),
            ("*.log|*.trace", "too many dots"),
            ("a[", "not a pattern"),
            ("\"open", "not closed"),
        ] {
            let error = pattern.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_quoted_name_matches_itself(schema in "[^\0]{1,6}", name in "[^\0]{1,6}") {
            let pattern = crate::pg::catalog::qualified(&schema, &name);
            let pattern: Pattern = pattern.parse().unwrap();
            proptest::prop_assert!(pattern.matches(&(schema, name), Some(&HashSet::new())));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "(?s).*") {
            let _ = text.parse::<Pattern>();
        }
    }
}
