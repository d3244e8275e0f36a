//! `gantry doctor` against a simulated GitLab and a simulated cluster whose namespaces are broken,
//! each in its own way.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use gantry_sim_kube::{Config, SimKube};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Child;

use crate::harness::{Ended, GitLab, Home, LONG, spawn};

/// A cluster, with accounts that have the smallest rights.
struct Cluster {
    url: String,
    admin: String,
    client: reqwest::Client,
    kube: std::sync::Arc<SimKubeHandle>,
}

/// What is asked of the simulator itself.
struct SimKubeHandle {
    tokens: std::collections::BTreeMap<String, String>,
    ca_pem: String,
}

/// Rights of the runner in each namespace, by its name.
fn rules(namespace: &str) -> Value {
    let rule = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
    match namespace {
        "nothing" => json!([]),
        "no-watch" => json!([rule(&["pods"], &["create", "get", "list", "delete"]), rule(&["pods/exec"], &["create"])]),
        "no-exec" => json!([rule(&["pods"], &["create", "get", "list", "watch", "delete"])]),
        _ => json!([
            rule(&["pods", "pods/exec"], &["create", "get", "list", "watch", "delete", "patch"]),
            rule(&["events"], &["list"]),
            rule(&["pods/log"], &["get"]),
            rule(&["secrets"], &["create", "update", "delete"])
        ]),
    }
}

const NAMESPACES: [&str; 7] = ["good", "nothing", "no-watch", "no-exec", "full", "unspecified", "strict"];

impl Cluster {
    async fn start() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let kube = SimKube::bind(Config::new(loopback, "/proc/self/exe")).await.expect("a simulated cluster");
        let token = |namespace: &&str| {
            let token = kube.create_service_account_with_role(namespace, "runner", &rules(namespace), LONG);
            ((*namespace).to_owned(), token.expect("a token"))
        };
        let tokens = NAMESPACES.iter().map(token).collect();
        let handle = SimKubeHandle { tokens, ca_pem: kube.ca_pem().to_owned() };
        let (url, admin) = (kube.url(), kube.admin_token().to_owned());
        spawn(async move {
            let _ = kube.serve(std::future::pending()).await;
        });
        let ca = reqwest::Certificate::from_pem(handle.ca_pem.as_bytes()).expect("a certificate");
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([ca]).timeout(LONG).build().expect("a client");
        Self { url, admin, client, kube: std::sync::Arc::new(handle) }
    }

    async fn ask(&self, method: reqwest::Method, path: &str, kind: &str, body: &Value) {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.admin);
        let answer = request.header("content-type", kind).body(body.to_string()).send().await.expect("an answer");
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status} {}", answer.text().await.unwrap_or_default());
    }

    async fn create(&self, path: &str, object: &Value) {
        self.ask(reqwest::Method::POST, path, "application/json", object).await;
    }

    async fn label(&self, namespace: &str, labels: &Value) {
        let patch = json!({"metadata": {"labels": labels}});
        let path = format!("/api/v1/namespaces/{namespace}");
        self.ask(reqwest::Method::PATCH, &path, "application/merge-patch+json", &patch).await;
    }

    /// A configuration whose runner works in `namespace`, as a file in `home`.
    fn configure(&self, home: &Home, gitlab: (&str, &str), namespace: &str, more: &str) {
        let ca_file = home.path().join("ca.crt");
        std::fs::write(&ca_file, &self.kube.ca_pem).expect("it works");
        let token = self.kube.tokens.get(namespace).map_or("no-such-token", String::as_str);
        let text = format!(
            "concurrent = 1\nlisten_address = \"127.0.0.1:0\"\n[[runners]]\nname = \"ours\"\nurl = \"{}\"\ntoken = \"{}\"\nexecutor = \"kubernetes\"\n\
             [runners.kubernetes]\nhost = \"{}\"\nca_file = \"{}\"\nbearer_token = \"{token}\"\nnamespace = \"{namespace}\"\n{more}",
            gitlab.0,
            gitlab.1,
            self.url,
            ca_file.display(),
        );
        std::fs::create_dir_all(home.config().parent().expect("it works")).expect("it works");
        std::fs::write(home.config(), text).expect("it works");
    }
}

/// The findings of one check, as JSON.
fn findings(ended: &Ended, check: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(&ended.text).unwrap_or_else(|error| panic!("{error}: {}", ended.text));
    all.into_iter().filter(|finding| finding["check"] == check).collect()
}

