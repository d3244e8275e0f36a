//! A directory beside the project in which a cache is unpacked. It is nobody's but ours, and on the
//! same file system, so that moving what it holds costs next to nothing whatever its size.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::trees;

/// The directory; it goes when this is dropped.
pub(super) struct Staging {
    directory: TempDir,
}

impl Staging {
    /// Makes it. What a killed job has left of one for this project goes.
    pub(super) fn make(project: &Path) -> io::Result<Self> {
        let parent = project.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = project.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let prefix = format!(".{name}.gantry-cache-");
        for entry in fs::read_dir(parent)?.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                trees::remove_tree(&entry.path())?;
            }
        }
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?;
        Ok(Self { directory })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Moves everything into the project. What is in the way of a file goes; directories become
    /// one.
    pub(super) fn publish(self, project: &Path) -> io::Result<()> {
        let project = project.canonicalize()?;
        merge(self.directory.path(), &project, &project)
    }
}

/// Moves the entries of `from` into `to`, which lies in `project` and is no link.
fn merge(from: &Path, to: &Path, project: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let is_directory = entry.file_type()?.is_dir();
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(there) if is_directory && there.is_dir() => {
                let mode = there.permissions().mode();
                if mode & 0o700 != 0o700 {
                    fs::set_permissions(&target, Permissions::from_mode(mode | 0o700))?;
                }
                merge(&source, &target, project)?;
                continue;
            }
            // A link of the repository's own may lead elsewhere in the project, but not out of it.
            Ok(there) if is_directory && there.is_symlink() && leads_inside(&target, project).is_some() => {
                let real = leads_inside(&target, project).unwrap_or_else(|| target.clone());
                merge(&source, &real, project)?;
                continue;
            }
            Ok(_) => trees::remove_tree(&target)?,
        }
        put(&source, &target, project)?;
    }
    Ok(())
}

/// Moves one entry to where nothing is. A volume that is mounted inside of the project is another
/// file system: there it is copied.
fn put(source: &Path, target: &Path, project: &Path) -> io::Result<()> {
    match fs::rename(source, target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        done => return done,
    }
    let metadata = fs::symlink_metadata(source)?;
    if metadata.is_dir() {
        fs::create_dir(target)?;
        return merge(source, target, project);
    }
    if metadata.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    fs::copy(source, target)?;
    // Possible for root only, and only a courtesy.
    let _ = lchown(target, Some(metadata.uid()), Some(metadata.gid()));
    File::options().write(true).open(target)?.set_modified(metadata.modified()?)
}

/// Where a link leads, if that is a directory of the project.
fn leads_inside(link: &Path, project: &Path) -> Option<PathBuf> {
    let real = link.canonicalize().ok()?;
    (real.is_dir() && real.starts_with(project)).then_some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_unpacked_becomes_part_of_the_project() {
        let base = tempfile::tempdir().unwrap();
        let (project, outside) = (base.path().join("p"), base.path().join("outside"));
        fs::create_dir_all(project.join("dir/kept")).unwrap();
        fs::create_dir_all(project.join("real")).unwrap();
        fs::create_dir_all(project.join("was/a/directory")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(project.join("dir/old"), "old").unwrap();
        symlink("real", project.join("inside")).unwrap();
        symlink(&outside, project.join("away")).unwrap();
        let left = base.path().join(".p.gantry-cache-left");
        fs::create_dir(&left).unwrap();
        let staging = Staging::make(&project).unwrap();
        assert!(!left.exists());
        for file in ["dir/old", "dir/new/x", "inside/x", "away/x", "was"] {
            let path = staging.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "new").unwrap();
        }
        let path = staging.path().to_owned();
        staging.publish(&project).unwrap();
        assert!(!path.exists() && project.join("dir/kept").is_dir());
        for file in ["dir/old", "dir/new/x", "real/x", "was", "away/x"] {
            assert_eq!(fs::read_to_string(project.join(file)).unwrap(), "new", "{file}");
        }
        assert!(fs::symlink_metadata(project.join("inside")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(project.join("away")).unwrap().is_dir(), "a way out is no way in");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_published_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let project = base.path().join("p");
        fs::create_dir(&project).unwrap();
        let staging = Staging::make(&project).unwrap();
        fs::write(staging.path().join("half"), "x").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&project).unwrap().count(), 0);
    }
}
