//! Makes a job's pod with everything around it: its namespace, what has to be there before, the
//! Secret with logins, the disruption budget; and makes it anew with another pull policy where an
//! image cannot be pulled with the first.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_core::Ending;
use gantry_kube::{Absent, ApiError, Awaited, Cluster, CreateError, Fault, LeftoverPod, Persistence, PodRef, Pulled};
use gantry_plan::{Fallback, HeadLine, JobPlan, Making, Pod, PullSecret};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::job::background::Message;
use crate::job::events::Event;
use crate::job::logins::Logins;
use crate::leftovers::LeftoverRemover;

/// How long the answer to the creation of a pod is waited for that nobody needs any more: with it
/// the pod can be removed at once.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// Different troubles with the API server that are shown in the log of a job that waits for its
/// pod.
const TROUBLES: usize = 10;

/// Grace of a pod that makes room for another try: nothing of the job has run in it.
const REPLACED_GRACE: u32 = 1;

/// How long the disruption budget of a pod that is there is tried: the job does not wait for it
/// longer.
const BUDGET: Duration = Duration::from_secs(20);

/// What a job log says of a namespace with the strictest level of Pod Security.
const RESTRICTED: &str = "This namespace admits restricted pods only (Pod Security): containers run without root, capabilities and \
                          privileges, and files belong to their group";

/// Whoever makes one pod.
pub(super) struct Maker {
    pub(super) cluster: Cluster,
    pub(super) leftovers: LeftoverRemover,
    pub(super) inbox: mpsc::Sender<Box<Message>>,
    /// When to give up.
    pub(super) deadline: Instant,
    /// Says that nobody needs the pod any more.
    pub(super) unwanted: CancellationToken,
}

/// What to make.
pub(super) struct Order {
    pod: Pod,
    secret: Option<PullSecret>,
    making: Making,
}

impl Order {
    /// Takes it out of the plan: a pod is made once, and its description is of no use to the rest
    /// of the job.
    pub(super) fn out_of(plan: &mut JobPlan) -> Self {
        let (pod, secret) = (std::mem::take(&mut plan.pod), plan.pull_secret.take());
        Self { pod, secret, making: std::mem::take(&mut plan.making) }
    }
}

/// How persistent the requests of a job are.
pub(crate) fn persistence(making: &Making) -> Persistence {
    let default = Persistence::default();
    let tries = &making.tries;
    Persistence {
        tries: tries.limit,
        by_text: tries.by_text.iter().map(|(text, tries)| (text.clone(), *tries)).collect(),
        longest_pause: tries.longest_pause.unwrap_or(default.longest_pause),
        removal: making.cleanup_timeout,
    }
}

impl Maker {
    /// Makes everything, and says what came of it.
    pub(super) async fn make(self, order: Order) -> Message {
        let Order { mut pod, secret, making } = order;
        match self.unwanted.clone().run_until_cancelled(self.prepare(&making)).await {
            Some(Ok(())) => {}
            Some(Err(ending)) => return Message::Event(Event::PodNotCreated(ending)),
            None => return Message::Event(Event::PodNotCreated(nobody().ending())),
        }
        let mut logins = Logins::default();
        if let Some(secret) = secret {
            let making = Logins::make(&self.cluster, &secret, self.deadline);
            match self.unwanted.run_until_cancelled(making).await {
                Some(Ok(made)) => logins = made,
                Some(Err(line)) => {
                    secret.leave_out(&mut pod);
                    self.note(line).await;
                }
                // It may be there, or come yet.
                None => {
                    logins = Logins::asked_for(&secret);
                    if logins.may_be_left() {
                        self.leftovers.remove_secret(self.cluster.clone(), secret.name);
                    }
                }
            }
        }
        if self.unwanted.is_cancelled() {
            logins.remove(&self.cluster).await;
            return Message::Event(Event::PodNotCreated(nobody().ending()));
        }
        let mut restricted = false;
        let mut made = self.start((&mut pod, &logins), &mut restricted).await;
        if let (Ok(first), false) = (&made, making.fallbacks.is_empty()) {
            made = self.with_images((&mut pod, &logins), first.clone(), &making.fallbacks).await;
        }
        match made {
            Ok(pod) => {
                self.unwanted.run_until_cancelled(self.protect(&making, &pod)).await;
                Message::PodCreated { secret: logins.give(&self.cluster, &pod).await, pod, restricted }
            }
            Err(error) => {
                logins.remove(&self.cluster).await;
                if matches!(error, CreateError::Unreachable { .. }) {
                    self.leftovers.remove(self.cluster, LeftoverPod::Requested(Box::new(pod)));
                }
                Message::Event(Event::PodNotCreated(not_created(&error, making.bearer_token.is_some())))
            }
        }
    }

