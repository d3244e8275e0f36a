//! Makes one file of the chosen ones, in the formats of GitLab Runner 19.4. Files are streamed; nothing grows with their size.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use gantry_wire::plan::ArtifactFormat;
use jiff::Timestamp;
use zip::write::{FullFileOptions, SimpleFileOptions};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::root::Root;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// A chosen file cannot be read, or the result not be written.
    #[error("{path} cannot be packed")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The archive refuses an entry.
    #[error("{path} cannot be put into the archive")]
    Zip {
        path: String,
        #[source]
        source: zip::result::ZipError,
    },
    /// Raw artifacts are one file.
    #[error("only one file can be sent as raw; {0} were found")]
    NotOne(usize),
}

/// The extra field for user and group (Info-ZIP, `ux`).
const UNIX_OWNER: u16 = 0x7875;

/// Packs `paths`, which are relative to `root`, into `out`.
pub(super) fn pack(
    format: ArtifactFormat,
    root: &Root,
    paths: &BTreeSet<PathBuf>,
    out: &mut File,
) -> Result<(), PackError> {
    match format {
        ArtifactFormat::Zip => zip(root, paths, out),
        ArtifactFormat::Gzip => gzip(root, paths, out),
        ArtifactFormat::Raw => raw(root, paths, out),
    }
}

fn zip(root: &Root, paths: &BTreeSet<PathBuf>, out: &mut File) -> Result<(), PackError> {
    let mut archive = ZipWriter::new(BufWriter::new(out)).set_auto_large_file();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(root.path().join(path)) else { continue };
        add(&mut archive, root, path, &metadata)?;
    }
    let finished = archive.finish().map_err(|source| zip_error("the archive", source))?;
    finished.into_inner().map(|_| ()).map_err(|error| io_error("the archive", error.into_error()))
}

fn add<W: Write + Seek>(
    archive: &mut ZipWriter<W>,
    root: &Root,
    path: &Path,
    metadata: &Metadata,
) -> Result<(), PackError> {
    let name: &str = &path.to_string_lossy();
    let options = options(metadata).map_err(|source| zip_error(name, source))?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        archive.add_directory(name, options).map_err(|source| zip_error(name, source))
    } else if kind.is_symlink() {
        let target = fs::read_link(root.path().join(path)).map_err(|source| io_error(name, source))?;
        archive.add_symlink(name, target.to_string_lossy(), options).map_err(|source| zip_error(name, source))
    } else if kind.is_file() {
        let mut file = root.open_file(path).map_err(|source| io_error(name, source))?;
        archive.start_file(name, options).map_err(|source| zip_error(name, source))?;
        io::copy(&mut file, archive).map(|_| ()).map_err(|source| io_error(name, source))
    } else {
        // Sockets, devices and pipes have no content to keep.
        Ok(())
    }
}

fn options(metadata: &Metadata) -> zip::result::ZipResult<FullFileOptions<'static, 'static>> {
    let (method, level) = compression();
    let mut options = SimpleFileOptions::default()
        .compression_method(method)
        .compression_level(level)
        .unix_permissions(metadata.permissions().mode() & 0o777)
        .with_extended_timestamp(u32::try_from(metadata.mtime()).ok(), None, None)?;
    let mut owner = vec![1, 4];
    owner.extend(metadata.uid().to_le_bytes());
    owner.push(4);
    owner.extend(metadata.gid().to_le_bytes());
    options.add_extra_field(UNIX_OWNER, owner, false)?;
    if let Some(time) = dos_time(metadata.mtime()) {
        options = options.last_modified_time(time);
    }
    Ok(options)
}

/// `ARTIFACT_COMPRESSION_LEVEL` of the job.
fn compression() -> (CompressionMethod, Option<i64>) {
    let level = std::env::var("ARTIFACT_COMPRESSION_LEVEL").unwrap_or_default();
    match level.as_str() {
        "fastest" => (CompressionMethod::Stored, None),
        "fast" => (CompressionMethod::Deflated, Some(1)),
        "slow" => (CompressionMethod::Deflated, Some(7)),
        "slowest" => (CompressionMethod::Deflated, Some(9)),
        _ => (CompressionMethod::Deflated, Some(5)),
    }
}

