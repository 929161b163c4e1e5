//! Hypertables made anew by the public functions of the extension, for a target with another version of it.
//!
//! The catalog of one version is not that of another, and compressed rows are laid out differently. What is portable is
//! what a user would type: tables are made hypertables, rows go in through them, and settings, policies and jobs are set
//! again. The rows of a chunk go in through the hypertable, as the functions that attach a finished table as a chunk
//! (`create_chunk`, `attach_chunk`) are not in the Apache edition.

mod jobs;

use std::collections::HashMap;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::{Name, qualified, quote_ident, quote_literal};
use crate::pg::printed;

use super::catalog::{Catalog, CatalogError, RowRef, parse_regclass};
use super::model::{Dimension, Hypertable, Kind, Model};

/// Schemas of the extension's own functions.
const OWN_SCHEMAS: [&str; 2] = ["_timescaledb_functions.", "_timescaledb_internal."];

/// The target as it bears on what can be carried.
#[derive(Debug, Clone)]
pub struct Target {
    /// The quoted schema of the extension's public functions.
    pub schema: String,
    /// Whether it has the TSL edition.
    pub tsl: bool,
    /// Whether jobs keep their owners.
    pub owners: bool,
    /// Whether hypertables keep their tablespaces.
    pub tablespaces: bool,
}

/// A step: what it makes, and its statements.
pub type Step = (String, Vec<SqlText>);

/// What is done by the public functions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portable {
    /// Makes tables hypertables, before they have rows.
    pub create: Vec<Step>,
    /// Settings, policies and jobs, after all else.
    pub settings: Vec<Step>,
    /// What cannot be carried, for the user.
    pub left_out: Vec<String>,
}

/// The steps for the hypertables whose tables are restored.
pub fn plan(
    catalog: &Catalog,
    model: &Model,
    restored: &dyn Fn(&Name) -> bool,
    target: &Target,
) -> Result<Portable, CatalogError> {
    let mut plan = Portable::default();
    for (&id, hypertable) in &model.hypertables {
        match hypertable.kind {
            Kind::Compressed => {}
            Kind::Aggregate { .. } => {
                let raw = hypertable.raw.and_then(|raw| model.hypertables.get(&raw));
                if raw.is_some_and(|raw| raw.kind != Kind::User || restored(&raw.table)) {
                    plan.left_out.push(format!(
                        "the continuous aggregate {}: its definition, rows and policies",
                        hypertable.display_name()
                    ));
                }
            }
            Kind::User if restored(&hypertable.table) => {
                create(catalog, id, hypertable, target, &mut plan)?;
                compression(catalog, model, id, hypertable, target, &mut plan)?;
            }
            Kind::User => {}
        }
    }
    jobs::jobs(catalog, model, restored, target, &mut plan)?;
    Ok(plan)
}

fn create(
    catalog: &Catalog,
    id: i64,
    hypertable: &Hypertable,
    target: &Target,
    plan: &mut Portable,
) -> Result<(), CatalogError> {
    let schema = &target.schema;
    let table = regclass(&hypertable.table);
    let mut statements = Vec::new();
    for row in of(catalog, "dimension", id)? {
        let dimension = dimension(row, schema)?;
        statements.push(if statements.is_empty() {
            format!("SELECT {schema}.create_hypertable({table}, {dimension}, create_default_indexes => false)")
        } else {
            format!("SELECT {schema}.add_dimension({table}, {dimension})")
        });
        if let (Some(function_schema), Some(function)) = (
            row.get("integer_now_func_schema"),
            row.get("integer_now_func"),
        ) {
            let function = quote_literal(&qualified(function_schema, function));
            statements.push(format!(
                "SELECT {schema}.set_integer_now_func({table}, {function})"
            ));
        }
    }
    if target.tablespaces {
        for row in of(catalog, "tablespace", id)? {
            let name = quote_literal(row.get("tablespace_name").unwrap_or_default());
            statements.push(format!(
                "SELECT {schema}.attach_tablespace({name}, {table})"
            ));
        }
    }
    let stats = of(catalog, "chunk_column_stats", id)?;
    if !stats.is_empty() {
        plan.left_out.push(format!(
            "{}: which columns chunks are skipped by (enable_chunk_skipping)",
            hypertable.display_name()
        ));
    }
    let statements = statements.into_iter().map(SqlText::from).collect();
    plan.create.push((
        format!("hypertable {}", hypertable.display_name()),
        statements,
    ));
    Ok(())
}

