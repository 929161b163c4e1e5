//! The two ways to write a connection string: `keyword = value` pairs and URIs. Both yield pairs in order; what the
//! keywords mean is not decided here.

use super::SettingsError;

/// Keyword and value as written.
pub(super) type Pairs = Vec<(String, String)>;

/// True where a database name is a connection string in libpq's eyes.
pub(super) fn is_connection_string(dbname: &str) -> bool {
    uri_rest(dbname).is_some() || dbname.contains('=')
}

fn uri_rest(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
}

/// Takes a connection string of either kind apart.
pub(super) fn parse(text: &str) -> Result<Pairs, SettingsError> {
    match uri_rest(text) {
        Some(rest) => parse_uri(text, rest),
        None => parse_pairs(text),
    }
}

fn syntax(message: String) -> SettingsError {
    SettingsError::Syntax(message)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn parse_pairs(text: &str) -> Result<Pairs, SettingsError> {
    let mut pairs = Pairs::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| is_space(*c)).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !is_space(*c)) {
            name.push(c);
        }
        while chars.next_if(|c| is_space(*c)).is_some() {}
        if chars.next_if_eq(&'=').is_none() {
            return Err(syntax(format!(
                "missing \"=\" after \"{name}\" in connection info string"
            )));
        }
        while chars.next_if(|c| is_space(*c)).is_some() {}
        let mut value = String::new();
        if chars.next_if_eq(&'\'').is_some() {
            loop {
                match chars.next() {
                    Some('\'') => break,
                    Some('\\') => value.extend(chars.next()),
                    Some(c) => value.push(c),
                    None => {
                        return Err(syntax(
                            "unterminated quoted string in connection info string".to_owned(),
                        ));
                    }
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !is_space(*c)) {
                if c == '\\' {
                    value.extend(chars.next());
                } else {
                    value.push(c);
                }
            }
        }
        pairs.push((name, value));
    }
}

/// Writes pairs so that [`parse`] (and libpq) read the same back.
pub(super) fn write<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(name);
        out.push_str("='");
        for c in value.chars() {
            if c == '\'' || c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('\'');
    }
    out
}

fn parse_uri(whole: &str, rest: &str) -> Result<Pairs, SettingsError> {
    let mut pairs = Pairs::new();
    let store = |pairs: &mut Pairs, name: &str, value: &str| -> Result<(), SettingsError> {
        if !value.is_empty() {
            pairs.push((name.to_owned(), percent_decode(value)?));
        }
        Ok(())
    };
    let mut rest = rest;
    // A user is there only if an @ comes before the first slash.
    let authority_end = rest.find(['@', '/']).unwrap_or(rest.len());
    if rest[authority_end..].starts_with('@') {
        let credentials = &rest[..authority_end];
        rest = &rest[authority_end + 1..];
        match credentials.split_once(':') {
            Some((user, password)) => {
                store(&mut pairs, "user", user)?;
                store(&mut pairs, "password", password)?;
            }
            None => store(&mut pairs, "user", credentials)?,
        }
    }
    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        if let Some(bracketed) = rest.strip_prefix('[') {
            let Some(end) = bracketed.find(']') else {
                return Err(syntax(format!(
                    "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"{whole}\""
                )));
            };
            if end == 0 {
                return Err(syntax(format!(
                    "IPv6 host address may not be empty in URI: \"{whole}\""
                )));
            }
            hosts.push_str(&bracketed[..end]);
            rest = &bracketed[end + 1..];
            if let Some(c) = rest
                .chars()
                .next()
                .filter(|c| !matches!(c, ':' | '/' | '?' | ','))
            {
                return Err(syntax(format!(
                    "unexpected character \"{c}\" at position {} in URI (expected \":\" or \"/\"): \"{whole}\"",
                    whole.len() - rest.len() + 1
                )));
            }
        } else {
            let end = rest.find([':', '/', '?', ',']).unwrap_or(rest.len());
            hosts.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        if let Some(port) = rest.strip_prefix(':') {
            let end = port.find(['/', '?', ',']).unwrap_or(port.len());
            ports.push_str(&port[..end]);
            rest = &port[end..];
        }
        match rest.strip_prefix(',') {
            Some(next) => {
                hosts.push(',');
                ports.push(',');
                rest = next;
            }
            None => break,
        }
    }
    store(&mut pairs, "host", &hosts)?;
    store(&mut pairs, "port", &ports)?;
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, query),
        None => (rest, ""),
    };
    store(&mut pairs, "dbname", path.strip_prefix('/').unwrap_or(path))?;
    parse_query(query, &mut pairs)?;
    Ok(pairs)
}

fn parse_query(query: &str, pairs: &mut Pairs) -> Result<(), SettingsError> {
    // libpq accepts one trailing `&`.
    let query = query.strip_suffix('&').unwrap_or(query);
    if query.is_empty() {
        return Ok(());
    }
    for parameter in query.split('&') {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(syntax(format!(
                "missing key/value separator \"=\" in URI query parameter: \"{parameter}\""
            )));
        };
        if value.contains('=') {
            return Err(syntax(format!(
                "extra key/value separator \"=\" in URI query parameter: \"{name}\""
            )));
        }
        let (name, value) = (percent_decode(name)?, percent_decode(value)?);
        if name == "ssl" && value == "true" {
            // As in JDBC.
            pairs.push(("sslmode".to_owned(), "require".to_owned()));
        } else {
            pairs.push((name, value));
        }
    }
    Ok(())
}

