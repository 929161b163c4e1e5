//! What a server said when it refused, and the error that this is.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, StatusCode, Uri};

use super::super::StoreError;
use super::xml::ErrorDocument;

tokio::task_local! {
    /// Of the operation that runs in this task.
    static NOTES: Notes;
}

/// What the last request of an operation was answered, if it failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Option<Answer>>>);

impl Notes {
    /// Runs an operation and returns its result with what the last answer was.
    pub async fn of<T>(operation: impl Future<Output = T>) -> (T, Option<Answer>) {
        let notes = Self::default();
        let result = NOTES.scope(notes.clone(), operation).await;
        let answer = notes
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        (result, answer)
    }

    /// Notes how a request ended.
    pub fn set(answer: Option<Answer>) {
        // Without an operation no one will ask.
        let _ = NOTES.try_with(|notes| {
            *notes.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        });
    }
}

/// How a request failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// Without one there was no answer, or it was nonsense.
    pub status: Option<StatusCode>,
    /// The server's name for the error.
    pub code: String,
    /// What happened, for people.
    message: String,
    region: Option<String>,
    storage_class: Option<String>,
    /// Whether the server never answered.
    unreachable: bool,
    /// Whether it is about credentials that a machine's own service hands out.
    metadata: bool,
}

/// Whether an address is that of a service that knows a machine's own credentials.
pub(super) fn is_metadata(uri: &Uri) -> bool {
    matches!(
        uri.host(),
        Some(
            "169.254.169.254"
                | "169.254.170.2"
                | "169.254.170.23"
                | "metadata.google.internal"
                | "metadata"
        )
    )
}

impl Answer {
    /// No answer came.
    pub fn lost(uri: &Uri, message: String) -> Self {
        Self {
            message,
            unreachable: true,
            metadata: is_metadata(uri),
            ..Self::default()
        }
    }

    /// Something came that is no answer.
    pub fn nonsense(uri: &Uri, message: String) -> Self {
        Self {
            message,
            metadata: is_metadata(uri),
            ..Self::default()
        }
    }

    /// An answer that says no.
    pub fn refused(uri: &Uri, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let document = ErrorDocument::parse(body);
        // To a HEAD request there is no document.
        let code = if document.code.is_empty() {
            header("x-ms-error-code")
                .or_else(|| header("x-minio-error-code"))
                .unwrap_or_default()
        } else {
            document.code
        };
        Self {
            status: Some(status),
            code,
            message: document
                .message
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
            region: document.region.or_else(|| header("x-amz-bucket-region")),
            storage_class: document.storage_class,
            unreachable: false,
            metadata: is_metadata(uri),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(status) = self.status {
            parts.push(status.to_string());
        }
        parts.extend(
            [&self.code, &self.message]
                .into_iter()
                .filter(|part| !part.is_empty())
                .cloned(),
        );
        write!(f, "{}", parts.join(": "))
    }
}

/// What is needed to say what to do.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// Where the store is, for people.
    pub location: String,
    /// Bucket or container.
    pub bucket: String,
    /// Prefix of all names, empty or with a slash at its end.
    pub root: String,
    pub kind: Kind,
}

/// Whose protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Gcs,
    Azure,
}

const PERMISSIONS: &str = "check the credentials, and what they may do there";
const CREDENTIALS: &str = "renew or correct the credentials";
const NO_CREDENTIALS: &str =
    "no credentials were found: give them in the environment, a profile, or the machine's role";
const CLOCK: &str = "set this machine's clock";

impl Context {
    /// The error that a failed operation is.
    pub fn error(
        &self,
        object: &str,
        error: &object_store::Error,
        answer: Option<Answer>,
    ) -> StoreError {
        match answer {
            Some(answer) => self.answered(object, answer),
            // All requests were answered, but not as they must be, or none was sent.
            None => match error {
                object_store::Error::NotFound { .. } => StoreError::Absent {
                    object: object.to_owned(),
                },
                object_store::Error::Unauthenticated { .. }
                | object_store::Error::PermissionDenied { .. } => {
                    forbidden(object, brief(error), PERMISSIONS)
                }
                _ => StoreError::Broken {
                    object: object.to_owned(),
                    detail: brief(error),
                },
            },
        }
    }

