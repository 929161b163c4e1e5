//! What a foreign key's statement says: `pg_dump` keeps dependencies on what is in the same dump only.

use crate::pg::archive::TocEntry;
use crate::pg::catalog::Name;

/// The table that a foreign key belongs to, and the one that it refers to. Nothing for what is no foreign key as
/// `pg_dump` writes it: `ALTER TABLE ONLY a.b ADD CONSTRAINT c FOREIGN KEY (d) REFERENCES e.f(g) ...`.
pub fn tables(entry: &TocEntry) -> Option<(Name, Name)> {
    if entry.desc != "FK CONSTRAINT" {
        return None;
    }
    let text = entry.defn.to_str()?.trim_start();
    let rest = text.strip_prefix("ALTER TABLE ")?;
    let (own, _) = name(rest.strip_prefix("ONLY ").unwrap_or(rest))?;
    let at = outside_quotes(rest, " REFERENCES ")?;
    let (other, _) = name(&rest[at + " REFERENCES ".len()..])?;
    Some((own, other))
}

/// A qualified name at the start of the text, and what comes after it.
fn name(text: &str) -> Option<(Name, &str)> {
    let (schema, rest) = identifier(text)?;
    let (table, rest) = identifier(rest.strip_prefix('.')?)?;
    Some(((schema, table), rest))
}

fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let end = text.find(|c| !plain(c)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        // Two stand for one.
        if c == '"' && chars.next_if(|(_, next)| *next == '"').is_none() {
            return Some((value, &quoted[at + 1..]));
        }
        value.push(c);
    }
    None
}

/// Where the words stand outside double quotes for the first time.
fn outside_quotes(text: &str, words: &str) -> Option<usize> {
    let mut found = text.match_indices(words).map(|(at, _)| at);
    found.find(|at| text[..*at].matches('"').count().is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::catalog::{qualified, quote_ident};

    fn key(defn: String) -> TocEntry {
        TocEntry {
            desc: "FK CONSTRAINT".to_owned(),
            defn: defn.into(),
            ..TocEntry::default()
        }
    }

    fn pair(a: (&str, &str), b: (&str, &str)) -> Option<(Name, Name)> {
        let name = |(schema, table): (&str, &str)| (schema.to_owned(), table.to_owned());
        Some((name(a), name(b)))
    }

    #[test]
    fn both_tables_are_found() {
        let text = "ALTER TABLE ONLY app.child\n    ADD CONSTRAINT \"x REFERENCES y.z\" FOREIGN KEY (a, PERIOD v) REFERENCES \"Odd \"\"one\".\"t.u\"(id, PERIOD w) ON DELETE CASCADE;\n";
        assert_eq!(
            tables(&key(text.to_owned())),
            pair(("app", "child"), ("Odd \"one", "t.u"))
        );
        let text = "ALTER TABLE app.parted\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES größe.t1(id);\n";
        assert_eq!(
            tables(&key(text.to_owned())),
            pair(("app", "parted"), ("größe", "t1"))
        );
        assert_eq!(
            tables(&key("ALTER TABLE x.y ADD CHECK (a)".to_owned())),
            None
        );
    }

    proptest::proptest! {
        #[test]
        fn any_names_are_found(a in "[^\0]{1,5}", b in "[^\0]{1,5}", c in "[^\0]{1,5}", d in "[^\0]{1,5}") {
            let text = format!(
                "ALTER TABLE ONLY {}\n    ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {}(id);\n",
                qualified(&a, &b), quote_ident(&c), quote_ident(&d), qualified(&c, &d)
            );
            proptest::prop_assert_eq!(tables(&key(text)), pair((&a, &b), (&c, &d)));
        }
    }
}
