//! The same GitLab without a port: connections are pipes in memory, and it runs on the clock of the
//! runtime that it is started in, which may be paused. It serves no repositories.

use std::io;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::api;
use crate::config::Config;
use crate::connection;
use crate::copies::Copies;
use crate::error::Error;
use crate::hub::{Projects, SharedHub};
use crate::limits;
use crate::server::{Preset, new_hub};
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
        let Config { external_url, runner_token, registration_token, variables, artifact_dir, .. } = config;
        let url = external_url.unwrap_or_else(|| "http://gitlab.invalid".to_owned());
        let runner_token = runner_token.unwrap_or_else(tokens::runner);
        let preset = Preset {
            url: url.clone(),
            runner_token: runner_token.clone(),
            registration_token,
            artifact_dir,
            timing: config.timing,
            settings: config.settings,
        };
        let projects = Projects { repos: Vec::new(), variables, copies: Copies::default() };
        let hub = new_hub(preset, projects)?;
        let (connections, incoming) = mpsc::channel(limits::PIPES);
        let running = [
            tasks::spawn(serve(SharedHub::clone(&hub), incoming)).abort_handle(),
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

/// Answers on every connection that is made, each in a task of its own.
async fn serve(hub: SharedHub, mut incoming: mpsc::Receiver<DuplexStream>) {
    let (router, graceful) = (api::router(&hub), GracefulShutdown::new());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.recv() => match stream {
                Some(stream) => drop(connections.spawn(connection::serve(stream, router.clone(), graceful.watcher()))),
                None => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
