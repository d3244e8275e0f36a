//! Which pods are refused, with the words of Kubernetes, at creation and at update.

use serde_json::Value;

use super::{Problems, names, quantity::Quantity};
use crate::store::object::{at, items, text};

const RESTART: &[&str] = &["Always", "OnFailure", "Never"];
const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];

/// What is wrong with a new pod.
pub(crate) fn create(pod: &Value) -> Problems {
    let mut problems = Problems::default();
    let volumes = volumes(pod, &mut problems);
    if items(pod, &["spec", "containers"]).is_empty() {
        problems.required("spec.containers", "");
    }
    let mut seen = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in items(pod, &["spec", list]).iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            container_names(container, &path, &mut seen, &mut problems);
            self::container(container, &path, &volumes, &mut problems);
        }
    }
    one_of(text(pod, &["spec", "restartPolicy"]), "spec.restartPolicy", RESTART, &mut problems);
    for (field, least) in [("activeDeadlineSeconds", 1), ("terminationGracePeriodSeconds", 0)] {
        if let Some(value) = at(pod, &["spec", field])
            && value.as_i64().is_none_or(|seconds| seconds < least || seconds > i64::from(i32::MAX))
        {
            let detail = format!("must be between {least} and 2147483647, inclusive");
            problems.invalid(format!("spec.{field}"), value, &detail);
        }
    }
    for (index, alias) in items(pod, &["spec", "hostAliases"]).iter().enumerate() {
        let ip = text(alias, &["ip"]);
        if ip.parse::<std::net::IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            problems.invalid(format!("spec.hostAliases[{index}].ip"), &Value::from(ip), detail);
        }
        for (position, host) in items(alias, &["hostnames"]).iter().enumerate() {
            if let Some(detail) = host.as_str().and_then(names::subdomain) {
                problems.invalid(format!("spec.hostAliases[{index}].hostnames[{position}]"), host, detail);
            }
        }
    }
    problems
}

fn one_of(value: &str, field: &str, supported: &[&str], problems: &mut Problems) {
    if !supported.contains(&value) {
        problems.unsupported(field, value, supported);
    }
}

fn volumes(pod: &Value, problems: &mut Problems) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for (index, volume) in items(pod, &["spec", "volumes"]).iter().enumerate() {
        let (name, path) = (text(volume, &["name"]), format!("spec.volumes[{index}]"));
        if name.is_empty() {
            problems.required(format!("{path}.name"), "");
        } else if let Some(detail) = names::label(name) {
            problems.invalid(format!("{path}.name"), &Value::from(name), detail);
        } else if seen.iter().any(|one| one == name) {
            problems.duplicate(format!("{path}.name"), name);
        }
        if volume.as_object().is_some_and(|fields| fields.len() > 2) {
            problems.forbidden(path, "may not specify more than 1 volume type");
        }
        seen.push(name.to_owned());
    }
    seen
}

fn container_names(container: &Value, path: &str, seen: &mut Vec<String>, problems: &mut Problems) {
    let name = text(container, &["name"]);
    if name.is_empty() {
        problems.required(format!("{path}.name"), "");
    } else if let Some(detail) = names::label(name) {
        problems.invalid(format!("{path}.name"), &Value::from(name), detail);
    } else if seen.iter().any(|one| one == name) {
        problems.duplicate(format!("{path}.name"), name);
    }
    seen.push(name.to_owned());
}

