//! The launcher: what the runtime's program is when it is started under another name. It has one
//! thread, gets its order over the socket that is its standard input, and must never print, wait
//! for anything but that socket and its child, or outlive the runtime.
//!
//! Two processes per container or exec'd command. The *keeper* enters or makes the namespaces,
//! starts the *first process* in them and stays outside as its parent: it passes signals on,
//! reports the end, and kills the first process when the socket closes, so that nothing survives
//! the runtime. The first process (`first`) builds the root file system if there is none, becomes
//! who it shall be, and replaces itself by the command.

mod devices;
mod first;
mod image;
mod keeper;
mod mounts;
mod own_files;
mod program;
mod rootfs;
mod tools;
mod user;

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, RawFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

/// The name (`argv[0]`) under which the program is the launcher.
pub(super) const LAUNCHER_NAME: &str = "gantry-sim-container";

/// First argument of the two processes.
pub(super) const KEEPER: &str = "keeper";
const FIRST: &str = "first";

/// Exit code of a launcher that could not even report what went wrong.
const BROKEN: u8 = 125;

/// Does the launcher's work if this process was started as one, and says how to exit; otherwise
/// returns `None` at once.
///
/// Every binary that is given to [`super::Runtime::new`] as the launcher calls this first in
/// `main`, before any thread exists (so not inside `#[tokio::main]`).
pub fn run_if_launcher() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next().as_deref() != Some(OsStr::new(LAUNCHER_NAME)) {
        return None;
    }
    let role = args.next()?;
    let Ok(control) = close_inherited().and_then(|()| take_control()) else { return Some(BROKEN.into()) };
    let done = match role.to_str() {
        Some(KEEPER) => keeper::run(&control),
        Some(FIRST) => first::run(&control),
        _ => return Some(BROKEN.into()),
    };
    Some(if done.is_ok() { ExitCode::SUCCESS } else { BROKEN.into() })
}

/// Closes what the simulator itself was given by whoever started it without being told, before
/// anything is opened here. (What the simulator opens itself is closed by `execve`.)
fn close_inherited() -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // One of them was the directory's own.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// Takes the socket out of standard input, so that no child inherits it. (The copy is closed by
/// `execve`.)
fn take_control() -> io::Result<UnixStream> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}
