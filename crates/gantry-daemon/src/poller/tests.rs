//! A whole daemon on a paused clock against a GitLab that answers every request for a job in the
//! same way.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_gitlab::{Body, ByteStream, Client, ClientError, ClientOptions, Timeouts, Transport, TransportError};
use gantry_kube::{Access, Cluster, ConnectError, Driver, HelperBinaries, RemoteAccess};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::server::BindError;
use crate::{App, Options, Outside, signal_channel};

/// A GitLab whose every answer is this one.
struct Always {
    status: u16,
    content_type: &'static str,
    body: &'static str,
    requests: AtomicUsize,
}

impl Transport for Always {
    fn send(
        &self,
        _: http::Request<Body>,
        _: Timeouts,
    ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let body: ByteStream = Box::pin(futures::stream::iter([Ok(bytes::Bytes::from_static(self.body.as_bytes()))]));
        let answer = http::Response::builder().status(self.status).header("content-type", self.content_type);
        async move { Ok(answer.body(body).unwrap()) }.boxed()
    }
}

struct Alone(Arc<Always>);

impl Outside for Alone {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::with_transport(options, Arc::clone(&self.0) as _)
    }

    fn cluster(
        &self,
        _: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        let nowhere = RemoteAccess { host: "http://127.0.0.1:1".to_owned(), ..RemoteAccess::default() };
        Cluster::connect(Access::Remote(nowhere), namespace, selector).boxed()
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        async { Ok(None) }.boxed()
    }
}

/// How often it is asked in ten minutes by a runner with two workers.
async fn asked(status: u16, content_type: &'static str, body: &'static str) -> usize {
    let gitlab = Arc::new(Always { status, content_type, body, requests: AtomicUsize::new(0) });
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    let text = "concurrent = 4\n[[runners]]\nurl = \"http://gitlab.test\"\ntoken = \"glrt-a\"\nexecutor = \"kubernetes\"\n\
                request_concurrency = 2\n";
    std::fs::write(&config, text).unwrap();
    let options = Options {
        config,
        listen_address: None,
        helper: HelperBinaries::new(),
        on_log_settings: Box::new(|_| {}),
        registration_token: None,
        built_at: String::new(),
        outside: Arc::new(Alone(Arc::clone(&gitlab))),
    };
    let app = App::build(options).await.unwrap();
    let (_signals, receiver) = signal_channel();
    let _ = timeout(Duration::from_mins(10), app.run(receiver)).await;
    gitlab.requests.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_promise_without_a_job_is_no_reason_to_ask_at_once() {
    let json = "application/json";
    let quiet = asked(204, json, "").await;
    assert!(quiet > 100, "{quiet}");
    for body in ["", "{}", "null", "[]", "<html>", "{\"id\": 1}", "{\"id\": 0, \"token\": \"t\"}"] {
        let requests = asked(201, json, body).await;
        assert!((5..=30).contains(&requests), "{body:?}: {requests} requests");
    }
    let page = asked(201, "text/html", "<html>").await;
    assert!(page <= quiet, "{page} requests");
}

#[test]
fn the_rest_grows_and_never_falls_below_the_interval() {
    let rests = |interval| {
        let seconds = |count| rest_after_bad_answers(Duration::from_millis(interval), count).as_millis();
        [1, 2, 3, 99].map(seconds)
    };
    assert_eq!(rests(3_000), [3_000, 6_000, 12_000, 60_000]);
    assert_eq!(rests(0), [1_000, 2_000, 4_000, 60_000]);
    assert_eq!(rests(300_000), [300_000; 4]);
}
