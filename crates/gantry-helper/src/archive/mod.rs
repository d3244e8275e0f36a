//! Moves artifacts and caches, in a child process of the agent: if memory runs out it is the child
//! that the kernel ends. What to do comes as JSON on standard input, because it holds a token; what
//! happens goes to standard output, which is the job log.

pub(crate) mod cache;
mod expand;
pub(crate) mod job;
mod meter;
mod pack;
mod packing;
mod provenance;
mod root;
mod select;
mod transfer;
mod tree;
mod unpack;
mod untracked;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::job::MoverJob;
use self::pack::{Format, Style};
use self::root::{ProjectRoot, Root};
use crate::limits::MOVER_JOB;
use gantry_core::error_chain::chain;

/// Packs files of a directory, as paths below it, into `out` as a job's artifacts are: for
/// benchmarks.
///
/// # Errors
/// The directory cannot be opened, or a file not be packed.
pub fn pack_alone(project: &Path, paths: &BTreeSet<PathBuf>, out: &mut (impl io::Write + Send)) -> io::Result<()> {
    let ProjectRoot::Directory(root) = Root::open(project, project)? else {
        return Err(io::ErrorKind::NotADirectory.into());
    };
    pack::pack(Style::from(Format::Zip), &root, paths, out).map_err(io::Error::other)
}

/// What is moved.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cargo {
    Artifacts,
    Caches,
}

/// Does what standard input says.
pub(crate) fn run(cargo: Cargo) -> ExitCode {
    // Both are best effort: not every container lets a process lower its own chances, and the work
    // is the same without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = nix::sys::prctl::set_dumpable(false);
    match work(cargo) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("\x1b[31;1mERROR: {}\x1b[0;m", visible(&chain(error.as_ref()))));
            ExitCode::FAILURE
        }
    }
}

type AnyError = Box<dyn std::error::Error>;

fn work(cargo: Cargo) -> Result<(), AnyError> {
    let mut text = Vec::new();
    io::stdin().lock().take(MOVER_JOB).read_to_end(&mut text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if matches!(cargo, Cargo::Caches) {
        return runtime.block_on(cache::carry_out(&text));
    }
    // Without the parser's own words, which may quote a token.
    let job: MoverJob =
        serde_json::from_slice(&text).map_err(|_| "the agent sent a description that cannot be read")?;
    runtime.block_on(transfer::carry_out(&job)).map_err(AnyError::from)
}

/// Unpacks bytes of which nothing is known.
#[cfg(feature = "fuzzing")]
pub(crate) fn unpack_anything(archive: &[u8], project: &std::path::Path) {
    let written = tempfile::tempfile().and_then(|mut file| {
        file.write_all(archive)?;
        std::io::Seek::rewind(&mut file)?;
        Ok(file)
    });
    if let Ok(file) = written {
        let _ = unpack::unpack(file, project);
    }
}

/// A line of the job log.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A yellow one.
fn warn(line: &str) {
    say(&format!("\x1b[0;33mWARNING: {}\x1b[0;m", visible(line)));
}

/// The same with all that no letter shows written as letters: archives, servers and files of a job
/// choose some of the words of an error, and none of them may move about in the log.
fn visible(line: &str) -> Cow<'_, str> {
    if !line.contains(char::is_control) {
        return Cow::Borrowed(line);
    }
    let mut letters = String::new();
    for letter in line.chars() {
        if letter.is_control() {
            letters.extend(letter.escape_default());
        } else {
            letters.push(letter);
        }
    }
    Cow::Owned(letters)
}

#[cfg(test)]
mod noise;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_about_in_a_log_is_letters() {
        assert!(matches!(visible("näme \u{1f980}"), Cow::Borrowed("näme \u{1f980}")));
        assert_eq!(visible("a\u{1b}[31m\r\nsection_end:1:x"), "a\\u{1b}[31m\\r\\nsection_end:1:x");
    }
}
