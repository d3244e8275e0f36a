//! The parts of one cluster, shared by all that serves or runs it. It holds things together and
//! decides nothing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::json;

use crate::{
    api::{self, Counters},
    auth::tokens::Tokens,
    clock::Clock,
    config::Config,
    faults::Faults,
    kubelet::Kubelet,
    resources,
    store::Store,
    tasks::Tasks,
};

/// One simulated cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) tokens: Tokens,
    pub(crate) counters: Counters,
    pub(crate) faults: Faults,
    pub(crate) tasks: Tasks,
    pub(crate) kubelet: Kubelet,
    /// Held while an object is checked against quotas and stored.
    pub(crate) creating: Mutex<()>,
    /// The certificate authority that pods and clients trust, PEM.
    pub(crate) ca_pem: String,
    /// Where the API server really listens.
    pub(crate) address: SocketAddr,
}

impl Cluster {
    /// A cluster with its namespaces, node and roles; nothing runs yet.
    pub(crate) fn new(config: Config, kubelet: Kubelet, ca_pem: String, address: SocketAddr) -> Arc<Self> {
        let cluster = Arc::new(Self {
            clock: Clock::start(),
            store: Store::new(config.watch_history),
            config,
            tokens: Tokens::new(),
            counters: Counters::default(),
            faults: Faults::default(),
            tasks: Tasks::default(),
            kubelet,
            creating: Mutex::default(),
            ca_pem,
            address,
        });
        cluster.furnish();
        cluster
    }

    /// Starts the scheduler, the controllers and kubelet.
    pub(crate) fn start(self: &Arc<Self>) {
        self.tasks.spawn(crate::scheduler::run(Arc::clone(self)));
        self.tasks.spawn(crate::controllers::run(Arc::clone(self)));
        self.tasks.spawn(crate::nodes::run(Arc::clone(self)));
        self.tasks.spawn(crate::kubelet::run(Arc::clone(self)));
    }

    fn furnish(&self) {
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.put("namespaces", json!({"metadata": {"name": namespace}}));
        }
        self.put("nodes", crate::kubelet::node::object(self));
        self.put(
            "services",
            json!({
                "metadata": {"name": "kubernetes", "namespace": "default"},
                "spec": {"ports": [{"name": "https", "port": self.address.port(), "protocol": "TCP"}],
                    "clusterIP": self.config.advertised_ip(self.address).to_string()},
            }),
        );
        for (name, value) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)] {
            self.put("priorityclasses", json!({"metadata": {"name": name}, "value": value}));
        }
        let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
        let every_path = json!({"nonResourceURLs": ["*"], "verbs": ["*"]});
        self.put("clusterroles", json!({"metadata": {"name": "cluster-admin"}, "rules": [everything, every_path]}));
        let read = json!(["get", "list", "watch"]);
        self.put("clusterroles", json!({"metadata": {"name": "view"}, "rules": [{
            "apiGroups": [""], "verbs": read,
            "resources": ["configmaps", "endpoints", "events", "limitranges", "namespaces", "persistentvolumeclaims",
                "pods", "pods/log", "pods/status", "resourcequotas", "serviceaccounts", "services"],
        }]}));
        self.put("clusterroles", json!({"metadata": {"name": "system:discovery"}, "rules": [{
            "verbs": ["get"],
            "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
                "/readyz", "/version"],
        }]}));
        self.put(
            "clusterrolebindings",
            json!({
                "metadata": {"name": "cluster-admin"},
                "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "Group", "name": "system:masters"}],
            }),
        );
    }

    /// Adds an object of the cluster's own.
    pub(crate) fn put(&self, plural: &str, mut object: serde_json::Value) {
        let kind = resources::any(plural);
        object["kind"] = json!(kind.kind);
        object["apiVersion"] = json!(kind.api_version());
        if let Err(error) = api::add(self, kind, object, false) {
            tracing::warn!(plural, message = error.message, "cannot furnish the cluster");
        }
    }
}
