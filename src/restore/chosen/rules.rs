//! Which items are asked for: the rules of `pg_restore` (`_tocEntryRequired` in `pg_backup_archiver.c`), so that the same
//! options pick the same.

use std::collections::{BTreeSet, HashSet};

use crate::pg::archive::{Section, TocEntry};
use crate::schema::statements;

use super::items::{Item, What};
use super::{Mode, Pick};

/// Names of what is asked for. They are exact, not patterns, and those of one kind add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Schemas; what is in none is out where there are any.
    pub schemas: Vec<String>,
    /// Schemas whose objects are left out.
    pub exclude_schemas: Vec<String>,
    /// Tables, views, sequences and their like, with their rows.
    pub tables: Vec<String>,
    /// Indexes.
    pub indexes: Vec<String>,
    /// Functions, procedures and aggregates with the types of their arguments, as the list shows them.
    pub functions: Vec<String>,
    /// Triggers, by their name or as `table trigger`.
    pub triggers: Vec<String>,
}

impl Names {
    /// Whether some kinds of objects only are asked for.
    pub fn by_kind(&self) -> bool {
        let kinds = [&self.tables, &self.indexes, &self.functions, &self.triggers];
        kinds.iter().any(|names| !names.is_empty())
    }

    /// Whether nothing is asked for by name, so that everything is.
    pub fn is_empty(&self) -> bool {
        !self.by_kind() && self.schemas.is_empty()
    }

    /// Names that were not met, each with what it should be the name of.
    pub fn not_met(&self, met: &BTreeSet<(&str, String)>) -> Vec<String> {
        let kinds = [
            ("schema", &self.schemas),
            ("table", &self.tables),
            ("index", &self.indexes),
            ("function", &self.functions),
            ("trigger", &self.triggers),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (kind, name)))
            .filter(|(kind, name)| !met.contains(&(*kind, (*name).clone())))
            .map(|(kind, name)| format!("{kind} {name}"))
            .collect()
    }
}

/// Judges items in the order of the archive: what is said of an object goes with it.
pub struct Rules<'p> {
    pick: &'p Pick,
    mode: Mode,
    listed: Option<HashSet<i32>>,
    /// Kind and name of what was asked for and found.
    pub met: BTreeSet<(&'static str, String)>,
    asked: HashSet<i32>,
}

impl<'p> Rules<'p> {
    /// The rules of a selection.
    pub fn new(pick: &'p Pick, mode: Mode) -> Self {
        let list = pick.list.as_ref();
        Self {
            pick,
            mode,
            listed: list.map(|list| list.iter().map(|line| line.id).collect()),
            met: BTreeSet::new(),
            asked: HashSet::new(),
        }
    }

    /// Whether the item is asked for. `section` is the one that it goes with.
    pub fn asks_for(&mut self, item: &Item<'_>, section: Section) -> bool {
        let asks = self.may_come(item, section) && self.is_named(&item.entry);
        if asks {
            self.asked.insert(item.entry.dump_id);
        }
        asks
    }

    /// Whether the item may come, whatever its name: by its kind, its section, the list, and being definition or data.
    pub fn may_come(&self, item: &Item<'_>, section: Section) -> bool {
        let entry = &item.entry;
        if statements::is_database(entry) {
            let whole = matches!(&*entry.desc, "DATABASE" | "DATABASE PROPERTIES");
            let asked = self.mode.create || (self.mode.properties && entry.desc != "DATABASE");
            if whole || !asked {
                return asked;
            }
        }
        let pick = self.pick;
        let wanted = match item.what {
            // What has no definition is not there.
            What::Entry(_) => pick.content.schema && !entry.defn.is_empty(),
            _ => pick.content.data,
        };
        let listed = self.listed.as_ref();
        wanted
            && !pick.skip.skips(entry)
            && pick.sections.wants(section)
            && listed.is_none_or(|listed| listed.contains(&entry.dump_id))
    }

