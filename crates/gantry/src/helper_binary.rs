//! The helper that is pushed into job pods whose image has none.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use flate2::CrcReader;
use gantry_daemon::{Content, HelperBinaries, HelperBinary};

/// The helper's name, in images too.
const NAME: &str = "gantry-helper";

/// The small `gantry-helper` beside this executable if it is of this build, else this executable itself: it is the helper when started
/// under that name. With `gantry-helper.gz` beside it, if that holds the same, fewer bytes are pushed. The files stay open, so that a newer
/// version may be installed meanwhile.
pub(crate) fn load() -> anyhow::Result<HelperBinaries> {
    let path = &find()?;
    let opened = File::open(path).and_then(Content::program);
    let mut binary = HelperBinary::new(opened.with_context(|| format!("cannot read {}", path.display()))?);
    let packed = path.with_extension("gz");
    if packed.exists() {
        match open_packed(path, &packed) {
            Ok(Some(content)) => binary = binary.with_gzip(content),
            Ok(None) => tracing::warn!(
                "{} is not what gzip makes of {}, and is not used: remove it, or make it anew",
                packed.display(),
                path.display()
            ),
            Err(error) => tracing::warn!(%error, "{} cannot be read, and is not used", packed.display()),
        }
    }
    tracing::debug!(path = %path.display(), "helper to push");
    Ok(HelperBinaries::new().with(std::env::consts::ARCH, binary))
}

/// Puts the same program into the directory of a new image, for simulated containers that are started from it: nothing is pushed then.
#[cfg(feature = "sim")]
pub(crate) fn install(directory: &Path) -> anyhow::Result<()> {
    use std::fs::Permissions;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    let path = find()?;
    let copy = || -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let file = File::open(&path)?;
        let length = gantry_daemon::loaded_length(&file)?;
        let mut to = File::create_new(directory.join(NAME))?;
        io::copy(&mut file.take(length), &mut to)?;
        // For users of containers too, whatever mask this one has.
        to.set_permissions(Permissions::from_mode(0o755))?;
        std::fs::set_permissions(directory, Permissions::from_mode(0o755))
    };
    copy().with_context(|| format!("cannot copy {} to {}", path.display(), directory.display()))
}

/// What is pushed: see [`load`].
fn find() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the running executable")?;
    let beside = own.with_file_name(NAME);
    Ok(if is_of_this_build(&beside) { beside } else { own })
}

/// A helper that an older build left there would speak another protocol.
fn is_of_this_build(path: &Path) -> bool {
    let Ok(output) = Command::new(path).arg("--version").stdin(Stdio::null()).output() else { return false };
    output.status.success() && String::from_utf8_lossy(&output.stdout).contains(gantry_helper::VERSION)
}

/// The packed file, if its last eight bytes say that it holds `plain` (RFC 1952: checksum and length).
fn open_packed(plain: &Path, packed: &Path) -> io::Result<Option<Content>> {
    let mut reader = CrcReader::new(File::open(plain)?);
    io::copy(&mut reader, &mut io::sink())?;
    let crc = reader.crc();
    let wanted = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    let content = Content::try_from(File::open(packed)?)?;
    Ok((content.end(wanted.len())? == wanted).then_some(content))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn only_what_holds_the_same_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let (plain, packed) = (directory.path().join("helper"), directory.path().join("helper.gz"));
        std::fs::write(&plain, "binary").unwrap();
        for (text, used) in [("binary", true), ("another", false)] {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            std::fs::write(&packed, encoder.finish().unwrap()).unwrap();
            assert_eq!(open_packed(&plain, &packed).unwrap().is_some(), used);
        }
        std::fs::write(&packed, "").unwrap();
        assert!(open_packed(&plain, &packed).unwrap().is_none());
    }
}
