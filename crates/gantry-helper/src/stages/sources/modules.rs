//! What is known of submodules without git's help: their URLs, from `.gitmodules`, and what an
//! earlier job may have put where git would look for them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use gantry_core::Ending;
use walkdir::WalkDir;

use super::git::Git;
use crate::limits::{GITMODULES, SUBMODULE_LEVELS};
use crate::stages::StageContext;
use crate::tasks;
use crate::trees::{is_real_below, remove_tree};

/// A submodule as `.gitmodules` has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Module {
    path: String,
    url: String,
}

/// The URLs of the submodules in the work tree of `project`, whose own URL is `base`, and of those
/// below, each once.
pub(super) fn urls(project: &Path, base: &str) -> Vec<String> {
    let mut urls = BTreeSet::new();
    collect(project, base, SUBMODULE_LEVELS, &mut urls);
    urls.into_iter().collect()
}

fn collect(tree: &Path, base: &str, levels: u32, urls: &mut BTreeSet<String>) {
    let file = tree.join(".gitmodules");
    let is_ours = fs::symlink_metadata(&file).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= GITMODULES);
    let Ok(text) = (if is_ours { fs::read_to_string(&file) } else { return }) else { return };
    for module in parse(&text) {
        let url = resolve(base, &module.url);
        let below = tree.join(&module.path);
        let is_plain = Path::new(&module.path).components().all(|part| matches!(part, Component::Normal(_)));
        if levels > 0 && is_plain && is_real_below(tree, &below) {
            collect(&below, &url, levels - 1, urls);
        }
        urls.insert(url);
    }
}

/// The sections `submodule` of a configuration of git. What is not understood is left out: it is
/// git that judges the file.
fn parse(text: &str) -> Vec<Module> {
    let mut modules = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            let is_module = line.get(1..10).is_some_and(|word| word.eq_ignore_ascii_case("submodule"));
            modules.push(is_module.then(Module::default));
        } else if let (Some(Some(module)), Some((key, value))) = (modules.last_mut(), line.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => module.path = unquoted(value.trim()),
                "url" => module.url = unquoted(value.trim()),
                _ => {}
            }
        }
    }
    modules.into_iter().flatten().filter(|module| !module.path.is_empty() && !module.url.is_empty()).collect()
}

/// A value of git's configuration without quotes, escapes and comment.
fn unquoted(text: &str) -> String {
    let mut out = String::new();
    let mut is_quoted = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' => out.extend(rest.next()),
            '#' | ';' if !is_quoted => break,
            c => out.push(c),
        }
    }
    out.trim_end().to_owned()
}

/// A URL that may be relative to that of the repository that holds the submodule (git's `submodule`
/// command).
fn resolve(base: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = base.trim_end_matches('/');
    let mut rest = url;
    loop {
        if let Some(same) = rest.strip_prefix("./") {
            rest = same;
        } else if let Some(up) = rest.strip_prefix("../") {
            rest = up;
            base = base.rsplit_once('/').or_else(|| base.rsplit_once(':')).map_or("", |(parent, _)| parent);
        } else {
            return format!("{base}/{}", rest.trim_end_matches('/'));
        }
    }
}

/// Makes sure that what git will take for the work tree of a submodule leads to nowhere but
/// `.git/modules`. Says whether something was removed in whose place there are tracked files.
pub(super) async fn secure(context: &StageContext, git: &Git<'_>) -> Result<bool, Ending> {
    let links = paths(git).await?;
    let project = PathBuf::from(&context.plan.paths.project_dir);
    let secured = tasks::blocking(move || secure_links(&project, &links)).await.and_then(|result| result);
    secured.map_err(|error| context.trouble("cannot remove what earlier jobs have left in submodules", &error))
}

/// The paths of all submodules.
pub(super) async fn paths(git: &Git<'_>) -> Result<Vec<PathBuf>, Ending> {
    let listing = git.answer(&["ls-files", "--stage", "-z"]).await?;
    Ok(listing.map(links).transpose().ok().flatten().unwrap_or_default())
}

/// The paths of submodules in what `git ls-files --stage -z` prints.
fn links(listing: File) -> io::Result<Vec<PathBuf>> {
    let mut links = Vec::new();
    for entry in BufReader::new(listing).split(0) {
        let entry = entry?;
        let Some(at) = entry.iter().position(|byte| *byte == b'\t').filter(|_| entry.starts_with(b"160000 ")) else {
            continue;
        };
        let path = PathBuf::from(OsString::from_vec(entry[at + 1..].to_vec()));
        if path.components().all(|part| matches!(part, Component::Normal(_))) {
            links.push(path);
        }
    }
    Ok(links)
}

fn secure_links(project: &Path, links: &[PathBuf]) -> io::Result<bool> {
    let (mut is_tracked_lost, mut is_planted) = (false, false);
    for link in links {
        let mut path = project.to_owned();
        for part in link.components() {
            path.push(part);
            if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_dir()) {
                remove_tree(&path)?;
                is_tracked_lost = true;
            }
        }
        is_planted |= secure_tree(&path, &project.join(".git/modules"))?;
    }
    if is_tracked_lost || is_planted {
        // Git would look for the rest of what it finds here.
        remove_tree(&project.join(".git/modules"))?;
        for link in links {
            remove_tree(&project.join(link))?;
        }
    }
    Ok(is_tracked_lost || is_planted)
}

