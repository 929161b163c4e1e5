//! Statistics as the source had them, instead of an ANALYZE: the rows go into temporary tables as they are, and the
//! server takes from there what belongs to relations that were restored with all their rows.

use std::collections::HashSet;
use std::sync::Arc;

use crate::pg::catalog::{Name, quote_literal};
use crate::pg::statistics::{self, COLUMNS, OLDEST_TAKER};
use crate::pg::{Connection, TransactionStatus};
use crate::repo::model::{TableRecord, TableRole};
use crate::schema::closure;

use super::chosen::Chosen;
use super::cost::{Kind, Size};
use super::exec::Failed;
use super::load::{self, Count, LoadError};
use super::plan::Plan;
use super::rows::stored;
use super::schedule::Task;
use super::work::{Shared, Work};
use super::{Opened, RestoreOptions};

/// Relations in one transaction, at most: each is locked with its indexes.
const MOST_RELATIONS: usize = 200;
/// Indexes that a table has, for the locks they take.
const INDEXES: usize = 10;
/// Rows from which on another session takes part.
const SHARE_ROWS: u64 = 2000;

/// The rows as they were stored.
const STORED: &str = "pg_temp.pgtide_statistics";
/// Names of the relations that may have them.
const WHOLE: &str = "pg_temp.pgtide_whole";
/// The rows to take, with the numbers of their relations.
const TAKEN: &str = "pg_temp.pgtide_statistics_taken";

/// A session's part of the statistics.
#[derive(Debug, Clone)]
pub struct Part {
    /// The table that holds them, among those of the snapshot.
    table: usize,
    /// Relations that were restored with all their rows.
    whole: Arc<Vec<Name>>,
    /// Whether all tables of the snapshot were.
    complete: bool,
    /// Whether this is about materialised views, or about everything else.
    views: bool,
    /// Which part.
    number: usize,
    /// How many parts there are.
    of: usize,
    /// Relations in one transaction.
    batch: usize,
}

/// The table of statistics, where the snapshot has one, they are wanted, and the server takes them.
pub fn table(opened: &Opened, options: &RestoreOptions, version: i32) -> Option<usize> {
    let mut tables = opened.tables.iter();
    // Hypertables that are made anew have other chunks.
    let wanted = options.statistics && version >= OLDEST_TAKER && !options.portable;
    tables
        .position(|table| table.role == TableRole::Statistics)
        .filter(|_| wanted)
}

/// The tasks that give their statistics to the relations that were restored with all their rows: to materialised views,
/// or to everything else. `locks` is what one session may lock.
pub fn plan(
    opened: &Opened,
    chosen: &Chosen,
    table: usize,
    views: bool,
    jobs: usize,
    locks: usize,
) -> Plan {
    let record = &opened.tables[table];
    let plain = || {
        let tables = opened.tables.iter().zip(&chosen.tables);
        tables.filter(|(table, _)| table.role == TableRole::Plain)
    };
    let rows_left_out: HashSet<Name> = plain()
        .filter(|(_, loaded)| !**loaded)
        .map(|(table, _)| table.key())
        .collect();
    let entries = opened.entries.iter().zip(&chosen.entries);
    let whole: Vec<Name> = entries
        .filter(|(entry, chosen)| {
            let kind = match entry.desc.as_str() {
                "MATERIALIZED VIEW" => views,
                "TABLE" | "FOREIGN TABLE" => !views,
                _ => false,
            };
            kind && **chosen
        })
        .filter_map(|(entry, _)| closure::relation(entry))
        .filter(|name| !rows_left_out.contains(name))
        .collect();
    let mut plan = Plan::default();
    if whole.is_empty() || (views && !rows_left_out.is_empty()) {
        return plan;
    }
    let whole = Arc::new(whole);
    let shares = usize::try_from(record.digest.rows / SHARE_ROWS).unwrap_or(usize::MAX);
    let of = jobs.min(shares).max(1);
    for number in 0..of {
        let task = Task {
            kind: Kind::Statistics,
            cost: Kind::Statistics.cost(Size::of(record)),
            ..Task::default()
        };
        let part = Part {
            table,
            whole: Arc::clone(&whole),
            complete: rows_left_out.is_empty(),
            views,
            number,
            of,
            batch: (locks / INDEXES).clamp(1, MOST_RELATIONS),
        };
        plan.push(task, Work::Statistics(part));
    }
    plan
}

