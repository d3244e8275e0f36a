//! The connections to an API server. They are as the client library makes them, but that they send without delay, that those which a burst
//! of jobs leaves behind are closed, and that requests are not logged.

use std::io;

use futures::FutureExt as _;
use http::Uri;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _},
};
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use crate::limits;

/// A client for what `config` describes. Behind a proxy it is the library's own.
pub(crate) fn client(mut config: Config) -> kube::Result<Client> {
    // Requests are retried in `retry.rs` and nowhere else.
    config.default_retry = false;
    config.connect_timeout = Some(limits::CONNECT);
    if config.proxy_url.is_some() {
        return Ok(ClientBuilder::try_from(config)?.build());
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Head and body of a request are two writes. By default the second waits until the other side acknowledges the first, which it puts off by
    // 40 ms.
    tcp.set_nodelay(true);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let connector = tower::service_fn(move |address: Uri| {
        let connecting = timeout(limits::CONNECT, tls.clone().oneshot(address));
        connecting.map(|made| made.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))).boxed()
    });
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(limits::IDLE_CONNECTION)
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
