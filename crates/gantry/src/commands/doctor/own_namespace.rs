//! Names that jobs with a namespace of their own (`namespace_per_job`) look up there, where nothing
//! is that nobody else has made. A trial pod is in another namespace, so it goes without them.

use gantry_config::{KubernetesSettings, RunnerSettings};

use super::finding::Finding;

/// What every namespace has (Kubernetes).
const ACCOUNT_OF_ALL: &str = "default";

/// Says which objects nobody has made yet when a job looks them up.
pub(super) fn finding(settings: &KubernetesSettings) -> Option<Finding> {
    let names = names(settings);
    (settings.namespace_per_job && !names.is_empty()).then(|| {
        Finding::warning(
            "namespace",
            format!(
                "{}: jobs look them up in the namespace that is made for each (namespace_per_job), where nothing is yet; \
                 the trial goes without them",
                names.join(", ")
            ),
            "let something make them in every new namespace ci-job-N, remove them from [runners.kubernetes], or remove \
             namespace_per_job",
        )
    })
}

/// The settings without those names, for a pod that is in no namespace of its own.
pub(super) fn without_names(runner: &RunnerSettings) -> RunnerSettings {
    let mut runner = runner.clone();
    if runner.kubernetes.namespace_per_job {
        let settings = &mut runner.kubernetes;
        settings.service_account = None;
        settings.image_pull_secrets.clear();
        settings.volumes.pvc.clear();
        settings.volumes.secret.clear();
        settings.volumes.config_map.clear();
    }
    runner
}

fn names(settings: &KubernetesSettings) -> Vec<String> {
    let account = settings.service_account.iter().filter(|name| !name.is_empty() && *name != ACCOUNT_OF_ALL);
    let secrets = settings.image_pull_secrets.iter().filter(|_| !settings.use_service_account_image_pull_secrets);
    let volumes = &settings.volumes;
    account
        .map(|name| format!("service_account {name}"))
        .chain(secrets.map(|name| format!("image_pull_secrets {name}")))
        .chain(volumes.pvc.iter().map(|volume| format!("volumes.pvc {}", volume.mount.name)))
        .chain(volumes.secret.iter().map(|volume| format!("volumes.secret {}", volume.mount.name)))
        .chain(volumes.config_map.iter().map(|volume| format!("volumes.config_map {}", volume.mount.name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = r#"
service_account = "jobs"
image_pull_secrets = ["login"]
[[runners.kubernetes.volumes.pvc]]
name = "cache"
mount_path = "/cache"
[[runners.kubernetes.volumes.config_map]]
name = "settings"
mount_path = "/settings"
"#;

    fn runner(config: &str) -> RunnerSettings {
        let text = format!(
            "[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"x\"\nexecutor = \"kubernetes\"\n[runners.kubernetes]\n{config}"
        );
        gantry_config::load(&text, &|_| None).unwrap().settings.runners.remove(0)
    }

    #[test]
    fn what_no_new_namespace_has_is_named() {
        let of_job = runner(&format!("namespace_per_job = true\n{NAMES}"));
        let found = finding(&of_job.kubernetes).unwrap().found;
        assert!(
            found.starts_with(
                "service_account jobs, image_pull_secrets login, volumes.pvc cache, volumes.config_map settings: "
            ),
            "{found}"
        );
        let trial = without_names(&of_job).kubernetes;
        assert_eq!((finding(&trial), trial.service_account, trial.volumes.pvc.len()), (None, None, 0));
    }

    #[test]
    fn one_namespace_has_what_the_operator_made() {
        let shared = runner(NAMES);
        assert_eq!(finding(&shared.kubernetes), None);
        assert_eq!(without_names(&shared).kubernetes, shared.kubernetes);
        let plain = "namespace_per_job = true\nservice_account = \"default\"\n";
        assert_eq!(finding(&runner(plain).kubernetes), None);
    }
}
