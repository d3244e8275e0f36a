//! Archives that mean harm, made here so that everybody sees what is in them. None touches anything
//! outside, takes memory or disk that it has not brought, or leaves the reader without words.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use ::tar::{EntryType, Header};

use super::{Placer, UnpackError, unpack, unpack_tar};

/// A header as the archive shall have it, whatever sense it makes.
fn header(name: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    if let Some(place) = header.as_gnu_mut().unwrap().name.get_mut(..name.len()) {
        place.copy_from_slice(name);
    }
    header.set_cksum();
    header
}

/// Blocks of a tar archive, and the two empty ones at its end.
fn tar(blocks: &[&[u8]]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for block in blocks {
        encoder.write_all(block).unwrap();
        encoder.write_all(&vec![0; block.len().next_multiple_of(512) - block.len()]).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap()
}

fn said(archive: &[u8], room: u64) -> Result<(), String> {
    let base = tempfile::tempdir().unwrap();
    let project = base.path().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(base.path().join("victim"), "untouched").unwrap();
    let mut placer = Placer::new(project.canonicalize().unwrap()).unwrap();
    placer.leave_room_for(room);
    let done = unpack_tar(archive, &mut placer).and_then(|()| placer.finish()).and_then(|late| late.apply());
    assert_eq!(fs::read_to_string(base.path().join("victim")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2);
    assert!(bytes_below(&project) <= room);
    done.map_err(|error| gantry_core::error_chain::chain(&error))
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(directory).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(|entry| entry.metadata().unwrap().len()).sum()
}

#[test]
fn sizes_that_no_disk_has_take_none() {
    for size in [1_001, 1 << 40, u64::MAX / 4] {
        let archive = tar(&[header(b"huge", EntryType::Regular, size).as_bytes(), b"x"]);
        let error = said(&archive, 1000).unwrap_err();
        assert!(error.contains("more than 1000 bytes"), "{size}: {error}");
    }
    // A sparse file is small in the archive, and says that it is large.
    let mut sparse = header(b"sparse", EntryType::GNUSparse, 512);
    {
        let gnu = sparse.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00000000000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(b"77777777777\0");
    }
    sparse.set_cksum();
    assert!(said(&tar(&[sparse.as_bytes(), &[1; 512]]), 100_000).is_err());
}

#[test]
fn names_that_never_end_take_no_memory() {
    let length = 64 * 1024 * 1024;
    let name = vec![b'a'; length];
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let archive = tar(&[
            header(b"././@LongLink", kind, length as u64).as_bytes(),
            &name,
            header(b"file", EntryType::Regular, 1).as_bytes(),
            b"x",
        ]);
        assert!(archive.len() < 100_000);
        let error = said(&archive, 1000).unwrap_err();
        assert!(error.contains("header of an entry is far too long"), "{error}");
    }
}

#[test]
fn names_that_are_none_and_names_that_are_odd() {
    for name in [&b".."[..], b"../x", b"/x", b"a/../../x", b"a/./../../x"] {
        let archive = tar(&[header(name, EntryType::Regular, 1).as_bytes(), b"x"]);
        assert!(said(&archive, 1000).unwrap_err().contains("outside of the project"), "{name:?}");
    }
    for name in [&b"a\xff\xfe"[..], b"a b\n\x1b[31m", b"./a", b"a//b", b"-rf", b"C:\\x"] {
        let archive = tar(&[header(name, EntryType::Regular, 1).as_bytes(), b"x"]);
        said(&archive, 1000).unwrap();
    }
    // Only the directory itself.
    said(&tar(&[header(b"./", EntryType::Directory, 0).as_bytes()]), 1000).unwrap();
}

/// The headers of a PAX archive that say these of the next entry.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let digits = (1..9).find(|digits| (digits + rest.len()).to_string().len() == *digits).unwrap();
    let record = format!("{}{rest}", digits + rest.len());
    let head = header(b"pax", EntryType::XHeader, record.len() as u64);
    let fill = vec![0; record.len().next_multiple_of(512) - record.len()];
    [head.as_bytes(), record.as_bytes(), &fill].concat()
}

#[test]
fn what_pax_headers_say_is_looked_at_as_well() {
    let file = header(b"good", EntryType::Regular, 1);
    for (key, value, words) in [
        ("path", "../../evil", "outside of the project"),
        ("path", "/evil", "outside of the project"),
        ("size", "99999999999999", "more than 1000 bytes"),
        ("path", &"n".repeat(70_000), "a path of 70000 bytes"),
        ("path", &"d/".repeat(35_000), "a path of 70000 bytes"),
        ("GNU.sparse.major", "1", "a sparse file as POSIX archives have them"),
    ] {
        let error = said(&tar(&[&pax(key, value), file.as_bytes(), b"x"]), 1000).unwrap_err();
        assert!(error.contains(words) && error.len() < 500, "{key}: {error}");
    }
    let link = header(b"hard", EntryType::Link, 0);
    let error = said(&tar(&[&pax("linkpath", "/etc/passwd"), link.as_bytes()]), 1000).unwrap_err();
    assert!(error.contains("outside of the project"), "{error}");
}

