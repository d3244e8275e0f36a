//! The API server as tests use it: as its administrator, and to make accounts with few rights.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams};
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::until::until;

/// Whatever can be asked for an object.
pub const ALL_VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// Name of the account that runners use.
pub const ACCOUNT: &str = "runner";

/// Lifetime of an account's token in seconds: longer than any test run.
const TOKEN_SECONDS: u32 = 7200;

/// Longer than any answer takes that ends.
const LIMIT: Duration = Duration::from_secs(30);

/// An API server, and who asks it.
#[derive(Clone)]
pub struct Kube {
    client: kube::Client,
    /// Has connections of its own: API servers of 1.20 close one without a word after an exec that
    /// they could not pass on, and another request that it is taken for would be lost.
    exec_client: kube::Client,
    config: kube::Config,
    url: String,
    ca_pem: String,
}

impl std::fmt::Debug for Kube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kube").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Kube {
    /// The cluster and the user of a kubeconfig's current context.
    ///
    /// # Errors
    /// The file cannot be read or lacks something.
    pub async fn from_kubeconfig(path: &Path) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(path).with_context(|| format!("{} is no kubeconfig", path.display()))?;
        let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        // The cluster of a test lies on this machine or near it; a proxy that the environment names
        // is meant for the world outside.
        config.proxy_url = None;
        Self::from_config(config)
    }

    fn from_config(config: kube::Config) -> anyhow::Result<Self> {
        let new_client = || kube::Client::try_from(config.clone()).context("no client for the API server");
        let (client, exec_client) = (new_client()?, new_client()?);
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let ca_pem = config.root_cert.iter().flatten().map(|der| pem(der)).collect();
        Ok(Self { client, exec_client, config, url, ca_pem })
    }

    /// The same server, asked with another token.
    ///
    /// # Errors
    /// It is no token.
    pub fn with_token(&self, token: &str) -> anyhow::Result<Self> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        Self::from_config(config)
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificates that signed the server's.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    async fn send(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<http::Response<Body>> {
        let mut request = http::Request::builder().method(method.clone()).uri(path);
        if body.is_some() {
            let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
            request = request.header(http::header::CONTENT_TYPE, kind);
        }
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        self.client.send(request.body(Body::from(body))?).await.with_context(|| format!("{method} {path}"))
    }

    /// One request; the status and the answer.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
        let answer = async {
            let (head, body) = self.send(&method, path, body).await?.into_parts();
            let bytes = body.collect_bytes().await?;
            anyhow::Ok((head.status, String::from_utf8_lossy(&bytes).into_owned()))
        };
        let (status, text) =
            tokio::time::timeout(LIMIT, answer).await.with_context(|| format!("{method} {path}: no answer"))??;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    async fn must(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(method.clone(), path, body).await?;
        anyhow::ensure!(status.is_success(), "{method} {path}: {status}: {answer}");
        Ok(answer)
    }

    /// Passes on the answer to a request that does not end, such as a watch, until it does.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn stream(&self, path: &str, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let response = self.send(&Method::GET, path, None).await?;
        anyhow::ensure!(response.status().is_success(), "GET {path}: {}", response.status());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                take(data);
            }
        }
        Ok(())
    }

    /// Makes a namespace with a service account that may do exactly what the first users of the
    /// product give it, and returns a token of it.
    ///
    /// # Errors
    /// Something of it exists already.
    pub async fn account(&self, namespace: &str) -> anyhow::Result<String> {
        let core = format!("/api/v1/namespaces/{namespace}");
        let name = json!({"name": ACCOUNT, "namespace": namespace});
        self.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await?;
        self.create(&format!("{core}/serviceaccounts"), &json!({"metadata": name})).await?;
        self.allow(namespace, ACCOUNT, &["pods", "pods/exec"], &ALL_VERBS).await?;
        let request = json!({"spec": {"expirationSeconds": TOKEN_SECONDS}});
        let answer = self.create(&format!("{core}/serviceaccounts/{ACCOUNT}/token"), &request).await?;
        Ok(answer
            .pointer("/status/token")
            .and_then(Value::as_str)
            .context("a TokenRequest without a token")?
            .to_owned())
    }

    /// Gives the service account of [`Self::account`] the right to read the logs of containers too.
    ///
    /// # Errors
    /// It has it already.
    pub async fn allow_logs(&self, namespace: &str) -> anyhow::Result<()> {
        self.allow(namespace, "logs", &["pods/log"], &["get"]).await
    }

    /// Gives it further rights, by a role of that name.
    ///
    /// # Errors
    /// There is such a role.
    pub async fn allow(&self, namespace: &str, role: &str, resources: &[&str], verbs: &[&str]) -> anyhow::Result<()> {
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let rules = json!([{"apiGroups": [""], "resources": resources, "verbs": verbs}]);
        let name = json!({"name": role, "namespace": namespace});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role});
        let subjects = json!([{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}]);
        self.create(&format!("{rbac}/roles"), &json!({"metadata": name, "rules": rules})).await?;
        let binding = json!({"metadata": name, "roleRef": role, "subjects": subjects});
        self.create(&format!("{rbac}/rolebindings"), &binding).await.map(drop)
    }

    async fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        self.must(Method::POST, path, Some(object)).await
    }

    /// Removes a namespace with everything in it, without waiting for the end of that.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn delete_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        self.must(Method::DELETE, &format!("/api/v1/namespaces/{namespace}"), None).await.map(drop)
    }

    /// The pods of a namespace.
    ///
    /// # Errors
    /// They may not be listed.
    pub async fn pods(&self, namespace: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.must(Method::GET, &format!("/api/v1/namespaces/{namespace}/pods"), None).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Creates a pod.
    ///
    /// # Errors
    /// It is refused.
    pub async fn create_pod(&self, namespace: &str, pod: &Value) -> anyhow::Result<()> {
        self.create(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await.map(drop)
    }

    /// Deletes a pod at once.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn delete_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let options = json!({"gracePeriodSeconds": 0});
        self.must(Method::DELETE, &path, Some(&options)).await.map(drop)
    }

    /// Waits until the status shows a pod as running, which is up to a second after its first
    /// output. A kubelet that is still starting the containers of a pod may see its deletion only a
    /// minute later.
    ///
    /// # Errors
    /// It is not within `bound`.
    pub async fn until_running(&self, namespace: &str, name: &str, bound: Duration) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        until(&format!("the pod {name} runs"), bound, async || {
            let (status, pod) = self.ask(Method::GET, &path, None).await?;
            anyhow::ensure!(status.is_success(), "{pod}");
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            Ok(if phase == "Running" { Ok(()) } else { Err(phase.to_owned()) })
        })
        .await
    }

    /// Evicts a pod by request, as `kubectl drain` does. Every API server since 1.5 knows this
    /// version of the request.
    ///
    /// # Errors
    /// There is none of that name, or it may not be evicted.
    pub async fn evict(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        let metadata = json!({"name": name, "namespace": namespace});
        self.create(&path, &json!({"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": metadata}))
            .await
            .map(drop)
    }

    /// Runs a script in a container, as somebody with `kubectl exec` would, and returns what it
    /// prints. A container that ends takes the script and its stream with it, so how those end says
    /// nothing.
    ///
    /// # Errors
    /// There is no such container, it does not run, or the script does not end.
    pub async fn exec(&self, namespace: &str, pod: &str, container: &str, script: &str) -> anyhow::Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.exec_client.clone(), namespace);
        let params = AttachParams::default().container(container).stderr(false);
        let mut process = pods.exec(pod, ["sh", "-c", script], &params).await?;
        let mut output = String::new();
        if let Some(mut stdout) = process.stdout() {
            let read = tokio::time::timeout(LIMIT, stdout.read_to_string(&mut output)).await;
            let _ = read.context("the script does not end")?;
        }
        Ok(output)
    }
}

/// A certificate as text (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
