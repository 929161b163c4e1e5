//! A way to tell somebody.

use serde_json::json;

use super::event::Event;
use super::mail::Mail;
use super::{http, template};
use crate::ops::config::{At, Config, NotifyKeys, On, Problems, Reference, Text, check_url};
use crate::ops::secret::Secret;

/// A way to tell somebody, and of what.
#[derive(Debug, Clone)]
pub struct Channel {
    name: String,
    on: Vec<On>,
    profiles: Option<Vec<String>>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Mail {
        mail: Box<Mail>,
        subject: String,
        body: String,
    },
    Webhook {
        url: Address,
        headers: Vec<(String, String)>,
        body: Option<String>,
    },
    Slack {
        url: Address,
        text: String,
    },
    Ntfy {
        url: Address,
        token: Option<Secret>,
        text: String,
    },
    Ping {
        url: Address,
    },
}

/// A URL, or where it is.
#[derive(Debug, Clone)]
enum Address {
    Known(String),
    Secret(Secret),
}

impl Address {
    fn get(&self) -> Result<String, String> {
        match self {
            Self::Known(url) => Ok(url.clone()),
            Self::Secret(secret) => {
                let url = secret.read().map_err(|error| error.to_string())?;
                check_url(&url).map_err(|error| format!("the secret {error}"))?;
                Ok(url.to_string())
            }
        }
    }
}

impl Channel {
    /// All that a configuration has.
    pub(in crate::ops) fn all(
        config: &Config,
        keys: &NotifyKeys,
        problems: &mut Problems<'_>,
    ) -> Vec<Self> {
        let usual = || vec![On::Failure, On::Anomaly];
        let names = |profiles: &Option<Vec<Text>>| {
            let profiles = profiles.as_ref()?.iter();
            Some(profiles.map(|name| name.0.clone()).collect::<Vec<_>>())
        };
        let mut channels = Vec::new();
        for mail in &keys.mail {
            let password = config.secret(mail.password.as_ref());
            let user = mail.user.as_ref().map(|user| user.0.clone());
            let made = match Mail::new(&mail.server, user, password) {
                Ok(made) => made,
                Err(error) => {
                    problems.at(mail.server.span(), error);
                    continue;
                }
            };
            let made = made.from(&mail.from).map_err(|e| (mail.from.span(), e));
            let made = made.and_then(|made| {
                let mut to = mail.to.iter();
                if mail.to.is_empty() {
                    return Err((mail.to.span(), "names nobody".to_owned()));
                }
                to.try_fold(made, |made, to| made.to(to))
                    .map_err(|e| (mail.to.span(), e))
            });
            let made = match made {
                Ok(made) => made,
                Err((span, error)) => {
                    problems.at(span, error);
                    continue;
                }
            };
            channels.push(Self {
                name: format!("mail to {}", mail.to.first().map_or("", |to| to.as_str())),
                on: mail.on.clone().unwrap_or_else(usual),
                profiles: names(&mail.profiles),
                kind: Kind::Mail {
                    mail: Box::new(made),
                    subject: problems.template(&mail.subject, template::SUBJECT),
                    body: problems.template(&mail.body, template::BODY),
                },
            });
        }
        for hook in &keys.webhook {
            let Some(url) = problems.address(config, &hook.url, &hook.url_secret, "webhook") else {
                continue;
            };
            let headers = hook.headers.iter();
            channels.push(Self {
                name: "webhook".to_owned(),
                on: hook.on.clone().unwrap_or_else(usual),
                profiles: names(&hook.profiles),
                kind: Kind::Webhook {
                    url,
                    headers: headers
                        .map(|(name, text)| (name.clone(), text.0.clone()))
                        .collect(),
                    body: hook
                        .body
                        .as_ref()
                        .map(|_| problems.template(&hook.body, "")),
                },
            });
        }
        for chat in &keys.slack {
            if let Some(url) = problems.address(config, &chat.url, &chat.url_secret, "slack") {
                channels.push(Self {
                    name: "slack".to_owned(),
                    on: chat.on.clone().unwrap_or_else(usual),
                    profiles: names(&chat.profiles),
                    kind: Kind::Slack {
                        url,
                        text: problems.template(&chat.text, CHAT),
                    },
                });
            }
        }
        for ntfy in &keys.ntfy {
            if let Some(url) = problems.address(config, &ntfy.url, &ntfy.url_secret, "ntfy") {
                channels.push(Self {
                    name: "ntfy".to_owned(),
                    on: ntfy.on.clone().unwrap_or_else(usual),
                    profiles: names(&ntfy.profiles),
                    kind: Kind::Ntfy {
                        url,
                        token: config.secret(ntfy.token.as_ref()),
                        text: problems.template(&ntfy.text, template::BODY),
                    },
                });
            }
        }
        for ping in &keys.ping {
            if let Some(url) = problems.address(config, &ping.url, &ping.url_secret, "ping") {
                channels.push(Self {
                    name: "ping".to_owned(),
                    on: vec![On::Start, On::Success, On::Failure],
                    profiles: names(&ping.profiles),
                    kind: Kind::Ping { url },
                });
            }
        }
        channels
    }