    async fn note(&self, line: HeadLine) {
        // A closed inbox means that the job has ended.
        let _ = self.inbox.send(Box::new(Message::Event(Event::Note(line)))).await;
    }

    /// A full inbox is for those who cannot wait.
    fn waits(&self, line: String) {
        let _ = self.inbox.try_send(Box::new(Message::Event(Event::PodWaits(line))));
    }

    /// What must be there before the pod is.
    async fn prepare(&self, making: &Making) -> Result<(), Ending> {
        if let Some(namespace) = &making.namespace {
            let made = self.cluster.create_namespace(namespace, self.deadline).await;
            made.map_err(|error| Ending::ClusterUnreachable { message: error.to_string() })?;
        }
        let Some(awaited) = &making.awaited else { return Ok(()) };
        let gantry_plan::Awaited { service_account, pull_secrets, attempts } = awaited.clone();
        match self.cluster.await_objects(&Awaited { service_account, pull_secrets, attempts }).await {
            Ok(()) => Ok(()),
            Err(error @ Absent::Missing { .. }) => Err(Ending::ClusterUnreachable { message: error.to_string() }),
            Err(error @ Absent::Unknown { .. }) => {
                let what =
                    "resource_availability_check_max_attempts has no effect: grant get on serviceaccounts and secrets";
                self.note(HeadLine::warning(format!("{what}: {error}"))).await;
                Ok(())
            }
        }
    }

    /// Makes the pod, and lets it start if it was held back until its Secret is there.
    async fn start(&self, (pod, logins): (&mut Pod, &Logins), restricted: &mut bool) -> Result<PodRef, CreateError> {
        let made = self.create(pod, restricted).await?;
        let releasing = async {
            if let Some(line) = logins.follow(&self.cluster, &made, self.deadline).await {
                self.note(line).await;
            }
            logins.release(&self.cluster, &made, self.deadline).await
        };
        match self.unwanted.run_until_cancelled(releasing).await {
            Some(Err(message)) => {
                self.leftovers.remove(self.cluster.clone(), LeftoverPod::NotDeleted(made));
                Err(CreateError::Misconfigured { message })
            }
            // A pod that nobody needs is removed as it is.
            Some(Ok(())) | None => Ok(made),
        }
    }

    /// Makes the pod, as its namespace admits it.
    async fn create(&self, pod: &mut Pod, restricted: &mut bool) -> Result<PodRef, CreateError> {
        if self.unwanted.is_cancelled() {
            return Err(nobody());
        }
        let mut told = BTreeSet::new();
        let mut tell = |error: &ApiError| {
            // Two troubles may alternate, and each is worth one line.
            if told.len() < TROUBLES && told.insert(error.message.clone()) {
                self.waits(format!("Waiting for the API server to create the pod: {}", error.message));
            }
        };
        let making = async {
            let made = self.cluster.create_pod(pod, self.deadline, &mut tell).await;
            match &made {
                Err(CreateError::Refused { message }) if gantry_plan::is_restriction(message) => {}
                _ => return made,
            }
            *restricted = true;
            gantry_plan::restrict(pod);
            self.note(HeadLine::plain(RESTRICTED)).await;
            self.cluster.create_pod(pod, self.deadline, &mut tell).await
        };
        let late = async {
            self.unwanted.cancelled().await;
            sleep(LAST_ANSWER).await;
        };
        tokio::select! {
            made = making => made,
            () = late => Err(nobody()),
        }
    }

