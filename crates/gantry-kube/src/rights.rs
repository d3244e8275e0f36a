//! What this credential may do in its namespace or in the cluster, asked of the API server itself.
//! For `doctor`, which prints what each missing verb costs; no job depends on it.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, api::PostParams};

use crate::{Cluster, error::ApiError, retry};

/// One verb on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    /// Such as `create`.
    pub verb: &'static str,
    /// Such as `policy`; empty for the core group.
    pub group: &'static str,
    /// Such as `pods`.
    pub resource: &'static str,
    /// Such as `exec`.
    pub subresource: Option<&'static str>,
    /// Whether it is needed in all namespaces, or for what is in none.
    pub everywhere: bool,
}

/// Everything that this crate needs. Without `list` and `watch` on pods it polls; an exec over
/// WebSocket is checked as `get`, and from Kubernetes 1.35 on as `create`.
pub const USED: [Right; 7] = [
    Right::on_pods("create"),
    Right::on_pods("get"),
    Right::on_pods("list"),
    Right::on_pods("watch"),
    Right::on_pods("delete"),
    Right::on_exec("get"),
    Right::on_exec("create"),
];

/// What is used where it is granted. Without `list` on `events` the job log does not show why a
/// volume cannot be mounted, and says where to look; without those on `secrets` the logins of jobs
/// for registries are not used.
pub const OPTIONAL: [Right; 6] = [
    Right::on("list", "events"),
    Right { subresource: Some("log"), ..Right::on_pods("get") },
    MARKS,
    Right::on("create", "secrets"),
    Right::on("update", "secrets"),
    Right::on("delete", "secrets"),
];

/// What a namespace for each job takes, beside [`USED`] in all namespaces.
pub const NAMESPACES: [Right; 4] = [
    Right::on("create", "namespaces").everywhere(),
    Right::on("get", "namespaces").everywhere(),
    Right::on("list", "namespaces").everywhere(),
    Right::on("delete", "namespaces").everywhere(),
];

/// What disruption budgets take.
pub const BUDGETS: [Right; 1] = [Right { group: "policy", ..Right::on("create", "poddisruptionbudgets") }];

/// What it takes to look whether the objects are there that pods name.
pub const LOOKS: [Right; 2] = [Right::on("get", "serviceaccounts"), Right::on("get", "secrets")];

/// What pause pods take; a class of their own is made where there is none of the name.
pub const PAUSE_PODS: [Right; 5] = [
    Right::on_deployments("patch"),
    Right::on_deployments("create"),
    Right::on_deployments("list"),
    Right::on_deployments("delete"),
    Right { group: "scheduling.k8s.io", ..Right::on("create", "priorityclasses") }.everywhere(),
];

/// With it managers write on pods who owns them and that they live, so that others take over the
/// jobs of one that dies within 20 s.
pub const MARKS: Right = Right::on_pods("patch");

/// Without Secrets no credentials reach the kubelet.
const NO_CREDENTIALS: &str =
    "images are pulled without the credentials that jobs bring (GitLab's registry, DOCKER_AUTH_CONFIG)";

/// Without a look at what a pod names.
const NO_LOOK: &str =
    "resource_availability_check_max_attempts has no effect: a pod is made although what it names is not there yet";

/// Without a Deployment.
const NO_PAUSE: &str = "there are no pause pods: nodes are not kept for jobs (autoscaler)";

