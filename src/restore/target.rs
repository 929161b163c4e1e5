//! The target: how it is spoken to, what it can bear, and the database that is made there.

use crate::pg::archive::SqlText;
use crate::pg::catalog::{quote_ident, quote_literal};
use crate::pg::{Connection, SessionOptions};
use crate::schema::statements;

use super::{Opened, RestoreError, RestoreOptions, server};

/// What every session of a restore starts with.
pub fn session_options(opened: &Opened, options: &RestoreOptions) -> SessionOptions {
    let mut session = crate::pg::session_options();
    for (name, value) in statements::session_settings(&opened.entries) {
        session = session.with(&name, &value);
    }
    if let Some(role) = &options.role {
        session = session.with("role", role);
    }
    if options.row_security {
        session = session.with("row_security", "on");
    }
    // Commits need not reach the disk one by one; the last one of the restore makes all of them durable.
    session.with("synchronous_commit", "off")
}

/// The name of the database connected to.
pub fn database_name(conn: &mut Connection) -> Result<String, RestoreError> {
    let rows = conn
        .query("SELECT pg_catalog.current_database()")
        .map_err(server("could not ask for the database's name"))?;
    Ok(rows
        .first()
        .and_then(|row| row.get(0))
        .unwrap_or_default()
        .to_owned())
}

/// Objects that one transaction may lock: a quarter of the server's lock table.
pub fn lock_budget(conn: &mut Connection) -> Result<usize, RestoreError> {
    let rows = conn
        .query(
            "SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8
               * (pg_catalog.current_setting('max_connections')::int8
                  + pg_catalog.current_setting('max_prepared_transactions')::int8) / 4",
        )
        .map_err(server("could not read the size of the lock table"))?;
    Ok(rows
        .first()
        .and_then(|row| row.get(0))
        .and_then(|text| text.parse().ok())
        .unwrap_or(1600))
}

/// Creates a database of that name as the entry of the source's says. With `clean` one that is there is dropped.
pub fn create_database(
    opened: &Opened,
    options: &RestoreOptions,
    name: &str,
    conn: &mut Connection,
) -> Result<(), RestoreError> {
    if options.clean {
        let template = conn
            .query(&format!(
                "SELECT FROM pg_catalog.pg_database WHERE datname = {} AND datistemplate",
                quote_literal(name)
            ))
            .map_err(server("could not look at the database to drop"))?;
        if !template.is_empty() {
            conn.execute(&format!(
                "ALTER DATABASE {} IS_TEMPLATE false",
                quote_ident(name)
            ))
            .map_err(server("could not drop the database, which is a template"))?;
        }
        conn.execute(&format!("DROP DATABASE IF EXISTS {}", quote_ident(name)))
            .map_err(server("could not drop the database"))?;
    }
    let mut renderer = statements::Renderer::new(options.render);
    for &n in &opened.graph.database {
        let entry = &opened.entries[n];
        if entry.desc == "DATABASE" {
            // CREATE DATABASE allows no transaction around it.
            for statement in renderer.statements(entry) {
                let statement = renamed(&statement, &opened.snapshot.source.database, name)
                    .ok_or_else(|| {
                        let text = statement.to_lossy().into_owned();
                        RestoreError::Schema(format!("not a statement on the database: {text}"))
                    })?;
                conn.execute(&statement)
                    .map_err(server("could not create the database"))?;
            }
        }
    }
    Ok(())
}

/// The statement on a database as one on a database of another name; nothing where it is on another one.
fn renamed(statement: &SqlText, from: &str, to: &str) -> Option<Vec<u8>> {
    let bytes = statement.as_bytes();
    for verb in ["CREATE", "ALTER"] {
        // pg_dump quotes where it must.
        for name in [from.to_owned(), quote_ident(from)] {
            let start = format!("{verb} DATABASE {name} ");
            if let Some(rest) = bytes.strip_prefix(start.as_bytes()) {
                let start = format!("{verb} DATABASE {} ", quote_ident(to));
                return Some([start.as_bytes(), rest].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_on_the_database_are_made_for_one_of_another_name() {
        let text = |statement: &str, from, to| {
            let renamed = renamed(&statement.into(), from, to)?;
            Some(String::from_utf8(renamed).unwrap())
        };
        let create = "CREATE DATABASE \"Odd one\" WITH TEMPLATE = template0 ENCODING = 'UTF8';";
        assert_eq!(
            text(create, "Odd one", "odd").unwrap(),
            "CREATE DATABASE \"odd\" WITH TEMPLATE = template0 ENCODING = 'UTF8';"
        );
        let alter = "ALTER DATABASE shop OWNER TO shop;";
        assert_eq!(
            text(alter, "shop", "a b").unwrap(),
            "ALTER DATABASE \"a b\" OWNER TO shop;"
        );
        assert_eq!(text(alter, "sho", "x"), None);
    }
}
