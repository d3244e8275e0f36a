//! Removes what an earlier job may have left in a repository and what would stop git or run code of that job: locks, hooks, configuration
//! (GitLab Runner 19.4).

use std::io;
use std::path::Path;

use walkdir::WalkDir;

use crate::stages::trees::{remove_file, remove_tree};

/// Files of a git directory that a killed git leaves locked.
const LOCKS: [&str; 5] = ["index.lock", "shallow.lock", "HEAD.lock", "hooks/post-checkout", "config.lock"];

/// Cleans the repository of `project`, and with `submodules` those of its submodules.
pub(crate) fn clear(project: &Path, submodules: bool) -> io::Result<()> {
    let git = project.join(".git");
    // A link or a file in place of the repository is not ours to clean.
    if !std::fs::symlink_metadata(&git).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    clear_one(&git)?;
    if submodules {
        for entry in directories(&git.join("modules")) {
            if entry.join("HEAD").exists() {
                clear_one(&entry)?;
            }
        }
    }
    Ok(())
}

fn clear_one(git: &Path) -> io::Result<()> {
    for lock in LOCKS {
        remove_file(&git.join(lock))?;
    }
    let refs = WalkDir::new(git.join("refs")).follow_links(false).follow_root_links(false);
    for entry in refs.into_iter().filter_map(Result::ok) {
        if !entry.file_type().is_dir() && entry.path().extension().is_some_and(|extension| extension == "lock") {
            remove_file(entry.path())?;
        }
    }
    remove_file(&git.join("config"))?;
    remove_tree(&git.join("hooks"))
}

fn directories(below: &Path) -> Vec<std::path::PathBuf> {
    WalkDir::new(below)
        .follow_links(false)
        .follow_root_links(false)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_dir())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn locks_hooks_and_configuration_go_and_the_rest_stays() {
        let project = tempfile::tempdir().unwrap();
        let git = project.path().join(".git");
        let module = git.join("modules/a/b");
        for directory in [&git, &module] {
            fs::create_dir_all(directory.join("hooks")).unwrap();
            fs::create_dir_all(directory.join("refs/heads")).unwrap();
            for file in ["HEAD", "index", "index.lock", "config", "hooks/post-checkout", "refs/heads/x.lock"] {
                fs::write(directory.join(file), "").unwrap();
            }
        }
        clear(project.path(), true).unwrap();
        for directory in [&git, &module] {
            let left: Vec<_> = ["HEAD", "index", "index.lock", "config", "hooks", "refs/heads/x.lock"]
                .into_iter()
                .filter(|file| directory.join(file).exists())
                .collect();
            assert_eq!(left, ["HEAD", "index"]);
        }
    }
}
