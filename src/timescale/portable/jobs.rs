//! Policies and jobs, by the functions that add them.

use crate::pg::archive::SqlText;
use crate::pg::catalog::{Name, qualified, quote_ident, quote_literal};

use super::super::catalog::{Catalog, CatalogError, RowRef, parse_name};
use super::super::model::{Hypertable, Kind, Model};
use super::{OWN_SCHEMAS, Portable, Target, regclass};

/// Policies by the functions that add them, and jobs of users.
pub(super) fn jobs(
    catalog: &Catalog,
    model: &Model,
    restored: &dyn Fn(&Name) -> bool,
    target: &Target,
    plan: &mut Portable,
) -> Result<(), CatalogError> {
    for (name, rows) in &catalog.tables {
        if name.1 != "bgw_job" {
            continue;
        }
        for row in &rows.rows {
            let row = RowRef::new(&name.1, rows, row);
            let hypertable = row.number("hypertable_id")?;
            let hypertable = hypertable.and_then(|id| model.hypertables.get(&id));
            let wanted = hypertable.is_none_or(|h| h.kind == Kind::User && restored(&h.table));
            if !wanted {
                // Aggregates are named already, with all that is theirs.
                continue;
            }
            let title = row.get("application_name").unwrap_or("a job").to_owned();
            let title = match hypertable {
                Some(hypertable) => format!("{title} of {}", hypertable.display_name()),
                None => title,
            };
            match job(row, hypertable, target) {
                Some(statements) if target.tsl => plan.settings.push((title, statements)),
                Some(_) => plan.left_out.push(format!(
                    "{title}: the Apache edition at the target does not know jobs"
                )),
                None => plan.left_out.push(format!(
                    "{title}: there is no function that adds one of its kind"
                )),
            }
        }
    }
    Ok(())
}

fn job(row: RowRef<'_>, hypertable: Option<&Hypertable>, target: &Target) -> Option<Vec<SqlText>> {
    let schema = &target.schema;
    let config: serde_json::Value =
        serde_json::from_str(row.get("config").unwrap_or("null")).ok()?;
    let optional = |name: &str, column: &str, data_type: &str| {
        let value = row.get(column)?;
        Some(format!("{name} => {}::{data_type}", quote_literal(value)))
    };
    let procedure = (row.get("proc_schema")?, row.get("proc_name")?);
    let own = OWN_SCHEMAS.contains(&format!("{}.", procedure.0).as_str());
    let mut arguments = Vec::new();
    let function = match (own, procedure.1, hypertable) {
        (true, "policy_retention", Some(hypertable)) => {
            arguments.push(regclass(&hypertable.table));
            arguments.extend(age(&config, "drop_after", "drop_after", hypertable));
            arguments.extend(age(
                &config,
                "drop_created_before",
                "drop_created_before",
                hypertable,
            ));
            "add_retention_policy"
        }
        (true, "policy_compression", Some(hypertable)) => {
            arguments.push(regclass(&hypertable.table));
            arguments.extend(age(&config, "compress_after", "compress_after", hypertable));
            let before = "compress_created_before";
            arguments.extend(age(&config, before, before, hypertable));
            "add_compression_policy"
        }
        (true, "policy_reorder", Some(hypertable)) => {
            arguments.push(regclass(&hypertable.table));
            arguments.push(quote_literal(config.get("index_name")?.as_str()?));
            "add_reorder_policy"
        }
        (false, ..) => {
            arguments.push(quote_literal(&qualified(procedure.0, procedure.1)));
            arguments.extend(optional(
                "schedule_interval",
                "schedule_interval",
                "interval",
            ));
            arguments.extend(optional("config", "config", "jsonb"));
            arguments.extend(optional("fixed_schedule", "fixed_schedule", "boolean"));
            let check = (row.get("check_schema"), row.get("check_name"));
            if let (Some(check_schema), Some(check)) = check {
                let check = quote_literal(&qualified(check_schema, check));
                arguments.push(format!("check_config => {check}"));
            }
            "add_job"
        }
        _ => return None,
    };
    arguments.extend(optional("initial_start", "initial_start", "timestamptz"));
    arguments.extend(optional("timezone", "timezone", "text"));
    let settings: Vec<String> = [
        ("schedule_interval", "interval"),
        ("max_runtime", "interval"),
        ("max_retries", "integer"),
        ("retry_period", "interval"),
        ("scheduled", "boolean"),
    ]
    .into_iter()
    .filter_map(|(column, data_type)| optional(column, column, data_type))
    .collect();
    let add = format!(
        "SELECT {schema}.alter_job(j.id, {}) FROM (SELECT {schema}.{function}({}) AS id) j",
        settings.join(", "),
        arguments.join(", ")
    );
    let owner = row.get("owner").and_then(parse_name);
    Some(match owner.filter(|_| target.owners) {
        Some(owner) => vec![
            SqlText::from(format!("SET LOCAL ROLE {}", quote_ident(&owner))),
            SqlText::from(add),
            SqlText::from("RESET ROLE"),
        ],
        None => vec![SqlText::from(add)],
    })
}

/// An argument that says how old: an interval, or a number where time is one.
fn age(
    config: &serde_json::Value,
    key: &str,
    argument: &str,
    hypertable: &Hypertable,
) -> Option<String> {
    let value = config.get(key)?;
    Some(match value.as_i64() {
        Some(number) => {
            let column_type = hypertable
                .dimension
                .as_ref()
                .map(|d| d.column_type.as_str());
            format!(
                "{argument} => {number}::{}",
                column_type.unwrap_or("bigint")
            )
        }
        None => format!("{argument} => {}::interval", quote_literal(value.as_str()?)),
    })
}
