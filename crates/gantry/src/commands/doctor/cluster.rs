//! Checks of the cluster: reachable, version, rights, and whether it would take the pod of a job.

use gantry_config::KubernetesSettings;
use gantry_core::error_chain::chain;
use gantry_daemon::wiring;
use gantry_kube::rights::{BUDGETS, LOOKS, NAMESPACES, OPTIONAL, PAUSE_PODS, USED};
use gantry_kube::{ApiError, Cluster, Fault, Right};

use super::Subject;
use super::admission;
use super::finding::{Finding, Grade};
use super::own_namespace;
use super::trial::{self, Trialable};

/// Asks the API server. Also returns the cluster, if it can be talked to.
pub(super) async fn examine(subject: &Subject<'_>) -> (Vec<Finding>, Option<Trialable>) {
    let namespace = gantry_plan::namespace(&subject.runner.kubernetes);
    let mut findings: Vec<Finding> = namespace
        .assumed
        .map(|why| {
            let found = format!("namespace is not set: {:?} is used, {why}", namespace.name);
            Finding::warning("namespace", found, "set namespace in [runners.kubernetes]")
        })
        .into_iter()
        .chain(own_namespace::finding(&subject.runner.kubernetes))
        .collect();
    let connected = Cluster::connect(
        wiring::cluster(subject.runner),
        namespace.name.clone(),
        gantry_daemon::trial::SELECTOR.to_owned(),
    )
    .await;
    let (cluster, driver) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            let change = "correct host, ca_file, bearer_token, cert_file and key_file in [runners.kubernetes], or the \
                          kubeconfig";
            findings.push(Finding::error("cluster", chain(&error), change));
            return (findings, None);
        }
    };
    let version = cluster.server_version().await;
    let is_reachable = version.is_ok();
    findings.push(server(version));
    if !is_reachable {
        return (findings, None);
    }
    let rights = rights(&cluster, &subject.runner.kubernetes).await;
    let may_create = rights.iter().all(|finding| !finding.found.starts_with("create on pods is missing"));
    findings.extend(rights);
    let is_taken = match trial::plan(subject, None) {
        Ok(plan) if may_create => {
            let verdict = cluster.would_create(&plan.pod).await;
            let is_taken = verdict.is_ok();
            findings.push(admission::finding(&namespace.name, verdict));
            is_taken
        }
        Ok(_) => false,
        Err(why) => {
            let found = format!("no job can be planned with these settings: {why}");
            findings.push(Finding::error("admission", found, "change the setting that it names"));
            false
        }
    };
    (findings, is_taken.then_some(Trialable { cluster, driver }))
}

/// The oldest version that is tested.
const OLDEST: (u32, u32) = (1, 20);

fn server(version: Result<String, ApiError>) -> Finding {
    let error = match version {
        Ok(version) if is_older(&version) => {
            let found = format!("the API server is {version}, older than what is tested (1.20)");
            return Finding::warning("cluster", found, "expect surprises, or upgrade the cluster");
        }
        Ok(version) => return Finding::ok("cluster", format!("the API server answers and is {version}")),
        Err(error) => error,
    };
    let change = match error.fault {
        Fault::Unauthenticated => {
            "give the runner credentials that are good: a new bearer_token, or the token of a service account that exists"
        }
        Fault::Forbidden => "let the runner's account read /version (ClusterRole system:public-info-viewer)",
        Fault::Local => "correct the credentials that the message names",
        _ => "correct host in [runners.kubernetes], or the network between here and the API server",
    };
    Finding::error("cluster", format!("the API server cannot be used: {error}"), change)
}

fn is_older(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split(['.', '+', '-']).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        _ => false,
    }
}

/// What the settings need, and whether jobs can do without it.
fn needed(settings: &KubernetesSettings) -> Vec<(Right, bool)> {
    let per_job = settings.namespace_per_job;
    let place = |right: Right| if per_job { right.everywhere() } else { right };
    // What only costs time is no failure.
    let is_optional = |right: &Right| ["list", "watch"].contains(&right.verb);
    let mut list: Vec<(Right, bool)> = USED.iter().map(|right| (place(*right), is_optional(right))).collect();
    list.extend(OPTIONAL.iter().map(|right| (place(*right), true)));
    if per_job {
        list.extend(NAMESPACES.iter().map(|right| (*right, right.verb != "create")));
    }
    if settings.pod_disruption_budget {
        list.extend(BUDGETS.iter().map(|right| (place(*right), true)));
    }
    if !settings.autoscaler.policies.is_empty() {
        list.extend(PAUSE_PODS.iter().map(|right| (*right, true)));
    }
    if settings.timing.resource_availability_check_max_attempts > 0 {
        let looks = |right: &&Right| match right.resource {
            "serviceaccounts" => settings.service_account.is_some(),
            _ => !settings.image_pull_secrets.is_empty(),
        };
        list.extend(LOOKS.iter().filter(looks).map(|right| (place(*right), true)));
    }
    list
}

