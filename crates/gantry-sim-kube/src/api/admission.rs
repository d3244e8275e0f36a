//! What depends on other objects when one is created: does the namespace exist, does the service
//! account. Also puts the service account's token into pods, as the admission controller of a real
//! cluster does.

use serde_json::{Value, json};

use super::{policy, status::ApiError};
use crate::{
    cluster::Cluster,
    ids,
    resources::{self, ResourceType},
    store::{
        Key,
        object::{self, items, list_mut, map_mut, text},
    },
};

/// Where pods find their service account's token.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a pod's own token lives; kubelet renews it long before. (3607 is the number that real
/// clusters use.)
const TOKEN_SECONDS: u64 = 3_607;

/// Refuses an object that cannot be in this cluster now, and completes pods.
pub(crate) fn check(cluster: &Cluster, kind: &'static ResourceType, object: &mut Value) -> Result<(), ApiError> {
    if kind.namespaced {
        namespace(cluster, kind, object)?;
    }
    if kind.plural == "pods" {
        account(cluster, object)?;
        policy::complete(cluster, kind, object)?;
    }
    Ok(())
}

fn namespace(cluster: &Cluster, kind: &ResourceType, object: &Value) -> Result<(), ApiError> {
    let (namespace, name) = (object::namespace(object), object::name(object));
    let namespaces = resources::core("namespaces");
    let found = cluster
        .store
        .get(&Key::new(namespaces, "", namespace))
        .ok_or_else(|| ApiError::not_found(namespaces, namespace))?;
    if object::is_terminating(&found) {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = ApiError::forbidden(kind, name, &why);
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        return Err(error);
    }
    Ok(())
}

fn account(cluster: &Cluster, pod: &mut Value) -> Result<(), ApiError> {
    let namespace = object::namespace(pod).to_owned();
    let name = text(pod, &["spec", "serviceAccountName"]).to_owned();
    let accounts = resources::core("serviceaccounts");
    let Some(account) = cluster.store.get(&Key::new(accounts, &namespace, &name)) else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(ApiError::forbidden(resources::core("pods"), object::name(pod), &why));
    };
    let wanted = |object: &Value, path: &[&str]| object::at(object, path).and_then(Value::as_bool);
    let mount = wanted(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| wanted(&account, &["automountServiceAccountToken"]))
        .unwrap_or(true);
    if items(pod, &["spec", "imagePullSecrets"]).is_empty() && !items(&account, &["imagePullSecrets"]).is_empty() {
        let secrets = account["imagePullSecrets"].clone();
        map_mut(pod, &["spec"]).insert("imagePullSecrets".to_owned(), secrets);
    }
    if mount {
        mount_token(pod);
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let volume = format!("kube-api-access-{}", ids::suffix());
    let mut used = false;
    for list in ["initContainers", "containers"] {
        if object::at(pod, &["spec", list]).is_none() {
            continue;
        }
        for container in list_mut(pod, &["spec", list]) {
            let mounts = list_mut(container, &["volumeMounts"]);
            // Whoever mounts something there already keeps it.
            if mounts.iter().all(|mount| text(mount, &["mountPath"]) != TOKEN_DIR) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_DIR}));
                used = true;
            }
        }
    }
    if used {
        list_mut(pod, &["spec", "volumes"]).push(token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
        ]}},
    ]}})
}
