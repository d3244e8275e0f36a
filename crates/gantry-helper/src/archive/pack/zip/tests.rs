//! What other readers of zip archives see. That everything comes back as it was is tested beside
//! the unpacking.

use std::io::{self, Cursor, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::archive::root::root;

fn packed(project: &Path, paths: &[&str]) -> zip::ZipArchive<Cursor<Vec<u8>>> {
    let mut out = Vec::new();
    super::zip(Method::Deflated(5), &root(project), &paths.iter().map(PathBuf::from).collect(), &mut out).unwrap();
    zip::ZipArchive::new(Cursor::new(out)).unwrap()
}

#[test]
fn entries_are_as_the_reference_writes_them() {
    let project = tempfile::tempdir().unwrap();
    let path = |name: &str| project.path().join(name);
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("text"), "x".repeat(1000)).unwrap();
    fs::set_permissions(path("text"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(path("short"), "ab").unwrap();
    symlink("text", path("link")).unwrap();
    let mut archive = packed(project.path(), &["directory", "link", "short", "text"]);
    let mut seen = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        let kind = entry.unix_mode().unwrap() & 0o170_000;
        let name = entry.name().unwrap().into_owned();
        seen.push((name.clone(), kind, entry.compression(), text.len()));
        let owned =
            entry.extra_data().unwrap().windows(4).any(|bytes| bytes == [0x75, 0x78, 11, 0] || bytes == *b"ux\x0b\0");
        assert!(owned, "{name}");
    }
    let (stored, deflated) = (zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated);
    assert_eq!(
        seen,
        [
            ("directory/".to_owned(), 0o040_000, stored, 0),
            ("link".to_owned(), 0o120_000, stored, 4),
            ("short".to_owned(), 0o100_000, stored, 2),
            ("text".to_owned(), 0o100_000, deflated, 1000),
        ]
    );
    assert_eq!(archive.by_name("text").unwrap().unix_mode(), Some(0o100_751));
}

/// An output that takes some bytes and then no more, as a connection that breaks.
struct Breaks(usize);

impl Write for Breaks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_breaks_and_a_file_that_vanishes_end_the_packing() {
    let project = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("{number:03}")).collect();
    for name in &names {
        fs::write(project.path().join(name), vec![b'x'; 3 * PACK_PART / 2]).unwrap();
    }
    let paths = names.iter().map(PathBuf::from).collect();
    let error = super::zip(Method::Deflated(5), &root(project.path()), &paths, &mut Breaks(100_000)).unwrap_err();
    assert!(matches!(error, PackError::Out(_)), "{error:?}");

    let held = root(project.path());
    // What a link leads to is not what was chosen.
    let walked = Walk { root: &held, method: Method::Stored, items: sync_channel(9).0, orders: sync_channel(9).0 };
    let metadata = fs::metadata(project.path().join("001")).unwrap();
    fs::remove_file(project.path().join("001")).unwrap();
    symlink("002", project.path().join("001")).unwrap();
    let error = walked.entry(Path::new("001"), metadata).err().unwrap();
    assert_eq!(error.raw_os_error(), Some(nix::libc::ELOOP));
}

#[test]
fn a_file_that_vanishes_is_left_out() {
    let project = tempfile::tempdir().unwrap();
    for name in ["1", "2", "3"] {
        fs::write(project.path().join(name), name).unwrap();
    }
    let held = root(project.path());
    let paths = ["1", "2", "3"].map(PathBuf::from).into();
    let (items, to_write) = sync_channel(99);
    let (orders, to_pack) = sync_channel(99);
    Walk { root: &held, method: Method::Stored, items, orders }.all(&paths);
    // Between the walk and the work.
    fs::remove_file(project.path().join("2")).unwrap();
    workers::work(&held, &Mutex::new(to_pack));
    let mut out = Vec::new();
    write(&to_write, &mut out).unwrap();
    let archive = zip::ZipArchive::new(Cursor::new(out)).unwrap();
    assert_eq!(archive.file_names().map(Result::unwrap).collect::<Vec<_>>(), ["1", "3"]);
}
