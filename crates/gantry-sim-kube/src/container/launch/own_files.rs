//! What every container has of its own, whatever its root file system is made of.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::super::spec::ContainerSpec;

/// Where the host is seen while the container is being built.
pub(super) const OLD_ROOT: &str = "/.old-root";
/// The same, below a root that is not the root yet.
pub(super) const OLD_ROOT_NAME: &str = ".old-root";

/// Files of `/etc` that are the container's own.
pub(super) fn write_etc(etc: &Path, spec: &ContainerSpec) -> io::Result<()> {
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (address, names) in &spec.hosts {
        hosts.extend([address.as_str(), "\t", &names.join(" "), "\n"]);
    }
    let write = |name: &str, text: &[u8]| {
        fs::write(etc.join(name), text)?;
        fs::set_permissions(etc.join(name), Permissions::from_mode(0o644))
    };
    write("hosts", hosts.as_bytes())?;
    write("hostname", format!("{}\n", spec.hostname).as_bytes())?;
    // Often a link into /run, which is not shown.
    if let Ok(resolver) = fs::read("/etc/resolv.conf") {
        write("resolv.conf", &resolver)?;
    }
    Ok(())
}
