//! `--kubernetes-*`: 167 flags, of which most belong to families that are made by loops, so that no member can be spelled differently from
//! the others by accident. The irregular ones are spelled out.

use super::Kind::{
    self, Bool, Counts, Duration, HostAliases, Int, Ints, List, Map, OptionalBool, OptionalInt, Secret, Text, Words,
};
use super::{Flag, upper};

const HEADING: &str = "Kubernetes";

/// How a key is spelled as a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// With hyphens for underscores.
    Hyphens,
    /// As it is.
    Underscores,
}
use Spelling::{Hyphens, Underscores};

/// Key below `[runners.kubernetes]`, spelling of the flag, kind, help. The variable is `KUBERNETES_` and the key, but see [`VARIABLES`].
type KeyRow = (&'static str, Spelling, Kind, &'static str);

/// Keys before those of the resources.
const FIRST: [KeyRow; 14] = [
    ("host", Hyphens, Text, "Address of the API server; empty for the cluster that the runner is in"),
    ("context", Hyphens, Text, "Context of the kubeconfig, where no host is given"),
    ("cert_file", Hyphens, Text, "Client certificate for the API server"),
    ("key_file", Hyphens, Text, "Key of the client certificate"),
    ("ca_file", Hyphens, Text, "Certificates to trust for the API server"),
    ("bearer_token_overwrite_allowed", Underscores, Bool, "Let jobs bring their own token"),
    ("bearer_token", Underscores, Secret, "Token of a service account, where a host is given"),
    ("image", Hyphens, Text, "Image of jobs that name none"),
    ("namespace", Hyphens, Text, "Namespace of job pods"),
    ("namespace_overwrite_allowed", Underscores, Text, "Namespaces that jobs may choose, as a regular expression"),
    ("namespace_per_job", Underscores, Bool, "Make a namespace for each job"),
    ("privileged", Hyphens, OptionalBool, "Run containers privileged"),
    ("runtime_class_name", Hyphens, Text, "Runtime class of job pods"),
    ("allow_privilege_escalation", Hyphens, OptionalBool, "Let processes gain more rights than their parent has"),
];

/// Keys behind those of the resources.
const SECOND: [KeyRow; 43] = [
    ("allowed_images", Hyphens, List, "Pattern of images that jobs may use"),
    ("allowed_pull_policies", Hyphens, List, "Pull policy that jobs may choose"),
    ("allowed_services", Hyphens, List, "Pattern of images that services may use"),
    ("allowed_users", Hyphens, List, "Numeric user that jobs may choose"),
    ("allowed_groups", Hyphens, List, "Numeric group that jobs may choose"),
    ("pull_policy", Hyphens, Words, "always, if-not-present or never; several, separated by commas, are tried in turn"),
    ("node_selector", Hyphens, Map, "A label key:value that nodes must have"),
    ("node_selector_overwrite_allowed", Underscores, Text, "Node labels that jobs may choose, as a regular expression"),
    ("node_tolerations", Hyphens, Map, "A taint key=value:Effect that pods tolerate"),
    (
        "node_tolerations_overwrite_allowed",
        Underscores,
        Text,
        "Tolerations that jobs may choose, as a regular expression",
    ),
    ("image_pull_secrets", Hyphens, List, "Name of a Secret with registry credentials"),
    ("use_service_account_image_pull_secrets", Hyphens, Bool, "Use the registry credentials of the service account"),
    ("helper_image", Hyphens, Text, "Image of the helper container"),
    ("helper_image_flavor", Hyphens, Text, "Flavour of the default helper image"),
    ("helper_image_autoset_arch_and_os", Hyphens, Bool, "Choose the default helper image by the node"),
    (
        "pod_termination_grace_period_seconds",
        Underscores,
        OptionalInt,
        "Seconds that a pod gets to end when its job does",
    ),
    ("cleanup_grace_period_seconds", Underscores, OptionalInt, "Seconds that a pod gets to end when it is removed"),
    ("cleanup_resources_timeout", Underscores, Duration, "Time for removing a job's objects"),
    ("poll_interval", Hyphens, Int, "Seconds between two looks at a starting pod"),
    ("poll_timeout", Hyphens, Int, "Seconds in which a pod must start"),
    (
        "resource_availability_check_max_attempts",
        Hyphens,
        Int,
        "How often to look for a missing Secret or service account",
    ),
    ("retry_limit", Hyphens, Int, "Tries of a request to the API server"),
    ("retry_backoff_max", Hyphens, Int, "Longest wait between them in milliseconds"),
    ("retry_limits", Hyphens, Counts, "Tries after an error, as text:number"),
    ("pod_labels", Hyphens, Map, "A label key:value of job pods"),
    ("pod_labels_overwrite_allowed", Underscores, Text, "Labels that jobs may set, as a regular expression"),
    ("scheduler_name", Hyphens, Text, "Scheduler of job pods"),
    ("service_account", Hyphens, Text, "Service account of job pods"),
    (
        "service_account_overwrite_allowed",
        Underscores,
        Text,
        "Service accounts that jobs may choose, as a regular expression",
    ),
    ("automount_service_account_token", Hyphens, OptionalBool, "Mount the service account's token in job pods"),
    ("pod_annotations", Hyphens, Map, "An annotation key:value of job pods"),
    ("pod_annotations_overwrite_allowed", Underscores, Text, "Annotations that jobs may set, as a regular expression"),
    (
        "host_aliases",
        Underscores,
        HostAliases,
        "Names of addresses in job pods, as JSON: [{\"ip\":\"…\",\"hostnames\":[\"…\"]}]",
    ),
    ("cap_add", Hyphens, List, "Capability that containers get"),
    ("cap_drop", Hyphens, List, "Capability that containers lose"),
    ("suspend_pvc_size", Hyphens, Text, "Size of the volume of suspended jobs"),
    ("suspend_pvc_storage_class", Hyphens, Text, "Its storage class"),
    ("dns_policy", Hyphens, Text, "none, default, cluster-first or cluster-first-with-host-net"),
    ("priority_class_name", Underscores, Text, "Priority class of job pods"),
    ("logs_base_dir", Hyphens, Text, "Directory of logs in job pods"),
    ("scripts_base_dir", Hyphens, Text, "Directory of scripts in job pods"),
    ("print_pod_warning_events", Hyphens, OptionalBool, "Show a pod's warnings in the job log"),
    ("pod_disruption_budget", Hyphens, OptionalBool, "Protect job pods by a disruption budget"),
];

