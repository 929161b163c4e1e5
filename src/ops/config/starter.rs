//! The configuration to start with: short, commented, and right as it stands.

use std::fmt::Write;

/// What a starter is made of.
#[derive(Debug, Clone, Default)]
pub struct Starter {
    /// The connection to the server, without a password.
    pub connection: String,
    /// The databases; none for all of them.
    pub databases: Vec<String>,
    /// The repository.
    pub repository: String,
    /// The file that has the repository's password, if it is encrypted.
    pub password_file: Option<String>,
    /// The address that is told of failures.
    pub mail: Option<String>,
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The text of the file.
pub fn starter(of: &Starter) -> String {
    let connection = quoted(&of.connection);
    let repository = quoted(&of.repository);
    let databases = match &of.databases[..] {
        [] => "all_databases = true      # with roles and tablespaces".to_owned(),
        names => {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            format!(
                "databases = [{}]\nglobals = true            # roles and tablespaces, too",
                names.join(", ")
            )
        }
    };
    let password = match &of.password_file {
        Some(file) => format!("password = {{ file = {} }}", quoted(file)),
        None => {
            "# password = { file = \"/etc/pgtide/repository.password\" }   # for one made with init --encrypt"
                .to_owned()
        }
    };
    let mut text = format!(
        r#"# What `pgtide run nightly` does. `pgtide config check` looks at this file, `pgtide doctor` at what it names.
# Every text may have ${{VARIABLES}} of the environment. Passwords are never written here.

[sources.main]
connection = {connection}
# password = {{ file = "/etc/pgtide/server.password" }}   # unless ~/.pgpass has it

[repositories.main]
location = {repository}
{password}

[profiles.nightly]
source = "main"
repository = "main"
{databases}
every = "1d"              # a night that did not come is told of
# deadline = "6h"         # a run is stopped after so long

[profiles.nightly.keep]   # what stays; everything else is forgotten
daily = 7
weekly = 4
monthly = 6

[profiles.nightly.check]  # every byte of the repository is read once in three weeks
read_data = "5%"

# A snapshot that was never restored is a hope. This restores what was dumped, into scratch databases, and compares every
# row: on a server among the sources, or on a throw-away server (ephemeral = true).
# [profiles.nightly.verify]
# ephemeral = true
# every = "7d"
# rto = "2h"

# [repositories.offsite]
# location = "s3://BUCKET/PREFIX"
# options = {{ "s3.region" = "eu-central-1" }}
#
# [profiles.nightly.copy]
# to = "offsite"

# [metrics]
# textfile = "/var/lib/prometheus/node-exporter"
"#
    );
    // Writing to a text does not fail.
    let _ = match &of.mail {
        Some(to) => writeln!(
            text,
            "\n[[notify.mail]]\nserver = \"smtp+plain://localhost\"\nfrom = {to}\nto = [{to}]\n# on = [\"failure\", \"anomaly\"]",
            to = quoted(to)
        ),
        None => writeln!(
            text,
            "\n# [[notify.mail]]\n# server = \"smtps://mail.example.org\"\n# user = \"pgtide\"\n# password = {{ file = \"/etc/pgtide/mail.password\" }}\n# from = \"pgtide@example.org\"\n# to = [\"dba@example.org\"]"
        ),
    };
    text.push_str(
        "\n# A dead-man's switch: it is pinged when a run succeeds, and raises the alarm when that does not come.\n# [[notify.ping]]\n# url_secret = { file = \"/etc/pgtide/healthchecks.url\" }\n",
    );
    text
}
