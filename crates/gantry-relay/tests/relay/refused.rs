//! The simulated GitLab behind a proxy that refuses pieces of a log (403) and nothing else, on a
//! clock that jumps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use gantry_gitlab::{Body, ByteStream, Client, ClientOptions, Timeouts, Transport, TransportError, TransportFault};
use gantry_relay::{AckOutcome, Pace, RelayEnd, RelayJob, Report, acknowledge};
use gantry_sim_gitlab::{Config, Connector, InProcess};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{closed, info, job, trace};

/// The way to it: a connection for each request.
struct Line(Connector);

impl Line {
    async fn exchange(&self, request: Request<Bytes>) -> std::io::Result<Response<Bytes>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut lines =
            vec![format!("{} {path} HTTP/1.1", head.method), "Host: sim".into(), "Connection: close".into()];
        let others = head.headers.iter().filter(|(name, _)| *name != http::header::HOST);
        lines.extend(others.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
        if !head.headers.contains_key(http::header::CONTENT_LENGTH) {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        let mut connection = self.0.connect().await?;
        connection.write_all((lines.join("\r\n") + "\r\n\r\n").as_bytes()).await?;
        connection.write_all(&body).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let body = Bytes::from(answer.split_off(end + 4));
        let head = String::from_utf8(answer).unwrap();
        let mut lines = head.trim_end().lines();
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let response =
            headers.fold(Response::builder().status(status), |built, (name, value)| built.header(name, value));
        Ok(response.body(body).unwrap())
    }

    /// A call to the simulator's own API.
    async fn sim(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = Request::builder().method(method).uri(path).header("Content-Type", "application/json");
        let answer = self.exchange(request.body(body.to_string().into()).unwrap()).await.unwrap();
        serde_json::from_slice(answer.body()).unwrap_or_default()
    }
}

impl Transport for Line {
    fn send(&self, request: Request<Body>, _: Timeouts) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        let line = Self(self.0.clone());
        async move {
            let (head, body) = request.into_parts();
            let Body::Bytes(body) = body else { panic!("a body of known length") };
            let answer = line.exchange(Request::from_parts(head, body)).await;
            let answer = answer.map_err(|error| TransportError::new(TransportFault::Broken, error))?;
            Ok(answer.map(|body| -> ByteStream { stream::iter([Ok(body)]).boxed() }))
        }
        .boxed()
    }
}

/// A job that runs for so long; what the simulator shows of it, its log, what was said to the
/// caller, and how long its end took. The proxy is there for `refused`.
async fn relayed(runs: Duration, refused: Duration) -> (Value, usize, Vec<String>, Duration) {
    let token = "glrt-behind-a-proxy-000";
    let config = Config::new(([127, 0, 0, 1], 0).into());
    let gitlab = InProcess::start(Config { runner_token: Some(token.to_owned()), ..config }).unwrap();
    let line = Arc::new(Line(gitlab.connector()));
    line.sim("POST", "/sim/jobs", &json!({})).await;
    let asked = json!({"token": token, "info": {}});
    let spec = line.sim("POST", "/api/v4/jobs/request", &asked).await;
    let id = spec["id"].as_i64().unwrap();
    let own = gantry_gitlab::JobCredentials { id, token: spec["token"].as_str().unwrap().into() };
    let client = Client::with_transport(ClientOptions::new("http://gitlab.invalid"), Arc::clone(&line) as _).unwrap();
    assert_eq!(acknowledge(&client, &own, &info(), |_| {}).await, AckOutcome::Running);

    let fault = json!({"endpoint": "trace", "fault": "status", "status": 403});
    line.sim("POST", "/sim/faults", &fault).await;
    let whole = trace(50_000);
    let deadline = Instant::now() + Duration::from_hours(3);
    let relay = RelayJob { creds: own, pace: Pace::default(), deadline, ..job() };
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, mut reports) = mpsc::channel(8);
    let proxy = async {
        sleep(refused).await;
        line.sim("DELETE", "/sim/faults", &Value::Null).await;
        std::future::pending::<()>().await;
    };
    let runs_and_ends = async {
        let bytes = Bytes::from(whole.clone());
        inputs.send(gantry_relay::Input::Trace { offset: 0, bytes }).await.unwrap();
        sleep(runs).await;
        inputs.send(closed(&whole)).await.unwrap();
        std::future::pending::<()>().await;
    };
    let mut troubles = Vec::new();
    let reading = async {
        while let Some(report) = reports.recv().await {
            if let Report::Trouble(Some(why)) = report {
                troubles.push(why);
            }
        }
    };
    let begun = Instant::now();
    let end = tokio::select! {
        end = gantry_relay::run(client, relay, inbox, outbox) => end,
        _ = async { tokio::join!(proxy, runs_and_ends, reading) } => unreachable!("who prints waits for the end"),
    };
    assert_eq!(end, RelayEnd::Delivered);
    let took = begun.elapsed().checked_sub(runs).unwrap();
    let request = Request::get(format!("/sim/jobs/{id}/trace")).body(Bytes::new()).unwrap();
    let log = line.exchange(request).await.unwrap().into_body();
    assert!(whole.starts_with(&log));
    assert_eq!(line.sim("GET", "/sim/violations", &Value::Null).await, json!([]));
    (line.sim("GET", &format!("/sim/jobs/{id}"), &Value::Null).await, log.len(), troubles, took)
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_pieces_for_good() {
    let hour = Duration::from_hours(1);
    let (shown, log, troubles, took) = relayed(hour, 3 * hour).await;
    assert_eq!((&shown["status"], &shown["exit_code"], log), (&json!("failed"), &json!(3), 0), "{shown}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let named = troubles.iter().filter(|why| why.contains("let PATCH of /api/v4/jobs/ through")).count();
    assert!((55..=110).contains(&named), "one try or two a minute: {named} of {}", troubles.len());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_lets_pieces_through_before_the_end() {
    let hour = Duration::from_hours(1);
    let (shown, log, _, took) = relayed(hour, hour / 2).await;
    assert_eq!((&shown["status"], log), (&json!("failed"), 50_000), "{shown}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_at_once_waits_for_the_proof_and_no_hour() {
    let (shown, log, _, took) = relayed(Duration::ZERO, Duration::from_hours(3)).await;
    assert_eq!((&shown["status"], log), (&json!("failed"), 0), "{shown}");
    assert!((Duration::from_mins(5)..Duration::from_mins(7)).contains(&took), "{took:?}");
}
