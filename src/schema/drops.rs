//! Statements that drop what an entry restores.

use std::collections::HashSet;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::{qualified, quote_literal};

/// Kinds of entries that are gone with their table. Their own DROP may be refused: a partition's constraint is part of
/// that of the partitioned table.
const PARTS_OF_TABLES: &[&str] = &[
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "POLICY",
    "ROW SECURITY",
    "TABLE ATTACH",
    "TRIGGER",
];

/// The statements that drop the chosen entries, the last first, so that nothing is dropped that something chosen still
/// needs. What is not there is no error.
pub fn drop_all(entries: &[TocEntry], chosen: &dyn Fn(usize) -> bool) -> Vec<SqlText> {
    let chosen_entries = || entries.iter().enumerate().filter(|(n, _)| chosen(*n));
    let tables: HashSet<i32> = chosen_entries()
        .filter(|(_, entry)| matches!(&*entry.desc, "TABLE" | "MATERIALIZED VIEW" | "VIEW"))
        .map(|(_, entry)| entry.dump_id)
        .collect();
    let goes_anyway = |entry: &TocEntry| {
        PARTS_OF_TABLES.contains(&entry.desc.as_str())
            && entry.dependencies.iter().any(|id| tables.contains(id))
    };
    chosen_entries()
        .rev()
        .filter(|(_, entry)| !goes_anyway(entry))
        .filter_map(|(_, entry)| drop_if_exists(entry))
        .collect()
}

/// The entry's own DROP with IF EXISTS, so that what is not there is no error; nothing where the entry has none.
///
/// The words are put in where `pg_restore --if-exists` puts them.
pub fn drop_if_exists(entry: &TocEntry) -> Option<SqlText> {
    let statement = entry.drop_stmt.to_str()?.trim();
    if statement.is_empty() || statement.starts_with("--") {
        return None;
    }
    // Views that stand in for each other are replaced first, and dropped then.
    if statement.starts_with("CREATE OR REPLACE VIEW") {
        // As a rule, it is called after the view and _RETURN.
        let tag = entry.tag.to_lossy();
        let view = tag.strip_suffix(" _RETURN").unwrap_or(&tag);
        let name = qualified(&entry.namespace.as_ref()?.to_lossy(), view);
        return Some(SqlText::from(format!(
            "DO {};",
            quote_literal(&format!(
                "BEGIN IF pg_catalog.to_regclass({}) IS NOT NULL THEN {statement} END IF; END",
                quote_literal(&name)
            ))
        )));
    }
    // The large objects' entries.
    if entry.desc.starts_with("BLOB") {
        return Some(SqlText::from(statement));
    }
    // Sequences are dropped before the tables that use them. There is no IF EXISTS for a column.
    if entry.desc == "DEFAULT" {
        let absent = "undefined_column OR undefined_table OR invalid_schema_name";
        return Some(SqlText::from(format!(
            "DO {};",
            quote_literal(&format!(
                "BEGIN {statement} EXCEPTION WHEN {absent} THEN NULL; END"
            ))
        )));
    }
    let mut text = statement.to_owned();
    if let Some(rest) = text.strip_prefix("ALTER TABLE ") {
        text = format!("ALTER TABLE IF EXISTS {rest}");
        // What else hangs off a table goes with it.
        for what in ["CONSTRAINT", "COLUMN"] {
            text = text.replacen(
                &format!(" DROP {what} "),
                &format!(" DROP {what} IF EXISTS "),
                1,
            );
        }
        return Some(SqlText::from(text));
    }
    let kind = match entry.desc.as_str() {
        // Their DROP names another kind of object.
        "PROCEDURAL LANGUAGE" | "LANGUAGE" => {
            let at = text.find("LANGUAGE ")? + "LANGUAGE ".len();
            text.insert_str(at, "IF EXISTS ");
            return Some(SqlText::from(text));
        }
        kind => kind,
    };
    let prefix = format!("DROP {kind} ");
    match text.strip_prefix(&prefix) {
        Some(rest) => Some(SqlText::from(format!("{prefix}IF EXISTS {rest}"))),
        None => Some(SqlText::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::archive::Section;

    fn entry(desc: &str, drop: &str) -> TocEntry {
        TocEntry {
            dump_id: 1,
            tableoid: 1,
            oid: 1,
            tag: "x".into(),
            desc: desc.to_owned(),
            section: Section::PreData,
            drop_stmt: drop.into(),
            ..TocEntry::default()
        }
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        let cases = [
            (
                "TABLE",
                "DROP TABLE public.t;\n",
                "DROP TABLE IF EXISTS public.t;",
            ),
            (
                "CONSTRAINT",
                "ALTER TABLE ONLY public.t DROP CONSTRAINT t_pkey;\n",
                "ALTER TABLE IF EXISTS ONLY public.t DROP CONSTRAINT IF EXISTS t_pkey;",
            ),
            (
                "MATERIALIZED VIEW",
                "DROP MATERIALIZED VIEW public.m;\n",
                "DROP MATERIALIZED VIEW IF EXISTS public.m;",
            ),
            (
                "DEFAULT",
                "ALTER TABLE public.t ALTER COLUMN c DROP DEFAULT;\n",
                "DO 'BEGIN ALTER TABLE public.t ALTER COLUMN c DROP DEFAULT; EXCEPTION WHEN undefined_column OR undefined_table OR invalid_schema_name THEN NULL; END';",
            ),
            (
                "PROCEDURAL LANGUAGE",
                "DROP PROCEDURAL LANGUAGE plperl;\n",
                "DROP PROCEDURAL LANGUAGE IF EXISTS plperl;",
            ),
        ];
        for (desc, drop, expected) in cases {
            assert_eq!(drop_if_exists(&entry(desc, drop)).unwrap(), expected);
        }
        assert_eq!(drop_if_exists(&entry("ACL", "")), None);
    }
}
