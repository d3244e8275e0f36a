//! A container's environment: services, `envFrom`, `env` with references and `$(NAME)` expansion.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    resources,
    store::{
        Key,
        object::{self, at, items, pairs, text},
    },
    validation::quantity::Quantity,
};

/// The whole environment of a container, in order; the error is kubelet's message for
/// `CreateContainerConfigError`.
pub(crate) fn environment(cluster: &Cluster, pod: &Value, container: &Value) -> Result<Vec<(String, String)>, String> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |known: &mut BTreeMap<String, String>, name: String, value: String| {
        if known.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for (name, value) in api_server(cluster) {
        set(&mut known, name, value);
    }
    if pod["spec"]["enableServiceLinks"] != Value::Bool(false) {
        for (name, value) in services(cluster, object::namespace(pod)) {
            set(&mut known, name, value);
        }
    }
    for source in items(container, &["envFrom"]) {
        let prefix = text(source, &["prefix"]);
        for (kind, field) in [("configmaps", "configMapRef"), ("secrets", "secretRef")] {
            let Some(reference) = source.get(field) else { continue };
            let Some(object) = referenced(cluster, pod, kind, reference)? else { continue };
            for (key, value) in data(kind, &object) {
                set(&mut known, format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned());
            }
        }
    }
    for variable in items(container, &["env"]) {
        let name = text(variable, &["name"]).to_owned();
        let value = match variable.get("valueFrom") {
            Some(source) => match from_source(cluster, pod, container, source)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(text(variable, &["value"]), &known),
        };
        set(&mut known, name, value);
    }
    Ok(order.into_iter().filter_map(|name| known.remove(&name).map(|value| (name, value))).collect())
}