#[test]
fn other_names_of_what_is_no_file_are_named() {
    let link = |name: &[u8], target: &[u8], kind: EntryType| {
        let mut link = header(name, kind, 0);
        link.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target);
        link.set_cksum();
        link
    };
    let hard = |target: &[u8]| link(b"hard", target, EntryType::Link);
    let first = [
        header(b"dir", EntryType::Directory, 0),
        link(b"soft", b"/etc/passwd", EntryType::Symlink),
        header(b"hard", EntryType::Regular, 0),
    ];
    for target in [&b"dir"[..], b"soft", b"hard", b"nothing"] {
        let last = hard(target);
        let blocks: Vec<&[u8]> = first.iter().chain([&last]).map(|head| head.as_bytes().as_slice()).collect();
        let error = said(&tar(&blocks), 1000).unwrap_err();
        let name = String::from_utf8_lossy(target);
        assert!(error.contains(&format!("another name of {name:?}, and there is no such file")), "{error}");
    }
}

#[test]
fn what_takes_room_without_bytes_is_counted() {
    let names: Vec<String> = (0..50).map(|number| format!("d{number}")).collect();
    let heads: Vec<_> = names.iter().map(|name| header(name.as_bytes(), EntryType::Directory, 0)).collect();
    let archive = tar(&heads.iter().map(|head| head.as_bytes().as_slice()).collect::<Vec<_>>());
    said(&archive, 50).unwrap();
    assert!(said(&archive, 49).unwrap_err().contains("more than 49 bytes"));
    let project = tempfile::tempdir().unwrap();
    let mut placer = Placer::new(project.path().canonicalize().unwrap()).unwrap();
    placer.leave_room_for(1000);
    placer.expect(10, 1000).unwrap();
    assert!(placer.expect(10, 1001).unwrap_err().to_string().contains("more than 1000 bytes"));
    assert!(placer.expect(10_000_001, 0).unwrap_err().to_string().contains(" entries"));
}

/// As caches are that were cut where one part of their compression ends and the next begins.
#[test]
fn an_archive_without_its_end_is_no_archive() {
    let file = header(b"file", EntryType::Regular, 1);
    let mut block = vec![b'x'];
    block.resize(512, 0);
    let whole = [file.as_bytes().as_slice(), &block].concat();
    for cut in [512, 1024] {
        let archive = zstd::bulk::compress(&whole[..cut], 1).unwrap();
        let error = said(&archive, 1000).unwrap_err();
        assert!(error.contains("ends before its end") || error.contains("it has 0 bytes and not the 1"), "{error}");
    }
    assert!(said(&zstd::bulk::compress(&[], 1).unwrap(), 1000).unwrap_err().contains("ends before its end"));
    // The ends of all writers: two empty records, and one, which some leave it at.
    for records in [1, 2, 20] {
        let archive = [whole.as_slice(), &vec![0; 512 * records]].concat();
        said(&zstd::bulk::compress(&archive, 1).unwrap(), 1000).unwrap();
    }
}

#[test]
fn entries_that_contradict_each_other_are_an_error_or_the_last_counts() {
    let file = |name: &[u8]| header(name, EntryType::Regular, 1);
    let directory = |name: &[u8]| header(name, EntryType::Directory, 0);
    said(&tar(&[file(b"a").as_bytes(), b"x", file(b"a").as_bytes(), b"y"]), 1000).unwrap();
    said(&tar(&[file(b"a").as_bytes(), b"x", file(b"a/b").as_bytes(), b"y"]), 1000).unwrap();
    said(&tar(&[file(b"a").as_bytes(), b"x", directory(b"a").as_bytes()]), 1000).unwrap();
    let error = said(&tar(&[file(b"a/b").as_bytes(), b"x", file(b"a").as_bytes(), b"y"]), 1000).unwrap_err();
    assert!(error.contains("\"a\" cannot be unpacked"), "{error}");
}

#[test]
fn other_things_than_archives_are_named() {
    let unpacked = |bytes: &[u8]| {
        let project = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        unpack(file, project.path()).map_err(|error: UnpackError| gantry_core::error_chain::chain(&error))
    };
    let zeros = zstd::bulk::compress(&vec![0; 100_000_000], 1).unwrap();
    for (bytes, words) in [
        (&b"\x28\xb5\x2f\xfd"[..], "cannot be read"),
        (b"PK\x05\x06", "damaged"),
        (b"PK\x03\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "damaged"),
        (b"7z\xbc\xaf\x27\x1c", "not a zip archive"),
        (b"\xfd7zXZ\0", "not a zip archive"),
        (&zeros, "goes on behind its end"),
        (&zstd::bulk::compress(&vec![b'a'; 10_000], 1).unwrap(), "cannot be read"),
    ] {
        let error = unpacked(bytes).unwrap_err();
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
}
