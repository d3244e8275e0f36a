//! Start and stop of a simulated GitLab: bind first, serve later, drain at the end.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api;
use crate::children;
use crate::config::{Config, Settings, Timing};
use crate::connection;
use crate::copies::Copies;
use crate::error::Error;
use crate::hub::{Hub, Projects, SharedHub};
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
    people_elsewhere: bool,
    /// Ends what is left of the connections when the simulator is dropped.
    ended: CancellationToken,
    _end: DropGuard,
}

impl SimGitlab {
    /// Checks the repositories and binds the address. Nothing is answered before
    /// [`SimGitlab::serve`].
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let Config { listen, external_url, repos, variables, includes, runner_token, registration_token, .. } = config;
        let Config { artifact_dir, timing, settings, people_elsewhere, .. } = config;
        let repos = tasks::blocking(move || open_repositories(&repos))
            .await
            .map_err(|error| Error::Git { what: format!("reading the repositories broke off ({error})") })??;
        let listener = TcpListener::bind(listen).await.map_err(|source| listen_error(listen, source))?;
        let addr = listener.local_addr().map_err(|source| Error::Listen { addr: listen, source })?;
        let url = match (external_url, config.external_host) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(host)) => format!("http://{host}:{}", addr.port()),
            (None, None) => format!("http://{}", reachable(addr)),
        };
        let runner_token = runner_token.unwrap_or_else(tokens::runner);
        let preset = Preset {
            url: url.clone(),
            runner_token: runner_token.clone(),
            registration_token,
            artifact_dir,
            timing,
            settings,
        };
        let projects = Projects { repos, variables, copies: Copies::new(includes) };
        let hub = new_hub(preset, projects)?;
        let ended = CancellationToken::new();
        Ok(Self { listener, addr, url, runner_token, hub, people_elsewhere, _end: ended.clone().drop_guard(), ended })
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

    /// Counts changes of anything that the simulator shows, for who shows it live. Says that
    /// something has changed, not what.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.hub.world().watch_changes()
    }

    /// Answers requests until `shutdown` completes; then ends long polls at once and gives other
    /// requests 5 s.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let graceful = GracefulShutdown::new();
        let ended = tokio::select! {
            error = self.accept(&graceful) => Err(Error::Serve(error)),
            () = self.hub.sweep() => Ok(()),
            () = children::make(&self.hub) => Ok(()),
            () = shutdown => Ok(()),
        };
        self.hub.stopping.send_replace(true);
        // Whoever has not finished by then is cut off.
        let _ = tokio::time::timeout(limits::DRAIN, graceful.shutdown()).await;
        ended
    }

    /// Whether the page and `/sim/` are there for who comes from `peer` to `local`.
    fn is_open_to(&self, peer: SocketAddr, local: Option<SocketAddr>) -> bool {
        self.people_elsewhere || is_of_this_machine(peer, local)
    }

    /// Takes connections for as long as that is possible. They end when this does, or when
    /// `graceful` says so.
    async fn accept(&self, graceful: &GracefulShutdown) -> io::Error {
        let (router, for_strangers) = (api::router(&self.hub), api::outside_router(&self.hub));
        let mut failures = 0;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    failures = 0;
                    let router = if self.is_open_to(peer, stream.local_addr().ok()) { &router } else { &for_strangers };
                    // Small answers to small requests: waiting to fill a packet would only add
                    // latency.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "cannot set TCP_NODELAY");
                    }
                    let connection = connection::serve(stream, router.clone(), graceful.watcher());
                    let ended = self.ended.clone();
                    // Ends with its connection, which ends with the simulator at the latest.
                    drop(tasks::spawn(async move { ended.run_until_cancelled_owned(connection).await }));
                }
                Err(error) if failures >= limits::ACCEPT_FAILURES => return error,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// What the state begins with.
pub(crate) struct Preset {
    pub(crate) url: String,
    pub(crate) runner_token: String,
    pub(crate) registration_token: Option<String>,
    pub(crate) artifact_dir: Option<PathBuf>,
    pub(crate) timing: Timing,
    pub(crate) settings: Settings,
}

