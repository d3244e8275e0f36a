//! Archives as GitLab Runner and the system's tools make them: what they say in their own ways is
//! understood.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use ::tar::{Builder, EntryType, Header};
use ::zip::write::{ExtendedFileOptions, FileOptions};
use ::zip::{CompressionMethod, ZipWriter};

use super::{unpack, unpack_bytes};

const TIME: u32 = 1_700_000_001;

/// As Go's writer does: USTAR, with a PAX header where that is not enough.
#[test]
fn tar_archives_with_pax_headers() {
    let long = format!("deps/{}/{}", "d".repeat(150), "f".repeat(150));
    let target = "t".repeat(200);
    let mut archive = Builder::new(zstd::Encoder::new(Vec::new(), 3).unwrap());
    let ustar = |kind: EntryType, size: u64, mode: u32| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(u64::from(TIME));
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    // What holds for all entries says nothing here.
    let mut global = ustar(EntryType::XGlobalHeader, 19, 0o644);
    global.set_path("pax_global_header").unwrap();
    global.set_cksum();
    archive.append(&global, &b"19 comment=a remark"[..19]).unwrap();
    archive.append_data(&mut ustar(EntryType::Directory, 0, 0o750), "deps/", &b""[..]).unwrap();
    let pax =
        [("path", long.as_bytes()), ("mtime", b"1700000001.5"), ("uid", b"1000650000"), ("SCHILY.xattr.user.a", b"b")];
    archive.append_pax_extensions(pax).unwrap();
    let mut short = ustar(EntryType::Regular, 4, 0o640);
    short.set_path("deps/short").unwrap();
    short.set_cksum();
    archive.append(&short, &b"text"[..]).unwrap();
    archive.append_pax_extensions([("linkpath", target.as_bytes())]).unwrap();
    let mut link = ustar(EntryType::Symlink, 0, 0o777);
    link.set_path("deps/link").unwrap();
    link.set_cksum();
    archive.append(&link, &b""[..]).unwrap();
    let bytes = archive.into_inner().unwrap().finish().unwrap();

    let project = tempfile::tempdir().unwrap();
    assert_eq!(unpack_bytes(&bytes, project.path()).unwrap(), 3);
    let file = fs::metadata(project.path().join(&long)).unwrap();
    assert_eq!((file.len(), file.mode() & 0o777, file.mtime()), (4, 0o640, i64::from(TIME)));
    if nix::unistd::geteuid().is_root() {
        assert_eq!(file.uid(), 1_000_650_000);
    }
    assert_eq!(fs::read_link(project.path().join("deps/link")).unwrap().as_os_str().len(), 200);
    let deps = fs::metadata(project.path().join("deps")).unwrap();
    assert_eq!((deps.mode() & 0o777, deps.mtime()), (0o750, i64::from(TIME)));
}

/// Zip archives of all three methods, with the exact time and the owner in extra fields.
#[test]
fn zip_archives_with_extra_fields() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated, CompressionMethod::Zstd] {
        let mut writer = ZipWriter::new(tempfile::tempfile().unwrap());
        let mut options: FileOptions<'_, '_, ExtendedFileOptions> =
            FileOptions::default().compression_method(method).unix_permissions(0o640);
        let mut time = vec![1];
        time.extend(TIME.to_le_bytes());
        let owner = [&[1, 4][..], &1234_u32.to_le_bytes(), &[4], &5678_u32.to_le_bytes()].concat();
        options.add_extra_field(0x5455, time, false).unwrap();
        options.add_extra_field(0x7875, owner, false).unwrap();
        writer.start_file("deps/text", options).unwrap();
        writer.write_all(&b"text ".repeat(100)).unwrap();
        let mut file = writer.finish().unwrap();
        file.rewind().unwrap();
        let project = tempfile::tempdir().unwrap();
        assert_eq!(unpack(file, project.path()).unwrap(), 1);
        let text = fs::metadata(project.path().join("deps/text")).unwrap();
        assert_eq!((text.len(), text.mode() & 0o777, text.mtime()), (500, 0o640, i64::from(TIME)), "{method}");
        if nix::unistd::geteuid().is_root() {
            assert_eq!((text.uid(), text.gid()), (1234, 5678));
        }
    }
}
