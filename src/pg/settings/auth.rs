//! Which ways of authentication the user allows: `require_auth` and `channel_binding`.

use super::{SettingsError, Values, choice, set};

/// A way the server may ask us to prove who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum AuthMethod {
    None,
    Password,
    Md5,
    Scram,
    Gss,
    Sspi,
    Oauth,
}

impl AuthMethod {
    const NAMES: &[(&str, AuthMethod)] = &[
        ("none", AuthMethod::None),
        ("password", AuthMethod::Password),
        ("md5", AuthMethod::Md5),
        ("scram-sha-256", AuthMethod::Scram),
        ("gss", AuthMethod::Gss),
        ("sspi", AuthMethod::Sspi),
        ("oauth", AuthMethod::Oauth),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum ChannelBindingRule {
    Prefer,
    Disable,
    Require,
}

#[derive(Debug, Clone)]
pub(in crate::pg) struct AuthRules {
    pub channel_binding: ChannelBindingRule,
    /// The value of `require_auth`, for messages.
    pub required: String,
    methods: Vec<AuthMethod>,
    negated: bool,
}

impl AuthRules {
    pub(super) fn new(values: &Values) -> Result<AuthRules, SettingsError> {
        let mut rules = AuthRules {
            channel_binding: choice(
                values,
                "channel_binding",
                &[
                    ("prefer", ChannelBindingRule::Prefer),
                    ("disable", ChannelBindingRule::Disable),
                    ("require", ChannelBindingRule::Require),
                ],
            )?,
            required: String::new(),
            methods: Vec::new(),
            negated: true,
        };
        let Some(text) = set(values, "require_auth") else {
            return Ok(rules);
        };
        rules.required = text.to_owned();
        for (i, item) in text.split(',').enumerate() {
            let (negated, name) = match item.strip_prefix('!') {
                Some(name) => (true, name),
                None => (false, item),
            };
            if i == 0 {
                rules.negated = negated;
            } else if rules.negated != negated {
                return Err(SettingsError::Conflict(format!(
                    "{} require_auth method \"{item}\" cannot be mixed with {} methods",
                    if negated { "negative" } else { "positive" },
                    if negated { "non-negative" } else { "negative" },
                )));
            }
            let known = AuthMethod::NAMES.iter().find(|(known, _)| *known == name);
            let Some((_, method)) = known else {
                return Err(SettingsError::InvalidValue {
                    name: "require_auth",
                    value: text.to_owned(),
                    expected: names(),
                });
            };
            if rules.methods.contains(method) {
                return Err(SettingsError::Conflict(format!(
                    "require_auth method \"{item}\" is specified more than once"
                )));
            }
            rules.methods.push(*method);
        }
        Ok(rules)
    }

    /// Whether the user lets the server use this method.
    pub fn allows(&self, method: AuthMethod) -> bool {
        self.methods.contains(&method) != self.negated
    }
}

fn names() -> String {
    let names: Vec<&str> = AuthMethod::NAMES.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<AuthRules, SettingsError> {
        AuthRules::new(&Values::from([("require_auth", text.to_owned())]))
    }

    #[test]
    fn lists_allow_and_negated_lists_forbid() {
        let any = rules("").unwrap();
        assert!(any.allows(AuthMethod::None) && any.allows(AuthMethod::Password));
        let some = rules("scram-sha-256,md5").unwrap();
        assert!(some.allows(AuthMethod::Scram) && !some.allows(AuthMethod::Password));
        assert!(!some.allows(AuthMethod::None));
        let not = rules("!password,!none").unwrap();
        assert!(not.allows(AuthMethod::Md5) && !not.allows(AuthMethod::None));
        for bad in [
            "md5,!password",
            "!md5,password",
            "x",
            "md5,md5",
            "md5,",
            "!",
        ] {
            assert!(rules(bad).is_err(), "{bad}");
        }
    }
}
