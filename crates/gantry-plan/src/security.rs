//! Security contexts: the configured ones, with the fall-backs of GitLab Runner 19.4
//! (`executors/kubernetes`).

use gantry_config::settings::KubernetesSettings;
use gantry_config::settings::security::{ContainerSecurityContext, PodSecurityContext, ProcMount, Profile};
use k8s_openapi::api::core::v1 as api;

use crate::access_control::GrantedUser;

/// The context of one container; user and group are those that the job asked for, if it may.
pub(crate) fn container(
    own: &ContainerSecurityContext,
    settings: &KubernetesSettings,
    GrantedUser { uid, gid }: GrantedUser,
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

/// A container's own lists replace the runner's, even empty ones. `NET_RAW` is dropped unless
/// somebody asks for it.
fn capabilities(own: &ContainerSecurityContext, settings: &KubernetesSettings) -> api::Capabilities {
    let add = own.capabilities_add.as_ref().unwrap_or(&settings.cap_add);
    let drop = own.capabilities_drop.clone().unwrap_or_else(|| {
        let mut drop = settings.cap_drop.clone();
        let net_raw = "NET_RAW".to_owned();
        if !add.contains(&net_raw) && !drop.contains(&net_raw) {
            drop.push(net_raw);
        }
        drop
    });
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
