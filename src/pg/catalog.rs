//! Catalog queries, all in bulk: none of them runs once per table.

use std::collections::HashMap;

use super::{Connection, Error, Row};

/// A relation that a dump locks, and reads where it has rows of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// `relkind`: `r` for a table, `p` for a partitioned one, `f` for a foreign one.
    pub kind: char,
    /// Whether it is unlogged: empty on a standby.
    pub unlogged: bool,
    /// Whether it is stored in PostgreSQL's own heap, which TID ranges need.
    pub heap: bool,
    /// The file that holds its rows as the catalog snapshot sees it; 0 where there is none.
    pub filenode: u32,
    /// The extension whose configuration it is, and the condition on the rows to dump.
    pub config: Option<ConfigTable>,
    /// Changes when anything does that changes how stored rows are read: files, columns, missing values.
    pub fingerprint: String,
}

/// An extension's configuration table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigTable {
    /// Name of the extension.
    pub extension: String,
    /// A `WHERE` clause, or nothing for all rows.
    pub condition: String,
}

impl Relation {
    /// The quoted, qualified name.
    pub fn sql_name(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// Schema and name.
    pub fn key(&self) -> Name {
        (self.schema.clone(), self.name.clone())
    }

    /// Whether it can be locked: foreign tables cannot.
    pub fn is_lockable(&self) -> bool {
        self.kind != 'f'
    }

    /// The name as people write it.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// A column that COPY reads: neither dropped nor generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: u32,
    /// Its type as `format_type` prints it.
    pub type_name: String,
}

/// What the catalog says of a type, as far as its binary form goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeRow {
    /// Its name.
    pub name: String,
    /// Whether it lives in `pg_catalog` and came with the server.
    pub builtin: bool,
    /// The extension it belongs to.
    pub extension: Option<String>,
    /// `typtype`: `b`ase, `c`omposite, `d`omain, `e`num, `r`ange, `m`ultirange, `p`seudo.
    pub kind: char,
    /// Whether it is a true array, and of what.
    pub element: Option<u32>,
    /// Base of a domain, subtype of a range, range of a multirange.
    pub inner: Option<u32>,
    /// The fields of a composite.
    pub fields: Vec<u32>,
    /// Whether it has both a send and a receive function.
    pub send_receive: bool,
}

/// A quoted identifier.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted literal, safe whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// A quoted, qualified name.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

pub(super) fn text(row: &Row, column: usize) -> Result<String, Error> {
    row.text(column).map(str::to_owned)
}

pub(super) fn number<T: std::str::FromStr>(row: &Row, column: usize) -> Result<T, Error> {
    let value = row.text(column)?;
    value.parse().map_err(|_| Error::Value {
        column,
        message: format!("{value:?} is not a number"),
    })
}

pub(super) fn flag(row: &Row, column: usize) -> bool {
    row.get(column) == Some("t")
}

/// Tables and partitioned tables of the database that a dump reads: the users' own, and the configuration tables
/// of extensions. Run in the MVCC snapshot it says what that sees; run in a fresh session, what is there now.
///
/// The fingerprint covers what may change under an MVCC snapshot without its noticing: TRUNCATE and rewrites change
/// the files, and a column dropped and added again has another number.
pub fn relations(conn: &mut Connection) -> Result<Vec<Relation>, Error> {
    let rows = conn.query(
        "WITH config AS MATERIALIZED (
           SELECT e.extname, u.oid AS relid, coalesce(e.extcondition[u.n], '') AS condition
           FROM pg_catalog.pg_extension e, LATERAL unnest(e.extconfig) WITH ORDINALITY AS u(oid, n)
         ), member AS MATERIALIZED (
           SELECT objid FROM pg_catalog.pg_depend
           WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND deptype = 'e'
         )
         SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence = 'u',
           coalesce(am.amname = 'heap', false), c.relfilenode, f.extname, f.condition,
           pg_catalog.md5(pg_catalog.concat_ws(',', c.relfilenode, c.reltablespace, t.relfilenode,
             (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', a.attnum, a.attname, a.atttypid, a.atttypmod,
                a.attisdropped, a.attgenerated, a.atthasmissing, a.attmissingval::text), ',' ORDER BY a.attnum)
              FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)))
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
         LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
         LEFT JOIN config f ON f.relid = c.oid
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           AND (f.relid IS NOT NULL OR NOT EXISTS (SELECT FROM member m WHERE m.objid = c.oid))
         ORDER BY n.nspname, c.relname",
    )?;
    rows.iter()
        .map(|row| {
            Ok(Relation {
                oid: number(row, 0)?,
                schema: text(row, 1)?,
                name: text(row, 2)?,
                kind: text(row, 3)?.chars().next().unwrap_or('?'),
                unlogged: flag(row, 4),
                heap: flag(row, 5),
                filenode: number(row, 6)?,
                config: match row.get(7) {
                    Some(extension) => Some(ConfigTable {
                        extension: extension.to_owned(),
                        condition: text(row, 8)?,
                    }),
                    None => None,
                },
                fingerprint: text(row, 9)?,
            })
        })
        .collect()
}

