//! Profiles of the AWS command line: `~/.aws/config` and `~/.aws/credentials`.
//!
//! Keys and `credential_process` are used as they are. What needs a dialogue with AWS (roles of other profiles, single
//! sign-on) is left to the AWS command line, which hands out its credentials through `credential_process`, too.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ini::{Ini, ParseOption};
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, StaticCredentialProvider};
use serde::Deserialize;

use super::options::OpenError;

/// What a profile says about a store.
#[derive(Default)]
pub(super) struct Profile {
    pub credentials: Option<Credentials>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub ca_file: Option<String>,
}

/// Where its credentials come from.
pub(super) enum Credentials {
    Given(Arc<dyn CredentialProvider<Credential = AwsCredential>>),
    WebIdentity {
        token_file: String,
        role: String,
        session: Option<String>,
    },
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// Reads a profile. Without a name it is `AWS_PROFILE`'s, or `default`, which need not be there.
    pub fn load(
        name: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OpenError> {
        let wanted = name.map(str::to_owned).or_else(|| env("AWS_PROFILE"));
        let file = |variable: &str, name: &str| -> Option<PathBuf> {
            env(variable)
                .map(PathBuf::from)
                .or_else(|| Some(Path::new(&env("HOME")?).join(".aws").join(name)))
        };
        let config = read(file("AWS_CONFIG_FILE", "config"))?;
        let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
        let name = wanted.as_deref().unwrap_or("default");
        let sections = [
            credentials.section(Some(name)),
            config.section(Some(format!("profile {name}"))),
            if name == "default" {
                config.section(Some("default"))
            } else {
                None
            },
        ];
        if wanted.is_some() && sections.iter().all(Option::is_none) {
            return Err(OpenError::new(
                format!("profile {name:?}"),
                "is neither in ~/.aws/config nor in ~/.aws/credentials",
                "correct s3.profile or AWS_PROFILE, or add it with `aws configure`",
            ));
        }
        let get = |key: &str| {
            sections
                .iter()
                .flatten()
                .find_map(|section| section.get(key))
                .map(str::to_owned)
        };
        // Endpoints of services are in a section of their own.
        let service = get("services").and_then(|services| {
            let section = config.section(Some(format!("services {services}")))?;
            nested(section.get("s3")?, "endpoint_url")
        });
        Ok(Self {
            credentials: credentials_of(name, &get)?,
            region: get("region"),
            endpoint: service.or_else(|| get("endpoint_url")),
            ca_file: get("ca_bundle"),
        })
    }
}

fn credentials_of(
    name: &str,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Credentials>, OpenError> {
    if let Some(role) = get("role_arn") {
        if let Some(token_file) = get("web_identity_token_file") {
            let session = get("role_session_name");
            return Ok(Some(Credentials::WebIdentity {
                token_file,
                role,
                session,
            }));
        }
        return Err(indirect(name, "takes a role of another profile (role_arn)"));
    }
    if let (Some(key_id), Some(secret_key)) =
        (get("aws_access_key_id"), get("aws_secret_access_key"))
    {
        let token = get("aws_session_token");
        let given = AwsCredential {
            key_id,
            secret_key,
            token,
        };
        return Ok(Some(Credentials::Given(Arc::new(
            StaticCredentialProvider::new(given),
        ))));
    }
    if let Some(command) = get("credential_process") {
        let words = shell_words::split(&command)
            .ok()
            .filter(|words| !words.is_empty())
            .ok_or_else(|| {
                OpenError::new(
                    format!("profile {name:?}"),
                    "has a credential_process that is no command",
                    "correct it",
                )
            })?;
        return Ok(Some(Credentials::Given(Arc::new(Process {
            words,
            cached: tokio::sync::Mutex::new(None),
        }))));
    }
    if get("sso_session")
        .or_else(|| get("sso_start_url"))
        .is_some()
    {
        return Err(indirect(name, "uses single sign-on"));
    }
    Ok(None)
}

fn indirect(name: &str, what: &str) -> OpenError {
    OpenError::new(
        format!("profile {name:?}"),
        format!("{what}, which pgtide leaves to the AWS command line"),
        format!(
            "use a profile with the line: credential_process = aws configure export-credentials --profile {name}"
        ),
    )
}

fn read(path: Option<PathBuf>) -> Result<Ini, OpenError> {
    let Some(path) = path else {
        return Ok(Ini::new());
    };
    let wrong = |problem: String| {
        OpenError::new(
            path.display().to_string(),
            problem,
            "correct it, or its permissions",
        )
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(wrong),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ini::new()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn parse(text: &str) -> Result<Ini, String> {
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        enabled_indented_mutiline_value: true,
        ..ParseOption::default()
    };
    // The position alone: the text of an error may hold what is in the line.
    Ini::load_from_str_opt(text, options)
        .map_err(|error| format!("line {}: is not of the form KEY = VALUE", error.line))
}

/// A value of the nested settings that stand on indented lines below a key.
fn nested(value: &str, key: &str) -> Option<String> {
    value.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// Credentials that a command prints, asked for again shortly before they expire.
struct Process {
    words: Vec<String>,
    cached: tokio::sync::Mutex<Option<(Arc<AwsCredential>, Option<jiff::Timestamp>)>>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("program", &self.words.first())
            .finish_non_exhaustive()
    }
}

/// What the command prints: version 1 of the format that the AWS SDKs define.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<jiff::Timestamp>,
}

/// So long before they expire credentials are renewed.
const MARGIN: Duration = Duration::from_secs(5 * 60);

#[async_trait::async_trait]
impl CredentialProvider for Process {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        if let Some((credential, expires)) = &*cached
            && expires.is_none_or(|expires| jiff::Timestamp::now() + MARGIN < expires)
        {
            return Ok(Arc::clone(credential));
        }
        let words = self.words.clone();
        let printed = tokio::task::spawn_blocking(move || run(&words))
            .await
            .map_err(|error| error.to_string())
            .and_then(|printed| printed)
            .map_err(|detail| object_store::Error::Unauthenticated {
                path: "credential_process".into(),
                source: detail.into(),
            })?;
        let credential = Arc::new(AwsCredential {
            key_id: printed.access_key_id,
            secret_key: printed.secret_access_key,
            token: printed.session_token,
        });
        *cached = Some((Arc::clone(&credential), printed.expiration));
        Ok(credential)
    }
}

fn run(words: &[String]) -> Result<Printed, String> {
    let (program, arguments) = words.split_first().ok_or("credential_process is empty")?;
    let output = Command::new(program)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("credential_process {program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("credential_process {program}: {}", output.status));
    }
    // What it printed is a secret: it is in no error.
    serde_json::from_slice::<Printed>(&output.stdout)
        .ok()
        .filter(|printed| printed.version == 1)
        .ok_or_else(|| format!("credential_process {program} did not print credentials"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(config: &str, credentials: &str, name: Option<&str>) -> Result<Profile, OpenError> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("config"), config).unwrap();
        std::fs::write(path("credentials"), credentials).unwrap();
        let env = |variable: &str| match variable {
            "AWS_CONFIG_FILE" => Some(path("config")),
            "AWS_SHARED_CREDENTIALS_FILE" => Some(path("credentials")),
            _ => None,
        };
        Profile::load(name, &env)
    }

    fn key(profile: &Profile) -> Arc<AwsCredential> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        match profile.credentials.as_ref().unwrap() {
            Credentials::Given(given) => runtime.block_on(given.get_credential()).unwrap(),
            Credentials::WebIdentity { .. } => panic!("a web identity"),
        }
    }