/// Variables that are not called like their key; empty for keys that have none (GitLab Runner 19.4).
const VARIABLES: [(&str, &str); 6] = [
    ("context", "KUBECTL_CONTEXT"),
    ("retry_limit", "KUBERNETES_REQUEST_RETRY_LIMIT"),
    ("retry_backoff_max", "KUBERNETES_REQUEST_RETRY_BACKOFF_MAX"),
    ("pod_labels", ""),
    ("pod_annotations", ""),
    ("host_aliases", ""),
];

/// Prefix of key and flag, the resource as key and as flag, and words for the help.
const RESOURCES: [(&str, &str, &str, &str); 11] = [
    ("", "cpu", "cpu", "CPU of the build container"),
    ("", "memory", "memory", "memory of the build container"),
    ("", "ephemeral_storage", "ephemeral-storage", "ephemeral storage of the build container"),
    ("service", "cpu", "cpu", "CPU of a service container"),
    ("service", "memory", "memory", "memory of a service container"),
    ("service", "ephemeral_storage", "ephemeral_storage", "ephemeral storage of a service container"),
    ("helper", "cpu", "cpu", "CPU of the helper container"),
    ("helper", "memory", "memory", "memory of the helper container"),
    ("helper", "ephemeral_storage", "ephemeral_storage", "ephemeral storage of the helper container"),
    ("pod", "cpu", "cpu", "CPU of the whole pod"),
    ("pod", "memory", "memory", "memory of the whole pod"),
];

