//! What all kinds of stores have in common.

use object_store::{BackoffConfig, RetryConfig};
use std::time::Duration;
use url::Url;

use super::http::{Wire, roots};
use super::limit::Limiter;
use super::options::{OpenError, Options};

/// How requests are made and repeated.
#[derive(Debug)]
pub(super) struct Settings {
    pub wire: Wire,
    pub retry: RetryConfig,
}

/// What is wrong with the address of a service; `option` names it, and is written like `example`.
pub(super) fn wrong_endpoint(option: &str, problem: &str, example: &str) -> OpenError {
    OpenError::new(option, problem, format!("write it like {example}"))
}

/// The address of a service: the URL of a web server, with a path at most.
pub(super) fn endpoint(option: &str, text: &str, example: &str) -> Result<Url, OpenError> {
    let wrong = |problem: &str| wrong_endpoint(option, problem, example);
    let url = Url::parse(text).map_err(|_| wrong("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("is not the URL of a web server"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(wrong(
            "has more than a host and a path; credentials have no place in it",
        ));
    }
    Ok(url)
}

impl Settings {
    pub fn new(options: &Options) -> Result<Self, OpenError> {
        let longest = Duration::from_secs(600);
        let retry_timeout = options.duration("timeout.retry", Duration::from_secs(180))?;
        if retry_timeout > longest {
            // A request is signed once, and a signature holds for a quarter of an hour.
            return Err(OpenError::new(
                "timeout.retry",
                "is longer than a signature holds",
                "use 10m or less",
            ));
        }
        Ok(Self {
            wire: Wire {
                stall: options.duration("timeout.stall", Duration::from_secs(60))?,
                request: options.duration("timeout.request", Duration::from_secs(900))?,
                upload: options.size("limit.upload")?.map(Limiter::new),
                download: options.size("limit.download")?.map(Limiter::new),
                roots: roots(options.get("tls.ca-file"))?,
            },
            retry: RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: options.number("retries", 10)?,
                retry_timeout,
            },
        })
    }
}
