//! What takes time: each piece of work runs in the background of the job's task and says in the
//! job's inbox what came of it.

mod making;

use std::sync::Arc;
use std::time::Duration;

use gantry_gitlab::{Client, JobCredentials, RunnerInfo};
use gantry_kube::{
    AgentStream, AttachRequest, Cluster, HelperBinaries, LeftoverPod, Marked, PodFacts, PodNow, PodRef, PodWatch,
    Purpose,
};
use gantry_plan::{ANNOTATION_KEPT, JobPlan};
use gantry_relay::{Input, PendingEnd, RelayJob, Report};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::events::{PodLeft, PodNotKept, Said as _, UpdatesRefused};
use crate::job::cache_signer::{CacheSigner, Signed};
use crate::job::events::{Event, ServiceNews};
use crate::leftovers::{LeftoverRemover, delete_secret};
use crate::tasks;
use making::{Maker, Order};

pub(crate) use making::persistence;

/// Messages to a job that wait: enough for every part to say one thing while the job's task is
/// busy. They are boxed: a channel has room for 32 whatever its bound, and keeps it.
pub(super) const INBOX: usize = 32;

/// What arrives in a job's inbox.
pub(super) enum Message {
    /// Something that the machine decides about.
    Event(Event),
    /// The pod exists.
    PodCreated {
        /// Which one it is.
        pod: PodRef,
        /// The name of a Secret that does not go with it.
        secret: Option<String>,
        /// Its namespace admits no others than restricted ones.
        restricted: bool,
    },
    /// There is a connection to the agent.
    Connected(Box<AgentStream>),
    /// What the relay says.
    Report(Report),
    /// What saves the job's caches was signed again, or was not.
    CachesSigned(Signed),
}

impl From<Report> for Box<Message> {
    fn from(report: Report) -> Self {
        Self::new(Message::Report(report))
    }
}

/// A job's place at its GitLab.
#[derive(Clone)]
pub(super) struct JobClient {
    pub(super) client: Client,
    pub(super) creds: JobCredentials,
    pub(super) info: RunnerInfo,
}

/// Starts work for one job.
#[derive(Clone)]
pub(super) struct Background {
    inbox: mpsc::Sender<Box<Message>>,
    /// The job has ended for this manager.
    over: CancellationToken,
}

/// A connection to make.
pub(super) struct Approach {
    pub(super) pod: PodRef,
    pub(super) watch: PodWatch,
    pub(super) purpose: Purpose,
    /// When to give up.
    pub(super) deadline: Instant,
    /// How long that is after the job was taken, for messages.
    pub(super) limit: Duration,
    /// How long to wait before.
    pub(super) pause: Duration,
}

impl Background {
    pub(super) fn new(inbox: mpsc::Sender<Box<Message>>, over: CancellationToken) -> Self {
        Self { inbox, over }
    }

    /// Runs work whose result is a message to the job, and which nobody needs when that is over.
    fn spawn(&self, work: impl Future<Output = Option<Message>> + Send + 'static) {
        // Boxed by itself, as below.
        let (over, work) = (self.over.clone(), Box::pin(work));
        self.spawn_lasting(async move { over.run_until_cancelled(work).await? });
    }

    /// Runs work that is to be done also when the job is over.
    fn spawn_lasting(&self, work: impl Future<Output = Option<Message>> + Send + 'static) {
        let inbox = self.inbox.clone();
        // Boxed by itself: what awaits a future has room for it twice.
        let work = Box::pin(work);
        let telling = async move {
            if let Some(message) = work.await {
                // A closed inbox means that the job has ended.
                let _ = inbox.send(Box::new(message)).await;
            }
        };
        tasks::spawn(telling.in_current_span());
    }

    /// Runs a conversation with the agent, whose end shows in its frames.
    pub(super) fn talk(talk: impl Future<Output = ()> + Send + 'static) {
        tasks::spawn(talk.in_current_span());
    }

    /// Keeps GitLab from taking the job back while it is not acknowledged.
    pub(super) fn keep_pending(&self, job_client: JobClient, stop: CancellationToken) {
        self.spawn(async move {
            let JobClient { client, creds, info } = job_client;
            match stop.run_until_cancelled(gantry_relay::keep_pending(&client, &creds, &info)).await? {
                PendingEnd::NotNeeded => None,
                PendingEnd::Canceling => Some(Message::Event(Event::CancelRequested)),
                PendingEnd::Gone(reason) => Some(Message::Event(Event::GoneWhilePending(reason))),
            }
        });
    }

    /// Makes the pod, until `deadline`; `unwanted` says that nobody needs it any more.
    pub(super) fn create_pod(
        &self,
        (cluster, leftovers): (Cluster, LeftoverRemover),
        plan: &mut JobPlan,
        deadline: Instant,
        unwanted: CancellationToken,
    ) {
        let order = Order::out_of(plan);
        let maker = Maker { cluster, leftovers, inbox: self.inbox.clone(), deadline, unwanted };
        // A pod that comes when nobody needs it any more is removed.
        self.spawn_lasting(async move { Some(Box::pin(maker.make(order)).await) });
    }

    /// Opens a connection to the agent.
    pub(super) fn connect(&self, cluster: Cluster, helper: Arc<HelperBinaries>, approach: Approach) {
        self.spawn(async move {
            let Approach { pod, watch, purpose, deadline, limit, pause } = approach;
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let request = AttachRequest { pod: &pod, watch, helper: &helper, purpose, deadline };
            Some(match cluster.connect_agent(request).await {
                Ok(stream) => Message::Connected(Box::new(stream)),
                Err(error) => Message::Event(Event::AgentUnreachable(error.ending(limit))),
            })
        });
    }

