//! S3 and what speaks its protocol.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, Method, Request, StatusCode};
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider, Checksum,
};
use object_store::client::{HttpClient, HttpRequestBody};
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::failure::{Kind, Notes};
use super::http::{Connector, roots};
use super::options::{OpenError, Options};
use super::profile::{Credentials, Profile};
use super::settings::{self, Settings};
use super::xml::{OpenUpload, OpenUploads, Retention};
use super::{Backend, Classes, Failed, noted};

/// What S3 does beyond what every store does.
#[derive(Debug)]
pub(super) struct S3 {
    store: AmazonS3,
    client: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
    /// URL of the bucket, without a slash at its end.
    bucket: String,
    lock: Option<&'static str>,
}

/// What stays as it is in a path: what SigV4 leaves alone, and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
const QUERY: &AsciiSet = &PATH.add(b'/');

/// Opens a bucket.
pub(super) fn open(
    bucket: &str,
    options: &Options,
    env: &dyn Fn(&str) -> Option<String>,
    mut settings: Settings,
) -> Result<Backend, OpenError> {
    let profile = Profile::load(options.get("s3.profile"), env)?;
    if options.get("tls.ca-file").is_none()
        && let Some(file) = env("AWS_CA_BUNDLE").or_else(|| profile.ca_file.clone())
    {
        settings.wire.roots = roots(Some(&file))?;
    }
    let endpoint = options
        .get("s3.endpoint")
        .map(str::to_owned)
        .or_else(|| env("AWS_ENDPOINT_URL_S3"))
        .or_else(|| env("AWS_ENDPOINT_URL"))
        .or_else(|| profile.endpoint.clone());
    let region = options
        .get("s3.region")
        .map(str::to_owned)
        .or_else(|| env("AWS_REGION"))
        .or_else(|| env("AWS_DEFAULT_REGION"))
        .or_else(|| profile.region.clone())
        .unwrap_or_else(|| "us-east-1".into());
    let (url, location) = address(
        bucket,
        endpoint.as_deref(),
        &region,
        options.flag("s3.path-style")?,
    )?;
    let allow_http = url.starts_with("http://");

    let connector = Connector(Arc::new(settings.wire));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&region)
        // The URL has the bucket in it, wherever it stands.
        .with_endpoint(&url)
        .with_virtual_hosted_style_request(true)
        .with_allow_http(allow_http)
        .with_disable_bulk_delete(true)
        .with_disable_tagging(true)
        .with_retry(settings.retry)
        .with_http_connector(connector.clone());
    builder = match options.get("s3.checksum") {
        None | Some("sha256") => builder.with_checksum_algorithm(Checksum::SHA256),
        Some("crc64nvme") => builder.with_checksum_algorithm(Checksum::CRC64NVME),
        Some("none") => builder,
        Some(_) => {
            return Err(OpenError::new(
                "s3.checksum",
                "is none that is known",
                "use sha256, crc64nvme or none",
            ));
        }
    };
    builder = match (options.get("s3.sse"), options.get("s3.sse-kms-key-id")) {
        (None, None) => builder,
        (None | Some("aws:kms"), Some(key)) => builder.with_sse_kms_encryption(key),
        (Some("aws:kms"), None) => encryption(builder, "aws:kms"),
        (Some("AES256"), None) => encryption(builder, "AES256"),
        (Some("AES256"), Some(_)) => {
            return Err(OpenError::new(
                "s3.sse-kms-key-id",
                "is of no use with s3.sse=AES256",
                "leave one of them out",
            ));
        }
        (Some(_), _) => {
            return Err(OpenError::new(
                "s3.sse",
                "is none that is known",
                "use AES256 or aws:kms",
            ));
        }
    };
    builder = credentials(builder, options, env, profile)?;
    let lock = match options.get("s3.object-lock") {
        None => None,
        Some("governance") => Some("GOVERNANCE"),
        Some("compliance") => Some("COMPLIANCE"),
        Some(_) => {
            return Err(OpenError::new(
                "s3.object-lock",
                "is none that is known",
                "use governance or compliance",
            ));
        }
    };
    let wrong =
        |error: String| OpenError::new(format!("s3://{bucket}"), error, "correct the settings");
    let store = builder.build().map_err(|error| wrong(error.to_string()))?;
    let client = connector
        .client(allow_http)
        .map_err(|error| wrong(error.to_string()))?;
    let s3 = S3 {
        client,
        credentials: Arc::clone(store.credentials()),
        region,
        bucket: url,
        lock,
        store: store.clone(),
    };
    let store = Arc::new(store);
    Ok(Backend {
        objects: store.clone(),
        pages: store,
        kind: Kind::S3,
        bucket: bucket.to_owned(),
        address: location,
        classes: Classes {
            packs: options.get("s3.storage-class").map(str::to_owned),
            records: options.get("s3.storage-class-records").map(str::to_owned),
        },
        s3: Some(s3),
    })
}

