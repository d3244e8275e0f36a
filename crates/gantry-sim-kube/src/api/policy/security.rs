//! Pod Security admission: a namespace's labels say how strict to be with its pods, who breaks the
//! rules of `enforce` is refused, who breaks those of `warn` is warned.

use http::HeaderValue;
use serde_json::Value;

use super::super::status::ApiError;
use crate::{
    cluster::Cluster,
    resources::{self, ResourceType},
    store::{
        Key,
        object::{self, at, items, text},
    },
};

const PREFIX: &str = "pod-security.kubernetes.io/";
/// The first version that has it without being asked to.
const SINCE: (u32, u32) = (1, 23);

/// Refuses a pod that the namespace's `enforce` level forbids.
pub(super) fn enforce(cluster: &Cluster, kind: &'static ResourceType, pod: &Value) -> Result<(), ApiError> {
    let Some((level, version)) = level(cluster, object::namespace(pod), "enforce") else { return Ok(()) };
    match violations(pod, &level) {
        None => Ok(()),
        Some(list) => {
            let why = format!("violates PodSecurity \"{level}:{version}\": {list}");
            Err(ApiError::forbidden(kind, object::name(pod), &why))
        }
    }
}

/// Values of the `Warning` header for an object that has, or will make, pods.
pub(crate) fn warnings(cluster: &Cluster, kind: &ResourceType, object: &Value) -> Option<HeaderValue> {
    let template = match kind.plural {
        "pods" => object,
        "deployments" | "replicasets" => at(object, &["spec", "template"])?,
        _ => return None,
    };
    let (level, version) = level(cluster, object::namespace(object), "warn")?;
    let list = violations(template, &level)?;
    let text = format!("would violate PodSecurity \"{level}:{version}\": {list}");
    HeaderValue::from_str(&format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))).ok()
}

fn level(cluster: &Cluster, namespace: &str, mode: &str) -> Option<(String, String)> {
    if cluster.config.version < SINCE {
        return None;
    }
    let namespace = cluster.store.get(&Key::new(resources::core("namespaces"), "", namespace))?;
    let label = |name: &str| text(&namespace, &["metadata", "labels", &format!("{PREFIX}{name}")]).to_owned();
    let level = label(mode);
    let version = label(&format!("{mode}-version"));
    let known = ["baseline", "restricted"].contains(&level.as_str());
    known.then(|| (level, if version.is_empty() { "latest".to_owned() } else { version }))
}

/// What a pod breaks of a level's rules, in the order of the rules' names.
fn violations(pod: &Value, level: &str) -> Option<String> {
    let restricted = level == "restricted";
    let all = [
        restricted.then(|| escalation(pod)).flatten(),
        if restricted { capabilities_restricted(pod) } else { capabilities_baseline(pod) },
        host_namespaces(pod),
        (!restricted).then(|| host_paths(pod)).flatten(),
        host_ports(pod),
        flagged(
            pod,
            "privileged",
            &["securityContext", "privileged"],
            |value| value == &Value::Bool(true),
            "must not set securityContext.privileged=true",
        ),
        flagged(
            pod,
            "procMount",
            &["securityContext", "procMount"],
            |value| value.as_str().is_some_and(|mount| mount != "Default"),
            "must not set securityContext.procMount to \"Unmasked\"",
        ),
        restricted.then(|| volume_types(pod)).flatten(),
        restricted.then(|| non_root(pod)).flatten(),
        restricted.then(|| root_user(pod)).flatten(),
        seccomp(pod, restricted),
    ];
    let found: Vec<String> = all.into_iter().flatten().collect();
    (!found.is_empty()).then(|| found.join(", "))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    items(pod, &["spec", "initContainers"]).iter().chain(items(pod, &["spec", "containers"]))
}

fn name(container: &Value) -> &str {
    text(container, &["name"])
}

