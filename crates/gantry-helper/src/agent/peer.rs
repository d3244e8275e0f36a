//! Who may speak as a manager. User code runs in the helper container too (hooks, git's
//! configuration), and it must not.

use nix::unistd::geteuid;
use tokio::net::UnixStream;

use crate::process::descendants::Stat;

/// Which processes are taken for managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerRule {
    /// Those that were started by an `exec` from outside of the container: their parent is not in
    /// this process namespace, so its number is 0, which a process started by anything inside can
    /// never have.
    ExecOnly,
    /// Every process that may open the socket. For tests, which have no containers.
    Any,
}

impl PeerRule {
    /// Whether the process at the other end is taken for a manager.
    pub(crate) fn accepts(self, stream: &UnixStream) -> bool {
        if self == Self::Any {
            return true;
        }
        let Ok(peer) = stream.peer_cred() else { return false };
        let ours = peer.uid() == 0 || peer.uid() == geteuid().as_raw();
        ours && peer.pid().and_then(Stat::of).is_some_and(|stat| stat.parent == 0)
    }
}
