//! What this credential may do in its namespace, asked of the API server itself. For `doctor`, which prints what each missing verb costs;
//! no job depends on it.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, api::PostParams};

use crate::{Cluster, error::ApiError, retry};

/// One verb on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    /// Such as `create`.
    pub verb: &'static str,
    /// Such as `pods`; all of them are in the core group.
    pub resource: &'static str,
    /// Such as `exec`.
    pub subresource: Option<&'static str>,
}

/// Everything that this crate needs. Without `list` and `watch` on pods it polls; an exec over WebSocket is checked as `get`, and from
/// Kubernetes 1.35 on as `create`.
pub const USED: [Right; 7] = [
    Right::on_pods("create"),
    Right::on_pods("get"),
    Right::on_pods("list"),
    Right::on_pods("watch"),
    Right::on_pods("delete"),
    Right::on_exec("get"),
    Right::on_exec("create"),
];

/// What is used where it is granted: without it the job log does not show why a volume cannot be mounted, and says where to look.
pub const OPTIONAL: [Right; 1] = [Right { verb: "list", resource: "events", subresource: None }];

impl Right {
    const fn on_pods(verb: &'static str) -> Self {
        Self { verb, resource: "pods", subresource: None }
    }

    const fn on_exec(verb: &'static str) -> Self {
        Self { verb, resource: "pods", subresource: Some("exec") }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.verb, self.resource)?;
        self.subresource.map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

impl Cluster {
    /// Whether `right` is granted in the namespace, by a self subject access review (Kubernetes API), which every authenticated user may
    /// ask for. Tried once.
    pub async fn may(&self, right: &Right) -> Result<bool, ApiError> {
        let attributes = ResourceAttributes {
            namespace: Some(self.namespace().to_owned()),
            verb: Some(right.verb.to_owned()),
            resource: Some(right.resource.to_owned()),
            subresource: right.subresource.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client().clone());
        let answer = retry::once(reviews.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