    /// Makes the pod anew with the next pull policy of a container whose image cannot be pulled,
    /// until all that have another have their images. What cannot be mended so shows with the pod
    /// that is there.
    async fn with_images(
        &self,
        (pod, logins): (&mut Pod, &Logins),
        mut made: PodRef,
        fallbacks: &[Fallback],
    ) -> Result<PodRef, CreateError> {
        let names: Vec<&str> = fallbacks.iter().map(|fallback| fallback.container.as_str()).collect();
        let mut used = vec![0; fallbacks.len()];
        for attempt in 2.. {
            let show = |reasons: &[String]| reasons.iter().for_each(|line| self.waits(line.clone()));
            let pulled = tokio::select! {
                pulled = self.cluster.pulled(&made, &names, show) => pulled,
                () = self.unwanted.cancelled() => Pulled::Enough,
                () = sleep_until(self.deadline) => Pulled::Enough,
            };
            let Pulled::Failed { container, image, message } = pulled else { break };
            let Some(at) = names.iter().position(|name| *name == container) else { break };
            let next = fallbacks.get(at).zip(used.get_mut(at)).and_then(|(fallback, used)| {
                let policy = fallback.policies.get(*used).copied()?;
                *used += 1;
                Some(policy)
            });
            let Some(next) = next else { break };
            let last = set_policy(pod, &container, next);
            self.note(HeadLine::warning(format!(
                "Failed to pull image {image:?} for container {container:?} with policy {last:?}: {message}"
            )))
            .await;
            let policy = next.unwrap_or_default();
            self.note(HeadLine::plain(format!(
                "Attempt #{attempt}: Trying {policy:?} pull policy for {image:?} image for container {container:?}"
            )))
            .await;
            if let Err(error) = self.cluster.delete_pod(&made, Some(REPLACED_GRACE)).await {
                self.note(HeadLine::warning(format!("The pod cannot be made anew: {error}"))).await;
                break;
            }
            made = self.start((&mut *pod, logins), &mut false).await?;
        }
        Ok(made)
    }

    /// Makes the budget that goes with the pod. A job runs without one rather than not at all.
    async fn protect(&self, making: &Making, pod: &PodRef) {
        let Some(budget) = &making.disruption_budget else { return };
        let deadline = Instant::now() + BUDGET;
        let Err(error) = self.cluster.create_disruption_budget(budget, pod, deadline).await else { return };
        let what = if error.fault == Fault::Forbidden {
            "grant create on poddisruptionbudgets (policy), or set pod_disruption_budget = false"
        } else {
            "a drain of its node will end the job"
        };
        self.note(HeadLine::warning(format!("The pod has no disruption budget: {what}: {error}"))).await;
    }
}

/// How a job ends that has no pod. The runner's credentials are not to blame where the job brings
/// its own.
fn not_created(error: &CreateError, with_token_of_job: bool) -> Ending {
    match error {
        CreateError::Unauthenticated { message } if with_token_of_job => Ending::PodRefused {
            message: format!(
                "{message}; the token in the job's KUBERNETES_BEARER_TOKEN is not accepted: has it expired?"
            ),
        },
        error => error.ending(),
    }
}

fn nobody() -> CreateError {
    CreateError::Unreachable { seconds: 0, message: "nobody needs it any more".to_owned() }
}

/// Sets the pull policy of a container, and gives the one that it had, in Kubernetes' words.
fn set_policy(pod: &mut Pod, container: &str, policy: Option<&str>) -> String {
    let mut containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    let Some(found) = containers.find(|found| found.name == container) else { return String::new() };
    std::mem::replace(&mut found.image_pull_policy, policy.map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
