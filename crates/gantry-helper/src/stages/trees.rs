//! Removing files and directories that were made by somebody else.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Removes a file or link; one that is not there is no error.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::NotADirectory => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Removes a directory with everything in it, or a file; links are removed, never followed.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match fs::remove_dir_all(path) {
        // A directory without write permission keeps its entries from its own owner.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Removes everything in a directory and leaves the directory, which may be a mount point.
pub(crate) fn empty(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        remove_tree(&entry?.path())?;
    }
    Ok(())
}

/// Makes `directory` and its parents, all of them directories of their own below `base`. A link or a file in their place goes: it would lead
/// to somewhere else in this container, or nowhere. Says what went.
pub(crate) fn make_below(base: &Path, directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(base)?;
    let mut replaced = Vec::new();
    let Ok(relative) = directory.strip_prefix(base) else {
        return fs::create_dir_all(directory).map(|()| replaced);
    };
    let mut path = base.to_owned();
    for part in relative.components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => continue,
            Ok(_) => {
                remove_file(&path)?;
                replaced.push(path.clone());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match fs::create_dir(&path) {
            // Another job of the same volume may have made it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
    }
    Ok(replaced)
}

/// Gives the owner all rights to every directory, as far as possible.
fn open_up(directory: &Path) {
    let directories = walkdir::WalkDir::new(directory).follow_links(false).follow_root_links(false);
    for entry in directories.into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_dir()) {
        if let Ok(metadata) = entry.metadata() {
            let mode = metadata.permissions().mode() | 0o700;
            let _ = fs::set_permissions(entry.path(), Permissions::from_mode(mode));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_removed_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("file"), "x").unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&victim, tree.join("link")).unwrap();
        empty(&tree).unwrap();
        assert!(fs::read_dir(&tree).unwrap().next().is_none());
        assert!(victim.join("file").exists());
        remove_tree(&directory.path().join("missing")).unwrap();
    }
}
