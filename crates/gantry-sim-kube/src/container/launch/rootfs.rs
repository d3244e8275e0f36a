//! Builds the container's root file system: a tmpfs with an overlay for each directory of the host
//! that makes up its tools, and nothing else of the host; or an overlay of its image's files
//! (`image`). All of it is seen only in the container's mount namespace, so it needs no cleaning
//! up.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, umount2},
    unistd::{pivot_root, sethostname},
};

use super::{
    super::{
        channel::Layout,
        error::{Failure, Step},
        spec::{ContainerSpec, Privilege},
    },
    devices, image, mounts,
    own_files::{OLD_ROOT, OLD_ROOT_NAME, write_etc},
    tools,
};

/// The host's tools and their settings. Homes, mounted disks and service data are not among them.
const TOOLS: [&str; 12] = ["usr", "etc", "opt", "var", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu"];

/// Secrets and data of runners, clusters and engines that a developer's machine may have.
const NEVER_SHOWN: [&str; 7] = [
    "/etc/gitlab-runner",
    "/etc/gantry",
    "/etc/kubernetes",
    "/var/lib/kubelet",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
];

/// Builds it and makes it this process's root.
pub(super) fn build(privilege: Privilege, spec: &ContainerSpec, layout: &Layout) -> Result<(), Failure> {
    let base = Path::new(&layout.root);
    let root = base.join("root");
    mounts::keep_private()?;
    sethostname(&spec.hostname).step(|| "set the host name".to_owned())?;
    mounts::fresh("tmpfs", base, MsFlags::MS_NODEV, "mode=755")?;
    std::env::set_current_dir(base).step(|| format!("enter {}", base.display()))?;
    for name in ["layers", "root"] {
        fs::create_dir(name).step(|| format!("make {name}"))?;
    }
    // Only a mount can become a root; what lies beside it is out of reach then.
    mounts::bind(&root, &root)?;
    let mut own = Vec::new();
    if let Some(image) = &spec.image {
        image::mount(image, &root, spec, privilege)?;
    } else {
        own = mount_tools(&root, spec, privilege)?;
        make_directories(&root, spec).step(|| "make directories".to_owned())?;
    }
    devices::mount(&root)?;

    std::env::set_current_dir(&root).step(|| "enter the new root".to_owned())?;
    pivot_root(".", OLD_ROOT_NAME).step(|| "change the root".to_owned())?;
    std::env::set_current_dir("/").step(|| "enter the new root".to_owned())?;
    // From here on every path is the container's, so that its symbolic links lead nowhere else.
    devices::protect()?;
    if let Some(view) = &layout.cgroup_view {
        devices::show_cgroup(OLD_ROOT, view);
    }
    if spec.image.is_none() {
        own.extend(complete_tools(privilege, spec, layout)?);
    }
    own.push("/".into());
    // Opened now, since volumes may cover them.
    let own: Vec<File> =
        own.iter().map(File::open).collect::<io::Result<_>>().step(|| "open the root file system".to_owned())?;
    mount_volumes(spec)?;
    umount2(OLD_ROOT, MntFlags::MNT_DETACH).step(|| "leave the host's root".to_owned())?;
    fs::remove_dir(OLD_ROOT).step(|| "leave the host's root".to_owned())?;
    if spec.read_only_root {
        for directory in &own {
            mounts::set_read_only(&PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())))?;
        }
    }
    Ok(())
}

/// Covers what of the host is no tool, and shows the user's own. Returns what was mounted.
fn complete_tools(privilege: Privilege, spec: &ContainerSpec, layout: &Layout) -> Result<Vec<PathBuf>, Failure> {
    let base = Path::new(&layout.root);
    let mut own = Vec::new();
    if Path::new("/var/tmp").is_dir() {
        mounts::bind(&mounts::below(OLD_ROOT, &base.join("layers/vartmp")), Path::new("/var/tmp"))?;
        own.push("/var/tmp".into());
    }
    for path in NEVER_SHOWN.into_iter().chain(layout.hidden.iter().map(String::as_str)).map(Path::new) {
        if path.is_dir() {
            // Writable, so that a volume may be mounted below it.
            mounts::fresh("tmpfs", path, MsFlags::MS_NODEV, "mode=755,size=64k")?;
            own.push(path.to_owned());
        }
    }
    if let Some(view) = &spec.tools {
        own.extend(tools::show(view, spec, base, OLD_ROOT, privilege)?);
    }
    Ok(own)
}

