//! Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::failure::Kind;
use super::http::Connector;
use super::options::{OpenError, Options};
use super::settings::{self, Settings};
use super::{Backend, Classes};

/// Opens a container.
pub(super) fn open(
    container: &str,
    options: &Options,
    env: &dyn Fn(&str) -> Option<String>,
    common: Settings,
) -> Result<Backend, OpenError> {
    let wrong = |problem: String| {
        OpenError::new(format!("az://{container}"), problem, "correct the settings")
    };
    let connection = env("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default();
    let connection = |name: &str| {
        connection.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let account = options
        .get("azure.account")
        .map(str::to_owned)
        .or_else(|| env("AZURE_STORAGE_ACCOUNT"))
        .or_else(|| env("AZURE_STORAGE_ACCOUNT_NAME"))
        .or_else(|| connection("AccountName"))
        .ok_or_else(|| {
            OpenError::new(
                format!("az://{container}"),
                "the storage account is not known",
                "set --repo-option azure.account, AZURE_STORAGE_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING",
            )
        })?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_account(&account)
        .with_disable_tagging(true)
        .with_retry(common.retry)
        .with_http_connector(Connector(Arc::new(common.wire)));
    let endpoint = options
        .get("azure.endpoint")
        .map(str::to_owned)
        .or_else(|| env("AZURE_STORAGE_BLOB_ENDPOINT"))
        .or_else(|| connection("BlobEndpoint"));
    if let Some(endpoint) = &endpoint {
        let example = "https://account.blob.core.windows.net";
        let url = settings::endpoint("azure.endpoint", endpoint, example)?;
        builder = builder
            .with_endpoint(endpoint.trim_end_matches('/').to_owned())
            .with_allow_http(url.scheme() == "http");
    }
    let key = env("AZURE_STORAGE_KEY")
        .or_else(|| env("AZURE_STORAGE_ACCOUNT_KEY"))
        .or_else(|| connection("AccountKey"));
    let token = env("AZURE_STORAGE_SAS_TOKEN").or_else(|| connection("SharedAccessSignature"));
    if let Some(key) = key {
        builder = builder.with_access_key(key);
    } else if let Some(token) = token {
        builder = builder.with_config(AzureConfigKey::SasKey, token);
    }
    for (variable, key) in [
        ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
        ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
        ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
        ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            AzureConfigKey::FederatedTokenFile,
        ),
        ("AZURE_USE_AZURE_CLI", AzureConfigKey::UseAzureCli),
        ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
    ] {
        if let Some(value) = env(variable) {
            builder = builder.with_config(key, value);
        }
    }
    let store = Arc::new(builder.build().map_err(|error| wrong(error.to_string()))?);
    Ok(Backend {
        objects: store.clone(),
        pages: store,
        kind: Kind::Azure,
        bucket: container.to_owned(),
        address: endpoint.unwrap_or(account),
        classes: Classes {
            packs: options.get("azure.tier").map(str::to_owned),
            records: options.get("azure.tier-records").map(str::to_owned),
        },
        s3: None,
    })
}
