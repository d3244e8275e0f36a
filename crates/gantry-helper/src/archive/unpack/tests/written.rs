//! Archives that GitLab Runner's own helper wrote (`tests/archives/README.md`) come back whole.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::unpack_bytes;

const TIME: i64 = 1_700_000_000;

/// Directories, files and links; a pipe was there too, and is in no archive.
const ENTRIES: usize = 27;

fn comes_back(archive: &[u8], old: i64, late: i64) {
    let project = tempfile::tempdir().unwrap();
    assert_eq!(unpack_bytes(archive, project.path()).unwrap(), ENTRIES);
    let at = |name: &[u8]| project.path().join("t").join(OsStr::from_bytes(name));
    let deep = ["d".repeat(100).as_str(); 4].join("/") + "/deep";
    let (text, long, zeros) = (b"0123456789abcdef".repeat(30_000), "n".repeat(250), vec![0; 300_000]);
    let files: [(&[u8], &[u8], u32, i64); 16] = [
        (b"plain", b"hello\n", 0o644, TIME),
        (b"hard", b"hello\n", 0o644, TIME),
        (b"run", b"#!/bin/sh\n", 0o755, TIME),
        // No bit that lends rights comes out of an archive.
        (b"set-uid", b"s", 0o755, TIME),
        (b"closed", b"", 0, TIME),
        (b"latin-\xe4", b"x", 0o644, TIME),
        ("ütf8-日本".as_bytes(), b"x", 0o644, TIME),
        (b"back\\slash", b"x", 0o644, TIME),
        (b"new\nline", b"x", 0o644, TIME),
        (b" spaces ", b"x", 0o644, TIME),
        (deep.as_bytes(), b"x", 0o644, TIME),
        (long.as_bytes(), b"x", 0o644, TIME),
        (b"before-1970", b"x", 0o644, old),
        (b"in-2255", b"x", 0o644, late),
        (b"zeros", &zeros, 0o644, TIME),
        (b"text", &text, 0o644, TIME),
    ];
    for (name, content, mode, time) in files {
        let (path, shown) = (at(name), String::from_utf8_lossy(name));
        let found = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!((found.mode() & 0o7777, found.mtime()), (mode, time), "{shown}");
        if mode == 0 {
            assert_eq!(found.len(), 0);
        } else {
            assert!(fs::read(&path).unwrap() == content, "{shown}");
        }
    }
    let long = "x".repeat(200);
    let links: [(&[u8], &[u8]); 5] = [
        (b"link", b"plain"),
        (b"dangling", b"nowhere"),
        (b"outside", b"/etc/passwd"),
        (b"odd-target", b"\xff"),
        (b"long-target", long.as_bytes()),
    ];
    for (name, target) in links {
        assert_eq!(fs::read_link(at(name)).unwrap(), Path::new(OsStr::from_bytes(target)));
    }
    let empty = fs::metadata(at(b"empty")).unwrap();
    assert!(empty.is_dir() && (empty.mode() & 0o777, empty.mtime()) == (0o700, TIME));
    let all: Vec<PathBuf> =
        walkdir::WalkDir::new(project.path().join("t")).into_iter().map(|entry| entry.unwrap().into_path()).collect();
    assert_eq!(all.len(), ENTRIES);
}

#[test]
fn tar_archives_of_a_library_that_writes_its_last_checksum_twice() {
    comes_back(include_bytes!("../../../../tests/archives/17.9.tar.zst"), -86_400, 9_000_000_000);
}

#[test]
fn tar_archives() {
    comes_back(include_bytes!("../../../../tests/archives/18.5.tar.zst"), -86_400, 9_000_000_000);
}

/// A time is as much of it as fits into 32 bits without a sign.
#[test]
fn zip_archives() {
    let archives: [&[u8]; 2] = [
        include_bytes!("../../../../tests/archives/17.9.zip"),
        include_bytes!("../../../../tests/archives/18.5-fastzip.zip"),
    ];
    for archive in archives {
        comes_back(archive, (1 << 32) - 86_400, 9_000_000_000 % (1 << 32));
    }
}
