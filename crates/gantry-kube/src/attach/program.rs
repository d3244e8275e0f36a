//! How much of a program its kernel needs: symbols and what debuggers read lie behind that, and are
//! most of a program that was built to be debugged.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// A program of 64 bits whose numbers begin with their lowest byte (ELF: `e_ident`), as all are
/// that a helper is built for.
const MAGIC: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];

/// Length of the header of such a program.
const HEADER: usize = 64;

/// Length of what describes one segment.
const SEGMENT: usize = 56;

/// How many bytes of a program are used when it is started: up to the end of its last segment. All
/// of them where that cannot be told.
pub fn loaded_length(program: &File) -> io::Result<u64> {
    let length = program.metadata()?.size();
    Ok(end_of_segments(program)?.filter(|end| *end < length).unwrap_or(length))
}

fn end_of_segments(program: &File) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER];
    if let Err(error) = program.read_exact_at(&mut header, 0) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let (table, size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    if !header.starts_with(&MAGIC) || usize::from(size) != SEGMENT {
        return Ok(None);
    }
    let mut segments = vec![0; SEGMENT * usize::from(count)];
    if program.read_exact_at(&mut segments, table).is_err() {
        return Ok(None);
    }
    let ends = segments.chunks_exact(SEGMENT).map(|segment| u64_at(segment, 8).checked_add(u64_at(segment, 32)));
    let end = ends.chain([table.checked_add(segments.len() as u64)]).collect::<Option<Vec<u64>>>();
    Ok(end.and_then(|ends| ends.into_iter().max()))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::*;

    /// A file of these bytes.
    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_program_without_its_symbols_is_shorter_and_runs() {
        let own = std::env::current_exe().unwrap();
        let length = loaded_length(&File::open(&own).unwrap()).unwrap();
        // A test has symbols.
        assert!(length < own.metadata().unwrap().len(), "{length}");
        let directory = tempfile::tempdir().unwrap();
        let short = directory.path().join("short");
        // A shell writes it: of a file that a test has open for writing another one's child may
        // keep it open, and then it cannot be run.
        let script = "head -c $1 \"$2\" >\"$3\" && chmod 755 \"$3\" && exec \"$3\" --list";
        let shell =
            Command::new("sh").args(["-c", script, "sh", &length.to_string()]).args([&own, &short]).output().unwrap();
        assert!(String::from_utf8_lossy(&shell.stdout).contains("a_program_without_its_symbols"), "{shell:?}");
        // Nothing is left to leave out.
        assert_eq!(loaded_length(&File::open(&short).unwrap()).unwrap(), length);
    }

    #[test]
    fn what_cannot_be_told_is_left_as_it_is() {
        let mut odd = [MAGIC.as_slice(), &[0xff; 300]].concat();
        odd[54..56].copy_from_slice(&56_u16.to_le_bytes());
        for bytes in [b"".as_slice(), b"#!/bin/sh", &[1; 100], &MAGIC, &odd] {
            assert_eq!(loaded_length(&file(bytes)).unwrap(), bytes.len() as u64);
        }
    }
}
