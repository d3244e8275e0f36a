//! The helper that is pushed into job pods whose image has none.

use std::env::consts::ARCH;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use flate2::CrcReader;
use gantry_daemon::{Content, HelperBinaries, HelperBinary};

/// The helper's name, in images too.
const NAME: &str = "gantry-helper";

/// A kind of machine that helpers are built for.
#[derive(Debug)]
struct Machine {
    /// As `uname -m` and Rust call it.
    name: &'static str,
    /// Its number in the head of a program (ELF, `e_machine`).
    number: u16,
}

const MACHINES: [Machine; 2] = [Machine { name: "x86_64", number: 62 }, Machine { name: "aarch64", number: 183 }];

impl Machine {
    fn is_of(&self, file: &mut File) -> io::Result<bool> {
        let mut head = [0; 20];
        file.rewind()?;
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        // Both kinds have the lower byte first.
        Ok(head.starts_with(b"\x7fELF") && head[18..] == self.number.to_le_bytes())
    }
}

/// Whether these bytes are somewhere in a file.
fn holds(file: &mut File, wanted: &[u8]) -> io::Result<bool> {
    const PIECE: usize = 1 << 16;
    file.rewind()?;
    let mut held = Vec::with_capacity(PIECE + wanted.len());
    loop {
        let count = file.take(PIECE as u64).read_to_end(&mut held)?;
        if held.windows(wanted.len()).any(|found| found == wanted) {
            return Ok(true);
        }
        if count == 0 {
            return Ok(false);
        }
        // What is found may begin in one piece and end in the next.
        held.drain(..held.len().saturating_sub(wanted.len()));
    }
}

/// The small `gantry-helper` beside this executable if it is of this build, else this executable
/// itself: it is the helper when started under that name. With `gantry-helper.gz` beside it, if
/// that holds the same, fewer bytes are pushed. Helpers for nodes of other architectures are beside
/// it as `gantry-helper-aarch64` or `gantry-helper-x86_64`, perhaps with a `.gz` too. The files
/// stay open, so that a newer version may be installed meanwhile.
pub(crate) fn load() -> anyhow::Result<HelperBinaries> {
    let path = &find()?;
    let opened = File::open(path).and_then(Content::program);
    let binary = HelperBinary::new(opened.with_context(|| format!("cannot read {}", path.display()))?);
    let binary = with_packed(binary, path);
    tracing::debug!(path = %path.display(), "helper to push");
    let mut helpers = HelperBinaries::new().with(ARCH, binary);
    for machine in MACHINES.iter().filter(|machine| machine.name != ARCH) {
        let path = path.with_file_name(format!("{NAME}-{}", machine.name));
        if path.exists() {
            helpers = with_foreign(helpers, machine, &path);
        }
    }
    Ok(helpers)
}

/// Adds the helper for another machine than this one, if it is of this build: what cannot be
/// started here is known by its bytes.
fn with_foreign(helpers: HelperBinaries, machine: &Machine, path: &Path) -> HelperBinaries {
    match foreign(machine, path) {
        Ok(Ok(binary)) => {
            tracing::debug!(path = %path.display(), machine = machine.name, "helper to push");
            helpers.with(machine.name, binary)
        }
        Ok(Err(problem)) => {
            tracing::warn!("{} {problem}, and is not used: install the one of this release", path.display());
            helpers
        }
        Err(error) => {
            tracing::warn!(%error, "{} cannot be read, and is not used", path.display());
            helpers
        }
    }
}

fn foreign(machine: &Machine, path: &Path) -> io::Result<Result<HelperBinary, &'static str>> {
    let mut file = File::open(path)?;
    if !machine.is_of(&mut file)? {
        return Ok(Err("is no program for that machine"));
    }
    if !holds(&mut file, gantry_helper::VERSION.as_bytes())? {
        return Ok(Err("is of another build"));
    }
    Ok(Ok(with_packed(HelperBinary::new(Content::program(file)?), path)))
}

/// Adds the `.gz` beside the helper at `path`, if there is one that holds the same.
fn with_packed(binary: HelperBinary, path: &Path) -> HelperBinary {
    let packed = path.with_extension("gz");
    if !packed.exists() {
        return binary;
    }
    match open_packed(path, &packed) {
        Ok(Some(content)) => return binary.with_gzip(content),
        Ok(None) => tracing::warn!(
            "{} is not what gzip makes of {}, and is not used: remove it, or make it anew",
            packed.display(),
            path.display()
        ),
        Err(error) => tracing::warn!(%error, "{} cannot be read, and is not used", packed.display()),
    }
    binary
}

/// Puts the same program into the directory of a new image, for simulated containers that are
/// started from it: nothing is pushed then.
#[cfg(feature = "sim")]
pub(crate) fn install(directory: &Path) -> anyhow::Result<()> {
    use std::fs::Permissions;
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

/// The packed file, if its last eight bytes say that it holds `plain` (RFC 1952: checksum and
/// length).
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

    /// A helper for another machine, which says of which build it is somewhere behind its head.
    fn program(machine: &Machine, version: &str) -> Vec<u8> {
        let mut bytes = vec![0; 18];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes.extend(machine.number.to_le_bytes());
        // Over the end of the first piece that is looked at.
        bytes.resize((1 << 16) - 3, 7);
        bytes.extend(version.as_bytes());
        bytes.extend([7; 100]);
        bytes
    }

    #[test]
    fn helpers_for_other_machines_are_of_this_build() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gantry-helper-other");
        let [one, other] = &MACHINES;
        for (bytes, problem) in [
            (program(one, gantry_helper::VERSION), None),
            (program(one, "0.0.1 (build 0123456789abcdef)"), Some("is of another build")),
            (program(other, gantry_helper::VERSION), Some("is no program for that machine")),
            (b"short".to_vec(), Some("is no program for that machine")),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let read = foreign(one, &path).unwrap();
            assert_eq!(read.as_ref().err().copied(), problem);
            let helpers = with_foreign(HelperBinaries::new(), one, &path);
            assert_eq!(helpers.machines().collect::<Vec<_>>(), if problem.is_none() { vec![one.name] } else { vec![] });
        }
    }

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
