//! The volumes of a job pod: ours, and those of the config, which every container mounts.
//!
//! Names and paths of the config may depend on a job's variables, so whatever they become must not
//! touch the directories of the agent.

use std::collections::BTreeMap;

use gantry_config::names::{absolute, is_dns_label, is_path_within};
use gantry_config::settings::volumes::Volumes as Configured;
use gantry_config::settings::volumes::{Mount, MountPropagation};
use gantry_core::reserved;
use gantry_core::variables::Variables;
use gantry_wire::layout::{AGENT_DIR, SHARED_DIR, TEMP_DIR};
use gantry_wire::plan::Paths;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::PlanError;
use crate::clean_path::clean;

/// Names of our own volumes.
const SHARED: &str = "gantry";
const AGENT: &str = "gantry-agent";
const BUILDS: &str = reserved::BUILDS;
const TEMP: &str = "gantry-tmp";

/// All volumes of a pod and who mounts what.
pub(crate) struct PodVolumes {
    pub(crate) volumes: Vec<api::Volume>,
    pub(crate) helper: Vec<api::VolumeMount>,
    pub(crate) build: Vec<api::VolumeMount>,
    pub(crate) services: Vec<api::VolumeMount>,
    /// Those that name a file variable among their own variables also read its file.
    pub(crate) reading_services: Vec<api::VolumeMount>,
    /// Those that may do everything anyway, such as docker:dind, also see what a job may want to
    /// mount from there.
    pub(crate) privileged_services: Vec<api::VolumeMount>,
}

/// Makes the volumes. Services get the builds directory and what is configured, but neither scripts
/// nor the agent, and file variables only where they name one.
///
/// Nothing of ours is mounted inside the builds directory: it is one file system, in which a job
/// removes, renames and links as it likes.
///
/// # Errors
/// A configured volume cannot be mounted together with the others.
pub(crate) fn volumes(configured: &Configured, variables: &Variables, paths: &Paths) -> Result<PodVolumes, PlanError> {
    let (mut volumes, common) = configured_volumes(configured, variables)?;
    if let Some(mount) = common.iter().find(|mount| same_path(&mount.mount_path, &paths.temp_dir)) {
        return Err(PlanError::Configuration(format!(
            "the volume {:?} is mounted at {}, where the file variables of this job are kept: mount it elsewhere",
            mount.name, paths.temp_dir
        )));
    }
    let mut services = common;
    if !services.iter().any(|mount| same_path(&mount.mount_path, &paths.builds_dir)) {
        if volumes.iter().any(|volume| volume.name == BUILDS) {
            return Err(PlanError::Configuration(format!(
                "a volume of [runners.kubernetes.volumes] has the name {BUILDS:?}, which is kept for one mounted at {}",
                paths.builds_dir
            )));
        }
        volumes.push(empty_dir(BUILDS));
        services.push(mount(BUILDS, &paths.builds_dir));
    }
    let mut reading_services = services.clone();
    reading_services.push(api::VolumeMount { read_only: Some(true), ..mount(TEMP, TEMP_DIR) });
    let mut privileged_services = services.clone();
    privileged_services.push(mount(TEMP, TEMP_DIR));
    let (mut helper, mut build) = (privileged_services.clone(), privileged_services.clone());
    helper.extend([mount(SHARED, SHARED_DIR), mount(AGENT, AGENT_DIR)]);
    build.push(api::VolumeMount { read_only: Some(true), ..mount(SHARED, SHARED_DIR) });
    volumes.extend([empty_dir(TEMP), empty_dir(SHARED), empty_dir(AGENT)]);
    Ok(PodVolumes { volumes, helper, build, services, reading_services, privileged_services })
}

/// Whether the builds directory is a configured volume that may outlive the pod or be seen by
/// others.
pub(crate) fn is_shared(configured: &Configured, variables: &Variables, builds_dir: &str) -> bool {
    let fixed = configured.config_map.iter().chain(&configured.secret).map(|volume| &volume.mount);
    lasting(configured).chain(fixed).any(|mount| same_path(&variables.expand(&mount.mount_path), builds_dir))
}

