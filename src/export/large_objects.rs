//! Large objects: what belongs to each, their pages, and the statements that make them.

use crate::pg::archive::SqlText;
use crate::pg::printed::{array_items, identifier};
use crate::repo::model::{TableRecord, TableRole};
use crate::rows::Format;
use crate::rows::text::{NotAValue, copy_value};
use crate::schema::ident::push_ident;

use super::ExportError;
use super::source::Source;
use super::tables;

/// A large object; names and texts in the database's encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its id.
    pub oid: u32,
    /// Its owner.
    pub owner: Vec<u8>,
    /// Its privileges, as `aclitem[]` prints them, where they are not the owner's alone.
    pub acl: Option<Vec<u8>>,
    /// Its comment.
    pub comment: Option<Vec<u8>>,
}

fn of_role<'a>(source: &Source<'a>, role: &TableRole) -> Option<&'a TableRecord> {
    let tables = source.opened.tables.iter().zip(&source.chosen.tables);
    tables
        .filter(|(table, chosen)| **chosen && table.role == *role)
        .map(|(table, _)| table)
        .next()
}

/// Hands on all large objects, in order of their ids.
pub fn objects(
    source: &Source<'_>,
    take: &mut dyn FnMut(Object) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let Some(metadata) = of_role(source, &TableRole::LargeObjectMetadata) else {
        return Ok(());
    };
    // A comment may be larger than a block.
    let mut begun = Vec::new();
    tables::each(source, metadata, &mut |_, payload| {
        for line in payload.split_inclusive(|byte| *byte == b'\n') {
            begun.extend_from_slice(line);
            if begun.last() == Some(&b'\n') {
                begun.pop();
                take(object(&begun)?)?;
                begun.clear();
            }
        }
        Ok(())
    })
}

/// From a line of COPY text: id, owner, privileges, comment.
fn object(line: &[u8]) -> Result<Object, NotAValue> {
    let mut fields = line.split(|byte| *byte == b'\t').map(copy_value);
    let mut field = || fields.next().flatten();
    let oid = field().and_then(|oid| std::str::from_utf8(&oid).ok()?.parse().ok());
    Ok(Object {
        oid: oid.ok_or(NotAValue("a large object without an id"))?,
        owner: field().unwrap_or_default(),
        acl: field(),
        comment: field(),
    })
}

/// A page of a large object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'p> {
    /// The object.
    pub oid: u32,
    /// Where the page begins in it.
    pub offset: u64,
    /// Its bytes; none say that the object ends here.
    pub data: &'p [u8],
}

/// Hands on the pages of all large objects, in the order in which they lay at the source, which is any; and nothing after
/// those of each block.
pub fn pages(
    source: &Source<'_>,
    take: &mut dyn FnMut(Option<Page<'_>>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let Some(pages) = of_role(source, &TableRole::LargeObjects) else {
        return Ok(());
    };
    let size = u64::from(source.opened.snapshot.source.block_size / 4);
    tables::each(source, pages, &mut |block, mut payload| {
        if block.format != Format::Binary {
            return Err(NotAValue("a page of a large object in an unknown form").into());
        }
        while !payload.is_empty() {
            take(Some(page(&mut payload, size)?))?;
        }
        take(None)
    })
}

/// A row of `pg_largeobject`: 3 fields; the id and the number of the page, of 4 bytes each; bytes.
fn page<'p>(payload: &mut &'p [u8], size: u64) -> Result<Page<'p>, NotAValue> {
    const BROKEN: NotAValue = NotAValue("a page of a large object breaks off");
    let (head, rest) = payload.split_first_chunk::<22>().ok_or(BROKEN)?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..2] != [0, 3] || word(2) != 4 || word(10) != 4 {
        return Err(BROKEN);
    }
    let (data, rest) = rest.split_at_checked(word(18) as usize).ok_or(BROKEN)?;
    *payload = rest;
    Ok(Page {
        oid: word(6),
        offset: u64::from(word(14)) * size,
        data,
    })
}

