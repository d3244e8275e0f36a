//! What every source file must have and must not have. What clippy can say is left to clippy.

use crate::assert_none;
use crate::project::{File, files, read, rust_files};
use crate::words::{NOT_IN_RUST, NUMBERED, PLACES, UNFINISHED, is_numbered};

/// Longest production file. Beyond it, a second responsibility has usually moved in.
const LONGEST: usize = 500;

/// Longest snapshot: a longer one is accepted without being read.
const LONGEST_SNAPSHOT: usize = 300;

/// Widest comment, in columns: code may be wider, but is not read line by line.
const WIDEST: usize = 100;

/// Files that may be longer: up to how many lines, and why.
const LONGER: [(&str, usize, &str); 0] = [];

/// Where a first line would be in the way of what the file is for.
const GENERATED: [&str; 2] = ["Cargo.lock", "LICENSE"];

fn each_line(files: &[File], look: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(problem) = look(line) {
                problems.push(format!("{}:{}: {problem}", file.path, at + 1));
            }
        }
    }
    problems
}

/// A file of unit tests belongs to the file whose tests it holds, so its own header is welcome and
/// not asked for.
#[test]
fn every_file_says_what_it_is_for() {
    let is_asked = |file: &File| !(file.path.contains("/src/") && file.path.ends_with("/tests.rs"));
    let problems: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| is_asked(file) && !file.text.starts_with("//! "))
        .map(|file| format!("{}: the first line is not a //! comment", file.path))
        .collect();
    assert_none("every file begins with what it is for and what it must never do", &problems);
}

#[test]
fn no_file_has_two_responsibilities() {
    let mut problems = Vec::new();
    let files = rust_files();
    for file in &files {
        let lines = file.production().len();
        let exception = LONGER.iter().find(|(path, _, _)| *path == file.path);
        let most = exception.map_or(LONGEST, |(_, most, _)| *most);
        if lines > most {
            problems.push(format!("{}: {lines} lines without tests, more than {most}: split it", file.path));
        } else if lines <= LONGEST && exception.is_some() {
            problems.push(format!("{}: is not that long any more: take it from the list", file.path));
        }
    }
    let gone = LONGER.iter().filter(|(path, _, _)| files.iter().all(|file| file.path != *path));
    problems.extend(gone.map(|(path, _, _)| format!("{path}: is on the list and not in the project")));
    assert_none("length of files", &problems);
}

#[test]
fn snapshots_are_short_enough_to_be_read() {
    let snapshots = files().into_iter().filter(|file| file.is_a("snap"));
    let problems: Vec<String> = snapshots
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > LONGEST_SNAPSHOT)
        .map(|(lines, path)| format!("{path}: {lines} lines, more than {LONGEST_SNAPSHOT}: split it by topic"))
        .collect();
    assert_none("length of snapshots", &problems);
}

/// What is indented in a comment is an example or a drawing.
#[test]
fn comments_are_as_wide_as_people_read() {
    let problems = each_line(&rust_files(), |line| {
        let text = line.trim_start().strip_prefix("//")?.trim_start_matches(['/', '!']);
        let width = line.chars().count();
        let is_prose = !text.starts_with("     ");
        (is_prose && width > WIDEST).then(|| format!("{width} columns, more than {WIDEST}"))
    });
    assert_none("width of comments", &problems);
}

#[test]
fn nothing_is_left_for_later() {
    let (tests, production): (Vec<File>, Vec<File>) = rust_files().into_iter().partition(File::is_test);
    let call = |line: &str| {
        let found = NOT_IN_RUST.iter().find(|(word, _)| line.contains(word));
        found.map(|(word, instead)| format!("{word}: {instead}"))
    };
    let mark = |line: &str| {
        let found = UNFINISHED.iter().find(|word| line.contains(**word));
        found.map(|word| format!("{word}: finish it, or say in README.md what is missing"))
    };
    let mut problems = each_line(&tests, call);
    problems.extend(each_line(&production, |line| call(line).or_else(|| mark(line))));
    assert_none("what no source file has", &problems);
}

#[test]
fn files_speak_about_the_product_only() {
    let files: Vec<File> = files()
        .into_iter()
        .filter(|file| !GENERATED.contains(&file.path.as_str()))
        .filter(|file| !is_own(file))
        .collect();
    let problems = each_line(&files, |line| {
        let line = line.to_lowercase();
        let place =
            PLACES.iter().find(|word| line.contains(**word)).map(|word| format!("{word:?} means nothing to a reader"));
        place.or_else(|| {
            let found = NUMBERED.iter().find(|word| is_numbered(&line, word));
            found.map(|word| format!("{word:?} with a number: say what it is about instead"))
        })
    });
    assert_none("words that must not be in the project", &problems);
}

/// The words' own test needs examples.
fn is_own(file: &File) -> bool {
    file.path == "tests/tidy/words.rs"
}

/// A crate that forgets this line has no lints at all.
#[test]
fn every_package_has_the_lints_of_the_workspace() {
    let manifests = files().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    // The fuzz targets are a workspace of their own.
    let manifests = manifests.filter(|file| !file.path.starts_with("fuzz/"));
    let problems: Vec<String> = manifests
        .filter(|file| !file.text.contains("[lints]\nworkspace = true"))
        .map(|file| format!("{}: add [lints] with workspace = true", file.path))
        .collect();
    assert_none("lints", &problems);
    let workspace = read("Cargo.toml");
    assert!(
        workspace.contains("unsafe_code = \"forbid\""),
        "Cargo.toml: unsafe code is forbidden in the whole workspace"
    );
}