/// What the runner may do there, of what these settings need.
pub(super) async fn rights(cluster: &Cluster, settings: &KubernetesSettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut granted = Vec::new();
    // Either is enough for an exec, depending on the version; the other is only a matter of time.
    let mut exec = Vec::new();
    for (right, is_optional) in needed(settings) {
        match cluster.may(&right).await {
            Ok(true) => granted.push(right.to_string()),
            Ok(false) if right.subresource == Some("exec") => exec.push(right),
            Ok(false) => findings.push(missing(&right, cluster.namespace(), is_optional)),
            Err(error) => {
                let found = format!("the API server does not say what is granted: {error}");
                let change = "let the runner's account ask about itself (ClusterRole system:basic-user)";
                findings.push(Finding::warning("rights", found, change));
                return findings;
            }
        }
    }
    let can_exec = exec.len() < USED.iter().filter(|right| right.subresource == Some("exec")).count();
    findings.extend(exec.iter().map(|right| missing(right, cluster.namespace(), can_exec)));
    if findings.iter().all(|finding| finding.grade != Grade::Error) {
        let place = if settings.namespace_per_job { "all namespaces" } else { cluster.namespace() };
        findings.insert(0, Finding::ok("rights", format!("{} in {place}", granted.join(", "))));
    }
    findings
}

fn missing(right: &Right, namespace: &str, is_optional: bool) -> Finding {
    let (place, role) = if right.everywhere {
        ("in all namespaces".to_owned(), "a ClusterRole of the runner's account")
    } else {
        (format!("in namespace {namespace}"), "the runner's Role")
    };
    let found = format!("{right} is missing {place}: {}", right.cost());
    let change = format!(
        "add {{apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [\"{}\"]}} to the rules of {role}",
        right.group,
        right.full_resource(),
        right.verb
    );
    if is_optional { Finding::warning("rights", found, change) } else { Finding::error("rights", found, change) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, older) in [("v1.19.16", true), ("v1.20.0", false), ("v1.34.2+k3s1", false), ("unknown", false)] {
            assert_eq!(is_older(version), older, "{version}");
        }
    }

    #[test]
    fn settings_need_rights() {
        let plain = KubernetesSettings::default();
        let names = |settings: &KubernetesSettings| -> Vec<String> {
            needed(settings).iter().map(|(right, _)| right.to_string()).collect()
        };
        let few = names(&plain);
        assert_eq!(few.len(), USED.len() + OPTIONAL.len());
        let watch = needed(&plain).into_iter().find(|(right, _)| right.verb == "watch").unwrap();
        assert!(watch.1, "jobs run without it");

        let mut more = KubernetesSettings { namespace_per_job: true, pod_disruption_budget: true, ..plain };
        more.timing.resource_availability_check_max_attempts = 3;
        more.image_pull_secrets = vec!["login".to_owned()];
        let added: Vec<String> = names(&more).into_iter().filter(|name| !few.contains(name)).collect();
        let namespaces = ["create", "get", "list", "delete"].map(|verb| format!("{verb} on namespaces"));
        let others = ["create on poddisruptionbudgets", "get on secrets"].map(str::to_owned);
        assert_eq!(added, [&namespaces[..], &others].concat());
        assert!(needed(&more).iter().all(|(right, _)| right.everywhere), "each job has a namespace of its own");
    }

    #[test]
    fn what_is_missing_and_what_it_costs() {
        let exec = USED.iter().find(|right| right.subresource == Some("exec") && right.verb == "get").unwrap();
        let finding = missing(exec, "ci", false);
        assert_eq!(finding.grade, Grade::Error);
        assert!(finding.found.starts_with("get on pods/exec is missing in namespace ci: "), "{}", finding.found);
        assert!(finding.change.unwrap().contains("resources: [\"pods/exec\"], verbs: [\"get\"]"));
        assert_eq!(missing(exec, "ci", true).grade, Grade::Warning);
        let budget = missing(&BUDGETS[0], "ci", true);
        let rule = "apiGroups: [\"policy\"], resources: [\"poddisruptionbudgets\"], verbs: [\"create\"]";
        assert!(budget.change.unwrap().contains(rule));
        let namespaces = missing(&NAMESPACES[0], "ci", false);
        assert!(namespaces.found.starts_with("create on namespaces is missing in all namespaces: no job can run"));
        assert!(namespaces.change.unwrap().ends_with("to the rules of a ClusterRole of the runner's account"));
    }
}
