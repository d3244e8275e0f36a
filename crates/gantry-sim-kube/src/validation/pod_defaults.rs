//! What the API server fills into a pod at creation, so that clients see the same objects as on a
//! real cluster.

use serde_json::{Map, Value, json};

use crate::store::object::{default, items, list_mut, map_mut, text};

/// Fills in the defaults of a pod's spec and its first status.
pub(crate) fn fill(pod: &mut Value) {
    drop_class_inputs(pod);
    let spec = map_mut(pod, &["spec"]);
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "enableServiceLinks", true);
    default(spec, "priority", 0);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    default(spec, "securityContext", json!({}));
    account(spec);
    for list in ["initContainers", "containers"] {
        if let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) {
            containers.iter_mut().filter_map(Value::as_object_mut).for_each(container);
        }
    }
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.iter_mut().filter_map(Value::as_object_mut).for_each(volume);
    }
    let tolerations = list_mut(pod, &["spec", "tolerations"]);
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|one| text(one, &["key"]) == key || text(one, &["key"]).is_empty()) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
    let class = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// A client cannot bring a status along.
fn drop_class_inputs(pod: &mut Value) {
    map_mut(pod, &[]).remove("status");
}

fn account(spec: &mut Map<String, Value>) {
    // `serviceAccount` is the old name of the field; both are always shown.
    let name = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|key| spec.get(*key).and_then(Value::as_str).filter(|name| !name.is_empty()))
        .unwrap_or("default")
        .to_owned();
    spec.insert("serviceAccountName".to_owned(), json!(name));
    spec.insert("serviceAccount".to_owned(), json!(name));
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    default_requests(container);
    if let Some(ports) = container.get_mut("ports").and_then(Value::as_array_mut) {
        ports.iter_mut().filter_map(Value::as_object_mut).for_each(|port| default(port, "protocol", "TCP"));
    }
    if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
        for variable in env {
            if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef").and_then(Value::as_object_mut) {
                default(reference, "apiVersion", "v1");
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            default(probe, "timeoutSeconds", 1);
            default(probe, "periodSeconds", 10);
            default(probe, "successThreshold", 1);
            default(probe, "failureThreshold", 3);
        }
    }
}

/// Whether an image reference has no tag and no digest, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or("");
    !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// A limit without a request is also the request.
fn default_requests(container: &mut Map<String, Value>) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    if let Some(requests) = requests.as_object_mut() {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.len() <= 1 {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
            default(source, "defaultMode", 0o644);
        }
    }
    if let Some(source) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        default(source, "type", "");
    }
}

/// The quality-of-service class that follows from requests and limits.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> =
        items(pod, &["spec", "initContainers"]).iter().chain(items(pod, &["spec", "containers"])).collect();
    let amount = |container: &Value, list: &str, name: &str| {
        container
            .pointer(&format!("/resources/{list}/{name}"))
            .and_then(super::quantity::Quantity::of)
            .filter(|amount| !amount.is_zero())
    };
    let any = containers.iter().any(|container| {
        ["requests", "limits"]
            .iter()
            .any(|list| ["cpu", "memory"].iter().any(|name| amount(container, list, name).is_some()))
    });
    if !any {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|container| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(container, "limits", name);
            limit.is_some() && limit == amount(container, "requests", name)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "r:5000/x"}], "volumes": [{"name": "v"}]}});
        fill(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["spec"]["restartPolicy"], "Always");
        assert_eq!(pod["spec"]["serviceAccount"], "default");
        assert_eq!(pod["spec"]["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(pod["status"]["qosClass"], "BestEffort");
        assert!(!is_latest("ruby:3.3") && !is_latest("a@sha256:0") && is_latest("ruby:latest"));
    }

    #[test]
    fn classes_follow_from_resources() {
        let class = |resources: Value| {
            let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "x", "resources": resources}]}});
            fill(&mut pod);
            qos_class(&pod)
        };
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        assert_eq!(class(json!({"limits": {"memory": "1Gi"}})), "Burstable");
        assert_eq!(class(json!({})), "BestEffort");
    }
}
