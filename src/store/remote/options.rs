//! What can be set about a store beside its place.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Every option, with what it means, for help and errors.
pub const KNOWN_OPTIONS: &[(&str, &str)] = &[
    (
        "s3.endpoint",
        "URL of an S3 server other than AWS; http:// is without TLS",
    ),
    ("s3.region", "region of the bucket"),
    (
        "s3.path-style",
        "true: the bucket in the path; false: in the host name; default: path with an endpoint, else host",
    ),
    (
        "s3.profile",
        "profile in ~/.aws/config and ~/.aws/credentials",
    ),
    (
        "s3.storage-class",
        "storage class of packs, e.g. STANDARD_IA",
    ),
    (
        "s3.storage-class-records",
        "storage class of everything else",
    ),
    ("s3.sse", "encryption by the server: AES256 or aws:kms"),
    ("s3.sse-kms-key-id", "key for s3.sse=aws:kms"),
    (
        "s3.checksum",
        "checksum that the server verifies and keeps: sha256 (default), crc64nvme, none",
    ),
    (
        "s3.object-lock",
        "lock what is protected: governance or compliance",
    ),
    ("azure.account", "storage account"),
    (
        "azure.endpoint",
        "URL of the blob service other than https://ACCOUNT.blob.core.windows.net",
    ),
    ("azure.tier", "access tier of packs: Hot, Cool, Cold"),
    ("azure.tier-records", "access tier of everything else"),
    (
        "gs.endpoint",
        "URL of the service other than https://storage.googleapis.com",
    ),
    (
        "gs.service-account",
        "file with the key of a service account",
    ),
    ("gs.anonymous", "true: without credentials"),
    ("gs.storage-class", "storage class of packs, e.g. NEARLINE"),
    (
        "gs.storage-class-records",
        "storage class of everything else",
    ),
    (
        "tls.ca-file",
        "file with certificates (PEM) to trust beside the system's",
    ),
    ("limit.upload", "bytes per second to send at most, e.g. 10M"),
    ("limit.download", "bytes per second to receive at most"),
    (
        "timeout.stall",
        "a request that moves no byte for so long is given up and tried again, e.g. 30s (default 60s)",
    ),
    (
        "timeout.request",
        "a request that takes longer is given up and tried again (default 15m)",
    ),
    (
        "timeout.retry",
        "how long a failing request is tried again (default 3m, at most 10m)",
    ),
    (
        "retries",
        "how often a failing request is tried again (default 10)",
    ),
];

/// Options of a store, by key. Later ones replace earlier ones.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys alone: an endpoint may be written with a password.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Options {
    /// Reads `KEY=VALUE` each.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, OpenError> {
        let mut options = BTreeMap::new();
        for text in texts {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                OpenError::new(text, "is not an option of a repository", "write KEY=VALUE")
            })?;
            if !KNOWN_OPTIONS.iter().any(|(known, _)| *known == key) {
                let known: Vec<&str> = KNOWN_OPTIONS.iter().map(|(known, _)| *known).collect();
                return Err(OpenError::new(
                    key,
                    "there is no such option of a repository",
                    format!("there are {}", known.join(", ")),
                ));
            }
            if value.is_empty() {
                return Err(OpenError::new(key, "has no value", "write KEY=VALUE"));
            }
            options.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self(options))
    }

    /// The value of an option.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        debug_assert!(
            KNOWN_OPTIONS.iter().any(|(known, _)| *known == key),
            "{key}"
        );
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, OpenError> {
        self.get(key)
            .map(|value| match value {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(OpenError::new(
                    key,
                    "is neither true nor false",
                    "correct it",
                )),
            })
            .transpose()
    }

    /// A number of bytes: `K`, `M`, `G` are powers of 1,024.
    pub(super) fn size(&self, key: &str) -> Result<Option<u64>, OpenError> {
        self.get(key)
            .map(|value| {
                size(value).ok_or_else(|| {
                    OpenError::new(key, "is not a number of bytes", "write it like 512K or 10M")
                })
            })
            .transpose()
    }

    pub(super) fn duration(&self, key: &str, default: Duration) -> Result<Duration, OpenError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => duration(value).ok_or_else(|| {
                OpenError::new(key, "is not a time", "write it like 500ms, 30s or 5m")
            }),
        }
    }

    pub(super) fn number(&self, key: &str, default: usize) -> Result<usize, OpenError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| OpenError::new(key, "is not a number", "correct it")),
        }
    }
}

fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().next_back()? {
        (at, 'K' | 'k') => (&text[..at], 1 << 10),
        (at, 'M' | 'm') => (&text[..at], 1 << 20),
        (at, 'G' | 'g') => (&text[..at], 1 << 30),
        _ => (text, 1_u64),
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)
        .filter(|size| *size > 0)
}

fn duration(text: &str) -> Option<Duration> {
    let (digits, milliseconds) = if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1)
    } else if let Some(digits) = text.strip_suffix('s') {
        (digits, 1000)
    } else if let Some(digits) = text.strip_suffix('m') {
        (digits, 60_000)
    } else {
        (text, 1000)
    };
    let milliseconds = u64::from(digits.parse::<u32>().ok()?).checked_mul(milliseconds)?;
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

/// A place or an option that is wrong: nothing was done yet.
#[derive(Debug, thiserror::Error)]
#[error("{subject}: {problem}; {hint}")]
pub struct OpenError {
    subject: String,
    problem: String,
    hint: String,
}

impl OpenError {
    pub(in crate::store) fn new(
        subject: impl Into<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_and_malformed_options_are_refused_with_those_there_are() {
        let error = Options::parse(["s3.regoin=x"]).unwrap_err().to_string();
        assert!(
            error.starts_with("s3.regoin: ") && error.contains("s3.region"),
            "{error}"
        );
        assert!(Options::parse(["s3.region"]).is_err());
        assert!(Options::parse(["s3.region="]).is_err());
        assert!(Options::parse(["=x"]).is_err());
    }

    #[test]
    fn later_options_win_and_values_may_have_equals_signs() {
        let options = Options::parse(["s3.region=a", "s3.region=b=c"]).unwrap();
        assert_eq!(options.get("s3.region"), Some("b=c"));
    }

    #[test]
    fn sizes_and_times_have_units() {
        let options = |text| Options::parse([text]).unwrap();
        let size = |text: &str| {
            options(&*format!("limit.upload={text}").leak())
                .size("limit.upload")
                .ok()
                .flatten()
        };
        assert_eq!(size("10M"), Some(10 << 20));
        assert_eq!(size("512K"), Some(512 << 10));
        assert_eq!(size("7"), Some(7));
        for bad in [
            "0",
            "M",
            "-1",
            "1.5M",
            "10T",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("30s"), duration("30"));
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        for bad in ["0", "s", "1h", "-1s", ""] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in any::<String>()) {
            let _ = Options::parse([text.as_str()]);
            let _ = size(&text);
            let _ = duration(&text);
        }
    }
}
