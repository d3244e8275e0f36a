//! A whole simulated cluster as a real client sees it: `kube::Client` over TLS, WebSocket exec
//! included, and `kubectl` where it is installed.

mod access;
mod eviction;
mod exec;
mod faults;
mod kubectl;
mod objects;
mod pods;
mod policy;
mod protobuf;

use std::{path::PathBuf, time::Duration};

use futures::FutureExt;
use gantry_sim_kube::{Config, Connector, Error, SimKube};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinSet};

/// No wait of a test takes longer than this, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Kubelet's tick in these tests: long enough to see that states come late, short enough not to
/// wait long.
const TICK: Duration = Duration::from_millis(300);

/// A running cluster; stopped when it is dropped.
struct World {
    url: String,
    ca: String,
    token: String,
    kubeconfig: PathBuf,
    runner_token: String,
    connector: Connector,
    _files: TempDir,
    stop: Option<oneshot::Sender<()>>,
    served: JoinSet<Result<(), Error>>,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let kubeconfig = files.path().join("kubeconfig");
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), env!("CARGO_BIN_EXE_gantry-sim-launcher"));
        config.kubeconfig = Some(kubeconfig.clone());
        config.sync_period = TICK;
        change(&mut config);
        let sim = SimKube::bind(config).await.expect("the cluster binds");
        let rules = json!([{"apiGroups": [""], "resources": ["pods", "pods/exec"],
            "verbs": ["get", "list", "watch", "create", "delete", "patch"]}]);
        let hour = Duration::from_secs(3_600);
        let runner_token =
            sim.create_service_account_with_role("ci", "runner", &rules, hour).expect("a service account");
        let connector = sim.connector();
        let (stop, stopped) = oneshot::channel();
        let (url, ca, token) = (sim.url(), sim.ca_pem().to_owned(), sim.admin_token().to_owned());
        let mut served = JoinSet::new();
        served.spawn(sim.serve(async {
            let _ = stopped.await;
        }));
        Self { url, ca, token, kubeconfig, runner_token, connector, _files: files, stop: Some(stop), served }
    }

    /// A client of the administrator.
    fn admin(&self) -> Client {
        self.client(&self.token)
    }

    /// A client with the rights to pods and exec only.
    fn runner(&self) -> Client {
        self.client(&self.runner_token)
    }

    fn client(&self, token: &str) -> Client {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let file = json!({
            "clusters": [{"name": "c", "cluster": {
                "server": self.url, "certificate-authority-data": BASE64_STANDARD.encode(&self.ca)}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "ci"}}],
            "current-context": "x",
        });
        let file: Kubeconfig = serde_json::from_value(file).expect("a kubeconfig");
        // Everything is in the file, so there is nothing to wait for.
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).now_or_never();
        let config = config.expect("at once").expect("a configuration");
        Client::try_from(config).expect("a client")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.runner(), "ci")
    }

    /// Creates a pod in the namespace `ci` from its spec.
    async fn pod(&self, name: &str, spec: Value) -> Pod {
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("the pod is created")
    }

    /// Waits until a pod is as wanted and returns it.
    async fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = tokio::time::timeout(TIMEOUT, async {
            loop {
                last = serde_json::to_value(self.pods().get(name).await.expect("the pod exists")).expect("JSON");
                if wanted(&last) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        assert!(found.await.is_ok(), "the pod never became as wanted: {:#}", last["status"]);
        last
    }

    /// Waits for a phase.
    async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, |pod| pod["status"]["phase"] == phase).await
    }

    /// Posts to the simulator's own interface.
    async fn sim(&self, path: &str, body: Value) {
        let request = http::Request::post(format!("/sim/{path}"))
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .expect("a request");
        let answer: Value = self.admin().request(request).await.expect("an answer");
        assert_eq!(answer["status"], "Success");
    }

    /// One request of the administrator as it is, without a client that repeats it or hides
    /// something: status, headers and body of the answer.
    async fn raw(&self, request: http::request::Builder, body: &Value) -> http::Response<String> {
        let (client, server) = tokio::io::duplex(64 << 10);
        let connector = self.connector.clone();
        let serving = connector.serve(server);
        let request = request.header("authorization", format!("Bearer {}", self.token)).header("host", "sim");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.header("content-type", "application/json").body(body).expect("a request");
        let asking = async {
            let io = hyper_util::rt::TokioIo::new(client);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("a connection");
            let answer = async {
                let answer = sender.send_request(request).await.expect("an answer");
                let (parts, body) = answer.into_parts();
                let body = http_body_util::BodyExt::collect(body).await.expect("a body").to_bytes();
                http::Response::from_parts(parts, String::from_utf8_lossy(&body).into_owned())
            };
            let connection = async {
                connection.await.expect("the connection holds");
                std::future::pending::<()>().await;
            };
            tokio::select! {
                answer = answer => answer,
                () = connection => unreachable!("it never ends"),
            }
        };
        let serving = async {
            serving.await;
            std::future::pending::<()>().await;
        };
        let both = async {
            tokio::select! {
                answer = asking => answer,
                () = serving => unreachable!("it never ends"),
            }
        };
        tokio::time::timeout(TIMEOUT, both).await.expect("an answer in time")
    }

    /// Orders a fault and returns its number.
    async fn fault(&self, order: Value) -> u64 {
        let request = http::Request::post("/sim/faults")
            .header("content-type", "application/json")
            .body(order.to_string().into_bytes())
            .expect("a request");
        let fault: Value = self.admin().request(request).await.expect("the fault is taken");
        fault["id"].as_u64().expect("a number")
    }

    /// Ends a fault.
    async fn mend(&self, fault: u64) {
        let request = http::Request::delete(format!("/sim/faults/{fault}")).body(Vec::new()).expect("a request");
        let done: Value = self.admin().request(request).await.expect("the fault was there");
        assert_eq!(done["status"], "Success");
    }

    /// Stops the cluster and waits for its end.
    async fn stop(mut self) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(TIMEOUT, self.served.join_next()).await;
        ended.expect("the cluster ends").expect("it was served").expect("without panic").expect("without error");
    }
}

/// A container that runs a script.
fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "image": format!("{name}:1"), "command": ["sh", "-c", script]})
}

/// A spec with these containers and no restarts.
fn never(containers: &Value) -> Value {
    json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": containers})
}

/// The state of a container in a pod's status.
fn state<'p>(pod: &'p Value, name: &str) -> &'p Value {
    pod["status"]["containerStatuses"]
        .as_array()
        .and_then(|all| all.iter().find(|status| status["name"] == name))
        .map_or(&Value::Null, |status| &status["state"])
}
