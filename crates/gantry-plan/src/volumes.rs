//! The volumes of a job pod: ours, and those of the config, which every container mounts.

use std::collections::BTreeMap;

use gantry_config::settings::volumes::Volumes as Configured;
use gantry_config::settings::volumes::{Mount, MountPropagation};
use gantry_core::variables::Variables;
use gantry_wire::layout::{AGENT_DIR, SHARED_DIR};
use gantry_wire::plan::Paths;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Names of our own volumes.
const SHARED: &str = "gantry";
const AGENT: &str = "gantry-agent";
const BUILDS: &str = "repo";
const TEMP: &str = "gantry-tmp";

/// All volumes of a pod and who mounts what.
pub(crate) struct PodVolumes {
    pub(crate) volumes: Vec<api::Volume>,
    pub(crate) helper: Vec<api::VolumeMount>,
    pub(crate) build: Vec<api::VolumeMount>,
    pub(crate) services: Vec<api::VolumeMount>,
}

/// Makes the volumes. Services get the builds directory and what is configured, but neither scripts nor file variables nor the agent.
pub(crate) fn volumes(configured: &Configured, variables: &Variables, paths: &Paths) -> PodVolumes {
    let (mut volumes, common) = configured_volumes(configured, variables);
    let mut services = common;
    let is_builds_configured = services.iter().any(|mount| mount.mount_path.trim_end_matches('/') == paths.builds_dir);
    if !is_builds_configured {
        volumes.push(empty_dir(BUILDS));
        services.push(mount(BUILDS, &paths.builds_dir));
    }
    let mut helper = services.clone();
    if !is_builds_configured {
        helper.extend(parent_of_project(paths));
    }
    helper.push(mount(TEMP, &paths.temp_dir));
    let mut build = helper.clone();
    helper.extend([mount(SHARED, SHARED_DIR), mount(AGENT, AGENT_DIR)]);
    build.push(api::VolumeMount { read_only: Some(true), ..mount(SHARED, SHARED_DIR) });
    volumes.extend([empty_dir(TEMP), empty_dir(SHARED), empty_dir(AGENT)]);
    PodVolumes { volumes, helper, build, services }
}

/// The mount point of the temporary directory lies in the builds volume. If its parent did not exist, the container runtime would make it
/// as root's alone, and a helper that is not root could not make the work tree beside it. The kubelet makes the directory of a `subPath`
/// with the mode of the volume, which everybody may write to.
fn parent_of_project(paths: &Paths) -> Option<api::VolumeMount> {
    let (parent, _) = paths.project_dir.rsplit_once('/')?;
    let sub_path = parent.strip_prefix(&format!("{}/", paths.builds_dir))?;
    Some(api::VolumeMount { sub_path: Some(sub_path.to_owned()), ..mount(BUILDS, parent) })
}

fn empty_dir(name: &str) -> api::Volume {
    api::Volume { name: name.to_owned(), empty_dir: Some(api::EmptyDirVolumeSource::default()), ..Default::default() }
}

fn mount(name: &str, path: &str) -> api::VolumeMount {
    api::VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..Default::default() }
}

/// The volumes of the config in the reference's order, each object once, and their mounts.
fn configured_volumes(configured: &Configured, variables: &Variables) -> (Vec<api::Volume>, Vec<api::VolumeMount>) {
    let mut made = Made { variables, volumes: Vec::new(), mounts: Vec::new() };
    for volume in &configured.host_path {
        let path = volume.host_path.clone().unwrap_or_else(|| volume.mount.mount_path.clone());
        made.add(&volume.mount, |made| {
            made.host_path = Some(api::HostPathVolumeSource { path, ..Default::default() });
        });
    }
    for volume in &configured.secret {
        made.add(&volume.mount, |made| {
            made.secret = Some(api::SecretVolumeSource {
                secret_name: Some(made.name.clone()),
                items: items(&volume.items),
                ..Default::default()
            });
        });
    }
    for volume in &configured.pvc {
        let read_only = volume.mount.read_only.then_some(true);
        made.add(&volume.mount, |made| {
            let claim_name = made.name.clone();
            made.persistent_volume_claim = Some(api::PersistentVolumeClaimVolumeSource { claim_name, read_only });
        });
    }
    for volume in &configured.config_map {
        made.add(&volume.mount, |made| {
            let (name, items) = (made.name.clone(), items(&volume.items));
            made.config_map = Some(api::ConfigMapVolumeSource { name, items, ..Default::default() });
        });
    }
    for volume in &configured.empty_dir {
        let size_limit = volume.size_limit.as_ref().map(|limit| Quantity(limit.as_str().to_owned()));
        made.add(&volume.mount, |made| {
            made.empty_dir = Some(api::EmptyDirVolumeSource { medium: volume.medium.clone(), size_limit });
        });
    }
    for volume in &configured.csi {
        made.add(&volume.mount, |made| {
            made.csi = Some(api::CSIVolumeSource {
                driver: volume.driver.clone(),
                fs_type: volume.fs_type.clone(),
                read_only: Some(volume.mount.read_only),
                volume_attributes: Some(volume.volume_attributes.clone()),
                ..Default::default()
            });
        });
    }
    for volume in &configured.nfs {
        made.add(&volume.mount, |made| {
            let (path, server) = (volume.path.clone(), volume.server.clone());
            made.nfs = Some(api::NFSVolumeSource { path, server, read_only: Some(volume.mount.read_only) });
        });
    }
    (made.volumes, made.mounts)
}

struct Made<'a> {
    variables: &'a Variables,
    volumes: Vec<api::Volume>,
    mounts: Vec<api::VolumeMount>,
}

impl Made<'_> {
    /// Adds a mount, and its volume unless an earlier mount has brought it.
    fn add(&mut self, mount: &Mount, source: impl FnOnce(&mut api::Volume)) {
        let name = self.variables.expand(&mount.name);
        if self.volumes.iter().all(|volume| volume.name != name) {
            let mut volume = api::Volume { name: name.clone(), ..Default::default() };
            source(&mut volume);
            self.volumes.push(volume);
        }
        self.mounts.push(api::VolumeMount {
            name,
            mount_path: self.variables.expand(&mount.mount_path),
            sub_path: mount.sub_path.as_ref().map(|path| self.variables.expand(path)),
            read_only: mount.read_only.then_some(true),
            mount_propagation: mount.mount_propagation.map(|propagation| {
                match propagation {
                    MountPropagation::None => "None",
                    MountPropagation::HostToContainer => "HostToContainer",
                    MountPropagation::Bidirectional => "Bidirectional",
                }
                .to_owned()
            }),
            ..Default::default()
        });
    }
}

fn items(items: &BTreeMap<String, String>) -> Option<Vec<api::KeyToPath>> {
    let item = |(key, path): (&String, &String)| api::KeyToPath { key: key.clone(), path: path.clone(), mode: None };
    (!items.is_empty()).then(|| items.iter().map(item).collect())
}
