//! HashiCorp Vault and OpenBao: a login with a JWT, then a read of a key-value engine of version 1
//! or 2.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Secret;
use gantry_core::job::VaultSecret;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::Store;
use crate::ask::Question;
use crate::error::SecretError;
use crate::text::{below, plain, server};
use crate::world::World;

/// A secret of Vault.
pub(crate) struct Vault {
    who: String,
    url: String,
    namespace: String,
    method: String,
    login_path: String,
    jwt: Secret,
    role: String,
    engine: String,
    engine_path: String,
    path: String,
    field: String,
    /// Whether only texts are secrets.
    only_texts: bool,
}

impl Vault {
    pub(crate) fn new(secret: &VaultSecret, expand: &dyn Fn(&str) -> String) -> Self {
        let VaultSecret { server: place, engine, path, field } = secret;
        let data = |key: &str| place.auth.data.get(key).map(|value| expand(value.0.expose())).unwrap_or_default();
        let url = expand(&place.url);
        Self {
            who: format!("Vault at {}", server(&url)),
            url,
            namespace: expand(&place.namespace),
            method: expand(&place.auth.name),
            login_path: format!("auth/{}/login", expand(&place.auth.path).trim_matches('/')),
            jwt: data("jwt").into(),
            role: data("role"),
            engine: expand(&engine.name),
            engine_path: expand(&engine.path),
            path: expand(path),
            field: expand(field),
            only_texts: false,
        }
    }

    /// GitLab's own manager, which is one of these.
    pub(crate) fn of_gitlab(secret: &gantry_core::job::GitlabSecret) -> Self {
        let auth = &secret.server.inline_auth;
        let usual = format!("auth/{}/login", auth.auth_mount.trim_matches('/'));
        Self {
            who: format!("GitLab Secrets Manager at {}", server(&secret.server.url)),
            url: secret.server.url.clone(),
            namespace: String::new(),
            method: "jwt".to_owned(),
            login_path: if auth.path.is_empty() { usual } else { auth.path.clone() },
            jwt: auth.jwt.clone(),
            role: auth.role.clone(),
            engine: secret.engine.name.clone(),
            engine_path: secret.engine.path.clone(),
            path: secret.path.clone(),
            field: secret.field.clone(),
            only_texts: true,
        }
    }

    pub(crate) async fn get(&self, world: &World) -> Result<Secret, SecretError> {
        let read_path = self.read_path()?;
        let token = self.login(world).await?;
        let mut question = self.question("the read of the secret", Method::GET, &read_path);
        question.headers.push(("X-Vault-Token", token.expose().to_owned()));
        let answer = question.any(world).await?;
        // With an empty list of errors Vault says that there is nothing; with words, that the
        // engine is not there.
        if answer.status == StatusCode::NOT_FOUND && !answer.text.contains("no handler") {
            return Err(self.missing());
        }
        if !answer.status.is_success() {
            return Err(question.refused(&answer));
        }
        let answer: Value = serde_json::from_str(&answer.text).map_err(|_| question.odd("it is not JSON"))?;
        let data = if self.is_versioned() { &answer["data"]["data"] } else { &answer["data"] };
        let value = &data[self.field.as_str()];
        if self.only_texts && !matches!(value, Value::String(_) | Value::Null) {
            return Err(question.odd("the value of the secret is not a text"));
        }
        plain(value).map(Secret::new).ok_or_else(|| self.missing())
    }

    fn is_versioned(&self) -> bool {
        self.engine == "kv-v2"
    }

    fn read_path(&self) -> Result<String, SecretError> {
        let Self { method, engine, engine_path, path, .. } = self;
        let wrong = |what: String| Err(SecretError::Settings(format!("{}: {what}", self.who)));
        if method != "jwt" {
            return wrong(format!("its auth method {method:?} is not known; only jwt is"));
        }
        if self.jwt.is_empty() {
            return wrong(
                "there is no jwt to log in with: add id_tokens to the job and name one as `token` of the secret"
                    .to_owned(),
            );
        }
        let middle = match engine.as_str() {
            "kv-v2" => "/data",
            "kv-v1" | "generic" => "",
            other => return wrong(format!("its engine {other:?} is not known; kv-v2, kv-v1 and generic are")),
        };
        Ok(format!("{}{middle}/{}", engine_path.trim_matches('/'), path.trim_matches('/')))
    }

