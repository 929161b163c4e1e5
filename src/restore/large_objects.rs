//! Large objects: created with their ids, owners, privileges, comments and labels, batch by batch and by many sessions;
//! then filled with their pages.
//!
//! What the repository has of them goes into temporary tables as it is, and the server makes the objects from there: so
//! it reads names and comments in the encoding they were written in, and privileges in its own form. Pages go straight
//! into `pg_largeobject` where the role may write there and a page is as long as it was, and through `lo_put` elsewhere.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::pg::catalog::{oid_array, quote_literal};
use crate::pg::{Connection, Error, printed};
use crate::repo::RepoError;
use crate::repo::model::{BlockRef, TableRecord, TableRole};

use super::exec::{Failed, Shared, Work};
use super::load::{self, Count, LoadError, SharedLoad};
use super::plan::{CHEAP_BYTES, Plan};
use super::schedule::Task;
use super::{Opened, RestoreError, server};

/// Large objects that one transaction creates or drops, at most: most of what is done with them takes a lock on each.
const MOST_OBJECTS: usize = 2000;
/// Bytes of owners, privileges and comments that one transaction takes, about.
const BATCH_BYTES: usize = 1 << 20;
/// Ids that are looked for at a time.
const LOOK: usize = 10_000;
/// Ids in the way that are shown.
const SHOWN: usize = 3;

/// Where pages go on their way.
const PAGES: &str = "pg_temp.pgtide_large_object";
/// Where owners, privileges, comments and labels go on their way.
const METADATA: &str = "pg_temp.pgtide_large_object_metadata";

/// What the large objects of a snapshot need at the target, and what is in their way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Their owners.
    pub owners: BTreeSet<String>,
    /// Roles that their privileges name.
    pub roles: BTreeSet<String>,
    /// Those that are there already, as people are told of them.
    pub existing: Option<String>,
}

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

/// A batch that could not be looked for or dropped.
#[derive(Debug)]
enum LookError {
    Repo(RepoError),
    Server(Error),
}

impl From<RepoError> for LookError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl LookError {
    fn in_context(self, context: &'static str) -> RestoreError {
        match self {
            Self::Repo(error) => error.into(),
            Self::Server(error) => server(context)(error),
        }
    }
}

/// Calls `f` with the wanted objects' ids, so many at a time, and `also` with every line.
fn ids(
    opened: &Opened,
    wanted: &[bool],
    at_a_time: usize,
    mut also: impl FnMut(&[u8]),
    mut f: impl FnMut(&[u32]) -> Result<(), Error>,
) -> Result<(), LookError> {
    let role = TableRole::LargeObjectMetadata;
    let Some((_, metadata)) = of_role(&opened.tables, wanted, &role) else {
        return Ok(());
    };
    let mut oids = Vec::with_capacity(at_a_time);
    load::lines(&opened.reader, metadata, |line| {
        also(line);
        oids.extend(oid_of(line));
        if oids.len() >= at_a_time {
            f(&oids).map_err(LookError::Server)?;
            oids.clear();
        }
        Ok::<_, LookError>(())
    })?;
    if oids.is_empty() {
        return Ok(());
    }
    f(&oids).map_err(LookError::Server)
}

/// What the large objects of the snapshot need, as far as they are wanted. With `existing`, also which of them the
/// database has already.
pub fn needs(
    opened: &Opened,
    wanted: &[bool],
    existing: bool,
    conn: &mut Connection,
) -> Result<Needs, RestoreError> {
    let context = "could not look for large objects at the target";
    let mut needs = Needs::default();
    // There are few owners and few ways to share, however many objects there are.
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let also = |line: &[u8]| {
        let mut fields = fields(line).skip(1);
        let (owner, acl) = (fields.next(), fields.next());
        let mut first = |field: Option<&[u8]>| -> Option<String> {
            let field = field.filter(|field| !seen.contains(*field))?;
            seen.insert(field.to_vec());
            value(field)
        };
        needs.owners.extend(first(owner));
        needs
            .roles
            .extend(first(acl).iter().flat_map(|acl| roles_of(acl)));
    };
    let mut found = Vec::new();
    let mut number = 0;
    let look = |oids: &[u32]| {
        if !existing {
            return Ok(());
        }
        let rows = conn.query(&format!(
            "SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY ('{}') ORDER BY oid",
            oid_array(oids)
        ))?;
        number += rows.len();
        let names = rows.iter().filter_map(|row| row.get(0));
        let room = SHOWN.saturating_sub(found.len());
        found.extend(names.take(room).map(str::to_owned));
        Ok(())
    };
    ids(opened, wanted, LOOK, also, look).map_err(|error| error.in_context(context))?;
    let more = match number - found.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    needs.existing = (number > 0).then(|| format!("LARGE OBJECT {}{more}", found.join(", ")));
    Ok(needs)
}

