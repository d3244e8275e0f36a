//! One namespace of one cluster, as one manager sees it: a client, the shared watch, and the gate
//! for execs.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, header};
use kube::{Api, Client, client::Body};
use tokio::sync::mpsc;

use crate::{
    access::{Access, ConnectError},
    attach::{Gate, Starts},
    facts::PodFacts,
    observed::ObservedPod,
    pods::PodRef,
    refusal, renewal, requests,
    retry::Persistence,
    room::Room,
    target::Target,
    watch::{self, Coverage, PodWatch, Registry},
};

/// Runs the shared watch of a [`Cluster`]. The caller has to spawn or poll it; it does nothing
/// until the first pod is watched, and ends when the last clone of its `Cluster` and the last
/// [`PodWatch`] are dropped. Dropping it ends every `PodWatch`.
pub type Driver = BoxFuture<'static, ()>;

/// One namespace of one cluster. Clones share the connection, the watch and the limits.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    persistence: Arc<Persistence>,
}

struct Inner {
    client: Client,
    pods: Api<ObservedPod>,
    namespace: String,
    registry: Arc<Registry>,
    wake: mpsc::Sender<()>,
    gate: Gate,
    starts: Starts,
    room: Room,
}

impl Cluster {
    /// Prepares to talk to the API server that `access` describes. Reads files (certificates,
    /// tokens, a kubeconfig), and runs the plugin that a kubeconfig has its credentials from, for
    /// at most [`crate::limits::PLUGIN`]; sends nothing. `selector` is the label selector of the
    /// pods that will be watched, such as `gantry.dev/fleet=a`; pods of [`Cluster::watch_pod`]
    /// should match it, others cost a look-up each.
    pub async fn connect(access: Access, namespace: String, selector: String) -> Result<(Self, Driver), ConnectError> {
        let (client, target) = renewal::client(access).await?;
        Ok(Self::assemble(client, target, namespace, selector))
    }

    /// The same over a client that exists already: one that talks to a simulated API server in
    /// process.
    pub fn from_client(client: Client, namespace: String, selector: String) -> (Self, Driver) {
        Self::assemble(client, Target::default(), namespace, selector)
    }

    fn assemble(client: Client, target: Target, namespace: String, selector: String) -> (Self, Driver) {
        let client = plain_spoken(client, target);
        // One place: a wake-up is a level, a second one says nothing new.
        let (wake, woken) = mpsc::channel(1);
        let pods: Api<ObservedPod> = Api::namespaced(client.clone(), &namespace);
        let registry = Arc::new(Registry::default());
        let cluster = Self {
            inner: Arc::new(Inner {
                client,
                pods,
                namespace,
                registry: Arc::clone(&registry),
                wake,
                gate: Gate::default(),
                starts: Starts::default(),
                room: Room::default(),
            }),
            persistence: Arc::default(),
        };
        // The driver must not hold a `Cluster`: it ends when there is none.
        let driver = watch::drive(cluster.pods().clone(), selector, registry, woken);
        (cluster, Box::pin(driver))
    }

    /// The same cluster for jobs whose objects are made and removed so persistently.
    #[must_use]
    pub fn with_persistence(&self, persistence: Persistence) -> Self {
        Self { inner: Arc::clone(&self.inner), persistence: Arc::new(persistence) }
    }

    pub(crate) fn persistence(&self) -> &Persistence {
        &self.persistence
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// What is known about `pod` from now on, out of the one shared watch.
    pub fn watch_pod(&self, pod: &PodRef) -> PodWatch {
        let receiver = self.inner.registry.subscribe(pod);
        // Full means that the driver has been woken already; closed, that it was dropped, which the
        // `PodWatch` shows.
        let _ = self.inner.wake.try_send(());
        PodWatch::new(receiver, self.inner.wake.clone())
    }

    /// Watches all pods of the selector from now on, whether or not anybody follows one of them.
    pub fn watch_all(&self) {
        // As above.
        let _ = self.inner.wake.try_send(());
    }

    /// Every pod that the shared watch has shown and that is still there, by name. What they say is
    /// true as far as [`Cluster::coverage`] is.
    pub fn seen_pods(&self) -> Vec<Arc<PodFacts>> {
        self.inner.registry.all()
    }

    /// What the shared watch is good for, now and as it changes.
    pub fn coverage(&self) -> tokio::sync::watch::Receiver<Coverage> {
        self.inner.registry.coverage()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    pub(crate) fn room(&self) -> &Room {
        &self.inner.room
    }

    pub(crate) fn pods(&self) -> &Api<ObservedPod> {
        &self.inner.pods
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    pub(crate) fn starts(&self) -> &Starts {
        &self.inner.starts
    }
}

/// The same client, whose errors say what went wrong in words of the API server or, where there are
/// none, in ours.
fn plain_spoken(client: Client, target: Target) -> Client {
    let namespace = client.default_namespace().to_owned();
    let target = Arc::new(target);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, target) = (client.clone(), Arc::clone(&target));
        async move {
            let is_exec = request.headers().contains_key(header::UPGRADE);
            let answer = client.send(request).await;
            requests::count(answer.as_ref().ok().map(http::Response::status), is_exec);
            let answer = answer.map_err(|error| target.explain(error))?;
            refusal::understood(answer, &target, is_exec).await
        }
    });
    Client::new(service, namespace)
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.inner.namespace).finish_non_exhaustive()
    }
}
