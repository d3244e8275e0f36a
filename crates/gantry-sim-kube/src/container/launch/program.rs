//! Finds the command's program and executes it, with the errors that users know from container
//! engines.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustix::fs::{Access, access};
use signal_hook::consts::FORBIDDEN;

use super::super::{error::Failure, spec::ContainerSpec};

/// The search path of a container whose image and pod say nothing, as container engines have it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the system said, in the words of container engines: lower case, no number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// The file to execute for a container, and its arguments: those of [`ContainerSpec::otherwise`]
/// where there is no program.
pub(super) fn find_any(spec: &ContainerSpec) -> Result<(PathBuf, &[String]), Failure> {
    let is_nothing = spec.args.first().is_none_or(String::is_empty);
    match look_up(&spec.args, spec) {
        Err(failure) if !spec.otherwise.is_empty() && (is_nothing || matches!(failure, Failure::NotFound { .. })) => {
            Ok((look_up(&spec.otherwise, spec)?, &spec.otherwise))
        }
        found => Ok((found?, &spec.args)),
    }
}

/// The file to execute.
pub(super) fn find(spec: &ContainerSpec) -> Result<PathBuf, Failure> {
    look_up(&spec.args, spec)
}

fn look_up(args: &[String], spec: &ContainerSpec) -> Result<PathBuf, Failure> {
    let program = args.first().map_or("", String::as_str);
    let not_executable = |reason: String| Failure::NotExecutable { program: program.to_owned(), reason };
    if program.is_empty() {
        return Err(not_executable("no command specified".to_owned()));
    }
    if program.contains('/') {
        let path = PathBuf::from(program);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::NotFound {
                program: program.to_owned(),
                reason: format!("stat {program}: {}", reason(&error)),
            }),
            Err(error) => Err(not_executable(reason(&error))),
        };
    }
    let mut denied = None;
    for directory in std::env::split_paths(&search_path(spec)) {
        let path = directory.join(program);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = Some(error),
            Err(_) => {}
        }
    }
    match denied {
        Some(error) => Err(not_executable(reason(&error))),
        None => Err(Failure::NotFound {
            program: program.to_owned(),
            reason: "executable file not found in $PATH".to_owned(),
        }),
    }
}

fn search_path(spec: &ContainerSpec) -> OsString {
    spec.env.iter().rev().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value).into()
}

/// Whether this user may execute it and the kernel can: without the last check the C library would
/// run any text file as a shell script, which container engines refuse.
fn check(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // uid 0 may "execute" by access rights what has no execute bit at all on some file systems.
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    access(path, Access::EXEC_OK)?;
    let mut start = [0; 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) if start.starts_with(b"#!") || start == *b"\x7fELF" => Ok(()),
        Ok(()) => Err(io::Error::other("exec format error")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(io::Error::other("exec format error")),
        // Executable but not readable: the kernel will say.
        Err(_) => Ok(()),
    }
}

/// Whoever started the simulator may ignore signals: a shell makes a command in the background
/// ignore the interrupt key. Ignored ones stay ignored when a program is executed; those that are
/// handled go back to their default.
fn handle_ignored_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    // The numbers above are the C library's own.
    for signal in (1..32).filter(|signal| ignored >> (signal - 1) & 1 == 1) {
        if !FORBIDDEN.contains(&signal) {
            let _ = signal_hook::flag::register(signal, Arc::default());
        }
    }
}

/// Replaces this process. Returns only if that fails.
pub(super) fn execute(path: &Path, args: &[String], spec: &ContainerSpec) -> Failure {
    let mut command = Command::new(path);
    command.env_clear();
    let defaults = [("PATH", DEFAULT_PATH), ("HOME", "/root"), ("HOSTNAME", spec.hostname.as_str())];
    command.envs(defaults.into_iter().filter(|(_, value)| !value.is_empty()));
    if spec.tty {
        command.env("TERM", "xterm");
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    let program = args.first().cloned().unwrap_or_default();
    command.arg0(&program).args(args.iter().skip(1));
    handle_ignored_signals();
    // Unlike a bare `execve` this also restores the handling of SIGPIPE, which Rust programs
    // ignore.
    let error = command.exec();
    match error.kind() {
        // The file was there a moment ago, so its interpreter is missing.
        io::ErrorKind::NotFound => Failure::NotFound { program, reason: reason(&error) },
        _ => Failure::NotExecutable { program, reason: reason(&error) },
    }
}
