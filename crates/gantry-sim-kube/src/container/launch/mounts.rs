//! Mounting, one call each, with errors that say what was to be mounted where.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statvfs::{FsFlags, statvfs},
};

use super::super::{
    error::{Failure, Step},
    spec::Privilege,
};

const NONE: Option<&str> = None;

/// Mounts a new file system of this kind.
pub(super) fn fresh(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Result<(), Failure> {
    mount(Some(kind), target, Some(kind), flags, Some(options)).step(|| format!("mount {kind} on {}", target.display()))
}

/// Shows a directory or file at a second place, with what is mounted below it.
pub(super) fn bind(source: &Path, target: &Path) -> Result<(), Failure> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .step(|| format!("mount {} on {}", source.display(), target.display()))
}

/// Keeps mounts made here from showing on the host, and the other way round.
pub(super) fn keep_private() -> Result<(), Failure> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).step(|| "make mounts private".to_owned())
}

/// Makes one mount read-only here, whatever it is elsewhere.
pub(super) fn set_read_only(target: &Path) -> Result<(), Failure> {
    // In a user namespace the kernel refuses a remount that would drop one of these.
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let present = statvfs(target).step(|| format!("look at {}", target.display()))?.flags();
    for (present_flag, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if present.contains(present_flag) {
            flags |= flag;
        }
    }
    mount(NONE, target, NONE, flags, NONE).step(|| format!("make {} read-only", target.display()))
}

/// The same for what is mounted below it too.
pub(super) fn set_tree_read_only(target: &Path) -> Result<(), Failure> {
    set_read_only(target)?;
    let table = fs::read_to_string("/proc/self/mountinfo").step(|| "read the mount table".to_owned())?;
    // A name with a space or the like is escaped there and not found here. System directories have
    // none.
    for place in table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
        if place != target && place.starts_with(target) {
            set_read_only(place)?;
        }
    }
    Ok(())
}

/// An overlay of a host directory. `layers`: where what is written goes, relative to the working
/// directory, since the option string knows no escapes that all kernels understand.
pub(super) fn overlay(lower: &Path, layers: &str, target: &Path, privilege: Privilege) -> Result<(), Failure> {
    // Without privileges its notes must be user attributes, or removed directories would come back.
    let attributes = if privilege == Privilege::UserNamespace { ",userxattr" } else { "" };
    let options = format!("lowerdir={},upperdir={layers}.up,workdir={layers}.wk{attributes}", lower.display());
    fresh("overlay", target, MsFlags::empty(), &options)
}

/// Makes what is needed for something to be mounted here, as container engines do.
pub(super) fn mount_point(target: &Path, directory: bool) -> Result<(), Failure> {
    if target.exists() {
        return Ok(());
    }
    let make = || {
        if directory {
            return std::fs::create_dir_all(target);
        }
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::File::create(target).map(drop)
    };
    make().step(|| format!("make the mount point {}", target.display()))
}

/// Where a path of the host is once the host's root has moved to `old`.
pub(super) fn below(old: &str, path: &Path) -> PathBuf {
    Path::new(old).join(path.strip_prefix("/").unwrap_or(path))
}
