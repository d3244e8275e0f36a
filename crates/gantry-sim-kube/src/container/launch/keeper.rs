//! The keeper: stands between the runtime and the first process (see the module above). It holds no
//! copy of the command's streams once the command runs, or their readers would never see an end.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::Path,
    process::{Child, Command as Process, Stdio},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
};
use rustix::{
    fs::{AtFlags, unlinkat},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    super::{
        channel::{self, Command, Namespace, Order, Report, Task},
        error::{Failure, Step},
        spec::Privilege,
    },
    FIRST, LAUNCHER_NAME, user,
};

/// Works until the command has ended or the runtime is gone.
pub(super) fn run(control: &UnixStream) -> io::Result<()> {
    let Some((order, files)) = channel::receive::<Order>(control)? else { return Ok(()) };
    match start(&order, files) {
        Ok(first) => first.keep(control),
        Err(failure) => channel::send(control, &Report::Failed(failure), &[]),
    }
}

/// The first process and what leads to it.
struct First {
    child: Child,
    /// Signals through this cannot hit another process that got the same number.
    handle: OwnedFd,
    reports: UnixStream,
    in_cgroup: bool,
    group: Option<Group>,
}

/// A container's control group, which its keeper removes if the runtime is not there any more.
struct Group {
    parent: File,
    name: OsString,
}

impl Group {
    fn open(procs: &str) -> Option<Self> {
        let group = Path::new(procs).parent()?;
        Some(Self { parent: File::open(group.parent()?).ok()?, name: group.file_name()?.to_owned() })
    }
}

/// Makes or enters the namespaces and starts the first process in them.
fn start(order: &Order, mut files: Vec<OwnedFd>) -> Result<First, Failure> {
    // All opened now: the host's files are soon out of sight, for the keeper too, since a change of
    // the root moves every process of the mount namespace that stands at the old one.
    std::env::set_current_dir("/").step(|| "enter /".to_owned())?;
    let cgroup = order.cgroup.as_ref().and_then(|path| fs::OpenOptions::new().write(true).open(path).ok());
    let group = order.cgroup.as_deref().filter(|_| matches!(order.task, Task::Start(_))).and_then(Group::open);
    match &order.task {
        Task::Start(_) | Task::Probe(_) => make_namespaces(order.privilege)?,
        Task::Exec { namespaces } => {
            let streams = files.split_off(namespaces.len().min(files.len()));
            enter_namespaces(namespaces, &files)?;
            user::prepare_exec(order.privilege, &order.spec)?;
            files = streams;
        }
    }
    let (reports, theirs) = UnixStream::pair().step(|| "make a socket".to_owned())?;
    let child = Process::new("/proc/self/exe")
        .arg0(LAUNCHER_NAME)
        .args([FIRST, &order.spec.name])
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .step(|| "start the first process".to_owned())?;
    let handle = Pid::from_raw(child.id().cast_signed())
        .ok_or(io::ErrorKind::NotFound.into())
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from))
        .step(|| "watch the first process".to_owned())?;
    let in_cgroup = cgroup.is_some_and(|file| join(file, child.id()).is_ok());
    let streams: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    channel::send(&reports, order, &streams).step(|| "instruct the first process".to_owned())?;
    Ok(First { child, handle, reports, in_cgroup, group })
}

fn join(mut procs: File, pid: u32) -> io::Result<()> {
    procs.write_all(pid.to_string().as_bytes())
}

fn make_namespaces(privilege: Privilege) -> Result<(), Failure> {
    let mut flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if privilege == Privilege::Root {
        return unshare(flags).step(|| "make namespaces".to_owned());
    }
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    flags |= CloneFlags::CLONE_NEWUSER;
    unshare(flags).step(|| "make a user namespace".to_owned())?;
    user::map((0, uid), (0, gid))
}

fn enter_namespaces(namespaces: &[Namespace], files: &[OwnedFd]) -> Result<(), Failure> {
    for (namespace, file) in namespaces.iter().zip(files) {
        let flag = match namespace {
            Namespace::OuterUser | Namespace::InnerUser => CloneFlags::CLONE_NEWUSER,
            Namespace::Mount => CloneFlags::CLONE_NEWNS,
            Namespace::Pid => CloneFlags::CLONE_NEWPID,
            Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
            Namespace::Uts => CloneFlags::CLONE_NEWUTS,
        };
        setns(file, flag).step(|| format!("enter the container's {namespace:?} namespace"))?;
    }
    Ok(())
}

/// What the first process has said so far.
#[derive(Default)]
struct Start {
    report: Option<(Report, Vec<OwnedFd>)>,
    /// Its socket is closed: it has been replaced by the command, or it is dead.
    over: bool,
}

impl First {
    /// Reports the start, passes signals on, reports the end.
    fn keep(mut self, control: &UnixStream) -> io::Result<()> {
        let mut start = Start::default();
        loop {
            let mut waiting = vec![
                PollFd::new(control.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.handle.as_fd(), PollFlags::POLLIN),
            ];
            if !start.over {
                waiting.push(PollFd::new(self.reports.as_fd(), PollFlags::POLLIN));
            }
            poll(&mut waiting, PollTimeout::NONE)?;
            let ready: Vec<bool> = waiting.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            // In this order: what was said before the end is passed on before the end.
            if ready.get(2) == Some(&true) {
                self.hear(&mut start, control)?;
            } else if ready.get(1) == Some(&true) {
                return self.bury(&start, control);
            } else if ready.first() == Some(&true) {
                self.on_order(control)?;
            }
        }
    }

    fn hear(&mut self, start: &mut Start, control: &UnixStream) -> io::Result<()> {
        if let Ok(Some((report, files))) = channel::receive::<Report>(&self.reports) {
            start.report = Some((report, files));
            return Ok(());
        }
        start.over = true;
        match &start.report {
            Some((Report::Started { namespaces, .. }, files)) => {
                let report =
                    Report::Started { pid: self.child.id(), in_cgroup: self.in_cgroup, namespaces: namespaces.clone() };
                let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
                channel::send(control, &report, &files)?;
            }
            Some((report, _)) => channel::send(control, report, &[])?,
            None => {
                let failure = Failure::setup("start the first process", "it ended without a word");
                channel::send(control, &Report::Failed(failure), &[])?;
            }
        }
        // The namespaces and the terminal are the runtime's now.
        if let Some((_, files)) = &mut start.report {
            files.clear();
        }
        Ok(())
    }

    fn on_order(&mut self, control: &UnixStream) -> io::Result<()> {
        match channel::receive::<Command>(control) {
            Ok(Some((Command::Signal(number), _))) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    // It may have ended meanwhile; the loop will notice.
                    let _ = pidfd_send_signal(&self.handle, signal);
                }
                Ok(())
            }
            // The runtime is gone, or has lost interest: the end of a first process is the end of
            // its container.
            Ok(None) | Err(_) => {
                let _ = self.child.kill();
                self.child.wait().map(drop)?;
                if let Some(group) = &self.group {
                    let _ = unlinkat(&group.parent, &group.name, AtFlags::REMOVEDIR);
                }
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn bury(&mut self, start: &Start, control: &UnixStream) -> io::Result<()> {
        let status = self.child.wait()?;
        if !matches!(start.report, Some((Report::Started { .. }, _))) {
            return Ok(());
        }
        let signal = status.signal();
        let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
        channel::send(control, &Report::Exited { code, signal }, &[])
    }
}
