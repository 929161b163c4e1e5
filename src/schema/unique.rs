//! Primary keys and unique constraints as two statements: the index first, which is built beside the table's other
//! indexes, then the constraint that takes it over, which takes a moment.

use crate::pg::archive::{SqlText, TocEntry};

/// A primary key or unique constraint in two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFirst {
    /// The statement that builds the index.
    pub create: SqlText,
    /// Those that make the constraint of it and do what else the entry does.
    pub add: SqlText,
    /// Whether it is a primary key.
    pub primary: bool,
}

/// The two steps of a primary key or unique constraint. Nothing for what is not, to the letter, as `pg_dump` writes it for a btree:
///
/// ```text
/// ALTER TABLE ONLY a.b
///     ADD CONSTRAINT c {PRIMARY KEY | UNIQUE [NULLS NOT DISTINCT]} (d, ...) [INCLUDE (e, ...)] [WITH (...)]
///         [DEFERRABLE [INITIALLY DEFERRED]];
/// ```
///
/// It may be followed by statements about the index (`CLUSTER ON`, `REPLICA IDENTITY`). The table must not be a
/// partitioned one: the server takes no index over for these.
pub fn index_first(entry: &TocEntry) -> Option<IndexFirst> {
    if entry.desc != "CONSTRAINT" {
        return None;
    }
    let mut text = Text(entry.defn.to_str()?.trim_start());
    text.expect("ALTER TABLE ONLY ")?;
    let table = text.name()?;
    text.expect("\n    ADD CONSTRAINT ")?;
    let name = text.identifier()?;
    let primary = text.expect(" PRIMARY KEY").is_some();
    if !primary {
        text.expect(" UNIQUE")?;
    }
    let same_nulls = !primary && text.expect(" NULLS NOT DISTINCT").is_some();
    text.expect(" ")?;
    let columns = text.columns()?;
    let include = match text.expect(" INCLUDE ") {
        Some(()) => format!(" INCLUDE {}", text.columns()?),
        None => String::new(),
    };
    let with = match text.expect(" WITH ") {
        Some(()) => format!(" WITH {}", text.options()?),
        None => String::new(),
    };
    let mut when = String::new();
    for words in [" DEFERRABLE", " INITIALLY DEFERRED"] {
        if text.expect(words).is_none() {
            break;
        }
        when.push_str(words);
    }
    text.expect(";")?;
    let nulls = if same_nulls {
        " NULLS NOT DISTINCT"
    } else {
        ""
    };
    let kind = if primary { "PRIMARY KEY" } else { "UNIQUE" };
    let create = format!(
        "CREATE UNIQUE INDEX {name} ON {table} USING btree {columns}{include}{nulls}{with};"
    );
    let add = format!(
        "ALTER TABLE ONLY {table}\n    ADD CONSTRAINT {name} {kind} USING INDEX {name}{when};{}",
        text.0
    );
    Some(IndexFirst {
        create: create.into(),
        add: add.into(),
        primary,
    })
}

/// What is still to be read of a statement.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// Passes over what must come next.
    fn expect(&mut self, next: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(next)?;
        Some(())
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// An identifier as it is written, with its quotes if it has any.
    fn identifier(&mut self) -> Option<&'a str> {
        let length = if self.0.starts_with('"') {
            quoted(self.0)?
        } else {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            self.0.find(|c| !plain(c)).unwrap_or(self.0.len())
        };
        (length > 0).then(|| self.take(length))
    }

    /// A name with its schema.
    fn name(&mut self) -> Option<&'a str> {
        let start = self.0;
        self.identifier()?;
        self.expect(".")?;
        self.identifier()?;
        Some(&start[..start.len() - self.0.len()])
    }

    /// Columns in parentheses: names, and nothing else.
    fn columns(&mut self) -> Option<&'a str> {
        let start = self.0;
        self.expect("(")?;
        loop {
            self.identifier()?;
            if self.expect(")").is_some() {
                return Some(&start[..start.len() - self.0.len()]);
            }
            self.expect(", ")?;
        }
    }

    /// Storage parameters in parentheses.
    fn options(&mut self) -> Option<&'a str> {
        let start = self.0;
        self.expect("(")?;
        loop {
            match self.0.chars().next()? {
                ')' => {
                    self.take(1);
                    return Some(&start[..start.len() - self.0.len()]);
                }
                '"' | '\'' => {
                    let length = quoted(self.0)?;
                    if self.take(length).contains('\\') {
                        return None;
                    }
                }
                // Strings of other kinds have rules of their own.
                '(' | '\\' | '$' => return None,
                other => {
                    self.take(other.len_utf8());
                }
            }
        }
    }
}

