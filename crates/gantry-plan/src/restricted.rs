//! A pod for a namespace whose Pod Security level is `restricted`: what that level asks for and
//! nobody has configured is filled in. What the config says otherwise stays, and is refused there
//! with its name.

use gantry_wire::layout::HELPER;
use k8s_openapi::api::core::v1 as api;

use crate::{JobPlan, Pod};

/// Nobody: of the helper container where nobody has chosen a user, because its image may be of
/// root.
const USER: i64 = 65532;

/// The group of the builds directory. Every container is in it, so that they may write each other's
/// files, and others may not.
const GROUP: i64 = 65532;

/// Whether an API server has refused a pod because of that level (Kubernetes, "Pod Security
/// Standards").
pub fn is_refusal(message: &str) -> bool {
    message.contains("violates PodSecurity \"restricted")
}

/// Makes a pod that is admitted, unless the config stands in the way.
pub fn restrict(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let all = spec.security_context.get_or_insert_default();
    all.run_as_non_root.get_or_insert(true);
    all.fs_group.get_or_insert(GROUP);
    all.seccomp_profile
        .get_or_insert_with(|| api::SeccompProfile { type_: "RuntimeDefault".to_owned(), ..Default::default() });
    let has_user = all.run_as_user.is_some();
    for container in &mut spec.containers {
        let own = container.security_context.get_or_insert_default();
        own.allow_privilege_escalation.get_or_insert(false);
        let capabilities = own.capabilities.get_or_insert_default();
        capabilities.drop = Some(vec!["ALL".to_owned()]);
        if container.name == HELPER {
            if !has_user {
                own.run_as_user.get_or_insert(USER);
            }
            // What the agent makes is for the group, too.
            if let Some(script) = container.command.as_mut().and_then(|command| command.last_mut()) {
                script.insert_str(0, "umask 002\n");
            }
        }
    }
}

impl JobPlan {
    /// The pod was made by [`restrict`]: files get the modes that the helper's own umask gives.
    pub fn is_restricted(&mut self) {
        self.pod_plan.keep_umask = true;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_configured_stays() {
        let container = |name: &str, context: serde_json::Value| json!({"name": name, "command": ["sh", "-c", "x"], "securityContext": context});
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "securityContext": {"fsGroup": 7},
            "containers": [
                container(HELPER, json!({"capabilities": {"drop": ["NET_RAW"]}})),
                container("build", json!({"runAsUser": 1000, "allowPrivilegeEscalation": true})),
            ],
        }}))
        .unwrap();
        restrict(&mut pod);
        let spec = serde_json::to_value(&pod).unwrap();
        let expected = json!({"fsGroup": 7, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(spec["spec"]["securityContext"], expected);
        let helper = json!({"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false, "runAsUser": USER});
        assert_eq!(spec["spec"]["containers"][0]["securityContext"], helper);
        assert_eq!(spec["spec"]["containers"][0]["command"][2], "umask 002\nx");
        let build = json!({"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": true, "runAsUser": 1000});
        assert_eq!(spec["spec"]["containers"][1]["securityContext"], build);
    }
}
