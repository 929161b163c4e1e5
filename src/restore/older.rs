//! Whether a server that is older than the source understands the statements of a restore, before anything is run.

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::{Connection, Error};
use crate::schema::statements::{RenderOptions, Renderer};

/// SQLSTATE syntax_error.
const SYNTAX_ERROR: &str = "42601";
/// SQLSTATE undefined_object: the server has no PL/pgSQL in this database.
const UNDEFINED_OBJECT: &str = "42704";
/// The version with a privilege that the parser takes for a name: only the statement's run would tell.
const MAINTAIN_SINCE: i32 = 170_000;

/// Entries with statements that the server does not understand, with what it says of them.
///
/// PL/pgSQL has the server's own parser look at every statement of a block before the block runs, and these blocks end
/// before their statement. Statements that are well-formed may fail all the same when they run, as those that name a
/// type that the server does not have.
pub fn not_understood(
    conn: &mut Connection,
    entries: &[&TocEntry],
    render: RenderOptions,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let maintain = conn.server_version() < MAINTAIN_SINCE;
    // Sessions of a restore leave bodies unchecked.
    conn.execute("SET check_function_bodies = on")?;
    let mut renderer = Renderer::new(render);
    for entry in entries {
        for statement in renderer.statements(entry) {
            if maintain && grants_maintain(entry, &statement) {
                found.push(format!(
                    "{}: unrecognized privilege type \"maintain\"",
                    super::entry_name(entry)
                ));
                continue;
            }
            match conn.execute(block(&statement).as_slice()) {
                Ok(()) => {}
                Err(error) if error.code() == Some(SYNTAX_ERROR) => {
                    let said = error.server().map(|e| e.message.as_str());
                    let name = super::entry_name(entry);
                    found.push(format!("{name}: {}", said.unwrap_or_default()));
                }
                Err(error) if error.code() == Some(UNDEFINED_OBJECT) => return Ok(found),
                Err(error) => return Err(error),
            }
        }
    }
    conn.execute("RESET check_function_bodies")?;
    Ok(found)
}

/// A block with the statement in it, which it does not reach.
fn block(statement: &SqlText) -> Vec<u8> {
    let text = statement.as_bytes().trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let mut tag = "$pgtide$".to_owned();
    while text.windows(tag.len()).any(|part| part == tag.as_bytes()) {
        tag.insert(1, 'x');
    }
    let begin = format!("DO {tag} BEGIN RETURN;\n");
    [begin.as_bytes(), text, b"\n; END ", tag.as_bytes()].concat()
}

fn grants_maintain(entry: &TocEntry, statement: &SqlText) -> bool {
    let text = statement.to_lossy();
    let mut privileges = text.lines().filter_map(|line| line.split(" ON ").next());
    matches!(entry.desc.as_str(), "ACL" | "DEFAULT ACL")
        && privileges.any(|list| {
            let mut words = list.split([' ', ',']);
            words.any(|word| word == "MAINTAIN")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_looked_at_whatever_it_holds() {
        let text = |statement: &str| String::from_utf8(block(&statement.into())).unwrap();
        assert_eq!(
            text("CREATE TABLE t ();\n\n"),
            "DO $pgtide$ BEGIN RETURN;\nCREATE TABLE t ()\n; END $pgtide$"
        );
        let odd = text("COMMENT ON TABLE t IS '$pgtide$ $xpgtide$'");
        assert!(odd.ends_with("; END $xxpgtide$"), "{odd}");
    }

    #[test]
    fn maintain_is_a_privilege_only_where_privileges_stand() {
        let entry = |desc: &str| TocEntry {
            desc: desc.to_owned(),
            ..TocEntry::default()
        };
        let grants = |text: &str| grants_maintain(&entry("ACL"), &text.into());
        assert!(grants("GRANT SELECT,MAINTAIN ON TABLE public.t TO r;"));
        assert!(grants(
            "GRANT SELECT ON TABLE t TO a;\nGRANT MAINTAIN ON TABLE t TO b;"
        ));
        assert!(!grants(
            "GRANT SELECT ON TABLE public.\"MAINTAIN \" TO \"MAINTAIN\";"
        ));
        assert!(!grants_maintain(
            &entry("COMMENT"),
            &"GRANT MAINTAIN ON".into()
        ));
    }
}