/// Drops those of the snapshot that are there, as far as they are wanted. No transaction locks more than `locks` of them.
pub fn drop_existing(
    opened: &Opened,
    wanted: &[bool],
    locks: usize,
    conn: &mut Connection,
) -> Result<(), RestoreError> {
    let at_a_time = locks.clamp(1, MOST_OBJECTS);
    let drop = |oids: &[u32]| {
        conn.execute(&format!(
            "SELECT pg_catalog.count(pg_catalog.lo_unlink(m.oid)) FROM pg_catalog.pg_largeobject_metadata m
             WHERE m.oid = ANY ('{}'::pg_catalog.oid[])",
            oid_array(oids)
        ))
    };
    ids(opened, wanted, at_a_time, |_| {}, drop).map_err(|error| {
        error.in_context("could not drop the large objects that are to be restored")
    })
}

/// The fields of a line of COPY text.
fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.split(|byte| *byte == b'\t')
}

/// A field's value. One that is not in UTF-8 is left to the server.
fn value(field: &[u8]) -> Option<String> {
    printed::copy_field(std::str::from_utf8(field).ok()?).ok()?
}

/// The id, which is the first field.
fn oid_of(line: &[u8]) -> Option<u32> {
    value(fields(line).next()?)?.parse().ok()
}

/// The roles in a text of privileges, such as `{owner=rw/owner,"\"odd role\"=r/owner",=r/owner}`.
fn roles_of(acl: &str) -> BTreeSet<String> {
    let mut roles = BTreeSet::new();
    let role =
        |text: &str| printed::identifier(text, &['=', '/']).map(|(name, rest)| (name, rest.len()));
    for item in printed::array_items(acl) {
        let Some((grantee, rest)) = role(&item) else {
            continue;
        };
        roles.insert(grantee);
        if let Some((_, grantor)) = item[item.len() - rest..].split_once('/') {
            roles.extend(role(grantor).map(|(name, _)| name));
        }
    }
    // Everybody has no name.
    roles.remove("");
    roles
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
    jobs: usize,
    locks: usize,
) -> Result<(), RepoError> {
    let tables = &opened.tables;
    let Some((table, metadata)) = of_role(tables, wanted, &TableRole::LargeObjectMetadata) else {
        return Ok(());
    };
    let batch = locks.clamp(1, MOST_OBJECTS);
    let objects = usize::try_from(metadata.digest.rows).unwrap_or(usize::MAX);
    let of = jobs.min(objects.div_ceil(batch)).max(1);
    // None of these is cheap: what they do takes several transactions, and none is part of a batch.
    let task = |table: &TableRecord, after: &[usize]| Task {
        cost: table.payload_bytes.max(CHEAP_BYTES + 1),
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
        let runs = Arc::new(SharedLoad::new(load::blocks(&opened.reader, pages)?, jobs));
        for _ in 0..jobs.min(runs.len()) {
            let work = Work::LargeObjectPages(n, Arc::clone(&runs));
            plan.push(task(pages, &created), work);
        }
    }
    Ok(())
}

