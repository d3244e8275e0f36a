//! The kernel's own file systems in a container: `/proc`, `/sys` and `/dev`. Nothing of the host's
//! devices is shown but those that any program may use.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
};

use nix::mount::MsFlags;

use super::{
    super::{
        channel::CgroupView,
        error::{Failure, Step},
    },
    mounts,
};

/// Devices without power over anything.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Parts of `/proc` through which root could change the host, or read its memory. The root of a
/// user namespace cannot, unless it is the host's root in disguise.
const PROC_READ_ONLY: [&str; 5] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];
const PROC_HIDDEN: [&str; 3] = ["/proc/kcore", "/proc/keys", "/proc/timer_list"];

/// Mounts them under `root`. Must run in the container's pid namespace, with the host's `/proc`
/// still in sight.
pub(super) fn mount(root: &Path) -> Result<(), Failure> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mounts::fresh("proc", &root.join("proc"), plain, "")?;
    let sys = root.join("sys");
    // Only who owns the network namespace may mount it anew.
    if mounts::fresh("sysfs", &sys, plain | MsFlags::MS_RDONLY, "").is_err() {
        mounts::bind(Path::new("/sys"), &sys)?;
        mounts::set_tree_read_only(&sys)?;
    }
    let dev = root.join("dev");
    mounts::fresh("tmpfs", &dev, MsFlags::MS_NOSUID, "mode=755,size=64k")?;
    for name in DEVICES {
        let (host, here) = (Path::new("/dev").join(name), dev.join(name));
        if host.exists() {
            File::create(&here).step(|| format!("make /dev/{name}"))?;
            mounts::bind(&host, &here)?;
        }
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).step(|| format!("make /dev/{name}"))?;
    }
    let no_programs = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mounts::fresh("devpts", &dev.join("pts"), no_programs, "newinstance,ptmxmode=0666,mode=0620")?;
    mounts::fresh("tmpfs", &dev.join("shm"), plain, "mode=1777")?;
    for (target, link) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, dev.join(link)).step(|| format!("make /dev/{link}"))?;
    }
    Ok(())
}

/// Closes what root could harm the host with. The container's root is the root already.
pub(super) fn protect() -> Result<(), Failure> {
    for path in PROC_READ_ONLY.map(Path::new) {
        if path.exists() {
            mounts::bind(path, path)?;
            mounts::set_read_only(path)?;
        }
    }
    for path in PROC_HIDDEN.map(Path::new) {
        if path.exists() {
            mounts::bind(Path::new("/dev/null"), path)?;
        }
    }
    Ok(())
}

/// Shows the container's own control group where programs look for their limits and OOM kills. Best
/// effort: a `/sys` that was bound from the host shows the host's groups instead.
pub(super) fn show_cgroup(old: &str, view: &CgroupView) {
    let target = Path::new(&view.target);
    let show = || -> Result<(), Failure> {
        let base = Path::new("/sys/fs/cgroup");
        if target != base {
            mounts::fresh("tmpfs", base, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755,size=64k")?;
            mounts::mount_point(target, true)?;
        }
        mounts::bind(&mounts::below(old, Path::new(&view.source)), target)?;
        mounts::set_tree_read_only(base)
    };
    let _ = show();
}
