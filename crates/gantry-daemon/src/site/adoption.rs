//! Goes on with the job of a pod whose manager is gone: makes sure that nobody else does, opens the
//! pod's ticket, and hands both to the job.

use std::sync::Arc;
use std::time::Duration;

use gantry_gitlab::{ClientError, ClientOptions};
use gantry_kube::{Fault, Marked, ObservedPod, PodFacts, PodNow, PodRef};
use gantry_plan::{ANNOTATION_OWNER, ANNOTATION_TICKET, LABEL_JOB};
use gantry_wire::ticket::{Ticket, TicketBinding, TicketError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use crate::events::{GitlabUnknown, JobAdopted, Said as _, SecretMayBeLeft, TicketMissing, TicketUnusable, job_span};
use crate::job::{self, AdoptedParts, Clients};
use crate::job_end::JobEnd;
use crate::leftovers::LeftoverRemover;
use crate::member::Member;
use crate::redaction;
use crate::site::owners;
use crate::site::shared::{Marking, Progress, Scout, Site};
use crate::tasks;
use crate::view::JobView;

/// Tries to write an owner on a pod that others change at the same time, or while the API server is
/// in trouble.
const CLAIMS: u32 = 5;

/// Between two of them.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// Label with the name of the entry that a pod was made for (GitLab Runner 19.4).
const RUNNER_NAME: &str = "manager.runner.gitlab.com/name";

/// Annotation with the address of a job's page (GitLab Runner 19.4).
const JOB_URL: &str = "job.runner.gitlab.com/url";

/// A pod of our fleet whose job needs a manager.
pub(super) struct Orphan {
    pub(super) facts: Arc<PodFacts>,
    /// The runners of its fleet, of which there is at least one.
    pub(super) runners: Vec<Arc<Member>>,
    /// Its manager is proven gone.
    pub(super) replaces: bool,
    /// It may live, and only not have come to its agent yet.
    pub(super) manager_may_live: bool,
    /// Its agent may live.
    pub(super) has_agent: bool,
}

/// Goes on with its job beside everything else. It has places from now on, even if there are none.
pub(super) fn begin(site: &Arc<Site>, orphan: Orphan) {
    let Some(runner) = orphan.runners.first().cloned() else { return };
    site.set_progress(&orphan.facts.uid, Progress::Here);
    let (site, tracker) = (Arc::clone(site), runner.shared.jobs.clone());
    let span = job_span(None, None, &runner.labels.runner);
    let work = async move {
        let uid = orphan.facts.uid.clone();
        let work = async {
            let progress = Box::pin(adopt(&site, orphan)).await;
            site.set_progress(&uid, progress);
        };
        runner.until_left(work).await;
    };
    tasks::spawn(tracker.track_future(work.instrument(span)));
}

async fn adopt(site: &Arc<Site>, orphan: Orphan) -> Progress {
    let Orphan { facts, runners, replaces, manager_may_live, has_agent } = orphan;
    let pod = facts.pod();
    let may_mark = site.marking() != Marking::Refused;
    let claims_first = may_mark && (replaces || !has_agent);
    let owner = owners::name(&facts).unwrap_or_default().to_owned();
    let turn = site.claim_turn().await;
    let found = if claims_first { claim(site, &facts).await } else { look(site, &pod).await };
    drop(turn);
    let Some(found) = found else {
        unheard(site, &owner, None);
        return Progress::Again;
    };
    let (sealed_by, ticket) = ticket(site, &runners, &found).unzip();
    let Some(runner) = choose(&runners, &found, sealed_by) else { return Progress::Again };
    let places = (runner.own_places_beyond(), site.place_beyond(&runner.fleet(site.cluster().namespace())));
    // Without the right to write that, several may have come to the same conclusion: the agent
    // takes one of them.
    let replaces = replaces && site.marking() == Marking::Granted;
    let (job, has_ticket) = (job_of(&found).unwrap_or(0), ticket.is_some());
    let guard = redaction::guard(Some(job), ticket.iter().map(|ticket| &ticket.job_token));
    let (view, seen) = watch::channel(JobView::default());
    let url = annotation(&found, JOB_URL).unwrap_or_default().to_owned();
    let session = ticket.as_ref().and_then(|ticket| ticket.session.clone());
    let visits = runner.open_session(session, job, site.cluster(), &seen);
    // What is signed by another entry would go to the store of that one.
    let caches = ticket.as_ref().filter(|_| is_of_entry(runner, &runners, &found));
    let caches = caches.and_then(|ticket| job::CacheSigner::of_ticket(ticket, &runner.preparation));
    let _listed = runner.shared.running.add(url, runner.labels.clone(), seen);
    let on_granted = {
        let (site, pod, owner, runner) = (Arc::clone(site), pod.clone(), owner.clone(), Arc::clone(runner));
        move |adopted: JobAdopted| {
            adopted.tell(&runner.shared.metrics, &runner.labels);
            site.set_scout(&owner, Some(Scout::Gone));
            own_beside(&site, pod);
        }
    };
    let summary = job::adopt(AdoptedParts {
        cluster: site.cluster().clone(),
        helper: Arc::clone(&runner.shared.helper),
        pod: pod.clone(),
        clients: clients(&runners, ticket.as_ref()),
        ticket,
        manager: Arc::clone(site.owner()),
        replaces,
        manager_may_live,
        on_granted: Box::new(on_granted),
        unix_ms: runner.shared.outside.unix_ms(),
        info: runner.info.clone(),
        final_tries: runner.settings.job_status_final_update_retry_limit.get(),
        leftovers: LeftoverRemover::new(runner.shared.jobs.clone(), runner.shared.stop_jobs.clone(), guard),
        stop: runner.shared.stop_jobs.clone(),
        view,
        pace: runner.shared.pace,
        visits,
        caches,
    })
    .await;
    drop(places);
    runner.ended(&summary);
    let name = found.metadata.name.as_deref().unwrap_or_default();
    if summary.end.is_over() && found.uses_secret(name) {
        remove_logins(site, name).await;
    }
    let heard = (summary.end == JobEnd::Owned).then(|| Scout::Lives(Instant::now()));
    unheard(site, &owner, heard);
    let progress = progress(&summary.end, has_ticket);
    if claims_first && progress == Progress::Again && !owner.is_empty() {
        give_back(site, &pod, &owner).await;
    }
    progress
}

/// How far a job is with which this manager has done what it can.
fn progress(end: &JobEnd, has_ticket: bool) -> Progress {
    match end {
        JobEnd::Owned | JobEnd::TooEarly => Progress::Again,
        // GitLab has not answered.
        JobEnd::Unknown if has_ticket => Progress::Again,
        _ => Progress::Settled,
    }
}

/// Removes the Secret with the logins of a pod that has just been removed. It goes with the pod
/// unless its manager could not see to that, and only that manager knows. Its name is the pod's.
pub(super) async fn remove_logins(site: &Site, name: &str) {
    if let Err(error) = site.cluster().delete_pull_secret(name).await {
        SecretMayBeLeft { name, namespace: site.cluster().namespace(), error: &error }.say();
    }
}

/// No agent has said that this manager is gone.
fn unheard(site: &Site, owner: &str, otherwise: Option<Scout>) {
    if site.scout(owner) == Some(Scout::Asked) {
        site.set_scout(owner, otherwise);
    }
}

/// Writes that the pod is ours, unless somebody else has done so. Returns the pod as it is then.
async fn claim(site: &Site, facts: &PodFacts) -> Option<ObservedPod> {
    let (pod, before) = (facts.pod(), owners::name(facts));
    let mut version = facts.resource_version.clone();
    for _ in 0..CLAIMS {
        let marks = [(ANNOTATION_OWNER, site.owner().as_ref())];
        match site.cluster().annotate(&pod, &marks, Some(&version)).await {
            Ok(Marked::Done(found)) => return Some(*found),
            Ok(Marked::Changed) => {}
            Err(error) if error.fault == Fault::Forbidden => {
                site.set_marking(Marking::Refused);
                return look(site, &pod).await;
            }
            Err(error) => {
                tracing::debug!(%error, pod = pod.name, "a job cannot be adopted yet");
                sleep(CLAIM_AGAIN).await;
            }
        }
        let found = look(site, &pod).await?;
        if annotation(&found, ANNOTATION_OWNER) != before {
            return None;
        }
        version = found.metadata.resource_version.unwrap_or_default();
    }
    None
}

/// Writes beside everything else that a pod is ours whose job this process has.
pub(super) fn own_beside(site: &Arc<Site>, pod: PodRef) {
    let site = Arc::clone(site);
    drop(tasks::spawn(async move { own(&site, &pod).await }));
}

/// Writes that a pod is not ours that we have claimed, unless somebody else has written on it
/// since: its agent has another manager, or its job needs another look. Others judge by that name
/// whether the job has one.
async fn give_back(site: &Site, pod: &PodRef, owner: &str) {
    let PodNow::Present(found) = site.cluster().get_pod(pod).await else { return };
    if annotation(&found, ANNOTATION_OWNER) != Some(site.owner()) {
        return;
    }
    let version = found.metadata.resource_version.unwrap_or_default();
    if let Err(error) = site.cluster().annotate(pod, &[(ANNOTATION_OWNER, owner)], Some(&version)).await {
        tracing::debug!(%error, pod = pod.name, "a pod names us that is not ours");
    }
}

/// Writes that the pod is ours, now that its agent has said so.
async fn own(site: &Site, pod: &PodRef) {
    if site.marking() == Marking::Refused {
        return;
    }
    let marks = [(ANNOTATION_OWNER, site.owner().as_ref())];
    for _ in 0..CLAIMS {
        match site.cluster().annotate(pod, &marks, None).await {
            Ok(_) => return,
            Err(error) if error.fault == Fault::Forbidden => return site.set_marking(Marking::Refused),
            Err(error) => tracing::debug!(%error, pod = pod.name, "the new owner of a pod cannot be written down yet"),
        }
        sleep(CLAIM_AGAIN).await;
    }
}

async fn look(site: &Site, pod: &PodRef) -> Option<ObservedPod> {
    match site.cluster().get_pod(pod).await {
        PodNow::Present(found) => Some(*found),
        PodNow::Gone | PodNow::Replaced => None,
        PodNow::Unknown(error) => {
            tracing::debug!(%error, pod = pod.name, "a job cannot be looked into yet");
            None
        }
    }
}

/// The runner of the entry that the pod was made for, else the one whose key has sealed its ticket,
/// as where the entry has another name now, else any of its fleet.
fn choose<'r>(
    runners: &'r [Arc<Member>],
    found: &ObservedPod,
    sealed_by: Option<&'r Arc<Member>>,
) -> Option<&'r Arc<Member>> {
    runners.iter().find(|runner| is_named(found, runner)).or(sealed_by).or_else(|| runners.first())
}

