//! What an API server would refuse about volumes, one for itself and all together.

use std::collections::BTreeMap;

use gantry_core::reserved;

use super::{Mount, Volumes};
use crate::names::{absolute, has_steps_up, has_variable, is_dns_label, is_object_name, is_path_within};
use crate::problem::Severity;
use crate::section::Section;

/// A volume as it is in the file, and what it would be in a pod beside its mounts.
struct Volume<'v, 'd> {
    table: Section<'d>,
    mount: &'v Mount,
    source: String,
}

/// Checks the table.
pub(in crate::settings) fn check(section: &Section<'_>, volumes: &Volumes) {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut paths: BTreeMap<String, &str> = BTreeMap::new();
    check_sources(section, volumes);
    for Volume { table, mount, source } in &all(section, volumes) {
        check_one(table, mount);
        if let Some(other) = names.insert(&mount.name, source.clone())
            && other != *source
            && !mount.name.is_empty()
        {
            let message = format!("{:?} is the name of another volume too: choose another", mount.name);
            table.problem(Severity::Error, "name", message);
        }
        let path = absolute(&mount.mount_path).trim_end_matches('/').to_owned();
        if let Some(other) = paths.insert(path.clone(), &mount.name)
            && !path.is_empty()
        {
            let message = format!("{path:?} is where the volume {other:?} is mounted: only one can be there");
            table.problem(Severity::Error, "mount_path", message);
        }
    }
}

/// The volume of the builds directory has a name that only one may have that is mounted there.
pub(in crate::settings) fn check_builds(section: &Section<'_>, volumes: &Volumes, builds_dir: &str) {
    let all = all(section, volumes);
    // What has a variable in it may be there.
    let is_builds = |mount: &Mount| {
        has_variable(&mount.mount_path)
            || absolute(&mount.mount_path).trim_end_matches('/') == builds_dir.trim_end_matches('/')
    };
    if all.iter().any(|volume| is_builds(volume.mount)) {
        return;
    }
    for volume in all.iter().filter(|volume| volume.mount.name == reserved::BUILDS) {
        let message =
            format!("{:?} is kept for a volume that is mounted at {builds_dir}: choose another", reserved::BUILDS);
        volume.table.problem(Severity::Error, "name", message);
    }
}

fn check_one(table: &Section<'_>, mount: &Mount) {
    let Mount { name, mount_path, sub_path, .. } = mount;
    if !name.is_empty() && !has_variable(name) && !is_dns_label(name) {
        let message = format!(
            "{name:?} cannot be a volume: their names have up to 63 lower-case letters, digits and inner dashes"
        );
        table.problem(Severity::Error, "name", message);
    }
    let path = absolute(mount_path);
    if path != *mount_path {
        let message = format!("{mount_path:?} does not begin with /, and is taken as {path:?}");
        table.problem(Severity::Warning, "mount_path", message);
    }
    if reserved::VOLUMES.contains(&name.as_str()) {
        table.problem(
            Severity::Error,
            "name",
            format!("{name:?} is a volume that the runner makes itself: choose another"),
        );
    }
    if reserved::is_own_path(&path) {
        let message = format!("{path:?} is where the runner has its own files: choose another");
        table.problem(Severity::Error, "mount_path", message);
    }
    // With a variable it shows with the job where it leads.
    let leads_out = |path: &&String| !has_variable(path) && !is_path_within(path);
    if let Some(path) = sub_path.as_ref().filter(leads_out) {
        table.problem(Severity::Error, "sub_path", not_within(path));
    }
}

fn not_within(path: &str) -> String {
    format!("{path:?} must be a path within the volume: without / at its beginning and without ..")
}

/// Checks what volumes are made of.
fn check_sources(section: &Section<'_>, volumes: &Volumes) {
    for (kind, of_kind) in [("config_map", &volumes.config_map), ("secret", &volumes.secret)] {
        for (table, volume) in section.tables(kind).iter().zip(of_kind) {
            for path in volume.items.values().filter(|path| path.is_empty() || !is_path_within(path)) {
                table.problem(Severity::Error, "items", not_within(path));
            }
        }
    }
    for (table, volume) in section.tables("host_path").iter().zip(&volumes.host_path) {
        if let Some(path) = volume.host_path.as_ref().filter(|path| has_steps_up(path)) {
            table.problem(Severity::Error, "host_path", format!("{path:?} must not have .. in it"));
        }
    }
    for (table, volume) in section.tables("nfs").iter().zip(&volumes.nfs) {
        if !volume.path.is_empty() && !volume.path.starts_with('/') {
            table.problem(Severity::Error, "path", format!("{:?} must begin with /", volume.path));
        }
    }
    for (table, volume) in section.tables("csi").iter().zip(&volumes.csi) {
        let driver = &volume.driver;
        let is_name = is_object_name(&driver.to_ascii_lowercase()) && driver.len() <= LONGEST_DRIVER;
        if !driver.is_empty() && !is_name {
            let message =
                format!("{driver:?} is no name of a driver: that is a domain of up to {LONGEST_DRIVER} characters");
            table.problem(Severity::Error, "driver", message);
        }
    }
}

/// Longest name of a CSI driver (Kubernetes API).
const LONGEST_DRIVER: usize = 63;

fn all<'v, 'd>(section: &Section<'d>, volumes: &'v Volumes) -> Vec<Volume<'v, 'd>> {
    let Volumes { host_path, pvc, config_map, secret, empty_dir, csi, nfs } = volumes;
    let mut all = Vec::new();
    let mut add = |kind: &'static str, of_kind: Vec<(&'v Mount, String)>| {
        for (table, (mount, source)) in section.tables(kind).into_iter().zip(of_kind) {
            all.push(Volume { table, mount, source: format!("{kind} {source}") });
        }
    };
    let path =
        |volume: &super::HostPathVolume| volume.host_path.clone().unwrap_or_else(|| volume.mount.mount_path.clone());
    add("host_path", host_path.iter().map(|volume| (&volume.mount, path(volume))).collect());
    add("pvc", pvc.iter().map(|volume| (&volume.mount, String::new())).collect());
    add("config_map", config_map.iter().map(|volume| (&volume.mount, format!("{:?}", volume.items))).collect());
    add("secret", secret.iter().map(|volume| (&volume.mount, format!("{:?}", volume.items))).collect());
    let directory = |volume: &super::EmptyDirVolume| format!("{:?} {:?}", volume.medium, volume.size_limit);
    add("empty_dir", empty_dir.iter().map(|volume| (&volume.mount, directory(volume))).collect());
    let driver = |volume: &super::CsiVolume| {
        format!("{} {:?} {:?} {}", volume.driver, volume.fs_type, volume.volume_attributes, volume.mount.read_only)
    };
    add("csi", csi.iter().map(|volume| (&volume.mount, driver(volume))).collect());
    let server = |volume: &super::NfsVolume| format!("{} {} {}", volume.server, volume.path, volume.mount.read_only);
    add("nfs", nfs.iter().map(|volume| (&volume.mount, server(volume))).collect());
    all
}