/// Gives relations their statistics, in transactions of its own. Where the server does not take them, they are analysed
/// like others without.
pub fn restore(conn: &mut Connection, shared: &Shared<'_>, part: &Part) -> Result<(), Failed> {
    let record = &shared.tables[part.table];
    let result = take(conn, shared, part, record);
    if conn.transaction_status() != TransactionStatus::Idle {
        // A session that cannot even roll back is lost, and the next statement will say so.
        let _ = conn.execute("ROLLBACK");
    }
    let dropped = conn.execute("DISCARD TEMP").map_err(LoadError::from);
    match result.and(dropped) {
        Err(LoadError::Server(error)) if !error.is_connection_lost() => {
            shared.progress.note(&format!(
                "statistics could not be restored, so tables are analysed: {error}"
            ));
            Ok(())
        }
        other => other.map_err(|error| Failed::load("", &error)),
    }
}

fn take(
    conn: &mut Connection,
    shared: &Shared<'_>,
    part: &Part,
    record: &TableRecord,
) -> Result<(), LoadError> {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, kind)| format!("\"{name}\" {kind}"))
        .collect();
    conn.execute(&format!(
        "CREATE TEMPORARY TABLE {} ({}); CREATE TEMPORARY TABLE {} (schema text, name text)",
        STORED.trim_start_matches("pg_temp."),
        columns.join(", "),
        WHOLE.trim_start_matches("pg_temp."),
    ))?;
    for names in part.whole.chunks(1000) {
        let names: Vec<String> = names
            .iter()
            .map(|(schema, name)| format!("({}, {})", quote_literal(schema), quote_literal(name)))
            .collect();
        conn.execute(&format!("INSERT INTO {WHOLE} VALUES {}", names.join(", ")))?;
    }
    let columns: Vec<String> = record
        .columns
        .iter()
        .map(|column| crate::pg::catalog::quote_ident(&column.name))
        .collect();
    // The server reads a message in the encoding that holds when it arrives: it is set back before the next.
    let copy = format!(
        "BEGIN; SET LOCAL client_encoding = {}; COPY {STORED} ({}) FROM STDIN",
        quote_literal(shared.encoding.unwrap_or("UTF8")),
        columns.join(", ")
    );
    let blocks = load::blocks(shared.reader, record)?;
    load::load(conn, &copy, Count::Exact, |take| {
        stored(shared.reader, &blocks, shared.progress, take)
    })?;
    conn.execute("COMMIT")?;
    // A parent's statistics tell of its children's rows.
    let parents = if part.complete {
        ""
    } else {
        "AND NOT EXISTS (SELECT FROM of_children o WHERE o.schema = w.schema AND o.\"table\" = w.name)"
    };
    let kind = if part.views { "= 'm'" } else { "<> 'm'" };
    conn.execute(
        &format!(
            "CREATE TEMPORARY TABLE {taken} AS
             WITH of_children AS MATERIALIZED (
               SELECT DISTINCT schema, \"table\" FROM {STORED} WHERE inherited
             ), relations AS MATERIALIZED (
               SELECT w.schema, w.name, n.oid AS namespace, pg_catalog.row_number() OVER (ORDER BY w.schema, w.name) AS n
               FROM {WHOLE} w JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind {kind} {parents}
             )
             SELECT r.n, s.* FROM relations r JOIN {STORED} s ON s.schema = r.schema AND s.\"table\" = r.name
             JOIN pg_catalog.pg_class c ON c.relnamespace = r.namespace AND c.relname = coalesce(s.index, s.\"table\")
             WHERE r.n % {of} = {number};
             CREATE INDEX ON {TAKEN} (n)",
            taken = TAKEN.trim_start_matches("pg_temp."),
            of = part.of,
            number = part.number,
        ),
    )?;
    let relations = part.whole.len();
    let step = part.batch * part.of;
    for first in (0..=relations).step_by(step) {
        let from = format!("{TAKEN} s WHERE s.n >= {first} AND s.n < {}", first + step);
        for columns in [false, true] {
            conn.execute(&statistics::give(columns, &from))?;
        }
    }
    Ok(())
}
