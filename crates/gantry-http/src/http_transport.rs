//! The transport that speaks HTTP/1.1 over the network. It neither follows redirects nor tries
//! again: `send.rs` does, for every transport alike.

use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use gantry_core::ClientIdentity;
use gantry_core::error_chain::chain;
use gantry_core::proxy::Proxies;
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use rustls::ClientConfig;
use tokio::time::Instant;
use url::Url;

use crate::certificates::{FilesNow, TlsFiles};
use crate::explain::{Circumstances, explain};
use crate::limits;
use crate::options::{Options, ProxySettings};
use crate::setup_error::SetupError;
use crate::tls::{ChainRecorder, Pem, Tls, configure, has_certificate};
use crate::transport::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};

/// Connections to one server, and to wherever it redirects.
pub struct HttpTransport {
    host: String,
    is_encrypted: bool,
    given: Given,
    files: TlsFiles,
    proxies: Proxies,
    max_age: Duration,
    pool: Mutex<Pool>,
}

/// A client's certificate that is no file, for messages.
const GIVEN_CERT: &str = "the configured client certificate";
const GIVEN_KEY: &str = "the configured key";

/// What is no file.
struct Given {
    ca_pem: Option<String>,
    identity: Option<ClientIdentity>,
}

/// Connections, and what they were made with.
struct Pool {
    client: reqwest::Client,
    since: Instant,
    tls: ClientConfig,
    chain: Arc<ChainRecorder>,
    files: FilesNow,
    looked: Instant,
}

impl HttpTransport {
    /// Connections to the server of `base`, whose identity is remembered. Reads the system's
    /// certificates and the files of `options`, and makes no connection yet.
    pub fn new(base: &Url, options: Options) -> Result<Self, SetupError> {
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let Options { ca_pem, identity, files, proxy, connection_max_age: max_age } = options;
        let given = Given { ca_pem, identity };
        let proxies = proxies(proxy)?;
        let pool = Mutex::new(Pool::new(&host, &given, &files, &proxies)?);
        let is_encrypted = base.scheme() == "https";
        Ok(Self { host, is_encrypted, given, files, proxies, max_age, pool })
    }