    async fn login(&self, world: &World) -> Result<Secret, SecretError> {
        let mut body = json!({"jwt": self.jwt.expose()});
        if !self.role.is_empty() {
            body["role"] = json!(self.role);
        }
        let question =
            Question { body: body.to_string(), ..self.question("the login", Method::POST, &self.login_path) };
        let answer = question.json(world).await?;
        let token = answer["auth"]["client_token"].as_str().filter(|token| !token.is_empty());
        token.map(Secret::new).ok_or_else(|| question.odd("it holds no token"))
    }

    fn question(&self, wish: &'static str, method: Method, path: &str) -> Question<'_> {
        let url = below(&self.url, &format!("v1/{}", path.trim_matches('/')));
        let mut headers = vec![("X-Vault-Request", "true".to_owned())];
        if method == Method::POST {
            headers.push(("Content-Type", "application/json".to_owned()));
        }
        if !self.namespace.is_empty() {
            headers.push(("X-Vault-Namespace", self.namespace.clone()));
        }
        Question { who: &self.who, wish, method, url, headers, body: String::new() }
    }

    fn missing(&self) -> SecretError {
        let what = format!("field {:?} at {:?} of the engine {:?}", self.field, self.path, self.engine_path);
        SecretError::Missing { who: self.who.clone(), what }
    }
}

impl Store for Vault {
    fn provider(&self) -> &'static str {
        "vault"
    }

    fn fetch<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<Secret, SecretError>> {
        self.get(world).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::stub::{Stub, fetch, spec};

    fn secret(engine: &str) -> Value {
        json!({"vault": {
            "server": {"url": "https://vault.test:8200/", "namespace": "team", "auth":
                {"name": "jwt", "path": "gitlab", "data": {"jwt": "$ID_TOKEN", "role": "deploy", "ttl": 5}}},
            "engine": {"name": engine, "path": "ops"},
            "path": "$ENV/db", "field": "password",
        }})
    }

    fn vault() -> Stub {
        Stub::new(&[("ID_TOKEN", "canary-jwt"), ("ENV", "prod")]).answers(
            "POST https://vault.test:8200/v1/auth/gitlab/login",
            200,
            r#"{"auth": {"client_token": "canary-token"}}"#,
        )
    }

    #[tokio::test]
    async fn both_versions_of_the_engine() {
        let stub = vault()
            .answers(
                "GET https://vault.test:8200/v1/ops/data/prod/db",
                200,
                r#"{"data": {"data": {"password": "two"}}}"#,
            )
            .answers("GET https://vault.test:8200/v1/ops/prod/db", 200, r#"{"data": {"password": 1}}"#);
        assert_eq!(fetch(&stub, &secret("kv-v2")).await.unwrap().expose(), "two");
        assert_eq!(fetch(&stub, &secret("kv-v1")).await.unwrap().expose(), "1");
        assert_eq!(fetch(&stub, &secret("generic")).await.unwrap().expose(), "1");
        let (login, read) = (stub.request(0), stub.request(1));
        assert_eq!(serde_json::from_str::<Value>(&login.body).unwrap(), json!({"jwt": "canary-jwt", "role": "deploy"}));
        assert_eq!(login.header("x-vault-namespace"), "team");
        assert_eq!((read.header("x-vault-token"), read.header("x-vault-namespace")), ("canary-token", "team"));
    }

    #[tokio::test]
    async fn one_sentence_per_failure() {
        let read = "GET https://vault.test:8200/v1/ops/data/prod/db";
        for (status, answer, kind, words) in [
            (
                404,
                r#"{"errors": []}"#,
                Kind::Configuration,
                "has no field \"password\" at \"prod/db\" of the engine \"ops\"",
            ),
            (200, r#"{"data": {"data": {"user": "x"}}}"#, Kind::Configuration, "has no field \"password\""),
            (
                403,
                r#"{"errors": ["permission denied"]}"#,
                Kind::Configuration,
                "answered the read of the secret with status 403 Forbidden: permission denied",
            ),
            (
                503,
                r#"{"errors": ["Vault is sealed"]}"#,
                Kind::Dependency,
                "status 503 Service Unavailable: Vault is sealed",
            ),
            (200, "<html>", Kind::Dependency, "it is not JSON"),
        ] {
            let error = fetch(&vault().answers(read, status, answer), &secret("kv-v2")).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.kind(), kind, "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        let error = fetch(&Stub::new(&[]), &secret("kv-v2")).await.unwrap_err().to_string();
        assert!(error.contains("there is no jwt to log in with"), "{error}");
        let error = fetch(&vault(), &secret("transit")).await.unwrap_err().to_string();
        assert!(error.contains("its engine \"transit\" is not known"), "{error}");
        assert!(spec(&json!({"akeyless": {}})).vault.is_none());
    }
}
