//! Answers without end, over real connections: how much of them is read, and what is said about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gantry_kube::{Access, ApiError, Cluster, Fault, PodNow, PodRef, RemoteAccess, limits};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Far more than anything here takes.
const BOUND: Duration = Duration::from_secs(60);

/// What a connection may hold beside what was read from it: buffers of both kernels and of the
/// client.
const IN_FLIGHT: usize = 16 << 20;

#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    /// Most bytes that one connection took.
    most: AtomicUsize,
}

/// A letter in Latin-1, and no UTF-8.
const LETTER: u8 = 0xe4;

/// Answers each request with this head and then the piece, again and again, for as long as anybody
/// reads.
async fn endless(mut connection: TcpStream, counts: &Counts, (head, piece): (&str, &[u8])) {
    let (reading, mut writing) = connection.split();
    let mut lines = BufReader::new(reading).lines();
    let Ok(Some(request)) = lines.next_line().await else { return };
    while matches!(lines.next_line().await, Ok(Some(line)) if !line.is_empty()) {}
    counts.requests.fetch_add(1, Ordering::Relaxed);
    if request.contains("limit=") && head.is_empty() {
        let list = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{list}", list.len());
        writing.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let head = if head.is_empty() { "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" } else { head };
    writing.write_all(head.as_bytes()).await.unwrap();
    let mut sent = 0;
    while writing.write_all(piece).await.is_ok() {
        sent += piece.len();
        counts.most.fetch_max(sent, Ordering::Relaxed);
    }
}

/// A cluster whose API server never stops.
async fn cluster(head: &'static str) -> (Cluster, Arc<Counts>) {
    cluster_that_sends(head, &[LETTER; 16 << 10]).await
}

async fn cluster_that_sends(head: &'static str, piece: &'static [u8]) -> (Cluster, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { endless(connection, &shared, (head, piece)).await });
        }
    });
    let access = Access::Remote(RemoteAccess { host, ..RemoteAccess::default() });
    let (cluster, driver) = Cluster::connect(access, "ci".to_owned(), "a=b".to_owned()).await.unwrap();
    tokio::spawn(driver);
    (cluster, counts)
}

fn pod() -> PodRef {
    PodRef { name: "a".to_owned(), uid: "1".to_owned() }
}

fn read_at_most(counts: &Counts, limit: usize) {
    let most = counts.most.load(Ordering::Relaxed);
    assert!(most <= limit + IN_FLIGHT, "{most} bytes were taken");
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";

#[tokio::test]
async fn an_endless_answer_is_an_error_and_no_memory() {
    let (cluster, counts) = cluster(OK).await;
    let PodNow::Unknown(error) = timeout(BOUND, cluster.get_pod(&pod())).await.unwrap() else { panic!() };
    assert_eq!(error.fault, Fault::Garbled);
    assert!(error.message.contains("an answer from the API server is longer than 4 MiB"), "{error}");
    read_at_most(&counts, limits::OBJECT);

    let error = timeout(BOUND, cluster.list_pods("a=b")).await.unwrap().unwrap_err();
    assert!(error.message.contains("a page of the list from the API server is longer than"), "{error}");
    read_at_most(&counts, limits::PAGE);
}

#[tokio::test]
async fn an_endless_refusal_keeps_its_status_and_its_first_words() {
    for (status, fault) in [("403 Forbidden", Fault::Forbidden), ("503 Service Unavailable", Fault::Server)] {
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\n\r\n<h1>blocked by the proxy</h1>");
        let (cluster, counts) = cluster(head.leak()).await;
        let PodNow::Unknown(error) = timeout(BOUND, cluster.get_pod(&pod())).await.unwrap() else { panic!() };
        assert_eq!(error.fault, fault);
        assert!(error.message.contains("blocked by the proxy"), "{error}");
        assert!(error.message.len() <= limits::MESSAGE + 3);
        read_at_most(&counts, limits::REFUSAL);
    }
}

#[tokio::test]
async fn words_of_a_refusal_that_are_no_text_do_not_hide_it() {
    let (cluster, _) = cluster("HTTP/1.1 401 Unauthorized\r\nContent-Length: 65536\r\n\r\n").await;
    let PodNow::Unknown(ApiError { fault, code, .. }) = timeout(BOUND, cluster.get_pod(&pod())).await.unwrap() else {
        panic!()
    };
    assert_eq!((fault, code), (Fault::Unauthenticated, 401));
}

#[tokio::test]
async fn an_event_without_end_ends_the_watch() {
    let (cluster, counts) = cluster("").await;
    let _watch = cluster.watch_pod(&pod());
    let again = async {
        // The list, the watch, and the watch once more.
        while counts.requests.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, again).await.expect("the watch goes on for ever");
    read_at_most(&counts, limits::OBJECT);
}

#[tokio::test]
async fn a_watch_without_one_event_that_makes_sense_is_given_up() {
    let lines = "{\"type\":\"ADDED\",\"object\":[]}\n".repeat(2000).leak();
    let (cluster, counts) = cluster_that_sends("", lines.as_bytes()).await;
    let _watch = cluster.watch_pod(&pod());
    let again = async {
        while counts.requests.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, again).await.expect("the watch goes on for ever");
    read_at_most(&counts, limits::OBJECT);
}
