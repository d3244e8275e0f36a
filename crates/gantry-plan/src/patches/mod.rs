//! The operator's patches of the pod's spec (`[[runners.kubernetes.pod_spec]]`), applied last.
//! Whatever they change, the pod must stay one in which the agent can do its work; a patch that
//! takes this away is refused with its name, before there is a pod.
//!
//! Patches are written for the pod of the reference, so they are applied to its shape: `build`
//! first, then `helper`, then services, and with the empty objects that are always there in its
//! manifests.

mod strategic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gantry_config::pod_patch::Patch;
use gantry_config::settings::pod::{PatchSource, PodSpecPatch};
use gantry_wire::layout::{BUILD, HELPER};
use json_patch::PatchOperation;
use k8s_openapi::api::core::v1 as api;
use serde_json::{Value, json};

use crate::head_line::HeadLine;
use crate::{PlanError, volumes};

/// Init containers of the reference, which have no counterpart here.
const NO_CONTAINERS: [&str; 2] = ["init-permissions", "init-build-uid-gid-collector"];

/// Volumes of the reference, which have no counterpart here.
const NO_VOLUMES: [&str; 2] = ["logs", "scripts"];

/// The text of each file that a patch comes from, or why it cannot be read.
pub type PatchFiles = BTreeMap<PathBuf, Result<String, String>>;

/// The files that the patches of a runner come from.
pub fn files(patches: &[PodSpecPatch]) -> impl Iterator<Item = &Path> {
    patches.iter().filter_map(|patch| match &patch.source {
        PatchSource::File(path) => Some(path.as_path()),
        PatchSource::Inline(_) => None,
    })
}

/// Applies the patches in order, and gives lines for the job log.
///
/// # Errors
/// A patch that cannot be applied, or after which the pod is none, or the agent cannot work in it.
pub(crate) fn apply(
    spec: api::PodSpec,
    patches: &[PodSpecPatch],
    files: &PatchFiles,
) -> Result<(api::PodSpec, Vec<HeadLine>), PlanError> {
    if patches.is_empty() {
        return Ok((spec, Vec::new()));
    }
    let own = spec.clone();
    let mut value = serde_json::to_value(in_their_order(spec)).map_err(|error| wrong(&error.to_string()))?;
    complete(&mut value);
    let mut counted = Vec::new();
    for patch in patches {
        let of = format!("patch {:?} of [[runners.kubernetes.pod_spec]]", patch.name);
        let path = apply_one(&mut value, patch, files).map_err(|message| wrong(&format!("{of} {message}")))?;
        counted.extend(path.map(|path| {
            HeadLine::warning(format!(
                "{of} changes {path}: numbers count other volumes here than in a pod of gitlab-runner; name them, in a \
                 patch of the type strategic"
            ))
        }));
    }
    let names: Vec<&str> = patches.iter().map(|patch| patch.name.as_str()).collect();
    let applied = format!("Applying patches of [[runners.kubernetes.pod_spec]] to the pod: {}", names.join(", "));
    let mut lines = vec![HeadLine::plain(applied)];
    lines.extend(counted);
    write_quantities(&mut value, false);
    leave_out(&mut value, &mut lines);
    let patched: api::PodSpec = serde_path_to_error::deserialize(&value).map_err(|error| {
        let (field, what) = (error.path().to_string(), error.into_inner());
        wrong(&format!("{AFTER} Kubernetes would not read the pod: {field}: {what}"))
    })?;
    if let Some(field) = lost(&value, &serde_json::to_value(&patched).unwrap_or_default(), "") {
        lines.push(HeadLine::warning(format!("{AFTER} the pod has {field}, which no pod has: it is left out")));
    }
    lines.extend(new_volumes(&own, &patched).map(HeadLine::warning));
    check(&own, &patched).map_err(|message| wrong(&format!("{AFTER} {message}")))?;
    Ok((in_our_order(patched), lines))
}

const AFTER: &str = "after the patches of [[runners.kubernetes.pod_spec]]";

