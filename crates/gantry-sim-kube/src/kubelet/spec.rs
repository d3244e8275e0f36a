//! From a container in a pod's specification to a container for the runtime.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use super::{env, volumes};
use crate::{
    cluster::Cluster,
    container::{Capabilities, ContainerSpec, Mount},
    image_store::Image,
    kubelet_state::PodHandle,
    store::object::{self, at, items, text},
    validation::quantity::Quantity,
};

/// What a container does that has no command, neither of its own nor of its image, or none that
/// this machine has: it waits until it is told to stop.
const IDLE: [&str; 3] = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"];

/// The runtime's container; the error is kubelet's message for `CreateContainerConfigError`.
pub(crate) fn container(
    cluster: &Cluster,
    handle: &PodHandle,
    pod: &Value,
    container: &Value,
) -> Result<ContainerSpec, String> {
    let mut env = env::environment(cluster, pod, container)?;
    let name = text(container, &["name"]);
    let image = cluster.kubelet.images.of(text(container, &["image"]));
    let tools = cluster.config.host_tools.as_ref().map(|tools| tools.of(name)).filter(|_| image.is_none());
    let waits = image.is_none() && cluster.config.host_tools.as_ref().is_some_and(|tools| tools.may_wait(name));
    let variables = image.as_ref().map(|image| image.env.as_slice()).or(tools.map(|(variables, _)| variables));
    if let Some(variables) = variables {
        let missing = |(variable, _): &&(String, String)| env.iter().all(|(name, _)| name != variable);
        let defaults: Vec<(String, String)> = variables.iter().filter(missing).cloned().collect();
        env.splice(0..0, defaults);
    }
    let context = |field: &str| {
        at(container, &["securityContext", field]).or_else(|| at(pod, &["spec", "securityContext", field]))
    };
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let flag = |field: &str| at(container, &["securityContext", field]).and_then(Value::as_bool);
    let named = number(context("runAsUser"));
    let uid = named.or(image.as_ref().map(|image| image.uid));
    if context("runAsNonRoot") == Some(&Value::Bool(true)) && uid.unwrap_or(0) == 0 {
        let pod_name = format!("{}_{}({})", handle.key.name, handle.key.namespace, handle.uid);
        let what = if named.is_some() {
            "container's runAsUser breaks non-root policy"
        } else {
            "container has runAsNonRoot and image will run as root"
        };
        return Err(format!("{what} (pod: {pod_name:?}, container: {name})"));
    }
    let mut groups: Vec<u32> = items(pod, &["spec", "securityContext", "supplementalGroups"])
        .iter()
        .filter_map(|group| number(Some(group)))
        .collect();
    groups.extend(number(at(pod, &["spec", "securityContext", "fsGroup"])));
    // Whose group and groups are the image's is known of the image's own user only.
    let own = image.as_ref().filter(|image| uid == Some(image.uid));
    groups.extend(own.iter().flat_map(|image| &image.groups));
    let memory = at(container, &["resources", "limits", "memory"]).and_then(Quantity::of).map(Quantity::units);
    let cwd = Some(text(container, &["workingDir"])).filter(|cwd| !cwd.is_empty()).map(PathBuf::from);
    Ok(ContainerSpec {
        name: format!("{}/{name}", handle.key.name),
        args: command(container, &env, image.as_deref()),
        otherwise: if waits { idle() } else { Vec::new() },
        mounts: if cluster.kubelet.containers.have_files() { mounts(handle, pod, container)? } else { Vec::new() },
        env,
        cwd: cwd.or_else(|| image.as_ref()?.working_dir.clone()),
        uid,
        gid: number(context("runAsGroup")).or(own.map(|image| image.gid)),
        supplemental_groups: groups,
        hostname: hostname(pod, handle),
        hosts: hosts(cluster, pod, handle),
        memory_limit: memory.filter(|bytes| *bytes > 0),
        read_only_root: flag("readOnlyRootFilesystem").unwrap_or(false),
        capabilities: capabilities(container, flag("privileged").unwrap_or(false)),
        no_new_privileges: flag("allowPrivilegeEscalation") == Some(false),
        tools: tools.map(|(_, view)| view.clone()),
        image: image.map(|image| image.root.clone()),
        stdin: container["stdin"] == Value::Bool(true),
        tty: container["tty"] == Value::Bool(true),
    })
}

