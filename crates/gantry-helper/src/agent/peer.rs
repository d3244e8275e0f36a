//! Who may speak as a manager. User code runs in the helper container too (hooks, git's configuration), and it must not.

use nix::unistd::geteuid;
use tokio::net::UnixStream;

/// Which processes are taken for managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerRule {
    /// Those that were started by an `exec` from outside of the container: their parent is not in this process namespace, so its number
    /// is 0, which a process started by anything inside can never have.
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
        ours && peer.pid().and_then(parent_of) == Some(0)
    }
}

fn parent_of(pid: i32) -> Option<i32> {
    parse_parent(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The fourth field. The second is the program's name in parentheses, which may itself hold blanks and parentheses.
fn parse_parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_a_parent() {
        assert_eq!(parse_parent("12 (sh) S 0 12 12 0"), Some(0));
        assert_eq!(parse_parent("12 (a) S 0 ) R 7 12"), Some(7));
        assert_eq!(parse_parent("nonsense"), None);
    }

    #[test]
    fn the_parent_of_a_process_is_found() {
        let parent = parent_of(i32::try_from(std::process::id()).unwrap());
        assert_eq!(parent, Some(nix::unistd::getppid().as_raw()));
    }
}
