//! Large objects: created with their ids, given owners, privileges and comments, then filled page by page.
//!
//! What the repository has of them goes into temporary tables as it is, and the server makes the objects from there: so
//! it reads names and comments in the encoding they were written in, and privileges in its own form.

use std::collections::BTreeSet;

use crate::pg::Connection;
use crate::pg::catalog::quote_literal;
use crate::pg::printed;
use crate::repo::model::{TableRecord, TableRole};

use super::Opened;
use super::exec::{Failure, Halt, Shared};
use super::load::{self, Count, LoadError};

/// Payload of pages that one transaction writes.
const RUN_BYTES: u64 = 64 << 20;
/// Large objects that one transaction creates or drops: each takes a lock.
const BATCH: usize = 500;

/// Where pages go on their way.
const PAGES: &str = "pg_temp.pgtide_large_object";
/// Where owners, privileges and comments go on their way.
const METADATA: &str = "pg_temp.pgtide_large_object_metadata";

/// What a large object needs at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Its id, which must be free.
    pub oid: u32,
    /// Its owner.
    pub owner: Option<String>,
    /// Roles that its privileges name.
    pub roles: BTreeSet<String>,
}

fn of_role<'o>(opened: &'o Opened, wanted: &[bool], role: &TableRole) -> Option<&'o TableRecord> {
    let mut tables = opened.tables.iter().zip(wanted);
    tables
        .find(|(table, wanted)| **wanted && table.role == *role)
        .map(|(table, _)| table)
}

/// What the large objects of the snapshot need, as far as they are wanted.
pub fn needs(opened: &Opened, wanted: &[bool]) -> Result<Vec<Needs>, crate::repo::RepoError> {
    let Some(metadata) = of_role(opened, wanted, &TableRole::LargeObjectMetadata) else {
        return Ok(Vec::new());
    };
    let lines = load::whole(&opened.reader, metadata)?;
    Ok(lines
        .split(|byte| *byte == b'\n')
        .filter_map(needs_of)
        .collect())
}

/// From a line of COPY text: id, owner, privileges, comment. A role whose name is not in UTF-8 is left to the server.
fn needs_of(line: &[u8]) -> Option<Needs> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let mut field = || printed::copy_field(std::str::from_utf8(fields.next()?).ok()?).ok()?;
    let oid = field()?.parse().ok()?;
    let owner = field();
    let roles = field().map(|acl| roles_of(&acl)).unwrap_or_default();
    Some(Needs { oid, owner, roles })
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

/// Which of these ids the database has.
pub fn existing(conn: &mut Connection, needs: &[Needs]) -> Result<Vec<u32>, crate::pg::Error> {
    let oids: Vec<u32> = needs.iter().map(|n| n.oid).collect();
    let mut found = Vec::new();
    for oids in oids.chunks(10_000) {
        let rows = conn.query(&format!(
            "SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY ('{}') ORDER BY oid",
            crate::pg::catalog::oid_array(oids)
        ))?;
        found.extend(
            rows.iter()
                .filter_map(|row| row.get(0)?.parse::<u32>().ok()),
        );
    }
    Ok(found)
}

/// Drops those that are there.
pub fn drop_existing(conn: &mut Connection, needs: &[Needs]) -> Result<(), crate::pg::Error> {
    for oids in existing(conn, needs)?.chunks(BATCH) {
        conn.execute(&format!(
            "SELECT pg_catalog.count(pg_catalog.lo_unlink(oid)) FROM pg_catalog.unnest('{}'::pg_catalog.oid[]) AS oid",
            crate::pg::catalog::oid_array(oids)
        ))?;
    }
    Ok(())
}

/// Restores all large objects of the snapshot, if it has any and they are wanted.
pub fn restore(
    conn: &mut Connection,
    opened: &Opened,
    shared: &Shared<'_>,
    wanted: &[bool],
) -> Result<(), Halt> {
    let Some(metadata) = of_role(opened, wanted, &TableRole::LargeObjectMetadata) else {
        return Ok(());
    };
    let pages = of_role(opened, wanted, &TableRole::LargeObjects);
    let result = create(conn, opened, metadata, shared)
        .and_then(|()| pages.map_or(Ok(()), |pages| fill(conn, opened, pages, shared)));
    match result {
        Ok(()) => Ok(()),
        Err(error) => {
            // Whatever was begun goes back; a session that is lost says so at its next statement.
            let _ = conn.execute("ROLLBACK");
            let go_on = shared.failed(Failure {
                object: "large objects".to_owned(),
                statement: String::new(),
                error: error.to_string(),
            });
            if go_on { Ok(()) } else { Err(Halt) }
        }
    }
}

/// Creates the objects with their owners, privileges and comments.
fn create(
    conn: &mut Connection,
    opened: &Opened,
    metadata: &TableRecord,
    shared: &Shared<'_>,
) -> Result<(), LoadError> {
    conn.execute(&format!(
        "CREATE TEMPORARY TABLE {} (n int4 GENERATED ALWAYS AS IDENTITY, oid oid, owner text, acl text, comment text)",
        METADATA.trim_start_matches("pg_temp.")
    ))?;
    let blocks = load::blocks(&opened.reader, metadata)?;
    let encoding = quote_literal(shared.encoding.unwrap_or("UTF8"));
    conn.execute("BEGIN")?;
    load::load(
        conn,
        &opened.reader,
        &format!(
            "SET LOCAL client_encoding = {encoding}; COPY {METADATA} (oid, owner, acl, comment) FROM STDIN"
        ),
        &blocks,
        Count::Exact,
        shared.progress,
    )?;
    conn.execute("COMMIT")?;
    let objects: usize = metadata.digest.rows.try_into().unwrap_or(usize::MAX);
    for first in (0..objects).step_by(BATCH) {
        conn.execute(&make_statement(first, first + BATCH, shared))?;
    }
    Ok(())
}

