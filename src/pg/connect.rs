//! Making a connection: hosts and addresses in turn, TLS or not, the settings every session pins.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use rand::seq::SliceRandom;

use super::connection::Connection;
use super::error::Error;
use super::settings::{Host, Settings, SslMode, Target};
use super::startup::Startup;
use super::stream::{Address, Raw, Stream};
use super::tls::{self, Connector};
use super::wire::Wire;

/// What a session sets for itself at startup, above what roles and databases are configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Server settings and their values.
    pub options: Vec<(String, String)>,
    /// Settings that only exist since a version (170000): set right after connecting, because an unknown one at startup
    /// would end the connection.
    pub since: Vec<(i32, String, String)>,
    /// Shown in the server's views unless the user named the application.
    pub application_name: Option<String>,
    /// How text travels, unless the settings say `client_encoding`.
    pub client_encoding: ClientEncoding,
}

/// How text travels between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientEncoding {
    /// As the database stores it, unconverted: what is dumped is what is there.
    #[default]
    Server,
    /// Converted by the server to and from UTF-8, for names and messages we look at.
    Utf8,
}

impl SessionOptions {
    /// What every session of pgtide pins.
    ///
    /// No timeout may end us, names mean what they say whatever the search path, a hidden row is an error rather than
    /// missing, and the same value always reads as the same text.
    pub fn pinned() -> SessionOptions {
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        SessionOptions {
            options: pairs(&[
                ("statement_timeout", "0"),
                ("lock_timeout", "0"),
                ("idle_in_transaction_session_timeout", "0"),
                ("search_path", ""),
                ("row_security", "off"),
                ("DateStyle", "ISO"),
                ("IntervalStyle", "postgres"),
                ("TimeZone", "UTC"),
                ("extra_float_digits", "3"),
                ("bytea_output", "hex"),
                ("xmloption", "content"),
                ("standard_conforming_strings", "on"),
                ("quote_all_identifiers", "off"),
                ("synchronize_seqscans", "off"),
                ("max_parallel_workers_per_gather", "0"),
                ("client_min_messages", "warning"),
            ]),
            since: vec![
                (140000, "idle_session_timeout".to_owned(), "0".to_owned()),
                (170000, "transaction_timeout".to_owned(), "0".to_owned()),
            ],
            application_name: None,
            client_encoding: ClientEncoding::Server,
        }
    }

