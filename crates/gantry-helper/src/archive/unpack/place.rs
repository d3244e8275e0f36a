//! Puts the entries of an archive into a directory, and nowhere else. Links are made last, so that
//! no entry is written through one of the same archive; what directories are like is set at the
//! very end, because writing into one changes its time and may need its rights.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::{UnpackError, shown};
use crate::archive::root::Owner;
use crate::limits::{UNPACK_BUFFER, UNPACKED_ENTRIES, UNPACKED_SHARE};

/// What a path may have in bytes, its end mark included.
pub(super) const PATH_MAX: usize = nix::libc::PATH_MAX as usize;

/// Zeros that are a hole, if they come at once: a block of most file systems.
const HOLE: usize = 4096;

/// An entry of an archive.
pub(super) enum Entry<'a> {
    Directory,
    /// A link to this target, whatever that is.
    Link(&'a Path),
    /// Another name of an entry that came before.
    HardLink(&'a Path),
    /// A file, and how long it says that it is.
    File(&'a mut dyn Read, u64),
}

/// What an entry says about its file beside the content.
pub(super) struct Attributes {
    /// The nine bits for reading, writing and executing.
    pub(super) mode: u32,
    pub(super) modified: Option<SystemTime>,
    pub(super) owner: Option<Owner>,
}

/// Fills a directory.
pub(in crate::archive) struct Placer {
    root: PathBuf,
    /// Bytes that may still be written.
    room: u64,
    /// What that was at first.
    most: u64,
    /// What the volume takes for a file of one byte, or a directory.
    block: u64,
    /// Entries that there may be: each takes an inode, which a volume can run out of before its
    /// bytes.
    most_entries: u64,
    placed: BTreeSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    directories: Vec<(PathBuf, Attributes)>,
    /// The directory of the entry before, and where that is. What takes the place of a directory
    /// lies in another one, so that this is never gone.
    latest: Option<(PathBuf, PathBuf)>,
    buffer: Vec<u8>,
}

/// What is left to do once everything is where it belongs.
pub(in crate::archive) struct Late {
    root: PathBuf,
    placed: BTreeSet<PathBuf>,
    directories: Vec<(PathBuf, Attributes)>,
}

/// What went wrong with one entry.
enum Problem {
    Escape,
    NoRoom,
    /// A file that has not as many bytes as it says.
    Short {
        said: u64,
        had: u64,
    },
    /// Another name of what is no file of the archive.
    NoTarget(PathBuf),
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The path of an entry, if it is one below the directory. A name is bytes, as on the file system.
pub(super) fn inside(name: &[u8]) -> Result<PathBuf, UnpackError> {
    let path = Path::new(OsStr::from_bytes(name));
    if name.len() >= PATH_MAX {
        return Err(UnpackError::TooLong { name: shown(name), length: name.len() });
    }
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_plain || name.contains(&0) || path.components().next().is_none() {
        return Err(UnpackError::Escape { name: shown(name) });
    }
    Ok(path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

impl Placer {
    /// Fills `root`, which has no links in its path. An archive may take most of what is free on
    /// its volume.
    pub(in crate::archive) fn new(root: PathBuf) -> Result<Self, UnpackError> {
        let volume = nix::sys::statvfs::statvfs(&root).map_err(io::Error::from)?;
        let most = volume.blocks_available().saturating_mul(volume.fragment_size()) / 100 * UNPACKED_SHARE;
        // Some file systems make inodes as they are needed, and count none.
        let inodes = Some(volume.files_available()).filter(|_| volume.files() > 0);
        let most_entries = inodes.map_or(UNPACKED_ENTRIES, |inodes| inodes / 100 * UNPACKED_SHARE);
        Ok(Self {
            root,
            room: most,
            most,
            block: volume.fragment_size().max(1),
            most_entries: most_entries.min(UNPACKED_ENTRIES),
            placed: BTreeSet::new(),
            links: Vec::new(),
            directories: Vec::new(),
            latest: None,
            buffer: vec![0; UNPACK_BUFFER],
        })
    }

    /// Less room, for tests.
    #[cfg(test)]
    pub(super) fn leave_room_for(&mut self, bytes: u64) {
        (self.room, self.most, self.block) = (bytes, bytes, 1);
    }

    /// So many entries with so many bytes are to come, as the archive says: what cannot fit is not
    /// begun.
    pub(super) fn expect(&self, entries: u64, bytes: u64) -> Result<(), UnpackError> {
        if entries > self.most_entries {
            return Err(UnpackError::TooLarge { most: self.most_entries, what: "entries" });
        }
        if bytes > self.room {
            return Err(UnpackError::TooLarge { most: self.most, what: "bytes" });
        }
        Ok(())
    }

    /// Puts one entry; `path` comes from [`inside`].
    pub(super) fn put(&mut self, path: &Path, entry: Entry<'_>, attributes: Attributes) -> Result<(), UnpackError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.expect(self.placed.len() as u64 + 1, 0)?;
        self.place(path, entry, attributes).map_err(|problem| self.told(path, problem))?;
        self.placed.insert(path.to_owned());
        Ok(())
    }

    fn place(&mut self, path: &Path, entry: Entry<'_>, attributes: Attributes) -> Result<(), Problem> {
        let full = self.full(path)?;
        match entry {
            Entry::Directory => {
                self.take(self.block)?;
                make_directory(&full)?;
                self.directories.push((path.to_owned(), attributes));
            }
            Entry::Link(target) => self.links.push((path.to_owned(), target.to_owned())),
            Entry::HardLink(target) => {
                let other = make_parents(&self.root, target)?;
                // A link of the tree's own may lead anywhere, and no entry is a name of itself.
                if other == full || !fs::symlink_metadata(&other).is_ok_and(|other| other.is_file()) {
                    return Err(Problem::NoTarget(target.to_owned()));
                }
                clear_the_way(&full)?;
                fs::hard_link(other, &full)?;
            }
            // Before room is taken that cannot be enough: a few bytes can stand for any number of
            // zeros.
            Entry::File(_, length) if length > self.room => return Err(Problem::NoRoom),
            Entry::File(content, said) => {
                let file = create(&full, attributes.mode)?;
                let had = self.fill(&file, content)?;
                if had != said {
                    return Err(Problem::Short { said, had });
                }
                attributes.apply(&file)?;
            }
        }
        Ok(())
    }

    /// The place of an entry; most entries lie beside the one before.
    fn full(&mut self, path: &Path) -> Result<PathBuf, Problem> {
        if let (Some((parent, full)), Some(name)) = (&self.latest, path.file_name())
            && path.parent() == Some(parent)
        {
            return Ok(full.join(name));
        }
        let full = make_parents(&self.root, path)?;
        self.latest = path.parent().zip(full.parent()).map(|(parent, full)| (parent.to_owned(), full.to_owned()));
        Ok(full)
    }

    /// Takes room for so many bytes.
    fn take(&mut self, bytes: u64) -> Result<(), Problem> {
        self.room = self.room.checked_sub(bytes).ok_or(Problem::NoRoom)?;
        Ok(())
    }

    /// Writes the content of a file, and gives its length. Long runs of zeros become holes, as they
    /// were in a sparse file: an archive has no word for those.
    fn fill(&mut self, mut file: &File, content: &mut dyn Read) -> Result<u64, Problem> {
        let (mut length, mut is_hole) = (0, false);
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.take(count as u64)?;
            length += count as u64;
            let bytes = self.buffer.get(..count).unwrap_or_default();
            is_hole = count >= HOLE && bytes.iter().all(|byte| *byte == 0);
            if is_hole {
                file.seek(SeekFrom::Current(i64::try_from(count).map_err(io::Error::other)?))?;
            } else {
                file.write_all(bytes)?;
            }
        }
        if is_hole {
            file.set_len(length)?;
        }
        self.take(length.next_multiple_of(self.block) - length)?;
        Ok(length)
    }

    fn told(&self, path: &Path, problem: Problem) -> UnpackError {
        let name = shown(path.as_os_str().as_bytes());
        match problem {
            Problem::Escape => UnpackError::Escape { name },
            Problem::Short { said, had } => {
                let text = format!("it has {had} bytes and not the {said} that it says");
                UnpackError::Entry { name, source: io::Error::new(io::ErrorKind::UnexpectedEof, text) }
            }
            Problem::NoTarget(target) => {
                let target = shown(target.as_os_str().as_bytes());
                let text = format!("it is another name of {target:?}, and there is no such file");
                UnpackError::Entry { name, source: io::Error::new(io::ErrorKind::NotFound, text) }
            }
            Problem::NoRoom => UnpackError::TooLarge { most: self.most, what: "bytes" },
            Problem::Io(source) => UnpackError::Entry { name, source },
        }
    }

    /// Makes the links.
    pub(in crate::archive) fn finish(mut self) -> Result<Late, UnpackError> {
        for (path, target) in std::mem::take(&mut self.links) {
            let link = || -> Result<(), Problem> {
                let full = make_parents(&self.root, &path)?;
                clear_the_way(&full)?;
                Ok(symlink(&target, &full)?)
            };
            link().map_err(|problem| self.told(&path, problem))?;
        }
        Ok(Late { root: self.root, placed: self.placed, directories: self.directories })
    }
}

impl Late {
    /// How many entries there were.
    pub(in crate::archive) fn count(&self) -> usize {
        self.placed.len()
    }

    /// Everything that was put.
    pub(in crate::archive) fn placed(&self) -> &BTreeSet<PathBuf> {
        &self.placed
    }

    /// The same for another directory, into which everything was moved.
    pub(in crate::archive) fn moved_to(self, root: PathBuf) -> Self {
        Self { root, ..self }
    }

    /// Gives directories their attributes, the deepest first.
    pub(in crate::archive) fn apply(&self) -> Result<(), UnpackError> {
        for (path, attributes) in self.directories.iter().rev() {
            let Ok(full) = make_parents(&self.root, path) else { continue };
            let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_DIRECTORY;
            let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&full);
            if let Ok(directory) = opened {
                attributes
                    .apply(&directory)
                    .map_err(|source| UnpackError::Entry { name: shown(path.as_os_str().as_bytes()), source })?;
            }
        }
        Ok(())
    }
}

/// The place of an entry, in a directory that exists and is really inside of the project.
fn make_parents(project: &Path, path: &Path) -> Result<PathBuf, Problem> {
    let mut at = project.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(metadata) if metadata.is_dir() => {}
            // A link of the repository's own may lead elsewhere in the project, but not out of it.
            Ok(metadata) if metadata.is_symlink() => {
                let real = at.canonicalize().map_err(|_| Problem::Escape)?;
                if !real.starts_with(project) {
                    return Err(Problem::Escape);
                }
                at = real;
            }
            Ok(_) => {
                fs::remove_file(&at)?;
                fs::create_dir(&at)?;
            }
            Err(_) => fs::create_dir(&at)?,
        }
    }
    let Some(name) = path.file_name() else { return Err(Problem::Escape) };
    Ok(at.join(name))
}

fn make_directory(full: &Path) -> io::Result<()> {
    match fs::symlink_metadata(full) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(full)?,
        Err(_) => {}
    }
    fs::create_dir(full)
}

