//! Mail by SMTP.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{Message, SmtpTransport, Transport};
use url::Url;

use crate::ops::secret::Secret;

/// A mail takes at most so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where mails go, and through which server.
#[derive(Debug, Clone)]
pub struct Mail {
    server: Url,
    user: Option<String>,
    password: Option<Secret>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    /// Mails from and to these addresses.
    pub fn new(
        server: &str,
        user: Option<String>,
        password: Option<Secret>,
    ) -> Result<Self, String> {
        let url = Url::parse(server).map_err(|error| {
            format!("is no URL: {error}; write it like smtps://mail.example.org")
        })?;
        if !["smtp", "smtps", "smtp+plain"].contains(&url.scheme()) || url.host_str().is_none() {
            return Err(
                "is no mail server: write it like smtps://mail.example.org, smtp://mail.example.org (with STARTTLS) or smtp+plain://localhost (without TLS)"
                    .to_owned(),
            );
        }
        if url.password().is_some() || !url.username().is_empty() {
            return Err(
                "has a user or a password in it: give them by user and password".to_owned(),
            );
        }
        let nobody = Mailbox::new(None, "nobody@localhost".parse().map_err(|_| "no address")?);
        Ok(Self {
            server: url,
            user,
            password,
            from: nobody,
            to: Vec::new(),
        })
    }

    /// From this address.
    pub fn from(mut self, address: &str) -> Result<Self, String> {
        self.from = mailbox(address)?;
        Ok(self)
    }

    /// To this address, too.
    pub fn to(mut self, address: &str) -> Result<Self, String> {
        self.to.push(mailbox(address)?);
        Ok(self)
    }

    /// Sends one.
    pub fn send(&self, subject: &str, body: String) -> Result<(), String> {
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .header(AutoSubmitted);
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message.body(body).map_err(|error| error.to_string())?;
        self.transport()?
            .send(&message)
            .map(drop)
            .map_err(|error| super::causes(&error))
    }

    fn transport(&self) -> Result<SmtpTransport, String> {
        let host = self.server.host_str().unwrap_or_default();
        let wrong = |error: lettre::transport::smtp::Error| error.to_string();
        let mut builder = match self.server.scheme() {
            "smtps" => SmtpTransport::relay(host).map_err(wrong)?,
            "smtp" => SmtpTransport::starttls_relay(host).map_err(wrong)?,
            _ => SmtpTransport::builder_dangerous(host),
        };
        if let Some(port) = self.server.port() {
            builder = builder.port(port);
        }
        if let Some(user) = &self.user {
            let password = match &self.password {
                Some(secret) => secret.read().map_err(|error| error.to_string())?,
                None => Default::default(),
            };
            builder = builder.credentials(Credentials::new(user.clone(), password.to_string()));
        }
        Ok(builder.timeout(Some(TIMEOUT)).build())
    }
}

/// So that nothing answers by itself (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn mailbox(address: &str) -> Result<Mailbox, String> {
    address
        .parse()
        .map_err(|error| format!("{address:?} is no mail address: {error}"))
}
