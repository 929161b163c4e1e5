//! What of a database is to be dumped, as the options of `pg_dump` say it
//! (<https://www.postgresql.org/docs/current/app-pgdump.html>).

use std::collections::{HashMap, HashSet};

use crate::pg::catalog::Name;

use super::pattern::{Pattern, PatternError};
use super::skip::{Sections, Skip};

/// A pattern of relations, with or without their partitions and children.
#[derive(Debug, Clone)]
pub struct TablePattern {
    /// The pattern.
    pub pattern: Pattern,
    /// Whether it stands for all partitions and children, too.
    pub descendants: bool,
}

/// Which rows of the relations of a pattern, and of their partitions and children.
#[derive(Debug, Clone)]
pub struct RowCondition {
    /// The relations.
    pub pattern: Pattern,
    /// What is true for the rows: an SQL expression.
    pub condition: String,
}

/// Why a text is no condition on rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// One of the parts is missing.
    #[error(
        "{0:?} is not TABLE: CONDITION\nhint: write it like \"orders: created > now() - interval '30 days'\""
    )]
    Parts(String),
    /// The first part is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl std::str::FromStr for RowCondition {
    type Err = ConditionError;

    /// A pattern, a colon, and an expression.
    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let mut quoted = false;
        let colon = text.find(|c| {
            quoted ^= c == '"';
            c == ':' && !quoted
        });
        let parts = colon.map(|at| (text[..at].trim(), text[at + 1..].trim()));
        match parts {
            Some((pattern, condition)) if !pattern.is_empty() && !condition.is_empty() => {
                Ok(Self {
                    pattern: pattern.parse()?,
                    condition: condition.to_owned(),
                })
            }
            _ => Err(ConditionError::Parts(text.to_owned())),
        }
    }
}

/// What is to be dumped.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only what is in these schemas.
    pub schemas: Vec<Pattern>,
    /// Nothing of these schemas.
    pub exclude_schemas: Vec<Pattern>,
    /// Only these tables, views, sequences and foreign tables, wherever they are.
    pub tables: Vec<TablePattern>,
    /// None of these, nor what is built on them.
    pub exclude_tables: Vec<TablePattern>,
    /// No rows of these.
    pub exclude_data: Vec<TablePattern>,
    /// Only these extensions.
    pub extensions: Vec<Pattern>,
    /// None of these extensions.
    pub exclude_extensions: Vec<Pattern>,
    /// Rows of the foreign tables of these servers.
    pub foreign_data: Vec<Pattern>,
    /// Which rows.
    pub conditions: Vec<RowCondition>,
    /// Which sections.
    pub sections: Sections,
    /// Which kinds of entries not.
    pub skip: Skip,
    /// No refreshes of materialised views.
    pub no_refresh: bool,
    /// Whether each pattern of what is wanted must match something.
    pub strict_names: bool,
    /// No rows of unlogged tables.
    pub no_unlogged_data: bool,
    /// Large objects; if nothing is said, they come with everything but not with what is chosen by name.
    pub large_objects: Option<bool>,
    /// All partitions are to be loaded through their roots.
    pub through_roots: bool,
    /// No owners.
    pub no_owner: bool,
    /// No tablespaces.
    pub no_tablespaces: bool,
    /// No access methods of tables.
    pub no_table_access_method: bool,
    /// No compression methods of columns.
    pub no_toast_compression: bool,
}

/// How patterns are understood in a database.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Relations that are found by their bare names. Nothing where no pattern needs to know.
    pub visible: HashSet<Name>,
    /// What each relation is a partition or a child of. Nothing where no pattern needs to know.
    pub parents: HashMap<Name, Vec<Name>>,
    /// The hypertables, by the relations in which their rows are. Nothing where no pattern needs to know.
    pub hypertables: HashMap<Name, Name>,
}

impl Known {
    fn matches(&self, pattern: &Pattern, relation: &Name) -> bool {
        pattern.matches(relation, Some(&self.visible))
    }

    /// Whether the pattern matches the relation, or one that it is a partition or a child of.
    pub fn matches_family(&self, pattern: &Pattern, relation: &Name) -> bool {
        let mut open = vec![relation];
        let mut seen: HashSet<&Name> = HashSet::new();
        while let Some(name) = open.pop() {
            if self.matches(pattern, name) {
                return true;
            }
            if seen.insert(name) {
                open.extend(self.parents.get(name).into_iter().flatten());
            }
        }
        false
    }

    fn any(&self, patterns: &[TablePattern], relation: &Name) -> bool {
        patterns.iter().any(|p| match p.descendants {
            true => self.matches_family(&p.pattern, relation),
            false => self.matches(&p.pattern, relation),
        })
    }
}

fn any_name(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches_name(name))
}

impl Selection {
    fn table_patterns(&self) -> impl Iterator<Item = &TablePattern> {
        let lists = [&self.tables, &self.exclude_tables, &self.exclude_data];
        lists.into_iter().flatten()
    }