/// Shows the host's tools. Returns what was mounted, as paths in the container.
fn mount_tools(root: &Path, spec: &ContainerSpec, privilege: Privilege) -> Result<Vec<PathBuf>, Failure> {
    let mut mounted = Vec::new();
    for name in TOOLS {
        let (host, here) = (Path::new("/").join(name), root.join(name));
        let Ok(metadata) = fs::symlink_metadata(&host) else { continue };
        if metadata.is_symlink() {
            let link = || symlink(fs::read_link(&host)?, &here);
            link().step(|| format!("make the link /{name}"))?;
            continue;
        }
        if !metadata.is_dir() {
            continue;
        }
        let layers = format!("layers/{name}");
        for directory in [format!("{layers}.up"), format!("{layers}.wk"), here.display().to_string()] {
            fs::create_dir(&directory).step(|| format!("make {directory}"))?;
        }
        // The modes of a merged directory are those of its upper layer.
        fs::set_permissions(format!("{layers}.up"), Permissions::from_mode(0o755))
            .step(|| format!("open up /{name}"))?;
        let upper = format!("{layers}.up");
        if name == "etc" {
            write_etc(Path::new(&upper), spec).step(|| "write the container's files in /etc".to_owned())?;
        }
        if privilege == Privilege::UserNamespace {
            prepare_mount_points(&host, Path::new(&upper), spec).step(|| format!("make mount points in /{name}"))?;
        }
        if mounts::overlay(&host, &layers, &here, privilege).is_err() {
            mounts::bind(&host, &here)?;
            mounts::set_read_only(&here)?;
            if name == "etc" {
                cover_etc(Path::new(&upper), &here)?;
            }
        }
        mounted.push(host);
    }
    Ok(mounted)
}

/// Makes mount points of volumes below a directory of the host in the layer above it. Later only
/// real root could: in a user namespace the host's directories belong to nobody.
fn prepare_mount_points(host: &Path, upper: &Path, spec: &ContainerSpec) -> io::Result<()> {
    for volume in &spec.mounts {
        let Ok(below) = volume.target.strip_prefix(host) else { continue };
        let (mut lower, mut made) = (host.to_owned(), upper.to_owned());
        let mut parts = below.components().peekable();
        while let Some(part) = parts.next() {
            lower.push(part);
            made.push(part);
            let mode = match fs::symlink_metadata(&lower) {
                Ok(metadata) if metadata.is_dir() => metadata.permissions(),
                // A link leads elsewhere; a file can only be covered.
                Ok(_) => break,
                Err(_) => Permissions::from_mode(0o755),
            };
            if parts.peek().is_none() && !fs::metadata(&volume.source)?.is_dir() {
                break;
            }
            if !made.is_dir() {
                fs::create_dir(&made)?;
                fs::set_permissions(&made, mode)?;
            }
        }
    }
    Ok(())
}

/// The files of `/etc` that are the container's own, where `/etc` is the host's own, read-only.
fn cover_etc(own: &Path, etc: &Path) -> Result<(), Failure> {
    for name in ["hosts", "hostname", "resolv.conf"] {
        let (own, here) = (own.join(name), etc.join(name));
        // A link would lead to a file of the host.
        if own.exists() && fs::symlink_metadata(&here).is_ok_and(|metadata| metadata.is_file()) {
            mounts::bind(&own, &here)?;
        }
    }
    Ok(())
}

/// Everything that is no tool: empty, and of the container's own.
fn make_directories(root: &Path, spec: &ContainerSpec) -> io::Result<()> {
    let make = |path: &Path, mode: u32| {
        fs::create_dir(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    for name in ["proc", "sys", "dev", "run", "mnt", "media", "srv", OLD_ROOT_NAME] {
        make(&root.join(name), 0o755)?;
    }
    make(&root.join("run/lock"), 0o1777)?;
    make(&root.join("tmp"), 0o1777)?;
    make(Path::new("layers/vartmp"), 0o1777)?;
    // Any user may make a home here, as an image's author would have done.
    make(&root.join("home"), 0o1777)?;
    // HOME unless told otherwise, for every user.
    let home = root.join("root");
    make(&home, 0o700)?;
    match chown(&home, spec.uid, spec.gid) {
        // Not mapped in a user namespace, where the only user owns it anyway.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

fn mount_volumes(spec: &ContainerSpec) -> Result<(), Failure> {
    let mut volumes: Vec<_> = spec.mounts.iter().collect();
    // Outer mounts first, or they would cover the inner ones.
    volumes.sort_by(|a, b| a.target.cmp(&b.target));
    for volume in &volumes {
        let source = mounts::below(OLD_ROOT, &volume.source);
        let metadata = fs::metadata(&source).step(|| format!("look at {}", volume.source.display()))?;
        mounts::mount_point(&volume.target, metadata.is_dir())?;
        mounts::bind(&source, &volume.target)?;
    }
    // Last, since the mount points of inner volumes may lie in read-only ones.
    for volume in volumes.iter().filter(|volume| volume.read_only) {
        mounts::set_read_only(&volume.target)?;
    }
    Ok(())
}
