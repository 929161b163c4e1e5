//! What tasks cost: kinds of work, and how their time grows with rows and bytes.

use crate::pg::archive::TocEntry;
use crate::repo::model::TableRecord;
use crate::schema::tokens::{Token, Tokens};

/// Tasks up to this cost are done together in one transaction: 20 ms, of which the round trips of a transaction of their
/// own would be a part worth saving.
pub const CHEAP: u64 = 20_000;
/// What a batch of them costs at most: 200 ms, so that no worker is long at it when the others have nothing left.
pub const BATCH: u64 = 200_000;

/// An index build above this cost, 200 ms, may be worth parallel workers.
pub const LONG_BUILD: u64 = 200_000;

/// What a task does, as far as its time and its report are concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Looking at the target before anything is touched.
    Checks,
    /// Entries before the rows.
    PreData,
    /// Loading rows.
    Rows,
    /// Large objects and their pages.
    LargeObjects,
    /// A btree, be it of an index or of a constraint.
    Btree,
    /// A GIN index.
    Gin,
    /// A GiST index, be it of an index or of a constraint.
    Gist,
    /// An SP-GiST index.
    Spgist,
    /// A BRIN index.
    Brin,
    /// A hash index.
    Hash,
    /// An index of any other method.
    OtherIndex,
    /// A constraint that builds nothing.
    Constraint,
    /// A foreign key, added or validated.
    ForeignKey,
    /// Values of sequences.
    Sequences,
    /// Privileges.
    Privileges,
    /// Statistics from the snapshot.
    Statistics,
    /// ANALYZE.
    Analyze,
    /// TimescaleDB's catalog and what waits for it.
    Catalog,
    /// Refreshes of materialised views.
    Refresh,
    /// Triggers, comments, rules and the like.
    #[default]
    Other,
}

impl Kind {
    /// Its key in JSON, which stays as it is.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Checks => "checks",
            Kind::PreData => "pre_data",
            Kind::Rows => "rows",
            Kind::LargeObjects => "large_objects",
            Kind::Btree => "index_btree",
            Kind::Gin => "index_gin",
            Kind::Gist => "index_gist",
            Kind::Spgist => "index_spgist",
            Kind::Brin => "index_brin",
            Kind::Hash => "index_hash",
            Kind::OtherIndex => "index_other",
            Kind::Constraint => "constraint",
            Kind::ForeignKey => "foreign_key",
            Kind::Sequences => "sequences",
            Kind::Privileges => "privileges",
            Kind::Statistics => "statistics",
            Kind::Analyze => "analyze",
            Kind::Catalog => "catalog",
            Kind::Refresh => "refresh",
            Kind::Other => "other",
        }
    }

    /// What an entry's statement does.
    pub fn of(entry: &TocEntry) -> Kind {
        match entry.desc.as_str() {
            "INDEX" => index(entry),
            "CONSTRAINT" => constraint(entry),
            "CHECK CONSTRAINT" => Kind::Constraint,
            "FK CONSTRAINT" => Kind::ForeignKey,
            "ACL" | "DEFAULT ACL" => Kind::Privileges,
            "MATERIALIZED VIEW DATA" => Kind::Refresh,
            _ => Kind::Other,
        }
    }

    /// Whether it builds an index.
    pub fn is_index(self) -> bool {
        matches!(
            self,
            Kind::Btree
                | Kind::Gin
                | Kind::Gist
                | Kind::Spgist
                | Kind::Brin
                | Kind::Hash
                | Kind::OtherIndex
        )
    }

    /// Microseconds that it takes for a table of this size.
    ///
    /// Measured on PostgreSQL 17 with one core for a session, all in memory, parallel workers off: 3 million rows of 109
    /// bytes with jsonb, and 500,000 rows of 90 bytes of numbers and text. Loads of binary COPY took 5 to 12 ns a byte;
    /// a btree 0.2 (in order) to 1.3 microseconds a row (text), hash 0.9, GiST 0.9 (ranges) to 1.7 (points), SP-GiST 2.3,
    /// GIN over the jsonb 50 to 55 ns for each byte of the table, BRIN 1 ns a byte, a foreign key 0.25 microseconds a row.
    /// Only what they are to each other matters.
    pub fn cost(self, size: Size) -> u64 {
        let (row, byte) = match self {
            Kind::Rows => (250, 5),
            Kind::Btree => (500, 1),
            Kind::Hash => (800, 1),
            Kind::Gin => (500, 50),
            Kind::Gist | Kind::OtherIndex => (1500, 1),
            Kind::Spgist => (2000, 1),
            Kind::Brin => (0, 1),
            Kind::ForeignKey => (250, 1),
            Kind::Constraint => (50, 1),
            Kind::LargeObjects | Kind::Statistics => (0, 10),
            // It reads a sample, of 30,000 pages at most where nothing else was set.
            Kind::Analyze => return size.bytes.min(30_000 * 8192) / 1000,
            _ => (0, 0),
        };
        let nanoseconds = size.rows.saturating_mul(row);
        nanoseconds.saturating_add(size.bytes.saturating_mul(byte)) / 1000
    }
}