/// Makes a file that is new: one that is there, or a link, goes.
fn create(full: &Path, mode: u32) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(full);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            clear_the_way(full)?;
            open()
        }
        made => made,
    }
}

/// Removes a file, a link or an empty directory that is in the way; never what a link points to, or
/// what a directory holds.
fn clear_the_way(full: &Path) -> io::Result<()> {
    match fs::symlink_metadata(full) {
        Ok(there) if there.is_dir() => fs::remove_dir(full),
        Ok(_) => fs::remove_file(full),
        Err(_) => Ok(()),
    }
}

impl Attributes {
    /// What is right already is left alone: each change of a file is an entry in the journal of its
    /// file system, and most files have no other owner than this process gives them.
    fn apply(&self, file: &File) -> io::Result<()> {
        let now = file.metadata()?;
        let is_now = Owner { uid: now.uid(), gid: now.gid() };
        if let Some(Owner { uid, gid }) = self.owner.filter(|owner| *owner != is_now) {
            // Possible for root only, and only a courtesy.
            let _ = fchown(file, Some(uid), Some(gid));
        }
        if now.mode() & 0o7777 != self.mode {
            file.set_permissions(Permissions::from_mode(self.mode))?;
        }
        match self.modified {
            Some(modified) => file.set_modified(modified),
            None => Ok(()),
        }
    }
}
