mod hostile;
mod hostile_zip;
mod reference;
mod written;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ::zip::ZipWriter;
use ::zip::write::SimpleFileOptions;

use super::*;
use crate::archive::noise::noise;
use crate::archive::pack::{self, Format};
use crate::archive::root::root;
use crate::archive::select;
use crate::limits::PACK_PART;

/// An archive of `entries`; those with a `->` are links.
fn archive(entries: &[(&str, &str)]) -> File {
    let mut writer = ZipWriter::new(tempfile::tempfile().unwrap());
    for (name, content) in entries {
        if let Some(target) = content.strip_prefix("->") {
            writer.add_symlink(*name, target, SimpleFileOptions::default()).unwrap();
        } else {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
    }
    let mut file = writer.finish().unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn what_is_packed_comes_back_the_same() {
    for format in [Format::Zip, Format::ZipZstd, Format::TarZstd] {
        comes_back_the_same(format);
    }
}

#[test]
fn what_is_sparse_comes_back_sparse() {
    const LENGTH: u64 = 8 * 1024 * 1024;
    for format in [Format::Zip, Format::ZipZstd, Format::TarZstd] {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, places) in
            [("begins", vec![0]), ("ends", vec![LENGTH - 5]), ("both", vec![7, LENGTH - 5]), ("empty", vec![])]
        {
            let mut file = File::create(from.path().join(name)).unwrap();
            file.set_len(LENGTH).unwrap();
            for place in places {
                file.seek(SeekFrom::Start(place)).unwrap();
                file.write_all(b"bytes").unwrap();
            }
        }
        let names = ["begins", "ends", "both", "empty"].map(PathBuf::from);
        let mut archive = tempfile::tempfile().unwrap();
        pack::pack(format.into(), &root(from.path()), &names.clone().into(), &mut archive).unwrap();
        archive.rewind().unwrap();
        assert_eq!(unpack(archive, to.path()).unwrap(), names.len());
        for name in names {
            let (before, after) = (from.path().join(&name), to.path().join(&name));
            assert!(fs::read(&before).unwrap() == fs::read(&after).unwrap(), "{format:?} {name:?}");
            let blocks = fs::metadata(&after).unwrap().blocks() * 512;
            assert!(blocks < LENGTH / 2, "{format:?} {name:?} takes {blocks} bytes");
        }
    }
}

fn comes_back_the_same(format: Format) {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir_all(from.path().join("dist/empty")).unwrap();
    fs::write(from.path().join("dist/run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.path().join("dist/run.sh"), Permissions::from_mode(0o751)).unwrap();
    fs::write(from.path().join("dist/zero"), "").unwrap();
    fs::write(from.path().join("dist/ba\\ck"), "a backslash is a letter").unwrap();
    let odd = OsStr::from_bytes(b"dist/odd-\xff");
    fs::write(from.path().join(odd), "a name that is no text").unwrap();
    fs::write(from.path().join("dist/näme"), "short").unwrap();
    let large: Vec<u8> = (0_u32..).flat_map(|number| (number / 7).to_le_bytes()).take(2 * PACK_PART + 5).collect();
    fs::write(from.path().join("dist/large"), &large).unwrap();
    fs::write(from.path().join("dist/part"), &large[..PACK_PART]).unwrap();
    symlink("run.sh", from.path().join("dist/link")).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_001);
    for name in ["dist/run.sh", "dist/empty", "dist"] {
        File::open(from.path().join(name)).unwrap().set_modified(time).unwrap();
    }
    let paths = ["dist".to_owned()];
    let root = root(from.path());
    let wanted =
        select::SelectRules { project: from.path(), root: &root, paths: &paths, exclude: &[], untracked: None };
    let (found, _) = select::select(&wanted);
    let mut file = tempfile::tempfile().unwrap();
    pack::pack(format.into(), &root, &found, &mut file).unwrap();
    file.rewind().unwrap();

    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("dist")).unwrap();
    fs::write(to.path().join("dist/run.sh"), "old").unwrap();
    assert_eq!(unpack(file, to.path()).unwrap(), 10);
    for path in &found {
        let read = |root: &Path| fs::read(root.join(path)).map_err(|error| error.kind());
        assert!(read(from.path()) == read(to.path()), "{format:?} {}", path.display());
    }
    let script = fs::metadata(to.path().join("dist/run.sh")).unwrap();
    assert_eq!((script.mode() & 0o777, script.mtime()), (0o751, 1_700_000_001));
    assert_eq!(fs::read_to_string(to.path().join("dist/run.sh")).unwrap(), "#!/bin/sh\n");
    assert_eq!(fs::read_link(to.path().join("dist/link")).unwrap(), Path::new("run.sh"));
    assert_eq!(fs::metadata(to.path().join("dist")).unwrap().mtime(), 1_700_000_001);
    assert_eq!(fs::metadata(to.path().join("dist/empty")).unwrap().mtime(), 1_700_000_001);
    assert_eq!(fs::metadata(to.path().join("dist/zero")).unwrap().len(), 0);
}

#[test]
fn entries_that_would_leave_the_project_are_refused() {
    for name in ["../evil", "/evil", "a/../../evil", "a/.."] {
        let project = tempfile::tempdir().unwrap();
        let error = unpack(archive(&[("good", "x"), (name, "x")]), project.path()).unwrap_err();
        assert!(matches!(error, UnpackError::Escape { .. }), "{name}: {error}");
        assert!(!project.path().join("good").exists(), "nothing is written of an archive like this");
    }
}

#[test]
fn links_lead_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    let project = tempfile::tempdir().unwrap();
    symlink(outside.path(), project.path().join("out")).unwrap();
    let error = unpack(archive(&[("out/evil", "x")]), project.path()).unwrap_err();
    assert!(matches!(error, UnpackError::Escape { .. }), "{error}");

    let target = format!("->{}", outside.path().display());
    unpack(archive(&[("away", target.as_str()), ("away/evil", "x")]), project.path()).unwrap_err();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);

    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, project.path().join("file")).unwrap();
    unpack(archive(&[("file", "new")]), project.path()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(project.path().join("file")).unwrap(), "new");
}

