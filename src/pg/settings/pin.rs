//! Handing settings on: to further connections that must reach the same server, and to programs we start.

use super::super::connection::Connection;
use super::{Settings, conninfo};

/// Settings a child program gets through its environment, with libpq's name of the variable.
const CHILD: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("require_auth", "PGREQUIREAUTH"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("sslmode", "PGSSLMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslsni", "PGSSLSNI"),
    ("requirepeer", "PGREQUIREPEER"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("gssencmode", "PGGSSENCMODE"),
];

/// Variables that would make a child connect differently than we did: already merged into what is handed on.
const CHILD_UNSET: &[&str] = &[
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGREQUIRESSL",
    "PGCLIENTENCODING",
];

impl Settings {
    /// These settings, limited to the one address the connection reached, and with the password that opened it: further
    /// connections go to the same server or fail.
    pub fn pin(&self, connection: &Connection) -> Settings {
        let host = connection.host();
        let mut changes = vec![
            ("host", host.name.as_str()),
            ("hostaddr", host.addr.as_str()),
            ("target_session_attrs", "any"),
            ("load_balance_hosts", "disable"),
        ];
        let port = host.port.to_string();
        changes.push(("port", &port));
        if let Some(password) = connection.password_used() {
            changes.push(("password", password));
        }
        let mut pinned = self.replace(&changes);
        pinned.target = super::Target::Any;
        pinned.shuffle_hosts = false;
        pinned.force_password = false;
        pinned
    }

    /// Environment for a child program that uses libpq (`pg_dump`), to be called on pinned settings: None removes a
    /// variable. Nothing of it, above all not
    /// the password, has to stand among the child's arguments, which everyone on the machine can read.
    ///
    /// Settings for which libpq has no variable (`keepalives*`, `tcp_user_timeout`, `fallback_application_name`) are in
    /// [`Settings::child_conninfo`].
    pub fn child_env(&self) -> Vec<(&'static str, Option<String>)> {
        let value = |name| match name {
            "password" => self.typed_password().or(self.get(name).map(str::to_owned)),
            _ => self.get(name).map(str::to_owned),
        };
        let mut env: Vec<_> = CHILD
            .iter()
            .map(|(name, var)| (*var, value(*name)))
            .collect();
        env.extend(CHILD_UNSET.iter().map(|var| (*var, None)));
        env
    }

    /// A connection string without secrets for a child program's `--dbname`, to be used together with
    /// [`Settings::child_env`].
    pub fn child_conninfo(&self) -> String {
        let mut pairs = vec![("dbname", self.dbname())];
        for name in [
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcp_user_timeout",
            "fallback_application_name",
        ] {
            pairs.extend(self.get(name).map(|value| (name, value)));
        }
        conninfo::write(pairs)
    }

    /// A connection string for a child program that is to come to a socket of ours in this directory.
    pub fn socket_conninfo(&self, directory: &str) -> String {
        conninfo::write([
            ("host", directory),
            ("port", self.port().to_string().as_str()),
            ("dbname", self.dbname()),
            ("user", self.user()),
            ("sslmode", "disable"),
            ("gssencmode", "disable"),
        ])
    }

    fn typed_password(&self) -> Option<String> {
        self.typed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }
}
