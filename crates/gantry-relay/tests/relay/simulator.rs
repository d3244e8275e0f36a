//! A whole job against the simulated GitLab, which enforces the protocol and shares no code with
//! the client: what it records as a broken rule is our mistake.

use std::net::{Ipv4Addr, SocketAddr};

use futures::TryStreamExt as _;
use gantry_gitlab::limits::ANSWER_TIMEOUT;
use gantry_gitlab::{
    ByteStream, DownloadError, JobAnswer, JobRequest, Poll, UploadAnswer, UploadQuery, UploadTimeouts, VerifyOutcome,
};
use gantry_sim_gitlab::{Config, SimGitlab, Timing};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

struct Sim {
    address: SocketAddr,
    url: String,
    token: gantry_core::Secret,
    _serving: JoinSet<()>,
}

impl Sim {
    async fn start() -> Self {
        let timing = Timing { long_poll: Duration::from_millis(50), ..Timing::default() };
        let config = Config { timing, ..Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))) };
        let sim = SimGitlab::bind(config).await.unwrap();
        let (address, url, token) = (sim.addr(), sim.url(), sim.runner_token().into());
        let mut serving = JoinSet::new();
        serving.spawn(async move { sim.serve(std::future::pending()).await.unwrap() });
        Self { address, url, token, _serving: serving }
    }

    /// A call to the simulator's own API; the body of the answer.
    async fn call(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} /sim{path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        let head_length = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        answer.split_off(head_length + 4)
    }

    async fn json(&self, method: &str, path: &str) -> Value {
        serde_json::from_slice(&self.call(method, path, "{}").await).unwrap()
    }

    fn client(&self) -> Client {
        Client::new(ClientOptions::new(&self.url)).unwrap()
    }

    async fn poll(&self, last_update: Option<&str>) -> Poll {
        let info = info();
        let request =
            JobRequest { token: &self.token, system_id: "r_0123456789ab", info: &info, last_update, session: None };
        self.client().request_job(request).await
    }

    /// A job that GitLab waits for to be acknowledged.
    async fn take(&self) -> JobCredentials {
        self.call("POST", "/jobs", "{}").await;
        match self.poll(None).await.answer {
            JobAnswer::Job(job) => JobCredentials { id: job.spec.id, token: job.spec.token },
            other => panic!("{other:?}"),
        }
    }

    async fn broken_rules(&self) -> Value {
        self.json("GET", "/violations").await
    }
}

