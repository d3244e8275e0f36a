//! The Secret with a job's logins for registries, from before its pod is made until after it is
//! gone.

use gantry_kube::{ApiError, Cluster, Fault, NewPullSecret, PodRef};
use gantry_plan::{HeadLine, PullSecret};
use tokio::time::Instant;

use crate::events::{Said as _, SecretLeft};

/// The Secret, if there is one.
#[derive(Debug, Default)]
pub(super) struct Logins(Option<NewPullSecret>);

impl Logins {
    /// Makes it.
    ///
    /// # Errors
    /// It cannot be made: a line for the job log, which says what to do.
    pub(super) async fn make(cluster: &Cluster, secret: &PullSecret, deadline: Instant) -> Result<Self, HeadLine> {
        let PullSecret { name, labels, registries, config } = secret.clone();
        let new = NewPullSecret { name, labels, config };
        match cluster.create_pull_secret(&new, deadline).await {
            Ok(()) => Ok(Self(Some(new))),
            Err(error) => Err(HeadLine::warning(refusal(cluster.namespace(), &registries, &error))),
        }
    }

    /// Lets it go with its pod. Its name if it does not.
    pub(super) async fn give(self, cluster: &Cluster, pod: &PodRef) -> Option<String> {
        let secret = self.0?;
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
        if let Some(secret) = self.0 {
            remove(cluster, &secret.name).await;
        }
    }
}

/// Removes a Secret that no pod takes with it.
pub(super) async fn remove(cluster: &Cluster, name: &str) {
    if let Err(error) = cluster.delete_pull_secret(name).await {
        SecretLeft { name, namespace: cluster.namespace(), error: &error }.say();
    }
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
