//! What libpq looks at in certificates and key files.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::UnixTime;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: &str = "2.5.4.3";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";

fn parse(der: &[u8]) -> Result<Certificate, String> {
    Certificate::from_der(der).map_err(|e| format!("the server's certificate cannot be read: {e}"))
}

/// The hash that channel binding of type tls-server-end-point binds to (RFC 5929): that of the certificate's own
/// signature, but at least SHA-256. None where the signature names no hash.
pub(super) fn endpoint_hash(der: &[u8]) -> Option<Vec<u8>> {
    let algorithm = parse(der).ok()?.signature_algorithm.oid.to_string();
    match algorithm.as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(Sha256::digest(der).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(der).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(der).to_vec()),
        _ => None,
    }
}

pub(super) fn check_validity(der: &[u8], now: UnixTime) -> Result<(), String> {
    let validity = parse(der)?.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err("the server's certificate is not valid yet".to_owned());
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err("the server's certificate has expired".to_owned());
    }
    Ok(())
}

/// libpq's rule: alternative names of the host's kind, and the common name where there are none of them.
pub(super) fn check_name(der: &[u8], host: &str) -> Result<(), String> {
    let certificate = parse(der)?.tbs_certificate;
    let ip: Option<IpAddr> = host.parse().ok();
    let mut seen = Vec::new();
    let mut look_at_common_name = true;
    let extensions = certificate.extensions.unwrap_or_default();
    for extension in extensions
        .iter()
        .filter(|e| e.extn_id.to_string() == SUBJECT_ALT_NAME)
    {
        let names = SubjectAltName::from_der(extension.extn_value.as_bytes())
            .map_err(|e| format!("the server certificate's names cannot be read: {e}"))?;
        for name in &names.0 {
            match name {
                GeneralName::DnsName(name) => {
                    look_at_common_name &= ip.is_some();
                    if matches(name.as_str(), host) {
                        return Ok(());
                    }
                    seen.push(name.as_str().to_owned());
                }
                GeneralName::IpAddress(bytes) => {
                    look_at_common_name &= ip.is_none();
                    let found = match bytes.as_bytes() {
                        v4 if v4.len() == 4 => <[u8; 4]>::try_from(v4).ok().map(IpAddr::from),
                        v6 => <[u8; 16]>::try_from(v6).ok().map(IpAddr::from),
                    };
                    if found.is_some() && found == ip {
                        return Ok(());
                    }
                    seen.extend(found.map(|ip| ip.to_string()));
                }
                _ => {}
            }
        }
    }
    if look_at_common_name && let Some(name) = common_name(&certificate.subject) {
        if matches(&name, host) {
            return Ok(());
        }
        seen.push(name);
    }
    Err(match seen.as_slice() {
        [] => "could not get server's host name from server certificate".to_owned(),
        [one] => format!("server certificate for \"{one}\" does not match host name \"{host}\""),
        [one, rest @ ..] => format!(
            "server certificate for \"{one}\" (and {} other names) does not match host name \"{host}\"",
            rest.len()
        ),
    })
}

fn common_name(subject: &x509_cert::name::Name) -> Option<String> {
    let mut attributes = subject.0.iter().flat_map(|set| set.0.iter());
    let attribute = attributes.find(|a| a.oid.to_string() == COMMON_NAME)?;
    let value = &attribute.value;
    let text = match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok()?.as_str().to_owned(),
        Tag::PrintableString => PrintableStringRef::try_from(value)
            .ok()?
            .as_str()
            .to_owned(),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok()?.as_str().to_owned(),
        _ => return None,
    };
    // A zero byte in a name is an old trick to have it read as a shorter one.
    (!text.contains('\0')).then_some(text)
}

/// A name in a certificate: exact, or with a wildcard for the whole first label and nothing more.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.contains('\0') {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => {
            !label.is_empty() && !domain.is_empty() && domain.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

/// libpq's rule for private keys: ours and closed to others, or root's and readable by a group.
pub(super) fn check_key_file(path: &Path) -> Result<(), String> {
    let file = path.display();
    let meta = std::fs::metadata(path)
        .map_err(|e| format!("could not open private key file \"{file}\": {e}"))?;
    if !meta.is_file() {
        return Err(format!("private key file \"{file}\" is not a regular file"));
    }
    let mask = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & mask != 0 {
        return Err(format!(
            "private key file \"{file}\" has group or world access; file must have permissions u=rw (0600) or less if \
             owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_one_whole_label() {
        for (pattern, host, good) in [
            ("db.example.com", "DB.example.com", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*", "db", false),
            ("*.", "db.", false),
            ("a\0b", "a\0b", false),
        ] {
            assert_eq!(matches(pattern, host), good, "{pattern} {host}");
        }
    }

    #[test]
    fn rubbish_is_no_certificate() {
        assert!(endpoint_hash(b"x").is_none());
        assert!(check_name(b"", "h").is_err());
        assert!(check_validity(&[0x30, 0x80], UnixTime::now()).is_err());
    }
}