/// `by_range(...)` or `by_hash(...)`.
fn dimension(row: RowRef<'_>, schema: &str) -> Result<String, CatalogError> {
    let column = quote_literal(row.get("column_name").unwrap_or_default());
    let mut arguments = vec![column];
    let function = match (row.number("num_slices")?, row.number("interval_length")?) {
        (Some(slices), _) => {
            arguments.push(slices.to_string());
            "by_hash"
        }
        (None, length) => {
            let column = Dimension {
                column: String::new(),
                column_type: row.get("column_type").unwrap_or_default().to_owned(),
            };
            let length = length.unwrap_or_default();
            // What a function makes of the column is a number or a time, and not the column's own type.
            let own = row.get("partitioning_func").is_none();
            arguments.push(if own && column.is_integer() {
                format!("{length}::{}", column.column_type)
            } else if own {
                format!("INTERVAL '{length} microseconds'")
            } else {
                format!("{length}::bigint")
            });
            "by_range"
        }
    };
    let partitioning = (
        row.get("partitioning_func_schema"),
        row.get("partitioning_func"),
    );
    if let (Some(function_schema), Some(function)) = partitioning
        && !OWN_SCHEMAS.contains(&format!("{function_schema}.").as_str())
    {
        let name = quote_literal(&qualified(function_schema, function));
        arguments.push(format!("partition_func => {name}"));
    }
    Ok(format!("{schema}.{function}({})", arguments.join(", ")))
}

fn compression(
    catalog: &Catalog,
    model: &Model,
    id: i64,
    hypertable: &Hypertable,
    target: &Target,
    plan: &mut Portable,
) -> Result<(), CatalogError> {
    let settings = catalog.rows("compression_settings").find(|row| {
        let relation = row.get("relid").and_then(parse_regclass);
        relation.as_ref() == Some(&hypertable.table)
    });
    let Some(row) = settings else {
        return Ok(());
    };
    let name = hypertable.display_name();
    if !target.tsl {
        plan.left_out.push(format!(
            "{name}: its compression settings, which the Apache edition at the target does not know"
        ));
        return Ok(());
    }
    let columns = |column| {
        row.get(column)
            .map(printed::array_items)
            .unwrap_or_default()
    };
    let mut options = vec!["timescaledb.compress".to_owned()];
    let segment_by: Vec<String> = columns("segmentby")
        .iter()
        .map(|c| quote_ident(c))
        .collect();
    if !segment_by.is_empty() {
        let list = quote_literal(&segment_by.join(", "));
        options.push(format!("timescaledb.compress_segmentby = {list}"));
    }
    let (descending, nulls_first) = (columns("orderby_desc"), columns("orderby_nullsfirst"));
    let is = |flags: &[String], n: usize| flags.get(n).is_some_and(|flag| flag == "t");
    let order_by: Vec<String> = columns("orderby")
        .iter()
        .enumerate()
        .map(|(n, column)| {
            format!(
                "{} {} NULLS {}",
                quote_ident(column),
                if is(&descending, n) { "DESC" } else { "ASC" },
                if is(&nulls_first, n) { "FIRST" } else { "LAST" }
            )
        })
        .collect();
    if !order_by.is_empty() {
        let list = quote_literal(&order_by.join(", "));
        options.push(format!("timescaledb.compress_orderby = {list}"));
    }
    let table = qualified(&hypertable.table.0, &hypertable.table.1);
    let statement = format!("ALTER TABLE {table} SET ({})", options.join(", "));
    plan.settings.push((
        format!("compression settings of {name}"),
        vec![SqlText::from(statement)],
    ));
    let compressed = catalog.rows("chunk").filter(|row| {
        let status = row.number("status").ok().flatten().unwrap_or(0);
        row.number("hypertable_id") == Ok(Some(id)) && status & 1 != 0
    });
    let compressed = compressed.count();
    if compressed > 0 && model.chunks_of(id).next().is_some() {
        plan.left_out.push(format!(
            "{name}: that {compressed} of its chunks were compressed; compress_chunk() or its policy compresses them again"
        ));
    }
    Ok(())
}

