//! Unpacks an archive that came over the network: zip (`zip.rs`), or tar compressed with zstd
//! (`tar.rs`). Nothing in it may touch anything outside of the directory (`place.rs`): no absolute
//! names, no `..`, no way through links.

pub(super) mod place;
mod tar;
mod zip;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use self::place::{PATH_MAX, Placer};
use crate::limits::SHOWN_NAME;

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// Not an archive.
    #[error("{0}")]
    Format(&'static str),
    /// A zip archive that cannot be read.
    #[error("the archive is damaged")]
    Zip(#[from] rawzip::Error),
    /// An entry that would leave the project.
    #[error("the archive's entry {name:?} would be written outside of the project directory; nothing of it is")]
    Escape {
        /// As in the archive.
        name: String,
    },
    /// A name that no system takes.
    #[error("the archive's entry {name:?} has a path of {length} bytes, and no system takes one of {most}", most = PATH_MAX)]
    TooLong {
        /// Its beginning.
        name: String,
        /// All of it, in bytes.
        length: usize,
    },
    /// More than there is room for.
    #[error("the archive holds more than {most} {what}, and is not unpacked: it would fill the volume of the project")]
    TooLarge {
        /// How much there may be.
        most: u64,
        /// Of what.
        what: &'static str,
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
    #[error("the archive cannot be read to its end")]
    Read(#[from] io::Error),
}

/// What an archive is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its directory is at its end, so it must be there as a whole.
    Zip,
    /// It can be unpacked as it comes.
    TarZstd,
}

/// Bytes that say what an archive is.
pub(super) const MAGIC: usize = 4;

impl Kind {
    /// Of the archive that begins with `start`: [`MAGIC`] bytes, or fewer if there are no more.
    ///
    /// # Errors
    /// It is none of ours.
    pub(super) fn of(start: &[u8]) -> Result<Self, UnpackError> {
        match start {
            [] => Err(UnpackError::Format("the archive is an empty file")),
            [0x1f, 0x8b, ..] => Err(UnpackError::Format("the archive is gzip, which cannot be unpacked into files")),
            [0x28, 0xb5, 0x2f, 0xfd] => Ok(Self::TarZstd),
            [b'P', b'K', ..] => Ok(Self::Zip),
            [b'<', ..] => {
                Err(UnpackError::Format("what came is no archive but a page: does a proxy or a portal answer?"))
            }
            _ => Err(UnpackError::Format("what came is not a zip archive, and no tar archive with zstd")),
        }
    }
}

/// Unpacks `file` into `project`; the number of entries.
pub(super) fn unpack(mut file: File, project: &Path) -> Result<usize, UnpackError> {
    let mut start = [0; MAGIC];
    let length = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let kind = Kind::of(start.get(..length).unwrap_or_default())?;
    let project = project.canonicalize()?;
    let mut placer = Placer::new(project)?;
    match kind {
        Kind::Zip => unpack_zip(file, &mut placer)?,
        Kind::TarZstd => unpack_tar(file, &mut placer)?,
    }
    let late = placer.finish()?;
    let count = late.count();
    late.apply()?;
    Ok(count)
}

/// A name of an archive, for people: as much of it as they want to read.
fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name.get(..SHOWN_NAME).unwrap_or(name));
    if name.len() > SHOWN_NAME { format!("{text}...") } else { text.into_owned() }
}

/// Unpacks a zip archive.
pub(super) fn unpack_zip(file: File, placer: &mut Placer) -> Result<(), UnpackError> {
    zip::unpack(file, placer)
}

/// Unpacks a tar archive as it comes.
pub(super) fn unpack_tar(input: impl Read + Send, placer: &mut Placer) -> Result<(), UnpackError> {
    tar::unpack(input, placer)
}

#[cfg(test)]
mod tests;
