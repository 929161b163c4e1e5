//! Large objects: created with their ids, filled page by page, then given owners, privileges and comments.

use crate::pg::Connection;
use crate::pg::catalog::quote_literal;
use crate::repo::model::{BlockRef, TableRecord, TableRole};
use crate::rows::Decoder;

use super::exec::{Failure, Shared};
use super::load::{self, Count, LoadError};
use super::{Halt, Opened};

/// Payload of pages that one transaction writes.
const RUN_BYTES: u64 = 64 << 20;
/// Large objects that one transaction creates: each takes a lock.
const CREATE_BATCH: usize = 500;

/// Where pages go on their way: as rows, from which the server writes them.
const STAGING: &str = "pg_temp.pgtide_large_object";

/// Restores all large objects of the snapshot, if it has any and they are wanted.
pub fn restore(
    conn: &mut Connection,
    opened: &Opened,
    shared: &Shared<'_>,
    wanted: &[bool],
) -> Result<(), Halt> {
    let of_role = |role: &TableRole| {
        let tables = opened.tables.iter().zip(wanted);
        tables
            .filter(|(table, wanted)| **wanted && table.role == *role)
            .map(|(table, _)| table)
            .next()
    };
    let Some(metadata) = of_role(&TableRole::LargeObjectMetadata) else {
        return Ok(());
    };
    let result = create(conn, opened, metadata, shared).and_then(|()| {
        of_role(&TableRole::LargeObjects).map_or(Ok(()), |pages| fill(conn, opened, pages, shared))
    });
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
    let mut decoder = Decoder::new();
    let (mut scratch, mut payload) = (Vec::new(), Vec::new());
    for block in load::blocks(&opened.reader, metadata)? {
        opened
            .reader
            .read(&block.id, &mut decoder, &mut scratch, &mut payload)?;
        let text = String::from_utf8_lossy(&payload);
        let lines: Vec<&str> = text.lines().collect();
        for lines in lines.chunks(CREATE_BATCH) {
            let statements: Vec<String> =
                lines.iter().flat_map(|line| object(line, shared)).collect();
            conn.execute("BEGIN")?;
            conn.batch(statements.iter().map(String::as_bytes))
                .map_err(|error| error.source)?;
            conn.execute("COMMIT")?;
        }
    }
    Ok(())
}

/// The statements that make one large object, from its line of COPY text: id, owner, privileges, comment.
fn object(line: &str, shared: &Shared<'_>) -> Vec<String> {
    let fields: Vec<Option<String>> = line.split('\t').map(unescape).collect();
    let field = |n: usize| fields.get(n).cloned().flatten();
    let Some(oid) = field(0) else {
        return Vec::new();
    };
    let mut statements = vec![format!("SELECT pg_catalog.lo_create('{oid}')")];
    if let (Some(owner), false) = (field(1), shared.render.no_owner) {
        statements.push(format!(
            "ALTER LARGE OBJECT {oid} OWNER TO {}",
            crate::pg::catalog::quote_ident(&owner)
        ));
    }
    if let (Some(acl), false) = (field(2), shared.render.no_privileges) {
        // The server itself reads its form of the privileges.
        let acl = quote_literal(&acl);
        statements.push(format!(
            "DO {}",
            quote_literal(&format!(
                "DECLARE g record; BEGIN
                 EXECUTE 'REVOKE ALL ON LARGE OBJECT {oid} FROM ' || (SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(lomowner)) FROM pg_catalog.pg_largeobject_metadata WHERE oid = '{oid}');
                 FOR g IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS role, a.privilege_type AS what, a.is_grantable AS further
                   FROM pg_catalog.aclexplode({acl}::pg_catalog.aclitem[]) a LOOP
                   EXECUTE 'GRANT ' || g.what || ' ON LARGE OBJECT {oid} TO ' || g.role || CASE WHEN g.further THEN ' WITH GRANT OPTION' ELSE '' END;
                 END LOOP; END"
            ))
        ));
    }
    if let Some(comment) = field(3) {
        statements.push(format!(
            "COMMENT ON LARGE OBJECT {oid} IS {}",
            quote_literal(&comment)
        ));
    }
    statements
}

/// A field of COPY text.
fn unescape(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut value = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => value.push('\u{8}'),
            Some('f') => value.push('\u{c}'),
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some('v') => value.push('\u{b}'),
            Some(other) => value.push(other),
            None => {}
        }
    }
    Some(value)
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
        STAGING.trim_start_matches("pg_temp.")
    ))?;
    let blocks = load::blocks(&opened.reader, pages)?;
    let mut rest = &blocks[..];
    while !rest.is_empty() {
        let run = run_of(rest);
        let (now, later) = rest.split_at(run);
        conn.execute("BEGIN")?;
        let sql = format!("COPY {STAGING} (loid, pageno, data) FROM STDIN WITH (FORMAT binary)");
        load::load(
            conn,
            &opened.reader,
            &sql,
            now,
            Count::Exact,
            shared.progress,
        )?;
        // A page of a large object is a quarter of a page of the server.
        conn.execute(&format!(
            "SELECT pg_catalog.count(pg_catalog.lo_put(loid, pageno::int8 * (pg_catalog.current_setting('block_size')::int8 / 4), data)::text) FROM {STAGING};
             TRUNCATE {STAGING}; COMMIT"
        ))?;
        rest = later;
    }
    Ok(())
}

/// How many blocks make a run.
fn run_of(blocks: &[BlockRef]) -> usize {
    let mut bytes = 0;
    for (n, block) in blocks.iter().enumerate() {
        bytes += u64::from(block.payload_len);
        if bytes >= RUN_BYTES {
            return n + 1;
        }
    }
    blocks.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_copy_text_come_back_as_they_were() {
        assert_eq!(unescape("\\N"), None);
        assert_eq!(unescape("a\\tb\\\\c\\n"), Some("a\tb\\c\n".to_owned()));
        assert_eq!(unescape(""), Some(String::new()));
    }
}
