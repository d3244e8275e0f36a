//! `gantry-unpack` as the manager's shell starts it: it is the file that becomes the helper.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Text enough that it comes in many pieces.
fn helper() -> Vec<u8> {
    (0..400_000).flat_map(|number: u32| number.to_be_bytes()).collect()
}

/// As the command `zstd` packs it.
fn packed(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Runs it from `file` with this input. Programs that tests write cannot always be started ("text
/// file busy"), so a link is what runs.
fn run(file: &Path, length: usize, place: &Path, input: &[u8]) -> Output {
    fs::hard_link(env!("CARGO_BIN_EXE_gantry-unpack"), file)
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_gantry-unpack"), file).map(drop))
        .unwrap();
    let mut child = Command::new(file)
        .args([length.to_string().as_ref(), file.as_os_str(), place.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have stopped reading by then.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn it_makes_way_for_the_helper() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (file, place) = (directory.path().join("helper.1"), directory.path().join("helper"));
    let (helper, packed) = (helper(), packed(&helper()));
    let output = run(&file, packed.len(), &place, &packed);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(fs::read(&place).unwrap(), helper);
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_follows_is_left_to_who_comes_next() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = directory.path().join("helper");
    // Less than a pipe holds, so that nobody has to read for it to be written.
    let packed = packed(&helper()[..10_000]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut left = reader.try_clone().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gantry-unpack"))
        .args([packed.len().to_string().as_ref(), directory.path().join("new").as_os_str(), place.as_os_str()])
        .stdin(reader)
        .spawn()
        .unwrap();
    writer.write_all(&[packed.as_slice(), b"frames"].concat()).unwrap();
    drop(writer);
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    left.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "frames");
}

#[test]
fn failures_are_one_line_and_nothing_is_in_place() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (file, place) = (directory.path().join("helper.1"), directory.path().join("helper"));
    let packed = packed(&helper());
    let mut changed = packed.clone();
    changed[packed.len() / 2] ^= 1;
    for (input, words) in
        [(&packed[..1000], "only 1000 of "), (b"", "only 0 of "), (changed.as_slice(), "cannot unpack the helper to ")]
    {
        let output = run(&file, packed.len(), &place, input);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(words) && said.lines().count() == 1, "{said}");
        assert!(!place.exists());
        let _ = fs::remove_file(&file);
    }
    let nowhere = directory.path().join("missing/helper");
    let output = run(&file, packed.len(), &nowhere, &packed);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.starts_with("cannot put the helper in place as "), "{said}");
}
