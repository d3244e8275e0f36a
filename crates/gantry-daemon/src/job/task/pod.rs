//! What is done about the job's pod: it is made, followed, looked at, reached and deleted.

use std::time::Duration;

use gantry_kube::{PodRef, Purpose};

use super::Task;
use crate::job::background::Approach;
use crate::job::events::Effect;
use crate::job::machine::BRIEF;
use crate::job::watched::WatchedPod;

impl Task {
    pub(super) fn create_pod(&mut self) {
        let Some(plan) = &mut self.job.plan else { return };
        let deadline = self.job.begun + plan.start_timeout;
        let site = (self.around.cluster.clone(), self.around.leftovers.clone());
        self.background.create_pod(site, plan, deadline, self.stops.unwanted.clone());
    }

    /// Follows what the cluster says about the pod.
    pub(super) fn watch_pod(&mut self, pod: PodRef, secret: Option<String>) {
        self.around.view.send_modify(|view| view.created(&pod.name));
        self.pod = Some(WatchedPod::new(&self.around.cluster, pod, secret));
    }

    pub(super) fn connect(&self, resume: bool, pause: bool) {
        let Some(WatchedPod { reference: pod, watch: Some(watch), .. }) = &self.pod else { return };
        let limit = self.job.time_to_connect(resume);
        let approach = Approach {
            pod: pod.clone(),
            watch: watch.clone(),
            purpose: if resume { Purpose::Resume } else { Purpose::Start },
            deadline: self.job.begun + limit,
            limit,
            pause: if pause { BRIEF } else { Duration::ZERO },
        };
        self.background.connect(self.around.cluster.clone(), self.around.helper.clone(), approach);
    }

    pub(super) fn turn_to_pod(&self, effect: &Effect) {
        let Some(WatchedPod { reference: pod, secret, .. }) = &self.pod else { return };
        let (cluster, pod) = (self.around.cluster.clone(), pod.clone());
        match effect {
            Effect::LookAtPod => self.background.look(cluster, pod),
            Effect::AskEvents => self.background.ask_events(cluster, pod),
            Effect::AskFinalEvents => self.background.ask_final_events(cluster, pod),
            Effect::AskLog(news) => self.background.ask_log(cluster, pod, news.clone()),
            _ => self.remove_pod(cluster, (pod, secret.clone())),
        }
    }
}
