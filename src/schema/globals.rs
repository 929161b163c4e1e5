//! What the databases of a cluster share, as `pg_dumpall --globals-only` writes it: its script taken apart into entries.

use crate::pg::archive::{Section, SqlText, TocEntry};

use super::tokens::{Token, Tokens};

/// Kind of the entry that makes a role.
pub const ROLE: &str = "ROLE";
/// Kind of the entry that gives a role its attributes and password.
pub const ROLE_ATTRIBUTES: &str = "ROLE ATTRIBUTES";
/// Kind of the entry that gives a role a setting.
pub const ROLE_SETTING: &str = "ROLE SETTING";
/// Kind of the entry that makes a role a member of another.
pub const ROLE_MEMBERSHIP: &str = "ROLE MEMBERSHIP";
/// Kind of the entry that makes a tablespace.
pub const TABLESPACE: &str = "TABLESPACE";
/// Kind of the entry that gives a tablespace its options.
pub const TABLESPACE_OPTIONS: &str = "TABLESPACE OPTIONS";
/// Kind of a statement that is none of these, kept as it is.
pub const STATEMENT: &str = "STATEMENT";

/// The script is not one of `pg_dumpall`'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "what pg_dumpall wrote of roles and tablespaces ends in the middle of a statement: {0:?}\nhint: look at what the command prints with --globals-only; a wrapper may have cut it off"
)]
pub struct GlobalsError(String);

/// The script's statements as entries, in its order, which is one in which they can be run. What is for psql alone is
/// left out.
pub fn parse(script: &[u8]) -> Result<Vec<TocEntry>, GlobalsError> {
    let mut entries: Vec<TocEntry> = Vec::new();
    let mut borrowed: Option<Vec<u8>> = None;
    for statement in split(script)? {
        let text = String::from_utf8_lossy(statement);
        let words: Vec<Token> = Tokens::of(&text).collect();
        // A privilege is granted in the name of who granted it: the three statements are one.
        if starts(&words, &["SET", "SESSION", "AUTHORIZATION"]) {
            borrowed = Some(statement.to_vec());
            continue;
        }
        if let Some(mut joined) = borrowed.take() {
            joined.push(b'\n');
            joined.extend_from_slice(statement);
            if starts(&words, &["RESET", "SESSION", "AUTHORIZATION"]) {
                let text = String::from_utf8_lossy(&joined).into_owned();
                let inner = Tokens::of(&text).skip_while(|t| *t != Token::Mark(';'));
                let inner: Vec<Token> = inner.skip(1).collect();
                push(&mut entries, joined, &inner);
            } else {
                borrowed = Some(joined);
            }
            continue;
        }
        if starts(&words, &["SET", "default_transaction_read_only"]) {
            continue;
        }
        push(&mut entries, statement.to_vec(), &words);
    }
    match borrowed {
        Some(unfinished) => Err(GlobalsError::at(&unfinished)),
        None => Ok(entries),
    }
}

impl GlobalsError {
    fn at(rest: &[u8]) -> Self {
        Self(String::from_utf8_lossy(rest).chars().take(60).collect())
    }
}

fn push(entries: &mut Vec<TocEntry>, defn: Vec<u8>, words: &[Token]) {
    let (desc, tag, owner) = classify(words);
    entries.push(TocEntry {
        // There are no more than an i32 counts: each is longer than a byte of a script that was read whole.
        dump_id: i32::try_from(entries.len() + 1).unwrap_or(i32::MAX),
        desc: desc.to_owned(),
        tag: tag.into(),
        owner: owner.into(),
        section: Section::PreData,
        defn: defn.into(),
        ..TocEntry::default()
    });
}

