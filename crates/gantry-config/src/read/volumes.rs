//! `[runners.kubernetes.volumes]`.

use super::words;
use crate::problem::Severity;
use crate::quantity::Quantity;
use crate::section::Section;
use crate::settings::volumes::{
    CsiVolume, EmptyDirVolume, HostPathVolume, ItemsVolume, Mount, MountPropagation, NfsVolume, PvcVolume, Volumes,
};

pub(super) fn read(section: &Section<'_>) -> Volumes {
    Volumes {
        host_path: section.usable_sections("host_path", |table| {
            Some(HostPathVolume { host_path: table.text("host_path"), mount: propagating(table, true)? })
        }),
        pvc: section.usable_sections("pvc", |table| Some(PvcVolume { mount: propagating(table, true)? })),
        config_map: section.usable_sections("config_map", items),
        secret: section.usable_sections("secret", items),
        empty_dir: section.usable_sections("empty_dir", |table| {
            let (medium, size_limit) = (table.text("medium"), size_limit(table));
            Some(EmptyDirVolume { medium, size_limit, mount: propagating(table, false)? })
        }),
        csi: section.usable_sections("csi", |table| {
            let (fs_type, volume_attributes) = (table.text("fs_type"), table.text_map("volume_attributes"));
            let driver = required(table, "driver");
            Some(CsiVolume { mount: mount(table, true)?, driver: driver?, fs_type, volume_attributes })
        }),
        nfs: section.usable_sections("nfs", |table| {
            let (server, path) = (required(table, "server"), required(table, "path"));
            Some(NfsVolume { mount: mount(table, true)?, server: server?, path: path? })
        }),
    }
}

fn items(table: &Section<'_>) -> Option<ItemsVolume> {
    let items = table.text_map("items");
    Some(ItemsVolume { mount: mount(table, true)?, items })
}

/// The keys that all kinds share. Without a name or a mount path every pod would be refused.
fn mount(table: &Section<'_>, can_be_read_only: bool) -> Option<Mount> {
    let (name, mount_path) = (required(table, "name"), required(table, "mount_path"));
    let sub_path = table.text("sub_path");
    let read_only = can_be_read_only && table.flag("read_only");
    Some(Mount { name: name?, mount_path: mount_path?, sub_path, read_only, mount_propagation: None })
}

fn propagating(table: &Section<'_>, can_be_read_only: bool) -> Option<Mount> {
    let words = [
        ("None", MountPropagation::None),
        ("HostToContainer", MountPropagation::HostToContainer),
        ("Bidirectional", MountPropagation::Bidirectional),
    ];
    let mount_propagation = words::optional(table, "mount_propagation", &words);
    Some(Mount { mount_propagation, ..mount(table, can_be_read_only)? })
}

fn required(table: &Section<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key);
    if text.is_none() {
        table.problem(Severity::Error, key, "is missing: the volume needs it");
    }
    text
}

/// A broken limit is a warning and no limit, as in the reference.
fn size_limit(table: &Section<'_>) -> Option<Quantity> {
    let text = table.text("size_limit")?;
    let refuse =
        |error| table.problem(Severity::Warning, "size_limit", format!("{text:?} is {error}, and has no effect"));
    Quantity::parse(&text).map_err(refuse).ok()
}
