//! The table of resource types this API server knows. Discovery, routing, storage and messages all
//! read it; nothing else may name a resource type that is not here.

/// One resource type of the API.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResourceType {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) short: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// Sub-resources with the kind that they take or give and their verbs.
    pub(crate) subresources: &'static [Subresource],
    /// `false` for reviews: they can only be created and are not kept.
    pub(crate) stored: bool,
    /// `kubectl get all` shows it.
    pub(crate) in_all: bool,
}

/// A sub-resource of a type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subresource {
    pub(crate) name: &'static str,
    pub(crate) group_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) verbs: &'static [&'static str],
}

/// Verbs of a stored type.
pub(crate) const STORED_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";
const AUTHN: &str = "authentication.k8s.io";

const fn stored(
    group: &'static str,
    names: [&'static str; 3],
    short: &'static [&'static str],
    namespaced: bool,
    subresources: &'static [Subresource],
) -> ResourceType {
    let [plural, singular, kind] = names;
    ResourceType {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        short,
        namespaced,
        subresources,
        stored: true,
        in_all: false,
    }
}

const fn review(group: &'static str, names: [&'static str; 3], namespaced: bool) -> ResourceType {
    let [plural, singular, kind] = names;
    ResourceType {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        short: &[],
        namespaced,
        subresources: &[],
        stored: false,
        in_all: false,
    }
}

const APPS: &str = "apps";
const SCALE: Subresource =
    Subresource { name: "scale", group_version: "autoscaling/v1", kind: "Scale", verbs: &["get", "patch", "update"] };

const fn status(kind: &'static str) -> Subresource {
    Subresource { name: "status", group_version: "", kind, verbs: &["get", "patch", "update"] }
}

/// Every type, core group first.
pub(crate) static TYPES: &[ResourceType] = &[
    stored("", ["configmaps", "configmap", "ConfigMap"], &["cm"], true, &[]),
    stored("", ["endpoints", "endpoints", "Endpoints"], &["ep"], true, &[]),
    stored("", ["events", "event", "Event"], &["ev"], true, &[]),
    stored("", ["limitranges", "limitrange", "LimitRange"], &["limits"], true, &[]),
    stored("", ["namespaces", "namespace", "Namespace"], &["ns"], false, &[status("Namespace")]),
    stored("", ["nodes", "node", "Node"], &["no"], false, &[status("Node")]),
    stored(
        "",
        ["persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim"],
        &["pvc"],
        true,
        &[status("PersistentVolumeClaim")],
    ),
    ResourceType {
        in_all: true,
        ..stored(
            "",
            ["pods", "pod", "Pod"],
            &["po"],
            true,
            &[
                Subresource { name: "attach", group_version: "", kind: "PodAttachOptions", verbs: &["create", "get"] },
                Subresource { name: "binding", group_version: "", kind: "Binding", verbs: &["create"] },
                Subresource { name: "eviction", group_version: "policy/v1", kind: "Eviction", verbs: &["create"] },
                Subresource { name: "exec", group_version: "", kind: "PodExecOptions", verbs: &["create", "get"] },
                Subresource { name: "log", group_version: "", kind: "Pod", verbs: &["get"] },
                status("Pod"),
            ],
        )
    },
    stored("", ["resourcequotas", "resourcequota", "ResourceQuota"], &["quota"], true, &[status("ResourceQuota")]),
    stored("", ["secrets", "secret", "Secret"], &[], true, &[]),
    stored(
        "",
        ["serviceaccounts", "serviceaccount", "ServiceAccount"],
        &["sa"],
        true,
        &[Subresource {
            name: "token",
            group_version: "authentication.k8s.io/v1",
            kind: "TokenRequest",
            verbs: &["create"],
        }],
    ),
    ResourceType {
        in_all: true,
        ..stored("", ["services", "service", "Service"], &["svc"], true, &[status("Service")])
    },
    stored(RBAC, ["clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding"], &[], false, &[]),
    stored(RBAC, ["clusterroles", "clusterrole", "ClusterRole"], &[], false, &[]),
    stored(RBAC, ["rolebindings", "rolebinding", "RoleBinding"], &[], true, &[]),
    stored(RBAC, ["roles", "role", "Role"], &[], true, &[]),
    stored("coordination.k8s.io", ["leases", "lease", "Lease"], &[], true, &[]),
    ResourceType {
        in_all: true,
        ..stored(APPS, ["deployments", "deployment", "Deployment"], &["deploy"], true, &[SCALE, status("Deployment")])
    },
    ResourceType {
        in_all: true,
        ..stored(APPS, ["replicasets", "replicaset", "ReplicaSet"], &["rs"], true, &[SCALE, status("ReplicaSet")])
    },
    stored(
        "policy",
        ["poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget"],
        &["pdb"],
        true,
        &[status("PodDisruptionBudget")],
    ),
    stored("scheduling.k8s.io", ["priorityclasses", "priorityclass", "PriorityClass"], &["pc"], false, &[]),
    review(AUTHZ, ["selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"], false),
    review(AUTHZ, ["selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"], false),
    review(AUTHZ, ["subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview"], false),
    review(AUTHN, ["selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"], false),
];

impl ResourceType {
    /// `v1` or `group/version`, as `apiVersion` has it.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, or `roles.rbac.authorization.k8s.io` as messages name it.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The sub-resource of that name.
    pub(crate) fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }
}

/// The type that a path names.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static ResourceType> {
    TYPES.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// A type of the core group, by its constant plural name.
///
/// Falls back to the first type for a name that is not in the table; a unit test makes sure that no
/// caller does that.
pub(crate) fn core(plural: &str) -> &'static ResourceType {
    any(plural)
}

/// A type by its constant plural name; plural names are unique in the table.
pub(crate) fn any(plural: &str) -> &'static ResourceType {
    TYPES.iter().find(|kind| kind.plural == plural).unwrap_or(&TYPES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plural_names_are_unique() {
        let mut names: Vec<_> = TYPES.iter().map(|kind| kind.plural).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(before, names.len());
    }

    #[test]
    fn messages_name_the_group() {
        assert_eq!(any("roles").qualified(), "roles.rbac.authorization.k8s.io");
        assert_eq!(any("pods").qualified(), "pods");
        assert_eq!(any("roles").api_version(), "rbac.authorization.k8s.io/v1");
    }
}
