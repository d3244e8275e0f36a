//! Security contexts of `[runners.kubernetes]`. `None` and empty lists are left out of the pod. A
//! value that cannot be understood is an error here, although the reference drops it with a line in
//! its own log: a pod must not run with less protection than its operator asked for.

use crate::declare::{Declared, Kind, table};
use crate::kinds::{Meanings, id, ids, lenient_word, optional_capabilities, switch, table_into, text, word};
use crate::names::is_path_within;
use crate::problem::Severity;
use crate::section::Section;

table! {
    /// `[runners.kubernetes.pod_security_context]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PodSecurityContext {
        /// Group of volumes.
        fs_group: Option<i64> = id("fs_group").flag();
        /// Group of processes.
        run_as_group: Option<i64> = id("run_as_group").flag();
        /// Refuse to run as root.
        run_as_non_root: Option<bool> = switch("run_as_non_root").flag();
        /// User of processes.
        run_as_user: Option<i64> = id("run_as_user").flag();
        /// More groups of processes.
        supplemental_groups: Vec<i64> = ids("supplemental_groups").flag().no_variable();
        /// `SELinux` type.
        selinux_type: Option<String> = text("selinux_type").flag().no_variable();
        /// Seccomp profile.
        seccomp_profile: Option<Profile> = profile("seccomp_profile");
        /// `AppArmor` profile.
        app_armor_profile: Option<Profile> = profile("app_armor_profile");
    }
}

table! {
    /// `[runners.kubernetes.*_container_security_context]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ContainerSecurityContext {
        /// Capabilities to add; with this list, even an empty one, these and not `cap_add`.
        capabilities_add: Option<Vec<String>> =
            optional_capabilities("capabilities.add").flag_as("capabilities-add");
        /// Capabilities to drop; with this list, even an empty one, these and neither `cap_drop`
        /// nor the default.
        capabilities_drop: Option<Vec<String>> =
            optional_capabilities("capabilities.drop").flag_as("capabilities-drop");
        /// Run privileged.
        privileged: Option<bool> = switch("privileged").flag();
        /// User of processes.
        run_as_user: Option<i64> = id("run_as_user").flag();
        /// Group of processes.
        run_as_group: Option<i64> = id("run_as_group").flag();
        /// Refuse to run as root.
        run_as_non_root: Option<bool> = switch("run_as_non_root").flag();
        /// Make the root file system read-only.
        read_only_root_filesystem: Option<bool> = switch("read_only_root_filesystem").flag();
        /// Let processes gain more rights than their parent has.
        allow_privilege_escalation: Option<bool> = switch("allow_privilege_escalation").flag();
        /// `SELinux` type.
        selinux_type: Option<String> = text("selinux_type").flag().no_variable();
        /// How `/proc` is mounted.
        proc_mount: Option<ProcMount> = lenient_word("proc_mount", PROC_MOUNTS).flag();
        /// Seccomp profile.
        seccomp_profile: Option<Profile> = profile("seccomp_profile");
        /// `AppArmor` profile.
        app_armor_profile: Option<Profile> = profile("app_armor_profile");
    }
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

const PROC_MOUNTS: Meanings<ProcMount> = &[("default", ProcMount::Default), ("unmasked", ProcMount::Unmasked)];

table! {
    /// The keys of a profile.
    pub struct ProfileKeys {
        /// Whose profile it is.
        kind: Option<ProfileKind> = word("type", PROFILES).flag();
        /// Name of the profile on the node, with type `Localhost`.
        localhost_profile: Option<String> = text("localhost_profile").flag();
    }
}

/// `type` of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileKind {
    /// That of the container runtime.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// One of the node.
    Localhost,
}

const PROFILES: Meanings<ProfileKind> = &[
    ("RuntimeDefault", ProfileKind::RuntimeDefault),
    ("Unconfined", ProfileKind::Unconfined),
    ("Localhost", ProfileKind::Localhost),
];

/// Declares a profile, whose flags have underscores (GitLab Runner 19.4).
fn profile(key: &'static str) -> Declared<impl Kind<Value = Option<Profile>>> {
    table_into::<ProfileKeys, _>(key, move |section| read_profile(section, key)).flag_as(key)
}

fn read_profile(section: &Section<'_>, of: &str) -> Option<Profile> {
    let keys = <ProfileKeys as crate::declare::Table>::read(section);
    let name = keys.localhost_profile.as_ref();
    if keys.kind != Some(ProfileKind::Localhost) && name.is_some() {
        section.problem(Severity::Warning, "localhost_profile", "has no effect: type is not \"Localhost\"");
    } else if let Some(path) = name.filter(|path| of == "seccomp_profile" && !is_path_within(path)) {
        // That of AppArmor is a name, and this a path below the kubelet's directory of profiles.
        let message = format!(
            "{path:?} must be a path below the directory of profiles: without / at its beginning and without .."
        );
        section.problem(Severity::Error, "localhost_profile", message);
    }
    match (keys.kind?, keys.localhost_profile) {
        (ProfileKind::RuntimeDefault, _) => Some(Profile::RuntimeDefault),
        (ProfileKind::Unconfined, _) => Some(Profile::Unconfined),
        (ProfileKind::Localhost, Some(name)) => Some(Profile::Localhost(name)),
        (ProfileKind::Localhost, None) => {
            let message = "is missing: type Localhost needs the profile's name";
            section.problem(Severity::Error, "localhost_profile", message);
            None
        }
    }
}
