//! The job's temporary directory, with its file variables. Beside the project there is only a link
//! to it, because services see what is there, and because nothing may be mounted where jobs remove
//! and rename. Nothing here goes through that link: it is the job's.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::Path;

use gantry_wire::plan::Paths;

use crate::trees;

/// Makes it, or the link to it if the job has removed that, and says where its files really are.
pub(crate) fn make(paths: &Paths) -> io::Result<&Path> {
    make_by(paths, |target, link| symlink(target, link))
}

fn make_by(paths: &Paths, link: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<&Path> {
    let (builds, shown) = (Path::new(&paths.builds_dir), Path::new(&paths.temp_dir));
    let Some(volume) = volume(paths) else { return trees::make_below(builds, shown).map(|_| shown) };
    fs::create_dir_all(volume)?;
    if let Some(parent) = shown.parent() {
        trees::make_below(builds, parent)?;
    }
    if leads_to(shown, volume) {
        return Ok(volume);
    }
    // Whatever is there is of another runner's making, or the job's in a place that it was told is
    // ours.
    trees::remove_tree(shown)?;
    match link(volume, shown) {
        // Some network file systems have no links.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            trees::make_below(builds, shown).map(|_| shown)
        }
        made => made.map(|()| volume),
    }
}

/// Where its files are found, whatever has become of it.
pub(crate) fn found(paths: &Paths) -> &Path {
    let shown = Path::new(&paths.temp_dir);
    let is_directory = fs::symlink_metadata(shown).is_ok_and(|metadata| metadata.is_dir());
    volume(paths).filter(|_| !is_directory).unwrap_or(shown)
}

/// Whether its files are where services see them, because the builds directory cannot hold a link.
pub(crate) fn is_exposed(paths: &Paths, directory: &Path) -> bool {
    volume(paths).is_some_and(|volume| volume != directory)
}

fn volume(paths: &Paths) -> Option<&Path> {
    paths.temp_volume.as_deref().map(Path::new)
}

fn leads_to(link: &Path, target: &Path) -> bool {
    fs::read_link(link).is_ok_and(|found| found == target)
}

/// Removes the link: another runner may use the builds directory next, and expects a directory or
/// nothing.
pub(crate) fn unlink(paths: &Paths) -> io::Result<()> {
    let shown = Path::new(&paths.temp_dir);
    if volume(paths).is_some_and(|volume| leads_to(shown, volume)) { trees::remove_file(shown) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(root: &Path) -> Paths {
        let at = |path: &str| root.join(path).to_string_lossy().into_owned();
        Paths {
            builds_dir: at("builds"),
            project_dir: at("builds/g/p"),
            temp_dir: at("builds/g/p.tmp"),
            temp_volume: Some(at("volume")),
        }
    }

    #[test]
    fn where_links_are_impossible_it_is_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let paths = below(root.path());
        let directory = make_by(&paths, |_, _| Err(ErrorKind::Unsupported.into())).unwrap();
        assert!(is_exposed(&paths, directory) && directory.is_dir());
        assert_eq!((directory, found(&paths)), (Path::new(&paths.temp_dir), directory));
        let other = make_by(&paths, |_, _| Err(ErrorKind::StorageFull.into()));
        assert_eq!(other.unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn the_link_is_made_and_made_again_whatever_is_in_its_place() {
        let root = tempfile::tempdir().unwrap();
        let paths = below(root.path());
        let is_right = || {
            assert!(!is_exposed(&paths, make(&paths).unwrap()));
            fs::write(root.path().join("volume/KEY"), "content").unwrap();
            fs::read_to_string(root.path().join("builds/g/p.tmp/KEY")).is_ok_and(|text| text == "content")
        };
        assert!(is_right() && is_right());
        fs::remove_dir_all(root.path().join("builds/g")).unwrap();
        assert!(is_right());
        fs::remove_file(&paths.temp_dir).unwrap();
        fs::create_dir_all(root.path().join("builds/g/p.tmp/deep")).unwrap();
        assert!(is_right());
        // A job's own link is replaced, and nothing is written or removed behind it.
        let victim = root.path().join("victim");
        fs::create_dir_all(victim.join("p.tmp")).unwrap();
        fs::remove_dir_all(root.path().join("builds/g")).unwrap();
        symlink(&victim, root.path().join("builds/g")).unwrap();
        assert!(is_right() && fs::symlink_metadata(victim.join("p.tmp")).unwrap().is_dir());
        unlink(&paths).unwrap();
        assert!(!Path::new(&paths.temp_dir).exists() && root.path().join("volume/KEY").exists());
    }
}
