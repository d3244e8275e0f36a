//! GitLab Secrets Manager: an OpenBao of GitLab's own. Nothing of its payload is expanded (GitLab
//! Runner 19.4).

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Secret;
use gantry_core::job::GitlabSecret;

use crate::Store;
use crate::error::SecretError;
use crate::vault::Vault;
use crate::world::World;

/// A secret of GitLab.
pub(crate) struct Gitlab(Vault);

impl Gitlab {
    pub(crate) fn new(secret: &GitlabSecret) -> Self {
        Self(Vault::of_gitlab(secret))
    }
}

impl Store for Gitlab {
    fn provider(&self) -> &'static str {
        "gitlab_secrets_manager"
    }

    fn fetch<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<Secret, SecretError>> {
        self.0.get(world).boxed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::stub::{Stub, fetch};

    #[tokio::test]
    async fn nothing_is_expanded_and_only_texts_count() {
        let secret = json!({"gitlab_secrets_manager": {
            "server": {"url": "https://bao.test", "inline_auth": {"jwt": "canary-jwt", "role": "project_1", "auth_mount": "pipeline_jwt"}},
            "engine": {"name": "kv-v2", "path": "secrets/kv"}, "path": "explicit/$X", "field": "value",
        }});
        let read = "GET https://bao.test/v1/secrets/kv/data/explicit/%24X";
        let login = "POST https://bao.test/v1/auth/pipeline_jwt/login";
        let stub = || Stub::new(&[("X", "expanded")]).answers(login, 200, r#"{"auth": {"client_token": "t"}}"#);
        let good = stub().answers(read, 200, r#"{"data": {"data": {"value": "s3cret"}}}"#);
        assert_eq!(fetch(&good, &secret).await.unwrap().expose(), "s3cret");
        let number = stub().answers(read, 200, r#"{"data": {"data": {"value": 7}}}"#);
        assert!(fetch(&number, &secret).await.unwrap_err().to_string().contains("is not a text"));
    }
}
