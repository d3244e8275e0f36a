//! The project's directory, held open: whatever takes its place or moves below it while files are
//! chosen and packed, nothing is read that does not lie inside. The helper container holds more
//! than the project, and a job's own processes may still run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};

/// A directory that is held open.
pub(super) struct Root {
    fd: OwnedFd,
    /// A path that leads there as long as this lives, in this process.
    path: PathBuf,
    /// Where it is, without links.
    real: PathBuf,
}

/// What is at the project's path.
pub(super) enum ProjectRoot {
    /// The directory.
    Directory(Root),
    /// Nothing.
    Missing,
    /// Something else, in words.
    Other(&'static str),
}

impl Root {
    /// Opens `directory`, to which no link leads from `base` on. That itself may be one: it is the
    /// operator's.
    ///
    /// # Errors
    /// Something is in the way that the job cannot have put there.
    pub(super) fn open(base: &Path, directory: &Path) -> io::Result<ProjectRoot> {
        let relative = directory.strip_prefix(base).map_err(io::Error::other)?;
        let mut fd = match open(base, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(ProjectRoot::Missing),
            Err(error) => return Err(error.into()),
        };
        for part in relative.components() {
            fd = match openat(
                &fd,
                part.as_os_str(),
                OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            ) {
                Ok(fd) => fd,
                Err(Errno::ENOENT) => return Ok(ProjectRoot::Missing),
                Err(error) => return Err(error.into()),
            };
            match SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFDIR => {}
                SFlag::S_IFLNK => return Ok(ProjectRoot::Other("a link")),
                _ => return Ok(ProjectRoot::Other("no directory")),
            }
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let real = fs::canonicalize(&path)?;
        Ok(ProjectRoot::Directory(Self { fd, path, real }))
    }

    /// A path for looking at things, in this process.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where `relative` is, from the root and without links on the way; a link at its end is not
    /// followed. `None` if that is outside of the root, or nowhere.
    pub(super) fn locate(&self, relative: &Path) -> Option<PathBuf> {
        let Some(name) = relative.file_name() else { return Some(PathBuf::new()) };
        let parent = self.resolve(relative.parent()?)?;
        Some(parent.join(name))
    }

    /// The same with every link followed.
    pub(super) fn resolve(&self, relative: &Path) -> Option<PathBuf> {
        let real = fs::canonicalize(self.path.join(relative)).ok()?;
        real.strip_prefix(&self.real).ok().map(Path::to_owned)
    }

    /// Opens a regular file of the root, step by step, so that nothing on the way can become a link
    /// meanwhile. A link or pipe in its own place is refused, or does not make anybody wait.
    pub(super) fn open_file(&self, relative: &Path) -> io::Result<File> {
        Opener::new(self).open(relative)
    }

    /// Opens a directory of the root in the same way.
    fn open_directory(&self, relative: &Path) -> io::Result<OwnedFd> {
        let step = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        if relative.as_os_str().is_empty() {
            return self.fd.try_clone();
        }
        // Most have no link on their way, which one call says where the kernel knows it (5.6).
        let plain = OpenHow::new().flags(step).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH);
        if let Ok(directory) = openat2(&self.fd, relative, plain) {
            return Ok(directory);
        }
        let real = self.resolve(relative).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut directory = self.fd.try_clone()?;
        for part in real.components() {
            let Component::Normal(part) = part else { return Err(io::ErrorKind::NotFound.into()) };
            directory = openat(&directory, part, step, Mode::empty())?;
        }
        Ok(directory)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
    /// A socket, a device or a pipe.
    Other,
}

/// User and group that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// When a file was changed last, since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Modified {
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
}

/// What an entry is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    /// With its kind.
    pub(super) mode: u32,
    pub(super) owner: Owner,
    pub(super) length: u64,
    pub(super) inode: u64,
    pub(super) modified: Modified,
}

impl Status {
    pub(super) fn kind(&self) -> Kind {
        match SFlag::from_bits_truncate(self.mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Link,
            _ => Kind::Other,
        }
    }
}

