//! The one directory in which a run keeps everything. It goes with the run; what a killed one left
//! goes with the next.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

/// Beginning of the names of such directories.
const PREFIX: &str = "gantry-dev-";

/// In each of them, locked as long as its run lives: unlike a number of a process it cannot be
/// another's, not even that of another container which shares the directory for temporary files.
const LOCK: &str = "lock";

/// A run that looks for leftovers may take a directory for one between its making and its locking.
const TRIES: usize = 8;

/// A container that is killed in the disorder of a second signal may write for some milliseconds
/// more.
const LATECOMERS: u32 = 20;
const LATECOMER: Duration = Duration::from_millis(50);

/// A run's directory.
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes it among the temporary files, after having removed what dead runs of the same user
    /// left there.
    pub(super) fn make() -> anyhow::Result<Self> {
        let base = std::env::temp_dir();
        sweep(&base);
        Self::make_in(&base).with_context(|| format!("cannot make a directory in {}", base.display()))
    }

    fn make_in(base: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base)?.keep();
            let lock = match File::create_new(path.join(LOCK)) {
                Ok(lock) => lock,
                Err(_) if !path.exists() => continue,
                Err(error) => return Err(error),
            };
            if lock.try_lock().is_err() {
                continue;
            }
            // Containers of other users go through it to their volumes. What is secret has its own
            // mode.
            fs::set_permissions(&path, Permissions::from_mode(0o711))?;
            return Ok(Self { path: path.canonicalize()?, _lock: lock });
        }
        Err(io::Error::other("other runs removed it each time"))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut removed = remove(&self.path);
        for _ in 0..LATECOMERS {
            if removed.is_ok() {
                break;
            }
            #[expect(clippy::disallowed_methods, reason = "a drop cannot wait on tokio's clock")]
            std::thread::sleep(LATECOMER);
            removed = remove(&self.path);
        }
        if let Err(error) = removed {
            tracing::error!(%error, path = %self.path.display(), "cannot remove the directory of this run");
        }
    }
}

/// Removes what is left of this user's runs that were killed.
fn sweep(base: &Path) {
    let own = own_uid();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let is_own = || fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && Some(found.uid()) == own);
        if !is_named || !is_own() {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(path.join(LOCK)) else { continue };
        if lock.try_lock().is_ok()
            && let Err(error) = remove(&path)
        {
            tracing::error!(%error, path = %path.display(), "cannot remove what a killed run left");
        }
    }
}

/// The user that files of this process belong to.
fn own_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|found| found.uid())
}

/// Removes a tree, also one with directories in which nothing may be changed, such as Go's module
/// cache.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Lets the owner change every directory of a tree. Never follows a link.
fn open_up(directory: &Path) {
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_run_left_goes_and_what_lives_stays() {
        let base = tempfile::tempdir().unwrap();
        let alive = Scratch::make_in(base.path()).unwrap();
        let dead = base.path().join("gantry-dev-dead");
        fs::create_dir_all(dead.join("kube/pods/read-only")).unwrap();
        fs::write(dead.join("kube/pods/read-only/file"), "x").unwrap();
        fs::set_permissions(dead.join("kube/pods/read-only"), Permissions::from_mode(0o500)).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let foreign = base.path().join("gantry-dev-of-somebody");
        fs::create_dir(&foreign).unwrap();
        let target = base.path().join("target");
        fs::create_dir(&target).unwrap();
        fs::write(target.join(LOCK), "").unwrap();
        std::os::unix::fs::symlink(&target, base.path().join("gantry-dev-link")).unwrap();

        sweep(base.path());
        assert!(alive.path().exists() && !dead.exists());
        assert!(foreign.exists(), "without a lock nobody knows whose it is");
        assert!(target.join(LOCK).exists(), "a link leads to what is not ours");

        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }
}
