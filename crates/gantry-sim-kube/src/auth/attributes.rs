//! What a request wants to do, in the words of Kubernetes authorization.

/// One wish to be authorized.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    /// Empty for requests across all namespaces and for cluster-wide resources.
    pub(crate) namespace: String,
    /// Empty for requests on a collection.
    pub(crate) name: String,
    /// The path of a request that is not about a resource; `None` for resources.
    pub(crate) path: Option<String>,
}

impl Attributes {
    /// `resource` or `resource/subresource`, as roles write it.
    pub(crate) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The sentence that Kubernetes uses when it refuses this to a user.
    pub(crate) fn refusal(&self, user: &str) -> String {
        if let Some(path) = &self.path {
            return format!("User {user:?} cannot {} path {path:?}", self.verb);
        }
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!(
            "User {user:?} cannot {} resource {:?} in API group {:?} {place}",
            self.verb,
            self.full_resource(),
            self.group
        )
    }
}
