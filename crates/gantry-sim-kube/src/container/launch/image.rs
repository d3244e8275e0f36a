//! The root file system of a container whose image has files of its own: an overlay of them, which
//! goes with the container.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{
    super::{
        error::{Failure, Step},
        spec::{ContainerSpec, Privilege},
    },
    mounts,
    own_files::{OLD_ROOT_NAME, write_etc},
};

/// Where its layers are, relative to the working directory.
const LAYERS: &str = "layers/image";

/// Directories that the kernel's file systems and the host's root are mounted on.
const MOUNT_POINTS: [&str; 4] = ["proc", "sys", "dev", OLD_ROOT_NAME];

/// Shows the files of `image` on `root`.
pub(super) fn mount(image: &Path, root: &Path, spec: &ContainerSpec, privilege: Privilege) -> Result<(), Failure> {
    let (lower, upper) = (format!("{LAYERS}.low"), format!("{LAYERS}.up"));
    let make = || -> io::Result<()> {
        for directory in [&lower, &upper, &format!("{LAYERS}.wk")] {
            fs::create_dir(directory)?;
        }
        let etc = Path::new(&upper).join("etc");
        fs::create_dir(&etc)?;
        // The modes of a merged directory are those of its upper layer.
        for directory in [Path::new(&upper), &etc] {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        write_etc(&etc, spec)
    };
    make().step(|| "make the layers of the image".to_owned())?;
    // By a name of ours: that of the image's directory may have characters that mean something to
    // the kernel.
    let lower = Path::new(&lower);
    mounts::bind(image, lower)?;
    mounts::overlay(lower, LAYERS, root, privilege)?;
    for name in MOUNT_POINTS {
        let path = root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            // A link would lead out of the image, which is not the root yet.
            Ok(_) => return Err(Failure::setup(format!("use the image: its /{name} is no directory"), "not mounted")),
            Err(_) => fs::create_dir(&path).step(|| format!("make /{name}"))?,
        }
    }
    let tmp = root.join("tmp");
    if fs::symlink_metadata(&tmp).is_err() {
        fs::create_dir(&tmp).step(|| "make /tmp".to_owned())?;
        fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).step(|| "open up /tmp".to_owned())?;
    }
    Ok(())
}
