//! GitLab's proxy, as it enters a job on behalf of a person: it connects to the session that the
//! runner has offered, trusts the certificate that came with it and no other, and says the word
//! that opens it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::{Certificate, StatusCode, Url};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::GitLab;

/// Longer than a pod takes to start, and than any answer.
const LIMIT: Duration = Duration::from_secs(90);

/// Whoever may enter one job.
#[derive(Debug)]
pub struct Visitor {
    /// `https://host:port/session/<id>`.
    pub url: Url,
    /// The word.
    pub authorization: String,
    /// What is trusted (PEM).
    pub certificate: String,
}

/// A terminal that is open.
pub struct Terminal {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    shown: String,
}

impl Visitor {
    /// The one that GitLab would let into this job.
    ///
    /// # Errors
    /// Its runner has offered no session.
    pub async fn of(gitlab: &GitLab, job: u64) -> anyhow::Result<Self> {
        let session: Value = gitlab.session(job).await?;
        let text = |key: &str| session[key].as_str().map(str::to_owned).with_context(|| format!("no {key}: {session}"));
        Ok(Self {
            url: text("url")?.parse()?,
            authorization: text("authorization")?,
            certificate: text("certificate")?,
        })
    }

    /// An ordinary request to something of the session, such as `/proxy/build/80/`.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn get(&self, what: &str) -> anyhow::Result<(StatusCode, String)> {
        let trusted = Certificate::from_pem(self.certificate.as_bytes())?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).timeout(LIMIT).build()?;
        let request = client.get(format!("{}{what}", self.url)).header("Authorization", &self.authorization);
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    }

    /// Opens the terminal; `Err` in the result is the status of a refusal.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn terminal(&self) -> anyhow::Result<Result<Terminal, StatusCode>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = self.url.host_str().context("no host")?.to_owned();
        let stream = TcpStream::connect((host.as_str(), self.url.port().context("no port")?)).await?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from(host)?, stream).await?;
        let mut request = format!("{}/exec", self.url).replacen("https", "wss", 1).into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("authorization", HeaderValue::from_str(&self.authorization)?);
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("terminal.gitlab.com"));
        match timeout(LIMIT, tokio_tungstenite::client_async(request, stream)).await? {
            Ok((socket, _)) => Ok(Ok(Terminal { socket, shown: String::new() })),
            Err(Error::Http(answer)) => Ok(Err(StatusCode::from_u16(answer.status().as_u16())?)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Terminal {
    /// Types.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn types(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::Binary(text.as_bytes().to_vec().into())).await?)
    }

    /// Waits until the terminal has shown a text, since the last one that was waited for.
    ///
    /// # Errors
    /// It does not, or ends before.
    pub async fn shows(&mut self, text: &str) -> anyhow::Result<()> {
        let read = async {
            while !self.shown.contains(text) {
                ensure!(self.read().await?, "the terminal has ended: {:?}", self.shown);
            }
            Ok(())
        };
        let seen = timeout(LIMIT, read).await;
        seen.with_context(|| format!("no {text:?} in {:?}", self.shown))??;
        let end = self.shown.find(text).context("seen, and gone")? + text.len();
        self.shown.drain(..end);
        Ok(())
    }

    /// Waits until the runner closes it.
    ///
    /// # Errors
    /// It does not.
    pub async fn ends(&mut self) -> anyhow::Result<()> {
        let read = async { while self.read().await.unwrap_or(false) {} };
        timeout(LIMIT, read).await.with_context(|| format!("the terminal stays open: {:?}", self.shown))
    }

    /// Closes it.
    ///
    /// # Errors
    /// The connection is gone already.
    pub async fn close(mut self) -> anyhow::Result<()> {
        Ok(self.socket.close(None).await?)
    }

    /// Takes one message in; false at the end.
    async fn read(&mut self) -> anyhow::Result<bool> {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
            Some(Ok(Message::Close(_))) | None => return Ok(false),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
        }
        Ok(true)
    }
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("shown", &self.shown).finish_non_exhaustive()
    }
}
