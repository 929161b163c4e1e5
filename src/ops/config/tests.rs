use super::*;

fn wrong(text: &str) -> Vec<Problem> {
    match Config::parse(Path::new("/etc/pgtide/pgtide.toml"), text.to_owned()) {
        Ok(config) => config.problems(),
        Err(ConfigError::Wrong { problems, .. }) => problems,
        Err(error) => panic!("{error}"),
    }
}

const GOOD: &str = r#"
[defaults]
source = "shop"
compress = "best"
[defaults.keep]
daily = 7

[sources.shop]
connection = "host=db1 user=backup dbname=shop"
password = { file = "shop.password" }

[repositories.main]
location = "backups"

[repositories.offsite]
location = "s3://bucket/prefix"
options = { "s3.region" = "eu-central-1" }
password = { env = "OFFSITE" }

[profiles.nightly]
repository = "main"
databases = ["a", "b"]
globals = true
retry_wait = "5s"
select = { exclude_tables = ["audit.*"], where = ["orders: id > 5"], since = ["metrics=30 days"] }
keep = { daily = 14, monthly = "unlimited", within = "1y6m" }
verify = { ephemeral = true, rto = "30m", queries = [{ sql = "select count(*) from orders" }] }
copy = { to = "offsite", keep = { last = 3 } }

[profiles.weekly]
repository = "offsite"
all_databases = true
exclude_databases = ["tmp*"]
compress = "fast"

[[notify.mail]]
server = "smtps://mail.example.org"
from = "pgtide@example.org"
to = ["dba@example.org"]

[[notify.webhook]]
url = "http://localhost:8080/hook"
on = ["success", "failure"]

[metrics]
textfile = "metrics"
"#;

#[test]
fn a_profile_has_what_it_says_and_else_what_the_defaults_say() {
    let config = Config::parse(Path::new("/etc/pgtide/pgtide.toml"), GOOD.to_owned()).unwrap();
    assert_eq!(config.problems(), []);
    let nightly = config.profile("nightly").unwrap();
    assert_eq!(nightly.source.name, "shop");
    assert_eq!(nightly.repository.location, "/etc/pgtide/backups");
    assert_eq!(nightly.retries, 2);
    assert_eq!(nightly.retry_wait.as_secs(), 5);
    assert!(matches!(&nightly.databases, Databases::Named(names) if *names == ["a", "b"]));
    let keep = nightly.keep.unwrap();
    // A table as a whole.
    assert_eq!(keep.periods.len(), 2);
    assert_eq!(nightly.copy.unwrap().keep.unwrap().periods.len(), 0);
    let weekly = config.profile("weekly").unwrap();
    assert!(weekly.globals);
    assert_eq!(weekly.keep.unwrap().periods.len(), 1);
    assert_eq!(config.textfile().unwrap(), Path::new("/etc/pgtide/metrics"));
    assert_eq!(config.channels("nightly").unwrap().len(), 2);
}

#[test]
fn what_is_wrong_is_named_with_line_and_column() {
    let text = "[sources.a]\nconnection = \"host=x\"\n\n[profiles.p]\nsource = \"b\"\nrepository = \"r\"\nretry_wait = \"soon\"\n";
    let problems = wrong(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].line, problems[0].column), (7, 14));
    assert_eq!(
        problems[0].to_string(),
        "line 7, column 14: \"soon\" is not a time such as 500ms, 30s, 15min, 2h or 7d\n  7 | retry_wait = \"soon\"\n    |              ^^^^^^"
    );
    // Once it can be read, everything that does not fit together.
    let problems = wrong(&text.replace("soon", "5s"));
    let places: Vec<(usize, usize)> = problems.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(5, 10), (6, 14)], "{problems:?}");
    assert!(
        problems[0]
            .message
            .contains("there is no source \"b\"; there are a")
    );
    assert!(problems[1].message.contains("add [repositories.r]"));
}

#[test]
fn profiles_that_would_forget_each_others_snapshots_are_refused() {
    let text = |more: &str| {
        format!(
            "[sources.a]\nconnection = \"host=x\"\n[repositories.r]\nlocation = \"r\"\n[defaults]\nsource = \"a\"\nrepository = \"r\"\n[profiles.p]\nkeep = {{ daily = 7 }}\n[profiles.q]\nkeep = {{ yearly = 7 }}\n{more}"
        )
    };
    let problems = wrong(&text(""));
    assert!(problems[0].message.contains("p and q"), "{problems:?}");
    assert_eq!(wrong(&text("tags = [\"yearly\"]")), []);
    assert_eq!(wrong(&text("databases = [\"other\"]")), []);
}

