//! Bad news about the pod, and what the cluster has to say about them: a job that ends for want of
//! its pod is held for a moment, until the pod's warnings are there.

use std::time::Duration;

use gantry_core::Ending;
use gantry_kube::PodEvent;

use super::evidence::Evidence;
use super::{Life, Machine};
use crate::job::events::{Effect, Timer};
use crate::job::shimless;

/// How long the end of a job may wait for the events of its pod: the cause is mostly known without
/// them.
const FINAL_EVENTS: Duration = Duration::from_secs(1);

/// What ends a job, or its way to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadNews {
    /// The agent is dead or the pod gone.
    AgentDead(Ending),
    /// The job cannot go on, although the agent may still live.
    CannotGoOn(Ending),
    /// No agent can be reached.
    Unreachable(Ending),
}

/// Those that wait for the cluster's words.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    news: Vec<BadNews>,
    /// The cluster was asked once: that is enough.
    asked: bool,
}

impl BadNews {
    fn ending(&self) -> &Ending {
        match self {
            Self::AgentDead(ending) | Self::CannotGoOn(ending) | Self::Unreachable(ending) => ending,
        }
    }
}

impl Machine {
    /// Takes bad news, now or as soon as the cluster has said what it knows.
    pub(super) fn take_bad_news(&mut self, news: BadNews, out: &mut Vec<Effect>) {
        let waits = !self.held.news.is_empty();
        let asks = !self.held.asked && self.pod.may_explain() && self.is_open() && is_of_the_cluster(news.ending());
        if asks && !matches!(self.life, Life::Finding { .. }) {
            self.held.asked = true;
            out.extend([Effect::AskFinalEvents, Effect::Arm(Timer::FinalEvents, FINAL_EVENTS)]);
        } else if !waits {
            return self.act_on(news, out);
        }
        self.held.news.push(news);
    }

    /// The cluster has said what it knows, or takes too long.
    pub(super) fn final_events(&mut self, events: &[PodEvent], out: &mut Vec<Effect>) {
        let news = std::mem::take(&mut self.held.news);
        let Some(first) = news.first() else { return };
        out.push(Effect::Disarm(Timer::FinalEvents));
        let words = Evidence::final_lines(events, first.ending(), self.pod.shown());
        if !words.is_empty() {
            out.push(Effect::KeepFinalLines(words));
        }
        for news in news {
            self.act_on(news, out);
        }
    }

    fn act_on(&mut self, news: BadNews, out: &mut Vec<Effect>) {
        match news {
            BadNews::AgentDead(ending) => self.pod_ended(ending, out),
            BadNews::CannotGoOn(ending) => self.end_job(if self.shim { ending } else { shimless::reason(ending) }, out),
            BadNews::Unreachable(ending) => self.agent_gone(ending, out),
        }
    }
}

/// Whether something went wrong in the cluster. An agent that has done its work ends with 0.
fn is_of_the_cluster(ending: &Ending) -> bool {
    matches!(
        ending,
        Ending::ImagePull { .. }
            | Ending::ContainerConfig { .. }
            | Ending::ContainerOutOfMemory { .. }
            | Ending::PodDisrupted { .. }
            | Ending::PodDeleted { .. }
    ) || matches!(ending, Ending::ContainerDied { exit_code, .. } if *exit_code != 0)
}
