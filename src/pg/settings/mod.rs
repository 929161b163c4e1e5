//! Connection settings as libpq understands them.
//!
//! Where a value comes from, first hit wins: the connection string given as database name, the arguments, the service
//! file, the environment, the default. Every setting of libpq is honoured or refused by name: see
//! `docs/connection.md`.

mod auth;
mod conninfo;
mod files;
mod keywords;
mod pin;
mod ssl;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) use auth::{AuthMethod, AuthRules, ChannelBindingRule};
pub(super) use ssl::{CertMode, SslMode, SslSettings};

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A connection string that cannot be read.
    #[error("{0}")]
    Syntax(String),
    /// A keyword that libpq does not know either.
    #[error("invalid connection option \"{0}\"")]
    Unknown(String),
    /// A setting or value that pgtide cannot honour.
    #[error("connection option \"{name}\" cannot be honoured with value \"{value}\": {reason}")]
    Refused {
        /// The keyword.
        name: &'static str,
        /// The value; a secret is not shown.
        value: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// A value that means nothing.
    #[error("invalid {name} value: \"{value}\" (expected {expected})")]
    InvalidValue {
        /// The keyword.
        name: &'static str,
        /// The value.
        value: String,
        /// What would be understood.
        expected: String,
    },
    /// The service file.
    #[error("{0}")]
    Service(String),
    /// Settings that contradict each other.
    #[error("{0}")]
    Conflict(String),
}

/// The connection options of the command line, as in every PostgreSQL tool.
#[derive(Debug, Clone, Default)]
pub struct ConnectionArgs {
    /// `-d`: a name, a `keyword = value` string or a URI.
    pub dbname: Option<String>,
    /// `-h`
    pub host: Option<String>,
    /// `-p`
    pub port: Option<String>,
    /// `-U`
    pub user: Option<String>,
    /// `-w`: never ask.
    pub no_password: bool,
    /// `-W`: ask before connecting.
    pub force_password: bool,
}

/// One of the hosts to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Name, numeric address, or socket directory; empty when only `hostaddr` is given.
    pub name: String,
    /// Numeric address to use instead of looking the name up.
    pub addr: String,
    pub port: u16,
}

