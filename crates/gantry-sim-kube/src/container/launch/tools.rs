//! Shows a user's tools in a container, each where it is on the host, since many of them know their
//! own place. Nothing that is written to them leaves the container, and of the home nothing is seen
//! but them.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::mount::MsFlags;

use super::{
    super::{
        error::{Failure, Step},
        spec::{ContainerSpec, Privilege, ToolView},
    },
    mounts,
};

/// The home that every container has.
const USUAL_HOME: &str = "/root";

/// Characters that mean something in the options of an overlay.
const OPTION_SYNTAX: [char; 3] = [':', ',', '\\'];

/// Mounts what is in `view`. The container's root is the root already; `old`: where the host's is,
/// `base`: where on it the container keeps what it writes. Returns what was mounted.
pub(super) fn show(
    view: &ToolView,
    spec: &ContainerSpec,
    base: &Path,
    old: &str,
    privilege: Privilege,
) -> Result<Vec<PathBuf>, Failure> {
    let mut mounted = Vec::new();
    if let Some(home) = &view.home {
        mounted.extend(make_home(home, spec)?);
    }
    let layers = mounts::below(old, base);
    std::env::set_current_dir(&layers).step(|| "enter the layers".to_owned())?;
    let mut shown: Vec<_> = view.shown.iter().collect();
    // Outer ones first, which then have the inner ones already.
    shown.sort_by(|(_, a), (_, b)| a.cmp(b));
    for (number, (source, target)) in shown.into_iter().enumerate() {
        // The system's own directories are there, and what lies in another one that is shown.
        if fs::symlink_metadata(target).is_ok() {
            continue;
        }
        let source = mounts::below(old, source);
        let Ok(metadata) = fs::metadata(&source) else { continue };
        if let Some(parent) = target.parent() {
            make_parents(parent).step(|| format!("make {}", parent.display()))?;
        }
        mounts::mount_point(target, metadata.is_dir())?;
        if metadata.is_dir() {
            show_directory(&source, target, number, privilege)?;
            mounted.push(target.clone());
        } else {
            mounts::bind(&source, target)?;
            mounts::set_read_only(target)?;
        }
    }
    std::env::set_current_dir("/").step(|| "enter the new root".to_owned())?;
    view.hidden.iter().try_for_each(|path| hide(path))?;
    Ok(mounted)
}

/// With a mode of its own, since the umask is empty while the container is built.
fn make_parents(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// An empty home of the container's user. A home among the system's directories is covered.
fn make_home(home: &Path, spec: &ContainerSpec) -> Result<Option<PathBuf>, Failure> {
    if home == Path::new(USUAL_HOME) {
        return Ok(None);
    }
    let is_hosts = home.is_dir();
    let make = || {
        if is_hosts { Ok(()) } else { make_parents(home) }
    };
    make().step(|| format!("make the home {}", home.display()))?;
    if is_hosts {
        mounts::fresh("tmpfs", home, MsFlags::MS_NODEV | MsFlags::MS_NOSUID, "mode=700")?;
    }
    let own = || -> io::Result<()> {
        fs::set_permissions(home, Permissions::from_mode(0o700))?;
        match chown(home, spec.uid, spec.gid) {
            // Not mapped in a user namespace, where the only user owns it anyway.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            done => done,
        }
    };
    own().step(|| format!("make the home {}", home.display()))?;
    Ok(is_hosts.then(|| home.to_owned()))
}

/// A directory of the host with a layer of the container's own above it; read-only where the kernel
/// cannot do that.
fn show_directory(source: &Path, target: &Path, number: usize, privilege: Privilege) -> Result<(), Failure> {
    let layers = format!("layers/tool-{number}");
    for directory in [format!("{layers}.up"), format!("{layers}.wk")] {
        fs::create_dir(&directory).step(|| format!("make {directory}"))?;
    }
    // A merged directory has the mode and the owner of its upper layer.
    let metadata = fs::metadata(source).step(|| format!("look at {}", source.display()))?;
    let upper = format!("{layers}.up");
    fs::set_permissions(&upper, metadata.permissions()).step(|| format!("open up {}", target.display()))?;
    let is_plain = source.to_str().is_some_and(|path| !path.contains(OPTION_SYNTAX));
    if !is_plain || mounts::overlay(source, &layers, target, privilege).is_err() {
        mounts::bind(source, target)?;
        mounts::set_tree_read_only(target)?;
    }
    Ok(())
}

/// Takes a file out of sight: away where that changes only the container's own layer, else covered
/// by nothing.
fn hide(path: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(path).is_err() || fs::remove_file(path).is_ok() {
        return Ok(());
    }
    mounts::bind(Path::new("/dev/null"), path)
}