/// Whether the pod was made for this entry, which is sure where its name is the same, or where it
/// alone has its key.
fn is_of_entry(runner: &Member, runners: &[Arc<Member>], found: &ObservedPod) -> bool {
    let key = runner.ticket_key();
    is_named(found, runner) || runners.iter().filter(|other| other.ticket_key() == key).count() == 1
}

fn is_named(found: &ObservedPod, runner: &Member) -> bool {
    found.metadata.labels.as_ref().and_then(|labels| labels.get(RUNNER_NAME)) == Some(&runner.settings.name)
}

/// What the pod's ticket says, and the runner whose key opens it, which is the first of those that
/// have the same. Why none does is said for the operator: an agent that lives does not need it.
fn ticket<'r>(site: &Site, runners: &'r [Arc<Member>], found: &ObservedPod) -> Option<(&'r Arc<Member>, Ticket)> {
    let name = found.metadata.name.as_deref().unwrap_or_default();
    let namespace = site.cluster().namespace();
    let (Some(text), Some(job_id)) = (annotation(found, ANNOTATION_TICKET), job_of(found)) else {
        TicketMissing { pod: name, namespace }.say();
        return None;
    };
    let mut why = TicketError::OtherKey;
    for runner in runners {
        let fleet = runner.fleet(namespace);
        let binding = TicketBinding { pod: name, namespace, job_id, fleet: fleet.name() };
        match Ticket::open(text, &runner.ticket_key(), &binding) {
            Ok(ticket) => return Some((runner, ticket)),
            Err(TicketError::OtherKey) => {}
            Err(error) => why = error,
        }
    }
    TicketUnusable { pod: name, namespace, why }.say();
    None
}

