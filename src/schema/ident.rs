//! Names as PostgreSQL's own programs write them.

use crate::pg::archive::SqlText;

/// The key words that cannot stand for a name without quotes, in any of PostgreSQL 15 to 18.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc",
    "asymmetric", "authorization", "between", "bigint", "binary", "bit", "boolean", "both",
    "case", "cast", "char", "character", "check", "coalesce", "collate", "collation",
    "column", "concurrently", "constraint", "create", "cross", "current_catalog", "current_date", "current_role",
    "current_schema", "current_time", "current_timestamp", "current_user", "dec", "decimal", "default", "deferrable",
    "desc", "distinct", "do", "else", "end", "except", "exists", "extract",
    "false", "fetch", "float", "for", "foreign", "freeze", "from", "full",
    "grant", "greatest", "group", "grouping", "having", "ilike", "in", "initially",
    "inner", "inout", "int", "integer", "intersect", "interval", "into", "is",
    "isnull", "join", "json", "json_array", "json_arrayagg", "json_exists", "json_object", "json_objectagg",
    "json_query", "json_scalar", "json_serialize", "json_table", "json_value", "lateral", "leading", "least",
    "left", "like", "limit", "localtime", "localtimestamp", "merge_action", "national", "natural",
    "nchar", "none", "normalize", "not", "notnull", "null", "nullif", "numeric",
    "offset", "on", "only", "or", "order", "out", "outer", "overlaps",
    "overlay", "placing", "position", "precision", "primary", "real", "references", "returning",
    "right", "row", "select", "session_user", "setof", "similar", "smallint", "some",
    "substring", "symmetric", "system_user", "table", "tablesample", "then", "time", "timestamp",
    "to", "trailing", "treat", "trim", "true", "union", "unique", "user",
    "using", "values", "varchar", "variadic", "verbose", "when", "where", "window",
    "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse",
    "xmlpi", "xmlroot", "xmlserialize", "xmltable",
];

/// Appends a name, quoted where it has to be: what `fmtId` of `pg_dump` does.
pub fn push_ident(out: &mut Vec<u8>, name: &SqlText) {
    let name = name.as_bytes();
    let plain = name
        .first()
        .is_some_and(|b| b.is_ascii_lowercase() || *b == b'_')
        && name
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
        && RESERVED
            .binary_search_by(|word| word.as_bytes().cmp(name))
            .is_err();
    if plain {
        out.extend_from_slice(name);
        return;
    }
    out.push(b'"');
    for byte in name {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Appends a name with its schema, if it has one.
pub fn push_qualified(out: &mut Vec<u8>, namespace: Option<&SqlText>, name: &SqlText) {
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        push_ident(out, namespace);
        out.push(b'.');
    }
    push_ident(out, name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ident(name: &str) -> String {
        let mut out = Vec::new();
        push_ident(&mut out, &name.into());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotes_as_the_server_would() {
        assert!(RESERVED.is_sorted());
        for (name, quoted) in [
            ("plain_1", "plain_1"),
            ("_x", "_x"),
            ("abort", "abort"),
            ("select", "\"select\""),
            ("between", "\"between\""),
            ("Upper", "\"Upper\""),
            ("1st", "\"1st\""),
            ("a\"b", "\"a\"\"b\""),
            ("ü", "\"ü\""),
            ("", "\"\""),
        ] {
            assert_eq!(ident(name), quoted);
        }
    }
}
