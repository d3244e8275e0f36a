//! What is run in the helper container to reach the agent, and the first line that it answers with.
//! Paths and words come from `gantry_wire::layout`; the shell text itself is `attach.sh`.

use gantry_wire::{PROTOCOL, layout};

/// The forms that a shell takes a program in.
pub(crate) const PLAIN: &str = "plain";
pub(crate) const GZIP: &str = "gzip";

const TEMPLATE: &str = include_str!("attach.sh");

/// The command of the exec: POSIX `sh`, nothing else of the image but `uname`, `head`, `wc`,
/// `chmod` and `mv`.
pub(crate) fn command() -> Vec<String> {
    let script = TEMPLATE
        .replace("@EXEC_FAILURE@", layout::EXEC_FAILURE)
        .replace("@PUSH_REQUEST@", layout::PUSH_REQUEST)
        .replace("@PUSH_CONTINUE@", layout::PUSH_CONTINUE);
    let paths = [layout::PUSHED_BINARY, layout::MANAGER_SOCKET, layout::PUSHED_READY];
    ["sh", "-c", &script, "gantry-attach", &PROTOCOL.to_string()].into_iter().chain(paths).map(str::to_owned).collect()
}

/// A line that comes back before the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FirstLine {
    /// Frames of that protocol follow.
    Bridge(String),
    /// No fitting helper; the machine needs one.
    Push {
        /// As `uname -m` says.
        machine: String,
        /// Whether the image can unpack what gzip has packed.
        has_gzip: bool,
    },
    /// What unpacks the helper is there: the helper may come.
    Continue,
    /// It cannot work, and why.
    Failure(String),
    /// None of ours.
    Other(String),
}

impl FirstLine {
    pub(crate) fn parse(line: &str) -> Self {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let rest = rest.trim().to_owned();
        match word {
            layout::BRIDGE_GREETING => Self::Bridge(rest),
            layout::PUSH_REQUEST => {
                let (machine, forms) = rest.split_once(' ').unwrap_or((&rest, ""));
                Self::Push { machine: machine.to_owned(), has_gzip: forms.split_whitespace().any(|form| form == GZIP) }
            }
            layout::PUSH_CONTINUE => Self::Continue,
            layout::EXEC_FAILURE => Self::Failure(rest),
            _ => Self::Other(line.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
