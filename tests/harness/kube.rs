//! The API server as tests use it: as its administrator, and to make accounts with few rights.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http;

/// Name of the account that runners use.
pub const ACCOUNT: &str = "runner";

/// Lifetime of an account's token in seconds: longer than any test run.
const TOKEN_SECONDS: u32 = 7200;

/// An API server, and who asks it.
#[derive(Clone, Debug)]
pub struct Kube {
    http: reqwest::Client,
    /// For watches.
    patient: reqwest::Client,
    url: String,
    token: String,
    ca_pem: String,
}

impl Kube {
    /// The cluster of a kubeconfig written as JSON with certificate and token in it.
    ///
    /// # Errors
    /// The file cannot be read or lacks something.
    pub fn from_kubeconfig(path: &Path) -> anyhow::Result<Self> {
        let config: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let text = |pointer: &str| {
            config.pointer(pointer).and_then(Value::as_str).with_context(|| format!("the kubeconfig has no {pointer}"))
        };
        let ca = BASE64_STANDARD.decode(text("/clusters/0/cluster/certificate-authority-data")?)?;
        let ca_pem = String::from_utf8(ca)?;
        let http = http::client(Some(&ca_pem))?;
        let patient = http::patient_client(Some(&ca_pem))?;
        let (url, token) = (text("/clusters/0/cluster/server")?.to_owned(), text("/users/0/user/token")?.to_owned());
        Ok(Self { http, patient, url, token, ca_pem })
    }

    /// The same server, asked with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate that signed the server's.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// One request; the status and the answer.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    async fn must(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(method.clone(), path, body).await?;
        anyhow::ensure!(status.is_success(), "{method} {path}: {status}: {answer}");
        Ok(answer)
    }

    /// A request whose answer does not end, such as a watch.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn stream(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = self.patient.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?)
    }

    /// Makes a namespace with a service account that may do exactly what the first users of the product give it, and returns a token of it.
    ///
    /// # Errors
    /// Something of it exists already.
    pub async fn account(&self, namespace: &str) -> anyhow::Result<String> {
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let core = format!("/api/v1/namespaces/{namespace}");
        let rules = json!([{
            "apiGroups": [""],
            "resources": ["pods", "pods/exec"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        }]);
        let name = json!({"name": ACCOUNT, "namespace": namespace});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT});
        let subjects = json!([{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}]);
        self.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await?;
        self.create(&format!("{core}/serviceaccounts"), &json!({"metadata": name})).await?;
        self.create(&format!("{rbac}/roles"), &json!({"metadata": name, "rules": rules})).await?;
        let binding = json!({"metadata": name, "roleRef": role, "subjects": subjects});
        self.create(&format!("{rbac}/rolebindings"), &binding).await?;
        let request = json!({"spec": {"expirationSeconds": TOKEN_SECONDS}});
        let answer = self.create(&format!("{core}/serviceaccounts/{ACCOUNT}/token"), &request).await?;
        Ok(answer
            .pointer("/status/token")
            .and_then(Value::as_str)
            .context("a TokenRequest without a token")?
            .to_owned())
    }

    async fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        self.must(Method::POST, path, Some(object)).await
    }

    /// The pods of a namespace.
    ///
    /// # Errors
    /// They may not be listed.
    pub async fn pods(&self, namespace: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.must(Method::GET, &format!("/api/v1/namespaces/{namespace}/pods"), None).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Deletes a pod at once.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn delete_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.must(Method::DELETE, &path, Some(&json!({"gracePeriodSeconds": 0}))).await.map(drop)
    }

    /// Lets the simulated node end a pod for want of disk.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn evict(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        self.must(Method::POST, &format!("/sim/pods/{namespace}/{name}/evict"), None).await.map(drop)
    }

    /// Lets the simulated kernel end a container for want of memory.
    ///
    /// # Errors
    /// There is no such pod or container.
    pub async fn out_of_memory(&self, namespace: &str, name: &str, container: &str) -> anyhow::Result<()> {
        let path = format!("/sim/pods/{namespace}/{name}/oom");
        self.must(Method::POST, &path, Some(&json!({"container": container}))).await.map(drop)
    }
}
