//! The directory in which unpacked images are kept for later runs. What is named by an image's id
//! is whole: files come, and leave, under other names.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::scratch;

/// After this an image that no run has used is removed.
const UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

/// Every run that uses the directory has this file locked.
const LOCK: &str = ".lock";

/// Beginning of the names of what is being unpacked.
const UNPACKING: &str = ".unpacking-";

/// Beginning of the names of what is being removed.
const REMOVING: &str = ".removing-";

/// The directory, of which no other run removes anything as long as this lives.
#[derive(Debug)]
pub(super) struct KeptImages {
    directory: PathBuf,
    _lock: File,
}

impl KeptImages {
    /// Opens the directory, which it makes if need be. Removes images that nobody has used for long
    /// and what killed runs have left, unless another run uses the directory. Blocks.
    pub(super) fn open(directory: PathBuf, now: SystemTime) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(directory.join(LOCK))?;
        let is_alone = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        if is_alone {
            put_aside(&directory, now);
            // Other runs need not wait until gigabytes are removed.
            lock.unlock()?;
        }
        lock.lock_shared()?;
        if is_alone {
            remove_aside(&directory);
        }
        Ok(Self { directory, _lock: lock })
    }

    /// Where the files of an image are, if they are here.
    pub(super) fn place(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    /// A place for files until they are all there.
    pub(super) fn partial(&self) -> io::Result<Partial> {
        let directory = tempfile::Builder::new().prefix(UNPACKING).tempdir_in(&self.directory)?;
        // Its own way of removing gives up at directories that nobody may write to.
        Ok(Partial(directory.keep()))
    }
}

/// Files of an image that may not be complete; they go with this.
pub(super) struct Partial(PathBuf);

impl Partial {
    /// Where to unpack them.
    pub(super) fn files(&self) -> PathBuf {
        self.0.join("root")
    }

    /// Says that they are complete.
    pub(super) fn keep(self, place: &Path) -> io::Result<()> {
        match fs::rename(self.files(), place) {
            // Another run was faster, with the same files.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => Ok(()),
            done => done,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Says that a run uses an image.
pub(super) fn mark_used(root: &Path, now: SystemTime) {
    // An image that looks older than it is comes again.
    let _ = File::open(root).and_then(|directory| directory.set_modified(now));
}

/// Renames what is to go. Only for who is alone: what is being unpacked by others must stay.
fn put_aside(directory: &Path, now: SystemTime) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
        let is_image = !name.starts_with('.');
        if name.starts_with(UNPACKING) || (is_image && age.is_some_and(|age| age > UNUSED)) {
            let aside = directory.join(format!("{REMOVING}{}", name.trim_start_matches('.')));
            // What keeps its name is whole; the next run tries again.
            let _ = fs::rename(entry.path(), aside);
        }
    }
}

/// Removes what was put aside, by this run or by one that was killed before it had removed it.
fn remove_aside(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(REMOVING) {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = scratch::remove(path) {
        tracing::warn!(%error, path = %path.display(), "files of an image are not removed; the next run tries again");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Makes an image's directory with one below in which nobody may change anything.
    fn image(root: &Path) {
        fs::create_dir_all(root.join("closed")).unwrap();
        fs::write(root.join("closed/file"), "x").unwrap();
        fs::set_permissions(root.join("closed"), Permissions::from_mode(0o555)).unwrap();
    }

    #[test]
    fn images_that_nobody_uses_go() {
        let place = tempfile::tempdir().unwrap();
        let names = ["used", "unused", ".unpacking-x", ".removing-unused-once"];
        let [used, unused, unpacking, removing] = names.map(|name| place.path().join(name));
        for directory in [&used, &unused, &unpacking, &removing] {
            image(directory);
        }
        let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 3600));
        mark_used(&unused, now - 15 * day);
        mark_used(&used, now - 13 * day);
        let first = KeptImages::open(place.path().to_owned(), now).unwrap();
        let left = || {
            let entries = fs::read_dir(place.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(left(), [".lock", "used"]);

        let partial = first.partial().unwrap();
        image(&partial.files());
        let second = KeptImages::open(place.path().to_owned(), now + 30 * day).unwrap();
        assert!(partial.files().join("closed/file").exists() && used.is_dir(), "another run uses the directory");
        drop(partial);
        drop((first, second));
        KeptImages::open(place.path().to_owned(), now + 30 * day).unwrap();
        assert_eq!(left(), [".lock"]);
    }

    #[test]
    fn an_image_is_there_once_it_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let kept = KeptImages::open(place.path().to_owned(), SystemTime::now()).unwrap();
        let root = kept.place("0123456789ab");
        let [first, second] = [(), ()].map(|()| kept.partial().unwrap());
        for partial in [&first, &second] {
            image(&partial.files());
        }
        assert!(!root.exists());
        first.keep(&root).unwrap();
        assert!(root.join("closed/file").exists());
        second.keep(&root).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "the image and the lock");
        scratch::remove(&root).unwrap();
    }
}