/// A flag of a security context, its key path below the context, whether there is a variable, kind, help.
type ContextRow = (&'static str, &'static str, bool, Kind, &'static str);

const POD_CONTEXT: [ContextRow; 10] = [
    ("fs-group", "fs_group", true, OptionalInt, "Group of volumes"),
    ("run-as-group", "run_as_group", true, OptionalInt, "Group of processes"),
    ("run-as-non-root", "run_as_non_root", true, OptionalBool, "Refuse to run as root"),
    ("run-as-user", "run_as_user", true, OptionalInt, "User of processes"),
    ("supplemental-groups", "supplemental_groups", false, Ints, "Another group of processes"),
    ("selinux-type", "selinux_type", false, Text, "SELinux type"),
    ("seccomp_profile-type", "seccomp_profile.type", true, Text, "RuntimeDefault, Unconfined or Localhost"),
    (
        "seccomp_profile-localhost-profile",
        "seccomp_profile.localhost_profile",
        true,
        Text,
        "Seccomp profile of the node",
    ),
    ("app_armor_profile-type", "app_armor_profile.type", true, Text, "RuntimeDefault, Unconfined or Localhost"),
    (
        "app_armor_profile-localhost-profile",
        "app_armor_profile.localhost_profile",
        true,
        Text,
        "AppArmor profile of the node",
    ),
];

const CONTAINER_CONTEXT: [ContextRow; 14] = [
    ("capabilities-add", "capabilities.add", true, List, "Capability to add"),
    ("capabilities-drop", "capabilities.drop", true, List, "Capability to drop"),
    ("privileged", "privileged", true, OptionalBool, "Run privileged"),
    ("run-as-user", "run_as_user", true, OptionalInt, "User of processes"),
    ("run-as-group", "run_as_group", true, OptionalInt, "Group of processes"),
    ("run-as-non-root", "run_as_non_root", true, OptionalBool, "Refuse to run as root"),
    (
        "read-only-root-filesystem",
        "read_only_root_filesystem",
        true,
        OptionalBool,
        "Make the root file system read-only",
    ),
    ("allow-privilege-escalation", "allow_privilege_escalation", true, OptionalBool, "Let processes gain more rights"),
    ("selinux-type", "selinux_type", false, Text, "SELinux type"),
    ("proc-mount", "proc_mount", true, Text, "default or unmasked"),
    ("seccomp_profile-type", "seccomp_profile.type", true, Text, "RuntimeDefault, Unconfined or Localhost"),
    (
        "seccomp_profile-localhost-profile",
        "seccomp_profile.localhost_profile",
        true,
        Text,
        "Seccomp profile of the node",
    ),
    ("app_armor_profile-type", "app_armor_profile.type", true, Text, "RuntimeDefault, Unconfined or Localhost"),
    (
        "app_armor_profile-localhost-profile",
        "app_armor_profile.localhost_profile",
        true,
        Text,
        "AppArmor profile of the node",
    ),
];

/// Keys of the contexts of containers; their flags are spelled the same.
const CONTAINERS: [(&str, &str); 4] = [
    ("init_permissions_container_security_context", "init container"),
    ("build_container_security_context", "build container"),
    ("helper_container_security_context", "helper container"),
    ("service_container_security_context", "service containers"),
];

pub(super) fn flags() -> Vec<Flag> {
    let mut flags: Vec<Flag> = FIRST.iter().map(of_key).collect();
    flags.extend(RESOURCES.iter().flat_map(of_resource));
    flags.extend(SECOND.iter().map(of_key));
    flags.extend(POD_CONTEXT.iter().map(|row| of_context("pod_security_context", "pod-security-context", row, "pod")));
    for (context, what) in CONTAINERS {
        flags.extend(CONTAINER_CONTEXT.iter().map(|row| of_context(context, context, row, what)));
    }
    flags
}

fn flag(long: &str, env: String, path: &[&str], (kind, help): (Kind, String)) -> Flag {
    let long = format!("kubernetes-{long}");
    Flag {
        short: None,
        alias: super::hyphenated(&long),
        env: Some(env).filter(|env| !env.is_empty()),
        path: std::iter::once(&"kubernetes").chain(path).map(|key| (*key).to_owned()).collect(),
        kind,
        help,
        heading: HEADING,
        long,
    }
}

fn of_key((key, spelling, kind, help): &KeyRow) -> Flag {
    let long = if *spelling == Hyphens { key.replace('_', "-") } else { (*key).to_owned() };
    let irregular = VARIABLES.iter().find(|(of, _)| of == key).map(|(_, variable)| (*variable).to_owned());
    let env = irregular.unwrap_or_else(|| format!("KUBERNETES_{}", upper(key)));
    flag(&long, env, &[key], (*kind, (*help).to_owned()))
}

/// The four flags of a resource: limit and request, each with the most that a job may ask for.
fn of_resource((prefix, key, word, what): &(&str, &str, &str, &str)) -> Vec<Flag> {
    let (key_start, flag_start) =
        if prefix.is_empty() { (String::new(), String::new()) } else { (format!("{prefix}_"), format!("{prefix}-")) };
    let mut flags = Vec::new();
    for (bound, words) in [("limit", "Limit for the"), ("request", "Request for the")] {
        for (key_end, flag_end, help) in [
            ("", "", format!("{words} {what}")),
            (
                "_overwrite_max_allowed",
                "-overwrite-max-allowed",
                format!("Most that a job may choose as {bound} for the {what}"),
            ),
        ] {
            let key = format!("{key_start}{key}_{bound}{key_end}");
            let long = format!("{flag_start}{word}-{bound}{flag_end}");
            let env = format!("KUBERNETES_{}", upper(&key));
            flags.push(flag(&long, env, &[&key], (Text, help)));
        }
    }
    flags
}

fn of_context(key: &str, word: &str, (long, path, has_env, kind, help): &ContextRow, what: &str) -> Flag {
    let keys: Vec<&str> = std::iter::once(key).chain(path.split('.')).collect();
    let long = format!("{word}-{long}");
    let env = if *has_env { format!("KUBERNETES_{}", upper(&long)) } else { String::new() };
    flag(&long, env, &keys, (*kind, format!("{help} ({what})")))
}