fn encryption(builder: AmazonS3Builder, value: &str) -> AmazonS3Builder {
    match "aws_server_side_encryption".parse::<AmazonS3ConfigKey>() {
        Ok(key) => builder.with_config(key, value),
        Err(_) => builder,
    }
}

/// The bucket's URL, and what of it tells servers apart.
fn address(
    bucket: &str,
    endpoint: Option<&str>,
    region: &str,
    path_style: Option<bool>,
) -> Result<(String, String), OpenError> {
    let Some(endpoint) = endpoint else {
        // A dot in the host name is not covered by the certificate.
        let url = match path_style.unwrap_or(bucket.contains('.')) {
            true => format!("https://s3.{region}.amazonaws.com/{bucket}"),
            false => format!("https://{bucket}.s3.{region}.amazonaws.com"),
        };
        return Ok((url, "amazonaws.com".into()));
    };
    let (option, example) = ("s3.endpoint", "https://storage.example.com:9000");
    let mut url = settings::endpoint(option, endpoint, example)?;
    let location = format!(
        "{}{}",
        url.host_str().unwrap_or_default(),
        url.port()
            .map_or_else(String::new, |port| format!(":{port}"))
    );
    if path_style.unwrap_or(true) {
        return Ok((
            format!("{}/{bucket}", url.as_str().trim_end_matches('/')),
            location,
        ));
    }
    let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
    url.set_host(Some(&host)).map_err(|_| {
        let problem = "has a host that no bucket name can stand before; use s3.path-style=true";
        settings::wrong_endpoint(option, problem, example)
    })?;
    Ok((url.as_str().trim_end_matches('/').to_owned(), location))
}