/// The statement that writes bytes into an object.
pub fn put_statement(oid: u32, offset: u64, data: &[u8]) -> String {
    format!(
        "SELECT pg_catalog.lo_put({oid}, {offset}, '\\x{}');\n",
        hex::encode(data)
    )
}

/// The statement that makes an object at least that long.
pub fn extend_statement(oid: u32, size: u64) -> String {
    format!(
        "DO $pgtide$ DECLARE fd integer := pg_catalog.lo_open({oid}, x'60000'::integer); BEGIN \
         IF pg_catalog.lo_lseek64(fd, 0, 2) < {size} THEN PERFORM pg_catalog.lo_truncate64(fd, {size}); END IF; \
         PERFORM pg_catalog.lo_close(fd); END $pgtide$;\n"
    )
}

/// A statement whose names or texts are in the database's encoding, so that a session in UTF-8 understands it.
fn in_utf8(source: &Source<'_>, statement: Vec<u8>) -> Vec<u8> {
    match source.encoding() {
        Some(encoding) if !statement.is_ascii() => format!(
            "DO $pgtide$ BEGIN EXECUTE pg_catalog.convert_from('\\x{}', '{encoding}'); END $pgtide$;\n",
            hex::encode(statement)
        )
        .into_bytes(),
        _ => statement,
    }
}

/// The statement that gives an object its owner.
pub fn owner_statement(source: &Source<'_>, object: &Object) -> Vec<u8> {
    let mut out = format!("ALTER LARGE OBJECT {} OWNER TO ", object.oid).into_bytes();
    push_ident(&mut out, &SqlText::from(object.owner.clone()));
    out.extend_from_slice(b";\n");
    in_utf8(source, out)
}

