//! The files of a work tree that git does not track. The repository belongs to the job, whose
//! configuration may name programs to run, so git gets a repository of ours that knows the same
//! files: a copy of the index and nothing else.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::root::Root;
use crate::limits::INDEX;

/// How git is called.
pub(super) struct Tool<'a> {
    /// The helper container's own `PATH`: a job's would have to lead to git too.
    pub(super) path: &'a str,
    /// `sha1` or `sha256`; empty means `sha1`.
    pub(super) object_format: &'a str,
    /// Where the copy goes.
    pub(super) scratch: &'a Path,
}

/// The untracked files, ignored ones too (GitLab Runner 19.4), relative to the root.
///
/// # Errors
/// In words for the job's log.
pub(super) fn untracked(root: &Root, tool: &Tool<'_>) -> Result<Vec<PathBuf>, String> {
    if !fs::symlink_metadata(root.path().join(".git")).is_ok_and(|metadata| metadata.is_dir()) {
        return Err("the project directory is no git repository".to_owned());
    }
    let repository = tempfile::tempdir_in(tool.scratch).map_err(|error| format!("no place for the index: {error}"))?;
    prepare(root, repository.path(), tool).map_err(|error| format!("the index cannot be read: {error}"))?;
    let output = Command::new("git")
        .args(["ls-files", "--others", "-z"])
        .env_clear()
        .envs([
            ("PATH", tool.path),
            ("GIT_WORK_TREE", "."),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ])
        .env("GIT_DIR", repository.path())
        // Where the index has whole directories as one entry, git looks into them.
        .env("GIT_OBJECT_DIRECTORY", ".git/objects")
        .current_dir(root.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(OsString::from_vec(name.to_vec()))).collect())
}

fn prepare(root: &Root, repository: &Path, tool: &Tool<'_>) -> io::Result<()> {
    fs::write(repository.join("HEAD"), "ref: refs/heads/none\n")?;
    fs::create_dir(repository.join("objects"))?;
    fs::create_dir(repository.join("refs"))?;
    let format = match tool.object_format {
        "" | "sha1" => "[core]\n\trepositoryFormatVersion = 0\n".to_owned(),
        other => format!("[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = {other}\n"),
    };
    fs::write(repository.join("config"), format + "[core]\n\tbare = false\n")?;
    for entry in fs::read_dir(root.path().join(".git"))? {
        let name = entry?.file_name();
        if name == "index" || name.to_string_lossy().starts_with("sharedindex.") {
            copy(root, &name, repository)?;
        }
    }
    Ok(())
}

fn copy(root: &Root, name: &OsStr, repository: &Path) -> io::Result<()> {
    let mut index = root.open_file(&Path::new(".git").join(name))?.take(INDEX);
    io::copy(&mut index, &mut File::create(repository.join(name))?).map(|_| ())
}