fn percent_decode(text: &str) -> Result<String, SettingsError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(0), Some(0)) => {
                return Err(syntax(format!(
                    "forbidden value %00 in percent-encoded value: \"{text}\""
                )));
            }
            // Two hexadecimal digits always fit a byte.
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => {
                return Err(syntax(format!("invalid percent-encoded token: \"{text}\"")));
            }
        }
    }
    String::from_utf8(out)
        .map_err(|_| syntax(format!("percent-encoded value is not UTF-8: \"{text}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(text: &str) -> String {
        match parse(text) {
            Ok(pairs) => write(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
            Err(e) => format!("error: {e}"),
        }
    }

    /// The examples of libpq's documentation, and of its own URI regression test.
    #[test]
    fn strings_mean_what_libpq_reads_in_them() {
        for (text, expected) in [
            ("", ""),
            (
                "host=localhost port=5432 dbname=mydb connect_timeout=10",
                "host='localhost' port='5432' dbname='mydb' connect_timeout='10'",
            ),
            (r"a = 'x\'y\\z' b=", r"a='x\'y\\z' b=''"),
            (r"user=a\ b\\c", r"user='a b\\c'"),
            ("dbname='' user = x", "dbname='' user='x'"),
            ("postgresql://", ""),
            ("postgresql://localhost", "host='localhost'"),
            (
                "postgresql://localhost:5433",
                "host='localhost' port='5433'",
            ),
            (
                "postgresql://localhost/mydb",
                "host='localhost' dbname='mydb'",
            ),
            (
                "postgresql://user@localhost",
                "user='user' host='localhost'",
            ),
            (
                "postgresql://user:secret@localhost",
                "user='user' password='secret' host='localhost'",
            ),
            (
                "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
                "user='other' host='localhost' dbname='otherdb' connect_timeout='10' application_name='myapp'",
            ),
            (
                "postgresql://host1:123,host2:456/somedb?target_session_attrs=any&application_name=myapp",
                "host='host1,host2' port='123,456' dbname='somedb' target_session_attrs='any' application_name='myapp'",
            ),
            (
                "postgresql://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff",
                "user='user' host='localhost' port='5433' dbname='mydb' options='-c synchronous_commit=off'",
            ),
            (
                "postgresql:///mydb?host=localhost&port=5433",
                "dbname='mydb' host='localhost' port='5433'",
            ),
            (
                "postgresql://[2001:db8::1234]/database",
                "host='2001:db8::1234' dbname='database'",
            ),
            (
                "postgresql:///dbname?host=/var/lib/postgresql",
                "dbname='dbname' host='/var/lib/postgresql'",
            ),
            (
                "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
                "host='/var/lib/postgresql' dbname='dbname'",
            ),
            (
                "postgresql://uri-user:secret@host:12345/db",
                "user='uri-user' password='secret' host='host' port='12345' dbname='db'",
            ),
            (
                "postgresql://uri-user:secret@[::1]:5?uri%2Duser=x",
                "user='uri-user' password='secret' host='::1' port='5' uri-user='x'",
            ),
            ("postgres://host?ssl=true", "host='host' sslmode='require'"),
            ("postgresql://host/db?u=1&", "host='host' dbname='db' u='1'"),
            ("postgresql://@host", "host='host'"),
            ("postgresql://:@host", "host='host'"),
            ("postgresql://a,,c:1/", "host='a,,c' port=',,1'"),
            (
                "postgresql://host/db%2",
                "error: invalid percent-encoded token: \"db%2\"",
            ),
            (
                "postgresql://host/d%00b",
                "error: forbidden value %00 in percent-encoded value: \"d%00b\"",
            ),
            (
                "postgresql://[::1",
                "error: end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"postgresql://[::1\"",
            ),
            (
                "postgres://[]",
                "error: IPv6 host address may not be empty in URI: \"postgres://[]\"",
            ),
            (
                "postgres://[::1]z",
                "error: unexpected character \"z\" at position 17 in URI (expected \":\" or \"/\"): \"postgres://[::1]z\"",
            ),
            (
                "postgresql://host?zzz",
                "error: missing key/value separator \"=\" in URI query parameter: \"zzz\"",
            ),
            (
                "postgresql://host?a=b=c",
                "error: extra key/value separator \"=\" in URI query parameter: \"a\"",
            ),
            (
                "dbname",
                "error: missing \"=\" after \"dbname\" in connection info string",
            ),
            (
                "a=1 b",
                "error: missing \"=\" after \"b\" in connection info string",
            ),
            (
                "a='x",
                "error: unterminated quoted string in connection info string",
            ),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in prop::collection::vec(("[a-z_]{1,8}", any::<String>()), 0..5)) {
            let text = write(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            prop_assert_eq!(parse(&text).unwrap(), pairs);
        }

        #[test]
        fn no_string_makes_it_panic(text in any::<String>(), uri in "[a-z0-9@:/?=&%,\\[\\]é]{0,30}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{uri}"));
        }
    }
}
