//! Removing files and directories that were made by somebody else.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use crate::limits::{COUNTED_FILES, COUNTING};

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

/// Makes `directory` and its parents, all of them directories of their own below `base`. A link or
/// a file in their place goes: it would lead to somewhere else in this container, or nowhere. Says
/// what went.
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

/// Whether `directory` and its parents below `base` are directories and no links.
pub(crate) fn is_real_below(base: &Path, directory: &Path) -> bool {
    let Ok(relative) = directory.strip_prefix(base) else { return false };
    let mut path = base.to_owned();
    relative.components().all(|part| {
        path.push(part);
        fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir())
    })
}

/// Bytes that a tree takes on its disk, as `du` counts them but files with several names; nothing
/// if that cannot be said soon.
pub(crate) fn size(directory: &Path) -> Option<u64> {
    let until = Instant::now() + COUNTING;
    let mut bytes = 0;
    for (count, entry) in (0_u64..).zip(walkdir::WalkDir::new(directory).follow_links(false).follow_root_links(false)) {
        if count >= COUNTED_FILES || Instant::now() >= until {
            return None;
        }
        bytes += entry.ok().and_then(|entry| entry.metadata().ok()).map_or(0, |metadata| metadata.blocks() * 512);
    }
    Some(bytes)
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

    #[test]
    fn links_and_files_in_the_way_of_a_directory_are_replaced() {
        let root = tempfile::tempdir().unwrap();
        let (base, victim) = (root.path().join("builds"), root.path().join("victim"));
        fs::create_dir_all(victim.join("p")).unwrap();
        fs::create_dir(&base).unwrap();
        std::os::unix::fs::symlink(&victim, base.join("g")).unwrap();
        let project = base.join("g/p");
        assert!(!is_real_below(&base, &project));
        assert_eq!(make_below(&base, &project).unwrap(), [base.join("g")]);
        assert!(is_real_below(&base, &project) && victim.join("p").is_dir());
        assert!(make_below(&base, &project).unwrap().is_empty());
        fs::remove_dir(&project).unwrap();
        fs::write(&project, "").unwrap();
        assert_eq!(make_below(&base, &project).unwrap(), std::slice::from_ref(&project));
        assert!(is_real_below(&base, &project));
    }
}
