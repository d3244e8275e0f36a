//! Starts a script: its text in a memory file (never an argument, never standard input), its
//! variables through `execve`.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use gantry_wire::shim::SecretText;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::process::environment::{assignments, inherited, sort};
use crate::process::launch::{self, Started};
use crate::process::reaper::Reaper;

/// A script to start.
pub(crate) struct Script<'a> {
    pub(crate) shell: &'a Path,
    pub(crate) text: &'a str,
    pub(crate) environment: &'a [(String, SecretText)],
    /// Whether it gets what this process has besides.
    pub(crate) inherits: bool,
    pub(crate) directory: &'a Path,
}

/// Why a script could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The working directory is missing or no directory.
    #[error("the working directory {directory} cannot be used in this container: {problem}")]
    Directory {
        /// The directory.
        directory: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The text could not be put into memory.
    #[error("the script's text cannot be put into a memory file")]
    Text(#[source] std::io::Error),
    /// The shell could not be started.
    #[error("the shell {shell} cannot be started")]
    Shell {
        /// Its path.
        shell: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// A script that was started.
pub(crate) struct StartedScript {
    pub(crate) process: Started,
    /// What the log should say about its variables.
    pub(crate) warnings: Vec<String>,
}

/// Starts `script` as `<shell> /proc/self/fd/N`.
///
/// # Errors
/// Says what is in the way.
pub(crate) fn start(reaper: &Reaper, script: &Script<'_>) -> Result<StartedScript, StartError> {
    check_directory(script.directory)?;
    let sorted = sort(script.environment, if script.inherits { inherited() } else { 0 });
    // Not closed on exec: the shell opens it by its number. Nothing else starts meanwhile, since
    // one thread starts everything.
    let memory = memfd_create(c"script", MFdFlags::empty()).map_err(|error| StartError::Text(error.into()))?;
    let mut memory = std::fs::File::from(memory);
    let lines = assignments(&sorted.assigned);
    memory
        .write_all(lines.as_bytes())
        .and_then(|()| memory.write_all(script.text.as_bytes()))
        .map_err(StartError::Text)?;
    let mut command = Command::new(script.shell);
    if !script.inherits {
        command.env_clear();
    }
    command
        .arg(format!("/proc/self/fd/{}", memory.as_raw_fd()))
        .current_dir(script.directory)
        .envs(sorted.passed.iter().copied())
        .stdin(Stdio::null());
    for (key, _) in &sorted.assigned {
        // An inherited variable of that name would be exported again with its new value.
        command.env_remove(key);
    }
    let process = launch::start(reaper, command)
        .map_err(|source| StartError::Shell { shell: script.shell.to_string_lossy().into_owned(), source })?;
    Ok(StartedScript { process, warnings: sorted.warnings() })
}

/// Adds to `command` what `execve` can carry of `environment`, for programs that are no scripts of
/// ours.
pub(crate) fn pass_environment(command: &mut Command, environment: &[(String, SecretText)]) {
    command.envs(sort(environment, inherited()).passed);
}

/// Gives `command` what `execve` can carry of `environment`, and nothing else.
pub(crate) fn set_environment(command: &mut Command, environment: &[(String, SecretText)]) {
    command.env_clear().envs(sort(environment, 0).passed);
}

fn check_directory(directory: &Path) -> Result<(), StartError> {
    let problem = match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "it is not a directory".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(StartError::Directory { directory: directory.to_string_lossy().into_owned(), problem })
}
