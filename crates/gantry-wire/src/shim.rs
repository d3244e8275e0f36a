//! Frames between the agent and the shim in the build container. What comes from the shim is
//! untrusted: user code could pretend to be it.

use bytes::{Bytes, BytesMut};
use gantry_core::Secret;
use serde::{Deserialize, Serialize};

use crate::codec::{Cutter, FrameError, put};
use crate::frame::{json, put_json};
use crate::secret_text;
use crate::usage::Usage;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShimFrame {
    /// Shim: who it is. First on its connection.
    Hello(ShimHello),
    /// Agent: run a script. One at a time.
    Run(Run),
    /// Shim: what was written, standard output and error together: by the running script, or at any
    /// time by what earlier ones have left in the background.
    Output(Bytes),
    /// Shim: the running script ended.
    Ended(Ended),
    /// Agent: stop the running script and everything else that lives, TERM first, KILL after the
    /// grace.
    Kill(Kill),
    /// Agent: the job is over; exit with 0.
    Exit,
}

/// Who the shim is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimHello {
    /// Version of this contract.
    pub protocol: u32,
    /// Path of the shell that scripts run with; empty if the image has none.
    pub shell: String,
}

/// A script to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the stage, for messages.
    pub name: String,
    /// Shell text.
    #[serde(with = "secret_text")]
    pub script: Secret,
    /// Added to the container's own environment; the last duplicate wins.
    pub environment: Vec<(String, SecretText)>,
    /// Working directory.
    pub directory: String,
    /// Whether it runs with `sh` even where there is a bash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub posix_shell: bool,
}

/// A secret as an element of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(#[serde(with = "secret_text")] pub Secret);

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// 128 plus the signal when one ended it.
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Processes of the container that were OOMKilled while the script ran.
    #[serde(default)]
    pub oom_kills: u64,
    /// Why the script could not be started at all.
    #[serde(default)]
    pub start_failure: Option<String>,
    /// What the container has used until now; absent where that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Stops a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Milliseconds between TERM and KILL.
    pub grace_ms: u64,
}

const HELLO: u8 = 1;
const RUN: u8 = 2;
const OUTPUT: u8 = 3;
const ENDED: u8 = 4;
const KILL: u8 = 5;
const EXIT: u8 = 6;

impl ShimFrame {
    /// The bytes of this frame.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Hello(hello) => put_json(&mut out, HELLO, hello),
            Self::Run(run) => put_json(&mut out, RUN, run),
            Self::Output(bytes) => put(&mut out, OUTPUT, &[bytes]),
            Self::Ended(ended) => put_json(&mut out, ENDED, ended),
            Self::Kill(kill) => put_json(&mut out, KILL, kill),
            Self::Exit => put(&mut out, EXIT, &[]),
        }
        out.freeze()
    }
}

/// Turns a stream of bytes into frames; unknown ones are skipped.
#[derive(Debug, Default)]
pub struct ShimFrameReader {
    cutter: Cutter,
}

impl ShimFrameReader {
    /// A reader that takes no frame of more than `limit` bytes.
    pub fn limited(limit: usize) -> Self {
        Self { cutter: Cutter::limited(limit) }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.cutter.push(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// The other side speaks something else. The stream is of no use after that.
    pub fn next_frame(&mut self) -> Result<Option<ShimFrame>, FrameError> {
        while let Some((kind, payload)) = self.cutter.next_frame()? {
            return Ok(Some(match kind {
                HELLO => ShimFrame::Hello(json("hello", &payload)?),
                RUN => ShimFrame::Run(json("run", &payload)?),
                OUTPUT => ShimFrame::Output(payload),
                ENDED => ShimFrame::Ended(json("ended", &payload)?),
                KILL => ShimFrame::Kill(json("kill", &payload)?),
                EXIT => ShimFrame::Exit,
                _ => continue,
            }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn every_frame() -> Vec<ShimFrame> {
        let ended = Ended { exit_code: 137, signal: Some(9), oom_kills: 1, start_failure: None, usage: None };
        let run = Run {
            name: "step_script".into(),
            script: "echo hi".into(),
            environment: vec![("A".into(), SecretText("b".into()))],
            directory: "/builds/g/p".into(),
            posix_shell: false,
        };
        vec![
            ShimFrame::Hello(ShimHello { protocol: 1, shell: "/bin/sh".into() }),
            ShimFrame::Run(run),
            ShimFrame::Output(Bytes::from_static(b"hi\n")),
            ShimFrame::Ended(ended),
            ShimFrame::Kill(Kill { grace_ms: 5000 }),
            ShimFrame::Exit,
        ]
    }

    /// The bytes of protocol 1. A change here is a change of the protocol: add fields, never alter.
    #[test]
    fn golden_bytes_of_protocol_1() {
        let mut text = String::new();
        for frame in every_frame() {
            writeln!(text, "{}", frame.to_bytes().escape_ascii()).unwrap();
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn frames_survive_the_wire() {
        let mut reader = ShimFrameReader::default();
        for frame in every_frame() {
            reader.push(&frame.to_bytes());
            assert_eq!(reader.next_frame().unwrap(), Some(frame));
        }
    }
}
