//! The Secret with a job's logins for registries. Where that can be it is made when its pod is
//! there, which is held back until then: it goes with the pod, whatever happens to its manager.
//! Elsewhere it is there from before its pod is made until after it is gone.

use gantry_kube::{ApiError, Cluster, Fault, NewPullSecret, PodRef};
use gantry_plan::{GATE, HeadLine, PullSecret};
use tokio::time::Instant;

use crate::leftovers::delete_secret;

/// The Secret, if there is one.
#[derive(Debug, Default)]
pub(super) enum Logins {
    #[default]
    None,
    /// There before its pod, and to be given to it.
    Before(NewPullSecret),
    /// To be made for its pod, which is held back.
    Following(PullSecret),
}

impl Logins {
    /// Makes it, unless its pod has to be there first.
    ///
    /// # Errors
    /// It cannot be made: a line for the job log, which says what to do.
    pub(super) async fn make(cluster: &Cluster, secret: &PullSecret, deadline: Instant) -> Result<Self, HeadLine> {
        if secret.follows_pod {
            return Ok(Self::Following(secret.clone()));
        }
        match cluster.create_pull_secret(&new(secret), None, deadline).await {
            Ok(()) => Ok(Self::Before(new(secret))),
            Err(error) => Err(HeadLine::warning(refusal(cluster.namespace(), &secret.registries, &error))),
        }
    }

    /// What there may be of a Secret that was not waited for.
    pub(super) fn asked_for(secret: &PullSecret) -> Self {
        if secret.follows_pod { Self::None } else { Self::Before(new(secret)) }
    }

    /// Whether there may be one that goes with no pod.
    pub(super) fn may_be_left(&self) -> bool {
        matches!(self, Self::Before(_))
    }

    /// Makes it for its pod. A line for the job log if it cannot be made: the pod may do without.
    pub(super) async fn follow(&self, cluster: &Cluster, pod: &PodRef, deadline: Instant) -> Option<HeadLine> {
        let Self::Following(secret) = self else { return None };
        let error = cluster.create_pull_secret(&new(secret), Some(pod), deadline).await.err()?;
        Some(HeadLine::warning(refusal(cluster.namespace(), &secret.registries, &error)))
    }

    /// Lets its pod start, which was held back.
    ///
    /// # Errors
    /// It would wait for ever: why.
    pub(super) async fn release(&self, cluster: &Cluster, pod: &PodRef, deadline: Instant) -> Result<(), String> {
        if !matches!(self, Self::Following(_)) {
            return Ok(());
        }
        cluster.release_pod(pod, GATE, deadline).await.map_err(|error| {
            let what = "the pod was held back until its Secret was there, and could not be let go";
            let remedy = if error.fault == Fault::Forbidden { ": grant patch on pods" } else { "" };
            format!("{what}{remedy}: {error}")
        })
    }

    /// Lets it go with its pod. Its name if it does not.
    pub(super) async fn give(self, cluster: &Cluster, pod: &PodRef) -> Option<String> {
        let Self::Before(secret) = self else { return None };
        match cluster.give_pull_secret(&secret, pod).await {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(%error, secret = secret.name, "the Secret is removed after its pod");
                Some(secret.name)
            }
        }
    }

    /// Removes it: there is no pod.
    pub(super) async fn remove(self, cluster: &Cluster) {
        if let Self::Before(secret) = self {
            delete_secret(cluster, &secret.name).await;
        }
    }
}

fn new(secret: &PullSecret) -> NewPullSecret {
    let PullSecret { name, labels, config, .. } = secret.clone();
    NewPullSecret { name, labels, config }
}

fn refusal(namespace: &str, registries: &[String], error: &ApiError) -> String {
    let registries = registries.join(", ");
    if error.fault == Fault::Forbidden {
        format!(
            "The login for {registries} is not used: the runner may not create Secrets in namespace {namespace}. Grant create, update and \
             delete on secrets there, or name a Secret of yours in image_pull_secrets of the runner's config"
        )
    } else {
        format!(
            "The login for {registries} is not used: its Secret could not be created in namespace {namespace}: {error}"
        )
    }
}