fn container(container: &Value, path: &str, volumes: &[String], problems: &mut Problems) {
    let image = text(container, &["image"]);
    if image.is_empty() {
        problems.required(format!("{path}.image"), "");
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        problems.invalid(format!("{path}.image"), &Value::from(image), detail);
    }
    one_of(text(container, &["imagePullPolicy"]), &format!("{path}.imagePullPolicy"), PULL, problems);
    mounts(container, path, volumes, problems);
    resources(container, path, problems);
    for (index, variable) in items(container, &["env"]).iter().enumerate() {
        let field = format!("{path}.env[{index}].name");
        let name = text(variable, &["name"]);
        if name.is_empty() {
            problems.required(field, "");
        } else if name.contains('=') || !name.chars().all(|letter| (' '..='~').contains(&letter)) {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other \
                          than '='";
            problems.invalid(field, &Value::from(name), detail);
        } else if variable.get("valueFrom").is_some() && !text(variable, &["value"]).is_empty() {
            let detail = "may not be specified when `value` is not empty";
            problems.invalid(format!("{path}.env[{index}].valueFrom"), &Value::from(""), detail);
        }
    }
    for (index, port) in items(container, &["ports"]).iter().enumerate() {
        let number = at(port, &["containerPort"]).and_then(Value::as_i64);
        if number.is_none_or(|number| !(1..=65_535).contains(&number)) {
            let value = Value::from(number.unwrap_or(0));
            let detail = "must be between 1 and 65535, inclusive";
            problems.invalid(format!("{path}.ports[{index}].containerPort"), &value, detail);
        }
    }
}

fn mounts(container: &Value, path: &str, volumes: &[String], problems: &mut Problems) {
    let mut paths: Vec<&str> = Vec::new();
    for (index, mount) in items(container, &["volumeMounts"]).iter().enumerate() {
        let at = format!("{path}.volumeMounts[{index}]");
        let (name, target) = (text(mount, &["name"]), text(mount, &["mountPath"]));
        if name.is_empty() {
            problems.required(format!("{at}.name"), "");
        } else if !volumes.iter().any(|volume| volume == name) {
            problems.not_found(format!("{at}.name"), name);
        }
        if target.is_empty() {
            problems.required(format!("{at}.mountPath"), "");
        } else if paths.contains(&target) {
            problems.invalid(format!("{at}.mountPath"), &Value::from(target), "must be unique");
        }
        paths.push(target);
        let sub = text(mount, &["subPath"]);
        if sub.starts_with('/') {
            problems.invalid(format!("{at}.subPath"), &Value::from(sub), "must be a relative path");
        } else if sub.split('/').any(|part| part == "..") {
            problems.invalid(format!("{at}.subPath"), &Value::from(sub), "must not contain '..'");
        }
    }
}

fn resources(container: &Value, path: &str, problems: &mut Problems) {
    let amount = |list: &str, name: &str| at(container, &["resources", list, name]).and_then(Quantity::of);
    for list in ["limits", "requests"] {
        let Some(amounts) = at(container, &["resources", list]).and_then(Value::as_object) else { continue };
        for (name, value) in amounts {
            let field = format!("{path}.resources.{list}[{name}]");
            match Quantity::of(value) {
                None => problems.invalid(field, value, "quantities must match the regular expression"),
                Some(amount) if amount.is_negative() => {
                    problems.invalid(field, value, "must be greater than or equal to 0");
                }
                Some(_) => {}
            }
            if list == "requests"
                && let (Some(request), Some(limit)) = (amount("requests", name), amount("limits", name))
                && request > limit
            {
                let limit = at(container, &["resources", "limits", name]).map(Value::to_string).unwrap_or_default();
                let detail = format!("must be less than or equal to {name} limit of {}", limit.trim_matches('"'));
                problems.invalid(format!("{path}.resources.requests"), value, &detail);
            }
        }
    }
}

