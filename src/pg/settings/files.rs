//! The two files libpq reads: connection services and passwords.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{SettingsError, keywords};

/// Where an installation keeps `pg_service.conf` when `PGSYSCONFDIR` does not say: libpq has this compiled in.
const SYSTEM_DIRECTORIES: &[&str] = &["/etc/postgresql-common", "/etc"];

/// The settings a service stands for, first entry of a keyword first.
pub(super) fn service(
    name: &str,
    file: Option<&str>,
    sysconfdir: Option<&str>,
    home: Option<&Path>,
) -> Result<Vec<(&'static str, String)>, SettingsError> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    match file {
        Some(file) => {
            if !Path::new(file).is_file() {
                return Err(SettingsError::Service(format!(
                    "service file \"{file}\" not found"
                )));
            }
            candidates.push(file.into());
        }
        None => candidates.extend(home.map(|h| h.join(".pg_service.conf"))),
    }
    match sysconfdir {
        Some(dir) => candidates.push(Path::new(dir).join("pg_service.conf")),
        None => candidates.extend(
            SYSTEM_DIRECTORIES
                .iter()
                .map(|d| Path::new(d).join("pg_service.conf")),
        ),
    }
    for path in candidates {
        let Ok(text) = fs::read_to_string(&path) else {
            continue; // As libpq: a default file that is not there says nothing.
        };
        if let Some(found) = read_service(name, &text, &path)? {
            return Ok(found);
        }
    }
    Err(SettingsError::Service(format!(
        "definition of service \"{name}\" not found"
    )))
}

fn read_service(
    name: &str,
    text: &str,
    path: &Path,
) -> Result<Option<Vec<(&'static str, String)>>, SettingsError> {
    let mut found = None::<Vec<(&'static str, String)>>;
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_matches(|c: char| c.is_ascii_whitespace());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(group) = line.strip_prefix('[') {
            if found.is_some() {
                return Ok(found); // The first group of that name counts.
            }
            inside = group.strip_suffix(']') == Some(name);
            if inside {
                found = Some(Vec::new());
            }
            continue;
        }
        if !inside {
            continue;
        }
        let place = || format!("service file \"{}\", line {}", path.display(), number + 1);
        if line.starts_with("ldap") {
            return Err(SettingsError::Service(format!(
                "{} looks settings up in LDAP, which pgtide cannot do; write them into the file",
                place()
            )));
        }
        let Some((keyword, value)) = line.split_once('=') else {
            return Err(SettingsError::Service(format!(
                "syntax error in {}",
                place()
            )));
        };
        if keyword == "service" || keyword == "servicefile" {
            return Err(SettingsError::Service(format!(
                "nested \"{keyword}\" specifications not supported in {}",
                place()
            )));
        }
        let Some(known) = keywords::find(keyword) else {
            return Err(SettingsError::Service(format!(
                "syntax error in {}",
                place()
            )));
        };
        found
            .get_or_insert_default()
            .push((known.name, value.to_owned()));
    }
    Ok(found)
}

/// The password for this connection out of a `.pgpass` file, if the file has one and may be trusted.
pub(super) fn password(
    path: &Path,
    host: &str,
    port: &str,
    dbname: &str,
    user: &str,
) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() {
        tracing::warn!("password file \"{}\" is not a plain file", path.display());
        return None;
    }
    if meta.mode() & 0o077 != 0 {
        tracing::warn!(
            "password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
            path.display()
        );
        return None;
    }
    let bytes = fs::read(path).ok()?;
    find_password(&String::from_utf8_lossy(&bytes), [host, port, dbname, user])
}

fn find_password(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut rest = line.strip_suffix('\r').unwrap_or(line);
            for field in wanted {
                rest = match_field(rest, field)?;
            }
            let mut password = String::new();
            let mut chars = rest.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' => password.push(chars.next().unwrap_or('\\')),
                    ':' => break, // libpq ignores what follows an unescaped colon.
                    c => password.push(c),
                }
            }
            Some(password)
        })
}

/// What follows a field that matches.
fn match_field<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut wanted = wanted.chars();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        let literal = match c {
            ':' => return wanted.next().is_none().then(|| &line[at + 1..]),
            '\\' => chars.next()?.1,
            c => c,
        };
        if wanted.next() != Some(literal) {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_matching_line_of_a_password_file_counts() {
        let text =
            "# c\nh:5432:db:u:one\n*:*:a\\:b:u:two\\:\\\\x\nh:*:*:v:\nbad line\n*:*:*:*:last:rest";
        let find = |host, db, user| find_password(text, [host, "5432", db, user]);
        assert_eq!(find("h", "db", "u").as_deref(), Some("one"));
        assert_eq!(find("g", "a:b", "u").as_deref(), Some("two:\\x"));
        assert_eq!(find("h", "x", "v").as_deref(), Some(""));
        assert_eq!(find("x", "y", "z").as_deref(), Some("last"));
        assert_eq!(find_password("h:1:d", ["h", "1", "d", "u"]), None);
    }

    #[test]
    fn a_password_file_others_can_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "*:*:*:*:secret\n").unwrap();
        let set =
            |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        set(0o600);
        assert_eq!(
            password(file.path(), "h", "1", "d", "u").as_deref(),
            Some("secret")
        );
        set(0o640);
        assert_eq!(password(file.path(), "h", "1", "d", "u"), None);
        assert_eq!(password(Path::new("/"), "h", "1", "d", "u"), None);
        assert_eq!(password(Path::new("/no/such"), "h", "1", "d", "u"), None);
    }

    #[test]
    fn services_are_found_by_name() {
        let text = "# x\n[other]\nhost=a\n[mine]\n host=b \nport=1\n\n[mine]\nhost=c\n";
        let path = Path::new("f");
        assert_eq!(
            read_service("mine", text, path).unwrap(),
            Some(vec![("host", "b".to_owned()), ("port", "1".to_owned())])
        );
        assert_eq!(read_service("none", text, path).unwrap(), None);
        for bad in [
            "[x]\nhost",
            "[x]\nnosuch=1",
            "[x]\nservice=y",
            "[x]\nldap://h",
        ] {
            assert!(read_service("x", bad, path).is_err(), "{bad}");
        }
    }
}