    fn is_named(&mut self, entry: &TocEntry) -> bool {
        let names = &self.pick.names;
        if statements::is_database(entry) {
            return true;
        }
        if matches!(&*entry.desc, "ACL" | "COMMENT" | "SECURITY LABEL") {
            let selective = !names.is_empty() || !names.exclude_schemas.is_empty();
            // A column's privileges depend on those of its table, for their order only: these are not what they are
            // about, and not asked for where the table is not.
            return !selective || entry.dependencies.iter().any(|id| self.asked.contains(id));
        }
        let namespace = entry.namespace.as_ref().filter(|n| !n.is_empty());
        let namespace = namespace.map(|n| n.to_lossy());
        let in_list = |list: &[String]| {
            let namespace = namespace.as_deref();
            namespace.is_some_and(|namespace| list.iter().any(|name| name == namespace))
        };
        if !names.schemas.is_empty() {
            if !in_list(&names.schemas) {
                return false;
            }
            let schema = namespace.as_deref().unwrap_or_default();
            self.met.insert(("schema", schema.to_owned()));
        }
        if in_list(&names.exclude_schemas) {
            return false;
        }
        if !names.by_kind() {
            return true;
        }
        let (kind, list) = match &*entry.desc {
            "TABLE"
            | "TABLE DATA"
            | "VIEW"
            | "FOREIGN TABLE"
            | "MATERIALIZED VIEW"
            | "MATERIALIZED VIEW DATA"
            | "SEQUENCE"
            | "SEQUENCE SET" => ("table", &names.tables),
            "INDEX" => ("index", &names.indexes),
            "FUNCTION" | "AGGREGATE" | "PROCEDURE" => ("function", &names.functions),
            "TRIGGER" => ("trigger", &names.triggers),
            _ => return false,
        };
        let tag = entry.tag.to_lossy();
        let mut found = false;
        for name in list {
            // A trigger's entry is called by its table and itself.
            let own = kind == "trigger" && tag.ends_with(name.as_str()) && {
                let table = &tag[..tag.len() - name.len()];
                table.ends_with(' ')
            };
            if own || *name == tag {
                self.met.insert((kind, name.clone()));
                found = true;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::Content;
    use super::*;
    use crate::schema::skip::{SectionName, Sections};
    use std::borrow::Cow;

    fn entry(id: i32, desc: &str, schema: &str, tag: &str, dependencies: &[i32]) -> TocEntry {
        TocEntry {
            dump_id: id,
            desc: desc.to_owned(),
            tag: tag.into(),
            namespace: (!schema.is_empty()).then(|| schema.into()),
            defn: "CREATE ...".into(),
            dependencies: dependencies.to_vec(),
            ..TocEntry::default()
        }
    }

    fn asked(pick: &Pick) -> Vec<i32> {
        let items = [
            (entry(1, "SCHEMA", "", "s", &[]), Section::PreData),
            (entry(2, "TABLE", "s", "t", &[1]), Section::PreData),
            (entry(3, "ACL", "s", "TABLE t", &[2]), Section::PreData),
            (
                entry(4, "FUNCTION", "s", "t(integer)", &[1]),
                Section::PreData,
            ),
            (entry(5, "TABLE", "u", "t", &[]), Section::PreData),
            (entry(9, "TABLE DATA", "s", "t", &[2]), Section::Data),
            (entry(10, "BLOBS", "", "BLOBS", &[]), Section::Data),
            (entry(6, "INDEX", "s", "i", &[2]), Section::PostData),
            (entry(7, "COMMENT", "s", "INDEX i", &[6]), Section::PostData),
            (entry(8, "TRIGGER", "s", "t a b", &[2]), Section::PostData),
        ];
        let mut rules = Rules::new(pick, Mode::default());
        let mut asked = Vec::new();
        for (entry, section) in items {
            let id = entry.dump_id;
            let what = if section == Section::Data {
                What::Rows(0)
            } else {
                What::Entry(0)
            };
            let item = Item {
                entry: Cow::Owned(entry),
                what,
            };
            if rules.asks_for(&item, section) {
                asked.push(id);
            }
        }
        asked
    }

    fn names(change: impl FnOnce(&mut Names)) -> Pick {
        let mut pick = Pick::default();
        change(&mut pick.names);
        pick
    }

    #[test]
    fn names_of_one_kind_add_up_and_kinds_are_narrowed_by_schemas() {
        let list = |name: &str| vec![name.to_owned()];
        assert_eq!(asked(&Pick::default()), [1, 2, 3, 4, 5, 9, 10, 6, 7, 8]);
        assert_eq!(
            asked(&names(|n| n.schemas = list("s"))),
            [2, 3, 4, 9, 6, 7, 8]
        );
        assert_eq!(asked(&names(|n| n.exclude_schemas = list("s"))), [1, 5, 10]);
        assert_eq!(asked(&names(|n| n.tables = list("t"))), [2, 3, 5, 9]);
        let both = names(|n| {
            n.tables = list("t");
            n.schemas = list("s");
            n.indexes = list("i");
        });
        assert_eq!(asked(&both), [2, 3, 9, 6, 7]);
        assert_eq!(asked(&names(|n| n.functions = list("t(integer)"))), [4]);
        for trigger in ["b", "a b", "t a b"] {
            assert_eq!(asked(&names(|n| n.triggers = list(trigger))), [8]);
        }
        assert!(asked(&names(|n| n.triggers = list("c"))).is_empty());
    }

    #[test]
    fn rows_and_definitions_are_told_apart() {
        let data_only = Pick {
            content: Content::DATA,
            ..Pick::default()
        };
        assert_eq!(asked(&data_only), [9, 10]);
        let post = Pick {
            sections: Sections::of(&[SectionName::PostData]),
            ..Pick::default()
        };
        assert_eq!(asked(&post), [6, 7, 8]);
    }
}