/// Repositories have empty directories where submodules are not fetched.
#[test]
fn an_empty_directory_makes_way_for_a_file() {
    for content in ["new", "->elsewhere"] {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir(project.path().join("module")).unwrap();
        unpack(archive(&[("module", content)]), project.path()).unwrap();
        assert!(!fs::symlink_metadata(project.path().join("module")).unwrap().is_dir());
        let project = tempfile::tempdir().unwrap();
        fs::create_dir_all(project.path().join("module/of/others")).unwrap();
        let error = unpack(archive(&[("module", content)]), project.path()).unwrap_err();
        assert!(matches!(error, UnpackError::Entry { .. }) && project.path().join("module/of/others").is_dir());
    }
}

#[test]
fn other_formats_and_damage_are_clear_errors() {
    let project = tempfile::tempdir().unwrap();
    for (bytes, words) in [
        (&b""[..], "empty"),
        (&b"\x1f\x8bxxxx"[..], "gzip"),
        (&b"<html>"[..], "no archive but a page"),
        (&b"PK\x03\x04 but no more"[..], "damaged"),
    ] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let error = unpack(file, project.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A tar archive of these entries, compressed.
fn tarred(entries: &[(&str, ::tar::EntryType, &str)]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    let mut archive = ::tar::Builder::new(encoder);
    for (name, kind, content) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let is_link = kind.is_symlink() || kind.is_hard_link();
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        // Not by the library's own way, which refuses such names.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, if is_link { &b""[..] } else { content.as_bytes() }).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn unpack_bytes(bytes: &[u8], project: &Path) -> Result<usize, UnpackError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    unpack(file, project)
}

#[test]
fn hostile_tar_archives_touch_nothing_outside() {
    use ::tar::EntryType as Kind;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "untouched").unwrap();
    let away = outside.path().display().to_string();
    let victim = format!("{away}/victim");
    for entries in [
        vec![("../evil", Kind::Regular, "x")],
        vec![("/evil", Kind::Regular, "x")],
        vec![("a/../../evil", Kind::Regular, "x")],
        vec![("away", Kind::Symlink, away.as_str()), ("away/evil", Kind::Regular, "x")],
        vec![("hard", Kind::Link, victim.as_str())],
        vec![("hard", Kind::Link, "../victim")],
        vec![("soft", Kind::Symlink, victim.as_str()), ("hard", Kind::Link, "soft")],
        vec![("dir", Kind::Directory, ""), ("dir", Kind::Symlink, away.as_str()), ("dir/evil", Kind::Regular, "x")],
    ] {
        let project = tempfile::tempdir_in(outside.path()).unwrap();
        let result = unpack_bytes(&tarred(&entries), project.path());
        assert!(result.is_err(), "{:?}", entries[0]);
        assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "untouched");
        assert!(!outside.path().join("evil").exists(), "{:?}", entries[0]);
    }
    let project = tempfile::tempdir().unwrap();
    let entries = [("a", Kind::Regular, "x"), ("b", Kind::Link, "a"), ("dev", Kind::Char, "")];
    assert_eq!(unpack_bytes(&tarred(&entries), project.path()).unwrap(), 2);
    assert_eq!(fs::read_to_string(project.path().join("b")).unwrap(), "x");
}

