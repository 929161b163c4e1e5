//! TLS as libpq does it, by rustls.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned};

use super::certificate;
use super::error::Error;
use super::settings::{CertMode, SslMode, SslSettings};
use super::stream::{Raw, Stream};
use super::verify::{Roots, Verifier};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const ALPN: &[u8] = b"postgresql";

/// Everything needed to open TLS to one host, again for cancel requests.
#[derive(Debug)]
pub(super) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    direct: bool,
    cert_required: bool,
    /// The server asked for a certificate, and we had one.
    cert_sent: Arc<AtomicBool>,
}

fn fail(address: &str, message: impl Into<String>) -> Error {
    Error::Tls {
        address: address.to_owned(),
        message: message.into(),
    }
}

impl Connector {
    pub fn new(ssl: &SslSettings, host: &str, address: &str) -> Result<Connector, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(
            load_roots(ssl, address)?,
            (ssl.mode == SslMode::VerifyFull).then(|| host.to_owned()),
            provider.clone(),
        );
        if ssl.mode == SslMode::VerifyFull && host.is_empty() {
            return Err(fail(
                address,
                "host name must be specified for a verified SSL connection",
            ));
        }
        let mut versions = Vec::new();
        if ssl.tls12 {
            versions.push(&rustls::version::TLS12);
        }
        if ssl.tls13 {
            versions.push(&rustls::version::TLS13);
        }
        let cert_sent = Arc::new(AtomicBool::new(false));
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|e| fail(address, e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(ClientCert {
                key: load_client_cert(ssl, &provider, address)?,
                sent: cert_sent.clone(),
            }));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Only names are announced, as libpq does; a session is never resumed.
        let name = ServerName::try_from(host.to_owned());
        config.enable_sni = ssl.send_name && matches!(name, Ok(ServerName::DnsName(_)));
        config.resumption = rustls::client::Resumption::disabled();
        let unnamed = || ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        Ok(Connector {
            config: Arc::new(config),
            name: name.unwrap_or_else(|_| unnamed()),
            direct: ssl.direct,
            cert_required: ssl.cert_mode == CertMode::Require,
            cert_sent,
        })
    }

    /// Agrees with the server on TLS and does the handshake. Where the server has no TLS and it is not a must, the plain
    /// stream comes back.
    pub fn open(
        &self,
        mut raw: Raw,
        address: &Arc<str>,
        deadline: Option<Instant>,
        must: bool,
    ) -> Result<Stream, Error> {
        let io = |e| Error::io(address, e);
        if !self.direct {
            raw.write_all(&SSL_REQUEST).map_err(io)?;
            // Exactly one byte is read: anything after it must already be TLS.
            let mut stream = Stream::Plain(raw);
            stream.set_deadline(deadline).map_err(io)?;
            let mut answer = [0];
            stream.read_exact(&mut answer).map_err(io)?;
            let Stream::Plain(back) = stream else {
                return Err(fail(address, "impossible state"));
            };
            raw = back;
            match answer[0] {
                b'S' => {}
                b'N' if !must => return Ok(Stream::Plain(raw)),
                b'N' => {
                    return Err(fail(
                        address,
                        "server does not support SSL, but SSL was required",
                    ));
                }
                b'E' => return Err(fail(address, "server refused to negotiate SSL")),
                other => {
                    return Err(fail(
                        address,
                        format!("received invalid response to SSL negotiation: {other:#x}"),
                    ));
                }
            }
        }
        let session = ClientConnection::new(self.config.clone(), self.name.clone())
            .map_err(|e| fail(address, e.to_string()))?;
        let mut tls = Box::new(StreamOwned::new(session, raw));
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(|e| {
                let ours = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                match ours {
                    Some(error) => fail(address, explain(error)),
                    None => Error::io(address, e),
                }
            })?;
        }
        if self.direct && tls.conn.alpn_protocol() != Some(ALPN) {
            return Err(fail(
                address,
                "direct SSL connection was established without ALPN protocol negotiation extension",
            ));
        }
        Ok(Stream::Tls(tls))
    }

    /// `sslcertmode=require`, once the server has accepted us.
    pub fn check_client_certificate(&self, address: &str) -> Result<(), Error> {
        if self.cert_required && !self.cert_sent.load(Ordering::Relaxed) {
            return Err(fail(
                address,
                "sslcertmode=require: server accepted connection without a valid SSL certificate",
            ));
        }
        Ok(())
    }
}

fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            other.to_string()
        }
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "the server's certificate is not signed by a trusted root (sslrootcert)".to_owned()
        }
        other => other.to_string(),
    }
}

