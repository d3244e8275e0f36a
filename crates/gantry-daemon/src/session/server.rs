//! The listener: TLS, HTTP/1.1, and which session a request is for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use gantry_config::settings::SessionServer as Settings;
use gantry_core::Secret;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::address::{SessionTarget, split};
use super::answer::{Body, sentence};
use super::certificate::{CertificateError, Identity};
use super::open::Sessions;
use super::proxy::{self, Port};
use super::terminal;
use crate::accepting::{self, ConnectionPermit, WhenFull};
use crate::notices::{Notice as _, SessionServerChanged};
use crate::{tasks, wiring};

/// Connections at once: many people in many terminals. Strangers who connect without a word cannot
/// take more.
const CONNECTIONS: usize = 256;

/// How long a stranger may take to say what he wants.
const HELLO: Duration = Duration::from_secs(10);

/// The server: bound, not served yet.
pub(crate) struct SessionServer {
    listener: Option<TcpListener>,
    sessions: Sessions,
    stop: CancellationToken,
}

impl SessionServer {
    /// Makes one of a socket that is bound to `address`. Managers with the same `secret` can take
    /// each other's place.
    ///
    /// # Errors
    /// No certificate can be made for whom it is called by.
    pub(crate) fn new(
        listener: TcpListener,
        address: &str,
        settings: &Settings,
        secret: Option<&Secret>,
    ) -> Result<Self, CertificateError> {
        let advertised = settings.advertise_address.clone().unwrap_or_else(|| reachable(address, &listener));
        let identity = Identity::make(&host(&advertised, &listener), secret)?;
        let sessions = Sessions::new(&advertised, identity, settings.session_timeout);
        Ok(Self { listener: Some(listener), sessions, stop: CancellationToken::new() })
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Begins to serve.
    pub(crate) fn serve(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        let address: Option<SocketAddr> = listener.local_addr().ok();
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(address, "Session server listening");
        let work = serve(listener, self.sessions.acceptor(), self.sessions.clone());
        let stop = self.stop.clone();
        tasks::spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// Ends the server.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

/// The address that is listened on, as others can use it: with the port that was given, and with
/// the name of this host where it names none.
fn reachable(address: &str, listener: &TcpListener) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = listener.local_addr().map_or_else(|_| port.to_owned(), |address| address.port().to_string());
    if !matches!(host, "" | "0.0.0.0" | "[::]") {
        return format!("{host}:{port}");
    }
    let host = wiring::hostname();
    tracing::warn!(
        "listen_address in [session_server] names no host: GitLab is told {host}:{port}; set advertise_address to host:port as \
         GitLab reaches this runner"
    );
    format!("{host}:{port}")
}

/// What of new settings acts at once, and what does not.
pub(crate) fn follow(server: Option<&SessionServer>, old: &Settings, new: &Settings) {
    if (&old.listen_address, &old.advertise_address) != (&new.listen_address, &new.advertise_address) {
        SessionServerChanged.say();
    }
    if let Some(server) = server {
        server.sessions.set_timeout(new.session_timeout);
    }
}

/// Whom the certificate is for: who is called by this address, without its port; else the one that
/// is listened on.
fn host(advertised: &str, listener: &TcpListener) -> String {
    let host = advertised.rsplit_once(':').map_or(advertised, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if !host.is_empty() {
        return host.to_owned();
    }
    listener.local_addr().map_or_else(|_| "localhost".to_owned(), |address| address.ip().to_string())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, sessions: Sessions) {
    let serve = |stream, place| connection(stream, acceptor.clone(), sessions.clone(), place);
    accepting::accept(("session server", WhenFull::NewestWaits), listener, CONNECTIONS, serve).await;
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, sessions: Sessions, place: ConnectionPermit) {
    // Keys that a person presses must not wait for each other.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HELLO, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection to the session server is no TLS"),
        Err(_) => return,
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let (sessions, place) = (sessions.clone(), place.clone());
        async move { Ok::<_, Infallible>(answer(&sessions, request, place).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HELLO);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection to the session server has ended");
    }
}

async fn answer(sessions: &Sessions, request: Request<Incoming>, place: ConnectionPermit) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let found = split(&path).and_then(|(id, rest)| Some((sessions.get(id)?, rest)));
    let Some((session, rest)) = found else {
        return sentence(
            StatusCode::NOT_FOUND,
            "there is no such session: the job has ended, or another manager has it",
        );
    };
    let authorization = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    if !authorization.is_some_and(|word| session.admits(word)) {
        return sentence(StatusCode::UNAUTHORIZED, "the header Authorization does not open this session");
    }
    match SessionTarget::read(rest) {
        Some(SessionTarget::Terminal) => terminal::answer(session, request, place).await,
        Some(SessionTarget::Port { service, port, path }) => {
            let wanted = Port { service: &service, which: &port, path: &path };
            proxy::answer(session, request, wanted, place).await
        }
        None => sentence(StatusCode::NOT_FOUND, "a session has exec and proxy/<service>/<port>/<path>"),
    }
}
