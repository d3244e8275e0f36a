//! `read-logs`: prints a file as it grows, each piece with the place at which it ends, so that a
//! reader who has lost the connection can go on.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;

use super::{Fatal, Flags};

/// Longest piece (GitLab Runner 19.4).
const PIECE: usize = 16 * 1024;

/// Pause at the end of the file (GitLab Runner 19.4).
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Exit code where the file is gone: whoever reads begins anew.
const GONE: u8 = 100;

pub(super) fn run(flags: &Flags) -> Result<ExitCode, Fatal> {
    let path = flags.get("path").ok_or("Missing --path")?;
    let offset = flags.get("offset").unwrap_or("0").parse().map_err(|_| "--offset is no number".to_owned())?;
    let wait = flags.get("wait-file-timeout").unwrap_or("1s");
    let wait = gantry_core::go_duration::parse(wait).map_err(|error| format!("--wait-file-timeout: {error}"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    Ok(match runtime.block_on(follow(Path::new(path), offset, wait)) {
        Ok(()) => ExitCode::from(GONE),
        Err(error) => {
            println!("error reading logs from {path}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Prints until the file is gone.
async fn follow(path: &Path, mut offset: u64, wait: Duration) -> io::Result<()> {
    let mut file = opened(path, wait).await?;
    file.seek(SeekFrom::Start(offset))?;
    let mut held = Vec::new();
    loop {
        let mut buffer = [0; PIECE];
        let count = file.read(&mut buffer)?;
        held.extend_from_slice(buffer.get(..count).unwrap_or_default());
        print(&mut held, &mut offset, count == 0)?;
        if count == 0 {
            if !path.exists() {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

async fn opened(path: &Path, wait: Duration) -> io::Result<File> {
    if wait.as_secs() == 0 {
        return Err(io::Error::other("no attempts to open log file configured"));
    }
    for _ in 0..wait.as_secs() {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => sleep(Duration::from_secs(1)).await,
            opened => return opened,
        }
    }
    Err(io::Error::other("timeout waiting for file to be created"))
}

/// Prints the pieces that are complete, or all at the end of the file.
fn print(held: &mut Vec<u8>, offset: &mut u64, is_end: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (end, piece) in pieces(held, offset, is_end) {
        write!(out, "{end} ")?;
        out.write_all(&piece)?;
        if piece.last() != Some(&b'\n') {
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

fn pieces(held: &mut Vec<u8>, offset: &mut u64, is_end: bool) -> Vec<(u64, Vec<u8>)> {
    let mut pieces = Vec::new();
    while !held.is_empty() {
        let line = held.iter().take(PIECE).position(|byte| *byte == b'\n').map(|at| at + 1);
        let Some(length) =
            line.or_else(|| (held.len() >= PIECE).then_some(PIECE)).or_else(|| is_end.then_some(held.len()))
        else {
            break;
        };
        let piece: Vec<u8> = held.drain(..length).collect();
        *offset += piece.len() as u64;
        pieces.push((*offset, piece));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_lines_at_their_longest_and_at_the_end() {
        let mut held = [b"one\ntwo\n".as_slice(), &vec![b'x'; PIECE + 3]].concat();
        let mut offset = 10;
        let ends = |pieces: Vec<(u64, Vec<u8>)>| pieces.iter().map(|(end, _)| *end).collect::<Vec<_>>();
        assert_eq!(ends(pieces(&mut held, &mut offset, false)), [14, 18, 18 + PIECE as u64]);
        assert_eq!(ends(pieces(&mut held, &mut offset, true)), [21 + PIECE as u64]);
        assert!(held.is_empty());
    }
}