fn annotation<'p>(found: &'p ObservedPod, key: &str) -> Option<&'p str> {
    found.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn job_of(found: &ObservedPod) -> Option<i64> {
    found.metadata.labels.as_ref()?.get(LABEL_JOB)?.parse().ok()
}

/// Reaches the `GitLab`s of these runners, as they are configured, and that of a ticket: who has
/// sealed it is one of us. Nobody else says where a job's log goes.
fn clients(runners: &[Arc<Member>], ticket: Option<&Ticket>) -> Clients {
    let known: Vec<_> = runners.iter().map(|runner| (runner.settings.url.clone(), runner.client.clone())).collect();
    let of_ticket = ticket.map(|ticket| (ticket.gitlab_url.clone(), ticket.ca_pem.clone()));
    let outside = runners.first().map(|runner| Arc::clone(&runner.shared.outside));
    Arc::new(move |url, _| {
        let same = |other: &str| other.trim_end_matches('/') == url.trim_end_matches('/');
        if let Some((_, client)) = known.iter().find(|(known, _)| same(known)) {
            return Ok(client.clone());
        }
        let ticket = of_ticket.as_ref().filter(|(url, _)| same(url));
        if let (Some((url, ca_pem)), Some(outside)) = (ticket, &outside) {
            return outside.gitlab(ClientOptions { ca_pem: ca_pem.clone(), ..ClientOptions::new(url.clone()) });
        }
        GitlabUnknown(url).say();
        Err(ClientError::Url { url: url.to_owned() })
    })
}
