//! The `gantry-unpack` binary: what the manager pushes before the helper into an image that has
//! none. It takes the helper packed by zstd, which no image of helpers can unpack, and puts it in
//! its place. As small as a static program is, so it knows nothing else.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use zstd::stream::read::Decoder;

/// What zstd unpacks at once at most.
const BLOCK: usize = 128 * 1024;

/// For everyone: containers may run as any user.
const MODE: u32 = 0o755;

const USAGE: &str = "usage: gantry-unpack LENGTH FILE PLACE\n\
    Unpacks LENGTH bytes of zstd from standard input to FILE, which may be this program itself, and moves that to PLACE.";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (length, file, place) = match arguments.as_slice() {
        [word] if word == "--version" => {
            println!("gantry-unpack {}", gantry_helper::VERSION);
            return ExitCode::SUCCESS;
        }
        [length, file, place] => match length.to_str().and_then(|length| length.parse().ok()) {
            Some(length) => (length, Path::new(file), Path::new(place)),
            None => return usage(),
        },
        _ => return usage(),
    };
    match receive(length, file, place) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Not a failure's code: that is for what can be said of a helper.
fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn receive(length: u64, file: &Path, place: &Path) -> Result<(), String> {
    // Unbuffered: what comes behind the helper is for the bridge.
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("no standard input: {error}"))?;
    unpack(File::from(stdin), length, file)?;
    fs::rename(file, place).map_err(|error| format!("cannot put the helper in place as {}: {error}", place.display()))
}

/// Unpacks the next `length` bytes, whole and right, which zstd's own checksum says. What `file`
/// was before is removed, not overwritten: a program that runs cannot be.
fn unpack(packed: impl Read, length: u64, file: &Path) -> Result<(), String> {
    let cannot_unpack = |error| format!("cannot unpack the helper to {}: {error}", file.display());
    let cannot_write = |error| format!("cannot write the helper to {}: {error}", file.display());
    if let Err(error) = fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(cannot_write(error));
    }
    let mut to = File::create_new(file).map_err(cannot_write)?;
    let mut packed = Decoder::new(packed.take(length)).map_err(cannot_unpack)?;
    let mut block = vec![0; BLOCK];
    loop {
        match packed.read(&mut block) {
            Ok(0) => break,
            Ok(count) => to.write_all(&block[..count]).map_err(cannot_write)?,
            // Where nothing more comes, the next lines say it better.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(cannot_unpack(error)),
        }
    }
    let missing = packed.get_ref().get_ref().limit();
    if missing > 0 {
        return Err(format!("only {} of {length} bytes of the helper arrived in {}", length - missing, file.display()));
    }
    to.set_permissions(Permissions::from_mode(MODE))
        .map_err(|error| format!("cannot make {} executable: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with its checksum, as the command `zstd` makes it.
    fn packed(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// Unpacks so many of these bytes over a file that is there already.
    fn unpacked(bytes: &[u8], length: usize) -> Result<Vec<u8>, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("helper");
        fs::write(&file, "this program").unwrap();
        unpack(bytes, length as u64, &file)?;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        Ok(fs::read(file).unwrap())
    }

    /// More than one block, and nothing that repeats itself.
    fn content() -> Vec<u8> {
        (0..300_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
    }

    #[test]
    fn nothing_is_taken_of_what_follows() {
        let (content, packed) = (content(), packed(&content()));
        let mut input = [packed.as_slice(), b"frames"].concat();
        assert_eq!(unpacked(&input, packed.len()), Ok(content));
        let directory = tempfile::tempdir().unwrap();
        let mut left = input.as_slice();
        unpack(&mut left, packed.len() as u64, &directory.path().join("helper")).unwrap();
        assert_eq!(left, b"frames");
        // Who counts wrong does not get a helper with something behind it.
        input.truncate(packed.len() + 3);
        assert!(unpacked(&input, input.len()).is_err());
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let packed = packed(&content());
        for length in [0, 1, packed.len() / 2, packed.len() - 1] {
            let said = unpacked(&packed[..length], packed.len()).unwrap_err();
            assert!(said.starts_with(&format!("only {length} of {} bytes", packed.len())), "{said}");
        }
        for place in [packed.len() / 2, packed.len() - 1] {
            let mut changed = packed.clone();
            changed[place] ^= 1;
            let said = unpacked(&changed, packed.len()).unwrap_err();
            assert!(said.starts_with("cannot unpack the helper to"), "{said}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let said = unpack(packed(b"helper").as_slice(), 1, &directory.path().join("missing/helper")).unwrap_err();
        assert!(said.starts_with("cannot write the helper to") && said.contains("missing/helper"), "{said}");
    }
}
