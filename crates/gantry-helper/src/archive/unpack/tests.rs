use std::ffi::OsStr;
use std::io::{Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use gantry_wire::plan::ArtifactFormat;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::archive::root::root;
use crate::archive::{pack, select};
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
    let wanted = select::Wanted { project: from.path(), root: &root, paths: &paths, exclude: &[], untracked: None };
    let (found, _) = select::select(&wanted);
    let mut file = tempfile::tempfile().unwrap();
    pack::pack(ArtifactFormat::Zip, &root, &found, &mut file).unwrap();
    file.rewind().unwrap();

    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("dist")).unwrap();
    fs::write(to.path().join("dist/run.sh"), "old").unwrap();
    assert_eq!(unpack(file, to.path()).unwrap(), 10);
    for path in &found {
        let read = |root: &Path| fs::read(root.join(path)).map_err(|error| error.kind());
        assert!(read(from.path()) == read(to.path()), "{}", path.display());
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

#[test]
fn other_formats_and_damage_are_clear_errors() {
    let project = tempfile::tempdir().unwrap();
    for (bytes, words) in [
        (&b""[..], "empty"),
        (&b"\x1f\x8bxxxx"[..], "gzip"),
        (&b"<html>"[..], "not a zip"),
        (&b"PK\x03\x04 but no more"[..], "damaged"),
    ] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let error = unpack(file, project.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
