use std::collections::HashMap;
use std::fs;

use proptest::prelude::*;

use super::keywords::{ENVIRONMENT_ONLY, KEYWORDS, Support};
use super::*;

fn resolve(dbname: &str, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let args = ConnectionArgs {
        dbname: Some(dbname.to_owned()),
        ..ConnectionArgs::default()
    };
    resolve_args(args, env)
}

fn resolve_args(args: ConnectionArgs, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let env: HashMap<_, _> = env.iter().copied().collect();
    Settings::resolve(args, &|name| env.get(name).map(|v| (*v).to_owned()))
}

const HOME: (&str, &str) = ("HOME", "/nowhere");

#[test]
fn the_connection_string_goes_before_arguments_service_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("services");
    fs::write(
        &file,
        "[s]\nhost=servicehost\nport=1\nuser=serviceuser\nconnect_timeout=7\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let args = ConnectionArgs {
        dbname: Some("host=stringhost service=s dbname=d".to_owned()),
        host: Some("arghost".to_owned()),
        port: Some("2".to_owned()),
        ..ConnectionArgs::default()
    };
    let env = [
        HOME,
        ("PGSERVICEFILE", file),
        ("PGUSER", "envuser"),
        ("PGAPPNAME", "envapp"),
    ];
    let s = resolve_args(args, &env).unwrap();
    assert_eq!(s.get("host"), Some("stringhost"));
    assert_eq!(s.get("port"), Some("2"));
    assert_eq!(s.user(), "serviceuser");
    assert_eq!(s.get("application_name"), Some("envapp"));
    assert_eq!(s.timeout, Some(Duration::from_secs(7)));
    assert_eq!(s.dbname(), "d");

    let s = resolve("", &[HOME, ("PGSERVICE", "s"), ("PGSERVICEFILE", file)]).unwrap();
    assert_eq!(s.get("host"), Some("servicehost"));
    let missing = resolve("service=t", &[HOME, ("PGSERVICEFILE", file)]).unwrap_err();
    assert_eq!(missing.to_string(), "definition of service \"t\" not found");
    assert!(resolve("service=t", &[HOME, ("PGSERVICEFILE", "/no/such")]).is_err());
    let sysconf = [HOME, ("PGSYSCONFDIR", dir.path().to_str().unwrap())];
    fs::rename(file, dir.path().join("pg_service.conf")).unwrap();
    assert_eq!(
        resolve("service=s", &sysconf).unwrap().user(),
        "serviceuser"
    );
}

#[test]
fn defaults_are_libpqs() {
    let s = resolve("", &[HOME]).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap();
    assert_eq!(s.user(), user.name);
    assert_eq!(s.dbname(), user.name);
    assert_eq!(s.hosts.len(), 1);
    assert!(s.hosts[0].name.starts_with('/'));
    assert_eq!(s.hosts[0].port, 5432);
    assert_eq!(s.ssl.mode, SslMode::Prefer);
    assert_eq!(s.timeout, None);
    // An empty value in a string keeps the environment out.
    let s = resolve(
        "host='' user=u",
        &[HOME, ("PGHOST", "h"), ("PGDATABASE", "d")],
    )
    .unwrap();
    assert!(s.hosts[0].name.starts_with('/'));
    assert_eq!(s.dbname(), "d");
    assert_eq!(
        resolve("name", &[HOME, ("PGUSER", "u")]).unwrap().dbname(),
        "name"
    );
    // Once known, a name is a name.
    assert_eq!(s.with_dbname("host=x").dbname(), "host=x");
}

#[test]
fn hosts_addresses_and_ports_go_together() {
    let hosts = |text: &str| resolve(text, &[HOME]).map(|s| s.hosts);
    let host = |name: &str, addr: &str, port| Host {
        name: name.to_owned(),
        addr: addr.to_owned(),
        port,
    };
    assert_eq!(
        hosts("postgres://a:1,b,c:3/").unwrap(),
        [host("a", "", 1), host("b", "", 5432), host("c", "", 3)]
    );
    assert_eq!(
        hosts("host=a,b port=7").unwrap(),
        [host("a", "", 7), host("b", "", 7)]
    );
    assert_eq!(
        hosts("host=a,b hostaddr=1.1.1.1,::1").unwrap(),
        [host("a", "1.1.1.1", 5432), host("b", "::1", 5432)]
    );
    assert_eq!(hosts("hostaddr=::1").unwrap(), [host("", "::1", 5432)]);
    for bad in [
        "host=a,b hostaddr=::1",
        "host=a,b port=1,2,3",
        "port=0",
        "port=65536",
        "port=x",
    ] {
        assert!(hosts(bad).is_err(), "{bad}");
    }
    let unix = &hosts("host=/run/x port=6").unwrap()[0];
    assert_eq!(unix.socket_path().as_deref(), Some("/run/x/.s.PGSQL.6"));
}

