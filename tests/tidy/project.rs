//! The project's own files, as the rules see them. Reads, never writes.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold nothing of ours: build output, and git's own files.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// Where the workspace is.
pub(crate) fn root() -> PathBuf {
    // Asked when the tests run, not when they are compiled: builds of several clones may share
    // their output.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let own = Path::new(&own);
    own.parent().expect("the package of the tests lies in the workspace").to_owned()
}

/// A file of the project.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

impl File {
    /// Whether its name ends so, such as `rs`.
    pub(crate) fn is_a(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|own| own == extension)
    }

    /// Whether nothing but tests is in it: integration tests, and unit tests that have a file of
    /// their own.
    pub(crate) fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        let is_unit_test = parts.contains(&"src") && (parts.contains(&"tests") || self.path.ends_with("/tests.rs"));
        is_unit_test || parts.first() == Some(&"tests") || parts.get(2) == Some(&"tests")
    }

    /// The lines that are shipped: without the tests at the end of the file. Nothing for files of
    /// tests.
    pub(crate) fn production(&self) -> Vec<&str> {
        if self.is_test() {
            return Vec::new();
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let begins_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
        let end = lines.windows(2).position(begins_tests).unwrap_or(lines.len());
        lines[..end].to_vec()
    }
}

/// Every text file of the project, in the order of their paths.
pub(crate) fn files() -> Vec<File> {
    let root = root();
    let mut files = Vec::new();
    walk(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 100, "only {} files were found in {}", files.len(), root.display());
    files
}

/// The Rust files among them.
pub(crate) fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.is_a("rs")).collect()
}

/// One file that must be there.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<File>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.expect("an entry of a directory").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            // What is no text, or vanished meanwhile (an editor's file), has no rules.
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
}