/// The rows of a catalog table that belong to a hypertable, in the order of their numbers.
fn of<'a>(
    catalog: &'a Catalog,
    table: &'a str,
    hypertable: i64,
) -> Result<Vec<RowRef<'a>>, CatalogError> {
    let mut found = Vec::new();
    for row in catalog.rows(table) {
        if row.number("hypertable_id")? == Some(hypertable) {
            found.push((row.number("id")?, row));
        }
    }
    found.sort_by_key(|(id, _)| *id);
    Ok(found.into_iter().map(|(_, row)| row).collect())
}

fn regclass((schema, name): &Name) -> String {
    format!(
        "{}::pg_catalog.regclass",
        quote_literal(&qualified(schema, name))
    )
}

/// Whether an entry is of the extension's own making, which it makes again by itself: triggers that guard hypertables.
pub fn is_own(entry: &TocEntry) -> bool {
    let defn = entry.defn.to_lossy();
    entry.desc == "TRIGGER"
        && OWN_SCHEMAS
            .iter()
            .any(|schema| defn.contains(&format!("EXECUTE FUNCTION {schema}")))
}

/// Kinds of entries that alter their table.
const ALTERING: [&str; 5] = [
    "INDEX",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "DEFAULT",
];

/// Takes ONLY out of the statements on hypertables, which the extension at work refuses: all of them mean the chunks, too.
pub fn without_only(entries: &mut [TocEntry], model: &Model) {
    let tables: HashMap<i32, String> = entries
        .iter()
        .filter(|e| e.desc == "TABLE")
        .filter_map(|e| {
            let name = (
                e.namespace.as_ref()?.to_lossy().into_owned(),
                e.tag.to_lossy().into_owned(),
            );
            let known = model.hypertables.values().any(|h| h.table == name);
            known.then_some((e.dump_id, name.1))
        })
        .collect();
    for entry in entries
        .iter_mut()
        .filter(|e| ALTERING.contains(&e.desc.as_str()))
    {
        let own = entry.dependencies.iter().any(|id| {
            tables.get(id).is_some_and(|table| {
                // The tag of all but an index is its table's name, a blank, and its own.
                entry.desc == "INDEX" || entry.tag.to_lossy().starts_with(&format!("{table} "))
            })
        });
        if !own {
            continue;
        }
        for statement in [&mut entry.defn, &mut entry.drop_stmt] {
            if let Some(text) = statement.to_str() {
                *statement = SqlText::from(text.replace("ALTER TABLE ONLY ", "ALTER TABLE "));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{by_name, by_relation, catalog};
    use super::*;

    fn target(tsl: bool) -> Target {
        Target {
            schema: "public".to_owned(),
            tsl,
            owners: true,
            tablespaces: true,
        }
    }

    fn text(steps: &[Step]) -> String {
        let statements = steps.iter().flat_map(|(_, statements)| statements);
        statements
            .map(|s| s.to_lossy().into_owned() + "\n")
            .collect()
    }

    #[test]
    fn both_dialects_give_the_same_steps() {
        let plans = [by_name(), by_relation()].map(|catalog| {
            plan(
                &catalog,
                &catalog.model().unwrap(),
                &|_| true,
                &target(true),
            )
            .unwrap()
        });
        assert_eq!(plans[0], plans[1]);
        let left_out = plans[0].left_out.join("\n");
        assert!(
            left_out.contains("continuous aggregate public.daily"),
            "{left_out}"
        );
        assert!(
            left_out.contains("1 of its chunks were compressed"),
            "{left_out}"
        );
        assert_eq!(
            text(&plans[0].create),
            "SELECT public.create_hypertable('\"public\".\"m\"'::pg_catalog.regclass, public.by_range('at', INTERVAL '10 microseconds'), create_default_indexes => false)\n"
        );
    }

    #[test]
    fn dimensions_settings_and_policies_are_what_a_user_would_type() {
        let catalog = catalog(&[
            ("hypertable", "id schema_name table_name", &["1 s t"]),
            (
                "dimension",
                "id hypertable_id column_name column_type num_slices interval_length integer_now_func_schema integer_now_func",
                &[
                    "2 1 device text 3 \\N \\N \\N",
                    "1 1 n bigint \\N 1000 s now",
                ],
            ),
            (
                "compression_settings",
                "relid segmentby orderby orderby_desc orderby_nullsfirst",
                &["s.t {device,\"a,\\\"b\"} {n} {t} {f}"],
            ),
            (
                "bgw_job",
                "id application_name schedule_interval scheduled proc_schema proc_name hypertable_id owner config",
                &[
                    "1000 R 1d t _timescaledb_functions policy_retention 1 \"Bo\" {\"drop_after\":5}",
                    "1001 U 1d f s mine \\N bo {}",
                    "1002 X 1d f _timescaledb_functions policy_new 1 bo {}",
                ],
            ),
        ]);
        let model = catalog.model().unwrap();
        let steps = plan(&catalog, &model, &|_| true, &target(true)).unwrap();
        assert_eq!(
            steps.left_out,
            ["X of s.t: there is no function that adds one of its kind"]
        );
        let create = text(&steps.create);
        for part in [
            "by_range('n', 1000::bigint)",
            "set_integer_now_func('\"s\".\"t\"'::pg_catalog.regclass, '\"s\".\"now\"')",
            "add_dimension('\"s\".\"t\"'::pg_catalog.regclass, public.by_hash('device', 3))",
        ] {
            assert!(create.contains(part), "{create}");
        }
        let settings = text(&steps.settings);
        for part in [
            "compress_segmentby = '\"device\", \"a,\"\"b\"'",
            "compress_orderby = '\"n\" DESC NULLS LAST'",
            "add_retention_policy('\"s\".\"t\"'::pg_catalog.regclass, drop_after => 5::bigint)",
            "scheduled => 'f'::boolean",
            "SET LOCAL ROLE \"Bo\"",
            "add_job('\"s\".\"mine\"', schedule_interval => '1d'::interval, config => '{}'::jsonb)",
        ] {
            assert!(settings.contains(part), "{settings}");
        }
        let apache = plan(&catalog, &model, &|_| true, &target(false)).unwrap();
        assert!(apache.settings.is_empty());
        assert_eq!(apache.left_out.len(), 4, "{:?}", apache.left_out);
    }

    #[test]
    fn statements_on_hypertables_mean_their_chunks_too_and_those_on_others_do_not() {
        let entry = |dump_id, desc: &str, tag: &str, dependencies: &[i32]| TocEntry {
            dump_id,
            desc: desc.to_owned(),
            tag: tag.into(),
            namespace: Some("public".into()),
            defn: "ALTER TABLE ONLY public.m ADD x; ALTER TABLE ONLY public.m CLUSTER ON x;".into(),
            dependencies: dependencies.to_vec(),
            ..TocEntry::default()
        };
        let mut entries = [
            entry(1, "TABLE", "m", &[]),
            entry(2, "TABLE", "plain", &[]),
            entry(3, "INDEX", "x", &[1]),
            entry(4, "CONSTRAINT", "m m_pkey", &[1]),
            entry(5, "FK CONSTRAINT", "plain plain_m_fkey", &[1, 2]),
            entry(6, "INDEX", "y", &[2]),
        ];
        without_only(&mut entries, &by_name().model().unwrap());
        let changed: Vec<i32> = entries
            .iter()
            .filter(|e| !e.defn.to_lossy().contains("ONLY"))
            .map(|e| e.dump_id)
            .collect();
        assert_eq!(changed, [3, 4]);
    }
}