/// `container "a"` or `containers "a", "b"`.
fn named(names: &[&str]) -> String {
    let what = if names.len() == 1 { "container" } else { "containers" };
    format!("{what} {}", quoted(names))
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn flagged(pod: &Value, rule: &str, path: &[&str], bad: impl Fn(&Value) -> bool, must: &str) -> Option<String> {
    let names: Vec<&str> = containers(pod).filter(|one| at(one, path).is_some_and(&bad)).map(name).collect();
    (!names.is_empty()).then(|| format!("{rule} ({} {must})", named(&names)))
}

fn escalation(pod: &Value) -> Option<String> {
    let path = ["securityContext", "allowPrivilegeEscalation"];
    let names: Vec<&str> =
        containers(pod).filter(|one| at(one, &path) != Some(&Value::Bool(false))).map(name).collect();
    let must = "must set securityContext.allowPrivilegeEscalation=false";
    (!names.is_empty()).then(|| format!("allowPrivilegeEscalation != false ({} {must})", named(&names)))
}

/// What the baseline allows to be added: what container engines give anyway.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn added<'p>(pod: &'p Value, allowed: &[&str]) -> (Vec<&'p str>, Vec<&'p str>) {
    let (mut names, mut added) = (Vec::new(), Vec::new());
    for container in containers(pod) {
        let list = items(container, &["securityContext", "capabilities", "add"]).iter().filter_map(Value::as_str);
        let bad: Vec<&str> = list.filter(|one| !allowed.contains(one)).collect();
        if !bad.is_empty() {
            names.push(name(container));
            added.extend(bad);
        }
    }
    added.sort_unstable();
    added.dedup();
    (names, added)
}

fn capabilities_baseline(pod: &Value) -> Option<String> {
    let (names, added) = added(pod, &DEFAULT_CAPABILITIES);
    let detail = || format!("must not include {} in securityContext.capabilities.add", quoted(&added));
    (!names.is_empty()).then(|| format!("non-default capabilities ({} {})", named(&names), detail()))
}

fn capabilities_restricted(pod: &Value) -> Option<String> {
    let drops = |container: &&Value| {
        items(container, &["securityContext", "capabilities", "drop"]).iter().any(|one| one == "ALL")
    };
    let undropped: Vec<&str> = containers(pod).filter(|container| !drops(container)).map(name).collect();
    let (names, added) = added(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !undropped.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&undropped)));
    }
    if !names.is_empty() {
        let added = quoted(&added);
        details.push(format!("{} must not include {added} in securityContext.capabilities.add", named(&names)));
    }
    (!details.is_empty()).then(|| format!("unrestricted capabilities ({})", details.join("; ")))
}

fn host_namespaces(pod: &Value) -> Option<String> {
    let set = |field: &&&str| pod["spec"][**field] == Value::Bool(true);
    let found: Vec<String> =
        ["hostNetwork", "hostPID", "hostIPC"].iter().filter(set).map(|field| format!("{field}=true")).collect();
    (!found.is_empty()).then(|| format!("host namespaces ({})", found.join(", ")))
}

fn host_paths(pod: &Value) -> Option<String> {
    let volumes = items(pod, &["spec", "volumes"]).iter().filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(name).collect();
    let what = if names.len() == 1 { "volume" } else { "volumes" };
    (!names.is_empty()).then(|| format!("hostPath volumes ({what} {})", quoted(&names)))
}

fn host_ports(pod: &Value) -> Option<String> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for container in containers(pod) {
        let used: Vec<u64> = items(container, &["ports"])
            .iter()
            .filter_map(|port| port["hostPort"].as_u64())
            .filter(|port| *port > 0)
            .collect();
        if !used.is_empty() {
            names.push(name(container));
            ports.extend(used);
        }
    }
    ports.sort_unstable();
    ports.dedup();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let what = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
    let list: Vec<String> = ports.iter().map(u64::to_string).collect();
    (!names.is_empty()).then(|| format!("hostPort ({} {verb} {what} {})", named(&names), list.join(", ")))
}

/// Volumes that the restricted level allows.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

