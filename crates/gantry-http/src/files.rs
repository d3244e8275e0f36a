//! Whether files have changed since they were read, without reading them again.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of the file as it is now; nothing if it is not there or cannot be looked at. Take
    /// it before the file is read: a change meanwhile is then seen as one.
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(path).ok()?;
        Some(Self { modified: meta.modified().ok(), size: meta.len(), inode: meta.ino() })
    }
}

/// Files, and what they were like when they were last looked at.
#[derive(Clone, Debug, Default)]
pub struct FileStamps {
    files: Vec<(PathBuf, Option<Stamp>)>,
}

impl FileStamps {
    /// Adds a file as it is now, whether or not it is there. To be called before the file is read.
    pub fn add(&mut self, path: PathBuf) {
        let stamp = Stamp::of(&path);
        self.files.push((path, stamp));
    }

    /// Whether a file is another one now. One that has vanished is being replaced.
    pub fn have_changed(&self) -> bool {
        self.files.iter().any(|(path, old)| Stamp::of(path).is_some_and(|now| Some(now) != *old))
    }

    /// Takes the files as they are now for known.
    pub fn accept(&mut self) {
        for (path, seen) in &mut self.files {
            *seen = Stamp::of(path).or(*seen);
        }
    }
}

impl FromIterator<PathBuf> for FileStamps {
    /// All of them as they are now.
    fn from_iter<I: IntoIterator<Item = PathBuf>>(paths: I) -> Self {
        let mut files = Self::default();
        paths.into_iter().for_each(|path| files.add(path));
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_come_and_change_are_noticed_and_those_that_go_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gitlab.test.crt");
        let mut files = FileStamps::from_iter([path.clone()]);
        assert!(!files.have_changed());
        std::fs::write(&path, "a").unwrap();
        assert!(files.have_changed());
        files.accept();
        assert!(!files.have_changed());
        // Of the same length, but another file.
        let other = directory.path().join("other");
        std::fs::write(&other, "b").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(files.have_changed());
        files.accept();
        std::fs::remove_file(&path).unwrap();
        assert!(!files.have_changed());
        files.accept();
        std::fs::write(&path, "longer").unwrap();
        assert!(files.have_changed(), "what it was like is still known");
    }
}
