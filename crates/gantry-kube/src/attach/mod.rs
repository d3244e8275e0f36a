//! The way to the agent: try `pods/exec` until it succeeds, push a helper if the image has none,
//! and hand over a byte stream of frames.
//!
//! It never waits for the pod's status to say "running", because `pods/exec` works up to a second
//! earlier, and it never decides by the words of a message. What goes over the stream is the
//! caller's business.

mod binaries;
mod gate;
mod handshake;
mod program;
mod script;
mod starts;
mod stream;
mod tries;
mod visit;
mod websocket;

use std::time::Duration;

use gantry_core::Ending;
use gantry_core::ending::StartSetting;
use gantry_wire::{PROTOCOL, layout};
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource as _, api::AttachParams};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

pub use binaries::{Content, HelperBinaries, HelperBinary, PackedHelper};
pub(crate) use gate::Gate;
pub use program::loaded_length;
pub(crate) use starts::Starts;
pub use stream::{AgentStream, ExecEnd, ExecOutcome};
use tries::Tries;

use crate::{
    Cluster,
    error::{ApiError, Fault},
    facts, limits,
    pods::{PodNow, PodRef},
    watch::{PodState, PodWatch},
};

/// What connecting is for: what ends the waiting depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To hand over a plan. Anything that keeps helper or build from starting, or a deletion, ends
    /// it.
    Start,
    /// To follow an agent that has its plan. It may finish while its pod is being deleted or its
    /// build container is gone, so only a helper that cannot answer any more ends it.
    Resume,
}

impl Purpose {
    fn hopeless(self, pod: &PodRef, pod_state: &PodState) -> Option<Ending> {
        match self {
            Self::Start => pod_state.terminal(&pod.name, &[layout::HELPER, layout::BUILD]).or_else(|| {
                pod_state.facts().and_then(|facts| facts::terminal_before_plan(facts, &[layout::HELPER, layout::BUILD]))
            }),
            Self::Resume => pod_state.terminal(&pod.name, &[layout::HELPER]),
        }
    }
}

/// What [`Cluster::connect_agent`] needs to know.
#[derive(Debug)]
pub struct AttachRequest<'a> {
    /// The pod.
    pub pod: &'a PodRef,
    /// What the cluster says about it, from [`Cluster::watch_pod`].
    pub watch: PodWatch,
    /// What can be pushed.
    pub helper: &'a HelperBinaries,
    /// What it is for.
    pub purpose: Purpose,
    /// When to give up.
    pub deadline: Instant,
}

/// Why there is no connection to the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The pod's status or absence proves that there never will be one.
    #[error("the pod cannot be reached any more: {}", .ending.verdict().message)]
    Pod {
        /// How the job ended.
        ending: Ending,
    },
    /// `pods/exec` is not granted.
    #[error(
        "the API server refused pods/exec ({code}): {message}; the runner's role needs the verbs get and create on pods/exec (an exec over \
         WebSocket is checked as get, from Kubernetes 1.35 on as create)"
    )]
    Forbidden {
        /// 401 or 403.
        code: u16,
        /// The API server's words.
        message: String,
    },
    /// The time was up.
    #[error("the agent could not be reached in time: {last}")]
    Deadline {
        /// What stood in the way last.
        last: String,
    },
    /// The helper image has no fitting helper and there is none to push for its machine.
    #[error(
        "the node of the pod is of architecture {machine}, its helper image has no gantry-helper of protocol {PROTOCOL}, and this runner has \
         none to push there (only for: {available}); install gantry-helper-{machine} of this release beside the runner's program, set \
         helper_image to an image that contains gantry-helper for {machine}, or keep jobs off such nodes by node_selector \
         (kubernetes.io/arch)"
    )]
    NoHelperFor {
        /// As `uname -m` says.
        machine: String,
        /// The machines there is one for.
        available: String,
    },
    /// The helper in the container speaks another protocol.
    #[error(
        "the helper in the pod speaks protocol {theirs:?} and this runner protocol {PROTOCOL}: the pod was started by another version; \
         retry the job"
    )]
    Protocol {
        /// Theirs.
        theirs: String,
    },
    /// The helper cannot run there.
    #[error(
        "the helper cannot run in the helper container: {message}; set helper_image to an image that contains gantry-helper"
    )]
    Unusable {
        /// Why.
        message: String,
    },
}

impl AttachError {
    /// What this means for a job that has not started. `waited` is the limit that passed, for
    /// [`AttachError::Deadline`].
    pub fn ending(&self, waited: Duration) -> Ending {
        match self {
            Self::Pod { ending } => ending.clone(),
            Self::Forbidden { .. } => Ending::Runner { message: self.to_string() },
            Self::Deadline { last } => Ending::PodStartTimeout {
                seconds: waited.as_secs(),
                setting: StartSetting::default(),
                detail: last.clone(),
            },
            Self::NoHelperFor { .. } | Self::Protocol { .. } | Self::Unusable { .. } => {
                Ending::HelperUnusable { message: self.to_string() }
            }
        }
    }
}

/// Why one try failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Try again.
    NotYet(String),
    /// 404: the pod is gone, or the kubelet does not know it yet.
    NotFound(String),
    Final(AttachError),
}