/// What a missing right costs, one sentence each; the first that fits counts.
const COSTS: [(&str, &str, &str); 25] = [
    ("patch", "deployments", NO_PAUSE),
    ("create", "deployments", NO_PAUSE),
    ("list", "deployments", "pause pods that earlier runners left behind are not removed"),
    ("delete", "deployments", "pause pods stay when the runner ends or loses its policies"),
    (
        "create",
        "priorityclasses",
        "somebody else must make the priority class gitlab-runner-idle-capacity with the value -1: pause pods are refused without it",
    ),
    ("create", "pods", "no job can run: its pod cannot be made"),
    ("get", "pods", "a pod whose watch broke cannot be looked up, so jobs end late or without their cause"),
    ("list", "pods", "pods are asked for one by one, and those that earlier runners left behind are not removed"),
    ("watch", "pods", "pods are asked for again and again: jobs start later, and the API server has more to do"),
    ("delete", "pods", "pods of ended jobs stay until their deadline and keep their places on nodes"),
    (
        "patch",
        "pods",
        "jobs of a manager that dies are taken over only when another one starts; until then they report alone",
    ),
    ("get", "pods/exec", "jobs cannot be handed to their pods before Kubernetes 1.35: none runs"),
    ("create", "pods/exec", "jobs cannot be handed to their pods from Kubernetes 1.35 on: none runs there"),
    ("create", "secrets", NO_CREDENTIALS),
    ("update", "secrets", NO_CREDENTIALS),
    ("delete", "secrets", "Secrets with credentials of registries stay until their pod is collected"),
    (
        "get",
        "pods/log",
        "job logs cannot show what services print (CI_DEBUG_SERVICES) or entrypoints (FF_KUBERNETES_HONOR_ENTRYPOINT), or the last lines of a service that has ended",
    ),
    ("create", "namespaces", "no job can run: namespace_per_job makes a namespace for each"),
    (
        "get",
        "namespaces",
        "namespaces of ended jobs stay (namespace_per_job): the runner cannot see whether they are its own",
    ),
    ("list", "namespaces", "namespaces that earlier runners left behind are not removed (namespace_per_job)"),
    ("delete", "namespaces", "namespaces of ended jobs stay (namespace_per_job)"),
    ("create", "poddisruptionbudgets", "pod_disruption_budget has no effect: a drain of a node ends its jobs"),
    ("get", "serviceaccounts", NO_LOOK),
    ("get", "secrets", NO_LOOK),
    ("list", "events", "the log of a job whose pod does not start cannot say why a volume or an image is not there"),
];

impl Right {
    /// What jobs have to do without if it is not granted.
    pub fn cost(&self) -> &'static str {
        let resource = self.full_resource();
        let of = |(verb, of, _): &&(&str, &str, &str)| *verb == self.verb && *of == resource;
        COSTS.iter().find(of).map_or("something will not work", |(_, _, cost)| cost)
    }

    /// The resource as a Role names it, such as `pods/exec`.
    pub fn full_resource(&self) -> String {
        self.subresource.map_or_else(|| self.resource.to_owned(), |name| format!("{}/{name}", self.resource))
    }

    /// The same in all namespaces.
    #[must_use]
    pub const fn everywhere(self) -> Self {
        Self { everywhere: true, ..self }
    }

    const fn on(verb: &'static str, resource: &'static str) -> Self {
        Self { verb, group: "", resource, subresource: None, everywhere: false }
    }

    const fn on_pods(verb: &'static str) -> Self {
        Self::on(verb, "pods")
    }

    const fn on_deployments(verb: &'static str) -> Self {
        Self { group: "apps", ..Self::on(verb, "deployments") }
    }

    const fn on_exec(verb: &'static str) -> Self {
        Self { subresource: Some("exec"), ..Self::on_pods(verb) }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.verb, self.full_resource())
    }
}

impl Cluster {
    /// Whether `right` is granted, in the namespace or everywhere, by a self subject access review
    /// (Kubernetes API), which every authenticated user may ask for. Tried once.
    pub async fn may(&self, right: &Right) -> Result<bool, ApiError> {
        let attributes = ResourceAttributes {
            namespace: (!right.everywhere).then(|| self.namespace().to_owned()),
            group: Some(right.group.to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_has_its_cost() {
        for right in USED.iter().chain(&OPTIONAL).chain(&NAMESPACES).chain(&BUDGETS).chain(&LOOKS) {
            assert_ne!(right.cost(), "something will not work", "{right}");
        }
    }
}