/// The hash of the server's certificate that SCRAM binds to.
pub(super) fn endpoint_hash(stream: &Stream) -> Option<Vec<u8>> {
    match stream {
        Stream::Tls(tls) => certificate::endpoint_hash(tls.conn.peer_certificates()?.first()?),
        Stream::Plain(_) => None,
    }
}

/// What the server's certificate must lead to; None where nothing is verified.
fn load_roots(ssl: &SslSettings, address: &str) -> Result<Option<Roots>, Error> {
    let mut roots = Roots {
        store: RootCertStore::empty(),
        certificates: Vec::new(),
    };
    if ssl.system_roots {
        let found = rustls_native_certs::load_native_certs();
        roots.store.add_parsable_certificates(found.certs);
        if roots.store.is_empty() {
            return Err(fail(
                address,
                "sslrootcert=system: no trusted certificates found on this system; install ca-certificates",
            ));
        }
        return Ok(Some(roots));
    }
    let path = ssl.root_cert.as_deref().filter(|p| p.exists());
    let Some(path) = path else {
        if ssl.mode < SslMode::VerifyCa {
            return Ok(None);
        }
        let name = ssl.root_cert.as_deref().unwrap_or(Path::new("root.crt"));
        return Err(fail(
            address,
            format!(
                "root certificate file \"{}\" does not exist; either provide the file, use the system's trusted roots \
                 with sslrootcert=system, or change sslmode to disable server certificate verification",
                name.display()
            ),
        ));
    };
    if let Some(crl) = ssl.default_crl.as_deref().filter(|p| p.exists()) {
        return Err(fail(
            address,
            format!(
                "\"{}\" exists, but pgtide does not check certificate revocation lists",
                crl.display()
            ),
        ));
    }
    let unreadable = |e: String| {
        fail(
            address,
            format!(
                "could not read root certificate file \"{}\": {e}",
                path.display()
            ),
        )
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(e.to_string()))? {
        let certificate = certificate.map_err(|e| unreadable(e.to_string()))?;
        // One that cannot be an anchor may still be the server's own, trusted as it stands.
        let _ = roots.store.add(certificate.clone());
        roots.certificates.push(certificate);
    }
    if roots.certificates.is_empty() {
        return Err(unreadable("no certificate in it".to_owned()));
    }
    Ok(Some(roots))
}

fn load_client_cert(
    ssl: &SslSettings,
    provider: &CryptoProvider,
    address: &str,
) -> Result<Option<Arc<CertifiedKey>>, Error> {
    if ssl.cert_mode == CertMode::Disable {
        return Ok(None);
    }
    let Some(cert) = ssl.cert.as_deref() else {
        return Ok(None);
    };
    if !cert.exists() {
        if !ssl.cert_given {
            return Ok(None);
        }
        return Err(fail(
            address,
            format!("could not open certificate file \"{}\"", cert.display()),
        ));
    }
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|e| {
        let file = cert.display();
        fail(
            address,
            format!("could not read certificate file \"{file}\": {e}"),
        )
    })?;
    let key = ssl.key.as_deref().filter(|p| p.exists()).ok_or_else(|| {
        let name = ssl.key.as_deref().unwrap_or(Path::new("postgresql.key"));
        fail(
            address,
            format!(
                "certificate present, but not private key file \"{}\"",
                name.display()
            ),
        )
    })?;
    certificate::check_key_file(key).map_err(|e| fail(address, e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| {
        let hint = match std::fs::read_to_string(key) {
            Ok(text) if text.contains("ENCRYPTED") => {
                "it is encrypted, which pgtide cannot read; decrypt it with `openssl pkey` and protect the file"
                    .to_owned()
            }
            _ => e.to_string(),
        };
        let file = key.display();
        fail(address, format!("could not load private key file \"{file}\": {hint}"))
    })?;
    let certified = CertifiedKey::from_der(chain, private, provider).map_err(|e| {
        fail(
            address,
            format!(
                "certificate \"{}\" and private key \"{}\" cannot be used: {e}",
                cert.display(),
                key.display()
            ),
        )
    })?;
    Ok(Some(Arc::new(certified)))
}

/// Gives our certificate to a server that asks, and remembers that it did.
#[derive(Debug)]
struct ClientCert {
    key: Option<Arc<CertifiedKey>>,
    sent: Arc<AtomicBool>,
}

impl ResolvesClientCert for ClientCert {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let key = self.key.as_ref()?;
        key.key.choose_scheme(schemes)?;
        self.sent.store(true, Ordering::Relaxed);
        Some(key.clone())
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}