fn command(container: &Value, env: &[(String, String)], image: Option<&Image>) -> Vec<String> {
    let known: BTreeMap<String, String> = env.iter().cloned().collect();
    let words = |field: &str| -> Vec<String> {
        items(container, &[field]).iter().filter_map(Value::as_str).map(|word| env::expand(word, &known)).collect()
    };
    let (mut command, mut args) = (words("command"), words("args"));
    if let Some(image) = image
        && command.is_empty()
    {
        command.clone_from(&image.entrypoint);
        if args.is_empty() {
            args.clone_from(&image.command);
        }
    }
    command.extend(args);
    let args = command;
    if args.is_empty() { idle() } else { args }
}

fn idle() -> Vec<String> {
    IDLE.map(str::to_owned).to_vec()
}

fn capabilities(container: &Value, privileged: bool) -> Capabilities {
    let drop = items(container, &["securityContext", "capabilities", "drop"]);
    if privileged {
        Capabilities::All
    } else if drop.iter().any(|name| name.as_str().is_some_and(|name| name.eq_ignore_ascii_case("all"))) {
        Capabilities::None
    } else {
        Capabilities::Default
    }
}

fn hostname(pod: &Value, handle: &PodHandle) -> String {
    match text(pod, &["spec", "hostname"]) {
        "" => handle.key.name.clone(),
        name => name.to_owned(),
    }
}

fn hosts(cluster: &Cluster, pod: &Value, handle: &PodHandle) -> Vec<(String, Vec<String>)> {
    let own = cluster.config.advertised_ip(cluster.address);
    let mut hosts = vec![(own.to_string(), vec![hostname(pod, handle)])];
    // There is no cluster DNS, so the API server's names are given here.
    let api = ["kubernetes.default.svc", "kubernetes.default", "kubernetes.default.svc.cluster.local"];
    hosts.push((own.to_string(), api.map(str::to_owned).to_vec()));
    for alias in items(pod, &["spec", "hostAliases"]) {
        let names = items(alias, &["hostnames"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        hosts.push((text(alias, &["ip"]).to_owned(), names));
    }
    hosts
}

fn mounts(handle: &PodHandle, pod: &Value, container: &Value) -> Result<Vec<Mount>, String> {
    let all = items(pod, &["spec", "volumes"]);
    let mut mounts = Vec::new();
    for mount in items(container, &["volumeMounts"]) {
        let name = text(mount, &["name"]);
        let volume = all
            .iter()
            .find(|volume| text(volume, &["name"]) == name)
            .ok_or(format!("cannot find volume {name:?} to mount into container {:?}", text(container, &["name"])))?;
        let root = volumes::path(handle, volume);
        let sub = text(mount, &["subPath"]);
        let source = if sub.is_empty() {
            root
        } else {
            volumes::sub_path(&root, sub).map_err(|error| {
                format!(
                    "failed to prepare subPath for volumeMount {name:?} of container {:?}: {error}",
                    text(container, &["name"])
                )
            })?
        };
        let target = text(mount, &["mountPath"]);
        let target = if target.starts_with('/') { PathBuf::from(target) } else { PathBuf::from(format!("/{target}")) };
        let fixed = ["configMap", "secret", "projected", "downwardAPI"].iter().any(|kind| volume.get(*kind).is_some());
        mounts.push(Mount { source, target, read_only: fixed || mount["readOnly"] == Value::Bool(true) });
    }
    let message = message_path(handle, text(container, &["name"]));
    let target = text(container, &["terminationMessagePath"]);
    if target.starts_with('/') {
        let made = message.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(&message, "")?;
            std::fs::set_permissions(&message, std::fs::Permissions::from_mode(0o666))
        });
        made.map_err(|error| format!("cannot make the termination message file: {error}"))?;
        mounts.push(Mount { source: message, target: PathBuf::from(target), read_only: false });
    }
    Ok(mounts)
}

/// Where the host has what a container writes to its `terminationMessagePath`.
pub(crate) fn message_path(handle: &PodHandle, container: &str) -> PathBuf {
    handle.directory.join("messages").join(container)
}

/// The container of that name in a pod, of either kind.
pub(crate) fn find<'p>(pod: &'p Value, name: &str) -> Option<&'p Value> {
    items(pod, &["spec", "initContainers"])
        .iter()
        .chain(items(pod, &["spec", "containers"]))
        .find(|container| text(container, &["name"]) == name)
}

/// The path by which events name a container.
pub(crate) fn field_path(pod: &Value, name: &str) -> String {
    let init = items(pod, &["spec", "initContainers"]).iter().any(|one| object::text(one, &["name"]) == name);
    format!("spec.{}{{{name}}}", if init { "initContainers" } else { "containers" })
}