fn volume_types(pod: &Value) -> Option<String> {
    let (mut names, mut kinds) = (Vec::new(), Vec::new());
    for volume in items(pod, &["spec", "volumes"]) {
        let kind = volume.as_object().and_then(|fields| fields.keys().find(|key| *key != "name"));
        if let Some(kind) = kind.filter(|kind| !VOLUMES.contains(&kind.as_str())) {
            names.push(name(volume));
            kinds.push(kind.as_str());
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    let (what, uses) = if names.len() == 1 { ("volume", "uses") } else { ("volumes", "use") };
    let types = if kinds.len() == 1 { "type" } else { "types" };
    let (names, kinds, any) = (quoted(&names), quoted(&kinds), !names.is_empty());
    any.then(|| format!("restricted volume types ({what} {names} {uses} restricted volume {types} {kinds})"))
}

fn non_root(pod: &Value) -> Option<String> {
    let wanted = at(pod, &["spec", "securityContext", "runAsNonRoot"]) == Some(&Value::Bool(true));
    let own = |container: &&Value| match at(container, &["securityContext", "runAsNonRoot"]) {
        Some(Value::Bool(own)) => !own,
        _ => !wanted,
    };
    let names: Vec<&str> = containers(pod).filter(own).map(name).collect();
    let must = "must set securityContext.runAsNonRoot=true";
    (!names.is_empty()).then(|| format!("runAsNonRoot != true (pod or {} {must})", named(&names)))
}

fn root_user(pod: &Value) -> Option<String> {
    let is_root = |value: Option<&Value>| value.and_then(Value::as_u64) == Some(0);
    let mut bad = Vec::new();
    if is_root(at(pod, &["spec", "securityContext", "runAsUser"])) {
        bad.push("pod".to_owned());
    }
    let names: Vec<&str> =
        containers(pod).filter(|one| is_root(at(one, &["securityContext", "runAsUser"]))).map(name).collect();
    if !names.is_empty() {
        bad.push(named(&names));
    }
    (!bad.is_empty()).then(|| format!("runAsUser=0 ({} must not set runAsUser=0)", bad.join(" and ")))
}

fn seccomp(pod: &Value, restricted: bool) -> Option<String> {
    let path = ["securityContext", "seccompProfile", "type"];
    let kind = |value: &Value| at(value, &path).and_then(Value::as_str).map(str::to_owned);
    let whole = kind(&pod["spec"]);
    let good = |kind: &str| ["RuntimeDefault", "Localhost"].contains(&kind);
    if !restricted {
        let unconfined = |kind: Option<String>| kind.as_deref() == Some("Unconfined");
        let names: Vec<&str> = containers(pod).filter(|one| unconfined(kind(one))).map(name).collect();
        let who = match (unconfined(whole), names.is_empty()) {
            (false, true) => return None,
            (true, true) => "pod".to_owned(),
            (true, false) => format!("pod and {}", named(&names)),
            (false, false) => named(&names),
        };
        return Some(format!(
            "seccompProfile ({who} must not set securityContext.seccompProfile.type to \"Unconfined\")"
        ));
    }
    let bad = |container: &&Value| match kind(container) {
        Some(own) => !good(&own),
        None => !whole.as_deref().is_some_and(good),
    };
    let names: Vec<&str> = containers(pod).filter(bad).map(name).collect();
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    (!names.is_empty()).then(|| format!("seccompProfile (pod or {} {must})", named(&names)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plain_pod_breaks_four_rules_of_the_restricted_level() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(
            violations(&pod, "restricted").unwrap(),
            "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        assert_eq!(violations(&pod, "baseline"), None);
        let good = json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}}}]}});
        assert_eq!(violations(&good, "restricted"), None);
    }

    #[test]
    fn the_baseline_forbids_what_reaches_the_host() {
        let pod = json!({"spec": {"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
            "containers": [{"name": "a", "ports": [{"hostPort": 80}], "securityContext": {"privileged": true,
                "capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}}]}});
        assert_eq!(
            violations(&pod, "baseline").unwrap(),
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in \
             securityContext.capabilities.add), host namespaces (hostNetwork=true), hostPath volumes (volume \"v\"), \
             hostPort (container \"a\" uses hostPort 80), privileged (container \"a\" must not set \
             securityContext.privileged=true)"
        );
    }
}
