//! The transport that speaks HTTP/1.1 over the network. It neither follows redirects nor tries again: `client.rs` does, for every
//! transport alike.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use rustls::ClientConfig;
use tokio::time::Instant;
use url::Url;

use crate::client::{ClientError, ProxySettings};
use crate::limits;
use crate::tls::{ChainRecorder, Identity};
use crate::transport::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};

/// How connections are made.
struct Settings {
    tls: ClientConfig,
    proxy: ProxySettings,
    /// GitLab is on this machine: a proxy from the environment does not apply, as in Go.
    loopback: bool,
}

/// Connections to one GitLab instance, and to wherever it redirects.
pub(crate) struct HttpTransport {
    settings: Settings,
    chain: Option<Arc<ChainRecorder>>,
    max_age: Duration,
    pool: Mutex<Pool>,
}

struct Pool {
    client: reqwest::Client,
    since: Instant,
}

impl HttpTransport {
    pub(crate) fn new(
        base: &Url,
        identity: &Identity,
        proxy: ProxySettings,
        max_age: Duration,
    ) -> Result<Self, ClientError> {
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let tls = crate::tls::configure(host, identity)?;
        let settings = Settings { tls: tls.config, proxy, loopback: is_loopback(host) };
        let pool = Mutex::new(Pool { client: connect(&settings)?, since: Instant::now() });
        // A plain connection proves nothing, even if it redirects to an encrypted one.
        let chain = (base.scheme() == "https").then_some(tls.chain);
        Ok(Self { settings, chain, max_age, pool })
    }

    /// The current pool. One that is too old is replaced, so that its idle connections close and rotated certificates and other machines
    /// behind a load balancer are seen; requests under way keep theirs.
    fn client(&self) -> reqwest::Client {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.max_age.is_zero() && pool.since.elapsed() >= self.max_age {
            match connect(&self.settings) {
                Ok(client) => *pool = Pool { client, since: Instant::now() },
                Err(error) => {
                    tracing::warn!(%error, "connections older than connection_max_age cannot be renewed");
                }
            }
        }
        pool.client.clone()
    }
}

fn connect(settings: &Settings) -> Result<reqwest::Client, ClientError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(settings.tls.clone())
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .pool_idle_timeout(limits::IDLE_CONNECTION_TIMEOUT)
        .pool_max_idle_per_host(limits::MAX_IDLE_CONNECTIONS)
        .tcp_keepalive(limits::TCP_KEEPALIVE);
    let http = |error: reqwest::Error| ClientError::Http(Box::new(error));
    let builder = match &settings.proxy {
        ProxySettings::Direct => builder.no_proxy(),
        ProxySettings::Environment if settings.loopback => builder.no_proxy(),
        ProxySettings::Environment => builder,
        ProxySettings::Given { http: plain, https, no_proxy } => {
            let exceptions = reqwest::NoProxy::from_string(no_proxy);
            let mut builder = builder.no_proxy();
            if let Some(proxy) = plain {
                builder =
                    builder.proxy(reqwest::Proxy::http(proxy.expose()).map_err(http)?.no_proxy(exceptions.clone()));
            }
            if let Some(proxy) = https {
                builder = builder.proxy(reqwest::Proxy::https(proxy.expose()).map_err(http)?.no_proxy(exceptions));
            }
            builder
        }
    };
    builder.build().map_err(http)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Transport for HttpTransport {
    fn send(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        let client = self.client();
        async move {
            let request = reqwest::Request::try_from(request.map(to_reqwest)).map_err(broken)?;
            let answer = tokio::time::timeout(timeouts.head, client.execute(request))
                .await
                .map_err(|elapsed| TransportError::new(TransportFault::Timeout, elapsed))?
                .map_err(broken)?;
            Ok(Response::from(answer).map(|body| with_idle_limit(body, timeouts.idle)))
        }
        .boxed()
    }

    fn verified_chain_pem(&self) -> Option<String> {
        self.chain.as_ref()?.pem()
    }
}

fn to_reqwest(body: Body) -> reqwest::Body {
    match body {
        Body::Bytes(bytes) => reqwest::Body::from(bytes),
        Body::Stream(stream) => reqwest::Body::wrap_stream(stream),
    }
}

/// The body's pieces; silence in the middle ends it with an error.
fn with_idle_limit(body: reqwest::Body, idle: Duration) -> ByteStream {
    let pieces = body.into_data_stream().map_err(broken);
    let limited = stream::unfold(Some(Box::pin(pieces)), move |pieces| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout(idle, pieces.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok::<Bytes, _>(piece), Some(pieces))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(elapsed) => Some((Err(TransportError::new(TransportFault::Timeout, elapsed)), None)),
        }
    });
    Box::pin(limited)
}

/// Sorts a failure. The URL is taken out, because a query can hold a signature.
fn broken(error: reqwest::Error) -> TransportError {
    let fault = if error.is_connect() {
        TransportFault::Connect
    } else if error.is_timeout() {
        TransportFault::Timeout
    } else if error.is_builder() {
        TransportFault::Request
    } else {
        TransportFault::Broken
    };
    TransportError::new(fault, error.without_url())
}

#[cfg(test)]
mod tests;
