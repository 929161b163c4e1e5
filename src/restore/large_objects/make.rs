//! Creates large objects with all that belongs to them, many at a time.

use std::sync::atomic::Ordering;

use crate::pg::Connection;
use crate::pg::catalog::quote_literal;
use crate::repo::model::TableRecord;

use super::super::exec::Failed;
use super::super::load::{self, LoadError};
use super::super::work::Shared;
use super::Part;
use super::look::{fields, oid_of};

/// Bytes of owners, privileges and comments that one transaction takes, about.
const BATCH_BYTES: usize = 1 << 20;

/// Where owners, privileges, comments and labels go on their way.
const METADATA: &str = "pg_temp.pgtide_large_object_metadata";

/// Creates a part of the objects, in transactions of its own. A batch that fails is done by halves, until it is known
/// which object it was; one that failed is left out where the restore goes on after errors.
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
        labels: columns.contains(&"labels") && !shared.render.no_security_labels,
    };
    let mut batch: Vec<u8> = Vec::new();
    let mut objects = 0;
    let mut number = 0;
    load::lines(shared.reader, metadata, |line| {
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
        let error = match self.together(conn, lines, &self.make) {
            Ok(()) => return self.label(conn, lines),
            Err(error) => error,
        };
        if let Some((first, second)) = halves(lines, &error) {
            self.make(conn, first)?;
            return self.make(conn, second);
        }
        self.shared.objects_missing.store(true, Ordering::SeqCst);
        self.give_up(lines, &error)
    }

    /// Labels the objects. A label that the target does not take is no reason to go without its object.
    fn label(&self, conn: &mut Connection, lines: &[u8]) -> Result<(), Failed> {
        let labelled = |line: &&[u8]| fields(line).last().is_some_and(|label| label != b"\\N");
        let all = lines.split_inclusive(|byte| *byte == b'\n');
        if !self.labels || !all.clone().any(|line| labelled(&line)) {
            return Ok(());
        }
        let lines: Vec<u8> = all.filter(labelled).flatten().copied().collect();
        let Err(error) = self.together(conn, &lines, LABEL) else {
            return Ok(());
        };
        if let Some((first, second)) = halves(&lines, &error) {
            self.label(conn, first)?;
            return self.label(conn, second);
        }
        self.give_up(&lines, &error)
    }

    /// Goes on without an object, or without its labels, where the restore goes on after errors.
    fn give_up(&self, line: &[u8], error: &LoadError) -> Result<(), Failed> {
        let object = format!("LARGE OBJECT {}", oid_of(line).unwrap_or_default());
        let failed = Failed::load("", error).of(object);
        if failed.is_lost() || !self.shared.continue_on_error {
            return Err(failed);
        }
        self.shared
            .failed(failed.failure(|| "large objects".to_owned()));
        Ok(())
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
}

/// Two halves of some lines that failed together; nothing where there is one line only, or no session any more.
fn halves<'l>(lines: &'l [u8], error: &LoadError) -> Option<(&'l [u8], &'l [u8])> {
    if matches!(error, LoadError::Server(error) if error.is_connection_lost()) {
        return None;
    }
    let end = |line: &[u8]| line.iter().position(|byte| *byte == b'\n');
    let middle = lines.len() / 2;
    let before = lines[..middle].iter().rposition(|byte| *byte == b'\n');
    let at = before.or_else(|| Some(middle + end(&lines[middle..])?))? + 1;
    (at < lines.len()).then(|| lines.split_at(at))
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
    let comments = !shared.render.no_comments;
    let body = format!(
        "DECLARE o record; g record; owner name; own text := pg_catalog.current_setting('role'); acl pg_catalog.aclitem[]; usual bool;
         BEGIN
           FOR o IN SELECT m.owner, m.acl, pg_catalog.array_agg(m.oid) AS oids, pg_catalog.string_agg(m.oid::text, ', ') AS list
               FROM {METADATA} m GROUP BY m.owner, m.acl LOOP
             owner := {owner};
             {create}
             {privileges}
           END LOOP;
           FOR o IN SELECT m.oid, m.comment FROM {METADATA} m WHERE {comments} AND m.comment IS NOT NULL LOOP
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Error;

    #[test]
    fn lines_are_halved_until_there_is_one() {
        fn ones<'l>(lines: &'l [u8], found: &mut Vec<&'l [u8]>) {
            match halves(lines, &LoadError::Server(Error::Protocol(String::new()))) {
                Some((first, second)) => {
                    ones(first, found);
                    ones(second, found);
                }
                None => found.push(lines),
            }
        }
        for text in [
            &b"1\n"[..],
            b"1\n2\n",
            b"a long line\n2\n",
            b"1\na long line\n",
            b"1\n\n3\n4 and more\n5\n",
        ] {
            let mut found = Vec::new();
            ones(text, &mut found);
            assert_eq!(found, Vec::from_iter(text.split_inclusive(|b| *b == b'\n')));
        }
    }
}