    /// Says that the job starts.
    pub(super) fn acknowledge(&self, job_client: JobClient) {
        self.spawn(async move {
            let JobClient { client, creds, info } = job_client;
            let trouble = |message: Option<&str>| UpdatesRefused(message).say();
            let outcome = gantry_relay::acknowledge(&client, &creds, &info, trouble).await;
            Some(Message::Event(Event::Acknowledged(outcome)))
        });
    }

    /// Asks how the job stands, until `until`.
    pub(super) fn ask_gitlab(&self, job_client: JobClient, until: Instant) {
        self.spawn(async move {
            let status =
                gantry_relay::gitlab_status(&job_client.client, &job_client.creds, &job_client.info, until).await;
            Some(Message::Event(Event::GitlabStatus(status)))
        });
    }

    /// Relays the trace and the verdict, until `stop`.
    pub(super) fn relay(&self, client: Client, job: RelayJob, inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
        let relay = Box::pin(gantry_relay::run(client, job, inputs, self.inbox.clone()));
        self.spawn(async move {
            let end = stop.run_until_cancelled(relay).await?;
            Some(Message::Event(Event::RelayEnded(end)))
        });
    }

    /// Signs again what saves the job's caches.
    pub(super) fn sign_caches(&self, signer: CacheSigner) {
        self.spawn(async move { Some(Message::CachesSigned(signer.sign().await)) });
    }

    /// Waits until nobody is in the job's terminal; then its end is the agent's.
    pub(super) fn wait_for_visits(&self, over: impl Future<Output = ()> + Send + 'static) {
        self.spawn(async move {
            over.await;
            Some(Message::Event(Event::AgentClosed))
        });
    }

    /// Looks at the pod itself.
    pub(super) fn look(&self, cluster: Cluster, pod: PodRef) {
        self.spawn(async move {
            let facts = match cluster.get_pod(&pod).await {
                PodNow::Present(pod) => Some(Box::new(PodFacts::digest(&pod, None))),
                PodNow::Unknown(_) => None,
                // The watch shows that by itself.
                PodNow::Gone | PodNow::Replaced => return None,
            };
            Some(Message::Event(Event::PodLooked(facts)))
        });
    }

    /// Asks for the events of the pod.
    pub(super) fn ask_events(&self, cluster: Cluster, pod: PodRef) {
        self.spawn(async move {
            let events = cluster.pod_events(&pod).await;
            if let Err(error) = &events {
                tracing::debug!(%error, pod = pod.name, "the events of a pod cannot be read");
            }
            Some(Message::Event(Event::Events(events)))
        });
    }

    /// Asks for the end of a service's log.
    pub(super) fn ask_log(&self, cluster: Cluster, pod: PodRef, news: ServiceNews) {
        self.spawn(async move {
            let log = cluster.last_lines(&pod, &news.container).await;
            Some(Message::Event(Event::LogRead(news, log)))
        });
    }

    /// Follows a container's log for as long as the job lasts.
    pub(super) fn follow_log(&self, following: impl Future<Output = ()> + Send + 'static) {
        self.spawn(async move {
            following.await;
            None
        });
    }

    /// The same when something is wrong with it.
    pub(super) fn ask_final_events(&self, cluster: Cluster, pod: PodRef) {
        self.spawn(async move {
            let events = cluster.pod_events(&pod).await.unwrap_or_default();
            Some(Message::Event(Event::FinalEvents(events)))
        });
    }

    /// Deletes the pod, and the Secret that does not go with it. With seconds in `kept` the pod
    /// stays for so long.
    pub(super) fn delete_pod(
        &self,
        (cluster, leftovers): (Cluster, LeftoverRemover),
        (pod, secret): (PodRef, Option<String>),
        (grace_seconds, kept): (Option<u32>, Option<u64>),
    ) {
        self.spawn_lasting(async move {
            let removing_secret = async {
                if let Some(secret) = secret {
                    delete_secret(&cluster, &secret).await;
                }
            };
            // At once, because the pod has a place on a node.
            tokio::join!(remove_pod(&cluster, pod, (grace_seconds, kept), &leftovers), removing_secret);
            Some(Message::Event(Event::PodDeleted))
        });
    }
}

/// Deletes a pod, or lets it stay for so many seconds.
async fn remove_pod(
    cluster: &Cluster,
    pod: PodRef,
    (grace_seconds, kept): (Option<u32>, Option<u64>),
    leftovers: &LeftoverRemover,
) {
    if let Some(seconds) = kept.and_then(|seconds| i64::try_from(seconds).ok()) {
        let until = Timestamp::now().as_second().saturating_add(seconds).to_string();
        match cluster.annotate(&pod, &[(ANNOTATION_KEPT, until.as_str())], None).await {
            Ok(Marked::Done(_)) => return,
            Ok(Marked::Changed) => {}
            Err(error) => PodNotKept { pod: &pod.name, error: &error }.say(),
        }
    }
    if let Err(error) = cluster.delete_pod(&pod, grace_seconds).await {
        let tries_again = error.fault.is_transient();
        PodLeft { error: &error, tries_again }.say();
        if tries_again {
            leftovers.remove(cluster.clone(), LeftoverPod::NotDeleted(pod));
        }
    }
}

#[cfg(test)]
mod tests;
