//! Security contexts of `[runners.kubernetes]`. `None` and empty lists are left out of the pod.

/// `[runners.kubernetes.pod_security_context]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurityContext {
    /// `fs_group`.
    pub fs_group: Option<i64>,
    /// `run_as_user`.
    pub run_as_user: Option<i64>,
    /// `run_as_group`.
    pub run_as_group: Option<i64>,
    /// `run_as_non_root`.
    pub run_as_non_root: Option<bool>,
    /// `supplemental_groups`.
    pub supplemental_groups: Vec<i64>,
    /// `selinux_type`.
    pub selinux_type: Option<String>,
    /// `[seccomp_profile]`.
    pub seccomp_profile: Option<Profile>,
    /// `[app_armor_profile]`.
    pub app_armor_profile: Option<Profile>,
}

/// `[runners.kubernetes.*_container_security_context]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSecurityContext {
    /// `[capabilities] add`: where not empty, replaces `cap_add`.
    pub capabilities_add: Vec<String>,
    /// `[capabilities] drop`: where not empty, replaces `cap_drop` and the default drop.
    pub capabilities_drop: Vec<String>,
    /// `privileged`.
    pub privileged: Option<bool>,
    /// `run_as_user`.
    pub run_as_user: Option<i64>,
    /// `run_as_group`.
    pub run_as_group: Option<i64>,
    /// `run_as_non_root`.
    pub run_as_non_root: Option<bool>,
    /// `read_only_root_filesystem`.
    pub read_only_root_filesystem: Option<bool>,
    /// `allow_privilege_escalation`.
    pub allow_privilege_escalation: Option<bool>,
    /// `selinux_type`.
    pub selinux_type: Option<String>,
    /// `proc_mount`.
    pub proc_mount: Option<ProcMount>,
    /// `[seccomp_profile]`.
    pub seccomp_profile: Option<Profile>,
    /// `[app_armor_profile]`.
    pub app_armor_profile: Option<Profile>,
}

/// A seccomp or `AppArmor` profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `RuntimeDefault`.
    RuntimeDefault,
    /// `Unconfined`.
    Unconfined,
    /// `Localhost`, with the profile's name on the node.
    Localhost(String),
}

/// How `/proc` is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcMount {
    /// `default`.
    Default,
    /// `unmasked`.
    Unmasked,
}