    /// The same with one setting added or replaced.
    pub fn with(mut self, name: &str, value: &str) -> SessionOptions {
        self.options.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    fn sets(&self, name: &str) -> bool {
        self.options
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

/// Quotes a word for the `options` startup parameter, which the server splits at blanks.
fn escape_option(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_ascii_whitespace() || c == '\x0b' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
}

/// A server's address as messages show it.
fn describe(host: &Host, address: &Address) -> Arc<str> {
    match address {
        Address::Unix(path) => format!("socket \"{path}\"").into(),
        Address::Tcp(addr) => {
            let ip = addr.ip().to_string();
            if host.name.is_empty() || host.name == ip {
                format!("\"{ip}\", port {}", addr.port()).into()
            } else {
                format!("\"{}\" ({ip}), port {}", host.name, addr.port()).into()
            }
        }
    }
}

impl Settings {
    /// Connects to the first host and address that will do.
    pub fn connect(&self, options: &SessionOptions) -> Result<Connection, Error> {
        let mut errors = Vec::new();
        // `prefer-standby` goes twice round: for standbys, then for anything.
        let rounds: &[Target] = match self.target {
            Target::PreferStandby => &[Target::Standby, Target::Any],
            ref other => std::slice::from_ref(other),
        };
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        if self.shuffle_hosts {
            hosts.shuffle(&mut rand::rng());
        }
        for target in rounds {
            for host in &hosts {
                let addresses = match self.look_up(host) {
                    Ok(addresses) => addresses,
                    Err(error) => {
                        errors.push(error);
                        continue;
                    }
                };
                for address in addresses {
                    match self.connect_to(host, &address, options, *target) {
                        Ok(connection) => return Ok(connection),
                        Err(error) => {
                            let next = may_try_next(&error);
                            errors.push(error);
                            if !next {
                                return Err(one_or_all(errors));
                            }
                        }
                    }
                }
            }
        }
        Err(one_or_all(errors))
    }

    fn look_up(&self, host: &Host) -> Result<Vec<Address>, Error> {
        if let Some(path) = host.socket_path() {
            return Ok(vec![Address::Unix(path)]);
        }
        let name = if host.addr.is_empty() {
            &host.name
        } else {
            &host.addr
        };
        let failed = |source| Error::Io {
            address: format!("\"{name}\", port {}", host.port),
            source,
        };
        let mut found: Vec<SocketAddr> = (name.as_str(), host.port)
            .to_socket_addrs()
            .map_err(failed)?
            .collect();
        found.dedup();
        if self.shuffle_hosts {
            found.shuffle(&mut rand::rng());
        }
        Ok(found.into_iter().map(Address::Tcp).collect())
    }

    fn connect_to(
        &self,
        host: &Host,
        address: &Address,
        options: &SessionOptions,
        target: Target,
    ) -> Result<Connection, Error> {
        let mode = match address {
            Address::Unix(_) => SslMode::Disable, // As libpq: TLS is for networks.
            Address::Tcp(_) => self.ssl.mode,
        };
        let attempt = |tls| Attempt {
            settings: self,
            host,
            address,
            name: describe(host, address),
            options,
            tls,
            deadline: self.timeout.map(|t| Instant::now() + t),
        };
        let mut connection = match mode {
            SslMode::Disable => attempt(Tls::No).run(),
            SslMode::Allow => attempt(Tls::No).run().or_else(|first| match first {
                Error::Server(_) => attempt(Tls::Must).run().map_err(|e| both(first, e)),
                other => Err(other),
            }),
            SslMode::Prefer => attempt(Tls::May).run().or_else(|first| match first {
                // Where the server took TLS and then said no, libpq tries without.
                Error::Server(_) | Error::Tls { .. } => {
                    attempt(Tls::No).run().map_err(|e| both(first, e))
                }
                other => Err(other),
            }),
            _ => attempt(Tls::Must).run(),
        }?;
        connection.check_target(target)?;
        Ok(connection)
    }

    pub(super) fn open_raw(
        &self,
        address: &Address,
        name: &Arc<str>,
        deadline: Option<Instant>,
    ) -> Result<Raw, Error> {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        Raw::connect(address, &self.keepalive, left).map_err(|e| Error::io(name, e))
    }

    fn startup_parameters(&self, options: &SessionOptions) -> Result<Vec<(String, String)>, Error> {
        let mut flags = self.get("options").unwrap_or_default().to_owned();
        for (name, value) in options.options.iter().chain(&self.pinned) {
            flags.push_str(" -c ");
            escape_option(&mut flags, name);
            flags.push('=');
            escape_option(&mut flags, value);
        }
        let application = match self.given("application_name") {
            Some(name) => name,
            None => self
                .get("fallback_application_name")
                .or(options.application_name.as_deref())
                .unwrap_or("pgtide"),
        };
        let mut parameters = vec![
            ("user", self.user()),
            ("database", self.dbname()),
            ("application_name", application),
            ("options", flags.trim_start()),
        ];
        for (name, value) in &self.session {
            if !options.sets(name) {
                parameters.push((name, value));
            }
        }
        parameters.retain(|(_, value)| !value.is_empty());
        if let Some((name, _)) = parameters.iter().find(|(_, value)| value.contains('\0')) {
            return Err(Error::Protocol(format!(
                "a zero byte in setting \"{name}\""
            )));
        }
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(parameters.into_iter().map(owned).collect())
    }
}

/// As libpq: what can be due to this one server goes on to the next, a refused password does not.
fn may_try_next(error: &Error) -> bool {
    match error {
        Error::Io { .. } | Error::Unsuitable { .. } => true,
        // cannot_connect_now: starting up, shutting down, in recovery.
        Error::Server(e) => e.code == "57P03",
        Error::Connect(errors) => errors.iter().all(may_try_next),
        _ => false,
    }
}

fn one_or_all(mut errors: Vec<Error>) -> Error {
    match errors.len() {
        1 => errors.remove(0),
        _ => Error::Connect(errors),
    }
}

/// Two tries at one address. The second says more; the first too, unless both say the same.
fn both(first: Error, second: Error) -> Error {
    if first.code().is_some() && first.code() == second.code() {
        second
    } else {
        Error::Connect(vec![first, second])
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    No,
    May,
    Must,
}

/// One try at one address.
struct Attempt<'a> {
    settings: &'a Settings,
    host: &'a Host,
    address: &'a Address,
    name: Arc<str>,
    options: &'a SessionOptions,
    tls: Tls,
    deadline: Option<Instant>,
}

impl Attempt<'_> {
    fn run(self) -> Result<Connection, Error> {
        let settings = self.settings;
        let io = |e| Error::io(&self.name, e);
        let parameters = settings.startup_parameters(self.options)?;
        let raw = settings.open_raw(self.address, &self.name, self.deadline)?;
        self.check_peer(&raw)?;
        let mut connector = None;
        let mut endpoint = None;
        let stream = if self.tls == Tls::No {
            Stream::Plain(raw)
        } else {
            let tls = Connector::new(&settings.ssl, &self.host.name, &self.name)?;
            let opened = tls.open(raw, &self.name, self.deadline, self.tls == Tls::Must)?;
            if let Stream::Tls(_) = opened {
                endpoint = tls::endpoint_hash(&opened);
                connector = Some(Arc::new(tls));
            }
            opened
        };
        let mut wire = Wire::new(stream, self.deadline);
        let session = Startup {
            settings,
            host: self.host,
            address: &self.name,
            parameters: &parameters,
            endpoint,
            tls: connector.is_some(),
        }
        .run(&mut wire)?;
        if let Some(connector) = &connector {
            connector.check_client_certificate(&self.name)?;
        }
        wire.clear_deadline().map_err(io)?;
        let mut host = self.host.clone();
        if let Address::Tcp(addr) = self.address {
            host.addr = addr.ip().to_string();
        }
        let mut connection = Connection::new(
            wire,
            session,
            host,
            self.address.clone(),
            self.name,
            settings.clone(),
            connector,
        );
        connection.pin_session(self.options)?;
        Ok(connection)
    }

    fn check_peer(&self, raw: &Raw) -> Result<(), Error> {
        let (Some(wanted), Address::Unix(_)) = (self.settings.get("requirepeer"), self.address)
        else {
            return Ok(());
        };
        let uid = raw.peer_uid().map_err(|e| Error::io(&self.name, e))?;
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        let found = user.map_or_else(|| format!("user id {uid}"), |u| u.name);
        if found == wanted {
            return Ok(());
        }
        Err(Error::Auth {
            address: self.name.to_string(),
            message: format!(
                "requirepeer specifies \"{wanted}\", but actual peer user name is \"{found}\""
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_servers_splitting() {
        let mut out = String::new();
        escape_option(&mut out, "a b\\c\td");
        assert_eq!(out, "a\\ b\\\\c\\\td");
    }

    #[test]
    fn pinned_settings_can_be_replaced() {
        let options = SessionOptions::pinned().with("timezone", "Europe/Berlin");
        let zones: Vec<_> = options
            .options
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("timezone"))
            .collect();
        assert_eq!(zones.len(), 1);
        assert_eq!(zones[0].1, "Europe/Berlin");
    }
}