/// The statement that makes the objects after the `first`th up to the `last`th.
fn make_statement(first: usize, last: usize, shared: &Shared<'_>) -> String {
    let owner = if shared.render.no_owner {
        ""
    } else {
        "EXECUTE pg_catalog.format('ALTER LARGE OBJECT %s OWNER TO %I', o.oid, o.owner);"
    };
    // Privileges that the owner gave first: others pass them on. What the owner has goes to whoever owns it now.
    let privileges = if shared.render.no_privileges {
        ""
    } else {
        "IF o.acl IS NOT NULL THEN
           SELECT pg_catalog.pg_get_userbyid(m.lomowner) INTO owner FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = o.oid;
           EXECUTE pg_catalog.format('REVOKE ALL ON LARGE OBJECT %s FROM %I', o.oid, owner);
         END IF;
         -- No privileges at all are an array without dimensions, which aclexplode does not take.
         FOR g IN SELECT pg_catalog.pg_get_userbyid(a.grantor) AS grantor, a.grantee = 0 AS everybody, pg_catalog.pg_get_userbyid(a.grantee) AS grantee,
             a.privilege_type AS what, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS further
             FROM pg_catalog.aclexplode(nullif(o.acl, '{}')::pg_catalog.aclitem[]) WITH ORDINALITY a (grantor, grantee, privilege_type, is_grantable, n)
             ORDER BY pg_catalog.pg_get_userbyid(a.grantor) <> o.owner, a.n LOOP
           IF g.grantor <> o.owner THEN
             EXECUTE pg_catalog.format('SET LOCAL ROLE %I', g.grantor);
           END IF;
           EXECUTE pg_catalog.format('GRANT %s ON LARGE OBJECT %s TO %s%s', g.what, o.oid,
             CASE WHEN g.everybody THEN 'PUBLIC' WHEN g.grantee = o.owner THEN pg_catalog.quote_ident(owner) ELSE pg_catalog.quote_ident(g.grantee) END, g.further);
           IF g.grantor <> o.owner THEN
             RESET ROLE;
           END IF;
         END LOOP;"
    };
    let comments = !shared.render.no_comments;
    let body = format!(
        "DECLARE o record; g record; owner name;
         BEGIN
           FOR o IN SELECT m.oid, m.owner, m.acl, m.comment FROM {METADATA} m WHERE m.n > {first} AND m.n <= {last} ORDER BY m.n LOOP
             PERFORM pg_catalog.lo_create(o.oid);
             IF {comments} AND o.comment IS NOT NULL THEN
               EXECUTE pg_catalog.format('COMMENT ON LARGE OBJECT %s IS %L', o.oid, o.comment);
             END IF;
             {owner}
             {privileges}
           END LOOP;
         END"
    );
    format!("DO {}", quote_literal(&body))
}

/// Writes the pages, run by run.
fn fill(
    conn: &mut Connection,
    opened: &Opened,
    pages: &TableRecord,
    shared: &Shared<'_>,
) -> Result<(), LoadError> {
    conn.execute(&format!(
        "CREATE TEMPORARY TABLE {} (loid oid, pageno int4, data bytea)",
        PAGES.trim_start_matches("pg_temp.")
    ))?;
    // Pages have the size that they had at the source, whatever the target's is.
    let page = opened.snapshot.source.block_size / 4;
    let blocks = load::blocks(&opened.reader, pages)?;
    for run in load::runs(&blocks, RUN_BYTES) {
        conn.execute("BEGIN")?;
        let sql = format!("COPY {PAGES} (loid, pageno, data) FROM STDIN WITH (FORMAT binary)");
        load::load(
            conn,
            &opened.reader,
            &sql,
            &blocks[run],
            Count::Exact,
            shared.progress,
        )?;
        // A page without bytes, after a cut at its beginning, marks nothing but the end of the object: it makes the
        // object that long, if it is not yet.
        conn.execute(&format!(
            "SELECT pg_catalog.count(pg_catalog.lo_put(loid, pageno::int8 * {page}, data)::text)
               FROM {PAGES} WHERE data <> '';
             DO $$ DECLARE p record; fd int4; BEGIN
               FOR p IN SELECT loid, pageno::int8 * {page} AS size FROM {PAGES} WHERE data = '' LOOP
                 fd := pg_catalog.lo_open(p.loid, x'60000'::int4);
                 IF pg_catalog.lo_lseek64(fd, 0, 2) < p.size THEN PERFORM pg_catalog.lo_truncate64(fd, p.size); END IF;
                 PERFORM pg_catalog.lo_close(fd);
               END LOOP; END $$;
             TRUNCATE {PAGES}; COMMIT"
        ))?;
    }
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
        let needs = needs_of(b"4711\tme\t{you=r/me}\ta comment \xe9").unwrap();
        assert_eq!((needs.oid, needs.owner.as_deref()), (4711, Some("me")));
        assert_eq!(Vec::from_iter(needs.roles), ["me", "you"]);
        assert!(needs_of(b"4711\t\\N\t\\N\t\\N").unwrap().roles.is_empty());
        assert_eq!(needs_of(b""), None);
    }
}
