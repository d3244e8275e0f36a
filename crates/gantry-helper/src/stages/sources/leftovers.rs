//! What an earlier job has left where this job's repository goes. Volumes that outlive their pods
//! hold whatever that job wrote, so nothing of it may name a program that git then runs in the
//! helper container, or lead git elsewhere, or stop it. Only data is kept, and that only as plain
//! files and directories; configuration, hooks, attributes, links and locks go, and the
//! configuration is written anew.

use std::fs::{self, DirEntry};
use std::io::{self, Read as _};
use std::path::Path;

use walkdir::WalkDir;

use crate::trees::{remove_file, remove_tree};

/// What a git directory may keep: objects, what names them, and what git knows about the files of
/// the work tree.
const DIRECTORIES: [&str; 4] = ["objects", "refs", "lfs", "modules"];
const FILES: [&str; 4] = ["HEAD", "packed-refs", "shallow", "index"];

/// A split index keeps its larger part in a file of this name and a number.
const SHARED_INDEX: &str = "sharedindex.";

/// Files of a work tree that git reads whether or not they are tracked.
const READ_BY_GIT: [&str; 4] = [".gitattributes", ".gitignore", ".gitmodules", ".lfsconfig"];

/// Longest content of `HEAD`: git takes names of refs of up to about 4 KiB.
const LONGEST_HEAD: u64 = 8192;

/// Cleans the repository of `project`, and those of its submodules, which get `module_config`. Says
/// whether a repository is left; one that git could not use, or that is a link or lies elsewhere,
/// is not.
pub(crate) fn secure(project: &Path, module_config: &str) -> io::Result<bool> {
    for name in READ_BY_GIT {
        let path = project.join(name);
        // Reading a pipe would never end. What is tracked comes back with the checkout.
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            remove_tree(&path)?;
        }
    }
    secure_repository(&project.join(".git"), module_config)
}

/// Cleans one git directory, or removes it if that leads to nothing.
fn secure_repository(git: &Path, module_config: &str) -> io::Result<bool> {
    let is_directory = fs::symlink_metadata(git).is_ok_and(|metadata| metadata.is_dir());
    if is_directory && is_usable(git) && clean(git, module_config).is_ok() {
        return Ok(true);
    }
    remove_tree(git).map(|()| false)
}

/// Whether git would take it for a repository, without help from anywhere else.
fn is_usable(git: &Path) -> bool {
    let is_directory = |name: &str| fs::symlink_metadata(git.join(name)).is_ok_and(|metadata| metadata.is_dir());
    is_directory("objects") && is_directory("refs") && head(&git.join("HEAD")).is_some_and(|head| is_head(&head))
}

fn head(path: &Path) -> Option<String> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LONGEST_HEAD).read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_head(text: &str) -> bool {
    let text = text.trim_end();
    let is_commit = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit || text.strip_prefix("ref: refs/").is_some_and(|name| !name.is_empty() && !name.contains(".."))
}

fn clean(git: &Path, module_config: &str) -> io::Result<()> {
    for entry in fs::read_dir(git)? {
        let entry = entry?;
        if !is_kept(&entry)? {
            remove_tree(&entry.path())?;
        }
    }
    for borrowed in ["objects/info/alternates", "objects/info/http-alternates"] {
        remove_tree(&git.join(borrowed))?;
    }
    let modules = git.join("modules");
    let entries = WalkDir::new(git).follow_links(false).into_iter().filter_entry(|entry| entry.path() != modules);
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type();
        let is_lock = kind.is_file() && entry.path().extension().is_some_and(|extension| extension == "lock");
        if is_lock || !(kind.is_file() || kind.is_dir()) {
            remove_file(entry.path())?;
        }
    }
    if modules.is_dir() { secure_modules(&modules, module_config) } else { Ok(()) }
}

fn is_kept(entry: &DirEntry) -> io::Result<bool> {
    let (name, kind) = (entry.file_name(), entry.file_type()?);
    let name = name.to_string_lossy();
    Ok(if kind.is_dir() {
        DIRECTORIES.contains(&name.as_ref())
    } else {
        kind.is_file() && (FILES.contains(&name.as_ref()) || name.starts_with(SHARED_INDEX))
    })
}

