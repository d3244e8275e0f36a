//! The two services of AWS that keep secrets, and what is different about them. GitLab's payload
//! knows Secrets Manager only; the ARN of a parameter, which that would refuse, leads to the
//! Parameter Store.

use serde_json::{Value, json};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    SecretsManager,
    ParameterStore,
}

impl Service {
    /// The one that keeps what is named so.
    pub(super) fn of(secret_id: &str) -> Self {
        // `arn:partition:ssm:region:account:parameter/name`.
        let mut parts = secret_id.split(':');
        let is_parameter = parts.next() == Some("arn") && parts.nth(1) == Some("ssm");
        if is_parameter { Self::ParameterStore } else { Self::SecretsManager }
    }

    /// The region that an ARN names.
    pub(super) fn region(secret_id: &str) -> Option<String> {
        let named = secret_id.strip_prefix("arn:")?.split(':').nth(2)?;
        (!named.is_empty()).then(|| named.to_owned())
    }

    /// For errors.
    pub(super) fn who(self) -> &'static str {
        match self {
            Self::SecretsManager => super::WHO,
            Self::ParameterStore => "AWS Parameter Store",
        }
    }

    /// The name of the service in its host and in signatures.
    pub(super) fn host(self) -> &'static str {
        match self {
            Self::SecretsManager => "secretsmanager",
            Self::ParameterStore => "ssm",
        }
    }

    /// Behind `AWS_ENDPOINT_URL_`.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::SecretsManager => "SECRETS_MANAGER",
            Self::ParameterStore => "SSM",
        }
    }

    /// The action.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::SecretsManager => "secretsmanager.GetSecretValue",
            Self::ParameterStore => "AmazonSSM.GetParameter",
        }
    }

    /// What is asked for. A parameter's version, or the label of one, is behind its name.
    pub(super) fn body(self, secret_id: &str, version: &str, stage: &str) -> Value {
        match self {
            Self::SecretsManager => {
                let mut body = json!({"SecretId": secret_id});
                for (key, value) in [("VersionId", version), ("VersionStage", stage)] {
                    if !value.is_empty() {
                        body[key] = json!(value);
                    }
                }
                body
            }
            Self::ParameterStore => {
                let selector = [version, stage].into_iter().find(|selector| !selector.is_empty());
                let selector = selector.map(|selector| format!(":{selector}")).unwrap_or_default();
                json!({"Name": format!("{secret_id}{selector}"), "WithDecryption": true})
            }
        }
    }

    /// Whether an answer says that there is none of that name.
    pub(super) fn is_missing(self, answer: &str) -> bool {
        match self {
            Self::SecretsManager => answer.contains("ResourceNotFoundException"),
            Self::ParameterStore => answer.contains("ParameterNotFound") || answer.contains("ParameterVersionNotFound"),
        }
    }

    /// The secret in an answer.
    pub(super) fn value(self, answer: &Value) -> Option<&str> {
        match self {
            Self::SecretsManager => answer["SecretString"].as_str(),
            Self::ParameterStore => answer["Parameter"]["Value"].as_str(),
        }
    }
}