    fn answered(&self, object: &str, answer: Answer) -> StoreError {
        let detail = answer.to_string();
        let object = object.to_owned();
        if answer.metadata {
            return forbidden(&object, detail, NO_CREDENTIALS);
        }
        let Some(status) = answer.status else {
            return match answer.unreachable {
                true => StoreError::Unreachable { object, detail },
                false => StoreError::Broken { object, detail },
            };
        };
        let lower = answer.message.to_ascii_lowercase();
        match (answer.code.as_str(), status.as_u16()) {
            ("NoSuchBucket" | "ContainerNotFound", _) => StoreError::NoBucket {
                object,
                place: self.location.clone(),
            },
            (_, 404) if lower.contains("bucket does not exist") => StoreError::NoBucket {
                object,
                place: self.location.clone(),
            },
            ("InvalidObjectState" | "BlobArchived" | "BlobBeingRehydrated", _) => {
                let command = self.thaw(&object, answer.storage_class.as_deref());
                StoreError::Archived { object, command }
            }
            ("RequestTimeTooSkewed", _) => forbidden(&object, detail, CLOCK),
            (
                "SlowDown"
                | "ServerBusy"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestLimitExceeded"
                | "OperationAborted",
                _,
            )
            | (_, 429 | 503) => StoreError::Throttled { object, detail },
            (
                "ExpiredToken"
                | "TokenRefreshRequired"
                | "InvalidAccessKeyId"
                | "InvalidToken"
                | "SignatureDoesNotMatch"
                | "AuthenticationFailed"
                | "InvalidAuthenticationInfo",
                _,
            )
            | (_, 401) => forbidden(&object, detail, CREDENTIALS),
            (
                "BlobImmutableDueToPolicy"
                | "ObjectUnderActiveHold"
                | "RetentionPolicyNotMet"
                | "ObjectLocked",
                _,
            ) => StoreError::Locked { object, detail },
            (_, 403)
                if ["object lock", "worm", "retention", "locked"]
                    .iter()
                    .any(|word| lower.contains(word)) =>
            {
                StoreError::Locked { object, detail }
            }
            (
                "QuotaExceeded"
                | "XMinioStorageFull"
                | "InsufficientStorage"
                | "XMinioAdminBucketQuotaExceeded",
                _,
            )
            | (_, 507) => StoreError::Full {
                object,
                source: io::Error::other(detail),
            },
            (
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307 | 308) => {
                let region = answer
                    .region
                    .map_or_else(String::new, |region| format!(" {region}"));
                StoreError::Broken {
                    object,
                    detail: format!(
                        "{detail}; the bucket is in another region{region}: set --repo-option s3.region"
                    ),
                }
            }
            (_, 403) => forbidden(&object, detail, PERMISSIONS),
            (_, 404) => StoreError::Absent { object },
            _ => StoreError::Broken { object, detail },
        }
    }

    /// The command that makes an archived object readable.
    fn thaw(&self, object: &str, class: Option<&str>) -> String {
        let (bucket, root) = (&self.bucket, &self.root);
        match self.kind {
            Kind::Azure => format!(
                "az storage blob set-tier --container-name {bucket} --name '{root}{object}' --tier Hot --rehydrate-priority Standard"
            ),
            Kind::S3 | Kind::Gcs => {
                // Deep archive knows no expedited retrieval, and Bulk is the cheap one everywhere.
                let tier = if class == Some("DEEP_ARCHIVE") {
                    "Bulk"
                } else {
                    "Standard"
                };
                format!(
                    "aws s3api restore-object --bucket {bucket} --key '{root}{object}' \
                     --restore-request 'Days=7,GlacierJobParameters={{Tier={tier}}}'"
                )
            }
        }
    }
}

fn forbidden(object: &str, detail: String, hint: &'static str) -> StoreError {
    StoreError::Forbidden {
        object: object.to_owned(),
        source: io::Error::other(detail),
        hint,
    }
}

/// The innermost cause: the outer ones repeat it, with addresses.
fn brief(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> StoreError {
        let context = Context {
            location: "s3://bucket/repo".into(),
            bucket: "bucket".into(),
            root: "repo/".into(),
            kind: Kind::S3,
        };
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer::refused(
            &Uri::from_static("http://host/"),
            status,
            &HeaderMap::new(),
            body.as_bytes(),
        );
        context.answered("packs/x", answer)
    }

    fn document(code: &str, message: &str) -> String {
        format!(
            "<Error><Code>{code}</Code><Message>{message}</Message><StorageClass>GLACIER</StorageClass></Error>"
        )
    }

    #[test]
    fn every_refusal_is_its_own_error_and_says_what_to_do() {
        let cases = [
            (404, "NoSuchKey", "", "there is no such object"),
            (404, "NoSuchBucket", "", "create it"),
            (403, "AccessDenied", "Access Denied", "what they may do"),
            (
                403,
                "AccessDenied",
                "Access Denied because object protected by object lock.",
                "locked against deletion",
            ),
            (
                403,
                "InvalidObjectState",
                "",
                "aws s3api restore-object --bucket bucket --key 'repo/packs/x'",
            ),
            (403, "RequestTimeTooSkewed", "", "clock"),
            (
                400,
                "ExpiredToken",
                "The provided token has expired.",
                "renew",
            ),
            (403, "SignatureDoesNotMatch", "", "correct the credentials"),
            (503, "SlowDown", "", "fewer requests"),
            (429, "", "", "fewer requests"),
            (500, "InternalError", "", "the storage failed"),
            (412, "PreconditionFailed", "", "the storage failed"),
            (301, "PermanentRedirect", "", "s3.region"),
            (507, "", "", "no space left"),
        ];
        for (status, code, message, says) in cases {
            let error = error(status, &document(code, message)).to_string();
            assert!(
                error.starts_with("packs/x: ") && error.contains(says),
                "{code}: {error}"
            );
        }
    }

    #[test]
    fn an_error_page_of_something_else_is_not_printed() {
        let error = error(502, "<html><body>secret</body></html>").to_string();
        assert!(
            error.contains("502") && !error.contains("secret"),
            "{error}"
        );
    }
}
