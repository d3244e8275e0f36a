//! What keys of `[runners.kubernetes]` say together that cannot be, or that an API server would
//! refuse with every pod: errors of the entry, found when the file is read.

use crate::problem::Severity;
use crate::quantity::Quantity;
use crate::section::Section;
use crate::settings::pod::DnsPolicy;
use crate::settings::resources::ContainerResources;
use crate::settings::volumes::{Mount, MountPropagation};
use crate::settings::{ContainerSecurityContext, KubernetesSettings};

/// Most name servers and search domains of a pod (Kubernetes API).
const MOST_NAMESERVERS: usize = 3;
/// See [`MOST_NAMESERVERS`].
const MOST_SEARCHES: usize = 32;

/// Checks the table.
pub(in crate::settings) fn check(section: &Section<'_>, settings: &KubernetesSettings) {
    check_resources(section, settings);
    check_security(section, settings);
    check_dns(section, settings);
    check_pull_policies(section, settings);
    crate::settings::volumes::check(&section.table("volumes"), &settings.volumes);
    check_propagation(section, settings);
    check_gates(section, settings);
}

/// Gates that nobody can go through.
fn check_gates(section: &Section<'_>, settings: &KubernetesSettings) {
    if settings.gates.bearer_token && settings.host.is_none() {
        let message = "has no effect without host: only there is the token of the settings replaced by that of a job";
        section.problem(Severity::Warning, "bearer_token_overwrite_allowed", message);
    }
    if settings.namespace_per_job {
        for (key, is_set) in [
            ("namespace", settings.namespace.is_some()),
            ("namespace_overwrite_allowed", settings.gates.namespace.is_some()),
        ] {
            if is_set {
                let message = "has no effect: namespace_per_job is set, and each job has a namespace of its own";
                section.problem(Severity::Warning, key, message);
            }
        }
    }
}

fn check_resources(section: &Section<'_>, settings: &KubernetesSettings) {
    let of = &settings.resources;
    for (prefix, ContainerResources { set, .. }) in
        [("", &of.build), ("helper_", &of.helper), ("service_", &of.service), ("pod_", &of.pod)]
    {
        for (name, request, limit) in set.pairs() {
            if let Some((request, limit)) = request.zip(limit).filter(|(request, limit)| request > limit) {
                let message =
                    format!("{request} is more than {prefix}{name}_limit ({limit}): no cluster takes such a pod");
                section.problem(Severity::Error, &format!("{prefix}{name}_request"), message);
            }
        }
    }
    let pod = &of.pod.set;
    for (prefix, ContainerResources { set, .. }) in
        [("", &of.build), ("helper_", &of.helper), ("service_", &of.service)]
    {
        for ((name, _, limit), (_, _, most)) in set.pairs().into_iter().zip(pod.pairs()) {
            if let Some((limit, most)) = limit.zip(most).filter(|(limit, most)| limit > most) {
                let message = format!("{limit} is more than pod_{name}_limit ({most}): no cluster takes such a pod");
                section.problem(Severity::Error, &format!("{prefix}{name}_limit"), message);
            }
        }
    }
    for ((name, request, limit), (build, helper)) in
        pod.pairs().into_iter().zip(of.build.set.pairs().into_iter().zip(of.helper.set.pairs()))
    {
        // An API server takes the limit for a request that is not there.
        let asked = |(_, request, limit): (_, Option<&Quantity>, Option<&Quantity>)| {
            request.or(limit).map_or(0, Quantity::nanos)
        };
        let together = asked(build) + asked(helper);
        let most = request.map(|most| ("request", most)).or(limit.map(|most| ("limit", most)));
        if let Some((key, most)) = most.filter(|(_, most)| most.nanos() < together) {
            let message =
                format!("{most} is less than build and helper container request together: no cluster takes such a pod");
            section.problem(Severity::Error, &format!("pod_{name}_{key}"), message);
        }
    }
}

