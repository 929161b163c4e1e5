//! Where passwords come from: a file, a command, or a variable of the environment. Never from a configuration file, which
//! is copied and committed, nor from an argument, which other users of the machine could see.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file that holds it, and nothing else but the end of its line.
    File(PathBuf),
    /// A command that prints it; split as a shell splits words, but run without one.
    Command(String),
    /// A variable of the environment.
    Variable(String),
}

/// Why there is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}\nhint: {hint}")]
pub struct SecretError {
    /// Where it was looked for.
    place: String,
    detail: String,
    hint: &'static str,
}

impl Secret {
    /// The secret: one line, without its end.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Self::File(path) => {
                let place = format!("the password file {}", path.display());
                let bytes = std::fs::read(path).map_err(|error| SecretError {
                    place: place.clone(),
                    detail: error.to_string(),
                    hint: "give one that you can read",
                })?;
                line(bytes, place)
            }
            Self::Command(command) => {
                let place = format!("the password command {command:?}");
                let bytes = output(command).map_err(|detail| SecretError {
                    place: place.clone(),
                    detail,
                    hint: "give one that prints the password",
                })?;
                line(bytes, place)
            }
            Self::Variable(name) => {
                let place = format!("the environment variable {name}");
                match std::env::var(name) {
                    Ok(text) => line(text.into_bytes(), place),
                    Err(error) => Err(SecretError {
                        place,
                        detail: match error {
                            std::env::VarError::NotPresent => "is not set".to_owned(),
                            std::env::VarError::NotUnicode(_) => "is not text".to_owned(),
                        },
                        hint: "set it for the process that runs pgtide, in UTF-8",
                    }),
                }
            }
        }
    }
}

/// What a command prints; what it says on standard error is shown.
fn output(command: &str) -> Result<Vec<u8>, String> {
    let words = shell_words::split(command).map_err(|error| error.to_string())?;
    let (program, arguments) = words.split_first().ok_or("it is empty")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("it failed ({})", output.status));
    }
    Ok(output.stdout)
}

/// The secret is the one line of it.
fn line(bytes: Vec<u8>, place: String) -> Result<Zeroizing<String>, SecretError> {
    let wrong = |detail: &str, hint| SecretError {
        place: place.clone(),
        detail: detail.to_owned(),
        hint,
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        wrong("is not text", "give it in UTF-8")
    })?;
    let text = Zeroizing::new(text);
    let first = text.strip_suffix('\n').unwrap_or(&text);
    let first = first.strip_suffix('\r').unwrap_or(first);
    if first.contains('\n') {
        return Err(wrong("has more than one line", "a password is one line"));
    }
    if first.is_empty() {
        return Err(wrong("is empty", "put the password into it"));
    }
    Ok(Zeroizing::new(first.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line() {
        let read = |text: &str| line(text.as_bytes().to_vec(), "it".into());
        assert_eq!(**read("word").as_ref().unwrap(), "word");
        assert_eq!(**read(" a b \r\n").as_ref().unwrap(), " a b ");
        for wrong in ["", "\n", "a\nb\n"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(line(vec![0xff], "it".into()).is_err());
    }

    #[test]
    fn a_command_prints_it() {
        let secret = Secret::Command("printf '%s\\n' 'two words'".into());
        assert_eq!(*secret.read().unwrap(), "two words");
        let error = Secret::Command("false".into()).read().unwrap_err();
        assert!(error.to_string().contains("it failed"), "{error}");
        assert!(Secret::Command("'".into()).read().is_err());
        assert!(
            Secret::Variable("PGTIDE_NO_SUCH_VARIABLE".into())
                .read()
                .is_err()
        );
    }
}
