//! Google Cloud Storage, by its XML interface.

use std::sync::Arc;

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::failure::Kind;
use super::http::Connector;
use super::options::{OpenError, Options};
use super::settings::{self, Settings};
use super::{Backend, Classes};

/// Opens a bucket.
pub(super) fn open(
    bucket: &str,
    options: &Options,
    env: &dyn Fn(&str) -> Option<String>,
    common: Settings,
) -> Result<Backend, OpenError> {
    let wrong =
        |problem: String| OpenError::new(format!("gs://{bucket}"), problem, "correct the settings");
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(common.retry)
        .with_http_connector(Connector(Arc::new(common.wire)));
    let endpoint = options
        .get("gs.endpoint")
        .map(str::to_owned)
        .or_else(|| env("STORAGE_EMULATOR_HOST"));
    if let Some(endpoint) = &endpoint {
        let example = "https://storage.googleapis.com";
        let url = settings::endpoint("gs.endpoint", endpoint, example)?;
        builder = builder
            .with_base_url(endpoint.trim_end_matches('/'))
            .with_config(
                GoogleConfigKey::Client(object_store::ClientConfigKey::AllowHttp),
                (url.scheme() == "http").to_string(),
            );
    }
    if options.flag("gs.anonymous")? == Some(true) {
        builder = builder.with_skip_signature(true).with_bearer_token("none");
    } else if let Some(file) = options.get("gs.service-account") {
        builder = builder.with_service_account_path(file);
    } else if let Some(file) = env("GOOGLE_APPLICATION_CREDENTIALS") {
        builder = builder.with_application_credentials(file);
    } else if let Some(file) = env("GOOGLE_SERVICE_ACCOUNT") {
        builder = builder.with_service_account_path(file);
    } else if let Some(key) = env("GOOGLE_SERVICE_ACCOUNT_KEY") {
        builder = builder.with_service_account_key(key);
    }
    let store = Arc::new(builder.build().map_err(|error| wrong(error.to_string()))?);
    Ok(Backend {
        objects: store.clone(),
        pages: store,
        kind: Kind::Gcs,
        bucket: bucket.to_owned(),
        address: endpoint.unwrap_or_else(|| "storage.googleapis.com".into()),
        classes: Classes {
            packs: options.get("gs.storage-class").map(str::to_owned),
            records: options.get("gs.storage-class-records").map(str::to_owned),
        },
        s3: None,
    })
}