fn check_security(section: &Section<'_>, settings: &KubernetesSettings) {
    for (name, own) in [
        ("build_container_security_context", &settings.build_security_context),
        ("helper_container_security_context", &settings.helper_security_context),
        ("service_container_security_context", &settings.service_security_context),
    ] {
        let table = section.table(name);
        let at = |is_own: bool| if is_own { &table } else { section };
        let may_escalate = own.allow_privilege_escalation.or(settings.allow_privilege_escalation);
        if may_escalate == Some(false) {
            let place = at(own.allow_privilege_escalation.is_some());
            let refuse = |what: &str| {
                let message = format!("cannot be false where {what}: no cluster takes such a pod");
                place.problem(Severity::Error, "allow_privilege_escalation", message);
            };
            if is_privileged(settings, own) {
                refuse("privileged is true");
            } else if adds(settings, own, "SYS_ADMIN") {
                refuse("the capability SYS_ADMIN is added");
            }
        }
        let pod = &settings.pod_security_context;
        let is_root = own.run_as_user.or(pod.run_as_user) == Some(0);
        if is_root && own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
            let is_own = own.run_as_non_root.is_some() || own.run_as_user.is_some();
            let place = if is_own { table } else { section.table("pod_security_context") };
            let message = "is true, and run_as_user is 0, which is root: the container cannot start";
            place.problem(Severity::Error, "run_as_non_root", message);
        }
    }
}

fn is_privileged(settings: &KubernetesSettings, own: &ContainerSecurityContext) -> bool {
    own.privileged.or(settings.privileged) == Some(true)
}

fn adds(settings: &KubernetesSettings, own: &ContainerSecurityContext, capability: &str) -> bool {
    let is = |name: &String| name.trim_start_matches("CAP_").eq_ignore_ascii_case(capability);
    match &own.capabilities_add {
        None => settings.cap_add.iter().any(is) && !settings.cap_drop.iter().any(is),
        Some(list) => list.iter().any(is),
    }
}

fn check_dns(section: &Section<'_>, settings: &KubernetesSettings) {
    let config = &settings.dns_config;
    if settings.dns_policy == Some(DnsPolicy::None) && config.nameservers.is_empty() {
        let message = "is \"none\", which needs nameservers in [runners.kubernetes.dns_config]";
        section.problem(Severity::Error, "dns_policy", message);
    }
    let table = section.table("dns_config");
    for (key, count, most) in [
        ("nameservers", config.nameservers.len(), MOST_NAMESERVERS),
        ("searches", config.searches.len(), MOST_SEARCHES),
    ] {
        if count > most {
            table.problem(Severity::Error, key, format!("are {count}, and a pod can have at most {most}"));
        }
    }
}

fn check_pull_policies(section: &Section<'_>, settings: &KubernetesSettings) {
    let (own, allowed) = (&settings.pull_policy, &settings.allowed_pull_policies);
    // No policy is the cluster's own, which a list does not allow.
    if !allowed.is_empty() && own.iter().all(|policy| !allowed.contains(policy)) {
        let message = "has none of pull_policy in it: jobs that do not choose one will fail";
        section.problem(Severity::Warning, "allowed_pull_policies", message);
    }
}

/// An API server refuses it for containers that are not privileged, and every container has every
/// mount.
fn check_propagation(section: &Section<'_>, settings: &KubernetesSettings) {
    let contexts =
        [&settings.build_security_context, &settings.helper_security_context, &settings.service_security_context];
    if contexts.iter().all(|own| is_privileged(settings, own)) {
        return;
    }
    let volumes = section.table("volumes");
    let refuse = |kind: &'static str, mounts: Vec<&Mount>| {
        for (table, mount) in volumes.tables(kind).iter().zip(mounts) {
            if mount.mount_propagation == Some(MountPropagation::Bidirectional) {
                let message = "is only for privileged containers, and every container has this mount: set privileged = true, or \
                               use HostToContainer";
                table.problem(Severity::Error, "mount_propagation", message);
            }
        }
    };
    refuse("host_path", settings.volumes.host_path.iter().map(|volume| &volume.mount).collect());
    refuse("pvc", settings.volumes.pvc.iter().map(|volume| &volume.mount).collect());
    refuse("empty_dir", settings.volumes.empty_dir.iter().map(|volume| &volume.mount).collect());
}
