//! What a foreign key's statement says: `pg_dump` keeps dependencies on what is in the same dump only.

use crate::pg::archive::TocEntry;
use crate::pg::catalog::Name;

use super::tokens::{Token, Tokens};

/// The table that a foreign key belongs to, and the one that it refers to. Nothing for what is no foreign key as
/// `pg_dump` writes it: `ALTER TABLE ONLY a.b ADD CONSTRAINT c FOREIGN KEY (d) REFERENCES e.f(g) ...`.
pub fn tables(entry: &TocEntry) -> Option<(Name, Name)> {
    if entry.desc != "FK CONSTRAINT" {
        return None;
    }
    let mut tokens = Tokens::of(entry.defn.to_str()?).peekable();
    let word = |word: &str| Token::Word(word.to_owned());
    for expected in ["ALTER", "TABLE"] {
        tokens.next_if_eq(&word(expected))?;
    }
    tokens.next_if_eq(&word("ONLY"));
    let own = name(&mut tokens)?;
    let references = word("REFERENCES");
    let other = name(&mut tokens.skip_while(|token| *token != references).skip(1))?;
    Some((own, other))
}

/// A qualified name that comes next.
fn name(tokens: &mut impl Iterator<Item = Token>) -> Option<Name> {
    let identifier = |token: Option<Token>| match token? {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        Token::Mark(_) => None,
    };
    let schema = identifier(tokens.next())?;
    if tokens.next()? != Token::Mark('.') {
        return None;
    }
    Some((schema, identifier(tokens.next())?))
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
