//! What daemons in tests have around them.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_gitlab::{Body, ByteStream, Client, ClientError, ClientOptions, Timeouts, Transport, TransportError};
use gantry_kube::{Access, Cluster, ConnectError, Driver, HelperBinaries, RemoteAccess};
use tokio::net::TcpListener;

use super::Outside;
use crate::Options;
use crate::server::BindError;

/// A daemon with this file and this around it, and nothing else.
pub(crate) fn options(config: PathBuf, outside: Arc<dyn Outside>) -> Options {
    Options {
        config,
        listen_address: None,
        helper: HelperBinaries::new(),
        on_log_settings: Box::new(|_| {}),
        registration_token: None,
        built_at: String::new(),
        outside,
    }
}

/// A cluster whose API server nobody reaches.
pub(crate) fn nowhere(
    namespace: String,
    selector: String,
) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
    let nowhere = RemoteAccess { host: "http://127.0.0.1:1".to_owned(), ..RemoteAccess::default() };
    Cluster::connect(Access::Remote(nowhere), namespace, selector).boxed()
}

/// No metrics server.
pub(crate) fn no_listener() -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
    async { Ok(None) }.boxed()
}

/// The namespace of [`Alone`] whose cluster is connected to without end, as by a plugin that says
/// nothing.
pub(crate) const HANGS: &str = "hangs";

/// This GitLab, and clusters that nobody reaches.
pub(crate) struct Alone(pub(crate) Arc<dyn Transport>);

impl Outside for Alone {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::with_transport(options, Arc::clone(&self.0))
    }

    fn cluster(
        &self,
        _: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        if namespace == HANGS { std::future::pending().boxed() } else { nowhere(namespace, selector) }
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        no_listener()
    }
}

/// A GitLab that takes requests and says nothing.
pub(crate) struct Silent;

impl Transport for Silent {
    fn send(
        &self,
        _: http::Request<Body>,
        _: Timeouts,
    ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
        std::future::pending().boxed()
    }
}