/// Credentials in the order of the AWS SDKs: the environment, the profile, a web identity, a container, the machine.
/// A profile that was asked for by option comes first.
fn credentials(
    mut builder: AmazonS3Builder,
    options: &Options,
    env: &dyn Fn(&str) -> Option<String>,
    profile: Profile,
) -> Result<AmazonS3Builder, OpenError> {
    let asked_for = options.get("s3.profile").is_some();
    match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
        (Some(key), Some(secret)) if !asked_for => {
            builder = builder
                .with_access_key_id(key)
                .with_secret_access_key(secret);
            if let Some(token) = env("AWS_SESSION_TOKEN") {
                builder = builder.with_token(token);
            }
            return Ok(builder);
        }
        (Some(_), None) if !asked_for => {
            return Err(OpenError::new(
                "AWS_SECRET_ACCESS_KEY",
                "is not set, but AWS_ACCESS_KEY_ID is",
                "set both",
            ));
        }
        (None, Some(_)) if !asked_for => {
            return Err(OpenError::new(
                "AWS_ACCESS_KEY_ID",
                "is not set, but AWS_SECRET_ACCESS_KEY is",
                "set both",
            ));
        }
        _ => {}
    }
    match profile.credentials {
        Some(Credentials::Given(given)) => return Ok(builder.with_credentials(given)),
        Some(Credentials::WebIdentity {
            token_file,
            role,
            session,
        }) => {
            builder = builder
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file)
                .with_config(AmazonS3ConfigKey::RoleArn, role);
            if let Some(session) = session {
                builder = builder.with_config(AmazonS3ConfigKey::RoleSessionName, session);
            }
            return Ok(builder);
        }
        None if asked_for => {
            return Err(OpenError::new(
                "s3.profile",
                "names a profile without credentials",
                "add them, or use another",
            ));
        }
        None => {}
    }
    for (variable, key) in [
        (
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            AmazonS3ConfigKey::WebIdentityTokenFile,
        ),
        ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
        ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
        ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
        (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        ),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            AmazonS3ConfigKey::ContainerCredentialsFullUri,
        ),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
        ),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            AmazonS3ConfigKey::MetadataEndpoint,
        ),
    ] {
        if let Some(value) = env(variable) {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

impl S3 {
    /// Locks an object; `false` if that was not asked for.
    pub async fn protect(&self, path: &Path, until: jiff::Timestamp) -> Result<bool, Failed> {
        let Some(mode) = self.lock else {
            return Ok(false);
        };
        // Whole seconds, not before what was asked for.
        let until = jiff::Timestamp::from_second(
            until.as_second() + i64::from(until.subsec_nanosecond() > 0),
        )
        .unwrap_or(until);
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        match self.ask(Method::PUT, Some(path), "retention=", body).await {
            // A lock may be made longer, never shorter: one that is longer already is as good.
            Err(failed) if failed.status() == Some(StatusCode::FORBIDDEN) => {
                let held = self
                    .ask(Method::GET, Some(path), "retention=", String::new())
                    .await;
                let held = held
                    .ok()
                    .and_then(|bytes| quick_xml::de::from_reader::<_, Retention>(&*bytes).ok());
                match held.and_then(|held| held.retain_until_date) {
                    Some(held) if held >= until => Ok(true),
                    _ => Err(failed),
                }
            }
            result => result.map(|_| true),
        }
    }

    /// Ends uploads that were begun before that time and never ended.
    pub async fn abort_uploads(
        &self,
        prefix: &str,
        before: jiff::Timestamp,
    ) -> Result<u64, Failed> {
        use object_store::multipart::MultipartStore as _;
        let mut ended = 0;
        let mut markers = String::new();
        loop {
            let prefix = utf8_percent_encode(prefix, QUERY);
            let query = format!("{markers}prefix={prefix}&uploads=");
            let bytes = self.ask(Method::GET, None, &query, String::new()).await?;
            let page = OpenUploads::parse(&bytes).map_err(Failed::nonsense)?;
            for OpenUpload {
                key,
                upload_id,
                initiated,
            } in &page.upload
            {
                if *initiated >= before {
                    continue;
                }
                let Ok(path) = Path::parse(key) else { continue };
                match noted(self.store.abort_multipart(&path, upload_id)).await {
                    Ok(()) => ended += 1,
                    // Someone else was faster.
                    Err(failed) if failed.status() == Some(StatusCode::NOT_FOUND) => {}
                    Err(failed) => return Err(failed),
                }
            }
            match (
                page.is_truncated,
                page.next_key_marker,
                page.next_upload_id_marker,
            ) {
                (true, Some(key), Some(id)) => {
                    let next = format!(
                        "key-marker={}&upload-id-marker={}&",
                        utf8_percent_encode(&key, QUERY),
                        utf8_percent_encode(&id, QUERY)
                    );
                    // A server that repeats a page would be asked for ever.
                    if next == markers {
                        return Ok(ended);
                    }
                    markers = next;
                }
                _ => return Ok(ended),
            }
        }
    }

    /// A signed request that `object_store` has no call for.
    async fn ask(
        &self,
        method: Method,
        path: Option<&Path>,
        query: &str,
        body: String,
    ) -> Result<bytes::Bytes, Failed> {
        let mut tries = 0;
        loop {
            let result = self.ask_once(&method, path, query, &body).await;
            let again = result.as_ref().is_err_and(|failed| {
                failed.status().is_none_or(|status| {
                    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
                })
            });
            if !again || tries == 4 {
                return result;
            }
            tries += 1;
            let pause = 100 * (1 << tries) + u64::from(rand::random::<u8>());
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
    }

    async fn ask_once(
        &self,
        method: &Method,
        path: Option<&Path>,
        query: &str,
        body: &str,
    ) -> Result<bytes::Bytes, Failed> {
        let (result, answer) = Notes::of(async {
            let credential = self.credentials.get_credential().await?;
            let path = path.map_or_else(String::new, |path| {
                utf8_percent_encode(path.as_ref(), PATH).to_string()
            });
            let uri = format!("{}/{path}?{query}", self.bucket);
            let generic =
                |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
                    store: "S3",
                    source,
                };
            let mut request = Request::builder()
                .method(method.clone())
                .uri(uri)
                .body(HttpRequestBody::from(body.to_owned()))
                .map_err(|error| generic(error.into()))?;
            if !body.is_empty() {
                let digest = BASE64_STANDARD.encode(Sha256::digest(body.as_bytes()));
                let digest =
                    HeaderValue::from_str(&digest).map_err(|error| generic(error.into()))?;
                request
                    .headers_mut()
                    .insert("x-amz-checksum-sha256", digest);
            }
            AwsAuthorizer::new(&credential, "s3", &self.region)
                .try_authorize(&mut request, None)?;
            let response = self
                .client
                .execute(request)
                .await
                .map_err(|error| generic(error.into()))?;
            if !response.status().is_success() {
                return Err(generic(response.status().to_string().into()));
            }
            response
                .into_body()
                .bytes()
                .await
                .map_err(|error| generic(error.into()))
        })
        .await;
        result.map_err(|error| Failed { error, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_the_address_their_server_expects() {
        let url = |bucket, endpoint, style| {
            address(bucket, endpoint, "eu-west-1", style).map(|(url, _)| url)
        };
        assert_eq!(
            url("b", None, None).unwrap(),
            "https://b.s3.eu-west-1.amazonaws.com"
        );
        assert_eq!(
            url("b.c", None, None).unwrap(),
            "https://s3.eu-west-1.amazonaws.com/b.c"
        );
        assert_eq!(
            url("b", Some("http://localhost:9000/"), None).unwrap(),
            "http://localhost:9000/b"
        );
        assert_eq!(
            url("b", Some("https://s.example.com/x"), Some(false)).unwrap(),
            "https://b.s.example.com/x"
        );
        for bad in [
            "localhost:9000",
            "ftp://x",
            "http://user:secret@x",
            "http://x/?a",
            "x",
        ] {
            let error = url("b", Some(bad), None).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
