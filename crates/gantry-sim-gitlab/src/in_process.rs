//! The same GitLab without a port: connections are pipes in memory, and it runs on the clock of the runtime that it is started in, which may be
//! paused. It serves no repositories.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::serve::Listener;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::api;
use crate::config::Config;
use crate::error::Error;
use crate::hub::SharedHub;
use crate::limits;
use crate::server::new_hub;
use crate::tasks;
use crate::tokens;

/// A simulated GitLab in this process. It answers as long as this is there.
pub struct InProcess {
    url: String,
    runner_token: String,
    connector: Connector,
    running: [AbortHandle; 2],
}

/// Opens connections to a simulated GitLab in this process.
#[derive(Clone, Debug)]
pub struct Connector {
    connections: mpsc::Sender<DuplexStream>,
}

impl InProcess {
    /// Starts answering. Of `config`, address and repositories have no effect.
    pub fn start(config: Config) -> Result<Self, Error> {
        let url = config.external_url.unwrap_or_else(|| "http://gitlab.invalid".to_owned());
        let runner_token = config.runner_token.unwrap_or_else(tokens::runner);
        let hub = new_hub(&url, &runner_token, config.registration_token, config.timing, Vec::new())?;
        let (connections, incoming) = mpsc::channel(limits::PIPES);
        let running = [
            tasks::spawn(serve(SharedHub::clone(&hub), Pipes(incoming))).abort_handle(),
            tasks::spawn(async move { hub.sweep().await }).abort_handle(),
        ];
        Ok(Self { url, runner_token, connector: Connector { connections }, running })
    }

    /// The base URL for runners, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token of the runner that exists from the start.
    pub fn runner_token(&self) -> &str {
        &self.runner_token
    }

    /// Opens connections.
    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.running.iter().for_each(AbortHandle::abort);
    }
}

impl Connector {
    /// A connection on which HTTP/1.1 can be spoken.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(limits::PIPE);
        match self.connections.send(theirs).await {
            Ok(()) => Ok(ours),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

async fn serve(hub: SharedHub, incoming: Pipes) {
    if let Err(error) = axum::serve(incoming, api::router(&hub)).await {
        tracing::warn!(%error, "the simulated GitLab has stopped serving");
    }
}

/// Connections that come from [`Connector::connect`].
struct Pipes(mpsc::Receiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        match self.0.recv().await {
            Some(stream) => (stream, nowhere()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(nowhere())
    }
}

fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}
