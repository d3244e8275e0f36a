//! The connections to an API server. They are as the client library makes them, but that they send
//! without delay, that silent ones are probed, that those which a burst of jobs leaves behind are
//! closed, and that requests are not logged.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::FutureExt as _;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{
            Connected, Connection, HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _, middleware::AuthLayer},
    config::AuthInfo,
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{sync::oneshot, time::timeout};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};

use crate::limits;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Certificates or keys.
    #[error(transparent)]
    Library(#[from] kube::Error),
    /// What is to be trusted.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// A proxy that nothing here can speak with. Its URL can hold a password.
    #[error("a proxy of the kind {scheme} is not known; write http://host:port, https://… or socks5://…")]
    Proxy { scheme: String },
    /// A plugin of a kubeconfig that has not said who we are.
    #[error("the credential plugin {plugin:?} of the kubeconfig {problem}")]
    Plugin { plugin: String, problem: String },
}

/// Opens connections to the API server, whichever way leads there.
type Dial = BoxCloneSyncService<Uri, Wire, BoxError>;

/// A client for what `config` describes.
pub(crate) async fn client(config: Config) -> Result<Client, Unusable> {
    let (dial, auth) = parts_in_time(&config).await?;
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(limits::IDLE_CONNECTION)
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
        .build(dial);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// What holds credentials: our certificate, and what is sent with each request.
type Parts = (Dial, Option<AuthLayer>);

/// Runs the plugin that a kubeconfig has its credentials from, for each part, and waits for it.
fn parts(config: &Config) -> Result<Parts, Unusable> {
    Ok((dial(config)?, config.auth_layer()?))
}

/// The same, but it waits in nobody's way, and not for ever. A plugin that does not answer is left
/// to itself: the library shows no way to end it.
async fn parts_in_time(config: &Config) -> Result<Parts, Unusable> {
    let Some(plugin) = plugin(&config.auth_info) else { return parts(config) };
    let config = config.clone();
    let (tell, told) = oneshot::channel();
    // No blocking task of the runtime: that would have to end before the process can.
    let asking = thread::Builder::new().name("credentials".to_owned()).spawn(move || tell.send(parts(&config)));
    let problem = match (asking, timeout(limits::PLUGIN, told).await) {
        (_, Ok(Ok(parts))) => return parts,
        (_, Err(_)) => {
            format!("has not answered in {} s: does it wait for somebody to log in?", limits::PLUGIN.as_secs())
        }
        (Err(error), _) => format!("cannot be run: {error}"),
        (Ok(_), Ok(Err(_))) => "cannot be run".to_owned(),
    };
    Err(Unusable::Plugin { plugin: plugin.to_owned(), problem })
}

/// The command that credentials come from, if it is one.
fn plugin(auth: &AuthInfo) -> Option<&str> {
    let of_provider = auth.auth_provider.as_ref().and_then(|provider| provider.config.get("cmd-path"));
    auth.exec.as_ref().and_then(|exec| exec.command.as_ref()).or(of_provider).map(String::as_str)
}

/// TLS as the library makes it, but that a server which is its own authority is trusted where its
/// very certificate is configured: `openssl req -x509` makes such, and Go accepts them.
fn https<C>(config: &Config, connector: C) -> Result<HttpsConnector<C>, Unusable> {
    // What the library would trust is replaced below; with no list it would ask the system.
    let mut trusts_nobody = config.clone();
    trusts_nobody.root_cert = Some(Vec::new());
    let mut tls = trusts_nobody.rustls_client_config()?;
    if !config.accept_invalid_certs {
        let configured = config.root_cert.clone().map(|all| all.into_iter().map(CertificateDer::from).collect());
        tls.dangerous().set_certificate_verifier(gantry_http::verifier(configured)?);
    }
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match config.tls_server_name.clone() {
        Some(name) => {
            let name = ServerName::try_from(name).map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
        None => builder,
    };
    Ok(builder.enable_http1().wrap_connector(connector))
}

/// The way to the API server: straight, or through the proxy that `config` names.
fn dial(config: &Config) -> Result<Dial, Unusable> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Head and body of a request are two writes. By default the second waits until the other side
    // acknowledges the first, which it puts off by 40 ms.
    tcp.set_nodelay(true);
    // A log that is followed has no time-out: without probes, nothing would end it whose flow a NAT
    // has dropped.
    tcp.set_keepalive(Some(limits::KEEPALIVE));
    tcp.set_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL));
    let Some(proxy) = config.proxy_url.clone() else {
        return Ok(secured(https(config, tcp)?));
    };
    match proxy.scheme_str() {
        Some("http") => Ok(secured(https(config, tunnel(proxy, tcp))?)),
        Some("https") => {
            let to_proxy = https(config, tcp)?;
            Ok(secured(https(config, tunnel(proxy, to_proxy))?))
        }
        Some("socks5") => Ok(secured(https(config, SocksV5::new(proxy, tcp))?)),
        scheme => Err(Unusable::Proxy { scheme: scheme.unwrap_or_default().to_owned() }),
    }
}

