//! The metrics and health server.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::accepting::{self, ConnectionPermit, WhenFull};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::redaction::redact;
use crate::registry::Running;

/// Where the server listens when nobody says otherwise.
pub const DEFAULT_LISTEN_ADDRESS: &str = ":9100";

/// The port where an address names none (GitLab Runner 19.4).
const DEFAULT_PORT: &str = ":9252";

/// Connections at once: a few who scrape and probe, and people who look.
const CONNECTIONS: usize = 64;

/// How long a connection may be silent: longer than pauses between scrapes are as a rule.
const IDLE: Duration = Duration::from_mins(2);

/// How long an answer may take that has begun when the server is told to end.
const LAST: Duration = Duration::from_secs(5);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Not an address.
    #[error("{address:?} is not of the form host:port")]
    Address {
        /// As configured.
        address: String,
    },
    /// The port is taken, or the address is not of this machine.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What the server shows.
#[derive(Clone)]
pub(crate) struct ServerState {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) running: Running,
    pub(crate) health: Health,
}

/// Binds the server's socket.
pub(crate) async fn bind(address: &str) -> Result<TcpListener, BindError> {
    let invalid = || BindError::Address { address: address.to_owned() };
    let has_port = address.contains(':') && !address.ends_with(']');
    let full = if has_port { address.to_owned() } else { format!("{address}{DEFAULT_PORT}") };
    let (host, port) = full.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_name_with_port = host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err();
    if is_name_with_port {
        return Err(invalid());
    }
    let bound = if host.is_empty() {
        match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await
            }
            bound => bound,
        }
    } else {
        TcpListener::bind((host, port)).await
    };
    bound.map_err(|source| BindError::Bind { address: full, source })
}

/// Serves until `stop`, and ends connections in order then.
pub(crate) async fn serve(listener: TcpListener, shown: ServerState, stop: CancellationToken) {
    let address: Option<SocketAddr> = listener.local_addr().ok();
    tracing::info!(
        address = address.map(|address| address.to_string()).unwrap_or_default(),
        "Metrics server listening"
    );
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/debug/jobs/list", get(jobs))
        .route("/debug/process/state", get(state))
        .with_state(shown);
    let serve = |stream, place| connection(stream, router.clone(), place, stop.clone());
    let full = WhenFull::OldestEnds;
    stop.run_until_cancelled(accepting::accept(("metrics server", full), listener, CONNECTIONS, serve)).await;
}

async fn connection(stream: TcpStream, router: Router, place: ConnectionPermit, stop: CancellationToken) {
    // Whoever reaches the port could keep probes out by being silent.
    if place.until_wanted(serve_connection(stream, router, stop)).await.is_none() {
        tracing::debug!("a connection to the metrics server has made room for a newer one");
    }
}

async fn serve_connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = if let Some(ended) = stop.run_until_cancelled(connection.as_mut()).await {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        timeout(LAST, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the metrics server has ended");
    }
}

async fn metrics(State(shown): State<ServerState>) -> Response {
    shown.metrics.unanswered.set(shown.health.unanswered_for().as_secs_f64());
    match shown.running.scrape(&shown.metrics) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(shown): State<ServerState>) -> Response {
    let (status, text) = match shown.health.readiness() {
        Ok(text) => (StatusCode::OK, text),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    (status, format!("{}\n", redact(None, &text))).into_response()
}

async fn jobs(State(shown): State<ServerState>) -> Response {
    ([("X-List-Version", "2"), ("Content-Type", "text/plain")], shown.running.list()).into_response()
}

async fn state(State(shown): State<ServerState>) -> String {
    format!("{}\n", shown.health.state().as_str())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_address_needs_neither_host_nor_brackets() {
        for address in ["127.0.0.1:0", "[::1]:0", "::1:0", "localhost:0", ":0"] {
            match bind(address).await {
                Ok(listener) => assert_ne!(listener.local_addr().unwrap().port(), 0, "{address}"),
                // A machine without IPv6 has no such address, which is not what is wrong with it.
                Err(BindError::Bind { .. }) if address.contains("::1") => {}
                Err(error) => panic!("{address}: {error}"),
            }
        }
        // Somebody else may have the usual port.
        let bound = bind("[::1]").await;
        assert!(matches!(bound, Ok(_) | Err(BindError::Bind { .. })), "{bound:?}");
    }

    #[tokio::test]
    async fn what_is_no_address_is_quoted_and_what_is_taken_is_named() {
        for address in ["localhost:http", "localhost:99999", "a:b:80"] {
            let error = bind(address).await.unwrap_err();
            assert_eq!(error.to_string(), format!("{address:?} is not of the form host:port"));
        }
        let listener = bind("127.0.0.1:0").await.unwrap();
        let taken = listener.local_addr().unwrap().to_string();
        assert_eq!(bind(&taken).await.unwrap_err().to_string(), format!("cannot listen on {taken}"));
    }

    /// Asks whether the process lives.
    async fn ask(probe: &mut TcpStream) -> String {
        let ask = async {
            probe.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"live\n") && probe.read_buf(&mut answer).await.unwrap() > 0 {}
            String::from_utf8(answer).unwrap()
        };
        timeout(Duration::from_secs(30), ask).await.expect("an answer")
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_out() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let shown = ServerState { metrics, running: Running::default(), health: Health::default() };
        let serving = crate::tasks::spawn(serve(listener, shown, CancellationToken::new()));
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            open.push(TcpStream::connect(address).await.unwrap());
        }
        // The newest and the oldest of those that have a place each.
        for at in [CONNECTIONS - 1, 0] {
            let answer = ask(&mut open[at]).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{at}: {answer}");
        }
        for _ in 0..CONNECTIONS {
            open.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = ask(&mut TcpStream::connect(address).await.unwrap()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serving.abort();
    }
}
