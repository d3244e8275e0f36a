//! The cluster from outside: binding its port, serving it, and the few things an embedding program
//! wants without HTTP.

mod kubeconfig;
mod listen;
mod parts;
mod tls;

use std::{fmt, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    api,
    auth::tokens::{AUDIENCE, Grant},
    cluster::Cluster,
    config::Config,
    container::{Programs, Runtime},
    error::Error,
    kubelet_state::{Containers, Kubelet},
    resources,
    store::object,
};

/// A simulated cluster whose port is bound. [`SimKube::serve`] runs it.
pub struct SimKube {
    cluster: Arc<Cluster>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    /// Removes the cluster's files at the end, unless the state directory was given.
    _scratch: Option<TempDir>,
}

impl fmt::Debug for SimKube {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimKube").field("addr", &self.addr()).finish_non_exhaustive()
    }
}

/// Stops the tasks of a cluster when its owner is dropped: they hold the cluster, so it could not
/// end by itself.
struct StopOnDrop(Arc<Cluster>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.tasks.stop();
        self.0.tasks.abort();
    }
}

impl SimKube {
    /// Binds the port, makes certificates and the first objects, and writes the kubeconfig. Nothing
    /// runs yet.
    ///
    /// Errors: [`Error::PortInUse`] and the other variants of [`Error`], each with what to do.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let listener = TcpListener::bind(config.listen).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse { addr: config.listen },
            _ => Error::Listen { addr: config.listen, source },
        })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { addr: config.listen, source })?;
        let tls = tls::make(&config, address)?;
        let (directory, scratch) = state_directory(&config)?;
        let runtime = Runtime::new(directory.join("runtime"), &config.launcher)
            .map_err(|error| Error::Containers(Box::new(error)))?
            .hide([directory.clone()]);
        let runtime = if config.watch_memory { runtime.watch_memory() } else { runtime };
        let runtime = if config.oom_kills_group { runtime.kill_groups() } else { runtime };
        let kubelet = Kubelet::new(Containers::Processes(runtime), &directory.join("pods"), &config);
        let cluster = parts::furnished(config, kubelet, tls.ca_pem, address);
        let sim = Self { cluster, listener, acceptor: tls.acceptor, _scratch: scratch };
        if let Some(path) = &sim.cluster.config.kubeconfig {
            kubeconfig::write(path, &sim.url(), sim.ca_pem(), sim.admin_token())?;
        }
        Ok(sim)
    }

    /// Where the API server listens.
    pub fn addr(&self) -> SocketAddr {
        self.cluster.address
    }

    /// The API server's URL, with an address that its certificate is valid for.
    pub fn url(&self) -> String {
        let host = self.cluster.config.advertised_ip(self.cluster.address);
        format!("https://{}", SocketAddr::new(host, self.cluster.address.port()))
    }

    /// The certificate authority that signed the server's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.cluster.ca_pem
    }

    /// A bearer token of the administrator (`system:masters`). Valid as long as the cluster.
    pub fn admin_token(&self) -> &str {
        self.cluster.tokens.admin()
    }

    /// Makes a namespace if it is missing, a service account in it, a Role with `rules` (JSON of
    /// RBAC policy rules) and its binding, all of that name, and returns a token that is valid for
    /// `lifetime`.
    ///
    /// Errors: [`Error::Refused`] when one of the objects exists already or is not valid.
    pub fn create_service_account_with_role(
        &self,
        namespace: &str,
        name: &str,
        rules: &Value,
        lifetime: Duration,
    ) -> Result<String, Error> {
        let cluster = &self.cluster;
        let add = |plural: &str, object: Value| {
            let kind = resources::any(plural);
            let mut object = object;
            object["kind"] = json!(kind.kind);
            object["apiVersion"] = json!(kind.api_version());
            api::add(cluster, kind, object, false)
        };
        let refused = |error: api::status::ApiError| Error::Refused(error.message);
        match add("namespaces", json!({"metadata": {"name": namespace}})) {
            Err(error) if error.reason != "AlreadyExists" => return Err(refused(error)),
            _ => {}
        }
        let metadata = json!({"name": name, "namespace": namespace});
        let account = add("serviceaccounts", json!({"metadata": metadata})).map_err(refused)?;
        add("roles", json!({"metadata": metadata, "rules": rules})).map_err(refused)?;
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
        add("rolebindings", json!({"metadata": metadata, "roleRef": role, "subjects": [subject]})).map_err(refused)?;
        let now = cluster.clock.now().as_second();
        let grant = Grant {
            namespace: namespace.to_owned(),
            account: name.to_owned(),
            account_uid: object::uid(&account).to_owned(),
            bound: None,
            audiences: vec![AUDIENCE.to_owned()],
            expires: Some(now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))),
        };
        Ok(cluster.tokens.issue(grant, now))
    }

    /// Orders a fault, given as the JSON that `POST /sim/faults` takes.
    ///
    /// Errors: [`Error::Refused`] with what is wrong with it.
    pub fn order_fault(&self, order: &str) -> Result<(), Error> {
        let order: Value = serde_json::from_str(order).map_err(|error| Error::Refused(error.to_string()))?;
        self.cluster.faults.add(&order).map(drop).map_err(Error::Refused)
    }

    /// A handle that serves single connections without socket and TLS, for tests with an in-memory
    /// stream and a paused clock. Only useful while [`SimKube::serve`] runs.
    pub fn connector(&self) -> Connector {
        Connector { cluster: Arc::clone(&self.cluster) }
    }

    /// Runs the cluster until `shutdown` is ready; then every container is killed and the cluster's
    /// files are removed.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let guard = StopOnDrop(Arc::clone(&self.cluster));
        parts::start(&self.cluster);
        tokio::select! {
            () = shutdown => {}
            () = listen::accept(&self.cluster, &self.listener, &self.acceptor) => {}
        }
        drop(guard);
        self.cluster.tasks.ended().await;
        Ok(())
    }
}

