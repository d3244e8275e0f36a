//! The helper that is pushed into job pods whose image has none.

use std::env::consts::ARCH;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use flate2::CrcReader;
use gantry_daemon::{Content, HelperBinaries, HelperBinary, PackedHelper};
use twox_hash::XxHash64;
use zstd::zstd_safe::get_frame_content_size;

/// The helper's name, in images too.
const NAME: &str = "gantry-helper";

/// The name of what unpacks it in a pod.
const RECEIVER: &str = "gantry-unpack";

/// How much of a file is looked at at once.
const PIECE: usize = 1 << 16;

/// Length of the checksum that ends a frame of zstd.
const CHECKSUM: usize = 4;

/// Longest head of what zstd has packed (RFC 8878).
const FRAME_HEAD: usize = 18;

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
/// itself: it is the helper when started under that name. With `gantry-helper.zst` beside it, if
/// that holds the same, and `gantry-unpack` of this build, fewer bytes are pushed. Helpers for
/// nodes of other architectures are beside it as `gantry-helper-aarch64` or `gantry-helper-x86_64`,
/// packed too perhaps. The files stay open, so that a newer version may be installed meanwhile.
pub(crate) fn load() -> anyhow::Result<HelperBinaries> {
    let path = &find()?;
    let opened = File::open(path).and_then(Content::program);
    let mut binary = HelperBinary::new(opened.with_context(|| format!("cannot read {}", path.display()))?);
    if let Some(machine) = MACHINES.iter().find(|machine| machine.name == ARCH) {
        binary = with_packed(binary, machine, path);
    }
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
    Ok(program(machine, path)?.map(|program| with_packed(HelperBinary::new(program), machine, path)))
}

/// A program of this build for that machine, or what else it is.
fn program(machine: &Machine, path: &Path) -> io::Result<Result<Content, &'static str>> {
    let mut file = File::open(path)?;
    if !machine.is_of(&mut file)? {
        return Ok(Err("is no program for that machine"));
    }
    if !holds(&mut file, gantry_helper::VERSION.as_bytes())? {
        return Ok(Err("is of another build"));
    }
    Content::program(file).map(Ok)
}

/// Adds the `.zst` beside the helper at `path`, if there is one that holds the same, and what
/// unpacks it.
fn with_packed(binary: HelperBinary, machine: &Machine, path: &Path) -> HelperBinary {
    let Some(helper) = kept(path, "zst", open_zstd) else { return binary };
    let Some((receiver, receiver_gzip)) = receiver(machine, path) else { return binary };
    binary.with_packed(PackedHelper { receiver, receiver_gzip, helper })
}

/// What unpacks the helper at `path`, which lies beside it under a like name, and the same as gzip
/// makes it, where that is there.
fn receiver(machine: &Machine, path: &Path) -> Option<(Content, Option<Content>)> {
    let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix(NAME))?;
    let path = path.with_file_name(format!("{RECEIVER}{name}"));
    let content = match program(machine, &path) {
        Ok(Ok(content)) => content,
        Ok(Err(problem)) => {
            tracing::warn!(
                "{} {problem}, and helpers are pushed as they are: install the one of this release",
                path.display()
            );
            return None;
        }
        Err(error) => {
            tracing::warn!(%error, "{} cannot be read, and helpers are pushed as they are", path.display());
            return None;
        }
    };
    Some((content, kept(&path, "gz", open_gzip)))
}