/// How a pod finds the API server.
fn api_server(cluster: &Cluster) -> Vec<(String, String)> {
    let host = cluster.config.advertised_ip(cluster.address).to_string();
    let port = cluster.address.port().to_string();
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let url = format!("tcp://{shown}:{port}");
    [
        ("KUBERNETES_SERVICE_HOST", host.clone()),
        ("KUBERNETES_SERVICE_PORT", port.clone()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", port.clone()),
        ("KUBERNETES_PORT", url),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// How a pod finds the services of its namespace.
fn services(cluster: &Cluster, namespace: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for service in cluster.store.list(resources::core("services"), Some(namespace)).0 {
        let host = text(&service, &["spec", "clusterIP"]);
        let ports = items(&service, &["spec", "ports"]);
        if object::name(&service) == "kubernetes" || ["", "None"].contains(&host) || ports.is_empty() {
            continue;
        }
        let name = object::name(&service).to_uppercase().replace('-', "_");
        let mut add = |end: String, value: String| all.push((format!("{name}_{end}"), value));
        add("SERVICE_HOST".to_owned(), host.to_owned());
        for (index, port) in ports.iter().enumerate() {
            let (number, protocol) = (port["port"].to_string(), text(port, &["protocol"]));
            let url = format!("{}://{host}:{number}", protocol.to_lowercase());
            if index == 0 {
                add("SERVICE_PORT".to_owned(), number.clone());
                add("PORT".to_owned(), url.clone());
            }
            let port_name = text(port, &["name"]).to_uppercase().replace('-', "_");
            if !port_name.is_empty() {
                add(format!("SERVICE_PORT_{port_name}"), number.clone());
            }
            let start = format!("PORT_{number}_{protocol}");
            for (end, value) in
                [("", url.as_str()), ("_PROTO", &protocol.to_lowercase()), ("_PORT", &number), ("_ADDR", host)]
            {
                add(format!("{start}{end}"), value.to_owned());
            }
        }
    }
    all
}

/// The `ConfigMap` or Secret that a reference names; `None` when it is missing and optional.
pub(crate) fn referenced(
    cluster: &Cluster,
    pod: &Value,
    plural: &str,
    reference: &Value,
) -> Result<Option<std::sync::Arc<Value>>, String> {
    let kind = resources::core(plural);
    // Volumes of secrets call the field `secretName`.
    let name = match text(reference, &["name"]) {
        "" => text(reference, &["secretName"]),
        name => name,
    };
    match cluster.store.get(&Key::new(kind, object::namespace(pod), name)) {
        Some(object) => Ok(Some(object)),
        None if reference["optional"] == Value::Bool(true) => Ok(None),
        None => Err(format!("{} {name:?} not found", kind.singular)),
    }
}

/// Keys and contents of a `ConfigMap` or Secret.
pub(crate) fn data(plural: &str, object: &Value) -> Vec<(String, Vec<u8>)> {
    let decode = |text: &str| BASE64_STANDARD.decode(text).unwrap_or_default();
    let plain = pairs(object, &["data"]).map(|(key, value)| {
        let bytes = if plural == "secrets" { decode(value) } else { value.as_bytes().to_vec() };
        (key.to_owned(), bytes)
    });
    let binary = pairs(object, &["binaryData"]).map(|(key, value)| (key.to_owned(), decode(value)));
    plain.chain(binary).collect()
}

fn from_source(cluster: &Cluster, pod: &Value, container: &Value, source: &Value) -> Result<Option<String>, String> {
    if let Some(path) = at(source, &["fieldRef", "fieldPath"]).and_then(Value::as_str) {
        return field(cluster, pod, path).map(Some).ok_or(format!("unsupported fieldPath: {path}"));
    }
    if let Some(reference) = source.get("resourceFieldRef") {
        return Ok(Some(resource_field(cluster, container, reference)));
    }
    for (plural, name) in [("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef")] {
        let Some(reference) = source.get(name) else { continue };
        let Some(object) = referenced(cluster, pod, plural, reference)? else { return Ok(None) };
        let key = text(reference, &["key"]);
        let found = data(plural, &object).into_iter().find(|(name, _)| name == key);
        return match found {
            Some((_, value)) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            None if reference["optional"] == Value::Bool(true) => Ok(None),
            None => {
                let kind = if plural == "secrets" { "Secret" } else { "ConfigMap" };
                let place = format!("{}/{}", object::namespace(pod), object::name(&object));
                Err(format!("couldn't find key {key} in {kind} {place}"))
            }
        };
    }
    Err("an environment variable has an unknown source".to_owned())
}

/// A field of the pod by the path that the downward API has for it.
pub(crate) fn field(cluster: &Cluster, pod: &Value, path: &str) -> Option<String> {
    for (prefix, map) in [("metadata.labels", "labels"), ("metadata.annotations", "annotations")] {
        if path == prefix {
            let lines: Vec<String> =
                pairs(pod, &["metadata", map]).map(|(key, value)| format!("{key}={value:?}")).collect();
            return Some(lines.join("\n"));
        }
        if let Some(key) = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("['")?.strip_suffix("']")) {
            return Some(text(pod, &["metadata", map, key]).to_owned());
        }
    }
    let ip = || cluster.config.advertised_ip(cluster.address).to_string();
    match path {
        "metadata.name" | "metadata.namespace" | "metadata.uid" | "spec.nodeName" | "spec.serviceAccountName" => {
            let path: Vec<&str> = path.split('.').collect();
            Some(text(pod, &path).to_owned())
        }
        "status.podIP" | "status.hostIP" | "status.podIPs" | "status.hostIPs" => Some(ip()),
        _ => None,
    }
}

fn resource_field(cluster: &Cluster, container: &Value, reference: &Value) -> String {
    let resource = text(reference, &["resource"]);
    let (list, name) = resource.split_once('.').unwrap_or(("", resource));
    let found = at(container, &["resources", list, name]).and_then(Quantity::of);
    let offered = cluster.config.allocatable;
    let (millis, units) = match (found, name, list) {
        (Some(amount), _, _) => (amount.millis(), amount.units()),
        // Without a limit the container may use what the node has.
        (None, "cpu", "limits") => (offered.cpu_millis, offered.cpu_millis.div_ceil(1_000)),
        (None, _, "limits") => (offered.memory_bytes.saturating_mul(1_000), offered.memory_bytes),
        (None, _, _) => (0, 0),
    };
    let divisor = reference.get("divisor").and_then(Quantity::of).filter(|divisor| !divisor.is_zero());
    match divisor {
        Some(divisor) if divisor.units() > 1 => units.div_ceil(divisor.units()).to_string(),
        Some(divisor) if divisor.millis() < 1_000 => millis.div_ceil(divisor.millis().max(1)).to_string(),
        _ => units.to_string(),
    }
}

/// Expands `$(NAME)` from what is known; `$$` is one `$`, and a reference to nothing stays as it
/// is.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find('$') {
        out.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_kubernetes() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)", "x1y$(B)"),
            ("$$(A)", "$(A)"),
            ("5$$", "5$"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