/// Kind, name and owner.
fn classify(words: &[Token]) -> (&'static str, String, String) {
    let plain = |desc, tag: &str| (desc, tag.to_owned(), String::new());
    if starts(words, &["SET", "client_encoding"]) {
        return plain("ENCODING", "ENCODING");
    }
    if starts(words, &["SET", "standard_conforming_strings"]) {
        return plain("STDSTRINGS", "STDSTRINGS");
    }
    let name = |at: usize| words.get(at).map(name_of).unwrap_or_default();
    if starts(words, &["CREATE", "ROLE"]) {
        return plain(ROLE, &name(2));
    }
    if starts(words, &["ALTER", "ROLE"]) {
        let with = words.get(3).is_some_and(|word| is(word, "WITH"));
        let desc = if with { ROLE_ATTRIBUTES } else { ROLE_SETTING };
        return plain(desc, &name(2));
    }
    if starts(words, &["CREATE", "TABLESPACE"]) {
        let owner = words.get(3).is_some_and(|word| is(word, "OWNER"));
        let owner = if owner { name(4) } else { String::new() };
        return (TABLESPACE, name(2), owner);
    }
    if starts(words, &["ALTER", "TABLESPACE"]) {
        return plain(TABLESPACE_OPTIONS, &name(2));
    }
    if starts(words, &["GRANT"]) && words.get(2).is_some_and(|word| is(word, "TO")) {
        return plain(ROLE_MEMBERSHIP, &format!("{} TO {}", name(1), name(3)));
    }
    let desc = match words {
        [word, ..] if is(word, "GRANT") || is(word, "REVOKE") => "ACL",
        [word, ..] if is(word, "COMMENT") => "COMMENT",
        [word, ..] if is(word, "SECURITY") => "SECURITY LABEL",
        _ => return plain(STATEMENT, ""),
    };
    // ... ON PARAMETER name, ... ON TABLESPACE name, ... ON ROLE name
    let on = words.iter().position(|word| is(word, "ON"));
    let object = on.and_then(|on| words.get(on + 1..));
    let Some([Token::Word(kind), rest @ ..]) = object else {
        return plain(STATEMENT, "");
    };
    // A parameter may have a prefix.
    let parts = rest.iter().take_while(|t| {
        matches!(t, Token::Word(_) | Token::Quoted(_) | Token::Mark('.'))
            && !["TO", "FROM", "IS"].iter().any(|word| is(t, word))
    });
    let name: String = parts.map(name_of).collect();
    plain(desc, &format!("{} {name}", kind.to_uppercase()))
}

fn name_of(token: &Token) -> String {
    match token {
        Token::Word(name) | Token::Quoted(name) => name.clone(),
        Token::Mark(mark) => mark.to_string(),
    }
}

fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word))
}

fn starts(words: &[Token], wanted: &[&str]) -> bool {
    words.len() >= wanted.len()
        && words
            .iter()
            .zip(wanted)
            .all(|(token, word)| is(token, word))
}

/// The statements of a script, each with its semicolon, without comments between them and psql's own commands.
///
/// Quotes inside of quotes are doubled there, and so are backslashes in strings with escapes, so that neither needs to
/// be looked at: `pg_dumpall` writes no others.
fn split(script: &[u8]) -> Result<Vec<&[u8]>, GlobalsError> {
    let mut statements = Vec::new();
    let mut rest = script.trim_ascii_start();
    while !rest.is_empty() {
        if rest.starts_with(b"--") || rest.starts_with(b"\\") {
            let end = rest.iter().position(|byte| *byte == b'\n');
            rest = &rest[end.unwrap_or(rest.len())..];
        } else {
            let end = unquoted(rest)
                .find(|(_, byte)| *byte == b';')
                .ok_or_else(|| GlobalsError::at(rest))?
                .0;
            statements.push(&rest[..=end]);
            rest = &rest[end + 1..];
        }
        rest = rest.trim_ascii_start();
    }
    Ok(statements)
}

/// The bytes outside of quotes, with their places.
pub(super) fn unquoted(text: &[u8]) -> impl Iterator<Item = (usize, u8)> + '_ {
    let mut quote = None;
    text.iter().copied().enumerate().filter(move |(_, byte)| {
        match (quote, *byte) {
            (Some(open), byte) if open == byte => quote = None,
            (None, b'\'' | b'"') => quote = Some(*byte),
            (None, _) => return true,
            (Some(_), _) => {}
        }
        false
    })
}

/// The statement of a role's attributes without its password, if it sets one.
pub fn without_password(statement: &SqlText) -> Option<SqlText> {
    const KEY: &[u8] = b" PASSWORD ";
    let text = statement.as_bytes();
    let outside: Vec<usize> = unquoted(text).map(|(at, _)| at).collect();
    let key = outside
        .windows(KEY.len())
        .find(|w| w[0] + KEY.len() - 1 == w[KEY.len() - 1] && text[w[0]..].starts_with(KEY))?[0];
    let mut literal = key + KEY.len();
    if text.get(literal) == Some(&b'E') {
        literal += 1;
    }
    // After the closing quote, the next byte outside of quotes.
    let end = *outside.iter().find(|at| **at >= literal)?;
    let mut kept = text[..key].to_vec();
    kept.extend_from_slice(&text[end..]);
    Some(kept.into())
}

/// Whether the entry makes a tablespace or belongs to one.
pub fn is_of_tablespace(entry: &TocEntry) -> bool {
    matches!(entry.desc.as_str(), TABLESPACE | TABLESPACE_OPTIONS)
        || (matches!(entry.desc.as_str(), "ACL" | "COMMENT" | "SECURITY LABEL")
            && entry.tag.as_bytes().starts_with(b"TABLESPACE "))
}