    fn with<T>(&self, read: impl FnOnce(&mut Pool) -> T) -> T {
        read(&mut self.pool.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current connections. Those whose files have changed are replaced, and those that are too
    /// old: so their idle connections close, and rotated certificates and other machines behind a
    /// load balancer are seen. Requests under way keep theirs.
    fn client(&self) -> (reqwest::Client, Instant) {
        self.with(|pool| {
            if pool.looked.elapsed() >= limits::LOOK_AT_FILES {
                pool.looked = Instant::now();
                if pool.files.have_changed() {
                    self.renew(pool);
                }
            }
            if !self.max_age.is_zero() && pool.since.elapsed() >= self.max_age {
                self.connect_anew(pool);
            }
            (pool.client.clone(), pool.since)
        })
    }

    fn connect_anew(&self, pool: &mut Pool) {
        match connect(&pool.tls, &self.proxies) {
            Ok(client) => (pool.client, pool.since) = (client, Instant::now()),
            Err(error) => tracing::warn!(%error, "connections cannot be made anew; the old ones are used on"),
        }
    }

    /// A connection of those made since `since` has not answered: whatever it was connected to may
    /// be gone, and all the others with it, which only a request on each would show.
    fn distrust(&self, since: Instant) {
        self.with(|pool| {
            if pool.since == since {
                self.connect_anew(pool);
            }
        });
    }

    fn renew(&self, pool: &mut Pool) {
        match Pool::new(&self.host, &self.given, &self.files, &self.proxies) {
            Ok(new) => {
                tracing::info!(host = self.host, "changed files for TLS towards this server are used from now on");
                *pool = new;
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(host = self.host, "changed files for TLS towards this server are not used: {error}");
                pool.files.accept();
            }
        }
    }

    /// Sorts a failure and says what helps. The URL is left out but for its host, because a query
    /// can hold a signature.
    fn broken(&self, error: reqwest::Error, uri: &Uri) -> TransportError {
        let fault = fault(&error);
        let error = error.without_url();
        if fault == TransportFault::Request {
            return TransportError::new(fault, error);
        }
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
        let proxy = self.proxies.of(scheme, host, port).and_then(|proxy| Url::parse(proxy.expose()).ok());
        let proxy = proxy.map(|proxy| {
            format!("{}:{}", proxy.host_str().unwrap_or_default(), proxy.port_or_known_default().unwrap_or_default())
        });
        let place = self.files.place_of_ca(&self.host).map(|place| place.display().to_string());
        let words = self.with(|pool| {
            let identity = pool.files.identity();
            let name = |pem: &Option<Pem>| pem.as_ref().map(|pem| pem.name().to_owned());
            let ca = name(&identity.ca);
            let (cert, key) = match (name(&identity.cert), name(&identity.key), &self.given.identity) {
                (None, None, Some(_)) => (Some(GIVEN_CERT.to_owned()), Some(GIVEN_KEY.to_owned())),
                (cert, key, _) => (cert, key),
            };
            explain(
                &error,
                &Circumstances {
                    scheme,
                    host,
                    port,
                    connecting: fault == TransportFault::Connect,
                    proxy: proxy.as_deref(),
                    ca: ca.as_deref().or(self.given.ca_pem.as_ref().map(|_| "the configured CA")),
                    place_of_ca: place.as_deref(),
                    cert: cert.as_deref(),
                    key: key.as_deref(),
                },
            )
        });
        TransportError::new(fault, words)
    }
}

impl Pool {
    /// Reads the files; connects to nothing yet.
    fn new(host: &str, given: &Given, files: &TlsFiles, proxies: &Proxies) -> Result<Self, SetupError> {
        let files = files.read(host)?;
        let mut identity = files.identity().clone();
        let pem = |text: &str, name: &str| Pem::new(text.to_owned(), name.to_owned());
        identity.ca = identity.ca.or_else(|| given.ca_pem.as_ref().map(|text| pem(text, "the configured CA")));
        if let (None, None, Some(given)) = (&identity.cert, &identity.key, &given.identity) {
            identity.cert = Some(pem(&given.cert_pem, GIVEN_CERT));
            identity.key = Some(pem(given.key_pem.expose(), GIVEN_KEY));
        }
        let Tls { config: tls, chain } = configure(host, &identity)?;
        let client = connect(&tls, proxies)?;
        let now = Instant::now();
        Ok(Self { client, since: now, tls, chain, files, looked: now })
    }
}

/// The proxies to use, once each is known to be one.
fn proxies(settings: ProxySettings) -> Result<Proxies, SetupError> {
    let proxies = match settings {
        ProxySettings::Direct => Proxies::default(),
        ProxySettings::Given(proxies) => proxies,
        ProxySettings::Environment => from_environment(),
    };
    for (scheme, proxy) in [("http", proxies.http()), ("https", proxies.https())] {
        if proxy.is_some_and(|proxy| reqwest::Proxy::all(proxy.expose()).is_err()) {
            return Err(SetupError::Proxy { scheme });
        }
    }
    Ok(proxies)
}

/// What is set and not used is said once for the process.
fn from_environment() -> Proxies {
    static SAID: Once = Once::new();
    let variable = |name: &str| std::env::var(name).ok();
    SAID.call_once(|| {
        for remark in Proxies::remarks(&variable) {
            tracing::warn!("{remark}");
        }
    });
    Proxies::from_environment(&variable)
}

fn connect(tls: &ClientConfig, proxies: &Proxies) -> Result<reqwest::Client, SetupError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .pool_idle_timeout(limits::IDLE_CONNECTION_TIMEOUT)
        .pool_max_idle_per_host(limits::MAX_IDLE_CONNECTIONS)
        .tcp_keepalive(limits::TCP_KEEPALIVE)
        // The library's own reading of the environment is another one than Go's.
        .no_proxy();
    if proxies.http().or(proxies.https()).is_some() {
        let proxies = proxies.clone();
        builder = builder.proxy(reqwest::Proxy::custom(move |url| {
            let proxy = proxies.of(url.scheme(), url.host_str()?, url.port_or_known_default()?)?;
            Some(proxy.expose().to_owned())
        }));
    }
    builder.build().map_err(|error| SetupError::Library(Box::new(error)))
}

impl Transport for HttpTransport {
    fn send(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        let (client, since) = self.client();
        async move {
            let uri = request.uri().clone();
            let request =
                reqwest::Request::try_from(request.map(to_reqwest)).map_err(|error| self.broken(error, &uri))?;
            let answer = tokio::time::timeout(timeouts.head, client.execute(request))
                .await
                .map_err(|elapsed| {
                    self.distrust(since);
                    TransportError::new(TransportFault::Timeout, elapsed)
                })?
                .map_err(|error| self.broken(error, &uri))?;
            Ok(Response::from(answer).map(|body| with_idle_limit(body, timeouts.idle)))
        }
        .boxed()
    }

    fn verified_chain_pem(&self) -> Option<String> {
        // A plain connection proves nothing, even if it redirects to an encrypted one.
        self.is_encrypted.then(|| self.with(|pool| pool.chain.pem())).flatten()
    }

    fn certificate_is_good_for(&self, time: Duration) -> Option<bool> {
        self.is_encrypted.then(|| self.with(|pool| pool.chain.is_good_for(time))).flatten()
    }

    fn configured_ca_pem(&self) -> Option<String> {
        let ca = self.with(|pool| pool.files.identity().ca.as_ref().map(|pem| pem.text().to_owned()));
        ca.filter(|pem| has_certificate(pem))
    }

    fn client_identity(&self) -> Option<ClientIdentity> {
        let of_files = self.with(|pool| pool.files.identity().client());
        of_files.or_else(|| self.given.identity.clone())
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
    let pieces = body.into_data_stream().map_err(|error| TransportError::new(fault(&error), error.without_url()));
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

fn fault(error: &reqwest::Error) -> TransportFault {
    if error.is_connect() {
        TransportFault::Connect
    } else if error.is_timeout() {
        TransportFault::Timeout
    } else if error.is_builder() {
        TransportFault::Request
    } else {
        TransportFault::Broken
    }
}

#[cfg(test)]
mod tests;
