//! Where a job's secrets are kept (payload key `secrets`): one provider each, with its own words
//! (GitLab Runner 19.4, `common/spec`). Texts may refer to variables of the job; who fetches a
//! secret expands them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::lenient::or_default;
use crate::secret::Secret;

payload! {
    /// Where one secret is kept. Exactly one provider is expected; the first one in this order is
    /// used.
    pub struct SecretSpec {
        /// HashiCorp Vault or OpenBao.
        vault: Option<VaultSecret>,
        /// Google Cloud Secret Manager.
        gcp_secret_manager: Option<GcpSecret>,
        /// Azure Key Vault.
        azure_key_vault: Option<AzureSecret>,
        /// AWS Secrets Manager.
        aws_secrets_manager: Option<AwsSecret>,
        /// GitLab Secrets Manager.
        gitlab_secrets_manager: Option<GitlabSecret>,
        /// Whether the variable holds the path of a file; it does where nothing is said.
        file: Option<bool>,
    }

    /// A secret of HashiCorp Vault or OpenBao.
    pub struct VaultSecret {
        /// Which server, and who we are there.
        server: VaultServer,
        /// Which engine.
        engine: VaultEngine,
        /// Path below the engine.
        path: String,
        /// Which field of it.
        field: String,
    }

    /// A Vault server.
    pub struct VaultServer {
        /// Its address.
        url: String,
        /// A namespace of it; empty for none.
        namespace: String,
        /// The way to log in.
        auth: VaultAuth,
    }

    /// How to log in.
    pub struct VaultAuth {
        /// The method; only `jwt` is known.
        name: String,
        /// Where it is mounted.
        path: String,
        /// `jwt` and, for some, `role`.
        data: BTreeMap<String, Plain>,
    }

    /// A secrets engine.
    pub struct VaultEngine {
        /// `kv-v2`, `kv-v1` or `generic`.
        name: String,
        /// Where it is mounted.
        path: String,
    }

    /// A secret of Google Cloud.
    pub struct GcpSecret {
        /// Its name, or its whole resource name.
        name: String,
        /// Its version; empty for the latest.
        version: String,
        /// Who we are.
        server: GcpServer,
    }

    /// Workload identity federation.
    pub struct GcpServer {
        /// Number of the project.
        project_number: String,
        /// Id of the pool.
        workload_identity_federation_pool_id: String,
        /// Id of the provider.
        workload_identity_federation_provider_id: String,
        /// The token to exchange.
        jwt: Secret,
    }

    /// A secret of Azure.
    pub struct AzureSecret {
        /// Its name.
        name: String,
        /// Its version; empty for the latest.
        version: String,
        /// Which vault, and who we are.
        server: AzureServer,
    }

    /// A key vault.
    pub struct AzureServer {
        /// The application.
        client_id: String,
        /// The tenant.
        tenant_id: String,
        /// The token to exchange.
        jwt: Secret,
        /// The vault's address.
        url: String,
    }

    /// A secret of AWS.
    pub struct AwsSecret {
        /// Name or ARN.
        secret_id: String,
        /// A version; empty for none in particular.
        version_id: String,
        /// A stage; empty for none in particular.
        version_stage: String,
        /// A key of the JSON object that the secret is; empty for the whole.
        field: String,
        /// Where it is; beats the server's.
        region: String,
        /// The role to take; beats the server's.
        role_arn: String,
        /// The name of the session; beats the server's.
        role_session_name: String,
        /// Who we are.
        server: AwsServer,
    }

    /// Web identity.
    pub struct AwsServer {
        /// Where the secrets are.
        region: String,
        /// The token to exchange; without one the runner's own credentials are used.
        jwt: Secret,
        /// The role to take.
        role_arn: String,
        /// The name of the session.
        role_session_name: String,
    }

    /// A secret of GitLab's own manager.
    pub struct GitlabSecret {
        /// Which server, and who we are there.
        server: GitlabServer,
        /// Which engine.
        engine: VaultEngine,
        /// Path below the engine.
        path: String,
        /// Which field of it.
        field: String,
    }

    /// An OpenBao of GitLab.
    pub struct GitlabServer {
        /// Its address.
        url: String,
        /// How to log in.
        inline_auth: GitlabAuth,
    }

    /// How to log in there.
    pub struct GitlabAuth {
        /// The whole path of the login; empty for the usual one below `auth_mount`.
        path: String,
        /// The token.
        jwt: Secret,
        /// The role.
        role: String,
        /// Where the method is mounted.
        auth_mount: String,
    }
}

/// A text, or a number or truth value as a text. It may be a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plain(pub Secret);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Plain;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, a number or a truth value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Plain, E> {
                Ok(Plain(text.into()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
                Ok(Plain(value.to_string().into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Plain, E> {
                Ok(Plain(value.to_string().into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
                Ok(Plain(value.to_string().into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Plain, E> {
                Ok(Plain(value.to_string().into()))
            }
            fn visit_unit<E>(self) -> Result<Plain, E> {
                Ok(Plain::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