/// The directory of a tablespace, from the entry that makes it; empty for one inside the data directory.
pub fn location(entry: &TocEntry) -> Option<String> {
    let text = entry.defn.to_str()?;
    let (_, literal) = text.rsplit_once(" LOCATION ")?;
    let literal = literal.trim().strip_suffix(';')?.trim();
    let (escaped, literal) = match literal.strip_prefix('E') {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let body = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    let body = body.replace("''", "'");
    Some(if escaped {
        body.replace("\\\\", "\\")
    } else {
        body
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCRIPT: &str = r#"--
-- PostgreSQL database cluster dump
--

\restrict x;y'z

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles; it's all
--

CREATE ROLE "a;""b";
ALTER ROLE "a;""b" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;''y' VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE "a;""b" IS 'it''s; -- one
of two lines';

--
-- User Config "a;""b"
--

ALTER ROLE "a;""b" SET search_path TO '$user', E'back\\';
GRANT pg_monitor TO "a;""b" WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;

SET SESSION AUTHORIZATION "a;""b";
GRANT SET ON PARAMETER my.thing TO c;
RESET SESSION AUTHORIZATION;

CREATE TABLESPACE fast OWNER postgres LOCATION '/mnt/it''s';
ALTER TABLESPACE fast SET (seq_page_cost=2);
GRANT ALL ON TABLESPACE fast TO c;
SECURITY LABEL FOR "dummy" ON TABLESPACE fast IS 'secret';

\unrestrict x;y'z
"#;

    #[test]
    fn a_script_becomes_entries_in_its_order() {
        let script = SCRIPT.replace("\\\\", "\\");
        let entries = parse(script.as_bytes()).unwrap();
        let shown: Vec<String> = entries
            .iter()
            .map(|e| format!("{}|{}|{}", e.desc, e.tag.to_lossy(), e.owner.to_lossy()))
            .collect();
        assert_eq!(
            shown,
            [
                "ENCODING|ENCODING|",
                "STDSTRINGS|STDSTRINGS|",
                "ROLE|a;\"b|",
                "ROLE ATTRIBUTES|a;\"b|",
                "COMMENT|ROLE a;\"b|",
                "ROLE SETTING|a;\"b|",
                "ROLE MEMBERSHIP|pg_monitor TO a;\"b|",
                "ACL|PARAMETER my.thing|",
                "TABLESPACE|fast|postgres",
                "TABLESPACE OPTIONS|fast|",
                "ACL|TABLESPACE fast|",
                "SECURITY LABEL|TABLESPACE fast|",
            ]
        );
        assert_eq!(
            entries[4].defn,
            "COMMENT ON ROLE \"a;\"\"b\" IS 'it''s; -- one\nof two lines';"
        );
        assert!(
            entries[7]
                .defn
                .to_lossy()
                .ends_with("RESET SESSION AUTHORIZATION;")
        );
        assert_eq!(location(&entries[8]).as_deref(), Some("/mnt/it's"));
    }

    #[test]
    fn passwords_are_taken_out_and_nothing_else() {
        let statement = |text: &str| SqlText::from(text);
        assert_eq!(
            without_password(&statement(
                "ALTER ROLE \" PASSWORD 'x'\" WITH LOGIN PASSWORD 'a''b;' VALID UNTIL 'infinity';"
            )),
            Some(statement(
                "ALTER ROLE \" PASSWORD 'x'\" WITH LOGIN VALID UNTIL 'infinity';"
            ))
        );
        assert_eq!(
            without_password(&statement("ALTER ROLE a WITH LOGIN PASSWORD 'x';")),
            Some(statement("ALTER ROLE a WITH LOGIN;"))
        );
        assert_eq!(
            without_password(&statement("ALTER ROLE \" PASSWORD \" WITH LOGIN;")),
            None
        );
    }

    #[test]
    fn a_script_that_is_cut_off_is_an_error() {
        for script in [
            "CREATE ROLE a",
            "COMMENT ON ROLE a IS 'x;",
            "SET SESSION AUTHORIZATION a;\nGRANT SET ON PARAMETER b TO c;",
        ] {
            assert!(parse(script.as_bytes()).is_err(), "{script}");
        }
    }

    proptest! {
        /// Names and comments of any kind neither part a statement nor join two.
        #[test]
        fn every_statement_is_one_entry(texts in prop::collection::vec((".{1,12}", ".{0,20}"), 0..6)) {
            let mut script = String::new();
            let mut expected = Vec::new();
            for (name, comment) in &texts {
                let name = name.replace('"', "\"\"").replace('\0', "");
                let comment = comment.replace('\'', "''").replace('\0', "");
                for text in [
                    format!("CREATE ROLE \"{name}\";"),
                    format!("COMMENT ON ROLE \"{name}\" IS '{comment}';"),
                ] {
                    script.push_str("--\n-- it's \"\n--\n\n");
                    script.push_str(&text);
                    script.push('\n');
                    expected.push(text);
                }
            }
            let entries = parse(script.as_bytes()).unwrap();
            let found: Vec<String> = entries.iter().map(|e| e.defn.to_lossy().into_owned()).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_entries_or_an_error(script in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(entries) = parse(&script) {
                for entry in &entries {
                    let _ = without_password(&entry.defn);
                    let _ = location(entry);
                }
            }
        }
    }
}
