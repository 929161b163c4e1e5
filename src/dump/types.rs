//! What a column's type means for the dump: whether its values travel in binary, how they are coded, and where they
//! hold OIDs.

use std::collections::HashMap;

use crate::pg::catalog::TypeRow;
use crate::rows::{ColumnKind, Shape};
use crate::timescale;

/// Types of extensions whose binary form is known to be portable. All other base types of extensions and users travel
/// as text: a send function may write OIDs, or change between versions.
const PORTABLE_EXTENSION_TYPES: &[(&str, &str)] = &[
    ("citext", "citext"),
    ("cube", "cube"),
    ("hstore", "hstore"),
    ("ltree", "lquery"),
    ("ltree", "ltree"),
    ("ltree", "ltxtquery"),
    ("postgis", "geography"),
    ("postgis", "geometry"),
    ("vector", "halfvec"),
    ("vector", "sparsevec"),
    ("vector", "vector"),
];

/// Built-in types whose binary form is an OID, or that no receive function takes.
const TEXT_ONLY: &[&str] = &[
    "regclass",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regtype",
    "regrole",
    "regnamespace",
    "regconfig",
    "regdictionary",
    "regcollation",
    "regdatabase",
    "aclitem",
    "gtsvector",
    "pg_node_tree",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
];

/// What a dump makes of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeFacts {
    /// Whether values may travel in binary.
    pub binary: bool,
    /// How they are coded.
    pub kind: ColumnKind,
    /// Where they hold OIDs.
    pub shape: Shape,
}

impl TypeFacts {
    fn text() -> Self {
        Self {
            binary: false,
            kind: ColumnKind::Text,
            shape: Shape::Plain,
        }
    }

    fn plain(kind: ColumnKind) -> Self {
        Self {
            binary: true,
            kind,
            shape: Shape::Plain,
        }
    }
}

/// Looks a type up, recursively. `utf8` tells whether the client encoding is UTF-8, the only one in which xml travels
/// in binary.
pub fn facts(types: &HashMap<u32, TypeRow>, oid: u32, utf8: bool) -> TypeFacts {
    let Some(row) = types.get(&oid) else {
        return TypeFacts::text();
    };
    let within = |oid: u32| facts(types, oid, utf8);
    if !row.send_receive {
        return TypeFacts::text();
    }
    if let Some(element) = row.element {
        let element = within(element);
        return TypeFacts {
            binary: element.binary,
            kind: ColumnKind::Bytes,
            shape: Shape::Array(Box::new(element.shape)),
        };
    }
    match (row.kind, row.inner) {
        ('e', _) => TypeFacts::plain(ColumnKind::Text),
        ('d', Some(base)) => within(base),
        ('r', Some(subtype)) => {
            let subtype = within(subtype);
            TypeFacts {
                binary: subtype.binary,
                kind: ColumnKind::Bytes,
                shape: wrap(subtype.shape, Shape::Range),
            }
        }
        ('m', Some(range)) => {
            let bounds = match within(range) {
                TypeFacts {
                    binary,
                    shape: Shape::Range(bound),
                    ..
                } => (binary, *bound),
                TypeFacts { binary, .. } => (binary, Shape::Plain),
            };
            TypeFacts {
                binary: bounds.0,
                kind: ColumnKind::Bytes,
                shape: wrap(bounds.1, Shape::Multirange),
            }
        }
        ('c', _) => {
            let fields: Vec<TypeFacts> = row.fields.iter().map(|&field| within(field)).collect();
            TypeFacts {
                binary: fields.iter().all(|field| field.binary),
                kind: ColumnKind::Bytes,
                shape: Shape::Composite(fields.into_iter().map(|field| field.shape).collect()),
            }
        }
        ('b', _) => base(row, utf8),
        _ => TypeFacts::text(),
    }
}

/// A range over plain bounds holds no OIDs, so it is plain itself.
fn wrap(inner: Shape, outer: fn(Box<Shape>) -> Shape) -> Shape {
    match inner {
        Shape::Plain => Shape::Plain,
        other => outer(Box::new(other)),
    }
}