/// Creates a part of the objects, in transactions of its own. What of them fails is done without the rest of its batch,
/// so that it is known which object it was; one that failed is left out where the restore goes on after errors.
pub fn create(conn: &mut Connection, shared: &Shared<'_>, part: &Part) -> Result<(), Failed> {
    let metadata = &shared.tables[part.table];
    let table = format!(
        "CREATE TEMPORARY TABLE {} (oid oid, owner text, acl text, comment text, labels text) ON COMMIT DELETE ROWS",
        METADATA.trim_start_matches("pg_temp.")
    );
    conn.execute(&table)
        .map_err(|error| Failed::server(table.as_bytes(), &error))?;
    let result = create_in(conn, shared, part, metadata);
    // A session that is lost has no table any more.
    let _ = conn.execute(&format!("DROP TABLE {METADATA}"));
    result
}

fn create_in(
    conn: &mut Connection,
    shared: &Shared<'_>,
    part: &Part,
    metadata: &TableRecord,
) -> Result<(), Failed> {
    let columns: Vec<&str> = metadata.columns.iter().map(|c| c.name.as_str()).collect();
    // The server reads a message in the encoding that holds when it arrives: it is set back before the next.
    let copy = format!(
        "BEGIN; SET LOCAL client_encoding = {}; COPY {METADATA} ({}) FROM STDIN",
        quote_literal(shared.encoding.unwrap_or("UTF8")),
        columns.join(", ")
    );
    let maker = Maker {
        shared,
        copy,
        make: make_statement(shared),
        labels: columns.contains(&"labels"),
    };
    let mut batch: Vec<u8> = Vec::new();
    let mut objects = 0;
    let mut number = 0;
    load::lines(&shared.reader, metadata, |line| {
        let mine = number / part.batch % part.of == part.number;
        number += 1;
        if mine {
            batch.extend_from_slice(line);
            objects += 1;
        }
        if objects >= part.batch || batch.len() >= BATCH_BYTES {
            maker.make(conn, &batch)?;
            objects = 0;
            batch.clear();
        }
        Ok::<_, Failed>(())
    })?;
    maker.make(conn, &batch)
}

/// Makes objects from lines.
struct Maker<'a> {
    shared: &'a Shared<'a>,
    /// Begins a transaction and takes the lines.
    copy: String,
    /// Makes the objects from what was taken.
    make: String,
    /// Whether there may be labels.
    labels: bool,
}

impl Maker<'_> {
    fn make(&self, conn: &mut Connection, lines: &[u8]) -> Result<(), Failed> {
        if lines.is_empty() {
            return Ok(());
        }
        let Err(error) = self.together(conn, lines, &self.make) else {
            return self.label(conn, lines);
        };
        self.one_by_one(conn, lines, error, |conn, line| {
            let made = self.together(conn, line, &self.make);
            if made.is_err() {
                self.shared.objects_missing.store(true, Ordering::SeqCst);
            }
            made?;
            self.together(conn, line, LABEL)
        })
    }

    /// Labels the objects. A label that the target does not take is no reason to go without its object.
    fn label(&self, conn: &mut Connection, lines: &[u8]) -> Result<(), Failed> {
        let labelled = |line: &&[u8]| fields(line).last().is_some_and(|label| label != b"\\N");
        let mut lines = lines.split_inclusive(|byte| *byte == b'\n');
        if !self.labels || !lines.clone().any(|line| labelled(&line)) {
            return Ok(());
        }
        let lines: Vec<u8> = lines.by_ref().filter(labelled).flatten().copied().collect();
        match self.together(conn, &lines, LABEL) {
            Ok(()) => Ok(()),
            Err(error) => self.one_by_one(conn, &lines, error, |conn, line| {
                self.together(conn, line, LABEL)
            }),
        }
    }

    /// Takes the lines and runs a statement on them, in one transaction.
    fn together(
        &self,
        conn: &mut Connection,
        lines: &[u8],
        statement: &str,
    ) -> Result<(), LoadError> {
        let mut run = || {
            let mut copy = conn.copy_in(&self.copy)?;
            copy.write(lines)?;
            let loaded = copy.finish()?;
            let expected = lines.split_inclusive(|byte| *byte == b'\n').count() as u64;
            if loaded != expected {
                return Err(LoadError::Count { loaded, expected });
            }
            conn.execute("SET LOCAL client_encoding = 'UTF8'")?;
            conn.execute(statement)?;
            Ok(conn.execute("COMMIT")?)
        };
        let result = run();
        if result.is_err() {
            // A session that cannot even roll back is lost, and the next statement will say so.
            let _ = conn.execute("ROLLBACK");
        }
        result
    }

    /// Does what failed for many for each of them.
    fn one_by_one(
        &self,
        conn: &mut Connection,
        lines: &[u8],
        error: LoadError,
        f: impl Fn(&mut Connection, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), Failed> {
        if matches!(&error, LoadError::Server(error) if error.is_connection_lost()) {
            return Err(Failed::load("", &error));
        }
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let Err(error) = f(conn, line) else { continue };
            let object = format!("LARGE OBJECT {}", oid_of(line).unwrap_or_default());
            let failed = Failed::load("", &error).of(object);
            if failed.is_lost() || !self.shared.continue_on_error {
                return Err(failed);
            }
            self.shared
                .failed(failed.failure(|| "large objects".to_owned()));
        }
        Ok(())
    }
}

