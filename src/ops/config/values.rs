//! Values of a configuration file: texts with `${VARIABLES}`, quantities, and where they stand.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

use crate::ops::retention::Count;
use crate::ops::secret::Secret;

/// A text that is parsed, after `${NAME}` and `${NAME:-DEFAULT}` were replaced by what the environment has; `$$` is a
/// dollar sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value<T>(pub T);

/// A text.
pub type Text = Value<String>;

impl<T> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let text = substitute(&text, &|name| std::env::var(name).ok()).map_err(D::Error::custom)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl<T> JsonSchema for Value<T> {
    fn schema_name() -> Cow<'static, str> {
        "text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

/// Replaces variables.
fn substitute(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = inner
                .find('}')
                .ok_or("\"${\" without \"}\"; write \"$$\" for a dollar sign")?;
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            let value = env(name).filter(|value| !value.is_empty());
            match value.as_deref().or(default) {
                Some(value) => result.push_str(value),
                None => {
                    return Err(format!(
                        "the environment variable {name} is not set; set it, or write ${{{name}:-DEFAULT}}"
                    ));
                }
            }
            rest = &inner[end + 1..];
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub struct At<T>(Spanned<T>);

impl<T> At<T> {
    /// The bytes of the file that it takes.
    pub fn span(&self) -> Range<usize> {
        self.0.span()
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get_ref()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A number, or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep(pub Count);

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or \"unlimited\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Keep, E> {
                let number = u32::try_from(number);
                number
                    .map(|number| Keep(Count::Limited(number)))
                    .map_err(|_| E::custom("give a number from 0 on, or \"unlimited\""))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Keep, E> {
                text.parse().map(Keep).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Keep {
    fn schema_name() -> Cow<'static, str> {
        "count".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "integer", "minimum": 0},
            {"const": "unlimited"}
        ]})
    }
}

/// Where a secret is: one of `{ file = ... }`, `{ command = ... }`, `{ env = ... }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(pub Secret);

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ file = \"...\" }, { command = \"...\" } or { env = \"...\" }")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Reference, E> {
                Err(E::custom(format_args!(
                    "no secret is written into this file: say where it is, as {{ file = \"...\" }}, {{ command = \"...\" }} or {{ env = \"...\" }}",
                )))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reference, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    let text = map.next_value::<Text>()?.0;
                    let secret = match key.as_str() {
                        "file" => Secret::File(PathBuf::from(text)),
                        "command" => Secret::Command(text),
                        "env" => Secret::Variable(text),
                        _ => {
                            const KNOWN: &[&str] = &["file", "command", "env"];
                            return Err(A::Error::unknown_field(&key, KNOWN));
                        }
                    };
                    if found.replace(secret).is_some() {
                        return Err(A::Error::custom("give one of file, command and env"));
                    }
                }
                let found =
                    found.ok_or_else(|| A::Error::custom("give one of file, command and env"))?;
                Ok(Reference(found))
            }
        }
        deserializer.deserialize_any(Of)
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Where a secret is: a file, a command that prints it, or a variable of the environment",
            "properties": {
                "file": {"type": "string"},
                "command": {"type": "string"},
                "env": {"type": "string"}
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (text, wanted) in [
            ("host=${HOST} port=5432", "host=db1 port=5432"),
            ("${HOST}${HOST}", "db1db1"),
            ("${EMPTY:-x}${NONE:-}", "x"),
            (
                "$$5 and $HOME stay, and so does $",
                "$5 and $HOME stay, and so does $",
            ),
        ] {
            assert_eq!(substitute(text, &env).unwrap(), wanted);
        }
        for (text, said) in [("${NONE}", "NONE is not set"), ("${HOST", "without")] {
            assert!(substitute(text, &env).unwrap_err().contains(said));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[${}A-Z:\\-ü]{0,20}") {
            let _ = substitute(&text, &env);
        }

        #[test]
        fn a_text_without_dollars_is_as_it_is(text in "[^$]*") {
            prop_assert_eq!(substitute(&text, &env).unwrap(), text);
        }
    }
}