fn base(row: &TypeRow, utf8: bool) -> TypeFacts {
    if let Some(extension) = &row.extension {
        let known = PORTABLE_EXTENSION_TYPES.contains(&(extension.as_str(), row.name.as_str()))
            || (extension == timescale::EXTENSION
                && timescale::PORTABLE_TYPES.contains(&row.name.as_str()));
        return if known {
            TypeFacts::plain(if row.name == "citext" {
                ColumnKind::Text
            } else {
                ColumnKind::Bytes
            })
        } else {
            TypeFacts::text()
        };
    }
    if !row.builtin || TEXT_ONLY.contains(&row.name.as_str()) {
        return TypeFacts::text();
    }
    TypeFacts::plain(match row.name.as_str() {
        "bool" => ColumnKind::Bool,
        "int2" => ColumnKind::Int16,
        "int4" | "oid" | "xid" | "cid" => ColumnKind::Int32,
        "int8" | "money" | "time" | "xid8" | "pg_lsn" => ColumnKind::Int64,
        "float4" => ColumnKind::Float32,
        "float8" => ColumnKind::Float64,
        "date" => ColumnKind::Date,
        "timestamp" | "timestamptz" => ColumnKind::Timestamp,
        "uuid" => ColumnKind::Uuid,
        "numeric" => ColumnKind::Numeric,
        "text" | "varchar" | "bpchar" | "name" | "char" | "json" | "jsonb" | "jsonpath"
        | "refcursor" => ColumnKind::Text,
        "xml" if utf8 => ColumnKind::Text,
        "xml" => return TypeFacts::text(),
        _ => ColumnKind::Bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, kind: char) -> TypeRow {
        TypeRow {
            name: name.to_owned(),
            builtin: true,
            extension: None,
            kind,
            element: None,
            inner: None,
            fields: Vec::new(),
            send_receive: true,
        }
    }

    fn catalog() -> HashMap<u32, TypeRow> {
        let user = |row: TypeRow| TypeRow {
            builtin: false,
            ..row
        };
        HashMap::from([
            (23, row("int4", 'b')),
            (25, row("text", 'b')),
            (142, row("xml", 'b')),
            (2205, row("regclass", 'b')),
            (
                2210,
                TypeRow {
                    element: Some(2205),
                    ..row("_regclass", 'b')
                },
            ),
            (
                20001,
                user(TypeRow {
                    fields: vec![23, 20002],
                    ..row("pair", 'c')
                }),
            ),
            (
                20002,
                user(TypeRow {
                    element: Some(20003),
                    ..row("_mood", 'b')
                }),
            ),
            (20003, user(row("mood", 'e'))),
            (
                20004,
                user(TypeRow {
                    inner: Some(20001),
                    ..row("pair_domain", 'd')
                }),
            ),
            (
                20005,
                user(TypeRow {
                    fields: vec![2210],
                    ..row("names", 'c')
                }),
            ),
            (20006, user(row("homemade", 'b'))),
        ])
    }

    #[test]
    fn a_domain_over_a_composite_with_an_array_of_enums_keeps_its_shape() {
        let facts = facts(&catalog(), 20004, true);
        assert!(facts.binary);
        assert_eq!(
            facts.shape,
            Shape::Composite(vec![Shape::Plain, Shape::Array(Box::new(Shape::Plain))])
        );
    }

    #[test]
    fn a_type_that_holds_oids_of_names_travels_as_text_however_deep() {
        assert!(!facts(&catalog(), 2205, true).binary);
        assert!(!facts(&catalog(), 2210, true).binary);
        assert!(!facts(&catalog(), 20005, true).binary);
    }

    #[test]
    fn unknown_base_types_travel_as_text() {
        assert!(!facts(&catalog(), 20006, true).binary);
        assert!(!facts(&catalog(), 4_000_000, true).binary);
    }

    #[test]
    fn xml_travels_in_binary_only_in_utf8() {
        assert!(facts(&catalog(), 142, true).binary);
        assert!(!facts(&catalog(), 142, false).binary);
    }
}