/// What `open` opens beside the program at `path`, if it is there and of that very program.
fn kept(path: &Path, extension: &str, open: fn(&Path, &Path) -> io::Result<Option<Content>>) -> Option<Content> {
    let packed = path.with_extension(extension);
    if !packed.exists() {
        return None;
    }
    match open(path, &packed) {
        Ok(Some(content)) => return Some(content),
        Ok(None) => tracing::warn!(
            "{} does not hold {}, and is not used: remove it, or make it anew",
            packed.display(),
            path.display()
        ),
        Err(error) => tracing::warn!(%error, "{} cannot be read, and is not used", packed.display()),
    }
    None
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
fn open_gzip(plain: &Path, packed: &Path) -> io::Result<Option<Content>> {
    let mut reader = CrcReader::new(File::open(plain)?);
    io::copy(&mut reader, &mut io::sink())?;
    let crc = reader.crc();
    let wanted = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    let content = Content::try_from(File::open(packed)?)?;
    Ok((content.end(wanted.len())? == wanted).then_some(content))
}

/// The packed file, if its head and its last four bytes say that it holds `plain` (RFC 8878: length
/// and checksum).
fn open_zstd(plain: &Path, packed: &Path) -> io::Result<Option<Content>> {
    let mut sum = XxHash64::with_seed(0);
    let mut plain = BufReader::with_capacity(PIECE, File::open(plain)?);
    let mut length = 0;
    loop {
        let piece = plain.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        sum.write(piece);
        let count = piece.len();
        length += count as u64;
        plain.consume(count);
    }
    let mut packed = File::open(packed)?;
    let mut head = Vec::with_capacity(FRAME_HEAD);
    (&mut packed).take(FRAME_HEAD as u64).read_to_end(&mut head)?;
    let content = Content::try_from(packed)?;
    let is_of_plain = get_frame_content_size(&head).is_ok_and(|held| held == Some(length))
        && content.end(CHECKSUM)? == sum.finish().to_le_bytes()[..CHECKSUM];
    Ok(is_of_plain.then_some(content))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A helper for another machine, which says of which build it is somewhere behind its head.
    fn bytes_of(machine: &Machine, version: &str) -> Vec<u8> {
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
            (bytes_of(one, gantry_helper::VERSION), None),
            (bytes_of(one, "0.0.1 (build 0123456789abcdef)"), Some("is of another build")),
            (bytes_of(other, gantry_helper::VERSION), Some("is no program for that machine")),
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
        type Open = fn(&Path, &Path) -> io::Result<Option<Content>>;
        let directory = tempfile::tempdir().unwrap();
        let (plain, packed) = (directory.path().join("helper"), directory.path().join("packed"));
        std::fs::write(&plain, "binary").unwrap();
        for (open, pack) in [(open_gzip as Open, gzip as fn(&[u8]) -> Vec<u8>), (open_zstd, zstd)] {
            for (content, used) in [("binary", true), ("another", false), ("binarz", false)] {
                std::fs::write(&packed, pack(content.as_bytes())).unwrap();
                assert_eq!(open(&plain, &packed).unwrap().is_some(), used, "{content}");
            }
            std::fs::write(&packed, "").unwrap();
            assert!(open(&plain, &packed).unwrap().is_none());
        }
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// As the command of that name makes it.
    fn zstd(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_helper_comes_with_what_unpacks_it() {
        let machine = &MACHINES[1];
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let is_packed = || {
            let read = foreign(machine, &path("gantry-helper-aarch64")).unwrap().unwrap();
            (
                read.is_packed(),
                receiver(machine, &path("gantry-helper-aarch64")).is_some_and(|(_, gzip)| gzip.is_some()),
            )
        };
        let helper = bytes_of(machine, gantry_helper::VERSION);
        std::fs::write(path("gantry-helper-aarch64"), &helper).unwrap();
        std::fs::write(path("gantry-helper-aarch64.zst"), zstd(&helper)).unwrap();
        assert_eq!(is_packed(), (false, false));
        for (bytes, is_used) in [
            (bytes_of(machine, "0.0.1 (build 0123456789abcdef)"), false),
            (bytes_of(&MACHINES[0], gantry_helper::VERSION), false),
            (helper.clone(), true),
        ] {
            std::fs::write(path("gantry-unpack-aarch64"), &bytes).unwrap();
            assert_eq!(is_packed(), (is_used, false));
            std::fs::write(path("gantry-unpack-aarch64.gz"), gzip(&bytes)).unwrap();
            assert_eq!(is_packed(), (is_used, is_used));
            std::fs::remove_file(path("gantry-unpack-aarch64.gz")).unwrap();
        }
        std::fs::write(path("gantry-helper-aarch64.zst"), zstd(b"another")).unwrap();
        assert_eq!(is_packed(), (false, false));
    }
}
