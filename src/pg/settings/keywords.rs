//! Every connection setting libpq knows (the list of PostgreSQL 18), and what pgtide does with it.
//! `docs/connection.md` has the same list for users; a test keeps the two equal.

use super::SettingsError;

/// What pgtide does with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// It has the meaning it has in libpq.
    Honoured,
    /// Some values have the meaning they have in libpq, the others are refused with this reason.
    Partly(&'static str),
    /// Refused, with this reason.
    Refused(&'static str),
}

pub(super) struct Keyword {
    pub name: &'static str,
    pub env: Option<&'static str>,
    pub support: Support,
}

const fn honoured(name: &'static str, env: &'static str) -> Keyword {
    Keyword {
        name,
        env: Some(env),
        support: Support::Honoured,
    }
}

const fn plain(name: &'static str) -> Keyword {
    Keyword {
        name,
        env: None,
        support: Support::Honoured,
    }
}

const fn partly(name: &'static str, env: &'static str, reason: &'static str) -> Keyword {
    Keyword {
        name,
        env: Some(env),
        support: Support::Partly(reason),
    }
}

const fn refused(name: &'static str, env: Option<&'static str>, reason: &'static str) -> Keyword {
    Keyword {
        name,
        env,
        support: Support::Refused(reason),
    }
}

const NO_GSS: &str = "pgtide has no GSSAPI (Kerberos); use a password or a client certificate";
const NO_CRL: &str = "pgtide does not check certificate revocation lists";
const NO_OAUTH: &str = "pgtide has no OAuth; use a password or a client certificate";

pub(super) const KEYWORDS: &[Keyword] = &[
    honoured("service", "PGSERVICE"),
    honoured("servicefile", "PGSERVICEFILE"),
    honoured("host", "PGHOST"),
    honoured("hostaddr", "PGHOSTADDR"),
    honoured("port", "PGPORT"),
    honoured("dbname", "PGDATABASE"),
    honoured("user", "PGUSER"),
    honoured("password", "PGPASSWORD"),
    honoured("passfile", "PGPASSFILE"),
    honoured("require_auth", "PGREQUIREAUTH"),
    honoured("channel_binding", "PGCHANNELBINDING"),
    honoured("connect_timeout", "PGCONNECT_TIMEOUT"),
    honoured("client_encoding", "PGCLIENTENCODING"),
    honoured("options", "PGOPTIONS"),
    honoured("application_name", "PGAPPNAME"),
    plain("fallback_application_name"),
    plain("keepalives"),
    plain("keepalives_idle"),
    plain("keepalives_interval"),
    plain("keepalives_count"),
    plain("tcp_user_timeout"),
    honoured("sslmode", "PGSSLMODE"),
    honoured("requiressl", "PGREQUIRESSL"),
    honoured("sslnegotiation", "PGSSLNEGOTIATION"),
    partly(
        "sslcompression",
        "PGSSLCOMPRESSION",
        "TLS compression is unsafe and no longer exists in TLS libraries",
    ),
    honoured("sslcert", "PGSSLCERT"),
    honoured("sslkey", "PGSSLKEY"),
    refused(
        "sslpassword",
        None,
        "pgtide cannot read encrypted private keys; decrypt the key with `openssl pkey` and protect the file",
    ),
    honoured("sslcertmode", "PGSSLCERTMODE"),
    honoured("sslrootcert", "PGSSLROOTCERT"),
    refused("sslcrl", Some("PGSSLCRL"), NO_CRL),
    refused("sslcrldir", Some("PGSSLCRLDIR"), NO_CRL),
    refused(
        "sslkeylogfile",
        None,
        "pgtide does not write TLS secrets to files",
    ),
    honoured("sslsni", "PGSSLSNI"),
    honoured("requirepeer", "PGREQUIREPEER"),
    partly(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        "pgtide speaks TLSv1.2 and TLSv1.3",
    ),
    partly(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        "pgtide speaks TLSv1.2 and TLSv1.3",
    ),
    partly(
        "min_protocol_version",
        "PGMINPROTOCOLVERSION",
        "pgtide speaks protocol version 3.0",
    ),
    honoured("max_protocol_version", "PGMAXPROTOCOLVERSION"),
    partly("gssencmode", "PGGSSENCMODE", NO_GSS),
    refused("krbsrvname", Some("PGKRBSRVNAME"), NO_GSS),
    refused("gsslib", Some("PGGSSLIB"), NO_GSS),
    partly("gssdelegation", "PGGSSDELEGATION", NO_GSS),
    honoured("target_session_attrs", "PGTARGETSESSIONATTRS"),
    honoured("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    partly(
        "replication",
        "",
        "a replication connection cannot dump or restore",
    ),
    refused(
        "scram_client_key",
        None,
        "pgtide authenticates with the password itself",
    ),
    refused(
        "scram_server_key",
        None,
        "pgtide authenticates with the password itself",
    ),
    refused("oauth_issuer", None, NO_OAUTH),
    refused("oauth_client_id", None, NO_OAUTH),
    refused("oauth_client_secret", None, NO_OAUTH),
    refused("oauth_scope", None, NO_OAUTH),
];

/// Session variables libpq takes from the environment only, and the server's name for them. What pgtide pins
/// itself (DateStyle, TimeZone) is in the list so that the table is complete.
pub(super) const ENVIRONMENT_ONLY: &[(&str, &str)] = &[
    ("PGDATESTYLE", "datestyle"),
    ("PGTZ", "timezone"),
    ("PGGEQO", "geqo"),
];

pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|k| k.name == name)
}

/// Checks a value that was given against what pgtide supports. Called for settings that came from anywhere.
pub(super) fn check(keyword: &Keyword, value: &str) -> Result<(), SettingsError> {
    let refuse = |reason: &'static str| {
        Err(SettingsError::Refused {
            name: keyword.name,
            value: value.to_owned(),
            reason,
        })
    };
    if value.is_empty() {
        return Ok(());
    }
    match keyword.support {
        Support::Honoured => Ok(()),
        Support::Refused(reason) => refuse(reason),
        Support::Partly(reason) => {
            let good = match keyword.name {
                "sslcompression" => value == "0",
                "ssl_min_protocol_version" => {
                    one_of(
                        keyword.name,
                        value,
                        &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"],
                    )?;
                    true // A lower bound below what we speak changes nothing.
                }
                "ssl_max_protocol_version" => {
                    one_of(
                        keyword.name,
                        value,
                        &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"],
                    )?;
                    matches!(value, "TLSv1.2" | "TLSv1.3")
                }
                "min_protocol_version" => {
                    one_of(keyword.name, value, &["3.0", "3.2", "latest"])?;
                    value == "3.0"
                }
                "gssencmode" => {
                    one_of(keyword.name, value, &["disable", "prefer", "require"])?;
                    value != "require"
                }
                "gssdelegation" => value == "0",
                "replication" => matches!(value, "0" | "false" | "off" | "no"),
                _ => false,
            };
            if good { Ok(()) } else { refuse(reason) }
        }
    }
}

/// libpq's complaint about a value that is none of the known ones.
pub(super) fn one_of(
    name: &'static str,
    value: &str,
    known: &'static [&'static str],
) -> Result<(), SettingsError> {
    if known.contains(&value) {
        Ok(())
    } else {
        Err(SettingsError::InvalidValue {
            name,
            value: value.to_owned(),
            expected: known.join(", "),
        })
    }
}
