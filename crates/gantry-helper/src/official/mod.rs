//! The command line of the official helper (GitLab Runner 19.4, `gitlab-runner-helper`), so that a
//! `gitlab-runner` can use an image with this program: the sub-commands that it calls in job pods,
//! under their names, with their flags, variables and exit codes. The work is done by the same code
//! as for our own agent; nothing of ours calls this.

mod flags;
mod health;
mod movers;
mod read_logs;
mod stores;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::stat::{Mode, umask};

use self::flags::Flags;

/// The name under which the official helper's shell is called.
const SHELL_NAME: &str = "gitlab-runner-build";

/// What ends a sub-command, as a sentence for the log.
type Fatal = String;

/// Does what a call of the official helper asks for; nothing if it is none of those.
pub(crate) fn run(args: &[OsString]) -> Option<ExitCode> {
    let name = args.first().map(Path::new).and_then(Path::file_name)?;
    if name == SHELL_NAME {
        return Some(shell());
    }
    let words: Vec<String> = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if matches!(words.first().map(String::as_str), Some("--version" | "-v" | "-version"))
        && name.to_string_lossy().starts_with("gitlab-runner")
    {
        print_version();
        return Some(ExitCode::SUCCESS);
    }
    let (command, rest) = flags::command(&words)?;
    let work: fn(&Flags) -> Result<ExitCode, Fatal> = match command {
        "artifacts-uploader" => movers::upload_artifacts,
        "artifacts-downloader" => movers::download_artifacts,
        "cache-archiver" => movers::save_cache,
        "cache-extractor" => movers::restore_cache,
        "cache-init" => movers::init_caches,
        "health-check" => health::run,
        "read-logs" => read_logs::run,
        _ => return None,
    };
    if matches!(rest.first().map(String::as_str), Some("--help" | "-help" | "-h")) {
        print!("{}", flags::help(command));
        return Some(ExitCode::SUCCESS);
    }
    let flags = Flags::read(rest, |name| std::env::var(name).ok());
    for warning in &flags.warnings {
        eprintln!("\x1b[0;33mWARNING: {warning}\x1b[0;m");
    }
    Some(work(&flags).unwrap_or_else(|fatal| {
        eprintln!("\x1b[31;1mFATAL: {fatal}\x1b[0;m");
        ExitCode::FAILURE
    }))
}

/// The lines that the official helper prints; scripts only look at the exit code.
fn print_version() {
    println!("Version:      {}", crate::VERSION);
    println!("Git revision: gantry");
    println!("Git branch:   ");
    println!("GO version:   none");
    println!("Built:        ");
    println!("OS/Arch:      {}/{}", std::env::consts::OS, gantry_gitlab::architecture());
}

/// A shell that reads a script from standard input and lets everybody write to what it makes.
fn shell() -> ExitCode {
    umask(Mode::empty());
    let error = Command::new("/bin/bash").exec();
    eprintln!("{SHELL_NAME}: /bin/bash cannot be started: {error}; this helper image needs it for gitlab-runner");
    ExitCode::FAILURE
}
