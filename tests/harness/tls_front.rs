//! What stands before a GitLab that is reached by https: it has a certificate, which somebody
//! replaces from time to time, and may ask for one.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::TlsAcceptor;

/// A server for TLS before one without. Ends with its owner.
pub struct TlsFront {
    address: SocketAddr,
    acceptor: Rc<RefCell<TlsAcceptor>>,
    certificate: String,
    client: Option<CertificateDer<'static>>,
    /// Raised to cut everything that is open.
    cut: Rc<watch::Sender<()>>,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// Listens on a free port of `host` with a certificate of its own and passes on to `server`.
    /// Needs a `LocalSet`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(host: IpAddr, server: SocketAddr) -> anyhow::Result<Self> {
        Self::start_for(host, server, None).await
    }

    /// The same for nobody but who has this certificate (DER), which has signed itself.
    ///
    /// # Errors
    /// No port is free, or it is no certificate.
    pub async fn start_for(
        host: IpAddr,
        server: SocketAddr,
        client: Option<CertificateDer<'static>>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await.context("no port for TLS")?;
        let address = listener.local_addr()?;
        let (certificate, acceptor) = identity(host, client.as_ref())?;
        let (acceptor, cut) = (Rc::new(RefCell::new(acceptor)), Rc::new(watch::Sender::new(())));
        let (accepting, cutting) = (Rc::clone(&acceptor), Rc::clone(&cut));
        let task = spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, mut cut) = (accepting.borrow().clone(), cutting.subscribe());
                drop(spawn_local(async move {
                    tokio::select! {
                        _ = cut.changed() => {}
                        // Either side may end it at any time.
                        _ = pass_on(acceptor, client, server) => {}
                    }
                }));
            }
        });
        Ok(Self { address, acceptor, certificate, client, cut, task })
    }

    /// `https://host:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate that it shows now, which nobody but itself has signed (PEM).
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Shows another certificate from now on, and cuts what is connected.
    ///
    /// # Errors
    /// None can be made.
    pub fn replace(&mut self) -> anyhow::Result<()> {
        let (certificate, acceptor) = identity(self.address.ip(), self.client.as_ref())?;
        self.certificate = certificate;
        *self.acceptor.borrow_mut() = acceptor;
        self.cut.send_replace(());
        Ok(())
    }
}

impl std::fmt::Debug for TlsFront {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFront").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
        self.cut.send_replace(());
    }
}

async fn pass_on(acceptor: TlsAcceptor, client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(server).await?;
    // Waiting to fill packets would slow down every exchange.
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn identity(host: IpAddr, client: Option<&CertificateDer<'static>>) -> anyhow::Result<(String, TlsAcceptor)> {
    let made = rcgen::generate_simple_self_signed([host.to_string()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = match client {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(client) => {
            let mut roots = RootCertStore::empty();
            roots.add(client.clone())?;
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?
        }
    };
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok((made.cert.pem(), TlsAcceptor::from(Arc::new(tls))))
}
