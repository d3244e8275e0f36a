//! Connections: HTTP/1.1 over any stream of bytes, with one thing that a web framework cannot do by
//! itself, namely to end a connection without an answer. Listening is in `server.rs`; what is
//! answered is decided in `api/`.

use std::convert::Infallible;
use std::future::Future;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

/// Marks an answer that must not be sent: the connection ends instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken;

/// Why a connection ended without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault ends the connection")]
struct Ended;

/// Answers the requests of one connection until it ends, or until `watcher` says that the server
/// stops and the request under way has been answered.
pub(crate) fn serve<S>(stream: S, router: Router, watcher: Watcher) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answering = router.call(request);
        async move {
            let answered: Result<Response<Body>, Infallible> = answering.await;
            let response = answered.unwrap_or_else(|never| match never {});
            if response.extensions().get::<Broken>().is_some() { Err(Ended) } else { Ok(response) }
        }
    });
    let connection = watcher.watch(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection has ended");
        }
    }
}
