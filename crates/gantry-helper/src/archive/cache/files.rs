//! Caches on a volume that outlives the pod. Jobs that run at once may read and write the same
//! cache: a new file takes the old one's place in one step, so that a reader has one or the other.
//! The volume is mounted for jobs too, so nothing below its mount path is followed.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use gantry_wire::cache::CacheFile;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_fd, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::fetch::Incoming;
use super::trouble::CacheTrouble;
use crate::archive::root::{ProjectRoot, Root};
use crate::limits::CACHE_FILE_LEFTOVER;

/// Begins to read the file of a cache.
pub(super) fn open(file: &CacheFile) -> Result<Incoming, CacheTrouble> {
    let shown = Path::new(&file.volume).join(&file.path).display().to_string();
    let trouble = |source| CacheTrouble::File { path: shown.clone(), source };
    Incoming::of_file(open_file(file)?, shown.clone()).map_err(trouble)
}

/// The last bytes of the file of a cache, up to so many.
pub(super) fn tail(file: &CacheFile, most: usize) -> Result<Vec<u8>, CacheTrouble> {
    let mut opened = open_file(file)?;
    let mut read = || -> io::Result<Vec<u8>> {
        let start = opened.metadata()?.len().saturating_sub(most as u64);
        opened.seek(io::SeekFrom::Start(start))?;
        let mut end = Vec::new();
        (&mut opened).take(most as u64).read_to_end(&mut end)?;
        Ok(end)
    };
    read().map_err(|source| CacheTrouble::File { path: file.path.clone(), source })
}

/// How long the file of a cache is.
pub(super) fn length(file: &CacheFile) -> Result<u64, CacheTrouble> {
    let metadata = open_file(file)?.metadata();
    Ok(metadata.map_err(|source| CacheTrouble::File { path: file.path.clone(), source })?.len())
}

fn open_file(file: &CacheFile) -> Result<File, CacheTrouble> {
    let volume = Path::new(&file.volume);
    let full = volume.join(&file.path);
    let trouble = |source| CacheTrouble::File { path: full.display().to_string(), source };
    let (Some(directory), Some(name)) = (full.parent(), full.file_name()) else {
        return Err(trouble(io::ErrorKind::InvalidInput.into()));
    };
    let root = match Root::open(volume, directory).map_err(trouble)? {
        ProjectRoot::Directory(root) => root,
        ProjectRoot::Missing => return Err(CacheTrouble::Missing),
        ProjectRoot::Other(what) => {
            let text = format!("{} is {what}: a job has put it in the place of the caches", directory.display());
            return Err(CacheTrouble::Volume(text));
        }
    };
    match root.open_file(Path::new(name)) {
        Ok(opened) => Ok(opened),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CacheTrouble::Missing),
        Err(error) => Err(trouble(error)),
    }
}

/// A file that is to take the place of a cache.
pub(super) struct NewFile {
    directory: OwnedFd,
    /// Beside the file that it will replace.
    own_name: String,
    name: String,
    shown: String,
    /// What is written.
    pub(super) file: File,
    is_published: bool,
}

impl NewFile {
    /// Makes it, and the directories above.
    pub(super) fn make(file: &CacheFile) -> Result<Self, CacheTrouble> {
        let shown = Path::new(&file.volume).join(&file.path).display().to_string();
        Self::make_at(file, &shown).map_err(|source| CacheTrouble::File { path: shown, source })
    }

    fn make_at(file: &CacheFile, shown: &str) -> io::Result<Self> {
        let path = Path::new(&file.path);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut directory = open_fd(Path::new(&file.volume), flags, Mode::empty())?;
        for part in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(part) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
            match mkdirat(&directory, part, Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            directory = openat(&directory, part, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        }
        let prefix = format!(".{name}.");
        sweep(&directory, &prefix);
        let own_name = format!("{prefix}{:016x}", gantry_core::chance::bits());
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(&directory, own_name.as_str(), flags, Mode::from_bits_truncate(0o666))?;
        Ok(Self { directory, own_name, name, shown: shown.to_owned(), file: File::from(made), is_published: false })
    }

    /// Takes the place of the cache.
    pub(super) fn publish(mut self) -> Result<(), CacheTrouble> {
        let trouble = |source: io::Error| CacheTrouble::File { path: self.shown.clone(), source };
        self.file.sync_data().map_err(trouble)?;
        renameat(&self.directory, self.own_name.as_str(), &self.directory, self.name.as_str())
            .map_err(|error| trouble(error.into()))?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_published {
            // One that stays is swept by a later job.
            let _ = unlinkat(&self.directory, self.own_name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Removes what jobs that were killed have left half-written.
fn sweep(directory: &OwnedFd, prefix: &str) {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    for entry in std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        let is_old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok().map(|age| age > CACHE_FILE_LEFTOVER);
        if entry.file_name().to_string_lossy().starts_with(prefix) && is_old() == Some(true) {
            let _ = unlinkat(directory, entry.file_name().as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn file(volume: &Path, path: &str) -> CacheFile {
        CacheFile { volume: volume.display().to_string(), path: path.to_owned() }
    }

    #[test]
    fn a_new_file_takes_the_place_in_one_step() {
        let volume = tempfile::tempdir().unwrap();
        let file = file(volume.path(), "g/p/key/cache.zip");
        assert!(matches!(open(&file), Err(CacheTrouble::Missing)));
        let mut first = NewFile::make(&file).unwrap();
        let mut second = NewFile::make(&file).unwrap();
        first.file.write_all(b"PK first").unwrap();
        second.file.write_all(b"PK second").unwrap();
        first.publish().unwrap();
        assert_eq!(open(&file).unwrap().start(), b"PK f");
        drop(second);
        let left: Vec<_> = fs::read_dir(volume.path().join("g/p/key")).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing half-written is left: {left:?}");
    }

    #[test]
    fn nothing_that_a_job_has_planted_is_followed() {
        let volume = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), volume.path().join("g")).unwrap();
        let planted = file(volume.path(), "g/p/key/cache.zip");
        assert!(NewFile::make(&planted).is_err());
        assert!(matches!(open(&planted), Err(CacheTrouble::Volume(_))));
        fs::write(outside.path().join("secret"), "PK secret").unwrap();
        fs::create_dir_all(volume.path().join("h/key")).unwrap();
        symlink(outside.path().join("secret"), volume.path().join("h/key/cache.zip")).unwrap();
        let linked = file(volume.path(), "h/key/cache.zip");
        assert!(open(&linked).is_err());
        NewFile::make(&linked).unwrap().publish().unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "PK secret");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}
