//! The parts of a cluster put together: the objects that every cluster has, and what runs in it.

use std::{net::SocketAddr, sync::Arc};

use serde_json::json;

use crate::{api, cluster::Cluster, config::Config, controllers, kubelet, kubelet_state::Kubelet, nodes, scheduler};

/// A cluster with its namespaces, node and roles; nothing runs yet.
pub(super) fn furnished(config: Config, kubelet: Kubelet, ca_pem: String, address: SocketAddr) -> Arc<Cluster> {
    let cluster = Cluster::new(config, kubelet, ca_pem, address);
    furnish(&cluster);
    cluster
}

/// Starts the scheduler, the controllers and kubelet.
pub(super) fn start(cluster: &Arc<Cluster>) {
    cluster.tasks.spawn(scheduler::run(Arc::clone(cluster)));
    cluster.tasks.spawn(controllers::run(Arc::clone(cluster)));
    cluster.tasks.spawn(nodes::run(Arc::clone(cluster)));
    cluster.tasks.spawn(kubelet::run(Arc::clone(cluster)));
}

/// Adds what every cluster has: its namespaces, node and roles.
fn furnish(cluster: &Cluster) {
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        api::put(cluster, "namespaces", json!({"metadata": {"name": namespace}}));
    }
    api::put(cluster, "nodes", kubelet::node::object(cluster));
    api::put(
        cluster,
        "services",
        json!({
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"ports": [{"name": "https", "port": cluster.address.port(), "protocol": "TCP"}],
                "clusterIP": cluster.config.advertised_ip(cluster.address).to_string()},
        }),
    );
    for (name, value) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)] {
        api::put(cluster, "priorityclasses", json!({"metadata": {"name": name}, "value": value}));
    }
    let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let every_path = json!({"nonResourceURLs": ["*"], "verbs": ["*"]});
    api::put(
        cluster,
        "clusterroles",
        json!({"metadata": {"name": "cluster-admin"}, "rules": [everything, every_path]}),
    );
    let read = json!(["get", "list", "watch"]);
    api::put(
        cluster,
        "clusterroles",
        json!({"metadata": {"name": "view"}, "rules": [{
            "apiGroups": [""], "verbs": read,
            "resources": ["configmaps", "endpoints", "events", "limitranges", "namespaces", "persistentvolumeclaims",
                "pods", "pods/log", "pods/status", "resourcequotas", "serviceaccounts", "services"],
        }]}),
    );
    api::put(
        cluster,
        "clusterroles",
        json!({"metadata": {"name": "system:discovery"}, "rules": [{
            "verbs": ["get"],
            "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
                "/readyz", "/version"],
        }]}),
    );
    api::put(
        cluster,
        "clusterrolebindings",
        json!({
            "metadata": {"name": "cluster-admin"},
            "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "Group", "name": "system:masters"}],
        }),
    );
}