fn wrong(message: &str) -> PlanError {
    PlanError::Configuration(message.to_owned())
}

/// Applies a patch, and gives the path of an operation that counts volumes.
fn apply_one(spec: &mut Value, patch: &PodSpecPatch, files: &PatchFiles) -> Result<Option<String>, String> {
    let read;
    let parsed = match &patch.source {
        PatchSource::Inline(patch) => patch,
        PatchSource::File(path) => {
            let shown = path.display();
            let text = match files.get(path) {
                Some(Ok(text)) => text,
                Some(Err(error)) => return Err(format!("cannot be read from {shown}: {error}")),
                None => return Err(format!("cannot be read from {shown}")),
            };
            read = Patch::parse(patch.kind, text).map_err(|message| format!("in {shown} {message}"))?;
            &read
        }
    };
    match parsed {
        Patch::Strategic(patch) => {
            strategic::apply(spec, patch).map_err(|message| format!("cannot be applied: {message}"))?;
            Ok(None)
        }
        Patch::Merge(patch) => {
            json_patch::merge(spec, patch);
            Ok(None)
        }
        Patch::Json(operations) => {
            json_patch::patch(spec, operations).map_err(|error| {
                format!(
                    "cannot be applied: its operation {} at {:?}: {} (the pod has the containers build, helper and then services)",
                    error.operation + 1,
                    error.path.as_str(),
                    error.kind
                )
            })?;
            Ok(operations.iter().find_map(counts_volumes))
        }
    }
}

/// The path of an operation, if it says by a number which volume or mount it changes. It does not
/// matter where in a list something is added.
fn counts_volumes(operation: &PatchOperation) -> Option<String> {
    let path = operation.path().as_str();
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.windows(2).position(|pair| {
        ["volumes", "volumeMounts"].contains(&pair[0]) && pair[1].bytes().all(|byte| byte.is_ascii_digit())
    })?;
    let adds = matches!(operation, PatchOperation::Add(_)) && at + 2 == parts.len();
    (!adds).then(|| path.to_owned())
}

/// What to say of volumes of the reference that a patch has brought into the pod, where they are
/// new.
fn new_volumes(own: &api::PodSpec, patched: &api::PodSpec) -> impl Iterator<Item = String> {
    let has = |spec: &api::PodSpec, name: &str| {
        let mut mounts = spec.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten());
        spec.volumes.iter().flatten().any(|volume| volume.name == name) || mounts.any(|mount| mount.name == name)
    };
    NO_VOLUMES.into_iter().filter(move |name| has(patched, name) && !has(own, name)).map(|name| {
        format!(
            "A patch of the pod's spec is for the volume {name}, which only pods of gitlab-runner have: here it is a new one, \
             that the runner does not use"
        )
    })
}

/// Containers as the reference has them.
fn in_their_order(mut spec: api::PodSpec) -> api::PodSpec {
    spec.containers.sort_by_key(|container| match container.name.as_str() {
        BUILD => 0,
        HELPER => 1,
        _ => 2,
    });
    spec
}

/// Containers as the kubelet should start them, without what is empty.
fn in_our_order(mut spec: api::PodSpec) -> api::PodSpec {
    spec.containers.sort_by_key(|container| match container.name.as_str() {
        HELPER => 0,
        BUILD => 2,
        _ => 1,
    });
    for container in &mut spec.containers {
        container.resources =
            container.resources.take().filter(|resources| *resources != api::ResourceRequirements::default());
        container.env = container.env.take().filter(|list| !list.is_empty());
    }
    spec.resources = spec.resources.take().filter(|resources| *resources != api::ResourceRequirements::default());
    spec.affinity = spec.affinity.take().filter(|affinity| *affinity != api::Affinity::default());
    spec.init_containers = spec.init_containers.take().filter(|list| !list.is_empty());
    spec
}

