//! Security contexts: the configured ones, with the fall-backs of GitLab Runner 19.4
//! (`executors/kubernetes`).

use gantry_config::settings::KubernetesSettings;
use gantry_config::settings::security::{ContainerSecurityContext, PodSecurityContext, ProcMount, Profile};
use k8s_openapi::api::core::v1 as api;

use crate::access_control::RequestedUser;

/// The context of one container; user and group are those that the job asked for, if it may.
pub(crate) fn container(
    own: &ContainerSecurityContext,
    settings: &KubernetesSettings,
    RequestedUser { uid, gid }: RequestedUser,
) -> api::SecurityContext {
    let pod = &settings.pod_security_context;
    api::SecurityContext {
        allow_privilege_escalation: own.allow_privilege_escalation.or(settings.allow_privilege_escalation),
        app_armor_profile: own.app_armor_profile.as_ref().map(app_armor),
        capabilities: Some(capabilities(own, settings)),
        privileged: own.privileged.or(settings.privileged),
        proc_mount: own.proc_mount.map(|mount| {
            match mount {
                ProcMount::Default => "Default",
                ProcMount::Unmasked => "Unmasked",
            }
            .to_owned()
        }),
        read_only_root_filesystem: own.read_only_root_filesystem,
        run_as_group: own.run_as_group.or(pod.run_as_group).or(gid),
        run_as_non_root: own.run_as_non_root,
        run_as_user: own.run_as_user.or(pod.run_as_user).or(uid),
        se_linux_options: own.selinux_type.as_ref().map(|kind| selinux(kind)),
        seccomp_profile: own.seccomp_profile.as_ref().map(seccomp),
        windows_options: None,
    }
}

/// What to say about a user or group that the job asks for and does not get, because the config
/// sets one.
pub(crate) fn overruled(
    container: &str,
    own: &ContainerSecurityContext,
    pod: &PodSecurityContext,
    RequestedUser { uid, gid }: RequestedUser,
) -> Vec<String> {
    let one = |what: &str, wish: Option<i64>, own: Option<i64>, pod: Option<i64>| {
        let (wish, (set, place)) = (wish?, own.map(|id| (id, "container")).or(pod.map(|id| (id, "pod")))?);
        Some(format!(
            "Overriding {what} for container {container:?} to \"{wish}\" is not allowed: {what} is set to {set} in {place} \
             security context"
        ))
    };
    [one("user", uid, own.run_as_user, pod.run_as_user), one("group", gid, own.run_as_group, pod.run_as_group)]
        .into_iter()
        .flatten()
        .collect()
}

/// The context of the pod; `None` where nothing is configured.
pub(crate) fn pod(own: &PodSecurityContext) -> Option<api::PodSecurityContext> {
    (*own != PodSecurityContext::default()).then(|| api::PodSecurityContext {
        fs_group: own.fs_group,
        run_as_user: own.run_as_user,
        run_as_group: own.run_as_group,
        run_as_non_root: own.run_as_non_root,
        supplemental_groups: (!own.supplemental_groups.is_empty()).then(|| own.supplemental_groups.clone()),
        se_linux_options: own.selinux_type.as_ref().map(|kind| selinux(kind)),
        seccomp_profile: own.seccomp_profile.as_ref().map(seccomp),
        app_armor_profile: own.app_armor_profile.as_ref().map(app_armor),
        ..Default::default()
    })
}

/// A container's own lists replace the runner's. `NET_RAW` is dropped unless somebody asks for it.
fn capabilities(own: &ContainerSecurityContext, settings: &KubernetesSettings) -> api::Capabilities {
    let add = if own.capabilities_add.is_empty() { &settings.cap_add } else { &own.capabilities_add };
    let mut drop = own.capabilities_drop.clone();
    if drop.is_empty() {
        drop.clone_from(&settings.cap_drop);
        let net_raw = "NET_RAW".to_owned();
        if !add.contains(&net_raw) && !drop.contains(&net_raw) {
            drop.push(net_raw);
        }
    }
    let add: Vec<String> = add.iter().filter(|capability| !drop.contains(capability)).cloned().collect();
    api::Capabilities { add: (!add.is_empty()).then_some(add), drop: (!drop.is_empty()).then_some(drop) }
}

fn selinux(kind: &str) -> api::SELinuxOptions {
    api::SELinuxOptions { type_: Some(kind.to_owned()), ..Default::default() }
}

fn profile(profile: &Profile) -> (String, Option<String>) {
    match profile {
        Profile::RuntimeDefault => ("RuntimeDefault".to_owned(), None),
        Profile::Unconfined => ("Unconfined".to_owned(), None),
        Profile::Localhost(name) => ("Localhost".to_owned(), Some(name.clone())),
    }
}

fn seccomp(own: &Profile) -> api::SeccompProfile {
    let (type_, localhost_profile) = profile(own);
    api::SeccompProfile { type_, localhost_profile }
}

fn app_armor(own: &Profile) -> api::AppArmorProfile {
    let (type_, localhost_profile) = profile(own);
    api::AppArmorProfile { type_, localhost_profile }
}
