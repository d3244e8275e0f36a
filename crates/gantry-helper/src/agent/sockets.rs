//! The two sockets of a pod as sources of connections: that of managers, which checks who comes,
//! and that of the shim, which is there for one connection only.

use std::io;
use std::path::PathBuf;

use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::peer::PeerRule;
use crate::diagnostics::say;
use crate::ports::{Accepted, Listener, User};

/// Where managers come in.
pub(crate) struct ManagerSocket {
    pub(crate) listener: UnixListener,
    pub(crate) peers: PeerRule,
}

impl Listener for ManagerSocket {
    type Read = OwnedReadHalf;
    type Write = OwnedWriteHalf;

    async fn accept(&mut self) -> io::Result<Accepted<OwnedReadHalf, OwnedWriteHalf>> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if self.peers.accepts(&stream) {
                let (read, write) = stream.into_split();
                return Ok(Accepted { read, write, user: None });
            }
            say(format_args!("refused a connection that is not from a manager"));
        }
    }
}

/// Where the shim comes in. Its name is gone with it.
pub(crate) struct ShimSocket {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
}

impl Listener for ShimSocket {
    type Read = OwnedReadHalf;
    type Write = OwnedWriteHalf;

    async fn accept(&mut self) -> io::Result<Accepted<OwnedReadHalf, OwnedWriteHalf>> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred().ok().map(|peer| User { uid: peer.uid(), gid: peer.gid() });
        let (read, write) = stream.into_split();
        Ok(Accepted { read, write, user })
    }
}

impl Drop for ShimSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
