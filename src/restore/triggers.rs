//! Triggers that must not fire while a table that exists is loaded.

use crate::pg::catalog::{Name, qualified, quote_literal};
use crate::pg::{Connection, Error};

/// A table whose triggers are disabled until they are enabled again, or the transaction is rolled back.
pub struct Triggers {
    table: String,
    /// Statements for those that were not simply enabled before.
    others: Vec<String>,
}

impl Triggers {
    /// Disables all triggers of the table that rows are sent to, those of foreign keys among them. To be called in the
    /// transaction that loads it: if that fails, they are what they were.
    pub fn disable(conn: &mut Connection, (schema, name): &Name) -> Result<Self, Error> {
        let table = qualified(schema, name);
        // The lock of ALTER TABLE, so that what is read next is what is changed then.
        conn.execute(&format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))?;
        let of = format!("{}::pg_catalog.regclass", quote_literal(&table));
        let rows = conn.query(&format!(
            "SELECT pg_catalog.format('ALTER TABLE ONLY %s %s TRIGGER %I', t.tgrelid::pg_catalog.regclass,
               CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname)
             FROM pg_catalog.pg_trigger t
             WHERE t.tgenabled <> 'O' AND t.tgrelid IN (
               SELECT {of} UNION ALL SELECT p.relid FROM pg_catalog.pg_partition_tree({of}) p)"
        ))?;
        let others = rows.iter().filter_map(|row| row.get(0).map(str::to_owned));
        let others = others.collect();
        conn.execute(&format!("ALTER TABLE {table} DISABLE TRIGGER ALL"))?;
        Ok(Self { table, others })
    }

    /// Makes them what they were.
    pub fn enable(&self, conn: &mut Connection) -> Result<(), Error> {
        conn.execute(&format!("ALTER TABLE {} ENABLE TRIGGER ALL", self.table))?;
        self.others.iter().try_for_each(|sql| conn.execute(sql))
    }
}