/// The columns of all given relations that COPY reads, in the order of their numbers.
pub fn attributes(
    conn: &mut Connection,
    oids: &[u32],
) -> Result<HashMap<u32, Vec<Attribute>>, Error> {
    let rows = conn.query(&format!(
        "SELECT a.attrelid, a.attname, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod)
         FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = ANY ('{}'::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
         ORDER BY a.attrelid, a.attnum",
        oid_array(oids)
    ))?;
    let mut found: HashMap<u32, Vec<Attribute>> = HashMap::new();
    for row in &rows {
        found.entry(number(row, 0)?).or_default().push(Attribute {
            name: text(row, 1)?,
            type_oid: number(row, 2)?,
            type_name: text(row, 3)?,
        });
    }
    Ok(found)
}

/// The beginning of a query: `used(oid)`, all types that columns of the given relations are made of, recursively.
pub fn with_used_types(oids: &[u32]) -> String {
    format!(
        "WITH RECURSIVE used(oid) AS (
           SELECT DISTINCT a.atttypid FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = ANY ('{}'::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
           UNION
           SELECT x.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
           CROSS JOIN LATERAL (
             SELECT t.typelem AS oid WHERE t.typelem <> 0
             UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
             UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
             UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid
             UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
               WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
           ) x
         )",
        oid_array(oids)
    )
}

/// All types that columns of the given relations are made of, recursively.
pub fn types(conn: &mut Connection, oids: &[u32]) -> Result<HashMap<u32, TypeRow>, Error> {
    let rows = conn.query(&format!(
        "{}
         SELECT t.oid, t.typname, n.nspname = 'pg_catalog' AND t.oid < 16384, e.extname, t.typtype,
           CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc THEN t.typelem ELSE 0 END,
           CASE t.typtype
             WHEN 'd' THEN t.typbasetype
             WHEN 'r' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)
             WHEN 'm' THEN (SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid)
           END,
           CASE WHEN t.typtype = 'c' THEN
             (SELECT pg_catalog.string_agg(a.atttypid::text, ' ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END,
           t.typsend <> 0 AND t.typreceive <> 0
         FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
         JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
         LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
           AND d.objid = t.oid AND d.deptype = 'e'
         LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid",
        with_used_types(oids)
    ))?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let element: u32 = number(row, 5)?;
        let fields = row.get(7).unwrap_or_default();
        found.insert(
            number(row, 0)?,
            TypeRow {
                name: text(row, 1)?,
                builtin: flag(row, 2),
                extension: row.get(3).map(str::to_owned),
                kind: text(row, 4)?.chars().next().unwrap_or('?'),
                element: (element != 0).then_some(element),
                inner: row.get(6).and_then(|oid| oid.parse().ok()),
                fields: fields
                    .split_whitespace()
                    .filter_map(|oid| oid.parse().ok())
                    .collect(),
                send_receive: flag(row, 8),
            },
        );
    }
    Ok(found)
}

/// Bytes of heap and of TOAST of each given relation, as they are now. The caller holds locks on the relations, so
/// that this never waits.
pub fn sizes(conn: &mut Connection, oids: &[u32]) -> Result<HashMap<u32, (u64, u64)>, Error> {
    let rows = conn.query(&format!(
        "SELECT c.oid, coalesce(pg_catalog.pg_relation_size(c.oid), 0),
           CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE coalesce(pg_catalog.pg_relation_size(c.reltoastrelid), 0) END
         FROM pg_catalog.pg_class c WHERE c.oid = ANY ('{}'::pg_catalog.oid[])",
        oid_array(oids)
    ))?;
    rows.iter()
        .map(|row| Ok((number(row, 0)?, (number(row, 1)?, number(row, 2)?))))
        .collect()
}

/// The columns of the primary keys of the given relations, in the key's order.
pub fn primary_keys(
    conn: &mut Connection,
    oids: &[u32],
) -> Result<HashMap<u32, Vec<String>>, Error> {
    let rows = conn.query(&format!(
        "SELECT i.indrelid, a.attname
         FROM pg_catalog.pg_index i
         CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(attnum, n)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
         WHERE i.indisprimary AND k.n <= i.indnkeyatts AND i.indrelid = ANY ('{}'::pg_catalog.oid[])
         ORDER BY i.indrelid, k.n",
        oid_array(oids)
    ))?;
    let mut found: HashMap<u32, Vec<String>> = HashMap::new();
    for row in &rows {
        let columns = found.entry(number(row, 0)?).or_default();
        columns.push(text(row, 1)?);
    }
    Ok(found)
}

/// For each partition that must be loaded through the root of its tree: that root's schema and name. Hashes of enums
/// depend on OIDs, which a restore changes, so that a leaf of the source may be the wrong one at the target. With `all`,
/// for every partition.
pub fn load_through_roots(conn: &mut Connection, all: bool) -> Result<HashMap<u32, Name>, Error> {
    let rows = conn.query(&format!(
        "WITH RECURSIVE unsafe(oid) AS (
           SELECT p.partrelid FROM pg_catalog.pg_partitioned_table p
           WHERE {all} OR p.partstrat = 'h' AND EXISTS (
             SELECT FROM unnest(p.partclass::pg_catalog.oid[]) k(oid)
             JOIN pg_catalog.pg_opclass o ON o.oid = k.oid
             JOIN pg_catalog.pg_opfamily f ON f.oid = o.opcfamily
             JOIN pg_catalog.pg_namespace n ON n.oid = f.opfnamespace
             WHERE f.opfname = 'enum_ops' AND n.nspname = 'pg_catalog')
           UNION
           SELECT i.inhrelid FROM unsafe u JOIN pg_catalog.pg_inherits i ON i.inhparent = u.oid
         )
         SELECT c.oid, n.nspname, r.relname
         FROM unsafe u JOIN pg_catalog.pg_class c ON c.oid = u.oid AND c.relispartition AND c.relkind = 'r'
         JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
         JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace"
    ))?;
    rows.iter()
        .map(|row| Ok((number(row, 0)?, (text(row, 1)?, text(row, 2)?))))
        .collect()
}

