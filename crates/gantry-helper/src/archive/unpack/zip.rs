//! Zip archives, as the reference and others make them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use nix::sys::stat::SFlag;
use zip::ZipArchive;
use zip::extra_fields::ExtraField;
use zip::read::ZipFile;

use super::place::{Attributes, Entry, Placer, inside};
use super::{UnpackError, shown};
use crate::archive::root::Owner;

pub(super) fn unpack(file: File, placer: &mut Placer) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(io::BufReader::new(file))?;
    // Everything is checked before anything is written.
    check(&mut archive, placer)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        // Made anew and not kept: the archive has all names in memory already.
        let path = &inside(entry.name_raw())?;
        if is_irregular(&entry) {
            continue;
        }
        let attributes = attributes(&entry);
        if entry.is_dir() {
            placer.put(path, Entry::Directory, attributes)?;
        } else if entry.is_symlink() {
            let mut target = Vec::new();
            let read = (&mut entry).take(nix::libc::PATH_MAX as u64).read_to_end(&mut target);
            read.map_err(|source| UnpackError::Entry { name: shown(path.as_os_str().as_bytes()), source })?;
            placer.put(path, Entry::Link(Path::new(OsStr::from_bytes(&target))), attributes)?;
        } else {
            let length = entry.size();
            placer.put(path, Entry::File(&mut entry, length), attributes)?;
        }
    }
    Ok(())
}

/// Whether all of the entries may be unpacked.
fn check<R: Read + Seek>(archive: &mut ZipArchive<R>, placer: &Placer) -> Result<(), UnpackError> {
    let count = archive.len();
    placer.expect(count as u64, 0)?;
    let mut places = Vec::with_capacity(count);
    let mut bytes: u64 = 0;
    for index in 0..count {
        let entry = archive.by_index_raw(index)?;
        inside(entry.name_raw())?;
        let start = entry.data_start().unwrap_or_else(|| entry.header_start());
        places.push((entry.header_start(), start.saturating_add(entry.compressed_size())));
        bytes = bytes.saturating_add(entry.size());
    }
    // How a few bytes become any number of them: nobody else writes such archives.
    places.sort_unstable();
    if places.iter().zip(places.iter().skip(1)).any(|((_, end), (next, _))| end > next) {
        return Err(UnpackError::Format("entries of the archive lie one over the other: it is made to do harm"));
    }
    placer.expect(0, bytes)
}

/// Whether an entry is a device, a pipe or a socket, which the reference leaves out too.
fn is_irregular<R: Read>(entry: &ZipFile<'_, R>) -> bool {
    let Some(mode) = entry.unix_mode() else { return false };
    let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    [SFlag::S_IFBLK, SFlag::S_IFCHR, SFlag::S_IFIFO, SFlag::S_IFSOCK].contains(&kind)
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
