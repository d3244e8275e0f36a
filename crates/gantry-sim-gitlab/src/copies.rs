//! Directories and files on this machine that stand for other projects and for URLs. Only reads,
//! and nothing outside of what was named.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::ci::FileLookup;
use crate::limits;

/// What separates a project from the place of a file in the address of a raw file.
const RAW: &str = "/-/raw/";

/// What stands for what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies {
    places: Vec<(String, PathBuf)>,
}

impl Copies {
    /// `places`: a project's path and a directory, or a URL and a file (or the beginning of URLs
    /// and a directory).
    pub(crate) fn new(places: Vec<(String, PathBuf)>) -> Self {
        let name = |name: String| if is_url(&name) { name } else { name.trim_matches('/').to_owned() };
        Self { places: places.into_iter().map(|(place, path)| (name(place), path)).collect() }
    }

    fn project(&self, project: &str) -> Option<&Path> {
        // Paths of projects are the same in capitals.
        self.places.iter().find(|(name, _)| name.eq_ignore_ascii_case(project)).map(|(_, path)| path.as_path())
    }

    /// A file of a project. Blocks.
    pub(crate) fn file(&self, project: &str, path: &str) -> FileLookup {
        self.project(project).map_or(FileLookup::Unmapped, |root| read(root, path).into())
    }

    /// Every file of a project, by name. Blocks.
    pub(crate) fn paths(&self, project: &str) -> Option<Rc<[String]>> {
        let root = self.project(project)?;
        let mut names = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let (path, kind) = (entry.path(), entry.file_type());
                match kind {
                    Ok(kind) if kind.is_dir() && entry.file_name() != ".git" => open.push(path),
                    Ok(kind) if kind.is_file() => {
                        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
                        names.extend(name.map(str::to_owned));
                    }
                    _ => {}
                }
                if names.len() + open.len() > limits::COPIED_FILES {
                    open.clear();
                    break;
                }
            }
        }
        names.sort();
        Some(names.into())
    }

    /// The file of a URL: one that was named, or a raw file of a project that a directory stands
    /// for. Blocks.
    pub(crate) fn url(&self, url: &str) -> FileLookup {
        let url = url.split(['?', '#']).next().unwrap_or(url);
        let named = self.places.iter().filter(|(name, _)| is_url(name));
        for (name, path) in named {
            if name == url {
                return text(path).into();
            }
            if let Some(rest) = url.strip_prefix(name.as_str()).filter(|_| name.ends_with('/')) {
                return read(path, rest).into();
            }
        }
        let project = url.split_once(RAW).and_then(|(place, file)| {
            let (_, project) = place.split_once("://")?.1.split_once('/')?;
            Some((self.project(project)?, file))
        });
        let Some((root, file)) = project else { return FileLookup::Unmapped };
        // A ref may have slashes: the first place behind one at which there is such a file.
        let mut starts = file.match_indices('/').filter_map(|(at, _)| file.get(at + 1..));
        starts.find_map(|path| read(root, path)).into()
    }
}

fn is_url(name: &str) -> bool {
    name.contains("://")
}

/// A text inside of a directory, wherever links lead.
fn read(root: &Path, path: &str) -> Option<String> {
    let path = Path::new(path.trim_start_matches('/'));
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let (root, path) = (root.canonicalize().ok()?, root.join(path).canonicalize().ok()?);
    if path.starts_with(root) { text(&path) } else { None }
}

fn text(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    if size > limits::CI_FILE as u64 {
        return None;
    }
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_the_named_places_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tools");
        fs::create_dir_all(root.join("ci")).unwrap();
        fs::write(root.join("ci/a.yml"), "a").unwrap();
        fs::write(dir.path().join("secret.yml"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.yml"), root.join("link.yml")).unwrap();
        let copies = Copies::new(vec![
            ("/group/tools/".to_owned(), root.clone()),
            ("https://example.com/x.yml".to_owned(), root.join("ci/a.yml")),
            ("https://example.com/dir/".to_owned(), root.join("ci")),
        ]);
        let found = |text: &str| FileLookup::Text(text.to_owned());
        assert_eq!(copies.file("Group/Tools", "ci/a.yml"), found("a"));
        assert_eq!(copies.file("group/tools", "ci/b.yml"), FileLookup::Nothing);
        assert_eq!(copies.file("group/tools", "../secret.yml"), FileLookup::Nothing);
        assert_eq!(copies.file("group/tools", "link.yml"), FileLookup::Nothing);
        assert_eq!(copies.file("group/other", "ci/a.yml"), FileLookup::Unmapped);
        assert_eq!(copies.paths("group/tools").as_deref(), Some(&["ci/a.yml".to_owned()][..]));
        assert_eq!(copies.url("https://example.com/x.yml?inline=false"), found("a"));
        assert_eq!(copies.url("https://example.com/dir/a.yml"), found("a"));
        assert_eq!(copies.url("https://gitlab.example.com/group/tools/-/raw/feature/one/ci/a.yml"), found("a"));
        assert_eq!(copies.url("https://gitlab.example.com/group/other/-/raw/main/ci/a.yml"), FileLookup::Unmapped);
    }
}
