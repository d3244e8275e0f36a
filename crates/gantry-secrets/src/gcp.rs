//! Google Cloud Secret Manager, by workload identity federation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Secret;
use gantry_core::job::GcpSecret;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::Store;
use crate::ask::Question;
use crate::error::SecretError;
use crate::text::below;
use crate::world::World;

const WHO: &str = "Google Secret Manager";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A secret of Google Cloud.
pub(crate) struct Gcp {
    name: String,
    version: String,
    project: String,
    pool: String,
    provider: String,
    jwt: Secret,
}

impl Gcp {
    pub(crate) fn new(secret: &GcpSecret, expand: &dyn Fn(&str) -> String) -> Self {
        let server = &secret.server;
        let version = expand(&secret.version);
        Self {
            name: expand(&secret.name),
            version: if version.is_empty() { "latest".to_owned() } else { version },
            project: expand(&server.project_number),
            pool: expand(&server.workload_identity_federation_pool_id),
            provider: expand(&server.workload_identity_federation_provider_id),
            jwt: expand(server.jwt.expose()).into(),
        }
    }

    async fn get(&self, world: &World) -> Result<Secret, SecretError> {
        if self.jwt.is_empty() {
            let what = "there is no jwt to exchange: add id_tokens to the job and name one as `token` of the secret";
            return Err(SecretError::Settings(format!("{WHO}: {what}")));
        }
        let token = self.exchange(world).await?;
        // A whole resource name may belong to another project.
        let resource = if self.name.contains('/') {
            self.name.trim_matches('/').to_owned()
        } else {
            format!("projects/{}/secrets/{}", self.project, self.name)
        };
        let question = Question {
            who: WHO,
            wish: "the read of the secret",
            method: Method::GET,
            url: below(&world.google.secrets, &format!("v1/{resource}/versions/{}:access", self.version)),
            headers: vec![("Authorization", format!("Bearer {}", token.expose()))],
            body: String::new(),
        };
        let answer = question.any(world).await?;
        if answer.status == StatusCode::NOT_FOUND {
            let what = format!("version {:?} of {resource}", self.version);
            return Err(SecretError::Missing { who: WHO.to_owned(), what });
        }
        if !answer.status.is_success() {
            return Err(question.refused(&answer));
        }
        let answer: Value = serde_json::from_str(&answer.text).map_err(|_| question.odd("it is not JSON"))?;
        let data = answer["payload"]["data"].as_str().ok_or_else(|| question.odd("it holds no data"))?;
        let bytes = STANDARD.decode(data).map_err(|_| question.odd("its data is not base64"))?;
        String::from_utf8(bytes).map(Secret::new).map_err(|_| question.odd("the secret is not UTF-8"))
    }

    async fn exchange(&self, world: &World) -> Result<Secret, SecretError> {
        let audience = format!(
            "//iam.googleapis.com/projects/{}/locations/global/workloadIdentityPools/{}/providers/{}",
            self.project, self.pool, self.provider
        );
        let body = json!({
            "audience": audience,
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
            "scope": SCOPE,
            "subjectToken": self.jwt.expose(),
            "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
        });
        let question = Question {
            who: "Google's token service",
            wish: "the exchange of the job's token",
            method: Method::POST,
            url: below(&world.google.sts, "v1/token"),
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: body.to_string(),
        };
        let answer = question.json(world).await?;
        answer["access_token"].as_str().map(Secret::new).ok_or_else(|| question.odd("it holds no token"))
    }
}

impl Store for Gcp {
    fn provider(&self) -> &'static str {
        "gcp_secret_manager"
    }

    fn fetch<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<Secret, SecretError>> {
        self.get(world).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::{Stub, fetch};

    fn secret(name: &str) -> Value {
        json!({"gcp_secret_manager": {"name": name, "version": "", "server": {
            "project_number": "42", "workload_identity_federation_pool_id": "pool",
            "workload_identity_federation_provider_id": "gitlab", "jwt": "$TOKEN"}}})
    }

    #[tokio::test]
    async fn a_token_is_exchanged_and_the_latest_version_read() {
        let stub = Stub::new(&[("TOKEN", "canary-jwt")])
            .answers("POST https://sts.googleapis.com/v1/token", 200, r#"{"access_token": "canary-access"}"#)
            .answers(
                "GET https://secretmanager.googleapis.com/v1/projects/42/secrets/db/versions/latest:access",
                200,
                r#"{"payload": {"data": "czNjcmV0"}}"#,
            )
            .answers(
                "GET https://secretmanager.googleapis.com/v1/projects/7/secrets/x/versions/latest:access",
                404,
                r#"{"error": {"message": "not found"}}"#,
            );
        assert_eq!(fetch(&stub, &secret("db")).await.unwrap().expose(), "s3cret");
        let body: Value = serde_json::from_str(&stub.request(0).body).unwrap();
        assert_eq!(
            body["audience"],
            "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/providers/gitlab"
        );
        assert_eq!(body["subjectToken"], "canary-jwt");
        assert_eq!(stub.request(1).header("authorization"), "Bearer canary-access");
        let error = fetch(&stub, &secret("projects/7/secrets/x")).await.unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("projects/7/secrets/x"), "{error}");
    }
}
