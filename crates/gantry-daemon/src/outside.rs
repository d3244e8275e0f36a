//! The port to everything outside of the process: GitLab, clusters, and whoever asks for metrics.
//! There is one real implementation; the simulation puts its own in its place.

#[cfg(test)]
pub(crate) mod stub;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Secret;
use gantry_core::error_chain::chain;
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_kube::{Access, Cluster, ConnectError, Driver};
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::server::{self, BindError, DEFAULT_LISTEN_ADDRESS};

/// Longest Docker configuration that is read: etcd keeps no larger Secret either.
const DOCKER_CONFIG: u64 = 1 << 20;

/// How the daemon reaches others and is reached.
pub trait Outside: Send + Sync + 'static {
    /// A client for one GitLab.
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError>;

    /// A namespace of a cluster, and what runs its watch.
    fn cluster(
        &self,
        access: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>>;

    /// Where metrics are asked for: at an address that was asked for, or at the usual one; nowhere
    /// if that cannot be had.
    fn listen(&self, asked_for: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>>;

    /// The Docker configuration of this process' user: its path and its text.
    fn docker_config(&self) -> Option<(String, Secret)> {
        None
    }

    /// The clock on the wall, in milliseconds since 1970: for what is written down for other
    /// managers.
    fn unix_ms(&self) -> u64 {
        u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
    }
}

/// The network of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

impl Outside for Network {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::new(options)
    }

    fn cluster(
        &self,
        access: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        Cluster::connect(access, namespace, selector).boxed()
    }

    fn listen(&self, asked_for: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        listen(asked_for).boxed()
    }

    fn docker_config(&self) -> Option<(String, Secret)> {
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        let files = [".docker/config.json", ".dockercfg"].map(|name| home.join(name));
        files.into_iter().find_map(|path| {
            let text = read_bounded(&path)?;
            Some((path.display().to_string(), Secret::new(text)))
        })
    }
}

/// The text of a file that is there, unless it is too long to be a configuration.
fn read_bounded(path: &Path) -> Option<String> {
    let mut text = String::new();
    let length = File::open(path).ok()?.take(DOCKER_CONFIG).read_to_string(&mut text).ok()?;
    (u64::try_from(length).ok()? < DOCKER_CONFIG).then_some(text)
}

/// An address that was asked for must work; the default one only should.
async fn listen(asked_for: Option<String>) -> Result<Option<TcpListener>, BindError> {
    match (server::bind(asked_for.as_deref().unwrap_or(DEFAULT_LISTEN_ADDRESS)).await, asked_for) {
        (Ok(listener), _) => Ok(Some(listener)),
        (Err(error), Some(_)) => Err(error),
        (Err(error), None) => {
            tracing::warn!("no metrics server: {}; set listen_address to another address", chain(&error));
            Ok(None)
        }
    }
}
