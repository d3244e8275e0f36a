//! `[[runners.kubernetes.volumes.<kind>]]`. Every volume is mounted into every container; `mount_path`, `sub_path` and the name of claims
//! are unexpanded.

use std::collections::BTreeMap;

use crate::quantity::Quantity;

/// All configured volumes, each kind in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// `host_path`.
    pub host_path: Vec<HostPathVolume>,
    /// `pvc`.
    pub pvc: Vec<PvcVolume>,
    /// `config_map`.
    pub config_map: Vec<ItemsVolume>,
    /// `secret`.
    pub secret: Vec<ItemsVolume>,
    /// `empty_dir`.
    pub empty_dir: Vec<EmptyDirVolume>,
    /// `csi`.
    pub csi: Vec<CsiVolume>,
    /// `nfs`.
    pub nfs: Vec<NfsVolume>,
}

/// Where and how a volume is mounted; the same keys in every kind.
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

/// A directory of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPathVolume {
    /// Where.
    pub mount: Mount,
    /// `host_path`; `None` means the unexpanded mount path.
    pub host_path: Option<String>,
}

/// A persistent volume claim, named by the mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PvcVolume {
    /// Where.
    pub mount: Mount,
}

/// A config map or secret, named by the mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemsVolume {
    /// Where.
    pub mount: Mount,
    /// `items`: key to path; empty means all keys under their own names.
    pub items: BTreeMap<String, String>,
}

/// A directory that lives as long as the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmptyDirVolume {
    /// Where.
    pub mount: Mount,
    /// `medium`; `None` is the node's disk.
    pub medium: Option<String>,
    /// `size_limit`.
    pub size_limit: Option<Quantity>,
}

/// An inline volume of a CSI driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiVolume {
    /// Where.
    pub mount: Mount,
    /// `driver`.
    pub driver: String,
    /// `fs_type`.
    pub fs_type: Option<String>,
    /// `volume_attributes`.
    pub volume_attributes: BTreeMap<String, String>,
}

/// A directory of an NFS server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NfsVolume {
    /// Where.
    pub mount: Mount,
    /// `server`.
    pub server: String,
    /// `path` on the server.
    pub path: String,
}