/// The statement that makes the objects that were taken: all of one owner and the same privileges at a time.
///
/// An owner creates its objects itself, which saves changing each of them. Privileges that the owner gave come first:
/// others pass them on. What the owner has goes to whoever owns it now.
fn make_statement(shared: &Shared<'_>) -> String {
    let (owner, create) = if shared.render.no_owner {
        (
            "current_user",
            "PERFORM pg_catalog.lo_create(u) FROM pg_catalog.unnest(o.oids) u;",
        )
    } else {
        (
            "coalesce(o.owner, current_user)",
            "PERFORM pg_catalog.set_config('role', coalesce(o.owner, own), true);
             PERFORM pg_catalog.lo_create(u) FROM pg_catalog.unnest(o.oids) u;
             PERFORM pg_catalog.set_config('role', own, true);",
        )
    };
    let privileges = if shared.render.no_privileges {
        ""
    } else {
        "IF o.acl IS NOT NULL THEN
           -- No privileges at all are an array without dimensions, which aclexplode does not take.
           acl := nullif(o.acl, '{}')::pg_catalog.aclitem[];
           -- Privileges come from the owner first of all, should it not be named.
           o.owner := coalesce(o.owner, (SELECT pg_catalog.pg_get_userbyid(a.grantor) FROM pg_catalog.aclexplode(acl) a LIMIT 1));
           -- What every owner has as long as nobody says otherwise.
           usual := (SELECT pg_catalog.count(*) = 2 FROM pg_catalog.aclexplode(acl) a
             WHERE a.grantor = a.grantee AND pg_catalog.pg_get_userbyid(a.grantee) = o.owner AND NOT a.is_grantable);
           IF NOT usual THEN
             EXECUTE pg_catalog.format('REVOKE ALL ON LARGE OBJECT %s FROM %I', o.list, owner);
           END IF;
           FOR g IN SELECT pg_catalog.pg_get_userbyid(a.grantor) AS grantor, a.grantee = 0 AS everybody, pg_catalog.pg_get_userbyid(a.grantee) AS grantee,
               pg_catalog.string_agg(a.privilege_type, ', ') AS what, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS further
               FROM pg_catalog.aclexplode(acl) WITH ORDINALITY a (grantor, grantee, privilege_type, is_grantable, n)
               GROUP BY a.grantor, a.grantee, a.is_grantable
               ORDER BY pg_catalog.pg_get_userbyid(a.grantor) <> o.owner, pg_catalog.min(a.n) LOOP
             CONTINUE WHEN usual AND g.grantor = o.owner AND g.grantee = o.owner AND pg_catalog.cardinality(acl) > 1;
             IF g.grantor <> o.owner THEN
               PERFORM pg_catalog.set_config('role', g.grantor, true);
             END IF;
             EXECUTE pg_catalog.format('GRANT %s ON LARGE OBJECT %s TO %s%s', g.what, o.list,
               CASE WHEN g.everybody THEN 'PUBLIC' WHEN g.grantee = o.owner THEN pg_catalog.quote_ident(owner) ELSE pg_catalog.quote_ident(g.grantee) END, g.further);
             PERFORM pg_catalog.set_config('role', own, true);
           END LOOP;
         END IF;"
    };
    let body = format!(
        "DECLARE o record; g record; owner name; own text := pg_catalog.current_setting('role'); acl pg_catalog.aclitem[]; usual bool;
         BEGIN
           FOR o IN SELECT m.owner, m.acl, pg_catalog.array_agg(m.oid) AS oids, pg_catalog.string_agg(m.oid::text, ', ') AS list
               FROM {METADATA} m GROUP BY m.owner, m.acl LOOP
             owner := {owner};
             {create}
             {privileges}
           END LOOP;
           FOR o IN SELECT m.oid, m.comment FROM {METADATA} m WHERE m.comment IS NOT NULL LOOP
             EXECUTE pg_catalog.format('COMMENT ON LARGE OBJECT %s IS %L', o.oid, o.comment);
           END LOOP;
         END"
    );
    format!("DO {}", quote_literal(&body))
}