/// Removes linked directories in the work tree of a submodule, which come back if they are tracked,
/// and says whether it holds a `.git` that leads to elsewhere.
fn secure_tree(tree: &Path, modules: &Path) -> io::Result<bool> {
    let mut is_planted = false;
    for entry in WalkDir::new(tree).follow_links(false).follow_root_links(false) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        if entry.file_name() == ".git" {
            is_planted |= !(entry.file_type().is_file() && leads_to(entry.path(), modules));
        } else if entry.path_is_symlink() && entry.path().is_dir() {
            remove_tree(entry.path())?;
        }
    }
    Ok(is_planted)
}

/// Whether a `.git` file names a directory below `modules`.
fn leads_to(file: &Path, modules: &Path) -> bool {
    let is_short = fs::symlink_metadata(file).is_ok_and(|metadata| metadata.len() <= GITMODULES);
    let Ok(text) = (if is_short { fs::read_to_string(file) } else { return false }) else { return false };
    let (Some(target), Some(directory)) = (text.strip_prefix("gitdir: "), file.parent()) else { return false };
    let mut path = PathBuf::new();
    for part in directory.join(target.trim_end_matches('\n')).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path != modules && is_real_below(modules, &path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn gitmodules_are_read_as_git_reads_them() {
        let text = "[core]\n\tpath = x\n[submodule \"a]b\"]\n\tpath = lib/a\n\turl = ../a.git # ours\n[Submodule \"q\"]\n URL=\"https://h/q#1.git\"\n path=q \n[submodule \"half\"]\n\tpath = half\n";
        let module = |path: &str, url: &str| Module { path: path.to_owned(), url: url.to_owned() };
        assert_eq!(parse(text), [module("lib/a", "../a.git"), module("q", "https://h/q#1.git")]);
    }

    #[test]
    fn relative_urls() {
        for (base, url, resolved) in [
            ("https://h/g/p.git", "../q.git", "https://h/g/q.git"),
            ("https://h/g/p.git", "../../x/q.git", "https://h/x/q.git"),
            ("https://h/g/p.git/", "./q.git/", "https://h/g/p.git/q.git"),
            ("git@h:p.git", "../q.git", "git@h/q.git"),
            ("https://h/g/p.git", "https://other/q.git", "https://other/q.git"),
        ] {
            assert_eq!(resolve(base, url), resolved, "{base} {url}");
        }
    }

    #[test]
    fn urls_of_all_levels() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir_all(project.path().join("a/b")).unwrap();
        fs::write(project.path().join(".gitmodules"), "[submodule \"a\"]\npath=a\nurl=../a.git\n").unwrap();
        fs::write(project.path().join("a/.gitmodules"), "[submodule \"b\"]\npath=b\nurl=../deep/b.git\n").unwrap();
        assert_eq!(urls(project.path(), "https://h/g/p.git"), ["https://h/g/a.git", "https://h/g/deep/b.git"]);
    }

    /// A project with the submodule `lib/sub` as git leaves it.
    fn project() -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir_all(project.path().join(".git/modules/sub")).unwrap();
        fs::create_dir_all(project.path().join("lib/sub")).unwrap();
        fs::write(project.path().join("lib/sub/.git"), "gitdir: ../../.git/modules/sub\n").unwrap();
        project
    }

    #[test]
    fn only_what_git_has_made_stays() {
        type Plant = fn(&Path);
        let plants: [(&str, Plant, bool); 6] = [
            ("nothing", |_| {}, false),
            ("a link within", |sub| symlink("/etc", sub.join("link")).unwrap(), false),
            ("another repository", |sub| fs::write(sub.join(".git"), "gitdir: /builds/evil.git\n").unwrap(), true),
            (
                "a repository of its own",
                |sub| {
                    fs::remove_file(sub.join(".git")).unwrap();
                    fs::create_dir(sub.join(".git")).unwrap();
                },
                true,
            ),
            ("one further down", |sub| fs::create_dir_all(sub.join("deep/.git")).unwrap(), true),
            (
                "a link on the way",
                |sub| {
                    let lib = sub.parent().unwrap();
                    fs::rename(lib, lib.with_extension("evil")).unwrap();
                    symlink(lib.with_extension("evil"), lib).unwrap();
                },
                true,
            ),
        ];
        for (what, plant, is_removed) in plants {
            let project = project();
            plant(&project.path().join("lib/sub"));
            let links = [PathBuf::from("lib/sub")];
            assert_eq!(secure_links(project.path(), &links).unwrap(), is_removed, "{what}");
            assert_eq!(project.path().join("lib/sub/.git").exists(), !is_removed, "{what}");
            assert_eq!(project.path().join(".git/modules").exists(), !is_removed, "{what}");
            assert!(!project.path().join("lib/sub/link").exists(), "{what}");
        }
    }

    #[test]
    fn submodules_are_listed() {
        use std::io::{Seek as _, Write as _};
        let mut listing = tempfile::tempfile().unwrap();
        listing.write_all(b"100644 01 0\ta\x00160000 02 0\tlib/s\xff\x00160000 03 0\t../x\x00").unwrap();
        listing.rewind().unwrap();
        assert_eq!(links(listing).unwrap(), [PathBuf::from(OsString::from_vec(b"lib/s\xff".to_vec()))]);
    }
}