    /// Whether patterns have to be told what is found without a schema.
    pub fn needs_visible(&self) -> bool {
        let conditions = self.conditions.iter().map(|c| &c.pattern);
        let mut all = self.table_patterns().map(|p| &p.pattern).chain(conditions);
        all.any(Pattern::is_unqualified)
    }

    /// Whether patterns have to be told of partitions and children.
    pub fn needs_parents(&self) -> bool {
        !self.conditions.is_empty() || self.table_patterns().any(|p| p.descendants)
    }

    /// Whether everything is wanted that is not excluded: nothing is chosen by name.
    pub fn is_everything(&self) -> bool {
        self.schemas.is_empty() && self.tables.is_empty() && self.extensions.is_empty()
    }

    /// What is chosen or left out by name, as options, sorted: what tells the dump of a part from that of the whole.
    pub fn chosen(&self) -> Vec<String> {
        let tables = [
            ("table", &self.tables),
            ("exclude-table", &self.exclude_tables),
            ("exclude-table-data", &self.exclude_data),
        ];
        let others = [
            ("schema", &self.schemas),
            ("exclude-schema", &self.exclude_schemas),
            ("extension", &self.extensions),
            ("exclude-extension", &self.exclude_extensions),
        ];
        let tables = tables.into_iter().flat_map(|(option, patterns)| {
            patterns.iter().map(move |p| match p.descendants {
                true => format!("--{option}-and-children {}", p.pattern),
                false => format!("--{option} {}", p.pattern),
            })
        });
        let others = others
            .into_iter()
            .flat_map(|(option, patterns)| patterns.iter().map(move |p| format!("--{option} {p}")));
        let mut chosen: Vec<String> = tables.chain(others).collect();
        if self.large_objects == Some(false) {
            chosen.push("--no-large-objects".to_owned());
        }
        chosen.sort();
        chosen
    }

    /// Whether all tables are wanted.
    pub fn has_all_tables(&self) -> bool {
        self.is_everything()
            && self.exclude_schemas.is_empty()
            && self.exclude_tables.is_empty()
            && self.exclude_extensions.is_empty()
            && self.foreign_data.is_empty()
    }

    /// Whether large objects are wanted.
    pub fn wants_large_objects(&self) -> bool {
        self.sections.data && self.large_objects.unwrap_or(self.is_everything())
    }

    /// Whether the contents of a schema are wanted.
    pub fn selects_schema(&self, schema: &str) -> bool {
        self.tables.is_empty()
            && (self.schemas.is_empty() || any_name(&self.schemas, schema))
            && !any_name(&self.exclude_schemas, schema)
    }

    /// Whether a relation is wanted that belongs to no extension.
    pub fn selects(&self, relation: &Name, known: &Known) -> bool {
        let wanted = if self.tables.is_empty() {
            self.selects_schema(&relation.0)
        } else {
            known.any(&self.tables, relation)
        };
        wanted && !self.excludes(relation, known)
    }

    /// Whether a relation is one of those that were to be left out by name.
    pub fn excludes(&self, relation: &Name, known: &Known) -> bool {
        known.any(&self.exclude_tables, relation)
    }

    /// Whether the rows of a relation are to be left out.
    pub fn excludes_data(&self, relation: &Name, known: &Known) -> bool {
        let hypertable = known.hypertables.get(relation);
        std::iter::once(relation)
            .chain(hypertable)
            .any(|relation| known.any(&self.exclude_data, relation))
    }

    /// Whether an extension is wanted.
    pub fn selects_extension(&self, extension: &str) -> bool {
        let wanted = if self.extensions.is_empty() {
            self.is_everything()
        } else {
            any_name(&self.extensions, extension)
        };
        wanted && !any_name(&self.exclude_extensions, extension)
    }

    /// Whether the rows of an extension's configuration table are wanted: they come with the extension, or because the
    /// table or its schema is chosen.
    pub fn selects_configuration(&self, relation: &Name, extension: &str, known: &Known) -> bool {
        let wanted = self.selects_extension(extension)
            || known.any(&self.tables, relation)
            || self.selects_schema(&relation.0);
        wanted && !self.excludes(relation, known) && !any_name(&self.exclude_schemas, &relation.0)
    }

    /// Whether rows of the foreign tables of a server are wanted.
    pub fn selects_server(&self, server: &str) -> bool {
        any_name(&self.foreign_data, server)
    }