/// A database's own facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// `system_identifier` of the cluster, where the role may read it.
    pub system_identifier: Option<String>,
    /// Name of its encoding.
    pub encoding: String,
    /// `datcollate`.
    pub collate: String,
    /// `datctype`.
    pub ctype: String,
    /// `datlocprovider`.
    pub locale_provider: String,
    /// `datlocale`, which was `daticulocale` before 17: the locale of other providers than the C library.
    pub locale: Option<String>,
    /// Version of the locale's rules, as the server has them now; nothing where it knows of none.
    pub collation_version: Option<String>,
    /// Whether the server is a standby.
    pub standby: bool,
    /// Bytes of a page.
    pub block_size: u32,
}

impl DatabaseFacts {
    /// Whether the cluster has this identifier; where one of both may not be read, whether it is at the same place.
    pub fn is_of_cluster(
        &self,
        identifier: Option<&str>,
        same_place: impl FnOnce() -> bool,
    ) -> bool {
        match (&self.system_identifier, identifier) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => same_place(),
        }
    }
}

/// Whether the cluster has a database of that name.
pub fn has_database(conn: &mut Connection, name: &str) -> Result<bool, Error> {
    let rows = conn.query(&format!(
        "SELECT FROM pg_catalog.pg_database WHERE datname = {}",
        quote_literal(name)
    ))?;
    Ok(!rows.is_empty())
}

