//! Deployments that are the runner's own, and the priority class of their pods.

use k8s_openapi::api::{apps::v1::Deployment, scheduling::v1::PriorityClass};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};

use crate::{
    Cluster,
    error::{ApiError, Fault},
    retry,
};

impl Cluster {
    /// Makes the Deployment as described, or changes it to that; as it is then. Tried once: whoever
    /// wants it comes back. Needs `patch` and `create` on `deployments` (`apps`).
    ///
    /// # Errors
    /// It is refused or fails.
    pub async fn apply_deployment(&self, deployment: &Deployment) -> Result<Deployment, ApiError> {
        let api = self.deployments();
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        match retry::once(api.patch(name, &PatchParams::default(), &Patch::Merge(deployment))).await {
            Err(error) if error.fault == Fault::Gone => {
                retry::once(api.create(&PostParams::default(), deployment)).await
            }
            applied => applied,
        }
    }

    /// The Deployments that a selector of labels names. Tried once. Needs `list` on `deployments`.
    ///
    /// # Errors
    /// It is refused or fails.
    pub async fn list_deployments(&self, selector: &str) -> Result<Vec<Deployment>, ApiError> {
        let params = ListParams::default().labels(selector);
        retry::once(self.deployments().list(&params)).await.map(|list| list.items)
    }

    /// Removes a Deployment and its pods; that it is gone is success. Tried once. Needs `delete` on
    /// `deployments`.
    ///
    /// # Errors
    /// It is refused or fails.
    pub async fn delete_deployment(&self, name: &str) -> Result<(), ApiError> {
        match retry::once(self.deployments().delete(name, &DeleteParams::background())).await {
            Err(error) if error.fault == Fault::Gone => Ok(()),
            gone => gone.map(drop),
        }
    }

    /// Makes a priority class; that it is there is success. Tried once. Needs `create` on
    /// `priorityclasses` (`scheduling.k8s.io`).
    ///
    /// # Errors
    /// It is refused or fails.
    pub async fn create_priority_class(&self, class: &PriorityClass) -> Result<(), ApiError> {
        let api: Api<PriorityClass> = Api::all(self.client().clone());
        match retry::once(api.create(&PostParams::default(), class)).await {
            Err(error) if error.is_already_exists() => Ok(()),
            made => made.map(drop),
        }
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client().clone(), self.namespace())
    }
}
