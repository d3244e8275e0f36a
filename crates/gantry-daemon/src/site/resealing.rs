//! Tickets of running jobs that were sealed with a token which has been exchanged for a new one:
//! whoever goes on with these jobs has only the new one.

use std::time::Duration;

use gantry_kube::{Coverage, Fault, Marked, ObservedPod, PodFacts, PodNow};
use gantry_plan::{ANNOTATION_TICKET, LABEL_FLEET, LABEL_JOB};
use gantry_wire::ticket::{Ticket, TicketBinding, TicketKey};
use tokio::time::sleep;

use crate::site::shared::{Marking, Site};

/// Between two passes. A request for a job that was under way at the exchange may still bring one
/// that the old token seals, whose pod is made within this time.
const PAUSE: Duration = Duration::from_mins(1);

/// How many passes there are at least: one at once, and one for such jobs.
const PASSES: u32 = 2;

/// How many passes there are at most, for an API server that is away: those that were there at the
/// exchange have mostly ended after so many minutes, and a refusal of one may last for ever.
const PASSES_MAX: u32 = 60;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Everything that the old key opens is sealed with the new one.
    Done,
    /// Some may not be.
    Failed,
    /// Pods may not be patched.
    Refused,
}

/// Seals the tickets of all jobs of this process anew that the old key opens.
pub(super) async fn reseal(site: &Site, old: &TicketKey, new: &TicketKey) {
    for number in 1..=PASSES_MAX {
        let ended = pass(site, (old, new)).await;
        if is_last(number, ended) {
            if ended != Pass::Done {
                tracing::debug!("tickets may still be sealed with the old token, and no later manager opens them");
            }
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Whether no pass follows on this one: it, and not the first, has done everything, or more are in
/// vain.
fn is_last(number: u32, ended: Pass) -> bool {
    match ended {
        Pass::Done => number >= PASSES,
        Pass::Failed => number >= PASSES_MAX,
        Pass::Refused => true,
    }
}

async fn pass(site: &Site, keys: (&TicketKey, &TicketKey)) -> Pass {
    let (pods, are_all) = match site.coverage() {
        Coverage::Live { .. } => (site.cluster().seen_pods(), true),
        Coverage::Refused => {
            let listed = site.list_pods().await;
            let are_all = listed.is_some();
            (listed.unwrap_or_default(), are_all)
        }
        Coverage::Unknown | Coverage::Lost { .. } => (site.cluster().seen_pods(), false),
    };
    let mut becomes = if are_all { Pass::Done } else { Pass::Failed };
    // What a pod says of its manager may be late, or wrong.
    for facts in pods.iter().filter(|facts| site.has(facts)) {
        if site.marking() == Marking::Refused {
            return Pass::Refused;
        }
        if !reseal_one(site, facts, keys).await {
            becomes = Pass::Failed;
        }
    }
    becomes
}

/// Whether nothing is left to do about this one.
async fn reseal_one(site: &Site, facts: &PodFacts, (old, new): (&TicketKey, &TicketKey)) -> bool {
    let pod = facts.pod();
    let found = match site.cluster().get_pod(&pod).await {
        PodNow::Present(found) => found,
        PodNow::Gone | PodNow::Replaced => return true,
        PodNow::Unknown(error) => {
            tracing::debug!(%error, pod = pod.name, "the ticket of a job cannot be looked at; trying again");
            return false;
        }
    };
    let Some(ticket) = resealed(site, facts, &found, (old, new)) else { return true };
    let version = found.metadata.resource_version.as_deref();
    match site.cluster().annotate(&pod, &[(ANNOTATION_TICKET, ticket.as_str())], version).await {
        Ok(Marked::Done(_)) => {
            tracing::debug!(pod = pod.name, "the ticket of a job was sealed with the new token");
            true
        }
        Ok(Marked::Changed) => false,
        Err(error) => {
            if error.fault == Fault::Forbidden {
                site.set_marking(Marking::Refused);
            }
            tracing::debug!(%error, pod = pod.name, "the ticket of a job was not sealed with the new token");
            false
        }
    }
}

/// The ticket of a pod with the new key, if the old one opens it.
fn resealed(
    site: &Site,
    facts: &PodFacts,
    found: &ObservedPod,
    (old, new): (&TicketKey, &TicketKey),
) -> Option<String> {
    let namespace = site.cluster().namespace();
    let text = found.metadata.annotations.as_ref()?.get(ANNOTATION_TICKET)?;
    let job_id = found.metadata.labels.as_ref()?.get(LABEL_JOB)?.parse().ok()?;
    let fleets = site.members().into_iter().map(|runner| runner.fleet(namespace));
    let fleet = fleets.into_iter().find(|fleet| facts.mark(LABEL_FLEET) == Some(fleet.label().as_str()))?;
    let binding = TicketBinding { pod: &facts.name, namespace, job_id, fleet: fleet.name() };
    Some(Ticket::open(text, old, &binding).ok()?.seal(new, &binding))
}

#[cfg(test)]
mod tests {
    use super::Pass::{Done, Failed, Refused};
    use super::{Pass, is_last};

    /// How many passes there are when they end like this, and then all like the last.
    fn made(ends: &[Pass]) -> Option<u32> {
        let ends = ends.iter().chain(ends.last().into_iter().cycle());
        (1..=100).zip(ends).find(|(number, ended)| is_last(*number, **ended)).map(|(number, _)| number)
    }

    #[test]
    fn there_are_passes_until_one_has_had_no_error() {
        assert_eq!(made(&[Done]), Some(2));
        assert_eq!(made(&[Failed, Done]), Some(2));
        assert_eq!(made(&[Done, Failed, Failed, Done]), Some(4));
        assert_eq!(made(&[Failed, Refused]), Some(2));
        assert_eq!(made(&[Failed]), Some(60));
    }
}
