//! Smaller tables of `[runners.kubernetes]`: services, names and addresses, lifecycle hooks, patches.

use std::path::PathBuf;

/// `[[runners.kubernetes.services]]`. Name and aliases are unexpanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// `name`: the image.
    pub name: String,
    /// `alias`: more host names.
    pub aliases: Vec<String>,
    /// `command`.
    pub command: Vec<String>,
    /// `entrypoint`.
    pub entrypoint: Vec<String>,
    /// `environment`; entries without `=` are dropped with a warning.
    pub environment: Vec<(String, String)>,
}

/// `dns_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsPolicy {
    /// `none`.
    None,
    /// `default`: the node's.
    Default,
    /// `cluster-first`.
    ClusterFirst,
    /// `cluster-first-with-host-net`.
    ClusterFirstWithHostNet,
}

/// `[runners.kubernetes.dns_config]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// `nameservers`.
    pub nameservers: Vec<String>,
    /// `searches`.
    pub searches: Vec<String>,
    /// `options`: name and, where it has one, value.
    pub options: Vec<(String, Option<String>)>,
}

/// An entry of `host_aliases`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAlias {
    /// `ip`.
    pub ip: String,
    /// `hostnames`.
    pub hostnames: Vec<String>,
}

/// `[runners.kubernetes.container_lifecycle]`, for build, helper and services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerLifecycle {
    /// `[post_start]`.
    pub post_start: Option<LifecycleHandler>,
    /// `[pre_stop]`.
    pub pre_stop: Option<LifecycleHandler>,
}

/// What is done at a point of a container's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleHandler {
    /// `[exec] command`.
    Exec(Vec<String>),
    /// `[http_get]`.
    HttpGet(HttpGet),
    /// `[tcp_socket]`.
    TcpSocket {
        /// `host`; `None` means the pod.
        host: Option<String>,
        /// `port`.
        port: u16,
    },
}

/// `[http_get]` of a lifecycle hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpGet {
    /// `host`; `None` means the pod.
    pub host: Option<String>,
    /// `path`.
    pub path: Option<String>,
    /// `port`.
    pub port: u16,
    /// `scheme`.
    pub scheme: Option<String>,
    /// `http_headers`: name and value.
    pub headers: Vec<(String, String)>,
}

/// `[[runners.kubernetes.pod_spec]]`; applies only with `FF_USE_ADVANCED_POD_SPEC_CONFIGURATION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpecPatch {
    /// `name`, for messages.
    pub name: String,
    /// Where the patch comes from.
    pub source: PatchSource,
    /// `patch_type`.
    pub kind: PatchKind,
}

/// Where the text of a patch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchSource {
    /// `patch`: YAML or JSON in the file itself.
    Inline(String),
    /// `patch_path`: read each time a pod is made.
    File(PathBuf),
}

/// `patch_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatchKind {
    /// `strategic`.
    #[default]
    Strategic,
    /// `merge`, RFC 7386.
    Merge,
    /// `json`, RFC 6902.
    Json,
}
