//! All that can happen to a job, in the order in which it reaches the engine's one inbox.

use std::time::Duration;

use bytes::Bytes;
use gantry_core::{Ending, NoteLevel};
use gantry_wire::frame::Frame;
use gantry_wire::services::SilentService;
use gantry_wire::shim::{Ended, SecretText, ShimFrame};
use tokio::sync::mpsc;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A manager said something that is not about its own connection.
    Manager {
        /// What.
        frame: Frame,
        /// Where answers go. Full or closed means that this manager does not listen; nobody waits
        /// for it.
        reply: mpsc::Sender<Frame>,
    },
    /// News from the build container.
    Shim(ShimEvent),
    /// News from the task of a stage.
    Stage {
        /// Which task; those of an older one are void.
        task: u64,
        /// What.
        event: StageEvent,
    },
    /// All services have answered, but these.
    Services(Vec<SilentService>),
    /// The pod is being ended.
    Terminated,
    /// News from the agent's own relay.
    SelfReport(SelfReportEvent),
}

/// News from the agent's own relay, which works while no manager does.
#[derive(Debug)]
pub(crate) enum SelfReportEvent {
    /// No manager has been there for so long that the agent relays by itself.
    Begun,
    /// GitLab asks for a graceful cancel.
    Cancel,
    /// GitLab wants nothing more about this job.
    Unwanted(String),
    /// GitLab has the verdict.
    Delivered,
    /// Neither a manager nor GitLab could be reached for this long.
    Abandoned(Duration),
}

/// News from the build container.
#[derive(Debug)]
pub(crate) enum ShimEvent {
    /// It said hello.
    Connected(ShimLink),
    /// Output of the running script, or of what earlier ones have left in the background.
    Output(Bytes),
    /// The running script ended.
    Ended(Ended),
    /// The connection is over, for this reason.
    Lost(String),
}

/// A shim that can be talked to.
#[derive(Debug)]
pub(crate) struct ShimLink {
    /// Orders for it.
    pub(crate) orders: mpsc::Sender<ShimFrame>,
    /// The shell it found; empty for none.
    pub(crate) shell: String,
    /// User of the build container.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
}

/// News from the task of a stage.
#[derive(Debug)]
pub(crate) enum StageEvent {
    /// Output of a tool.
    Output(Bytes),
    /// A line of ours.
    Note(NoteLevel, String),
    /// A warning about what many stages see: the log has it once.
    WarningOnce(String),
    /// A section within the stage begins.
    SectionStart {
        /// Its name.
        name: &'static str,
        /// Its first line.
        title: &'static str,
    },
    /// It ends.
    SectionEnd {
        /// Its name.
        name: &'static str,
    },
    /// All is ready for a user script, which gets these variables.
    Ready(Vec<(String, SecretText)>),
    /// Bytes in the project's directory.
    Disk(u64),
    /// The stage ended.
    Ended(Ending),
}