    /// What is true for the wanted rows of a relation, all of it; nothing if all rows are wanted.
    pub fn conditions(&self, relation: &Name, known: &Known) -> Vec<&str> {
        let conditions = self.conditions.iter();
        conditions
            .filter(|c| known.matches_family(&c.pattern, relation))
            .map(|c| c.condition.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        let (schema, name) = text.split_once('.').unwrap();
        (schema.to_owned(), name.to_owned())
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A plus at the end stands for partitions and children.
    fn tables(texts: &[&str]) -> Vec<TablePattern> {
        let one = |text: &&str| TablePattern {
            pattern: text.trim_end_matches('+').parse().unwrap(),
            descendants: text.ends_with('+'),
        };
        texts.iter().map(one).collect()
    }

    /// Tables `a.t`, `a.root` with the partitions `b.p1` and, below that, `b.p2`, `b.t`; the search path is a, b.
    fn known() -> Known {
        Known {
            visible: ["a.t", "a.root", "b.p1", "b.p2"].map(name).into(),
            parents: [
                (name("b.p1"), vec![name("a.root")]),
                (name("b.p2"), vec![name("b.p1")]),
            ]
            .into(),
            hypertables: [(name("b.t"), name("a.t"))].into(),
        }
    }

    fn selected(selection: &Selection) -> Vec<&'static str> {
        let all = ["a.root", "a.t", "b.p1", "b.p2", "b.t"];
        all.into_iter()
            .filter(|text| selection.selects(&name(text), &known()))
            .collect()
    }

    #[test]
    fn tables_schemas_and_exclusions_combine_as_in_pg_dump() {
        let cases: [(Selection, &[&str]); 7] = [
            (
                Selection {
                    schemas: patterns(&["a"]),
                    ..Selection::default()
                },
                &["a.root", "a.t"],
            ),
            (
                Selection {
                    exclude_schemas: patterns(&["a"]),
                    ..Selection::default()
                },
                &["b.p1", "b.p2", "b.t"],
            ),
            // Schemas mean nothing beside tables.
            (
                Selection {
                    schemas: patterns(&["b"]),
                    exclude_schemas: patterns(&["a"]),
                    tables: tables(&["t"]),
                    ..Selection::default()
                },
                &["a.t"],
            ),
            (
                Selection {
                    tables: tables(&["root+"]),
                    exclude_tables: tables(&["p2"]),
                    ..Selection::default()
                },
                &["a.root", "b.p1"],
            ),
            (
                Selection {
                    exclude_tables: tables(&["b.p1+"]),
                    ..Selection::default()
                },
                &["a.root", "a.t", "b.t"],
            ),
            (
                Selection {
                    tables: tables(&["*.t"]),
                    ..Selection::default()
                },
                &["a.t", "b.t"],
            ),
            (
                Selection {
                    extensions: patterns(&["hstore"]),
                    ..Selection::default()
                },
                &["a.root", "a.t", "b.p1", "b.p2", "b.t"],
            ),
        ];
        for (selection, expected) in cases {
            assert_eq!(selected(&selection), expected, "{selection:?}");
        }
    }

    #[test]
    fn extensions_and_large_objects_come_with_everything_only() {
        let everything = Selection::default();
        assert!(everything.selects_extension("hstore") && everything.wants_large_objects());
        let mut chosen = Selection {
            tables: tables(&["t"]),
            ..Selection::default()
        };
        assert!(!chosen.selects_extension("hstore") && !chosen.wants_large_objects());
        assert!(!chosen.selects_configuration(&name("a.config"), "hstore", &known()));
        chosen.extensions = patterns(&["h*"]);
        assert!(chosen.selects_extension("hstore"));
        assert!(chosen.selects_configuration(&name("a.config"), "hstore", &known()));
        chosen.exclude_extensions = patterns(&["hstore"]);
        assert!(!chosen.selects_extension("hstore"));
    }

    #[test]
    fn a_condition_reaches_partitions_and_several_are_all_true() {
        let selection = Selection {
            conditions: ["root: id > 1 -- why", "b.*: x"]
                .map(|text| text.parse().unwrap())
                .into(),
            ..Selection::default()
        };
        let known = known();
        let conditions = |text| selection.conditions(&name(text), &known);
        assert_eq!(conditions("a.root"), ["id > 1 -- why"]);
        assert_eq!(conditions("b.p2"), ["id > 1 -- why", "x"]);
        assert_eq!(conditions("a.t"), [""; 0]);
    }

    #[test]
    fn a_hypertable_is_without_rows_if_its_chunks_are() {
        let selection = Selection {
            exclude_data: tables(&["a.t"]),
            ..Selection::default()
        };
        let excluded = |text| selection.excludes_data(&name(text), &known());
        assert!(excluded("a.t") && excluded("b.t") && !excluded("b.p1"));
    }

    #[test]
    fn a_condition_has_a_table_and_an_expression() {
        let condition: RowCondition = "\"odd: name\": a::text = 'x:y'".parse().unwrap();
        assert_eq!(condition.condition, "a::text = 'x:y'");
        assert!(condition.pattern.matches_name("odd: name"));
        for text in ["orders", "orders:", ": x > 1", "\"orders: x"] {
            assert!(text.parse::<RowCondition>().is_err(), "{text}");
        }
    }
}