#[tokio::test]
async fn a_whole_job() {
    let sim = Sim::start().await;
    let client = sim.client();
    assert!(matches!(client.verify(&sim.token, "r_0123456789ab", &info()).await, VerifyOutcome::Valid(_)));
    let idle = sim.poll(None).await;
    assert!(matches!(idle.answer, JobAnswer::NoJob), "{idle:?}");
    let held = sim.poll(idle.last_update.as_deref()).await;
    assert!(matches!(held.answer, JobAnswer::NoJob) && !held.pushed_back, "{held:?}");

    let creds = sim.take().await;
    assert_eq!(acknowledge(&client, &creds, &info(), |_| {}).await, AckOutcome::Running);
    let trace = trace(1_500_000);
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, reports) = mpsc::channel(8);
    let relay = RelayJob { creds: creds.clone(), ..job() };
    let running = gantry_relay::run(client, relay, inbox, outbox);
    let both = async { tokio::join!(running, give(&trace, 0, 60_000, inputs, reports)) };
    let (end, _) = timeout(TIMEOUT, both).await.unwrap();
    assert_eq!(end, RelayEnd::Delivered);
    assert!(sim.call("GET", &format!("/jobs/{}/trace", creds.id), "").await == trace);
    let shown = sim.json("GET", &format!("/jobs/{}", creds.id)).await;
    assert_eq!((&shown["status"], &shown["exit_code"]), (&Value::from("failed"), &Value::from(3)), "{shown}");
    assert_eq!(sim.broken_rules().await, Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_relay_acknowledges_what_was_not_and_hears_of_a_cancel() {
    let sim = Sim::start().await;
    let creds = sim.take().await;
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, mut reports) = mpsc::channel(8);
    let relay = RelayJob { creds: creds.clone(), acknowledged: false, ..job() };
    let caller = async {
        inputs.send(Input::Trace { offset: 0, bytes: Bytes::from_static(b"a\n") }).await.unwrap();
        assert_eq!(reports.recv().await, Some(Report::Acked(2)));
        sim.json("POST", &format!("/jobs/{}/cancel", creds.id)).await;
        // Nothing is said any more: only a keep-alive can bring the news.
        assert_eq!(reports.recv().await, Some(Report::CancelRequested));
        inputs.send(closed(b"a\n")).await.unwrap();
    };
    let both = async { tokio::join!(gantry_relay::run(sim.client(), relay, inbox, outbox), caller) };
    assert_eq!(timeout(TIMEOUT, both).await.unwrap().0, RelayEnd::Delivered);
    let shown = sim.json("GET", &format!("/jobs/{}", creds.id)).await;
    assert_eq!(shown["status"], "canceled", "{shown}");
    assert_eq!(sim.broken_rules().await, Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_final_line_for_a_job_whose_log_nobody_has() {
    let sim = Sim::start().await;
    let creds = sim.take().await;
    let client = sim.client();
    assert_eq!(acknowledge(&client, &creds, &info(), |_| {}).await, AckOutcome::Running);
    client.patch_trace(&creds, (0, Bytes::from_static(b"what came before\n")), false, ANSWER_TIMEOUT).await;
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, _reports) = mpsc::channel::<Report>(8);
    let verdict = Box::new(Verdict {
        success: false,
        reason: Some(FailureReason::RunnerSystemFailure),
        exit_code: None,
        message: "the pod is gone".into(),
    });
    inputs.send(Input::FinalLine { line: Bytes::from_static(b"the pod is gone\n"), verdict }).await.unwrap();
    let end = gantry_relay::run(client, RelayJob { creds: creds.clone(), ..job() }, inbox, outbox);
    assert_eq!(timeout(TIMEOUT, end).await.unwrap(), RelayEnd::Delivered);
    let log = sim.call("GET", &format!("/jobs/{}/trace", creds.id), "").await;
    assert_eq!(String::from_utf8(log).unwrap(), "what came before\nthe pod is gone\n");
}

#[tokio::test]
async fn artifacts_go_up_and_come_back() {
    let sim = Sim::start().await;
    let creds = sim.take().await;
    let client = sim.client();
    assert_eq!(acknowledge(&client, &creds, &info(), |_| {}).await, AckOutcome::Running);
    let content = trace(300_000);
    let query = UploadQuery {
        artifact_type: "archive".into(),
        artifact_format: "zip".into(),
        expire_in: "1 week".into(),
        filename: "artifacts.zip".into(),
    };
    let pieces = || -> ByteStream {
        let pieces: Vec<_> = content.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Box::pin(futures::stream::iter(pieces))
    };
    let answer = client.upload_artifact(&creds, &query, (&pieces, &|_| {}), UploadTimeouts::default()).await;
    assert!(matches!(answer, UploadAnswer::Uploaded), "{answer:?}");
    let download = client.download_artifact(creds.id, &creds.token, true).await.unwrap();
    let pieces: Vec<Bytes> = download.content.try_collect().await.unwrap();
    assert!(pieces.concat() == content);
    let none = sim.take().await;
    acknowledge(&client, &none, &info(), |_| {}).await;
    let missing = client.download_artifact(none.id, &none.token, true).await;
    assert!(matches!(missing, Err(DownloadError::NotFound)), "{missing:?}");
    assert_eq!(sim.broken_rules().await, Value::Array(Vec::new()));
}
