//! Connections: accepting them, TLS, HTTP/1.1 with upgrades. One bad connection never stops the
//! others.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use tower::ServiceExt;

use crate::{
    api::{self, AnswerLost},
    cluster::Cluster,
    faults::Server,
};

/// A client that has not finished its TLS handshake by then holds a task for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After an accept error (no more file descriptors, mostly) trying again at once would only burn
/// time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for ever.
pub(crate) async fn accept(cluster: &Arc<Cluster>, listener: &TcpListener, acceptor: &TlsAcceptor) {
    loop {
        match listener.accept().await {
            // As a server that is not there: nobody answers, and what was sent is not read.
            Ok((stream, _)) if cluster.faults.server() == Server::Down => drop(stream),
            Ok((stream, _)) => {
                let (cluster, acceptor) = (Arc::clone(cluster), acceptor.clone());
                let tasks = Arc::clone(&cluster);
                tasks.tasks.spawn(async move { secure(&cluster, &acceptor, stream).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn secure(cluster: &Arc<Cluster>, acceptor: &TlsAcceptor, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => connection(cluster, stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS connection"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Serves one connection.
pub(crate) async fn connection(cluster: &Arc<Cluster>, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    if cluster.faults.server() == Server::Down {
        return;
    }
    let router: Router = api::router(Arc::clone(cluster));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            let answer = answer.await.unwrap_or_else(|never| match never {});
            // An error here breaks the connection without a word.
            if answer.extensions().get::<AnswerLost>().is_some() { Err(Lost) } else { Ok(answer) }
        }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        served = serving => if let Err(error) = served {
            tracing::debug!(%error, "a connection broke off");
        },
        () = cluster.faults.restarted() => {}
    }
}

/// An answer that a fault wants to get lost.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the answer is lost, as was ordered")]
struct Lost;
