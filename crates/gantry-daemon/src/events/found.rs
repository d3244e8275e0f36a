//! What is said about pods that were found, and about other managers.

use gantry_kube::{ApiError, DeleteError};
use gantry_plan::ANNOTATION_OWNER;
use gantry_wire::ticket::TicketError;

use crate::events::Said;

/// A pod is gone that nobody needed.
pub(crate) struct PodRemoved<'a> {
    pub(crate) pod: &'a str,
    /// Why nobody needed it.
    pub(crate) why: &'static str,
}

impl Said for PodRemoved<'_> {
    fn log(&self) {
        let Self { pod, why } = self;
        tracing::info!(pod, "removed a pod that nobody needs: {why}");
    }
}

/// It could not be removed.
pub(crate) struct PodNotRemoved<'a> {
    pub(crate) pod: &'a str,
    pub(crate) error: &'a DeleteError,
}

impl Said for PodNotRemoved<'_> {
    fn log(&self) {
        let Self { pod, error } = self;
        tracing::warn!(pod, %error, "could not remove a finished pod; trying again later");
    }
}

/// The Secret with the logins of a pod that was removed may be left.
pub(crate) struct SecretMayBeLeft<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) error: &'a ApiError,
}

impl Said for SecretMayBeLeft<'_> {
    fn log(&self) {
        let Self { name, namespace, error } = self;
        tracing::warn!(
            %error,
            "the Secret {name} in namespace {namespace} is left unless it has gone with its pod: grant delete on secrets, or delete it"
        );
    }
}

/// Somebody has written another owner on a pod.
pub(crate) struct OwnerChanged<'a>(pub(crate) &'a str);

impl Said for OwnerChanged<'_> {
    fn log(&self) {
        tracing::warn!(
            pod = self.0,
            "{ANNOTATION_OWNER} of the pod is no manager's name: somebody has changed it; its agent is asked who its manager is"
        );
    }
}

/// A pod has no ticket.
pub(crate) struct TicketMissing<'a> {
    pub(crate) pod: &'a str,
    pub(crate) namespace: &'a str,
}

impl Said for TicketMissing<'_> {
    fn log(&self) {
        let Self { pod, namespace } = self;
        tracing::warn!(pod, namespace, "the pod has no ticket: only its agent can tell what its job is");
    }
}

/// A pod's ticket is of no use.
pub(crate) struct TicketUnusable<'a> {
    pub(crate) pod: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) why: TicketError,
}

impl Said for TicketUnusable<'_> {
    fn log(&self) {
        let Self { pod, namespace, why } = self;
        tracing::warn!(
            pod,
            namespace,
            "the pod's ticket cannot be opened: {why}; only its agent can tell what its job is"
        );
    }
}

/// A job that was found says that it is of a GitLab that nobody knows.
pub(crate) struct GitlabUnknown<'a>(pub(crate) &'a str);

impl Said for GitlabUnknown<'_> {
    fn log(&self) {
        tracing::warn!(
            url = self.0,
            "a job says that it is of a GitLab that no entry of its fleet has, and has no ticket that says so too"
        );
    }
}

/// Other managers cannot be told that this one lives.
pub(crate) struct PatchRefused<'a>(pub(crate) &'a str);

impl Said for PatchRefused<'_> {
    fn log(&self) {
        tracing::info!(
            namespace = self.0,
            "patch on pods is not granted: if this manager dies, the next one that starts goes on with its jobs; with it other replicas do \
             so within 20 s"
        );
    }
}

/// Other managers could not be told in time that this one goes.
pub(crate) struct EndNotAnnounced;

impl Said for EndNotAnnounced {
    fn log(&self) {
        tracing::info!("other managers are not told that this one goes; they notice within 20 s");
    }
}

/// The pod of a failed job could not be kept.
pub(crate) struct PodNotKept<'a> {
    pub(crate) pod: &'a str,
    pub(crate) error: &'a ApiError,
}

impl Said for PodNotKept<'_> {
    fn log(&self) {
        let Self { pod, error } = self;
        tracing::warn!(%error, pod, "the pod of a failed job cannot be kept");
    }
}
