//! Zip archives, as the reference and others make them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use flate2::read::DeflateDecoder;
use jiff::tz::TimeZone;
use nix::sys::stat::SFlag;
use rawzip::time::ZipDateTimeKind;
use rawzip::{CompressionMethod, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive, ZipFileHeaderRecord};

use super::place::{Attributes, Entry, Placer, inside};
use super::{UnpackError, shown};
use crate::archive::root::Owner;
use crate::limits::ZSTD_WINDOW_LOG;

pub(super) fn unpack(file: File, placer: &mut Placer) -> Result<(), UnpackError> {
    // The directory is read entry by entry, twice: archives have millions of them.
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer)?;
    // Everything is checked before anything is written.
    check(&archive, &mut buffer, placer)?;
    let mut entries = archive.entries(&mut buffer);
    while let Some(record) = entries.next_entry()? {
        put(&archive, &record, placer)?;
    }
    Ok(())
}

fn put(
    archive: &ZipArchive<FileReader>,
    record: &ZipFileHeaderRecord<'_>,
    placer: &mut Placer,
) -> Result<(), UnpackError> {
    let path = &inside(record.file_path().as_ref())?;
    let kind = kind(record);
    if [SFlag::S_IFBLK, SFlag::S_IFCHR, SFlag::S_IFIFO, SFlag::S_IFSOCK].contains(&kind) {
        // The reference leaves them out, too.
        return Ok(());
    }
    let attributes = attributes(record);
    if record.is_dir() {
        return placer.put(path, Entry::Directory, attributes);
    }
    if record.flags().is_encrypted() {
        return Err(UnpackError::Format("entries of the archive are encrypted, and nobody has said with what"));
    }
    let entry = archive.get_entry(record.wayfinder())?;
    let packed = entry.reader();
    let content: Box<dyn Read> = match record.compression_method() {
        CompressionMethod::STORE => Box::new(packed),
        CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(packed)),
        CompressionMethod::ZSTD => {
            let mut decoder = zstd::Decoder::new(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => return Err(UnpackError::Format("entries of the archive are packed by a method that nobody here knows")),
    };
    let mut content = entry.verifying_reader(content);
    if kind == SFlag::S_IFLNK {
        let mut target = Vec::new();
        let read = content.take(nix::libc::PATH_MAX as u64).read_to_end(&mut target);
        read.map_err(|source| UnpackError::Entry { name: shown(path.as_os_str().as_bytes()), source })?;
        return placer.put(path, Entry::Link(Path::new(OsStr::from_bytes(&target))), attributes);
    }
    placer.put(path, Entry::File(&mut content, record.uncompressed_size_hint()), attributes)
}

/// Whether all of the entries may be unpacked.
fn check(archive: &ZipArchive<FileReader>, buffer: &mut [u8], placer: &Placer) -> Result<(), UnpackError> {
    let said = archive.entries_hint();
    placer.expect(said, 0)?;
    let mut places = Vec::new();
    let mut bytes: u64 = 0;
    let mut entries = archive.entries(buffer);
    while let Some(record) = entries.next_entry()? {
        inside(record.file_path().as_ref())?;
        let (_, end) = archive.get_entry(record.wayfinder())?.compressed_data_range();
        places.push((record.local_header_offset(), end));
        bytes = bytes.saturating_add(record.uncompressed_size_hint());
        placer.expect(places.len() as u64, bytes)?;
    }
    // Old writers count in 16 bits, as does who reads it in the reference.
    if places.len() as u64 % (1 << 16) != said % (1 << 16) {
        return Err(UnpackError::Format("the archive has another number of entries than it says: it is damaged"));
    }
    // How a few bytes become any number of them: nobody else writes such archives.
    places.sort_unstable();
    if places.iter().zip(places.iter().skip(1)).any(|((_, end), (next, _))| end > next) {
        return Err(UnpackError::Format("entries of the archive lie one over the other: it is made to do harm"));
    }
    Ok(())
}

/// What an entry is, by its mode.
fn kind(record: &ZipFileHeaderRecord<'_>) -> SFlag {
    SFlag::from_bits_truncate(record.mode().value()) & SFlag::S_IFMT
}

fn attributes(record: &ZipFileHeaderRecord<'_>) -> Attributes {
    let fallback = if record.is_dir() { 0o777 } else { 0o666 };
    let has_mode = record.external_attributes() != 0;
    Attributes {
        mode: if has_mode { record.mode().permissions() } else { fallback },
        modified: modified(record),
        owner: owner(record.extra_fields().remaining_bytes()),
    }
}

/// Exact where the entry has seconds since 1970, else as the clock showed it where it was packed.
fn modified(record: &ZipFileHeaderRecord<'_>) -> Option<SystemTime> {
    let time: ZipDateTimeKind = record.last_modified();
    let part = |number: u8| i8::try_from(number).ok();
    let civil = jiff::civil::DateTime::new(
        i16::try_from(time.year()).ok()?,
        part(time.month())?,
        part(time.day())?,
        part(time.hour())?,
        part(time.minute())?,
        part(time.second())?,
        i32::try_from(time.nanosecond()).ok()?,
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
