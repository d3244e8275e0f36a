//! What the facts of a pod mean for its job. Only proof counts: a deletion time stamp, an unknown
//! phase or a node that is silent end nothing, because the agent in the pod may still finish
//! (`terminal_before_plan` is for pods that have not been handed a job yet).

use gantry_core::Ending;
use gantry_core::ending::{BUILD_CONTAINER, pull_is_final};

use super::{ContainerEnd, ContainerFacts, Phase, PodFacts, Words};
use crate::limits;

/// Why the pod does not run yet, as lines for the job log such as `Unschedulable: "0/3 nodes are
/// available"`. Empty when there is nothing that a reader could act on.
pub fn pending_reasons(facts: &PodFacts) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(words) = facts.unscheduled.as_ref().filter(|words| !words.reason.is_empty()) {
        lines.push(quoted(&words.reason, words));
    }
    if let Some(words) = &facts.disruption {
        lines.push(quoted(&words.reason, words));
    }
    for container in &facts.containers {
        let Some(words) = container.waiting().filter(|words| !is_ordinary(&words.reason)) else { continue };
        lines.push(quoted(&format!("{} (container {})", words.reason, container.name), words));
    }
    lines
}

/// Whether the pod's own status does not say why it has not started although it has a node: the
/// kubelet is at work, or cannot go on and says so only in events.
pub fn is_unexplained(facts: &PodFacts) -> bool {
    let is_idle = |container: &ContainerFacts| !container.has_started();
    facts.phase == Phase::Pending
        && facts.node.is_some()
        && facts.containers.iter().any(is_idle)
        && pending_reasons(facts).is_empty()
}

/// A reason and the words with it, as a line for the job log.
pub fn line(words: &Words) -> String {
    quoted(&words.reason, words)
}

/// Reasons that every healthy pod passes through.
fn is_ordinary(reason: &str) -> bool {
    matches!(reason, "" | "ContainerCreating" | "PodInitializing")
}

fn quoted(head: &str, words: &Words) -> String {
    if words.message.is_empty() { head.to_owned() } else { format!("{head}: {:?}", words.message) }
}

/// How the job ended, if the facts prove that it cannot go on: one of the containers of `interest`
/// has ended or can never start, or the whole pod is over. Init containers always count. `None`
/// does not mean that all is well.
pub fn terminal(facts: &PodFacts, interest: &[&str]) -> Option<Ending> {
    let containers: Vec<&ContainerFacts> = facts
        .containers
        .iter()
        .filter(|container| container.init || interest.contains(&container.name.as_str()))
        .collect();
    let ended = containers.iter().find_map(|container| unexpected_end(container));
    // The pod's own reason is the one that people know ("Evicted"); newer clusters also set a
    // condition with another word for it.
    if facts.phase == Phase::Failed && !facts.reason.is_empty() {
        return Some(disrupted(facts, &Words { reason: facts.reason.clone(), message: facts.message.clone() }));
    }
    if let Some(words) = &facts.disruption
        && (facts.phase.is_over() || ended.is_some())
    {
        return Some(disrupted(facts, words));
    }
    if let Some((container, end)) = ended {
        // A container that the kubelet stops because of a deletion has not died by itself. One that
        // ran out of memory has.
        return Some(if facts.deletion.is_some() && !end.is_oom() {
            Ending::PodDeleted { pod: facts.name.clone() }
        } else {
            died(container, end)
        });
    }
    if facts.phase.is_over() {
        let words = Words {
            reason: format!("the pod is {}", facts.phase.as_str()),
            message: "no container says why".to_owned(),
        };
        return Some(disrupted(facts, &words));
    }
    containers.iter().find_map(|container| cannot_start(container))
}

/// Like [`terminal`], for a pod whose agent has no plan yet: that somebody asked for its deletion
/// is then enough.
pub fn terminal_before_plan(facts: &PodFacts, interest: &[&str]) -> Option<Ending> {
    terminal(facts, interest).or_else(|| facts.deletion.as_ref().map(|_| gone(&facts.name, Some(facts))))
}