/// The statement that gives an object its comment, if it has one.
pub fn comment_statement(source: &Source<'_>, object: &Object) -> Option<Vec<u8>> {
    let comment = object.comment.as_ref()?;
    let mut out = format!("COMMENT ON LARGE OBJECT {} IS ", object.oid).into_bytes();
    out.extend_from_slice(if comment.contains(&b'\\') {
        b"E'"
    } else {
        b"'"
    });
    for byte in comment {
        if matches!(byte, b'\'' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.extend_from_slice(b"';\n");
    Some(in_utf8(source, out))
}

/// Statements that give an object its privileges; none where the owner has all and nobody else has any.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// The statements, with line ends.
    pub statements: Vec<u8>,
    /// Whether all are the owner's to give: nobody else's session is needed.
    pub by_owner: bool,
}

impl Privileges {
    /// Whether `pg_restore` can apply the statements to other objects, too: each of them names the object.
    pub fn simple(&self) -> bool {
        self.by_owner && !self.statements.starts_with(b"DO ")
    }
}

/// What gives an object its privileges.
pub fn privileges(source: &Source<'_>, object: &Object) -> Option<Privileges> {
    let found = grants(object)?;
    Some(Privileges {
        statements: in_utf8(source, found.statements),
        by_owner: found.by_owner,
    })
}

/// Bytes of any encoding as characters, for parsers of text, and back.
fn as_chars(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn as_bytes(chars: &str) -> SqlText {
    SqlText::from(chars.chars().map(|c| c as u8).collect::<Vec<u8>>())
}

struct Grant {
    grantee: String,
    rights: String,
    grantor: String,
}

/// `grantee=rights/grantor`; `r` and `w` are rights, each with `*` behind it if it may be passed on.
fn grant(item: &str) -> Option<Grant> {
    let (grantee, rest) = identifier(item, &['='])?;
    let (rights, grantor) = rest.strip_prefix('=')?.split_once('/')?;
    Some(Grant {
        grantee,
        rights: rights.to_owned(),
        grantor: identifier(grantor, &[])?.0,
    })
}

fn grants(object: &Object) -> Option<Privileges> {
    let acl = as_chars(object.acl.as_ref()?);
    let owner = as_chars(&object.owner);
    let mut grants: Vec<Grant> = array_items(&acl).iter().filter_map(|i| grant(i)).collect();
    if let [only] = &grants[..]
        && (only.grantee == owner && only.grantor == owner && only.rights == "rw")
    {
        return None;
    }
    // What the owner gave comes first: others pass it on.
    grants.sort_by_key(|grant| grant.grantor != owner);
    let mut out = format!("REVOKE ALL ON LARGE OBJECT {} FROM ", object.oid).into_bytes();
    push_ident(&mut out, &as_bytes(&owner));
    out.extend_from_slice(b";\n");
    let by_owner = grants.iter().all(|grant| grant.grantor == owner);
    for grant in grants {
        let foreign = grant.grantor != owner;
        if foreign {
            out.extend_from_slice(b"SET SESSION AUTHORIZATION ");
            push_ident(&mut out, &as_bytes(&grant.grantor));
            out.extend_from_slice(b";\n");
        }
        for passed_on in [false, true] {
            let has = |right: &str| {
                let at = grant.rights.find(right);
                at.is_some_and(|at| grant.rights[at + 1..].starts_with('*') == passed_on)
            };
            let rights = match (has("r"), has("w")) {
                (true, true) => "ALL",
                (true, false) => "SELECT",
                (false, true) => "UPDATE",
                (false, false) => continue,
            };
            out.extend_from_slice(
                format!("GRANT {rights} ON LARGE OBJECT {} TO ", object.oid).as_bytes(),
            );
            if grant.grantee.is_empty() {
                out.extend_from_slice(b"PUBLIC");
            } else {
                push_ident(&mut out, &as_bytes(&grant.grantee));
            }
            out.extend_from_slice(if passed_on {
                b" WITH GRANT OPTION;\n"
            } else {
                b";\n"
            });
        }
        if foreign {
            out.extend_from_slice(b"RESET SESSION AUTHORIZATION;\n");
        }
    }
    Some(Privileges {
        statements: out,
        by_owner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(acl: &str) -> Object {
        Object {
            oid: 7,
            owner: b"me".to_vec(),
            acl: Some(acl.as_bytes().to_vec()),
            comment: None,
        }
    }

    #[test]
    fn privileges_become_statements() {
        assert_eq!(grants(&with("{me=rw/me}")), None);
        let text = |acl: &str| String::from_utf8(grants(&with(acl)).unwrap().statements).unwrap();
        assert_eq!(
            text(r#"{me=rw/me,"\"Odd \"\"one\"=r*w/me",=r/"\"Odd \"\"one\""}"#),
            "REVOKE ALL ON LARGE OBJECT 7 FROM me;\nGRANT ALL ON LARGE OBJECT 7 TO me;\n\
             GRANT UPDATE ON LARGE OBJECT 7 TO \"Odd \"\"one\";\nGRANT SELECT ON LARGE OBJECT 7 TO \"Odd \"\"one\" WITH GRANT OPTION;\n\
             SET SESSION AUTHORIZATION \"Odd \"\"one\";\nGRANT SELECT ON LARGE OBJECT 7 TO PUBLIC;\nRESET SESSION AUTHORIZATION;\n"
        );
        assert_eq!(text("{}"), "REVOKE ALL ON LARGE OBJECT 7 FROM me;\n");
    }

    #[test]
    fn pages_are_cut_out_of_rows() {
        let row = b"\0\x03\0\0\0\x04\0\0\0\x07\0\0\0\x04\0\0\0\x02\0\0\0\x03abc";
        let mut payload = &row[..];
        let found = page(&mut payload, 2048).unwrap();
        assert_eq!(
            (found.oid, found.offset, found.data),
            (7, 4096, &b"abc"[..])
        );
        assert!(payload.is_empty());
        for cut in 0..row.len() {
            assert!(page(&mut &row[..cut], 2048).is_err());
        }
    }

    #[test]
    fn lines_tell_of_objects() {
        let found = object(b"4711\tme\t\\N\ta\\tcomment \xe9").unwrap();
        assert_eq!((found.oid, &found.owner[..]), (4711, &b"me"[..]));
        assert_eq!(found.comment.as_deref(), Some(&b"a\tcomment \xe9"[..]));
        assert!(object(b"").is_err());
    }
}
