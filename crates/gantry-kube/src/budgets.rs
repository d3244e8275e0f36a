//! The disruption budget of one pod: while it is there, a drain of the node waits for the job.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, api::PostParams};
use tokio::time::Instant;

use crate::{Cluster, error::ApiError, pods::PodRef, retry};

impl Cluster {
    /// Makes the budget, which goes with the pod. Failures that may pass are tried again until
    /// `deadline`. Needs `create` on `poddisruptionbudgets` (`policy`).
    ///
    /// # Errors
    /// It is refused, or was not possible in that time.
    pub async fn create_disruption_budget(
        &self,
        budget: &PodDisruptionBudget,
        pod: &PodRef,
        deadline: Instant,
    ) -> Result<(), ApiError> {
        let mut budget = budget.clone();
        budget.metadata.owner_references = Some(vec![pod.as_owner()]);
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client().clone(), self.namespace());
        let params = PostParams::default();
        let create = || retry::once(api.create(&params, &budget));
        match retry::until((self.persistence(), deadline), |_| {}, create).await {
            // An earlier try has succeeded without our hearing of it.
            Err(error) if error.is_already_exists() => Ok(()),
            made => made.map(drop),
        }
    }
}