fn dos_time(seconds: i64) -> Option<DateTime> {
    let time = Timestamp::from_second(seconds).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    let part = |number: i8| u8::try_from(number).ok();
    DateTime::from_date_and_time(
        u16::try_from(time.year()).ok()?,
        part(time.month())?,
        part(time.day())?,
        part(time.hour())?,
        part(time.minute())?,
        part(time.second())?,
    )
    .ok()
}

/// One member per file, one after the other. Unlike the reference, directories among the matches are no error: they have no bytes.
fn gzip(root: &Root, paths: &BTreeSet<PathBuf>, out: &mut File) -> Result<(), PackError> {
    for path in files(root, paths) {
        let name = path.to_string_lossy();
        let mut file = root.open_file(path).map_err(|source| io_error(&name, source))?;
        let modified = file.metadata().map_or(0, |metadata| u32::try_from(metadata.mtime()).unwrap_or(0));
        let base = path.file_name().map(|base| base.to_string_lossy().into_owned()).unwrap_or_default();
        let mut member = GzBuilder::new()
            .filename(header_text(&base))
            .comment(header_text(&name))
            .mtime(modified)
            .write(BufWriter::new(&mut *out), Compression::default());
        let copied = io::copy(&mut file, &mut member).and_then(|_| member.finish()?.flush());
        copied.map_err(|source| io_error(&name, source))?;
    }
    Ok(())
}

/// Headers of gzip hold Latin-1; everything else travels escaped (GitLab Runner 19.4).
fn header_text(text: &str) -> String {
    if text.is_ascii() && !text.contains(['%', '\0']) {
        return text.to_owned();
    }
    let mut escaped = "e:".to_owned();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn raw(root: &Root, paths: &BTreeSet<PathBuf>, out: &mut File) -> Result<(), PackError> {
    let files: Vec<_> = files(root, paths).collect();
    let [path] = files.as_slice() else { return Err(PackError::NotOne(files.len())) };
    let copied = root.open_file(path).and_then(|mut file| io::copy(&mut file, out));
    copied.map(|_| ()).map_err(|source| io_error(&path.to_string_lossy(), source))
}

/// The regular files among `paths`.
pub(super) fn files<'a>(root: &'a Root, paths: &'a BTreeSet<PathBuf>) -> impl Iterator<Item = &'a PathBuf> {
    paths
        .iter()
        .filter(move |path| fs::symlink_metadata(root.path().join(path)).is_ok_and(|metadata| metadata.is_file()))
}

fn io_error(path: &str, source: io::Error) -> PackError {
    PackError::Io { path: path.to_owned(), source }
}

fn zip_error(path: &str, source: zip::result::ZipError) -> PackError {
    PackError::Zip { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::archive::root::root;

    #[test]
    fn gzip_members_follow_each_other() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir(project.path().join("reports")).unwrap();
        fs::write(project.path().join("reports/a"), "one").unwrap();
        fs::write(project.path().join("reports/b"), "two").unwrap();
        let paths = ["reports", "reports/a", "reports/b"].map(PathBuf::from).into();
        let mut out = tempfile::tempfile().unwrap();
        pack(ArtifactFormat::Gzip, &root(project.path()), &paths, &mut out).unwrap();
        out.rewind().unwrap();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(out).read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
    }

    #[test]
    fn raw_is_one_file() {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("a"), "one").unwrap();
        fs::write(project.path().join("b"), "two").unwrap();
        let mut out = tempfile::tempfile().unwrap();
        let both = ["a", "b"].map(PathBuf::from).into();
        let error = pack(ArtifactFormat::Raw, &root(project.path()), &both, &mut out).unwrap_err();
        assert!(matches!(error, PackError::NotOne(2)));
        pack(ArtifactFormat::Raw, &root(project.path()), &[PathBuf::from("a")].into(), &mut out).unwrap();
        assert_eq!(out.metadata().unwrap().len(), 3);
    }

    #[test]
    fn names_that_gzip_cannot_hold_are_escaped() {
        assert_eq!(header_text("a b.txt"), "a b.txt");
        assert_eq!(header_text("ä 100%"), "e:%C3%A4%20100%25");
    }
}