/// What a manifest of the reference has where nothing is configured: operations of JSON patches
/// need somewhere to add to.
fn complete(spec: &mut Value) {
    let Some(map) = spec.as_object_mut() else { return };
    for field in ["affinity", "resources"] {
        map.entry(field).or_insert_with(|| json!({}));
    }
    map.entry("initContainers").or_insert_with(|| json!([]));
    for container in map.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(container) = container.as_object_mut() else { continue };
        container.entry("resources").or_insert_with(|| json!({}));
        container.entry("env").or_insert_with(|| json!([]));
    }
}

/// An API server takes a number for a quantity, which people like to write for GPUs; its types have
/// texts.
fn write_quantities(value: &mut Value, are_quantities: bool) {
    match value {
        Value::Object(map) => {
            for (field, below) in map {
                let are_below = ["limits", "requests", "overhead"].contains(&field.as_str());
                let is_one = are_quantities || ["sizeLimit", "divisor"].contains(&field.as_str());
                if is_one && let Value::Number(number) = below {
                    *below = Value::String(number.to_string());
                }
                write_quantities(below, are_below);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| write_quantities(item, false)),
        _ => {}
    }
}

/// A patch for an init container that is not here would make one, without an image, or with one
/// that runs whatever its entrypoint is.
fn leave_out(spec: &mut Value, lines: &mut Vec<HeadLine>) {
    let Some(list) = spec.get_mut("initContainers").and_then(Value::as_array_mut) else { return };
    list.retain(|container| {
        let name = container["name"].as_str().unwrap_or_default();
        let is_whole = !container["image"].is_null() && !container["command"].is_null();
        let is_none = NO_CONTAINERS.contains(&name) && !is_whole;
        if is_none {
            lines.push(HeadLine::warning(format!(
                "A patch of the pod's spec is for the init container {name}, which there is none of: it is left out"
            )));
        }
        !is_none
    });
}

/// The first field of `wanted` that `kept` has lost.
fn lost(wanted: &Value, kept: &Value, path: &str) -> Option<String> {
    match (wanted, kept) {
        (Value::Object(wanted), Value::Object(kept)) => wanted.iter().find_map(|(field, value)| {
            let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
            match kept.get(field) {
                Some(kept) => lost(value, kept, &path),
                // What is empty may be left out.
                None if value.is_null() || *value == json!({}) || *value == json!([]) => None,
                None => Some(path),
            }
        }),
        (Value::Array(wanted), Value::Array(kept)) => wanted
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(at, (wanted, kept))| lost(wanted, kept, &format!("{path}[{at}]"))),
        _ => None,
    }
}

/// What the agent needs of the pod.
fn check(own: &api::PodSpec, patched: &api::PodSpec) -> Result<(), String> {
    if patched.restart_policy != own.restart_policy {
        return Err("restartPolicy is not Never: a job's containers must not start twice".to_owned());
    }
    for wanted in &own.containers {
        let name = &wanted.name;
        let Some(container) = patched.containers.iter().find(|container| container.name == *name) else {
            return Err(format!(
                "the pod has no container {name} (a patch of the type merge replaces whole lists: use strategic)"
            ));
        };
        if ![BUILD, HELPER].contains(&name.as_str()) {
            continue;
        }
        if container.command != wanted.command || container.args != wanted.args {
            return Err(format!("command or args of container {name} are changed, by which the runner starts it"));
        }
        let mounts = |container: &api::Container| -> Vec<(String, String)> {
            let ours = container.volume_mounts.iter().flatten().filter(|mount| volumes::is_ours(&mount.mount_path));
            ours.map(|mount| (mount.mount_path.clone(), mount.name.clone())).collect()
        };
        let kept = mounts(container);
        if let Some((path, _)) = mounts(wanted).iter().find(|mount| !kept.contains(mount)) {
            return Err(format!("container {name} does not have the runner's volume at {path} any more"));
        }
    }
    let names = |spec: &api::PodSpec| -> Vec<String> {
        spec.volumes.iter().flatten().map(|volume| volume.name.clone()).collect()
    };
    let kept = names(patched);
    match names(own).iter().find(|name| volumes::is_our_name(name) && !kept.contains(name)) {
        Some(name) => Err(format!("the pod has no volume {name} any more, which the runner needs")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
