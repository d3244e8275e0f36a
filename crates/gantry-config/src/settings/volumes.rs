//! `[[runners.kubernetes.volumes.<kind>]]`. Every volume is mounted into every container;
//! `mount_path`, `sub_path` and the name of claims are unexpanded.

use std::collections::BTreeMap;

use crate::declare::{Declared, Kind, Table as _, Walk, table};
use crate::key::Form;
use crate::kinds::{Meanings, custom, flag, tables, text, text_map, word};
use crate::problem::Severity;
use crate::quantity::Quantity;
use crate::section::Section;

mod checks;

pub(super) use checks::{check, check_builds};

table! {
    /// All configured volumes, each kind in the order of the file.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Volumes {
        /// Directories of the node.
        host_path: Vec<HostPathVolume> = tables("host_path");
        /// Persistent volume claims.
        pvc: Vec<PvcVolume> = tables("pvc");
        /// Config maps.
        config_map: Vec<ItemsVolume> = tables("config_map");
        /// Secrets.
        secret: Vec<ItemsVolume> = tables("secret");
        /// Directories that live as long as the pod.
        empty_dir: Vec<EmptyDirVolume> = tables("empty_dir");
        /// Inline volumes of CSI drivers.
        csi: Vec<CsiVolume> = tables("csi");
        /// Directories of NFS servers.
        nfs: Vec<NfsVolume> = tables("nfs");
    }
}

/// Where and how a volume is mounted; nearly the same keys in every kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `name` of the volume, which for claims, config maps and secrets is also the object's.
    pub name: String,
    /// `mount_path`.
    pub mount_path: String,
    /// `sub_path`.
    pub sub_path: Option<String>,
    /// `read_only`; always false for `empty_dir`.
    pub read_only: bool,
    /// `mount_propagation`; only of `host_path`, `pvc` and `empty_dir`.
    pub mount_propagation: Option<MountPropagation>,
}

/// `mount_propagation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPropagation {
    /// `None`.
    None,
    /// `HostToContainer`.
    HostToContainer,
    /// `Bidirectional`.
    Bidirectional,
}

const PROPAGATIONS: Meanings<MountPropagation> = &[
    ("None", MountPropagation::None),
    ("HostToContainer", MountPropagation::HostToContainer),
    ("Bidirectional", MountPropagation::Bidirectional),
];

table! {
    /// A directory of the node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HostPathVolume {
        /// Where.
        mount: Mount = mount(READ_ONLY | PROPAGATION);
        /// The directory; without it the unexpanded mount path.
        host_path: Option<String> = text("host_path");
    }
}

table! {
    /// A persistent volume claim, named by the mount.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PvcVolume {
        /// Where.
        mount: Mount = mount(READ_ONLY | PROPAGATION);
    }
}

table! {
    /// A config map or secret, named by the mount.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ItemsVolume {
        /// Where.
        mount: Mount = mount(READ_ONLY);
        /// Keys of the object and the paths that they are written to, as `"key" = "path"`; without
        /// any all, under their own names.
        items: BTreeMap<String, String> = text_map("items");
    }
}

table! {
    /// A directory that lives as long as the pod.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EmptyDirVolume {
        /// Where.
        mount: Mount = mount(PROPAGATION);
        /// `Memory`, or nothing for the node's disk.
        medium: Option<String> = custom("medium", Form::Text, "", medium);
        /// Most that it may hold.
        size_limit: Option<Quantity> = custom("size_limit", Form::Quantity, "", size_limit);
    }
}

table! {
    /// An inline volume of a CSI driver.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CsiVolume {
        /// Where.
        mount: Mount = mount(READ_ONLY);
        /// The driver.
        driver: String = required("driver");
        /// The file system.
        fs_type: Option<String> = text("fs_type");
        /// What the driver is told.
        volume_attributes: BTreeMap<String, String> = text_map("volume_attributes");
    }
}

table! {
    /// A directory of an NFS server.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NfsVolume {
        /// Where.
        mount: Mount = mount(READ_ONLY);
        /// The server.
        server: String = required("server");
        /// The directory on the server.
        path: String = required("path");
    }
}

table! {
    /// Keys of a mount that all kinds have. Without a name or a mount path every pod would be
    /// refused.
    pub struct MountKeys {
        /// Name of the volume; with claims, config maps and secrets also that of the object.
        name: String = required("name");
        /// Where it is mounted. Variables of the job are expanded.
        mount_path: String = required("mount_path");
        /// The part of it that is mounted. Variables of the job are expanded.
        sub_path: Option<String> = text("sub_path");
    }
}

table! {
    /// A key that volumes have that can be written to or not.
    pub struct ReadOnlyKey {
        /// Let nobody write to it.
        read_only: bool = flag("read_only");
    }
}

table! {
    /// A key of volumes that can have other mounts in them.
    pub struct PropagationKey {
        /// Which mounts in it are seen on both sides.
        mount_propagation: Option<MountPropagation> = word("mount_propagation", PROPAGATIONS);
    }
}

/// Which keys of a mount a kind of volume has.
#[derive(Clone, Copy)]
struct MountKind(u8);

const READ_ONLY: MountKind = MountKind(1);
const PROPAGATION: MountKind = MountKind(2);

impl std::ops::BitOr for MountKind {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl MountKind {
    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

fn mount(kind: MountKind) -> Declared<impl Kind<Value = Mount>> {
    Declared::new("", kind)
}

impl Kind for MountKind {
    type Value = Mount;

    fn read(&self, section: &Section<'_>, _: &'static str) -> Mount {
        let MountKeys { name, mount_path, sub_path } = MountKeys::read(section);
        let read_only = self.has(READ_ONLY) && ReadOnlyKey::read(section).read_only;
        let mount_propagation =
            if self.has(PROPAGATION) { PropagationKey::read(section).mount_propagation } else { None };
        Mount { name, mount_path, sub_path, read_only, mount_propagation }
    }

    fn form(&self) -> Option<Form> {
        None
    }

    fn describe_below(&self, walk: &mut Walk) {
        MountKeys::describe(walk);
        if self.has(READ_ONLY) {
            ReadOnlyKey::describe(walk);
        }
        if self.has(PROPAGATION) {
            PropagationKey::describe(walk);
        }
    }
}

fn required(key: &'static str) -> Declared<impl Kind<Value = String>> {
    custom(key, Form::Text, "", |section, key| section.required(key, "the volume"))
}

/// A broken limit is a warning and no limit, as in the reference.
fn size_limit(table: &Section<'_>, key: &'static str) -> Option<Quantity> {
    let text = table.text(key)?;
    let refuse = |error| table.problem(Severity::Warning, key, format!("{text:?} is {error}, and has no effect"));
    let limit = Quantity::parse(&text).map_err(refuse).ok()?;
    if limit.is_negative() {
        table.problem(Severity::Error, key, format!("{text:?} is less than nothing"));
    }
    Some(limit)
}

/// Where an empty directory can be (Kubernetes API).
fn medium(table: &Section<'_>, key: &'static str) -> Option<String> {
    let medium = table.text(key)?;
    let is_known = medium == "Memory" || medium == "HugePages" || medium.starts_with("HugePages-");
    if !is_known {
        let message = format!("{medium:?} is not Memory or HugePages: leave it out for the node's disk");
        table.problem(Severity::Error, key, message);
    }
    Some(medium)
}
