use std::fs::{self, File};

use super::entries::{Apart, Large};
use super::*;
use crate::archive::noise::noise;
use crate::archive::pack::{Format, pack, pack_head};
use crate::archive::root::root;
use crate::archive::tree::{TreeDigest, is_same};

/// Larger than what is read whole, and than what is hashed with the others.
const LARGE: usize = 1_500_000;

/// A project with files of every kind, and their paths.
fn project() -> (tempfile::TempDir, BTreeSet<PathBuf>) {
    let project = tempfile::tempdir().unwrap();
    let half = [noise(1, LARGE / 2), vec![b'x'; LARGE / 2]].concat();
    for (name, content) in [
        ("a-noise", noise(2, LARGE)),
        ("b-text", vec![b'b'; LARGE]),
        ("c-small", b"small".to_vec()),
        ("d-half", half),
        ("e-middle", noise(3, 100_000)),
        ("f-noise", noise(4, LARGE + 1)),
    ] {
        fs::write(project.path().join(name), content).unwrap();
    }
    let names = ["a-noise", "b-text", "c-small", "d-half", "e-middle", "f-noise", "gone"];
    (project, names.map(PathBuf::from).into())
}

/// Names and contents, in the order of the archive.
fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive).unwrap());
    let entry = |entry: io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    };
    archive.entries().unwrap().map(entry).collect()
}

#[test]
fn what_does_not_shrink_comes_last_and_as_it_is() {
    let (project, paths) = project();
    let root = root(project.path());
    let mut head = Vec::new();
    let tail = pack_head(Format::TarZstd.into(), &root, &paths, &mut head).unwrap().unwrap();
    assert!(head.len() < LARGE, "{} bytes are compressed", head.len());
    // As often as somebody wants it.
    for _ in 0..2 {
        let mut rest = Vec::new();
        tail.write(&mut rest).unwrap();
        assert_eq!(rest.len() as u64, tail.length());
        let archive = [head.as_slice(), &rest].concat();
        let entries = entries(&archive);
        let order: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(order, ["b-text", "c-small", "d-half", "e-middle", "a-noise", "f-noise"]);
        for (name, content) in &entries {
            assert!(*content == fs::read(project.path().join(name)).unwrap(), "{name}");
        }
        let known = TreeDigest::of_end(&archive).unwrap();
        assert!(is_same(&root, &paths, &known).unwrap());
    }
    for (name, length) in [("a-noise", LARGE), ("f-noise", LARGE + 1)] {
        let mut archive = Vec::new();
        pack(Format::TarZstd.into(), &root, &paths, &mut archive).unwrap();
        let known = TreeDigest::of_end(&archive).unwrap();
        fs::write(project.path().join(name), noise(9, length)).unwrap();
        assert!(!is_same(&root, &paths, &known).unwrap(), "{name} has changed");
    }
}

#[test]
fn a_file_that_changes_before_it_is_written_changes_no_length() {
    let (project, paths) = project();
    let root = root(project.path());
    let mut archive = Vec::new();
    let tail = pack_head(Format::TarZstd.into(), &root, &paths, &mut archive).unwrap().unwrap();
    File::options().write(true).open(project.path().join("a-noise")).unwrap().set_len(10).unwrap();
    fs::remove_file(project.path().join("f-noise")).unwrap();
    let before = archive.len() as u64;
    tail.write(&mut archive).unwrap();
    assert_eq!(archive.len() as u64, before + tail.length());
    let entries = entries(&archive);
    let content = |name: &str| &entries.iter().find(|(entry, _)| entry == name).unwrap().1;
    assert!(*content("a-noise") == [&noise(2, LARGE)[..10], &vec![0; LARGE - 10]].concat());
    assert!(*content("f-noise") == noise(4, LARGE + 1));
}

#[test]
fn no_more_files_are_held_open_than_may_be() {
    let (project, paths) = project();
    let root = root(project.path());
    let mut archive = Vec::new();
    let tail = head_before(1, 3, &root, &paths, &mut archive).unwrap();
    assert_eq!(tail.length() / LARGE as u64, 1);
    tail.write(&mut archive).unwrap();
    assert_eq!(entries(&archive).len(), 6);
    assert!(is_same(&root, &paths, &TreeDigest::of_end(&archive).unwrap()).unwrap());
}

/// A job makes files without content as long as it likes, and that many of them.
#[test]
fn lengths_that_no_archive_has_are_the_largest() {
    let mut tail = Tail::default();
    for _ in 0..3 {
        let content = Large { path: "a".into(), file: tempfile::tempfile().unwrap(), length: i64::MAX as u64 };
        tail.add(Apart { head: vec![0; 512], content });
    }
    assert_eq!(tail.length(), u64::MAX);
}
