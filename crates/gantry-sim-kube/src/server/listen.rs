//! Connections: accepting them, TLS, HTTP/1.1 with upgrades. One bad connection never stops the others.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{api, cluster::Cluster};

/// A client that has not finished its TLS handshake by then holds a task for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After an accept error (no more file descriptors, mostly) trying again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for ever.
pub(crate) async fn accept(cluster: &Arc<Cluster>, listener: &TcpListener, acceptor: &TlsAcceptor) {
    loop {
        match listener.accept().await {
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
    let router: Router = api::router(Arc::clone(cluster));
    let served = Builder::new(TokioExecutor::new())
        .http1_only()
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}
