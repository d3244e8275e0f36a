//! Zip archives, as the reference and others make them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use zip::ZipArchive;
use zip::extra_fields::ExtraField;
use zip::read::ZipFile;

use super::UnpackError;
use super::place::{Attributes, Entry, Placer, inside};
use crate::archive::root::Owner;

pub(super) fn unpack(file: File, placer: &mut Placer) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(io::BufReader::new(file))?;
    // Everything is checked before anything is written.
    let names = checked_names(&mut archive)?;
    for (index, path) in names.iter().enumerate() {
        let mut entry = archive.by_index(index)?;
        let attributes = attributes(&entry);
        if entry.is_dir() {
            placer.put(path, Entry::Directory, attributes)?;
        } else if entry.is_symlink() {
            let mut target = Vec::new();
            let read = (&mut entry).take(nix::libc::PATH_MAX as u64).read_to_end(&mut target);
            read.map_err(|source| UnpackError::Entry { name: path.to_string_lossy().into_owned(), source })?;
            placer.put(path, Entry::Link(Path::new(OsStr::from_bytes(&target))), attributes)?;
        } else {
            let length = entry.size();
            placer.put(path, Entry::File(&mut entry, length), attributes)?;
        }
    }
    Ok(())
}

fn checked_names<R: Read + Seek>(archive: &mut ZipArchive<R>) -> Result<Vec<PathBuf>, UnpackError> {
    let mut names = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        names.push(inside(entry.name_raw())?);
    }
    Ok(names)
}

fn attributes<R: Read>(entry: &ZipFile<'_, R>) -> Attributes {
    let fallback = if entry.is_dir() { 0o777 } else { 0o666 };
    Attributes {
        mode: entry.unix_mode().map_or(fallback, |mode| mode & 0o777),
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
fn owner(mut data: &[u8]) -> Option<Owner> {
    while let [id_low, id_high, size_low, size_high, rest @ ..] = data {
        let size = usize::from(u16::from_le_bytes([*size_low, *size_high]));
        let (field, tail) = rest.split_at_checked(size)?;
        if u16::from_le_bytes([*id_low, *id_high]) == 0x7875 {
            let [1, 4, u0, u1, u2, u3, 4, g0, g1, g2, g3] = field else { return None };
            let id = |bytes| u32::from_le_bytes(bytes);
            return Some(Owner { uid: id([*u0, *u1, *u2, *u3]), gid: id([*g0, *g1, *g2, *g3]) });
        }
        data = tail;
    }
    None
}