#[tokio::test]
async fn everything_works() {
    let (gitlab, cluster, home) = (GitLab::start().await, Cluster::start().await, Home::new());
    cluster.configure(&home, (&gitlab.url, &gitlab.runner_token), "good", "");
    let ended = home.gantry(&["doctor"]).await;
    let ended = ended.succeeded(&[
        "ok      gitlab: http://127.0.0.1",
        "ok      clock: ",
        "ok      token: GitLab takes it",
        "ok      cluster: the API server answers and is v1.33",
        "ok      rights: create on pods, get on pods, list on pods, watch on pods, delete on pods, get on pods/exec, create on pods/exec, list on events, get on pods/log, patch on pods, create on secrets, update on secrets, delete on secrets in good",
        "ok      admission: namespace good would take the pod of a job",
        "0 errors, 0 warnings",
    ]);
    assert!(!ended.text.contains(&gitlab.runner_token));
    let ended = home.gantry(&["doctor", "--json"]).await.succeeded(&[]);
    assert_eq!(findings(&ended, "admission")[0]["runner"], "ours");
    let lists = cluster.client.get(format!("{}/api/v1/namespaces/good/pods", cluster.url)).bearer_auth(&cluster.admin);
    let pods: Value = lists.send().await.expect("it works").json().await.expect("it works");
    assert_eq!(pods["items"], json!([]), "nothing was made");
}

#[tokio::test]
async fn rights_that_are_missing_say_what_they_cost() {
    let (gitlab, cluster, home) = (GitLab::start().await, Cluster::start().await, Home::new());
    let gitlab = (gitlab.url.as_str(), gitlab.runner_token.as_str());
    cluster.configure(&home, gitlab, "nothing", "");
    home.gantry(&["doctor"]).await.failed(&[
        "error   rights: create on pods is missing in namespace nothing: no job can run",
        "change: add {apiGroups: [\"\"], resources: [\"pods\"], verbs: [\"create\"]}",
        "error   rights: get on pods/exec is missing",
        "warning rights: list on events is missing",
    ]);
    cluster.configure(&home, gitlab, "no-watch", "");
    let ended = home.gantry(&["doctor", "--json"]).await.succeeded(&[]);
    let grades: Vec<Value> = findings(&ended, "rights").into_iter().map(|finding| finding["grade"].clone()).collect();
    assert_eq!(
        grades,
        ["ok", "warning", "warning", "warning", "warning", "warning", "warning", "warning", "warning"],
        "{}",
        ended.text
    );
    home.gantry(&["doctor", "--strict"]).await.failed(&["watch on pods is missing", "jobs start later"]);
    cluster.configure(&home, gitlab, "no-exec", "");
    home.gantry(&["doctor"]).await.failed(&["get on pods/exec is missing in namespace no-exec: jobs cannot be handed"]);
}

#[tokio::test]
async fn pods_that_would_be_refused() {
    let (gitlab, cluster, home) = (GitLab::start().await, Cluster::start().await, Home::new());
    let gitlab = (gitlab.url.as_str(), gitlab.runner_token.as_str());
    let quota = |hard: &Value| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "bounds"}, "spec": {"hard": hard}});
    cluster.create("/api/v1/namespaces/full/resourcequotas", &quota(&json!({"pods": "0"}))).await;
    cluster.create("/api/v1/namespaces/unspecified/resourcequotas", &quota(&json!({"requests.cpu": "1"}))).await;
    cluster.label("strict", &json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
    for (namespace, found, change) in [
        ("full", "exceeded quota: bounds", "raise the ResourceQuota of the namespace"),
        ("unspecified", "must specify requests.cpu", "a ResourceQuota wants every container to say what it needs"),
        ("strict", "violates PodSecurity", "allow_privilege_escalation = false"),
    ] {
        cluster.configure(&home, gitlab, namespace, "");
        home.gantry(&["doctor"]).await.failed(&["error   admission: the pod of a job would be refused", found, change]);
    }
    let safe = "cpu_request = \"100m\"\nhelper_cpu_request = \"100m\"\n";
    cluster.configure(&home, gitlab, "unspecified", safe);
    home.gantry(&["doctor"]).await.succeeded(&["namespace unspecified would take the pod"]);
    let safe = "allow_privilege_escalation = false\ncap_drop = [\"ALL\"]\n[runners.kubernetes.pod_security_context]\n\
                run_as_non_root = true\nrun_as_user = 1000\n[runners.kubernetes.pod_security_context.seccomp_profile]\ntype = \"RuntimeDefault\"\n";
    cluster.configure(&home, gitlab, "strict", safe);
    home.gantry(&["doctor"]).await.succeeded(&["namespace strict would take the pod"]);
}

#[tokio::test]
async fn servers_that_say_no_or_nothing() {
    let (gitlab, cluster, home) = (GitLab::start().await, Cluster::start().await, Home::new());
    cluster.configure(&home, ("http://127.0.0.1:1", "glrt-canary-token"), "absent", "");
    let ended = home.gantry(&["doctor"]).await;
    let ended = ended.failed(&[
        "error   gitlab: http://127.0.0.1:1 cannot be reached",
        "refused",
        "error   cluster: the API server cannot be used",
        "a new bearer_token",
    ]);
    assert!(!ended.text.contains("glrt-canary-token"), "{}", ended.text);
    cluster.configure(&home, (&gitlab.url, "glrt-nobody-knows-this-one"), "good", "");
    home.gantry(&["doctor"]).await.failed(&["error   token: GitLab refuses it", "gantry reset-token"]);
    let text = home.config_text().replace(&cluster.url, "https://127.0.0.1:1");
    std::fs::write(home.config(), text).expect("it works");
    home.gantry(&["doctor"]).await.failed(&["error   cluster: the API server cannot be used", "correct host"]);
}

