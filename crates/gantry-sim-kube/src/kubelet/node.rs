//! The node object and its labels.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{cluster::Cluster, config::Config};

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Labels that a `nodeSelector` can name.
pub(crate) fn labels(config: &Config) -> BTreeMap<String, String> {
    [
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch()),
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The node's object.
pub(crate) fn object(cluster: &Cluster) -> Value {
    let config = &cluster.config;
    let offered = config.allocatable;
    let amounts = json!({
        "cpu": format!("{}m", offered.cpu_millis),
        "memory": format!("{}Ki", offered.memory_bytes / 1024),
        "ephemeral-storage": format!("{}Ki", offered.ephemeral_storage_bytes / 1024),
        "pods": offered.pods.to_string(),
    });
    let now = cluster.clock.stamp();
    json!({
        "metadata": {"name": config.node_name, "labels": labels(config)},
        "spec": {},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "addresses": [
                {"type": "InternalIP", "address": config.advertised_ip(cluster.address).to_string()},
                {"type": "Hostname", "address": config.node_name},
            ],
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "kubelet is posting ready status", "lastHeartbeatTime": now, "lastTransitionTime": now,
            }],
            "nodeInfo": {
                "architecture": arch(), "operatingSystem": "linux", "kubeletVersion": config.version_text(),
                "kubeProxyVersion": "", "containerRuntimeVersion": "gantry-sim://1", "osImage": "the host's",
                "kernelVersion": "", "machineID": "", "systemUUID": "", "bootID": "",
            },
        },
    })
}