impl Host {
    /// The path of the Unix socket, if this is one. A leading `@` means Linux's abstract namespace.
    pub fn socket_path(&self) -> Option<String> {
        (self.addr.is_empty() && self.name.starts_with(['/', '@']))
            .then(|| format!("{}/.s.PGSQL.{}", self.name, self.port))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keepalive {
    pub on: bool,
    pub idle: u32,
    pub interval: u32,
    pub count: u32,
    pub user_timeout_ms: u32,
}

type Values = BTreeMap<&'static str, String>;
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Merged settings, checked, ready to connect with.
#[derive(Clone)]
pub struct Settings {
    /// What was given, by keyword, and the defaults that depend on the surroundings (user, passfile).
    values: Values,
    /// Session variables from the environment.
    pub(super) session: Vec<(&'static str, String)>,
    /// Server settings that all sessions have, above what these pin.
    pub(super) pinned: Vec<(String, String)>,
    pub(super) hosts: Vec<Host>,
    pub(super) ssl: SslSettings,
    pub(super) auth: AuthRules,
    pub(super) target: Target,
    pub(super) shuffle_hosts: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) keepalive: Keepalive,
    no_password: bool,
    force_password: bool,
    /// A password that was typed in serves every later connection too.
    typed: Arc<Mutex<Option<String>>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.values.iter().filter(|(name, _)| **name != "password"))
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Merges arguments, connection string, service file, environment and defaults.
    pub fn resolve(
        args: ConnectionArgs,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Settings, SettingsError> {
        let mut values = Values::new();
        for (name, value) in [
            ("host", args.host),
            ("port", args.port),
            ("user", args.user),
        ] {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                values.insert(name, value);
            }
        }
        match args.dbname.filter(|d| !d.is_empty()) {
            Some(text) if conninfo::is_connection_string(&text) => {
                for (name, value) in conninfo::parse(&text)? {
                    let keyword =
                        keywords::find(&name).ok_or(SettingsError::Unknown(name.clone()))?;
                    store(&mut values, keyword, value);
                }
            }
            Some(name) => {
                values.insert("dbname", name);
            }
            None => {}
        }
        let home = env("HOME")
            .filter(|h| !h.is_empty())
            .map(PathBuf::from)
            .or_else(std::env::home_dir);
        add_service(&mut values, env, home.as_deref())?;
        for keyword in keywords::KEYWORDS {
            if values.contains_key(keyword.name) {
                continue;
            }
            if let Some(value) = keyword.env.and_then(env) {
                if keyword.name != "requiressl" {
                    store(&mut values, keyword, value);
                } else if value.starts_with('1') {
                    // PGREQUIRESSL yields to PGSSLMODE, which comes earlier in the list.
                    values
                        .entry("sslmode")
                        .or_insert_with(|| "require".to_owned());
                }
            }
        }
        for (name, value) in &values {
            if let Some(keyword) = keywords::find(name) {
                keywords::check(keyword, value)?;
            }
        }
        add_defaults(&mut values, home.as_deref())?;
        let session = keywords::ENVIRONMENT_ONLY
            .iter()
            .filter_map(|(var, name)| Some((*name, env(var).filter(|v| !v.is_empty())?)))
            .collect();
        Settings::from_values(
            values,
            session,
            home.as_deref(),
            args.no_password,
            args.force_password,
        )
    }

    fn from_values(
        values: Values,
        session: Vec<(&'static str, String)>,
        home: Option<&Path>,
        no_password: bool,
        force_password: bool,
    ) -> Result<Settings, SettingsError> {
        let seconds = number(&values, "connect_timeout", 0i32)?;
        let keepalive = Keepalive {
            on: number(&values, "keepalives", 1i32)? != 0,
            idle: number::<i32>(&values, "keepalives_idle", 0)?.max(0) as u32,
            interval: number::<i32>(&values, "keepalives_interval", 0)?.max(0) as u32,
            count: number::<i32>(&values, "keepalives_count", 0)?.max(0) as u32,
            user_timeout_ms: number::<i32>(&values, "tcp_user_timeout", 0)?.max(0) as u32,
        };
        let target = choice(
            &values,
            "target_session_attrs",
            &[
                ("any", Target::Any),
                ("read-write", Target::ReadWrite),
                ("read-only", Target::ReadOnly),
                ("primary", Target::Primary),
                ("standby", Target::Standby),
                ("prefer-standby", Target::PreferStandby),
            ],
        )?;
        let shuffle_hosts = choice(
            &values,
            "load_balance_hosts",
            &[("disable", false), ("random", true)],
        )?;
        if let Some(value) = set(&values, "max_protocol_version") {
            keywords::one_of("max_protocol_version", value, &["3.0", "3.2", "latest"])?;
        }
        Ok(Settings {
            hosts: hosts(&values)?,
            ssl: SslSettings::new(&values, home)?,
            auth: AuthRules::new(&values)?,
            target,
            shuffle_hosts,
            // libpq waits at least two seconds.
            timeout: (seconds > 0).then(|| Duration::from_secs(seconds.max(2) as u64)),
            keepalive,
            values,
            session,
            pinned: Vec::new(),
            no_password,
            force_password,
            typed: Arc::default(),
        })
    }

    /// The same settings with some replaced, empty meaning unset. A typed password stays known.
    fn replace(&self, changes: &[(&'static str, &str)]) -> Settings {
        let mut values = self.values.clone();
        for (name, value) in changes {
            values.insert(name, (*value).to_owned());
        }
        let mut changed = self.clone();
        if let Ok(hosts) = hosts(&values) {
            changed.hosts = hosts;
        }
        changed.values = values;
        changed
    }

    /// The same server and user, another database. The name is taken as it stands, never as a connection string.
    pub fn with_dbname(&self, dbname: &str) -> Settings {
        self.replace(&[("dbname", dbname)])
    }

    /// The same with this password.
    pub fn with_password(&self, password: &str) -> Settings {
        self.replace(&[("password", password)])
    }

    /// Whether a connection string or URI has a password in it.
    pub fn states_password(text: &str) -> Result<bool, SettingsError> {
        Ok(conninfo::is_connection_string(text)
            && conninfo::parse(text)?
                .iter()
                .any(|(name, value)| name == "password" && !value.is_empty()))
    }

    /// The same with a server setting that all sessions have from their start.
    pub fn with_session(mut self, name: &str, value: &str) -> Settings {
        self.pinned.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The host, or the directory of its socket, as the user would name it.
    pub fn host_name(&self) -> &str {
        self.get("host")
            .or_else(|| self.get("hostaddr"))
            .unwrap_or("local socket")
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.get("port")
            .and_then(|port| port.parse().ok())
            .unwrap_or(5432)
    }

    /// The database to connect to.
    pub fn dbname(&self) -> &str {
        self.get("dbname").unwrap_or_else(|| self.user())
    }

    /// The user to connect as.
    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// A setting by libpq's keyword; None where it is empty or has libpq's default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    /// A setting that may also be deliberately empty.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The password for this host, from the settings, the password file, or (where `ask` is true and a terminal is
    /// there) the user.
    pub(super) fn password(&self, host: &Host, ask: bool) -> std::io::Result<Option<String>> {
        let typed = || {
            self.typed
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        };
        if let Some(password) = typed().clone() {
            return Ok(Some(password));
        }
        if !self.force_password {
            if let Some(password) = self.get("password") {
                return Ok(Some(password.to_owned()));
            }
            if let Some(password) = self.password_from_file(host) {
                return Ok(Some(password));
            }
        }
        if !ask || self.no_password || !terminal() {
            return Ok(None);
        }
        let mut slot = typed();
        if slot.is_none() {
            *slot = Some(rpassword::prompt_password(format!(
                "Password for user {}: ",
                self.user()
            ))?);
        }
        Ok(slot.clone())
    }

    fn password_from_file(&self, host: &Host) -> Option<String> {
        let path = self.get("passfile")?;
        let name = if host.name.is_empty() {
            &host.addr
        } else {
            &host.name
        };
        // Connections over the default socket are entered as localhost.
        let name = if DEFAULT_SOCKET_DIRS.contains(&name.as_str()) {
            "localhost"
        } else {
            name
        };
        files::password(
            path.as_ref(),
            name,
            &host.port.to_string(),
            self.dbname(),
            self.user(),
        )
        .filter(|p| !p.is_empty())
    }
}

fn terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal()
}

/// Debian's and PostgreSQL's own default; libpq has one of them compiled in.
const DEFAULT_SOCKET_DIRS: &[&str] = &["/var/run/postgresql", "/tmp"];

/// Later values of a keyword replace earlier ones.
fn store(values: &mut Values, keyword: &keywords::Keyword, value: String) {
    if keyword.name == "requiressl" {
        // An old word for a choice of sslmode.
        let mode = if value.starts_with('1') {
            "require"
        } else {
            "prefer"
        };
        values.insert("sslmode", mode.to_owned());
    } else {
        values.insert(keyword.name, value);
    }
}

fn add_service(
    values: &mut Values,
    env: Env<'_>,
    home: Option<&Path>,
) -> Result<(), SettingsError> {
    let given = |name: &str, var: &str| {
        let value = values.get(name).cloned().or_else(|| env(var));
        value.filter(|v| !v.is_empty())
    };
    let Some(name) = given("service", "PGSERVICE") else {
        return Ok(());
    };
    let file = given("servicefile", "PGSERVICEFILE");
    let dir = env("PGSYSCONFDIR").filter(|v| !v.is_empty());
    let mut found = Values::new();
    for (keyword, value) in files::service(&name, file.as_deref(), dir.as_deref(), home)? {
        if let Some(known) = keywords::find(keyword)
            && !found.contains_key(keyword)
        {
            store(&mut found, known, value);
        }
    }
    for (keyword, value) in found {
        values.entry(keyword).or_insert(value);
    }
    Ok(())
}

fn add_defaults(values: &mut Values, home: Option<&Path>) -> Result<(), SettingsError> {
    if set(values, "user").is_none() {
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        let name = user.map(|u| u.name).ok_or_else(|| {
            SettingsError::Conflict(format!(
                "the operating system has no name for user id {uid}; say who to connect as with -U or PGUSER"
            ))
        })?;
        values.insert("user", name);
    }
    if set(values, "passfile").is_none()
        && let Some(path) = home.map(|h| h.join(".pgpass"))
    {
        values.insert("passfile", path.to_string_lossy().into_owned());
    }
    Ok(())
}

fn set<'a>(values: &'a Values, name: &str) -> Option<&'a str> {
    values
        .get(name)
        .map(String::as_str)
        .filter(|v| !v.is_empty())
}

fn number<T: FromStr>(values: &Values, name: &'static str, default: T) -> Result<T, SettingsError> {
    match set(values, name) {
        None => Ok(default),
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| SettingsError::InvalidValue {
                name,
                value: text.to_owned(),
                expected: "an integer".to_owned(),
            }),
    }
}

/// The value of a setting that has a few names; the first is the default.
fn choice<T: Copy>(
    values: &Values,
    name: &'static str,
    known: &[(&str, T)],
) -> Result<T, SettingsError> {
    let text = set(values, name).unwrap_or(known[0].0);
    match known.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => Err(SettingsError::InvalidValue {
            name,
            value: text.to_owned(),
            expected: known
                .iter()
                .map(|(word, _)| *word)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

fn hosts(values: &Values) -> Result<Vec<Host>, SettingsError> {
    let list = |name| -> Vec<&str> {
        set(values, name).map_or_else(Vec::new, |text| text.split(',').collect())
    };
    let (names, addrs, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = if addrs.is_empty() {
        names.len().max(1)
    } else {
        addrs.len()
    };
    if !addrs.is_empty() && !names.is_empty() && names.len() != addrs.len() {
        return Err(SettingsError::Conflict(format!(
            "could not match {} host names to {} hostaddr values",
            names.len(),
            addrs.len()
        )));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(SettingsError::Conflict(format!(
            "could not match {} port numbers to {count} hosts",
            ports.len()
        )));
    }
    (0..count)
        .map(|i| {
            let port = match ports.len() {
                0 => "",
                1 => ports[0],
                _ => ports[i],
            };
            let port = match port.trim() {
                "" => 5432,
                text => text.parse().ok().filter(|p| *p > 0).ok_or_else(|| {
                    SettingsError::InvalidValue {
                        name: "port",
                        value: text.to_owned(),
                        expected: "1 to 65535".to_owned(),
                    }
                })?,
            };
            let addr = addrs.get(i).copied().unwrap_or_default();
            let name = names.get(i).copied().unwrap_or_default();
            Ok(Host {
                name: if name.is_empty() && addr.is_empty() {
                    default_socket_dir(port)
                } else {
                    name.to_owned()
                },
                addr: addr.to_owned(),
                port,
            })
        })
        .collect()
}

/// The first of the usual directories that has a socket for this port.
fn default_socket_dir(port: u16) -> String {
    let found = DEFAULT_SOCKET_DIRS
        .iter()
        .find(|dir| Path::new(dir).join(format!(".s.PGSQL.{port}")).exists());
    (*found.unwrap_or(&DEFAULT_SOCKET_DIRS[0])).to_owned()
}

#[cfg(test)]
mod tests;
