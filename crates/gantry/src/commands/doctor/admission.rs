//! What an API server's refusal of a job's pod means, and what to change. The kind of refusal comes
//! from its code; which plug-in refused can only be read in its words, which are Kubernetes' own,
//! and only the advice depends on them.

use gantry_kube::{ApiError, Fault};

use super::finding::Finding;

/// Words of an admission plug-in (Kubernetes API), and what helps.
const ADVICE: [(&str, &str); 9] = [
    (
        "violates PodSecurity",
        "let the pod keep the level of its namespace: allow_privilege_escalation = false, cap_drop = [\"ALL\"], \
         [runners.kubernetes.pod_security_context] with run_as_non_root, run_as_user and a seccomp_profile of type \
         RuntimeDefault; or give jobs a namespace with another pod-security.kubernetes.io/enforce label",
    ),
    (
        "exceeded quota",
        "raise the ResourceQuota of the namespace, lower the requests and limits of the pod (cpu_request, \
         memory_request, helper_… and service_…), or `concurrent`: jobs beyond the quota fail",
    ),
    (
        "must specify",
        "a ResourceQuota wants every container to say what it needs: set cpu_request, memory_request, cpu_limit and \
         memory_limit, and the same with helper_ and service_; or add a LimitRange with defaults to the namespace",
    ),
    (
        "usage per Container",
        "change the requests or limits of the pod, or the LimitRange of the namespace, so that they agree",
    ),
    (
        "usage per Pod",
        "change the requests or limits of the pod, or the LimitRange of the namespace, so that they agree",
    ),
    (
        "error looking up service account",
        "create the service account, or change service_account in [runners.kubernetes]",
    ),
    ("no PriorityClass", "create the PriorityClass, or change priority_class_name in [runners.kubernetes]"),
    (
        "admission webhook",
        "ask who runs the admission webhook what it wants of pods, and set it in [runners.kubernetes]",
    ),
    ("RuntimeClass", "create the RuntimeClass, or change runtime_class_name in [runners.kubernetes]"),
];

/// What came of trying the pod without making it.
pub(super) fn finding(namespace: &str, verdict: Result<(), ApiError>) -> Finding {
    let Err(error) = verdict else {
        let found =
            format!("namespace {namespace} would take the pod of a job: Pod Security, quota and limit ranges allow it");
        return Finding::ok("admission", found);
    };
    let known = ADVICE.iter().find(|(words, _)| error.message.contains(words)).map(|(_, advice)| *advice);
    let found = format!("the pod of a job would be refused in namespace {namespace}: {}", error.message);
    match error.fault {
        Fault::Gone => {
            Finding::error("admission", found, "create the namespace, or change namespace in [runners.kubernetes]")
        }
        fault if fault.is_transient() => Finding::warning(
            "admission",
            format!("whether the pod of a job would be taken could not be found out: {}", error.message),
            "try again",
        ),
        _ => Finding::error("admission", found, known.unwrap_or("what the API server's words say")),
    }
}