/// What cannot be read at all: Kubernetes answers 400 before it validates. The answer is the
/// sentence for the client.
pub(crate) fn decode(pod: &Value) -> Result<(), String> {
    for list in ["initContainers", "containers"] {
        for container in items(pod, &["spec", list]) {
            for amounts in ["limits", "requests"] {
                let found = at(container, &["resources", amounts]).and_then(Value::as_object);
                if found.into_iter().flatten().any(|(_, value)| Quantity::of(value).is_none()) {
                    return Err("quantities must match the regular expression \
                         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                        .to_owned());
                }
            }
            for field in ["command", "args"] {
                if items(container, &[field]).iter().any(|item| !item.is_string()) {
                    return Err(format!(
                        "json: cannot unmarshal into Go struct field Container.spec.{list}.{field} \
                                        of type string"
                    ));
                }
            }
            for (index, variable) in items(container, &["env"]).iter().enumerate() {
                if variable.get("value").is_some_and(|value| !value.is_string()) {
                    return Err(format!(
                        "json: cannot unmarshal into Go struct field \
                                        EnvVar.spec.{list}.env[{index}].value of type string"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What is wrong with changing one pod into another: a pod's spec is fixed except for images, the
/// deadline (which may come nearer), added tolerations and removed scheduling gates.
pub(crate) fn update(old: &Value, new: &Value) -> Problems {
    let mut problems = Problems::default();
    if old.get("spec").map(mutable_parts_removed) != new.get("spec").map(mutable_parts_removed) {
        problems.forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
             negative)",
        );
    }
    let deadline = |pod: &Value| at(pod, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64);
    match (deadline(old), deadline(new)) {
        (Some(before), Some(after)) if after > before => problems.invalid(
            "spec.activeDeadlineSeconds",
            &Value::from(after),
            "must be less than or equal to previous value",
        ),
        (Some(_), None) => {
            let detail = "must not update from a positive integer to nil value";
            problems.invalid("spec.activeDeadlineSeconds", &Value::Null, detail);
        }
        _ => {}
    }
    let gates = |pod| items(pod, &["spec", "schedulingGates"]);
    if let Some(added) = gates(new).iter().find(|gate| !gates(old).contains(gate)) {
        let name = text(added, &["name"]);
        let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        problems.forbidden("spec.schedulingGates", &detail);
    }
    problems
}

fn mutable_parts_removed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("activeDeadlineSeconds");
        fields.remove("tolerations");
        fields.remove("schedulingGates");
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(fields) = container.as_object_mut() {
                fields.remove("image");
            }
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(mut pod: Value) -> Vec<String> {
        super::super::pod_defaults::fill(&mut pod);
        create(&pod).0.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn good_pods_pass() {
        assert!(
            told(json!({"spec": {"containers": [{"name": "a", "image": "x",
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], "volumes": [{"name": "v"}]}}))
            .is_empty()
        );
    }

    #[test]
    fn every_problem_is_told() {
        let told = told(json!({"spec": {"containers": [
            {"name": "a"}, {"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            {"name": "B", "image": "x", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}
        ]}}));
        assert_eq!(told[0], "spec.containers[0].image: Required value");
        assert_eq!(told[1], r#"spec.containers[1].name: Duplicate value: "a""#);
        assert_eq!(told[2], r#"spec.containers[1].volumeMounts[0].name: Not found: "v""#);
        assert!(told[3].starts_with(r#"spec.containers[2].name: Invalid value: "B": a lowercase RFC 1123 label"#));
        assert!(told[4].ends_with("must be less than or equal to cpu limit of 1"));
        assert_eq!(told.len(), 5);
    }

    #[test]
    fn a_spec_is_fixed() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}], "activeDeadlineSeconds": 5}});
        let mut other = pod.clone();
        other["spec"]["containers"][0]["image"] = json!("y");
        other["spec"]["activeDeadlineSeconds"] = json!(4);
        assert!(update(&pod, &other).0.is_empty());
        other["spec"]["containers"][0]["command"] = json!(["x"]);
        other["spec"]["activeDeadlineSeconds"] = json!(6);
        assert_eq!(update(&pod, &other).0.len(), 2);
    }

    #[test]
    fn a_pod_that_is_held_back_can_only_be_let_go() {
        let pod = |gates: Value| json!({"spec": {"containers": [], "schedulingGates": gates}});
        let (held, free) = (pod(json!([{"name": "a"}, {"name": "b"}])), pod(json!([{"name": "b"}])));
        assert!(update(&held, &free).0.is_empty());
        assert_eq!(update(&free, &held).0.len(), 1);
    }
}
