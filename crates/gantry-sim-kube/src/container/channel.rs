//! Messages between the runtime, the launcher and the container's first process: JSON behind a
//! length, over a Unix socket that also carries open files. The blocking half is for the launcher
//! (no threads, no tokio), the other for the runtime. Nothing secret may travel any other way.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use super::{
    error::Failure,
    spec::{ContainerSpec, Privilege},
};

/// Longest message. The kernel takes at most 2 to 6 MiB of arguments and environment; JSON may need
/// several bytes for one.
const MAX_MESSAGE: usize = 32 << 20;

/// Most files with one message: three streams, or six namespaces and a terminal, and some to spare.
const MAX_FILES: usize = 16;

/// What the launcher shall do. Its files: those of `namespaces` first, then standard input, output
/// and error unless the command gets a terminal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) privilege: Privilege,
    /// The container, also when a command is to be run in it.
    pub(super) spec: ContainerSpec,
    pub(super) task: Task,
    /// The `cgroup.procs` file of the group to join.
    pub(super) cgroup: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    Start(Layout),
    Exec {
        namespaces: Vec<Namespace>,
    },
    /// Build everything and end: does it work here?
    Probe(Layout),
}

/// Where things are on the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Layout {
    /// An empty directory on which the root file system is mounted, unseen by the host.
    pub(super) root: String,
    /// Directories of the host that no container may see.
    pub(super) hidden: Vec<String>,
    /// Contents of `/sys/fs/cgroup/memory` or `/sys/fs/cgroup`, if the container has its own group.
    pub(super) cgroup_view: Option<CgroupView>,
}

/// The container's own control group, shown at the usual place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CgroupView {
    pub(super) source: String,
    pub(super) target: String,
}

/// Namespaces in the order in which they must be entered: whoever is no root gets the right to
/// enter the others from the outer user namespace, and loses it in the inner one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Namespace {
    OuterUser,
    Mount,
    Pid,
    Ipc,
    Uts,
    InnerUser,
}

/// What the runtime tells the launcher after the order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Command {
    Signal(i32),
}

/// What the launcher tells the runtime, and the first process the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The command is about to be executed (first process), or runs (launcher). Files: the
    /// namespaces, then the terminal's controlling side if there is one.
    Started {
        pid: u32,
        in_cgroup: bool,
        namespaces: Vec<Namespace>,
    },
    Failed(Failure),
    Exited {
        code: i32,
        signal: Option<i32>,
    },
}

fn encode(message: &impl Serialize) -> io::Result<([u8; 4], Vec<u8>)> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("message to or from the container launcher is too long"))?;
    Ok((length.to_le_bytes(), body))
}

/// Sends the length, and the files with it: four bytes always fit, so this is all or nothing.
fn send_head(socket: BorrowedFd<'_>, head: [u8; 4], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files in one message"));
    }
    match rustix::net::sendmsg(socket, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL) {
        Ok(4) => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(error) => Err(error.into()),
    }
}

/// Receives the length and the files. `None`: the other side has closed.
fn receive_head(socket: BorrowedFd<'_>) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut head = [0; 4];
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    match received.bytes {
        0 => Ok(None),
        4 => match usize::try_from(u32::from_le_bytes(head)) {
            Ok(length) if length <= MAX_MESSAGE => Ok(Some((length, files))),
            _ => Err(io::ErrorKind::InvalidData.into()),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sends one message, waiting as long as it takes.
pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let (head, body) = encode(message)?;
    send_head(socket.as_fd(), head, files)?;
    socket.write_all(&body)
}

/// Receives one message, waiting as long as it takes. `None`: the other side has closed.
pub(super) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((length, files)) = receive_head(socket.as_fd())? else { return Ok(None) };
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, files)))
}

/// [`send`] for the runtime.
pub(super) async fn send_async(
    socket: &mut OwnedWriteHalf,
    message: &impl Serialize,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let (head, body) = encode(message)?;
    let stream: &tokio::net::UnixStream = socket.as_ref();
    stream.async_io(Interest::WRITABLE, || send_head(stream.as_fd(), head, files)).await?;
    socket.write_all(&body).await
}

/// [`receive`] for the runtime. Not to be cancelled half-way.
pub(super) async fn receive_async<T: DeserializeOwned>(
    socket: &mut OwnedReadHalf,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let stream: &tokio::net::UnixStream = socket.as_ref();
    let head = stream.async_io(Interest::READABLE, || receive_head(stream.as_fd())).await?;
    let Some((length, files)) = head else { return Ok(None) };
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(Some((serde_json::from_slice(&body)?, files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_and_open_files_arrive_together() {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let long = "x".repeat(3 << 20);
        let sender = {
            let long = long.clone();
            std::thread::spawn(move || send(&ours, &long, &[reader.as_fd()]))
        };
        let (text, files) = receive::<String>(&theirs).expect("receive").expect("a message");
        sender.join().expect("no panic").expect("send");
        assert!(text == long);
        writer.write_all(b"through the pipe").expect("write");
        drop(writer);
        let [file] = <[OwnedFd; 1]>::try_from(files).expect("one file");
        let mut read = String::new();
        std::fs::File::from(file).read_to_string(&mut read).expect("read");
        assert_eq!(read, "through the pipe");
        assert!(receive::<String>(&theirs).expect("receive").is_none(), "the other side has closed");
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        send_head(ours.as_fd(), u32::MAX.to_le_bytes(), &[]).expect("send");
        assert_eq!(receive::<String>(&theirs).expect_err("too long").kind(), io::ErrorKind::InvalidData);
    }
}