    #[test]
    fn a_profile_is_read_from_both_files() {
        let config = "[default]\nregion = eu-central-1\n\n[profile night]\nregion=us-west-2\nendpoint_url = http://localhost:9000\n";
        let credentials = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key = s\\=#e'cret\n\n\
            [night]\naws_access_key_id=N\naws_secret_access_key=n\naws_session_token=t\n";
        let default = load(config, credentials, None).unwrap();
        assert_eq!(default.region.as_deref(), Some("eu-central-1"));
        assert_eq!(key(&default).secret_key, "s\\=#e'cret");
        let night = load(config, credentials, Some("night")).unwrap();
        assert_eq!(night.endpoint.as_deref(), Some("http://localhost:9000"));
        assert_eq!(key(&night).token.as_deref(), Some("t"));
    }

    #[test]
    fn a_profile_that_was_asked_for_must_be_there_and_default_need_not() {
        assert!(load("", "", None).unwrap().credentials.is_none());
        assert!(
            load("", "", Some("night"))
                .unwrap_err()
                .to_string()
                .contains("night")
        );
    }

    #[test]
    fn the_endpoint_of_a_service_is_found() {
        let config = "[profile p]\nservices = mine\nendpoint_url = http://all\n[services mine]\ns3 =\n  endpoint_url = http://s3\n";
        assert_eq!(
            load(config, "", Some("p")).unwrap().endpoint.as_deref(),
            Some("http://s3")
        );
    }

    #[test]
    fn what_needs_the_aws_command_line_says_how() {
        for config in [
            "[profile p]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = default\n",
            "[profile p]\nsso_session = x\n",
        ] {
            let error = load(config, "", Some("p")).unwrap_err().to_string();
            assert!(
                error.contains("aws configure export-credentials --profile p"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_command_hands_out_credentials_and_its_output_is_in_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let print = |text: &str| {
            let file = dir.path().join("printed");
            std::fs::write(&file, text).unwrap();
            load(
                &format!(
                    "[profile p]\ncredential_process = cat '{}'\n",
                    file.display()
                ),
                "",
                Some("p"),
            )
            .unwrap()
        };
        let profile = print(r#"{"Version": 1, "AccessKeyId": "P", "SecretAccessKey": "secret"}"#);
        assert_eq!(key(&profile).key_id, "P");
        let profile = print(r#"{"Version": 2, "AccessKeyId": "P", "SecretAccessKey": "secret"}"#);
        let Some(Credentials::Given(given)) = &profile.credentials else {
            panic!()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let error = runtime.block_on(given.get_credential()).unwrap_err();
        let error = format!("{error} {error:?}");
        assert!(
            error.contains("did not print credentials") && !error.contains("secret\""),
            "{error}"
        );
    }

    #[test]
    fn a_line_that_is_wrong_is_not_printed() {
        let error = load("[profile p]\nsecret words\n[", "", Some("p"))
            .unwrap_err()
            .to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