/// Opens many files, most of which lie in the same directory as the one before: the way there is
/// gone once.
pub(super) struct Opener<'a> {
    root: &'a Root,
    directory: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(root: &'a Root) -> Self {
        Self { root, directory: None }
    }

    /// As [`Root::open_file`].
    pub(super) fn open(&mut self, relative: &Path) -> io::Result<File> {
        let file = self.open_seen(relative)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// The same for whoever has just seen that a file is there, and reads no more than its length:
    /// what can have taken its place meanwhile makes nobody wait.
    pub(super) fn open_seen(&mut self, relative: &Path) -> io::Result<File> {
        let (directory, name) = self.place(relative)?;
        let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(File::from(openat(directory, name, read, Mode::empty())?))
    }

    /// What an entry is like; a link is not followed.
    pub(super) fn status(&mut self, relative: &Path) -> io::Result<Status> {
        let (directory, name) = self.place(relative)?;
        let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Status {
            mode: found.st_mode,
            owner: Owner { uid: found.st_uid, gid: found.st_gid },
            length: u64::try_from(found.st_size).unwrap_or(0),
            inode: found.st_ino,
            modified: Modified { seconds: found.st_mtime, nanoseconds: found.st_mtime_nsec },
        })
    }

    /// Where a link leads.
    pub(super) fn link(&mut self, relative: &Path) -> io::Result<PathBuf> {
        let (directory, name) = self.place(relative)?;
        Ok(readlinkat(directory, name)?.into())
    }

    /// The directory of an entry, and its name there.
    fn place<'p>(&mut self, relative: &'p Path) -> io::Result<(&OwnedFd, &'p OsStr)> {
        let Some(name) = relative.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let parent = relative.parent().unwrap_or(Path::new(""));
        let directory = match self.directory.take().filter(|(path, _)| path.as_os_str() == parent.as_os_str()) {
            Some(same) => same,
            None => (parent.to_owned(), self.root.open_directory(parent)?),
        };
        let (_, directory) = self.directory.insert(directory);
        Ok((directory, name))
    }
}

#[cfg(test)]
pub(super) fn root(directory: &Path) -> Root {
    match Root::open(directory.parent().unwrap(), directory).unwrap() {
        ProjectRoot::Directory(root) => root,
        _ => panic!("{} is no directory", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_as_far_as_they_stay_inside() {
        let base = tempfile::tempdir().unwrap();
        let project = base.path().join("p");
        fs::create_dir_all(project.join("build/2024")).unwrap();
        fs::write(project.join("build/2024/r.xml"), "r").unwrap();
        fs::write(base.path().join("outside"), "o").unwrap();
        symlink("2024", project.join("build/latest")).unwrap();
        symlink(project.join("build"), project.join("absolute")).unwrap();
        symlink("..", project.join("up")).unwrap();
        symlink("r.xml", project.join("build/2024/link")).unwrap();
        let root = root(&project);
        for (path, located) in [
            ("build/latest/r.xml", Some("build/2024/r.xml")),
            ("absolute/latest/r.xml", Some("build/2024/r.xml")),
            ("build/latest", Some("build/latest")),
            ("up/outside", None),
            ("up/p/build", Some("build")),
            ("nothing/here", None),
        ] {
            assert_eq!(root.locate(Path::new(path)).as_deref(), located.map(Path::new), "{path}");
        }
        assert!(root.open_file(Path::new("absolute/latest/r.xml")).is_ok());
        for refused in ["up/outside", "build/latest/link", "build/latest", "build/2024"] {
            assert!(root.open_file(Path::new(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_takes_its_place_is_something_else() {
        let base = tempfile::tempdir().unwrap();
        let project = base.path().join("g/p");
        fs::create_dir_all(&project).unwrap();
        fs::write(project.join("a"), "a").unwrap();
        let ProjectRoot::Directory(root) = Root::open(base.path(), &project).unwrap() else { panic!("it is one") };
        fs::rename(&project, base.path().join("moved")).unwrap();
        assert!(matches!(Root::open(base.path(), &project).unwrap(), ProjectRoot::Missing));
        symlink("/etc", &project).unwrap();
        assert!(matches!(Root::open(base.path(), &project).unwrap(), ProjectRoot::Other("a link")));
        assert!(root.path().join("a").exists() && !root.path().join("hostname").exists());
        fs::remove_file(&project).unwrap();
        fs::write(&project, "").unwrap();
        assert!(matches!(Root::open(base.path(), &project).unwrap(), ProjectRoot::Other("no directory")));
    }
}
