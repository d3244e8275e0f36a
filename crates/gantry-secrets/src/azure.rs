//! Azure Key Vault, by a federated credential of an application.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Secret;
use gantry_core::job::AzureSecret;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::Store;
use crate::ask::Question;
use crate::error::SecretError;
use crate::text::{below, form, segment, server};
use crate::world::World;

/// Where tokens are given, where the variable of Azure's own kits names no other cloud.
const AUTHORITY: &str = "https://login.microsoftonline.com";
const AUTHORITY_VARIABLE: &str = "AZURE_AUTHORITY_HOST";
const API_VERSION: &str = "7.4";

/// A secret of Azure.
pub(crate) struct Azure {
    who: String,
    name: String,
    version: String,
    jwt: Secret,
    url: String,
    client_id: String,
    tenant_id: String,
}

impl Azure {
    /// Only name, version and token are expanded (GitLab Runner 19.4).
    pub(crate) fn new(secret: &AzureSecret, expand: &dyn Fn(&str) -> String) -> Self {
        let place = &secret.server;
        Self {
            who: format!("Azure Key Vault {}", server(&place.url)),
            name: expand(&secret.name),
            version: expand(&secret.version),
            jwt: expand(place.jwt.expose()).into(),
            url: place.url.clone(),
            client_id: place.client_id.clone(),
            tenant_id: place.tenant_id.clone(),
        }
    }

    async fn get(&self, world: &World) -> Result<Secret, SecretError> {
        if self.jwt.is_empty() {
            let what = "there is no jwt to log in with: add id_tokens to the job and name one as `token` of the secret";
            return Err(SecretError::Settings(format!("{}: {what}", self.who)));
        }
        let token = self.login(world).await?;
        let path = format!("secrets/{}/{}", self.name, self.version);
        let question = Question {
            who: &self.who,
            wish: "the read of the secret",
            method: Method::GET,
            url: format!("{}?api-version={API_VERSION}", below(&self.url, &path)),
            headers: vec![("Authorization", format!("Bearer {}", token.expose()))],
            body: String::new(),
        };
        let answer = question.any(world).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(SecretError::Missing { who: self.who.clone(), what: format!("secret {:?}", self.name) });
        }
        if !answer.status.is_success() {
            return Err(question.refused(&answer));
        }
        let answer: Value = serde_json::from_str(&answer.text).map_err(|_| question.odd("it is not JSON"))?;
        answer["value"].as_str().map(Secret::new).ok_or_else(|| question.odd("it holds no value"))
    }

    async fn login(&self, world: &World) -> Result<Secret, SecretError> {
        let authority = world.get(AUTHORITY_VARIABLE).unwrap_or_else(|| AUTHORITY.to_owned());
        let body = form(&[
            ("client_id", &self.client_id),
            ("scope", &self.scope()),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", self.jwt.expose()),
            ("grant_type", "client_credentials"),
        ]);
        let question = Question {
            who: "Azure's token service",
            wish: "the login",
            method: Method::POST,
            url: below(&authority, &format!("{}/oauth2/v2.0/token", segment(&self.tenant_id))),
            headers: vec![("Content-Type", "application/x-www-form-urlencoded".to_owned())],
            body,
        };
        let answer = question.json(world).await?;
        answer["access_token"].as_str().map(Secret::new).ok_or_else(|| question.odd("it holds no token"))
    }

    /// Each cloud has its own name for all of its vaults: what follows the vault's own.
    fn scope(&self) -> String {
        let host = server(&self.url);
        let cloud = host.split_once('.').map_or("vault.azure.net", |(_, cloud)| cloud);
        format!("https://{cloud}/.default")
    }
}

impl Store for Azure {
    fn provider(&self) -> &'static str {
        "azure_key_vault"
    }

    fn fetch<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<Secret, SecretError>> {
        self.get(world).boxed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::stub::{Stub, fetch};

    #[tokio::test]
    async fn a_login_and_a_read() {
        let secret = json!({"azure_key_vault": {"name": "$NAME", "version": "", "server":
            {"client_id": "app", "tenant_id": "tenant", "jwt": "$TOKEN", "url": "https://shop.vault.azure.cn"}}});
        let stub = Stub::new(&[("TOKEN", "canary-jwt"), ("NAME", "db")])
            .answers(
                "POST https://login.microsoftonline.com/tenant/oauth2/v2.0/token",
                200,
                r#"{"access_token": "canary-access"}"#,
            )
            .answers("GET https://shop.vault.azure.cn/secrets/db?api-version=7.4", 200, r#"{"value": "s3cret"}"#);
        assert_eq!(fetch(&stub, &secret).await.unwrap().expose(), "s3cret");
        let login = stub.request(0).body;
        assert!(login.contains("scope=https%3A%2F%2Fvault.azure.cn%2F.default&"), "{login}");
        assert!(login.contains("client_assertion=canary-jwt") && login.contains("client_id=app"), "{login}");
    }
}