    /// What it is, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is told of runs of that profile.
    pub fn is_for(&self, profile: &str) -> bool {
        let mut named = self.profiles.iter().flatten();
        self.profiles.is_none() || named.any(|name| name == profile)
    }

    /// Whether it is told of that.
    pub fn wants(&self, event: &Event) -> bool {
        event.is(&self.on)
    }

    /// Tells it.
    pub fn send(&self, event: &Event) -> Result<(), String> {
        let document = &event.document;
        let title = || template::render(template::SUBJECT, document);
        match &self.kind {
            Kind::Mail {
                mail,
                subject,
                body,
            } => {
                let subject = template::render(subject, document)?;
                // A header is one line.
                let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
                mail.send(&subject, template::render(body, document)?)
            }
            Kind::Webhook { url, headers, body } => {
                let url = url.get()?;
                let text = match body {
                    Some(body) => template::render(body, document)?,
                    None => document.to_string(),
                };
                http::send(&|client| {
                    let request = client.post(&url).header("content-type", "application/json");
                    let request = headers
                        .iter()
                        .fold(request, |request, (name, text)| request.header(name, text));
                    request.body(text.clone())
                })
            }
            Kind::Slack { url, text } => {
                let url = url.get()?;
                let body = json!({"text": template::render(text, document)?}).to_string();
                http::post(&url, "application/json", &body)
            }
            Kind::Ntfy { url, token, text } => {
                let (url, title) = (url.get()?, title()?);
                let token = token.as_ref().map(Secret::read).transpose();
                let token = token.map_err(|error| error.to_string())?;
                let text = template::render(text, document)?;
                let priority = if event.is_failure() {
                    "high"
                } else {
                    "default"
                };
                // Headers are ASCII.
                let title: String = title
                    .chars()
                    .map(|c| {
                        if c.is_ascii() && !c.is_control() {
                            c
                        } else {
                            '?'
                        }
                    })
                    .collect();
                http::send(&|client| {
                    let request = client
                        .post(&url)
                        .header("title", &title)
                        .header("priority", priority);
                    let request = match &token {
                        Some(token) => request.bearer_auth(token.as_str()),
                        None => request,
                    };
                    request.body(text.clone())
                })
            }
            Kind::Ping { url } => {
                let url = url.get()?;
                let url = url.trim_end_matches('/');
                let url = match (event.is_start(), event.is_failure()) {
                    (true, _) => format!("{url}/start"),
                    (false, true) => format!("{url}/fail"),
                    (false, false) => url.to_owned(),
                };
                let text = template::render(template::BODY, document)?;
                http::send(&|client| client.post(&url).body(text.clone()))
            }
        }
    }
}

/// What a chat is told: the subject, and what went wrong.
const CHAT: &str = "\
{% if event == 'failure' %}:rotating_light: {% elif event == 'anomaly' %}:warning: {% elif event == 'success' %}:white_check_mark: {% endif %}\
*{{ profile }}* on {{ host }}: {% if event == 'start' %}begins{% else %}{{ outcome }}{% endif %}\
{% if error %}
```{{ error }}```{% endif %}\
{% for anomaly in anomalies %}
- {{ anomaly }}{% endfor %}";

impl Problems<'_> {
    /// The template that is given, or the usual one.
    fn template(&mut self, given: &Option<At<String>>, usual: &str) -> String {
        let Some(given) = given else {
            return usual.to_owned();
        };
        if let Err(error) = template::check(given) {
            self.at(given.span(), error);
        }
        given.to_string()
    }

    /// The URL that is given, or where it is.
    fn address(
        &mut self,
        config: &Config,
        url: &Option<At<Text>>,
        secret: &Option<Reference>,
        what: &str,
    ) -> Option<Address> {
        match (url, config.secret(secret.as_ref())) {
            (Some(url), None) => match check_url(url) {
                Ok(()) => Some(Address::Known(url.0.clone())),
                Err(error) => {
                    self.at(url.span(), error);
                    None
                }
            },
            (None, Some(secret)) => Some(Address::Secret(secret)),
            (Some(url), Some(_)) => {
                self.at(
                    url.span(),
                    "url_secret says where the URL is: leave one out",
                );
                None
            }
            (None, None) => {
                self.missing(format!("a {what} of notify has neither url nor url_secret"));
                None
            }
        }
    }
}
