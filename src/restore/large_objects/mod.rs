//! Large objects: created with their ids, owners, privileges, comments and labels, batch by batch and by many sessions;
//! then filled with their pages.
//!
//! What the repository has of them goes into temporary tables as it is, and the server makes the objects from there: so
//! it reads names and comments in the encoding they were written in, and privileges in its own form. Pages go straight
//! into `pg_largeobject` where the role may write there and a page is as long as it was, and through `lo_put` elsewhere.

mod look;
mod make;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::pg::{Connection, Error};
use crate::repo::model::{TableRecord, TableRole};

use super::Opened;
use super::cost::{Kind, Size};
use super::load::{self, Count, LoadError, SharedLoad};
use super::plan::Plan;
use super::rows::{RowSource, Take};
use super::schedule::Task;
use super::work::{Shared, Work};

pub use look::{Needs, drop_existing, needs};
pub use make::create;

/// Large objects that one transaction creates or drops, at most: most of what is done with them takes a lock on each.
const MOST_OBJECTS: usize = 2000;

/// Where pages go on their way.
const PAGES: &str = "pg_temp.pgtide_large_object";

fn of_role<'o>(
    tables: &'o [TableRecord],
    wanted: &[bool],
    role: &TableRole,
) -> Option<(usize, &'o TableRecord)> {
    let mut tables = tables.iter().enumerate().zip(wanted);
    tables
        .find(|((_, table), wanted)| **wanted && table.role == *role)
        .map(|(table, _)| table)
}

/// A session's part of the objects to create.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The table of what belongs to them, among the tables of the snapshot.
    table: usize,
    /// Which part.
    number: usize,
    /// How many parts there are.
    of: usize,
    /// Objects in one transaction.
    batch: usize,
}

/// Adds the tasks that restore the large objects to the main pass, if there are any and they are wanted: each session
/// creates a part of them, and when all are there the sessions share their pages. `locks` is what one session may lock.
pub fn plan(
    plan: &mut Plan,
    opened: &Opened,
    wanted: &[bool],
    rows: &dyn RowSource,
    jobs: usize,
    locks: usize,
) -> Result<(), LoadError> {
    let tables = &opened.tables;
    let Some((table, metadata)) = of_role(tables, wanted, &TableRole::LargeObjectMetadata) else {
        return Ok(());
    };
    let batch = locks.clamp(1, MOST_OBJECTS);
    let objects = usize::try_from(metadata.digest.rows).unwrap_or(usize::MAX);
    let of = jobs.min(objects.div_ceil(batch)).max(1);
    let task = |table: &TableRecord, after: &[usize]| Task {
        kind: Kind::LargeObjects,
        cost: Kind::LargeObjects.cost(Size::of(table)),
        after: after.to_vec(),
        ..Task::default()
    };
    let created: Vec<usize> = (0..of)
        .map(|number| {
            let part = Part {
                table,
                number,
                of,
                batch,
            };
            plan.push(task(metadata, &[]), Work::LargeObjects(part))
        })
        .collect();
    let Some((n, pages)) = of_role(tables, wanted, &TableRole::LargeObjects) else {
        return Ok(());
    };
    if pages.digest.rows > 0 {
        let pieces = rows.pieces(n)?;
        let all = 0..pieces.len();
        let runs = Arc::new(SharedLoad::new(pieces, &[all], jobs));
        for _ in 0..jobs.min(runs.len()) {
            let work = Work::LargeObjectPages(n, Arc::clone(&runs));
            plan.push(task(pages, &created), work);
        }
    }
    Ok(())
}

/// Whether pages can go into `pg_largeobject` as they are: a superuser writes there, pages have one length, and each has
/// its object. This is several times as fast as `lo_put`.
pub fn takes_pages(conn: &mut Connection, shared: &Shared<'_>) -> Result<bool, Error> {
    if conn.parameter("is_superuser") != Some("on") || shared.objects_missing.load(Ordering::SeqCst)
    {
        return Ok(false);
    }
    let rows = conn.query("SELECT pg_catalog.current_setting('block_size')::int8 / 4")?;
    let page = rows.first().map(|row| row.get_i64(0)).transpose()?;
    Ok(page == Some(i64::from(shared.page)))
}

/// Reads the rows of a run.
pub type ReadRun<'r> = dyn FnMut(Range<usize>, &mut Take<'_>) -> Result<u64, LoadError> + 'r;

/// Writes pages through the server's functions, run by run.
pub fn put(
    conn: &mut Connection,
    shared: &Shared<'_>,
    runs: &SharedLoad,
    read: &mut ReadRun<'_>,
) -> Result<(), LoadError> {
    conn.execute(&format!(
        "CREATE TEMPORARY TABLE {} (loid oid, pageno int4, data bytea) ON COMMIT DELETE ROWS",
        PAGES.trim_start_matches("pg_temp.")
    ))?;
    let mut result = Ok(());
    while let Some(run) = runs.next_run() {
        result = put_run(conn, shared, &mut |take| read(run.clone(), take));
        if result.is_err() {
            // A session that cannot even roll back is lost, and the next statement will say so.
            let _ = conn.execute("ROLLBACK");
            break;
        }
    }
    let _ = conn.execute(&format!("DROP TABLE {PAGES}"));
    result
}

fn put_run(
    conn: &mut Connection,
    shared: &Shared<'_>,
    read: &mut dyn FnMut(&mut Take<'_>) -> Result<u64, LoadError>,
) -> Result<(), LoadError> {
    conn.execute("BEGIN")?;
    let sql = format!("COPY {PAGES} (loid, pageno, data) FROM STDIN WITH (FORMAT binary)");
    load::load(conn, &sql, Count::Exact, read)?;
    if shared.objects_missing.load(Ordering::SeqCst) {
        conn.execute(&format!(
            "DELETE FROM {PAGES} p WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = p.loid)"
        ))?;
    }
    // Pages have the size that they had at the source, whatever the target's is. One without bytes, after a cut at its
    // beginning, marks nothing but the end of the object: it makes the object that long, if it is not yet.
    let page = shared.page;
    conn.execute(&format!(
        "SELECT pg_catalog.count(pg_catalog.lo_put(loid, pageno::int8 * {page}, data)::text)
           FROM {PAGES} WHERE data <> '';
         DO $$ DECLARE p record; fd int4; BEGIN
           FOR p IN SELECT loid, pageno::int8 * {page} AS size FROM {PAGES} WHERE data = '' LOOP
             fd := pg_catalog.lo_open(p.loid, x'60000'::int4);
             IF pg_catalog.lo_lseek64(fd, 0, 2) < p.size THEN PERFORM pg_catalog.lo_truncate64(fd, p.size); END IF;
             PERFORM pg_catalog.lo_close(fd);
           END LOOP; END $$;
         COMMIT"
    ))?;
    Ok(())
}