/// How the job ended when its pod is proven to be gone: `last` are the facts that were seen last.
pub fn gone(pod: &str, last: Option<&PodFacts>) -> Ending {
    match last.and_then(|facts| facts.disruption.as_ref().map(|words| disrupted(facts, words))) {
        Some(ending) => ending,
        None => Ending::PodDeleted { pod: pod.to_owned() },
    }
}

/// Whether all containers of `names` run or have run.
pub fn services_started(facts: &PodFacts, names: &[&str]) -> bool {
    names.iter().all(|name| facts.container(name).is_some_and(ContainerFacts::has_started))
}

/// Why one of the containers of `names` can never start, if the facts prove that: the job that
/// needs it would wait in vain.
pub fn unstartable(facts: &PodFacts, names: &[&str]) -> Option<Ending> {
    facts.containers.iter().filter(|container| names.contains(&container.name.as_str())).find_map(cannot_start)
}

/// An init container is expected to end, with 0.
fn unexpected_end(container: &ContainerFacts) -> Option<(&ContainerFacts, &ContainerEnd)> {
    let end = container.ended()?;
    (!container.init || end.exit_code != 0).then_some((container, end))
}

fn disrupted(facts: &PodFacts, words: &Words) -> Ending {
    let message =
        if words.message.is_empty() { words.reason.clone() } else { format!("{}: {}", words.reason, words.message) };
    Ending::PodDisrupted { pod: facts.name.clone(), message }
}

fn died(container: &ContainerFacts, end: &ContainerEnd) -> Ending {
    let name = container.name.clone();
    if end.is_oom() {
        return Ending::ContainerOutOfMemory { container: name, limit: container.memory_limit.clone() };
    }
    if end.never_ran() {
        return Ending::ContainerConfig { container: name, message: spoken(&end.reason, &end.message) };
    }
    let reason = if end.reason.is_empty() { "none given".to_owned() } else { end.reason.clone() };
    let has_entrypoint = container.has_entrypoint && name == BUILD_CONTAINER;
    let entrypoint = has_entrypoint.then(|| last_line(&end.message));
    Ending::ContainerDied { container: name, exit_code: end.exit_code, reason, entrypoint }
}

/// The last line that says something, or nothing. A part of a line is never shown: it may have a
/// part of a masked value, which nobody would recognise.
fn last_line(printed: &str) -> String {
    let last = printed.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    if last.chars().nth(limits::LAST_LINE).is_some() {
        return format!("(a line of more than {} characters)", limits::LAST_LINE);
    }
    last.to_owned()
}

fn spoken(reason: &str, message: &str) -> String {
    if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") }
}

/// Waiting reasons of the kubelet that do not pass by themselves. A failed pull may, unless the
/// registry has given its last word: see [`limits::PULL_FAILURES`].
fn cannot_start(container: &ContainerFacts) -> Option<Ending> {
    if let Some(end) = container.ended().filter(|end| end.never_ran()) {
        return Some(died(container, end));
    }
    let words = container.waiting()?;
    let name = container.name.clone();
    match words.reason.as_str() {
        "InvalidImageName" | "ErrImageNeverPull" => {}
        "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed" | "ImagePullBackOff"
            if container.pull_failures >= limits::PULL_FAILURES || pull_is_final(&words.message) => {}
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "CrashLoopBackOff" => {
            let last = container.last_end.as_ref().map(|end| end.message.as_str()).filter(|text| !text.is_empty());
            let mut message = spoken(&words.reason, &words.message);
            if let Some(last) = last {
                message = format!("{message}: {last}");
            }
            return Some(Ending::ContainerConfig { container: name, message });
        }
        _ => return None,
    }
    Some(Ending::ImagePull {
        container: name,
        image: container.image.clone(),
        message: spoken(&words.reason, &words.message),
    })
}
