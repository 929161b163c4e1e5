//! Values as the server prints them: fields of COPY's text format, arrays, names in quotes.

/// Text that the server does not print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a field of COPY's text format")]
pub struct NotCopyText;

/// A field of COPY's text format
/// (<https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2>); `None` is NULL.
pub fn copy_field(field: &str) -> Result<Option<String>, NotCopyText> {
    if field == "\\N" {
        return Ok(None);
    }
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('v') => '\u{b}',
                Some('\\') => '\\',
                _ => return Err(NotCopyText),
            },
            other => other,
        });
    }
    Ok(Some(out))
}

/// Writes a value as a field of COPY's text format.
pub fn push_copy_field(out: &mut String, value: Option<&str>) {
    let Some(value) = value else {
        out.push_str("\\N");
        return;
    };
    for c in value.chars() {
        let escaped = match c {
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\u{b}' => 'v',
            '\\' => '\\',
            other => {
                out.push(other);
                continue;
            }
        };
        out.push('\\');
        out.push(escaped);
    }
}

/// The elements of an array of one dimension; nothing for text that is none. A NULL is the text `NULL`.
pub fn array_items(text: &str) -> Vec<String> {
    let Some(body) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    else {
        return Vec::new();
    };
    if body.is_empty() {
        return Vec::new();
    }
    let mut items = Vec::new();
    let mut item = String::new();
    let mut quoted = false;
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => item.extend(chars.next()),
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            c => item.push(c),
        }
    }
    items.push(item);
    items
}

/// The name at the beginning of a text, in quotes where it needs them, and what comes after it. A name without quotes
/// ends before the first of `ends`. Nothing for quotes that are not closed.
pub fn identifier<'t>(text: &'t str, ends: &[char]) -> Option<(String, &'t str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(ends).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut rest = quoted;
    while let Some((before, after)) = rest.split_once('"') {
        out.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                out.push('"');
                rest = after;
            }
            None => return Some((out, after)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_copy_text_come_back_as_they_were() {
        assert_eq!(copy_field("\\N"), Ok(None));
        assert_eq!(
            copy_field("a\\tb\\\\c\\n"),
            Ok(Some("a\tb\\c\n".to_owned()))
        );
        assert_eq!(copy_field(""), Ok(Some(String::new())));
        assert_eq!(copy_field("\\q"), Err(NotCopyText));
        assert_eq!(copy_field("\\"), Err(NotCopyText));
    }

    #[test]
    fn arrays_have_items_in_quotes_or_without() {
        assert_eq!(array_items(r#"{a,"b,\"c\\",""}"#), ["a", r#"b,"c\"#, ""]);
        assert!(array_items("{}").is_empty());
        assert!(array_items("no array").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_value_survives_a_field(value in proptest::option::of("(?s)[^\0]*")) {
            let mut field = String::new();
            push_copy_field(&mut field, value.as_deref());
            proptest::prop_assert!(!field.contains(['\t', '\n']));
            proptest::prop_assert_eq!(copy_field(&field), Ok(value));
        }

        #[test]
        fn any_name_is_found_in_its_quotes(name in "[^\0]{0,8}", rest in "[^\"]{0,3}") {
            let text = format!("\"{}\"{rest}", name.replace('"', "\"\""));
            proptest::prop_assert_eq!(identifier(&text, &['.']), Some((name, &*rest)));
        }

        #[test]
        fn no_text_breaks_a_parser(text in "(?s).*") {
            let _ = copy_field(&text);
            let _ = array_items(&text);
            let _ = identifier(&text, &['.', '=']);
        }
    }
}
