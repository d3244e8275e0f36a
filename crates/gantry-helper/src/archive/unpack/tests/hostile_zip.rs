//! Zip archives that mean harm, made byte by byte: no library writes such ones.

use std::fs;
use std::io::Write as _;

use super::{Placer, unpack_bytes, unpack_zip};

/// An entry as the archive shall have it: what its directory says of it, and what is there.
#[derive(Default)]
struct ZipEntry<'a> {
    name: &'a [u8],
    mode: u32,
    content: &'a [u8],
    /// Another length than that of the content.
    length: Option<u32>,
    /// Another checksum.
    crc: Option<u32>,
    /// Where it begins, if that is not behind the one before.
    start: Option<u32>,
    /// 64-bit lengths, of the content and of what is stored.
    zip64: Option<(u64, u64)>,
    flags: u8,
    method: u8,
}

impl ZipEntry<'_> {
    /// What both heads of an entry say of it.
    fn fields(&self, extra: &[u8]) -> Vec<u8> {
        let stored = u32::try_from(self.content.len()).unwrap();
        let length = self.length.unwrap_or(stored);
        let stored = if self.zip64.is_some() { u32::MAX } else { stored };
        let crc = self.crc.unwrap_or_else(|| crc32fast::hash(self.content));
        let lengths = [self.name.len(), extra.len()].map(|length| u16::try_from(length).unwrap().to_le_bytes());
        let numbers = [crc, stored, length].map(u32::to_le_bytes);
        // 1980 is its time.
        [&[self.flags, 0, self.method, 0, 0, 0, 0x21, 0][..], &numbers.concat(), &lengths.concat()].concat()
    }

    fn extra(&self) -> Vec<u8> {
        self.zip64.map_or_else(Vec::new, |(length, stored)| {
            [&[1, 0, 16, 0][..], &length.to_le_bytes(), &stored.to_le_bytes()].concat()
        })
    }
}

/// An archive of these entries, which are stored as they are.
fn zip(entries: &[ZipEntry<'_>]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let start = entry.start.unwrap_or(u32::try_from(body.len()).unwrap());
        if entry.start.is_none() {
            body.extend([&b"PK\x03\x04\x14\0"[..], &entry.fields(&[]), entry.name, entry.content].concat());
        }
        let extra = entry.extra();
        // Made on Unix.
        directory.extend([&b"PK\x01\x02\x14\x03\x14\0"[..], &entry.fields(&extra), &[0; 6]].concat());
        directory.extend([(entry.mode << 16).to_le_bytes(), start.to_le_bytes()].concat());
        directory.extend([entry.name, &extra].concat());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let lengths = [directory.len(), body.len()].map(|length| u32::try_from(length).unwrap().to_le_bytes());
    [&body, &directory, &b"PK\x05\x06\0\0\0\0"[..], &count, &count, &lengths.concat(), &[0, 0]].concat()
}

/// What is said of an archive; nothing of it may be left if it is refused before it is begun.
fn said(entries: &[ZipEntry<'_>]) -> (Result<usize, String>, usize) {
    let project = tempfile::tempdir().unwrap();
    let done = unpack_bytes(&zip(entries), project.path());
    let done = done.map_err(|error| gantry_core::error_chain::chain(&error));
    (done, fs::read_dir(project.path()).unwrap().count())
}

#[test]
fn usual_entries_are_taken() {
    let entries = [
        ZipEntry { name: b"d/", mode: 0o040_755, ..ZipEntry::default() },
        ZipEntry { name: b"d/a", mode: 0o100_644, content: b"one", ..ZipEntry::default() },
        ZipEntry { name: b"l", mode: 0o120_777, content: b"d/a", ..ZipEntry::default() },
    ];
    assert_eq!(said(&entries), (Ok(3), 2));
}

#[test]
fn entries_that_lie_one_over_the_other_are_a_bomb() {
    let content = vec![0; 1_000_000];
    let mut entries = vec![ZipEntry { name: b"0", content: &content, ..ZipEntry::default() }];
    let names: Vec<String> = (1..100).map(|number| number.to_string()).collect();
    for name in &names {
        let name = name.as_bytes();
        entries.push(ZipEntry { name, content: &content, start: Some(0), ..ZipEntry::default() });
    }
    let (done, left) = said(&entries);
    assert!(done.unwrap_err().contains("lie one over the other") && left == 0);
}

#[test]
fn lengths_that_are_not_so_are_errors() {
    let with = |length| ZipEntry { name: b"a", content: b"content", length: Some(length), ..ZipEntry::default() };
    for (entry, words) in [
        (with(3), "expected 3, got 7"),
        (with(1000), "expected 1000, got 7"),
        (ZipEntry { zip64: Some((1 << 60, 7)), ..with(u32::MAX) }, "would fill the volume"),
        (ZipEntry { zip64: Some((1 << 60, 1 << 60)), ..with(u32::MAX) }, "would fill the volume"),
        (ZipEntry { crc: Some(7), ..with(7) }, "Invalid checksum"),
    ] {
        let error = said(&[entry]).0.unwrap_err();
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let entry = || ZipEntry { name: b"a", content: b"content", ..ZipEntry::default() };
    for (entry, words) in [
        (ZipEntry { flags: 1, ..entry() }, "are encrypted"),
        (ZipEntry { method: 12, ..entry() }, "by a method that nobody here knows"),
    ] {
        let (done, left) = said(&[entry]);
        assert!(done.unwrap_err().contains(words) && left == 0);
    }
    let mut fewer = zip(&[entry(), ZipEntry { name: b"b", ..entry() }]);
    let end = fewer.len() - 22;
    fewer[end + 8] = 1;
    fewer[end + 10] = 1;
    let project = tempfile::tempdir().unwrap();
    let error = unpack_bytes(&fewer, project.path()).unwrap_err().to_string();
    assert!(error.contains("another number of entries than it says"), "{error}");
    assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
}

#[test]
fn what_does_not_fit_as_a_whole_is_not_begun() {
    let entries = [&b"a"[..], b"b", b"c"].map(|name| ZipEntry { name, content: b"content", ..ZipEntry::default() });
    let project = tempfile::tempdir().unwrap();
    let mut placer = Placer::new(project.path().canonicalize().unwrap()).unwrap();
    placer.leave_room_for(20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&zip(&entries)).unwrap();
    let error = unpack_zip(file, &mut placer).unwrap_err().to_string();
    assert!(error.contains("more than 20 bytes"), "{error}");
    assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
}

#[test]
fn devices_pipes_and_sockets_are_left_out() {
    for kind in [0o060_000, 0o020_000, 0o010_000, 0o140_000] {
        let odd = ZipEntry { name: b"odd", mode: kind | 0o666, content: b"x", ..ZipEntry::default() };
        let file = ZipEntry { name: b"file", mode: 0o104_755, content: b"x", ..ZipEntry::default() };
        assert_eq!(said(&[odd, file]), (Ok(1), 1), "{kind:o}");
    }
}

#[test]
fn a_long_name_fills_no_log() {
    let deep = b"d/".repeat(30_000);
    for name in [&b"n".repeat(65_535)[..], &deep, &b"m".repeat(300)] {
        let entry = ZipEntry { name, content: b"x", ..ZipEntry::default() };
        let error = said(&[entry]).0.unwrap_err();
        assert!(error.len() < 500, "{} bytes", error.len());
    }
}