/// Labels the objects that were taken.
const LABEL: &str = "DO $$ DECLARE o record; BEGIN
    FOR o IN SELECT m.oid, m.labels::pg_catalog.text[] AS labels FROM pg_temp.pgtide_large_object_metadata m WHERE m.labels IS NOT NULL LOOP
      FOR n IN 1 .. pg_catalog.array_length(o.labels, 1) LOOP
        EXECUTE pg_catalog.format('SECURITY LABEL FOR %I ON LARGE OBJECT %s IS %L', o.labels[n][1], o.oid, o.labels[n][2]);
      END LOOP;
    END LOOP; END $$";

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

/// Writes pages through the server's functions, run by run.
pub fn put(conn: &mut Connection, shared: &Shared<'_>, runs: &SharedLoad) -> Result<(), LoadError> {
    conn.execute(&format!(
        "CREATE TEMPORARY TABLE {} (loid oid, pageno int4, data bytea) ON COMMIT DELETE ROWS",
        PAGES.trim_start_matches("pg_temp.")
    ))?;
    let mut result = Ok(());
    while let Some(run) = runs.next_run() {
        result = put_run(conn, shared, run);
        if result.is_err() {
            // A session that cannot even roll back is lost, and the next statement will say so.
            let _ = conn.execute("ROLLBACK");
            break;
        }
    }
    let _ = conn.execute(&format!("DROP TABLE {PAGES}"));
    result
}

fn put_run(conn: &mut Connection, shared: &Shared<'_>, run: &[BlockRef]) -> Result<(), LoadError> {
    conn.execute("BEGIN")?;
    let sql = format!("COPY {PAGES} (loid, pageno, data) FROM STDIN WITH (FORMAT binary)");
    let progress = shared.progress;
    load::load(conn, shared.reader, &sql, run, Count::Exact, progress)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_found_in_privileges_however_they_are_quoted() {
        let acl = r#"{owner=rw/owner,"\"odd \"\"role\\\\, =/\"=r*/owner","=r/\"Other One\""}"#;
        let roles: Vec<String> = roles_of(acl).into_iter().collect();
        assert_eq!(roles, ["Other One", r#"odd "role\\, =/"#, "owner"]);
        assert!(roles_of("{}").is_empty());
    }

    #[test]
    fn a_line_says_what_its_object_needs() {
        let line = b"4711\tme\t{you=r/me}\ta comment \xe9\n";
        assert_eq!(oid_of(line), Some(4711));
        let values: Vec<_> = fields(line).map(value).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(values, [text("4711"), text("me"), text("{you=r/me}"), None]);
        assert_eq!(fields(b"4711\t\\N\n").map(value).last(), Some(None));
        assert_eq!(oid_of(b""), None);
    }
}