/// Length of what stands in quotes, the quotes included. A quote within is doubled, which reads as two that follow each
/// other.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut from = 1;
    loop {
        let end = from + text[from..].find(quote)? + 1;
        if !text[end..].starts_with(quote) {
            return Some(end);
        }
        from = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::catalog::{qualified, quote_ident};

    fn split(defn: &str) -> Option<(String, String)> {
        let entry = TocEntry {
            desc: "CONSTRAINT".to_owned(),
            defn: defn.into(),
            ..TocEntry::default()
        };
        let steps = index_first(&entry)?;
        let text = |sql: &SqlText| sql.to_lossy().into_owned();
        Some((text(&steps.create), text(&steps.add)))
    }

    #[test]
    fn keys_become_an_index_and_a_constraint_that_takes_it() {
        let (create, add) = split(
            "\n\nALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a, \"B\");\n",
        )
        .unwrap();
        assert_eq!(
            create,
            "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (a, \"B\");"
        );
        assert_eq!(
            add.trim_end(),
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX t_pkey;"
        );
    }

    #[test]
    fn all_that_is_said_of_a_constraint_is_kept_in_its_place() {
        let defn = "ALTER TABLE ONLY \"S\".\"a.\"\"b\"\n    ADD CONSTRAINT \"c (d)\" UNIQUE NULLS NOT DISTINCT (a) INCLUDE (b, c) WITH (fillfactor='70', deduplicate_items='of)f') DEFERRABLE INITIALLY DEFERRED;\n\nALTER TABLE \"S\".\"a.\"\"b\" CLUSTER ON \"c (d)\";\n\nALTER TABLE ONLY \"S\".\"a.\"\"b\" REPLICA IDENTITY USING INDEX \"c (d)\";\n";
        let (create, add) = split(defn).unwrap();
        assert_eq!(
            create,
            "CREATE UNIQUE INDEX \"c (d)\" ON \"S\".\"a.\"\"b\" USING btree (a) INCLUDE (b, c) NULLS NOT DISTINCT WITH (fillfactor='70', deduplicate_items='of)f');"
        );
        assert!(add.starts_with("ALTER TABLE ONLY \"S\".\"a.\"\"b\"\n    ADD CONSTRAINT \"c (d)\" UNIQUE USING INDEX \"c (d)\" DEFERRABLE INITIALLY DEFERRED;\n\nALTER TABLE \"S\".\"a.\"\"b\" CLUSTER ON"));
        assert!(add.ends_with("REPLICA IDENTITY USING INDEX \"c (d)\";\n"));
    }

    #[test]
    fn what_is_not_known_for_sure_stays_one_statement() {
        for defn in [
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a, b WITHOUT OVERLAPS);\n",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT e EXCLUDE USING gist (a WITH &&);\n",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT c CHECK ((a > 0));\n",
            "ALTER TABLE public.t\n    ADD CONSTRAINT c UNIQUE (a);\n",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT c UNIQUE (a) USING INDEX TABLESPACE x;\n",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT c UNIQUE (a) NOT ENFORCED;\n",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT \"c UNIQUE (a);\n",
            "",
        ] {
            assert_eq!(split(defn), None, "{defn}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_names_are_carried_over(schema in "[^\0]{1,5}", table in "[^\0]{1,5}", name in "[^\0]{1,5}", column in "[^\0]{1,5}") {
            let (table, name, column) = (qualified(&schema, &table), quote_ident(&name), quote_ident(&column));
            let text = format!("ALTER TABLE ONLY {table}\n    ADD CONSTRAINT {name} UNIQUE ({column});\n");
            let (create, add) = split(&text).unwrap();
            proptest::prop_assert_eq!(create, format!("CREATE UNIQUE INDEX {name} ON {table} USING btree ({column});"));
            proptest::prop_assert_eq!(add, format!("ALTER TABLE ONLY {table}\n    ADD CONSTRAINT {name} UNIQUE USING INDEX {name};\n"));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = split(&text);
            let _ = split(&format!("ALTER TABLE ONLY a.b\n    ADD CONSTRAINT c UNIQUE {text}"));
        }
    }
}