/// The mount path of the volume that keeps what is written below `directory` for later pods, if
/// there is one: the nearest mount decides.
pub(crate) fn kept_above(configured: &Configured, variables: &Variables, directory: &str) -> Option<String> {
    let above = |mount: &Mount| {
        let path = resolved(&variables.expand(&mount.mount_path))?;
        let is_above = directory == path || directory.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'));
        is_above.then_some(path)
    };
    let kept = lasting(configured).filter(|mount| !mount.read_only).filter_map(above).max_by_key(String::len)?;
    let others = (configured.empty_dir.iter().map(|volume| &volume.mount))
        .chain(configured.config_map.iter().chain(&configured.secret).map(|volume| &volume.mount))
        .chain(lasting(configured).filter(|mount| mount.read_only));
    let hidden = others.filter_map(above).any(|other| other.len() > kept.len());
    (!hidden).then_some(kept)
}

/// The mounts of volumes that jobs may write to and that outlive the pod.
fn lasting(configured: &Configured) -> impl Iterator<Item = &Mount> {
    (configured.host_path.iter().map(|volume| &volume.mount))
        .chain(configured.pvc.iter().map(|volume| &volume.mount))
        .chain(configured.csi.iter().map(|volume| &volume.mount))
        .chain(configured.nfs.iter().map(|volume| &volume.mount))
}

/// The volumes of a pod that come from elsewhere in the cluster, each in a few words.
pub(crate) fn shown(pod: &api::Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(words).collect()
}

fn words(volume: &api::Volume) -> Option<String> {
    let named = |kind: &str, name: &str| Some(format!("{kind} {name:?}"));
    if let Some(source) = &volume.config_map {
        return named("config map", &source.name);
    }
    if let Some(source) = &volume.secret {
        return named("secret", source.secret_name.as_deref().unwrap_or_default());
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return named("volume claim", &source.claim_name);
    }
    if let Some(source) = &volume.csi {
        return named("volume of the CSI driver", &source.driver);
    }
    if let Some(source) = &volume.nfs {
        return Some(format!("NFS volume {}:{}", source.server, source.path));
    }
    if volume.host_path.is_some() || volume.empty_dir.is_some() {
        return None;
    }
    named("volume", &volume.name)
}

/// Whether a container finds the files of file variables.
pub(crate) fn has_files(container: &api::Container) -> bool {
    container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == TEMP_DIR)
}

/// Whether a path leads to our own directories, or hides them.
pub(crate) fn is_ours(path: &str) -> bool {
    reserved::is_own_path(path)
}

/// Whether a volume of that name is one of ours that no configured one takes the place of.
pub(crate) fn is_our_name(name: &str) -> bool {
    reserved::VOLUMES.contains(&name)
}

/// A container's runtime takes a relative mount path from the root.
fn resolved(path: &str) -> Option<String> {
    clean(&format!("/{path}"))
}

fn same_path(mount_path: &str, path: &str) -> bool {
    resolved(mount_path).as_deref() == Some(path)
}

fn empty_dir(name: &str) -> api::Volume {
    api::Volume { name: name.to_owned(), empty_dir: Some(api::EmptyDirVolumeSource::default()), ..Default::default() }
}

fn mount(name: &str, path: &str) -> api::VolumeMount {
    api::VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..Default::default() }
}

/// The volumes of the config in the reference's order, each object once, and their mounts.
fn configured_volumes(
    configured: &Configured,
    variables: &Variables,
) -> Result<(Vec<api::Volume>, Vec<api::VolumeMount>), PlanError> {
    let mut made = Made { variables, volumes: Vec::new(), mounts: Vec::new() };
    for volume in &configured.host_path {
        let path = volume.host_path.clone().unwrap_or_else(|| volume.mount.mount_path.clone());
        made.add(&volume.mount, |made| {
            made.host_path = Some(api::HostPathVolumeSource { path, ..Default::default() });
        })?;
    }
    for volume in &configured.secret {
        made.add(&volume.mount, |made| {
            made.secret = Some(api::SecretVolumeSource {
                secret_name: Some(made.name.clone()),
                items: items(&volume.items),
                ..Default::default()
            });
        })?;
    }
    for volume in &configured.pvc {
        // Whether it is read-only is said by each mount: two mounts may share the claim.
        made.add(&volume.mount, |made| {
            let claim_name = made.name.clone();
            let source = api::PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
            made.persistent_volume_claim = Some(source);
        })?;
    }
    for volume in &configured.config_map {
        made.add(&volume.mount, |made| {
            let (name, items) = (made.name.clone(), items(&volume.items));
            made.config_map = Some(api::ConfigMapVolumeSource { name, items, ..Default::default() });
        })?;
    }
    for volume in &configured.empty_dir {
        let size_limit = volume.size_limit.as_ref().map(|limit| Quantity(limit.as_str().to_owned()));
        made.add(&volume.mount, |made| {
            made.empty_dir = Some(api::EmptyDirVolumeSource { medium: volume.medium.clone(), size_limit });
        })?;
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
        })?;
    }
    for volume in &configured.nfs {
        made.add(&volume.mount, |made| {
            let (path, server) = (volume.path.clone(), volume.server.clone());
            made.nfs = Some(api::NFSVolumeSource { path, server, read_only: Some(volume.mount.read_only) });
        })?;
    }
    Ok((made.volumes, made.mounts))
}

