//! When what of a job has happened, as its manager has seen it: for metrics and traces. Nothing is
//! decided by it.

use std::time::Duration;

use tokio::time::Instant;

/// Stages that are remembered: a job has about ten, and one step more for each of a few.
const STAGES: usize = 64;

/// The moments of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moments {
    /// The API server had made its pod.
    pub(crate) created: Option<Instant>,
    /// The pod had a node.
    pub(crate) placed: Option<Instant>,
    /// Its agent could be spoken to.
    pub(crate) reached: Option<Instant>,
    /// The agent had the plan.
    pub(crate) planned: Option<Instant>,
    /// Stages with their beginnings, in order.
    stages: Vec<(String, Instant)>,
}

/// A part of a job's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Part {
    pub(crate) fn length(&self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }
}

impl Moments {
    /// A stage begins, or none runs any more where the name is empty.
    pub(crate) fn begin(&mut self, stage: &str) {
        let is_new = self.stages.last().map_or(!stage.is_empty(), |(last, _)| last != stage);
        if is_new && self.stages.len() < STAGES {
            self.stages.push((stage.to_owned(), Instant::now()));
        }
    }

    /// What a job that was taken then has waited for until its agent had the plan, as far as it
    /// came.
    pub(crate) fn starting(&self, taken: Instant) -> Vec<Part> {
        let steps = [("pod", self.created), ("node", self.placed), ("agent", self.reached), ("plan", self.planned)];
        let mut from = taken;
        let mut parts = Vec::new();
        for (name, moment) in steps {
            let Some(to) = moment else { continue };
            // The watch may show a node after the agent has answered.
            let to = to.max(from);
            parts.push(Part { name: name.to_owned(), from, to });
            from = to;
        }
        parts
    }

    /// The stages that have run, of a job that has ended then.
    pub(crate) fn stages(&self, ended: Instant) -> Vec<Part> {
        let ends = self.stages.iter().skip(1).map(|(_, begin)| *begin).chain([ended]);
        let all = self.stages.iter().zip(ends);
        let named = all.filter(|((name, _), _)| !name.is_empty());
        named.map(|((name, from), to)| Part { name: name.clone(), from: *from, to }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[Part], zero: Instant) -> Vec<(&str, u64, u64)> {
        let at = |moment: Instant| moment.saturating_duration_since(zero).as_secs();
        parts.iter().map(|part| (part.name.as_str(), at(part.from), at(part.to))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn parts_follow_each_other() {
        let zero = Instant::now();
        let after = |seconds| Some(zero + Duration::from_secs(seconds));
        let mut moments =
            Moments { created: after(1), placed: after(5), reached: after(3), planned: after(6), ..Moments::default() };
        let parts = moments.starting(zero);
        assert_eq!(shown(&parts, zero), [("pod", 0, 1), ("node", 1, 5), ("agent", 5, 5), ("plan", 5, 6)]);
        moments.placed = None;
        assert_eq!(shown(&moments.starting(zero), zero), [("pod", 0, 1), ("agent", 1, 3), ("plan", 3, 6)]);
        for stage in ["", "get_sources", "get_sources", "step_script", ""] {
            moments.begin(stage);
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        let stages = moments.stages(Instant::now());
        assert_eq!(shown(&stages, zero), [("get_sources", 2, 6), ("step_script", 6, 8)]);
        assert!(Moments::default().stages(zero).is_empty() && Moments::default().starting(zero).is_empty());
    }
}