/// A tunnel through an HTTP proxy, with the name and password that its URL holds.
fn tunnel<C>(proxy: Uri, to_proxy: C) -> Tunnel<C> {
    let basic = proxy.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(user, _)| user);
    let basic = basic.and_then(basic_auth);
    let tunnel = Tunnel::new(proxy, to_proxy);
    match basic {
        Some(basic) => tunnel.with_auth(basic),
        None => tunnel,
    }
}

/// The header for `name:password` as a URL has it, with escapes.
fn basic_auth(user: &str) -> Option<HeaderValue> {
    let plain: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
    HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(plain))).ok()
}

/// The same connector with a limit of time, and without its type: the client's code exists once,
/// not once for each kind of proxy.
fn secured<C>(connector: C) -> Dial
where
    C: Service<Uri, Error = BoxError> + Clone + Send + Sync + 'static,
    C::Response: Stream + 'static,
    C::Future: Send + 'static,
{
    Dial::new(tower::service_fn(move |address: Uri| {
        let connecting = timeout(limits::CONNECT, connector.clone().oneshot(address));
        connecting.map(|made| match made {
            Ok(made) => made.map(|stream| Wire(Box::new(stream))),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        })
    }))
}

/// What a connection can do.
trait Stream: Read + Write + Connection + Send + Unpin {}

impl<T: Read + Write + Connection + Send + Unpin> Stream for T {}

/// A connection of any kind.
struct Wire(Box<dyn Stream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.0.connected()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_name_and_password_are_sent_as_they_are_meant() {
        // "user:pa@ss:word%": what stands for itself in a header is escaped in a URL.
        let header = basic_auth("user:pa%40ss%3Aword%25").unwrap();
        assert_eq!(header, "Basic dXNlcjpwYUBzczp3b3JkJQ==");
    }

    #[test]
    fn a_proxy_of_an_unknown_kind_is_an_error_that_does_not_repeat_its_url() {
        let mut config = Config::new(Uri::from_static("https://10.0.0.1:6443"));
        for (url, known) in [
            ("http://proxy:3128", true),
            ("https://user:secret@proxy:3128", true),
            ("socks5://proxy:1080", true),
            ("ftp://user:secret@proxy:21", false),
        ] {
            config.proxy_url = Some(url.parse().unwrap());
            let dial = dial(&config);
            assert_eq!(dial.is_ok(), known, "{url}");
            assert!(dial.err().is_none_or(|error| !error.to_string().contains("secret")));
        }
    }

    /// What the kernel's timer of the socket connected to `port` is for (proc(5), `tcp`): 2 stands
    /// for the next probe.
    #[cfg(target_os = "linux")]
    fn timer(port: u16) -> String {
        let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let peer = format!("0100007F:{port:04X}");
        let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = fields.filter(|fields| fields.get(2) == Some(&peer.as_str())).collect::<Vec<_>>();
        assert_eq!(ours.len(), 1, "{sockets}");
        ours[0][5].to_owned()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_silent_connection_is_probed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address: Uri = format!("http://127.0.0.1:{port}").parse().unwrap();
        let _connection = dial(&Config::new(address.clone())).unwrap().oneshot(address).await.unwrap();
        let timer = timer(port);
        assert!(timer.starts_with("02:"), "{timer}");
    }

    #[tokio::test]
    async fn a_server_that_is_its_own_authority_is_trusted() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap().der().clone();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.clone()], rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Uri = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let reached = async |trusted: Vec<u8>| {
            let mut config = Config::new(address.clone());
            config.root_cert = Some(vec![trusted]);
            let serving = async { acceptor.accept(listener.accept().await.unwrap().0).await };
            let (made, _) = tokio::join!(dial(&config).unwrap().oneshot(address.clone()), serving);
            made.is_ok()
        };
        assert!(reached(own.to_vec()).await);
        let other = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert!(!reached(other.der().to_vec()).await);
    }
}
