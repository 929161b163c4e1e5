//! The TLS settings: what libpq would do with them, decided before any connection is made.

use std::path::{Path, PathBuf};

use super::{SettingsError, Values, choice, set};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pg) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum CertMode {
    Allow,
    Disable,
    Require,
}

#[derive(Debug, Clone)]
pub(in crate::pg) struct SslSettings {
    pub mode: SslMode,
    /// TLS from the first byte, without asking first.
    pub direct: bool,
    /// Trust what the operating system trusts.
    pub system_roots: bool,
    /// Trust the certificates of this file. Given, or libpq's default where there is a home directory.
    pub root_cert: Option<PathBuf>,
    /// A list of revoked certificates that libpq would have read by default.
    pub default_crl: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub cert_given: bool,
    pub key: Option<PathBuf>,
    pub cert_mode: CertMode,
    pub send_name: bool,
    pub tls12: bool,
    pub tls13: bool,
}

impl SslSettings {
    pub(super) fn new(values: &Values, home: Option<&Path>) -> Result<SslSettings, SettingsError> {
        let path = |name: &str, default: &str| {
            set(values, name)
                .map(PathBuf::from)
                .or_else(|| Some(home?.join(".postgresql").join(default)))
        };
        let system_roots = set(values, "sslrootcert") == Some("system");
        let mut mode = choice(
            values,
            "sslmode",
            &[
                ("prefer", SslMode::Prefer),
                ("disable", SslMode::Disable),
                ("allow", SslMode::Allow),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )?;
        if system_roots {
            if set(values, "sslmode").is_none() {
                mode = SslMode::VerifyFull;
            } else if mode != SslMode::VerifyFull {
                return Err(weak(values, "sslrootcert=system", "use \"verify-full\""));
            }
        }
        let direct = choice(
            values,
            "sslnegotiation",
            &[("postgres", false), ("direct", true)],
        )?;
        if direct && mode < SslMode::Require {
            return Err(weak(
                values,
                "sslnegotiation=direct",
                "use \"require\", \"verify-ca\", or \"verify-full\"",
            ));
        }
        let version = |name| match set(values, name) {
            Some("TLSv1.3") => 3,
            Some("TLSv1.2") => 2,
            _ if name == "ssl_max_protocol_version" => 3,
            _ => 2,
        };
        let min = version("ssl_min_protocol_version");
        let max = version("ssl_max_protocol_version");
        if min > max {
            return Err(SettingsError::Conflict(
                "invalid SSL protocol version range: ssl_min_protocol_version is above ssl_max_protocol_version"
                    .to_owned(),
            ));
        }
        Ok(SslSettings {
            mode,
            direct,
            system_roots,
            root_cert: path("sslrootcert", "root.crt"),
            default_crl: home.map(|h| h.join(".postgresql/root.crl")),
            cert: path("sslcert", "postgresql.crt"),
            cert_given: set(values, "sslcert").is_some(),
            key: path("sslkey", "postgresql.key"),
            cert_mode: choice(
                values,
                "sslcertmode",
                &[
                    ("allow", CertMode::Allow),
                    ("disable", CertMode::Disable),
                    ("require", CertMode::Require),
                ],
            )?,
            send_name: set(values, "sslsni").is_none_or(|v| v.starts_with('1')),
            tls12: min <= 2,
            tls13: max >= 3,
        })
    }
}

fn weak(values: &Values, with: &str, instead: &str) -> SettingsError {
    SettingsError::Conflict(format!(
        "weak sslmode \"{}\" may not be used with {with} ({instead})",
        set(values, "sslmode").unwrap_or("prefer")
    ))
}