#[test]
fn truncated_and_damaged_tar_archives_are_errors() {
    let mut noise = String::new();
    for number in 0..5000_u32 {
        std::fmt::Write::write_fmt(&mut noise, format_args!("{:08x}", number.wrapping_mul(2_654_435_761))).unwrap();
    }
    let whole = tarred(&[("a", ::tar::EntryType::Regular, noise.as_str())]);
    for cut in [5, whole.len() / 2, whole.len() - 1] {
        let project = tempfile::tempdir().unwrap();
        assert!(unpack_bytes(&whole[..cut], project.path()).is_err(), "cut at {cut}");
    }
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    assert!(unpack_bytes(&flipped, tempfile::tempdir().unwrap().path()).is_err());
}

/// Also one that ends where a part of its compression does, before large files that come last.
#[test]
fn no_part_of_a_cache_is_taken_for_all_of_it() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("noise"), noise(1, 1_500_000)).unwrap();
    fs::write(from.path().join("text"), "text ".repeat(1000)).unwrap();
    let paths = ["noise", "text"].map(PathBuf::from).into();
    let mut archive = Vec::new();
    let tail = pack::pack_head(Format::TarZstd.into(), &root(from.path()), &paths, &mut archive).unwrap().unwrap();
    let head = archive.len();
    tail.write(&mut archive).unwrap();
    let length = archive.len();
    // What the archive says of itself is behind its end.
    let end = length - crate::archive::tree::TRAILER;
    for cut in (0..length).step_by(100_003).chain([head - 1, head, head + 1, end - 1, end + 1, length - 1]) {
        let project = tempfile::tempdir().unwrap();
        assert!(unpack_bytes(&archive[..cut], project.path()).is_err(), "cut at {cut} of {length}");
    }
    for whole in [end, length] {
        let project = tempfile::tempdir().unwrap();
        assert_eq!(unpack_bytes(&archive[..whole], project.path()).unwrap(), 2);
    }
}

#[test]
fn bombs_are_not_unpacked() {
    let project = tempfile::tempdir().unwrap();
    let mut placer = Placer::new(project.path().canonicalize().unwrap()).unwrap();
    placer.leave_room_for(1000);
    let bomb = tarred(&[("zeros", ::tar::EntryType::Regular, "0".repeat(100_000).as_str())]);
    let error = unpack_tar(bomb.as_slice(), &mut placer).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { most: 1000, .. }), "{error}");
    assert!(!project.path().join("zeros").exists());
}

/// Archives with some bytes changed: whatever they have become, nothing outside of the directory is
/// touched, and nothing panics.
#[test]
fn mutated_archives_do_no_harm() {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir_all(from.path().join("a/b")).unwrap();
    fs::write(from.path().join("a/b/text"), "some text ".repeat(50)).unwrap();
    fs::write(from.path().join("a/zero"), "").unwrap();
    symlink("b/text", from.path().join("a/link")).unwrap();
    let paths = ["a".to_owned()];
    let root = root(from.path());
    let wanted =
        select::SelectRules { project: from.path(), root: &root, paths: &paths, exclude: &[], untracked: None };
    let (found, _) = select::select(&wanted);
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(chance >> 33).unwrap() % below
    };
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("victim"), "untouched").unwrap();
    for format in [Format::Zip, Format::ZipZstd, Format::TarZstd] {
        let mut whole = Vec::new();
        pack::pack(format.into(), &root, &found, &mut whole).unwrap();
        // Behind the compression mutations rarely survive it, so those of a tar archive are made
        // below it.
        let plain = (format == Format::TarZstd).then(|| zstd::decode_all(whole.as_slice()).unwrap());
        for _ in 0..300 {
            let mut bytes = plain.clone().unwrap_or_else(|| whole.clone());
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                bytes[at] = u8::try_from(next(256)).unwrap();
            }
            let bytes = if plain.is_some() { zstd::bulk::compress(&bytes, 1).unwrap() } else { bytes };
            let project = base.path().join("project");
            fs::create_dir(&project).unwrap();
            let _ = unpack_bytes(&bytes, &project);
            fs::remove_dir_all(&project).unwrap();
            let left: Vec<_> = fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, ["victim"]);
        }
        assert_eq!(fs::read_to_string(base.path().join("victim")).unwrap(), "untouched");
    }
}