/// How large a table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

impl Size {
    /// That of a table.
    pub fn of(table: &TableRecord) -> Self {
        Self {
            rows: table.digest.rows,
            bytes: table.payload_bytes,
        }
    }
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

fn method(name: &str) -> Kind {
    match name {
        "btree" => Kind::Btree,
        "gin" => Kind::Gin,
        "gist" => Kind::Gist,
        "spgist" => Kind::Spgist,
        "brin" => Kind::Brin,
        "hash" => Kind::Hash,
        _ => Kind::OtherIndex,
    }
}

/// `CREATE [UNIQUE] INDEX a ON [ONLY] b.c USING method (...`
fn index(entry: &TocEntry) -> Kind {
    let text = entry.defn.to_lossy();
    let mut tokens = Tokens::of(&text);
    let using = |token: &Token| *token == Token::Word("USING".to_owned());
    match (tokens.any(|token| using(&token)), tokens.next()) {
        (true, Some(Token::Word(name) | Token::Quoted(name))) => method(&name),
        _ => Kind::OtherIndex,
    }
}

/// `ALTER TABLE [ONLY] a.b ADD CONSTRAINT c PRIMARY KEY ...`, or UNIQUE, CHECK, EXCLUDE USING method.
fn constraint(entry: &TocEntry) -> Kind {
    let text = entry.defn.to_lossy();
    let mut tokens =
        Tokens::of(&text).skip_while(|token| *token != Token::Word("CONSTRAINT".into()));
    match tokens.nth(2) {
        Some(Token::Word(word)) => match word.as_str() {
            "PRIMARY" | "UNIQUE" => Kind::Btree,
            "EXCLUDE" => match tokens.nth(1) {
                Some(Token::Word(name) | Token::Quoted(name)) => method(&name),
                _ => Kind::OtherIndex,
            },
            _ => Kind::Constraint,
        },
        _ => Kind::Constraint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(desc: &str, defn: &str) -> Kind {
        Kind::of(&TocEntry {
            desc: desc.to_owned(),
            defn: defn.into(),
            ..TocEntry::default()
        })
    }

    #[test]
    fn what_a_statement_builds_is_read_from_it_and_not_from_names_in_it() {
        let cases = [
            ("INDEX", "CREATE INDEX i ON s.t USING gin (j);\n", Kind::Gin),
            (
                "INDEX",
                "CREATE UNIQUE INDEX \"a USING gin (\" ON ONLY s.t USING btree (b DESC);\n",
                Kind::Btree,
            ),
            ("INDEX", "CREATE INDEX i ON t USING brin (a);", Kind::Brin),
            (
                "INDEX",
                "CREATE INDEX i ON t USING hnsw (a);",
                Kind::OtherIndex,
            ),
            (
                "CONSTRAINT",
                "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT \"CHECK\" PRIMARY KEY (a);\n",
                Kind::Btree,
            ),
            (
                "CONSTRAINT",
                "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT c UNIQUE NULLS NOT DISTINCT (a);\n",
                Kind::Btree,
            ),
            (
                "CONSTRAINT",
                "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT c EXCLUDE USING gist (a WITH &&);\n",
                Kind::Gist,
            ),
            (
                "CONSTRAINT",
                "ALTER TABLE s.t\n    ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID;\n",
                Kind::Constraint,
            ),
            ("TRIGGER", "CREATE TRIGGER ...", Kind::Other),
        ];
        for (desc, defn, expected) in cases {
            assert_eq!(kind(desc, defn), expected, "{defn}");
        }
    }

    #[test]
    fn a_gin_index_costs_more_than_the_load_of_its_table_and_a_btree_less() {
        let size = Size {
            rows: 3_000_000,
            bytes: 327 << 20,
        };
        let cost = |kind: Kind| kind.cost(size);
        assert!(cost(Kind::Gin) > 4 * cost(Kind::Rows));
        assert!(cost(Kind::Btree) < cost(Kind::Rows));
        assert!(cost(Kind::Brin) < cost(Kind::Btree) / 3);
    }

    #[test]
    fn no_size_overflows() {
        let size = Size {
            rows: u64::MAX,
            bytes: u64::MAX,
        };
        assert!(Kind::Gin.cost(size) > 0);
    }
}