/// A simulated cluster without port, certificates, files and processes: everything is in memory and
/// on tokio's clock. It runs as long as this is there.
pub struct InProcess {
    guard: StopOnDrop,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}

impl InProcess {
    /// Starts a cluster whose containers are `programs`. Of `config`, what is about ports,
    /// certificates and files has no effect.
    pub fn start(config: Config, programs: Arc<dyn Programs>) -> Self {
        let address = config.listen;
        let kubelet = Kubelet::new(Containers::Programs(programs), &PathBuf::new(), &config);
        let cluster = parts::furnished(config, kubelet, String::new(), address);
        parts::start(&cluster);
        Self { guard: StopOnDrop(cluster) }
    }

    /// A handle that serves single connections.
    pub fn connector(&self) -> Connector {
        Connector { cluster: Arc::clone(&self.guard.0) }
    }

    /// A bearer token of the administrator (`system:masters`).
    pub fn admin_token(&self) -> &str {
        self.guard.0.tokens.admin()
    }
}

/// Serves connections that do not come over the network.
#[derive(Clone)]
pub struct Connector {
    cluster: Arc<Cluster>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("addr", &self.cluster.address).finish()
    }
}

impl Connector {
    /// Serves one plain HTTP/1.1 connection until it ends; WebSocket upgrades work.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        listen::connection(&self.cluster, stream).await;
    }
}

fn state_directory(config: &Config) -> Result<(PathBuf, Option<TempDir>), Error> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    if let Some(path) = &config.state_dir {
        std::fs::create_dir_all(path).map_err(failed(path))?;
        // What an earlier run left there belongs to pods that nobody knows any more.
        let _ = std::fs::remove_dir_all(path.join("pods"));
        return Ok((path.canonicalize().map_err(failed(path))?, None));
    }
    let scratch =
        tempfile::Builder::new().prefix("gantry-sim-kube-").tempdir().map_err(failed(&std::env::temp_dir()))?;
    let path = scratch.path().to_owned();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).map_err(failed(&path))?;
    Ok((path, Some(scratch)))
}