/// The facts of the database that the connection is to.
pub fn database_facts(conn: &mut Connection) -> Result<DatabaseFacts, Error> {
    let rows = conn.query(
        "SELECT d.datname, pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datlocprovider,
           pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('block_size'),
           coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'),
           pg_catalog.pg_database_collation_actual_version(d.oid)
         FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Protocol("no row from pg_database".to_owned()))?;
    Ok(DatabaseFacts {
        name: text(row, 0)?,
        encoding: text(row, 1)?,
        collate: text(row, 2)?,
        ctype: text(row, 3)?,
        locale_provider: text(row, 4)?,
        standby: flag(row, 5),
        block_size: number(row, 6)?,
        locale: row.get(7).map(str::to_owned),
        collation_version: row.get(8).map(str::to_owned),
        system_identifier: system_identifier(conn)?,
    })
}

/// Names of schemas, relations and columns that are no UTF-8, with escapes for the bytes that are not ASCII. Only a database
/// in SQL_ASCII may have such names.
pub fn names_not_utf8(conn: &mut Connection) -> Result<Vec<String>, Error> {
    let rows = conn.query(
        "SELECT DISTINCT hex FROM (
           SELECT pg_catalog.encode(pg_catalog.convert_to(name::text, 'SQL_ASCII'), 'hex') AS hex FROM (
             SELECT nspname FROM pg_catalog.pg_namespace
             UNION ALL SELECT relname FROM pg_catalog.pg_class
             UNION ALL SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped
           ) n (name)
         ) h WHERE hex ~ '^(..)*[89a-f]' ORDER BY hex",
    )?;
    let mut found = Vec::new();
    for row in &rows {
        let hex = text(row, 0)?;
        let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(pair?, 16).ok())
            .collect();
        let bytes = bytes.ok_or_else(|| Error::Protocol("encode gave no hex digits".to_owned()))?;
        if std::str::from_utf8(&bytes).is_err() {
            found.push(bytes.escape_ascii().to_string());
        }
    }
    Ok(found)
}

/// The cluster's own number; nothing where the role may not read it, as on some managed services.
fn system_identifier(conn: &mut Connection) -> Result<Option<String>, Error> {
    match conn.query("SELECT system_identifier FROM pg_catalog.pg_control_system()") {
        Ok(rows) => Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned)),
        // insufficient_privilege
        Err(error) if error.code() == Some("42501") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Installed extensions: name, version, schema.
pub fn extensions(conn: &mut Connection) -> Result<Vec<(String, String, String)>, Error> {
    let rows = conn.query(
        "SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname",
    )?;
    rows.iter()
        .map(|row| Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?)))
        .collect()
}

/// OID of `pg_largeobject`, the same in every database.
pub const LARGE_OBJECT_OID: u32 = 2613;
/// OID of `pg_largeobject_metadata`, the same in every database.
pub const LARGE_OBJECT_METADATA_OID: u32 = 2995;
/// OID of `pg_attribute`, the same in every database.
pub const ATTRIBUTE_OID: u32 = 1249;
/// OID of `pg_type`, the same in every database.
pub const TYPE_OID: u32 = 1247;
/// OID of `pg_constraint`, the same in every database.
pub const CONSTRAINT_OID: u32 = 2606;
/// The query for what belongs to each large object besides its pages. Roles are named in the privileges as `aclitem`
/// prints them; labels are pairs of provider and label. A column that is not `wanted` is null.
pub fn large_object_metadata_query(wanted: impl Fn(&str) -> bool) -> String {
    let columns = [
        ("oid", "m.oid"),
        ("owner", "pg_catalog.pg_get_userbyid(m.lomowner)"),
        ("acl", "m.lomacl::text"),
        ("comment", "d.description"),
        ("labels", "l.labels"),
    ];
    let columns = columns.map(|(name, value)| match wanted(name) {
        true => format!("{value} AS {name}"),
        false => format!("NULL AS {name}"),
    });
    format!(
        "SELECT {}
         FROM pg_catalog.pg_largeobject_metadata m
         LEFT JOIN pg_catalog.pg_description d
           ON d.objoid = m.oid AND d.classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass AND d.objsubid = 0
         LEFT JOIN (SELECT objoid, pg_catalog.array_agg(ARRAY[provider, label] ORDER BY provider)::text AS labels
           FROM pg_catalog.pg_seclabel WHERE classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass AND objsubid = 0
           GROUP BY objoid) l ON l.objoid = m.oid
         ORDER BY m.oid",
        columns.join(", ")
    )
}

