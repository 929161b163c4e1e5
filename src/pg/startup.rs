//! From a connected stream to a session: startup message and authentication.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};

use super::error::{Error, Notice, ServerError};
use super::settings::{AuthMethod, AuthRules, ChannelBindingRule, Host, Settings};
use super::wire::{Wire, cstr, message, take_cstr};

/// What the server told about the new session.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub parameters: BTreeMap<String, String>,
    pub notices: Vec<Notice>,
    pub pid: i32,
    pub secret: Vec<u8>,
    pub status: u8,
    /// The password that was sent, so that further connections need not ask again.
    pub password: Option<String>,
}

/// The startup message in the making, and all that authentication needs to know.
pub(super) struct Startup<'a> {
    pub settings: &'a Settings,
    pub host: &'a Host,
    pub address: &'a Arc<str>,
    pub parameters: &'a [(String, String)],
    /// Hash of the server's certificate for channel binding; None without TLS.
    pub endpoint: Option<Vec<u8>>,
    pub tls: bool,
}

impl Startup<'_> {
    pub fn run(self, wire: &mut Wire) -> Result<Session, Error> {
        let io = |e| Error::io(self.address, e);
        let mut out = Vec::new();
        message(&mut out, None, |out| {
            out.extend_from_slice(&(3u32 << 16).to_be_bytes());
            for (name, value) in self.parameters {
                cstr(out, name.as_bytes());
                cstr(out, value.as_bytes());
            }
            out.push(0);
        })
        .map_err(io)?;
        wire.send(&out).map_err(io)?;
        let mut session = Session::default();
        let mut auth = Auth {
            startup: &self,
            rules: &self.settings.auth,
            scram: None,
            used: AuthMethod::None,
            bound: false,
        };
        let mut ready = false;
        loop {
            let frame = wire.read_frame().map_err(io)?;
            let tag = frame.tag;
            match tag {
                b'E' => {
                    let error = ServerError::parse(wire.body(&frame));
                    return Err(explain(error));
                }
                b'N' => session.notices.push(ServerError::parse(wire.body(&frame))),
                b'v' => {} // NegotiateProtocolVersion: we asked for 3.0 and no extensions.
                b'R' => {
                    let body = wire.body(&frame).to_vec();
                    if let Some(answer) = auth.answer(&body, &mut session)? {
                        wire.send(&answer).map_err(io)?;
                    } else if auth.done(&body) {
                        ready = true;
                    }
                }
                _ if !ready => {
                    return Err(Error::Protocol(format!(
                        "message {:?} before authentication",
                        char::from(tag)
                    )));
                }
                b'S' => {
                    if let Some((name, value)) = parameter(wire.body(&frame)) {
                        session.parameters.insert(name, value);
                    }
                }
                b'K' => {
                    let body = wire.body(&frame);
                    let Some((pid, secret)) = body.split_first_chunk() else {
                        return Err(Error::Protocol("short key data".to_owned()));
                    };
                    session.pid = i32::from_be_bytes(*pid);
                    session.secret = secret.to_vec();
                }
                b'Z' => {
                    session.status = wire.body(&frame).first().copied().unwrap_or(b'I');
                    return Ok(session);
                }
                _ => {
                    return Err(Error::Protocol(format!(
                        "message {:?} while connecting",
                        char::from(tag)
                    )));
                }
            }
        }
    }
}

/// Name and value of a ParameterStatus message.
pub(super) fn parameter(mut body: &[u8]) -> Option<(String, String)> {
    let name = take_cstr(&mut body)?;
    let value = take_cstr(&mut body)?;
    let text = |b| String::from_utf8_lossy(b).into_owned();
    Some((text(name), text(value)))
}

/// Poolers refuse what pgtide must set at startup; say what to do about it.
fn explain(mut error: ServerError) -> Error {
    if error.message.contains("unsupported startup parameter") {
        error.hint = Some(
            "A connection pooler refuses the session settings pgtide needs. Connect to the server itself; pools \
             in transaction mode cannot share a snapshot anyway."
                .to_owned(),
        );
    }
    Error::Server(Box::new(error))
}

struct Auth<'a, 's> {
    startup: &'a Startup<'s>,
    rules: &'a AuthRules,
    scram: Option<(ScramSha256, bool)>,
    used: AuthMethod,
    bound: bool,
}

impl Auth<'_, '_> {
    /// The reply to an authentication request; None where none is expected.
    fn answer(&mut self, body: &[u8], session: &mut Session) -> Result<Option<Vec<u8>>, Error> {
        let Some((kind, data)) = body.split_first_chunk() else {
            return Err(Error::Protocol("short authentication request".to_owned()));
        };
        match u32::from_be_bytes(*kind) {
            0 => {
                if self.scram.is_some() {
                    return Err(self.fail("the server cut SCRAM authentication short"));
                }
                self.allow(self.used)?;
                if self.rules.channel_binding == ChannelBindingRule::Require && !self.bound {
                    return Err(self.fail(
                        "channel binding required, but server authenticated client without channel binding",
                    ));
                }
                Ok(None)
            }
            3 => {
                self.start(AuthMethod::Password)?;
                let password = self.password(session)?;
                self.password_message(password.as_bytes())
            }
            5 => {
                self.start(AuthMethod::Md5)?;
                let salt: [u8; 4] = data
                    .try_into()
                    .map_err(|_| Error::Protocol("short md5 salt".to_owned()))?;
                let password = self.password(session)?;
                let user = self.startup.settings.user();
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                self.password_message(hash.as_bytes())
            }
            10 => self.scram_start(data, session),
            11 => {
                let address = self.startup.address;
                let Some((scram, false)) = &mut self.scram else {
                    return Err(Error::Protocol("SASL out of order".to_owned()));
                };
                scram.update(data).map_err(|e| scram_failed(address, &e))?;
                let reply = scram.message().to_vec();
                self.scram_step();
                self.message(|out| out.extend_from_slice(&reply))
            }
            12 => {
                let Some((mut scram, true)) = self.scram.take() else {
                    return Err(Error::Protocol("SASL out of order".to_owned()));
                };
                scram
                    .finish(data)
                    .map_err(|e| scram_failed(self.startup.address, &e))?;
                self.used = AuthMethod::Scram;
                Ok(None)
            }
            7 | 8 => Err(self.fail(
                "the server asks for GSSAPI (Kerberos) authentication, which pgtide does not have; \
                 let pg_hba.conf allow scram-sha-256 or cert for this user",
            )),
            9 => Err(self.fail("the server asks for SSPI authentication, which pgtide does not have")),
            other => Err(self.fail(&format!(
                "authentication method {other} is not supported; use scram-sha-256, md5, password or cert"
            ))),
        }
    }

