//! Where the caches of jobs are kept between runs: a directory of the user's own for each
//! repository.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where caches are below the directory for what can be made again.
pub(crate) const CACHES: &str = "gantry/dev";

/// Where the files of images are there.
pub(crate) const IMAGES: &str = "gantry/dev-images";

/// Longest name of a directory that is made of a path: file systems take 255 bytes.
const LONGEST: usize = 200;

/// The directory of a repository's caches, made if it is not there; the error is a sentence.
/// Nothing if the user has no place for such things.
pub(super) fn directory(
    repository: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Option<Result<PathBuf, String>> {
    let path = base(variable)?.join(CACHES).join(name(repository));
    // Nobody else may change what scripts of the user's will run.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    Some(
        made.map(|()| path.clone())
            .map_err(|error| format!("`cache` is not kept: the directory {} cannot be made ({error})", path.display())),
    )
}

/// Where the files of images are kept, which all repositories share.
pub(super) fn images(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    Some(base(variable)?.join(IMAGES))
}

/// Where users keep what can be made again.
fn base(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}

/// A name that shows which repository it is, and that no other has.
fn name(repository: Option<&Path>) -> String {
    let Some(path) = repository else { return "sample".to_owned() };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text: String = path.to_string_lossy().chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let text = text.trim_matches(['-', '.']);
    // The end of a path says more than its beginning.
    let text = text.get(text.len().saturating_sub(LONGEST)..).unwrap_or(text);
    format!("{text}-{:08x}", checksum(path))
}

/// The same in every run and version. Two paths of one user that look alike will hardly share it.
fn checksum(path: &Path) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(path.as_os_str().as_bytes());
    sum.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repository_has_its_own() {
        let of = |path: &str| name(Some(Path::new(path)));
        assert_eq!(of("/home/me/src/shop"), "home-me-src-shop-d745ee05");
        assert_ne!(of("/a/b"), of("/a-b"));
        assert_ne!(of("/c x"), of("/c-x"));
        assert_eq!(name(None), "sample");
        assert_eq!(of(&format!("/{}", "x/".repeat(300))).len(), LONGEST + "-01234567".len());
    }

    #[test]
    fn it_is_where_users_keep_what_can_be_made_again() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "HOME").then(|| home.path().as_os_str().to_owned());
        let made = directory(None, &variable).unwrap().unwrap();
        assert_eq!(made, home.path().join(".cache/gantry/dev/sample"));
        assert!(made.is_dir() && directory(None, &|_| None).is_none());
    }
}
