//! Unpacks an archive that came over the network. Nothing in it may touch anything outside of the project: no absolute names, no `..`,
//! no way through links. Links are made last, so that no entry is written through one of the same archive.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use zip::ZipArchive;
use zip::extra_fields::ExtraField;
use zip::read::ZipFile;

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// Not what artifacts are.
    #[error("{0}")]
    Format(&'static str),
    /// A zip archive that cannot be read.
    #[error("the archive is damaged")]
    Zip(#[from] zip::result::ZipError),
    /// An entry that would leave the project.
    #[error("the archive's entry {name:?} would be written outside of the project directory; nothing of it is")]
    Escape {
        /// As in the archive.
        name: String,
    },
    /// An entry cannot be written or read.
    #[error("the archive's entry {name:?} cannot be unpacked")]
    Entry {
        /// As in the archive.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The archive itself cannot be read.
    #[error("the archive cannot be read")]
    Read(#[from] io::Error),
}

/// Unpacks `file` into `project`; the number of entries.
pub(super) fn unpack(mut file: File, project: &Path) -> Result<usize, UnpackError> {
    refuse_other_formats(&mut file)?;
    let project = project.canonicalize()?;
    let mut archive = ZipArchive::new(io::BufReader::new(file))?;
    // Everything is checked before anything is written.
    let names = checked_names(&mut archive)?;
    let mut late = Late::default();
    for (index, path) in names.iter().enumerate() {
        let mut entry = archive.by_index(index)?;
        let name = path.to_string_lossy().into_owned();
        place(&mut entry, &project, path, &mut late).map_err(|problem| problem.of(name))?;
    }
    late.finish(&project)?;
    Ok(names.len())
}

fn refuse_other_formats(file: &mut File) -> Result<(), UnpackError> {
    let mut start = [0; 4];
    let length = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    match start.get(..length).unwrap_or_default() {
        [] => Err(UnpackError::Format("the artifacts are an empty file")),
        [0x1f, 0x8b, ..] => Err(UnpackError::Format("the artifacts are gzip, which cannot be unpacked into files")),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Err(UnpackError::Format("the artifacts are a tar archive with zstd, which is not supported yet; use zip"))
        }
        [b'P', b'K', ..] => Ok(()),
        _ => Err(UnpackError::Format("the artifacts are not a zip archive")),
    }
}

fn checked_names<R: Read + Seek>(archive: &mut ZipArchive<R>) -> Result<Vec<PathBuf>, UnpackError> {
    let mut names = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        // A name is bytes, as on the file system.
        let path = Path::new(OsStr::from_bytes(entry.name_raw()));
        let name = || path.to_string_lossy().into_owned();
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || entry.name_raw().contains(&0) || path.components().next().is_none() {
            return Err(UnpackError::Escape { name: name() });
        }
        names.push(path.components().filter(|part| matches!(part, Component::Normal(_))).collect());
    }
    Ok(names)
}

/// What must wait until all files are in place.
#[derive(Default)]
struct Late {
    links: Vec<(PathBuf, PathBuf)>,
    directories: Vec<(PathBuf, Attributes)>,
}

/// What an entry says about its file beside the content.
struct Attributes {
    mode: Option<u32>,
    modified: Option<SystemTime>,
    owner: Option<(u32, u32)>,
}

/// What went wrong with one entry.
enum Problem {
    Escape,
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Problem {
    fn of(self, name: String) -> UnpackError {
        match self {
            Self::Escape => UnpackError::Escape { name },
            Self::Io(source) => UnpackError::Entry { name, source },
        }
    }
}

fn place<R: Read>(entry: &mut ZipFile<'_, R>, project: &Path, path: &Path, late: &mut Late) -> Result<(), Problem> {
    let attributes = attributes(entry);
    if entry.is_dir() {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let full = make_parents(project, path)?;
        make_directory(&full)?;
        late.directories.push((full, attributes));
        return Ok(());
    }
    let full = make_parents(project, path)?;
    if entry.is_symlink() {
        let mut target = String::new();
        entry.take(nix::libc::PATH_MAX as u64).read_to_string(&mut target)?;
        late.links.push((path.to_owned(), PathBuf::from(target)));
        return Ok(());
    }
    clear_the_way(&full)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&full)?;
    io::copy(entry, &mut file)?;
    attributes.apply(&full, &file)?;
    Ok(())
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

/// Removes a file or link that is in the way; never what a link points to.
fn clear_the_way(full: &Path) -> io::Result<()> {
    match fs::symlink_metadata(full) {
        Ok(_) => fs::remove_file(full),
        Err(_) => Ok(()),
    }
}

impl Late {
    fn finish(self, project: &Path) -> Result<(), UnpackError> {
        for (path, target) in self.links {
            let link = || -> Result<(), Problem> {
                let full = make_parents(project, &path)?;
                clear_the_way(&full)?;
                Ok(symlink(&target, &full)?)
            };
            link().map_err(|problem| problem.of(path.to_string_lossy().into_owned()))?;
        }
        // The deepest first: writing into a directory changes its time.
        for (full, attributes) in self.directories.into_iter().rev() {
            let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_DIRECTORY;
            let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&full);
            if let Ok(directory) = opened {
                attributes
                    .apply(&full, &directory)
                    .map_err(|source| UnpackError::Entry { name: full.to_string_lossy().into_owned(), source })?;
            }
        }
        Ok(())
    }
}

impl Attributes {
    fn apply(&self, path: &Path, file: &File) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            // Possible for root only, and only a courtesy.
            let _ = lchown(path, Some(uid), Some(gid));
        }
        // No mode at all is what archives from other systems have.
        file.set_permissions(Permissions::from_mode(self.mode.unwrap_or(0o666)))?;
        match self.modified {
            Some(modified) => file.set_modified(modified),
            None => Ok(()),
        }
    }
}

fn attributes<R: Read>(entry: &ZipFile<'_, R>) -> Attributes {
    let fallback = if entry.is_dir() { 0o777 } else { 0o666 };
    Attributes {
        mode: Some(entry.unix_mode().map_or(fallback, |mode| mode & 0o777)),
        modified: modified(entry),
        owner: entry.extra_data().and_then(|data| owner(&data)),
    }
}

fn modified<R: Read>(entry: &ZipFile<'_, R>) -> Option<SystemTime> {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    if let Some(seconds) = exact {
        return Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(seconds)));
    }
    let rough = entry.last_modified()?;
    let part = |number: u8| i8::try_from(number).ok();
    let civil = jiff::civil::DateTime::new(
        i16::try_from(rough.year()).ok()?,
        part(rough.month())?,
        part(rough.day())?,
        part(rough.hour())?,
        part(rough.minute())?,
        part(rough.second())?,
        0,
    );
    Some(civil.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

/// User and group of the extra field 0x7875, where both have the usual four bytes.
fn owner(mut data: &[u8]) -> Option<(u32, u32)> {
    while let [id_low, id_high, size_low, size_high, rest @ ..] = data {
        let size = usize::from(u16::from_le_bytes([*size_low, *size_high]));
        let (field, tail) = rest.split_at_checked(size)?;
        if u16::from_le_bytes([*id_low, *id_high]) == 0x7875 {
            let [1, 4, u0, u1, u2, u3, 4, g0, g1, g2, g3] = field else { return None };
            return Some((u32::from_le_bytes([*u0, *u1, *u2, *u3]), u32::from_le_bytes([*g0, *g1, *g2, *g3])));
        }
        data = tail;
    }
    None
}

#[cfg(test)]
mod tests;