struct Made<'a> {
    variables: &'a Variables,
    volumes: Vec<api::Volume>,
    mounts: Vec<api::VolumeMount>,
}

impl Made<'_> {
    /// Adds a mount, and its volume unless an earlier mount has brought the same one.
    fn add(&mut self, mount: &Mount, source: impl FnOnce(&mut api::Volume)) -> Result<(), PlanError> {
        let (name, mount_path) = (self.variables.expand(&mount.name), self.variables.expand(&mount.mount_path));
        let mount_path = absolute(&mount_path);
        let sub_path = mount.sub_path.as_ref().map(|path| self.variables.expand(path));
        check(mount, &name, &mount_path, sub_path.as_deref())?;
        if let Some(other) = self.mounts.iter().find(|other| other.mount_path == mount_path) {
            return Err(PlanError::Configuration(format!(
                "the volumes {:?} and {name:?} of [runners.kubernetes.volumes] are both mounted at {mount_path:?}{}: only one can be there",
                other.name,
                written(&mount_path, &mount.mount_path)
            )));
        }
        let mut volume = api::Volume { name: name.clone(), ..Default::default() };
        source(&mut volume);
        match self.volumes.iter().find(|other| other.name == name) {
            Some(other) if *other == volume => {}
            Some(_) => {
                let message = format!("two different volumes of [runners.kubernetes.volumes] have the name {name:?}");
                return Err(PlanError::Configuration(message));
            }
            None => self.volumes.push(volume),
        }
        self.mounts.push(api::VolumeMount {
            name,
            mount_path,
            sub_path,
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
        Ok(())
    }
}

/// Refuses names that Kubernetes or we could not tell apart, paths that it does not take, and our
/// own.
fn check(mount: &Mount, name: &str, mount_path: &str, sub_path: Option<&str>) -> Result<(), PlanError> {
    let wrong = |what: &str| {
        let place =
            format!("the volume {name:?}, mounted at {mount_path:?}{},", written(mount_path, &mount.mount_path));
        Err(PlanError::Configuration(format!("{place} of [runners.kubernetes.volumes] {what}")))
    };
    if !is_dns_label(name) {
        return wrong("has a name that is not made of lower-case letters, digits and '-'");
    }
    if is_our_name(name) {
        return wrong("has a name that the runner uses itself: choose another");
    }
    if mount_path.is_empty() {
        return wrong("has no mount path once the variables of the job are in it: set them");
    }
    if let Some(path) = sub_path.filter(|path| !is_path_within(path)) {
        let from = written(path, mount.sub_path.as_deref().unwrap_or_default());
        return wrong(&format!("has the sub_path {path:?}{from}, which must not begin with / or have .. in it"));
    }
    match resolved(mount_path) {
        Some(path) if !is_ours(&path) => Ok(()),
        _ => wrong("has a mount path that the runner uses itself: choose another"),
    }
}

/// What a path was made from, if it is another one.
fn written(path: &str, from: &str) -> String {
    if path == from { String::new() } else { format!(" ({from})") }
}

fn items(items: &BTreeMap<String, String>) -> Option<Vec<api::KeyToPath>> {
    let item = |(key, path): (&String, &String)| api::KeyToPath { key: key.clone(), path: path.clone(), mode: None };
    (!items.is_empty()).then(|| items.iter().map(item).collect())
}

#[cfg(test)]
mod tests {
    use gantry_wire::layout::MIRROR_DIR;

    use super::*;

    /// `reserved` says of all of them what no settings may take.
    #[test]
    fn our_volumes_are_reserved() {
        let ours = [(SHARED, SHARED_DIR), (AGENT, AGENT_DIR), (TEMP, TEMP_DIR), (crate::mirror::VOLUME, MIRROR_DIR)];
        assert_eq!(ours.map(|(name, _)| name), reserved::VOLUMES);
        assert_eq!(ours.map(|(_, directory)| directory.to_owned()), reserved::VOLUMES.map(|name| format!("/{name}")));
    }
}
