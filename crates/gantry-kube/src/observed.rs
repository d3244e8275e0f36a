//! Pods as a manager reads them: only the fields that it looks at. Most of what an API server sends
//! about a pod is its specification and the record of who owns which field, which would cost memory
//! and time for every pod at every change.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{LocalObjectReference, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// A pod that the API server has shown.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ObservedPod {
    /// Who it is; without owners of fields, finalizers and other things that nobody here reads.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// What should run.
    #[serde(default)]
    pub spec: Option<ObservedSpec>,
    /// What happens, whole.
    #[serde(default)]
    pub status: Option<PodStatus>,
}

/// As much of a pod's specification as is needed to speak of its containers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedSpec {
    /// The node, once there is one.
    #[serde(default)]
    pub node_name: Option<String>,
    /// The init containers in their order.
    #[serde(default)]
    pub init_containers: Option<Vec<ObservedContainer>>,
    /// The other containers in their order.
    #[serde(default)]
    pub containers: Vec<ObservedContainer>,
    /// Secrets with logins to registries.
    #[serde(default)]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
}

impl ObservedPod {
    /// Whether its images are pulled with the logins in this Secret.
    pub fn uses_secret(&self, name: &str) -> bool {
        let secrets = self.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
        secrets.is_some_and(|secrets| secrets.iter().any(|secret| secret.name == name))
    }
}

/// Name, image and limits of a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ObservedContainer {
    /// Its name within the pod.
    pub name: String,
    /// The image as it was asked for.
    #[serde(default)]
    pub image: Option<String>,
    /// What it may use.
    #[serde(default)]
    pub resources: Option<ObservedResources>,
    /// Whether it has arguments; whatever they are.
    #[serde(default)]
    pub args: Option<IgnoredAny>,
    /// What the kubelet keeps of its output when it ends.
    #[serde(default, rename = "terminationMessagePolicy")]
    pub termination_message_policy: Option<String>,
}

/// What a container may use.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ObservedResources {
    /// By the resource's name, in Kubernetes' notation.
    #[serde(default)]
    pub limits: Option<BTreeMap<String, String>>,
}

/// The part of the metadata that is read.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let Meta { name, namespace, uid, resource_version, deletion_timestamp, labels, annotations } =
        Meta::deserialize(from)?;
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        deletion_timestamp,
        labels,
        annotations,
        ..ObjectMeta::default()
    })
}

impl kube::Resource for ObservedPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
