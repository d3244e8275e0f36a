//! A port of one of a job's containers, for people who look at what runs there. Requests are passed
//! on as they are, over a connection that `pods/exec` makes to the port; upgrades to `WebSocket`
//! too.

use std::sync::Arc;
use std::time::Duration;

use gantry_kube::ExecOutcome;
use gantry_wire::session::SessionPort;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::answer::{Body, sentence};
use super::open::Session;
use super::service_tls;
use crate::accepting::ConnectionPermit;
use crate::notices::{Notice as _, PortUnreachable};
use crate::tasks;

/// How long a service may take to begin its answer: GitLab's own proxy waits no longer for
/// anything.
const ANSWER: Duration = Duration::from_secs(60);

/// Headers of one connection only (RFC 9110), and the word that opens the session, which is none of
/// the service's business.
const OURS: [HeaderName; 6] = [
    header::AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
];

/// What of the session's ports is wanted.
pub(super) struct Port<'a> {
    pub(super) service: &'a str,
    /// Its number or its name.
    pub(super) which: &'a str,
    pub(super) path: &'a str,
}

/// Passes on a request, and its answer.
pub(super) async fn answer(
    session: Arc<Session>,
    request: Request<Incoming>,
    wanted: Port<'_>,
    place: ConnectionPermit,
) -> Response<Body> {
    let Some(port) = session.ports.iter().find(|port| is(port, &wanted)) else {
        return sentence(StatusCode::NOT_FOUND, "no container of the job offers this port: name it under `ports`");
    };
    let Some(pod) = session.pod(Duration::ZERO).await else {
        return sentence(StatusCode::SERVICE_UNAVAILABLE, "the job has no pod yet");
    };
    let stream = match session.target.cluster.open_port(&pod, port.number).await {
        Ok(stream) => stream,
        Err(error) => {
            let _entered = session.span.enter();
            PortUnreachable { port: port.number, pod: &pod, error: &error }.say();
            return sentence(StatusCode::SERVICE_UNAVAILABLE, "the job's pod could not be reached");
        }
    };
    let outcome = stream.outcome();
    let what = (port.number, wanted.path);
    let asked = async {
        if port.protocol == "https" {
            let stream = service_tls::connect(stream)
                .await
                .map_err(|error| format!("the service does not speak TLS: {error}"))?;
            ask(&session, TokioIo::new(stream), request, what, place).await.map_err(|error| no_http(&error))
        } else {
            ask(&session, TokioIo::new(stream), request, what, place).await.map_err(|error| no_http(&error))
        }
    };
    match timeout(ANSWER, asked).await {
        Ok(Ok(response)) => response,
        Ok(Err(reason)) => sentence(StatusCode::BAD_GATEWAY, &why(&outcome, reason)),
        Err(_) => sentence(StatusCode::GATEWAY_TIMEOUT, "the service has not answered"),
    }
}

/// By its number or its name, and any name of its container.
fn is(port: &SessionPort, wanted: &Port<'_>) -> bool {
    let named = !port.name.is_empty() && port.name == wanted.which;
    let is_http = port.protocol.is_empty() || port.protocol == "http" || port.protocol == "https";
    is_http
        && port.services.iter().any(|name| name == wanted.service)
        && (named || port.number.to_string() == wanted.which)
}

fn no_http(error: &hyper::Error) -> String {
    format!("the service does not speak HTTP: {error}")
}

/// What the program in the pod says of the port is nearer to the cause than what became of the
/// connection.
fn why(outcome: &ExecOutcome, reason: String) -> String {
    let said = outcome.stderr();
    if said.is_empty() { reason } else { said }
}

async fn ask<S>(
    session: &Session,
    stream: S,
    mut request: Request<Incoming>,
    (port, path): (u16, &str),
    place: ConnectionPermit,
) -> hyper::Result<Response<Body>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let ended = session.ended.clone();
    let held = place.clone();
    tasks::spawn(
        async move {
            // How it ends shows in the answer.
            let _ = ended.run_until_cancelled(connection.with_upgrades()).await;
            drop(held);
        }
        .instrument(session.span.clone()),
    );
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    let ours = is_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    parts.uri = target(&parts.uri, path);
    prepare(&mut parts.headers, port, is_upgrade);
    let mut response = sender.send_request(Request::from_parts(parts, body)).await?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(ours)) = (response.status(), ours) {
        join(session, ours, hyper::upgrade::on(&mut response), place);
    } else {
        response.headers_mut().remove(header::CONNECTION);
    }
    Ok(response.map(http_body_util::BodyExt::boxed))
}

/// What is asked for, as the service knows it.
fn target(asked: &Uri, path: &str) -> Uri {
    let query = asked.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{path}{query}").parse::<PathAndQuery>().map_or_else(|_| Uri::from_static("/"), Uri::from)
}

fn prepare(headers: &mut HeaderMap, port: u16, is_upgrade: bool) {
    for name in OURS {
        headers.remove(name);
    }
    if !is_upgrade {
        headers.remove(header::CONNECTION);
    }
    if let Ok(host) = HeaderValue::from_str(&format!("localhost:{port}")) {
        headers.insert(header::HOST, host);
    }
}

/// Joins two connections that speak something else from now on.
fn join(session: &Session, ours: OnUpgrade, theirs: OnUpgrade, place: ConnectionPermit) {
    let ended = session.ended.clone();
    let joined = async move {
        let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        // Either side may end it at any time.
        let _ = ended.run_until_cancelled(tokio::io::copy_bidirectional(&mut ours, &mut theirs)).await;
        drop(place);
    };
    tasks::spawn(joined.instrument(session.span.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_is_asked() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert_eq!(target(&uri("/session/0a/proxy/web/80/a%20b?x=1&y"), "/a%20b"), "/a%20b?x=1&y");
        assert_eq!(target(&uri("/session/0a/proxy/web/80"), "/"), "/");
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", "w0rd"), ("connection", "close"), ("accept", "*/*")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        prepare(&mut headers, 8080, false);
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&("host", "localhost:8080")) && left.contains(&("accept", "*/*")), "{left:?}");
    }

    #[test]
    fn ports_have_numbers_and_names() {
        let port = SessionPort {
            services: vec!["web".into(), "www".into()],
            number: 80,
            name: "default_port".into(),
            protocol: "http".into(),
        };
        let wanted = |service, which| Port { service, which, path: "/" };
        assert!(is(&port, &wanted("web", "80")) && is(&port, &wanted("www", "default_port")));
        assert!(!is(&port, &wanted("db", "80")) && !is(&port, &wanted("web", "81")) && !is(&port, &wanted("web", "")));
        assert!(!is(&SessionPort { protocol: "tcp".into(), ..port }, &wanted("web", "80")));
    }
}
