//! What is to be known of large objects before they are restored, from what the repository has of them.

use std::collections::{BTreeSet, HashSet};

use crate::pg::catalog::oid_array;
use crate::pg::{Connection, Error, printed};
use crate::repo::RepoError;
use crate::repo::model::TableRole;

use super::super::{Opened, RestoreError, load, server};
use super::{MOST_OBJECTS, of_role};

/// Ids that are looked for at a time.
const LOOK: usize = 10_000;
/// Ids in the way that are shown.
const SHOWN: usize = 3;

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
pub fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.split(|byte| *byte == b'\t')
}

/// A field's value. One that is not in UTF-8 is left to the server.
fn value(field: &[u8]) -> Option<String> {
    printed::copy_field(std::str::from_utf8(field).ok()?).ok()?
}

/// The id, which is the first field.
pub fn oid_of(line: &[u8]) -> Option<u32> {
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