impl Cluster {
    /// Opens a stream of frames to the pod's agent: tries as soon as the pod has a node and a try
    /// can pay, at times that earlier pods have shown to be good and whenever the helper's status
    /// changes, until it works, the pod proves that it never will, or the deadline comes. May be
    /// called again for the same pod at any time.
    pub async fn connect_agent(&self, request: AttachRequest<'_>) -> Result<AgentStream, AttachError> {
        let AttachRequest { pod, mut watch, helper, purpose, deadline } = request;
        let _starting = (purpose == Purpose::Start).then(|| self.starts().begin());
        let mut tries: Option<Tries> = None;
        let mut last = "nothing has been seen of the pod".to_owned();
        loop {
            let pod_state = watch.current();
            if let Some(ending) = purpose.hopeless(pod, &pod_state) {
                return Err(AttachError::Pod { ending });
            }
            let now = Instant::now();
            if let Some(facts) = pod_state.facts() {
                match (&facts.node, &mut tries) {
                    (None, _) => last = waiting_for_node(facts),
                    (Some(_), None) if purpose == Purpose::Start => {
                        tries = Some(Tries::learned(self.starts(), facts, now));
                    }
                    (Some(_), None) => tries = Some(Tries::at_once(facts, now)),
                    (Some(_), Some(tries)) => tries.look_again(self.starts(), facts, now),
                }
            }
            if let Some(due) = tries.as_mut().filter(|tries| tries.next <= now) {
                let mut status = watch.clone();
                let tried = tokio::select! {
                    biased;
                    tried = self.try_agent(pod, helper) => tried,
                    Some(ending) = status.until(|pod_state| purpose.hopeless(pod, pod_state)) => return Err(AttachError::Pod { ending }),
                    () = sleep_until(deadline) => return Err(AttachError::Deadline { last }),
                };
                due.tried(now, Instant::now());
                last = match tried {
                    Ok(stream) => {
                        due.succeeded(self.starts(), now);
                        return Ok(stream);
                    }
                    // An agent that has answered before may be busy or on its way out: its pod's
                    // status will tell.
                    Err(Failed::Final(AttachError::Unusable { message })) if purpose == Purpose::Resume => message,
                    Err(Failed::Final(error)) => return Err(error),
                    Err(Failed::NotYet(message)) => message,
                    Err(Failed::NotFound(message)) => {
                        timeout_at(deadline, self.ask_for(pod, &pod_state, message.clone()))
                            .await
                            .unwrap_or(Ok(message))?
                    }
                };
                tracing::debug!(pod = pod.name, last, "the agent cannot be reached yet");
            }
            let next = tries.as_ref().map_or(deadline, |tries| tries.next.min(deadline));
            tokio::select! {
                changed = watch.changed() => if changed.is_none() {
                    // The driver was dropped: the caller is about to end too.
                    sleep_until(next).await;
                },
                () = sleep_until(next) => {}
            }
            if Instant::now() >= deadline {
                return Err(AttachError::Deadline { last });
            }
        }
    }

    /// After a 404: a GET by uid decides.
    async fn ask_for(&self, pod: &PodRef, pod_state: &PodState, message: String) -> Result<String, AttachError> {
        match self.get_pod(pod).await {
            PodNow::Gone | PodNow::Replaced => {
                let last = pod_state.facts().cloned().map(std::sync::Arc::new);
                let gone = PodState::Gone(last).terminal(&pod.name, &[layout::HELPER]);
                Err(AttachError::Pod { ending: gone.unwrap_or_else(|| facts::gone(&pod.name, None)) })
            }
            PodNow::Present(_) => Ok(message),
            PodNow::Unknown(error) => Ok(error.message),
        }
    }

    async fn try_agent(&self, pod: &PodRef, helper: &HelperBinaries) -> Result<AgentStream, Failed> {
        let place = self.gate().pass().await;
        let connection = self.open_agent(pod).await.map_err(|error| exec_failed(&error))?;
        let mut stream = AgentStream::new(connection);
        let line = timeout(limits::FIRST_LINE, handshake::first_line(&mut stream)).await;
        drop(place);
        let line = line.map_err(|_| Failed::NotYet("the exec'd shell says nothing".to_owned()))??;
        handshake::finish(stream, line, helper).await
    }

    async fn open_agent(&self, pod: &PodRef) -> Result<kube::client::Connection, ApiError> {
        let params = AttachParams::default().container(layout::HELPER).stdin(true).stdout(true).stderr(true);
        self.open_exec(&pod.name, script::command(), &params).await
    }

    async fn open_exec(
        &self,
        pod: &str,
        command: Vec<String>,
        params: &AttachParams,
    ) -> Result<kube::client::Connection, ApiError> {
        let url = Pod::url_path(&(), Some(self.namespace()));
        let request = kube::core::Request::new(url)
            .exec(pod, command, params)
            .map_err(|error| ApiError::without_answer(Fault::Local, error.to_string()))?;
        match timeout(limits::UPGRADE, self.client().connect(request)).await {
            Ok(result) => result.map_err(ApiError::from),
            Err(_) => Err(ApiError::timed_out(limits::UPGRADE)),
        }
    }
}

/// Before the first byte everything but a refusal means "not yet": kubelets and API servers answer
/// 500 and 400 while a container starts.
fn exec_failed(error: &ApiError) -> Failed {
    match error.fault {
        Fault::Unauthenticated | Fault::Forbidden => {
            Failed::Final(AttachError::Forbidden { code: error.code, message: error.message.clone() })
        }
        Fault::Gone => Failed::NotFound(error.message.clone()),
        _ => Failed::NotYet(error.message.clone()),
    }
}

fn waiting_for_node(facts: &facts::PodFacts) -> String {
    let reasons = facts::pending_reasons(facts);
    if reasons.is_empty() { "the pod has no node yet".to_owned() } else { reasons.join("; ") }
}
