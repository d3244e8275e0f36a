//! Gives a tree to the build container's user. Only root can, and only a tree of other owners needs
//! it.

use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use nix::unistd::geteuid;
use walkdir::WalkDir;

/// Gives everything below `path` to `uid` and `gid`; links themselves, not what they point to.
/// Where we are not root the tree stays as it is: it was made without a umask, or by `fsGroup`, so
/// that others may write.
pub(crate) fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if !geteuid().is_root() || uid == 0 {
        return Ok(());
    }
    for entry in WalkDir::new(path).follow_links(false).follow_root_links(false) {
        let entry = match entry {
            Ok(entry) => entry,
            // What vanishes meanwhile needs no owner.
            Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        let metadata = entry.metadata()?;
        if metadata.uid() != uid || metadata.gid() != gid {
            lchown(entry.path(), Some(uid), Some(gid))?;
        }
    }
    Ok(())
}