    /// AuthenticationOk.
    fn done(&self, body: &[u8]) -> bool {
        body == [0; 4]
    }

    /// Challenge answered: the next message must be the server's proof.
    fn scram_step(&mut self) {
        if let Some((_, answered)) = &mut self.scram {
            *answered = true;
        }
    }

    fn scram_start(
        &mut self,
        mut mechanisms: &[u8],
        session: &mut Session,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (mut plain, mut plus) = (false, false);
        while let Some(name) = take_cstr(&mut mechanisms).filter(|name| !name.is_empty()) {
            plain |= name == SCRAM_SHA_256.as_bytes();
            plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
        }
        let rule = self.rules.channel_binding;
        let endpoint = self.startup.endpoint.clone();
        let endpoint = endpoint.filter(|_| rule != ChannelBindingRule::Disable);
        let (binding, mechanism) = match endpoint {
            Some(hash) if plus => {
                self.bound = true;
                (
                    ChannelBinding::tls_server_end_point(hash),
                    SCRAM_SHA_256_PLUS,
                )
            }
            _ if rule == ChannelBindingRule::Require => {
                return Err(self.fail(if !self.startup.tls {
                    "channel binding required, but SSL not in use"
                } else if plus {
                    "channel binding required, but the server's certificate has a signature without a hash to bind to"
                } else {
                    "channel binding is required, but server did not offer an authentication method that supports \
                     channel binding"
                }));
            }
            Some(_) if plain => (ChannelBinding::unrequested(), SCRAM_SHA_256),
            None if plain => (ChannelBinding::unsupported(), SCRAM_SHA_256),
            _ => {
                return Err(self.fail(
                    "the server offers no SASL mechanism that pgtide has (SCRAM-SHA-256, SCRAM-SHA-256-PLUS)",
                ));
            }
        };
        self.start(AuthMethod::Scram)?;
        let password = self.password(session)?;
        let scram = ScramSha256::new(password.as_bytes(), binding);
        let first = scram.message().to_vec();
        self.scram = Some((scram, false));
        // Only the server's proof, checked at the end, counts as authenticated.
        self.used = AuthMethod::None;
        self.message(|out| {
            cstr(out, mechanism.as_bytes());
            out.extend_from_slice(&(first.len() as u32).to_be_bytes());
            out.extend_from_slice(&first);
        })
    }

    fn start(&mut self, method: AuthMethod) -> Result<(), Error> {
        self.allow(method)?;
        let scram_only = self.rules.channel_binding == ChannelBindingRule::Require;
        if scram_only && method != AuthMethod::Scram {
            return Err(self.fail(
                "channel binding required but not supported by server's authentication request",
            ));
        }
        self.used = method;
        Ok(())
    }

    fn allow(&self, method: AuthMethod) -> Result<(), Error> {
        if self.rules.allows(method) {
            return Ok(());
        }
        let found = match method {
            AuthMethod::None => "server did not complete authentication",
            AuthMethod::Password => "server requested a cleartext password",
            AuthMethod::Md5 => "server requested a hashed password",
            AuthMethod::Scram => "server requested SASL authentication",
            _ => "server requested another method",
        };
        Err(self.fail(&format!(
            "authentication method requirement \"{}\" failed: {found}",
            self.rules.required
        )))
    }

    fn password(&self, session: &mut Session) -> Result<String, Error> {
        let settings = self.startup.settings;
        let found = settings
            .password(self.startup.host, true)
            .map_err(|e| Error::io(self.startup.address, e))?;
        let Some(password) = found else {
            return Err(self.fail(
                "no password supplied; give one in PGPASSWORD, in ~/.pgpass or in a service file, or run pgtide at a \
                 terminal",
            ));
        };
        session.password = Some(password.clone());
        Ok(password)
    }

    fn password_message(&self, password: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.message(|out| cstr(out, password))
    }

    fn message(&self, body: impl FnOnce(&mut Vec<u8>)) -> Result<Option<Vec<u8>>, Error> {
        let mut out = Vec::new();
        message(&mut out, Some(b'p'), body).map_err(|e| Error::io(self.startup.address, e))?;
        Ok(Some(out))
    }

    fn fail(&self, message: &str) -> Error {
        Error::Auth {
            address: self.startup.address.to_string(),
            message: message.to_owned(),
        }
    }
}

fn scram_failed(address: &Arc<str>, error: &io::Error) -> Error {
    Error::Auth {
        address: address.to_string(),
        message: format!("SCRAM authentication failed: {error}"),
    }
}
