//! The bridge: what a manager's `pods/exec` starts. It joins its own standard input and output to
//! the agent's socket and is otherwise nothing: it can be killed at any time. It never blocks in a
//! write, because a client that vanishes would leave it behind for good.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use gantry_wire::frame::Protocols;
use gantry_wire::layout::{BRIDGE_GREETING, EXEC_FAILURE};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::Clock;
use crate::layout::Layout;
use crate::limits::{BRIDGE_BUFFER, BRIDGE_CONNECT, BRIDGE_FAREWELL, CONNECT_PAUSE};

/// Runs until one side ends. A failure to start is one line on standard output, where the manager
/// looks.
pub(crate) fn run(layout: &Layout) -> ExitCode {
    let socket = match connect(layout) {
        Ok(socket) => socket,
        Err(error) => {
            let _ = writeln!(io::stdout(), "{EXEC_FAILURE} the agent does not answer: {error}");
            return ExitCode::FAILURE;
        }
    };
    ended(&join(socket, &format!("{BRIDGE_GREETING} {}\n", Protocols::OURS)))
}

/// The same with a TCP port of this pod, and without a word before: what comes is what the port
/// says.
pub(crate) fn forward(port: u16) -> ExitCode {
    let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    match TcpStream::connect(loopback.as_slice()) {
        Ok(socket) => ended(&join(socket, "")),
        Err(error) => {
            let _ = writeln!(io::stderr(), "nothing in this pod listens on port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ended(joined: &io::Result<()>) -> ExitCode {
    if joined.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn connect(layout: &Layout) -> io::Result<UnixStream> {
    let path = layout.manager_socket();
    let until = Clock::Boot.after(BRIDGE_CONNECT);
    loop {
        match UnixStream::connect(&path) {
            Ok(socket) => return Ok(socket),
            Err(error) if until.has_passed() => return Err(error),
            Err(_) => {
                let pause = PollTimeout::try_from(CONNECT_PAUSE).unwrap_or(PollTimeout::ZERO);
                poll(&mut [], pause)?;
            }
        }
    }
}

/// One direction: what was read and not yet written.
#[derive(Default)]
struct Lane {
    buffer: VecDeque<u8>,
    /// Nothing more comes in.
    ended: bool,
    /// Whoever fills it has gone; there may still be bytes to read.
    deserted: bool,
}

impl Lane {
    fn wants_input(&self) -> bool {
        !self.ended && self.buffer.len() < BRIDGE_BUFFER
    }

    /// Whether this end must be watched although nothing can be taken from it: its reader may have
    /// stopped for good.
    fn watches_only(&self) -> bool {
        !self.ended && !self.deserted && !self.wants_input()
    }

    fn is_ending(&self) -> bool {
        self.ended || self.deserted
    }

    fn wants_output(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn fill(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut part = [0; 16 * 1024];
        match from.read(&mut part) {
            Ok(0) => self.ended = true,
            Ok(count) => self.buffer.extend(part.iter().take(count)),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn drain(&mut self, to: &mut impl Write) -> io::Result<()> {
        match to.write(self.buffer.as_slices().0) {
            Ok(count) => {
                self.buffer.drain(..count);
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Says `greeting` on standard output before anything else.
fn join<S: Read + Write + AsFd>(mut socket: S, greeting: &str) -> io::Result<()> {
    // Files of their own instead of the locked, buffered ones of the standard library.
    let mut input = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    for end in [input.as_fd(), output.as_fd(), socket.as_fd()] {
        let flags = OFlag::from_bits_truncate(fcntl(end, FcntlArg::F_GETFL)?);
        fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    let mut inward = Lane::default();
    let mut outward = Lane::default();
    outward.buffer.extend(greeting.bytes());
    let mut farewell = None;
    loop {
        if inward.is_ending() || outward.is_ending() {
            let until = *farewell.get_or_insert_with(|| Clock::Boot.after(BRIDGE_FAREWELL));
            let drained = (inward.ended && !inward.wants_output()) || outward.ended;
            let delivered = drained && !outward.wants_output();
            if delivered || until.has_passed() {
                return Ok(());
            }
        }
        let ready = wait(&input, &output, &socket, (&inward, &outward))?;
        inward.deserted |= ready.input_deserted;
        outward.deserted |= ready.socket_deserted;
        if ready.input {
            inward.fill(&mut input)?;
        }
        if ready.socket_in {
            outward.fill(&mut socket)?;
        }
        if ready.socket_out {
            inward.drain(&mut socket)?;
        }
        if ready.output {
            outward.drain(&mut output)?;
        }
    }
}

/// What can go on without blocking.
struct Ready {
    input: bool,
    output: bool,
    socket_in: bool,
    socket_out: bool,
    input_deserted: bool,
    socket_deserted: bool,
}

fn wait(
    input: &std::fs::File,
    output: &std::fs::File,
    socket: &impl AsFd,
    (inward, outward): (&Lane, &Lane),
) -> io::Result<Ready> {
    let nothing = PollFlags::empty();
    let wants = [
        (input.as_fd(), inward.wants_input(), PollFlags::POLLIN),
        (output.as_fd(), outward.wants_output(), PollFlags::POLLOUT),
        (socket.as_fd(), outward.wants_input(), PollFlags::POLLIN),
        (socket.as_fd(), inward.wants_output(), PollFlags::POLLOUT),
        (input.as_fd(), inward.watches_only(), nothing),
        (socket.as_fd(), outward.watches_only(), nothing),
    ];
    // Only what is wanted: an ended side reports its hang-up for ever, and the loop would spin.
    let mut fds: Vec<PollFd<'_>> =
        wants.iter().filter(|(_, wanted, _)| *wanted).map(|(fd, _, flags)| PollFd::new(*fd, *flags)).collect();
    // While ending, the poll returns often enough to notice that the farewell has lasted too long.
    let limit = if inward.is_ending() || outward.is_ending() { PollTimeout::from(200_u8) } else { PollTimeout::NONE };
    match poll(&mut fds, limit) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    // Errors and hang-ups count as ready too: the read or write that follows says what is the
    // matter.
    let mut found = fds.iter().map(|fd| fd.revents().is_some_and(|flags| !flags.is_empty()));
    let [input, output, socket_in, socket_out, input_deserted, socket_deserted] =
        wants.map(|(_, wanted, _)| wanted && found.next().unwrap_or(false));
    Ok(Ready { input, output, socket_in, socket_out, input_deserted, socket_deserted })
}
