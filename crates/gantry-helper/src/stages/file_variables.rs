//! The files of file variables. Scripts may do with them what they like: each script finds the
//! content that the job gives, and the owner and mode that an earlier one has left.
//!
//! The directory belongs to the job, so nothing in it is followed or trusted: a file that is not as
//! it should be is made anew and put in its place.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use crate::ports::User;

/// Puts the file `name` with `content` into `directory`.
///
/// # Errors
/// It is not there; the error has the name.
pub(crate) fn put(directory: &Directory<'_>, name: &str, content: &[u8]) -> io::Result<()> {
    directory.put(name, content).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
}

/// Where the files are.
pub(crate) struct Directory<'d> {
    path: &'d Path,
    /// User of the build container, once known.
    owner: Option<User>,
    /// What a file is called until it is complete. Short, because the names of variables may be as
    /// long as names of files can be.
    new: PathBuf,
    /// What stands in a file's place and cannot be removed gets this name.
    old: PathBuf,
}

impl<'d> Directory<'d> {
    /// The directory at `path` for files of these `names`.
    pub(crate) fn new(path: &'d Path, owner: Option<User>, names: &[&str]) -> Self {
        let free = |suffix: &str| {
            let mut candidates = (0_u32..).map(|number| format!(".{number}.{suffix}"));
            let free = candidates.find(|candidate| !names.contains(&candidate.as_str()));
            path.join(free.unwrap_or_default())
        };
        Self { path, owner, new: free("new"), old: free("old") }
    }

    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let before = fs::symlink_metadata(&path).ok();
        let file = before.as_ref().filter(|metadata| metadata.is_file());
        if file.is_some() && holds(&path, content)? {
            return Ok(());
        }
        remove(&self.new)?;
        let mut new = File::options().write(true).create_new(true).mode(0o666).open(&self.new)?;
        new.write_all(content)?;
        self.give(&new, file)?;
        if before.is_some_and(|metadata| metadata.is_dir()) && fs::remove_dir_all(&path).is_err() {
            // It holds what we have no right to remove; who may write to the directory can still
            // rename it.
            fs::rename(&path, &self.old)?;
        }
        fs::rename(&self.new, path)
    }

    /// Gives `new` the owner and mode of the file that it replaces.
    fn give(&self, new: &File, replaced: Option<&Metadata>) -> io::Result<()> {
        if geteuid().is_root() {
            let owner = match (replaced, self.owner) {
                (Some(metadata), _) => Some((metadata.uid(), metadata.gid())),
                (None, Some(User { uid, gid })) => Some((uid, gid)),
                (None, None) => None,
            };
            if let Some((uid, gid)) = owner {
                fchown(new, Some(uid), Some(gid))?;
            }
        }
        match replaced {
            Some(metadata) => new.set_permissions(Permissions::from_mode(metadata.mode() & 0o777)),
            None => Ok(()),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) => fs::remove_dir_all(path),
        result => result,
    }
}

/// Whether the file at `path` holds `content`. One that its owner lets nobody read is taken to be
/// as the owner wants it.
fn holds(path: &Path, content: &[u8]) -> io::Result<bool> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(true),
        Err(_) => return Ok(false),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut found = Vec::with_capacity(content.len());
    file.take(content.len() as u64 + 1).read_to_end(&mut found)?;
    Ok(found == content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_one(directory: &Path, name: &str, content: &str) -> io::Result<()> {
        put(&Directory::new(directory, None, &[name]), name, content.as_bytes())
    }

    #[test]
    fn a_link_in_place_of_a_file_is_replaced_and_never_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let temp = directory.path().join("tmp");
        fs::create_dir(&temp).unwrap();
        std::os::unix::fs::symlink(&victim, temp.join("KEY")).unwrap();
        put_one(&temp, "KEY", "content").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(fs::read_to_string(temp.join("KEY")).unwrap(), "content");
    }

    #[test]
    fn mode_and_file_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("KEY");
        put_one(directory.path(), "KEY", "content").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        put_one(directory.path(), "KEY", "content").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        fs::write(&path, "changed").unwrap();
        put_one(directory.path(), "KEY", "content").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn names_may_be_as_long_as_a_file_system_takes() {
        let directory = tempfile::tempdir().unwrap();
        put_one(directory.path(), &"K".repeat(255), "content").unwrap();
        let error = put_one(directory.path(), &"K".repeat(256), "content").unwrap_err();
        assert!(error.to_string().starts_with("KKK"), "{error}");
    }

    #[test]
    fn whatever_stands_in_a_file_s_place_goes() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("KEY/sub")).unwrap();
        fs::create_dir_all(directory.path().join(".0.new/sub")).unwrap();
        put_one(directory.path(), "KEY", "content").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("KEY")).unwrap(), "content");
        put_one(directory.path(), ".0.new", "content").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
