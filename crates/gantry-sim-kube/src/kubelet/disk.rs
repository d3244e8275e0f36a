//! What a pod has written to the node's disk, and whether it is more than it may: kubelet's
//! eviction manager, as far as it is about limits of pods. Volumes of memory count too where they
//! have a limit of their own.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;
use walkdir::WalkDir;

use super::volumes;
use crate::{
    container::Container,
    kubelet_state::PodHandle,
    store::object::{at, items, text},
    tasks,
    validation::quantity::Quantity,
};

/// Files looked at in one volume: a pod that makes millions of them must not keep kubelet busy for
/// ever.
const MOST_FILES: usize = 1_000_000;
/// `st_blocks` counts in these, whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// Bytes that a pod uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Writable layer and log, by container.
    containers: BTreeMap<String, u64>,
    volumes: BTreeMap<String, u64>,
}

/// Whether a pod has any limit to look after.
pub(crate) fn is_limited(pod: &Value) -> bool {
    pod_limit(pod).is_some()
        || items(pod, &["spec", "volumes"]).iter().any(|volume| at(volume, &["emptyDir", "sizeLimit"]).is_some())
}

/// Measures a pod.
pub(crate) async fn measure(handle: &PodHandle, pod: &Value) -> Usage {
    let mut usage = Usage::default();
    for container in items(pod, &["spec", "containers"]).iter().chain(items(pod, &["spec", "initContainers"])) {
        let name = text(container, &["name"]);
        let log = tokio::fs::metadata(handle.log_path(name)).await.map_or(0, |log| log.len());
        let layer = handle.running().get(name).and_then(Container::written_bytes).unwrap_or(0);
        usage.containers.insert(name.to_owned(), layer.saturating_add(log));
    }
    for volume in items(pod, &["spec", "volumes"]).iter().filter(|volume| volume.get("hostPath").is_none()) {
        let path = volumes::path(handle, volume);
        let size = tasks::blocking(move || size(&path)).await.unwrap_or(0);
        usage.volumes.insert(text(volume, &["name"]).to_owned(), size);
    }
    usage
}

/// Bytes on disk below a directory.
fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = WalkDir::new(path).min_depth(1).same_file_system(true).into_iter().take(MOST_FILES).flatten();
    files.filter_map(|file| file.metadata().ok()).fold(0, |sum, file| sum.saturating_add(file.blocks() * BLOCK))
}

/// The sum of the containers' limits; `None` if none has one.
fn pod_limit(pod: &Value) -> Option<Quantity> {
    let limits = items(pod, &["spec", "containers"]).iter().filter_map(container_limit);
    limits.reduce(Quantity::plus)
}

fn container_limit(container: &Value) -> Option<Quantity> {
    at(container, &["resources", "limits", "ephemeral-storage"]).and_then(Quantity::of)
}

/// Kubelet's sentence for what a pod uses too much of.
pub(crate) fn excess(pod: &Value, usage: &Usage) -> Option<String> {
    let volumes = items(pod, &["spec", "volumes"]);
    for volume in volumes {
        let name = text(volume, &["name"]);
        let limit = at(volume, &["emptyDir", "sizeLimit"]).and_then(Quantity::of).filter(|limit| !limit.is_zero());
        if let (Some(limit), Some(used)) = (limit, usage.volumes.get(name))
            && *used > limit.units()
        {
            return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". "));
        }
    }
    let on_disk = |name: &str| {
        let volume = volumes.iter().find(|volume| text(volume, &["name"]) == name);
        volume.is_none_or(|volume| text(volume, &["emptyDir", "medium"]).is_empty())
    };
    if let Some(limit) = pod_limit(pod) {
        let disk = usage.volumes.iter().filter(|(name, _)| on_disk(name)).map(|(_, bytes)| *bytes);
        let all: u64 = usage.containers.values().copied().chain(disk).fold(0, u64::saturating_add);
        if all > limit.units() {
            return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
        }
    }
    for container in items(pod, &["spec", "containers"]) {
        let name = text(container, &["name"]);
        if let (Some(limit), Some(used)) = (container_limit(container), usage.containers.get(name))
            && *used > limit.units()
        {
            return Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn usage(containers: &[(&str, u64)], volumes: &[(&str, u64)]) -> Usage {
        let map = |list: &[(&str, u64)]| list.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        Usage { containers: map(containers), volumes: map(volumes) }
    }

    #[test]
    fn each_limit_has_its_sentence() {
        let limit = json!({"limits": {"ephemeral-storage": "10Mi"}});
        let pod = json!({"spec": {
            "containers": [{"name": "a", "resources": limit}, {"name": "b", "resources": limit}],
            "volumes": [{"name": "small", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "e", "emptyDir": {}},
                {"name": "m", "emptyDir": {"medium": "Memory"}}],
        }});
        assert!(is_limited(&pod) && !is_limited(&json!({"spec": {"containers": [{"name": "a"}]}})));
        assert_eq!(excess(&pod, &usage(&[("a", 5 * MIB), ("b", 5 * MIB)], &[("e", 9 * MIB), ("m", 99 * MIB)])), None);
        let told = |containers, volumes| excess(&pod, &usage(containers, volumes)).unwrap();
        assert_eq!(
            told(&[("a", 0)], &[("small", 2 * MIB)]),
            r#"Usage of EmptyDir volume "small" exceeds the limit "1Mi". "#
        );
        assert_eq!(
            told(&[("a", 5 * MIB), ("b", 5 * MIB)], &[("e", 11 * MIB)]),
            "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. "
        );
        assert_eq!(
            told(&[("a", 12 * MIB), ("b", 0)], &[]),
            r#"Container a exceeded its local ephemeral storage limit "10Mi". "#
        );
    }

    #[test]
    fn files_are_measured_in_blocks() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        std::fs::write(directory.path().join("d/f"), vec![1; 100_000]).unwrap();
        assert!((100_000..200_000).contains(&size(directory.path())));
    }
}