pub(crate) fn new_hub(preset: Preset, projects: Projects) -> Result<SharedHub, Error> {
    let Preset { url, runner_token, registration_token, artifact_dir, mut timing, settings } = preset;
    timing.long_poll = timing.long_poll.min(limits::LONG_POLL);
    let parent = artifact_dir.unwrap_or_else(std::env::temp_dir);
    let artifacts = tempfile::Builder::new().prefix("gantry-sim-gitlab-").tempdir_in(parent).map_err(Error::Storage)?;
    let wake = Arc::new(Notify::new());
    let mut world = World::new(url, timing, settings, Arc::clone(&wake));
    let now = world.now().wall;
    if let Some(runner) = world.runners.add(runner_token, now) {
        "preset runner".clone_into(&mut runner.description);
        runner.any_tags = true;
    }
    Ok(Arc::new(Hub::new(world, projects, artifacts, registration_token, wake)))
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

/// Whether a connection comes from this machine: from loopback, or from the very address that it
/// goes to.
fn is_of_this_machine(peer: SocketAddr, local: Option<SocketAddr>) -> bool {
    let ip = peer.ip().to_canonical();
    ip.is_loopback() || local.is_some_and(|local| local.ip().to_canonical() == ip)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The status line of the answer to a request.
    async fn asked(router: axum::Router, path: &str) -> String {
        let (mut ours, theirs) = tokio::io::duplex(64 << 10);
        let graceful = GracefulShutdown::new();
        let served = connection::serve(theirs, router, graceful.watcher());
        let request = format!("GET {path} HTTP/1.1\r\nHost: gitlab.invalid\r\nConnection: close\r\n\r\n");
        let asks = async {
            ours.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            ours.read_to_end(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
        };
        tokio::join!(served, asks).1
    }

    #[tokio::test]
    async fn strangers_find_no_page() {
        let preset = Preset {
            url: "http://gitlab.invalid".to_owned(),
            runner_token: tokens::runner(),
            registration_token: None,
            artifact_dir: None,
            timing: Timing::default(),
            settings: Settings::default(),
        };
        let projects = Projects { repos: Vec::new(), variables: Vec::new(), copies: Copies::default() };
        let hub = new_hub(preset, projects).unwrap();
        for path in ["/", "/sim/jobs", "/sim/overview"] {
            assert_eq!(asked(api::router(&hub), path).await, "HTTP/1.1 200 OK", "{path}");
            assert_eq!(asked(api::outside_router(&hub), path).await, "HTTP/1.1 404 Not Found", "{path}");
        }
    }

    #[tokio::test]
    async fn who_is_let_in_depends_on_the_setting() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut config = Config::new(at("127.0.0.1:0"));
        config.people_elsewhere = false;
        let mut server = SimGitlab::bind(config).await.unwrap();
        let elsewhere = (at("10.0.0.8:5"), Some(at("10.0.0.7:80")));
        assert!(!server.is_open_to(elsewhere.0, elsewhere.1));
        assert!(server.is_open_to(at("127.0.0.1:5"), elsewhere.1));
        server.people_elsewhere = true;
        assert!(server.is_open_to(elsewhere.0, elsewhere.1));
    }

    #[test]
    fn who_is_on_this_machine() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (peer, local, expected) in [
            ("127.0.0.1:5", "127.0.0.1:80", true),
            ("[::ffff:127.0.0.1]:5", "[::]:80", true),
            ("10.0.0.7:5", "10.0.0.7:80", true),
            ("[::ffff:10.0.0.7]:5", "10.0.0.7:80", true),
            ("10.0.0.8:5", "10.0.0.7:80", false),
        ] {
            assert_eq!(is_of_this_machine(at(peer), Some(at(local))), expected, "{peer} to {local}");
        }
        assert!(!is_of_this_machine(at("10.0.0.7:5"), None));
    }
}
