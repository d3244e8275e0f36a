//! How manager and agent meet: which versions they speak, who is in charge of the job, and what a
//! manager learns that takes it over.
//!
//! The agent says [`Hello`] on every connection. A manager answers with a [`Greeting`] that says
//! what it claims, and is in charge from [`Granted`] on. There is one manager in charge at a time,
//! and one that was superseded never comes back.

use gantry_core::Secret;
use serde::{Deserialize, Serialize};

use crate::frame::State;
use crate::plan::{Coordinator, PodPlan, StartLimit, TracePlan};
use crate::services::ServicesPlan;
use crate::{OLDEST_PROTOCOL, PROTOCOL, secret_text};

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Protocols {
    /// What this program speaks.
    pub const OURS: Self = Self { oldest: OLDEST_PROTOCOL, newest: PROTOCOL };

    /// One version alone.
    pub fn only(version: u32) -> Self {
        Self { oldest: version, newest: version }
    }

    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    /// Reads what follows a bridge's first word: the newest version and, if it is another, the
    /// oldest.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(str::parse);
        let newest = numbers.next()?.ok()?;
        let oldest = numbers.next().unwrap_or(Ok(newest)).ok()?;
        (oldest <= newest).then_some(Self { oldest, newest })
    }
}

impl std::fmt::Display for Protocols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.oldest == self.newest {
            return write!(f, "{}", self.newest);
        }
        write!(f, "{} {}", self.newest, self.oldest)
    }
}

/// Who the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Newest version of this contract that the agent speaks.
    pub protocol: u32,
    /// All versions that it speaks; absent in version 1. Whoever finds it may send a [`Greeting`]
    /// and gets an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Protocols>,
    /// Version of the helper, for people.
    pub version: String,
    /// Number of this connection, growing: whoever is in charge over a larger one has superseded
    /// those of smaller ones.
    pub epoch: u64,
    /// How far the agent is.
    pub state: State,
    /// Who is in charge while this is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayNow>,
    /// What a manager must know that did not make the plan; there once the agent has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Box<Adoption>>,
}

impl Hello {
    /// The versions that the agent speaks.
    pub fn speaks(&self) -> Protocols {
        self.protocols.unwrap_or(Protocols::only(self.protocol))
    }
}

/// Who relays the job, as the agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayNow {
    /// The manager that is or was in charge, as it named itself; absent if none has been yet.
    #[serde(default)]
    pub manager: Option<String>,
    /// That manager is connected.
    #[serde(default)]
    pub connected: bool,
    /// How long nothing has been heard of it, in milliseconds; since the agent's start where none
    /// has been there.
    #[serde(default)]
    pub silent_ms: u64,
    /// The agent reports to GitLab by itself, until a manager is in charge again.
    #[serde(default)]
    pub alone: bool,
}

/// A job as told to a manager that takes it over. It comes with every hello, so that a manager need
/// not remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The job's id in its GitLab.
    pub job_id: i64,
    /// The job token.
    #[serde(with = "secret_text")]
    pub job_token: Secret,
    /// The project's id.
    #[serde(default)]
    pub project_id: i64,
    /// How to reach GitLab.
    pub coordinator: Coordinator,
    /// Failure reasons that this GitLab knows.
    #[serde(default)]
    pub failure_reasons: Vec<String>,
    /// The job's time-out as GitLab set it.
    pub timeout_seconds: u64,
    /// What is left of it.
    pub remaining_ms: u64,
    /// What is left of the time in which the build container must be there; absent once it is, or
    /// if the agent keeps no such limit.
    #[serde(default)]
    pub start: Option<StartLimit>,
    /// How the trace is rendered, for lines that a manager must add when the agent is dead. Its
    /// head is left out.
    pub trace: TracePlan,
    /// Whether the first user script waits for the word that services have started.
    #[serde(default)]
    pub wait_for_services: bool,
    /// Whether that was said.
    #[serde(default)]
    pub services_started: bool,
    /// [`crate::frame::Frame::Go`] was given: GitLab knows that the job runs, and has to be told
    /// how it ends.
    #[serde(default)]
    pub started: bool,
    /// GitLab was told that the job runs, as far as the agent knows. Without `started` a manager
    /// may have died in between.
    #[serde(default)]
    pub acknowledged: bool,
    /// The job was canceled.
    #[serde(default)]
    pub canceled: bool,
    /// GitLab has the trace up to here, as far as managers have said.
    #[serde(default)]
    pub acked: u64,
    /// The services.
    #[serde(default, skip_serializing_if = "ServicesPlan::is_empty")]
    pub services: ServicesPlan,
}

impl Adoption {
    /// What `plan` says of it; how far the job is comes on top.
    pub fn of(plan: &PodPlan) -> Self {
        Self {
            job_id: plan.job_id,
            job_token: plan.job_token.clone(),
            project_id: plan.project_id,
            coordinator: plan.coordinator.clone(),
            failure_reasons: plan.failure_reasons.clone(),
            timeout_seconds: plan.timeout_seconds,
            remaining_ms: plan.remaining_ms,
            start: plan.start,
            trace: TracePlan { head: String::new(), ..plan.trace.clone() },
            wait_for_services: plan.wait_for_services,
            services_started: false,
            started: false,
            acknowledged: plan.acknowledged,
            canceled: false,
            acked: 0,
            services: plan.services.clone(),
        }
    }
}

/// What a manager says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The versions that it speaks.
    pub protocols: Protocols,
    /// Its version, for people.
    pub version: String,
    /// Who it is: another name for each process, however often it is started.
    pub manager: String,
    /// What it wants.
    pub claim: Claim,
}

/// By what right a manager wants to be in charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// It was in charge last, or nobody has been: it took the job. Refused if another one has taken
    /// over meanwhile.
    Resume,
    /// It knows that the one in charge is no more, although that one's connection may still be
    /// open.
    Replace,
    /// It found the job. Refused while another manager is connected, or has been a moment ago and
    /// may come back.
    #[serde(other)]
    Adopt,
}

/// The manager is in charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The number of its connection.
    pub epoch: u64,
}

/// Why a manager's wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is wrong and what to do.
    pub message: String,
    /// The same for programs.
    #[serde(default)]
    pub cause: Refusal,
    /// When it may be worth to ask again, in milliseconds; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Refused {
    /// A plan or an order that cannot be carried out.
    pub fn order(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: Refusal::Other, retry_after_ms: None }
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Another manager has taken over: this one has to let go of the job and its pod.
    Superseded,
    /// Another manager is in charge and lives.
    RelayLives,
    /// There is no version that both speak.
    Protocol,
    /// What the message says.
    #[default]
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        let of = |oldest, newest| Protocols { oldest, newest };
        assert_eq!(of(1, 3).common(of(2, 5)), Some(3));
        assert_eq!(of(2, 5).common(of(1, 3)), Some(3));
        assert_eq!(of(1, 1).common(of(1, 2)), Some(1));
        assert_eq!(of(1, 2).common(of(3, 4)), None);
    }

    #[test]
    fn bridges_name_one_version_or_a_range() {
        for text in ["1", "3 2"] {
            assert_eq!(Protocols::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Protocols::parse("2 1\r"), Some(Protocols { oldest: 1, newest: 2 }));
        for nonsense in ["", "x", "1 2", "1 x", "-1"] {
            assert_eq!(Protocols::parse(nonsense), None, "{nonsense}");
        }
    }
}
