//! Start and stop of a simulated GitLab: bind first, serve later, drain at the end.

use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::api;
use crate::config::{Config, Timing};
use crate::error::Error;
use crate::hub::{Hub, SharedHub};
use crate::limits;
use crate::repo::{self, Repo};
use crate::state::World;
use crate::tasks;
use crate::tokens;

/// A simulated GitLab that is bound to its address but does not answer yet.
pub struct SimGitlab {
    listener: TcpListener,
    addr: SocketAddr,
    url: String,
    runner_token: String,
    hub: SharedHub,
}

impl SimGitlab {
    /// Checks the repositories and binds the address. Nothing is answered before [`SimGitlab::serve`].
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let Config { listen, external_url, repos, runner_token, registration_token, timing } = config;
        let repos = tasks::blocking(move || open_repositories(&repos))
            .await
            .map_err(|error| Error::Git { what: format!("reading the repositories broke off ({error})") })??;
        let listener = TcpListener::bind(listen).await.map_err(|source| listen_error(listen, source))?;
        let addr = listener.local_addr().map_err(|source| Error::Listen { addr: listen, source })?;
        let url = external_url
            .map_or_else(|| format!("http://{}", reachable(addr)), |url| url.trim_end_matches('/').to_owned());
        let runner_token = runner_token.unwrap_or_else(tokens::runner);
        let hub = new_hub(&url, &runner_token, registration_token, timing, repos)?;
        Ok(Self { listener, addr, url, runner_token, hub })
    }

    /// The bound address, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL for runners, without a trailing slash.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The token of the runner that exists from the start.
    pub fn runner_token(&self) -> &str {
        &self.runner_token
    }

    /// Answers requests until `shutdown` completes; then ends long polls at once and gives other requests 5 s.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut stopping = self.hub.stopping.subscribe();
        let stopped = async move {
            // An error means that the hub is gone, which is as good a reason to stop.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        // Small answers to small requests: waiting to fill a packet would only add latency.
        let listener = self.listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        });
        let serving = axum::serve(listener, api::router(&self.hub)).with_graceful_shutdown(stopped).into_future();
        tokio::pin!(serving);
        tokio::select! {
            result = &mut serving => return result.map_err(Error::Serve),
            () = self.hub.sweep() => {}
            () = shutdown => {}
        }
        self.hub.stopping.send_replace(true);
        match tokio::time::timeout(limits::DRAIN, serving).await {
            Ok(result) => result.map_err(Error::Serve),
            Err(_) => Ok(()),
        }
    }
}

pub(crate) fn new_hub(
    url: &str,
    runner_token: &str,
    registration_token: Option<String>,
    mut timing: Timing,
    repos: Vec<Repo>,
) -> Result<SharedHub, Error> {
    timing.long_poll = timing.long_poll.min(limits::LONG_POLL);
    let artifacts = tempfile::Builder::new().prefix("gantry-sim-gitlab-").tempdir().map_err(Error::Storage)?;
    let wake = Arc::new(Notify::new());
    let mut world = World::new(url.to_owned(), timing, Arc::clone(&wake));
    let now = world.now().wall;
    if let Some(runner) = world.runners.add(runner_token.to_owned(), now) {
        "preset runner".clone_into(&mut runner.description);
        runner.any_tags = true;
    }
    Ok(Arc::new(Hub::new(world, repos, artifacts, registration_token, wake)))
}

fn open_repositories(wanted: &[(String, PathBuf)]) -> Result<Vec<Repo>, Error> {
    let programs = repo::git(None, &["--exec-path".as_ref()]).map_err(|what| Error::Git { what })?;
    let backend = Path::new(String::from_utf8_lossy(&programs).trim_end()).join("git-http-backend");
    if !backend.is_file() {
        return Err(Error::Git { what: format!("there is no {}", backend.display()) });
    }
    let mut repos: Vec<Repo> = Vec::new();
    for ((name, path), id) in wanted.iter().zip(1..) {
        let repo = Repo::open(name, path, id)?;
        if repos.iter().any(|other| other.name == repo.name) {
            return Err(Error::ProjectPath { name: repo.name, what: "it is given twice" });
        }
        repos.push(repo);
    }
    Ok(repos)
}

fn listen_error(addr: SocketAddr, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::AddrInUse {
        Error::AddressInUse { addr }
    } else {
        Error::Listen { addr, source }
    }
}

/// An address that clients on this machine can use: "any address" is one only for listening.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
