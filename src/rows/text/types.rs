//! From the name of a column's type to how its values are printed.

use std::collections::HashMap;

use super::{TextType, copy_value};

/// Types within types that are followed; the server has no such depth.
const MAX_DEPTH: usize = 64;

/// The types of a database that did not come with the server.
#[derive(Debug, Default)]
pub struct Types {
    /// By name, as `format_type` prints it.
    known: HashMap<String, Known>,
    /// `server_version_num` of the source.
    server: i32,
}

/// A type, as the database's catalog describes it.
#[derive(Debug, Default)]
struct Known {
    kind: String,
    extension: Option<String>,
    name: String,
    delimiter: u8,
    members: Vec<String>,
}

impl Types {
    /// From the rows of the table of types that a dump reads; without, where there is none: snapshots of older versions
    /// have not.
    pub fn new(rows: &[u8], server: i32) -> Types {
        let mut known: HashMap<String, Known> = HashMap::new();
        for line in rows.split(|byte| *byte == b'\n') {
            // A name in another encoding is not found, and its table is one that cannot be printed.
            let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
            let fields: Vec<Option<String>> = line
                .split(|byte| *byte == b'\t')
                .map(|field| copy_value(field).map(text))
                .collect();
            let [
                Some(of),
                Some(kind),
                extension,
                Some(name),
                Some(delimiter),
                _,
                member,
            ] = &fields[..]
            else {
                continue;
            };
            let entry = known.entry(of.clone()).or_insert_with(|| Known {
                kind: kind.clone(),
                extension: extension.clone(),
                name: name.clone(),
                delimiter: delimiter.bytes().next().unwrap_or(b','),
                members: Vec::new(),
            });
            entry.members.extend(member.clone());
        }
        Types { known, server }
    }

    /// How values of a type are printed; nothing where that is not known.
    pub fn find(&self, type_name: &str) -> Option<TextType> {
        self.find_within(type_name, 0)
    }

    fn find_within(&self, type_name: &str, depth: usize) -> Option<TextType> {
        if depth > MAX_DEPTH {
            return None;
        }
        let within = |name: &str| self.find_within(name, depth + 1);
        if let Some(element) = type_name.strip_suffix("[]") {
            return Some(TextType::Array {
                element: Box::new(within(element)?),
                delimiter: self.delimiter(&without_modifier(element)),
            });
        }
        let name = without_modifier(type_name);
        if let Some(found) = self.built_in(&name) {
            return Some(found);
        }
        let known = self.known.get(&name)?;
        match known.kind.as_str() {
            "e" => Some(TextType::Text),
            "d" => within(known.members.first()?),
            "r" => Some(TextType::Range(Box::new(within(known.members.first()?)?))),
            "m" => match within(known.members.first()?)? {
                TextType::Range(bound) => Some(TextType::Multirange(bound)),
                _ => None,
            },
            "c" => {
                let fields = known.members.iter().map(|member| within(member));
                Some(TextType::Composite(fields.collect::<Option<_>>()?))
            }
            "b" => of_extension(known.extension.as_deref()?, &known.name),
            _ => None,
        }
    }

    /// What stands between the elements of an array of this type.
    fn delimiter(&self, element: &str) -> u8 {
        match (element, self.known.get(element)) {
            ("box", _) => b';',
            (_, Some(known)) => known.delimiter,
            _ => b',',
        }
    }

    fn built_in(&self, name: &str) -> Option<TextType> {
        use TextType::*;
        let range = |bound: TextType| Range(std::boxed::Box::new(bound));
        let multirange = |bound: TextType| Multirange(std::boxed::Box::new(bound));
        Some(match name {
            "boolean" => Bool,
            "smallint" => Int2,
            "integer" => Int4,
            "bigint" => Int8,
            "oid" | "xid" | "cid" => Unsigned4,
            "xid8" => Unsigned8,
            "real" => Float4,
            "double precision" => Float8,
            "numeric" => Numeric,
            "money" => Money,
            "text" | "character varying" | "character" | "bpchar" | "name" | "json" | "xml"
            | "refcursor" => Text,
            "\"char\"" => Char {
                octal: self.server >= 160_000,
            },
            "jsonb" | "jsonpath" => Versioned,
            "bytea" => Bytea,
            "date" => Date,
            "time without time zone" => Time,
            "time with time zone" => TimeTz,
            "timestamp without time zone" => Timestamp,
            "timestamp with time zone" => TimestampTz,
            "uuid" => Uuid,
            "inet" | "cidr" => Network,
            "macaddr" | "macaddr8" => Mac,
            "bit" | "\"bit\"" | "bit varying" => Bits,
            "point" => Point,
            "line" => Line,
            "lseg" => Segment,
            "box" => Box,
            "path" => Path,
            "polygon" => Polygon,
            "circle" => Circle,
            "tsvector" => TsVector,
            "tsquery" => TsQuery,
            "pg_lsn" => Lsn,
            "pg_snapshot" | "txid_snapshot" => Snapshot,
            "tid" => Tid,
            "int2vector" => List(std::boxed::Box::new(Int2)),
            "oidvector" => List(std::boxed::Box::new(Unsigned4)),
            "int4range" => range(Int4),
            "int8range" => range(Int8),
            "numrange" => range(Numeric),
            "tsrange" => range(Timestamp),
            "tstzrange" => range(TimestampTz),
            "daterange" => range(Date),
            "int4multirange" => multirange(Int4),
            "int8multirange" => multirange(Int8),
            "nummultirange" => multirange(Numeric),
            "tsmultirange" => multirange(Timestamp),
            "tstzmultirange" => multirange(TimestampTz),
            "datemultirange" => multirange(Date),
            // With or without the fields that it is limited to.
            _ if name == "interval" || name.starts_with("interval ") => Interval {
                infinite: self.server >= 170_000,
            },
            _ => return None,
        })
    }
}

