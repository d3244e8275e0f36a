//! Tickets of running jobs that were sealed with a token which has been exchanged for a new one:
//! whoever goes on with these jobs has only the new one.

use std::time::Duration;

use gantry_kube::{Fault, Marked, ObservedPod, PodFacts, PodNow};
use gantry_plan::{ANNOTATION_TICKET, LABEL_FLEET, LABEL_JOB};
use gantry_wire::ticket::{Ticket, TicketBinding, TicketKey};
use tokio::time::sleep;

use crate::site::owners;
use crate::site::shared::{Marking, Site};

/// When tickets are sealed anew, from the exchange on. A request for a job that was under way may
/// still bring one, whose pod is made within the second time.
const PASSES: [Duration; 2] = [Duration::ZERO, Duration::from_mins(1)];

/// Seals the tickets of all jobs of this process anew that the old key opens.
pub(super) async fn reseal(site: &Site, old: &TicketKey, new: &TicketKey) {
    for pause in PASSES {
        sleep(pause).await;
        let pods = site.cluster().seen_pods();
        let ours = pods.iter().filter(|facts| owners::name(facts) == Some(site.owner().as_ref()));
        for facts in ours {
            if site.marking() == Marking::Refused {
                return;
            }
            reseal_one(site, facts, (old, new)).await;
        }
    }
}

async fn reseal_one(site: &Site, facts: &PodFacts, (old, new): (&TicketKey, &TicketKey)) {
    let pod = facts.pod();
    let PodNow::Present(found) = site.cluster().get_pod(&pod).await else { return };
    let Some(ticket) = resealed(site, facts, &found, (old, new)) else { return };
    let version = found.metadata.resource_version.as_deref();
    match site.cluster().annotate(&pod, &[(ANNOTATION_TICKET, ticket.as_str())], version).await {
        Ok(Marked::Done(_)) => tracing::debug!(pod = pod.name, "the ticket of a job was sealed with the new token"),
        // The second pass comes to it again.
        Ok(Marked::Changed) => {}
        Err(error) => {
            if error.fault == Fault::Forbidden {
                site.set_marking(Marking::Refused);
            }
            tracing::debug!(%error, pod = pod.name, "the ticket of a job was not sealed with the new token");
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
