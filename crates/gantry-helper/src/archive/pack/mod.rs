//! Makes one stream of the chosen files, in the formats of GitLab Runner 19.4. Nothing grows with
//! the size of the files, and nothing is kept on disk. Zip archives are made on all cores
//! (`zip.rs`, `workers.rs`), and so is the compressed stream of a tar archive (`tar.rs`).

mod style;
mod tar;
mod workers;
mod zip;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use super::root::Root;
use super::warn;
pub(super) use style::{Format, Level, Style};
pub(super) use tar::Tail;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// A chosen file cannot be read.
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
        source: rawzip::Error,
    },
    /// Nobody takes the archive any more.
    #[error("the archive cannot be written")]
    Out(#[source] io::Error),
    /// Raw artifacts are one file.
    #[error("only one file can be sent as raw; {0} were found")]
    NotOne(usize),
}

/// Packs `paths`, which are relative to `root`, into `out`.
pub(super) fn pack(
    style: Style,
    root: &Root,
    paths: &BTreeSet<PathBuf>,
    out: &mut (impl Write + Send),
) -> Result<(), PackError> {
    pack_head(style, root, paths, out)?.map_or(Ok(()), |tail| tail.write(out))
}

/// The same without what comes last and whose length is known already.
pub(super) fn pack_head(
    style: Style,
    root: &Root,
    paths: &BTreeSet<PathBuf>,
    out: &mut (impl Write + Send),
) -> Result<Option<Tail>, PackError> {
    let Style { format, level } = style;
    match format {
        Format::Zip => zip::zip(level.deflate(), root, paths, out),
        Format::ZipZstd => zip::zip(workers::Method::Zstd(level.zstd()), root, paths, out),
        Format::TarZstd => return tar::head(level.zstd(), root, paths, out).map(Some),
        Format::Gzip => gzip(root, paths, out),
        Format::Raw => raw(root, paths, out),
    }
    .map(|()| None)
}

/// One member per file, one after the other. Unlike the reference, directories among the matches
/// are no error: they have no bytes.
fn gzip(root: &Root, paths: &BTreeSet<PathBuf>, out: &mut impl Write) -> Result<(), PackError> {
    for path in paths {
        let name = path.to_string_lossy();
        let mut file = match root.open_file(path) {
            Ok(file) => file,
            // Processes of the job may still run.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                vanished(path);
                continue;
            }
            Err(_) if !is_file(root, path) => continue,
            Err(source) => return Err(io_error(&name, source)),
        };
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

fn raw(root: &Root, paths: &BTreeSet<PathBuf>, out: &mut impl Write) -> Result<(), PackError> {
    let files: Vec<_> = files(root, paths).collect();
    let [path] = files.as_slice() else { return Err(PackError::NotOne(files.len())) };
    let copied = root.open_file(path).and_then(|mut file| io::copy(&mut file, out));
    copied.map(|_| ()).map_err(|source| io_error(&path.to_string_lossy(), source))
}

/// The regular files among `paths`.
pub(super) fn files<'a>(root: &'a Root, paths: &'a BTreeSet<PathBuf>) -> impl Iterator<Item = &'a PathBuf> {
    paths.iter().filter(move |path| is_file(root, path))
}

fn is_file(root: &Root, path: &Path) -> bool {
    fs::symlink_metadata(root.path().join(path)).is_ok_and(|metadata| metadata.is_file())
}

/// Says that a file was chosen and is gone.
fn vanished(path: &Path) {
    warn(&format!("{} is not there any more, and is left out", path.display()));
}

/// Says that something was chosen that has no content to keep: a socket, a device or a pipe (the
/// words of GitLab Runner 19.4).
fn ignored(path: &Path) {
    warn(&format!("File ignored: {}", path.display()));
}

fn io_error(path: &str, source: io::Error) -> PackError {
    PackError::Io { path: path.to_owned(), source }
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
        let mut out = Vec::new();
        pack(Style::from(Format::Gzip), &root(project.path()), &paths, &mut out).unwrap();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(out.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
    }

    #[test]
    fn a_file_that_is_gone_is_left_out_of_a_gzip() {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("b"), "two").unwrap();
        std::os::unix::fs::symlink("b", project.path().join("link")).unwrap();
        let paths = ["a", "b", "link"].map(PathBuf::from).into();
        let mut out = Vec::new();
        pack(Style::from(Format::Gzip), &root(project.path()), &paths, &mut out).unwrap();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(out.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
    }

    #[test]
    fn raw_is_one_file() {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("a"), "one").unwrap();
        fs::write(project.path().join("b"), "two").unwrap();
        let mut out = Vec::new();
        let both = ["a", "b"].map(PathBuf::from).into();
        let error = pack(Style::from(Format::Raw), &root(project.path()), &both, &mut out).unwrap_err();
        assert!(matches!(error, PackError::NotOne(2)));
        pack(Style::from(Format::Raw), &root(project.path()), &[PathBuf::from("a")].into(), &mut out).unwrap();
        assert_eq!(out, b"one");
    }

    #[test]
    fn names_that_gzip_cannot_hold_are_escaped() {
        assert_eq!(header_text("a b.txt"), "a b.txt");
        assert_eq!(header_text("ä 100%"), "e:%C3%A4%20100%25");
    }
}
