//! The first process of a container or of an exec'd command, until it is replaced by the command.
//! It runs with the launcher's rights, so everything that the command must not inherit is given up
//! here, in an order that matters.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::sys::{prctl, signal::Signal};
use rustix::{
    process::ioctl_tiocsctty,
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
};

use super::{
    super::{
        channel::{self, Namespace, Order, Report, Task},
        error::{Failure, Step},
        spec::Privilege,
    },
    program, rootfs, user,
};

/// Returns only if the command could not be started, after having said why, or if there is none
/// (probe).
pub(super) fn run(control: &UnixStream) -> io::Result<()> {
    // Before waiting for the order: if the keeper dies before this line, the wait ends; if later,
    // so do we.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let Some((order, files)) = channel::receive::<Order>(control)? else { return Ok(()) };
    match become_the_command(control, &order, &files) {
        Ok(()) => Ok(()),
        Err(failure) => channel::send(control, &Report::Failed(failure), &[]),
    }
}

/// Does not return where the command is executed.
fn become_the_command(control: &UnixStream, order: &Order, streams: &[OwnedFd]) -> Result<(), Failure> {
    let spec = &order.spec;
    // Modes given to mkdir and open are meant as they are.
    rustix::process::umask(rustix::fs::Mode::empty());
    if let Task::Start(layout) | Task::Probe(layout) = &order.task {
        rootfs::build(order.privilege, spec, layout)?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::setsid().step(|| "start a session".to_owned())?;
    let terminal = if spec.tty { Some(connect_terminal(order)?) } else { None };
    if terminal.is_none() && !matches!(order.task, Task::Probe(_)) {
        connect_streams(streams).step(|| "connect the standard streams".to_owned())?;
    }
    enter_working_dir(order)?;

    let mut namespaces =
        if matches!(order.task, Task::Start(_)) { own_namespaces(order.privilege)? } else { Vec::new() };
    let nested = user::switch(order.privilege, spec, matches!(order.task, Task::Exec { .. }))?;
    if nested && !namespaces.is_empty() {
        namespaces.push((Namespace::InnerUser, open_namespace("user")?));
    }
    // Again, since the kernel forgets it when a process changes its user.
    prctl::set_pdeathsig(Signal::SIGKILL).step(|| "bind the container to its keeper".to_owned())?;

    let command = match order.task {
        Task::Probe(_) => None,
        Task::Start(_) => Some(program::find_any(spec)?),
        Task::Exec { .. } => Some((program::find(spec)?, spec.args.as_slice())),
    };
    let files: Vec<BorrowedFd<'_>> =
        namespaces.iter().map(|(_, file)| file.as_fd()).chain(terminal.iter().map(AsFd::as_fd)).collect();
    let kinds = namespaces.iter().map(|(kind, _)| *kind).collect();
    let report = Report::Started { pid: 0, in_cgroup: false, namespaces: kinds };
    channel::send(control, &report, &files).step(|| "report the start".to_owned())?;
    match command {
        Some((path, args)) => Err(program::execute(&path, args, spec)),
        None => Ok(()),
    }
}

fn connect_streams(streams: &[OwnedFd]) -> io::Result<()> {
    let [stdin, stdout, stderr] = streams else { return Err(io::ErrorKind::InvalidInput.into()) };
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    Ok(rustix::stdio::dup2_stderr(stderr)?)
}

/// Opens a terminal of the container's own `/dev/pts`, so that its name means something inside, and
/// makes it the session's. Returns the controlling side.
fn connect_terminal(order: &Order) -> Result<OwnedFd, Failure> {
    let open = || -> io::Result<OwnedFd> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let terminal = ioctl_tiocgptpeer(&controller, flags)?;
        if order.privilege == Privilege::Root {
            std::os::unix::fs::fchown(&terminal, order.spec.uid, None)?;
        }
        ioctl_tiocsctty(&terminal)?;
        rustix::stdio::dup2_stdin(&terminal)?;
        rustix::stdio::dup2_stdout(&terminal)?;
        rustix::stdio::dup2_stderr(&terminal)?;
        Ok(controller)
    };
    open().step(|| "open a terminal".to_owned())
}

fn enter_working_dir(order: &Order) -> Result<(), Failure> {
    let path = order.spec.cwd.as_deref().unwrap_or("/".as_ref());
    if matches!(order.task, Task::Start(_)) && !path.exists() {
        // A failure shows in the next line.
        let _ = fs::create_dir_all(path);
    }
    std::env::set_current_dir(path)
        .map_err(|error| Failure::WorkingDir { path: path.to_owned(), reason: program::reason(&error) })
}

/// Opens what a later exec needs. Done by the process itself, so that nobody needs the right to
/// look into it.
fn own_namespaces(privilege: Privilege) -> Result<Vec<(Namespace, File)>, Failure> {
    let mut found = Vec::new();
    if privilege == Privilege::UserNamespace {
        found.push((Namespace::OuterUser, open_namespace("user")?));
    }
    for (kind, name) in
        [(Namespace::Mount, "mnt"), (Namespace::Pid, "pid"), (Namespace::Ipc, "ipc"), (Namespace::Uts, "uts")]
    {
        found.push((kind, open_namespace(name)?));
    }
    Ok(found)
}

fn open_namespace(name: &str) -> Result<File, Failure> {
    File::open(format!("/proc/self/ns/{name}")).step(|| format!("open the {name} namespace"))
}