#[test]
fn keys_that_are_no_keys_are_refused() {
    for (text, said) in [
        ("[profile.nightly]\n", "unknown field `profile`"),
        ("[profiles.x]\nkep = 3\n", "unknown field `kep`"),
        ("[profiles.x.keep]\ndaily = -1\n", "give a number from 0 on"),
        (
            "[profiles.x.keep]\ndaily = \"many\"\n",
            "give a number, or 'unlimited'",
        ),
        (
            "[profiles.x]\ncompress = \"zip\"\n",
            "unknown variant `zip`",
        ),
        ("x = \n", ""),
    ] {
        let problems = wrong(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].message.contains(said), "{text}: {problems:?}");
        assert!(problems[0].line > 0, "{text}: {problems:?}");
    }
}

#[test]
fn passwords_are_never_in_the_file() {
    for (text, said) in [
        (
            "[sources.a]\nconnection = \"host=x password=y\"\n[profiles.p]\nsource = 'a'",
            "a password is in the connection",
        ),
        (
            "[sources.a]\nconnection = \"postgresql://u:secret@h/d\"",
            "a password is in the connection",
        ),
        (
            "[sources.a]\nconnection = \"host=x\"\npassword = \"y\"",
            "no secret is written into this file",
        ),
        (
            "[repositories.a]\nlocation = \"x\"\npassword = { file = \"a\", env = \"B\" }",
            "give one of file, command and env",
        ),
    ] {
        let problems = wrong(text);
        assert!(
            problems.iter().any(|p| p.message.contains(said)),
            "{text}: {problems:?}"
        );
        assert!(!problems.iter().any(|p| p.to_string().contains("secret@")));
    }
}

#[test]
fn the_starter_is_right_as_it_stands() {
    for (databases, password_file, mail) in [
        (vec![], None, None),
        (
            vec!["one".to_owned(), "t\"wo".to_owned()],
            Some("/etc/pgtide/pw".to_owned()),
            Some("dba@example.org".to_owned()),
        ),
    ] {
        let text = starter(&Starter {
            connection: "host=/run/postgresql user=postgres".into(),
            databases: databases.clone(),
            repository: "/srv/back ups".into(),
            password_file,
            mail,
        });
        let config = Config::parse(Path::new("/etc/pgtide/pgtide.toml"), text.clone()).unwrap();
        assert_eq!(config.problems(), [], "{text}");
        let profile = config.profile("nightly").unwrap();
        match &profile.databases {
            Databases::Named(names) => assert_eq!(*names, databases),
            _ => assert!(databases.is_empty()),
        }
        // What is commented out is right, too: keys and tables, not prose.
        let is_key = |line: &str| {
            let word = line.split(" = ").next().unwrap_or_default();
            line.starts_with('[') || line.contains(" = ") && !word.contains(' ')
        };
        let all: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|line| is_key(line))
                    .unwrap_or(line)
            })
            .fold(String::new(), |all, line| all + line + "\n");
        if databases.is_empty() {
            let config = Config::parse(Path::new("/etc/pgtide/pgtide.toml"), all.clone());
            let config = config.unwrap_or_else(|error| panic!("{error}\n{all}"));
            assert_eq!(config.problems(), [], "{all}");
        }
    }
}

#[test]
fn the_schema_knows_every_key() {
    let schema = json_schema().to_string();
    for key in [
        "all_databases",
        "retry_wait",
        "url_secret",
        "exclude_table_data",
        "rto",
    ] {
        assert!(schema.contains(key), "{key}");
    }
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_file_with_anything_cut_out_or_put_in_is_read_without_panic(
            at in 0..GOOD.len(),
            cut in 0..40usize,
            put in "[\\[\\]={}\"'\\n a-zé0-9.$]{0,12}",
        ) {
            let at = (0..=at).rev().find(|at| GOOD.is_char_boundary(*at)).unwrap();
            let end = (at + cut).min(GOOD.len());
            let text = format!("{}{put}{}", &GOOD[..at], GOOD.get(end..).unwrap_or_default());
            for problem in wrong(&text) {
                prop_assert!(!problem.to_string().is_empty());
            }
        }
    }
}
