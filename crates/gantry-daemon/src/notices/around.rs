//! What is said about what jobs have around them: namespaces of their own, caches, and traces for
//! whoever collects those.

use gantry_kube::ApiError;

use crate::notices::Notice;

/// The namespace of a job could not be removed.
pub(crate) struct NamespaceLeft<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) error: &'a ApiError,
}

impl Notice for NamespaceLeft<'_> {
    fn say(&self) {
        let Self { namespace, error } = self;
        tracing::warn!(
            namespace,
            %error,
            "the namespace of a job is left: grant get and delete on namespaces by a ClusterRole"
        );
    }
}

/// Namespaces that nobody looks after any more cannot be found.
pub(crate) struct NamespacesUnseen;

impl Notice for NamespacesUnseen {
    fn say(&self) {
        tracing::warn!(
            "namespaces of jobs whose manager has died are not found: grant list on namespaces by a ClusterRole"
        );
    }
}

/// The settings of a runner's cache store cannot be used.
pub(crate) struct CachesNotKept<'a> {
    /// The entry's name.
    pub(crate) runner: &'a str,
    pub(crate) problem: &'a str,
}

impl Notice for CachesNotKept<'_> {
    fn say(&self) {
        let Self { runner, problem } = self;
        tracing::warn!(runner, "caches of jobs are not kept in [runners.cache]: {problem}");
    }
}

/// A job has to do without its caches.
pub(crate) struct CacheStoreUnusable<'a> {
    pub(crate) job: i64,
    pub(crate) problem: &'a str,
}

impl Notice for CacheStoreUnusable<'_> {
    fn say(&self) {
        let Self { job, problem } = self;
        tracing::warn!(job, "the cache store cannot be used: {problem}");
    }
}

/// What saves the caches of a job ends before the job may, and cannot be signed again.
pub(crate) struct CachesNotRenewed<'a> {
    pub(crate) problem: &'a str,
}

impl Notice for CachesNotRenewed<'_> {
    fn say(&self) {
        let problem = self.problem;
        tracing::warn!(
            "requests that save the caches of this job cannot be signed again yet, and the keys end that they were signed with: {problem}"
        );
    }
}

/// GitLab wants a trace of a job, with ids that are none.
pub(crate) struct SpansUnwanted;

impl Notice for SpansUnwanted {
    fn say(&self) {
        tracing::warn!("GitLab wants a trace of the job under ids that are none; none is made");
    }
}

/// The trace of a job did not reach whoever collects it.
pub(crate) struct SpansUnsent<'a> {
    /// Where to, as it may be shown.
    pub(crate) to: &'a str,
    pub(crate) problem: &'a str,
}

impl Notice for SpansUnsent<'_> {
    fn say(&self) {
        let Self { to, problem } = self;
        tracing::warn!("the trace of the job could not be sent to {to}: {problem}");
    }
}