#[tokio::test]
async fn the_file_and_the_port() {
    let home = Home::with(&[("HTTPS_PROXY", "http://user:hunter2@proxy.test:3128"), ("ALL_PROXY", "x")]);
    home.gantry(&["doctor"]).await.failed(&["error   config:", "does not exist", "gantry register"]);
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("it works");
    std::fs::create_dir_all(home.config().parent().expect("it works")).expect("it works");
    let text = format!("listen_address = \"{}\"\nsurprise = 1\n", taken.local_addr().expect("it works"));
    std::fs::write(home.config(), text).expect("it works");
    let ended = home.gantry(&["doctor"]).await;
    let ended = ended.failed(&[
        "warning config:",
        "`gantry lint` lists them",
        "error   config: ",
        "has no runner that can work",
        "error   metrics: 127.0.0.1:",
        "is taken by another program",
        "ok      proxy: https through proxy.test:3128",
        "warning proxy: ALL_PROXY is set and not used",
    ]);
    assert!(!ended.text.contains("hunter2"), "{}", ended.text);
    std::fs::write(home.config(), "concurrent = \"x\"\n").expect("it works");
    home.gantry(&["doctor"]).await.failed(&["cannot be used: 1 error", "`gantry lint`"]);
}

/// Without this claim a pod does not start.
const ABSENT_CLAIM: &str = "[[runners.kubernetes.volumes.pvc]]\nname = \"absent\"\nmount_path = \"/x\"\n";

async fn interrupt(process: &Child) {
    let kill = format!("kill -INT {}", process.id().expect("it runs"));
    tokio::process::Command::new("sh").args(["-c", &kill]).status().await.expect("a shell");
}

#[tokio::test]
async fn an_interrupt_removes_the_trial_pod() {
    let (gitlab, cluster, home) = (GitLab::start().await, Cluster::start().await, Home::new());
    cluster.configure(&home, (&gitlab.url, &gitlab.runner_token), "good", ABSENT_CLAIM);
    let mut command = home.command(Path::new(env!("CARGO_BIN_EXE_gantry")), &["doctor", "--pod"]);
    let mut doctor = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut log = BufReader::new(doctor.stderr.take().expect("a log")).lines();
    let mut says = String::new();
    while !says.contains("making a trial pod in namespace good") {
        says = log.next_line().await.expect("it works").expect("it goes on");
    }
    let mut seen = vec![0; 64];
    let read = doctor.stdout.as_mut().expect("an output").read(&mut seen).await.expect("it works");
    assert!(read > 0, "what was found is shown before all is over");
    interrupt(&doctor).await;
    let ended = tokio::time::timeout(LONG, doctor.wait_with_output()).await.expect("in time").expect("it works");
    let text = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("error   pod: interrupted before the trial pod had started"), "{text}");
    let lists = cluster.client.get(format!("{}/api/v1/namespaces/good/pods", cluster.url)).bearer_auth(&cluster.admin);
    let pods: Value = lists.send().await.expect("it works").json().await.expect("it works");
    assert_eq!(pods["items"], json!([]), "{text}");
}

#[tokio::test]
async fn a_second_interrupt_ends_the_doctor() {
    let (gitlab, cluster, home) = (GitLab::start().await, Cluster::start().await, Home::new());
    cluster.configure(&home, (&gitlab.url, &gitlab.runner_token), "good", ABSENT_CLAIM);
    let hangs = json!({"kind": "delay", "verb": "delete", "resource": "pods", "delay": 600.0});
    cluster.create("/sim/faults", &hangs).await;
    let mut command = home.command(Path::new(env!("CARGO_BIN_EXE_gantry")), &["doctor", "--pod"]);
    let mut doctor = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut log = BufReader::new(doctor.stderr.take().expect("a log")).lines();
    for words in ["making a trial pod in namespace good", "a second signal ends this at once"] {
        let mut says = String::new();
        while !says.contains(words) {
            says = log.next_line().await.expect("it works").expect("it goes on");
        }
        interrupt(&doctor).await;
    }
    let ended = tokio::time::timeout(LONG, doctor.wait_with_output()).await.expect("in time").expect("it works");
    let text = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("error   doctor: was interrupted again, and may have left a trial pod behind"), "{text}");
    assert!(!text.contains("could not be removed"), "{text}");
}

#[tokio::test]
async fn a_url_that_is_not_of_a_gitlab() {
    let (gitlab, cluster, home) = (GitLab::start().await, Cluster::start().await, Home::new());
    for (path, change) in [("/api/v4", "leave /api/v4 out of url"), ("/gitlab", "the address of the GitLab instance")] {
        let url = format!("{}{path}", gitlab.url);
        cluster.configure(&home, (&url, &gitlab.runner_token), "good", "");
        let found = format!("error   gitlab: {url} is not the address of a GitLab, and no job will come");
        home.gantry(&["doctor"]).await.failed(&[&found, "404", change]);
    }
}