/// Below `.git/modules` are the git directories of submodules, by name, and a name may have several
/// parts.
fn secure_modules(directory: &Path, module_config: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            remove_file(&path)?;
        } else if ["HEAD", "objects", "config"].iter().any(|name| fs::symlink_metadata(path.join(name)).is_ok()) {
            if secure_repository(&path, module_config)? {
                fs::write(path.join("config"), module_config)?;
            }
        } else {
            secure_modules(&path, module_config)?;
            // Git takes an empty directory for a submodule that is there.
            let _ = fs::remove_dir(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn repository(git: &Path) {
        for directory in ["objects/info", "objects/pack", "refs/heads", "info", "hooks", "logs"] {
            fs::create_dir_all(git.join(directory)).unwrap();
        }
        for (file, content) in [
            ("HEAD", "ref: refs/heads/main\n"),
            ("index", "DIRC"),
            ("index.lock", ""),
            ("config", "[core]\n\tfsmonitor = /builds/evil\n"),
            ("config.worktree", ""),
            ("commondir", "/builds/evil.git\n"),
            ("packed-refs", ""),
            ("hooks/post-checkout", ""),
            ("info/attributes", "* filter=evil\n"),
            ("refs/heads/main", "0123"),
            ("refs/heads/x.lock", ""),
            ("objects/info/alternates", "/builds/evil\n"),
        ] {
            fs::write(git.join(file), content).unwrap();
        }
        symlink("/home/ci/.gitconfig", git.join("FETCH_HEAD")).unwrap();
        symlink("/etc", git.join("refs/remotes")).unwrap();
    }

    fn left(git: &Path) -> Vec<String> {
        let mut left: Vec<String> = WalkDir::new(git)
            .min_depth(1)
            .sort_by_file_name()
            .into_iter()
            .filter_map(Result::ok)
            .map(|entry| entry.path().strip_prefix(git).unwrap().to_string_lossy().into_owned())
            .filter(|path| !path.starts_with("modules"))
            .collect();
        left.sort();
        left
    }

    #[test]
    fn only_data_stays() {
        let project = tempfile::tempdir().unwrap();
        let git = project.path().join(".git");
        let module = git.join("modules/a/b");
        repository(&git);
        repository(&module);
        fs::create_dir_all(git.join("modules/empty/deep")).unwrap();
        fs::write(git.join("modules/file"), "gitdir: /builds/evil.git\n").unwrap();
        assert!(secure(project.path(), "[core]\n").unwrap());
        let data = ["HEAD", "index", "objects", "objects/info", "objects/pack", "packed-refs", "refs", "refs/heads"];
        let data = [&data[..], &["refs/heads/main"]].concat();
        assert_eq!(left(&git), data);
        assert_eq!(left(&module), [&["HEAD", "config"], &data[1..]].concat());
        assert_eq!(fs::read_to_string(module.join("config")).unwrap(), "[core]\n");
        assert!(!git.join("modules/empty").exists() && !git.join("modules/file").exists());
    }

    #[test]
    fn what_is_no_plain_repository_goes() {
        type Plant = fn(&Path);
        let plants: [(&str, Plant); 8] = [
            ("a link", |git| symlink("/builds/evil.git", git).unwrap()),
            ("a file", |git| fs::write(git, "gitdir: /builds/evil.git\n").unwrap()),
            ("nothing in it", |git| fs::create_dir(git).unwrap()),
            ("an empty HEAD", |git| {
                repository(git);
                fs::write(git.join("HEAD"), "").unwrap();
            }),
            ("a HEAD that is a directory", |git| {
                repository(git);
                fs::remove_file(git.join("HEAD")).unwrap();
                fs::create_dir(git.join("HEAD")).unwrap();
            }),
            ("a linked HEAD", |git| {
                repository(git);
                fs::remove_file(git.join("HEAD")).unwrap();
                symlink("refs/heads/main", git.join("HEAD")).unwrap();
            }),
            ("linked objects", |git| {
                repository(git);
                fs::remove_dir_all(git.join("objects")).unwrap();
                symlink("/builds/evil.git/objects", git.join("objects")).unwrap();
            }),
            ("no refs", |git| {
                repository(git);
                fs::remove_dir_all(git.join("refs")).unwrap();
            }),
        ];
        for (what, plant) in plants {
            let project = tempfile::tempdir().unwrap();
            let git = project.path().join(".git");
            plant(&git);
            assert!(!secure(project.path(), "").unwrap(), "{what}");
            assert!(fs::symlink_metadata(&git).is_err(), "{what}");
        }
    }

    #[test]
    fn a_directory_in_place_of_a_file_goes() {
        let project = tempfile::tempdir().unwrap();
        let git = project.path().join(".git");
        repository(&git);
        fs::remove_file(git.join("config")).unwrap();
        fs::create_dir_all(git.join("config/deep")).unwrap();
        fs::remove_file(git.join("index")).unwrap();
        fs::create_dir(git.join("index")).unwrap();
        nix::unistd::mkfifo(&project.path().join(".gitattributes"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(secure(project.path(), "").unwrap());
        assert!(!git.join("config").exists() && !git.join("index").exists());
        assert!(!project.path().join(".gitattributes").exists());
    }
}