/// Whether there are large objects.
pub fn has_large_objects(conn: &mut Connection) -> Result<bool, Error> {
    let rows = conn.query("SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)")?;
    Ok(rows.first().is_some_and(|row| flag(row, 0)))
}

/// The body of an array literal of OIDs.
pub fn oid_array(oids: &[u32]) -> String {
    let mut list = String::with_capacity(oids.len() * 7 + 2);
    list.push('{');
    for (n, oid) in oids.iter().enumerate() {
        if n > 0 {
            list.push(',');
        }
        list.push_str(&oid.to_string());
    }
    list.push('}');
    list
}

/// A qualified name: schema and name.
pub type Name = (String, String);

/// The topmost partitioned table of each partition.
pub fn partition_roots(conn: &mut Connection) -> Result<HashMap<Name, Name>, Error> {
    let rows = conn.query(
        "SELECT cn.nspname, c.relname, rn.nspname, r.relname FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
         JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
         JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
         WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f')",
    )?;
    let pair = |row: &Row| {
        let partition = (text(row, 0)?, text(row, 1)?);
        Ok((partition, (text(row, 2)?, text(row, 3)?)))
    };
    rows.iter().map(pair).collect()
}

/// Foreign keys between different tables: the referencing and the referenced one.
pub fn foreign_keys(conn: &mut Connection) -> Result<Vec<(Name, Name)>, Error> {
    let rows = conn.query(
        "SELECT cn.nspname, c.relname, pn.nspname, p.relname FROM pg_catalog.pg_constraint k
         JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
         JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
         WHERE k.contype = 'f' AND k.conrelid <> k.confrelid",
    )?;
    rows.iter()
        .map(|row| {
            Ok((
                (text(row, 0)?, text(row, 1)?),
                (text(row, 2)?, text(row, 3)?),
            ))
        })
        .collect()
}

/// What ANALYZE is for among the named relations, with their sizes: those that are no partitions, as ANALYZE of a
/// partitioned table covers its partitions. Where statistics were `restored`, which a server from 18 on takes: those that
/// have none, each parent apart from its children. `names` are quoted and qualified.
pub fn analyzable(
    conn: &mut Connection,
    names: &[String],
    restored: bool,
) -> Result<Vec<(String, u64)>, Error> {
    let (only, wanted) = if restored {
        // No server takes what another knows of an extended statistics object.
        let wanted = "EXISTS (SELECT FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = c.oid)
           OR NOT EXISTS (SELECT FROM known k WHERE k.schemaname = n.nspname AND k.tablename = c.relname)
             AND NOT (c.relkind <> 'p' AND c.reltuples = 0 AND pg_catalog.pg_relation_size(c.oid) = 0)";
        ("ONLY ", wanted)
    } else {
        ("", "NOT c.relispartition")
    };
    let mut found = Vec::new();
    for names in names.chunks(5000) {
        let list: Vec<String> = names.iter().map(|name| quote_literal(name)).collect();
        let rows = conn.query(&format!(
            "WITH known AS MATERIALIZED (SELECT DISTINCT s.schemaname, s.tablename FROM pg_catalog.pg_stats s)
             SELECT '{only}' || v.name, pg_catalog.pg_relation_size(c.oid)
             FROM (SELECT unnest(ARRAY[{}]::text[]) AS name) v
             JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(v.name)
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'm') AND ({wanted})",
            list.join(",")
        ))?;
        for row in &rows {
            found.push((text(row, 0)?, number(row, 1)?));
        }
    }
    Ok(found)
}

/// How many sessions to open where the user did not say: as many as the machine has cores, at most 4, and at most a
/// quarter of the connections that the server has free.
pub fn default_jobs(conn: &mut Connection) -> Result<usize, Error> {
    let rows = conn.query(
        "SELECT pg_catalog.current_setting('max_connections')::int8
           - pg_catalog.current_setting('superuser_reserved_connections')::int8
           - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')",
    )?;
    let free: i64 = match rows.first() {
        Some(row) => row.get_i64(0)?,
        None => 0,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let free = usize::try_from(free / 4).unwrap_or(0);
    Ok(cores.min(4).min(free).max(1))
}