#[test]
fn wrong_values_are_named() {
    for (text, message) in [
        ("sslmode=verify", "invalid sslmode value: \"verify\""),
        ("nosuch=1", "invalid connection option \"nosuch\""),
        (
            "target_session_attrs=x",
            "invalid target_session_attrs value",
        ),
        ("load_balance_hosts=x", "invalid load_balance_hosts value"),
        ("channel_binding=x", "invalid channel_binding value"),
        (
            "connect_timeout=soon",
            "invalid connect_timeout value: \"soon\"",
        ),
        (
            "sslnegotiation=direct",
            "weak sslmode \"prefer\" may not be used with sslnegotiation=direct",
        ),
        (
            "sslrootcert=system sslmode=require",
            "weak sslmode \"require\" may not be used with sslrootcert=system",
        ),
        (
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
            "invalid SSL protocol version range",
        ),
        ("ssl_max_protocol_version=TLSv1.1", "TLSv1.2 and TLSv1.3"),
        (
            "ssl_min_protocol_version=SSLv3",
            "invalid ssl_min_protocol_version value",
        ),
        (
            "sslpassword=secret",
            "option \"sslpassword\" cannot be honoured with value \"...\"",
        ),
        ("sslcrl=/x", "revocation"),
        ("gssencmode=require", "GSSAPI"),
        ("gssencmode=maybe", "invalid gssencmode value"),
        ("krbsrvname=x", "GSSAPI"),
        ("replication=database", "cannot dump"),
        ("oauth_issuer=x", "OAuth"),
        ("sslcompression=1", "compression"),
        ("min_protocol_version=3.2", "3.0"),
        (
            "max_protocol_version=2",
            "invalid max_protocol_version value",
        ),
    ] {
        let error = resolve(text, &[HOME]).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
        assert!(!error.contains("secret"));
    }
    for good in [
        "sslcompression=0 gssencmode=prefer gssdelegation=0 min_protocol_version=3.0 max_protocol_version=latest",
        "ssl_min_protocol_version=TLSv1 client_encoding=auto replication=off sslpassword=''",
    ] {
        resolve(good, &[HOME]).unwrap();
    }
    assert!(resolve("", &[HOME, ("PGSSLCRL", "/x")]).is_err());
}

#[test]
fn sslmode_has_its_relations() {
    let mode = |text, env: &[_]| resolve(text, env).unwrap().ssl.mode;
    assert_eq!(mode("sslrootcert=system", &[HOME]), SslMode::VerifyFull);
    assert_eq!(mode("requiressl=1", &[HOME]), SslMode::Require);
    assert_eq!(mode("", &[HOME, ("PGREQUIRESSL", "1")]), SslMode::Require);
    let both = [HOME, ("PGREQUIRESSL", "1"), ("PGSSLMODE", "disable")];
    assert_eq!(mode("", &both), SslMode::Disable);
    assert_eq!(mode("postgres://h/?ssl=true", &[HOME]), SslMode::Require);
}

#[test]
fn passwords_are_found_and_not_shown() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "localhost:5432:d:u:local\nh:6:d:u:remote\n").unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let path = file.path().to_str().unwrap();
    let password = |text: &str, env: &[_]| {
        let s = resolve(text, env).unwrap();
        s.password(&s.hosts[0], false).unwrap()
    };
    let env = [HOME, ("PGPASSFILE", path)];
    assert_eq!(
        password("host=h port=6 user=u dbname=d", &env).as_deref(),
        Some("remote")
    );
    assert_eq!(
        password("host=/tmp user=u dbname=d", &env).as_deref(),
        Some("local")
    );
    assert_eq!(password("host=/other user=u dbname=d", &env), None);
    assert_eq!(
        password("host=h port=6 user=u dbname=d password=p", &env).as_deref(),
        Some("p")
    );
    let s = resolve("password=hidden", &[HOME]).unwrap();
    assert!(!format!("{s:?}").contains("hidden"));
    let env = s.child_env();
    assert!(env.contains(&("PGPASSWORD", Some("hidden".to_owned()))));
    assert!(env.contains(&("PGSERVICE", None)));
    assert!(!s.child_conninfo().contains("hidden"));
}

#[test]
fn the_documentation_lists_every_setting() {
    let doc = include_str!("../../../docs/connection.md");
    let listed: Vec<[&str; 3]> = doc
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            Some([cells.next()?, cells.next()?, cells.next()?])
        })
        .collect();
    let code = |text: &str| format!("`{text}`");
    let mut known: Vec<[String; 3]> = KEYWORDS
        .iter()
        .map(|k| {
            let verdict = match k.support {
                Support::Honoured => "honoured",
                Support::Partly(_) => "partly",
                Support::Pinned => "pinned",
                Support::Refused(_) => "refused",
            };
            let env = k.env.map_or_else(String::new, code);
            [code(k.name), env, verdict.to_owned()]
        })
        .collect();
    for (var, name) in ENVIRONMENT_ONLY {
        let verdict = if *name == "geqo" {
            "honoured"
        } else {
            "pinned"
        };
        known.push([code(name), code(var), verdict.to_owned()]);
    }
    for entry in &known {
        assert!(
            listed.iter().any(|l| l[..] == entry[..]),
            "docs/connection.md lacks {entry:?}"
        );
    }
    assert_eq!(
        listed.len(),
        known.len(),
        "docs/connection.md lists too much"
    );
}

proptest! {
    #[test]
    fn no_connection_string_makes_it_panic(text in any::<String>()) {
        let _ = resolve(&text, &[HOME]);
        let _ = resolve(&format!("postgres://{text}"), &[HOME]);
        let _ = resolve(&format!("host={text} port={text} require_auth={text}"), &[HOME]);
    }
}