/// Base types of extensions, which a dump takes in binary.
fn of_extension(extension: &str, name: &str) -> Option<TextType> {
    Some(match (extension, name) {
        ("citext", "citext") => TextType::Text,
        ("cube", "cube") => TextType::Cube,
        ("hstore", "hstore") => TextType::Hstore,
        ("ltree", "ltree" | "lquery" | "ltxtquery") => TextType::Versioned,
        ("postgis", "geometry" | "geography") => TextType::HexUpper,
        ("timescaledb", "compressed_data") => TextType::Base64,
        ("vector", "vector") => TextType::Vector,
        ("vector", "halfvec") => TextType::HalfVec,
        ("vector", "sparsevec") => TextType::SparseVec,
        _ => return None,
    })
}

/// Whether values of the type are printed as the locale says.
pub fn has_money(kind: &TextType) -> bool {
    match kind {
        TextType::Money => true,
        TextType::List(inner)
        | TextType::Array { element: inner, .. }
        | TextType::Range(inner)
        | TextType::Multirange(inner) => has_money(inner),
        TextType::Composite(fields) => fields.iter().any(has_money),
        _ => false,
    }
}

/// The name without its modifier: `timestamp(3) with time zone` is a `timestamp with time zone`.
fn without_modifier(name: &str) -> String {
    let mut quoted = false;
    let mut within = false;
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' if !within => quoted = !quoted,
            '(' if !quoted => within = true,
            _ => {}
        }
        if !within {
            out.push(c);
        }
        if c == ')' && !quoted {
            within = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[u8] = b"app.mood\te\t\\N\tmood\t,\t\\N\t\\N
app.pair\tc\t\\N\tpair\t,\t1\tinteger
app.pair\tc\t\\N\tpair\t,\t2\tapp.mood[]
app.corners\td\t\\N\tcorners\t;\t1\tbox
app.floats\tr\t\\N\tfloats\t,\t1\tdouble precision
app.manyfloats\tm\t\\N\tmanyfloats\t,\t1\tapp.floats
public.hstore\tb\thstore\thstore\t,\t\\N\t\\N
public.isbn\tb\tisn\tisbn\t,\t\\N\t\\N
app.endless\td\t\\N\tendless\t,\t1\tapp.endless
app.\"odd (name)\"\te\t\\N\todd (name)\t,\t\\N\t\\N
";

    #[test]
    fn names_lead_to_what_types_are_made_of() {
        let types = Types::new(ROWS, 170_000);
        let moods = || TextType::Array {
            element: Box::new(TextType::Text),
            delimiter: b',',
        };
        assert_eq!(types.find("app.mood[]"), Some(moods()));
        assert_eq!(
            types.find("app.pair"),
            Some(TextType::Composite(vec![TextType::Int4, moods()]))
        );
        assert_eq!(
            types.find("app.corners[]"),
            Some(TextType::Array {
                element: Box::new(TextType::Box),
                delimiter: b';'
            })
        );
        assert_eq!(
            types.find("app.manyfloats"),
            Some(TextType::Multirange(Box::new(TextType::Float8)))
        );
        assert_eq!(types.find("public.hstore"), Some(TextType::Hstore));
        assert_eq!(types.find("app.\"odd (name)\""), Some(TextType::Text));
        for unknown in ["public.isbn", "app.endless", "app.nothing", "isbn"] {
            assert_eq!(types.find(unknown), None);
        }
    }

    #[test]
    fn modifiers_do_not_matter() {
        let types = Types::new(b"", 150_000);
        assert_eq!(
            types.find("timestamp(3) with time zone"),
            Some(TextType::TimestampTz)
        );
        assert_eq!(types.find("numeric(12,3)"), Some(TextType::Numeric));
        assert_eq!(
            types.find("interval day to second(2)"),
            Some(TextType::Interval { infinite: false })
        );
        assert_eq!(
            types.find("character varying(20)[]"),
            Some(TextType::Array {
                element: Box::new(TextType::Text),
                delimiter: b','
            })
        );
    }
}
