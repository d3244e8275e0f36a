//! What an API server would refuse about volumes, one for itself and all together.

use std::collections::BTreeMap;

use super::{Mount, Volumes};
use crate::names::{has_variable, is_dns_label};
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
    let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
    for Volume { table, mount, source } in &all(section, volumes) {
        check_one(table, mount);
        if let Some(other) = names.insert(&mount.name, source.clone())
            && other != *source
            && !mount.name.is_empty()
        {
            let message = format!("{:?} is the name of another volume too: choose another", mount.name);
            table.problem(Severity::Error, "name", message);
        }
        let path = mount.mount_path.trim_end_matches('/');
        if let Some(other) = paths.insert(path, &mount.name)
            && !path.is_empty()
        {
            let message = format!("{path:?} is where the volume {other:?} is mounted: only one can be there");
            table.problem(Severity::Error, "mount_path", message);
        }
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
    if !mount_path.is_empty() && !has_variable(mount_path) && !mount_path.starts_with('/') {
        table.problem(Severity::Error, "mount_path", format!("{mount_path:?} must begin with /"));
    } else if mount_path.contains(':') {
        table.problem(Severity::Error, "mount_path", format!("{mount_path:?} must not have a colon in it"));
    }
    let leads_out = |path: &String| path.starts_with('/') || path.split('/').any(|part| part == "..");
    if let Some(path) = sub_path.as_ref().filter(|path| leads_out(path)) {
        let message = format!("{path:?} must be a path within the volume: without / at its beginning and without ..");
        table.problem(Severity::Error, "sub_path", message);
    }
}

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
